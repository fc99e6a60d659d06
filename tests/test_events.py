"""Every change of an allocator is told once, to all that listen."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import RANDOM, TRANSFER

import vk_mem
from vk_mem import Allocator, OutOfDeviceMemoryError

KINDS = [
    "create",
    "free",
    "move",
    "lose",
    "map",
    "unmap",
    "flush",
    "invalidate",
    "name",
    "create_pool",
    "destroy_pool",
    "frame",
    "failure",
]


@contextlib.contextmanager
def told(allocator: Allocator, **expected: int) -> Iterator[None]:
    """Fails unless these events, and no others, are told meanwhile."""
    counter = allocator._count_events()
    try:
        yield
    finally:
        counter.end()
    assert counter.counts() == {kind: expected.get(kind, 0) for kind in KINDS}


def test_a_create_and_its_end_are_told_once(allocator: Allocator) -> None:
    with told(allocator, create=1):
        buffer = allocator.create_buffer(1024, TRANSFER)
    with told(allocator, free=1):
        buffer.destroy()
        buffer.destroy()
    with told(allocator, create=1, name=1):
        buffer = allocator.create_buffer(1024, TRANSFER, name="told")
    with told(allocator, free=1):
        allocator.destroy_many([buffer])


def test_moves_are_told_and_what_they_leave_is_not(allocator: Allocator) -> None:
    buffers = allocator.create_buffers([256] * 3, TRANSFER, movable=True)
    with told(allocator, move=3):
        assert allocator._relocate(buffers) == 3
    with told(allocator, frame=2):
        allocator.set_current_frame_index(1)
        allocator.set_current_frame_index(9)
    with told(allocator, free=3):
        allocator.destroy_many(buffers)


def test_each_of_many_is_told(allocator: Allocator) -> None:
    with told(allocator, create=7, name=7):
        buffers = allocator.create_buffers([256] * 7, TRANSFER, name="many")
    with told(allocator, free=7):
        allocator.destroy_many(buffers)
    with told(allocator):
        assert allocator.create_buffers([], TRANSFER) == []


def test_what_is_retired_is_freed_at_its_frame(allocator: Allocator) -> None:
    buffer = allocator.create_buffer(1024, TRANSFER)
    with told(allocator, frame=1):
        allocator.set_current_frame_index(1)
        buffer.retire()
    with told(allocator, frame=3, free=1):
        for frame in (2, 3, 4):
            allocator.set_current_frame_index(frame)


def test_a_buffer_nobody_kept_is_told_when_its_memory_goes(allocator: Allocator) -> None:
    with told(allocator, create=1, free=1, frame=4), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        buffer: Any = allocator.create_buffer(1024, TRANSFER)
        del buffer
        for frame in range(1, 5):
            allocator.set_current_frame_index(frame)


def test_maps_and_flushes(allocator: Allocator) -> None:
    with allocator.create_buffer(1024, TRANSFER, flags=RANDOM) as buffer:
        with told(allocator, map=1, unmap=1), buffer.map():
            pass
        with told(allocator, map=1, unmap=1, flush=1, invalidate=1), buffer.map():
            buffer.flush()
            buffer.invalidate(0, 512)
        with told(allocator, flush=2, invalidate=2):
            allocator.flush_allocations([buffer, buffer.allocation])
            allocator.invalidate_allocations([buffer, buffer.allocation])


def test_names_and_pools(allocator: Allocator) -> None:
    buffer = allocator.create_buffer(1024, TRANSFER)
    with told(allocator, name=2):
        buffer.name = "one"
        buffer.name = None
    like = buffer.allocation.memory_type_index
    with told(allocator, create_pool=1):
        pool = allocator.create_pool(memory_type_index=like, block_size=1 << 20)
    with told(allocator, name=1):
        pool.name = "pool"
    with told(allocator, create=1):
        inside = allocator.create_buffer(1024, TRANSFER, pool=pool)
    with told(allocator, free=1, destroy_pool=1), pytest.warns(ResourceWarning):
        pool.close()
    with pytest.raises(vk_mem.UseAfterFreeError):
        inside.map()
    with told(allocator, create_pool=1, name=1, destroy_pool=1):
        allocator.create_pool(memory_type_index=like, block_size=1 << 20, name="named").close()
    buffer.destroy()


def test_an_alias_is_told_as_well(allocator: Allocator) -> None:
    with allocator.create_buffer(4096, TRANSFER) as base:
        with told(allocator, create=1):
            alias = allocator.create_aliasing_buffer(base, 1024, TRANSFER)
        with told(allocator, free=1):
            alias.destroy()


def test_each_attempt_that_fails_is_told(simulated_allocator: Allocator) -> None:
    device: Any = simulated_allocator.device
    attempts = []

    def again(error: OutOfDeviceMemoryError) -> bool:
        attempts.append(error)
        return len(attempts) < 3

    device.fail_next("vkAllocateMemory", 1000)
    with told(simulated_allocator, failure=1), pytest.raises(OutOfDeviceMemoryError):
        simulated_allocator.create_buffer(1 << 20, TRANSFER)
    simulated_allocator.on_out_of_memory(again)
    with told(simulated_allocator, failure=3), pytest.raises(OutOfDeviceMemoryError):
        simulated_allocator.create_buffer(1 << 20, TRANSFER)
    device.clear_failures()


def test_a_call_with_wrong_arguments_is_no_event(allocator: Allocator) -> None:
    wrong: list[Callable[[], Any]] = [
        lambda: allocator.create_buffer(-1, TRANSFER),
        lambda: allocator.create_buffer(16, "no usage"),
        lambda: allocator.set_current_frame_index(-1),
        lambda: allocator.create_pool(memory_type_index=99),
    ]
    with told(allocator):
        for call in wrong:
            with pytest.raises((vk_mem.VkMemError, TypeError, ValueError)):
                call()


def test_listeners_do_not_disturb_each_other(allocator: Allocator) -> None:
    first, second = allocator._count_events(), allocator._count_events()
    with vk_mem.statistics(allocator) as statistics:
        buffer = allocator.create_buffer(1024, TRANSFER)
        first.end()
        first.end()
        buffer.destroy()
    second.end()
    allocator.create_buffer(16, TRANSFER).destroy()
    assert (first.counts()["create"], first.counts()["free"]) == (1, 0)
    assert (second.counts()["create"], second.counts()["free"]) == (1, 1)
    assert (statistics.total_count, statistics.current_count) == (1, 0)
