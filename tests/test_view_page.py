"""The page in a real browser: what it shows, and how it answers to mouse and keys."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
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
    without,
)

import vk_mem
from vk_mem.dump import Block, Dump, Region

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPENS_WITHIN = 2.0
"""Seconds, 100,000 allocations."""
FRAMES = 30
"""A second, while the same are panned."""
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"]
            )
        except api.Error as error:
            pytest.skip(f"{found} does not start: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens the page of a dump. At the end nothing may have gone wrong or been asked of the net."""
    contexts: list[Any] = []
    troubles: list[str] = []

    def open_page(
        *sources: Any, width: int = 1300, height: int = 800, dark: bool = False, **more: Any
    ) -> Any:
        path = tmp_path / f"page{len(contexts)}.html"
        vk_mem.view.html(*sources, path=path, **more)
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        # A hint to the tests themselves, which read the canvas.
        page.on(
            "console",
            lambda it: None if "willReadFrequently" in it.text else troubles.append(it.text),
        )
        page.on("dialog", lambda dialog: troubles.append(dialog.message))
        page.on(
            "request",
            lambda it: None if it.url == path.as_uri() else troubles.append(it.url[:200]),
        )
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready=yes]", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


def settle(page: Any) -> None:
    """Until everything that was asked for is drawn."""
    page.wait_for_timeout(150)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)))")


def row_of(page: Any, name: str) -> int:
    """The number of the row with that name."""
    found = page.evaluate(
        """(name) => { const { data } = vkMem; const text = data.texts.indexOf(name);
           return data.columns.name.findIndex((it) => it === text && text > 0) }""",
        name,
    )
    assert found >= 0, name
    return int(found)


def rect_of(page: Any, name: str) -> dict[str, float]:
    """Where it is drawn, in pixels of the page."""
    rect = page.evaluate(
        """(row) => { const rect = vkMem.map.rectOf(row); if (!rect) return null;
           const box = vkMem.map.canvas.getBoundingClientRect();
           return { ...rect, x: rect.x + box.x, y: rect.y + box.y } }""",
        row_of(page, name),
    )
    assert rect is not None, f"{name} is out of sight"
    return dict(rect)


def middle_of(page: Any, name: str) -> tuple[float, float]:
    rect = rect_of(page, name)
    return rect["x"] + rect["width"] / 2, rect["y"] + rect["height"] / 2


def colour_at(page: Any, x: float, y: float) -> str:
    """Of the canvas, at a point of the page."""
    return str(
        page.evaluate(
            """([x, y]) => { const { canvas, view } = vkMem.map;
               const box = canvas.getBoundingClientRect();
               const pixel = canvas.getContext("2d").getImageData(
                 Math.round((x - box.x) * view.ratio), Math.round((y - box.y) * view.ratio), 1, 1);
               const hex = (value) => value.toString(16).padStart(2, "0");
               return "#" + [...pixel.data].slice(0, 3).map(hex).join("") }""",
            [x, y],
        )
    )


def kind_colour(page: Any, key: str) -> str:
    return str(
        page.evaluate(
            """(key) => { const kind = vkMem.data.kinds.find((it) => it.key === key);
               return vkMem.state.dark ? kind.dark : kind.light }""",
            key,
        )
    )


def rows_shown(page: Any) -> list[str]:
    """The names in the table, from top to bottom."""
    return list(
        page.evaluate(
            """() => [...document.querySelectorAll(".row")].filter((it) => !it.hidden)
               .sort((a, b) => a.getBoundingClientRect().y - b.getBoundingClientRect().y)
               .map((it) => it.firstChild.textContent)"""
        )
    )


def selected(page: Any) -> str:
    if not page.is_visible("#details"):
        return ""
    return str(page.inner_text("#details h2"))


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


def zoom_of(page: Any) -> float:
    return float(page.evaluate("vkMem.map.view.zoom"))


def left_of(page: Any) -> float:
    return float(page.evaluate("vkMem.map.view.left"))


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


# ---- search, filters, table ----


def search(page: Any, text: str) -> None:
    page.fill("#search", text)
    settle(page)


