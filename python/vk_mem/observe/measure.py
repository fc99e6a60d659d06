"""Counting what a stretch of code creates and releases."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from vk_mem._vk_mem import Allocator, _Watch
from vk_mem.observe.tables import (
    Row,
    clean,
    count_text,
    html_table,
    short_path,
    size_text,
    text_table,
)
from vk_mem.text import counted

__all__ = ["Measurement", "Profile", "ProfileEntry", "statistics"]

By = bool | Literal["name"]


def statistics(
    allocator: Allocator, *, profile: By = False, this_thread: bool = False
) -> Measurement:
    """Counts the bytes and allocations that a stretch of code creates and releases.

    A context manager; the figures can be read inside it and afterwards::

        with vk_mem.statistics(allocator) as measured:
            render()
        print(measured.peak_bytes, measured.total_count)
        print(measured)

    Every creating and releasing call of the allocator counts: buffers, images, bare memory,
    imports, one or many; `destroy`, `free` and `close`. What is retired, or collected without
    `destroy()`, counts as released when its memory is. Aliases allocate nothing and do not count.
    Bytes are those of the memory (`allocation.size`). Stretches may be nested and overlap: each
    counts by itself.

    `profile=True` tells call sites apart (`file:line`, the innermost line outside of this package),
    `profile="name"` names (those given on creation): see `Measurement.profile`. `this_thread=True`
    counts the calls of the entering thread only.

    Outside of any stretch nothing is counted, and nothing is lost on it. Raises `UseAfterFreeError`
    on entering if the allocator is closed.
    """
    return Measurement(allocator, profile=profile, this_thread=this_thread)


@dataclass(frozen=True, slots=True)
class ProfileEntry:
    """What one call site, or all that has one name, holds and held."""

    where: str | None
    """`file:line in function`, or the name; None for what has none."""
    current_bytes: int
    """Bytes that were created in the stretch and not released."""
    peak_bytes: int
    """The most that `current_bytes` ever was."""
    total_bytes: int
    """Bytes that were created, released or not."""
    current_count: int
    peak_count: int
    total_count: int


COLUMNS = ("current", "peak", "total", "allocations", "peak", "total")


def _cells(it: Measurement | ProfileEntry) -> Row:
    return (
        size_text(it.current_bytes),
        size_text(it.peak_bytes),
        size_text(it.total_bytes),
        count_text(it.current_count),
        count_text(it.peak_count),
        count_text(it.total_count),
    )


class Profile(list[ProfileEntry]):
    """Entries by call site or name, the highest peak first. Printed, it is a table."""

    def _rows(self) -> list[Row]:
        return [(*_cells(it), "-" if it.where is None else _where(it.where)) for it in self]

    def __str__(self) -> str:
        return text_table((*COLUMNS, "where"), self._rows(), left=(6,))

    def _repr_html_(self) -> str:
        return html_table((*COLUMNS, "where"), self._rows(), left=(6,))


def _where(text: str) -> str:
    return clean(short_path(text))


class Measurement:
    """What `statistics` counts, from where it is entered to where it ends.

    The current figures are changes: below zero where more was released than created. Peaks are the
    most that they ever were, at least 0; totals count what was created only.
    """

    def __init__(self, allocator: Allocator, *, profile: By, this_thread: bool) -> None:
        # Equal to True would do for 1 as well.
        if profile is True:
            self._by: str | None = "call_site"
        elif profile is False:
            self._by = None
        elif profile == "name":
            self._by = "name"
        else:
            raise ValueError(f"profile is True, False or 'name', not {profile!r}")
        self._allocator = allocator
        self._this_thread = this_thread
        self._watch: _Watch | None = None

    def __enter__(self) -> Self:
        if self._watch is not None:
            raise RuntimeError("a measurement is entered once; make another one")
        self._watch = self._allocator._watch(self._by, self._this_thread)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._watch is not None:
            self._watch.end()

    def _figures(self) -> tuple[int, int, int, int, int, int]:
        return (0,) * 6 if self._watch is None else self._watch.figures()

    @property
    def current_bytes(self) -> int:
        """Bytes created minus bytes released."""
        return self._figures()[0]

    @property
    def peak_bytes(self) -> int:
        """The most that `current_bytes` ever was."""
        return self._figures()[1]

    @property
    def total_bytes(self) -> int:
        """Bytes created."""
        return self._figures()[2]

    @property
    def current_count(self) -> int:
        """Allocations created minus allocations released."""
        return self._figures()[3]

    @property
    def peak_count(self) -> int:
        """The most that `current_count` ever was."""
        return self._figures()[4]

    @property
    def total_count(self) -> int:
        """Allocations created."""
        return self._figures()[5]

    @property
    def profile(self) -> Profile:
        """The same by call site or by name. Raises `ValueError` unless `profile` was given."""
        if self._by is None:
            raise ValueError("nothing was told apart: pass profile=True or profile='name'")
        rows = [] if self._watch is None else self._watch.rows()
        entries = [ProfileEntry(where, *figures) for where, figures in rows]
        return Profile(sorted(entries, key=lambda it: (-it.peak_bytes, it.where or "")))

    def __str__(self) -> str:
        return text_table(COLUMNS, [_cells(self)], left=())

    def __repr__(self) -> str:
        return (
            f"<vk_mem.Measurement: {counted(self.current_bytes, 'byte')}, peak {self.peak_bytes}, "
            f"total {self.total_bytes}, in {self.current_count} of "
            f"{counted(self.total_count, 'allocation')}>"
        )

    def _repr_html_(self) -> str:
        return html_table(COLUMNS, [_cells(self)], left=())
