"""Dumps written by hand for the tests of pictures, and helpers to inspect the pictures."""

from __future__ import annotations

import base64
import dataclasses
import json
import random
import re
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any
from xml.etree import ElementTree

from vk_mem.dump import Block, Dump, Figures, Heap, MemoryType, PoolDump, Region, ResourceClass
from vk_mem.flags import BufferUsage, ImageUsage

MIB = 1 << 20
FREE, BUFFER, IMAGE, PLAIN = (
    ResourceClass.FREE,
    ResourceClass.BUFFER,
    ResourceClass.IMAGE_OPTIMAL,
    ResourceClass.UNKNOWN,
)
USES = (
    (BUFFER, BufferUsage.VERTEX_BUFFER | BufferUsage.TRANSFER_DST),
    (BUFFER, BufferUsage.UNIFORM_BUFFER),
    (BUFFER, BufferUsage.STORAGE_BUFFER),
    (BUFFER, BufferUsage.TRANSFER_SRC),
    (IMAGE, ImageUsage.SAMPLED | ImageUsage.TRANSFER_DST),
    (IMAGE, ImageUsage.COLOR_ATTACHMENT),
    (PLAIN, 0),
)


def region(
    offset: int, size: int, use: int | None = 0, name: str | None = None, **more: Any
) -> Region:
    """One of `USES`, free if `use` is None."""
    if use is None:
        return Region(offset, size, FREE, type_name="FREE")
    held, usage = USES[use]
    return Region(offset, size, held, int(usage), name, type_name=held.name, **more)


def figures(blocks: Iterable[Block], dedicated: Iterable[Region]) -> Figures:
    blocks, dedicated = list(blocks), list(dedicated)
    used = [it for block in blocks for it in block.regions if not it.is_free] + dedicated
    free = sum(it.is_free for block in blocks for it in block.regions)
    held = sum(block.size for block in blocks) + sum(it.size for it in dedicated)
    count = len(blocks) + len(dedicated)
    return Figures(count, held, len(used), sum(it.size for it in used), free)


def make_dump(*pools: PoolDump, heap: int = 1 << 30, budget: int = 900 * MIB, **more: Any) -> Dump:
    """One heap that has all types."""
    of_type: dict[str, list[PoolDump]] = {}
    for pool in pools:
        of_type.setdefault(pool.type_name, []).append(pool)

    def of(some: Iterable[PoolDump]) -> Figures:
        some = list(some)
        return figures(
            (block for pool in some for block in pool.blocks),
            (it for pool in some for it in pool.dedicated),
        )

    types = tuple(
        MemoryType(name, ("DEVICE_LOCAL",), of(some)) for name, some in of_type.items()
    ) or (MemoryType("Type 0", (), Figures(0, 0, 0, 0, 0)),)
    total = of(pools)
    heaps = (Heap("Heap 0", ("DEVICE_LOCAL",), heap, budget, total.block_bytes, total, types),)
    return dataclasses.replace(Dump("Vulkan", "A GPU", {}, total, heaps, pools, True), **more)


def pool(
    *blocks: Block, type_name: str = "Type 0", name: str | None = None, **more: Any
) -> PoolDump:
    dedicated = more.pop("dedicated", ())
    return PoolDump(type_name, name, 64 * MIB, (), blocks, tuple(dedicated))


