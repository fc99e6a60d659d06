"""Each counter of a timeline is what `calculate_statistics` said at that moment of the program."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
import timelines
from support import DEDICATED, LOSABLE, MAPPED, RANDOM, RGBA8, TAKES, TRANSFER

import vk_mem
from vk_mem import Allocator, Debug, ImageUsage, OutOfDeviceMemoryError, SimulatedDevice
from vk_mem.trace import load

MOMENTS = 1000
BLOCK = 1 << 18
DEBUG = Debug(margin=64, detect_corruption=True, quarantine="256K")
NO_ROOM = (OutOfDeviceMemoryError, vk_mem.OutOfHostMemoryError)


class Program:
    """A random program; it notes at random moments what is held and live."""

    def __init__(self, allocator: Allocator, seed: int) -> None:
        self.allocator = allocator
        self.chance = random.Random(seed)
        self.live: list[Any] = []
        self.pools: dict[str, Any] = {}
        self.pool_of: dict[Any, Any] = {}
        self.moments: dict[str, dict[str, int]] = {}
        self.frame = 0
        self.moves = self.failures = self.losses = 0

    def run(self, recording: vk_mem.Recording, moments: int) -> None:
        actions = [self.create] * 6 + [self.end] * 4
        actions += [self.create_many, self.create_losable, self.create_image, self.begin_frame]
        rare = [
            self.open_pool,
            self.close_pool,
            self.defragment,
            self.step,
            self.end_many,
            self.lose,
            self.fail,
        ]
        while len(self.moments) < moments:
            self.chance.choice(rare if self.chance.random() < 0.03 else actions)()
            if self.chance.random() < 0.4:
                self.note(recording)

    def note(self, recording: vk_mem.Recording) -> None:
        # A thread may still give blocks back that statistics count no more; budgets do.
        while held_by_budgets(self.allocator) != held(self.allocator):
            time.sleep(0.0005)
        name = f"moment {len(self.moments)}"
        recording.mark(name)
        self.moments[name] = figures(self.allocator)

    def finish(self) -> None:
        self.allocator.destroy_many(self.live)
        for pool in self.pools.values():
            pool.close()

    # ---- what it does ----

    def attempt(self, create: Any, *given: Any, **keywords: Any) -> None:
        pool = self.chance.choice([None, *self.pools.values()])
        try:
            made = create(*given, pool=pool, **keywords)
        except NO_ROOM:
            self.failures += 1
            return
        made = made if isinstance(made, list) else [made]
        self.live += made
        self.pool_of.update(dict.fromkeys(made, pool))

    def size(self) -> int:
        return int(2 ** self.chance.uniform(0, 17))

    def create(self) -> None:
        flags = self.chance.choice([0, 0, RANDOM, RANDOM | MAPPED, RANDOM | TAKES])
        movable = self.chance.random() < 0.7
        self.attempt(
            self.allocator.create_buffer, self.size(), TRANSFER, flags=flags, movable=movable
        )
        if self.chance.random() < 0.1:
            self.live.append(
                self.allocator.create_buffer(self.size(), TRANSFER, flags=DEDICATED | RANDOM)
            )

    def create_many(self) -> None:
        sizes = [self.size() for _ in range(self.chance.randrange(1, 12))]
        self.attempt(self.allocator.create_buffers, sizes, TRANSFER, movable=True)

    def create_losable(self) -> None:
        self.attempt(
            self.allocator.create_buffer, self.size(), TRANSFER, flags=LOSABLE | RANDOM | TAKES
        )

    def create_image(self) -> None:
        side = self.chance.randrange(1, 128)
        made = self.allocator.create_image(
            RGBA8, (side, side), ImageUsage.SAMPLED, movable=self.chance.random() < 0.5
        )
        self.live.append(made)

    def end(self) -> None:
        for _ in range(self.chance.randrange(1, 5)):
            if self.live:
                self.live.pop(self.chance.randrange(len(self.live))).destroy()

    def end_many(self) -> None:
        self.chance.shuffle(self.live)
        cut = len(self.live) // 2
        self.allocator.destroy_many(self.live[cut:])
        del self.live[cut:]

    def begin_frame(self) -> None:
        self.frame += 1
        self.allocator.set_current_frame_index(self.frame)
        lost = [it for it in self.live if it.is_lost]
        self.losses += len(lost)
        self.live = [it for it in self.live if not it.is_lost]
        for it in lost:
            it.destroy()

    def lose(self) -> None:
        self.allocator.make_allocations_lost()

    def fail(self) -> None:
        self.attempt(self.allocator.create_buffer, 16 << 20, TRANSFER, flags=TAKES)

    def open_pool(self) -> None:
        if len(self.pools) >= 4:
            return
        index = self.allocator.find_memory_type_index_for_buffer_info(64, TRANSFER, flags=RANDOM)
        name = f"pool of frame {self.frame}.{self.chance.randrange(1 << 30)}"
        self.pools[name] = self.allocator.create_pool(
            memory_type_index=index,
            block_size=BLOCK,
            max_block_count=3,
            min_block_count=self.chance.randrange(2),
            algorithm=self.chance.choice(["tlsf", "buddy"]),
            name=name,
        )

    def close_pool(self) -> None:
        if not self.pools:
            return
        name = self.chance.choice(list(self.pools))
        theirs = [it for it in self.live if self.pool_of.get(it) is self.pools[name]]
        self.live = [it for it in self.live if self.pool_of.get(it) is not self.pools[name]]
        self.allocator.destroy_many(theirs)
        # What waits for frames in flight leaves it now.
        for _ in range(4):
            self.begin_frame()
        self.pools.pop(name).close()

    def defragment(self) -> None:
        pool = self.chance.choice([None, *self.pools.values()])
        self.moves += self.allocator.defragment(pool=pool, algorithm="full").allocations_moved

    def step(self) -> None:
        self.moves += self.allocator.defragment_step(max_moves=8).allocations_moved


def held_by_budgets(allocator: Allocator) -> list[int]:
    return [it.block_bytes for it in allocator.heap_budgets()]


def held(allocator: Allocator) -> list[int]:
    return [it.block_bytes for it in allocator.calculate_statistics().memory_heaps]


def figures(allocator: Allocator) -> dict[str, int]:
    """What `calculate_statistics` says, under the names of the counters."""
    statistics = allocator.calculate_statistics()
    found = {}

    def add(name: str, of: vk_mem.Statistics) -> None:
        found[f"{name} held"] = of.block_bytes
        found[f"{name} live"] = of.allocation_bytes

    for index, of in enumerate(statistics.memory_heaps):
        add(f"heap {index}", of)
    for index, of in enumerate(statistics.memory_types):
        add(f"memory type {index}", of)
    for pool in statistics.pools:
        add(f"{pool.name}", pool.statistics)
    return found


def check(program: Program, timeline: timelines.Timeline, shares_heap: bool) -> None:
    """Compares all counters at all moments; a pool that is closed holds nothing."""
    assert len(program.moments) == MOMENTS
    compared: dict[str, int] = {}
    for moment, expected in program.moments.items():
        for track, value in timeline.marks[moment].items():
            if track.endswith("budget"):
                continue
            name = track.split(": ", 1)[-1] if track.startswith("pool ") else track
            assert value == expected.get(name, 0), f"{track} at {moment}"
            kind = name.split(" ", 1)[0] + track[-5:]
            compared[kind] = compared.get(kind, 0) + 1
        # What has no counter yet holds nothing; types have one where they share a heap.
        shown = {it.split(": ", 1)[-1] for it in timeline.marks[moment]}
        for name, value in expected.items():
            assert name in shown or value == 0 or name.startswith("memory type"), name
    assert compared["heap held"] >= MOMENTS and compared["heap live"] >= MOMENTS
    assert compared["pool held"] > MOMENTS / 2 and compared["pool live"] > MOMENTS / 2
    if shares_heap:
        assert compared["memory held"] >= MOMENTS and compared["memory live"] >= MOMENTS
    assert program.losses and program.failures and program.moves


def allocator_of(profile: str, **keywords: Any) -> Allocator:
    device = SimulatedDevice(profile)
    return Allocator(
        device,
        preferred_block_size=BLOCK,
        preferred_small_heap_block_size=BLOCK,
        heap_size_limits=[8 << 20] * len(device.memory_properties.memory_heaps),
        **keywords,
    )


CASES = {
    "discrete-8gib-bar": {"defragment_when_full": True},
    "integrated": {"debug": DEBUG},
}


@pytest.mark.parametrize("is_live", [False, True], ids=["exported", "live"])
@pytest.mark.parametrize("profile", CASES)
def test_counters_are_the_statistics(profile: str, is_live: bool, tmp_path: Path) -> None:
    path = tmp_path / ("x.pftrace" if is_live else "program.vkmem")
    with allocator_of(profile, **CASES[profile]) as allocator:
        program = Program(allocator, 7)
        with vk_mem.record(allocator, path) as recording:
            program.run(recording, MOMENTS)
        program.finish()
    if not is_live:
        load(path).to_perfetto(tmp_path / "x.pftrace")
    read = {name: timelines.read(tmp_path / "x.pftrace", name) for name in timelines.READERS}
    check(program, read["own"], shares_heap=profile == "integrated")
    assert read["official"] == read["own"]
