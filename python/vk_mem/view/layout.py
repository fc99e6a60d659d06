"""Lays out a static picture: boxes, labels and bars on one page.

SVG and PNG draw the same list of items. All lengths are pixels at scale 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from vk_mem.dump.kinds import KINDS
from vk_mem.dump.model import Figures, Heap, PoolDump
from vk_mem.dump.words import debug_text, evictions_text, figures_text, flags_text
from vk_mem.text import count_text, percent, short, size_text, visible
from vk_mem.view.pieces import Pieces, bar_height, cut
from vk_mem.view.scene import AFTER, BEFORE, Bar, HeapPart, PoolPart, Progress, Scene, TypePart
from vk_mem.view.text import fitted, text_width, wrapped

MARGIN = 24.0
LEFT = 152.0
"""Width of the column left of the bars, with names and sizes."""
RIGHT = 128.0
"""Width of the column right of the bars, with usage and fragmentation."""
GAP = 7.0
NARROWEST_BAR = 40.0
MOST_BARS_OF_A_POOL = 64
MOST_PARTS = 500
"""Most heaps, pools and types without blocks that are drawn; a line sums up the rest."""
MOST_BARS = 400
"""Most bars in a picture; a line sums up the rest."""


class Box(NamedTuple):
    """A filled rectangle. `fill` names a colour of the theme, or `k3` for a kind."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    title: str = ""


class Label(NamedTuple):
    """A line of text; `y` is its baseline."""

    x: float
    y: float
    text: str
    style: str
    """`title`, `head`, `text`, `quiet` or `alarm`."""
    anchor: str = "start"


class BarItem(NamedTuple):
    """A bar with its regions. A block that only one of two dumps has is drawn in its half."""

    x: float
    y: float
    width: float
    height: float
    bar: Bar
    pieces: Pieces
    title: str


Item = Box | Label | BarItem
SIZES = {"title": 19.0, "head": 13.0, "text": 12.0, "quiet": 12.0, "alarm": 12.0}
"""Font sizes in pixels by style."""
BOLD = frozenset(("title", "head"))


@dataclass
class Picture:
    """A page with its items."""

    width: float
    height: float
    items: list[Item]
    title: str


def lay_out(scene: Scene, width: float, title: str | None, progress: Progress) -> Picture:
    """Lays out a scene on a page of the given width."""
    return _Page(scene, width, progress).made(title)


