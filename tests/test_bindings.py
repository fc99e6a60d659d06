"""Real Vulkan bindings: their devices, create-info structs and handles with our allocations."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bindings import Bound, volkano_device, vulkan_device
from conftest import index_of_the_driver
from support import DONT_BIND, MAPPED, RANDOM, pattern

from vk_mem import Allocator, BufferUsage, Device, Format, InvalidArgumentError, interop

pytestmark = pytest.mark.driver

SIZE = 4096
TRANSFER = BufferUsage.TRANSFER_SRC | BufferUsage.TRANSFER_DST
OPAQUE_FD = 1


@pytest.fixture
def cffi_bound() -> Iterator[Bound]:
    with vulkan_device(index_of_the_driver()) as bound:
        yield bound


@pytest.fixture
def ctypes_bound(capfd: pytest.CaptureFixture[str]) -> Iterator[Bound]:
    with volkano_device(index_of_the_driver()) as bound:
        yield bound
    printed = "".join(capfd.readouterr())
    assert "Validation" not in printed, printed


def submit(bound: Bound, record: Callable[[Any], None]) -> None:
    """Records with the binding `vulkan`, submits and waits."""
    vk, device = bound.binding, bound.handle
    pool = vk.vkCreateCommandPool(
        device, vk.VkCommandPoolCreateInfo(queueFamilyIndex=bound.family), None
    )
    info = vk.VkCommandBufferAllocateInfo(
        commandPool=pool, level=vk.VK_COMMAND_BUFFER_LEVEL_PRIMARY, commandBufferCount=1
    )
    commands = vk.vkAllocateCommandBuffers(device, info)[0]
    vk.vkBeginCommandBuffer(commands, vk.VkCommandBufferBeginInfo())
    record(commands)
    barrier = vk.VkMemoryBarrier(
        srcAccessMask=vk.VK_ACCESS_TRANSFER_WRITE_BIT, dstAccessMask=vk.VK_ACCESS_HOST_READ_BIT
    )
    vk.vkCmdPipelineBarrier(
        commands,
        vk.VK_PIPELINE_STAGE_TRANSFER_BIT,
        vk.VK_PIPELINE_STAGE_HOST_BIT,
        0, 1, [barrier], 0, None, 0, None,
    )  # fmt: skip
    vk.vkEndCommandBuffer(commands)
    vk.vkQueueSubmit(bound.queue, 1, [vk.VkSubmitInfo(pCommandBuffers=[commands])], None)
    vk.vkQueueWaitIdle(bound.queue)
    vk.vkDestroyCommandPool(device, pool, None)


# ---- vulkan (cffi) ----


def test_the_device_is_theirs(cffi_bound: Bound) -> None:
    device = cffi_bound.device
    vk = cffi_bound.binding
    assert device.handle == int(vk.ffi.cast("uintptr_t", cffi_bound.handle))
    assert device.queue == int(vk.ffi.cast("uintptr_t", cffi_bound.queue))
    assert interop.to_vulkan(device.handle, "VkDevice") == cffi_bound.handle
    assert device.api_version[:2] == (1, 1)


def test_many_and_aliases_from_structs(cffi_bound: Bound) -> None:
    vk = cffi_bound.binding
    info = vk.VkBufferCreateInfo(size=SIZE, usage=int(TRANSFER))
    half = vk.VkBufferCreateInfo(size=SIZE // 2, usage=int(TRANSFER))
    image = vk.VkImageCreateInfo(
        imageType=vk.VK_IMAGE_TYPE_2D,
        format=vk.VK_FORMAT_R8G8B8A8_UNORM,
        extent=vk.VkExtent3D(16, 16, 1),
        mipLevels=1,
        arrayLayers=1,
        samples=1,
        usage=vk.VK_IMAGE_USAGE_SAMPLED_BIT,
    )
    with Allocator(cffi_bound.device) as allocator:
        made = allocator.create_buffers([info, half, vk.ffi.addressof(info)], flags=RANDOM)
        assert [it.size for it in made] == [SIZE, SIZE // 2, SIZE]
        with pytest.raises(InvalidArgumentError, match="item 1: "):
            allocator.create_buffers([info, image])
        alias = allocator.create_aliasing_buffer(made[0], half, local_offset=SIZE // 2)
        named = allocator.create_aliasing_buffer(made[0], info=info, name="named")
        alias.write(pattern(SIZE // 2))
        assert named.read(SIZE // 2) == pattern(SIZE // 2)
        images = allocator.create_images([image, (Format.R8G8B8A8_UNORM, (8, 8), 4)])
        assert [it.extent for it in images] == [(16, 16, 1), (8, 8, 1)]
        memory = allocator.allocate_memory(1 << 16, 1 << 16)
        alias_image = allocator.create_aliasing_image(memory, image)
        allocator.destroy_many([*made, *images, memory, alias, named, alias_image])


def test_a_buffer_from_a_struct_is_filled_by_their_commands(cffi_bound: Bound) -> None:
    vk = cffi_bound.binding
    info = vk.VkBufferCreateInfo(
        size=SIZE, usage=int(TRANSFER), sharingMode=vk.VK_SHARING_MODE_EXCLUSIVE
    )
    with (
        Allocator(cffi_bound.device) as allocator,
        allocator.create_buffer(info, flags=RANDOM | MAPPED, name="from a struct") as source,
        allocator.create_buffer(vk.ffi.addressof(info)) as target,
        allocator.create_buffer(SIZE, TRANSFER, flags=RANDOM) as back,
    ):
        assert (source.size, source.usage) == (SIZE, TRANSFER)
        handles = [interop.to_vulkan(it.handle, "VkBuffer") for it in (source, target, back)]

        def record(commands: Any) -> None:
            barrier = vk.VkMemoryBarrier(
                srcAccessMask=vk.VK_ACCESS_TRANSFER_WRITE_BIT,
                dstAccessMask=vk.VK_ACCESS_TRANSFER_READ_BIT | vk.VK_ACCESS_TRANSFER_WRITE_BIT,
            )

            def wait() -> None:
                stage = vk.VK_PIPELINE_STAGE_TRANSFER_BIT
                vk.vkCmdPipelineBarrier(commands, stage, stage, 0, 1, [barrier], 0, None, 0, None)

            vk.vkCmdFillBuffer(commands, handles[1], 0, SIZE, 0x01020304)
            wait()
            region = vk.VkBufferCopy(srcOffset=16, dstOffset=32, size=64)
            vk.vkCmdCopyBuffer(commands, handles[0], handles[1], 1, [region])
            wait()
            whole = vk.VkBufferCopy(srcOffset=0, dstOffset=0, size=SIZE)
            vk.vkCmdCopyBuffer(commands, handles[1], handles[2], 1, [whole])

        source.write(pattern(SIZE))
        submit(cffi_bound, record)
        expected = bytearray(b"\x04\x03\x02\x01" * (SIZE // 4))
        expected[32:96] = pattern(SIZE)[16:80]
        assert back.read() == expected
        # Our own copies go to the same queue.
        cffi_bound.device.copy_buffer(back, source)
        assert source.read() == expected


def test_an_image_from_a_struct(cffi_bound: Bound) -> None:
    vk = cffi_bound.binding
    info = vk.VkImageCreateInfo(
        imageType=vk.VK_IMAGE_TYPE_2D,
        format=vk.VK_FORMAT_R8G8B8A8_UNORM,
        extent=vk.VkExtent3D(width=32, height=16, depth=1),
        mipLevels=1,
        arrayLayers=1,
        samples=vk.VK_SAMPLE_COUNT_1_BIT,
        tiling=vk.VK_IMAGE_TILING_OPTIMAL,
        usage=int(TRANSFER),
        sharingMode=vk.VK_SHARING_MODE_EXCLUSIVE,
        initialLayout=vk.VK_IMAGE_LAYOUT_UNDEFINED,
    )
    size = 32 * 16 * 4
    with (
        Allocator(cffi_bound.device) as allocator,
        allocator.create_image(info, name="from a struct") as image,
        allocator.create_buffer(size, TRANSFER, flags=RANDOM) as buffer,
    ):
        assert image.extent == (32, 16, 1)
        assert image.format is Format.R8G8B8A8_UNORM
        assert allocator.find_memory_type_index_for_image_info(info) == (
            image.allocation.memory_type_index
        )
        buffer.write(pattern(size))
        cffi_bound.device.copy_buffer_to_image(buffer, image)
        buffer.write(bytes(size))
        cffi_bound.device.copy_image_to_buffer(image, buffer)
        assert buffer.read() == pattern(size)


def test_a_chain_of_structs_reaches_the_driver(cffi_bound: Bound) -> None:
    # The validation layer would say so if memory for export were missing its chain, or the
    # chain's pointers were lost on the way.
    vk = cffi_bound.binding
    external = vk.VkExternalMemoryBufferCreateInfo(handleTypes=OPAQUE_FD)
    info = vk.VkBufferCreateInfo(size=SIZE, usage=int(TRANSFER), pNext=external)
    with (
        Allocator(cffi_bound.device) as allocator,
        allocator.create_buffer(info, flags=DONT_BIND) as buffer,
    ):
        needs = vk.vkGetBufferMemoryRequirements(
            cffi_bound.handle, interop.to_vulkan(buffer.handle, "VkBuffer")
        )
        assert needs.size >= SIZE
        assert buffer.size == SIZE


def test_their_buffer_gets_our_memory(cffi_bound: Bound) -> None:
    vk = cffi_bound.binding
    info = vk.VkBufferCreateInfo(size=SIZE, usage=int(TRANSFER))
    theirs = vk.vkCreateBuffer(cffi_bound.handle, info, None)
    with Allocator(cffi_bound.device) as allocator:
        with allocator.allocate_memory_for_buffer(theirs, bind=True, flags=RANDOM) as memory:
            submit(cffi_bound, lambda it: vk.vkCmdFillBuffer(it, theirs, 0, SIZE, 0x11111111))
            assert memory.read(0, SIZE) == b"\x11" * SIZE
            vk.vkDestroyBuffer(cffi_bound.handle, theirs, None)
        theirs = vk.vkCreateBuffer(cffi_bound.handle, info, None)
        with allocator.allocate_memory_for_buffer(theirs, flags=RANDOM) as memory:
            memory.bind_buffer(theirs)
            submit(cffi_bound, lambda it: vk.vkCmdFillBuffer(it, theirs, 0, SIZE, 0x22222222))
            assert memory.read(0, SIZE) == b"\x22" * SIZE
            vk.vkDestroyBuffer(cffi_bound.handle, theirs, None)


def test_their_bind_of_our_memory(cffi_bound: Bound) -> None:
    vk = cffi_bound.binding
    with (
        Allocator(cffi_bound.device) as allocator,
        allocator.create_buffer(SIZE, TRANSFER, flags=DONT_BIND | RANDOM) as buffer,
    ):
        handle = interop.to_vulkan(buffer.handle, "VkBuffer")
        memory = interop.to_vulkan(buffer.allocation.device_memory, "VkDeviceMemory")
        vk.vkGetBufferMemoryRequirements(cffi_bound.handle, handle)
        vk.vkBindBufferMemory(cffi_bound.handle, handle, memory, buffer.allocation.offset)
        submit(cffi_bound, lambda it: vk.vkCmdFillBuffer(it, handle, 0, SIZE, 0x33333333))
        assert buffer.read() == b"\x33" * SIZE


@pytest.mark.parametrize("kind", ["image for buffer", "buffer for image", "pointer to a handle"])
def test_structs_of_another_kind_are_refused(cffi_bound: Bound, kind: str) -> None:
    vk = cffi_bound.binding
    with Allocator(cffi_bound.device) as allocator:
        call, struct = {
            "image for buffer": (allocator.create_buffer, vk.VkImageCreateInfo()),
            "buffer for image": (allocator.create_image, vk.VkBufferCreateInfo(size=64)),
            "pointer to a handle": (allocator.create_buffer, vk.ffi.new("VkBuffer *")),
        }[kind]
        with pytest.raises(InvalidArgumentError, match=r"expected a Vk\w+CreateInfo"):
            call(struct)
        with pytest.raises(InvalidArgumentError, match=r"expected a Vk\w+CreateInfo"):
            call(info=struct)


def test_handles_of_another_kind_are_refused(cffi_bound: Bound) -> None:
    with Allocator(cffi_bound.device) as allocator:
        for call in (allocator.allocate_memory_for_buffer, allocator.allocate_memory_for_image):
            with pytest.raises(InvalidArgumentError, match="VkDevice"):
                call(cffi_bound.handle)


def test_a_struct_speaks_for_itself(cffi_bound: Bound) -> None:
    vk = cffi_bound.binding
    info = vk.VkBufferCreateInfo(size=SIZE, usage=int(TRANSFER))
    with Allocator(cffi_bound.device) as allocator:
        for keywords in ({"sharing_mode": 0}, {"create_flags": 0}, {"queue_family_indices": [0]}):
            with pytest.raises(InvalidArgumentError, match="beside a struct"):
                allocator.create_buffer(info, **keywords)
        with pytest.raises(InvalidArgumentError, match="instead"):
            allocator.create_buffer(SIZE, TRANSFER, info=info)
        for size in (0, 1 << 60):
            info.size = size
            with pytest.raises((InvalidArgumentError, MemoryError)):
                allocator.create_buffer(info)


# ---- volkano (ctypes) ----


def test_volkano_makes_the_round_trip(ctypes_bound: Bound) -> None:
    vk, handle = ctypes_bound.binding, ctypes_bound.handle
    # Without sType, as its structs are; and with it.
    bare = vk.VkBufferCreateInfo(size=SIZE, usage=int(TRANSFER))
    full = vk.VkBufferCreateInfo(
        sType=vk.VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, size=SIZE, usage=int(TRANSFER)
    )
    with (
        Allocator(ctypes_bound.device) as allocator,
        allocator.create_buffer(bare, flags=RANDOM) as source,
        allocator.create_buffer(full.ref) as target,
        allocator.create_buffer(info=full.ptr, flags=RANDOM) as back,
    ):
        theirs = interop.to_volkano(source.handle, "VkBuffer")
        assert isinstance(theirs, vk.VkBuffer)
        source.write(pattern(SIZE))
        pool = vk.VkCommandPool()
        pool_info = vk.VkCommandPoolCreateInfo(
            sType=vk.VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO, queueFamilyIndex=0
        )
        vk.vkCreateCommandPool(handle, pool_info.ref, None, pool.ref)
        commands = vk.VkCommandBuffer()
        commands_info = vk.VkCommandBufferAllocateInfo(
            sType=vk.VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
            commandPool=pool,
            commandBufferCount=1,
        )
        vk.vkAllocateCommandBuffers(handle, commands_info.ref, commands.ref)
        begin = vk.VkCommandBufferBeginInfo(sType=vk.VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO)
        vk.vkBeginCommandBuffer(commands, begin.ref)
        region = vk.VkBufferCopy(srcOffset=0, dstOffset=0, size=SIZE)
        vk.vkCmdCopyBuffer(
            commands, theirs, interop.to_volkano(target.handle, "VkBuffer"), 1, region.ref
        )
        vk.vkEndCommandBuffer(commands)
        submit_info = vk.VkSubmitInfo(
            sType=vk.VK_STRUCTURE_TYPE_SUBMIT_INFO,
            commandBufferCount=1,
            pCommandBuffers=commands.ptr,
        )
        fence = vk.VkFence()
        assert vk.vkQueueSubmit(ctypes_bound.queue, 1, submit_info.ref, fence) is vk.VK_SUCCESS
        vk.vkQueueWaitIdle(ctypes_bound.queue)
        vk.vkDestroyCommandPool(handle, pool, None)
        ctypes_bound.device.copy_buffer(target, back)
        assert back.read() == pattern(SIZE)
        with pytest.raises(InvalidArgumentError, match="VkImageCreateInfo"):
            allocator.create_image(bare)


def test_volkanos_handles_are_taken(ctypes_bound: Bound) -> None:
    vk = ctypes_bound.binding
    info = vk.VkBufferCreateInfo(
        sType=vk.VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, size=SIZE, usage=int(TRANSFER)
    )
    theirs = vk.VkBuffer()
    assert vk.vkCreateBuffer(ctypes_bound.handle, info.ref, None, theirs.ref) is vk.VK_SUCCESS
    with (
        Allocator(ctypes_bound.device) as allocator,
        allocator.allocate_memory_for_buffer(theirs, bind=True) as memory,
    ):
        assert memory.size >= SIZE
        vk.vkDestroyBuffer(ctypes_bound.handle, theirs, None)


# ---- structs without a binding ----


class VkBufferCreateInfo(ctypes.Structure):
    _fields_ = (
        ("sType", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("size", ctypes.c_uint64),
        ("usage", ctypes.c_uint32),
        ("sharingMode", ctypes.c_int),
        ("queueFamilyIndexCount", ctypes.c_uint32),
        ("pQueueFamilyIndices", ctypes.POINTER(ctypes.c_uint32)),
    )


BUFFER_TYPE = 12
IMAGE_TYPE = 14


def test_a_struct_of_ones_own(real_device: Device) -> None:
    info = VkBufferCreateInfo(size=SIZE, usage=int(TRANSFER))
    address = ctypes.addressof(info)
    with Allocator(real_device) as allocator:
        for given in (info, ctypes.byref(info), ctypes.pointer(info)):
            with allocator.create_buffer(given, flags=RANDOM) as buffer:
                buffer.write(pattern(SIZE))
                assert buffer.read() == pattern(SIZE)
        # A bare address says nothing of its type but sType.
        with pytest.raises(InvalidArgumentError, match="sType is 0"):
            allocator.create_buffer(info=address)
        info.sType = IMAGE_TYPE
        for given in (address, info):
            with pytest.raises(InvalidArgumentError, match="sType is 14"):
                allocator.create_buffer(info=given)
        info.sType = BUFFER_TYPE
        for given in (address, ctypes.c_void_p(address)):
            with allocator.create_buffer(info=given) as buffer:
                assert buffer.size == SIZE
        # None stands for what is left out.
        calls: tuple[Callable[..., Any], ...] = (
            lambda: allocator.create_buffer(info, None),
            lambda: allocator.create_buffer(None, None, info=info),
            lambda: allocator.create_buffer(SIZE, TRANSFER, info=None),
        )
        for call in calls:
            with call() as buffer:
                assert buffer.size == SIZE
        for wrong in ((None, None), (SIZE, None), (None, TRANSFER), ()):
            with pytest.raises(TypeError, match="needs size= and buffer_usage="):
                allocator.create_buffer(*wrong)  # type: ignore[call-overload]
        # The struct stays as it was.
        assert (info.sType, info.pNext, info.size) == (BUFFER_TYPE, None, SIZE)


def test_a_struct_that_is_too_small(simulated_allocator: Allocator) -> None:
    small = type("VkBufferCreateInfo", (ctypes.Structure,), {"_fields_": [("sType", ctypes.c_int)]})
    with pytest.raises(InvalidArgumentError, match="56 bytes"):
        simulated_allocator.create_buffer(small())
