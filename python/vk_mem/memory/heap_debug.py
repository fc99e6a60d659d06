"""What a `BufferHeap` does to find faults of a program: its options, its slices in quarantine."""

from __future__ import annotations

from collections import deque
from dataclasses import fields
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from vk_mem.debugging.options import Debug, refuse_all_but

if TYPE_CHECKING:
    from vk_mem._vk_mem import Allocator

ALLOWED = ("fill", "fill_on_free", "margin", "detect_corruption", "quarantine", "check")


def debug_of_heap(debug: Debug | None, allocator: Allocator) -> Debug:
    """Returns the options of a heap: what is given, else those of its allocator that it has."""
    if debug is None:
        its = allocator.debug
        if its is None:
            return Debug()
        return Debug(**{it.name: getattr(its, it.name) for it in fields(its) if it.name in ALLOWED})
    return refuse_all_but(debug, ALLOWED, "a BufferHeap")


def is_watched(debug: Debug) -> bool:
    """Whether slices are filled or checked; a margin that nobody checks is room only."""
    fills = debug.fill is not None or debug.fill_on_free is not None
    return fills or debug.quarantine is not None or debug.detect_corruption


_Place = TypeVar("_Place")


class _Waiting(NamedTuple, Generic[_Place]):
    place: _Place
    size: int
    frame: int


class SliceQuarantine(Generic[_Place]):
    """Freed slices whose memory is not given out again yet, the oldest first. The heap locks it."""

    def __init__(self, debug: Debug) -> None:
        self._most, self._frames = debug._quarantine_limits()
        self._waiting: deque[_Waiting[_Place]] = deque()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, place: _Place, size: int, frame: int) -> None:
        """Adds a slice that was freed in a frame."""
        self._waiting.append(_Waiting(place, size, frame))
        self.bytes += size

    def take(self, frame: int | None) -> list[_Place]:
        """Removes and returns what is to leave in a frame; all if that is None."""
        leaving: list[_Place] = []
        while self._waiting and (frame is None or self._is_overdue(self._waiting[0], frame)):
            it = self._waiting.popleft()
            self.bytes -= it.size
            leaving.append(it.place)
        return leaving

    def _is_overdue(self, it: _Waiting[_Place], frame: int) -> bool:
        if self._frames is None:
            return self._most is None or self.bytes > self._most
        # A 32-bit frame index may have wrapped around.
        return (frame - it.frame) % (1 << 32) >= self._frames
