"""Kinds of events that other tests do not look at: what failed, was imported, evicted or merged,
and what only recordings of others have."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded_programs import begin, check_replay, exact
from support import DEDICATED, LOSABLE, MAPPED, TRANSFER, WRITE
from systems import needs_descriptors
from traces import ALL_CALLS, DATA

import vk_mem
from vk_mem import Allocator, SimulatedDevice, VkMemError
from vk_mem.trace import (
    EvictOverBudget,
    Failed,
    Import,
    MergeFreed,
    Object,
    Query,
    RequestFree,
    Resize,
    load,
)

MIB = 1 << 20
OUT_OF_HOST_MEMORY, DEVICE_LOST, MEMORY_MAP_FAILED = -1, -4, -5


def test_what_fails_is_recorded_by_its_vulkan_name(tmp_path: Path) -> None:
    path = tmp_path / "a.vkmem"
    device = SimulatedDevice("discrete-8gib")
    functions = ["vkCreateBuffer", "vkBindBufferMemory", "vkCreateImage", "vkBindImageMemory"]
    with Allocator(device, record=path) as allocator:
        for function in functions:
            device.fail_next(function, 1, OUT_OF_HOST_MEMORY)
            with pytest.raises(VkMemError, match=function):
                if "Buffer" in function:
                    allocator.create_buffer(4096, TRANSFER)
                else:
                    allocator.create_image("R8G8B8A8_UNORM", (16, 16), "SAMPLED")
        with allocator.create_buffer(4096, TRANSFER, flags=WRITE) as buffer:
            device.fail_next("vkMapMemory", 1, MEMORY_MAP_FAILED)
            with pytest.raises(VkMemError, match="vkMapMemory"):
                buffer.map()
    trace = load(path)
    failed = [it for it in trace if isinstance(it, Failed)]
    assert [it.function for it in failed] == [*functions, "vkMapMemory"]
    results = [it.failure.result for it in failed]
    assert results == 4 * [OUT_OF_HOST_MEMORY] + [MEMORY_MAP_FAILED]
    assert all(it.function in (it.failure.message or "") for it in failed)
    # Creating a resource fails before it has an allocation.
    assert [it.object and it.object.kind for it in failed] == [
        None, "allocation", None, "allocation", "allocation"
    ]  # fmt: skip
    exact(trace)


def test_flushes_that_fail(tmp_path: Path) -> None:
    path = tmp_path / "a.vkmem"
    device = SimulatedDevice("non-coherent")
    names = ["vkFlushMappedMemoryRanges", "vkInvalidateMappedMemoryRanges"]
    with (
        Allocator(device, record=path) as allocator,
        allocator.create_buffer(4096, TRANSFER, flags=WRITE | MAPPED) as it,
    ):
        for function, call in zip(names, (it.flush, it.invalidate), strict=True):
            device.fail_next(function, 1, DEVICE_LOST)
            with pytest.raises(VkMemError, match=function):
                call()
            call()
    trace = load(path)
    failed = [it for it in trace if isinstance(it, Failed)]
    assert [it.function for it in failed] == names
    assert all(it.object == Object("allocation", 0) for it in failed)
    exact(trace)


@needs_descriptors
def test_imports(tmp_path: Path) -> None:
    path = tmp_path / "a.vkmem"
    device = SimulatedDevice("discrete-8gib")
    with (
        Allocator(device) as exporter,
        exporter.create_buffer(1 << 16, TRANSFER, export_handle_types="OPAQUE_FD") as source,
        Allocator(device, record=path) as importer,
    ):
        memory = source.allocation
        importer.import_memory_fd(
            source.export_fd(),
            memory.device_memory_size,
            memory_type_index=memory.memory_type_index,
        ).free()
        whole, kind = memory.device_memory_size, memory.memory_type_index
    trace = load(path)
    (imported,) = (it for it in trace if isinstance(it, Import))
    assert (imported.whole_size, imported.memory_type_index) == (whole, kind)
    assert imported.handle_type == vk_mem.ExternalMemoryHandleType.OPAQUE_FD
    assert imported.placed is not None and imported.placed.offset == 0
    assert imported.is_opaque


def test_evictions_over_the_budget(tmp_path: Path) -> None:
    path = tmp_path / "a.vkmem"
    device = SimulatedDevice("discrete-8gib")
    heaps = device.memory_properties.memory_heaps
    with Allocator(
        device, record=path, evict_over_budget=True, heap_size_limits=[32 * MIB] * len(heaps)
    ) as allocator:
        made = []
        for frame in range(1, 41):
            allocator.set_current_frame_index(frame)
            made.append(allocator.create_buffer(MIB, TRANSFER, flags=LOSABLE | DEDICATED))
        lost = sum(it.is_lost for it in made)
        allocator.destroy_many(made)
    trace = load(path)
    evicted = [it.bytes for it in trace if isinstance(it, EvictOverBudget)]
    assert lost > 0 and 0 < sum(evicted) <= lost * MIB
    exact(trace)


def test_counting_merges_what_was_freed(tmp_path: Path) -> None:
    path = tmp_path / "a.vkmem"
    with Allocator(SimulatedDevice("discrete-8gib"), record=path) as allocator:
        index = allocator.find_memory_type_index_for_buffer_info(256, TRANSFER)
        with allocator.create_pool(memory_type_index=index, block_size=4 * MIB) as pool:
            # From 4,096 regions on, what is freed is merged later, or when it is counted.
            its = allocator.create_buffers([256] * 6000, TRANSFER, pool=pool)
            for it in its[1000:1100]:
                it.destroy()
            before = pool.statistics()
            its[1000:1100] = [allocator.create_buffer(300, TRANSFER, pool=pool)]
            allocator.destroy_many(its)
    trace = load(path)
    merged = [it for it in trace if isinstance(it, MergeFreed)]
    assert before.allocation_count == 5900
    assert merged and all((it.pool, it.memory_type) == (0, None) for it in merged)
    exact(trace)


def test_requests_to_free_once_the_device_is_done(tmp_path: Path) -> None:
    path = tmp_path / "a.vkmem"
    with Allocator(SimulatedDevice("discrete-8gib"), record=path, frames_in_flight=2) as allocator:
        buffers = [allocator.create_buffer(1000, TRANSFER) for _ in range(3)]
        for it in buffers[1:]:
            it.retire()
        for frame in range(1, 5):
            allocator.set_current_frame_index(frame)
        buffers[0].destroy()
    trace = load(path)
    kinds = [(it.kind, it.allocation) for it in trace if it.kind in ("request_free", "free")]
    assert kinds[:2] == [("request_free", 1), ("request_free", 2)]
    assert sorted(kinds[2:]) == [("free", 0), ("free", 1), ("free", 2)]
    exact(trace)


def test_requests_to_free_of_pytorch() -> None:
    trace = load(DATA / "snapshot-whole.pickle")
    asked = [it.allocation for it in trace if isinstance(it, RequestFree)]
    freed = {it.allocation for it in trace if it.kind == "free"}
    assert asked and len(set(asked)) == len(asked) and freed <= set(asked)


def test_calls_of_old_versions_of_vma() -> None:
    trace = load(ALL_CALLS)
    text = ALL_CALLS.read_text()
    asked = [it for it in trace if isinstance(it, Query)]
    assert len(asked) == text.count(",vmaGetAllocationInfo,")
    resized = [it for it in trace if isinstance(it, Resize)]
    assert len(resized) == text.count(",vmaResizeAllocation,") > 0
    sizes = [
        int(line.rsplit(",", 1)[1]) for line in text.splitlines() if ",vmaResizeAllocation," in line
    ]
    assert [it.size for it in resized] == sizes


def test_requests_that_no_heap_could_serve_are_recorded(tmp_path: Path) -> None:
    path = tmp_path / "a.vkmem"
    with Allocator(SimulatedDevice("discrete-8gib"), record=path) as allocator:
        for call in (
            lambda: allocator.create_buffer(1 << 40, TRANSFER),
            lambda: allocator.create_buffers([64, 1 << 40], TRANSFER),
        ):
            with pytest.raises(vk_mem.OutOfDeviceMemoryError):
                call()
    failed = [it for it in load(path) if isinstance(it, Failed)]
    assert [(it.function, it.object) for it in failed] == 2 * [("vkCreateBuffer", None)]
    assert all("largest heap" in (it.failure.message or "") for it in failed)


def test_dumps_say_what_the_rings_of_transfers_are_for(tmp_path: Path) -> None:
    path = tmp_path / "a.vkmem"
    with (
        begin(path) as recording,
        Allocator(SimulatedDevice(), record=recording) as allocator,
        allocator.create_buffer(buffer_usage=TRANSFER, data=bytes(1000)) as buffer,
    ):
        assert bytes(buffer.download()) == bytes(1000)
        usage = {it.name: it.usage for *_, it in allocator.snapshot().allocations()}
        check_replay(recording, path, allocator)
    assert usage["vk_mem ring for uploads"] == vk_mem.BufferUsage.TRANSFER_SRC
    assert usage["vk_mem ring for downloads"] == vk_mem.BufferUsage.TRANSFER_DST
