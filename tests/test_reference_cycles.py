"""The cycle collector finds cycles through memory that the package keeps alive for the driver."""

from __future__ import annotations

import ctypes
import gc
import mmap
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from support import DONT_BIND, LOSABLE, RANDOM, TRANSFER, pattern

from vk_mem import (
    AllocationCreateInfo,
    Allocator,
    Buffer,
    ExternalMemoryHandleType,
    SimulatedDevice,
    UseAfterFreeError,
)


class Shared(mmap.mmap):
    """Memory that can be imported, and that knows who uses it."""

    user: Any


class SharedArray(np.ndarray):  # type: ignore[type-arg]
    """As above, of NumPy."""

    user: Any


class Chain(ctypes.Structure):
    """Of an extension that no driver knows."""

    _fields_ = [("sType", ctypes.c_int), ("pNext", ctypes.c_void_p)]
    user: Any

    def __index__(self) -> int:
        return ctypes.addressof(self)


class ExternalMemoryBufferCreateInfo(ctypes.Structure):
    _fields_ = [
        ("sType", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("handleTypes", ctypes.c_uint32),
    ]


class VkBufferCreateInfo(ctypes.Structure):
    _fields_ = [
        ("sType", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("size", ctypes.c_uint64),
        ("usage", ctypes.c_uint32),
        ("sharingMode", ctypes.c_int),
        ("queueFamilyIndexCount", ctypes.c_uint32),
        ("pQueueFamilyIndices", ctypes.c_void_p),
    ]


EXTERNAL = ExternalMemoryBufferCreateInfo(
    sType=1000072000, handleTypes=ExternalMemoryHandleType.HOST_ALLOCATION_EXT
)


def buffer_info(size: int) -> VkBufferCreateInfo:
    """Of a buffer that can be bound to memory of the host."""
    return VkBufferCreateInfo(
        sType=12, pNext=ctypes.addressof(EXTERNAL), size=size, usage=int(TRANSFER)
    )


@pytest.fixture
def page(simulated: SimulatedDevice) -> int:
    page = simulated.min_imported_host_pointer_alignment
    assert page
    return page


@pytest.fixture
def allocator(simulated: SimulatedDevice) -> Iterator[Allocator]:
    with Allocator(simulated, frames_in_flight=1) as allocator:
        yield allocator


def collect(allocator: Allocator, unclosed: int = 1) -> None:
    """Collects, and lets the frames pass after which what was never closed is released."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(4):
            gc.collect()
            allocator.set_current_frame_index(allocator.current_frame_index + 5)
        gc.collect()
    assert [str(it.message).split()[0] for it in caught] == ["unclosed"] * unclosed


def left(allocator: Allocator) -> int:
    return allocator.calculate_statistics().total.allocation_count


def test_imported_memory_that_knows_its_allocation(allocator: Allocator, page: int) -> None:
    memory = Shared(-1, page)
    memory.user = allocator.import_host_pointer(memory)
    seen = weakref.ref(memory), weakref.ref(memory.user)
    gc.collect()
    assert memory.user.alive, "what can be reached stays"
    del memory
    collect(allocator)
    assert [it() for it in seen] == [None, None]
    assert left(allocator) == 0


@pytest.mark.parametrize("by", ["view", "array", "buffer"])
def test_imported_memory_below_a_view(allocator: Allocator, page: int, by: str) -> None:
    memory: Any = Shared(-1, 4 * page)
    match by:
        case "view":
            memory.user = allocator.import_host_pointer(memoryview(memory)[page : 3 * page])
        case "buffer":
            memory.user = allocator.create_buffer(
                2 * page, TRANSFER, import_host_pointer=memoryview(memory), flags=RANDOM
            )
        case _:
            memory = np.frombuffer(memory, np.uint8).view(SharedArray)
            memory.user = allocator.import_host_pointer(memory)
    memory.user.user_data = memory
    seen = weakref.ref(memory), weakref.ref(memory.user)
    del memory
    collect(allocator)
    assert [it() for it in seen] == [None, None]


def test_memory_stays_while_the_device_may_use_it(allocator: Allocator, page: int) -> None:
    memory = Shared(-1, page)
    memory.user = allocator.import_host_pointer(memory, flags=RANDOM)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    with memory.user.map() as view:
        view[:4] = b"here"
    del view
    seen = weakref.ref(memory.user)
    del memory
    with pytest.warns(ResourceWarning, match="unclosed Allocation"):
        gc.collect()
    assert seen() is None
    # The frame has not ended: the pages are there, with what was written.
    assert ctypes.string_at(address, 4) == b"here"
    collect(allocator, 0)
    assert left(allocator) == 0


def test_a_view_of_the_memory_in_the_cycle(allocator: Allocator, page: int) -> None:
    memory: Any = Shared(-1, page)
    imported = allocator.import_host_pointer(memory, flags=RANDOM)
    memory.user = imported.map()
    seen = weakref.ref(memory), weakref.ref(memory.user)
    del memory, imported
    collect(allocator)
    assert [it() for it in seen] == [None, None]
    assert left(allocator) == 0


@pytest.mark.parametrize("keeps_allocation", [True, False])
def test_a_buffer_that_is_bound_to_imported_memory(
    allocator: Allocator, page: int, keeps_allocation: bool
) -> None:
    memory: Any = Shared(-1, page)
    imported = allocator.import_host_pointer(memory)
    buffer = allocator.create_buffer(buffer_info(page), flags=DONT_BIND)
    imported.bind_buffer(buffer)
    memory.user = (buffer, imported) if keeps_allocation else buffer
    seen = weakref.ref(memory), weakref.ref(buffer)
    gc.collect()
    assert buffer.alive and seen[0]() is memory
    del memory, imported, buffer
    collect(allocator, 2)
    assert [it() for it in seen] == [None, None]
    assert left(allocator) == 0


def test_a_buffer_whose_own_memory_is_seen_is_not_bound_to_another(
    allocator: Allocator, page: int
) -> None:
    # The memory that it would be bound to keeps the view, the view keeps the buffer.
    buffer = allocator.create_buffer(page, TRANSFER, flags=DONT_BIND | RANDOM)
    mapping = buffer.map()
    imported = allocator.import_host_pointer(mapping)
    with pytest.raises(BufferError, match=r"cannot bind Buffer .* to Allocation .* its own memory"):
        imported.bind_buffer(buffer)
    buffer.bind()
    imported.free()
    mapping.close()
    buffer.destroy()


def test_the_mapping_of_a_buffer_can_be_imported(allocator: Allocator, page: int) -> None:
    buffer = allocator.create_buffer(4 * page, TRANSFER, flags=RANDOM)
    address = buffer.map().address
    start = -address % page
    mapping = buffer.map(start, page)
    imported = allocator.import_host_pointer(mapping)
    buffer.user_data = imported
    imported.user_data = buffer
    mapping = None  # type: ignore[assignment]
    seen = weakref.ref(buffer), weakref.ref(imported)
    with pytest.raises(BufferError, match="view of its memory"):
        buffer.destroy()
    del buffer, imported
    collect(allocator, 2)
    assert [it() for it in seen] == [None, None]
    assert left(allocator) == 0


def test_memory_that_the_collector_would_free_is_kept(allocator: Allocator, page: int) -> None:
    # The collector would free a ctypes array of a cycle while the device works on it: such a cycle
    # is not found, and ends with free().
    class Array(ctypes.c_ubyte * (2 * page)):  # type: ignore[misc]
        user: Any

    memory = Array()
    start = -ctypes.addressof(memory) % page
    memory.user = allocator.import_host_pointer(memoryview(memory)[start : start + page])
    imported, seen = memory.user, weakref.ref(memory)
    del memory
    gc.collect()
    assert seen() is not None
    imported.free()
    del imported
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize("by", ["pool", "buffer and pool", "AllocationCreateInfo"])
def test_a_pool_and_its_chain(allocator: Allocator, by: str) -> None:
    chain = Chain()
    index = allocator.find_memory_type_index(flags=RANDOM)
    pool = allocator.create_pool(memory_type_index=index, memory_allocate_next=chain)
    chain.user = [pool]
    unclosed = 1
    if by == "buffer and pool":
        buffer = allocator.create_buffer(64, TRANSFER, pool=pool)
        buffer.user_data = chain
        chain.user += [buffer]
        unclosed = 2
        del buffer
    if by == "AllocationCreateInfo":
        info = AllocationCreateInfo(pool=pool)
        assert info.pool is pool
        chain.user = [info]
        del info
    seen = weakref.ref(chain), weakref.ref(pool)
    gc.collect()
    assert seen[0]() is chain and not pool.closed
    del chain, pool
    collect(allocator, unclosed)
    assert [it() for it in seen] == [None, None]


def test_a_chain_stays_while_the_pool_can_be_used(allocator: Allocator) -> None:
    chain = Chain()
    index = allocator.find_memory_type_index(flags=RANDOM)
    pool = allocator.create_pool(memory_type_index=index, memory_allocate_next=chain)
    info = AllocationCreateInfo(pool=pool)
    seen = weakref.ref(chain)
    del chain, pool
    gc.collect()
    assert seen() is not None
    with allocator.create_buffer(64, TRANSFER, allocation_info=info) as buffer:
        assert buffer.alive
    with pytest.raises(UseAfterFreeError, match="closed"):
        info.pool.close()  # type: ignore[union-attr]
        allocator.create_buffer(64, TRANSFER, allocation_info=info)
    del info
    gc.collect()
    assert seen() is None


def test_what_holds_nothing_of_python_is_not_watched(allocator: Allocator) -> None:
    # Walking over ten thousand buffers would cost more than to create them.
    buffers = [allocator.create_buffer(64, TRANSFER) for _ in range(10)]
    assert not any(map(gc.is_tracked, buffers))
    held: list[Buffer] = buffers[:1]
    held[0].user_data = pattern
    assert gc.is_tracked(held[0])
    allocator.destroy_many(buffers)


def test_a_buffer_that_knows_a_range_of_itself(allocator: Allocator) -> None:
    buffer = allocator.create_buffer(64, TRANSFER, flags=RANDOM)
    buffer.user_data = buffer[8:][:8]
    seen = weakref.ref(buffer), weakref.ref(buffer.user_data)
    gc.collect()
    assert buffer.user_data.buffer is buffer, "what can be reached stays"
    del buffer
    collect(allocator)
    assert [it() for it in seen] == [None, None]
    assert left(allocator) == 0


def test_an_array_keeps_the_memory_and_not_the_buffer(allocator: Allocator) -> None:
    buffer = allocator.create_buffer(64, TRANSFER, flags=RANDOM)
    buffer.user_data = buffer.numpy()
    seen = weakref.ref(buffer)
    array = buffer.user_data
    del buffer
    collect(allocator, 0)
    assert seen() is None
    array[:] = 1
    with pytest.warns(ResourceWarning, match="unclosed Buffer"):
        del array
    collect(allocator, 0)
    assert left(allocator) == 0


@pytest.mark.parametrize("by", ["user data", "callback"])
def test_a_resource_that_was_lost(allocator: Allocator, by: str) -> None:
    buffer = allocator.create_buffer(64, TRANSFER, flags=LOSABLE)
    if by == "user data":
        buffer.user_data = [buffer]
    else:
        buffer.on_lost(lambda _, me=buffer: me)  # type: ignore[misc]
    seen = weakref.ref(buffer)
    allocator.set_current_frame_index(5)
    assert allocator.make_allocations_lost() == 1
    gc.collect()
    assert buffer.is_lost, "what can be reached stays"
    del buffer
    collect(allocator, 0)
    assert seen() is None
    assert allocator.calculate_statistics().evictions.lost_count == 0
    assert left(allocator) == 0
