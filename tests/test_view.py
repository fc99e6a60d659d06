"""Pictures of memory as SVG, PNG and page data: their contents and positions."""

from __future__ import annotations

import io
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pictures import (
    MIB,
    NASTY,
    SVG,
    bars_of,
    filled_block,
    large_dump,
    make_dump,
    mixed_dump,
    nasty_dump,
    page_data,
    parsed_svg,
    pool,
    region,
    region_rects,
    texts_of,
    without,
)
from PIL import Image
from support import TRANSFER, run_python

import vk_mem
from vk_mem import Allocator, Dump, DumpError, InvalidArgumentError
from vk_mem.dump import Block, Region, kinds
from vk_mem.view import text, theme

OUTPUTS = ("svg", "png", "html")


def draw(output: str, source: Any, other: Any = None, **keywords: Any) -> Any:
    return getattr(vk_mem.view, output)(source, other=other, **keywords)


# ---- SVG ----


def place(rect: Any) -> tuple[float, float]:
    return float(rect.get("x")), float(rect.get("width"))


def bar_width(bar: Any) -> float:
    return float(next(it for it in bar.iter(f"{SVG}rect") if it.get("class") == "bar").get("width"))


def test_each_region_has_a_rectangle_in_its_place() -> None:
    dump = mixed_dump()
    bars = bars_of(parsed_svg(vk_mem.view.svg(dump, width=1600)))
    blocks = [block for pool in dump.pools for block in pool.blocks]
    drawn = [bar for bar in bars if bar.get("class") == "block"]
    assert [bar.get("data-id") for bar in drawn] == [block.id for block in blocks]
    for bar, block in zip(drawn, blocks, strict=True):
        width = bar_width(bar)
        base = [it for it in region_rects(bar) if "alias" not in it.get("class", "")]
        used = list(block.allocations)
        assert len(base) == len(used)
        for rect, it in zip(base, used, strict=True):
            x, w = place(rect)
            assert x == pytest.approx(it.offset / block.size * width, abs=0.02)
            assert w == pytest.approx(it.size / block.size * width, abs=1)


def test_aliases_lie_on_what_they_share() -> None:
    bar = bars_of(parsed_svg(vk_mem.view.svg(mixed_dump())))[0]
    aliases = [it for it in region_rects(bar) if "alias" in it.get("class", "")]
    base = next(it for it in region_rects(bar) if place(it)[0] > 0)
    height = float(base.get("height") or 0)
    spans = []
    for rect in aliases:
        x, w = place(rect)
        left, wide = place(base)
        assert left - 0.1 <= x and x + w <= left + wide + 1.1
        y = float(rect.get("y") or 0)
        assert y > 0 and y + float(rect.get("height") or 0) <= height
        spans.append((x, x + w, y))
    (a, b) = spans
    assert a[1] > b[0], "they overlap in memory"
    assert a[2] != b[2], "so they have lanes of their own"


def test_dedicated_memory_is_a_strip() -> None:
    bars = bars_of(parsed_svg(vk_mem.view.svg(mixed_dump())))
    (strip,) = [bar for bar in bars if bar.get("class") == "strip"]
    assert strip.get("data-size") == str(10 * MIB)
    (a, wide), (b, narrow) = (place(rect) for rect in region_rects(strip))
    assert a == 0 and b == pytest.approx(bar_width(strip) * 0.8, abs=0.02)
    assert wide > 3 * narrow


def test_the_texts_are_there() -> None:
    svg = parsed_svg(vk_mem.view.svg(mixed_dump(), title="Frame 17", width=1400))
    texts = texts_of(svg)
    assert texts[0] == "Frame 17"
    for wanted in ("Heap 0", "Type 0", "Block 0", "Dedicated", "albedo", "Sampled image", "Free"):
        assert wanted in texts, texts
    assert any("0 - streaming" in it for it in texts)
    assert any("900 MiB budget" in it for it in texts)
    assert any("3 blocks" not in it and "2 blocks, 2 dedicated" in it for it in texts)
    assert "Nothing in Type 2" in texts
    titles = [it.text or "" for it in svg.iter(f"{SVG}title")]
    assert any("mapped 1 time" in it for it in titles)
    assert any(it.startswith("mesh, Vertex, index, 2 MiB") for it in titles)


