"""`on_lost`, events, statistics and leaks of what was lost; failures of driver calls."""

from __future__ import annotations

import contextlib
import gc
import sys
import weakref
from typing import Any

import pytest
from support import DEDICATED, LOSABLE, TAKES

import vk_mem
from vk_mem import (
    Allocator,
    Buffer,
    BufferUsage,
    Device,
    OutOfDeviceMemoryError,
    Pool,
    SimulatedDevice,
    VkMemError,
)

VERTEX = BufferUsage.VERTEX_BUFFER
KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def allocator(device: Device) -> Any:
    """What was used in an earlier frame may be lost."""
    with Allocator(device, frames_in_flight=0) as allocator:
        yield allocator


@pytest.fixture
def pool(allocator: Allocator) -> Any:
    with allocator.create_buffer(256, VERTEX) as example:
        index = example.allocation.memory_type_index
    with allocator.create_pool(memory_type_index=index, block_size=MIB, max_block_count=1) as pool:
        yield pool


def sixteen(allocator: Allocator, pool: Pool, **keywords: Any) -> list[Buffer]:
    return [
        allocator.create_buffer(64 * KIB, VERTEX, pool=pool, flags=LOSABLE, **keywords)
        for _ in range(16)
    ]


def test_each_callback_once_with_a_list(allocator: Allocator, pool: Pool) -> None:
    its = sixteen(allocator, pool)
    heard: list[tuple[str, list[Buffer]]] = []

    @allocator.on_lost
    def of_allocator(resources: list[Buffer]) -> None:
        heard.append(("allocator", resources))

    def shared(resources: list[Buffer]) -> None:
        heard.append(("shared", resources))

    def own(resources: list[Buffer]) -> None:
        heard.append(("own", resources))

    for it in its[:8]:
        assert it.on_lost(shared) is shared
    its[9].on_lost(own)
    allocator.set_current_frame_index(1)
    allocator.touch_many(its[10:])
    assert heard == []
    assert pool.make_allocations_lost() == 10
    assert [(who, set(map(id, lost))) for who, lost in heard] == [
        ("shared", set(map(id, its[:8]))),
        ("own", {id(its[9])}),
        ("allocator", set(map(id, its[:10]))),
    ]
    heard.clear()
    allocator.set_current_frame_index(2)
    taken = allocator.create_buffer(512 * KIB, VERTEX, pool=pool, flags=TAKES)
    assert heard == [], "there was room"
    more = allocator.create_buffer(256 * KIB, VERTEX, pool=pool, flags=TAKES)
    assert [who for who, _ in heard] == ["allocator"]
    assert all(it.is_lost for it in heard[0][1])
    assert set(heard[0][1]) == {it for it in its[10:] if it.is_lost}
    heard.clear()
    allocator.on_lost(None)
    allocator.set_current_frame_index(3)
    allocator.make_allocations_lost()
    assert heard == []
    allocator.destroy_many([*its, taken, more])


def test_callbacks_may_use_the_allocator(allocator: Allocator, pool: Pool) -> None:
    its = sixteen(allocator, pool)
    made: list[Buffer] = []
    left = [3]

    @allocator.on_lost
    def again(resources: list[Buffer]) -> None:
        for it in resources:
            assert it.is_lost
            it.destroy()
        if left[0] > 0:
            left[0] -= 1
            made.append(allocator.create_buffer(64 * KIB, VERTEX, pool=pool, flags=LOSABLE | TAKES))

    allocator.set_current_frame_index(1)
    made.append(allocator.create_buffer(64 * KIB, VERTEX, pool=pool, flags=TAKES))
    assert len(made) == 4 and not any(it.is_lost for it in made)
    allocator.on_lost(None)
    allocator.validate()
    allocator.destroy_many([*its, *made])


