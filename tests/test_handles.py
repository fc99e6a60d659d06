"""Resources are accepted as Vulkan handles by bindings, but not as numbers by this package."""

from __future__ import annotations

import ctypes
import operator
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bindings import Bound, import_volkano, import_vulkan, volkano_device, vulkan_device
from conftest import index_of_the_driver
from support import DONT_BIND, RANDOM, RGBA8, TRANSFER, pattern
from systems import vulkan_loader

import vk_mem
from vk_mem import (
    Allocator,
    BufferHeap,
    BufferUsage,
    Device,
    ImageUsage,
    SimulatedDevice,
    UseAfterFreeError,
    VirtualBlock,
    interop,
)

SIZE = 4096


class VkBuffer(ctypes.c_void_p):
    """A handle as ctypes bindings often have it."""


class VkBufferMemoryBarrier(ctypes.Structure):
    _fields_ = (("buffer", ctypes.c_uint64), ("offset", ctypes.c_uint64))


@pytest.fixture
def resources(allocator: Allocator) -> Iterator[list[tuple[vk_mem.Resource, int]]]:
    """One of each kind, and the handle that it stands for."""
    buffer = allocator.create_buffer(SIZE, TRANSFER)
    image = allocator.create_image(RGBA8, (16, 16), ImageUsage.SAMPLED)
    memory = allocator.allocate_memory(SIZE)
    yield [
        (buffer, buffer.handle),
        (image, image.handle),
        (memory, memory.device_memory),
        (buffer.allocation, buffer.allocation.device_memory),
        (image.allocation, image.allocation.device_memory),
    ]
    allocator.destroy_many([buffer, image, memory])


def test_every_resource_is_its_handle(resources: list[tuple[vk_mem.Resource, int]]) -> None:
    for resource, handle in resources:
        assert handle != 0
        assert int(resource) == handle
        assert operator.index(resource) == handle
        assert operator.index(resource._as_parameter_) == handle
        assert interop.to_int(resource) == handle


def test_the_binding_vulkan_takes_them(resources: list[tuple[vk_mem.Resource, int]]) -> None:
    vk = import_vulkan()
    for resource, handle in resources:
        number = vk.ffi.cast("VkBuffer", handle)
        assert vk.VkBufferMemoryBarrier(buffer=resource, size=64).buffer == number
        sets = vk.VkBindSparseInfo(pWaitSemaphores=[resource, resource]).pWaitSemaphores
        assert [int(vk.ffi.cast("uintptr_t", sets[it])) for it in range(2)] == [handle, handle]


def test_a_binding_of_ctypes_takes_them(resources: list[tuple[vk_mem.Resource, int]]) -> None:
    """Handles of 64 bits come whole, whatever the function says of its arguments."""

    @ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)
    def seen(handle: int) -> int:
        return handle

    address = ctypes.cast(seen, ctypes.c_void_p).value
    assert address is not None
    for types in (None, [ctypes.c_uint64], [ctypes.c_void_p], [VkBuffer]):
        call: Any = ctypes.CFUNCTYPE(ctypes.c_uint64)(address)
        if types is not None:
            call.argtypes = types
        for resource, handle in resources:
            assert call(resource) == handle, types
            barrier = VkBufferMemoryBarrier(buffer=int(resource))
            assert barrier.buffer == VkBuffer(int(resource)).value == handle


def test_volkano_takes_them(resources: list[tuple[vk_mem.Resource, int]]) -> None:
    with import_volkano() as vk:
        for resource, handle in resources:
            assert vk.VkBuffer(int(resource)).value == handle
            assert vk.VkBufferMemoryBarrier(buffer=int(resource)).buffer.value == handle


@pytest.mark.parametrize("end", ["destroy", "retire", "close"])
def test_a_destroyed_resource_has_none(simulated: SimulatedDevice, end: str) -> None:
    with Allocator(simulated) as allocator:
        buffer = allocator.create_buffer(SIZE, TRANSFER)
        memory = buffer.allocation
        if end != "close":
            getattr(buffer, end)()
        else:
            buffer.destroy()
            allocator.close()
    calls: list[Callable[[Any], object]] = [int, operator.index, lambda it: it._as_parameter_]
    for call in [*calls, bytes]:
        for resource in (buffer, memory):
            with pytest.raises(UseAfterFreeError, match=r"Buffer was (destroyed|retired)"):
                call(resource)


def test_bytes_are_what_it_holds(allocator: Allocator) -> None:
    with allocator.create_buffer(64, TRANSFER, flags=RANDOM) as buffer:
        buffer.write(pattern(64))
        assert bytes(buffer) == pattern(64)


# ---- a pool ----