def test_no_texts_overlap() -> None:
    """Of labels on one line, measured as wide as the widest usual font is."""
    for dump in (mixed_dump(), nasty_dump(), large_dump(2000, 8)):
        for width in (480, 1000, 3000):
            svg = parsed_svg(vk_mem.view.svg(dump, width=width))
            lines: dict[str, list[tuple[float, float, str]]] = {}
            for it in svg.findall(f"{SVG}text"):
                bold = it.get("class") in ("title", "head")
                wide = text.text_width(
                    it.text or "", 19 if it.get("class") == "title" else 12.5, bold
                )
                x = float(it.get("x") or 0)
                start = x - wide if it.get("text-anchor") == "end" else x
                lines.setdefault(it.get("y") or "", []).append((start, start + wide, it.text or ""))
            for line in lines.values():
                line.sort()
                assert line[0][0] >= 0 and line[-1][1] <= width + 6, line
                for before, after in itertools.pairwise(line):
                    assert before[1] <= after[0] + 3, (width, before, after)


def test_what_is_too_narrow_is_not_lost() -> None:
    block = Block("0", 256 * MIB, (region(0, 100 * MIB, None), region(100 * MIB, 64, 1, "alone")))
    (bar,) = bars_of(parsed_svg(vk_mem.view.svg(make_dump(pool(block)))))
    (rect,) = region_rects(bar)
    x, w = place(rect)
    assert x == pytest.approx(bar_width(bar) * 100 / 256, abs=0.1) and w >= 1
    # In a crowd all kinds remain, and the free share stays free.
    dense = filled_block("0", 64 * MIB, 20_000)
    (bar,) = bars_of(parsed_svg(vk_mem.view.svg(make_dump(pool(dense)))))
    paths = {it.get("class") for it in bar.iter(f"{SVG}path")}
    assert {"k0", "k1", "k2", "k3", "k6", "k7", "k10"} <= paths
    area = sum(
        float(w) * float(h)
        for path in bar.iter(f"{SVG}path")
        for w, h in re.findall(r"h([\d.]+)v([\d.]+)", path.get("d") or "")
    ) + sum(place(it)[1] * float(it.get("height") or 0) for it in region_rects(bar))
    share = area / (bar_width(bar) * 24)
    assert share == pytest.approx(dense.allocated / dense.size, abs=0.08)


def test_two_thousand_regions_are_small() -> None:
    dump = large_dump(2000, 8)
    count = sum(1 for _ in dump.allocations())
    assert 1800 < count < 2200
    svg = vk_mem.view.svg(dump)
    assert len(svg.encode()) < 150_000
    rects = sum(len(region_rects(bar)) for bar in bars_of(parsed_svg(svg)))
    assert rects > count / 3


def test_what_is_beyond_a_page_is_summed_up() -> None:
    blocks = [Block(str(i), MIB, (region(0, MIB, 0),)) for i in range(1000)]
    texts = texts_of(parsed_svg(vk_mem.view.svg(make_dump(pool(*blocks)))))
    assert any(it.startswith("and 936 more of 936 MiB, 100 % used") for it in texts)


def test_a_dump_of_totals_only() -> None:
    dump = mixed_dump()
    totals = Dump("Vulkan", "", {}, dump.total, dump.heaps, (), False)
    for output in OUTPUTS:
        draw(output, totals)
    texts = texts_of(parsed_svg(vk_mem.view.svg(totals)))
    assert any("totals only" in it for it in texts)
    assert any("4 blocks" in it for it in texts)


def test_an_empty_dump_and_one_without_heaps() -> None:
    nothing = make_dump()
    bare = Dump("Vulkan", "", {}, nothing.total, (), (), True)
    for dump in (nothing, bare):
        for output in OUTPUTS:
            assert draw(output, dump)
            assert draw(output, dump, dump)
    # Memory of a type that no heap has is drawn all the same.
    lost = Dump("Vulkan", "", {}, nothing.total, (), mixed_dump().pools, True)
    assert len(bars_of(parsed_svg(vk_mem.view.svg(lost)))) == 5


def test_regions_that_overlap_in_a_foreign_dump_are_both_seen() -> None:
    block = Block("0", 8 * MIB, (region(0, 6 * MIB, 0, "a"), region(4 * MIB, 4 * MIB, 4, "b")))
    (bar,) = bars_of(parsed_svg(vk_mem.view.svg(make_dump(pool(block)))))
    first, second = region_rects(bar)
    assert "alias" in (second.get("class") or "") and float(second.get("y") or 0) > 0
    assert "alias" not in (first.get("class") or "")


# ---- comparing ----


