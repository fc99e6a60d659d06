"""`ReplayReport`: what came of a replay."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from vk_mem._lazy import load
from vk_mem.errors import TraceError
from vk_mem.text import counted, size_text

if TYPE_CHECKING:
    from vk_mem._vk_mem import _Replayed
    from vk_mem.dump.model import Dump
    from vk_mem.trace.trace import Trace

__all__ = [
    "Calls",
    "Comparison",
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
    "ReplayReport",
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


class ReplayReport:
    """What came of a replay: from `Trace.replay` and `Trace.compare`.

    Prints as a table. Sizes are in bytes, times in nanoseconds, events are indices in the trace. It
    is a source of `vk_mem.view` and `vk_mem.diff`, as an `Allocator` is: its allocator as it is at
    the end.
    """

    name: str
    """Name of the settings."""
    device: str
    """Name of the device."""
    events: int
    """Number of events that were played or passed over."""
    calls: int
    """Number of calls that were played."""
    skipped: dict[str, int]
    """Why events were passed over, and how many."""
    begins_in_the_middle: bool
    """Whether the trace tells of what existed before its first call: that was made anew,
    elsewhere."""
    functions: dict[str, Calls]
    """Calls by the kinds of events."""
    wall_time: int
    """Time that the replay took."""
    recorded_time: int
    """Time from the first to the last event of the recording."""
    threads: int
    """Number of recorded threads."""
    busiest_thread: float
    """Share of the events that the busiest of them has."""
    frames: int
    peak_held: Peak
    """The most that was held: bytes of all memory objects."""
    peak_live: Peak
    """The most that was live: bytes of all allocations."""
    held_at_peak_live: int
    held_per_live: float
    """Bytes held for each live byte, when the most was live."""
    held: int
    """Bytes held at the end."""
    live: int
    """Bytes live at the end."""
    mean_fragmentation: float
    heaps: tuple[HeapReport, ...]
    memory_types: tuple[Total, ...]
    """Memory objects that were allocated, by memory type."""
    samples: tuple[Sample, ...]
    """Figures over time; the last sample is that at the end."""
    driver: dict[str, DriverCalls]
    """Calls of the driver by the names of its functions."""
    failed_now: Failures
    """Allocations that succeeded in the recording and failed now."""
    succeeded_now: Failures
    """Allocations that failed in the recording and succeeded now."""
    failed_again: int
    """Number of allocations that failed in both."""
    leftovers: Leftovers
    classes: dict[str, Total]
    """Resources by VmaReplay's classes."""
    moves: Total
    """Moves of defragmentations."""
    losses: Total
    """Allocations that were lost."""
    recorded_losses: int
    """Number of allocations that the recorded program lost."""
    device_differences: tuple[str, ...]
    """Properties in which the device differs from the recorded one."""
    placements: Placements
    recorded: RecordedReport | None
    """What the recorded program held, if the trace says it: PyTorch in its snapshots."""

    def __init__(self, data: _Replayed, fields: dict[str, Any] | None = None) -> None:
        """For `Trace.replay`."""
        self._data = data
        self._text = data.json()
        of = json.loads(self._text)
        of["skipped"] = dict(of["skipped"])
        of["functions"] = {name: Calls(**it) for name, it in of["functions"].items()}
        of["heaps"] = tuple(HeapReport(**it) for it in of["heaps"])
        of["memory_types"] = tuple(Total(**it) for it in of["memory_types"])
        of["samples"] = tuple(Sample(**it) for it in of["samples"])
        of["driver"] = {name: DriverCalls(**it) for name, it in of["driver"].items()}
        of["classes"] = {name: Total(**it) for name, it in of["classes"].items()}
        of["moves"], of["losses"] = Total(**of["moves"]), Total(**of["losses"])
        of["device_differences"] = tuple(of["device_differences"])
        for name in ("peak_held", "peak_live"):
            of[name] = Peak(**of[name])
        for name in ("failed_now", "succeeded_now"):
            first = tuple(FailedCall(**it) for it in of[name]["first"])
            of[name] = Failures(**{**of[name], "first": first})
        left = of["leftovers"]
        of["leftovers"] = Leftovers(
            **{**left, "first": tuple(Leftover(**it) for it in left["first"])}
        )
        first_place = of["placements"]["first"]
        of["placements"] = Placements(
            of["placements"]["checked"],
            of["placements"]["differing"],
            None if first_place is None else Difference(**first_place),
        )
        if (recorded := of["recorded"]) is not None:
            recorded.pop("held_per_live", None)
            peaks = {name: Peak(**recorded[name]) for name in ("peak_held", "peak_live")}
            of["recorded"] = RecordedReport(**{**recorded, **peaks})
        self.__dict__.update(of)

    @property
    def device_allocations(self) -> int:
        """Number of memory objects that the driver was asked for: `vkAllocateMemory`."""
        return self.driver["vkAllocateMemory"].count

    @property
    def driver_calls(self) -> int:
        """Number of calls of the driver."""
        return sum(it.count for it in self.driver.values())

    @property
    def allocators(self) -> tuple[int, ...]:
        """Numbers of the allocators that exist at the end; none in a comparison, which keeps
        none."""
        return tuple(self._data.allocators())

    @property
    def trace(self) -> Trace | None:
        """The replay as a trace of its own, with `record=True`: it says where everything went."""
        data = self._data.trace()
        if data is None:
            return None
        trace: Trace = load("vk_mem.trace.trace").Trace(data)
        return trace

    def dump(self, allocator: int = 0, *, detailed: bool = True) -> dict[str, Any]:
        """Returns a dump of an allocator as it is at the end, as `Allocator.build_stats_string`
        makes them; with `until=`, as it is before that event.

        Raises `TraceError` if there is no such allocator: it was destroyed or never there, or the
        report is one of `Trace.compare`.
        """
        text = self._data.dump(allocator, detailed)
        if text is None:
            raise TraceError(f"there is no allocator {allocator} at the end of the replay")
        found: dict[str, Any] = json.loads(text)
        return found

    def snapshot(self, allocator: int = 0) -> Dump:
        """Returns `dump` as a `vk_mem.Dump`."""
        dump: Dump = load("vk_mem.dump").load_dump(self.dump(allocator))
        return dump

    def to_json(self) -> str:
        """Returns the report as a JSON object."""
        return self._text

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as a dict, as `to_json` has it."""
        found: dict[str, Any] = json.loads(self._text)
        return found

    def __str__(self) -> str:
        return self._data.text()

    def __repr__(self) -> str:
        failed = f", {counted(self.failed_now.count, 'failure')}" if self.failed_now.count else ""
        return (
            f"<vk_mem.trace.ReplayReport {self.name!r} on {self.device}: "
            f"{counted(self.calls, 'call', ',')}, peak {size_text(self.peak_held.bytes)} held for "
            f"{size_text(self.peak_live.bytes)} live{failed}>"
        )


class Comparison(Sequence[ReplayReport]):
    """Reports of one trace with several settings: from `Trace.compare`. Prints as one table."""

    __slots__ = ("_reports",)

    def __init__(self, reports: Iterable[ReplayReport]) -> None:
        """For `Trace.compare`."""
        self._reports = tuple(reports)

    def __len__(self) -> int:
        return len(self._reports)

    @overload
    def __getitem__(self, index: int | str) -> ReplayReport: ...

    @overload
    def __getitem__(self, index: slice) -> Comparison: ...

    def __getitem__(self, index: int | str | slice) -> ReplayReport | Comparison:
        """A report by its index or the name of its settings."""
        if isinstance(index, slice):
            return Comparison(self._reports[index])
        if isinstance(index, str):
            found = next((it for it in self._reports if it.name == index), None)
            if found is None:
                raise KeyError(index)
            return found
        return self._reports[index]

    def __iter__(self) -> Iterator[ReplayReport]:
        return iter(self._reports)

    def to_json(self) -> str:
        """Returns a JSON list of all reports."""
        return f"[{', '.join(it.to_json() for it in self)}]"

    def __str__(self) -> str:
        from vk_mem._vk_mem import _Replayed

        return _Replayed.table([it._data for it in self])

    def __repr__(self) -> str:
        return f"<vk_mem.trace.Comparison of {', '.join(repr(it.name) for it in self)}>"
