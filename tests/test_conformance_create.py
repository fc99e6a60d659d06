"""Creating buffers, images and plain memory, on every device."""

from __future__ import annotations

import itertools

import pytest
from support import (
    DEDICATED,
    IMAGE_TRANSFER,
    MAPPED,
    RANDOM,
    RGBA8,
    TRANSFER,
    WRITE,
    totals,
)

from vk_mem import (
    AllocationCreateInfo,
    Allocator,
    BufferUsage,
    Device,
    Format,
    ImageTiling,
    MemoryPropertyFlags,
    MemoryUsage,
    OutOfDeviceMemoryError,
)


def test_a_buffer_has_what_was_asked_for(allocator: Allocator) -> None:
    usage = BufferUsage.VERTEX_BUFFER | BufferUsage.TRANSFER_DST
    with allocator.create_buffer(1000, usage) as buffer:
        assert buffer.handle != 0
        assert buffer.size == 1000
        assert buffer.usage == usage
        assert isinstance(buffer.usage, BufferUsage)
        assert buffer.alive
        assert buffer.name is None
        assert buffer.user_data is None
        assert buffer.mapped is None
        allocation = buffer.allocation
        assert allocation.size >= 1000
        assert allocation.device_memory != 0
        types = allocator.device.memory_properties.memory_types
        memory_type = types[allocation.memory_type_index]
        assert allocation.memory_properties == memory_type.property_flags
        assert not allocation.is_dedicated


def test_an_image_has_what_was_asked_for(allocator: Allocator) -> None:
    with allocator.create_image(RGBA8, (33, 17), IMAGE_TRANSFER) as image:
        assert image.handle != 0
        assert image.format == RGBA8
        assert isinstance(image.format, Format)
        assert image.extent == (33, 17, 1)
        assert image.usage == IMAGE_TRANSFER
        assert image.allocation.size >= 33 * 17 * 4


@pytest.mark.parametrize(
    ("extent", "whole"),
    [(8, (8, 1, 1)), ((8,), (8, 1, 1)), ([4, 2], (4, 2, 1)), ((4, 4, 4), (4, 4, 4))],
)
def test_the_sides_make_the_dimensions(
    allocator: Allocator, extent: object, whole: tuple[int, int, int]
) -> None:
    with allocator.create_image(RGBA8, extent, IMAGE_TRANSFER) as image:
        assert image.extent == whole


def test_layers_and_levels_take_memory(allocator: Allocator) -> None:
    with (
        allocator.create_image(RGBA8, (64, 64), IMAGE_TRANSFER) as plain,
        allocator.create_image(
            RGBA8, (64, 64), IMAGE_TRANSFER, mip_levels=7, array_layers=3
        ) as many,
    ):
        assert many.allocation.size >= 3 * plain.allocation.size


def test_numbers_are_as_good_as_flags(allocator: Allocator) -> None:
    class Index:
        def __index__(self) -> int:
            return 512

    with (
        allocator.create_buffer(Index(), 3, flags=0x400, usage=7) as buffer,
        allocator.create_image(37, (8, 8), 3, tiling=0, samples=1) as image,
    ):
        assert buffer.size == 512
        assert buffer.usage == BufferUsage.TRANSFER_SRC | BufferUsage.TRANSFER_DST
        assert image.format is Format.R8G8B8A8_UNORM


def test_resources_do_not_overlap(allocator: Allocator) -> None:
    buffers = [allocator.create_buffer(100 + 37 * i, TRANSFER, flags=RANDOM) for i in range(60)]
    images = [
        allocator.create_image(RGBA8, (8 + i, 8), IMAGE_TRANSFER, tiling=ImageTiling.OPTIMAL)
        for i in range(10)
    ]
    ranges: dict[int, list[tuple[int, int]]] = {}
    for resource in (*buffers, *images):
        it = resource.allocation
        ranges.setdefault(it.device_memory, []).append((it.offset, it.offset + it.size))
    for places in ranges.values():
        places.sort()
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(places))
    for resource in (*buffers, *images):
        resource.destroy()


