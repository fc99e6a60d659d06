"""Recordings of virtual blocks and of buffer heaps' slices: a replay puts each where it was."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from recorded_programs import exact
from support import TRANSFER, run_python

import vk_mem
from vk_mem import Allocator, BufferHeap, BufferUsage, Debug, Ring, SimulatedDevice, VirtualBlock
from vk_mem.trace import (
    AddBlock,
    CreateSpace,
    SetVirtualData,
    VirtualAllocate,
    VirtualAllocateFailed,
    load,
)

ALGORITHMS = ["tlsf", "linear", "buddy"]


def use(block: VirtualBlock, rng: random.Random, calls: int) -> None:
    """A random program, which leaves some allocations."""
    live: list[int] = []
    for _ in range(calls):
        choice = rng.random()
        sizes = [rng.randrange(1, 400) for _ in range(20)]
        try:
            if choice < 0.5 or not live:
                upper = block.algorithm == "linear" and rng.random() < 0.3
                made = block.allocate(sizes[0], rng.choice([1, 8, 12, 64]), upper_address=upper)
                live.append(made.handle)
                if rng.random() < 0.1:
                    made.user_data = rng.choice(["a text", 17, None])
            elif choice < 0.9:
                block.free(live.pop(rng.randrange(len(live))))
            elif choice < 0.93:
                live += block.allocate_many(sizes, 4).handles.tolist()
            elif choice < 0.96:
                block.free_many(live[::2])
                live = live[1::2]
            elif choice < 0.97:
                block.defragment(algorithm=rng.choice(["fast", "balanced", "full"]))
            elif choice < 0.98:
                block.statistics()
            elif choice < 0.99:
                block.grow(block.size + 64)
            elif choice < 0.993:
                block.clear()
                live.clear()
        except (vk_mem.OutOfDeviceMemoryError, vk_mem.FeatureNotPresentError):
            pass


@pytest.mark.parametrize("margin", [0, 16])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_blocks_come_out_as_recorded(algorithm: str, margin: int, tmp_path: Path) -> None:
    for seed in range(4):
        path = tmp_path / f"{seed}.vkmem"
        debug = Debug(margin=margin) if margin else None
        block = VirtualBlock(8192, algorithm=algorithm, debug=debug, record=path)
        use(block, random.Random(seed), 1000)
        dumps = [block.build_stats_string(detailed) for detailed in (False, True)]
        kept = block.allocation_count
        del block
        gc.collect()
        trace = load(path)
        create = trace[0]
        assert isinstance(create, CreateSpace)
        assert (create.size, create.algorithm, create.margin) == (8192, algorithm, margin or None)
        assert trace[-1].kind == "destroy_space"
        report = exact(trace, until=len(trace) - 1)
        assert report.placements.checked > 300
        assert report.leftovers.virtual_allocations == kept
        assert report.virtual_blocks == (0,) and report.allocators == ()
        for detailed, dump in zip((False, True), dumps, strict=True):
            assert report.build_virtual_block_stats_string(0, detailed=detailed) == dump
        assert exact(trace).virtual_blocks == ()
        with pytest.raises(vk_mem.TraceError, match="no virtual block 7"):
            report.build_virtual_block_stats_string(7)


def test_events_say_what_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.vkmem"
    with VirtualBlock(1000, record=path) as block:
        block.allocate(100, 12, user_data="first")
        block.allocate_many([10, 20], 4)
        with pytest.raises(vk_mem.OutOfDeviceMemoryError):
            block.allocate(5000, strategy=vk_mem.AllocationCreateFlags.STRATEGY_MIN_OFFSET)
        with pytest.raises(vk_mem.OutOfDeviceMemoryError):
            block.allocate_many([1, 2, 3000, 4])
    trace = load(path)
    made = [it for it in trace if isinstance(it, VirtualAllocate)]
    assert [(it.size, it.alignment, it.allocation) for it in made[:3]] == [
        (100, 12, 0), (10, 4, 1), (20, 4, 2),
    ]  # fmt: skip
    assert [(it.allocation, it.data) for it in trace if isinstance(it, SetVirtualData)] == [
        (0, "first")
    ]
    failed = [it for it in trace if isinstance(it, VirtualAllocateFailed)]
    assert [(it.size, it.strategy) for it in failed] == [
        (5000, "min_offset"),
        (3000, "balanced"),
    ]
    assert failed[0].failure is not None and failed[0].failure.reason == "virtual_block_full"
    kinds = Counter(it.kind for it in trace)
    # What a call that failed had allocated is freed again.
    assert (kinds["group"], kinds["virtual_free"], kinds["clear_space"]) == (2, 2, 1)
    assert trace[-1].kind == "destroy_space"
    columns = trace.columns
    created = columns.kinds == 9
    assert columns.offsets[created].tolist() == [it.offset for it in made]
    size = path.stat().st_size
    block.allocate(1)
    assert path.stat().st_size == size, "its recording has ended with the `with` block"


def test_a_recording_of_several_things(tmp_path: Path) -> None:
    path = tmp_path / "a.vkmem"
    block, other = VirtualBlock(1000), VirtualBlock(500, algorithm="buddy")
    old = block.allocate(100, user_data="old")
    with Allocator(SimulatedDevice("discrete-8gib")) as allocator:
        with vk_mem.record([allocator, block], path) as recording:
            third = VirtualBlock(300, record=recording)
            third.allocate(7)
            block.allocate(50)
            old.free()
            allocator.create_buffer(100, TRANSFER).destroy()
            with vk_mem.record(other, recording):
                other.allocate(3)
        assert recording.closed
        block.allocate(1)
        third.allocate(1)
    trace = load(path)
    spaces = [it for it in trace if isinstance(it, CreateSpace)]
    assert sorted((it.size or 0, it.is_state) for it in spaces) == [
        (300, False), (500, True), (1000, True),
    ]  # fmt: skip
    made = [it for it in trace if isinstance(it, VirtualAllocate)]
    assert sorted((it.size, it.is_state) for it in made) == [
        (3, False), (7, False), (50, False), (100, True),
    ]  # fmt: skip
    assert any(isinstance(it, SetVirtualData) and it.data == "old" for it in trace)
    report = trace.replay()
    assert report.skipped == {}


def test_a_block_is_recorded_by_the_last_who_asked(tmp_path: Path) -> None:
    first, second = tmp_path / "1.vkmem", tmp_path / "2.vkmem"
    block = VirtualBlock(1000, record=first)
    block.allocate(1)
    with vk_mem.record(block, second):
        block.allocate(2)
    sizes = [[it.size for it in load(path) if isinstance(it, VirtualAllocate)]
             for path in (first, second)]  # fmt: skip
    assert sizes == [[1], [1, 2]]


def test_rings_keep_the_last_calls_of_blocks(tmp_path: Path) -> None:
    ring = Ring(500)
    block = VirtualBlock(1 << 20, record=ring)
    for _ in range(3000):
        block.allocate(8).free()
    assert ring.save(tmp_path / "ring.vkmem") >= 500
    kinds = Counter(it.kind for it in load(tmp_path / "ring.vkmem"))
    assert kinds["virtual_allocate"] >= 200 and kinds["virtual_free"] >= 200


def test_threads_that_share_a_block(tmp_path: Path) -> None:
    path = tmp_path / "a.vkmem"
    block = VirtualBlock(1 << 20, record=path)

    def work(seed: int, block: VirtualBlock) -> None:
        rng, live = random.Random(seed), []
        for _ in range(1500):
            if live and rng.random() < 0.45:
                live.pop(rng.randrange(len(live))).free()
            else:
                live.append(block.allocate(rng.randrange(1, 300), rng.choice([1, 16])))

    threads = [threading.Thread(target=work, args=(seed, block)) for seed in range(4)]
    for it in threads:
        it.start()
    for it in threads:
        it.join()
    dump = block.build_stats_string()
    del block
    gc.collect()
    trace = load(path)
    assert trace.replay(until=len(trace) - 1).build_virtual_block_stats_string(0) == dump
    assert exact(trace).placements.checked > 3000


@pytest.mark.parametrize("debug", [None, Debug(margin=32, quarantine="1KiB"), Debug(margin=8)])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_slices_come_out_as_recorded(algorithm: str, debug: Debug | None, tmp_path: Path) -> None:
    path = tmp_path / "a.vkmem"
    rng = random.Random(5)
    with Allocator(SimulatedDevice("discrete-8gib"), record=path) as allocator:
        heap = BufferHeap(
            allocator, BufferUsage.VERTEX_BUFFER | TRANSFER, block_size=4096, algorithm=algorithm,
            debug=debug,
        )  # fmt: skip
        live = []
        for _ in range(600):
            if live and rng.random() < 0.45:
                live.pop(rng.randrange(len(live))).free()
            else:
                live.append(heap.allocate(rng.randrange(1, 900), rng.choice([1, 12, 64])))
        offsets = sorted(it.offset for it in live)
        for it in live:
            it.free()
        heap.close()
    trace = load(path)
    created = next(it for it in trace if isinstance(it, CreateSpace))
    assert (created.size, created.algorithm) == (None, algorithm)
    assert created.margin == (None if debug is None else debug.margin)
    made = [it for it in trace if isinstance(it, VirtualAllocate)]
    assert len(made) > 300 and all(it.block is not None for it in made)
    assert set(offsets) <= {it.offset for it in made}
    assert sum(isinstance(it, AddBlock) for it in trace) > 3
    report = exact(trace)
    assert report.placements.checked > 300 and report.leftovers.virtual_allocations == 0


def test_a_heap_that_existed_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.vkmem"
    with (
        Allocator(SimulatedDevice("discrete-8gib")) as allocator,
        BufferHeap(allocator, BufferUsage.VERTEX_BUFFER) as heap,
    ):
        old = heap.allocate(100)
        with vk_mem.record(allocator, path):
            new = heap.allocate(200)
        after = heap.allocate(300)
        made = [it for it in load(path) if isinstance(it, VirtualAllocate)]
        assert [(it.size, it.offset, it.is_state) for it in made] == [
                (100, old.offset, True), (200, new.offset, False),
            ]  # fmt: skip
        for it in (old, new, after):
            it.free()


def test_the_environment_records_blocks(tmp_path: Path) -> None:
    path = tmp_path / "a.vkmem"
    program = """
import vk_mem
kept = vk_mem.VirtualBlock(1000)
kept.allocate(11)
quiet = vk_mem.VirtualBlock(1000, record=False)
quiet.allocate(22)
"""
    environment = {**os.environ, "VK_MEM_RECORD": str(path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=60)
    assert [it.size for it in load(path) if isinstance(it, VirtualAllocate)] == [11]


@pytest.mark.parametrize("wrong", [7, object(), True])
def test_what_is_no_recording(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"record must be a path, a vk_mem\.Ring"):
        VirtualBlock(100, record=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"a vk_mem\.VirtualBlock, or several, not"):
        vk_mem.record(wrong, "a.vkmem")  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_the_child_of_a_fork_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.vkmem"
    program = f"""
import os, vk_mem
block = vk_mem.VirtualBlock(1000, record={str(path)!r})
block.allocate(11)
pid = os.fork()
if pid == 0:
    try:
        block.allocate(22)
    except vk_mem.InvalidArgumentError:
        del block
        os._exit(0)
    os._exit(1)
assert os.waitpid(pid, 0)[1] == 0
block.allocate(33)
"""
    assert run_python(program).returncode == 0
    assert [it.size for it in load(path) if isinstance(it, VirtualAllocate)] == [11, 33]
