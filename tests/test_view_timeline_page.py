"""The page of a trace in a real browser: what it shows at each moment, and how it is moved."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from browser import rows_shown, search, settle
from timeline_data import DATA, HOSTILE, SCENES, PageData

import vk_mem
from vk_mem.trace import Trace


@pytest.fixture(scope="module")
def scenes() -> Trace:
    return vk_mem.trace.load(SCENES)


@pytest.fixture(scope="module")
def data(scenes: Trace) -> PageData:
    return PageData(vk_mem.view.html(scenes))


def go(page: Any, moment: int) -> None:
    page.evaluate("(moment) => vkMem.clock.go(moment)", moment)
    settle(page)


def until(page: Any, condition: str) -> None:
    """Waits for a condition; the page's policy forbids the browser's own way to do so."""
    for _ in range(600):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"it never was: {condition}")


def moment_of(page: Any) -> int:
    return int(page.evaluate("vkMem.state.moment"))


def chart_point(page: Any, moment: int) -> tuple[float, float]:
    """A point of the chart at a moment, in pixels of the page."""
    x, y, top = page.evaluate(
        """(moment) => { const box = document.getElementById("chart-box").getBoundingClientRect();
           return [box.x + vkMem.axis.xOf(moment), box.y, vkMem.chart.view.lanes[0].y] }""",
        moment,
    )
    return float(x), float(y + top + 20)


# ---- what is shown ----


def test_the_map_has_what_exists(opened: Callable[..., Any], scenes: Trace, data: PageData) -> None:
    page = opened(scenes)
    assert moment_of(page) == page.evaluate("vkMem.history.series.peak")
    for moment in (0, 1, 7, 300, 701, 1203, len(scenes)):
        go(page, moment)
        drawn = page.evaluate(
            """() => { const { data } = vkMem, found = [];
               for (const { first, rows } of data.bars)
                 for (let row = first; row < first + rows; row++)
                   if (data.isAllocation[row]) found.push(data.places[row]);
               return found.sort((a, b) => a - b) }"""
        )
        memories = set(data.exists("memory", moment))
        expected = [
            row for row in data.exists("place", moment) if data["place.memory"][row] - 1 in memories
        ]
        assert drawn == expected, moment
        shown = page.evaluate(
            "(p) => vkMem.history.series.heaps.map((it) => [it.heap, it.held[p], it.live[p]])",
            moment,
        )
        held = data.held(moment)
        assert all(held[heap] == (a, b) for heap, a, b in shown), moment
        assert sum(a + b for _, a, b in shown) == sum(map(sum, held))


def test_rows_of_a_block_fill_it(opened: Callable[..., Any], scenes: Trace) -> None:
    """Free and used regions follow each other without a gap, and offsets are those of the trace."""
    page = opened(scenes)
    for moment in range(0, len(scenes), 211):
        go(page, moment)
        wrong = page.evaluate(
            """() => { const { data } = vkMem;
               return data.bars.filter((bar) => !bar.dedicated && bar.size).filter((bar) => {
                 let end = 0;
                 for (let i = 0; i < baseCount(bar); i++) {
                   const row = baseRow(bar, i);
                   if (data.position[row] !== end) return true;
                   end += data.size[row];
                 }
                 return end !== bar.size;
                 function baseCount(bar) { return bar.base ? bar.base.length : bar.rows }
                 function baseRow(bar, i) { return bar.base ? bar.base[i] : bar.first + i }
               }).length }"""
        )
        assert wrong == 0, moment


def test_the_stack_adds_up(opened: Callable[..., Any], scenes: Trace) -> None:
    page = opened(scenes)
    for mode in ("name", "site", "kind"):
        page.select_option("#time-mode", mode)
        settle(page)
        assert page.is_visible("#time-legend")
        wrong = page.evaluate(
            """() => { const { bytes, moments } = vkMem.chart.stack;
               const { heaps } = vkMem.history.series;
               return [...moments].filter((p, c) => bytes.reduce((sum, of) => sum + of[c], 0) !==
                 heaps.reduce((sum, it) => sum + it.live[p], 0)).length }"""
        )
        assert wrong == 0, mode
    titles = page.locator("#time-legend .chip").all_inner_texts()
    assert len(titles) >= 4
    page.select_option("#time-mode", "name")
    settle(page)
    titles = page.locator("#time-legend .chip").all_inner_texts()
    go(page, 900)
    assert len({name.rstrip("0123456789") for name in rows_shown(page)}) > 2
    wanted = re.sub(r"\d+", "#", rows_shown(page)[0])
    assert wanted in titles and "#" in wanted
    page.click(f"#time-legend .chip:has-text('{wanted}')")
    settle(page)
    assert {re.sub(r"\d+", "#", name) for name in rows_shown(page)} == {wanted}
    page.select_option("#time-mode", "heaps")
    settle(page)
    assert not page.is_visible("#time-legend")
    assert len({name.rstrip("0123456789") for name in rows_shown(page)}) > 2


def test_the_range_is_summed_up(opened: Callable[..., Any], scenes: Trace, data: PageData) -> None:
    page = opened(scenes)
    begin, end = 200, 900
    page.evaluate("([a, b]) => vkMem.range.set(a, b)", [begin, end])
    settle(page)
    assert page.is_visible("#range") and not page.is_visible("#table")
    sums = page.evaluate("vkMem.state.rangeSums.all")
    births = {0, 1}
    made = [
        row
        for row, cause in enumerate(data["place.cause"])
        if cause in births and begin <= data["place.begin"][row] < end
    ]
    size = data["place.size"]
    assert (sums["made"], sums["madeBytes"]) == (len(made), sum(size[row] for row in made))
    freed = [
        row
        for row, ending in enumerate(data["place.ending"])
        if ending in (1, 2) and begin <= data["place.begin"][row] + data["place.life"][row] < end
    ]
    assert (sums["freed"], sums["freedBytes"]) == (len(freed), sum(size[row] for row in freed))
    allocations = data["place.allocation"]
    at_end = {allocations[row] for row in data.exists("place", end)}
    left = [row for row in made if allocations[row] in at_end]
    assert (sums["left"], sums["leftBytes"]) == (len(left), sum(size[row] for row in left))
    for_ever = {allocations[row] for row, it in enumerate(data["place.ending"]) if it == 0}
    leaked = [row for row in made if allocations[row] in for_ever]
    assert sums["leaked"] == len(leaked)
    for by in ("name", "site", "kind"):
        page.select_option("#range-by", by)
        settle(page)
        lines = page.evaluate("vkMem.state.rangeSums.lines")
        for key in ("made", "freedBytes", "leftBytes", "leaked"):
            assert sum(line[key] for line in lines) == page.evaluate(
                "(key) => vkMem.state.rangeSums.all[key]", key
            )
        sizes = [line["madeBytes"] for line in lines]
        assert sizes == sorted(sizes, reverse=True)
    page.click("#range-table th[data-key=title] button")
    titles = page.locator("#range-table tbody tr:not(.all) th").all_inner_texts()
    assert titles == sorted(titles) and titles
    assert page.get_attribute("#range-table th[data-key=title]", "aria-sort") == "ascending"
    page.click("#range-clear")
    settle(page)
    assert page.evaluate("vkMem.state.range") is None
    assert "whole trace" in page.inner_text("#range-about")


# ---- moving in time ----


def test_keys_move_in_time(opened: Callable[..., Any], scenes: Trace) -> None:
    page = opened(scenes)
    press = page.keyboard.press
    press("Home")
    settle(page)
    assert moment_of(page) == 0 and rows_shown(page) == []
    for _ in range(3):
        press("ArrowRight")
    press(".")
    press(",")
    settle(page)
    assert moment_of(page) == 3
    press("End")
    settle(page)
    assert moment_of(page) == len(scenes)
    press("k")
    settle(page)
    assert moment_of(page) == page.evaluate("vkMem.history.series.peak")
    press("Home")
    press(">")
    settle(page)
    first = moment_of(page)
    assert first > 0
    press(">")
    settle(page)
    assert moment_of(page) > first
    press("<")
    settle(page)
    assert moment_of(page) == first
    page.focus("#chart-box")
    press("Shift+ArrowRight")
    settle(page)
    assert moment_of(page) == first + round(len(scenes) / 100)
    # While the map is magnified, the arrows are its own.
    page.focus("#canvas")
    page.evaluate("vkMem.map.setZoom(8)")
    now = moment_of(page)
    press("ArrowRight")
    settle(page)
    assert moment_of(page) == now


def test_the_mouse_moves_and_chooses(opened: Callable[..., Any], scenes: Trace) -> None:
    page = opened(scenes)
    page.select_option("#time-axis", "event")
    settle(page)
    x, y = chart_point(page, 400)
    page.mouse.click(x, y)
    settle(page)
    assert abs(moment_of(page) - 400) <= 2
    assert page.evaluate("vkMem.state.range") is None
    a, b = chart_point(page, 500), chart_point(page, 800)
    page.mouse.move(*a)
    page.mouse.down()
    page.mouse.move(a[0] + 50, a[1])
    page.mouse.move(*b)
    page.mouse.up()
    settle(page)
    chosen = page.evaluate("vkMem.state.range")
    assert abs(chosen[0] - 500) <= 2 and abs(chosen[1] - 800) <= 2
    assert page.is_visible("#range")
    page.mouse.move(*a)
    settle(page)
    assert page.is_visible("#tip") and "Heap 0 held" in page.inner_text("#tip")
    page.mouse.dblclick(*a)
    settle(page)
    assert page.evaluate("[vkMem.axis.from, vkMem.axis.to]") == chosen
    page.mouse.wheel(0, -300)
    settle(page)
    assert page.evaluate("vkMem.axis.to - vkMem.axis.from") < chosen[1] - chosen[0]
    page.click("#time-fit")
    settle(page)
    assert page.evaluate("vkMem.axis.isWhole()")


def test_it_plays_and_pauses(opened: Callable[..., Any], scenes: Trace) -> None:
    page = opened(scenes)
    page.select_option("#speed", "10")
    go(page, 10)
    page.keyboard.press(" ")
    until(page, "vkMem.state.moment > 200")
    assert page.get_attribute("#play", "aria-label") == "Pause"
    page.keyboard.press(" ")
    settle(page)
    stopped = moment_of(page)
    assert page.get_attribute("#play", "aria-label") == "Play"
    page.wait_for_timeout(200)
    assert moment_of(page) == stopped == page.evaluate("vkMem.data.moment")
    page.click("#play")
    until(page, f"vkMem.state.moment === {len(scenes)} && !vkMem.clock.playing")


def test_what_is_selected_stays_selected(opened: Callable[..., Any], scenes: Trace) -> None:
    page = opened(scenes)
    end = len(scenes)
    go(page, end)
    place = page.evaluate(
        """() => { const { data, history } = vkMem, { lives, trace } = history;
           const long = (row) => lives.end[lives.of[data.places[row]]] === 0xffffffff;
           for (let row = 0; row < data.count; row++)
             if (data.isAllocation[row] && long(row)) {
                 vkMem.state.select(row);
                 return data.places[row];
               } }"""
    )
    settle(page)
    text = page.inner_text("#details")
    assert "Made" in text and "never in this trace" in text
    go(page, end - 3)
    row = page.evaluate("vkMem.state.selected")
    assert row >= 0 and page.evaluate("(row) => vkMem.data.places[row]", row) == place
    go(page, 0)
    assert page.evaluate("vkMem.state.selected") == -1
    go(page, end)
    assert page.evaluate("vkMem.state.selected") >= 0


def test_filters_hold_through_time(opened: Callable[..., Any], scenes: Trace) -> None:
    page = opened(scenes)
    search(page, "shadow map")
    for moment in (300, 900):
        go(page, moment)
        names = rows_shown(page)
        assert names and all("shadow map" in name for name in names)


# ---- odd traces ----


def test_hostile_names_are_only_texts(opened: Callable[..., Any]) -> None:
    page = opened(vk_mem.trace.load(HOSTILE))
    for mode in ("name", "site"):
        page.select_option("#time-mode", mode)
        page.evaluate("(mode) => { vkMem.range.tab('range') }", mode)
        settle(page)
    assert page.locator("img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    x, y = chart_point(page, 100)
    page.mouse.move(x, y - 30)
    settle(page)
    assert page.is_visible("#tip")


@pytest.mark.parametrize("width", [480, 1280])
def test_small_traces_have_a_page(opened: Callable[..., Any], width: int) -> None:
    head = b"Vulkan Memory Allocator,Calls recording\n1,8\n"
    for text in (head, head + b"1,0.001,0,vmaCreateAllocator\n"):
        page = opened(vk_mem.trace.load(text), width=width)
        page.keyboard.press("End")
        page.keyboard.press(" ")
        settle(page)
        page.click("#tab-range")
        settle(page)
        assert "0 allocations" in page.inner_text("#summary")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("name", ["vma-1.8-vega.csv", "snapshot-whole.pickle", "rmm.csv"])
def test_traces_of_others_have_a_page(opened: Callable[..., Any], name: str) -> None:
    page = opened(vk_mem.trace.load(DATA / name), dark=True)
    settle(page)
    assert page.evaluate("vkMem.data.count") > 0
    said = "does not say what was where" in page.inner_text("#summary")
    assert said == name.endswith(".csv")


def test_old_browsers_unpack_by_hand(opened: Callable[..., Any], scenes: Trace) -> None:
    page = opened(scenes)
    equal = page.evaluate(
        """async () => {
          const text = "abc".repeat(5000) + Array.from({ length: 4000 }, (_, i) => i * i).join();
          for (const given of ["", "a", text]) {
            const stream = new Blob([given]).stream().pipeThrough(new CompressionStream("deflate"));
            const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
            if (new TextDecoder().decode(vkMem.inflateByHand(bytes)) !== given) return given.length;
          }
          return "equal" }"""
    )
    assert equal == "equal"
