"""Formats statistics, budgets and leaks as tables: aligned text for `print`, HTML for notebooks.

The HTML inherits its colours from the page, so it is readable on light and dark backgrounds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from vk_mem.dump.held import DebugStatistics
from vk_mem.dump.words import debug_text, evictions_text
from vk_mem.text import escaped, known_size, well_formed

if TYPE_CHECKING:
    from vk_mem._vk_mem import (
        Allocator,
        HeapBudget,
        PoolStatistics,
        Statistics,
        TotalStatistics,
    )

    _Budgets = list[HeapBudget]
else:
    _Budgets = list

__all__ = ["HeapBudgets", "count_text", "html_table", "short_path", "size_text", "text_table"]

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")

Row = Sequence[str]


def size_text(size: int) -> str:
    """Formats bytes: `256.0 MiB`, `-16 B`; `unlimited` for the largest 64-bit number."""
    if size >= 2**64 - 1:
        return "unlimited"
    value, unit = float(abs(size)), 0
    # Rounds up to the next unit: not 1024.0 KiB.
    while (value >= 1024 or (unit and round(value, 1) >= 1024)) and unit + 1 < len(UNITS):
        value /= 1024
        unit += 1
    sign = "-" if size < 0 else ""
    return f"{size} B" if unit == 0 else f"{sign}{value:.1f} {UNITS[unit]}"


def count_text(count: int) -> str:
    """Formats a count: `12,345`."""
    return f"{count:,}"


def short_path(path: str) -> str:
    """Makes the path at the beginning of a text relative if it is below the current directory."""
    try:
        here = os.getcwd() + os.sep
    except OSError:
        return path
    return path.removeprefix(here)


def clean(text: str) -> str:
    """Makes a text one line without control characters: names may contain anything."""
    return "".join(it if it.isprintable() else "\ufffd" for it in text)


def quoted(name: str | None) -> str:
    """Quotes a name for people; None gives a dash."""
    return "-" if name is None else f"'{clean(name)}'"


def text_table(
    columns: Row, rows: Iterable[Row], left: Iterable[int] = (0,), title: str = ""
) -> str:
    """Aligns columns. Those in `left` are texts; the others are right-aligned."""
    lines = [columns, *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    left = set(left)

    def line(cells: Row) -> str:
        padded = (
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    head = [title] if title else []
    return well_formed("\n".join([*head, *map(line, lines)]))


TEXT = "text-align:left;white-space:pre-wrap"
NUMBER = "text-align:right;white-space:nowrap"


def html_table(
    columns: Row, rows: Iterable[Row], left: Iterable[int] = (0,), title: str = ""
) -> str:
    """Makes an HTML table for notebooks, with all texts escaped."""
    left = set(left)

    def line(cells: Row, tag: str, style: str) -> str:
        made = "".join(
            f'<{tag} style="{TEXT if index in left else NUMBER};padding:1px 8px;{style}">'
            f"{escaped(cell)}</{tag}>"
            for index, cell in enumerate(cells)
        )
        return f"<tr>{made}</tr>"

    caption = ""
    if title:
        style = "text-align:left;font-weight:bold;color:inherit"
        caption = f'<caption style="{style}">{escaped(title)}</caption>'
    head = line(columns, "th", "border-bottom:1px solid currentColor")
    body = "".join(line(row, "td", "") for row in rows)
    return (
        '<table style="border-collapse:collapse;color:inherit;background:transparent;'
        'font-variant-numeric:tabular-nums">'
        f"{caption}<thead>{head}</thead><tbody>{body}</tbody></table>"
    )


# ---- statistics ----


def _figures(statistics: Statistics) -> list[tuple[str, str]]:
    size = size_text if statistics._in_bytes else count_text

    def optional(value: int | None) -> str:
        return "-" if value is None else size(value)

    it = statistics
    return [
        ("blocks", count_text(it.block_count)),
        ("size of blocks", size(it.block_bytes)),
        ("allocations", count_text(it.allocation_count)),
        ("allocated", size(it.allocation_bytes)),
        ("smallest allocation", optional(it.allocation_size_min)),
        ("largest allocation", optional(it.allocation_size_max)),
        ("unused ranges", count_text(it.unused_range_count)),
        ("unused", size(it.unused_range_bytes)),
        ("smallest unused range", optional(it.unused_range_size_min)),
        ("largest unused range", optional(it.unused_range_size_max)),
        ("fragmentation", percent(it.fragmentation)),
        *_held_figures(it, size),
    ]


def _held_figures(it: Statistics, size: Callable[[int], str]) -> list[tuple[str, str]]:
    """Margins and quarantine: only where there are any, as they are for debugging."""
    rows = []
    if it.margin_count:
        rows += [("margins", count_text(it.margin_count)), ("in margins", size(it.margin_bytes))]
    if it.quarantined_count:
        rows += [
            ("freed allocations in quarantine", count_text(it.quarantined_count)),
            ("in quarantine", size(it.quarantined_bytes)),
        ]
    return rows


def percent(share: float) -> str:
    """Formats a share: `12 %`."""
    return f"{share * 100:.0f} %"


def statistics_text(statistics: Statistics) -> str:
    """Formats a `Statistics` for `str`."""
    (columns, *rows) = _figures(statistics)
    return text_table(columns, rows)


def statistics_html(statistics: Statistics) -> str:
    """Formats a `Statistics` as HTML for notebooks."""
    return html_table(("", "Statistics"), _figures(statistics))


def _pool_title(pool: PoolStatistics) -> str:
    return f"pool {quoted(pool.name)}, memory type {pool.memory_type_index}"


def pool_statistics_text(pool: PoolStatistics) -> str:
    """Formats a `PoolStatistics` for `str`."""
    return f"{_pool_title(pool)}\n{statistics_text(pool.statistics)}"


def pool_statistics_html(pool: PoolStatistics) -> str:
    """Formats a `PoolStatistics` as HTML for notebooks."""
    return html_table(("", "Statistics"), _figures(pool.statistics), title=_pool_title(pool))


TOTAL_COLUMNS = (
    "",
    "blocks",
    "size",
    "allocations",
    "size",
    "unused",
    "ranges",
    "largest",
    "fragmented",
)


def _total_row(title: str, it: Statistics) -> Row:
    largest = it.unused_range_size_max
    return (
        title,
        count_text(it.block_count),
        size_text(it.block_bytes),
        count_text(it.allocation_count),
        size_text(it.allocation_bytes),
        size_text(it.unused_range_bytes),
        count_text(it.unused_range_count),
        "-" if largest is None else size_text(largest),
        percent(it.fragmentation),
    )


def _total_rows(statistics: TotalStatistics) -> list[Row]:
    """Rows for heaps, their non-empty memory types, the custom pools of these, and the total."""
    _, types = statistics._layout
    pools_of: dict[int, list[PoolStatistics]] = {}
    for pool in statistics.pools:
        pools_of.setdefault(pool.memory_type_index, []).append(pool)
    rows = []
    for heap, of_heap in enumerate(statistics.memory_heaps):
        rows.append(_total_row(f"heap {heap}", of_heap))
        for index, of_type in enumerate(statistics.memory_types):
            pools = pools_of.get(index, [])
            if types[index][0] != heap or not (of_type.block_count or pools):
                continue
            rows.append(_total_row(f"  type {index}", of_type))
            rows += [_total_row(f"    pool {quoted(it.name)}", it.statistics) for it in pools]
    return [*rows, _total_row("total", statistics.total)]


def _total_lines(statistics: TotalStatistics) -> Iterator[str]:
    """What is said below the table, where there is any of it."""
    if any(statistics.evictions):
        yield evictions_text(statistics.evictions)
    it = statistics.total
    held = DebugStatistics(
        it.margin_count, it.margin_bytes, it.quarantined_count, it.quarantined_bytes
    )
    if any(held):
        yield debug_text(held)


def total_statistics_text(statistics: TotalStatistics) -> str:
    """Formats a `TotalStatistics` for `str`."""
    table = text_table(TOTAL_COLUMNS, _total_rows(statistics))
    return "\n".join([table, *_total_lines(statistics)])


def total_statistics_html(statistics: TotalStatistics) -> str:
    """Formats a `TotalStatistics` as HTML for notebooks."""
    table = html_table(TOTAL_COLUMNS, _total_rows(statistics))
    return table + "".join(f"<div>{escaped(it)}</div>" for it in _total_lines(statistics))


# ---- budgets ----

BUDGET_COLUMNS = ("usage", "budget", "used", "blocks", "size", "allocations", "size")


def share_text(usage: int, budget: int) -> str:
    """Formats the used share of a budget; a dash if there is no budget or a number is unknown."""
    used, whole = known_size(usage), known_size(budget)
    return "-" if used is None or not whole else percent(used / whole)


def usage_text(usage: int) -> str:
    """Formats bytes in use, or says that they are unknown."""
    return "unknown" if known_size(usage) is None else size_text(usage)


def _budget_row(it: HeapBudget) -> Row:
    return (
        usage_text(it.usage),
        size_text(it.budget),
        share_text(it.usage, it.budget),
        count_text(it.block_count),
        size_text(it.block_bytes),
        count_text(it.allocation_count),
        size_text(it.allocation_bytes),
    )


def budget_text(budget: HeapBudget) -> str:
    """Formats a `HeapBudget` for `str`."""
    return text_table(BUDGET_COLUMNS, [_budget_row(budget)], left=())


def budget_html(budget: HeapBudget) -> str:
    """Formats a `HeapBudget` as HTML for notebooks."""
    return html_table(BUDGET_COLUMNS, [_budget_row(budget)], left=())


class HeapBudgets(_Budgets):
    """The list that `Allocator.heap_budgets` returns, by heap index. Prints as a table."""

    def _rows(self) -> list[Row]:
        return [(f"heap {index}", *_budget_row(it)) for index, it in enumerate(self)]

    def __str__(self) -> str:
        return text_table(("", *BUDGET_COLUMNS), self._rows())

    def _repr_html_(self) -> str:
        return html_table(("", *BUDGET_COLUMNS), self._rows())


def allocator_html(allocator: Allocator) -> str:
    """Formats an `Allocator` as HTML for notebooks: its device and heap budgets."""
    title = escaped(repr(allocator).strip("<>"))
    if allocator.closed:
        return f"<div>{title}</div>"
    budgets = allocator.heap_budgets()._repr_html_()
    return f"<div>{title}</div>{budgets}"
