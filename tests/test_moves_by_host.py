"""Moves of buffers by the host, on devices without a queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bindings import Bound, vulkan_device
from conftest import index_of_the_driver
from support import MAPPED, RANDOM, RGBA8, WRITE, check_statistics
from test_defragmentation_slides import random_bytes

import vk_mem
from vk_mem import Allocator, Buffer, BufferUsage, Device, ImageUsage, Pool, SimulatedDevice

VERTEX = BufferUsage.VERTEX_BUFFER
MIB = 1 << 20
Make = Callable[..., SimulatedDevice]


def type_of(allocator: Allocator, flags: int) -> int:
    with allocator.create_buffer(4096, VERTEX, flags=flags, movable=True) as buffer:
        return buffer.allocation.memory_type_index


def make_pool(allocator: Allocator, flags: int = RANDOM, block_size: int = MIB) -> Pool:
    return allocator.create_pool(
        memory_type_index=type_of(allocator, flags), block_size=block_size, movable=True
    )


def scattered(
    allocator: Allocator, pool: Pool, count: int = 120, size: int = 40_001, flags: int = RANDOM
) -> dict[Buffer, bytes]:
    """Buffers of which every other one was destroyed, and what the host wrote into the others."""
    made = [
        allocator.create_buffer(size + it, VERTEX, pool=pool, flags=flags) for it in range(count)
    ]
    for it in made:
        it.write(random_bytes(it.size, it.size))
    allocator.destroy_many(made[::2])
    return {it: random_bytes(it.size, it.size) for it in made[1::2]}


def check_contents(contents: dict[Buffer, bytes]) -> None:
    for buffer, data in contents.items():
        assert buffer.read() == data


@pytest.mark.parametrize("algorithm", ["fast", "full", "extensive"])
@pytest.mark.parametrize(
    "flags", [RANDOM, RANDOM | MAPPED, WRITE], ids=["random", "mapped", "write"]
)
def test_bytes_stay_on_all_devices(make_simulated: Make, algorithm: Any, flags: int) -> None:
    for profile in SimulatedDevice.profile_names():
        device = make_simulated(profile, queue_flags=0)
        with Allocator(device) as allocator:
            pool = make_pool(allocator, flags)
            contents = scattered(allocator, pool, flags=flags)
            before = pool.statistics().block_count
            done = allocator.defragment(pool=pool, algorithm=algorithm)
            assert done.allocations_moved > 5
            assert algorithm == "fast" or pool.statistics().block_count < before
            assert set(done.not_moved) <= {"mapped"}
            check_contents(contents)
            for it in contents:
                it.write(b"after", 7)
                assert it.read(0, 14) == contents[it][:7] + b"after" + contents[it][12:14]
            check_statistics(allocator)
            allocator.destroy_many(contents)
            pool.close()
        assert device.call_count("vkQueueSubmit") == 0


@pytest.mark.parametrize(("gap", "size"), [(MIB, 6 * MIB), (4096, 2 * MIB), (256, 3001)])
def test_a_buffer_slides_over_a_smaller_gap(make_simulated: Make, gap: int, size: int) -> None:
    for profile in SimulatedDevice.profile_names():
        with Allocator(make_simulated(profile, queue_flags=0)) as allocator:
            pool = make_pool(allocator, block_size=10 * MIB)
            below = allocator.create_buffer(gap, VERTEX, pool=pool, flags=RANDOM)
            buffer = allocator.create_buffer(size, VERTEX, pool=pool, flags=RANDOM)
            above = allocator.create_buffer(2 * gap, VERTEX, pool=pool, flags=RANDOM)
            data = random_bytes(size, size)
            buffer.write(data)
            above.write(random_bytes(2 * gap, 1))
            below.destroy()
            moved = allocator.defragment(pool=pool, algorithm="full").allocations_moved
            assert moved == 2 and buffer.allocation.offset == 0
            assert buffer.read() == data and above.read() == random_bytes(2 * gap, 1)
            allocator.destroy_many([buffer, above])
            pool.close()


def test_what_the_host_does_not_move_is_counted(make_simulated: Make) -> None:
    with Allocator(make_simulated("discrete-8gib", queue_flags=0)) as allocator:
        local = make_pool(allocator, flags=0)
        assert not vk_mem.MemoryPropertyFlags.HOST_VISIBLE & (
            allocator.device.memory_properties.memory_types[local.memory_type_index].property_flags
        )
        buffers = [allocator.create_buffer(40_000, VERTEX, pool=local) for _ in range(60)]
        allocator.destroy_many(buffers[::2])
        places = [(it.handle, it.generation) for it in buffers[1::2]]
        done = allocator.defragment(pool=local, algorithm="full")
        assert done.allocations_moved == 0 and done.not_moved["queue"] > 0
        assert set(done.not_moved) == {"queue"}
        assert [(it.handle, it.generation) for it in buffers[1::2]] == places
        allocator.destroy_many(buffers)
        local.close()


def test_images_stay(make_simulated: Make) -> None:
    with Allocator(make_simulated("integrated", queue_flags=0)) as allocator:
        keywords: dict[str, Any] = {"tiling": "LINEAR", "flags": RANDOM, "movable": True}
        with allocator.create_image(RGBA8, (64, 64), ImageUsage.SAMPLED, **keywords) as it:
            memory_type = it.allocation.memory_type_index
        pool = allocator.create_pool(memory_type_index=memory_type, block_size=MIB)
        images = [
            allocator.create_image(RGBA8, (64, 64), ImageUsage.SAMPLED, pool=pool, **keywords)
            for _ in range(80)
        ]
        allocator.destroy_many(images[::2])
        done = allocator.defragment(pool=pool, algorithm="full")
        assert done.allocations_moved == 0 and done.not_moved["queue"] > 0
        allocator.destroy_many(images)
        pool.close()


@pytest.mark.parametrize("frames_in_flight", [0, 2])
def test_nothing_moves_while_frames_are_in_flight(
    make_simulated: Make, frames_in_flight: int
) -> None:
    """The device may still write to the old places: nobody can wait for that."""
    device = make_simulated("non-coherent", queue_flags=0)
    with Allocator(device, frames_in_flight=frames_in_flight) as allocator:
        pool = make_pool(allocator)
        contents = scattered(allocator, pool)
        allocator.set_current_frame_index(1)
        for call in (
            lambda: allocator.defragment(pool=pool, algorithm="full"),
            lambda: allocator.defragment_step(pool=pool, algorithm="full"),
        ):
            done = call()
            if frames_in_flight:
                assert done.allocations_moved == 0 and done.not_moved["queue"] > 0
        assert any(it.generation for it in contents) == (frames_in_flight == 0)
        check_contents(contents)
        allocator.destroy_many(contents)
        allocator.set_current_frame_index(9)
        pool.close()


def test_the_queue_moves_where_there_is_one(make_simulated: Make) -> None:
    """It moves after all that was submitted to it, for which the host would have to wait."""
    device = make_simulated("non-coherent")
    with Allocator(device) as allocator:
        pool = make_pool(allocator)
        contents = scattered(allocator, pool)
        before = device.call_count("vkQueueSubmit")
        assert allocator.defragment(pool=pool).allocations_moved > 0
        assert device.call_count("vkQueueSubmit") > before
        check_contents(contents)
        allocator.destroy_many(contents)
        pool.close()


CALLS = [
    "vkMapMemory",
    "vkInvalidateMappedMemoryRanges",
    "vkFlushMappedMemoryRanges",
    "vkCreateBuffer",
    "vkBindBufferMemory",
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("slides", [False, True])
def test_a_failure_loses_nothing(make_simulated: Make, call: str, slides: bool) -> None:
    device = make_simulated("non-coherent", queue_flags=0)
    with Allocator(device) as allocator:
        pool = make_pool(allocator, block_size=8 * MIB)
        failed = 0
        for skipped in range(3):
            sizes = [MIB, 2 * MIB, 300_000] if slides else [40_000] * 40
            made = [allocator.create_buffer(it, VERTEX, pool=pool, flags=RANDOM) for it in sizes]
            for number, it in enumerate(made):
                it.write(random_bytes(it.size, number))
            data = {it: it.read() for it in made}
            gone = made[:1] if slides else made[::2]
            places = {it: (it.handle, it.allocation.offset) for it in made if it not in gone}
            allocator.destroy_many(gone)
            try:
                if skipped == 0:
                    device.fail_next(call, 1)
                else:
                    device.fail_call(skipped)
                allocator.defragment(pool=pool, algorithm="full")
            except vk_mem.VkMemError:
                failed += 1
            device.clear_failures()
            for it, (handle, offset) in places.items():
                assert it.read() == data[it], (call, skipped)
                assert (it.handle == handle) == (it.allocation.offset == offset)
            allocator.defragment(pool=pool, algorithm="full")
            for it in places:
                assert it.read() == data[it]
            check_statistics(allocator)
            allocator.destroy_many(made)
        assert failed
        pool.close()


def test_a_flush_that_fails_after_a_slide_is_told(make_simulated: Make) -> None:
    """The old place is overwritten, so the new one it is."""
    device = make_simulated("non-coherent", queue_flags=0)
    with Allocator(device) as allocator:
        pool = make_pool(allocator, block_size=8 * MIB)
        below = allocator.create_buffer(MIB, VERTEX, pool=pool, flags=RANDOM)
        buffer = allocator.create_buffer(4 * MIB, VERTEX, pool=pool, flags=RANDOM)
        data = random_bytes(4 * MIB, 1)
        buffer.write(data)
        below.destroy()
        moves: list[vk_mem.Move] = []
        allocator.on_move(moves.extend)
        device.fail_next("vkFlushMappedMemoryRanges", 1)
        with pytest.raises(vk_mem.VkMemError, match="vkFlushMappedMemoryRanges"):
            allocator.defragment(pool=pool, algorithm="full")
        assert buffer.allocation.offset == 0 and buffer.generation == 1
        assert [it.resource for it in moves] == [buffer]
        moves.clear()
        # Nothing has made the device see the bytes: they are written once more.
        allocator.on_move(None)
        buffer.write(data)
        assert buffer.read() == data
        buffer.destroy()
        pool.close()


@pytest.fixture
def without_queue() -> Iterator[Device]:
    """The driver's device, wrapped without a queue; what the layer says fails the test."""
    with vulkan_device(index_of_the_driver()) as bound:
        yield wrap(bound)