def test_searching(opened: Callable[..., Any]) -> None:
    page = opened(mixed_dump())
    page.keyboard.press("/")
    page.keyboard.type("ALBE")
    settle(page)
    assert rows_shown(page) == ["albedo"]
    assert page.inner_text("#found") == "1 allocation of 4 MiB"
    # The rest is there, but pale.
    dimmed = page.evaluate("vkMem.data.header.themes.light.dimmed")
    rect = rect_of(page, "mesh")
    assert colour_at(page, rect["x"] + 5, rect["y"] + 5) == dimmed
    rect = rect_of(page, "albedo")
    assert colour_at(page, rect["x"] + rect["width"] / 2, rect["y"] + 2) == kind_colour(
        page, "sampled"
    )
    page.keyboard.press("Enter")
    assert selected(page) == "albedo"
    search(page, "mesh 7")
    assert rows_shown(page) == ["mesh"], "user data"
    search(page, "b.py")
    assert rows_shown(page) == ["mesh"], "call sites"
    search(page, "nothing like it")
    assert rows_shown(page) == [] and "Nothing is like that" in page.inner_text("#rows")
    page.keyboard.press("Escape")
    settle(page)
    assert len(rows_shown(page)) == 10 and page.input_value("#search") == ""


def test_filters(opened: Callable[..., Any]) -> None:
    page = opened(mixed_dump())
    page.click("#legend button:has-text('Attachment')")
    assert "shadows" not in rows_shown(page) and "albedo" in rows_shown(page)
    assert page.get_attribute("#legend button:has-text('Attachment')", "aria-pressed") == "false"
    page.click("#legend button:has-text('Attachment')")
    assert "shadows" in rows_shown(page)
    page.fill("#smallest", "3.5 MiB")
    settle(page)
    names = {"target", "staging", "shadows", "albedo", "chunk", "scratch"}
    assert set(rows_shown(page)) == names
    page.fill("#largest", "4m")
    settle(page)
    assert set(rows_shown(page)) == {"albedo", "chunk", "scratch"}
    page.select_option("#place", label="Type 1")
    assert rows_shown(page) == ["chunk"]
    page.fill("#smallest", "much")
    settle(page)
    assert "wrong" in (page.get_attribute("#smallest", "class") or "")
    page.click("#clear")
    settle(page)
    assert len(rows_shown(page)) == 10
    page.select_option("#place", index=3)
    assert rows_shown(page) == ["chunk"], "a pool"


def test_the_table_sorts(opened: Callable[..., Any]) -> None:
    page = opened(mixed_dump())
    sizes = [8, 8, 6, 4, 4, 4, 3, 2, 2, 1]
    shown = page.eval_on_selector_all(".row .number", "(all) => all.map((it) => it.textContent)")
    assert shown == [f"{size} MiB" for size in sizes]
    page.click("#columns button:has-text('Name')")
    names = rows_shown(page)
    assert names == sorted(names) and len(names) == 10
    assert page.get_attribute("#columns [data-key=name]", "aria-sort") == "ascending"
    page.click("#columns button:has-text('Name')")
    assert rows_shown(page) == names[::-1]
    page.click("#columns button:has-text('Size')")
    page.click("#columns button:has-text('Size')")
    assert rows_shown(page)[0] == "uniforms"
    page.click("#columns button:has-text('Place')")
    assert rows_shown(page)[:2] == ["mesh", "shadows"]
    page.click("#columns button:has-text('Use')")
    assert rows_shown(page)[0] == "mesh"


def test_the_table_has_only_the_rows_in_sight(opened: Callable[..., Any]) -> None:
    page = opened(large_dump(20_000, 4))
    total = int(page.get_attribute("#table", "aria-rowcount") or 0) - 1
    assert total > 15_000
    assert page.locator(".row").count() < 60
    page.focus("#table")
    page.keyboard.press("End")
    settle(page)
    last = selected(page)
    assert last in rows_shown(page)
    smallest = page.evaluate(
        "() => { const { data, state } = vkMem; return data.size[state.selected] === data.size"
        ".filter((_, row) => data.kind[row] !== data.freeKind).reduce((a, b) => Math.min(a, b)) }"
    )
    assert smallest is True
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("PageDown")
    settle(page)
    assert selected(page) in rows_shown(page)
    active = page.get_attribute("#table", "aria-activedescendant")
    assert page.get_attribute(f"#{active}", "aria-selected") == "true"
    assert page.locator(".row").count() < 60


