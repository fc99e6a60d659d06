"""What is mapped, viewed, in flight, bound to or moving is never lost."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from support import (
    IMAGE_TRANSFER,
    LOSABLE,
    RANDOM,
    RGBA8,
    TAKES,
    TRANSFER,
    pattern,
)

from vk_mem import (
    Allocator,
    BufferUsage,
    Device,
    LostError,
    OutOfDeviceMemoryError,
    Resource,
    SimulatedDevice,
)

VERTEX = BufferUsage.VERTEX_BUFFER
KIB, MIB = 1 << 10, 1 << 20


@contextlib.contextmanager
def mapped(allocator: Allocator, it: Any) -> Iterator[None]:
    with it.map():
        yield


@contextlib.contextmanager
def viewed(allocator: Allocator, it: Any) -> Iterator[None]:
    view = memoryview(it.map())
    yield
    view.release()


@contextlib.contextmanager
def as_array(allocator: Allocator, it: Any) -> Iterator[None]:
    array = np.asarray(it)
    yield
    del array


@contextlib.contextmanager
def aliased(allocator: Allocator, it: Any) -> Iterator[None]:
    with allocator.create_aliasing_buffer(it, 256, TRANSFER):
        yield


@contextlib.contextmanager
def alias_retired(allocator: Allocator, it: Any) -> Iterator[None]:
    allocator.create_aliasing_buffer(it, 256, TRANSFER).retire()
    yield


HOLDS = [mapped, viewed, as_array, aliased]


@pytest.mark.parametrize("hold", HOLDS)
def test_what_is_held_is_not_lost(
    device: Device, hold: Callable[[Allocator, Any], contextlib.AbstractContextManager[None]]
) -> None:
    with Allocator(device, frames_in_flight=0) as allocator:
        flags = LOSABLE | RANDOM
        with allocator.create_buffer(4 * KIB, TRANSFER, flags=flags) as example:
            index = example.allocation.memory_type_index
        with allocator.create_pool(
            memory_type_index=index, block_size=64 * KIB, max_block_count=1
        ) as pool:
            its = [
                allocator.create_buffer(4 * KIB, TRANSFER, flags=flags, pool=pool)
                for _ in range(16)
            ]
            frame = 1
            allocator.set_current_frame_index(frame)
            with hold(allocator, its[0]):
                frame += 10
                allocator.set_current_frame_index(frame)
                allocator.touch_many(its[8:])
                frame += 1
                allocator.set_current_frame_index(frame)
                taken = allocator.create_buffer(4 * KIB, TRANSFER, flags=TAKES, pool=pool)
                assert not its[0].is_lost and sum(it.is_lost for it in its) == 1
                allocator.set_current_frame_index(frame + 1)
                assert pool.make_allocations_lost() == 14
                assert not its[0].is_lost
                with pytest.raises(OutOfDeviceMemoryError):
                    allocator.create_buffer(64 * KIB, TRANSFER, flags=TAKES, pool=pool)
                frame += 10
                allocator.set_current_frame_index(frame)
            if hold in (mapped, viewed, as_array):
                assert pool.make_allocations_lost() == 0, "the host may have written in this frame"
            allocator.set_current_frame_index(frame + 1)
            assert pool.make_allocations_lost() == 1 and its[0].is_lost
            allocator.validate()
            allocator.destroy_many([*its, taken])


def test_a_neighbour_that_is_mapped_holds_nobody(simulated_allocator: Allocator) -> None:
    allocator = simulated_allocator
    with (
        allocator.create_buffer(256, TRANSFER, flags=LOSABLE | RANDOM) as it,
        allocator.create_buffer(256, TRANSFER, flags=RANDOM) as other,
        other.map(),
    ):
        for frame in range(1, 5):
            allocator.set_current_frame_index(frame)
        assert other.allocation.device_memory == it.allocation.device_memory
        assert allocator.make_allocations_lost() == 0, "asked for in this frame"
        for frame in range(5, 10):
            allocator.set_current_frame_index(frame)
        assert allocator.make_allocations_lost() == 1 and it.is_lost


def test_a_retired_alias_holds_until_its_frame(device: Device) -> None:
    with Allocator(device, frames_in_flight=1) as allocator:
        its = allocator.allocate_memory(64 * KIB, 256, flags=LOSABLE)
        alias = allocator.create_aliasing_buffer(its, 256, TRANSFER)
        allocator.set_current_frame_index(5)
        alias.retire()
        assert allocator.make_allocations_lost() == 0
        allocator.set_current_frame_index(6)
        assert allocator.make_allocations_lost() == 0
        allocator.set_current_frame_index(7)
        assert allocator.make_allocations_lost() == 1 and its.is_lost
        its.free()


def test_a_bound_buffer_of_ours(device: Device) -> None:
    from support import DONT_BIND

    with Allocator(device, frames_in_flight=0) as allocator:
        buffer = allocator.create_buffer(256, VERTEX, flags=DONT_BIND)
        memory = allocator.allocate_memory_for_buffer(buffer, bind=True, flags=LOSABLE)
        allocator.set_current_frame_index(5)
        assert allocator.make_allocations_lost() == 0 and not memory.is_lost
        buffer.destroy()
        allocator.set_current_frame_index(6)
        assert allocator.make_allocations_lost() == 1 and memory.is_lost
        memory.free()


def test_a_transfer_in_flight(make_simulated: Any) -> None:
    device: SimulatedDevice = make_simulated("discrete-8gib")
    device.set_completion("held")
    with Allocator(device, frames_in_flight=0) as allocator:
        it = allocator.create_buffer(4 * KIB, TRANSFER, flags=LOSABLE)
        image = allocator.create_image(RGBA8, (16, 16), IMAGE_TRANSFER, flags=LOSABLE)
        transfers = [
            allocator.transfers.upload(pattern(4 * KIB), it),
            allocator.transfers.upload(pattern(1024), image),
        ]
        allocator.set_current_frame_index(5)
        assert allocator.make_allocations_lost() == 0
        allocator.set_current_frame_index(6)
        assert allocator.make_allocations_lost() == 0
        device.complete_submissions()
        [transfer.wait() for transfer in transfers]
        assert allocator.make_allocations_lost() == 0, "used in this frame"
        allocator.set_current_frame_index(7)
        assert allocator.make_allocations_lost() == 2 and it.is_lost and image.is_lost
        with pytest.raises(LostError):
            it.upload(b"x")
        allocator.destroy_many([it, image])


def test_a_transfer_that_has_ended_holds_nobody(make_simulated: Any) -> None:
    device: SimulatedDevice = make_simulated("discrete-8gib")
    device.set_completion("held")
    with Allocator(device, frames_in_flight=0) as allocator:
        it = allocator.create_buffer(4 * KIB, TRANSFER, flags=LOSABLE)
        transfer = allocator.transfers.upload(pattern(4 * KIB), it)
        allocator.set_current_frame_index(5)
        device.complete_submissions()
        allocator.make_allocations_lost()
        allocator.set_current_frame_index(6)
        allocator.make_allocations_lost()
        assert it.is_lost
        transfer.wait()
        it.destroy()


def test_what_moves(device: Device) -> None:
    with Allocator(device, frames_in_flight=0) as allocator:
        its: list[Resource] = [
            allocator.create_buffer(40_000, VERTEX, movable=True, flags=LOSABLE) for _ in range(64)
        ]
        allocator.destroy_many(its[::2])
        its = its[1::2]
        allocator.set_current_frame_index(1)
        moved = allocator.defragment(algorithm="full").allocations_moved
        assert moved > 0
        allocator.validate()
        generation = {it: it.generation for it in its}
        for it in its[:10]:
            assert it.touch()
        allocator.set_current_frame_index(2)
        allocator.set_current_frame_index(3)
        for it in its[10:20]:
            assert it.touch()
        assert allocator.make_allocations_lost() == len(its) - 10
        assert [it.is_lost for it in its] == [not 10 <= index < 20 for index in range(len(its))]
        assert sum(generation.values()) == moved
        allocator.validate()
        allocator.defragment(algorithm="full")
        allocator.set_current_frame_index(4)
        allocator.set_current_frame_index(5)
        assert allocator.make_allocations_lost() == 10
        allocator.destroy_many(its)


@pytest.mark.parametrize("device", ["discrete-8gib", "driver"], indirect=True)
def test_threads_that_map_and_others_that_take(device: Device) -> None:
    """Whatever a thread has open is never taken, and keeps its bytes."""
    with Allocator(device, frames_in_flight=1) as allocator:
        flags = LOSABLE | RANDOM | TAKES
        with allocator.create_buffer(4 * KIB, TRANSFER, flags=flags) as example:
            index = example.allocation.memory_type_index
        with allocator.create_pool(
            memory_type_index=index, block_size=256 * KIB, max_block_count=1
        ) as pool:
            stop = threading.Event()
            failures: list[BaseException] = []
            lost = [0]

            def work(seed: int) -> None:
                made = None
                data = pattern(4 * KIB, seed)
                try:
                    while not stop.is_set():
                        if made is None or not made.touch():
                            lost[0] += made is not None
                            try:
                                made = allocator.create_buffer(
                                    4 * KIB, TRANSFER, pool=pool, flags=flags
                                )
                            except OutOfDeviceMemoryError:
                                made = None
                                continue
                        with contextlib.suppress(LostError), made.map() as view:
                            view[:] = data
                            for _ in range(50):
                                assert bytes(view) == data
                                assert not made.is_lost
                    if made is not None:
                        made.destroy()
                except BaseException as error:
                    failures.append(error)

            threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
            [it.start() for it in threads]
            for frame in range(1, 150):
                allocator.set_current_frame_index(frame)
                with contextlib.suppress(OutOfDeviceMemoryError):
                    allocator.create_buffer(
                        128 * KIB, TRANSFER, pool=pool, flags=TAKES | RANDOM
                    ).destroy()
                pool.make_allocations_lost()
            stop.set()
            [it.join() for it in threads]
            assert failures == []
            allocator.validate()
