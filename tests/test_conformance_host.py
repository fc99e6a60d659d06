"""Host access on every device: mapping, copies, flushes, and what the device reads."""

from __future__ import annotations

import ctypes
import gc

import pytest
from support import (
    DEDICATED,
    IMAGE_TRANSFER,
    MAPPED,
    RANDOM,
    RGBA8,
    TRANSFER,
    WRITE,
    Check,
    pattern,
)

from vk_mem import (
    Allocator,
    Device,
    ImageLayout,
    MemoryMapError,
    MemoryPropertyFlags,
    SimulatedDevice,
)

SIZE = 5000


def test_written_bytes_reach_the_device(allocator: Allocator, check: Check) -> None:
    with allocator.create_buffer(SIZE, TRANSFER, flags=RANDOM) as buffer:
        buffer.write(pattern(SIZE))
        assert buffer.read() == pattern(SIZE)
        assert check.read(buffer) == pattern(SIZE)
        buffer.write(b"\xff" * 7, 123)
        expected = pattern(SIZE)[:123] + b"\xff" * 7 + pattern(SIZE)[130:]
        assert check.read(buffer) == expected
        assert buffer.read(120, 20) == expected[120:140]
        assert buffer.read(4990) == expected[4990:]


def test_bytes_of_the_device_reach_the_host(allocator: Allocator, check: Check) -> None:
    with allocator.create_buffer(SIZE, TRANSFER, flags=RANDOM) as buffer:
        check.write(buffer, pattern(SIZE, 3))
        assert buffer.read() == pattern(SIZE, 3)
        target = bytearray(100)
        buffer.read_into(target, 200)
        assert target == pattern(SIZE, 3)[200:300]
        check.write(buffer, pattern(SIZE, 4))
        with buffer.map(readonly=True) as view:
            assert view.readonly
            assert bytes(view) == pattern(SIZE, 4)


