"""`buffer[a:b]` for every call that takes a buffer."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from support import IMAGE_TRANSFER, RANDOM, RGBA8, TRANSFER, WRITE, Check, pattern

from vk_mem import (
    Allocator,
    Buffer,
    BufferRange,
    BufferUsage,
    FeatureNotPresentError,
    InvalidArgumentError,
    UseAfterFreeError,
    interop,
)


@pytest.fixture
def buffer(allocator: Allocator) -> Iterator[Buffer]:
    with allocator.create_buffer(1024, TRANSFER, flags=RANDOM, name="data") as buffer:
        buffer.write(pattern(1024))
        yield buffer


def test_a_range_has_the_face_of_a_buffer(buffer: Buffer) -> None:
    part = buffer[256:512]
    assert isinstance(part, BufferRange)
    assert part.buffer is buffer
    assert (part.handle, part.offset, part.size, part.nbytes, len(part)) == (
        buffer.handle,
        256,
        256,
        256,
        256,
    )
    part.write(b"1234", 4)
    assert part.read(4, 4) == buffer.read(260, 4) == b"1234"
    target = bytearray(8)
    part.read_into(target, 2)
    assert target == buffer.read(258, 8)
    with part.map(16, 8) as view:
        view[:] = b"12345678"
    assert buffer.read(272, 8) == b"12345678"
    with part.map(readonly=True) as view:
        assert (view.readonly, bytes(view)) == (True, buffer.read(256, 256))
    part.flush(8, 8)
    part.invalidate()
    inner = part[-64:][8:16]
    assert (inner.offset, inner.size) == (256 + 192 + 8, 8)
    assert repr(inner).startswith("<vk_mem.BufferRange of 8 bytes at 456 of <vk_mem.Buffer 'data'")
    assert interop.to_int(part, "VkBuffer") == buffer.handle
    assert (buffer[:].size, buffer[2000:].size, buffer[-1:].offset) == (1024, 0, 1023)
    assert BufferRange(buffer, 8).size == 1016


def test_nothing_reaches_beyond_a_range(buffer: Buffer) -> None:
    part = buffer[256:512]
    for use in (
        lambda: part.write(bytes(257)),
        lambda: part.write(b"x", 256),
        lambda: part.read(256, 1),
        lambda: part.read(257),
        lambda: part.read_into(bytearray(257)),
        lambda: part.map(0, 257),
        lambda: part.flush(255, 2),
        lambda: part.invalidate(300),
        lambda: part.numpy("u1", 257),
        lambda: part.read(dtype="u1", shape=257),
        lambda: BufferRange(part, 256, 1),
        lambda: BufferRange(buffer, 1025),
    ):
        with pytest.raises(InvalidArgumentError, match="outside of"):
            use()
    assert buffer.read() == pattern(1024)


@pytest.mark.parametrize(
    ("index", "error", "text"),
    [
        (3, TypeError, r"not indexed by int: buffer\[0:64\] is a range of bytes, and numpy"),
        (True, TypeError, "not indexed by bool"),
        ("a", TypeError, "not indexed by str"),
        ((slice(1), slice(1)), TypeError, "not indexed by tuple"),
        (slice(0, 8, 2), InvalidArgumentError, "the step is 2"),
        (slice(None, None, -1), InvalidArgumentError, "the step is -1"),
        (slice(0, 8, 0), ValueError, "zero"),
        (slice(0.5, 8), TypeError, "slice indices"),
    ],
)
def test_what_is_no_range(buffer: Buffer, index: Any, error: type[Exception], text: str) -> None:
    for whole in (buffer, buffer[8:]):
        with pytest.raises(error, match=text):
            whole[index]


def test_handles_are_no_bounds_and_buffers_no_lists(buffer: Buffer) -> None:
    bound: Any = buffer
    for use in (
        lambda: buffer[bound:],
        lambda: buffer[:8][:bound],
        lambda: BufferRange(buffer, bound),
    ):
        with pytest.raises(TypeError, match="must be a"):
            use()
    for whole in (buffer, buffer[:8]):
        with pytest.raises(TypeError, match="not indexed by int"):
            list(whole)
        # The binding `vulkan` passes what is iterable as an array of C.
        assert not isinstance(whole, Iterable)
        with pytest.raises(TypeError):
            whole[0:1] = b"x"  # type: ignore[index]
    for use in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot pickle"):
            use(buffer[:8])


def test_copies_and_fills(allocator: Allocator, buffer: Buffer, check: Check) -> None:
    device = allocator.device
    with (
        allocator.create_buffer(1024, TRANSFER) as target,
        allocator.create_image(RGBA8, (4, 4), IMAGE_TRANSFER) as image,
    ):
        device.fill_buffer(target)
        device.copy_buffer(buffer[256:512], target[512:])
        device.copy_buffer(buffer[:8], target[64:128], 4, source_offset=4, target_offset=8)
        device.fill_buffer(target[128:136], 0x01010101)
        wanted = bytearray(1024)
        wanted[512:768] = pattern(1024)[256:512]
        wanted[72:76] = pattern(1024)[4:8]
        wanted[128:136] = b"\x01" * 8
        assert check.read(target) == wanted
        device.copy_buffer_to_image(buffer[64:128], image)
        device.copy_image_to_buffer(image, target[256:320])
        wanted[256:320] = pattern(1024)[64:128]
        assert check.read(target) == wanted
        for use in (
            lambda: device.copy_buffer(buffer[:512], target[:256]),
            lambda: device.fill_buffer(target[:8], offset=4, size=8),
            lambda: device.copy_buffer_to_image(buffer[64:127], image),
            lambda: device.copy_image_to_buffer(image, target[1:60]),
        ):
            with pytest.raises(InvalidArgumentError, match="outside of a slice"):
                use()
        # A fill starts at a whole word of the buffer, wherever the range starts.
        with pytest.raises(InvalidArgumentError, match=r"offset and offset are 2 together.*of 4"):
            device.fill_buffer(target[2:10])
        device.fill_buffer(target[2:10], 0x02020202, offset=2, size=4)
        device.fill_buffer(target[16:23], 0x03030303)
        wanted[4:8], wanted[16:23] = b"\x02" * 4, b"\x03" * 7
        assert check.read(target) == wanted
        with pytest.raises(InvalidArgumentError, match="overlap"):
            device.copy_buffer(target[0:64], target[32:96])


def test_flushing_many(allocator: Allocator, buffer: Buffer) -> None:
    with allocator.create_buffer(1024, TRANSFER, flags=WRITE) as other:
        ranges = [buffer[256:512], other, other[8:16]]
        allocator.flush_allocations(ranges)
        allocator.invalidate_allocations(ranges, [0, 0, 4], [8, 1024, 4])
        with pytest.raises(InvalidArgumentError, match="item 2: 8 bytes at offset 4: outside"):
            allocator.flush_allocations(ranges, [0, 0, 4], [8, 1024, 8])
        with pytest.raises(TypeError, match="item 1: int is no Buffer"):
            allocator.flush_allocations([buffer[:8], 7])  # type: ignore[list-item]


def test_a_flush_of_many_ranges_is_one_of_these_bytes(simulated_allocator: Allocator) -> None:
    device = simulated_allocator.device
    atom = device.properties.non_coherent_atom_size
    with (
        simulated_allocator.create_buffer(8 * atom, TRANSFER, flags=RANDOM) as source,
        simulated_allocator.create_buffer(8 * atom, TRANSFER, flags=RANDOM) as target,
        source.map() as view,
    ):
        view[:] = b"\x01" * (8 * atom)
        simulated_allocator.flush_allocations([source[atom : 2 * atom], source[4 * atom :]])
        device.copy_buffer(source[atom : 2 * atom], target)
        device.copy_buffer(source[4 * atom :], target[4 * atom :])
        assert target.read(0, atom) == target.read(4 * atom, atom) == b"\x01" * atom
        with pytest.warns(RuntimeWarning, match="did not flush"):
            device.copy_buffer(source[:atom], target)
        assert [it.kind for it in device.take_violations()] == ["missing_flush"]


def test_a_range_after_its_buffer(allocator: Allocator) -> None:
    buffer = allocator.create_buffer(64, TRANSFER, flags=WRITE, name="gone")
    part = buffer[8:16]
    buffer.destroy()
    device = allocator.device
    with allocator.create_buffer(64, TRANSFER) as other:
        for use in (
            lambda: part.buffer,
            lambda: part.handle,
            lambda: part.offset,
            lambda: part.size,
            lambda: part.nbytes,
            lambda: part.device_address,
            lambda: part[:2],
            lambda: len(part),
            lambda: part.write(b""),
            lambda: part.flush(),
            lambda: part.invalidate(),
            lambda: part.read_into(bytearray(1)),
            lambda: memoryview(part),
            lambda: device.copy_buffer(part, other),
            lambda: device.fill_buffer(part),
            lambda: allocator.flush_allocations([part]),
            part.read,
            part.map,
            part.numpy,
            part.__array__,
            part.__dlpack__,
            part.__dlpack_device__,
        ):
            with pytest.raises(UseAfterFreeError, match="'gone' was destroyed"):
                use()
    assert "no longer alive" in repr(part)


def test_the_address_of_a_range(allocator: Allocator) -> None:
    has_feature = "bufferDeviceAddress" in allocator.device.features
    usage = TRANSFER | (BufferUsage.SHADER_DEVICE_ADDRESS if has_feature else 0)
    with allocator.create_buffer(64, usage) as buffer:
        if has_feature:
            assert buffer[8:].device_address == buffer.device_address + 8
        else:
            with pytest.raises(FeatureNotPresentError):
                _ = buffer[8:].device_address
