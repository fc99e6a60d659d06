"""Room for a large request among small resources: the oldest are lost, the rest moves together."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from support import LOSABLE, RGBA8, TAKES, TRANSFER, check_statistics, pattern
from test_lost_allocations import KIB, MIB, VERTEX, losses, pool_of

import vk_mem
from vk_mem import (
    Allocator,
    Buffer,
    Device,
    ImageUsage,
    Move,
    OutOfDeviceMemoryError,
    SimulatedDevice,
)

SIZE = 16 * KIB
COUNT = 128
LARGE = 32 * SIZE


class Mixed:
    """A full pool of one block. Each buffer was used in another frame, in no order."""

    def __init__(self, device: Device, *, moves: bool = True, **keywords: Any) -> None:
        in_flight = keywords.pop("frames_in_flight", 0)
        algorithm = keywords.pop("algorithm", "tlsf")
        count, fixed = keywords.pop("count", COUNT), keywords.pop("fixed", None)
        self.allocator = Allocator(device, frames_in_flight=in_flight, defragment_when_full=moves)
        self.pool = pool_of(self.allocator, count * SIZE, algorithm=algorithm)
        self.buffers: list[Buffer] = []
        while len(self.buffers) < count:
            movable = fixed is None or len(self.buffers) % fixed > 0
            try:
                self.buffers.append(self.create(SIZE, flags=LOSABLE, movable=movable))
            except OutOfDeviceMemoryError:
                break
        assert len(self.buffers) > count * 3 // 4
        self.contents = {it: pattern(64, at) for at, it in enumerate(self.buffers)}
        for it, data in self.contents.items():
            it.upload(data)
        self.by_age = self.buffers[:]
        random.Random(5).shuffle(self.by_age)
        self.frame = 0
        self.use_in_order()

    def next_frame(self, count: int = 1) -> None:
        self.frame += count
        self.allocator.set_current_frame_index(self.frame)

    def use_in_order(self) -> None:
        for it in self.by_age:
            self.next_frame()
            it.touch()
        self.next_frame(10)

    def create(self, size: int, flags: int = TAKES, **keywords: Any) -> Buffer:
        usage = TRANSFER | VERTEX
        return self.allocator.create_buffer(size, usage, pool=self.pool, flags=flags, **keywords)

    def lost(self) -> list[int]:
        """Who was lost, by the place in the order of age."""
        return losses(self.by_age)

    def moved(self) -> int:
        return sum(it.generation for it in self.buffers if not it.is_lost)

    def check(self) -> None:
        """What stays has its contents, where it is now. Looking at them is a use."""
        self.allocator.validate()
        for it, data in self.contents.items():
            if not it.is_lost:
                assert it.download()[: len(data)].tobytes() == data
        check_statistics(self.allocator)
        self.use_in_order()

    def end(self, *others: Buffer) -> None:
        self.allocator.destroy_many([*self.buffers, *others])
        self.pool.close()
        self.allocator.close()


@pytest.mark.parametrize("algorithm", ["tlsf", "buddy"])
def test_the_oldest_third_goes_and_the_rest_moves_together(device: Device, algorithm: str) -> None:
    mixed = Mixed(device, algorithm=algorithm)
    told: list[Move] = []
    gone: list[Any] = []
    mixed.allocator.on_move(told.extend)
    mixed.allocator.on_lost(gone.extend)
    large = mixed.create(LARGE)
    lost = mixed.lost()
    assert lost and max(lost) < len(mixed.buffers) / 3
    assert len(lost) * SIZE <= 1.1 * LARGE
    assert mixed.moved() == len(told) > 0
    assert sorted(mixed.by_age.index(it) for it in gone) == lost
    assert {it.resource for it in told}.isdisjoint(gone)
    for it in told:
        assert it.new_handle == it.resource.handle and it.old_handle != it.new_handle
    mixed.check()
    large.upload(pattern(64, 9))
    mixed.check()
    # The next one takes the next ones, among those that have moved.
    other = mixed.create(LARGE)
    assert max(mixed.lost()) < len(mixed.buffers) * 2 / 3
    mixed.check()
    mixed.end(large, other)


def test_without_moves_others_go(simulated: SimulatedDevice) -> None:
    mixed = Mixed(simulated, moves=False)
    large = mixed.create(LARGE)
    assert mixed.moved() == 0 and max(mixed.lost()) > COUNT / 2
    mixed.end(large)


@pytest.mark.parametrize("profile", SimulatedDevice.profile_names())
def test_64_mib_among_256_kib(profile: str, make_simulated: Callable[..., SimulatedDevice]) -> None:
    """The bar, at its own sizes, in memory that the device has."""
    device = make_simulated(profile)
    size, large = 256 * KIB, 64 * MIB
    with (
        Allocator(device, frames_in_flight=0, defragment_when_full=True) as allocator,
        pool_of(allocator, 3 * large + large // 2) as pool,
    ):
        buffers = []
        while len(buffers) < 3 * large // size + large // size // 2:
            buffers.append(
                allocator.create_buffer(size, TRANSFER, pool=pool, flags=LOSABLE, movable=True)
            )
        contents = {it: pattern(32, at) for at, it in enumerate(buffers)}
        for it in buffers[::5]:
            it.upload(contents[it])
        by_age = buffers[:]
        random.Random(1).shuffle(by_age)
        for frame, it in enumerate(by_age, start=1):
            allocator.set_current_frame_index(frame)
            it.touch()
        allocator.set_current_frame_index(len(by_age) + 2)
        made = allocator.create_buffer(large, TRANSFER, pool=pool, flags=TAKES)
        lost = losses(by_age)
        assert len(lost) * size <= 1.1 * large
        assert max(lost) <= len(by_age) / 3
        for it in buffers[::5]:
            if not it.is_lost:
                assert it.download()[:32].tobytes() == contents[it]
        allocator.validate()
        allocator.destroy_many([*buffers, made])


def test_images_move_as_well(device: Device) -> None:
    with Allocator(device, frames_in_flight=0, defragment_when_full=True) as allocator:
        usage = ImageUsage.TRANSFER_SRC | ImageUsage.TRANSFER_DST
        with allocator.create_image(RGBA8, (32, 32), usage) as example:
            index = example.allocation.memory_type_index
        pool = allocator.create_pool(memory_type_index=index, block_size=2 * MIB, max_block_count=1)
        its: list[Any] = []
        keywords: dict[str, Any] = {"pool": pool, "flags": LOSABLE, "movable": True}
        with contextlib.suppress(OutOfDeviceMemoryError):
            while True:
                its.append(allocator.create_image(RGBA8, (32, 32), usage, **keywords))
                its.append(allocator.create_image(RGBA8, (64, 64), usage, **keywords))
        by_age = its[:]
        for at, it in enumerate(its):
            it.upload(pattern(it.extent[0] * it.extent[1] * 4, at))
        random.Random(3).shuffle(by_age)
        for frame, it in enumerate(by_age, start=1):
            allocator.set_current_frame_index(frame)
            it.touch()
        allocator.set_current_frame_index(1000)
        large = allocator.create_image(RGBA8, (256, 256), usage, pool=pool, flags=TAKES)
        lost = losses(by_age)
        assert lost and max(lost) < len(its) / 2
        assert any(it.generation for it in its if not it.is_lost)
        large.upload(pattern(256 * 256 * 4, 77))
        for at, it in enumerate(its):
            if not it.is_lost:
                data = pattern(it.extent[0] * it.extent[1] * 4, at)
                assert it.download().tobytes() == data
        assert large.download().tobytes() == pattern(256 * 256 * 4, 77)
        allocator.validate()
        allocator.destroy_many([*its, large])
        pool.close()


def test_what_a_frame_in_flight_uses_does_not_move(device: Device) -> None:
    mixed = Mixed(device, frames_in_flight=2)
    recent = mixed.buffers[::8]
    for it in recent[::2]:
        it.touch()
    mixed.next_frame()
    for it in recent[1::2]:
        it.touch()
    mixed.next_frame()
    large = mixed.create(6 * SIZE)
    assert not any(it.generation or it.is_lost for it in recent)
    assert mixed.moved() > 0 and len(mixed.lost()) <= 7
    before = mixed.lost()
    with pytest.raises(OutOfDeviceMemoryError):
        mixed.create(9 * SIZE)
    assert mixed.lost() == before, "no window without one of them has room for that"
    mixed.check()
    mixed.end(large)


def test_what_cannot_move_stays(device: Device) -> None:
    mixed = Mixed(device, fixed=12)
    large = mixed.create(10 * SIZE)
    assert mixed.moved() > 0 and max(mixed.lost()) < COUNT / 3
    assert not any(it.generation for it in mixed.buffers[::12])
    mixed.check()
    mixed.end(large)


@pytest.mark.parametrize("profile", ["discrete-8gib", "non-coherent"])
def test_a_failure_on_the_way_costs_the_oldest_at_most(
    make_simulated: Callable[..., SimulatedDevice], profile: str
) -> None:
    device = make_simulated(profile)
    mixed = Mixed(device, count=32)
    before = device.fallible_call_count
    large = mixed.create(LARGE // 4)
    calls = device.fallible_call_count - before
    moves = mixed.moved()
    assert calls > 2 * moves > 0
    mixed.end(large)
    in_vain = 0
    for call in range(calls):
        device = make_simulated(profile)
        mixed = Mixed(device, count=32)
        device.fail_call(device.fallible_call_count + call)
        made = []
        with contextlib.suppress(vk_mem.VkMemError):
            made.append(mixed.create(LARGE // 4))
        device.clear_failures()
        if not made and mixed.lost():
            in_vain += 1
            assert max(mixed.lost()) < 32 / 3 and mixed.moved() == 0
        mixed.check()
        mixed.end(*made)
    # After the loss there is nothing but the submission.
    assert in_vain <= 3