def test_copies_in_which_several_threads_share_arrive_whole(allocator: Allocator) -> None:
    # From 32 MiB on; the period is no divisor of any part of it.
    size = (40 << 20) + 77
    data = bytes(range(251)) * (size // 251 + 1)
    with allocator.create_buffer(size + 1000, TRANSFER, flags=RANDOM) as buffer:
        buffer.write(b"\xee" * (size + 1000))
        buffer.write(memoryview(data)[:size], 123)
        assert buffer.read(123, size) == data[:size]
        assert buffer.read(0, 123) == b"\xee" * 123
        assert buffer.read(123 + size) == b"\xee" * 877
        for shift in (0, 1, 4000):
            target = bytearray(b"\xdd") * (size + 4096)
            buffer.read_into(memoryview(target)[shift : shift + size - 100], 223)
            assert target[shift : shift + size - 100] == data[100:size]
            assert target[:shift] == b"\xdd" * shift
            assert target[shift + size - 100 :] == b"\xdd" * (4196 - shift)


def test_a_large_part_of_a_view_is_moved_within_it(allocator: Allocator) -> None:
    size = 40 << 20
    data = bytes(range(251)) * (size // 251 + 1)
    with allocator.create_buffer(size + 4096, TRANSFER, flags=RANDOM | MAPPED) as buffer:
        buffer.write(memoryview(data)[:size])
        with buffer.map() as view:
            buffer.write(view[:size], 64)
        assert buffer.read(64, size) == data[:size]


@pytest.mark.parametrize("flags", [RANDOM, WRITE, RANDOM | MAPPED, RANDOM | DEDICATED | MAPPED])
def test_a_view_is_flushed_when_it_closes(allocator: Allocator, check: Check, flags: int) -> None:
    with allocator.create_buffer(SIZE, TRANSFER, flags=flags) as buffer:
        with buffer.map() as view:
            assert isinstance(view, memoryview)
            assert view.nbytes == SIZE
            assert view.format == "B"
            assert not view.readonly
            view[:] = pattern(SIZE, 5)
        assert check.read(buffer) == pattern(SIZE, 5)


def test_explicit_flush_and_invalidate_of_a_mapping(allocator: Allocator, check: Check) -> None:
    with allocator.create_buffer(SIZE, TRANSFER, flags=RANDOM) as buffer:
        mapping = buffer.map()
        with mapping as view:
            view[:] = pattern(SIZE, 6)
            mapping.flush()
            assert check.read(buffer) == pattern(SIZE, 6)
            check.write(buffer, pattern(SIZE, 7))
            mapping.invalidate()
            assert bytes(view) == pattern(SIZE, 7)
        assert mapping.closed


def test_flush_of_a_range(allocator: Allocator, check: Check) -> None:
    with allocator.create_buffer(SIZE, TRANSFER, flags=RANDOM | MAPPED) as buffer:
        view = buffer.mapped
        view[:] = bytes(SIZE)
        buffer.flush()
        view[1000:1010] = b"0123456789"
        buffer.flush(1000, 10)
        assert check.read(buffer)[1000:1010] == b"0123456789"
        check.write(buffer, b"\x01" * SIZE)
        buffer.invalidate(4000)
        assert view[4000:] == b"\x01" * 1000
        view.release()


def test_persistent_views_share_the_memory(allocator: Allocator, check: Check) -> None:
    with allocator.create_buffer(256, TRANSFER, flags=RANDOM | MAPPED) as buffer:
        first, second = buffer.mapped, buffer.mapped
        first[:4] = b"abcd"
        assert second[:4] == b"abcd"
        first.release()
        second[4:8] = b"efgh"
        second.release()
        # The last reference flushes, without a call.
        del first, second
        gc.collect()
        assert check.read(buffer)[:8] == b"abcdefgh"


def test_mappings_nest(allocator: Allocator, check: Check) -> None:
    with allocator.create_buffer(64, TRANSFER, flags=RANDOM) as buffer:
        with buffer.map() as outer:
            outer[0] = 1
            with buffer.map() as inner:
                inner[1] = 2
                assert outer[1] == 2
            outer[2] = 3
            assert buffer.read(0, 3) == b"\x01\x02\x03"
        assert check.read(buffer)[:3] == b"\x01\x02\x03"


def test_any_number_of_maps_of_one_allocation(allocator: Allocator) -> None:
    with allocator.create_buffer(64, TRANSFER, flags=RANDOM) as buffer:
        mappings = [buffer.map() for _ in range(2000)]
        buffer.write(b"seen")
        assert buffer.read(0, 4) == b"seen"
        assert len({mapping.address for mapping in mappings}) == 1
        for mapping in mappings:
            mapping.close()
        buffer.map().close()


def test_a_read_beside_an_open_view_keeps_its_writes(allocator: Allocator) -> None:
    with allocator.create_buffer(64, TRANSFER, flags=RANDOM) as buffer, buffer.map() as view:
        view[:] = pattern(64)
        assert buffer.read() == pattern(64)
        with buffer.map(readonly=True) as other:
            assert bytes(other) == pattern(64)
        assert bytes(view) == pattern(64)


def test_neighbours_survive_each_others_flushes(allocator: Allocator, check: Check) -> None:
    # Allocations that shared an atom would write back each other's old bytes.
    buffers = [allocator.create_buffer(20 + i, TRANSFER, flags=RANDOM) for i in range(20)]
    views = [buffer.map() for buffer in buffers]
    for i, view in enumerate(views):
        memoryview(view)[:] = pattern(20 + i, i)
    for i in range(0, 20, 2):
        views[i].close()
    for i in range(1, 20, 2):
        check.write(buffers[i - 1], pattern(19 + i, i + 50))
    for i in range(1, 20, 2):
        views[i].close()
    for i, buffer in enumerate(buffers):
        assert check.read(buffer) == pattern(20 + i, i + 51 if i % 2 == 0 else i)
        buffer.destroy()


def test_map_of_bare_memory(allocator: Allocator) -> None:
    with allocator.allocate_memory(300, flags=RANDOM) as memory:
        with memory.map() as view:
            assert view.nbytes == 300
            view[:] = pattern(300)
        assert memory.read() == pattern(300)
        assert memory.mapped is None


def test_addresses_are_those_of_the_bytes(allocator: Allocator) -> None:
    with allocator.create_buffer(64, TRANSFER, flags=RANDOM) as buffer, buffer.map() as view:
        inner = buffer.map()
        view[:4] = b"WXYZ"
        assert ctypes.string_at(inner.address, 4) == b"WXYZ"
        assert inner.size == len(inner) == 64
        inner.close()


def test_gpu_copies_with_offsets(allocator: Allocator, check: Check) -> None:
    with (
        allocator.create_buffer(256, TRANSFER, flags=RANDOM) as source,
        allocator.create_buffer(256, TRANSFER) as target,
    ):
        source.write(pattern(256))
        allocator.device.fill_buffer(target, 0xDEADBEEF)
        filled = 0xDEADBEEF.to_bytes(4, "little") * 64
        assert check.read(target) == filled
        allocator.device.copy_buffer(source, target, 20, source_offset=8, target_offset=100)
        assert check.read(target) == filled[:100] + pattern(256)[8:28] + filled[120:]
        allocator.device.fill_buffer(target, 0, offset=252)
        assert check.read(target)[248:] == filled[248:252] + bytes(4)
        # Two ranges of one buffer.
        allocator.device.copy_buffer(target, target, 20, source_offset=100, target_offset=0)
        assert check.read(target)[:20] == pattern(256)[8:28]


def test_texels_make_the_round_trip(allocator: Allocator) -> None:
    device = allocator.device
    size = 13 * 9 * 4
    with (
        allocator.create_image(RGBA8, (13, 9), IMAGE_TRANSFER) as image,
        allocator.create_buffer(size, TRANSFER, flags=WRITE) as source,
        allocator.create_buffer(size + 8, TRANSFER, flags=RANDOM) as target,
    ):
        source.write(pattern(size, 9))
        device.copy_buffer_to_image(source, image)
        device.copy_image_to_buffer(image, target, buffer_offset=8)
        assert target.read(8) == pattern(size, 9)
        layout = ImageLayout.TRANSFER_SRC_OPTIMAL
        device.copy_buffer_to_image(source, image, layout=layout)
        device.fill_buffer(target)
        device.copy_image_to_buffer(image, target, layout=layout)
        assert target.read(0, size) == pattern(size, 9)


def test_unmappable_memory_is_refused_and_stays_usable(device: Device) -> None:
    types = device.memory_properties.memory_types
    hidden = [
        i
        for i, it in enumerate(types)
        if MemoryPropertyFlags.HOST_VISIBLE not in it.property_flags
        and not it.property_flags & MemoryPropertyFlags.LAZILY_ALLOCATED
        and not it.property_flags & MemoryPropertyFlags.PROTECTED
    ]
    with Allocator(device) as allocator:
        for index in hidden:
            with allocator.create_buffer(64, TRANSFER) as probe:
                if probe.allocation.memory_type_index != index:
                    continue
                # The ninth map of unmappable memory must fail as the first does.
                for _ in range(10):
                    with pytest.raises(MemoryMapError, match="HOST_VISIBLE"):
                        probe.map()
                with pytest.raises(MemoryMapError):
                    probe.write(b"x")
                with pytest.raises(MemoryMapError):
                    probe.read()
                device.fill_buffer(probe, 1)


def test_a_missing_flush_shows_on_non_coherent_memory(simulated: SimulatedDevice) -> None:
    with Allocator(simulated) as allocator:
        check = Check(allocator)
        with allocator.create_buffer(64, TRANSFER, flags=WRITE | MAPPED) as buffer:
            assert MemoryPropertyFlags.HOST_COHERENT not in buffer.allocation.memory_properties
            view = buffer.mapped
            view[:] = pattern(64)
            assert check.read_unflushed(buffer) == bytes(64)
            buffer.flush()
            assert check.read(buffer) == pattern(64)
            check.write(buffer, b"\x55" * 64)
            assert bytes(view) == pattern(64)
            buffer.invalidate()
            assert bytes(view) == b"\x55" * 64
            view.release()