def filled_block(
    identity: str,
    size: int,
    count: int,
    seed: int = 1,
    name: Callable[[int], str] = lambda i: f"resource {i}",
) -> Block:
    """Regions of random sizes from end to end, each fifth or so free."""
    dice = random.Random(seed)
    cuts = sorted({dice.randrange(1, size // 16) * 16 for _ in range(count)})
    regions: list[Region] = []
    for index, (start, end) in enumerate(zip([0, *cuts], [*cuts, size], strict=True)):
        free = bool(regions) and not regions[-1].is_free and dice.random() < 0.2
        use = None if free else dice.randrange(len(USES))
        more = (
            {"call_site": f"scene.py:{index % 50} in load"} if index % 3 == 0 and not free else {}
        )
        data = f"data {index % 5}" if index % 4 == 0 and not free else None
        regions.append(region(start, end - start, use, name(index), custom_data=data, **more))
    return Block(identity, size, tuple(regions))


def large_dump(count: int, blocks: int) -> Dump:
    """About so many regions."""
    share = count * 5 // 4 // blocks
    made = [
        filled_block(str(i), 256 * MIB, share, i, lambda n, i=i: f"r{i}.{n}") for i in range(blocks)
    ]
    return make_dump(pool(*made), heap=blocks * 300 * MIB, budget=blocks * 280 * MIB)


def mixed_dump() -> Dump:
    """Two types, a custom pool, dedicated memory, aliases."""
    shared = region(
        2 * MIB,
        6 * MIB,
        5,
        "shadows",
        aliases=(
            region(2 * MIB, 3 * MIB, 4, "bloom"),
            region(4 * MIB, 4 * MIB, 2, "scratch"),
        ),
    )
    first = Block(
        "0",
        16 * MIB,
        (
            region(
                0, 2 * MIB, 0, "mesh", custom_data="mesh 7", call_site="a.py:1 in f\nb.py:2 in g"
            ),
            shared,
            region(8 * MIB, 1 * MIB, None),
            region(9 * MIB, 4 * MIB, 4, "albedo"),
            region(13 * MIB, 3 * MIB, None),
        ),
        1,
    )
    second = Block("1", 4 * MIB, (region(0, MIB, 1, "uniforms"), region(MIB, 3 * MIB, None)))
    upload = Block("0", 8 * MIB, (region(0, 8 * MIB, 3, "staging"),))
    stream = Block("0", 8 * MIB, (region(0, 4 * MIB, None), region(4 * MIB, 4 * MIB, 6, "chunk")))
    dedicated = (region(0, 8 * MIB, 5, "target"), region(0, 2 * MIB, 2, "particles"))
    return make_dump(
        pool(first, second, dedicated=dedicated),
        pool(upload, type_name="Type 1"),
        pool(stream, type_name="Type 1", name="0 - streaming"),
        pool(type_name="Type 2"),
    )


def without(dump: Dump, *names: str, plus: Iterable[Region] = ()) -> Dump:
    """The same with the regions of these names free, and others in their places."""
    new = {it.offset: it for it in plus}

    def changed(block: Block) -> Block:
        regions = [
            new.get(it.offset, region(it.offset, it.size, None)) if it.name in names else it
            for it in block.regions
        ]
        return dataclasses.replace(block, regions=tuple(regions))

    pools = [
        dataclasses.replace(
            it,
            blocks=tuple(changed(block) for block in it.blocks),
            dedicated=tuple(one for one in it.dedicated if one.name not in names),
        )
        for it in dump.pools
    ]
    return make_dump(*pools)


NASTY = [
    "<script>window.hacked=1</script>",
    "</script><script>window.hacked=1</script>",
    "\"'><img src=x onerror=window.hacked=1>",
    "]]>--></svg><script>window.hacked=1</script>",
    "<!--<script>",
    "\u202egnp.exe\u2066",
    "nul\0bell\a\x1b[31m\x7f\x85",
    "lone \ud800 surrogate",
    "line\nbreak\u2028\u2029",
    "{{header}} {{script}} ${x} \\u003c &lt; &#60;",
    "日本語 עברית 😀 é",
    "x" * 20_000,
    "\ufffe\uffff\ufeff",
]


def nasty_dump() -> Dump:
    """Everything that has a text has a nasty one."""
    regions = [
        region(i * MIB, MIB, i % 7, text, custom_data=text, call_site=text)
        for i, text in enumerate(NASTY)
    ]
    block = Block(NASTY[2], len(NASTY) * MIB, tuple(regions))
    made = make_dump(
        pool(block, type_name=NASTY[0], name=NASTY[1], dedicated=(region(0, MIB, 1, NASTY[3]),)),
        device=NASTY[1],
    )
    heap = dataclasses.replace(made.heaps[0], name=NASTY[2], flags=(NASTY[0],))
    return dataclasses.replace(made, heaps=(heap,))


# ---- looking into pictures ----

SVG = "{http://www.w3.org/2000/svg}"


def parsed_svg(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


def bars_of(svg: ElementTree.Element) -> list[ElementTree.Element]:
    """The groups of blocks and strips."""
    return [it for it in svg.iter(f"{SVG}g") if it.get("class") in ("block", "strip")]


def region_rects(bar: ElementTree.Element) -> list[ElementTree.Element]:
    """The rectangles of regions, aliases among them."""
    return [it for it in bar.iter(f"{SVG}rect") if re.match(r"k\d+", it.get("class") or "")]


def texts_of(svg: ElementTree.Element) -> list[str]:
    return [it.text or "" for it in svg.iter(f"{SVG}text")]


def page_data(page: str) -> tuple[dict[str, Any], dict[str, list[int]], list[str]]:
    """Header, columns and texts of a page, read as its own script does."""

    def element(identity: str) -> str:
        found = re.search(rf'<script [^>]*id="{identity}">([^<]*)</script>', page)
        assert found is not None
        return found[1]

    header = json.loads(element("header"))
    lump = zlib.decompress(base64.b64decode(element("lump")))
    columns, at = {}, 0
    for name, width, count in header["columns"]:
        format = f"<{count}{ {1: 'B', 4: 'I', 8: 'Q'}[width] }"
        columns[name] = list(struct.unpack_from(format, lump, at))
        at += width * count
    assert len(lump) == at + header["texts"]
    return header, columns, json.loads(lump[at:])
