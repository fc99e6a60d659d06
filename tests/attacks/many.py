"""Thousands of pools, allocators and devices: all their memory is released."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support import RANDOM, TRANSFER, totals
from systems import open_descriptors

from attacks.apart import apart
from attacks.devices import check_device
from attacks.registry import Budget, attack
from vk_mem import Allocator, Pool, SimulatedDevice, TooManyObjectsError

PROFILES = SimulatedDevice.profile_names()
SLACK = 4 << 20
"""Bytes that the process may keep: arenas of Python and of the C library end as a whole only."""


@attack("many_objects", short=9)
@apart
def many_objects(seed: int, budget: Budget) -> None:
    """Makes ever more pools, allocators and devices, uses them and ends them in random order."""
    for number, dice in budget.cases(seed):
        with budget.case(seed, number):
            name, least, most, run = KINDS[number % len(KINDS)]
            count = min(least << (number // len(KINDS)), most)
            # The first time makes arenas and loads modules, of which the second makes use.
            run(count, dice)
            before = standing()
            run(count, dice)
            now = standing()
            budget.counted[name] += 2 * count
            assert now[0] == before[0], f"descriptors: {before[0]} before, {now[0]} now"
            grown = now[1] - before[1]
            assert grown < SLACK, f"{grown} bytes more after {count} {name}"


def standing() -> tuple[int, int]:
    """How many descriptors are open, and how many bytes are resident (0 where nobody says)."""
    gc.collect()
    resident = 0
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
        pages = Path("/proc/self/statm").read_text().split()[1]
        resident = int(pages) * os.sysconf("SC_PAGE_SIZE")
    return open_descriptors(), resident


def pools(count: int, dice: random.Random) -> None:
    """All at once, on one allocator."""
    device = SimulatedDevice(dice.choice(PROFILES))
    with Allocator(device) as allocator:
        index = allocator.find_memory_type_index_for_buffer_info(64, TRANSFER, flags=RANDOM)
        made: list[Pool] = []
        for number in range(count):
            made.append(
                allocator.create_pool(
                    memory_type_index=index,
                    name=f"pool {number}",
                    block_size=4096,
                    algorithm=dice.choice(["tlsf", "linear", "buddy"]),
                )
            )
            # Used, some of them, while the others are there.
            if dice.random() < 0.1:
                use(allocator, made[dice.randrange(len(made))])
            if dice.random() < 0.3:
                made.pop(dice.randrange(len(made))).close()
        statistics = allocator.calculate_statistics()
        assert len(statistics.pools) == len(made)
        dice.shuffle(made)
        for pool in made:
            pool.close()
        allocator.validate()
        assert totals(allocator).block_count <= 1 and allocator.calculate_statistics().pools == []
    check_device(device)


def use(allocator: Allocator, pool: Pool) -> None:
    with allocator.create_buffer(256, TRANSFER, pool=pool, flags=RANDOM) as buffer:
        buffer.write(bytes(256))
        assert pool.statistics().allocation_count == 1


def allocators(count: int, dice: random.Random) -> None:
    """All at once, on one device."""
    device = SimulatedDevice(dice.choice(PROFILES))
    made = [used(device, dice) for _ in range(count)]
    end(made, dice)
    check_device(device)


def devices(count: int, dice: random.Random) -> None:
    """All at once, each with an allocator."""
    made = []
    for number in range(count):
        device = SimulatedDevice(PROFILES[number % len(PROFILES)])
        made.append(used(device, dice) if dice.random() < 0.8 else device)
    kept = [it if isinstance(it, SimulatedDevice) else it[0].device for it in made]
    dice.shuffle(kept)
    end([it for it in made if not isinstance(it, SimulatedDevice)], dice)
    del made[:]
    while kept:
        check_device(kept.pop())


def used(device: SimulatedDevice, dice: random.Random) -> tuple[Allocator, list[Any]]:
    """An allocator with something in it."""
    allocator = Allocator(device, preferred_block_size=1 << 16, track_call_sites=True)
    held: list[Any] = []
    # A device has so many memory objects, for all of its allocators.
    with contextlib.suppress(TooManyObjectsError):
        for _ in range(dice.randrange(3)):
            size = dice.randrange(1, 5000)
            held.append(allocator.create_buffer(size, TRANSFER, flags=RANDOM, name="held"))
            held[-1].write(b"x" * size)
    return allocator, held


def end(made: list[tuple[Allocator, list[Any]]], dice: random.Random) -> None:
    """In random order."""
    dice.shuffle(made)
    for allocator, held in made:
        for buffer in held:
            assert buffer.read() == b"x" * buffer.size
        allocator.destroy_many(held)
        allocator.validate()
        assert totals(allocator).allocation_count == 0
        allocator.close()
    made.clear()


KINDS: tuple[tuple[str, int, int, Callable[[int, random.Random], None]], ...] = (
    ("pools", 160, 20_000, pools),
    ("allocators", 60, 8_000, allocators),
    ("devices", 40, 5_000, devices),
)
