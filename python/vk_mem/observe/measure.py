"""Measures what a section of code allocates and frees."""

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
    """Counts the bytes and allocations that a section of code creates and releases.

    A context manager; the figures can be read inside it and afterwards::

        with vk_mem.statistics(allocator) as measured:
            render()
        print(measured.peak_bytes, measured.total_count)
        print(measured)

    All calls of the allocator count that create or release: buffers, images, plain memory, imports,
    one or many; `destroy`, `free` and `close`. Resources that were retired, or collected without
    `destroy()`, count as released when their memory is. Aliases allocate nothing and do not count.
    Bytes are those of the memory (`allocation.size`). Sections may nest and overlap; each counts
    separately.

    `profile=True` groups by call site (`file:line`, the innermost line outside of this package),
    `profile="name"` by the name given at creation: see `Measurement.profile`. `this_thread=True`
    counts only calls of the thread that enters the section.

    Outside any section nothing is counted, at no cost. Raises `UseAfterFreeError` on entering if
    the allocator is closed.
    """
    return Measurement(allocator, profile=profile, this_thread=this_thread)


@dataclass(frozen=True, slots=True)
class ProfileEntry:
    """The figures of one call site, or of one name."""

    where: str | None
    """`file:line in function`, or the name; None if there is neither."""
    current_bytes: int
    """Bytes created in the section and not released yet."""
    peak_bytes: int
    """Highest value of `current_bytes`."""
    total_bytes: int
    """All bytes created, whether released or not."""
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
    """Entries by call site or name, highest peak first. Prints as a table."""

    def _rows(self) -> list[Row]:
        return [(*_cells(it), "-" if it.where is None else _where(it.where)) for it in self]

    def __str__(self) -> str:
        return text_table((*COLUMNS, "where"), self._rows(), left=(6,))

    def _repr_html_(self) -> str:
        return html_table((*COLUMNS, "where"), self._rows(), left=(6,))


def _where(text: str) -> str:
    return clean(short_path(text))


class Measurement:
    """The figures that `statistics` counts between entering and leaving the section.

    Current figures are changes: negative if more was released than created. Peaks are their highest
    values, at least 0; totals count only what was created.
    """

    def __init__(self, allocator: Allocator, *, profile: By, this_thread: bool) -> None:
        # Compared by identity: 1 == True.
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
        """Highest value of `current_bytes`."""
        return self._figures()[1]

    @property
    def total_bytes(self) -> int:
        """All bytes created."""
        return self._figures()[2]

    @property
    def current_count(self) -> int:
        """Allocations created minus allocations released."""
        return self._figures()[3]

    @property
    def peak_count(self) -> int:
        """Highest value of `current_count`."""
        return self._figures()[4]

    @property
    def total_count(self) -> int:
        """All allocations created."""
        return self._figures()[5]

    @property
    def profile(self) -> Profile:
        """The figures by call site or name. Raises `ValueError` unless `profile` was given."""
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
