"""Cuts a bar into what is visible: regions, and columns for regions that are too narrow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from vk_mem.dump.kinds import FREE, KINDS, MARGIN, USES
from vk_mem.text import short, size_text
from vk_mem.view.scene import AFTER, BEFORE, BOTH, Bar, Row, Scene

NARROWEST = 1.0
"""Pixels. Narrower regions share a column with their neighbours, if they have any there."""
COLUMN = 2.0
LONE = 1.5
"""Pixels. Width of a region that is alone in its column, so that none becomes invisible."""
FLATTEST = 2.0
"""Pixels. Height of the smallest part of a column, except of margins: there are two for each
allocation, and only their share of the bytes matters."""
FAINTEST = 0.5
"""Pixels. What is less high is not drawn."""
BAR, BAR_OF_TWO, LANE = 24.0, 30.0, 16.0
HEAD = 1.1
"""Height that an owner keeps free above its aliases, in lanes."""


def bar_height(bar: Bar, compares: bool) -> float:
    """Returns the height of a bar in pixels: each lane has room for a name."""
    if not bar.lanes:
        return BAR_OF_TWO if compares else BAR
    return LANE * (HEAD + bar.lanes) * (1.6 if compares else 1.0)


def inset(lanes: int) -> float:
    """Returns where aliases begin below the top of a track, as a part of its height."""
    return HEAD / (HEAD + lanes)


class Piece(NamedTuple):
    """A region that is drawn by itself, in pixels from the corner of its bar."""

    x: float
    y: float
    width: float
    height: float
    shade: int
    row: Row


class Stack(NamedTuple):
    """A part of a column: all regions of one shade, with a height by their share of the bytes."""

    x: float
    y: float
    width: float
    height: float
    shade: int


@dataclass
class Pieces:
    """All parts of a bar, in drawing order."""

    regions: list[Piece] = field(default_factory=list)
    stacks: list[Stack] = field(default_factory=list)
    aliases: list[Piece] = field(default_factory=list)


def cut(scene: Scene, bar: Bar, width: float, height: float) -> Pieces:
    """Cuts a bar of the given size in pixels."""
    made = Pieces()
    if not bar.size:
        return made
    scale = width / bar.size
    compares, narrowest, lone = scene.compares, NARROWEST / scale, width - LONE
    tracks = [(BEFORE, 0.0), (AFTER, height / 2)] if compares else [(BOTH, 0.0)]
    thick = height / len(tracks)
    crowds: list[dict[int, list[Row]]] = [{} for _ in tracks]
    drawn: set[tuple[int, int]] = set()
    add = made.regions.append
    for row in bar.rows:
        if row.kind == FREE:
            continue
        size, x = row.region.size, row.position * scale
        if row.lane:
            # Pieces with the same pixels and shade are drawn once.
            place = (row.lane * 4 + row.side, int(x / COLUMN))
            if size >= narrowest or place not in drawn:
                drawn.add(place)
                made.aliases.append(_alias(scene, bar, row, x, size * scale, height))
        elif size >= narrowest:
            wide = min(size * scale, width - x)
            if compares:
                top, tall = _track(scene, row.side, height)
                add(Piece(x, top, wide, tall, scene.shade(row), row))
            else:
                add(Piece(x, 0.0, wide, height, row.kind, row))
        else:
            column = int(x / COLUMN)
            for crowd, (side, _) in zip(crowds, tracks, strict=True):
                if row.side in (BOTH, side):
                    crowd.setdefault(column, []).append(row)
    for (_, top), crowd in zip(tracks, crowds, strict=True):
        for column, rows in crowd.items():
            if len(rows) == 1 and rows[0].kind != MARGIN:
                x = min(rows[0].position * scale, lone)
                add(Piece(x, top, LONE, thick, scene.shade(rows[0]), rows[0]))
            else:
                left = min(column * COLUMN, lone)
                across = min(COLUMN, width - left)
                made.stacks.extend(_stacks(scene, rows, left, across, top, thick, COLUMN / scale))
    return made


def _track(scene: Scene, side: int, height: float) -> tuple[float, float]:
    return half(side, height) if scene.compares else (0.0, height)


def half(side: int, height: float) -> tuple[float, float]:
    """Returns top and height of a side: before above, after below, both over all."""
    if not side:
        return 0.0, height
    return (0.0 if side == BEFORE else height / 2), height / 2


def _alias(scene: Scene, bar: Bar, row: Row, x: float, w: float, height: float) -> Piece:
    top, tall = _track(scene, row.side, height)
    thick = tall * (1 - inset(bar.lanes)) / max(bar.lanes, 1)
    top += tall * inset(bar.lanes) + thick * (row.lane - 1)
    # A gap of one pixel between lanes shows the owner below.
    return Piece(x, top, max(w, LONE), max(thick - 2, 1.5), scene.shade(row), row)


def _stacks(
    scene: Scene, rows: list[Row], x: float, width: float, top: float, height: float, column: float
) -> Iterator[Stack]:
    """Fills a column from below by the bytes of each shade; free bytes stay empty."""
    sizes: dict[int, int] = {}
    compares = scene.compares
    for row in rows:
        shade = scene.shade(row) if compares else row.kind
        sizes[shade] = sizes.get(shade, 0) + row.region.size
    heights = {
        shade: max(height * size / column, 0.0 if shade == MARGIN else FLATTEST)
        for shade, size in sorted(sizes.items())
    }
    excess = height / max(sum(heights.values()), height)
    bottom = top + height
    for shade, tall in heights.items():
        if tall * excess < FAINTEST:
            continue
        bottom -= tall * excess
        yield Stack(x, bottom, width, tall * excess, shade)


def region_title(row: Row) -> str:
    """Describes a region in one line, without escaping."""
    region = row.region
    if row.kind >= USES:
        return f"{KINDS[row.kind].title}, {size_text(region.size)}"
    parts = [short(region.name, 80)] if region.name else []
    parts.append(f"{KINDS[row.kind].title}, {size_text(region.size)}")
    if row.moved:
        parts.append(f"moved {row.moved}")
    return ", ".join(parts)
