"""Margins and quarantine in dumps, statistics, pictures and the command line."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import colour_at, kind_colour, rect_of, rows_shown
from pictures import bars_of, page_data, parsed_svg, region_rects, texts_of
from support import DEDICATED, TRANSFER
from typer.testing import CliRunner

import vk_mem
from vk_mem import Allocator, Debug, DumpError, SimulatedDevice
from vk_mem.cli.commands import app
from vk_mem.dump import DebugStatistics, Dump, ResourceClass, kinds

MIB = 1 << 20
PROFILES = SimulatedDevice.profile_names()
BUFFER, FREE = ResourceClass.BUFFER, ResourceClass.FREE
MARGIN, QUARANTINED = ResourceClass.MARGIN, ResourceClass.QUARANTINED


class Program:
    """An allocator with margins, quarantine, blocks and dedicated memory; the same each time."""

    def __init__(self, device: vk_mem.Device, margin: int = 64) -> None:
        debug = Debug(margin=margin, quarantine="64M")
        self.allocator = Allocator(device, debug=debug, preferred_block_size=4 * MIB)
        self.made = [self.buffer(4096 * (i + 1), f"b{i}") for i in range(6)]
        self.made.append(self.buffer(MIB, "own", flags=DEDICATED))
        gone = self.buffer(2 * MIB, "gone", flags=DEDICATED)
        pool = self.allocator.create_pool(
            memory_type_index=gone.allocation.memory_type_index,
            block_size=MIB,
            algorithm="linear",
            name="ring",
        )
        self.made.append(self.buffer(8192, "of the pool", pool=pool))
        gone.destroy()
        for name in ("b1", "b4"):
            self.take(name).destroy()

    def buffer(self, size: int, name: str, **more: Any) -> vk_mem.Buffer:
        return self.allocator.create_buffer(size, TRANSFER, name=name, **more)

    def take(self, name: str) -> vk_mem.Buffer:
        found = next(it for it in self.made if it.name == name)
        self.made.remove(found)
        return found

    def close(self) -> None:
        self.allocator.destroy_many(self.made)
        self.allocator.close()


@pytest.fixture(params=PROFILES)
def program(request: pytest.FixtureRequest, make_simulated: Any) -> Any:
    made = Program(make_simulated(request.param))
    yield made
    made.close()


@pytest.fixture
def one(simulated: SimulatedDevice) -> Any:
    made = Program(simulated)
    yield made
    made.close()


def held_of(dump: Dump) -> dict[ResourceClass, list[int]]:
    """Sizes of all margins, and of all that is in quarantine."""
    found: dict[ResourceClass, list[int]] = {MARGIN: [], QUARANTINED: []}
    for pool in dump.pools:
        for block in pool.blocks:
            for region in block.regions:
                if region.resource_class in found:
                    found[region.resource_class].append(region.size)
        for region in pool.dedicated:
            found[MARGIN] += [size for size in region.margins if size]
            if region.resource_class is QUARANTINED:
                found[QUARANTINED].append(region.size)
    return found


def test_all_that_is_held_is_listed(program: Program) -> None:
    allocator = program.allocator
    total, dump = allocator.calculate_statistics().total, allocator.snapshot()
    counted = (
        total.margin_count,
        total.margin_bytes,
        total.quarantined_count,
        total.quarantined_bytes,
    )
    assert dump.debug == DebugStatistics(*counted)
    held = held_of(dump)
    listed = [f(held[it]) for it in (MARGIN, QUARANTINED) for f in (len, sum)]
    assert dump.debug == DebugStatistics(*listed)
    assert dump.debug.quarantined_count == 3 and dump.debug.margin_count == 18
    assert dump.debug.quarantined_bytes >= 2 * MIB + 2 * 4096 + 5 * 4096
    by_heap = [heap.held for heap in dump.heaps]
    assert sum(by_heap) == dump.debug.margin_bytes + dump.debug.quarantined_bytes
    # Used, held back and unused are everything.
    used = total.allocation_bytes + total.unused_range_bytes
    slack = total.block_bytes - used - total.margin_bytes - total.quarantined_bytes
    assert slack == 0
    # Margins are before and behind each allocation of a block.
    for pool in dump.pools:
        for block in pool.blocks:
            for index, region in enumerate(block.regions):
                if region.is_allocation:
                    beside = (block.regions[index - 1], block.regions[index + 1])
                    assert all(it.resource_class is MARGIN and it.size >= 64 for it in beside)
        assert all(min(it.margins) >= 64 for it in pool.dedicated)


def test_vma_s_keys_stay_vma_s(one: Program) -> None:
    text = one.allocator.build_stats_string()
    parsed = json.loads(text)
    debug = parsed.pop("Debug")
    theirs = vk_mem.load_dump(parsed)
    ours = vk_mem.load_dump(text)
    assert theirs.debug == DebugStatistics(0, 0, 0, 0) and any(ours.debug)
    assert theirs.total == ours.total
    assert set(parsed) == {"General", "Total", "MemoryInfo", "DefaultPools", "CustomPools"}
    # What is held counts as unused in VMA's figures.
    free = [it for pool in theirs.pools for block in pool.blocks for it in block.regions]
    free = [it for it in free if it.is_free]
    held = held_of(ours)
    assert {it.resource_class for it in free} == {FREE}
    assert len(free) - sum(
        it.is_free for pool in ours.pools for block in pool.blocks for it in block.regions
    ) == sum(len(block["Margins"]) + len(block["Quarantined"]) for block in blocks_of(debug))
    assert sum(map(len, held.values())) == 21
    assert [it for it in theirs.allocations() if it[2].name != "own"] == [
        it for it in theirs.allocations() if it[2].name != "own"
    ]
    names = [[it[2].name for it in dump.allocations()] for dump in (theirs, ours)]
    assert names[0] == names[1]
    short = json.loads(one.allocator.build_stats_string(detailed=False))
    assert set(short) == {"General", "Total", "MemoryInfo"}


def blocks_of(debug: dict[str, Any]) -> list[dict[str, Any]]:
    pools = list(debug["DefaultPools"].values())
    pools += [pool for listed in debug["CustomPools"].values() for pool in listed.values()]
    return [block for pool in pools for block in pool["Blocks"].values()]


def test_what_is_held_is_no_allocation(one: Program) -> None:
    dump = one.allocator.snapshot()
    plain = vk_mem.load_dump({k: v for k, v in parsed(one).items() if k != "Debug"})
    for pool, other in zip(dump.pools, plain.pools, strict=True):
        for block, same in zip(pool.blocks, other.blocks, strict=True):
            assert block.allocated == same.allocated
            assert list(block.allocations) == list(same.allocations)
    assert all(region.is_allocation for _, _, region in dump.allocations())
    assert len(list(dump.allocations())) == dump.total.allocation_count
    found = vk_mem.diff(dump, dump)
    assert len(found.in_both) == dump.total.allocation_count and not found.only_in_b


def parsed(program: Program) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(program.allocator.build_stats_string())
    return found


# ---- wrong dumps ----


def block(dump: dict[str, Any]) -> dict[str, Any]:
    return next(iter(blocks_of(dump["Debug"])))


def default_pool(dump: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(iter(dump["Debug"]["DefaultPools"].values()))
    return found


WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no object": (lambda it: it.update(Debug=3), "Debug: an object is expected"),
    "a figure is missing": (lambda it: it["Debug"].pop("MarginBytes"), "MarginBytes is missing"),
    "a negative figure": (lambda it: it["Debug"].update(MarginCount=-1), "Debug.MarginCount"),
    "no pair": (lambda it: block(it)["Margins"].append([1]), "2 numbers are expected, not 1"),
    "no numbers": (lambda it: block(it)["Margins"].append(["a", 4]), "Debug.*not a text"),
    "twice": (lambda it: block(it)["Margins"].append(block(it)["Margins"][0]), "listed twice"),
    "another size": (
        lambda it: block(it)["Margins"][0].__setitem__(1, 5),
        "no unused range of 5 bytes",
    ),
    "elsewhere": (
        lambda it: block(it)["Quarantined"].append([3, 4]),
        "no unused range of 4 bytes",
    ),
    "an allocation": (
        lambda it: block(it)["Margins"].append(first_allocation(it)),
        "there is no unused range",
    ),
    "no such block": (
        lambda it: default_pool(it)["Blocks"].update({"99": {"Margins": [[0, 4]]}}),
        "no unused range of 4 bytes",
    ),
    "no index": (
        lambda it: default_pool(it)["DedicatedAllocations"].update({"x": [1, 2]}),
        "keys are indices",
    ),
    "no such dedicated memory": (
        lambda it: default_pool(it)["DedicatedAllocations"].update({"7": [1, 2]}),
        "no such allocation",
    ),
    "dedicated memory in quarantine": (
        lambda it: default_pool(it).update(QuarantinedDedicated=[[1, 2]]),
        "3 numbers are expected, not 2",
    ),
    "quarantine of no pool": (
        lambda it: it["Debug"]["DefaultPools"].update(
            {"Type 31": {"QuarantinedDedicated": [[1, 2, 3]]}}
        ),
        "no such pool",
    ),
}


def first_allocation(dump: dict[str, Any]) -> list[int]:
    pool = next(it for it in dump["DefaultPools"].values() if it["Blocks"])
    regions = next(iter(pool["Blocks"].values()))["Suballocations"]
    return next([it["Offset"], it["Size"]] for it in regions if it["Type"] != "FREE")


@pytest.mark.parametrize("case", WRONG)
def test_wrong_dumps_say_where(one: Program, case: str) -> None:
    spoil, text = WRONG[case]
    dump = parsed(one)
    vk_mem.load_dump(dump)
    spoil(dump)
    with pytest.raises(DumpError, match=text) as caught:
        vk_mem.load_dump(dump)
    assert "\n" not in str(caught.value) and "Debug" in str(caught.value)


# ---- texts ----


def test_tables_have_rows_for_them(one: Program) -> None:
    statistics = one.allocator.calculate_statistics()
    text, html = str(statistics.total), statistics.total._repr_html_()
    for row in ("margins ", "in margins", "freed allocations in quarantine", "in quarantine"):
        assert row in text and row.strip() in html
    last = str(statistics).splitlines()[-1]
    assert last.startswith("18 margins of ") and "3 allocations in quarantine, of 2" in last
    assert "18 margins of" in statistics._repr_html_()
    assert "18 margins of" in one.allocator.snapshot()._repr_html_()
    with Allocator(one.allocator.device, debug=Debug()) as plain:
        none = plain.calculate_statistics()
        assert "margins" not in str(none) + str(none.total) + plain.snapshot()._repr_html_()


def test_the_command_line_tells_them(one: Program, tmp_path: Path) -> None:
    after, before = tmp_path / "after.json", tmp_path / "before.json"
    after.write_text(one.allocator.build_stats_string())
    with Allocator(one.allocator.device, debug=Debug()) as plain:
        before.write_text(plain.build_stats_string())
    run = CliRunner().invoke
    shown = run(app, ["stats", str(after)])
    assert shown.exit_code == 0 and "18 margins of" in shown.output
    assert "margin" not in run(app, ["stats", str(before)]).output
    found = json.loads(run(app, ["stats", str(after), "--json"]).output)
    assert found["debug"]["margin_count"] == 18 and found["debug"]["quarantined_count"] == 3
    pools = found["pools"]
    assert sum(it["block_bytes"] for it in pools) == found["total"]["block_bytes"]
    assert sum(it["allocation_count"] for it in pools) == found["total"]["allocation_count"]
    both = run(app, ["stats", str(before), "--diff", str(after)])
    assert both.exit_code == 0 and "0 margins of 0 B" in both.output
    changed = json.loads(run(app, ["stats", str(before), "--diff", str(after), "--json"]).output)
    assert changed["debug_before"]["margin_count"] == 0
    assert changed["debug_after"]["quarantined_count"] == 3


# ---- pictures ----


def test_pictures_show_them(one: Program) -> None:
    svg = parsed_svg(vk_mem.view.svg(one.allocator))
    texts = texts_of(svg)
    for legend in ("Margin", "In quarantine", "Free"):
        assert legend in texts
    assert any("in margins" in it for it in texts)
    assert any(it.endswith(" in quarantine") for it in texts)
    classes = [it.get("class") for bar in bars_of(svg) for it in region_rects(bar)]
    assert f"k{kinds.QUARANTINE}" in classes
    strip = next(bar for bar in bars_of(svg) if bar.get("class") == "strip")
    sizes = [it for pool in one.allocator.snapshot().pools for it in pool.dedicated]
    assert int(strip.get("data-size", "0")) == sum(it.size + sum(it.margins) for it in sizes)
    with Allocator(one.allocator.device, debug=Debug()) as plain:
        assert "Margin" not in vk_mem.view.svg(plain)


def test_margins_have_their_colour(make_simulated: Any) -> None:
    from PIL import Image

    wide = Program(make_simulated("discrete-8gib"), margin=65536)
    try:
        for dark in (False, True):
            data = vk_mem.view.png(wide.allocator, scale=1, dark=dark)
            picture = Image.open(io.BytesIO(data)).convert("RGB")
            counted = {colour: count for count, colour in picture.getcolors(1 << 20) or []}
            for kind in (kinds.MARGIN, kinds.QUARANTINE):
                it = kinds.KINDS[kind]
                colour = it.dark if dark and it.dark else it.colour
                rgb = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
                # More than its square in the legend.
                assert counted.get(rgb, 0) > 200, (it.key, dark)
    finally:
        wide.close()


def test_margins_are_drawn_by_their_share(make_simulated: Any) -> None:
    """Two margins of 16 bytes for each buffer of 300 KiB are less than a pixel in all."""
    from PIL import Image

    with Allocator(make_simulated("discrete-8gib"), debug=Debug(margin=16)) as allocator:
        its = [allocator.create_buffer(300 << 10, TRANSFER) for _ in range(200)]
        for dark in (False, True):
            data = vk_mem.view.png(allocator, scale=1, dark=dark)
            picture = Image.open(io.BytesIO(data)).convert("RGB")
            margin = kinds.KINDS[kinds.MARGIN]
            colour = margin.dark if dark else margin.colour
            rgb = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
            columns = [
                sum(picture.getpixel((x, y)) == rgb for y in range(200, picture.height))
                for x in range(160, picture.width - 140)
            ]
            assert max(columns) == 0, dark
        (heap,) = (it for it in allocator.snapshot().heaps if it.held)
        assert (heap.margins, heap.quarantined) == (200 * 32, 0)
        header, *_ = page_data(vk_mem.view.html(allocator))
        legends = [name for it in header["heaps"] for name, _ in it["texts"]]
        assert "margin" in legends and "quarantine" not in legends
        allocator.destroy_many(its)


def test_a_page_knows_them(one: Program) -> None:
    header, columns, _ = page_data(vk_mem.view.html(one.allocator))
    held = {it["key"] for it in header["kinds"] if it["held"]}
    assert held == {"margin", "quarantine"}
    use = [header["uses"][it]["kind"] for it in columns["use"]]
    assert use.count(kinds.MARGIN) == 18 and use.count(kinds.QUARANTINE) == 3
    assert header["allocations"] == one.allocator.calculate_statistics().total.allocation_count
    assert any("18 margins of" in line for line in header["summary"])
    compared, *_ = page_data(vk_mem.view.html(one.allocator, other=one.allocator))
    assert compared["allocations"] == header["allocations"]


@pytest.mark.parametrize("dark", [False, True])
def test_a_page_in_a_browser(opened: Callable[..., Any], make_simulated: Any, dark: bool) -> None:
    wide = Program(make_simulated("discrete-8gib"), margin=65536)
    try:
        page = opened(wide.allocator.snapshot(), dark=dark)
        names = rows_shown(page)
        assert len(names) == 6 and not any("margin" in it.lower() for it in names)
        rect = rect_of(page, "b0")
        at = (rect["x"] - 3, rect["y"] + rect["height"] / 2)
        assert colour_at(page, *at) == kind_colour(page, "margin")
        chips = page.locator("#legend .chip").all_inner_texts()
        assert chips[-3:] == ["Margin", "In quarantine", "Free"]
    finally:
        wide.close()