def changed() -> tuple[Dump, Dump]:
    """`mesh` and `target` go, `fresh` comes where `mesh` was, and an alias goes and one comes."""
    before = mixed_dump()
    after = without(before, "mesh", "target", plus=[region(0, MIB, 3, "fresh")])
    return before, after


def test_a_comparison_has_two_halves() -> None:
    before, after = changed()
    svg = parsed_svg(vk_mem.view.svg(before, other=after))
    bar = bars_of(svg)[0]
    by_shade: dict[str, list[Any]] = {}
    for rect in region_rects(bar):
        by_shade.setdefault((rect.get("class") or "").split()[0], []).append(rect)
    (gone,), (new,) = by_shade[f"k{kinds.GONE}"], by_shade[f"k{kinds.NEW}"]
    tall = float(gone.get("height"))
    assert float(gone.get("y") or 0) == 0 and float(new.get("y")) == pytest.approx(tall)
    assert len(by_shade[f"k{kinds.SAME}"]) == 4, "shadows, its two aliases, albedo"
    assert {"Only before", "In both", "Only after"} <= set(texts_of(svg))


def test_a_page_of_a_comparison_has_both() -> None:
    before, after = changed()
    header, columns, texts = page_data(vk_mem.view.html(before, other=after))
    sides = {
        texts[name]: side
        for name, side in zip(columns["name"], columns["side"], strict=True)
        if name
    }
    assert header["compares"] is True
    assert sides["mesh"] == sides["target"] == 1 and sides["fresh"] == 2
    assert sides["albedo"] == sides["bloom"] == sides["particles"] == 0


def moved() -> tuple[Dump, Dump]:
    """`mesh` moves to another block; two `twin`s cannot be told apart."""
    then = Block(
        "0",
        4 * MIB,
        (
            region(0, MIB, 3, "stays"),
            region(2 * MIB, MIB, 3, "mesh"),
            region(3 * MIB, 4096, 3, "twin"),
            region(3 * MIB + 4096, 4096, 3, "twin"),
        ),
    )
    now = Block("0", 4 * MIB, (region(0, MIB, 3, "stays"), region(MIB, 4096, 3, "twin")))
    twin = region(MIB, 4096, 3, "twin")
    later = Block("5", 4 * MIB, (region(65536, MIB, 3, "mesh"), twin, region(2 * MIB, 64, 3)))
    return make_dump(pool(then)), make_dump(pool(now, later))


def test_a_comparison_tells_what_has_moved() -> None:
    before, after = moved()
    found = vk_mem.diff(before, after)
    ((was, now),) = found.moved
    assert (was.region.name, was.region.offset, now.region.offset) == ("mesh", 2 * MIB, 65536)
    assert was.block is not None and now.block is not None
    assert (was.block.id, now.block.id) == ("0", "5")
    assert [it.region.name for it in found.only_in_a] == ["twin", "twin"]
    assert [it.region.name for it in found.only_in_b] == ["twin", "twin", None]
    assert [it.region.name for it in found.in_both] == ["stays"]
    assert "1 (1048576 bytes) moved" in repr(found)
    assert "moved" in found._repr_html_()
    svg = parsed_svg(vk_mem.view.svg(before, other=after))
    titles = [
        text
        for bar in bars_of(svg)
        for rect in region_rects(bar)
        if (rect.get("class") or "") == f"k{kinds.MOVED}"
        for text in rect.itertext()
    ]
    assert sorted(it.partition("moved ")[2] for it in titles) == [
        "from block 0, offset 2,097,152",
        "to block 5, offset 65,536",
    ]
    assert "Moved" in texts_of(svg)
    _, columns, texts = page_data(vk_mem.view.html(before, other=after))
    told = [
        (texts[n], s, texts[m])
        for n, s, m in zip(*map(columns.get, ("name", "side", "moved")), strict=True)
    ]
    assert [it for it in told if it[2]] == [
        ("mesh", 1, "to block 5, offset 65,536"),
        ("mesh", 2, "from block 0, offset 2,097,152"),
    ]
    assert "Moved" not in texts_of(parsed_svg(vk_mem.view.svg(*changed()[:1], other=changed()[1])))


