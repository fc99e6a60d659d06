"""HTML tables for notebooks: `_repr_html_` of dumps and comparisons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vk_mem.dump.compare import Diff, DiffEntry
from vk_mem.dump.kinds import GONE, KINDS, MARGIN, MOVED, NEW, QUARANTINE, SAME, kind_of
from vk_mem.dump.load import Source, as_dump
from vk_mem.dump.model import Dump, Heap, PoolDump
from vk_mem.dump.words import debug_text, evictions_text, figures_text, flags_text
from vk_mem.text import count_text, escaped, percent, short, size_text

MOST_ROWS = 12
MOST_HEAPS = 16
"""Vulkan's maximum: `VK_MAX_MEMORY_HEAPS`."""
BAR_WIDTH = 220

# Notebooks have their own themes, so text colour and background are inherited. Styles are inline: a
# style sheet would apply to the rest of the notebook.
CELL = "text-align:left;padding:2px 12px 2px 0;border:0;background:none;white-space:nowrap"
RIGHT = "text-align:right;padding:2px 12px 2px 0;border:0;background:none;white-space:nowrap"
QUIET = "opacity:.7"
TABLE = "border-collapse:collapse;margin:4px 0;font-size:90%;color:inherit"


def summary_html(source: Source) -> str:
    """Summarises a dump as HTML: totals, heaps with their budgets, and pools with a bar by kind.

    Has no scripts and no style sheet, and escapes all names.

    Raises what `load_dump` raises.
    """
    dump = as_dump(source)
    return _wrapped(_dump(dump))


def diff_summary_html(diff: Diff) -> str:
    """Summarises a comparison as HTML: what was freed, what is new, and the largest of both."""
    return _wrapped(_diff(diff))


def _wrapped(parts: Iterable[str]) -> str:
    return f'<div style="line-height:1.4;overflow-x:auto">{"".join(parts)}</div>'


def _line(text: str, style: str = "") -> str:
    return f'<div style="{style}">{escaped(text)}</div>'


def _dump(dump: Dump) -> Iterator[str]:
    yield _line(f"Memory of {short(dump.device) or dump.api}", "font-weight:600")
    yield _line(figures_text(dump.total), QUIET)
    if any(dump.evictions):
        yield _line(evictions_text(dump.evictions), QUIET)
    if any(dump.debug):
        yield _line(debug_text(dump.debug), QUIET)
    yield f'<table style="{TABLE}">'
    for heap in dump.heaps[:MOST_HEAPS]:
        yield _row((_heap_name(heap), CELL), (_budget_bar(heap), CELL), (_budget(heap), CELL))
    held = [pool for pool in dump.pools if pool.blocks or pool.dedicated]
    for pool in held[:MOST_ROWS]:
        used, size, kinds = _shares(pool, dump.api)
        bar = _bar([(KINDS[k].colour, n, KINDS[k].title) for k, n in kinds.items()], size)
        text = f"{size_text(used)} of {size_text(size)}, {percent(used, size)} used"
        name = f"<span style='padding-left:1em'>{escaped(short(pool.title, 48))}</span>"
        yield _row((name, CELL), (bar, CELL), (f"<span style='{QUIET}'>{text}</span>", CELL))
    yield "</table>"
    if len(dump.heaps) > MOST_HEAPS:
        yield _line(f"and {count_text(len(dump.heaps) - MOST_HEAPS, 'more heap')}", QUIET)
    if len(held) > MOST_ROWS:
        yield _line(f"and {count_text(len(held) - MOST_ROWS, 'more pool')}", QUIET)
    seen = {kind for pool in held[:MOST_ROWS] for kind in _shares(pool, dump.api)[2]}
    if seen:
        yield _legend(sorted(seen))


def _row(*cells: tuple[str, str]) -> str:
    inner = "".join(f'<td style="{style}">{html}</td>' for html, style in cells)
    return f'<tr style="background:none">{inner}</tr>'


def _heap_name(heap: Heap) -> str:
    flags = flags_text(heap.flags)
    quiet = f" <span style='{QUIET}'>{escaped(short(flags, 40))}</span>" if flags else ""
    return f"<b>{escaped(short(heap.name, 40))}</b>{quiet}"


def _budget(heap: Heap) -> str:
    held = heap.figures.block_bytes if heap.known_usage is None else heap.known_usage
    whole, what = heap.known_budget, "budget"
    if whole is None:
        whole, what = heap.size, "memory"
    of = "" if whole is None else f" of {size_text(whole)} {what}, {percent(held, whole)}"
    return f"<span style='{QUIET}'>{size_text(held)}{of} in use</span>"


def _budget_bar(heap: Heap) -> str:
    held = max(heap.figures.block_bytes, heap.figures.allocation_bytes)
    allocated = heap.figures.allocation_bytes
    usage, budget = heap.known_usage or 0, heap.known_budget or 0
    whole = max(heap.size or 0, budget, usage, held, 1)
    parts = [
        ("#6b7686", allocated, "allocated"),
        (KINDS[MARGIN].colour, heap.margins, "in margins"),
        (KINDS[QUARANTINE].colour, heap.quarantined, "in quarantine"),
        ("#a3adbc", held - allocated - heap.held, "free in blocks"),
        ("#b79bcb", max(usage - held, 0), "used besides"),
    ]
    tick = budget / whole if budget else None
    return _bar(parts, whole, 8, tick)


