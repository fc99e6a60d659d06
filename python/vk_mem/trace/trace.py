"""`Trace`: a recording in memory; `ReplayReport`: what came of playing it again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack, overload

from vk_mem._lazy import load
from vk_mem._vk_mem import _Replayed
from vk_mem.errors import TraceError
from vk_mem.text import counted, size_text
from vk_mem.trace.figures import (
    Calls,
    Difference,
    DriverCalls,
    FailedCall,
    Failures,
    HeapReport,
    Leftover,
    Leftovers,
    Peak,
    Placements,
    RecordedReport,
    Sample,
    Total,
)
from vk_mem.trace.files import replacing
from vk_mem.trace.recorded import RecordedEvents
from vk_mem.trace.settings import (
    ReplayKeywords,
    SettingKeywords,
    native_settings,
    settings_list,
)

if TYPE_CHECKING:
    from vk_mem._vk_mem import Device
    from vk_mem.dump.model import Dump

__all__ = ["Comparison", "ReplayReport", "Trace"]

_Progress = Callable[[int, int], object]


class Trace(RecordedEvents):
    """A recording in memory: from `load`, and from `ReplayReport.trace`.

    A sequence of its events, which are made when they are asked for; `columns` has all of them as
    arrays.
    """

    __slots__ = ()

    # ---- replaying ----

    def replay(
        self,
        device: Device | str | None = None,
        *,
        progress: _Progress | None = None,
        **settings: Unpack[SettingKeywords],
    ) -> ReplayReport:
        """Plays the trace on an allocator, and returns what came of it.

        By default on a simulated device as the trace describes it, with options as recorded: a
        replay of a recording of this library puts everything where it was
        (`ReplayReport.placements`). `device` is a profile such as "integrated", a
        `SimulatedDevice`, a `Device`, on which memory is really allocated, or "gpu". The other
        settings are those of `ReplayKeywords`.

        `progress` is called with the number of events that are played and of all. The GIL is
        released meanwhile; Ctrl-C ends the replay.

        Raises `TraceError` and `InvalidArgumentError` for settings that contradict each other. What
        cannot be played is counted, and no error: `ReplayReport.skipped`.
        """
        given = {"device": device, **settings}
        return ReplayReport(self._data.replay(native_settings(self._data, given), progress))

    def compare(
        self,
        settings: Mapping[str, ReplayKeywords] | Iterable[ReplayKeywords],
        *,
        threads: int | None = None,
        progress: _Progress | None = None,
    ) -> Comparison:
        """Replays the trace with each of several settings; the result prints as one table.

            trace.compare({"small": {"block_size": 16 << 20}, "buddy": {"algorithm": "buddy"}})

        Keys are the names of the settings, which are `ReplayKeywords`. `threads` replays run side
        by side: as many as there are CPUs by default. Raises what `replay` raises.
        """
        given = settings_list(self._data, settings)
        count = threads if threads is not None else os.cpu_count() or 1
        return Comparison(map(ReplayReport, self._data.compare(given, max(count, 1), progress)))

    # ---- writing ----

    def save(self, path: str | os.PathLike[str], *, progress: _Progress | None = None) -> None:
        """Writes a recording of this library, which keeps all of it.

        `progress` is called with the number of events that are written and of all, here and by the
        other calls that write. Raises `OSError`.
        """
        replacing(path, lambda part: self._data.write(part, "vkmem", None, False, progress))

    to_vkmem = save

    def to_vma_csv(
        self, path: str | os.PathLike[str], *, progress: _Progress | None = None
    ) -> dict[str, int]:
        """Writes a recording of the Vulkan Memory Allocator, version 1,8, for VmaReplay.

        Returns the kinds of events that the format has no words for, and how many were left out.
        Raises `OSError`.
        """
        return dict(
            replacing(path, lambda part: self._data.write(part, "vma", None, False, progress))
        )

    def to_rmm_csv(
        self, path: str | os.PathLike[str], *, progress: _Progress | None = None
    ) -> dict[str, int]:
        """Writes a log of the RAPIDS Memory Manager: sizes, times, threads, streams, addresses.

        Returns the kinds of events that the format has no words for, and how many were left out.
        Raises `OSError`.
        """
        return dict(
            replacing(path, lambda part: self._data.write(part, "rmm", None, False, progress))
        )

    def to_perfetto(
        self,
        path: str | os.PathLike[str],
        *,
        allocations: int | None = None,
        resources: bool = False,
        progress: _Progress | None = None,
    ) -> None:
        """Writes a timeline for <https://ui.perfetto.dev>: counters of what was held, live and
        allowed of each heap, memory type and pool; memory objects, frames, failures, losses and
        defragmentations as slices; and `VulkanMemoryEvent` packets.

        `allocations` shows those of at least so many bytes as slices, too; `resources` adds a
        `VulkanMemoryEvent` for each buffer and image. Where the trace does not say what was held,
        as VMA's, a replay on the device that it describes does. Raises `OSError`.
        """
        self._timeline(path, "perfetto", allocations, resources, progress)

    def to_chrome_json(
        self,
        path: str | os.PathLike[str],
        *,
        allocations: int | None = None,
        resources: bool = False,
        progress: _Progress | None = None,
    ) -> None:
        """Writes what `to_perfetto` does in the JSON format of Chrome's tracing, which has no
        units."""
        self._timeline(path, "chrome", allocations, resources, progress)

    def _timeline(
        self,
        path: str | os.PathLike[str],
        format: str,
        allocations: int | None,
        resources: bool,
        progress: _Progress | None,
    ) -> None:
        data = self._data
        if not data.says_memory:
            played = data.replay({"record": True, "samples": 0}, progress)
            data = played.trace() or data
        replacing(path, lambda part: data.write(part, format, allocations, resources, progress))


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

    def __init__(self, data: _Replayed) -> None:
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
        """Numbers of the allocators that were created; none in a comparison, which keeps none."""
        return tuple(self._data.allocators())

    @property
    def trace(self) -> Trace | None:
        """The replay as a trace of its own, with `record=True`: it says where everything went."""
        data = self._data.trace()
        return None if data is None else Trace(data)

    def dump(self, allocator: int = 0, *, detailed: bool = True) -> dict[str, Any]:
        """Returns a dump of an allocator as it is at the end, as `Allocator.build_stats_string`
        makes them; with `until=`, as it is before that event.

        That of an allocator that was destroyed is empty. Raises `TraceError` if there is no such
        allocator, or the report is one of `Trace.compare`.
        """
        found: dict[str, Any] = json.loads(self.build_stats_string(allocator, detailed=detailed))
        return found

    def build_stats_string(self, allocator: int = 0, *, detailed: bool = True) -> str:
        """Returns `dump` as JSON text: that of the recorded allocator, byte for byte, if the replay
        was made with the settings of a recording that begins with its allocator.

        Raises what `dump` raises.
        """
        text = self._data.dump(allocator, detailed)
        if text is None:
            raise TraceError(f"the replay has kept no allocator {allocator}")
        return text

    @property
    def virtual_blocks(self) -> tuple[int, ...]:
        """Numbers of the virtual blocks that are there at the end: `space` of their events."""
        return tuple(self._data.virtual_blocks())

    def build_virtual_block_stats_string(self, number: int, *, detailed: bool = True) -> str:
        """Returns a dump of a virtual block as `VirtualBlock.build_stats_string` makes it.

        Raises `TraceError` if there is no such block, or it is a set, which buffer heaps have.
        """
        text = self._data.dump_virtual_block(number, detailed)
        if text is None:
            raise TraceError(f"the replay has kept no virtual block {number}")
        return text

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
        return _Replayed.table([it._data for it in self])

    def __repr__(self) -> str:
        return f"<vk_mem.trace.Comparison of {', '.join(repr(it.name) for it in self)}>"
