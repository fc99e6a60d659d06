"""`Allocator(defragment_when_full=True)`, and `defragment` inside of `on_out_of_memory`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support import RGBA8, Check, check_statistics, pattern

import vk_mem
from vk_mem import (
    Allocator,
    Buffer,
    BufferUsage,
    ImageUsage,
    Move,
    OutOfDeviceMemoryError,
    SimulatedDevice,
)

VERTEX = BufferUsage.VERTEX_BUFFER
COPIED = VERTEX | BufferUsage.TRANSFER_SRC | BufferUsage.TRANSFER_DST
MIB = 1 << 20
SIZE = 40_000


def full_pool(
    allocator: Allocator, *, fallback: bool = False, **keywords: Any
) -> tuple[vk_mem.Pool, dict[Buffer, bytes]]:
    """A pool of two blocks, half of which is free in pieces, and what is in the buffers."""
    pool = allocator.create_pool(
        memory_type_index=0, block_size=MIB, max_block_count=2, fallback=fallback
    )
    buffers = []
    for _ in range(2 * (MIB // SIZE)):
        buffers.append(allocator.create_buffer(SIZE, COPIED, pool=pool, **keywords))
    assert pool.statistics().block_count == 2
    allocator.destroy_many(buffers[::2])
    contents = {it: pattern(SIZE, index) for index, it in enumerate(buffers[1::2])}
    for it, data in contents.items():
        Check(allocator).write(it, data)
    return pool, contents


def check_contents(allocator: Allocator, contents: dict[Buffer, bytes]) -> None:
    for it, data in contents.items():
        assert Check(allocator).read(it) == data
    check_statistics(allocator)


@pytest.mark.parametrize("when_full", [False, True])
@pytest.mark.parametrize("way", ["buffer", "buffers", "memory", "pages"])
def test_room_is_made_before_a_request_fails(
    simulated: SimulatedDevice, when_full: bool, way: str
) -> None:
    with Allocator(simulated, defragment_when_full=when_full) as allocator:
        pool, contents = full_pool(allocator, movable=True)
        made: list[Any] = []
        try:
            if way == "buffer":
                made.append(allocator.create_buffer(5 * SIZE, VERTEX, pool=pool))
            elif way == "buffers":
                made.extend(allocator.create_buffers([5 * SIZE] * 2, VERTEX, pool=pool))
            elif way == "memory":
                made.append(allocator.allocate_memory(5 * SIZE, pool=pool))
            else:
                made.extend(allocator.allocate_memory_pages(5 * SIZE, 256, 2, pool=pool))
        except OutOfDeviceMemoryError:
            assert not when_full
        assert bool(made) == when_full
        assert (sum(it.generation for it in contents) > 0) == when_full
        check_contents(allocator, contents)
        allocator.destroy_many([*contents, *made])
        pool.close()


def test_default_pools_make_room(simulated: SimulatedDevice) -> None:
    heaps = len(simulated.memory_properties.memory_heaps)
    with Allocator(
        simulated,
        heap_size_limits=[4 * MIB] * heaps,
        preferred_block_size=MIB,
        preferred_small_heap_block_size=MIB,
        defragment_when_full=True,
    ) as allocator:
        buffers = []
        with pytest.raises(OutOfDeviceMemoryError):
            while True:
                buffers.append(allocator.create_buffer(SIZE, VERTEX, movable=True))
        assert sum(it.generation for it in buffers) == 0
        allocator.destroy_many(buffers[::2])
        contents = {it: pattern(SIZE, index) for index, it in enumerate(buffers[1::2])}
        for it, data in contents.items():
            Check(allocator).write(it, data)
        large = allocator.create_buffer(6 * SIZE, VERTEX)
        assert sum(it.generation for it in contents) > 0
        check_contents(allocator, contents)
        allocator.destroy_many([*contents, large])


def test_nothing_moves_where_that_cannot_help(simulated: SimulatedDevice) -> None:
    with Allocator(simulated, defragment_when_full=True) as allocator:
        pool, contents = full_pool(allocator)
        with pytest.raises(OutOfDeviceMemoryError):
            allocator.create_buffer(5 * SIZE, VERTEX, pool=pool)
        fixed = list(contents)
        check_contents(allocator, contents)
        other, contents = full_pool(allocator, movable=True)
        # A request of another pool.
        with pytest.raises(OutOfDeviceMemoryError):
            allocator.create_buffer(5 * SIZE, VERTEX, pool=pool)
        assert sum(it.generation for it in contents) == 0
        allocator.destroy_many([*fixed, *contents])
        pool.close()
        other.close()


def test_what_a_callback_creates_starts_no_further_moves(simulated: SimulatedDevice) -> None:
    with Allocator(simulated, defragment_when_full=True) as allocator:
        pool, contents = full_pool(allocator, movable=True)
        inside: list[int] = []

        @allocator.on_move
        def moved(moves: list[Move]) -> None:
            inside.append(len(moves))
            with pytest.raises(OutOfDeviceMemoryError):
                allocator.create_buffer(MIB - 4096, VERTEX, pool=pool)

        depth: list[OutOfDeviceMemoryError] = []
        allocator.on_out_of_memory(lambda error: bool(depth.append(error)))  # type: ignore[arg-type]
        made = allocator.create_buffer(5 * SIZE, VERTEX, pool=pool)
        # The failures inside asked nobody.
        assert inside and depth == []
        allocator.on_move(None)
        check_contents(allocator, contents)
        allocator.destroy_many([*contents, made])
        pool.close()


def test_a_callback_for_lacking_memory_may_defragment(simulated: SimulatedDevice) -> None:
    with Allocator(simulated) as allocator:
        pool, contents = full_pool(allocator, movable=True)
        calls: list[int] = []

        @allocator.on_out_of_memory
        def handle(error: vk_mem.VkMemError) -> bool:
            calls.append(allocator.defragment(pool=pool, algorithm="full").allocations_moved)
            return len(calls) == 1

        made = allocator.create_buffer(5 * SIZE, VERTEX, pool=pool)
        assert len(calls) == 1 and calls[0] > 0
        check_contents(allocator, contents)
        allocator.destroy_many([*contents, made])
        pool.close()


def test_frames_in_flight_keep_the_old_places(simulated: SimulatedDevice) -> None:
    with Allocator(simulated, frames_in_flight=2, defragment_when_full=True) as allocator:
        allocator.set_current_frame_index(1)
        pool, contents = full_pool(allocator, movable=True)
        allocator.set_current_frame_index(9)
        with pytest.raises(OutOfDeviceMemoryError):
            allocator.create_buffer(10 * SIZE, VERTEX, pool=pool)
        for frame in range(10, 40, 5):
            allocator.set_current_frame_index(frame)
            try:
                made = allocator.create_buffer(10 * SIZE, VERTEX, pool=pool)
                break
            except OutOfDeviceMemoryError:
                continue
        else:
            pytest.fail("never")
        check_contents(allocator, contents)
        allocator.destroy_many([*contents, made])
        allocator.set_current_frame_index(60)
        pool.close()


def test_a_failure_of_the_moves_is_that_of_the_request(simulated: SimulatedDevice) -> None:
    """Each driver call fails in turn: the request succeeds or raises what it would have raised."""
    with Allocator(simulated, defragment_when_full=True) as allocator:
        ends = set()
        for number in range(0, 120, 10):
            pool, contents = full_pool(allocator, movable=True)
            simulated.fail_call(number)
            try:
                made = [allocator.create_buffer(5 * SIZE, VERTEX, pool=pool)]
            except vk_mem.VkMemError as error:
                made = []
                assert isinstance(error, OutOfDeviceMemoryError)
            simulated.clear_failures()
            ends.add(bool(made))
            check_contents(allocator, contents)
            allocator.destroy_many([*contents, *made])
            pool.close()
        assert ends == {True, False}


def types_in_order(allocator: Allocator) -> list[int]:
    """The memory types that such a buffer gets, the best first."""
    found: list[int] = []
    with allocator.create_buffer(SIZE, COPIED) as buffer:
        found.append(buffer.allocation.memory_type_index)
    while True:
        left = sum(1 << it for it in range(32) if it not in found)
        try:
            with allocator.create_buffer(SIZE, COPIED, memory_type_bits=left) as buffer:
                found.append(buffer.allocation.memory_type_index)
        except vk_mem.FeatureNotPresentError:
            return found


def scattered_over_all(allocator: Allocator, types: list[int]) -> dict[Buffer, bytes]:
    """Each memory type full, with every second buffer destroyed."""
    contents: dict[Buffer, bytes] = {}
    for memory_type in types:
        made = []
        try:
            while True:
                bits = 1 << memory_type
                made.append(
                    allocator.create_buffer(SIZE, COPIED, memory_type_bits=bits, movable=True)
                )
        except OutOfDeviceMemoryError:
            allocator.destroy_many(made[::2])
        for index, it in enumerate(made[1::2]):
            contents[it] = pattern(SIZE, index)
            Check(allocator).write(it, contents[it])
    return contents


@pytest.mark.parametrize("when_full", [False, True])
@pytest.mark.parametrize("way", ["plain", "keywords", "buffers", "image", "memory", "pages"])
def test_room_is_made_before_a_worse_memory_type_is_used(
    make_simulated: Callable[..., SimulatedDevice], when_full: bool, way: str
) -> None:
    """As otherwise resources sink into system memory one after the other (DXVK #4823)."""
    device = make_simulated("discrete-8gib")
    heaps = len(device.memory_properties.memory_heaps)
    with Allocator(
        device,
        # The staging of the test takes host memory.
        heap_size_limits=[4 * MIB, None, None][:heaps],
        preferred_block_size=MIB,
        preferred_small_heap_block_size=MIB,
        defragment_when_full=when_full,
    ) as allocator:
        best, worse = types_in_order(allocator)[:2]
        contents = scattered_over_all(allocator, [best])
        assert {it.allocation.memory_type_index for it in contents} == {best}
        both = 1 << best | 1 << worse
        made: list[Any] = []
        if way == "plain":
            made.append(allocator.create_buffer(5 * SIZE, VERTEX))
        elif way == "keywords":
            made.append(allocator.create_buffer(5 * SIZE, VERTEX, name="large"))
        elif way == "buffers":
            made.extend(allocator.create_buffers([5 * SIZE] * 2, VERTEX))
        elif way == "image":
            made.append(allocator.create_image(RGBA8, (250, 200), ImageUsage.SAMPLED))
        elif way == "memory":
            made.append(allocator.allocate_memory(5 * SIZE, memory_type_bits=both))
        else:
            made.extend(allocator.allocate_memory_pages(5 * SIZE, 256, 2, memory_type_bits=both))
        types = {getattr(it, "allocation", it).memory_type_index for it in made}
        has_moved = sum(it.generation for it in contents) > 0
        assert (types == {best}, has_moved) == (when_full, when_full), (best, worse, types)
        check_contents(allocator, contents)
        allocator.destroy_many([*contents, *made])


def test_worse_memory_types_make_room_as_well(
    make_simulated: Callable[..., SimulatedDevice],
) -> None:
    """The best one is full of what does not move."""
    device = make_simulated("discrete-8gib")
    heaps = len(device.memory_properties.memory_heaps)
    with Allocator(
        device,
        heap_size_limits=[4 * MIB] * heaps,
        preferred_block_size=MIB,
        preferred_small_heap_block_size=MIB,
        defragment_when_full=True,
    ) as allocator:
        best, worse = types_in_order(allocator)[:2]
        fixed = []
        with pytest.raises(OutOfDeviceMemoryError):
            while True:
                fixed.append(allocator.create_buffer(SIZE, COPIED, memory_type_bits=1 << best))
        allocator.destroy_many(fixed[::2])
        scattered = []
        with pytest.raises(OutOfDeviceMemoryError):
            while True:
                scattered.append(
                    allocator.create_buffer(SIZE, COPIED, memory_type_bits=1 << worse, movable=True)
                )
        allocator.destroy_many(scattered[::2])
        large = allocator.create_buffer(5 * SIZE, VERTEX)
        assert large.allocation.memory_type_index == worse
        assert sum(it.generation for it in scattered[1::2]) > 0
        allocator.destroy_many([*fixed[1::2], *scattered[1::2], large])


def test_what_does_not_help_is_not_tried_for_every_request(
    make_simulated: Callable[..., SimulatedDevice],
) -> None:
    """What moves is not looked for again as long as no more is free."""
    device = make_simulated("discrete-8gib")
    with Allocator(
        device,
        heap_size_limits=[4 * MIB, None],
        preferred_block_size=MIB,
        preferred_small_heap_block_size=MIB,
        defragment_when_full=True,
    ) as allocator:
        best, worse = types_in_order(allocator)[:2]
        contents = scattered_over_all(allocator, [best])
        made = []
        while True:
            made.append(allocator.create_buffer(5 * SIZE, VERTEX))
            if made[-1].allocation.memory_type_index == worse:
                break
        generation = sum(it.generation for it in contents)
        assert generation > 0 and len(made) > 4
        made += [allocator.create_buffer(5 * SIZE, VERTEX) for _ in range(5)]
        assert sum(it.generation for it in contents) == generation
        check_contents(allocator, contents)
        # Room for one more, in pieces.
        for it in [it for it in contents][:12]:
            it.destroy()
            del contents[it]
        made.append(allocator.create_buffer(5 * SIZE, VERTEX))
        assert made[-1].allocation.memory_type_index == best
        check_contents(allocator, contents)
        allocator.destroy_many([*contents, *made])
