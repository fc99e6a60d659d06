"""Memory types, blocks, statistics, budgets and limits, on every device."""

from __future__ import annotations

import itertools

import pytest
from support import (
    DEDICATED,
    IMAGE_TRANSFER,
    MAPPED,
    NEVER,
    RANDOM,
    RGBA8,
    TRANSFER,
    WITHIN_BUDGET,
    WRITE,
    totals,
)

from vk_mem import (
    AllocationCreateFlags,
    AllocationCreateInfo,
    Allocator,
    BufferUsage,
    Device,
    FeatureNotPresentError,
    MemoryPropertyFlags,
    MemoryUsage,
    OutOfDeviceMemoryError,
)

KIB, MIB = 1 << 10, 1 << 20

# ---- memory types ----


@pytest.mark.parametrize("usage", [MemoryUsage.UNKNOWN, *list(MemoryUsage)[1:]])
@pytest.mark.parametrize(
    "flags",
    [0, WRITE, RANDOM, WRITE | MAPPED, DEDICATED],
    ids=["none", "write", "random", "mapped", "dedicated"],
)
def test_find_agrees_with_create(allocator: Allocator, usage: MemoryUsage, flags: int) -> None:
    if usage == MemoryUsage.GPU_LAZILY_ALLOCATED:
        flags &= DEDICATED
    keywords = AllocationCreateInfo(usage=usage, flags=flags)
    buffers = [(4096, TRANSFER), (4096, TRANSFER | BufferUsage.STORAGE_BUFFER)]
    for size, buffer_usage in buffers:
        try:
            found = allocator.find_memory_type_index_for_buffer_info(
                size, buffer_usage, allocation_info=keywords
            )
        except FeatureNotPresentError:
            with pytest.raises(FeatureNotPresentError):
                allocator.create_buffer(size, buffer_usage, allocation_info=keywords)
            continue
        with allocator.create_buffer(size, buffer_usage, allocation_info=keywords) as buffer:
            assert buffer.allocation.memory_type_index == found
    image = (RGBA8, (16, 16), IMAGE_TRANSFER)
    try:
        found = allocator.find_memory_type_index_for_image_info(*image, allocation_info=keywords)
    except FeatureNotPresentError:
        with pytest.raises(FeatureNotPresentError):
            allocator.create_image(*image, allocation_info=keywords)
    else:
        with allocator.create_image(*image, allocation_info=keywords) as made:
            assert made.allocation.memory_type_index == found
    try:
        found = allocator.find_memory_type_index(allocation_info=keywords)
    except FeatureNotPresentError:
        with pytest.raises(FeatureNotPresentError):
            allocator.allocate_memory(64, allocation_info=keywords)
    else:
        with allocator.allocate_memory(64, allocation_info=keywords) as memory:
            assert memory.memory_type_index == found


def test_every_type_can_be_asked_for(allocator: Allocator) -> None:
    locked = MemoryPropertyFlags.PROTECTED | MemoryPropertyFlags.LAZILY_ALLOCATED
    locked |= MemoryPropertyFlags.DEVICE_COHERENT_AMD
    for index, memory_type in enumerate(allocator.device.memory_properties.memory_types):
        if memory_type.property_flags & locked:
            continue
        keywords = {"usage": MemoryUsage.UNKNOWN, "memory_type_bits": 1 << index}
        assert allocator.find_memory_type_index(**keywords) == index
        assert allocator.find_memory_type_index(1 << index) == index
        with allocator.allocate_memory(64, **keywords) as memory:
            assert memory.memory_type_index == index


def test_required_flags_are_required(allocator: Allocator) -> None:
    types = allocator.device.memory_properties.memory_types
    for flag in (MemoryPropertyFlags.HOST_VISIBLE, MemoryPropertyFlags.DEVICE_LOCAL):
        index = allocator.find_memory_type_index(required_flags=flag)
        assert flag in types[index].property_flags
    impossible = MemoryPropertyFlags.RDMA_CAPABLE_NV
    if not any(it.property_flags & impossible for it in types):
        with pytest.raises(FeatureNotPresentError) as caught:
            allocator.find_memory_type_index(required_flags=impossible)
        assert "\n" not in str(caught.value)


