"""Traces written in other formats, and the commands."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import timelines
from systems import WINDOWS
from test_cli import bad, good
from traces import ALL_CALLS, FILES, VEGA, buffers, recorded

import vk_mem
from vk_mem.trace import load


def is_missing(said: str) -> bool:
    """In the words of Unix, Windows or Wine."""
    return any(it in said for it in ("No such file", "cannot find", "not found"))


@pytest.mark.parametrize("path", FILES, ids=lambda it: it.name)
def test_recordings_of_this_library_keep_all(path: Path, tmp_path: Path) -> None:
    for trace in (load(path), recorded(path)):
        trace.save(tmp_path / "x.vkmem")
        again = load(tmp_path / "x.vkmem")
        assert list(again) == list(trace)
        assert again.description.device is None or repr(again.description.device) == repr(
            trace.description.device
        )
        # What is written again is the same byte for byte.
        again.save(tmp_path / "y.vkmem")
        assert (tmp_path / "x.vkmem").read_bytes() == (tmp_path / "y.vkmem").read_bytes()


def test_recordings_of_vma_come_back(tmp_path: Path) -> None:
    trace = load(VEGA)
    assert trace.to_vma_csv(tmp_path / "x.csv") == {}
    again = load(tmp_path / "x.csv")
    assert [(it.kind, it.time, it.thread) for it in again] == [
        (it.kind, it.time, it.thread) for it in trace
    ]
    first, second = trace.replay(), again.replay()
    assert (first.peak_held, first.driver) == (second.peak_held, second.driver)


def test_logs_of_rmm_come_back(tmp_path: Path) -> None:
    trace = recorded(VEGA)
    left_out = trace.to_rmm_csv(tmp_path / "x.csv")
    again = load(tmp_path / "x.csv")
    assert again.description.format == "rmm" and again.kinds() == {"allocate": 8, "free": 8}
    assert left_out["name"] == 1 and "allocate" not in left_out
    sizes = [it.size for it in trace if isinstance(it, vk_mem.trace.Allocate)]
    assert [it.size for it in again if isinstance(it, vk_mem.trace.Allocate)] == sizes


def test_files_are_replaced_only_by_whole_ones(tmp_path: Path) -> None:
    trace = load(VEGA)
    target = tmp_path / "x.vkmem"
    target.write_text("old")
    target.chmod(0o640)
    trace.save(target)
    assert len(load(target)) == len(trace)
    if not WINDOWS:  # where files have no such mode
        assert target.stat().st_mode & 0o777 == 0o640
    with pytest.raises(FileNotFoundError) as caught:
        trace.save(tmp_path / "none" / "x.vkmem")
    assert caught.value.filename == str(tmp_path / "none" / "x.vkmem")
    if sys.platform == "linux":
        with pytest.raises(OSError, match="No space"):
            trace.save("/dev/full")
    assert sorted(os.listdir(tmp_path)) == ["x.vkmem"]


# ---- Perfetto ----


@pytest.mark.parametrize("path", FILES, ids=lambda it: it.name)
def test_counters_of_perfetto_are_the_usage(path: Path, tmp_path: Path) -> None:
    trace = recorded(path)
    trace.to_perfetto(tmp_path / "x.pftrace")
    found = timelines.read(tmp_path / "x.pftrace").counters
    usage = trace.usage()
    assert found
    for heap, rows in enumerate(usage.heaps):
        for name, numbers in (("held", rows.held), ("live", rows.live)):
            shown = [it for key, it in found.items() if f"heap {heap}" in key and name in key]
            if len(rows.events) and shown:
                assert max(shown[0]) == int(numbers.max())
                assert shown[0][-1] == int(numbers[-1])


def test_perfetto_decodes_with_the_official_classes(tmp_path: Path) -> None:
    perfetto = pytest.importorskip(
        "perfetto.protos.perfetto.trace.perfetto_trace_pb2", reason="perfetto is not installed"
    )
    for path in FILES:
        recorded(path).to_perfetto(tmp_path / "x.pftrace", allocations=0, resources=True)
        trace = perfetto.Trace()
        data = (tmp_path / "x.pftrace").read_bytes()
        trace.ParseFromString(data)
        assert trace.packet and timelines.unknown_fields(trace) == []
        # Without what is not known, it would be shorter.
        trace.DiscardUnknownFields()
        assert trace.ByteSize() == len(data)


def test_counters_of_both_timelines_agree(tmp_path: Path) -> None:
    trace = buffers(50, 20)
    # It does not say what was held: a replay does.
    assert not trace.usage().total.held.any()
    trace.to_perfetto(tmp_path / "x.pftrace")
    trace.to_chrome_json(tmp_path / "x.json")
    events = json.loads((tmp_path / "x.json").read_text())
    events = events["traceEvents"] if isinstance(events, dict) else events
    chrome: dict[str, list[int]] = {}
    for it in events:
        if it["ph"] == "C":
            for value in it["args"].values():
                chrome.setdefault(it["name"], []).append(value)
    found = timelines.read(tmp_path / "x.pftrace").counters
    assert {tuple(it) for it in chrome.values()} == {tuple(it) for it in found.values()}
    assert max(max(it) for it in found.values()) == trace.replay().peak_held.bytes


# ---- commands ----


def test_replay_prints_a_table_or_json(tmp_path: Path) -> None:
    text = good("replay", VEGA, columns=200)
    assert text.startswith("as recorded on Radeon RX Vega\n") and "vkAllocateMemory" in text
    read = json.loads(good("replay", VEGA, "--device", "integrated", "--until", 60, "--json"))
    assert read["device"] == "Simulated integrated GPU" and read["events"] == 17
    small = json.loads(
        good("replay", VEGA, "--block-size", "16M", "--algorithm", "buddy", "--json")
    )
    assert small["peak_held"]["bytes"] == 32 << 20
    threads = json.loads(good("replay", VEGA, "--threads", "recorded", "--json"))
    assert threads["calls"] == 19
    (tmp_path / "c.toml").write_text(
        '[small]\nblock_size = "16M"\n[other]\ndevice = "integrated"\ndebug = {margin = 64}\n'
    )
    table = good("replay", VEGA, "--compare", tmp_path / "c.toml", columns=200).splitlines()
    assert [it.split()[0] for it in table] == ["settings", "small", "other"]
    (tmp_path / "d.toml").write_text(
        'heaps = [[1073741824, "DEVICE_LOCAL"]]\n'
        'types = [[0, ["DEVICE_LOCAL", "HOST_VISIBLE", "HOST_COHERENT"]]]\n'
    )
    own = json.loads(good("replay", VEGA, "--device", tmp_path / "d.toml", "--json"))
    assert [it["size"] for it in own["heaps"]] == [1 << 30]
    good("replay", VEGA, "--until", "60", "--view", tmp_path / "x.html")
    assert "Radeon RX Vega" in (tmp_path / "x.html").read_text()


def test_traces_are_shown_and_converted(tmp_path: Path) -> None:
    text = good("trace", "info", VEGA)
    assert "Radeon RX Vega" in text and "destroy allocator" in text
    read = json.loads(good("trace", "info", ALL_CALLS, "--json"))
    assert read["format"] == "vma 1.8" and read["kinds"]["map"] >= 1
    good("trace", "convert", VEGA, "-o", tmp_path / "x.vkmem")
    good("trace", "convert", tmp_path / "x.vkmem", "-o", tmp_path / "x.csv")
    assert load(tmp_path / "x.csv").kinds() == load(VEGA).kinds()
    said = good("trace", "convert", VEGA, "-o", tmp_path / "rmm.csv", "--to", "rmm")
    assert "1 event left out: name" in said
    for name in ("x.pftrace", "x.json"):
        good("trace", "export", VEGA, "-o", tmp_path / name, "--allocations", "1K", "--resources")
        assert (tmp_path / name).stat().st_size > 1000


def test_wrong_uses_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "no.csv").write_text("hello\n")
    assert "this is no trace" in bad(1, "replay", tmp_path / "no.csv")
    assert is_missing(bad(1, "trace", "info", tmp_path / "none"))
    assert "no profile is named" in bad(1, "replay", VEGA, "--device", "none")
    assert "bytes, such as 64M" in bad(2, "replay", VEGA, "--block-size", "many")
    assert "a line or an event" in bad(2, "replay", VEGA, "--until", "x")
    (tmp_path / "c.toml").write_text("[a]\nblok_size = 1\n")
    assert "did you mean block_size" in bad(1, "replay", VEGA, "--compare", tmp_path / "c.toml")
    (tmp_path / "e.toml").write_text("a = 1\n")
    assert "no table of settings" in bad(1, "replay", VEGA, "--compare", tmp_path / "e.toml")
    (tmp_path / "f.toml").write_text("[[")
    assert "f.toml: " in bad(1, "replay", VEGA, "--compare", tmp_path / "f.toml")
    assert "ends with" in bad(2, "trace", "export", VEGA, "-o", tmp_path / "x.txt")
    assert "ends with" in bad(2, "trace", "convert", VEGA, "-o", tmp_path / "x.txt")
    assert is_missing(bad(1, "trace", "convert", VEGA, "-o", tmp_path / "no" / "x.vkmem"))


# ---- progress ----


def test_long_work_tells_how_far_it_is(tmp_path: Path) -> None:
    trace = buffers(6000, 50)
    own = tmp_path / "own.vkmem"
    works: dict[str, Any] = {
        "save": lambda told: trace.save(own, progress=told),
        "VMA": lambda told: trace.to_vma_csv(tmp_path / "x.csv", progress=told),
        "RMM": lambda told: trace.to_rmm_csv(tmp_path / "rmm.csv", progress=told),
        "Perfetto": lambda told: trace.to_perfetto(tmp_path / "x.pftrace", progress=told),
        "Chrome": lambda told: trace.to_chrome_json(tmp_path / "x.json", progress=told),
        "page": lambda told: vk_mem.view.html(trace, progress=told),
        "load": lambda told: load(own, progress=told),
        "load VMA": lambda told: load(tmp_path / "x.csv", progress=told),
        "load RMM": lambda told: load(tmp_path / "rmm.csv", progress=told),
    }
    sizes = {"load": own, "load VMA": tmp_path / "x.csv", "load RMM": tmp_path / "rmm.csv"}
    for name, work in works.items():
        told: list[tuple[int, int]] = []
        work(lambda done, total, told=told: told.append((done, total)))
        assert told and all(0 <= done <= total for done, total in told), name
        if name in sizes:
            assert told[-1] == (sizes[name].stat().st_size,) * 2, name
        elif name in ("save", "VMA", "RMM"):
            assert told[-1] == (len(trace), len(trace)), name
        else:
            assert told[-1][0] == told[-1][1] > len(trace), name


def test_progress_can_end_the_work(tmp_path: Path) -> None:
    trace = buffers(600, 50)

    def stop(done: int, total: int) -> None:
        raise RuntimeError("enough")

    path = tmp_path / "x.vkmem"
    with pytest.raises(RuntimeError, match="enough"):
        trace.save(path, progress=stop)
    assert not path.exists()