def test_a_block_or_an_alias_of_one_side_only() -> None:
    both = Block("0", MIB, (region(0, MIB, 0, "base", aliases=(region(0, 1024, 2, "old"),)),))
    then = make_dump(pool(both, Block("7", MIB, (region(0, MIB, 0, "gone"),))))
    base = region(0, MIB, 0, "base", aliases=(region(0, 1024, 2, "young"),))
    now = make_dump(pool(Block("0", MIB, (base,)), Block("8", MIB, (region(0, MIB, 0, "new"),))))
    header, columns, texts = page_data(vk_mem.view.html(then, other=now))
    assert dict(zip(header["bars"]["id"], header["bars"]["side"], strict=True)) == {
        "0": 0,
        "7": 1,
        "8": 2,
    }
    sides = {texts[n]: s for n, s in zip(columns["name"], columns["side"], strict=True)}
    assert sides == {"base": 0, "old": 1, "young": 2, "gone": 1, "new": 2}


def test_a_comparison_shows_figures_of_both_sides_and_marks_what_was_freed() -> None:
    full = region(0, MIB, 0, "mesh")
    then = make_dump(pool(Block("0", 2 * MIB, ()), Block("7", MIB, (full,))))
    now = make_dump(pool(Block("0", 2 * MIB, (full,)), Block("8", MIB, ())))
    both = "2 blocks, 1 MiB of 3 MiB"
    for before, after, told in (
        (then, make_dump(pool(Block("0", 2 * MIB, (full,)))), f"{both} → 1 block, 1 MiB of 2 MiB"),
        (then, now, both),
    ):
        svg = parsed_svg(vk_mem.view.svg(before, other=after))
        assert told in texts_of(svg)
        assert texts_of(svg).count("freed") == 1
        header, *_ = page_data(vk_mem.view.html(before, other=after))
        assert [it["figures"] for it in header["pools"]] == [told]
        heights = {
            bar.get("data-id"): [
                (rect.get("y"), float(rect.get("height", 0)))
                for rect in bar
                if rect.get("class") == "bar"
            ]
            for bar in bars_of(svg)
        }
        ((_, whole),) = heights["0"]
        assert heights["7"] == [(None, whole / 2)]
        assert heights.get("8", [("15", whole / 2)]) == [(f"{whole / 2:g}", whole / 2)]
    alone = texts_of(parsed_svg(vk_mem.view.svg(then)))
    assert both in alone and "freed" not in alone


def test_equal_dumps_have_no_difference() -> None:
    header, columns, _ = page_data(vk_mem.view.html(mixed_dump(), other=mixed_dump()))
    used = [
        side
        for side, use in zip(columns["side"], columns["use"], strict=True)
        if header["uses"][use]["class"] != "unused"
    ]
    assert set(used) == {0} and len(used) == 10


# ---- the data of a page ----


def flat(dump: Dump) -> list[tuple[Any, ...]]:
    """All regions as the page should have them; dedicated ones by descending size."""

    def row(it: Region, parent: str | None) -> tuple[Any, ...]:
        key = (it.resource_class.value, it.usage, it.type_name, it.name, it.custom_data)
        return (*key, it.call_site, it.offset, it.size, parent)

    found = []
    for part in dump.pools:
        dedicated = sorted(part.dedicated, key=lambda it: -it.size)
        for it in (*(it for block in part.blocks for it in block.regions), *dedicated):
            found.append(row(it, None))
            found += [row(alias, it.name) for alias in it.aliases]
    return found


@pytest.mark.parametrize(
    "dump",
    [
        mixed_dump(),
        large_dump(3000, 3),
        nasty_dump(),
        make_dump(),
        make_dump(pool(Block("0", 2**64 - 1, (region(2**63 + 1, 2**63 - 2, 0),)))),
    ],
    ids=["mixed", "large", "nasty", "empty", "huge numbers"],
)
def test_the_data_of_a_page_is_the_dump(dump: Dump) -> None:
    header, columns, texts = page_data(vk_mem.view.html(dump))
    rows = []
    for i in range(header["rows"]):
        use = header["uses"][columns["use"][i]]
        words = [texts[columns[name][i]] or None for name in ("name", "data", "site")]
        parent = columns["parent"][i]
        of = None if parent == 2**32 - 1 else texts[columns["name"][parent]]
        key = (use["class"], int(use["usage"], 16), use["type"])
        rows.append((*key, *words, columns["offset"][i], columns["size"][i], of))
    assert rows == flat(dump)
    bars = header["bars"]
    assert sum(bars["rows"]) == header["rows"]
    assert header["allocations"] == sum(1 for _ in dump.allocations()) == sum(bars["allocations"])
    blocks = [block for part in dump.pools for block in part.blocks]
    sizes = [s for s, strip in zip(bars["size"], bars["dedicated"], strict=True) if not strip]
    assert sizes == [block.size for block in blocks]


