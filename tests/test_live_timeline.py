"""Timelines for Perfetto that are written while the program runs."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import timelines
from recorded_programs import warned_while_recording
from support import LOSABLE, MAPPED, RANDOM, TAKES, TRANSFER
from systems import lacks

import vk_mem
from vk_mem import Allocator, Ring, SimulatedDevice
from vk_mem.trace import load

MOMENTS = 1000


def packets(path: Path) -> list[Any]:
    """Packets by the classes of Perfetto, without their times."""
    trace = import_module("perfetto.protos.perfetto.trace.perfetto_trace_pb2").Trace()
    trace.ParseFromString(path.read_bytes())
    for it in trace.packet:
        it.ClearField("timestamp")
        for clock in it.clock_snapshot.clocks:
            clock.ClearField("timestamp")
    return list(trace.packet)


def program(path: Path) -> int:
    """A program that is the same each time; returns how many moments it has marked."""
    chance = random.Random(3)
    live: list[Any] = []
    moved = 0
    device = SimulatedDevice("integrated")
    retention = vk_mem.EmptyBlockRetention(count=1000)
    with Allocator(
        device,
        preferred_block_size=1 << 18,
        heap_size_limits=[8 << 20] * len(device.memory_properties.memory_heaps),
        empty_block_retention=retention,
        track_call_sites=True,
    ) as allocator:
        index = allocator.find_memory_type_index_for_buffer_info(64, TRANSFER)
        with vk_mem.record(allocator, path) as recording:
            pools = [
                allocator.create_pool(
                    memory_type_index=index, block_size=1 << 18, min_block_count=1, name=name
                )
                for name in ("first", None, "third")
            ]
            for moment in range(MOMENTS):
                for _ in range(chance.randrange(1, 6)):
                    size = int(2 ** chance.uniform(0, 17)) if chance.random() < 0.99 else 16 << 20
                    pool = chance.choice([None, *pools])
                    flags = chance.choice([0, 0, RANDOM | MAPPED, LOSABLE | TAKES])
                    try:
                        live.append(
                            allocator.create_buffer(
                                size, TRANSFER, pool=pool, flags=flags, movable=not flags
                            )
                        )
                    except vk_mem.OutOfDeviceMemoryError:
                        allocator.set_current_frame_index(moment)
                    if len(live) > 80:
                        live.pop(chance.randrange(len(live))).destroy()
                if moment % 200 == 99:
                    chance.shuffle(live)
                    allocator.destroy_many(live[20:])
                    del live[20:]
                    for of in [None, *pools]:
                        moved += allocator.defragment(pool=of, algorithm="full").allocations_moved
                if moment % 300 == 150:
                    allocator.make_allocations_lost()
                recording.mark(f"moment {moment}")
            recorded = recording.events
            assert recorded > 2 * MOMENTS and moved > 0
        allocator.destroy_many(live)
    return MOMENTS


def test_it_is_what_an_export_of_the_recording_is(tmp_path: Path) -> None:
    live, exported = tmp_path / "live.pftrace", tmp_path / "exported.pftrace"
    # Both have the same call stacks.
    [moments] = {program(path) for path in (live, tmp_path / "a.vkmem")}
    load(tmp_path / "a.vkmem").to_perfetto(exported)
    shown = [timelines.read(path, "official") for path in (live, exported)]
    assert len([it for it in shown[0].marks if it.startswith("moment")]) == moments
    for name, counters in shown[1].marks.items():
        assert shown[0].marks[name] == counters, name
    assert shown[0] == shown[1]
    assert any("pool 0: first" in it for it in shown[0].counters)
    assert any(it.startswith("memory type") for it in shown[0].counters)
    counted = [Counter(it.SerializeToString() for it in packets(at)) for at in (live, exported)]
    assert counted[0] == counted[1]
    kinds = Counter(
        kind.name for it in packets(live) for kind, _ in it.ListFields() if kind.message_type
    )
    for kind in ("track_event", "vulkan_memory_event", "interned_data", "track_descriptor"):
        assert kinds[kind] > 10, kind
    assert any(it.interned_data.callstacks for it in packets(live))
    assert any(it.track_event.flow_ids for it in packets(live))


@pytest.mark.parametrize("name", ["a.pftrace", "a.perfetto-trace", "a.PFTRACE"])
def test_ways_to_begin_one(tmp_path: Path, name: str) -> None:
    path = tmp_path / name

    def by_keyword() -> None:
        with Allocator(SimulatedDevice("discrete-8gib"), record=path) as other:
            other.create_buffer(64, TRANSFER).destroy()

    def of_an_allocator() -> None:
        with Allocator(SimulatedDevice("discrete-8gib")) as other, vk_mem.record(other, path):
            other.create_buffer(64, TRANSFER).destroy()

    def of_virtual_memory() -> None:
        with vk_mem.VirtualBlock(100, record=path) as block:
            block.allocate(10)

    for begin in (by_keyword, of_an_allocator):
        begin()
        assert timelines.read(path).counters["heap 0 live"][-1] == 0
    of_virtual_memory()
    assert timelines.read(path).counters == {"memory held": [0], "memory live": [0]}
    with pytest.raises(vk_mem.TraceError):
        load(path)


def test_it_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.pftrace"
    with (
        Allocator(SimulatedDevice("discrete-8gib")) as allocator,
        vk_mem.record(allocator, path) as recording,
    ):
        buffer = allocator.create_buffer(1024, TRANSFER)
        recording.mark("early")
        recording.flush()
        assert timelines.read(path).marks["early"]["heap 0 live"] == 1024
        buffer.destroy()
        recording.mark("later")
        end = time.monotonic() + 30
        while b"later" not in path.read_bytes():
            assert time.monotonic() < end
            time.sleep(0.01)
        assert timelines.read(path).marks["later"]["heap 0 live"] == 0
        assert (recording.path, recording.dropped) == (path, 0)
    depths = timelines.read(path).depths
    assert not any(depths.values()), depths


PROGRAM = """
import os, time, vk_mem
allocator = vk_mem.Allocator(vk_mem.SimulatedDevice("discrete-8gib"))
kept = [
    allocator.create_buffer(64 << number % 10, vk_mem.BufferUsage.VERTEX_BUFFER)
    for number in range(2000)
]
allocator.set_current_frame_index(7)
print(os.getpid(), flush=True)
while True:
    allocator.create_buffer(64, vk_mem.BufferUsage.VERTEX_BUFFER).destroy()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_program_that_is_killed_leaves_what_it_has_done(tmp_path: Path) -> None:
    environment = {**os.environ, "VK_MEM_RECORD": str(tmp_path / "a-%p.pftrace")}
    started = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    try:
        path = tmp_path / f"a-{int(started.stdout.readline())}.pftrace"
        end = time.monotonic() + 60
        while b"frame 7" not in path.read_bytes():
            assert time.monotonic() < end and started.poll() is None
            time.sleep(0.01)
    finally:
        started.send_signal(signal.SIGKILL)
        started.wait()
        started.stdout.close()
    whole = path.read_bytes()
    # Wherever it is cut, all packets before the cut are there.
    for cut in {len(whole), len(whole) - 1, len(whole) // 2, 1000}:
        data = timelines.complete(whole[:cut])
        assert cut - 1000 < len(data) <= cut
        (tmp_path / "cut.pftrace").write_bytes(data)
        read = timelines.read(tmp_path / "cut.pftrace", "official")
        assert read == timelines.read(tmp_path / "cut.pftrace")
        if cut > 100_000:
            live = sum(64 << number % 10 for number in range(2000))
            assert live in read.counters["heap 0 live"] and read.depths["frames"] == 1


@lacks(sys.platform != "linux", "disk that is always full")
def test_a_full_disk_ends_it_with_one_warning(tmp_path: Path) -> None:
    path = tmp_path / "a.pftrace"
    path.symlink_to("/dev/full")
    messages = warned_while_recording(path)
    assert messages == [f"{path}: the recording has ended, as its file cannot be written"]


def test_many_threads_and_allocators_share_one(tmp_path: Path) -> None:
    path = tmp_path / "a.pftrace"
    device = SimulatedDevice("discrete-8gib")
    allocators = [Allocator(device) for _ in range(2)]
    recording = vk_mem.record(allocators, path)
    buffers: list[vk_mem.Buffer] = []

    def work(thread: int) -> None:
        allocator = allocators[thread % 2]
        made = [allocator.create_buffer(64 + number, TRANSFER) for number in range(500)]
        allocator.destroy_many(made[1:])
        buffers.append(made[0])
        recording.mark(f"thread {thread}")

    threads = [threading.Thread(target=work, args=(it,)) for it in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recording.mark("the end")
    recording.close()
    for buffer in buffers:
        buffer.destroy()
    read = timelines.read(path, "official")
    assert read.marks["the end"]["heap 0 live"] == 6 * 64
    assert read.marks.keys() >= {f"thread {it}" for it in range(6)}
    assert not any(read.depths.values())
    for allocator in allocators:
        allocator.close()


def test_a_ring_is_saved_as_a_timeline(tmp_path: Path) -> None:
    ring = Ring(1000, path=tmp_path / "failed.pftrace")
    limits = [1 << 20, None]
    device = SimulatedDevice("discrete-8gib")
    with Allocator(device, heap_size_limits=limits, record=ring) as allocator:
        for number in range(2000):
            allocator.create_buffer(64 + number, TRANSFER).destroy()
        kept = allocator.create_buffer(1024, TRANSFER)
        with pytest.raises(vk_mem.OutOfDeviceMemoryError):
            allocator.create_buffer(1 << 40, TRANSFER)
        saved = timelines.read(tmp_path / "failed.pftrace", "official")
        assert saved.counters["heap 0 live"][-1] == 1024
        assert ring.save() == ring.save(tmp_path / "a.vkmem") >= 1000
        trace = load(tmp_path / "a.vkmem")
        for name, write in (("a.pftrace", trace.to_perfetto), ("a.json", trace.to_chrome_json)):
            ring.save(tmp_path / name)
            write(tmp_path / f"made-{name}")
            assert (tmp_path / name).read_bytes() == (tmp_path / f"made-{name}").read_bytes()
        kept.destroy()
    with pytest.raises(FileNotFoundError):
        ring.save(tmp_path / "missing" / "a.pftrace")