def _bar(
    parts: Iterable[tuple[str, int, str]], whole: int, height: int = 12, tick: float | None = None
) -> str:
    """Draws a bar as inline SVG, in colours that work on light and dark backgrounds."""
    out = [
        f'<svg width="{BAR_WIDTH}" height="{height}" role="img" '
        'style="vertical-align:middle;background:none">'
        f'<rect width="{BAR_WIDTH}" height="{height}" rx="2" fill="#8b93a1" fill-opacity=".22"/>'
    ]
    x = 0.0
    for colour, size, title in parts:
        if size <= 0:
            continue
        width = min(max(BAR_WIDTH * size / max(whole, 1), 1.5), BAR_WIDTH - x)
        out.append(
            f'<rect x="{x:.2f}" width="{max(width, 0):.2f}" height="{height}" fill="{colour}">'
            f"<title>{escaped(title)}, {size_text(size)}</title></rect>"
        )
        x += width
    if tick is not None:
        at = min(tick, 1.0) * BAR_WIDTH - 2
        out.append(f'<rect x="{max(at, 0):.2f}" width="2" height="{height}" fill="#d9542b"/>')
    out.append("</svg>")
    return "".join(out)


def _legend(kinds: list[int]) -> str:
    chips = (
        f'<span style="display:inline-block;margin-right:14px">{_swatch(kind)}'
        f"{escaped(KINDS[kind].title)}</span>"
        for kind in kinds
    )
    return f'<div style="font-size:90%">{"".join(chips)}</div>'


def _swatch(kind: int) -> str:
    return (
        '<span style="display:inline-block;width:.8em;height:.8em;border-radius:2px;'
        f'background:{KINDS[kind].colour};margin-right:5px"></span>'
    )


def _shares(pool: PoolDump, api: str) -> tuple[int, int, dict[int, int]]:
    """Returns the used bytes, all bytes, and by kind the bytes that are not free."""
    known: dict[tuple[int, int], int] = {}
    kinds: dict[int, int] = {}
    regions = (it for block in pool.blocks for it in block.regions if not it.is_free)
    for region in (*regions, *pool.dedicated):
        key = (id(region.resource_class), region.usage)
        kind = known.get(key)
        if kind is None:
            kind = known[key] = kind_of(region, api)
        kinds[kind] = kinds.get(kind, 0) + region.size
    margins = sum(sum(region.margins) for region in pool.dedicated)
    if margins:
        kinds[MARGIN] = kinds.get(MARGIN, 0) + margins
    dedicated = sum(region.size for region in pool.dedicated if region.is_allocation)
    used = sum(block.allocated for block in pool.blocks) + dedicated
    size = sum(block.size for block in pool.blocks) + margins
    size += sum(region.size for region in pool.dedicated)
    return used, size, dict(sorted(kinds.items()))


def _diff(diff: Diff) -> Iterator[str]:
    device = short(diff.b.device or diff.b.api)
    yield _line(f"What changed on {device}", "font-weight:600")
    parts = [
        (GONE, "only before", diff.only_in_a),
        (SAME, "in both", diff.in_both),
        (NEW, "only after", diff.only_in_b),
    ]
    if diff.moved:
        parts.append((MOVED, "moved", tuple(after for _, after in diff.moved)))
    sizes = [sum(entry.size for entry in entries) for _, _, entries in parts]
    yield f'<table style="{TABLE}">'
    for (shade, what, entries), size in zip(parts, sizes, strict=True):
        bar = _bar([(KINDS[shade].colour, size, what)], max(*sizes, 1))
        text = f"{count_text(len(entries), 'allocation')}, {size_text(size)}"
        yield _row((what, CELL), (bar, CELL), (text, CELL))
    yield "</table>"
    for shade, what, entries in (parts[2], parts[0]):
        if entries:
            yield from _largest(shade, what, entries)


def _largest(shade: int, what: str, entries: tuple[DiffEntry, ...]) -> Iterator[str]:
    largest = sorted(entries, key=lambda entry: -entry.size)[:5]
    swatch = _swatch(shade)
    yield f'<div style="font-weight:600;margin-top:6px">{swatch}Largest {what}</div>'
    yield f'<table style="{TABLE}">'
    for entry in largest:
        name = escaped(short(entry.region.name or "without a name", 60))
        place = "dedicated" if entry.block is None else f"block {short(entry.block.id, 20)}"
        where = escaped(f"{short(entry.pool.title, 40)}, {place}, offset {entry.region.offset:,}")
        where = f"<span style='{QUIET}'>{where}</span>"
        yield _row((size_text(entry.size), RIGHT), (name, CELL), (where, CELL))
    yield "</table>"
    if len(entries) > len(largest):
        yield _line(f"and {len(entries) - len(largest):,} more", QUIET)
