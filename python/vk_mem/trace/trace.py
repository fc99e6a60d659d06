"""`Trace`: a recording in memory."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack, overload

from vk_mem.text import counted
from vk_mem.trace.columns import Columns
from vk_mem.trace.description import Description, TraceWarning
from vk_mem.trace.event import Event
from vk_mem.trace.events import KINDS
from vk_mem.trace.files import replacing
from vk_mem.trace.report import Comparison, ReplayReport
from vk_mem.trace.settings import (
    ReplayKeywords,
    SettingKeywords,
    native_settings,
    settings_list,
)
from vk_mem.trace.usage import Usage, usage_of
from vk_mem.trace.values import Failure, Object, Placement, Request, request_of

if TYPE_CHECKING:
    from vk_mem._vk_mem import Device, _TraceData

__all__ = ["Frame", "Position", "Trace"]

_RECORDS: dict[str, type] = {"failure": Failure, "object": Object, "placed": Placement}
# By the number of a kind: its class, and which of its fields are to be made of plain values.
_MAKERS = {
    number: (
        cls,
        tuple(
            (at, _RECORDS.get(name))
            for at, name in enumerate(cls.__slots__)
            if name in _RECORDS or name == "request"
        ),
    )
    for number, cls in KINDS.items()
}


class Frame(NamedTuple):
    """One function of a call stack."""

    file: str
    line: int
    """From 1; 0 if it is not known."""
    function: str


class Position(NamedTuple):
    """A place in a file; one of both is None."""

    line: int | None
    """The line of a text file, from 1."""
    offset: int | None
    """The byte of a binary file, from 0."""


class Trace(Sequence[Event]):
    """A recording in memory: its events, in the order in which they took effect.

    A sequence of events that are made when they are asked for; `columns` has all of them as arrays.
    From `load`, and from `ReplayReport.trace`.
    """

    __slots__ = ("_columns", "_data", "_description", "_requests", "_sites", "source")

    source: str
    """The name of the file that it was read from; "" if it was not."""

    def __init__(self, data: _TraceData, source: str = "") -> None:
        """For `load`."""
        self._data = data
        self._columns = Columns(data)
        self._description: Description | None = None
        self._requests: dict[int, Request] = {}
        self._sites: dict[int, str] = {}
        self.source = source

    def __len__(self) -> int:
        return len(self._data)

    @overload
    def __getitem__(self, index: int) -> Event: ...

    @overload
    def __getitem__(self, index: slice) -> list[Event]: ...

    def __getitem__(self, index: int | slice) -> Event | list[Event]:
        if isinstance(index, slice):
            return [self._event(at) for at in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        return self._event(at)

    def __iter__(self) -> Iterator[Event]:
        return map(self._event, range(len(self)))

    def __reversed__(self) -> Iterator[Event]:
        return map(self._event, range(len(self) - 1, -1, -1))

    def _event(self, index: int) -> Event:
        number, head, fields = self._data.event(index)
        cls, to_make = _MAKERS[number]
        if to_make:
            made: list[Any] = list(fields)
            for at, record in to_make:
                value = made[at]
                if record is None:
                    made[at] = self.request(value)
                elif value is not None:
                    made[at] = record(**value)
            fields = tuple(made)
        sequence, time, thread, frame, allocator, site, is_state = head
        where = None if site is None else self._site(site)
        return cls(index, sequence, time, thread, frame, allocator, where, is_state, *fields)

    def request(self, number: int) -> Request:
        """Returns a request by its number in `columns.requests`; raises `IndexError`."""
        found = self._requests.get(number)
        if found is None:
            found = self._requests[number] = request_of(self._data.request(number))
        return found

    def stack(self, number: int) -> list[Frame]:
        """Returns a call stack by its number in `columns.sites`, the innermost function first."""
        return [Frame(*it) for it in self._data.stack(number)]

    def call_site(self, index: int) -> str | None:
        """Returns where an event was called, if that was tracked: one `file:line in function` per
        line, the innermost first."""
        return self[index].call_site

    def _site(self, number: int) -> str:
        found = self._sites.get(number)
        if found is None:
            frames = self._data.stack(number)
            lines = (f"{file}:{line} in {function}" for file, line, function in frames)
            found = self._sites[number] = "\n".join(lines)
        return found

    @property
    def columns(self) -> Columns:
        """All events as NumPy arrays, without a copy."""
        return self._columns

    def kinds(self) -> dict[str, int]:
        """Returns the number of events of each kind that there are, by its name."""
        counts = dict.fromkeys(KINDS, 0)
        for number, count in Counter(memoryview(self._data.column("kinds"))).items():
            counts[number] = count
        return {KINDS[number].kind: count for number, count in counts.items() if count}

    @property
    def description(self) -> Description:
        """The device, the allocator and the program, as far as the file says."""
        if self._description is None:
            self._description = Description(**self._data.description())
        return self._description

    @property
    def warnings(self) -> list[TraceWarning]:
        """What was left out of the file or taken otherwise than written; the first 64."""
        return [TraceWarning(what, line, at) for line, at, what in self._data.warnings()]

    @property
    def warning_count(self) -> int:
        """Number of all warnings."""
        return self._data.warning_count

    @property
    def unknown_events(self) -> int:
        """Number of events that only a later version of this library knows, and that were left
        out."""
        return self._data.unknown_events

    @property
    def cut(self) -> Position | None:
        """Where the file ends in the middle of something, so that what was written last is
        missing."""
        cut = self._data.cut
        return None if cut is None else Position(*cut)

    def usage(self) -> Usage:
        """Returns what was held and live after each event, as the recording says it. O(events)"""
        return usage_of(self._data.usage())

    # ---- replaying ----

    def replay(
        self,
        device: Device | str | None = None,
        *,
        progress: Callable[[int, int], object] | None = None,
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
        progress: Callable[[int, int], object] | None = None,
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

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a recording of this library, which keeps all of it. Raises `OSError`."""
        replacing(path, lambda part: self._data.write(part, "vkmem", None, False))

    to_vkmem = save

    def to_vma_csv(self, path: str | os.PathLike[str]) -> dict[str, int]:
        """Writes a recording of the Vulkan Memory Allocator, version 1,8, for VmaReplay.

        Returns the kinds of events that the format has no words for, and how many were left out.
        Raises `OSError`.
        """
        return dict(replacing(path, lambda part: self._data.write(part, "vma", None, False)))

    def to_rmm_csv(self, path: str | os.PathLike[str]) -> dict[str, int]:
        """Writes a log of the RAPIDS Memory Manager: sizes, times, threads, streams, addresses.

        Returns the kinds of events that the format has no words for, and how many were left out.
        Raises `OSError`.
        """
        return dict(replacing(path, lambda part: self._data.write(part, "rmm", None, False)))

    def to_perfetto(
        self,
        path: str | os.PathLike[str],
        *,
        allocations: int | None = None,
        resources: bool = False,
    ) -> None:
        """Writes a timeline for <https://ui.perfetto.dev>: counters of what was held, live and
        allowed of each heap, memory type and pool; memory objects, frames, failures, losses and
        defragmentations as slices; and `VulkanMemoryEvent` packets.

        `allocations` shows those of at least so many bytes as slices, too; `resources` adds a
        `VulkanMemoryEvent` for each buffer and image. Where the trace does not say what was held,
        as VMA's, a replay on the device that it describes does. Raises `OSError`.
        """
        self._timeline(path, "perfetto", allocations, resources)

    def to_chrome_json(
        self,
        path: str | os.PathLike[str],
        *,
        allocations: int | None = None,
        resources: bool = False,
    ) -> None:
        """Writes what `to_perfetto` does in the JSON format of Chrome's tracing, which has no
        units."""
        self._timeline(path, "chrome", allocations, resources)

    def _timeline(
        self,
        path: str | os.PathLike[str],
        format: str,
        allocations: int | None,
        resources: bool,
    ) -> None:
        data = self._data
        if not data.says_memory:
            played = data.replay({"record": True, "samples": 0}, None)
            data = played.trace() or data
        replacing(path, lambda part: data.write(part, format, allocations, resources))

    def __repr__(self) -> str:
        it = self.description
        parts = [counted(len(self), "event", ",")]
        if it.device is not None:
            parts.append(f"on {it.device.properties.device_name}")
        if it.program:
            parts.append(f"of {it.program}")
        if self.cut is not None:
            parts.append("cut off")
        if self.warning_count:
            parts.append(counted(self.warning_count, "warning"))
        return f"<vk_mem.trace.Trace ({it.format}): {', '.join(parts)}>"

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__
