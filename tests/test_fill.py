"""`fill_buffer` fills the whole range, or raises an error."""

from __future__ import annotations

import pytest
from support import RANDOM, TRANSFER, Check, is_simulated, totals

from vk_mem import (
    AllocationCreateFlags,
    BufferHeap,
    InvalidArgumentError,
    OutOfDeviceMemoryError,
    UseAfterFreeError,
)

VALUE = 0x04030201
BYTES = b"\1\2\3\4"


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 63, 64, 65, 66, 67, 1021])
def test_every_byte_of_any_size_is_filled(allocator, size):
    check = Check(allocator)
    with allocator.create_buffer(size, TRANSFER) as buffer:
        check.write(buffer, b"\xee" * size)
        allocator.device.fill_buffer(buffer, VALUE)
        assert check.read(buffer) == (BYTES * (size // 4 + 1))[:size]


@pytest.mark.parametrize("size", [67, 66, 65, 64])
def test_from_an_offset_to_the_end(allocator, size):
    check = Check(allocator)
    with allocator.create_buffer(size, TRANSFER) as buffer:
        for keywords in ({"offset": 60}, {"offset": 60, "size": size - 60}):
            check.write(buffer, b"\xee" * size)
            allocator.device.fill_buffer(buffer, VALUE, **keywords)
            filled = (BYTES * 2)[: size - 60]
            assert check.read(buffer) == b"\xee" * 60 + filled
        if size > 64:
            check.write(buffer, b"\xee" * size)
            allocator.device.fill_buffer(buffer, VALUE, offset=64)
            assert check.read(buffer) == b"\xee" * 64 + BYTES[: size - 64]


def test_what_stands_behind_the_buffer_stays(allocator):
    """The memory of a buffer is larger than the buffer; a neighbour begins there."""
    with allocator.create_buffer(67, TRANSFER, flags=RANDOM) as buffer:
        size = buffer.allocation.size
        with allocator.create_aliasing_buffer(buffer, size, TRANSFER) as whole:
            check = Check(allocator)
            check.write(whole, b"\xee" * size)
            allocator.device.fill_buffer(buffer, VALUE)
            filled = (BYTES * 17)[:67]
            assert check.read(whole) == filled + b"\xee" * (size - 67)


@pytest.mark.parametrize("size", [64, 13, 3])
def test_a_slice_is_filled_and_nothing_else(allocator, size):
    check = Check(allocator)
    with (
        BufferHeap(allocator, TRANSFER, block_size=1024) as heap,
        heap.allocate(64) as before,
        heap.allocate(size) as piece,
        heap.allocate(64) as behind,
    ):
        assert before.buffer is piece.buffer is behind.buffer
        buffer, start = piece.buffer, piece.offset
        for first in {0, 4 if size > 4 else 0}:
            check.write(buffer, b"\xee" * 1024)
            allocator.device.fill_buffer(piece, VALUE, offset=first)
            wanted = b"\xee" * (start + first) + (BYTES * size)[: size - first]
            assert check.read(buffer) == wanted.ljust(1024, b"\xee")
        with pytest.raises(InvalidArgumentError, match=f"outside of a slice of {size} bytes"):
            allocator.device.fill_buffer(piece, VALUE, size=size + 4)
        with pytest.raises(InvalidArgumentError, match="nothing to do"):
            allocator.device.fill_buffer(piece, VALUE, size=0)


def test_slices_are_copied(allocator):
    """Offsets count from the start of the slice, and sizes end with it."""
    device, check = allocator.device, Check(allocator)
    with (
        BufferHeap(allocator, TRANSFER, block_size=1024) as heap,
        heap.allocate(64),
        heap.allocate(96) as one,
        heap.allocate(96) as other,
        allocator.create_buffer(256, TRANSFER) as buffer,
    ):
        data = bytes(range(256))
        check.write(buffer, data)
        device.copy_buffer(buffer, one, 96)
        device.copy_buffer(one, other, 32, source_offset=16, target_offset=8)
        device.copy_buffer(one, buffer, target_offset=160)
        whole = check.read(one.buffer)
        assert whole[one.offset :][:96] == data[:96]
        assert whole[other.offset + 8 :][:32] == data[16:48]
        assert check.read(buffer) == data[:160] + data[:96]
        # Beyond the slice lies what is somebody else's.
        for arguments, keywords in (
            ((buffer, one), {}),
            ((one, other, 100), {}),
            ((one, buffer), {"source_offset": 97}),
            ((buffer, other, 32), {"target_offset": 65}),
        ):
            with pytest.raises(InvalidArgumentError, match="outside of a slice of 96 bytes"):
                device.copy_buffer(*arguments, **keywords)
        with pytest.raises(InvalidArgumentError, match="overlap"):
            device.copy_buffer(one, one, 32, target_offset=16)
    with pytest.raises(UseAfterFreeError, match="slice"):
        device.copy_buffer(one, one)
    with pytest.raises(TypeError, match=r"source must be a vk_mem\.Buffer or .*, not bytes"):
        device.copy_buffer(b"x", one)


def test_slices_and_images(allocator):
    device = allocator.device
    with (
        BufferHeap(allocator, TRANSFER, flags=RANDOM, block_size=4096) as heap,
        heap.allocate(64),
        heap.allocate(256) as source,
        heap.allocate(512) as target,
        allocator.create_image("rgba8unorm", (8, 8), "TRANSFER_SRC|TRANSFER_DST") as image,
    ):
        source.write(bytes(range(256)))
        device.copy_buffer_to_image(source, image)
        device.copy_image_to_buffer(image, target, buffer_offset=128)
        assert target.read(128, 256) == bytes(range(256))
        with pytest.raises(InvalidArgumentError, match="outside of a slice of 256 bytes"):
            device.copy_buffer_to_image(source, image, buffer_offset=4)


def test_nothing_is_left_of_a_fill(allocator):
    with allocator.create_buffer(7, TRANSFER) as buffer:
        before = totals(allocator)
        allocator.device.fill_buffer(buffer, VALUE)
        assert totals(allocator) == before
        if is_simulated(allocator.device):
            assert allocator.device.live_buffers == 1


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"offset": 2}, r"offset is 2; .* multiple of 4"),
        ({"offset": 2, "size": 4}, r"offset is 2; .* multiple of 4"),
        ({"size": 2}, r"size is 2; .* multiple of 4, or reaches the end"),
        ({"size": 66}, r"size is 66; .* multiple of 4, or reaches the end"),
        ({"size": 0}, r"0 bytes at offset 0 of Buffer .*: nothing to do"),
        ({"offset": 67}, r"0 bytes at offset 67 of Buffer .*: nothing to do"),
        ({"offset": 68}, r"offset 68 is outside"),
        ({"size": 68}, r"68 bytes at offset 0: outside"),
    ],
)
def test_the_rule_is_told(simulated_allocator, keywords, words):
    with simulated_allocator.create_buffer(67, TRANSFER, flags=RANDOM) as buffer:
        buffer.write(b"\xee" * 67)
        with pytest.raises(InvalidArgumentError, match=words):
            simulated_allocator.device.fill_buffer(buffer, VALUE, **keywords)
        assert buffer.read() == b"\xee" * 67


def test_without_memory_for_the_tail(simulated_allocator):
    device = simulated_allocator.device
    flags = RANDOM | AllocationCreateFlags.DEDICATED_MEMORY
    with simulated_allocator.create_buffer(67, TRANSFER, flags=flags) as buffer:
        device.fail_next("vkAllocateMemory", 100)
        with pytest.raises(OutOfDeviceMemoryError):
            device.fill_buffer(buffer, VALUE)
        device.fill_buffer(buffer, VALUE, size=64)
        device.clear_failures()
        device.fill_buffer(buffer, VALUE)
    assert device.live_buffers == 0
