"""The trace of `day_cases.py`, which a test runs as well: levels that are loaded, streamed through,
and unloaded but for a tenth, as that of `crates/peers/src/cases/blocks.rs`."""

from __future__ import annotations

import math
import random
import time
from typing import NamedTuple

from vk_mem import Allocator, Buffer, BufferUsage, DefragmentationPolicy, Device

MIB = 1 << 20
BLOCK = 256 * MIB
STEPS_PER_FRAME = 4
"""Buffers that are created or destroyed in a frame; one has 2.7 MiB before it is scaled."""


class Phase(NamedTuple):
    """A part of the day: sizes to create, or `~index` of the live one to destroy, whose place the
    last one takes."""

    name: str
    steps: list[int]


class Held(NamedTuple):
    """What a phase was like."""

    name: str
    mean: float
    """Bytes of blocks over bytes of allocations, as the mean of its frames."""
    end: float
    """The ratio at its end."""


class Day(NamedTuple):
    """What a day was like."""

    phases: list[Held]
    milliseconds: list[float]
    """Host time of each frame, in ascending order."""
    moved: int
    """Bytes that were moved."""
    allocated: int
    """Bytes that were created."""

    def of(self, name: str) -> list[Held]:
        """The phases of that name."""
        return [it for it in self.phases if it.name == name]


def day(levels: int, level_bytes: int, scale: int, seed: int = 3) -> list[Phase]:
    """Sizes are those of a game, divided by `scale`."""
    chance = random.Random(seed)

    def size() -> int:
        # Mostly meshes and small buffers, some textures, few render targets.
        kind = chance.randrange(100)
        low, high = (
            (256, 2 * MIB) if kind < 80 else (MIB, 24 * MIB) if kind < 98 else (16 * MIB, 96 * MIB)
        )
        return max(16, int(math.exp(chance.uniform(math.log(low), math.log(high))) / scale))

    live: list[int] = []
    phases: list[Phase] = []

    def create(steps: list[int]) -> int:
        live.append(size())
        steps.append(live[-1])
        return live[-1]

    def destroy(steps: list[int]) -> int:
        at = chance.randrange(len(live))
        live[at], live[-1] = live[-1], live[at]
        steps.append(~at)
        return live.pop()

    for _ in range(levels):
        held = sum(live)
        load: list[int] = []
        stream: list[int] = []
        unload: list[int] = []
        while held < level_bytes:
            held += create(load)
        for _ in range(4 * len(live)):
            # Within a tenth of the bytes that were loaded.
            is_full = held > level_bytes
            if is_full or (held * 10 > level_bytes * 9 and chance.random() < 0.5):
                held -= destroy(stream)
            else:
                held += create(stream)
        for _ in range(len(live) * 9 // 10):
            destroy(unload)
        phases += [Phase("load", load), Phase("stream", stream), Phase("unload", unload)]
    return phases


def spend(device: Device, phases: list[Phase], scale: int, *, auto: bool) -> Day:
    """Makes the steps of a day; blocks and the bytes of a frame are scaled as the sizes are."""
    policy = DefragmentationPolicy(max_bytes=DefragmentationPolicy().max_bytes // scale)
    held: list[Held] = []
    taken: list[float] = []
    moved = allocated = frame = 0
    with Allocator(
        device,
        preferred_block_size=BLOCK // scale,
        preferred_small_heap_block_size=BLOCK // scale,
        frames_in_flight=2,
        auto_defragment=policy if auto else None,
    ) as allocator:
        live: list[Buffer] = []

        @allocator.on_move
        def count(moves: list[object]) -> None:
            nonlocal moved
            moved += sum(it.new_location.size for it in moves)  # type: ignore[attr-defined]

        def ratio() -> tuple[int, int]:
            total = allocator.calculate_statistics().total
            return total.block_bytes, total.allocation_bytes

        for name, steps in phases:
            block_bytes = live_bytes = 0
            for start in range(0, len(steps), STEPS_PER_FRAME):
                began = time.perf_counter()
                for step in steps[start : start + STEPS_PER_FRAME]:
                    if step >= 0:
                        usage = BufferUsage.VERTEX_BUFFER
                        live.append(allocator.create_buffer(step, usage, movable=True))
                        allocated += step
                    else:
                        live[~step], live[-1] = live[-1], live[~step]
                        live.pop().destroy()
                frame += 1
                allocator.set_current_frame_index(frame)
                taken.append((time.perf_counter() - began) * 1e3)
                now = ratio()
                block_bytes, live_bytes = block_bytes + now[0], live_bytes + now[1]
            now = ratio()
            held.append(Held(name, block_bytes / live_bytes, now[0] / now[1]))
        allocator.on_move(None)
        allocator.destroy_many(live)
    return Day(held, sorted(taken), moved, allocated)
