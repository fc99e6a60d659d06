"""The page in a real browser: search, filters, table, comparison, themes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from browser import (
    colour_at,
    kind_colour,
    middle_of,
    rect_of,
    rows_shown,
    search,
    selected,
    settle,
    zoom_of,
)
from pictures import MIB, large_dump, make_dump, mixed_dump, pool, region, without

import vk_mem
from vk_mem.dump import Block
from vk_mem.flags import BufferUsage

# ---- search, filters, table ----


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


@pytest.mark.parametrize("width", [880, 1100, 1300])
def test_the_place_is_not_cut_off(opened: Callable[..., Any], width: int) -> None:
    """Neither the block in a pool with a long name nor the column, beside a scroll bar."""
    whole = Block("12", MIB, (region(0, MIB, 4, "sampled"),))
    pools = (
        pool(whole, type_name="Type 10"),
        pool(whole, type_name="Type 10", name="1 - terrain that is streamed from a file"),
        pool(dedicated=(region(0, 3 * MIB, 5, "target"),), type_name="Type 11"),
    )
    page = opened(make_dump(*pools), width=width)
    page.evaluate("() => { document.getElementById('rows').style.marginRight = '15px' }")
    settle(page)
    places = page.eval_on_selector_all(
        ".row:not([hidden])",
        """(rows) => rows.map((row) => { const cell = row.lastChild;
             const end = row.getBoundingClientRect().right - cell.getBoundingClientRect().right;
             return [cell.textContent, cell.scrollWidth <= cell.clientWidth && end >= 9] })""",
    )
    texts = ["Type 11 / \u2013", "Type 10 / 12", "pool 1 / 12"]
    assert sorted(places) == sorted([text, True] for text in texts)
    title = "Type 10, pool 1 - terrain that is streamed from a file, block 12"
    assert page.get_attribute(".row span:has-text('pool 1 / 12')", "title") == title


def test_margins_and_quarantine_have_filters(opened: Callable[..., Any]) -> None:
    debug = vk_mem.Debug(detect_corruption=True, margin=64 << 10, quarantine="64M")
    device = vk_mem.SimulatedDevice("discrete-8gib")
    with vk_mem.Allocator(device, preferred_block_size=2 * MIB, debug=debug) as allocator:
        usage = BufferUsage.VERTEX_BUFFER
        meshes = allocator.create_buffers([MIB // 4] * 3, usage, names=["a", "b", "c"])
        meshes[1].destroy()
        page = opened(allocator.snapshot())
        allocator.destroy_many([meshes[0], meshes[2]])
    dimmed = page.evaluate("vkMem.data.header.themes.light.dimmed")

    def colours() -> list[str]:
        """In the middle of each row of the block, from left to right, but of what is free."""
        rows = page.evaluate(
            """() => { const { data, map } = vkMem, found = [];
               for (let row = 0; row < data.count; row++) {
                 const rect = data.kind[row] === data.freeKind ? null : map.rectOf(row);
                 const box = map.canvas.getBoundingClientRect();
                 if (rect) found.push([box.x + rect.x + rect.width / 2, box.y + rect.y + 3]);
               }
               return found.sort((a, b) => a[0] - b[0]) }"""
        )
        return [colour_at(page, x, y) for x, y in rows]

    margin, held, mesh = (kind_colour(page, it) for it in ("margin", "quarantine", "vertex"))
    assert set(colours()) == {margin, held, mesh}
    page.click("#legend button:has-text('Margin')")
    settle(page)
    assert set(colours()) == {dimmed, held, mesh}
    assert sorted(rows_shown(page)) == ["a", "c"]
    page.click("#legend button:has-text('In quarantine')")
    settle(page)
    assert set(colours()) == {dimmed, mesh}
    assert page.inner_text("#found") == "2 allocations of 512 KiB"
    page.click("#clear")
    search(page, "c")
    assert set(colours()) == {dimmed, mesh}


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


def test_a_comparison_with_moves(opened: Callable[..., Any]) -> None:
    then = make_dump(pool(Block("0", 4 * MIB, (region(2 * MIB, MIB, 3, "mesh"),))))
    now = make_dump(pool(Block("0", 4 * MIB, (region(0, MIB, 3, "mesh"),))))
    page = opened(then, now)
    mesh = rect_of(page, "mesh")
    assert colour_at(page, mesh["x"] + 3, mesh["y"] + 2) == kind_colour(page, "moved")
    assert "Moved" in page.inner_text("#legend")
    page.mouse.move(mesh["x"] + 5, mesh["y"] + 4)
    page.wait_for_selector("#tip:visible")
    assert re.search(r"Moved (from|to) block 0, offset", page.inner_text("#tip"))
    page.click("#legend button:has-text('Moved')")
    settle(page)
    assert colour_at(page, mesh["x"] + 3, mesh["y"] + 2) != kind_colour(page, "moved")


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