def test_preferred_and_not_preferred_flags_decide(allocator: Allocator) -> None:
    types = allocator.device.memory_properties.memory_types
    for flag in (MemoryPropertyFlags.HOST_CACHED, MemoryPropertyFlags.HOST_VISIBLE):
        plain = MemoryUsage.UNKNOWN
        liked = allocator.find_memory_type_index(usage=plain, preferred_flags=flag)
        disliked = allocator.find_memory_type_index(usage=plain, not_preferred_flags=flag)
        assert (flag in types[liked].property_flags) == any(
            flag in it.property_flags for it in types
        )
        assert (flag in types[disliked].property_flags) == all(
            flag in it.property_flags for it in types
        )


# ---- statistics ----


def test_statistics_count_what_is_there(allocator: Allocator) -> None:
    assert totals(allocator).allocation_count == 0
    sizes = [100, 5000, 64 * KIB]
    buffers = [allocator.create_buffer(size, TRANSFER) for size in sizes]
    buffers.append(allocator.create_buffer(MIB, TRANSFER, flags=DEDICATED))
    held = [buffer.allocation.size for buffer in buffers]
    statistics = allocator.calculate_statistics()
    total = statistics.total
    assert total.allocation_count == 4
    assert total.allocation_size_min == min(held)
    assert total.allocation_size_max == max(held)
    # A region may be a few bytes larger than what was asked for: sizes are multiples of 16.
    assert sum(held) <= total.allocation_bytes <= sum(held) + 16 * len(held)
    assert total.block_count >= 2
    assert total.block_bytes >= total.allocation_bytes
    for parts in (statistics.memory_types, statistics.memory_heaps):
        for name in ("block_count", "block_bytes", "allocation_count", "allocation_bytes"):
            assert sum(getattr(part, name) for part in parts) == getattr(total, name)
    properties = allocator.device.memory_properties
    assert len(statistics.memory_types) == len(properties.memory_types)
    assert len(statistics.memory_heaps) == len(properties.memory_heaps)
    index = buffers[0].allocation.memory_type_index
    assert statistics.memory_types[index].allocation_count >= 1
    for buffer in buffers:
        buffer.destroy()
    after = totals(allocator)
    assert (after.allocation_count, after.allocation_bytes) == (0, 0)
    assert after.allocation_size_min is None
    assert after.allocation_size_max is None


def test_budgets_follow_the_memory(allocator: Allocator) -> None:
    heaps = allocator.device.memory_properties.memory_heaps
    before = allocator.heap_budgets()
    assert len(before) == len(heaps)
    for budget, heap in zip(before, heaps, strict=True):
        assert 0 < budget.budget <= heap.size
        assert (budget.block_count, budget.allocation_count) == (0, 0)
    with allocator.create_buffer(4 * MIB, TRANSFER, flags=DEDICATED) as buffer:
        index = buffer.allocation.memory_type_index
        heap = allocator.device.memory_properties.memory_types[index].heap_index
        budget = allocator.heap_budgets()[heap]
        assert budget.block_count == 1
        assert budget.block_bytes == buffer.allocation.size
        assert budget.allocation_count == 1
        assert budget.usage >= 4 * MIB
    after = allocator.heap_budgets()
    assert [it.allocation_bytes for it in after] == [0] * len(heaps)
    assert [it.block_bytes for it in after] == [0] * len(heaps)


# ---- blocks ----


def test_many_allocations_share_few_blocks(device: Device) -> None:
    with Allocator(device, preferred_block_size=MIB) as allocator:
        buffers = [allocator.create_buffer(100 * KIB, TRANSFER) for _ in range(50)]
        memories = {buffer.allocation.device_memory for buffer in buffers}
        assert 5 <= len(memories) <= 10
        assert totals(allocator).block_count == len(memories)
        allocator.validate()
        for buffer in buffers[::2]:
            buffer.destroy()
        allocator.validate()
        # Their places are used again.
        again = [allocator.create_buffer(100 * KIB, TRANSFER) for _ in range(25)]
        assert {it.allocation.device_memory for it in again} <= memories
        for buffer in buffers + again:
            buffer.destroy()
        # One empty block may be kept, no more.
        assert totals(allocator).block_count <= 1
        allocator.validate()


