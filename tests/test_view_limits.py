"""Pictures, pages and tables of extreme dumps: empty, or with very many of one thing."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from pictures import MIB, bars_of, make_dump, page_data, parsed_svg, pool, region, texts_of

import vk_mem
from vk_mem import view
from vk_mem.cli import dumps as commands
from vk_mem.dump import Block, Dump
from vk_mem.observe.tables import share_text, usage_text

STATS = {
    "BlockCount": 1,
    "BlockBytes": 100,
    "AllocationCount": 1,
    "AllocationBytes": 50,
    "UnusedRangeCount": 1,
}
NOTHING = dict.fromkeys(STATS, 0)
EVERY_OUTPUT = ("svg", "html", "png", "summary", "stats", "json")


def block(size: int = 100) -> dict[str, Any]:
    used = {"Offset": 0, "Type": "BUFFER", "Size": size // 2, "Name": "x"}
    return {
        "TotalBytes": size,
        "Suballocations": [used, {"Offset": size // 2, "Type": "FREE", "Size": size // 2}],
    }


def of_pool(*blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    made = {str(number): it for number, it in enumerate(blocks)}
    return {"Blocks": made, "DedicatedAllocations": [], **more}


def heap_of(types: dict[str, Any], flags: list[str] | None = None) -> dict[str, Any]:
    budget = {"BudgetBytes": 1 << 30, "UsageBytes": 1000}
    return {
        "Flags": flags or [],
        "Size": 1 << 30,
        "Budget": budget,
        "Stats": STATS,
        "MemoryPools": types,
    }


def many_of(kind: str, count: int) -> dict[str, Any]:
    """A dump with so many of one kind of thing."""
    of_type = {"Flags": [], "Stats": STATS}
    heaps: dict[str, Any] = {"Heap 0": heap_of({"Type 0": of_type})}
    default: dict[str, Any] = {}
    custom: dict[str, Any] = {}
    aliases: dict[str, Any] = {}
    names = [f"Type {number}" for number in range(count)]
    if kind == "types":
        heaps = {"Heap 0": heap_of(dict.fromkeys(names, of_type))}
    elif kind == "empty types":
        heaps = {"Heap 0": heap_of({name: {"Flags": [], "Stats": NOTHING} for name in names})}
    elif kind == "types with pools":
        heaps = {"Heap 0": heap_of(dict.fromkeys(names, of_type))}
        default = dict.fromkeys(names, of_pool(block()))
    elif kind == "types of no heap":
        default = dict.fromkeys(names, of_pool(block()))
    elif kind == "heaps":
        heaps = {f"Heap {number}": heap_of({}) for number in range(count)}
    elif kind == "heaps that share a type":
        heaps = {f"Heap {number}": heap_of({"Type 0": of_type}) for number in range(count)}
        default = {"Type 0": of_pool(*[block()] * count)}
    elif kind == "pools":
        pools = [of_pool(block(), Name=f"{number} - p") for number in range(count)]
        custom = {"Type 0": pools}
    elif kind == "pools of a type with flags":
        flags = [f"FLAG_{number}" for number in range(count)]
        heaps = {"Heap 0": heap_of({"Type 0": {"Flags": flags, "Stats": STATS}}, flags)}
        custom = {"Type 0": [of_pool(block(), Name=f"{number} - p") for number in range(count)]}
    elif kind == "blocks":
        default = {"Type 0": of_pool(*[block()] * count)}
    elif kind in ("regions at one place", "aliases at one place"):
        regions = [
            {"Offset": 0, "Type": "BUFFER", "Size": 50, "Name": f"r{number}"}
            for number in range(count)
        ]
        default = {"Type 0": of_pool({"TotalBytes": 100, "Suballocations": regions})}
        if kind == "aliases at one place":
            listed = [
                {"Type": "BUFFER", "Offset": 0, "Size": 9, "Name": f"a{number}"}
                for number in range(count)
            ]
            aliases = {"DefaultPools": {"Type 0": {"Blocks": {"0": {"0": listed}}}}}
    return {
        "General": {},
        "Total": STATS,
        "MemoryInfo": heaps,
        "DefaultPools": default,
        "CustomPools": custom,
        "Aliases": aliases,
    }


def drawn(output: str, dump: Dump, before: Dump) -> str:
    """Everything that an output makes of a dump, by itself and compared."""
    if output == "svg":
        return view.svg(dump) + view.svg(before, other=dump) + view.svg(dump, other=before)
    if output == "html":
        return view.html(dump) + view.html(before, other=dump) + view.html(dump, other=before)
    if output == "png":
        return str(len(view.png(dump, width=480, scale=0.5)))
    if output == "summary":
        return dump._repr_html_() + vk_mem.diff(before, dump)._repr_html_()
    if output == "json":
        found = commands.diff_json(vk_mem.diff(before, dump), 9)
        return json.dumps([commands.dump_json(dump, 9), found])
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        commands.print_dump(dump, 9)
        commands.print_diff(vk_mem.diff(before, dump), 9)
    return printed.getvalue()


# ---- cost ----

MANY = 8000
MANY_KINDS = [
    "types",
    "empty types",
    "types with pools",
    "types of no heap",
    "heaps",
    "heaps that share a type",
    "pools",
    "pools of a type with flags",
    "blocks",
    "regions at one place",
    "aliases at one place",
]


@pytest.mark.parametrize("kind", MANY_KINDS)
def test_many_of_a_kind_cost_no_more_than_their_number(kind: str) -> None:
    """Quadratic, each of them would take minutes. The bound is that of a busy machine."""
    dump = vk_mem.load_dump(many_of(kind, MANY))
    without = {**many_of(kind, MANY), "Aliases": {}}
    before = vk_mem.load_dump(without)
    for output in EVERY_OUTPUT:
        began = time.process_time()
        drawn(output, dump, before)
        spent = time.process_time() - began
        assert spent < 8, f"{output}: {spent:.1f} s"


def test_a_picture_has_an_end() -> None:
    """What it has no room for is summed up."""
    for kind, said in (
        ("pools", "and 1,501 more pools of 146.6 KiB, 50 % used"),
        ("types", "and 1,501 more memory types of 146.6 KiB, 50 % used"),
        ("heaps", "and 1,500 more heaps"),
    ):
        picture = view.svg(many_of(kind, 2000))
        assert said in texts_of(parsed_svg(picture)), kind
    assert len(bars_of(parsed_svg(view.svg(many_of("pools", 450))))) == 450


def test_long_tables_say_that_there_is_more() -> None:
    dump = vk_mem.load_dump(many_of("pools", 1234))
    text = drawn("stats", dump, dump)
    assert "and 234 more; --json has all" in text
    assert len(json.loads(drawn("json", dump, dump))[0]["pools"]) == 1234


# ---- nothing ----


def of_no_size(*sizes: int) -> Dump:
    """Regions of sizes from offset 0 on, each a used and an unused one."""
    regions, at = [], 0
    for size in sizes:
        regions += [region(at, size, None), region(at, size, 0, "used")]
        at += size
    whole = Block("0", at, tuple(sorted(regions, key=lambda it: it.offset)))
    return make_dump(pool(whole, dedicated=(region(0, 0, 1, "dedicated"),)), heap=0, budget=0)


@pytest.mark.parametrize("sizes", [(), (0,), (0, 0), (0, 64, 0), (1,)], ids=str)
@pytest.mark.parametrize("output", EVERY_OUTPUT)
def test_nothing_divides_by_a_size_of_zero(output: str, sizes: tuple[int, ...]) -> None:
    dump = of_no_size(*sizes)
    for one, other in ((dump, dump), (dump, make_dump()), (make_dump(), dump)):
        made = drawn(output, one, other)
        # The program of a page has such words in it.
        if output != "html":
            assert re.search(r"\b(nan|inf|NaN|Infinity)\b", made) is None


def test_unused_ranges_of_no_size_are_not_fragmented() -> None:
    assert of_no_size(0, 0).pools[0].blocks[0].fragmentation == 0
    assert of_no_size(0, 64).pools[0].blocks[0].fragmentation == 0
    text = json.dumps(
        {
            **many_of("blocks", 1),
            "DefaultPools": {
                "Type 0": of_pool(
                    {
                        "TotalBytes": 0,
                        "Suballocations": [{"Offset": 0, "Type": "FREE", "Size": 0}],
                    }
                )
            },
        }
    )
    dump = vk_mem.load_dump(text)
    assert dump.pools[0].blocks[0].fragmentation == 0
    for output in EVERY_OUTPUT:
        drawn(output, dump, dump)


@pytest.mark.parametrize("sizes", [(), (0,), (0, 64, 0)], ids=str)
def test_a_page_of_nothing_opens(opened: Callable[..., Any], sizes: tuple[int, ...]) -> None:
    page = opened(of_no_size(*sizes))
    assert "NaN" not in page.inner_text("body") and "Infinity" not in page.inner_text("body")
    page.focus("#canvas")
    for key in ("+", "n", "Enter", "ArrowRight", "Escape", "0"):
        page.keyboard.press(key)


@pytest.mark.parametrize("kind", ["types", "types with pools", "heaps", "heaps that share a type"])
def test_a_page_of_many_opens(opened: Callable[..., Any], kind: str) -> None:
    began = time.monotonic()
    page = opened(many_of(kind, 5000))
    assert page.get_attribute("html", "data-ready") == "yes"
    assert time.monotonic() - began < 60


# ---- what is not known ----


@pytest.mark.parametrize("usage", [(1 << 64) - 1, 1 << 63])
def test_a_usage_that_is_not_known_has_no_share(usage: int) -> None:
    dump = make_dump(pool(Block("0", MIB, (region(0, MIB, 0, "x"),))))
    heap = dataclasses.replace(dump.heaps[0], usage=usage)
    dump = dataclasses.replace(dump, heaps=(heap,))
    assert heap.known_usage is None and heap.known_budget == 900 * MIB
    assert "EiB" not in json.dumps(page_data(view.html(dump))[0]["heaps"])
    for output in ("svg", "summary", "stats"):
        made = drawn(output, dump, dump)
        assert "EiB" not in made and "unlimited" not in made
    assert "unknown" in drawn("stats", dump, dump)
    # What is held counts instead.
    assert "&lt; 1 % of 900 MiB budget" in view.svg(dump)
    assert json.loads(drawn("json", dump, dump))[0]["heaps"][0]["usage"] == usage
    assert (share_text(usage, 100), usage_text(usage)) == ("-", "unknown")


def test_a_budget_that_is_none_has_no_share() -> None:
    dump = make_dump(pool(Block("0", MIB, (region(0, MIB, 0, "x"),))), budget=(1 << 64) - 1)
    assert "EiB" not in json.dumps(page_data(view.html(dump))[0]["heaps"])
    for output in ("svg", "summary"):
        assert "EiB" not in drawn(output, dump, dump)
    assert share_text(100, (1 << 64) - 1) == "-" and share_text(50, 100) == "50 %"
    assert not any("budget" in it for it in texts_of(parsed_svg(view.svg(dump))))