def test_a_row_shows_its_place_in_the_map(opened: Callable[..., Any]) -> None:
    page = opened(large_dump(20_000, 60))
    page.focus("#table")
    page.keyboard.press("End")
    settle(page)
    rect = rect_of(page, selected(page))
    assert rect["width"] >= 1 and zoom_of(page) > 100
    page.click(".row >> nth=3")
    settle(page)
    rect = rect_of(page, selected(page))
    accent = page.evaluate("vkMem.data.header.themes.light.accent")
    around = {
        colour_at(page, rect["x"] + rect["width"] / 2, rect["y"] - dy / 2) for dy in range(1, 8)
    }
    assert accent in around, "it is framed"


def test_clicking_selects_and_aliases_name_each_other(opened: Callable[..., Any]) -> None:
    page = opened(mixed_dump())
    shadows = rect_of(page, "shadows")
    page.mouse.click(shadows["x"] + 8, shadows["y"] + 4)
    assert selected(page) == "shadows"
    assert "bloom, scratch" in page.inner_text("#details")
    page.click("#details .link:has-text('scratch')")
    assert selected(page) == "scratch" and "shadows" in page.inner_text("#details")
    page.mouse.click(*middle_of(page, "bloom"))
    assert selected(page) == "bloom"
    page.mouse.click(*middle_of(page, "mesh"))
    assert "a.py:1 in f\nb.py:2 in g" in page.inner_text("#details")


# ---- comparing ----


def test_a_comparison(opened: Callable[..., Any]) -> None:
    before = mixed_dump()
    after = without(before, "mesh", "target", plus=[region(0, MIB, 3, "fresh")])
    page = opened(before, after)
    gone, new = rect_of(page, "mesh"), rect_of(page, "fresh")
    assert gone["y"] + gone["height"] == pytest.approx(new["y"], abs=1)
    assert colour_at(page, gone["x"] + 3, gone["y"] + 2) == kind_colour(page, "gone")
    assert colour_at(page, new["x"] + 3, new["y"] + 2) == kind_colour(page, "new")
    albedo = rect_of(page, "albedo")
    assert colour_at(page, albedo["x"] + 3, albedo["y"] + 2) == kind_colour(page, "same")
    page.mouse.move(gone["x"] + 5, gone["y"] + 4)
    page.wait_for_selector("#tip:visible")
    assert "mesh" in page.inner_text("#tip") and "Only before" in page.inner_text("#tip")
    page.mouse.move(new["x"] + 5, new["y"] + 6)
    settle(page)
    assert "fresh" in page.inner_text("#tip") and "Only after" in page.inner_text("#tip")
    page.click("#legend button:has-text('In both')")
    assert sorted(rows_shown(page)) == ["fresh", "mesh", "target"]
    page.click("#legend button:has-text('Only before')")
    assert rows_shown(page) == ["fresh"]
    page.click("#clear")
    page.select_option("#colours", "kind")
    settle(page)
    assert colour_at(page, gone["x"] + 3, gone["y"] + 2) == kind_colour(page, "vertex")


# ---- themes ----


def test_light_and_dark(opened: Callable[..., Any]) -> None:
    page = opened(mixed_dump())
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    canvas = page.locator("#canvas").bounding_box()
    corner = (canvas["x"] + 4, canvas["y"] + canvas["height"] - 4)
    assert light == "rgb(255, 255, 255)" and colour_at(page, *corner) == "#ffffff"
    page.emulate_media(color_scheme="dark")
    settle(page)
    dark = page.evaluate(ground)
    assert dark != light and colour_at(page, *corner) == "#14171c"
    page.keyboard.press("t")
    settle(page)
    assert page.evaluate(ground) == light and colour_at(page, *corner) == "#ffffff"
    page.click("#theme")
    settle(page)
    assert page.evaluate(ground) == dark
    page.emulate_media(color_scheme="light")
    settle(page)
    assert page.evaluate(ground) == dark, "what was chosen stays"


# ---- nasty texts ----


