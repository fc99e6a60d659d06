"""The targets of random calls: resources with known contents, and state that workers share."""

from __future__ import annotations

import itertools
import random
from collections import deque
from typing import Any

from support import RANDOM, TRANSFER

import vk_mem
from vk_mem import Allocation, Allocator, BufferHeap, BufferUsage, VirtualBlock

__all__ = ["Held", "Place"]


class Held:
    """A resource, and what has to be true of it. `data` is None where nobody knows its contents."""

    def __init__(
        self, resource: Any, size: int, name: str | None, user_data: object = None
    ) -> None:
        self.resource = resource
        self.size = size
        self.name = name
        self.user_data = user_data
        self.is_labelled = True
        """Whether name and user data are those; unknown where an interrupt came between."""
        self.data: bytes | None = None

    @property
    def is_buffer(self) -> bool:
        return isinstance(self.resource, vk_mem.Buffer)

    @property
    def said(self) -> str:
        """For a failure."""
        it = self.resource if isinstance(self.resource, Allocation) else self.resource.allocation
        where = f"type {it.memory_type_index} {it.memory_properties!r}"
        return f"{self.resource!r} at {it.offset} of {it.device_memory:#x}, {where}"

    def check(self) -> None:
        """Contents, name and user data are those that were given."""
        if self.data is not None:
            found = self.resource.read()
            assert found == self.data, f"contents of {self.said}: {difference(found, self.data)}"
        if self.is_labelled:
            assert self.resource.name == self.name
            assert self.resource.user_data is self.user_data


def difference(found: bytes, expected: bytes) -> str:
    """Where they differ, in words."""
    wrong = [
        it for it, (one, other) in enumerate(zip(found, expected, strict=True)) if one != other
    ]
    return f"{len(wrong)} wrong bytes from {wrong[0]} to {wrong[-1]} of {len(expected)}"


class Place:
    """What all workers on one allocator share."""

    def __init__(self, allocator: Allocator, dice: random.Random) -> None:
        self.allocator = allocator
        self.device = allocator.device
        self.frames = itertools.count(1)
        self.handed_over: deque[Held] = deque()
        self.block = VirtualBlock(1 << 24, algorithm=dice.choice(["tlsf", "buddy", "tlsf"]))
        self.heaps = [
            BufferHeap(allocator, BufferUsage.UNIFORM_BUFFER, block_size=1 << 16, flags=RANDOM),
            BufferHeap(allocator, TRANSFER, block_size=1 << 14, algorithm="buddy"),
        ]
        index = allocator.find_memory_type_index_for_buffer_info(64, TRANSFER, flags=RANDOM)
        self.pools = [
            allocator.create_pool(memory_type_index=index, name="shared", block_size=1 << 18),
            allocator.create_pool(
                memory_type_index=index,
                name="shared buddy",
                block_size=1 << 18,
                algorithm="buddy",
                max_block_count=3,
                fallback=dice.random() < 0.5,
            ),
            allocator.create_pool(
                memory_type_index=index,
                name="shared linear",
                block_size=1 << 18,
                algorithm="linear",
                max_block_count=4,
            ),
        ]
        self.memory_type_index = index

    def pass_frames(self) -> None:
        """So many that all that was retired or dropped is gone."""
        for _ in range(self.allocator.frames_in_flight + 2):
            self.allocator.set_current_frame_index(next(self.frames))

    def end(self) -> None:
        """Destroys what is shared. All workers have ended."""
        while self.handed_over:
            self.handed_over.pop().resource.destroy()
        self.block.validate()
        self.block.clear()
        for heap in self.heaps:
            heap.close()
        # What was retired lives for some frames.
        self.pass_frames()
        for pool in self.pools:
            pool.close()
        # Margins of heaps go through its rings.
        self.allocator.transfers.close()