class _Page:
    def __init__(self, scene: Scene, width: float, progress: Progress) -> None:
        self.scene, self.width, self.progress = scene, width, progress
        self.items: list[Item] = []
        self.y = MARGIN
        self.inner = width - 2 * MARGIN
        self.bar_width = self.inner - LEFT - RIGHT
        self.bars_left = MOST_BARS
        self.parts_left = MOST_PARTS
        self.done = 0

    def made(self, title: str | None) -> Picture:
        title = title if title is not None else heading(scene=self.scene)
        self.y += 16
        self.label(MARGIN, fitted(visible(short(title)), self.inner, 19, True), "title")
        for line in summary(self.scene):
            for part in wrapped(line, self.inner, 12):
                self.y += 18
                self.label(MARGIN, part, "quiet")
        self.y += 16
        self.legend()
        heaps = self.scene.heaps
        for number, heap in enumerate(heaps):
            if not self.take(1):
                self.left_out(len(heaps) - number, "more heap")
                break
            self.heap(heap)
        if not self.scene.heaps:
            self.y += 24
            self.label(MARGIN, "This dump names no heap.", "quiet")
        self.progress(self.scene.total, self.scene.total)
        return Picture(self.width, self.y + MARGIN, self.items, title)

    # ---- small parts ----

    def label(self, x: float, text: str, style: str, anchor: str = "start") -> None:
        if text:
            self.items.append(Label(x, self.y, text, style, anchor))

    def take(self, count: int) -> int:
        """Reserves room for parts. Returns how many of `count` still fit."""
        taken = min(count, self.parts_left)
        self.parts_left -= taken
        return taken

    def left_out(self, count: int, what: str, used: int = 0, size: int = 0) -> None:
        """Adds a line that sums up the parts for which there is no room."""
        if count:
            self.y += 24
            held = f" of {size_text(size)}, {percent(used, size)} used" if size else ""
            self.label(MARGIN, f"and {count_text(count, what)}{held}", "quiet")

    def legend(self) -> None:
        x = MARGIN
        self.y += 10
        for shade in self.scene.shades():
            name = KINDS[shade].title
            needed = 18 + text_width(name, 12) + 18
            if x > MARGIN and x + needed - 18 > self.width - MARGIN:
                x, self.y = MARGIN, self.y + 20
            self.items.append(Box(x, self.y - 10, 12, 12, f"k{shade}"))
            self.label(x + 18, name, "text")
            x += needed
        if self.scene.compares:
            text = "in each block: before above, after below"
            if x + text_width(text, 12) > self.width - MARGIN:
                x, self.y = MARGIN, self.y + 20
            self.label(x, text, "quiet")
        self.y += 10

    def line_of_two(self, head: str, rest: str, right: str) -> None:
        """Adds a heading, quiet text after it, and figures at the right edge."""
        end = self.width - MARGIN
        room = self.inner - text_width(right, 12) - 16
        head = fitted(visible(short(head)), room, 13, True)
        self.label(MARGIN, head, "head")
        used = text_width(head, 13, True) + 10
        self.label(MARGIN + used, fitted(visible(short(rest)), room - used, 12), "quiet")
        self.label(end, right, "text", "end")

    # ---- parts of a dump ----

    def heap(self, part: HeapPart) -> None:
        self.y += 26
        heap = part.heap
        if heap is None:
            self.line_of_two("Other memory", "of types that no heap names", "")
        else:
            self.line_of_two(heap.name, flags_text(heap.flags), "")
            self.y += 8
            self.budget(heap)
        shown: list[TypePart] = []
        plain: list[TypePart] = []
        empty: list[str] = []
        for it in part.types:
            if any(pool.bars for pool in it.pools):
                shown.append(it)
            elif figures_of(it).block_count:
                plain.append(it)
            else:
                empty.append(it.name)
        pools = [
            (of_type, pool, number == 0)
            for of_type in shown
            for number, pool in enumerate(it for it in of_type.pools if it.bars or it.pool.name)
        ]
        room = self.take(len(pools))
        for of_type, pool, first in pools[:room]:
            self.pool(of_type, pool, first)
        bars = [bar for _, pool, _ in pools[room:] for bar in pool.bars]
        self.left_out(len(pools) - room, "more pool", *bar_sums(bars))
        room = self.take(len(plain))
        for of_type in plain[:room]:
            self.plain_type(of_type)
        figures = [figures_of(it) for it in plain[room:]]
        used, size = (
            sum(it.allocation_bytes for it in figures),
            sum(it.block_bytes for it in figures),
        )
        self.left_out(len(figures), "more memory type", used, size)
        if empty:
            self.y += 24
            text = f"Nothing in {', '.join(visible(short(name, 40)) for name in empty)}"
            self.label(MARGIN, fitted(text, self.inner, 12), "quiet")

    def budget(self, heap: Heap) -> None:
        """Draws the bar of a heap: allocated, held back, free in blocks, other usage, budget."""
        for x, width, fill, title in budget_parts(heap, self.inner):
            tick = fill == "budget"
            y, height = (self.y - 3, 16.0) if tick else (self.y, 10.0)
            self.items.append(Box(MARGIN + x, y, width, height, fill, title))
        self.y += 28
        texts, alarm = budget_texts(heap)
        x = MARGIN
        for fill, text in texts:
            needed = 16 + text_width(text, 12) + 18
            if x > MARGIN and x + needed - 18 > self.width - MARGIN:
                x, self.y = MARGIN, self.y + 18
            self.items.append(Box(x, self.y - 9, 10, 10, fill))
            self.label(x + 16, text, "alarm" if alarm and fill == "budget" else "quiet")
            x += needed

    def pool(self, of_type: TypePart, part: PoolPart, first: bool) -> None:
        self.y += 30
        head = part.pool.title
        flags = flags_text(of_type.memory_type.flags if of_type.memory_type else part.pool.flags)
        if part.pool.name is not None and part.pool.flags:
            flags = flags_text(part.pool.flags)
        self.line_of_two(head, flags, pool_figures(part))
        if first and part.bars:
            self.y += 18
            right = MARGIN + LEFT + self.bar_width
            self.label(right + 46, "used", "quiet", "end")
            self.label(self.width - MARGIN, "fragmented", "quiet", "end")
            self.y += 7
        else:
            self.y += 9
        room = min(MOST_BARS_OF_A_POOL, max(self.bars_left, 1))
        shown, rest = part.bars[:room], part.bars[room:]
        self.bars_left -= len(shown)
        widths = bar_widths(part.bars, self.bar_width, NARROWEST_BAR)
        for bar, width in zip(shown, widths, strict=False):
            self.bar(bar, width)
            self.done += bar.count
            self.progress(self.done, self.scene.total)
        if rest:
            self.y += 16
            used, size = bar_sums(rest)
            text = f"and {len(rest):,} more of {size_text(size)}, {percent(used, size)} used"
            self.label(MARGIN + LEFT, text, "quiet")

    def bar(self, bar: Bar, width: float) -> None:
        height = bar_height(bar, self.scene.compares)
        x = MARGIN + LEFT
        pieces = cut(self.scene, bar, width, height)
        self.items.append(BarItem(x, self.y, width, height, bar, pieces, bar_title(bar)))
        top, self.y = self.y, self.y + height / 2 + 4
        size = size_text(bar.size)
        name = fitted(bar_name(bar), LEFT - 22 - text_width(size, 12), 12)
        is_there = bar.side != BEFORE
        self.label(MARGIN, name, "text" if is_there else "quiet")
        self.label(x - 12, size, "quiet", "end")
        right = x + self.bar_width
        if not is_there:
            self.label(self.width - MARGIN, "freed", "quiet", "end")
        elif not bar.dedicated:
            self.label(right + 46, percent(bar.allocated, bar.size), "text", "end")
            end = self.width - MARGIN
            text = percent(bar.fragmentation, 1)
            self.label(end, text, "text" if bar.fragmentation else "quiet", "end")
            track = end - 42 - (right + 58)
            self.items.append(Box(right + 58, top + height / 2 - 3, track, 6, "track"))
            if bar.fragmentation:
                filled = max(track * bar.fragmentation, 2)
                self.items.append(Box(right + 58, top + height / 2 - 3, filled, 6, "fragmented"))
        self.y = top + height + GAP

    def plain_type(self, part: TypePart) -> None:
        """Draws a memory type of a dump that does not list blocks."""
        figures = figures_of(part)
        self.y += 30
        flags = flags_text(part.memory_type.flags if part.memory_type else ())
        used, size = figures.allocation_bytes, figures.block_bytes
        right = (
            f"{count_text(figures.block_count, 'block')}, {size_text(used)} of {size_text(size)}"
        )
        self.line_of_two(part.name, flags, right)
        self.y += 9
        self.items.append(Box(MARGIN, self.y, self.inner, 12, "track"))
        if used and size:
            width = max(self.inner * min(used / size, 1), 2)
            self.items.append(Box(MARGIN, self.y, width, 12, "allocated"))
        self.y += 16


