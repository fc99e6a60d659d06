"""Lost allocations: VMA 2.3's behaviours L0 to L3."""

from __future__ import annotations

import gc
import random
import threading
import warnings
from typing import Any

import pytest
from support import LOSABLE, RANDOM, RGBA8, TAKES, TRANSFER

import vk_mem
from vk_mem import (
    Allocator,
    Buffer,
    BufferUsage,
    Device,
    ImageUsage,
    LostError,
    OutOfDeviceMemoryError,
    Pool,
    UseAfterFreeError,
)

VERTEX = BufferUsage.VERTEX_BUFFER
BOTH = LOSABLE | TAKES
KIB, MIB = 1 << 10, 1 << 20


def frames(device: Device, **keywords: Any) -> Allocator:
    """An allocator without frames in flight: what was used in an earlier frame may be lost."""
    return Allocator(device, frames_in_flight=0, **keywords)


def pool_of(allocator: Allocator, size: int, blocks: int = 1, **keywords: Any) -> Pool:
    with allocator.create_buffer(256, VERTEX) as example:
        index = example.allocation.memory_type_index
    return allocator.create_pool(
        memory_type_index=index, block_size=size, max_block_count=blocks, **keywords
    )


def fill(
    allocator: Allocator, pool: Pool, size: int, flags: int = BOTH, **keywords: Any
) -> list[Buffer]:
    """Buffers until the pool is full."""
    made = []
    with pytest.raises(OutOfDeviceMemoryError):
        while True:
            made.append(allocator.create_buffer(size, VERTEX, pool=pool, flags=flags, **keywords))
    return made


def losses(buffers: list[Buffer]) -> list[int]:
    return [index for index, it in enumerate(buffers) if it.is_lost]


