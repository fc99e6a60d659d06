"""Lists live resources and where they were created."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vk_mem.observe.tables import (
    Row,
    clean,
    count_text,
    html_table,
    quoted,
    short_path,
    size_text,
    text_table,
)
from vk_mem.text import counted

__all__ = ["Leak", "LeakGroup", "Leaks"]

GROUPS_SHOWN = 20
"""Most groups in a printed table."""


@dataclass(frozen=True, slots=True)
class Leak:
    """A live resource."""

    serial: int
    """Its number among all resources that the allocator created, from 0."""
    kind: str
    """`Buffer`, `Image` or `Allocation`."""
    name: str | None
    size: int
    """Size of its memory in bytes; for an alias, of the part that it shares."""
    memory_type_index: int
    is_alias: bool
    call_site: str | None
    """Where it was created, if `track_call_sites` is set: one `file:line in function` per line,
    innermost first."""
    age: float | None
    """Seconds since its creation, if `track_call_sites` is set."""

    @property
    def own_size(self) -> int:
        """Bytes that are released with it; 0 for an alias."""
        return 0 if self.is_alias else self.size


@dataclass(frozen=True, slots=True)
class LeakGroup:
    """Live resources with the same call site or, without call sites, the same kind and name."""

    where: str
    """The call site, or kind and name."""
    leaks: tuple[Leak, ...]
    """By time of creation, oldest first."""

    @property
    def size(self) -> int:
        """Total bytes of the group."""
        return sum(leak.own_size for leak in self.leaks)


class Leaks(list[Leak]):
    """All live resources in the order of creation. Prints as a table of groups."""

    tracked = False
    """Whether the allocator records call sites."""

    waiting_count = 0
    """Resources that were retired, or collected without `destroy()`, and wait for their frame."""
    waiting_size = 0
    """Total bytes of the waiting resources."""

    @property
    def size(self) -> int:
        """Total bytes of all live resources."""
        return sum(leak.own_size for leak in self)

    def groups(self) -> list[LeakGroup]:
        """Groups by call site if known, else by kind and name; most bytes first."""
        groups: dict[str, list[Leak]] = {}
        for leak in self:
            where = leak.call_site
            if where is None:
                where = leak.kind if leak.name is None else f"{leak.kind} {quoted(leak.name)}"
            groups.setdefault(where, []).append(leak)
        made = [LeakGroup(where, tuple(leaks)) for where, leaks in groups.items()]
        return sorted(made, key=lambda it: (-it.size, -len(it.leaks), it.leaks[0].serial))

    def _title(self) -> str:
        hint = "" if self.tracked or not self else "; Allocator(track_call_sites=True) says where"
        waiting = ""
        if self.waiting_count:
            count, size = count_text(self.waiting_count), size_text(self.waiting_size)
            wait = "waits for its frame" if self.waiting_count == 1 else "wait for their frame"
            waiting = f"; {count} retired or never closed, {size}, {wait}"
        return f"{count_text(len(self))} alive, {size_text(self.size)}{waiting}{hint}"

    def _rows(self, lines: int) -> Iterable[Row]:
        groups = self.groups()
        for group in groups[:GROUPS_SHOWN]:
            where = [clean(short_path(it)) for it in group.where.split("\n")]
            ages = [it.age for it in group.leaks if it.age is not None]
            cells = (
                count_text(len(group.leaks)),
                size_text(group.size),
                _age(max(ages)) if ages else "-",
                _names(group.leaks),
            )
            yield (*cells, where[0])
            for line in where[1:lines]:
                yield ("", "", "", "", f"  called from {line}")
        if len(groups) > GROUPS_SHOWN:
            rest = groups[GROUPS_SHOWN:]
            count = count_text(sum(len(it.leaks) for it in rest))
            size = size_text(sum(it.size for it in rest))
            yield (count, size, "", "", f"and {counted(len(rest), 'more place')}")

    def __str__(self) -> str:
        if not self:
            return self._title()
        return f"{self._title()}\n{text_table(COLUMNS, self._rows(4), left=(3, 4))}"

    def _repr_html_(self) -> str:
        return html_table(COLUMNS, self._rows(4), left=(3, 4), title=self._title())


COLUMNS = ("count", "size", "oldest", "names", "where")


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def _names(leaks: Iterable[Leak]) -> str:
    names = list(dict.fromkeys(quoted(it.name) for it in leaks))
    shown = [name if len(name) <= 24 else name[:22] + "…'" for name in names[:2]]
    return ", ".join([*shown, *(["…"] if len(names) > 2 else [])])


_LeakRow = tuple[int, str, str | None, int, int, bool, int | None, float | None]


def _leaks(
    rows: list[_LeakRow],
    sites: list[str],
    tracked: bool,
    waiting: tuple[int, int],
) -> Leaks:
    """Makes a `Leaks` for `Allocator.leaks`. Resources of one call site share one `str` object."""
    leaks = Leaks(
        Leak(serial, kind, name, size, index, alias, None if site is None else sites[site], age)
        for serial, kind, name, size, index, alias, site, age in rows
    )
    leaks.tracked = tracked
    leaks.waiting_count, leaks.waiting_size = waiting
    return leaks
