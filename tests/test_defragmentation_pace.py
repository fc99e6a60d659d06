"""`Allocator.defragment` waits neither for `vkFreeMemory` nor for one slide after the other."""

from __future__ import annotations

import time

import pytest
from support import Check, check_statistics, is_simulated
from test_defragmentation import VERTEX, check_contents, like, scattered
from test_defragmentation_slides import random_bytes

from vk_mem import Allocator, Buffer, DeviceMemoryEvent, Pool, SimulatedDevice

MIB = 1 << 20
SLOW = 1.0
"""The seconds that each `vkFreeMemory` takes."""


def half_empty(allocator: Allocator, count: int = 24) -> tuple[Pool, list[Buffer]]:
    """A pool with blocks of 1 MiB in which half of the bytes are free, and what is in them."""
    pool = allocator.create_pool(memory_type_index=0, block_size=MIB, movable=True)
    all_of_them = [allocator.create_buffer(MIB // 4, VERTEX, pool=pool) for _ in range(count)]
    for it in all_of_them[::2]:
        it.destroy()
    assert pool.statistics().block_count == count // 4
    return pool, all_of_them[1::2]


def test_frames_do_not_wait_for_blocks_that_are_given_back(simulated: SimulatedDevice) -> None:
    with Allocator(simulated, frames_in_flight=2) as allocator:
        pool, live = half_empty(allocator)
        simulated.set_latency(SLOW, "vkFreeMemory")
        slowest = 0.0
        for frame in range(1, 12):
            begun = time.perf_counter()
            allocator.set_current_frame_index(frame)
            allocator.defragment_step(pool=pool)
            slowest = max(slowest, time.perf_counter() - begun)
        assert slowest < SLOW
        assert pool.statistics().block_count <= 4
        allocator.trim()
        assert simulated.call_count("vkFreeMemory") >= 2
        allocator.destroy_many(live)
        # The rest is freed quickly.
        simulated.set_latency(0, "vkFreeMemory")
    assert simulated.live_memory_objects == 0 and not simulated.violations


def test_a_run_gives_blocks_back_beside_its_moves_and_waits_in_the_end(
    simulated: SimulatedDevice,
) -> None:
    with Allocator(simulated) as allocator:
        pool, live = half_empty(allocator)
        told: list[DeviceMemoryEvent] = []
        allocator.on_device_memory(told.append)
        simulated.set_latency(0.1, "vkFreeMemory")
        done = allocator.defragment(pool=pool)
        freed = done.device_memory_blocks_freed
        assert freed >= 2 and done.bytes_freed == freed * MIB
        assert simulated.call_count("vkFreeMemory") >= freed
        left = allocator.calculate_statistics().total.block_count
        assert sum(it.block_count for it in allocator.heap_budgets()) == left
        simulated.set_latency(0, "vkFreeMemory")
        allocator.destroy_many(live)
    assert [it.kind for it in told].count("free") >= freed


def test_a_request_finds_the_memory_that_is_being_given_back() -> None:
    simulated = SimulatedDevice(heaps=[(64 * MIB, 1)], types=[(0, 1)])
    with Allocator(simulated, heap_size_limits=[6 * MIB]) as allocator:
        pool, live = half_empty(allocator)
        simulated.set_latency(0.2, "vkFreeMemory")
        freed = allocator.defragment(pool=pool).device_memory_blocks_freed
        assert freed >= 2
        large = [
            allocator.create_buffer(MIB, VERTEX, flags="dedicated_memory") for _ in range(freed)
        ]
        allocator.destroy_many([*live, *large])


@pytest.mark.parametrize("gap", [4096, MIB // 10, MIB // 2])
def test_slides_of_many_blocks_are_copied_side_by_side(allocator: Allocator, gap: int) -> None:
    check = Check(allocator)
    contents: dict[Buffer, bytes] = {}
    below, above = [], []
    with allocator.create_pool(memory_type_index=like(allocator), block_size=4 * MIB) as pool:
        gap = gap // 4096 * 4096
        for index in range(4):
            below.append(allocator.create_buffer(gap, VERTEX, pool=pool))
            for part in range(3):
                it = allocator.create_buffer(MIB, VERTEX, pool=pool, movable=True)
                contents[it] = random_bytes(MIB, 10 * index + part)
                check.write(it, contents[it])
            above.append(allocator.create_buffer(MIB - gap, VERTEX, pool=pool))
        assert pool.statistics().block_count == 4
        offsets = {it: it.allocation.offset for it in contents}
        allocator.destroy_many(below)
        simulated = allocator.device if is_simulated(allocator.device) else None
        calls = simulated.call_count("vkAllocateMemory") if simulated else 0
        done = allocator.defragment(pool=pool, algorithm="full")
        if simulated:
            # Through other memory, which is allocated once, go slides by 4 KiB alone.
            assert simulated.call_count("vkAllocateMemory") - calls <= (gap < MIB // 16)
        assert done.allocations_moved >= 8
        assert sum(it.allocation.offset < before for it, before in offsets.items()) >= 8
        check_contents(allocator, contents)
        check_statistics(allocator)
        allocator.destroy_many([*contents, *above])


def test_a_step_of_many_moves_is_submitted_in_parts(allocator: Allocator) -> None:
    with allocator.create_pool(
        memory_type_index=like(allocator), block_size=4 * MIB, movable=True
    ) as pool:
        contents = scattered(allocator, pool=pool, count=300)
        done = allocator.defragment(pool=pool, algorithm="full")
        assert done.allocations_moved > 64
        check_contents(allocator, contents)
        allocator.destroy_many(contents)