def test_a_page_loads_nothing() -> None:
    page = vk_mem.view.html(mixed_dump())
    outside = re.sub(r"<script type[^>]*>[^<]*</script>", "", page)
    assert not re.search(r"https?://|\bsrc=|@import|url\(|import\(|fetch\(|XMLHttp", outside)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy and policy[1].startswith("default-src 'none'")
    assert "unsafe" not in policy[1]


def test_a_page_of_a_hundred_thousand_is_small() -> None:
    dump = large_dump(100_000, 20)
    count = sum(1 for _ in dump.allocations())
    seen: list[tuple[int, int]] = []
    page = vk_mem.view.html(dump, progress=lambda done, total: seen.append((done, total)))
    assert len(page) < 30 * count
    assert len(seen) == 20 and seen == sorted(seen) and seen[-1] == (count, count)


# ---- PNG ----


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


@pytest.mark.parametrize("dark", [False, True])
def test_a_png_has_the_size_and_the_colours(dark: bool) -> None:
    dump = make_dump(
        pool(Block("0", 64 * MIB, (region(0, 32 * MIB, 4), region(32 * MIB, 32 * MIB, None))))
    )
    width, scale = 800, 1.5
    svg = parsed_svg(vk_mem.view.svg(dump, width=width))
    image = opened(vk_mem.view.png(dump, width=width, scale=scale, dark=dark))
    height = float(svg.get("height") or 0)
    assert image.size == (round(width * scale), round(height * scale))
    (bar,) = bars_of(svg)
    x, y = map(float, re.findall(r"[\d.]+", bar.get("transform") or ""))
    wide = bar_width(bar)
    colours = theme.kind_colours(dark)

    def at(dx: float) -> str:
        pixel = image.getpixel((round((x + dx) * scale), round((y + 18) * scale)))
        assert isinstance(pixel, tuple)
        return "#{:02x}{:02x}{:02x}".format(*pixel)

    ground = theme.DARK if dark else theme.LIGHT
    assert at(wide * 0.25) == colours[kinds.NUMBER["sampled"]]
    assert {at(wide * 0.75 + i) for i in range(12)} == {ground["free"], ground["hatch"]}
    assert at(-4) == ground["ground"]


def test_a_png_without_pillow_says_what_to_install() -> None:
    code = """
        import sys
        sys.modules["PIL"] = None
        import vk_mem
        try:
            vk_mem.view.png({})
        except vk_mem.FeatureNotPresentError as error:
            print(error)
    """
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert "pip install 'vk-mem[view]'" in done.stdout


# ---- input and output ----


def test_sources_of_every_kind(simulated_allocator: Allocator, tmp_path: Path) -> None:
    with simulated_allocator.create_buffer(4096, TRANSFER, name="here"):
        written = simulated_allocator.build_stats_string()
        (tmp_path / "dump.json").write_text(written)
        sources = (
            simulated_allocator,
            simulated_allocator.snapshot(),
            written,
            json.loads(written),
            tmp_path / "dump.json",
            str(tmp_path / "dump.json"),
        )
        for output in OUTPUTS:
            drawn = [draw(output, source) for source in sources]
            assert all(it == drawn[0] for it in drawn)
            assert draw(output, written, simulated_allocator)


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_file_has_what_is_returned(output: str, tmp_path: Path) -> None:
    path = tmp_path / f"picture.{output}"
    drawn = draw(output, nasty_dump(), path=path)
    written = path.read_bytes()
    assert written == (drawn if output == "png" else drawn.encode())
    with pytest.raises(OSError):
        draw(output, mixed_dump(), path=tmp_path / "none" / "x")


