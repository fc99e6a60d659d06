"""Compares two dumps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from vk_mem._lazy import load
from vk_mem.dump.load import Source, as_dump
from vk_mem.dump.model import Block, Dump, PoolDump, Region
from vk_mem.text import counted

__all__ = ["Diff", "DiffEntry", "diff"]

Identity = tuple[str, str | None, str | None, int, int, str, str | None]

Nature = tuple[str, str | None, str | None, str | None, str | None, int, str, int]


@dataclass(frozen=True, slots=True)
class DiffEntry:
    """An allocation with its pool and block."""

    pool: PoolDump
    block: Block | None
    """None for a dedicated allocation."""
    region: Region

    @property
    def size(self) -> int:
        """Size of the region in bytes."""
        return self.region.size


@dataclass(frozen=True)
class Diff:
    """The result of `diff`: `only_in_a` was freed, `only_in_b` is new and may be a leak."""

    a: Dump
    b: Dump
    only_in_a: tuple[DiffEntry, ...]
    in_both: tuple[DiffEntry, ...]
    """Allocations that exist in both dumps, as they are in `b`."""
    only_in_b: tuple[DiffEntry, ...]
    moved: tuple[tuple[DiffEntry, DiffEntry], ...] = ()
    """Allocations that are in both dumps at different places, as defragmentation moves them: how
    each is in `a`, and how it is in `b`. They are in none of the other three."""

    def _repr_html_(self) -> str:
        """Returns an HTML table for notebooks."""
        html: str = load("vk_mem.dump.summary").diff_summary_html(self)
        return html

    def __repr__(self) -> str:
        def of(entries: tuple[DiffEntry, ...]) -> str:
            return f"{len(entries)} ({counted(sum(entry.size for entry in entries), 'byte')})"

        moved = f"{of(tuple(b for _, b in self.moved))} moved, " if self.moved else ""
        return (
            f"<vk_mem.Diff: {of(self.only_in_a)} only in a, {of(self.in_both)} in both, "
            f"{moved}{of(self.only_in_b)} only in b>"
        )


def diff(a: Source, b: Source) -> Diff:
    """Does what `vk_mem.diff` says."""
    a, b = as_dump(a), as_dump(b)
    first = [(_identity(entry), entry) for entry in _entries(a)]
    second = [(_identity(entry), entry) for entry in _entries(b)]
    left = Counter(identity for identity, _ in first)
    both, new = [], []
    for identity, entry in second:
        if left[identity] > 0:
            left[identity] -= 1
            both.append(entry)
        else:
            new.append(entry)
    gone = []
    for identity, entry in first:
        if left[identity] > 0:
            left[identity] -= 1
            gone.append(entry)
    gone, new, moved = _moves(gone, new)
    return Diff(a, b, tuple(gone), tuple(both), tuple(new), moved)


def _moves(
    gone: list[DiffEntry], new: list[DiffEntry]
) -> tuple[list[DiffEntry], list[DiffEntry], tuple[tuple[DiffEntry, DiffEntry], ...]]:
    """Takes the pairs that are one allocation at two places out of both lists."""
    before, after = _by_nature(gone), _by_nature(new)
    moved = tuple(
        (before[nature][0], found[0])
        for nature, found in after.items()
        if len(found) == 1 == len(before.get(nature, ()))
    )
    known = {id(entry) for pair in moved for entry in pair}
    gone = [entry for entry in gone if id(entry) not in known]
    return gone, [entry for entry in new if id(entry) not in known], moved


def _by_nature(entries: list[DiffEntry]) -> dict[Nature, list[DiffEntry]]:
    """Groups what has a name or user data by all that a move leaves as it is."""
    found: dict[Nature, list[DiffEntry]] = {}
    for entry in entries:
        pool, it = entry.pool, entry.region
        if it.name is None and it.custom_data is None:
            continue
        whose = (pool.type_name, pool.name, it.name, it.custom_data, it.call_site)
        found.setdefault((*whose, it.size, it.type_name, it.usage), []).append(entry)
    return found


def _entries(dump: Dump) -> Iterator[DiffEntry]:
    return (DiffEntry(*found) for found in dump.allocations())


def _identity(entry: DiffEntry) -> Identity:
    pool, region = entry.pool, entry.region
    block = None if entry.block is None else entry.block.id
    place = (pool.type_name, pool.name, block, region.offset)
    return (*place, region.size, region.type_name, region.name)
