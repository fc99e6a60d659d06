"""What all events of a trace have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

__all__ = ["Event"]


@dataclass(frozen=True, slots=True)
class Event:
    """A call, or something that happened during one, with its time, thread and frame."""

    index: int
    """Its index in the trace: `trace[index]`, and `until=` of a replay."""
    sequence: int
    """Position in the order of all calls; gaps are events that were not kept."""
    time: int
    """Nanoseconds since the start of the recording."""
    thread: int
    """Number of the thread; in foreign traces the thread's id."""
    frame: int
    """Index of the current frame."""
    allocator: int
    """Number of the allocator; the device in snapshots of PyTorch."""
    call_site: str | None
    """Where it was called, if that was tracked: one `file:line in function` per line, innermost
    first."""
    is_state: bool
    """Whether it happened before the recording began, and tells what existed then."""

    kind: ClassVar[str] = ""
    """Name of the kind in lower case."""
