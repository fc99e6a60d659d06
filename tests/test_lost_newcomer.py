"""What programs do with lost allocations at first, and what they are told."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from support import LOSABLE, TAKES, TRANSFER

import vk_mem
from vk_mem import (
    AllocationCreateFlags,
    Allocator,
    Buffer,
    BufferHeap,
    BufferUsage,
    Device,
    InvalidArgumentError,
    LostError,
    OutOfDeviceMemoryError,
    Pool,
    ResourceCache,
    SimulatedDevice,
    UseAfterFreeError,
)

VERTEX = BufferUsage.VERTEX_BUFFER
KIB, MIB = 1 << 10, 1 << 20
STREAMED = LOSABLE | TAKES


def full_pool(allocator: Allocator, **keywords: Any) -> tuple[Pool, list[Buffer]]:
    """A pool of 1 MiB, and what fills it and may be lost."""
    with allocator.create_buffer(256, VERTEX) as example:
        index = example.allocation.memory_type_index
    pool = allocator.create_pool(
        memory_type_index=index, block_size=MIB, max_block_count=1, **keywords
    )
    make = allocator.create_buffer
    return pool, [make(256 * KIB, VERTEX, pool=pool, flags=LOSABLE, priority=0.5) for _ in range(4)]


@pytest.mark.parametrize("pool_frames", [None, 5])
def test_without_frames_the_error_says_what_is_missing(
    device: Device, pool_frames: int | None
) -> None:
    with Allocator(device, frames_in_flight=2) as allocator:
        pool, its = full_pool(allocator, frames_in_use=pool_frames)
        age = (2 if pool_frames is None else pool_frames) + 1
        for frame in range(age):
            allocator.set_current_frame_index(frame)
            left = age - frame
            frames = f"{left} more frame{'s' if left > 1 else ''}"
            message = (
                f"1.0 MiB may be lost, but {frames} must begin before "
                r"\(set_current_frame_index\): asked for 4096 bytes"
            )
            with pytest.raises(OutOfDeviceMemoryError, match=message):
                allocator.create_buffer(4096, VERTEX, pool=pool, flags=TAKES)
        # What was said is so.
        allocator.set_current_frame_index(age)
        its.append(allocator.create_buffer(4096, VERTEX, pool=pool, flags=TAKES))
        assert sum(it.is_lost for it in its) == 1
        allocator.destroy_many(its)
        pool.close()


def test_the_error_says_why_nothing_was_lost(device: Device) -> None:
    with Allocator(device, frames_in_flight=0) as allocator:
        pool, its = full_pool(allocator)
        allocator.set_current_frame_index(7)
        lost = "1.0 MiB may be lost, "
        reasons: list[tuple[dict[str, Any], str]] = [
            ({}, "to requests with CAN_MAKE_OTHER_LOST: asked"),
            ({"flags": TAKES, "evict": "never"}, "but evict forbids it: asked"),
            ({"flags": TAKES, "evict": 9}, r"but 2 more frames must begin before \(set_"),
            (
                {"flags": TAKES, "evict": "lower_priority", "priority": 0.1},
                "but too much of it is held, or was used less than 1 frame ago, or has no lower "
                "priority: asked",
            ),
        ]
        for keywords, reason in reasons:
            with pytest.raises(OutOfDeviceMemoryError, match=lost + reason) as raised:
                allocator.create_buffer(4096, VERTEX, pool=pool, **keywords)
            assert "\n" not in str(raised.value)
        allocator.touch_many(its)
        held = "but too much of it is held, or was used less than 1 frame ago: asked"
        with pytest.raises(OutOfDeviceMemoryError, match=lost + held):
            allocator.create_buffer(4096, VERTEX, pool=pool, flags=TAKES)
        assert not any(it.is_lost for it in its)
        allocator.destroy_many(its)
        # Other pools have nothing that could make room in this one.
        other = allocator.create_buffer(4096, VERTEX, flags=LOSABLE)
        with pytest.raises(OutOfDeviceMemoryError, match=r"^(?!.*may be lost)"):
            allocator.create_buffer(2 * MIB, VERTEX, pool=pool, flags=TAKES)
        other.destroy()
        pool.close()


def test_a_full_heap_says_so_too() -> None:
    device = SimulatedDevice("discrete-8gib")
    limits = [16 * MIB, None]
    with Allocator(device, heap_size_limits=limits, frames_in_flight=0) as allocator:

        def load(_: int) -> Buffer:
            properties = vk_mem.MemoryPropertyFlags.DEVICE_LOCAL
            return allocator.create_buffer(MIB, VERTEX, flags=STREAMED, required_flags=properties)

        with ResourceCache(allocator, load) as cache:
            for key in range(16):
                cache[key]
            with pytest.raises(OutOfDeviceMemoryError, match=r"16\.0 MiB may be lost, but 1 more"):
                cache[16]
            assert len(cache) == 16 and cache.evicted == 0
            allocator.set_current_frame_index(1)
            cache[16]
            assert cache.evicted > 0


def test_there_is_a_buffer_whatever_became_of_it(simulated: SimulatedDevice) -> None:
    """`if it and it.touch()` asks for None first."""
    with Allocator(simulated, frames_in_flight=0) as allocator:
        lost = allocator.create_buffer(256, TRANSFER, flags=LOSABLE)
        part = lost[:64]
        assert lost and part and len(lost) == 256
        allocator.set_current_frame_index(1)
        assert allocator.make_allocations_lost() == 1
        assert lost and part and not lost.touch()
        for gone in (lost, part):
            with pytest.raises(LostError, match="was lost"):
                len(gone)
        ended = allocator.create_buffer(256, TRANSFER)
        ended.destroy()
        assert ended
        with pytest.raises(UseAfterFreeError):
            len(ended)


def test_any_integer_is_a_number_of_frames(simulated_allocator: Allocator) -> None:
    for frames in (np.int64(3), np.uint8(3)):
        info = vk_mem.AllocationCreateInfo(flags=TAKES, evict=frames)
        assert info.evict == 3
    with pytest.raises(InvalidArgumentError, match="evict is -1; it must not be negative"):
        vk_mem.AllocationCreateInfo(flags=TAKES, evict=np.int64(-1))
    buffer = simulated_allocator.create_buffer(256, VERTEX)
    wrong: list[Any] = [True, np.float32(1), b"idle", buffer, [1]]
    for value in wrong:
        with pytest.raises(TypeError, match=r"^evict must be 'idle', .* frames, not \w+$"):
            vk_mem.AllocationCreateInfo(flags=TAKES, evict=value)
    buffer.destroy()


def test_slices_cannot_be_lost(simulated_allocator: Allocator) -> None:
    with pytest.raises(InvalidArgumentError, match="CAN_BECOME_LOST: it cannot be lost: a Buffer"):
        BufferHeap(simulated_allocator, VERTEX, flags=LOSABLE)
    heap = BufferHeap(simulated_allocator, VERTEX, flags=TAKES, evict=4)
    with heap, heap.allocate(64) as part:
        assert part.size == 64


def test_a_cache_and_the_program_both_hear_of_a_loss(simulated: SimulatedDevice) -> None:
    with Allocator(simulated, frames_in_flight=0) as allocator:
        heard: list[Buffer] = []

        def load(_: int) -> Buffer:
            made = allocator.create_buffer(256, VERTEX, flags=LOSABLE)
            made.on_lost(heard.extend)
            return made

        evicted: list[int] = []
        with ResourceCache(allocator, load, on_evict=lambda key, _: evicted.append(key)) as cache:
            first, second, third = cache[1], cache[2], cache[3]
            third.on_lost(heard.extend)
            assert cache.pop(2) is second
            allocator.set_current_frame_index(1)
            assert allocator.make_allocations_lost() == 3
            assert set(heard) == {first, second, third} and len(heard) == 3
            assert sorted(evicted) == [1, 3] and len(cache) == cache.bytes == 0


def test_what_make_returned_is_named(simulated: SimulatedDevice) -> None:
    with Allocator(simulated, frames_in_flight=0) as allocator, Allocator(simulated) as other:

        def destroyed() -> Buffer:
            it = allocator.create_buffer(256, VERTEX)
            it.destroy()
            return it

        def lost() -> Buffer:
            it = allocator.create_buffer(256, VERTEX, flags=LOSABLE)
            allocator.set_current_frame_index(allocator.current_frame_index + 1)
            allocator.make_allocations_lost()
            return it

        theirs = other.create_buffer(256, VERTEX, name="theirs")
        makes: dict[str, Any] = {
            "nothing": lambda: None,
            "destroyed": destroyed,
            "lost": lost,
            "foreign": lambda: theirs,
        }
        cache: ResourceCache[str, Buffer] = ResourceCache(allocator, lambda key: makes[key]())
        wrong: list[tuple[str, type[Exception], str]] = [
            ("nothing", TypeError, "the resource of 'nothing' must be a Buffer, .*, not None"),
            ("destroyed", UseAfterFreeError, "the resource of 'destroyed': Buffer was destroyed"),
            ("lost", LostError, "the resource of 'lost' is lost already: return a new one"),
            (
                "foreign",
                InvalidArgumentError,
                "the resource of 'foreign': Buffer 'theirs'.* is of another allocator",
            ),
        ]
        for key, error, message in wrong:
            with pytest.raises(error, match=message):
                cache[key]
            assert key not in cache
        assert (len(cache), cache.bytes, cache.misses) == (0, 0, 4)
        cache.close()
        theirs.destroy()


def test_flags_may_be_names(simulated_allocator: Allocator) -> None:
    make = simulated_allocator.create_buffer
    make(256, VERTEX, flags="CAN_BECOME_LOST|CAN_MAKE_OTHER_LOST").destroy()
    message = re.escape("has no name 'CAN_BE_LOST'; did you mean 'CAN_BECOME_LOST'?")
    with pytest.raises(InvalidArgumentError, match=message):
        make(256, VERTEX, flags="CAN_BE_LOST")
    assert AllocationCreateFlags.CAN_BECOME_LOST
