"""Random programs that use all of an allocator, recorded from its begin, and their replays."""

from __future__ import annotations

import contextlib
import random
import time
import warnings
from pathlib import Path
from typing import Any

from support import DEDICATED, IMAGE_TRANSFER, LOSABLE, MAPPED, RANDOM, RGBA8, TAKES, TRANSFER

import vk_mem
from vk_mem import (
    AllocationCreateFlags,
    Allocator,
    BufferHeap,
    Debug,
    Recording,
    SimulatedDevice,
)
from vk_mem.trace import ReplayReport, Trace, load

KIB = 1 << 10
FAILURES = (
    vk_mem.OutOfDeviceMemoryError,
    vk_mem.OutOfHostMemoryError,
    vk_mem.MemoryMapError,
    vk_mem.TooManyObjectsError,
    vk_mem.LostError,
    # Something is bound to its memory.
    BufferError,
)


def begin(path: Path) -> Recording:
    """A recording of nothing yet."""
    return vk_mem.record([], path)


def exact(trace: Trace, **settings: Any) -> ReplayReport:
    """A replay of a recording, in which everything is where it was."""
    report = trace.replay(**settings)
    assert report.placements.differing == 0, report.placements.first
    assert (report.failed_now.count, report.succeeded_now.count) == (0, 0), report
    assert report.skipped == {}, report.skipped
    return report