# ---- texts that the page uses as well ----


def heading(scene: Scene) -> str:
    """Returns the default title of a picture."""
    device = scene.dump.device or scene.dump.api
    return f"What changed on {device}" if scene.compares else f"Memory of {device}"


def summary(scene: Scene) -> Iterator[str]:
    """Yields lines with the totals."""
    if scene.before is not None:
        yield f"Before: {figures_text(scene.before.total)}"
        yield f"After: {figures_text(scene.dump.total)}"
    else:
        yield figures_text(scene.dump.total)
    if any(scene.dump.evictions):
        yield evictions_text(scene.dump.evictions)
    debug = [it.debug for it in (scene.before, scene.dump) if it is not None]
    if any(map(any, debug)):
        yield " → ".join(dict.fromkeys(map(debug_text, debug)))
    if not scene.dump.detailed:
        yield "The dump has totals only, no single blocks and allocations."


def figures_of(part: TypePart) -> Figures:
    """Returns the figures of a memory type; zeros if the dump has none."""
    return part.memory_type.figures if part.memory_type else Figures(0, 0, 0, 0, 0)


def bar_name(bar: Bar) -> str:
    """Returns the name of a bar: `Block 3`."""
    return "Dedicated" if bar.dedicated else f"Block {visible(short(bar.id, 40))}"


def bar_title(bar: Bar) -> str:
    """Describes a bar in one line."""
    if bar.dedicated:
        return f"{count_text(bar.count, 'dedicated allocation')}, {size_text(bar.size)}"
    mapped = f", mapped {count_text(bar.map_count, 'time')}" if bar.map_count else ""
    if bar.side == BEFORE:
        mapped += ", until it was freed"
    elif bar.side == AFTER:
        mapped += ", allocated since"
    return (
        f"{bar_name(bar)}: {size_text(bar.size)}, {count_text(bar.count, 'allocation')}, "
        f"{percent(bar.allocated, bar.size)} used, "
        f"{percent(bar.fragmentation, 1)} fragmented{mapped}"
    )