def test_a_large_buffer_beside_small_blocks(device: Device) -> None:
    with (
        Allocator(device, preferred_block_size=MIB) as allocator,
        allocator.create_buffer(3 * MIB, TRANSFER) as buffer,
    ):
        assert buffer.allocation.is_dedicated


def test_never_allocate_takes_only_what_is_there(allocator: Allocator) -> None:
    with pytest.raises(OutOfDeviceMemoryError, match="NEVER_ALLOCATE"):
        allocator.create_buffer(64, TRANSFER, flags=NEVER)
    with allocator.create_buffer(64, TRANSFER) as first:
        with allocator.create_buffer(64, TRANSFER, flags=NEVER) as second:
            assert second.allocation.device_memory == first.allocation.device_memory
        blocks = totals(allocator).block_bytes
        with pytest.raises(OutOfDeviceMemoryError):
            allocator.create_buffer(blocks, TRANSFER, flags=NEVER)
        assert totals(allocator).block_bytes == blocks


def test_within_budget_stops_where_the_budget_ends(device: Device) -> None:
    limits = [8 * MIB] * len(device.memory_properties.memory_heaps)
    with Allocator(device, heap_size_limits=limits) as allocator:
        held = []
        with pytest.raises(OutOfDeviceMemoryError, match="budget") as caught:
            for _ in range(100):
                held.append(
                    allocator.create_buffer(
                        MIB, TRANSFER, flags=WITHIN_BUDGET | DEDICATED, memory_type_bits=0
                    )
                )
        assert held
        assert caught.value.size == MIB
        assert caught.value.heap_usage + MIB > caught.value.heap_budget
        for budget in allocator.heap_budgets():
            assert budget.block_bytes <= budget.budget <= 8 * MIB
        for buffer in held:
            buffer.destroy()


def test_heap_limits_hold(device: Device) -> None:
    limits = [4 * MIB] * len(device.memory_properties.memory_heaps)
    with Allocator(device, heap_size_limits=limits) as allocator:
        held = []
        with pytest.raises(OutOfDeviceMemoryError):
            for _ in itertools.count():
                held.append(allocator.create_buffer(256 * KIB, TRANSFER))
        assert 4 <= len(held) <= 16 * len(limits)
        assert all(it.block_bytes <= 4 * MIB for it in allocator.heap_budgets())
        # What is freed can be taken again.
        held.pop().destroy()
        allocator.create_buffer(256 * KIB, TRANSFER).destroy()
        for buffer in held:
            buffer.destroy()


def test_a_limit_of_one_heap_moves_to_another(device: Device) -> None:
    heaps = device.memory_properties.memory_heaps
    if len(heaps) < 2:
        pytest.skip("one heap only")
    with Allocator(device) as free, free.create_buffer(MIB, TRANSFER) as buffer:
        index = buffer.allocation.memory_type_index
    heap = device.memory_properties.memory_types[index].heap_index
    limits = [None] * len(heaps)
    limits[heap] = 64 * KIB
    with (
        Allocator(device, heap_size_limits=limits) as allocator,
        allocator.create_buffer(MIB, TRANSFER) as buffer,
    ):
        other = buffer.allocation.memory_type_index
        assert device.memory_properties.memory_types[other].heap_index != heap


@pytest.mark.parametrize("strategy", [0x1_0000, 0x2_0000, 0x4_0000])
def test_strategies_place_without_overlap(allocator: Allocator, strategy: int) -> None:
    flags = AllocationCreateFlags(strategy)
    held = [allocator.create_buffer(64 + 100 * (i % 7), TRANSFER, flags=flags) for i in range(40)]
    for buffer in held[::3]:
        buffer.destroy()
    held = [buffer for buffer in held if buffer.alive]
    held += [allocator.create_buffer(200, TRANSFER, flags=flags) for _ in range(20)]
    allocator.validate()
    places = sorted(
        (it.allocation.device_memory, it.allocation.offset, it.allocation.size) for it in held
    )
    for (memory, offset, size), (next_memory, next_offset, _) in itertools.pairwise(places):
        assert memory != next_memory or offset + size <= next_offset
    for buffer in held:
        buffer.destroy()
