"""`vk_mem.trace.load`: all formats, events, columns, damaged files."""

from __future__ import annotations

import os
import pickle
import random
import re
import threading
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from systems import ctrl_c
from traces import ALL_CALLS, FILES, VEGA, buffers, recorded, vma_text

import vk_mem
from vk_mem._vk_mem import _TraceData
from vk_mem.trace import KINDS, Allocate, Event, Free, Group, ProposeMove, load

NONE = 2**32 - 1
RENAMED = {(Group, "calls"): "kind", (ProposeMove, "move"): "kind"}


@pytest.mark.parametrize("path", FILES, ids=lambda it: it.name)
def test_all_formats_are_read(path: Path) -> None:
    trace = load(path)
    assert len(trace) > 0 and trace.source == path.name
    formats = {"vma": "vma", "rmm": "rmm", "snapshot": "pytorch", "pytorch": "pytorch"}
    assert trace.description.format == formats[re.split(r"\W", path.name)[0]]
    assert trace.cut is None and trace.unknown_events == 0
    data = path.read_bytes()
    for source in (data, bytearray(data), memoryview(data), str(path)):
        again = load(source, trace.description.format)
        assert list(again) == list(trace)


def test_classes_are_the_kinds_of_the_format() -> None:
    head = len(fields(Event))
    found = {
        number: (cls.kind, [RENAMED.get((cls, it.name), it.name) for it in fields(cls)[head:]])
        for number, cls in KINDS.items()
    }
    assert found == {number: (name, names) for number, name, names in _TraceData.kinds()}
    assert all(getattr(vk_mem.trace, cls.__name__) is cls for cls in KINDS.values())


@pytest.mark.parametrize("path", FILES, ids=lambda it: it.name)
def test_columns_are_the_events(path: Path) -> None:
    for trace in (load(path), recorded(path)):
        columns = trace.columns
        for index, event in enumerate(trace):
            assert event == trace[index] and event.index == index
            assert KINDS[columns.kinds[index]] is type(event)
            assert columns.times[index] == event.time
            assert columns.sequences[index] == event.sequence
            assert columns.threads[index] == event.thread
            assert columns.frames[index] == event.frame
            assert columns.allocators[index] == event.allocator
            assert bool(columns.flags[index] & 1) == event.is_state
            match event:
                case Allocate(allocation=number, request=request, size=size, placed=placed):
                    assert columns.objects[index] == number
                    assert trace.request(columns.requests[index]) is request
                    assert columns.sizes[index] == (size or 0)
                    assert bool(columns.flags[index] & 2) == (placed is not None)
                    if placed is not None:
                        assert columns.offsets[index] == placed.offset
                        memory, of_type = placed.memory, placed.memory_type
                        assert columns.memories[index] == (NONE if memory is None else memory)
                        assert columns.memory_types[index] == (255 if of_type is None else of_type)
                case Free(allocation=number):
                    assert columns.objects[index] == number
                    assert columns.requests[index] == NONE
        assert sum(trace.kinds().values()) == len(trace)


def test_arrays_are_views_that_keep_the_trace() -> None:
    trace = load(VEGA)
    times = trace.columns.times
    assert times is trace.columns.times and times.base is not None
    assert not times.flags.writeable
    with pytest.raises(ValueError):
        times[0] = 1
    with pytest.raises(ValueError):
        times.flags.writeable = True
    before = times.tolist()
    del trace
    assert times.tolist() == before


def test_a_trace_is_a_sequence() -> None:
    trace = load(VEGA)
    events = list(trace)
    assert trace[-1] == events[-1] and trace[2:9:3] == events[2:9:3]
    assert list(reversed(trace)) == events[::-1]
    assert trace.index(events[3]) == 3 and events[4] in trace
    with pytest.raises(IndexError):
        trace[len(trace)]
    with pytest.raises(TypeError):
        trace["x"]  # type: ignore[call-overload]
    assert repr(trace) == "<vk_mem.trace.Trace (vma): 19 events, on Radeon RX Vega>"
    assert pickle.loads(pickle.dumps(events)) == events


def test_what_the_recording_of_vma_says() -> None:
    trace = load(VEGA)
    it = trace.description
    assert it.version == (1, 8) and it.resolution == 1_000_000 and it.device is not None
    assert it.device.properties.device_name == "Radeon RX Vega"
    assert it.device.properties.buffer_image_granularity == 1
    assert it.options is not None and it.options["preferred_block_size"] == 256 << 20
    assert it.extensions["VK_KHR_dedicated_allocation"] is True
    first = trace[1]
    assert isinstance(first, Allocate)
    assert first.request.usage is vk_mem.MemoryUsage.CPU_ONLY
    # With the flag of VMA 2 for user data that is text.
    assert first.request.flags == vk_mem.AllocationCreateFlags.MAPPED | 0x20
    assert trace.call_site(1) is None and trace.warnings == [] and trace.warning_count == 0


def test_all_calls_of_vma_are_events() -> None:
    trace = load(ALL_CALLS)
    assert {"map", "flush", "touch", "begin_defragmentation", "resize"} <= set(trace.kinds())
    assert trace.description.device is not None
    assert trace.description.device.properties.device_name == "A name, with a comma"


def test_call_sites_of_pytorch() -> None:
    trace = load(next(it for it in FILES if it.name == "snapshot-whole.pickle"))
    sites = trace.columns.sites
    at = int(np.flatnonzero(sites != NONE)[0])
    where = trace.call_site(at)
    frames = trace.stack(int(sites[at]))
    assert where is not None and where == trace[at].call_site
    assert where.splitlines() == [f"{it.file}:{it.line} in {it.function}" for it in frames]