def test_pages_are_not_shared_by_buffers_and_optimal_images(allocator: Allocator) -> None:
    page = allocator.device.properties.buffer_image_granularity
    resources = []
    for i in range(12):
        resources.append(allocator.create_buffer(24 + i, TRANSFER))
        resources.append(allocator.create_image(RGBA8, (3, 3), IMAGE_TRANSFER))
    pages: dict[tuple[int, int], str] = {}
    for resource in resources:
        it = resource.allocation
        for number in range(it.offset // page, (it.offset + it.size - 1) // page + 1):
            kind = type(resource).__name__
            assert pages.setdefault((it.device_memory, number), kind) == kind
    for resource in resources:
        resource.destroy()


def test_dedicated_memory_is_its_own(allocator: Allocator) -> None:
    with (
        allocator.create_buffer(5000, TRANSFER, flags=DEDICATED) as buffer,
        allocator.create_image(RGBA8, (16, 16), IMAGE_TRANSFER, flags=DEDICATED) as image,
        allocator.create_buffer(5000, TRANSFER) as shared,
    ):
        for resource in (buffer, image):
            assert resource.allocation.is_dedicated
            assert resource.allocation.offset == 0
        memories = {it.allocation.device_memory for it in (buffer, image, shared)}
        assert len(memories) == 3


def test_host_access_gives_host_visible_memory(allocator: Allocator) -> None:
    for flags in (WRITE, RANDOM, WRITE | MAPPED, RANDOM | MAPPED):
        for usage in (MemoryUsage.AUTO, 8, 9):
            with allocator.create_buffer(64, TRANSFER, flags=flags, usage=usage) as buffer:
                properties = buffer.allocation.memory_properties
                assert MemoryPropertyFlags.HOST_VISIBLE in properties


def test_alignment_is_kept(allocator: Allocator) -> None:
    kept = []
    for alignment in (1, 2, 64, 4096, 65536, 1 << 20):
        memory = allocator.allocate_memory(48, alignment)
        buffer = allocator.create_buffer(48, TRANSFER, min_alignment=alignment)
        assert memory.offset % alignment == 0
        assert buffer.allocation.offset % alignment == 0
        kept += [memory, buffer]
    for it in kept:
        it.free() if hasattr(it, "free") else it.destroy()


def test_bare_memory(allocator: Allocator) -> None:
    with allocator.allocate_memory(777, 256, name="bare") as memory:
        assert memory.size == 777
        assert memory.offset % 256 == 0
        assert memory.name == "bare"
        assert memory.device_memory != 0
        assert memory == memory
        assert hash(memory) == hash(memory)


def test_allocations_of_one_owner_are_equal(allocator: Allocator) -> None:
    with allocator.create_buffer(64, TRANSFER) as a, allocator.create_buffer(64, TRANSFER) as b:
        assert a.allocation == a.allocation
        assert hash(a.allocation) == hash(a.allocation)
        assert a.allocation != b.allocation
        assert a.allocation != a
        assert len({a.allocation, a.allocation, b.allocation}) == 2


def test_a_set_of_keywords_is_reused_and_overridden(allocator: Allocator) -> None:
    token = object()
    kept = AllocationCreateInfo(
        usage=MemoryUsage.AUTO_PREFER_HOST, flags=RANDOM, name="kept", user_data=token
    )
    assert (kept.usage, kept.flags) == (MemoryUsage.AUTO_PREFER_HOST, RANDOM)
    assert isinstance(kept.usage, MemoryUsage)
    with (
        allocator.create_buffer(64, TRANSFER, allocation_info=kept) as first,
        allocator.create_buffer(
            64, TRANSFER, name="other", flags=WRITE | MAPPED, allocation_info=kept
        ) as second,
        allocator.create_buffer(
            64, TRANSFER, allocation_info=kept, name=None, user_data=None
        ) as third,
    ):
        assert (first.name, second.name, third.name) == ("kept", "other", None)
        assert first.user_data is token
        assert second.user_data is token
        assert third.user_data is None
        assert first.mapped is None
        assert second.mapped is not None
    again = AllocationCreateInfo(allocation_info=kept, name="again", min_alignment=256)
    assert (again.name, again.min_alignment, again.flags) == ("again", 256, RANDOM)
    assert kept.name == "kept"
    assert kept.min_alignment == 0
    assert "AUTO_PREFER_HOST" in repr(kept)


def test_a_failure_names_what_was_asked(device: Device) -> None:
    heap = max(heap.size for heap in device.memory_properties.memory_heaps)
    with Allocator(device) as allocator:
        with pytest.raises(OutOfDeviceMemoryError) as caught:
            allocator.allocate_memory(heap + 1)
        assert caught.value.size == heap + 1
        assert caught.value.memory_type_index is not None
        assert caught.value.heap_budget > 0
        assert str(heap + 1) in str(caught.value)
        with pytest.raises(OutOfDeviceMemoryError):
            allocator.create_buffer(heap + 1, TRANSFER)
        assert totals(allocator).allocation_count == 0
