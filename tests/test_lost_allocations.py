"""VMA 2.3's behaviours L0 to L3; who goes first, how far a request goes, the budget."""

from __future__ import annotations

import gc
import random
import threading
import warnings
from typing import Any

import pytest
from support import DEDICATED, LOSABLE, RANDOM, RGBA8, TAKES, TRANSFER, Check, pattern

import vk_mem
from vk_mem import (
    Allocator,
    Buffer,
    BufferUsage,
    Device,
    ImageUsage,
    InvalidArgumentError,
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

    @pytest.mark.parametrize("device", ["discrete-8gib", "integrated", "driver"], indirect=True)
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


ALGORITHMS = ["tlsf", "buddy", "linear"]


class TestWhoGoes:
    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_the_oldest_first(self, device: Device, algorithm: str) -> None:
        with (
            frames(device) as allocator,
            pool_of(allocator, MIB, algorithm=algorithm) as pool,
        ):
            its = []
            for frame in range(1, 17):
                allocator.set_current_frame_index(frame)
                its.append(allocator.create_buffer(64 * KIB, VERTEX, pool=pool, flags=LOSABLE))
            allocator.set_current_frame_index(17)
            order = []
            for _ in range(6):
                its.append(allocator.create_buffer(64 * KIB, VERTEX, pool=pool, flags=TAKES))
                order.append(losses(its))
            assert order == [list(range(count)) for count in range(1, 7)]
            allocator.validate()
            allocator.destroy_many(its)

    def test_a_touch_changes_the_order(self, device: Device) -> None:
        with frames(device) as allocator, pool_of(allocator, MIB) as pool:
            its = [
                allocator.create_buffer(64 * KIB, VERTEX, pool=pool, flags=LOSABLE)
                for _ in range(16)
            ]
            for frame, index in enumerate(reversed(range(16)), start=1):
                allocator.set_current_frame_index(frame)
                assert its[index].touch()
            allocator.set_current_frame_index(20)
            made = [
                allocator.create_buffer(64 * KIB, VERTEX, pool=pool, flags=TAKES) for _ in range(5)
            ]
            assert losses(its) == [11, 12, 13, 14, 15]
            allocator.destroy_many([*its, *made])

    def test_low_priority_before_age(self, device: Device) -> None:
        with frames(device) as allocator, pool_of(allocator, MIB) as pool:
            priorities = [0.9, 0.5, 0.1, None]
            its = []
            for frame in range(1, 17):
                allocator.set_current_frame_index(frame)
                priority = priorities[frame % 4]
                keywords = {} if priority is None else {"priority": priority}
                its.append(
                    allocator.create_buffer(64 * KIB, VERTEX, pool=pool, flags=LOSABLE, **keywords)
                )
            allocator.set_current_frame_index(20)
            order: list[int] = []
            for _ in range(16):
                before = set(losses(its))
                its.append(allocator.create_buffer(64 * KIB, VERTEX, pool=pool, flags=TAKES))
                order += set(losses(its)) - before
            of_frame = [priorities[(index + 1) % 4] for index in order]
            assert of_frame[:4] == [0.1] * 4 and of_frame[-4:] == [0.9] * 4
            # Those of 0.5 and those without a priority are of one class.
            assert order[4:12] == sorted(order[4:12])
            allocator.destroy_many(its)

    def test_dedicated_memory(self, device: Device) -> None:
        with Allocator(device) as plain, plain.create_buffer(256, VERTEX) as example:
            heap = device.memory_properties.memory_types[example.allocation.memory_type_index]
        limits = [None] * len(device.memory_properties.memory_heaps)
        limits[heap.heap_index] = 8 * MIB
        with frames(device, heap_size_limits=limits) as allocator:
            its = []
            for frame in range(1, 5):
                allocator.set_current_frame_index(frame)
                its.append(allocator.create_buffer(2 * MIB, VERTEX, flags=LOSABLE | DEDICATED))
            allocator.set_current_frame_index(6)
            index = its[0].allocation.memory_type_index
            allocator.set_current_frame_index(7)
            more = allocator.create_buffer(
                2 * MIB, VERTEX, flags=TAKES | DEDICATED, memory_type_bits=1 << index
            )
            assert losses(its) == [1], "the first one was asked for in frame 6"
            allocator.destroy_many([*its, more])

    @pytest.mark.parametrize("device", ["discrete-8gib", "integrated", "driver"], indirect=True)
    def test_default_pools_give_blocks_back(self, device: Device) -> None:
        with Allocator(device) as plain, plain.create_buffer(256, VERTEX) as example:
            index = example.allocation.memory_type_index
        limits = [None] * len(device.memory_properties.memory_heaps)
        limits[device.memory_properties.memory_types[index].heap_index] = 8 * MIB
        with frames(device, heap_size_limits=limits, preferred_block_size=MIB) as allocator:
            its = []
            for frame in range(1, 1000):
                allocator.set_current_frame_index(frame)
                try:
                    its.append(
                        allocator.create_buffer(
                            100 * KIB, VERTEX, flags=LOSABLE, memory_type_bits=1 << index
                        )
                    )
                except OutOfDeviceMemoryError:
                    break
            allocator.set_current_frame_index(2000)
            big = allocator.create_buffer(3 * MIB, VERTEX, flags=TAKES, memory_type_bits=1 << index)
            lost = losses(its)
            assert lost and sum(100 * KIB for _ in lost) <= 6 * MIB
            assert max(lost) < len(its) * 3 // 4, "the older ones"
            allocator.validate()
            allocator.destroy_many([*its, big])


class TestHowFar:
    def full(self, allocator: Allocator, pool: Pool) -> list[Buffer]:
        its = []
        for frame in range(1, 17):
            allocator.set_current_frame_index(frame)
            its.append(
                allocator.create_buffer(
                    64 * KIB, VERTEX, pool=pool, flags=LOSABLE, priority=frame % 2 * 0.8
                )
            )
        return its

    def test_never(self, device: Device) -> None:
        with frames(device) as allocator, pool_of(allocator, MIB) as pool:
            its = self.full(allocator, pool)
            allocator.set_current_frame_index(30)
            for keywords in ({"flags": TAKES, "evict": "never"}, {"flags": 0}, {"flags": LOSABLE}):
                with pytest.raises(OutOfDeviceMemoryError):
                    allocator.create_buffer(64 * KIB, VERTEX, pool=pool, **keywords)
            assert losses(its) == []
            allocator.destroy_many(its)

    def test_lower_priority(self, device: Device) -> None:
        with frames(device) as allocator, pool_of(allocator, MIB) as pool:
            its = self.full(allocator, pool)
            allocator.set_current_frame_index(30)
            keywords = {"pool": pool, "flags": TAKES, "evict": "lower_priority", "priority": 0.5}
            made = [allocator.create_buffer(64 * KIB, VERTEX, **keywords) for _ in range(8)]
            assert losses(its) == list(range(1, 16, 2))
            with pytest.raises(OutOfDeviceMemoryError):
                allocator.create_buffer(64 * KIB, VERTEX, **keywords)
            assert losses(its) == list(range(1, 16, 2)), "a request that fails costs nobody"
            allocator.destroy_many([*its, *made])

    def test_frames(self, device: Device) -> None:
        with frames(device) as allocator, pool_of(allocator, MIB) as pool:
            its = self.full(allocator, pool)
            allocator.set_current_frame_index(20)
            # Last used in frames 1 to 16.
            keywords: dict[str, Any] = {"pool": pool, "flags": TAKES}
            made = []
            with pytest.raises(OutOfDeviceMemoryError):
                while True:
                    made.append(allocator.create_buffer(64 * KIB, VERTEX, evict=15, **keywords))
            assert losses(its) == [0, 1, 2, 3, 4]
            made.append(allocator.create_buffer(64 * KIB, VERTEX, evict=4, **keywords))
            assert len(losses(its)) == 6
            with pytest.raises(OutOfDeviceMemoryError):
                allocator.create_buffer(64 * KIB, VERTEX, evict=2**32 - 1, **keywords)
            allocator.destroy_many([*its, *made])

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_a_request_that_fails_costs_nobody(self, device: Device, algorithm: str) -> None:
        with (
            frames(device) as allocator,
            pool_of(allocator, MIB, algorithm=algorithm) as pool,
        ):
            its = []
            for frame in range(1, 17):
                allocator.set_current_frame_index(frame)
                flags = 0 if frame == 8 else LOSABLE
                its.append(allocator.create_buffer(64 * KIB, VERTEX, pool=pool, flags=flags))
            allocator.set_current_frame_index(30)
            # The eighth cannot be lost, so no range is as long.
            with pytest.raises(OutOfDeviceMemoryError):
                allocator.create_buffer(768 * KIB, VERTEX, pool=pool, flags=TAKES)
            assert losses(its) == []
            allocator.validate()
            allocator.destroy_many(its)


class TestContents:
    def test_what_is_not_lost_keeps_its_bytes(self, device: Device) -> None:
        with frames(device) as allocator, pool_of(allocator, MIB) as pool:
            check = Check(allocator)
            contents: dict[Buffer, bytes] = {}
            rng = random.Random(3)
            for frame in range(1, 60):
                allocator.set_current_frame_index(frame)
                size = rng.randrange(1, 12) * 16 * KIB
                it = allocator.create_buffer(size, TRANSFER, pool=pool, flags=BOTH)
                contents[it] = pattern(size, frame)
                check.write(it, contents[it])
                live = [other for other in contents if not other.is_lost]
                for other in rng.sample(live, min(2, len(live))):
                    assert check.read(other) == contents[other]
            allocator.validate()
            lost = [it for it in contents if it.is_lost]
            assert 10 < len(lost) < len(contents)
            for it, data in contents.items():
                assert it.is_lost or check.read(it) == data
            allocator.destroy_many(contents)

    def test_images(self, device: Device) -> None:
        with frames(device) as allocator:
            image = allocator.create_image(
                RGBA8, (64, 64), ImageUsage.SAMPLED, flags=LOSABLE, name="tile"
            )
            memory = image.allocation.memory_type_index
            with allocator.create_pool(
                memory_type_index=memory, block_size=MIB, max_block_count=1
            ) as pool:
                its = []
                for frame in range(1, 100):
                    allocator.set_current_frame_index(frame)
                    its.append(
                        allocator.create_image(
                            RGBA8, (128, 128), ImageUsage.SAMPLED, pool=pool, flags=BOTH
                        )
                    )
                lost = [index for index, it in enumerate(its) if it.is_lost]
                assert len(lost) > 80 and lost == list(range(len(lost)))
                with pytest.raises(LostError):
                    _ = its[0].handle
                allocator.destroy_many(its)
            image.destroy()


class TestBudget:
    @pytest.mark.parametrize("in_flight", [0, 2])
    def test_a_smaller_budget(self, make_simulated: Any, in_flight: int) -> None:
        device = make_simulated("discrete-8gib")
        with Allocator(
            device,
            frames_in_flight=in_flight,
            evict_over_budget=True,
            heap_size_limits=[64 * MIB] * len(device.memory_properties.memory_heaps),
            preferred_block_size=MIB,
        ) as allocator:
            its: list[Buffer] = []
            heard: list[Buffer] = []
            allocator.on_lost(heard.extend)
            budget = 0
            frame = 0
            while True:
                frame += 1
                allocator.set_current_frame_index(frame)
                it = allocator.create_buffer(512 * KIB, VERTEX, flags=LOSABLE | DEDICATED)
                its.append(it)
                heap = device.memory_properties.memory_types[
                    it.allocation.memory_type_index
                ].heap_index
                now = allocator.heap_budgets()[heap]
                budget = now.budget
                if now.usage > budget:
                    break
            assert heard == []
            for _ in range(in_flight + 1):
                frame += 1
                allocator.set_current_frame_index(frame)
            now = allocator.heap_budgets()[heap]
            assert now.usage <= now.budget
            assert heard == [it for it in its if it.is_lost] and its[0] in heard
            assert losses(its) == list(range(len(heard))), "the oldest ones, and no more"
            assert now.usage + 512 * KIB > now.budget
            allocator.destroy_many(its)


def test_frames_in_use_must_cover_those_in_flight(device: Device) -> None:
    with pytest.raises(InvalidArgumentError, match="frames_in_use is 1, below frames_in_flight"):
        Allocator(device, frames_in_flight=2, frames_in_use=1)