def test_an_exception_is_printed(
    allocator: Allocator, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    its = sixteen(allocator, pool)
    printed: list[BaseException | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda it: printed.append(it.exc_value))

    def wrong(_: list[Buffer]) -> None:
        raise KeyError("of the program")

    its[0].on_lost(wrong)
    allocator.on_lost(wrong)
    allocator.set_current_frame_index(1)
    assert pool.make_allocations_lost() == 16
    assert [type(it) for it in printed] == [KeyError, KeyError]
    allocator.destroy_many(its)


def test_a_cycle_through_the_callback_is_collected(allocator: Allocator, pool: Pool) -> None:
    it = allocator.create_buffer(64 * KIB, VERTEX, pool=pool, flags=LOSABLE)
    it.on_lost(lambda _, me=it: me)  # type: ignore[misc]
    gone = weakref.ref(it)
    allocator.set_current_frame_index(1)
    assert pool.make_allocations_lost() == 1
    del it
    gc.collect()
    assert gone() is None


def test_events_leaks_and_statistics(allocator: Allocator, pool: Pool) -> None:
    counter = allocator._count_events()
    with vk_mem.statistics(allocator) as measured:
        its = sixteen(allocator, pool, name="tile")
        assert measured.current_count == 16
        allocator.set_current_frame_index(1)
        allocator.touch_many(its[:4])
        assert pool.make_allocations_lost() == 12
        assert measured.current_count == 4
        assert measured.current_bytes == 4 * 64 * KIB
        assert measured.peak_count == 16
    assert counter.counts()["lose"] == 12
    counter.end()
    assert len(allocator.leaks()) == 4
    figures = allocator.calculate_statistics()
    assert figures.total.allocation_count == 4
    assert figures.evictions == (4, 4 * 64 * KIB, 12, 12 * 64 * KIB, 12, 12 * 64 * KIB)
    assert sum(it.evictable_count for it in figures.memory_type_evictions) == 4
    allocator.destroy_many(its[4:10])
    figures = allocator.calculate_statistics()
    assert figures.evictions == (4, 4 * 64 * KIB, 6, 6 * 64 * KIB, 12, 12 * 64 * KIB)
    allocator.destroy_many(its)
    del its
    assert allocator.calculate_statistics().evictions == (0, 0, 0, 0, 12, 12 * 64 * KIB)
    assert "lost" in str(allocator.calculate_statistics())


def test_the_dump_says_what_may_be_lost(allocator: Allocator, pool: Pool) -> None:
    plain = allocator.snapshot()
    assert plain.evictions is None
    its = sixteen(allocator, pool)
    for frame in range(1, 5):
        allocator.set_current_frame_index(frame)
        assert its[frame].touch()
    allocator.set_current_frame_index(5)
    dump = allocator.snapshot()
    regions = [it for block in dump.pools[-1].blocks for it in block.allocations]
    assert sorted(it.last_use for it in regions) == [0] * 12 + [1, 2, 3, 4]
    assert dump.evictions == (16, MIB, 0, 0, 0, 0)
    assert pool.make_allocations_lost() == 16
    assert allocator.snapshot().evictions == (0, 0, 16, MIB, 16, MIB)
    allocator.destroy_many(its)


class TestFailures:
    """A call of the driver that fails."""

    def ready(self, device: SimulatedDevice) -> tuple[Allocator, list[Buffer]]:
        allocator = Allocator(
            device, frames_in_flight=0, heap_size_limits=[8 * MIB] * 2, preferred_block_size=MIB
        )
        its = []
        for frame in range(1, 9):
            allocator.set_current_frame_index(frame)
            its.append(
                allocator.create_buffer(MIB, VERTEX, flags=LOSABLE | DEDICATED, memory_type_bits=1)
            )
        allocator.set_current_frame_index(10)
        return allocator, its

    def test_each_call_of_a_creation(self, make_simulated: Any) -> None:
        for call in range(30):
            device = make_simulated("discrete-8gib")
            allocator, its = self.ready(device)
            with allocator:
                device.fail_call(device.fallible_call_count + call)
                made = None
                with contextlib.suppress(VkMemError):
                    made = allocator.create_buffer(
                        MIB, VERTEX, flags=TAKES | DEDICATED, memory_type_bits=1
                    )
                device.clear_failures()
                allocator.validate()
                live = sum(it.alive for it in its)
                figures = allocator.calculate_statistics()
                assert figures.total.allocation_count == live + (made is not None)
                assert figures.evictions.lost_count == 8 - live
                for it in its:
                    it.destroy()
                if made is not None:
                    made.destroy()

    def test_out_of_memory_is_still_told(self, make_simulated: Any) -> None:
        device = make_simulated("discrete-8gib")
        allocator, its = self.ready(device)
        with allocator:
            allocator.touch_many(its)
            asked: list[VkMemError] = []

            @allocator.on_out_of_memory
            def answer(error: VkMemError) -> bool:
                asked.append(error)
                its.pop().destroy()
                return True

            with allocator.create_buffer(MIB, VERTEX, flags=TAKES | DEDICATED, memory_type_bits=1):
                assert len(asked) == 1 and isinstance(asked[0], OutOfDeviceMemoryError)
            assert not any(it.is_lost for it in its)
            allocator.destroy_many(its)
