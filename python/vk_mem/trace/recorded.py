"""`RecordedEvents`: what a trace has, event by event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from vk_mem.text import counted
from vk_mem.trace.columns import Columns
from vk_mem.trace.description import Description, TraceWarning
from vk_mem.trace.event import Event
from vk_mem.trace.events import KINDS
from vk_mem.trace.usage import Usage, usage_of
from vk_mem.trace.values import Failure, Object, Placement, Request, request_of

if TYPE_CHECKING:
    from vk_mem._vk_mem import _TraceData

__all__ = ["Frame", "Position", "RecordedEvents"]

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


class RecordedEvents(Sequence[Event]):
    """The events of a recording in memory, in the order in which they took effect.

    A sequence of events that are made when they are asked for; `columns` has all of them as arrays.
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
        try:
            at = range(len(self))[index]
        except IndexError:
            raise IndexError(f"{index} is out of range: the trace has {len(self)} events") from None
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