def pool_figures(part: PoolPart) -> str:
    """Returns the figures of a pool: `3 blocks, 20 MiB of 48 MiB`; in a comparison both, with an
    arrow in between, where they differ."""
    texts = [_pool_figures(it) for it in part.sides]
    return " → ".join(dict.fromkeys(texts))


def _pool_figures(pool: PoolDump | None) -> str:
    if pool is None or not (pool.blocks or pool.dedicated):
        return "empty"
    dedicated = sum(it.size for it in pool.dedicated if it.is_allocation)
    allocated = dedicated + sum(it.allocated for it in pool.blocks)
    size = sum(it.size + sum(it.margins) for it in pool.dedicated)
    size += sum(it.size for it in pool.blocks)
    counts = [count_text(len(pool.blocks), "block")] if pool.blocks else []
    if pool.dedicated:
        counts.append(f"{len(pool.dedicated):,} dedicated")
    return ", ".join([*counts, f"{size_text(allocated)} of {size_text(size)}"])


def bar_sums(bars: list[Bar]) -> tuple[int, int]:
    """Returns the allocated bytes and all bytes of the bars."""
    return sum(bar.allocated for bar in bars), sum(bar.size for bar in bars)


def bar_widths(bars: list[Bar], width: float, narrowest: float) -> list[float]:
    """Returns the widths of a pool's bars: all have the scale of its largest block."""
    blocks = [bar.size for bar in bars if not bar.dedicated]
    largest = max(blocks or [bar.size for bar in bars] or [1]) or 1
    return [max(min(bar.size / largest, 1.0) * width, narrowest) for bar in bars]


def budget_parts(heap: Heap, width: float) -> Iterator[tuple[float, float, str, str]]:
    """Yields x, width, colour and title of each part of a heap's bar."""
    figures, usage, budget = heap.figures, heap.known_usage or 0, heap.known_budget or 0
    held = max(figures.block_bytes, figures.allocation_bytes)
    whole = max(heap.size or 0, budget, usage, held, 1)
    yield 0.0, width, "track", heap_title(heap)
    x = 0.0
    for size, fill, title in (
        (figures.allocation_bytes, "allocated", "allocated"),
        (heap.margins, "margin", "in margins"),
        (heap.quarantined, "quarantine", "in quarantine"),
        (held - figures.allocation_bytes - heap.held, "reserved", "free in blocks"),
        (max(usage - held, 0), "foreign", "used besides"),
    ):
        # Margins are many and small: their share alone is shown.
        least = 2.0 if size and fill != "margin" else 0.0
        part = min(max(width * size / whole, least), width - x)
        if part > 0:
            yield x, part, fill, f"{size_text(size)} {title}"
        x += part
    if budget:
        at = min(width * budget / whole, width) - 2
        yield max(at, 0.0), 2.0, "budget", f"budget: {size_text(budget)}"


def heap_title(heap: Heap) -> str:
    """Describes the size of a heap, or says that it is unknown."""
    return f"{size_text(heap.size)} in all" if heap.size is not None else "of unknown size"


def budget_texts(heap: Heap) -> tuple[list[tuple[str, str]], bool]:
    """Returns the legend of a heap's bar as texts with colours, and whether it is over budget."""
    figures = heap.figures
    held = max(figures.block_bytes, figures.allocation_bytes)
    texts = [("allocated", f"{size_text(figures.allocation_bytes)} allocated")]
    if heap.margins:
        texts.append(("margin", f"{size_text(heap.margins)} in margins"))
    if heap.quarantined:
        texts.append(("quarantine", f"{size_text(heap.quarantined)} in quarantine"))
    free = max(held - figures.allocation_bytes - heap.held, 0)
    texts.append(("reserved", f"{size_text(free)} free in blocks"))
    usage, budget = heap.known_usage, heap.known_budget
    if usage is not None and usage > held:
        texts.append(("foreign", f"{size_text(usage - held)} used besides"))
    over = False
    if budget is not None:
        used = held if usage is None else usage
        over = used > budget
        share = f"{percent(used, budget)} of " if budget else ""
        excess = f", {size_text(used - budget)} over it" if over else ""
        texts.append(("budget", f"{share}{size_text(budget)} budget{excess}"))
    if heap.size is not None:
        texts.append(("track", heap_title(heap)))
    return texts, over
