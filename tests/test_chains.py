"""The caller's `pNext` chains for `vkAllocateMemory` and binding, and `VkAllocationCallbacks`."""

from __future__ import annotations

import ctypes
import gc
import weakref
from collections import Counter

import pytest
from odd_driver import chain, peek
from support import DEDICATED, DONT_BIND, NEVER, RANDOM

import vk_mem
from vk_mem import (
    AllocationCreateInfo,
    Allocator,
    BufferUsage,
    Device,
    ExternalMemoryHandleType,
    Format,
    ImageUsage,
)

STORAGE = BufferUsage.STORAGE_BUFFER
PRIORITY = 1000238001
DEDICATED_INFO = 1000127001
EXPORT = 1000072002
FLAGS = 1000060000
BIND_BUFFER_DEVICE_GROUP = 1000060013
BIND_IMAGE_DEVICE_GROUP = 1000060014


class VkMemoryPriorityAllocateInfoEXT(ctypes.Structure):
    _fields_ = [("sType", ctypes.c_int), ("pNext", ctypes.c_void_p), ("priority", ctypes.c_float)]


class VkExportMemoryAllocateInfo(ctypes.Structure):
    _fields_ = [
        ("sType", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("handleTypes", ctypes.c_uint32),
    ]


class VkMemoryAllocateFlagsInfo(ctypes.Structure):
    _fields_ = [
        ("sType", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("deviceMask", ctypes.c_uint32),
    ]


class VkBindDeviceGroupInfo(ctypes.Structure):
    _fields_ = [
        ("sType", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("deviceIndexCount", ctypes.c_uint32),
        ("pDeviceIndices", ctypes.c_void_p),
        # The two below are those of images only.
        ("splitInstanceBindRegionCount", ctypes.c_uint32),
        ("pSplitInstanceBindRegions", ctypes.c_void_p),
    ]


def priority(value=0.25, after=None):
    return VkMemoryPriorityAllocateInfoEXT(
        PRIORITY, ctypes.addressof(after) if after is not None else None, value
    )


@pytest.fixture
def chains(odd_driver):
    """The structures of each `vkAllocateMemory`: `{sType: address}`, its address by the size."""
    seen = []

    def note(device, info, callbacks, memory):
        seen.append((peek(info + 16, "Q"), list(chain(peek(info + 8, "Q")).items())))

    odd_driver.after("vkAllocateMemory", note)
    return seen


def types_of(address):
    """All structure types of a chain, each as often as it is there."""
    found = []
    while address:
        found.append(peek(address, "i"))
        address = peek(address + 8, "Q")
    return found


class TestOfOneAllocation:
    @pytest.mark.driver
    @pytest.mark.parametrize("how", ["struct", "byref", "address"])
    def test_it_is_given_to_the_driver(self, open_odd, chains, how):
        info = priority()
        given = {"struct": info, "byref": ctypes.byref(info), "address": ctypes.addressof(info)}
        with Allocator(open_odd()) as allocator:
            buffer = allocator.create_buffer(4096, STORAGE, memory_allocate_next=given[how])
            (_, structures) = chains[-1]
            assert (PRIORITY, ctypes.addressof(info)) in structures
            assert buffer.allocation.is_dedicated
            other = allocator.create_buffer(4096, STORAGE)
            assert PRIORITY not in dict(chains[-1][1])
            allocator.destroy_many([buffer, other])

    @pytest.mark.driver
    def test_a_structure_that_is_there_is_not_added(self, odd_driver, open_odd):
        found = []
        odd_driver.after("vkAllocateMemory", lambda _d, info, _c, _m: found.append(types_of(info)))
        flags = VkMemoryAllocateFlagsInfo(FLAGS, None, 2, 0)
        info = priority(after=flags)
        with Allocator(open_odd()) as allocator:
            allocator.create_buffer(
                4096, STORAGE, memory_allocate_next=info, priority=0.75, flags=DEDICATED
            ).destroy()
        counts = Counter(found[-1])
        assert counts[PRIORITY] == counts[FLAGS] == counts[DEDICATED_INFO] == 1
        assert set(counts.values()) == {1}

    def test_it_has_memory_of_its_own(self, allocator):
        info = priority()
        kept = AllocationCreateInfo(memory_allocate_next=info)
        assert kept.memory_allocate_next is info
        assert AllocationCreateInfo().memory_allocate_next is None
        made = [
            allocator.create_buffer(4096, STORAGE, allocation_info=kept),
            allocator.create_image(
                Format.R8G8B8A8_UNORM, (16, 16), ImageUsage.SAMPLED, memory_allocate_next=info
            ),
            *allocator.create_buffers([512] * 3, STORAGE, memory_allocate_next=info),
        ]
        bare = allocator.allocate_memory(4096, memory_allocate_next=info)
        assert bare.is_dedicated
        assert all(it.allocation.is_dedicated for it in made)
        shares = allocator.create_buffer(
            512, STORAGE, allocation_info=kept, memory_allocate_next=None
        )
        assert not shares.allocation.is_dedicated
        allocator.destroy_many([*made, shares])
        bare.free()

    def test_in_a_pool(self, allocator):
        info = priority()
        with allocator.create_pool(like=(512, STORAGE)) as pool:
            buffer = allocator.create_buffer(512, STORAGE, pool=pool, memory_allocate_next=info)
            assert buffer.allocation.is_dedicated
            buffer.destroy()
        with (
            allocator.create_pool(like=(512, STORAGE), block_size=1 << 20) as pool,
            pytest.raises(vk_mem.FeatureNotPresentError, match="memory object of its own"),
        ):
            allocator.create_buffer(512, STORAGE, pool=pool, memory_allocate_next=info)
        with (
            allocator.create_pool(like=(512, STORAGE), memory_allocate_next=info) as pool,
            pytest.raises(vk_mem.InvalidArgumentError, match="for this allocation and for its"),
        ):
            allocator.create_buffer(512, STORAGE, pool=pool, memory_allocate_next=info)

    @pytest.mark.parametrize("flags", [NEVER, NEVER | RANDOM])
    def test_what_contradicts_it_is_refused(self, allocator, flags):
        with pytest.raises(vk_mem.InvalidArgumentError, match="UPPER_ADDRESS contradict"):
            allocator.create_buffer(512, STORAGE, flags=flags, memory_allocate_next=priority())

    @pytest.mark.parametrize(
        "wrong", [1.5, "chain", True, object(), -1, 12, 1 << 40, 1 << 64, ctypes.c_int(3)]
    )
    def test_what_is_no_chain_is_refused(self, allocator, wrong):
        with pytest.raises(vk_mem.InvalidArgumentError, match="memory_allocate_next"):
            allocator.create_buffer(512, STORAGE, memory_allocate_next=wrong)

    @pytest.mark.driver
    def test_a_chain_that_exports(self, real_device):
        fd = ExternalMemoryHandleType.OPAQUE_FD
        info = VkExportMemoryAllocateInfo(EXPORT, None, int(fd))
        with Allocator(real_device) as allocator:
            buffer = allocator.create_buffer(4096, STORAGE, memory_allocate_next=info)
            assert buffer.allocation.export_handle_types == fd
            with pytest.raises(vk_mem.InvalidArgumentError, match="is more than the VkExport"):
                allocator.create_buffer(
                    4096,
                    STORAGE,
                    memory_allocate_next=info,
                    export_handle_types=ExternalMemoryHandleType.DMA_BUF_EXT,
                )
            buffer.destroy()

    def test_what_a_set_of_keywords_keeps_can_be_collected(self):
        class Chain(VkMemoryPriorityAllocateInfoEXT):
            pass

        info = Chain(PRIORITY, None, 0.5)
        seen = weakref.ref(info)
        info.kept = AllocationCreateInfo(memory_allocate_next=info)
        del info
        gc.collect()
        assert seen() is None


class TestOfAPool:
    @pytest.mark.driver
    @pytest.mark.parametrize("how", ["struct", "byref", "address"])
    def test_it_is_given_to_the_driver(self, open_odd, chains, how):
        info = priority()
        given = {"struct": info, "byref": ctypes.byref(info), "address": ctypes.addressof(info)}
        with (
            Allocator(open_odd()) as allocator,
            allocator.create_pool(
                like=(512, STORAGE), min_block_count=1, memory_allocate_next=given[how]
            ),
        ):
            assert (PRIORITY, ctypes.addressof(info)) in chains[-1][1]

    def test_what_is_no_chain_is_refused(self, allocator):
        with pytest.raises(vk_mem.InvalidArgumentError, match="memory_allocate_next"):
            allocator.create_pool(like=(512, STORAGE), memory_allocate_next=1 << 40)


class TestOfABinding:
    def test_a_chain_of_binding(self, allocator):
        for kind in ("buffer", "image"):
            group = VkBindDeviceGroupInfo(
                BIND_BUFFER_DEVICE_GROUP if kind == "buffer" else BIND_IMAGE_DEVICE_GROUP,
                None,
                0,
                None,
            )
            if kind == "buffer":
                made = allocator.create_buffer(4096, STORAGE, flags=DONT_BIND)
                made.allocation.bind_buffer(made, bind_next=group)
            else:
                made = allocator.create_image(
                    Format.R8G8B8A8_UNORM, (16, 16), ImageUsage.SAMPLED, flags=DONT_BIND
                )
                made.allocation.bind_image(made, 0, bind_next=ctypes.byref(group))
            with pytest.raises(vk_mem.InvalidArgumentError, match="bound already"):
                made.bind()
            made.destroy()

    @pytest.mark.driver
    def test_it_is_given_to_the_driver(self, odd_driver, open_odd):
        found = []
        odd_driver.after(
            "vkBindBufferMemory2",
            lambda _, count, info: found.append((count, peek(info + 8, "Q"), peek(info + 32, "Q"))),
        )
        group = VkBindDeviceGroupInfo(BIND_BUFFER_DEVICE_GROUP, None, 0, None)
        with Allocator(open_odd()) as allocator:
            memory = allocator.allocate_memory(1 << 16)
            buffer = allocator.create_buffer(512, STORAGE, flags=DONT_BIND)
            memory.bind_buffer(buffer, 4096, bind_next=group)
            assert found == [(1, ctypes.addressof(group), memory.offset + 4096)]
            buffer.destroy()
            memory.free()

    @pytest.mark.driver
    def test_a_device_without_the_function(self, open_odd):
        device = open_odd(api_version=(1, 0), without_extensions=["VK_KHR_bind_memory2"])
        with Allocator(device) as allocator:
            buffer = allocator.create_buffer(512, STORAGE, flags=DONT_BIND)
            group = VkBindDeviceGroupInfo(BIND_BUFFER_DEVICE_GROUP, None, 0, None)
            with pytest.raises(vk_mem.FeatureNotPresentError, match="vkBindBufferMemory2"):
                buffer.allocation.bind_buffer(buffer, bind_next=group)
            buffer.bind()
            buffer.destroy()

    @pytest.mark.driver
    @pytest.mark.parametrize("result", [-1, -2, -13])
    def test_a_driver_that_refuses(self, odd_driver, open_odd, result):
        odd_driver.fail("vkBindBufferMemory2", result)
        group = VkBindDeviceGroupInfo(BIND_BUFFER_DEVICE_GROUP, None, 0, None)
        with Allocator(open_odd()) as allocator:
            buffer = allocator.create_buffer(512, STORAGE, flags=DONT_BIND)
            with pytest.raises(vk_mem.VkMemError):
                buffer.allocation.bind_buffer(buffer, bind_next=group)
            buffer.bind()
            buffer.destroy()


VOID = ctypes.c_void_p
SIZE = ctypes.c_size_t
ALLOCATE = ctypes.CFUNCTYPE(VOID, VOID, SIZE, SIZE, ctypes.c_int)
REALLOCATE = ctypes.CFUNCTYPE(VOID, VOID, VOID, SIZE, SIZE, ctypes.c_int)
FREE = ctypes.CFUNCTYPE(None, VOID, VOID)
NOTE = ctypes.CFUNCTYPE(None, VOID, SIZE, ctypes.c_int, ctypes.c_int)


class VkAllocationCallbacks(ctypes.Structure):
    _fields_ = [
        ("pUserData", VOID),
        ("pfnAllocation", ALLOCATE),
        ("pfnReallocation", REALLOCATE),
        ("pfnFree", FREE),
        ("pfnInternalAllocation", NOTE),
        ("pfnInternalFree", NOTE),
    ]


class Host:
    """Host memory for a driver: counts what lives."""

    def __init__(self):
        self.live = {}
        self.taken = 0
        self.callbacks = VkAllocationCallbacks(
            None, ALLOCATE(self.allocate), REALLOCATE(self.reallocate), FREE(self.free)
        )

    def allocate(self, _, size, alignment, scope):
        kept = ctypes.create_string_buffer(size + alignment)
        address = -(-ctypes.addressof(kept) // alignment) * alignment
        self.live[address] = kept, size
        self.taken += 1
        return address

    def reallocate(self, _, original, size, alignment, scope):
        if size == 0:
            self.free(_, original)
            return None
        address = self.allocate(_, size, alignment, scope)
        if original:
            ctypes.memmove(address, original, min(size, self.live[original][1]))
            self.free(_, original)
        return address

    def free(self, _, address):
        if address:
            del self.live[address]


@pytest.mark.driver
class TestAllocationCallbacks:
    def use(self, device):
        with Allocator(device) as allocator:
            buffer = allocator.create_buffer(4096, STORAGE | 3, flags=RANDOM)
            image = allocator.create_image(Format.R8G8B8A8_UNORM, (8, 8), ImageUsage.SAMPLED)
            many = allocator.create_buffers([64] * 10, STORAGE)
            device.fill_buffer(buffer, 7)
            assert buffer.read() == b"\x07\0\0\0" * 1024
            allocator.destroy_many([buffer, image, *many])

    @pytest.mark.parametrize("how", ["struct", "byref", "address"])
    def test_they_go_with_each_call(self, odd_driver, open_odd, how):
        host, wrong = Host(), []
        address = ctypes.addressof(host.callbacks)
        for name, last in (
            ("vkAllocateMemory", 2),
            ("vkFreeMemory", 2),
            ("vkCreateBuffer", 2),
            ("vkDestroyBuffer", 2),
            ("vkCreateImage", 2),
            ("vkDestroyImage", 2),
            ("vkCreateCommandPool", 2),
            ("vkDestroyCommandPool", 2),
            ("vkCreateFence", 2),
            ("vkDestroyFence", 2),
            ("vkCreateSemaphore", 2),
            ("vkDestroySemaphore", 2),
        ):

            def note(*arguments, name=name, last=last):
                given = arguments[last]
                if not given or ctypes.string_at(given, 32) != ctypes.string_at(address, 32):
                    wrong.append(name)

            odd_driver.after(name, note)
        given = {"struct": host.callbacks, "byref": ctypes.byref(host.callbacks)}
        for without in ([], ["VK_KHR_timeline_semaphore"]):
            device = open_odd(
                allocation_callbacks=given.get(how, address), without_extensions=without
            )
            self.use(device)
        assert odd_driver.calls["vkCreateSemaphore"] > 0
        assert odd_driver.calls["vkCreateFence"] > 0
        assert wrong == []
        assert host.taken > 10
        del device

    def test_what_the_driver_took_it_gives_back(self, real_device):
        host = Host()
        device = Device.open(
            index=int(self.index()), allocation_callbacks=host.callbacks, validation=False
        )
        self.use(device)
        before = len(host.live)
        self.use(device)
        assert len(host.live) == before
        del device
        gc.collect()
        assert host.live == {}

    def index(self):
        from conftest import index_of_the_driver

        return index_of_the_driver()

    def test_of_a_wrapped_device(self, real_device):
        host = Host()
        wrapped = Device.wrap(
            real_device.instance,
            real_device.physical_device,
            real_device.handle,
            api_version=(1, 1),
            queue=real_device.queue,
            queue_family_index=real_device.queue_family_index,
            allocation_callbacks=host.callbacks,
        )
        self.use(wrapped)
        assert host.taken > 10
        assert host.live == {}

    def test_they_live_as_long_as_the_device(self, real_device):
        host = Host()
        seen = weakref.ref(host.callbacks)
        device = Device.open(index=self.index(), allocation_callbacks=host.callbacks)
        del host
        gc.collect()
        assert seen() is not None
        self.use(device)
        del device
        gc.collect()
        assert seen() is None

    @pytest.mark.parametrize("missing", ["pfnAllocation", "pfnReallocation", "pfnFree"])
    def test_a_function_that_is_missing(self, real_device, missing):
        host = Host()
        kind = dict(VkAllocationCallbacks._fields_)[missing]
        setattr(host.callbacks, missing, kind())
        with pytest.raises(vk_mem.InvalidArgumentError, match=f"{missing} is null"):
            Device.open(allocation_callbacks=host.callbacks)

    def test_one_note_without_the_other(self, real_device):
        host = Host()
        host.callbacks.pfnInternalFree = NOTE(lambda *_: None)
        with pytest.raises(vk_mem.InvalidArgumentError, match="pfnInternalAllocation is null"):
            Device.open(allocation_callbacks=host.callbacks)

    @pytest.mark.parametrize("wrong", [1.5, "no", 0, 12, True, object(), priority()])
    def test_what_is_no_struct_of_callbacks(self, real_device, wrong):
        handles = (real_device.instance, real_device.physical_device, real_device.handle)
        with pytest.raises(vk_mem.InvalidArgumentError, match="allocation_callbacks"):
            Device.open(allocation_callbacks=wrong)
        with pytest.raises(vk_mem.InvalidArgumentError, match="allocation_callbacks"):
            Device.wrap(*handles, api_version=(1, 1), allocation_callbacks=wrong)