BAD = [
    "[" * 1_000_000,
    '{"General":' * 1_000_000,
    vk_mem.SimulatedDevice,
    None,
    5,
    [],
    {},
    "{",
    "",
    "\0",
    b"\xff\xff",
    {"General": {}, "Total": {}, "MemoryInfo": {}},
    json.dumps({"General": {}, "MemoryInfo": []})[:-3],
    '{"General": {"x": 1e999}}',
    '{"General": {"x": ' + "9" * 10_000 + "}}",
]


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_what_is_no_dump_is_one_clear_error(output: str, bad: Any, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    for sources in ((bad,), (mixed_dump(), bad), (bad, mixed_dump())):
        if sources[-1] is None and len(sources) == 2:
            continue
        with pytest.raises(DumpError) as caught:
            draw(output, *sources, path=path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert not path.exists()


@pytest.mark.parametrize(
    "keywords",
    [{"width": 10}, {"width": 10**9}, {"width": 800.0}, {"width": True}, {"title": 5}],
)
@pytest.mark.parametrize("output", ["svg", "png"])
def test_wrong_keywords(output: str, keywords: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(keywords))):
        draw(output, mixed_dump(), **keywords)


@pytest.mark.parametrize("scale", [0, -1, 100, float("nan"), "2", True])
def test_wrong_scales(scale: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="scale"):
        vk_mem.view.png(mixed_dump(), scale=scale)


def test_a_png_of_too_many_pixels_is_refused() -> None:
    blocks = [Block(str(i), MIB, (region(0, MIB, 0),)) for i in range(64)]
    with pytest.raises(InvalidArgumentError, match="too large"):
        vk_mem.view.png(make_dump(pool(*blocks)), width=8000, scale=8)


# ---- nasty texts ----


def test_a_nasty_svg_is_well_formed_and_harmless() -> None:
    for picture in (
        vk_mem.view.svg(nasty_dump(), title=NASTY[1], width=4000),
        vk_mem.view.svg(mixed_dump(), other=nasty_dump()),
    ):
        svg = parsed_svg(picture)
        tags = {it.tag.removeprefix(SVG) for it in svg.iter()}
        assert tags <= {"svg", "title", "style", "defs", "pattern", "path", "rect", "g", "text"}
        allowed = {"class", "x", "y", "width", "height", "rx", "d", "id", "transform", "fill"}
        allowed |= {"viewBox", "role", "aria-label", "patternUnits", "text-anchor", "data-id"}
        assert {name for it in svg.iter() for name in it.attrib} <= allowed | {"data-size"}
        everything = "".join(svg.itertext())
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", everything)
        assert "\\u202e" in picture


def test_a_nasty_page_has_no_element_more() -> None:
    plain, nasty = vk_mem.view.html(make_dump()), vk_mem.view.html(nasty_dump(), title=NASTY[1])

    def tags(page: str) -> list[str]:
        return re.findall(r"</?[a-z!][^\s>]*", re.sub(r"(?s)<style>.*?</style>", "", page))

    assert tags(nasty) == tags(plain)


def test_summaries_are_small_and_harmless(simulated_allocator: Allocator) -> None:
    for dump in (mixed_dump(), nasty_dump(), make_dump(), large_dump(50_000, 40)):
        for made in (
            dump._repr_html_(),
            vk_mem.view.summary_html(dump),
            vk_mem.diff(mixed_dump(), dump)._repr_html_(),
            vk_mem.view.diff_summary_html(vk_mem.diff(dump, mixed_dump())),
        ):
            assert len(made) < 20_000
            root = parsed_svg(made.replace("&#39;", "'"))
            tags = {it.tag for it in root.iter()}
            assert tags <= {"div", "span", "b", "table", "tr", "td", "svg", "rect", "title"}
            assert not any(name.startswith("on") for it in root.iter() for name in it.attrib)
    assert "Memory of" in vk_mem.view.summary_html(simulated_allocator)
    assert "fresh" in vk_mem.diff(*changed())._repr_html_()


def test_the_wheel_has_the_page() -> None:
    """What maturin packs: all files of the package folder that git does not ignore."""
    folder = Path(vk_mem.__file__).parent / "view" / "assets"
    from vk_mem.view.page import DUMP, PARTS, SHARED, STYLES, TRACE

    markup = {"page.html", *(f"time/{name}.html" for name in PARTS)}
    there = {it.relative_to(folder).as_posix() for it in folder.rglob("*") if it.is_file()}
    assert there == {*SHARED, *DUMP, *TRACE, *STYLES, *markup}
    if (folder.parents[3] / ".git").exists():
        ran = subprocess.run(
            ["git", "check-ignore", *map(str, folder.rglob("*"))],
            cwd=folder,
            capture_output=True,
            check=False,
        )
        assert ran.stdout == b""


def test_importing_the_pictures_is_light() -> None:
    code = """
        import sys
        import vk_mem.view
        print(sorted({"numpy", "PIL", "asyncio", "playwright"} & set(sys.modules)))
    """
    done = run_python(code)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    assert sys.version_info >= (3, 11)