def wrap(bound: Bound) -> Device:
    of = bound.device
    return Device.wrap(
        of.instance, of.physical_device, of.handle, api_version=(1, 1), binding="vulkan"
    )


@pytest.mark.driver
@pytest.mark.parametrize("flags", [RANDOM, RANDOM | MAPPED], ids=["random", "mapped"])
def test_bytes_stay_on_the_driver(without_queue: Device, flags: int) -> None:
    with Allocator(without_queue) as allocator:
        pool = make_pool(allocator, flags)
        contents = scattered(allocator, pool, count=300, flags=flags)
        before = pool.statistics().block_count
        done = allocator.defragment(pool=pool, algorithm="full")
        assert done.allocations_moved > 20 and pool.statistics().block_count < before
        check_contents(contents)
        check_statistics(allocator)
        allocator.destroy_many(contents)
        pool.close()


@pytest.mark.driver
def test_a_buffer_slides_on_the_driver(without_queue: Device) -> None:
    with Allocator(without_queue) as allocator:
        pool = make_pool(allocator, block_size=66 * MIB)
        below = allocator.create_buffer(MIB, VERTEX, pool=pool, flags=RANDOM)
        buffer = allocator.create_buffer(64 * MIB, VERTEX, pool=pool, flags=RANDOM)
        data = random_bytes(64 * MIB, 2)
        buffer.write(data)
        below.destroy()
        assert allocator.defragment(pool=pool, algorithm="full").allocations_moved == 1
        assert buffer.allocation.offset == 0 and buffer.read() == data
        buffer.destroy()
        pool.close()