class TestRules:
    """L0"""

    def test_touch(self, device: Device) -> None:
        with frames(device) as allocator, pool_of(allocator, 64 * KIB) as pool:
            fixed = allocator.create_buffer(256, VERTEX, pool=pool)
            it = allocator.create_buffer(
                256, VERTEX, pool=pool, flags=LOSABLE, name="tile", user_data=[1]
            )
            assert fixed.touch() and it.touch() and it.allocation.touch()
            assert not fixed.is_lost and not it.is_lost
            assert pool.make_allocations_lost() == 0, "used in this frame"
            allocator.set_current_frame_index(1)
            assert it.touch()
            assert pool.make_allocations_lost() == 0, "touched in this frame"
            allocator.set_current_frame_index(2)
            memory = it.allocation
            allocator.set_current_frame_index(3)
            assert pool.make_allocations_lost() == 1
            assert it.is_lost and not it.touch() and not it.alive
            assert memory.is_lost and not memory.touch()
            assert fixed.touch() and not fixed.is_lost
            assert repr(it) == "<vk_mem.Buffer 'tile', lost>"
            assert it.name == "tile" and it.user_data == [1]
            for use in (lambda: it.handle, lambda: it.size, it.map, lambda: memory.device_memory):
                with pytest.raises(LostError, match="Buffer 'tile' was lost"):
                    use()
            assert pool.make_allocations_lost() == 0
            allocator.validate()
            it.destroy()
            it.destroy()
            assert it.is_lost and not it.touch()
            fixed.destroy()
            with pytest.raises(UseAfterFreeError):
                fixed.touch()

    @pytest.mark.parametrize("use", ["handle", "int", "allocation", "read", "touch_many"])
    def test_asking_for_it_is_a_use(self, device: Device, use: str) -> None:
        with frames(device) as allocator:
            it = allocator.create_buffer(256, TRANSFER, flags=LOSABLE | RANDOM)
            allocator.set_current_frame_index(5)
            uses = {
                "handle": lambda: it.handle,
                "int": lambda: int(it),
                "allocation": lambda: it.allocation.device_memory,
                "read": it.read,
                "touch_many": lambda: allocator.touch_many([it]),
            }
            uses[use]()
            assert allocator.make_allocations_lost() == 0
            allocator.set_current_frame_index(6)
            assert str(it) and it.name is None and it.alive
            assert allocator.make_allocations_lost() == 1
            it.destroy()

    @pytest.mark.parametrize("in_use", [0, 1, 3])
    def test_frames_in_use(self, device: Device, in_use: int) -> None:
        with frames(device, frames_in_use=in_use) as allocator:
            assert allocator.frames_in_use == in_use
            with pool_of(allocator, 64 * KIB, frames_in_use=in_use + 1) as pool:
                assert pool.frames_in_use == in_use + 1
                loose = allocator.create_buffer(256, VERTEX, flags=LOSABLE)
                pooled = allocator.create_buffer(256, VERTEX, flags=LOSABLE, pool=pool)
                for frame in range(10, 10 + in_use + 1):
                    allocator.set_current_frame_index(frame)
                    loose.touch() if frame == 10 else None
                    pooled.touch() if frame == 10 else None
                    assert allocator.make_allocations_lost() == 0
                allocator.set_current_frame_index(10 + in_use + 1)
                assert allocator.make_allocations_lost() == 1 and loose.is_lost
                allocator.set_current_frame_index(10 + in_use + 2)
                assert pool.make_allocations_lost() == 1 and pooled.is_lost
                allocator.destroy_many([loose, pooled])

    def test_the_frames_are_those_in_flight_by_default(self, device: Device) -> None:
        with Allocator(device, frames_in_flight=3) as allocator:
            assert allocator.frames_in_use == 3
            with pool_of(allocator, 64 * KIB) as pool:
                assert pool.frames_in_use == 3

    def test_without_frames_nothing_is_lost(self, device: Device) -> None:
        with Allocator(device) as allocator, allocator.create_buffer(256, VERTEX, flags=LOSABLE):
            assert allocator.make_allocations_lost() == 0

    def test_lost_from_the_start(self, device: Device) -> None:
        with frames(device) as allocator:
            it = allocator.create_lost_allocation()
            assert isinstance(it, vk_mem.Allocation)
            assert it.is_lost and not it.touch() and not it.alive and it.name is None
            assert repr(it) == "<vk_mem.Allocation, lost>"
            assert allocator.touch_many([it]) == [it]
            allocator.set_current_frame_index(9)
            assert allocator.make_allocations_lost() == 0
            with pytest.raises(LostError, match="Allocation was lost"):
                _ = it.size
            assert len(allocator.leaks()) == 0
            assert allocator.calculate_statistics().total.allocation_count == 0
            it.free()
            allocator.free_memory_pages([it, allocator.create_lost_allocation()])
            assert it.is_lost

    def test_what_was_lost_needs_no_destroy(self, device: Device) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with frames(device) as allocator:
                it = allocator.create_buffer(256, VERTEX, flags=LOSABLE)
                image = allocator.create_image(RGBA8, (8, 8), ImageUsage.SAMPLED, flags=LOSABLE)
                memory = allocator.allocate_memory(256, flags=LOSABLE)
                allocator.set_current_frame_index(1)
                assert allocator.make_allocations_lost() == 3
                assert it.is_lost and image.is_lost and memory.is_lost
                it.retire()
                del it
                gc.collect()
            assert image.is_lost and not image.touch()

    def test_an_ended_one_is_not_lost(self, device: Device) -> None:
        with Allocator(device, frames_in_flight=1) as allocator:
            its = [allocator.create_buffer(256, VERTEX, flags=LOSABLE) for _ in range(3)]
            its[0].destroy()
            its[1].retire()
            with pytest.warns(ResourceWarning, match="unclosed Buffer"):
                del its[2]
                gc.collect()
            for frame in range(1, 6):
                allocator.set_current_frame_index(frame)
                assert allocator.make_allocations_lost() == 0
            assert not any(it.is_lost for it in its)


