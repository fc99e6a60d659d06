"""Encodes the data of a page: a small header, and one compressed block of columns and texts.

The block is deflated (zlib). It contains, without gaps and in little endian, the columns that the
header lists, and then the JSON array of all texts. A row is a region; the rows of a bar are
consecutive. Columns:

    use     u32   index into `uses` of the header: kind, class, type and usage
    name    u32   index into the texts; 0 for none
    data    u32   user data, as an index into the texts; 0 for none
    site    u32   call site, as an index into the texts; 0 for none
    offset  u64   in bytes, as in the dump
    size    u64   in bytes
    side    u8    0: in both dumps, or there is one dump; 1: only before; 2: only after
    lane    u8    0 for the owner of the memory, 1 and more for its aliases
    moved   u32   where it moved to (side 1) or from (side 2), as an index into the texts; 0 for
                  what has not moved
    parent  u32   row of the memory that an alias shares; 2^32 - 1 for all other rows
"""

from __future__ import annotations

import base64
import json
import sys
import zlib
from array import array
from collections.abc import Callable, Iterator
from typing import Any

from vk_mem.dump.kinds import HELD, KINDS, usage_text
from vk_mem.dump.model import Heap
from vk_mem.dump.words import flags_text
from vk_mem.view.layout import budget_texts, heading, pool_figures, summary
from vk_mem.view.scene import Bar, Progress, Row, Scene
from vk_mem.view.theme import DARK, LIGHT, ink_on, kind_colours

VERSION = 1
NONE = (1 << 32) - 1
LEVEL = 5
"""Compression level of zlib: 9 takes several times as long to save one percent."""

FORMATS = {
    "use": "I",
    "name": "I",
    "data": "I",
    "site": "I",
    "offset": "Q",
    "size": "Q",
    "side": "B",
    "lane": "B",
    "moved": "I",
    "parent": "I",
}


CHUNK = 3 << 18
"""Bytes of the columns that are compressed at a time."""


def encode(
    scene: Scene, title: str | None, progress: Progress
) -> tuple[dict[str, Any], Iterator[str]]:
    """Returns the header, and the block in base64, which is compressed while it is iterated."""
    table = _Table(scene)
    bars = _bars(scene, table, progress)
    texts = json.dumps(list(table.texts), separators=(",", ":")).encode("ascii")
    header = {
        "version": VERSION,
        "title": title if title is not None else heading(scene),
        "summary": list(summary(scene)),
        "api": scene.dump.api,
        "compares": scene.compares,
        "rows": len(table.columns["use"]),
        "allocations": scene.total,
        "columns": [[name, it.itemsize, len(it)] for name, it in table.columns.items()],
        "texts": len(texts),
        "kinds": kinds(),
        "themes": {"light": LIGHT, "dark": DARK},
        "uses": table.uses,
        **_places(scene),
        "bars": bars,
    }
    columns = [memoryview(_little(column)).cast("B") for column in table.columns.values()]
    return header, packed([*columns, memoryview(texts)])


def packed(parts: list[memoryview]) -> Iterator[str]:
    """Deflates parts and encodes them in base64. All pieces but the last encode a multiple of 3
    bytes, so that they can be concatenated."""
    packer, waiting = zlib.compressobj(LEVEL), bytearray()
    for part in parts:
        for start in range(0, len(part), CHUNK):
            waiting += packer.compress(part[start : start + CHUNK])
            whole = len(waiting) - len(waiting) % 3
            if whole >= CHUNK // 3:
                yield base64.b64encode(waiting[:whole]).decode("ascii")
                del waiting[:whole]
    waiting += packer.flush()
    yield base64.b64encode(waiting).decode("ascii")


def _little(column: array[int]) -> array[int]:
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column


def kinds() -> list[dict[str, Any]]:
    """Describes `KINDS`, with the colours of texts on them."""
    light, dark = kind_colours(False), kind_colours(True)
    return [
        {
            "key": kind.key,
            "title": kind.title,
            "held": number in HELD,
            "light": light[number],
            "dark": dark[number],
            "onLight": ink_on(light[number]),
            "onDark": ink_on(dark[number]),
        }
        for number, kind in enumerate(KINDS)
    ]


