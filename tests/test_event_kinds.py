"""Kinds of events that few programs have: each is recorded, typed, and played again."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from recorded_programs import exact
from support import LOSABLE, MAPPED, RANDOM, TRANSFER

import vk_mem
from vk_mem import Allocator, SimulatedDevice
from vk_mem.trace import Trace, load

MIB = 1 << 20
E = TypeVar("E")


def traced(
    tmp_path: Path, program: Callable[[Allocator], object], device: Any = None, **options: Any
) -> Trace:
    """A recording of a program; its replay puts everything where it was."""
    path = tmp_path / "x.vkmem"
    with Allocator(
        device or SimulatedDevice("non-coherent"), record=path, preferred_block_size=MIB, **options
    ) as it:
        program(it)
    trace = load(path)
    assert exact(trace).placements.checked
    return trace


def of_kind(trace: Trace, kind: type[E]) -> list[E]:
    return [it for it in trace if isinstance(it, kind)]


def test_prefetches(tmp_path: Path) -> None:
    def program(allocator: Allocator) -> None:
        made = [allocator.create_buffer(MIB // 4, TRANSFER) for _ in range(3)]
        end = time.monotonic() + 60
        while allocator.calculate_statistics().total.block_count < 2:
            assert time.monotonic() < end, "no block came"
            time.sleep(0.001)
        allocator.destroy_many(made)

    trace = traced(tmp_path, program, prefetch=True)
    found = of_kind(trace, vk_mem.trace.Prefetch)
    assert found and all(it.pool is None and it.memory_type is not None for it in found)
    # Its thread is not that of the program, and allocates a block of that type.
    program_thread = of_kind(trace, vk_mem.trace.Allocate)[0].thread
    assert program_thread not in {it.thread for it in found}
    ahead = [
        it.memory_type
        for it in of_kind(trace, vk_mem.trace.AllocateMemory)
        if it.thread != program_thread
    ]
    assert ahead and set(ahead) <= {it.memory_type for it in found}


def test_flushes_and_invalidations(tmp_path: Path) -> None:
    def program(allocator: Allocator) -> None:
        with allocator.create_buffer(4096, TRANSFER, flags=RANDOM | MAPPED) as buffer:
            buffer.flush(256, 512)
            buffer.invalidate(1024, 256)

    trace = traced(tmp_path, program)
    (flush,), (invalidate,) = (
        of_kind(trace, it) for it in (vk_mem.trace.Flush, vk_mem.trace.Invalidate)
    )
    allocation = of_kind(trace, vk_mem.trace.Allocate)[0].allocation
    assert flush.allocation == invalidate.allocation == allocation
    assert (flush.offset, flush.size) == (256, 512)
    assert (invalidate.offset, invalidate.size) == (1024, 256)


def test_user_data_and_the_end_of_an_allocator(tmp_path: Path) -> None:
    def program(allocator: Allocator) -> None:
        with allocator.create_buffer(4096, TRANSFER, user_data="first") as buffer:
            buffer.user_data = "second"

    trace = traced(tmp_path, program)
    allocation = of_kind(trace, vk_mem.trace.Allocate)[0].allocation
    data = of_kind(trace, vk_mem.trace.SetData)
    assert [it.allocation for it in data] == [allocation] * len(data)
    assert "second" in str(data[-1].data)
    assert isinstance(trace[-1], vk_mem.trace.DestroyAllocator)


def test_what_may_be_lost(tmp_path: Path) -> None:
    def program(allocator: Allocator) -> None:
        kept = allocator.create_buffer(4096, TRANSFER, flags=LOSABLE, priority=0.25)
        allocator.set_current_frame_index(10)
        assert allocator.make_allocations_lost() == 1
        lost = allocator.create_lost_allocation()
        for it in (kept, lost):
            it.destroy() if isinstance(it, vk_mem.Buffer) else it.free()

    trace = traced(tmp_path, program)
    allocation = of_kind(trace, vk_mem.trace.Allocate)[0].allocation
    (evictable,) = of_kind(trace, vk_mem.trace.MakeEvictable)
    assert (evictable.allocation, evictable.priority) == (allocation, 0.25)
    (lost,) = of_kind(trace, vk_mem.trace.Lose)
    assert lost.allocations == (allocation,)


def test_moves_are_proposed(tmp_path: Path) -> None:
    def program(allocator: Allocator) -> None:
        made = allocator.create_buffers([MIB // 8] * 24, TRANSFER, movable=True)
        allocator.destroy_many(made[1::2])
        assert allocator.defragment(algorithm="full").allocations_moved
        allocator.destroy_many(made[::2])

    trace = traced(tmp_path, program)
    proposed = of_kind(trace, vk_mem.trace.ProposeMove)
    ended = of_kind(trace, vk_mem.trace.EndMove)
    assert proposed and [it.allocation for it in proposed] == [it.allocation for it in ended]
    (run,) = of_kind(trace, vk_mem.trace.BeginDefragmentation)
    assert {it.run for it in proposed} == {run.run}


def test_calls_that_fail(tmp_path: Path) -> None:
    def program(allocator: Allocator) -> None:
        with allocator.create_buffer(64, TRANSFER):
            pass
        with pytest.raises(vk_mem.OutOfDeviceMemoryError) as refused:
            allocator.create_pool(memory_type_index=0, block_size=1 << 50, min_block_count=1)
        errors.append(str(refused.value))

    errors: list[str] = []
    trace = traced(tmp_path, program)
    (failed,) = of_kind(trace, vk_mem.trace.CreatePool)
    assert failed.pool is None and failed.failure.message == errors[0]
