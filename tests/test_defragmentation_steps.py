"""Steps of a defragmentation: who asks for them, what they escalate to, and how they end."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from typing import Any

import pytest
from support import check_statistics
from test_defragmentation import VERTEX, check_contents, scattered
from test_defragmentation_when_full import full_pool

from vk_mem import (
    Allocator,
    Buffer,
    DefragmentationPolicy,
    InvalidArgumentError,
    Move,
    SimulatedDevice,
)

MIB = 1 << 20
KIB = 1 << 10
SMALL = {"preferred_block_size": MIB, "preferred_small_heap_block_size": MIB}


def step_until_done(allocator: Allocator, **keywords: Any) -> int:
    """Steps until one moves nothing; returns the number of moves."""
    moved = 0
    for _ in range(1000):
        done = allocator.defragment_step(**keywords).allocations_moved
        if not done:
            return moved
        moved += done
    pytest.fail("it goes on for ever")


@pytest.mark.parametrize("end", ["close", "forget", "forget device first"])
@pytest.mark.parametrize("of_pool", [False, True])
def test_a_run_between_two_steps_ends_with_its_allocator(
    make_simulated: Callable[..., SimulatedDevice], end: str, of_pool: bool
) -> None:
    """The run keeps the pools and these the device, which is not to be destroyed with the GIL."""
    device = make_simulated("discrete-8gib")
    allocator = Allocator(device, **SMALL)
    pool = allocator.create_pool(memory_type_index=0, block_size=MIB) if of_pool else None
    contents = scattered(allocator, count=150, pool=pool)
    done = allocator.defragment_step(max_moves=1, pool=pool)
    assert done.allocations_moved == 1
    allocator.destroy_many(contents)
    contents.clear()
    if pool is not None:
        pool.close()
    if end == "close":
        allocator.close()
        assert device.live_memory_objects == 0 and not device.violations
    if end == "forget device first":
        del device
    expected = (
        contextlib.nullcontext()
        if end == "close"
        else pytest.warns(ResourceWarning, match="never closed")
    )
    with expected:
        del allocator, pool
        gc.collect()


def test_a_step_after_its_pool_was_closed(simulated: SimulatedDevice) -> None:
    with Allocator(simulated) as allocator:
        for _ in range(3):
            pool = allocator.create_pool(memory_type_index=0, block_size=MIB)
            contents = scattered(allocator, count=150, pool=pool)
            assert allocator.defragment_step(max_moves=1, pool=pool).allocations_moved == 1
            allocator.destroy_many(contents)
            pool.close()
        assert allocator.defragment_step().allocations_moved == 0


def test_the_runs_of_several_pools_go_on_side_by_side(simulated: SimulatedDevice) -> None:
    """One move of each in turn is as good as all of one after the other."""
    counts = []
    for in_turn in (False, True):
        with Allocator(simulated) as allocator:
            pools = [allocator.create_pool(memory_type_index=0, block_size=MIB) for _ in range(3)]
            contents: dict[Buffer, bytes] = {}
            for pool in pools:
                contents |= scattered(allocator, count=150, pool=pool)
            moved = 0
            if in_turn:
                last = -1
                while last != moved:
                    last = moved
                    for pool in pools:
                        done = allocator.defragment_step(max_moves=1, pool=pool)
                        moved += done.allocations_moved
            else:
                for pool in pools:
                    moved += step_until_done(allocator, max_moves=1, pool=pool)
            counts.append((moved, [pool.statistics().block_count for pool in pools]))
            check_contents(allocator, contents)
            check_statistics(allocator)
            allocator.destroy_many(contents)
            for pool in pools:
                pool.close()
    assert counts[0] == counts[1] and counts[0][0] > 3


@pytest.mark.parametrize("algorithm", ["fast", "balanced", "full", "extensive"])
def test_a_program_and_its_frames_step_side_by_side(
    simulated: SimulatedDevice, algorithm: str
) -> None:
    """Neither ends the run of the other, nor moves to and fro what the other moves."""
    moved, blocks = [], []
    for both in (False, True):
        policy = DefragmentationPolicy(max_moves=1, algorithm="balanced")
        with Allocator(simulated, **SMALL, auto_defragment=policy, frames_in_flight=1) as allocator:
            contents = scattered(allocator, count=300)
            quiet = 0
            for frame in range(1, 2000):
                before = sum(it.generation for it in contents)
                allocator.set_current_frame_index(frame)
                if both:
                    allocator.defragment_step(max_moves=1, algorithm=algorithm)
                quiet = quiet + 1 if sum(it.generation for it in contents) == before else 0
                if quiet == 10:
                    break
            else:
                pytest.fail("it goes on for ever")
            moved.append(sum(it.generation for it in contents))
            allocator.trim()
            blocks.append(allocator.calculate_statistics().total.block_count)
            check_contents(allocator, contents)
            check_statistics(allocator)
            allocator.destroy_many(contents)
    assert blocks[1] <= blocks[0]
    # What runs begin anew all the time move again and again.
    assert moved[0] > 0 and moved[1] <= 2 * moved[0] + 10, (moved, blocks)


def within_block(move: Move) -> bool:
    return move.old_location.device_memory == move.new_location.device_memory


@pytest.mark.parametrize("algorithm", ["fast", "balanced", "full", "extensive"])
def test_frames_tidy_blocks_only_where_emptying_them_is_not_enough(
    simulated: SimulatedDevice, algorithm: Any
) -> None:
    """The policy's algorithm follows where "fast" found nothing and too much is still held; when
    much is freed, "fast" comes first again."""
    policy = DefragmentationPolicy(share=0.01, algorithm=algorithm)
    with Allocator(simulated, **SMALL, auto_defragment=policy) as allocator:
        moves: list[Move] = []
        allocator.on_move(moves.extend)
        frame = 0

        def frames(count: int = 60) -> list[Move]:
            nonlocal frame
            moves.clear()
            for _ in range(count):
                frame += 1
                allocator.set_current_frame_index(frame)
            return list(moves)

        def held() -> int:
            return allocator.calculate_statistics().total.block_count

        # Something that stays in each block, so that none can be emptied, and gaps below it.
        stays, all_of_them = [], []
        for _ in range(8):
            all_of_them += [
                allocator.create_buffer(64 * KIB, VERTEX, movable=True) for _ in range(15)
            ]
            stays.append(allocator.create_buffer(64 * KIB, VERTEX))
        blocks = held()
        assert blocks == 8 and len({it.allocation.device_memory for it in stays}) == 8
        allocator.destroy_many([it for at, it in enumerate(all_of_them) if at % 3])
        movable = all_of_them[::3]
        told = frames()
        assert held() == blocks and all(map(within_block, told))
        assert bool(told) == (algorithm != "fast")
        assert frames() == []
        # Blocks can be emptied once more, which comes first.
        allocator.destroy_many(stays)
        before = held()
        told = frames(1) or frames(1)
        assert told and not any(map(within_block, told))
        frames()
        assert held() < before
        check_statistics(allocator)
        allocator.on_move(None)
        allocator.destroy_many(movable)


@pytest.mark.parametrize("when_full", [False, True])
def test_a_pool_makes_room_before_it_falls_back(
    simulated: SimulatedDevice, when_full: bool
) -> None:
    size = 40_000
    with Allocator(simulated, defragment_when_full=when_full) as allocator:
        pool, contents = full_pool(allocator, movable=True, fallback=True)
        count = pool.statistics().allocation_count
        made = allocator.create_buffer(5 * size, VERTEX, pool=pool)
        in_pool = pool.statistics().allocation_count - count
        assert in_pool == int(when_full)
        assert (sum(it.generation for it in contents) > 0) == when_full
        # More than is free in all comes from the default pools, and moves nothing.
        generation = sum(it.generation for it in contents)
        others = []
        while pool.statistics().allocation_count - count == in_pool + len(others):
            others.append(allocator.create_buffer(10 * size, VERTEX, pool=pool))
            assert len(others) < 100
        assert len(others) >= 1
        assert when_full or sum(it.generation for it in contents) == generation
        check_contents(allocator, contents)
        check_statistics(allocator)
        allocator.destroy_many([*contents, made, *others])
        pool.close()


@pytest.mark.parametrize("limits", [{"max_bytes": 0}, {"max_moves": 0}])
def test_with_a_limit_of_0_nothing_moves(
    simulated: SimulatedDevice, limits: dict[str, int]
) -> None:
    with Allocator(simulated) as allocator:
        pool = allocator.create_pool(memory_type_index=0, block_size=MIB)
        contents = scattered(allocator, count=150, pool=pool)
        assert allocator.defragment_step(pool=pool, **limits).allocations_moved == 0
        assert sum(it.generation for it in contents) == 0
        assert step_until_done(allocator, pool=pool) > 0
        check_contents(allocator, contents)
        allocator.destroy_many(contents)
        pool.close()
        with pytest.raises(InvalidArgumentError, match="is 0, so nothing would move"):
            Allocator(simulated, auto_defragment=DefragmentationPolicy(**limits))
