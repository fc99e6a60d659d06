"""The page of a trace, without a browser: its data, its structure, what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from timeline_data import DATA, HOSTILE, SCENES, PageData

import vk_mem
from vk_mem import InvalidArgumentError
from vk_mem.trace import (
    Allocate,
    AllocateMemory,
    EndMove,
    Free,
    FreeMemory,
    Lose,
    ProposeMove,
    Trace,
)

FILES = sorted(it for it in DATA.iterdir() if it.suffix in {".csv", ".pickle", ".vkmem"})


def moments(trace: Trace) -> Iterator[tuple[int, int, int]]:
    """The number of events, and the bytes held and live after them, summed up here."""
    held: dict[int, int] = {}
    live: dict[int, int] = {}
    reserved: dict[int, int] = {}
    offsets: dict[int, int] = {}
    for number, event in enumerate(trace, 1):
        match event:
            case AllocateMemory(memory=int(memory), size=size):
                held[memory] = size
            case FreeMemory(memory=memory):
                held.pop(memory, None)
            case Allocate(allocation=allocation, size=size, placed=placed):
                live[allocation] = size or event.buffer_size or 0
                offsets[allocation] = placed.offset if placed else 0
            case Free(allocation=allocation):
                live.pop(allocation, None)
                reserved.pop(allocation, None)
            case Lose(allocations=lost):
                for allocation in lost:
                    live.pop(allocation, None)
            case ProposeMove(allocation=allocation, kind=kind, placed=placed):
                slides = str(kind) == "slide"
                gap = offsets[allocation] - placed.offset
                reserved[allocation] = gap if slides else live[allocation]
            case EndMove(allocation=allocation, result=result, placed=placed):
                reserved.pop(allocation, None)
                if placed is not None:
                    offsets[allocation] = placed.offset
                assert str(result) != "destroyed"
        yield number, sum(held.values()), sum(live.values()) + sum(reserved.values())


@pytest.mark.parametrize("path", [SCENES, DATA / "snapshot-whole.pickle"], ids=lambda it: it.name)
def test_every_moment_has_the_bytes_of_the_events(path: Path) -> None:
    trace = vk_mem.trace.load(path)
    data = PageData(vk_mem.view.html(trace))
    assert data.header["events"] == len(trace)
    assert data["event.time"] == trace.columns.times.tolist()
    assert data["event.kind"] == trace.columns.kinds.tolist()
    assert data.held(0) == [(0, 0)] * len(data.header["heaps"])
    moved = False
    for number, held, live in moments(trace):
        if number % 9 and number != len(trace):
            continue
        heaps = data.held(number)
        assert (sum(it[0] for it in heaps), sum(it[1] for it in heaps)) == (held, live), number
        moved = moved or live > 0
    assert moved


@pytest.mark.parametrize("path", FILES, ids=lambda it: it.name)
def test_every_format_has_a_page(path: Path) -> None:
    data = PageData(vk_mem.view.html(vk_mem.trace.load(path)))
    header = data.header
    assert header["version"] == 1
    assert header["played"] == (path.suffix == ".csv")
    assert any("simulated" in line for line in header["summary"]) == header["played"]
    tables: dict[str, set[int]] = {}
    for name, values in data.columns.items():
        tables.setdefault(name.split(".")[0], set()).add(len(values))
    assert all(len(lengths) == 1 for lengths in tables.values())
    limits = {
        "memory.pool": len(header["pools"]),
        "place.pool": len(header["pools"]),
        "place.use": len(header["uses"]),
        "place.name": len(data.texts),
        "place.data": len(data.texts),
        "mark.text": len(data.texts),
        "site.file": len(data.texts),
        "site.function": len(data.texts),
        "place.memory": len(data["memory.begin"]) + 1,
        "place.base": len(data["place.begin"]) + 1,
        "place.site": len(data["site.line"]) + 1,
        "site.caller": len(data["site.line"]) + 1,
        "budget.heap": len(header["heaps"]),
    }
    for name, limit in limits.items():
        assert all(value < limit for value in data[name]), name
    assert all(use["kind"] < len(header["kinds"]) for use in header["uses"])


def test_a_scene_has_all_that_can_be_shown() -> None:
    data = PageData(vk_mem.view.html(vk_mem.trace.load(SCENES)))
    assert {1, 2, 3} <= set(data["place.ending"])  # Freed, lost, moved.
    assert {0, 3, 4} <= set(data["place.cause"])  # Made, moved, reserved.
    assert {0, 1, 2, 3} <= set(data["mark.kind"])  # Marks, failures, losses, frames.
    assert data["budget.event"] and data["run.begin"] and any(data["run.moved"])
    assert any(slot == 0 for slot in data["memory.slot"])
    sites = {data.texts[it] for it in data["site.function"]}
    assert {"main", "load_mesh"} <= sites
    heap, of_type = data.header["heaps"][0], data.header["types"][0]
    assert (heap["name"], heap["flags"]) == ("Heap 0", "device local")
    assert (of_type["name"], of_type["flags"]) == ("Type 0", "device local")
    assert data.header["title"] == "scenes on Simulated discrete GPU, 8 GiB"


def test_names_cannot_end_an_element() -> None:
    page = vk_mem.view.html(vk_mem.trace.load(HOSTILE))
    assert page.count("</script>") == 3
    assert "<title>&lt;/title&gt;" in page
    data = PageData(page)
    assert "</script><script>alert(1)</script>" in data.texts
    assert any(len(text) == 10_000 for text in data.texts)
    assert "a\nb\tc\0d" in data.texts


def test_the_page_is_one_file_with_its_own_policy(tmp_path: Path) -> None:
    trace = vk_mem.trace.load(SCENES)
    path = tmp_path / "scenes.html"
    page = vk_mem.view.html(trace, path, title="A & B")
    assert path.read_text(encoding="utf-8") == page
    assert "<title>A &amp; B</title>" in page and 'data-kind="trace"' in page
    assert not re.search(r"(src|href)=|https?://(?!www\.w3\.org)|@import", page)
    assert "default-src 'none'" in page
    # What the script asks for is there, and nothing is there twice.
    ids = re.findall(r'\bid="([\w-]+)"', page)
    assert len(ids) == len(set(ids))
    script = page[page.rindex("<script>") :]
    wanted = set(re.findall(r'byId\("([\w-]+)"\)', script))
    assert wanted <= {*ids, "tab-allocations", "tab-range"}, wanted - set(ids)
    dump = vk_mem.view.html(_dump())
    assert 'data-kind="dump"' in dump and 'id="time"' not in dump


def _dump() -> str:
    with vk_mem.Allocator(vk_mem.SimulatedDevice("integrated")) as allocator:
        return allocator.build_stats_string()


def test_wrong_calls_are_refused(tmp_path: Path) -> None:
    trace = vk_mem.trace.load(SCENES)
    with pytest.raises(InvalidArgumentError, match="compares two dumps"):
        vk_mem.view.html(trace, other=_dump())
    with pytest.raises(InvalidArgumentError, match="title"):
        vk_mem.view.html(trace, title=3)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="would be a dump"):
        vk_mem.view.html(trace, tmp_path / "x.json")


def test_a_page_is_small() -> None:
    """What does not depend on the trace is less than 200 kB."""
    page = vk_mem.view.html(vk_mem.trace.load(DATA / "rmm.csv"))
    assert len(page) < 200_000
