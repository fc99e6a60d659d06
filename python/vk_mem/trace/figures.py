"""The parts of a `ReplayReport`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "Calls",
    "Difference",
    "DriverCalls",
    "FailedCall",
    "Failures",
    "HeapReport",
    "Leftover",
    "Leftovers",
    "Peak",
    "Placements",
    "RecordedReport",
    "Sample",
    "Total",
]


@dataclass(frozen=True, slots=True)
class Peak:
    """The most of something, and the event after which it was so."""

    bytes: int
    event: int


@dataclass(frozen=True, slots=True)
class Total:
    """Some objects of one kind."""

    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls of one kind that were played."""

    count: int
    failed: int
    time: int
    """Nanoseconds in all of them."""


@dataclass(frozen=True, slots=True)
class DriverCalls:
    """Calls of one function of the driver."""

    count: int
    failed: int


@dataclass(frozen=True, slots=True)
class FailedCall:
    """An allocation that failed where it did not before, or the reverse."""

    event: int
    """Its index in the trace."""
    size: int
    """In bytes."""
    what: str
    """The reason."""


@dataclass(frozen=True, slots=True)
class Failures:
    """Allocations that failed in one of both, recording and replay."""

    count: int
    bytes: int
    first: tuple[FailedCall, ...]
    """The first 16."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """An allocation that was never freed."""

    event: int
    """The event that created it."""
    size: int
    name: str | None


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What was never freed."""

    allocations: int
    bytes: int
    pools: int
    virtual_blocks: int
    virtual_allocations: int
    first: tuple[Leftover, ...]
    """The first 16 allocations."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place that is not as it was recorded."""

    event: int
    recorded: str
    now: str


@dataclass(frozen=True, slots=True)
class Placements:
    """Memory types, offsets and failures compared with those that were recorded: where the settings
    are as recorded, and the trace says where everything went."""

    checked: int
    differing: int
    first: Difference | None


@dataclass(frozen=True, slots=True)
class HeapReport:
    """A heap of the device of a replay, in bytes."""

    size: int
    held: int
    """At the end."""
    peak_held: int


@dataclass(frozen=True, slots=True)
class Sample:
    """Figures at one moment of a replay, in bytes."""

    event: int
    """The event before which it was taken."""
    time: int
    """Recorded time of that event in nanoseconds."""
    held: int
    live: int
    allocations: int
    unused_ranges: int
    largest_unused: int
    fragmentation: float
    """1 - largest unused range / all unused bytes."""


@dataclass(frozen=True, slots=True)
class RecordedReport:
    """Memory that the recorded program held, in bytes, where the trace says it."""

    peak_held: Peak
    peak_live: Peak
    held_at_peak_live: int
    held: int
    live: int

    @property
    def held_per_live(self) -> float:
        """Bytes held for each live byte, when the most was live."""
        return self.held_at_peak_live / self.peak_live.bytes if self.peak_live.bytes else 1.0