def test_usage_is_what_events_say() -> None:
    trace = recorded(VEGA)
    usage = trace.usage()
    held = live = 0
    sizes: dict[int, int] = {}
    memories: dict[int, int] = {}
    rows = []
    for event in trace:
        before = held, live
        match event:
            case vk_mem.trace.AllocateMemory(memory=number, size=size) if number is not None:
                memories[number] = size
            case vk_mem.trace.FreeMemory(memory=number):
                del memories[number]
            case Allocate(allocation=number, size=size):
                assert size is not None
                sizes[number] = size
            case Free(allocation=number):
                del sizes[number]
        held, live = sum(memories.values()), sum(sizes.values())
        if (held, live) != before:
            rows.append((event.index, held, live))
    assert list(zip(*(it.tolist() for it in usage.total), strict=True)) == rows
    assert len(usage.heaps) == 3
    ends = [(int(it.held[-1]), int(it.live[-1])) for it in usage.heaps if len(it.events)]
    assert ends == [(0, 0)] * len(ends)


# ---- files that are damaged ----


def test_errors_say_where() -> None:
    with pytest.raises(vk_mem.TraceError, match=r"line 3: .*zzz") as caught:
        load(vma_text(["zzz"]))
    assert (caught.value.line, caught.value.offset) == (3, None)
    saved = recorded_bytes()
    damaged = bytearray(saved)
    damaged[len(damaged) // 2] ^= 0xFF
    with pytest.raises(vk_mem.TraceError) as caught:
        load(damaged)
    assert caught.value.line is None and caught.value.offset is not None
    assert isinstance(caught.value, ValueError) and pickle.loads(pickle.dumps(caught.value))
    for nothing in (b"", b"\0" * 64, b"{}", b"hello"):
        with pytest.raises(vk_mem.TraceError, match="this is no trace"):
            load(nothing)
    with pytest.raises(ValueError, match="no format is named"):
        load(b"", "zip")  # type: ignore[arg-type]


def recorded_bytes() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.vkmem"
        recorded(VEGA).save(path)
        return path.read_bytes()


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        load(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "fifo")
        with pytest.raises(vk_mem.TraceError, match="a FIFO"):
            load(tmp_path / "fifo")
    (tmp_path / "bad.csv").write_bytes(vma_text(["zzz"]))
    with pytest.raises(vk_mem.TraceError, match=r"^bad\.csv: VMA recording, line 3") as caught:
        load(tmp_path / "bad.csv")
    assert caught.value.line == 3


def test_files_that_are_cut_are_read_up_to_the_cut(tmp_path: Path) -> None:
    whole = load(VEGA)
    data = VEGA.read_bytes()
    for end in range(len(data) - 700, len(data), 53):
        cut = load(data[:end])
        assert list(cut) == whole[: len(cut)]
    ours = recorded_bytes()
    whole = load(ours)
    lengths = set()
    for end in range(len(ours) // 3, len(ours), 7):
        try:
            cut = load(ours[:end])
        except vk_mem.TraceError as error:
            assert error.offset is not None
            continue
        assert list(cut) == whole[: len(cut)]
        lengths.add(len(cut))
    assert lengths and max(lengths) <= len(whole)


def test_mutations_give_one_error_or_a_trace() -> None:
    random.seed(4)
    for path in FILES:
        data = path.read_bytes()[:20_000]
        for _ in range(40):
            damaged = bytearray(data)
            for _ in range(random.randint(1, 8)):
                damaged[random.randrange(len(damaged))] = random.randrange(256)
            try:
                trace = load(damaged)
            except vk_mem.TraceError as error:
                assert "\n" not in str(error)
                continue
            trace.replay(samples=3)


# ---- waiting ----


def test_the_interpreter_runs_meanwhile() -> None:
    made = "1,0.000,0,vmaCreateBuffer,0,64,32,0,0,2,0,0,0,0000000000000000,0000000000000001,"
    data = vma_text([made, *["1,0.000,0,vmaMapMemory,0000000000000001"] * 200_000])
    turns = 0
    done = threading.Event()

    def count() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            time.sleep(0.001)

    other = threading.Thread(target=count)
    other.start()
    trace = load(data)
    done.set()
    other.join()
    assert len(trace) > 200_000 and turns > 3


def test_ctrl_c_ends_a_replay_by_the_clock() -> None:
    trace = buffers(4000, 10)
    timer = threading.Timer(0.3, ctrl_c)
    start = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        trace.replay(clock=0.01)
    assert time.monotonic() - start < 30
    timer.join()


@pytest.mark.parametrize("source", [None, 5, 10**11, 1.5, object()])
def test_what_is_no_source(source: object) -> None:
    with pytest.raises(TypeError, match="source must be a path or the bytes of a file, not a"):
        load(source)  # type: ignore[arg-type]


def test_empty_files_say_so(tmp_path: Path) -> None:
    (tmp_path / "empty.vkmem").write_bytes(b"")
    with pytest.raises(vk_mem.TraceError, match=r"empty\.vkmem: this is no trace: it is empty"):
        load(tmp_path / "empty.vkmem")
    with pytest.raises(vk_mem.TraceError, match="it is empty"):
        load(b"")


def test_events_that_are_not_there() -> None:
    trace = load(VEGA)
    for index in (len(trace), -len(trace) - 1):
        with pytest.raises(IndexError, match=f"{index} is out of range: the trace has"):
            trace[index]