def test_a_pool_has_no_handle(simulated_allocator: Allocator) -> None:
    """Vulkan's pools are of other things, and one of those would be taken for it."""
    with simulated_allocator.create_pool(memory_type_index=0) as pool:
        for call in (int, operator.index):
            with pytest.raises(TypeError, match=r"has no handle of Vulkan.*device_memory"):
                call(pool)
        with pytest.raises(vk_mem.InvalidArgumentError, match=r"a Pool, which has none"):
            interop.to_int(pool, "VkDescriptorPool")
        vk = import_vulkan()
        with pytest.raises(TypeError, match="has no handle of Vulkan"):
            vk.VkDescriptorSetAllocateInfo(descriptorPool=pool)
        with pytest.raises(ctypes.ArgumentError):
            ctypes.pythonapi.PyLong_FromVoidPtr(pool)


# ---- where a number is wanted ----

NUMBERS: dict[str, Callable[[Allocator, Any, Any], object]] = {
    "size": lambda a, b, n: a.create_buffer(n, TRANSFER),
    "size=": lambda a, b, n: a.create_buffer(size=n, buffer_usage=TRANSFER),
    "usage": lambda a, b, n: a.create_buffer(64, n),
    "flags": lambda a, b, n: a.create_buffer(64, TRANSFER, flags=n),
    "min_alignment": lambda a, b, n: a.create_buffer(64, TRANSFER, min_alignment=n),
    "priority": lambda a, b, n: a.create_buffer(64, TRANSFER, priority=n),
    "memory_type_bits": lambda a, b, n: a.create_buffer(64, TRANSFER, memory_type_bits=n),
    "families": lambda a, b, n: a.create_buffer(64, TRANSFER, queue_family_indices=[n, 1]),
    "format": lambda a, b, n: a.create_image(n, (8, 8), 4),
    "extent": lambda a, b, n: a.create_image(RGBA8, n, 4),
    "side": lambda a, b, n: a.create_image(RGBA8, (8, n), 4),
    "mip_levels": lambda a, b, n: a.create_image(RGBA8, (8, 8), 4, mip_levels=n),
    "samples": lambda a, b, n: a.create_image(RGBA8, (8, 8), 4, samples=n),
    "memory size": lambda a, b, n: a.allocate_memory(n),
    "alignment": lambda a, b, n: a.allocate_memory(64, n),
    "page size": lambda a, b, n: a.allocate_memory_pages(n, count=2),
    "page count": lambda a, b, n: a.allocate_memory_pages(64, count=n),
    "one of sizes": lambda a, b, n: a.create_buffers([64, n], TRANSFER),
    "sizes": lambda a, b, n: a.create_buffers(n, TRANSFER),
    "offsets": lambda a, b, n: a.flush_allocations([b], [n]),
    "local_offset": lambda a, b, n: a.create_aliasing_buffer(b, 64, 3, local_offset=n),
    "frame": lambda a, b, n: a.set_current_frame_index(n),
    "allowed": lambda a, b, n: a.find_memory_type_index(n),
    "threshold": lambda a, b, n: a.on_pressure(print, n),
    "retention": lambda a, b, n: Allocator(a.device, empty_block_retention=n),
    "retained share": lambda a, b, n: Allocator(
        a.device, empty_block_retention=vk_mem.EmptyBlockRetention(share=n)
    ),
    "block size": lambda a, b, n: Allocator(a.device, preferred_block_size=n),
    "heap limit": lambda a, b, n: Allocator(a.device, heap_size_limits=[n]),
    "frames": lambda a, b, n: Allocator(a.device, frames_in_flight=n),
    "depth": lambda a, b, n: Allocator(a.device, track_call_sites=n),
    "pool type": lambda a, b, n: a.create_pool(memory_type_index=n),
    "pool size": lambda a, b, n: a.create_pool(memory_type_index=0, block_size=n),
    "pool priority": lambda a, b, n: a.create_pool(memory_type_index=0, priority=n),
    "map offset": lambda a, b, n: b.map(n),
    "map size": lambda a, b, n: b.map(0, n),
    "read": lambda a, b, n: b.read(n),
    "read size": lambda a, b, n: b.read(0, n),
    "write": lambda a, b, n: b.write(b"x", n),
    "flush": lambda a, b, n: b.flush(n),
    "bind offset": lambda a, b, n: b.allocation.bind_buffer(b, n),
    "set_priority": lambda a, b, n: b.allocation.set_priority(n),
    "fill value": lambda a, b, n: a.device.fill_buffer(b, n),
    "fill offset": lambda a, b, n: a.device.fill_buffer(b, offset=n),
    "copy size": lambda a, b, n: a.device.copy_buffer(b, b, n),
    "copy offset": lambda a, b, n: a.device.copy_buffer(b, b, source_offset=n),
    "import size": lambda a, b, n: a.import_host_pointer(4096, n),
    "virtual size": lambda a, b, n: VirtualBlock(n),
    "virtual alignment": lambda a, b, n: VirtualBlock(64).allocate(1, n),
    "virtual sizes": lambda a, b, n: VirtualBlock(64).allocate_many([n]),
    "virtual alignments": lambda a, b, n: VirtualBlock(64).allocate_many([1], n),
    "virtual handle": lambda a, b, n: VirtualBlock(64).free(n),
    "grow": lambda a, b, n: VirtualBlock(64).grow(n),
    "heap block": lambda a, b, n: BufferHeap(a, TRANSFER, block_size=n),
    "heap usage": lambda a, b, n: BufferHeap(a, n),
    "slice size": lambda a, b, n: BufferHeap(a, TRANSFER).allocate(n),
    "slice alignment": lambda a, b, n: BufferHeap(a, TRANSFER).allocate(64, n),
    "granularity": lambda a, b, n: SimulatedDevice(buffer_image_granularity=n),
    "heap size": lambda a, b, n: SimulatedDevice(heaps=[(n, 1)], types=[(0, 1)]),
    "live_bytes": lambda a, b, n: a.device.live_bytes(n),
    "count": lambda a, b, n: a.device.fail_next("vkAllocateMemory", n),
    "latency": lambda a, b, n: a.device.set_latency(n),
    "result": lambda a, b, n: a.device.fail_call(0, n),
    "api_version": lambda a, b, n: Device.open(api_version=(1, n)),
    "index": lambda a, b, n: Device.open(index=n),
}