class _Table:
    """Collects rows as columns."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.columns: dict[str, array[int]] = {
            name: array(_format(format)) for name, format in FORMATS.items()
        }
        self.texts: dict[str, int] = {"": 0}
        self.uses: list[dict[str, Any]] = []
        self._uses: dict[tuple[object, ...], int] = {}

    def text(self, text: str | None) -> int:
        return self.texts.setdefault(text, len(self.texts)) if text else 0

    def use(self, row: Row) -> int:
        region = row.region
        key = (id(region.resource_class), region.usage, region.type_name, region.layout)
        found = self._uses.get(key)
        if found is None:
            found = self._uses[key] = len(self.uses)
            self.uses.append(
                {
                    "kind": row.kind,
                    "class": region.resource_class.value,
                    "type": region.type_name,
                    "usage": f"0x{region.usage:x}",
                    "flags": usage_text(region, self.scene.dump.api),
                    "layout": region.layout,
                }
            )
        return found

    def add(self, bar: Bar) -> int:
        """Appends the regions of a bar. Returns the number of its first row."""
        columns, rows, use, text = self.columns, bar.rows, self.use, self.text
        first = len(columns["use"])
        regions = [row.region for row in rows]
        columns["use"].extend([use(row) for row in rows])
        columns["name"].extend([text(it.name) for it in regions])
        columns["data"].extend([text(it.custom_data) for it in regions])
        columns["site"].extend([text(it.call_site) for it in regions])
        columns["offset"].extend([it.offset for it in regions])
        columns["size"].extend([it.size for it in regions])
        columns["side"].extend([row.side for row in rows])
        columns["lane"].extend([row.lane for row in rows])
        columns["moved"].extend([text(row.moved) for row in rows])
        columns["parent"].extend([NONE if it.parent < 0 else first + it.parent for it in rows])
        return first


def _format(wanted: str) -> Any:
    """Returns the array code of a type by its size: the C standard does not fix that of `I`."""
    return wanted if wanted != "I" or array("I").itemsize == 4 else "L"


def _bars(scene: Scene, table: _Table, progress: Progress) -> dict[str, list[Any]]:
    pools = {
        id(pool): number
        for number, pool in enumerate(
            pool for heap in scene.heaps for of_type in heap.types for pool in of_type.pools
        )
    }
    values: dict[str, Callable[[Bar], Any]] = {
        "id": lambda bar: bar.id,
        "size": lambda bar: bar.size,
        "dedicated": lambda bar: int(bar.dedicated),
        "side": lambda bar: bar.side,
        "rows": lambda bar: len(bar.rows),
        "allocations": lambda bar: bar.count,
        "allocated": lambda bar: bar.allocated,
        "fragmentation": lambda bar: round(bar.fragmentation, 4),
        "mapped": lambda bar: bar.map_count,
        "lanes": lambda bar: bar.lanes,
    }
    found: dict[str, list[Any]] = {"pool": [], "first": [], **{name: [] for name in values}}
    done = 0
    for _, _, pool, bar in scene.bars():
        found["pool"].append(pools[id(pool)])
        found["first"].append(table.add(bar))
        for name, value in values.items():
            found[name].append(value(bar))
        done += found["allocations"][-1]
        progress(done, scene.total)
    return found


def _places(scene: Scene) -> dict[str, list[Any]]:
    """Lists heaps, types and pools; each refers to its parent by index."""
    heaps: list[Any] = []
    types: list[Any] = []
    pools: list[Any] = []
    for part in scene.heaps:
        heaps.append(_heap(part.heap))
        for of_type in part.types:
            memory_type = of_type.memory_type
            for pool in of_type.pools:
                flags = flags_text(pool.pool.flags)
                name = pool.pool.name
                title = pool.pool.title
                pools.append(
                    {
                        "type": len(types),
                        "title": title,
                        "name": name,
                        "flags": flags,
                        "figures": pool_figures(pool),
                    }
                )
            figures = memory_type.figures if memory_type else None
            types.append(
                {
                    "heap": len(heaps) - 1,
                    "name": of_type.name,
                    "flags": flags_text(memory_type.flags) if memory_type else "",
                    "blocks": figures.block_count if figures else 0,
                    "held": figures.block_bytes if figures else 0,
                    "allocated": figures.allocation_bytes if figures else 0,
                }
            )
    return {"heaps": heaps, "types": types, "pools": pools}


def _heap(heap: Heap | None) -> dict[str, Any]:
    if heap is None:
        return {"name": "Other memory", "flags": "of types that no heap names", "texts": []}
    held = max(heap.figures.block_bytes, heap.figures.allocation_bytes)
    texts, over = budget_texts(heap)
    return {
        "name": heap.name,
        "flags": flags_text(heap.flags),
        "size": heap.size,
        "budget": heap.known_budget,
        "usage": heap.known_usage,
        "held": held,
        "margins": heap.margins,
        "quarantined": heap.quarantined,
        "allocated": heap.figures.allocation_bytes,
        "texts": texts,
        "over": over,
    }
