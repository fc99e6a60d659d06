"""The page in a real browser: contents, zooming and moving."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from browser import (
    colour_at,
    kind_colour,
    left_of,
    middle_of,
    rect_of,
    selected,
    settle,
    zoom_of,
)
from pictures import (
    BUFFER,
    IMAGE,
    MIB,
    filled_block,
    large_dump,
    make_dump,
    mixed_dump,
    nasty_dump,
    pool,
    region,
)

from vk_mem.dump import Block, Region

# ---- what is shown ----


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("ratio", [1, 2])
def test_regions_have_their_places_and_colours(
    opened: Callable[..., Any], dark: bool, ratio: int
) -> None:
    page = opened(mixed_dump(), dark=dark, width=1300 * ratio, height=800 * ratio)
    named = {"mesh": "vertex", "albedo": "sampled", "staging": "transfer", "target": "attachment"}
    for name, kind in named.items():
        rect = rect_of(page, name)
        x, y = rect["x"] + rect["width"] / 2, rect["y"] + 2
        assert colour_at(page, x, y) == kind_colour(page, kind), name
    base, alias = rect_of(page, "shadows"), rect_of(page, "bloom")
    assert alias["height"] < base["height"] and alias["y"] > base["y"]
    assert colour_at(page, *middle_of(page, "bloom")) != kind_colour(page, "attachment")
    assert colour_at(page, alias["x"] + alias["width"] - 8, alias["y"] + 3) == kind_colour(
        page, "sampled"
    )
    # Offsets are in proportion: mesh is 2 of 16 MiB, albedo from 9 to 13.
    mesh, albedo = rect_of(page, "mesh"), rect_of(page, "albedo")
    assert albedo["x"] - mesh["x"] == pytest.approx(4.5 * mesh["width"], abs=0.5)
    assert albedo["width"] == pytest.approx(2 * mesh["width"], abs=0.5)


def test_aliases_of_dedicated_memory(opened: Callable[..., Any]) -> None:
    half = region(4 * MIB, 4 * MIB, 4, "half")
    large = region(0, 8 * MIB, 5, "large", aliases=(half,))
    small = region(0, 2 * MIB, 2, "small", aliases=(region(0, MIB, 6, "quarter"),))
    page = opened(make_dump(pool(dedicated=(small, large))))
    large_rect, half_rect = rect_of(page, "large"), rect_of(page, "half")
    assert half_rect["x"] == pytest.approx(large_rect["x"] + large_rect["width"] / 2, abs=1)
    small_rect, quarter = rect_of(page, "small"), rect_of(page, "quarter")
    assert small_rect["x"] == pytest.approx(large_rect["x"] + large_rect["width"], abs=1)
    assert quarter["x"] == pytest.approx(small_rect["x"], abs=1)
    assert colour_at(page, half_rect["x"] + 60, half_rect["y"] + 3) == kind_colour(page, "sampled")
    page.mouse.move(half_rect["x"] + 60, half_rect["y"] + 3)
    page.wait_for_selector("#tip:visible")
    assert "half" in page.inner_text("#tip") and "dedicated" in page.inner_text("#tip")


def test_a_dump_of_direct3d(opened: Callable[..., Any]) -> None:
    texture = Region(0, MIB, IMAGE, 0x1, "target", type_name="TEXTURE2D", layout=3)
    blob = Region(MIB, MIB, BUFFER, 0x4, "blob", type_name="BUFFER")
    block = Block("0", 2 * MIB, (texture, blob))
    page = opened(make_dump(pool(block, type_name="DEFAULT"), api="Direct3D 12"))
    page.mouse.click(*middle_of(page, "target"))
    details = page.inner_text("#details")
    assert "Attachment" in details and "ALLOW_RENDER_TARGET" in details and "Layout" in details
    rect = rect_of(page, "blob")
    assert colour_at(page, rect["x"] + 5, rect["y"] + 3) == kind_colour(page, "storage")


def test_a_tiny_region_in_a_huge_block_is_seen_and_found(opened: Callable[..., Any]) -> None:
    block = Block("0", 1 << 30, (region(0, 1 << 29, None), region(1 << 29, 64, 1, "alone")))
    page = opened(make_dump(pool(block)))
    rect = rect_of(page, "alone")
    x, y = int(rect["x"]), rect["y"] + rect["height"] / 2
    assert kind_colour(page, "uniform") in {colour_at(page, x + dx, y) for dx in (-1, 0, 1)}
    page.mouse.move(x + 2, y)
    page.wait_for_selector("#tip:visible")
    assert "alone" in page.inner_text("#tip")
    page.mouse.click(x + 2, y)
    page.keyboard.press("Enter")
    settle(page)
    assert rect_of(page, "alone")["width"] > 100


def test_dense_blocks_keep_their_free_share(opened: Callable[..., Any]) -> None:
    block = filled_block("0", 256 * MIB, 60_000)
    page = opened(make_dump(pool(block)))
    share = page.evaluate(
        """() => { const { canvas, view, mapWidth, rectOf } = vkMem.map;
           const rect = rectOf(0); const width = Math.floor(mapWidth()) - 4;
           const height = Math.round(rect.height) - 2;
           const image = canvas.getContext("2d").getImageData(
             Math.ceil(view.gutter) + 2, Math.round(rect.y) + 1, width, height);
           const kinds = vkMem.data.kinds.filter((it) => it.key !== "free");
           const used = new Set(kinds.map((it) => parseInt(it.light.slice(1), 16)));
           let count = 0;
           for (let i = 0; i < image.data.length; i += 4) {
             const [red, green, blue] = image.data.slice(i, i + 3);
             if (used.has((red << 16) | (green << 8) | blue)) count++;
           }
           return count / (width * height) }"""
    )
    assert share == pytest.approx(block.allocated / block.size, abs=0.06)


def test_hovering_tells_all(opened: Callable[..., Any]) -> None:
    page = opened(mixed_dump())
    page.mouse.move(*middle_of(page, "mesh"))
    page.wait_for_selector("#tip:visible")
    tip = page.inner_text("#tip")
    for wanted in ("mesh", "2 MiB (2,097,152 B)", "Offset: 0", "Type 0, block 0", "Vertex, index"):
        assert wanted in tip
    for wanted in (
        "TRANSFER_DST, VERTEX_BUFFER",
        "User data: mesh 7",
        "a.py:1 in f",
        "b.py:2 in g",
    ):
        assert wanted in tip
    albedo = rect_of(page, "albedo")
    page.mouse.move(albedo["x"] + albedo["width"] + 20, albedo["y"] + 5)
    settle(page)
    assert page.inner_text("#tip").startswith("Free") and "3 MiB" in page.inner_text("#tip")
    page.mouse.move(5, 5)
    settle(page)
    assert page.is_hidden("#tip")


def test_heaps_have_their_budgets(opened: Callable[..., Any]) -> None:
    page = opened(mixed_dump())
    heap = page.inner_text(".heap")
    for wanted in ("Heap 0", "device local", "900 MiB budget", "1 GiB in all", "allocated"):
        assert wanted in heap
    budget = page.evaluate(
        """() => { const tick = document.querySelector(".budget .tick").getBoundingClientRect();
           const all = document.querySelector(".budget").getBoundingClientRect();
           return (tick.right - all.left) / all.width }"""
    )
    assert budget == pytest.approx(900 / 1024, abs=0.01)


@pytest.mark.parametrize("width", [360, 700, 1000, 1920])
@pytest.mark.parametrize("kind", ["mixed", "nasty", "empty"])
def test_nothing_sticks_out(opened: Callable[..., Any], width: int, kind: str) -> None:
    dump = {"mixed": mixed_dump, "nasty": nasty_dump, "empty": make_dump}[kind]()
    page = opened(dump, width=width, height=700)
    sizes = page.evaluate(
        """() => { const root = document.documentElement;
           const map = document.getElementById("map").getBoundingClientRect();
           return [root.scrollWidth, root.clientWidth, map.width, map.height] }"""
    )
    assert sizes[0] <= sizes[1]
    assert sizes[2] > 300 and sizes[3] > 200


# ---- zoom and pan ----


def test_the_wheel_zooms_at_the_pointer(opened: Callable[..., Any]) -> None:
    page = opened(mixed_dump())
    x, y = middle_of(page, "albedo")
    page.mouse.move(x, y)
    page.mouse.wheel(0, -250)
    settle(page)
    assert zoom_of(page) > 1.4
    assert middle_of(page, "albedo")[0] == pytest.approx(x, abs=1)
    assert page.inner_text("#zoom") == f"{zoom_of(page):.1f}\N{MULTIPLICATION SIGN}"
    page.mouse.wheel(0, 5000)
    settle(page)
    assert zoom_of(page) == 1 and left_of(page) == 0


def test_dragging_moves(opened: Callable[..., Any]) -> None:
    page = opened(large_dump(2000, 60))
    page.evaluate("vkMem.map.setZoom(4)")
    settle(page)
    before = left_of(page)
    page.mouse.move(700, 500)
    page.mouse.down()
    page.mouse.move(600, 450, steps=4)
    page.mouse.up()
    settle(page)
    width = float(page.evaluate("vkMem.map.mapWidth()"))
    assert left_of(page) - before == pytest.approx(100 / (4 * width), rel=0.02)
    assert page.evaluate("vkMem.map.scroll.scrollTop") == 50
    assert selected(page) == "", "a drag is no click"


def test_the_wheel_over_the_labels_scrolls(opened: Callable[..., Any]) -> None:
    page = opened(large_dump(2000, 60))
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 200)
    page.mouse.wheel(0, 300)
    settle(page)
    assert page.evaluate("vkMem.map.scroll.scrollTop") > 0 and zoom_of(page) == 1
    page.mouse.move(box["x"] + 400, box["y"] + 200)
    page.mouse.wheel(0, -200)
    page.keyboard.down("Shift")
    page.mouse.wheel(0, 100)
    page.keyboard.up("Shift")
    settle(page)
    assert zoom_of(page) > 1 and left_of(page) > 0


def test_two_fingers_pinch(opened: Callable[..., Any]) -> None:
    page = opened(mixed_dump())
    page.evaluate(
        """() => { const { canvas } = vkMem.map; const box = canvas.getBoundingClientRect();
           const send = (type, pointerId, x) => canvas.dispatchEvent(new PointerEvent(type,
             { pointerId, pointerType: "touch", clientX: box.x + x, clientY: box.y + 100,
               button: 0, bubbles: true }));
           send("pointerdown", 11, 300);
           send("pointerdown", 12, 400);
           for (let i = 1; i <= 10; i++) {
             send("pointermove", 11, 300 - 5 * i);
             send("pointermove", 12, 400 + 5 * i);
           }
           send("pointerup", 11, 250);
           send("pointerup", 12, 450); }"""
    )
    settle(page)
    assert 1.7 < zoom_of(page) < 2.3


def test_the_keys_of_the_map(opened: Callable[..., Any]) -> None:
    page = opened(large_dump(2000, 60))
    page.focus("#canvas")
    page.keyboard.press("+")
    page.keyboard.press("=")
    assert zoom_of(page) == pytest.approx(2.25)
    before = left_of(page)
    page.keyboard.press("ArrowRight")
    assert left_of(page) > before
    page.keyboard.press("ArrowLeft")
    assert left_of(page) == pytest.approx(before)
    page.keyboard.press("ArrowDown")
    assert page.evaluate("vkMem.map.scroll.scrollTop") > 0
    page.keyboard.press("-")
    assert zoom_of(page) == pytest.approx(1.5)
    page.keyboard.press("0")
    assert zoom_of(page) == 1
    page.keyboard.press("n")
    first = selected(page)
    page.keyboard.press("n")
    second = selected(page)
    page.keyboard.press("p")
    assert first and second and first != second and selected(page) == first
    page.keyboard.press("Enter")
    settle(page)
    assert zoom_of(page) > 1
    page.keyboard.press("Escape")
    assert selected(page) == ""


def test_the_focus_is_seen_and_the_tab_reaches_everything(opened: Callable[..., Any]) -> None:
    page = opened(mixed_dump())
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        identity, outline = page.evaluate(
            """() => { const it = document.activeElement, style = getComputedStyle(it);
               return [it.id || it.className, style.outlineStyle + " " + style.outlineWidth] }"""
        )
        if identity:
            assert outline == "solid 2px", identity
        reached.append(identity)
    assert {"theme", "help-button", "search", "place", "smallest", "canvas", "table"} <= set(
        reached
    )


def test_the_help(opened: Callable[..., Any]) -> None:
    page = opened(mixed_dump())
    page.keyboard.press("?")
    assert page.is_visible("#help") and "zoom" in page.inner_text("#help")
    page.keyboard.press("Escape")
    assert page.is_hidden("#help")
    page.click("#help-button")
    assert page.is_visible("#help")
    page.click("#help button")
    assert page.is_hidden("#help")
