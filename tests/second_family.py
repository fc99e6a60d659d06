"""A second queue family in front of a driver that has one: its queue is the driver's only queue.

It keeps books of what Vulkan demands of two families, which the driver does not see: that each
change of owner is released by a queue of the one family and then acquired by a queue of the other
with equal ranges and layouts, and that each binary semaphore is signalled once and then waited for
once.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any

from odd_driver import Function, OddDriver, peek, poke

TRANSFER = 4
SPARSE_BINDING = 8
IGNORED = 0xFFFFFFFF
FAMILY_SIZE = 24
QUEUE_INFO_COUNT = 20
POOL_FAMILY = 20
COMMAND_POOL = 16
BUFFER_COUNT = 28
SHARING_MODE = 36
FAMILY_COUNT = 40
SUBMIT_SIZE = 72
BUFFER_BARRIER_SIZE = 56
IMAGE_BARRIER_SIZE = 72

QUEUE = 0xFAC0
"""What stands for the queue of the second family."""


class SecondFamily:
    """Changes an `OddDriver`, before a device is opened with it."""

    def __init__(
        self,
        driver: OddDriver,
        flags: int = TRANSFER | SPARSE_BINDING,
        granularity: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        self.wrong: list[str] = []
        """Rules that were broken."""
        self.changes = 0
        """Changes of owner that were completed."""
        self.submits: list[int] = []
        """The family of each `vkQueueSubmit`."""
        self.holds: Any = None
        """Called at each use of a queue with its family."""
        self.live: set[tuple[str, int]] = set()
        """Command pools, fences and semaphores that were created and not destroyed."""
        self._family = struct.pack("6I", flags, 1, 0, *granularity)
        self._pools: dict[int, int] = {}
        self._buffers: dict[int, int] = {}
        self._barriers: dict[int, list[tuple[int, int, tuple[int, ...]]]] = {}
        self._released: list[tuple[int, int, tuple[int, ...]]] = []
        self._signalled: set[int] = set()
        self._timelines: set[int] = set()
        self._queue = 0
        for what in ("CommandPool", "Fence", "Semaphore"):
            self._count(driver, what)
        for name in (
            "vkGetPhysicalDeviceQueueFamilyProperties",
            "vkCreateDevice",
            "vkGetDeviceQueue",
            "vkCreateCommandPool",
            "vkAllocateCommandBuffers",
            "vkBeginCommandBuffer",
            "vkCreateBuffer",
            "vkGetDeviceBufferMemoryRequirements",
            "vkCreateSemaphore",
            "vkCmdPipelineBarrier",
            "vkQueueSubmit",
            "vkQueueWaitIdle",
        ):
            driver.instead(name, getattr(self, "_" + name))

    def _count(self, driver: OddDriver, what: str) -> None:
        def create(original: Function, device: int, info: int, callbacks: Any, made: int) -> Any:
            result = original(device, info, callbacks, made)
            if result == 0:
                self.live.add((what, peek(made, "Q")))
            return result

        def destroy(original: Function, device: int, handle: int, callbacks: Any) -> None:
            self.live.discard((what, handle))
            original(device, handle, callbacks)

        driver.instead(f"vkCreate{what}", create)
        driver.instead(f"vkDestroy{what}", destroy)

    def check(self) -> None:
        assert self.wrong == []
        assert self._released == [], "released, and never acquired"
        assert self._signalled == set(), "signalled, and nobody waits"

    def _vkGetPhysicalDeviceQueueFamilyProperties(
        self, original: Function, device: int, count: int, found: int | None
    ) -> None:
        room = peek(count, "I")
        if found:
            # Only the first family of the driver is seen.
            poke(count, "I", 1)
            original(device, count, found)
            if room > 1:
                ctypes.memmove(found + FAMILY_SIZE, self._family, FAMILY_SIZE)
        poke(count, "I", min(room, 2) if found else 2)

    def _vkCreateDevice(self, original: Function, physical: int, info: int, *rest: Any) -> Any:
        count = peek(info + QUEUE_INFO_COUNT, "I")
        poke(info + QUEUE_INFO_COUNT, "I", 1)
        try:
            return original(physical, info, *rest)
        finally:
            poke(info + QUEUE_INFO_COUNT, "I", count)

    def _vkGetDeviceQueue(
        self, original: Function, device: int, family: int, index: int, queue: int
    ) -> None:
        if family == 1:
            poke(queue, "Q", QUEUE)
            return
        original(device, family, index, queue)

    def main_queue(self, queue: int) -> None:
        self._queue = queue

    def _vkCreateCommandPool(
        self, original: Function, device: int, info: int, callbacks: int | None, pool: int
    ) -> Any:
        family = peek(info + POOL_FAMILY, "I")
        poke(info + POOL_FAMILY, "I", 0)
        result = original(device, info, callbacks, pool)
        poke(info + POOL_FAMILY, "I", family)
        self._pools[peek(pool, "Q")] = family
        return result

    def _vkAllocateCommandBuffers(
        self, original: Function, device: int, info: int, buffers: int
    ) -> Any:
        result = original(device, info, buffers)
        for index in range(peek(info + BUFFER_COUNT, "I")):
            buffer = peek(buffers + 8 * index, "Q")
            self._buffers[buffer] = self._pools[peek(info + COMMAND_POOL, "Q")]
        return result

    def _vkBeginCommandBuffer(self, original: Function, buffer: int, info: int) -> Any:
        self._barriers[buffer] = []
        return original(buffer, info)

    def _exclusive(self, info: int, call: Any) -> Any:
        mode, count = peek(info + SHARING_MODE, "I"), peek(info + FAMILY_COUNT, "I")
        poke(info + SHARING_MODE, "I", 0)
        poke(info + FAMILY_COUNT, "I", 0)
        try:
            return call()
        finally:
            poke(info + SHARING_MODE, "I", mode)
            poke(info + FAMILY_COUNT, "I", count)

    def _vkCreateBuffer(self, original: Function, device: int, info: int, *rest: Any) -> Any:
        return self._exclusive(info, lambda: original(device, info, *rest))

    def _vkGetDeviceBufferMemoryRequirements(
        self, original: Function, device: int, info: int, found: int
    ) -> Any:
        return self._exclusive(peek(info + 16, "Q"), lambda: original(device, info, found))

    def _vkCreateSemaphore(
        self, original: Function, device: int, info: int, callbacks: int | None, semaphore: int
    ) -> Any:
        result = original(device, info, callbacks, semaphore)
        if peek(info + 8, "Q"):
            self._timelines.add(peek(semaphore, "Q"))
        return result

    def _vkCmdPipelineBarrier(
        self,
        original: Function,
        buffer: int,
        before: int,
        after: int,
        flags: int,
        count: int,
        memory: int | None,
        buffer_count: int,
        buffers: int | None,
        image_count: int,
        images: int | None,
    ) -> None:
        changes = []
        for number, first, size, families, what in (
            (buffer_count, buffers, BUFFER_BARRIER_SIZE, 24, "QQQ"),
            (image_count, images, IMAGE_BARRIER_SIZE, 32, "Q5I"),
        ):
            for index in range(number):
                at = (first or 0) + index * size
                source, target = peek(at + families, "I"), peek(at + families + 4, "I")
                if source != target:
                    key = struct.unpack(
                        what, ctypes.string_at(at + families + 8, struct.calcsize(what))
                    )
                    if size == IMAGE_BARRIER_SIZE:
                        key += struct.unpack("II", ctypes.string_at(at + 24, 8))
                    changes.append((source, target, key))
                poke(at + families, "I", IGNORED)
                poke(at + families + 4, "I", IGNORED)
        self._barriers[buffer] += changes
        original(
            buffer, before, after, flags, count, memory, buffer_count, buffers, image_count, images
        )

    def _vkQueueSubmit(
        self, original: Function, queue: int, count: int, submits: int, fence: int
    ) -> Any:
        family = int(queue == QUEUE)
        if self.holds:
            self.holds(family)
        result = original(self._queue if family else queue, count, submits, fence)
        if result:
            return result
        self.submits.append(family)
        for index in range(count):
            at = submits + index * SUBMIT_SIZE
            for semaphore in self._list(at + 16, at + 24):
                if semaphore not in self._signalled:
                    self.wrong.append("waits for a semaphore that nobody signals")
                self._signalled.discard(semaphore)
            for buffer in self._list(at + 40, at + 48):
                if self._buffers[buffer] != family:
                    self.wrong.append("a command buffer of another family")
                for change in self._barriers[buffer]:
                    self._change(family, change)
            for semaphore in self._list(at + 56, at + 64):
                if semaphore in self._timelines:
                    continue
                if semaphore in self._signalled:
                    self.wrong.append("signals a semaphore twice")
                self._signalled.add(semaphore)
        return result

    def _change(self, family: int, change: tuple[int, int, tuple[int, ...]]) -> None:
        source, target, _ = change
        if family == source:
            if change in self._released:
                self.wrong.append(f"released twice: {change}")
            self._released.append(change)
        elif family != target:
            self.wrong.append(f"neither family of a change of owner: {change}")
        elif change in self._released:
            self._released.remove(change)
            self.changes += 1
        else:
            self.wrong.append(f"acquired, and not released: {change}")

    @staticmethod
    def _list(count: int, items: int) -> list[int]:
        number, first = peek(count, "I"), peek(items, "Q")
        return [peek(first + 8 * index, "Q") for index in range(number)]

    def _vkQueueWaitIdle(self, original: Function, queue: int) -> Any:
        if self.holds:
            self.holds(int(queue == QUEUE))
        return original(self._queue if queue == QUEUE else queue)

    def forget(self) -> None:
        """After a failure semaphores and released parts may be left that are destroyed."""
        self._released.clear()
        self._signalled.clear()