def test_nasty_texts_stay_texts(opened: Callable[..., Any]) -> None:
    for sources in ((nasty_dump(),), (mixed_dump(), nasty_dump())):
        page = opened(*sources, title=nasty_dump().device)
        page.keyboard.press("n")
        for _ in range(8):
            page.keyboard.press("n")
            x, y = page.evaluate(
                """() => { const rect = vkMem.map.rectOf(vkMem.state.selected);
                   const box = vkMem.map.canvas.getBoundingClientRect();
                   return [rect.x + box.x + rect.width / 2, rect.y + box.y + rect.height / 2] }"""
            )
            page.mouse.move(x, y)
            settle(page)
        search(page, "script")
        assert page.evaluate("window.hacked") is None
        assert page.locator("img, iframe, object, embed, svg, a, link").count() == 0
        assert page.locator("script").count() == 2, "header and program; the lump is taken out"
        shown = page.inner_text("body")
        assert "<script>window.hacked=1</script>" in shown
        assert not set("\u202e\u2066\0\x1b\x07") & set(shown)


def test_svg_and_summary_run_nothing(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "nasty.svg").write_text(vk_mem.view.svg(nasty_dump(), title=nasty_dump().device))
    inner = nasty_dump()._repr_html_() + vk_mem.diff(mixed_dump(), nasty_dump())._repr_html_()
    (tmp_path / "summary.html").write_text(f"<meta charset=utf-8><body>{inner}")
    for name in ("nasty.svg", "summary.html"):
        page = browser.new_page()
        page.goto((tmp_path / name).as_uri())
        page.wait_for_timeout(100)
        assert page.evaluate("window.hacked") is None
        assert page.locator("script, img").count() == 0
        page.close()


def test_damaged_data_is_said(browser: Any, tmp_path: Path) -> None:
    made = vk_mem.view.html(mixed_dump())
    start = made.index('id="lump">') + len('id="lump">')
    path = tmp_path / "cut.html"
    path.write_text(made[:start] + made[start + 40 :])
    page = browser.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("#trouble:visible")
    assert "cannot be read" in page.inner_text("#trouble")
    page.close()


# ---- large ----

PAN = """async () => {
  const { canvas, setZoom } = vkMem.map, box = canvas.getBoundingClientRect();
  const send = (type, x, y) => canvas.dispatchEvent(new PointerEvent(type,
    { pointerId: 1, button: 0, clientX: x, clientY: y, bubbles: true, cancelable: true }));
  const frame = () => new Promise(requestAnimationFrame);
  setZoom(4);
  await frame();
  let x = box.x + 500, y = box.y + 300, frames = 0;
  send("pointerdown", x, y);
  const began = performance.now();
  while (performance.now() - began < 1000) {
    x += (frames >> 4) % 2 ? 7 : -7;
    y += (frames >> 5) % 2 ? 5 : -5;
    send("pointermove", x, y);
    await frame();
    frames++;
  }
  const rate = (1000 * frames) / (performance.now() - began);
  send("pointerup", x, y);
  return [rate, vkMem.map.view.left];
}"""


@pytest.fixture(scope="module")
def hundred_thousand() -> Dump:
    dump = large_dump(100_000, 20)
    assert sum(1 for _ in dump.allocations()) > 95_000
    return dump


def test_a_hundred_thousand_open_and_move_at_once(
    opened: Callable[..., Any], hundred_thousand: Dump
) -> None:
    """The best of several: other work on the machine must not decide."""
    page = opened(hundred_thousand, width=1400, height=900)
    opening, rates = [], []
    for _ in range(6):
        ready = page.evaluate("performance.getEntriesByName('vk-mem-ready')[0].startTime")
        opening.append(ready / 1000)
        rate, left = page.evaluate(PAN)
        assert left != 0
        rates.append(rate)
        if min(opening) < OPENS_WITHIN and max(rates) >= FRAMES:
            break
        page.reload()
        page.wait_for_selector("html[data-ready=yes]", state="attached")
    assert min(opening) < OPENS_WITHIN, opening
    assert max(rates) >= FRAMES, rates


def test_a_million_open(opened: Callable[..., Any]) -> None:
    page = opened(large_dump(1_000_000, 100), width=1400, height=900)
    total = int(page.get_attribute("#table", "aria-rowcount") or 0) - 1
    assert total > 950_000
    page.focus("#table")
    page.keyboard.press("End")
    settle(page)
    assert selected(page) in rows_shown(page)
    assert rect_of(page, selected(page))["width"] >= 1
    search(page, "r7.12")
    page.wait_for_function("vkMem.state.filtered", timeout=60_000)
    assert 0 < page.evaluate("vkMem.state.found") < 2000
    assert all("r7.12" in name for name in rows_shown(page))
    page.evaluate(PAN)
