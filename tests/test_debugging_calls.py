"""`check="call"`: a call that changes something does so, and raises then what was found before."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from support import IMAGE_TRANSFER, LOSABLE, MAPPED, RANDOM, RGBA8, TRANSFER, pattern

import vk_mem
from vk_mem import (
    Allocator,
    Buffer,
    CorruptionError,
    Debug,
    OutOfDeviceMemoryError,
    SimulatedDevice,
)

CALLS = Debug(detect_corruption=True, check="call")


@dataclass
class Scene:
    """What calls are made with, and a buffer whose margin can be damaged."""

    device: SimulatedDevice
    allocator: Allocator
    pool: vk_mem.Pool
    one: Buffer
    other: Buffer
    image: vk_mem.Image
    memory: vk_mem.Allocation
    hurt: Buffer
    address: int
    wrong: int = 0
    heard: list[CorruptionError] = field(default_factory=list)

    def overrun(self) -> None:
        """One byte more each time, so that it is another fault."""
        ctypes.memset(self.address + self.hurt.size + self.wrong, 0, 1)
        self.wrong += 1


@contextmanager
def scene(device: SimulatedDevice) -> Iterator[Scene]:
    with Allocator(device, debug=CALLS) as allocator:
        pool = allocator.create_pool(
            like=((1024, TRANSFER), vk_mem.AllocationCreateInfo(flags=RANDOM))
        )
        make = allocator.create_buffer
        hurt = make(256, TRANSFER, flags=RANDOM | MAPPED, name="hurt")
        mapping = hurt.map()
        address = mapping.address
        mapping.close()
        losable = make(256, TRANSFER, flags=LOSABLE)
        made = Scene(
            device,
            allocator,
            pool,
            make(4096, TRANSFER, flags=RANDOM),
            make(4096, TRANSFER, movable=True),
            allocator.create_image(RGBA8, (16, 16), IMAGE_TRANSFER),
            allocator.allocate_memory(4096),
            hurt,
            address,
        )
        yield made
        allocator.on_corruption(lambda error: None)
        allocator.destroy_many([made.one, made.other, made.image, made.memory, losable, hurt])
        pool.close()


def destroyed(it: Scene) -> bool:
    return not (it.one.alive or it.image.alive or it.memory.alive)


def was_heard(it: Scene) -> bool:
    """It was set before the call raised."""
    return len(it.heard) == 1


DATA = pattern(4096, 3)
# What is called, and whether it was done.
WORK: dict[str, tuple[Callable[[Scene], object], Callable[[Scene], bool]]] = {
    "destroy_many": (
        lambda it: it.allocator.destroy_many([it.one, it.image, it.memory]),
        destroyed,
    ),
    "free_memory_pages": (
        lambda it: it.allocator.free_memory_pages([it.memory]),
        lambda it: not it.memory.alive,
    ),
    "destroy": (lambda it: it.one.destroy(), lambda it: not it.one.alive),
    "Pool.close": (lambda it: it.pool.close(), lambda it: it.pool.closed),
    "set_current_frame_index": (
        lambda it: it.allocator.set_current_frame_index(7),
        lambda it: it.allocator.current_frame_index == 7,
    ),
    "on_corruption": (lambda it: it.allocator.on_corruption(it.heard.append), was_heard),
    "write": (lambda it: it.one.write(DATA), lambda it: it.one.read() == DATA),
    "upload": (lambda it: it.one.upload(DATA), lambda it: it.one.read() == DATA),
    "Transfers.upload": (
        lambda it: it.allocator.transfers.upload(DATA, it.one),
        lambda it: bytes(it.one.download()) == DATA,
    ),
    "upload_many": (
        lambda it: it.allocator.transfers.upload_many([DATA, DATA], [it.one, it.other]),
        lambda it: bytes(it.other.download()) == DATA,
    ),
    "Image.upload": (
        lambda it: it.image.upload(pattern(1024, 5), dtype="B"),
        lambda it: bytes(it.image.download()) == pattern(1024, 5),
    ),
    "copy_buffer": (
        lambda it: it.device.copy_buffer(it.hurt, it.one, 256),
        lambda it: it.one.read(0, 256) == it.hurt.read(),
    ),
    "fill_buffer": (
        lambda it: it.device.fill_buffer(it.one, 0x01010101),
        lambda it: it.one.read(0, 4) == b"\1\1\1\1",
    ),
    "name": (lambda it: setattr(it.one, "name", "new name"), lambda it: it.one.name == "new name"),
    "flush": (lambda it: it.one.flush(), lambda it: True),
    "flush_allocations": (lambda it: it.allocator.flush_allocations([it.one]), lambda it: True),
    "trim": (lambda it: it.allocator.trim(), lambda it: True),
    "touch_many": (lambda it: it.allocator.touch_many([it.one]), lambda it: True),
    "defragment": (lambda it: it.allocator.defragment(), lambda it: True),
    "defragment_step": (lambda it: it.allocator.defragment_step(), lambda it: True),
    "make_allocations_lost": (lambda it: it.allocator.make_allocations_lost(), lambda it: True),
    "Transfers.wait": (lambda it: it.allocator.transfers.wait(), lambda it: True),
    "Transfers.close": (lambda it: it.allocator.transfers.close(), lambda it: True),
}


@pytest.mark.parametrize("profile", ["nvidia-h200", "discrete-8gib"])
@pytest.mark.parametrize("name", WORK)
def test_its_work_is_done(make_simulated: Any, profile: str, name: str) -> None:
    call, is_done = WORK[name]
    with scene(make_simulated(profile)) as it:
        it.one.write(bytes(4096))
        it.overrun()
        with pytest.raises(CorruptionError) as caught:
            call(it)
        assert (caught.value.name, caught.value.offset) == ("hurt", 256)
        it.allocator.on_corruption(None)
        assert is_done(it)
        # It was told, and there is nothing that has to be done again.
        call(it)


# What reads, or makes something, raises before it does anything.
MADE: dict[str, Callable[[Scene], object]] = {
    "create_buffer": lambda it: it.allocator.create_buffer(64, TRANSFER),
    "create_image": lambda it: it.allocator.create_image(RGBA8, (4, 4), IMAGE_TRANSFER),
    "allocate_memory": lambda it: it.allocator.allocate_memory(64),
    "create_pool": lambda it: it.allocator.create_pool(memory_type_index=0),
    "map": lambda it: it.one.map(),
    "download": lambda it: it.one.download(),
    "build_stats_string": lambda it: it.allocator.build_stats_string(),
}


@pytest.mark.parametrize("name", MADE)
def test_nothing_is_made(make_simulated: Any, name: str) -> None:
    with scene(make_simulated("discrete-8gib")) as it:
        before = it.allocator.calculate_statistics().total
        it.overrun()
        with pytest.raises(CorruptionError):
            MADE[name](it)
        assert it.allocator.calculate_statistics().total == before


def test_a_block_is_entered(make_simulated: Any) -> None:
    """What enters a block does nothing that could be raised later, and its end ends it."""
    with scene(make_simulated("discrete-8gib")) as it:
        transfers = it.allocator.transfers
        blocks: list[Any] = [it.allocator, transfers, transfers.batch(), it.pool]
        it.overrun()
        for block in blocks:
            assert block.__enter__() is block
        with pytest.raises(CorruptionError):
            blocks[2].__exit__(None, None, None)
        it.one.upload(DATA)
        assert it.one.read() == DATA


def test_an_error_of_the_call_comes_first(make_simulated: Any) -> None:
    with scene(make_simulated("discrete-8gib")) as it:
        it.overrun()
        with pytest.raises(vk_mem.InvalidArgumentError, match="from 0 to 1"):
            it.allocator.on_pressure(print, threshold=2)
        with pytest.raises(CorruptionError, match="'hurt'"):
            it.allocator.calculate_statistics()


def test_a_call_inside_of_a_call_raises_nothing_of_it(make_simulated: Any) -> None:
    """A callback during the work runs calls of its own."""
    with scene(make_simulated("discrete-8gib")) as it:
        seen: list[object] = []

        def moved(moves: list[Any]) -> None:
            it.allocator.calculate_statistics()
            it.one.destroy()
            seen.append(it.one.alive)

        gap = it.allocator.create_buffer(1 << 20, TRANSFER)
        mover = it.allocator.create_buffer(4096, TRANSFER, movable=True)
        gap.destroy()
        it.allocator.on_move(moved)
        it.overrun()
        with pytest.raises(CorruptionError, match="'hurt'"):
            it.allocator.defragment()
        assert seen in ([], [False])
        it.allocator.on_move(None)
        mover.destroy()


def test_a_request_that_fails_tells_both(make_simulated: Any) -> None:
    with scene(make_simulated("discrete-8gib")) as it:
        it.overrun()
        with pytest.raises(CorruptionError):
            it.allocator.create_buffer(1 << 40, TRANSFER)
        with pytest.raises((OutOfDeviceMemoryError, vk_mem.VkMemError)) as caught:
            it.allocator.create_buffer(1 << 40, TRANSFER)
        assert not isinstance(caught.value, CorruptionError)