def warned_while_recording(path: str | Path) -> list[str]:
    """Warnings of a recording that is made until the first one, and a while longer."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        allocator = Allocator(SimulatedDevice("discrete-8gib"), record=path)
        end = time.monotonic() + 30
        while not caught and time.monotonic() < end:
            allocator.create_buffer(64, TRANSFER).destroy()
        for _ in range(1000):
            allocator.create_buffer(64, TRANSFER).destroy()
        allocator.close()
    return [str(it.message) for it in caught]


def check_replay(
    recording: Recording, path: Path, allocator: Allocator, number: int = 0
) -> ReplayReport:
    """Replays all so far: everything is where it was, and the dumps are the same texts."""
    # Memory that a thread gives back is in use for the driver until then.
    allocator.trim()
    dumps = {detailed: allocator.build_stats_string(detailed) for detailed in (False, True)}
    recording.flush()
    report = exact(load(path))
    for detailed, dump in dumps.items():
        assert report.build_stats_string(number, detailed=detailed) == dump
    return report


class Program:
    """A random program on an allocator with everything on, or a part of that."""

    def __init__(self, seed: int, profile: str, recording: Recording, **options: Any) -> None:
        self.random = rng = random.Random(seed)
        self.device = SimulatedDevice(profile)
        self.options = {
            "heap_size_limits": [(4 << 20) + rng.randrange(1 << 20)]
            * len(self.device.memory_properties.memory_heaps),
            "preferred_block_size": 512 * KIB,
            "preferred_small_heap_block_size": 256 * KIB,
            "track_call_sites": rng.random() < 0.5,
            "frames_in_use": rng.randrange(2, 5),
            "evict_over_budget": rng.random() < 0.3,
            "defragment_when_full": rng.random() < 0.5,
            "debug": self.debug(),
            **options,
        }
        self.allocator = Allocator(self.device, record=recording, **self.options)
        self.live: list[Any] = []
        self.pools: list[Any] = []
        self.views: list[Any] = []
        self.heap = BufferHeap(self.allocator, TRANSFER, block_size=64 * KIB)
        self.slices: list[Any] = []
        self.frame = 0

    def debug(self) -> Debug | None:
        rng = self.random
        if rng.random() < 0.5:
            return None
        quarantine = rng.choice([None, 128 * KIB])
        return Debug(margin=rng.choice([0, 16, 64]), quarantine=quarantine)

    def flags(self) -> AllocationCreateFlags:
        rng = self.random
        flags = AllocationCreateFlags(0)
        for flag, share in ((RANDOM, 0.5), (MAPPED, 0.2), (DEDICATED, 0.05)):
            if rng.random() < share:
                flags |= flag
        if flags & MAPPED:
            flags |= RANDOM
        strategy = rng.choice(
            ["STRATEGY_MIN_MEMORY", "STRATEGY_MIN_TIME", "STRATEGY_MIN_OFFSET", None, None]
        )
        return flags | (AllocationCreateFlags[strategy] if strategy else 0)

    def size(self) -> int:
        return self.random.randrange(1, 1 << self.random.randrange(4, 18))

    def create(self) -> Any:
        rng, allocator = self.random, self.allocator
        named = {"name": f"no. {rng.randrange(100)}"} if rng.random() < 0.3 else {}
        if rng.random() < 0.2:
            named["user_data"] = rng.choice(["a text", 17])
        pool = rng.choice(self.pools) if self.pools and rng.random() < 0.3 else None
        flags, choice = self.flags(), rng.random()
        if pool is not None:
            if pool.closed:
                return None
            keywords = {"pool": pool, "flags": flags & ~DEDICATED, **named}
            return allocator.create_buffer(self.size(), TRANSFER, **keywords)
        if choice < 0.45:
            return allocator.create_buffer(self.size(), TRANSFER, flags=flags, **named)
        if choice < 0.6:
            movable = rng.random() < 0.5
            return allocator.create_buffer(self.size(), TRANSFER, movable=movable, **named)
        if choice < 0.8:
            flags = LOSABLE | (TAKES if rng.random() < 0.7 else 0)
            priority = rng.choice([None, 0.0, 0.5, 1.0])
            movable = rng.random() < 0.5
            return allocator.create_buffer(
                self.size(), TRANSFER, flags=flags, priority=priority, movable=movable, **named
            )
        if choice < 0.9:
            side = rng.randrange(1, 128)
            return allocator.create_image(RGBA8, (side, side), IMAGE_TRANSFER, **named)
        return allocator.allocate_memory(self.size(), rng.choice([1, 256]), flags=flags, **named)

    def make_pool(self) -> None:
        rng = self.random
        index = self.allocator.find_memory_type_index_for_buffer_info(
            64, TRANSFER, flags=rng.choice([0, RANDOM])
        )
        pool = self.allocator.create_pool(
            memory_type_index=index,
            block_size=128 * KIB,
            min_block_count=rng.randrange(2),
            max_block_count=rng.randrange(1, 4),
            algorithm=rng.choice(["tlsf", "linear", "buddy"]),
            name=rng.choice([None, "a pool"]),
        )
        self.pools.append(pool)

    def alive(self) -> list[Any]:
        self.live = [it for it in self.live if it.alive]
        return self.live

    def pick(self) -> Any:
        alive = self.alive()
        return self.random.choice(alive) if alive else None

    def step(self) -> None:
        rng, choice = self.random, self.random.random()
        it = self.pick()
        if choice < 0.42 or it is None:
            made = self.create()
            if made is not None:
                self.live.append(made)
        elif choice < 0.66:
            retires = hasattr(it, "retire") and rng.random() < 0.3
            it.retire() if retires else self.allocator.destroy_many([it])
        elif choice < 0.69:
            self.frame += 1
            self.allocator.set_current_frame_index(self.frame)
        elif choice < 0.72:
            self.allocator.destroy_many(rng.sample(self.live, len(self.live) // 4))
        elif choice < 0.75:
            sizes = [self.size() for _ in range(rng.randrange(1, 20))]
            self.live += self.allocator.create_buffers(sizes, TRANSFER)
        elif choice < 0.77:
            it.name = rng.choice([None, "renamed"])
        elif choice < 0.79:
            it.user_data = rng.choice([None, "other", 5])
        elif choice < 0.83:
            refusals = (vk_mem.InvalidArgumentError, vk_mem.FeatureNotPresentError)
            with contextlib.suppress(*refusals), it.map():
                pass
        elif choice < 0.85:
            it.touch()
        elif choice < 0.86:
            self.allocator.defragment(
                algorithm=rng.choice(["fast", "balanced", "full"]),
            )
        elif choice < 0.87 and len(self.pools) < 6:
            self.make_pool()
        elif choice < 0.875:
            self.device.fail_next("vkAllocateMemory", rng.randrange(1, 3))
        elif choice < 0.88:
            self.allocator.make_allocations_lost()
        elif choice < 0.885:
            self.allocator.trim()
        elif choice < 0.89:
            self.allocator.heap_budgets()
        elif choice < 0.9:
            self.allocator.calculate_statistics()
        elif choice < 0.93:
            self.slices.append(self.heap.allocate(rng.randrange(1, 5000)))
        elif choice < 0.95 and self.slices:
            self.slices.pop(rng.randrange(len(self.slices))).free()
        elif choice < 0.97:
            made = self.allocator.create_buffer(4096, TRANSFER, flags=CAN_ALIAS)
            self.live.append(made)
            self.live.append(self.allocator.create_aliasing_buffer(made, 1024, TRANSFER))

    def run(self, steps: int) -> None:
        for _ in range(steps):
            with contextlib.suppress(*FAILURES):
                self.step()

    def end(self) -> None:
        for it in self.slices:
            it.free()
        self.heap.close()
        self.device.clear_failures()
        with warnings.catch_warnings():
            # It releases all that is left.
            warnings.simplefilter("ignore", ResourceWarning)
            self.allocator.close()


class RoomProgram:
    """A random program whose large requests find room at the cost of small resources, of which
    those that stay move together."""

    def __init__(self, seed: int, profile: str, recording: Recording) -> None:
        self.random = rng = random.Random(seed)
        self.device = SimulatedDevice(profile)
        self.allocator = Allocator(
            self.device,
            record=recording,
            frames_in_flight=rng.choice([0, 0, 2]),
            defragment_when_full=True,
            debug=Debug(margin=16) if rng.random() < 0.2 else None,
            track_call_sites=rng.random() < 0.5,
        )
        self.pool = self.allocator.create_pool(
            memory_type_index=self.allocator.find_memory_type_index_for_buffer_info(64, TRANSFER),
            block_size=rng.choice([128, 256]) * KIB,
            max_block_count=rng.randrange(1, 3),
            algorithm=rng.choice(["tlsf", "tlsf", "buddy"]),
        )
        self.live: list[Any] = []
        self.frame = 0
        with contextlib.suppress(*FAILURES):
            while True:
                self.create()

    def create(self) -> None:
        rng = self.random
        named = {"name": f"no. {rng.randrange(100)}"} if rng.random() < 0.3 else {}
        made = self.allocator.create_buffer(
            rng.randrange(1, 8) * KIB,
            TRANSFER,
            pool=self.pool,
            flags=LOSABLE if rng.random() < 0.95 else 0,
            movable=rng.random() < 0.9,
            priority=rng.choice([None, None, 0.0, 1.0]),
            **named,
        )
        self.live.append(made)

    def step(self) -> None:
        rng = self.random
        self.live = [it for it in self.live if it.alive]
        choice = rng.random()
        if choice < 0.3:
            for it in rng.sample(self.live, len(self.live) // 4):
                it.touch()
        elif choice < 0.6:
            self.frame += rng.randrange(1, 20)
            self.allocator.set_current_frame_index(self.frame)
        elif choice < 0.85:
            flags = TAKES | (LOSABLE if rng.random() < 0.8 else 0)
            size = rng.randrange(8, 64) * KIB
            self.live.append(
                self.allocator.create_buffer(size, TRANSFER, pool=self.pool, flags=flags)
            )
        elif choice < 0.95 and self.live:
            it = rng.choice(self.live)
            it.retire() if rng.random() < 0.5 else it.destroy()
        elif choice < 0.97:
            # Any call of the moves may be the one that fails.
            self.device.fail_call(self.device.fallible_call_count + rng.randrange(30))
        else:
            self.create()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            with contextlib.suppress(*FAILURES):
                self.step()
        self.device.clear_failures()

    def end(self) -> None:
        with warnings.catch_warnings():
            # It releases all that is left.
            warnings.simplefilter("ignore", ResourceWarning)
            self.allocator.close()


CAN_ALIAS = AllocationCreateFlags.CAN_ALIAS
__all__ = [
    "FAILURES",
    "Program",
    "RoomProgram",
    "begin",
    "check_replay",
    "exact",
    "warned_while_recording",
]