class TestSameSize:
    """L1, TestPool_SameSize"""

    def test_l1(self, device: Device) -> None:
        rng = random.Random(1)
        with frames(device) as allocator, pool_of(allocator, 25 * MIB, 4) as pool:

            def create() -> Buffer:
                return allocator.create_buffer(MIB, VERTEX, pool=pool, flags=BOTH)

            allocator.set_current_frame_index(1)
            first = fill(allocator, pool, MIB)
            assert len(first) == 100
            assert losses(first) == [] and all(it.mapped is None for it in first)
            for _ in range(10):
                first.pop(rng.randrange(len(first))).destroy()
            for _ in range(100):
                if len(first) < 100 and (not first or rng.random() < 0.5):
                    first.append(create())
                else:
                    first.pop(rng.randrange(len(first))).destroy()
            while len(first) < 100:
                first.append(create())
            assert losses(first) == []
            allocator.set_current_frame_index(2)
            second = [create() for _ in range(100)]
            assert losses(first) == list(range(100)) and losses(second) == []
            allocator.destroy_many(first)
            second.pop(rng.randrange(100)).destroy()
            figures = pool.statistics()
            assert figures.allocation_count == 99
            assert figures.block_bytes == 100 * MIB
            assert figures.unused_range_count == 1
            assert figures.unused_range_size_max == figures.unused_range_bytes == MIB
            allocator.destroy_many(second)
            allocator.set_current_frame_index(10)
            four = [create() for _ in range(4)]
            allocator.set_current_frame_index(11)
            assert all(it.touch() for it in four[:2])
            assert pool.make_allocations_lost() == 2
            assert losses(four) == [2, 3]
            assert pool.make_allocations_lost() == 0
            allocator.validate()
            allocator.destroy_many(four)


class TestRing:
    """L2, TestLinearAllocator"""

    def test_l2(self, device: Device) -> None:
        rng = random.Random(2)
        with (
            frames(device) as allocator,
            pool_of(allocator, 300 * KIB, algorithm="linear") as pool,
        ):
            frame = 0
            made: list[Buffer] = []

            def until_full() -> None:
                nonlocal frame
                while True:
                    frame += 1
                    allocator.set_current_frame_index(frame)
                    size = rng.randrange(64, 1025, 16)
                    try:
                        made.append(allocator.create_buffer(size, VERTEX, pool=pool, flags=LOSABLE))
                    except OutOfDeviceMemoryError:
                        return

            until_full()
            half = len(made) // 2
            allocator.destroy_many(made[:half])
            del made[:half]
            until_full()
            frame += 1
            allocator.set_current_frame_index(frame)
            assert losses(made) == []
            made.append(allocator.create_buffer(1024, VERTEX, pool=pool, flags=TAKES))
            lost = losses(made)
            assert lost and lost == list(range(len(lost))), "the oldest ones"
            for index in reversed(lost):
                made.pop(index).destroy()
            frame += 1
            allocator.set_current_frame_index(frame)
            count = pool.make_allocations_lost()
            assert count > 0 and count == len(losses(made))
            allocator.validate()
            for it in made:
                it.destroy()


class TestThreads:
    """L3, TestPool_Benchmark"""

    def test_l3(self, device: Device) -> None:
        with frames(device, frames_in_use=1) as allocator, pool_of(allocator, 4 * MIB) as pool:
            barrier = threading.Barrier(4)
            counts = {"created": 0, "lost": 0, "failed": 0}
            failures: list[BaseException] = []

            def work(seed: int) -> None:
                rng = random.Random(seed)
                items: list[Buffer | None] = [None] * 60
                used = set(range(0, 30))
                try:
                    for frame in range(1, 41):
                        if barrier.wait() == 0:
                            allocator.set_current_frame_index(frame)
                        barrier.wait()
                        for _ in range(1):
                            used.discard(rng.choice(sorted(used)))
                            used.add(rng.randrange(60))
                        for index in sorted(used):
                            it = items[index]
                            if it is not None and it.touch():
                                continue
                            if it is not None:
                                counts["lost"] += 1
                                it.destroy()
                            try:
                                items[index] = allocator.create_buffer(
                                    rng.randrange(16, 64) * KIB, VERTEX, pool=pool, flags=BOTH
                                )
                                counts["created"] += 1
                            except OutOfDeviceMemoryError:
                                items[index] = None
                                counts["failed"] += 1
                        for index in used:
                            it = items[index]
                            assert it is None or not it.is_lost, "used in this frame"
                    allocator.destroy_many(items)
                except BaseException as error:
                    failures.append(error)
                    barrier.abort()

            threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
            [it.start() for it in threads]
            [it.join() for it in threads]
            assert failures == []
            assert counts["created"] > 100 and counts["lost"] > 0, counts
            allocator.validate()
