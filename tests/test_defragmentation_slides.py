"""`Allocator.defragment` moves resources down by less than their own size."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import numpy as np
import pytest
from support import RGBA8, Check, check_statistics, pattern

import vk_mem
from vk_mem import Allocator, Buffer, BufferUsage, Image, ImageUsage, Move, SimulatedDevice

VERTEX = BufferUsage.VERTEX_BUFFER
MIB = 1 << 20


def memory_type(allocator: Allocator, *, image: bool = False) -> int:
    """The memory type of movable buffers, or images."""
    if image:
        with allocator.create_image(RGBA8, (64, 64), ImageUsage.SAMPLED, movable=True) as it:
            return it.allocation.memory_type_index
    with allocator.create_buffer(4096, VERTEX, movable=True) as buffer:
        return buffer.allocation.memory_type_index


def random_bytes(size: int, seed: int) -> bytes:
    """As `pattern`, but quick."""
    return np.random.default_rng(seed).bytes(size)


def live_allocations(allocator: Allocator) -> int:
    """Those of the transfers included."""
    return allocator.calculate_statistics().total.allocation_count


def above_a_gap(allocator: Allocator, pool: vk_mem.Pool, gap: int, size: int) -> Buffer:
    """A movable buffer directly above free memory of a pool that is empty but for it."""
    below = allocator.create_buffer(gap, VERTEX, pool=pool)
    buffer = allocator.create_buffer(size, VERTEX, pool=pool, movable=True)
    assert buffer.allocation.offset >= gap > below.allocation.offset == 0
    below.destroy()
    return buffer


@pytest.mark.parametrize(
    ("gap", "size"),
    [
        pytest.param(MIB, 64 * MIB, id="in pieces"),
        pytest.param(MIB, MIB + 4, id="a piece and a little"),
        pytest.param(4096, 8 * MIB, id="through other memory"),
    ],
)
@pytest.mark.parametrize("algorithm", ["full", "extensive"])
def test_a_lone_buffer_slides_over_a_smaller_gap(
    allocator: Allocator, gap: int, size: int, algorithm: Any
) -> None:
    with allocator.create_pool(
        memory_type_index=memory_type(allocator), block_size=66 * MIB
    ) as pool:
        buffer = above_a_gap(allocator, pool, gap, size)
        data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
        buffer.upload(data)
        handle, count = buffer.handle, live_allocations(allocator)
        done = allocator.defragment(pool=pool, algorithm=algorithm)
        assert live_allocations(allocator) == count
        assert buffer.allocation.offset == 0 and buffer.handle != handle
        assert (done.allocations_moved, done.bytes_moved) == (1, buffer.allocation.size)
        assert done.not_moved == {} and buffer.generation == 1
        assert (np.frombuffer(buffer.download(), np.uint8) == data).all()
        assert allocator.defragment(pool=pool, algorithm=algorithm).allocations_moved == 0
        check_statistics(allocator)
        buffer.destroy()


def test_steps_and_fast_runs_do_not_slide(simulated_allocator: Allocator) -> None:
    allocator = simulated_allocator
    with allocator.create_pool(memory_type_index=0, block_size=8 * MIB) as pool:
        buffer = above_a_gap(allocator, pool, MIB, 4 * MIB)
        assert allocator.defragment(pool=pool, algorithm="fast").allocations_moved == 0
        for _ in range(4):
            assert allocator.defragment_step(pool=pool, algorithm="full").allocations_moved == 0
        assert buffer.allocation.offset > 0
        buffer.destroy()


@pytest.mark.parametrize("frames_in_flight", [0, 2])
def test_nothing_slides_under_a_frame_in_flight(
    simulated: SimulatedDevice, frames_in_flight: int
) -> None:
    with Allocator(simulated, frames_in_flight=frames_in_flight) as allocator:
        allocator.set_current_frame_index(1)
        pool = allocator.create_pool(memory_type_index=0, block_size=8 * MIB)
        buffer = above_a_gap(allocator, pool, MIB, 4 * MIB)
        Check(allocator).write(buffer, random_bytes(4 * MIB, 1))
        done = allocator.defragment(pool=pool, algorithm="full")
        assert done.allocations_moved == (frames_in_flight == 0)
        assert (buffer.allocation.offset == 0) == (frames_in_flight == 0)
        assert Check(allocator).read(buffer) == random_bytes(4 * MIB, 1)
        buffer.destroy()
        allocator.set_current_frame_index(5)
        pool.close()


def test_an_image_slides(allocator: Allocator) -> None:
    index = memory_type(allocator, image=True)
    with allocator.create_pool(memory_type_index=index, block_size=16 * MIB) as pool:
        keywords: dict[str, Any] = {"pool": pool, "movable": True}
        below = allocator.create_image(RGBA8, (300, 200), ImageUsage.SAMPLED, **keywords)
        image = allocator.create_image(
            RGBA8, (400, 300), ImageUsage.SAMPLED, array_layers=3, **keywords
        )
        unwritten = allocator.create_image(RGBA8, (500, 400), ImageUsage.SAMPLED, **keywords)
        texels = np.random.default_rng(1).integers(0, 256, (3, 300, 400, 4), np.uint8)
        image.upload(texels)
        layout, count = image.layout, live_allocations(allocator)
        assert image.allocation.offset > 0
        below.destroy()
        moved: list[Move] = []
        allocator.on_move(moved.extend)
        allocator.defragment(pool=pool, algorithm="full")
        allocator.on_move(None)
        assert live_allocations(allocator) == count - 1
        assert image.allocation.offset == 0 and image.layout == layout
        assert {it.resource for it in moved} == {image, unwritten}
        assert (image.download() == texels).all()
        check_statistics(allocator)
        image.destroy()
        unwritten.destroy()


def test_it_stays_where_there_is_no_memory_for_the_detour(simulated: SimulatedDevice) -> None:
    heaps = len(simulated.memory_properties.memory_heaps)
    with Allocator(simulated, heap_size_limits=[10 * MIB] * heaps) as allocator:
        pool = allocator.create_pool(memory_type_index=0, block_size=8 * MIB)
        buffer = above_a_gap(allocator, pool, 4096, 7 * MIB)
        done = allocator.defragment(pool=pool, algorithm="full")
        assert done.not_moved == {"no room": 1} and done.allocations_moved == 0
        assert buffer.allocation.offset > 0
        buffer.destroy()
        pool.close()


def test_blocks_have_no_gaps_afterwards(allocator: Allocator) -> None:
    """Buffers of random sizes, half of which were destroyed."""
    chance, check = random.Random(3), Check(allocator)
    index = memory_type(allocator)
    with allocator.create_pool(memory_type_index=index, block_size=4 * MIB, movable=True) as pool:
        sizes = [chance.randrange(1, 1024) * 256 for _ in range(60)]
        buffers = [allocator.create_buffer(size, VERTEX, pool=pool) for size in sizes]
        for it in chance.sample(buffers, len(buffers) // 2):
            it.destroy()
        contents = {it: pattern(it.size, at) for at, it in enumerate(buffers) if it.alive}
        for it, data in contents.items():
            check.write(it, data)
        allocator.defragment(pool=pool, algorithm="full")
        for it, data in contents.items():
            assert check.read(it) == data
        by_block: dict[int, list[tuple[int, int]]] = {}
        for it in contents:
            place = it.allocation
            by_block.setdefault(place.device_memory, []).append((place.offset, place.size))
        for places in by_block.values():
            ends = [0, *(offset + size for offset, size in sorted(places))]
            gaps = [offset - end for (offset, _), end in zip(sorted(places), ends, strict=False)]
            # Of an alignment at most.
            assert max(gaps) <= 256
        check_statistics(allocator)
        allocator.destroy_many(contents)


@pytest.mark.parametrize("gap", [4096, MIB], ids=["through other memory", "in pieces"])
def test_a_failure_leaves_it_where_it_is(simulated: SimulatedDevice, gap: int) -> None:
    size, failures = 5 * MIB, 0
    with Allocator(simulated, frames_in_flight=0) as allocator:
        for number in range(12):
            pool = allocator.create_pool(memory_type_index=0, block_size=8 * MIB)
            buffer = above_a_gap(allocator, pool, gap, size)
            buffer.upload(random_bytes(size, number))
            place = (buffer.handle, buffer.allocation.offset)
            count = live_allocations(allocator)
            simulated.fail_call(number)
            with contextlib.suppress(vk_mem.VkMemError):
                allocator.defragment(pool=pool, algorithm="full")
            simulated.clear_failures()
            assert live_allocations(allocator) == count
            if buffer.allocation.offset > 0:
                failures += 1
                assert (buffer.handle, buffer.allocation.offset) == place
            assert bytes(buffer.download()) == random_bytes(size, number)
            allocator.defragment(pool=pool, algorithm="full")
            assert buffer.allocation.offset == 0
            assert bytes(buffer.download()) == random_bytes(size, number)
            buffer.destroy()
            pool.close()
            check_statistics(allocator)
    assert failures >= 3


def test_images_stay_whole_after_a_failure(simulated: SimulatedDevice) -> None:
    with Allocator(simulated, frames_in_flight=0) as allocator:
        for number in range(14):
            pool = allocator.create_pool(memory_type_index=0, block_size=8 * MIB, movable=True)
            below = allocator.create_image(RGBA8, (64, 64), ImageUsage.SAMPLED, pool=pool)
            image: Image = allocator.create_image(RGBA8, (256, 128), ImageUsage.SAMPLED, pool=pool)
            texels = np.random.default_rng(number).integers(0, 256, (128, 256, 4), np.uint8)
            image.upload(texels)
            below.destroy()
            simulated.fail_call(number)
            with contextlib.suppress(vk_mem.VkMemError):
                allocator.defragment(pool=pool, algorithm="full")
            simulated.clear_failures()
            assert (image.download() == texels).all()
            allocator.defragment(pool=pool, algorithm="full")
            assert image.allocation.offset == 0 and (image.download() == texels).all()
            image.destroy()
            pool.close()