@pytest.mark.parametrize("call", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("kind", ["buffer", "image", "memory", "pool"])
def test_no_number_is_one(
    simulated_allocator: Allocator, call: Callable[[Allocator, Any, Any], object], kind: str
) -> None:
    allocator = simulated_allocator
    with (
        allocator.create_buffer(SIZE, TRANSFER, flags=RANDOM) as buffer,
        allocator.create_image(RGBA8, (8, 8), ImageUsage.SAMPLED) as image,
        allocator.create_pool(memory_type_index=0) as pool,
    ):
        what = {"buffer": buffer, "image": image, "memory": buffer.allocation, "pool": pool}[kind]
        with pytest.raises(TypeError, match=type(what).__name__):
            call(allocator, buffer, what)


# ---- calls of the driver ----


@pytest.mark.driver
def test_commands_of_vulkan_take_them() -> None:
    with vulkan_device(index_of_the_driver()) as bound, Allocator(bound.device) as allocator:
        vk = bound.binding
        flags = DONT_BIND | RANDOM
        with (
            allocator.create_buffer(SIZE, TRANSFER, flags=flags) as buffer,
            allocator.create_image(RGBA8, (8, 8), "SAMPLED|TRANSFER_DST") as image,
        ):
            needs = vk.vkGetBufferMemoryRequirements(bound.handle, buffer)
            assert needs.size >= SIZE
            assert vk.vkGetImageMemoryRequirements(bound.handle, image).size >= 256
            memory = buffer.allocation
            vk.vkBindBufferMemory(bound.handle, buffer, memory, memory.offset)
            buffer.write(pattern(SIZE))
            view = vk.vkCreateImageView(
                bound.handle,
                vk.VkImageViewCreateInfo(
                    image=image,
                    viewType=vk.VK_IMAGE_VIEW_TYPE_2D,
                    format=int(image.format),
                    subresourceRange=vk.VkImageSubresourceRange(1, 0, 1, 0, 1),
                ),
                None,
            )
            vk.vkDestroyImageView(bound.handle, view, None)
            assert buffer.read() == pattern(SIZE)


@pytest.mark.driver
def test_commands_of_volkano_take_them() -> None:
    with volkano_device(index_of_the_driver()) as bound, Allocator(bound.device) as allocator:
        vk = bound.binding
        with allocator.create_buffer(SIZE, TRANSFER, flags=DONT_BIND | RANDOM) as buffer:
            needs = vk.VkMemoryRequirements()
            vk.vkGetBufferMemoryRequirements(bound.handle, buffer, needs.ref)
            assert needs.size.value >= SIZE
            memory = buffer.allocation
            done = vk.vkBindBufferMemory(bound.handle, buffer, memory, memory.offset)
            assert done is vk.VK_SUCCESS
            buffer.write(pattern(SIZE))
            assert buffer.read() == pattern(SIZE)


class VkMemoryRequirements(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_uint64),
        ("alignment", ctypes.c_uint64),
        ("memoryTypeBits", ctypes.c_uint32),
    )


def bound_function(bound: Bound | Device, name: bytes) -> Any:
    find = vulkan_loader().vkGetDeviceProcAddr
    find.restype = ctypes.c_void_p
    return ctypes.CFUNCTYPE(None)(find(ctypes.c_void_p(bound.handle), name))


@pytest.mark.driver
@pytest.mark.parametrize("typed", [False, True])
def test_commands_of_a_binding_of_ctypes_take_them(real_device: Device, typed: bool) -> None:
    call = bound_function(real_device, b"vkGetBufferMemoryRequirements")
    if typed:
        call.argtypes = [ctypes.c_void_p, VkBuffer, ctypes.c_void_p]
    with (
        Allocator(real_device) as allocator,
        allocator.create_buffer(SIZE, BufferUsage.STORAGE_BUFFER) as buffer,
    ):
        needs = VkMemoryRequirements()
        call(ctypes.c_void_p(real_device.handle), buffer, ctypes.byref(needs))
        assert needs.size >= SIZE
        assert needs.memoryTypeBits >> buffer.allocation.memory_type_index & 1
