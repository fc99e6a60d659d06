"""Missing flushes, which a simulated device detects, and memory that needs no flush."""

from __future__ import annotations

import ctypes
import gc
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import DONT_BIND, IMAGE_TRANSFER, MAPPED, RANDOM, RGBA8, TRANSFER, WRITE, pattern

from vk_mem import (
    Allocator,
    Buffer,
    BufferHeap,
    Device,
    ImageTiling,
    InvalidArgumentError,
    MemoryPropertyFlags,
    MemoryUsage,
    Resource,
    SimulatedDevice,
    UnflushedWriteWarning,
)

SIZE = 4096
VISIBLE = MemoryPropertyFlags.HOST_VISIBLE
COHERENT = MemoryPropertyFlags.HOST_COHERENT


def address_of(resource: Resource) -> int:
    """Address of memory that stays mapped, so that C libraries may write there at any time."""
    with resource.map() as view:
        return ctypes.addressof(ctypes.c_char.from_buffer(view))


def poke(address: int, data: bytes) -> None:
    """A write that Python does not see: no view ends with a flush."""
    ctypes.memmove(address, data, len(data))


@pytest.fixture
def buffer(simulated_allocator: Allocator) -> Iterator[Buffer]:
    with simulated_allocator.create_buffer(
        SIZE, TRANSFER, flags=RANDOM | MAPPED, name="uniforms"
    ) as buffer:
        assert COHERENT not in buffer.allocation.memory_properties
        yield buffer


@pytest.fixture
def other(simulated_allocator: Allocator) -> Iterator[Buffer]:
    with simulated_allocator.create_buffer(SIZE, TRANSFER, name="vertices") as buffer:
        yield buffer


def places(device: SimulatedDevice) -> list[tuple[int | None, int | None]]:
    """Where flushes were missing that a command needed: offset in the memory, and length."""
    found = device.take_violations()
    assert all(it.kind == "missing_flush" for it in found)
    return [(it.offset, it.length) for it in found]


# ---- before a copy ----


def test_a_copy_of_what_is_not_flushed(
    simulated: SimulatedDevice, buffer: Buffer, other: Buffer
) -> None:
    view = buffer.mapped
    assert view is not None
    view[100:116] = pattern(16)
    with pytest.warns(UnflushedWriteWarning) as caught:
        simulated.copy_buffer(buffer, other)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert str(caught[0].message) == (
        f"Buffer 'uniforms' (4096 bytes, memory type {buffer.allocation.memory_type_index}): the "
        "host wrote 16 bytes at offset 100 and did not flush before the device reads there: it "
        "sees what was there before. Call flush(100, 16) after writing, or ask for memory that "
        "needs none: required_flags=HOST_COHERENT"
    )
    buffer.flush(100, 16)
    simulated.copy_buffer(buffer, other)
    view[0] = 1
    simulated.copy_buffer(buffer, other, source_offset=1, target_offset=1)
    with pytest.warns(UnflushedWriteWarning, match="wrote 1 byte at offset 0 "):
        simulated.copy_buffer(buffer, other, size=1)
    assert places(simulated) == [(100, 16), (0, 1)]


@pytest.mark.parametrize(
    ("writes", "offset", "size"),
    [
        ([(65530, 12)], 65530, 12),
        ([(65536, 1), (199_999, 1)], 65536, 134_464),
        ([(0, 200_000)], 0, 200_000),
    ],
)
def test_the_range_of_many_writes(
    simulated: SimulatedDevice,
    simulated_allocator: Allocator,
    writes: list[tuple[int, int]],
    offset: int,
    size: int,
) -> None:
    """From the first byte to the last one, wherever large memory is cut to be compared."""
    source, target = simulated_allocator.create_buffers([200_000] * 2, TRANSFER, flags=RANDOM)
    source.write(pattern(200_000))
    with source.map() as view:
        for start, length in writes:
            view[start : start + length] = bytes(it ^ 0xFF for it in view[start : start + length])
        with pytest.warns(UnflushedWriteWarning, match=f"wrote {size} bytes at offset {offset} "):
            simulated.copy_buffer(source, target)
    assert places(simulated) == [(offset, size)]
    simulated_allocator.destroy_many([source, target])


def test_what_is_copied_over(simulated: SimulatedDevice, buffer: Buffer, other: Buffer) -> None:
    view = buffer.mapped
    assert view is not None
    view[8:10] = b"ab"
    with pytest.warns(UnflushedWriteWarning, match=r"2 bytes at offset 8 .*the device writes"):
        simulated.fill_buffer(buffer, 1)
    with pytest.warns(UnflushedWriteWarning, match=r"2 bytes at offset 8 .*the device writes"):
        simulated.copy_buffer(other, buffer)
    simulated.fill_buffer(buffer, 1, offset=12)
    buffer.flush(8, 2)
    simulated.fill_buffer(buffer, 1)


def test_images_and_what_is_copied_to_them(
    simulated: SimulatedDevice, simulated_allocator: Allocator, buffer: Buffer
) -> None:
    with simulated_allocator.create_image(
        RGBA8,
        (16, 16),
        IMAGE_TRANSFER,
        tiling=ImageTiling.LINEAR,
        flags=RANDOM | MAPPED,
        name="albedo",
    ) as image:
        simulated.copy_buffer_to_image(buffer, image)
        view = buffer.mapped
        assert view is not None
        view[1024:] = b"\x01" * (SIZE - 1024)
        simulated.copy_buffer_to_image(buffer, image)
        view[1022:1024] = b"ab"
        with pytest.warns(UnflushedWriteWarning, match="'uniforms'.* 2 bytes at offset 1022 "):
            simulated.copy_buffer_to_image(buffer, image)
        buffer.flush()
        texels = image.mapped
        assert texels is not None
        texels[3] = 5
        with pytest.warns(UnflushedWriteWarning, match="'albedo'.* 1 byte at offset 3 .*reads"):
            simulated.copy_image_to_buffer(image, buffer)
        with pytest.warns(UnflushedWriteWarning, match="'albedo'.* 1 byte at offset 3 .*writes"):
            simulated.copy_buffer_to_image(buffer, image)
        # What the device writes over is no read.
        assert places(simulated) == [(1022, 2), (image.allocation.offset + 3, 1)]
        del texels


def test_a_warning_that_is_an_error_comes_before_the_copy(
    simulated: SimulatedDevice, buffer: Buffer, other: Buffer
) -> None:
    with buffer.map() as view:
        view[:4] = b"here"
        submits = simulated.call_count("vkQueueSubmit")
        with warnings.catch_warnings():
            warnings.simplefilter("error", UnflushedWriteWarning)
            with pytest.raises(UnflushedWriteWarning, match="4 bytes at offset 0"):
                simulated.copy_buffer(buffer, other)
        assert simulated.call_count("vkQueueSubmit") == submits


def test_an_open_view_of_what_is_mapped_when_used(
    simulated: SimulatedDevice, simulated_allocator: Allocator, other: Buffer
) -> None:
    with simulated_allocator.create_buffer(SIZE, TRANSFER, flags=WRITE) as buffer:
        with buffer.map(512, 512) as view:
            view[:8] = b"8 bytes."
            with pytest.warns(UnflushedWriteWarning, match="8 bytes at offset 512"):
                simulated.copy_buffer(buffer, other)
        simulated.copy_buffer(buffer, other)
        assert places(simulated) == [(512, 8)]


def test_aliases_slices_and_bound_memory(
    simulated: SimulatedDevice, simulated_allocator: Allocator, other: Buffer
) -> None:
    with simulated_allocator.allocate_memory(2 * SIZE, 256, flags=RANDOM | MAPPED) as memory:
        alias = simulated_allocator.create_aliasing_buffer(
            memory, 512, TRANSFER, local_offset=1024, name="part"
        )
        bound = simulated_allocator.create_buffer(
            SIZE, TRANSFER, flags=RANDOM | DONT_BIND, name="bound"
        )
        memory.bind_buffer(bound.handle, SIZE)
        view = memory.mapped
        assert view is not None
        view[1024 + 7] = 1
        view[SIZE + 9 : SIZE + 12] = b"abc"
        with pytest.warns(UnflushedWriteWarning, match="'part'.* 1 byte at offset 7 "):
            simulated.copy_buffer(alias, other)
        with pytest.warns(UnflushedWriteWarning, match="'bound'.* 3 bytes at offset 9 "):
            simulated.copy_buffer(bound, other)
        # The memory lives on, and may be flushed still.
        assert places(simulated) == [
            (memory.offset + 1024 + 7, 1),
            (memory.offset + SIZE + 9, 3),
        ]
        alias.destroy()
        bound.destroy()
        del view
    with BufferHeap(simulated_allocator, TRANSFER, flags=RANDOM, block_size=64 << 10) as heap:
        first, second = heap.allocate(256), heap.allocate(256)
        here = second.mapped
        assert here is not None
        here[:2] = b"ab"
        place = f"2 bytes at offset {second.offset} "
        with pytest.warns(UnflushedWriteWarning, match=place):
            simulated.copy_buffer(second, other)
        with pytest.warns(UnflushedWriteWarning, match=place):
            simulated.fill_buffer(second, 0)
        simulated.copy_buffer(first, other)
        assert [length for _, length in places(simulated)] == [2]
        del here
        first.free()
        second.free()


# ---- at the end ----


def ends() -> Iterator[Any]:
    def destroy(_allocator: Allocator, buffer: Buffer) -> None:
        buffer.destroy()

    def destroy_many(allocator: Allocator, buffer: Buffer) -> None:
        allocator.destroy_many([buffer])

    def retire(_allocator: Allocator, buffer: Buffer) -> None:
        buffer.retire()

    for end in (destroy, destroy_many, retire):
        yield pytest.param(end, id=end.__name__)


@pytest.mark.parametrize("end", list(ends()))
def test_the_end_of_a_resource(
    simulated_allocator: Allocator, end: Callable[[Allocator, Buffer], None]
) -> None:
    def create() -> Buffer:
        return simulated_allocator.create_buffer(SIZE, TRANSFER, flags=WRITE | MAPPED, name="frame")

    buffer = create()
    poke(address_of(buffer) + 5, b"lost")
    with pytest.warns(UnflushedWriteWarning) as caught:
        end(simulated_allocator, buffer)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    text = str(caught[0].message)
    assert text.startswith("Buffer 'frame' (4096 bytes")
    assert "wrote 4 bytes at offset 5 and did not flush before its end" in text
    assert "flush(5, 4)" in text
    simulated_allocator.set_current_frame_index(100)
    # What comes to the same place has not written anything.
    again = create()
    end(simulated_allocator, again)


def test_the_end_of_bare_memory(simulated_allocator: Allocator) -> None:
    memory = simulated_allocator.allocate_memory(SIZE, 256, flags=RANDOM | MAPPED, name="bare")
    poke(address_of(memory) + SIZE - 1, b"1")
    with pytest.warns(UnflushedWriteWarning, match="Allocation 'bare'.* 1 byte at offset 4095 "):
        memory.free()
    memory.free()


def test_an_end_that_raises_has_ended(
    simulated: SimulatedDevice, simulated_allocator: Allocator
) -> None:
    buffers = simulated_allocator.create_buffers([64, 64], TRANSFER, flags=WRITE | MAPPED)
    for buffer in buffers:
        poke(address_of(buffer), b"lost")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnflushedWriteWarning)
        with pytest.raises(UnflushedWriteWarning):
            simulated_allocator.destroy_many(buffers)
    assert simulated.live_buffers == 0


def test_the_end_of_an_allocator_and_of_a_pool(simulated: SimulatedDevice) -> None:
    flags = WRITE | MAPPED
    for owner in ("allocator", "pool"):
        with Allocator(simulated) as allocator:
            index = allocator.find_memory_type_index_for_buffer_info(SIZE, TRANSFER, flags=flags)
            pool = allocator.create_pool(memory_type_index=index)
            buffer = allocator.create_buffer(SIZE, TRANSFER, flags=flags, pool=pool, name="left")
            poke(address_of(buffer), b"lost")
            with pytest.warns() as caught:
                if owner == "pool":
                    pool.close()
                else:
                    allocator.close()
        kinds = {it.category for it in caught}
        assert kinds == {ResourceWarning, UnflushedWriteWarning}
        lost = [str(it.message) for it in caught if it.category is UnflushedWriteWarning]
        assert len(lost) == 1
        assert "'left'" in lost[0]


def test_what_was_collected(simulated_allocator: Allocator) -> None:
    buffer = simulated_allocator.create_buffer(SIZE, TRANSFER, flags=WRITE | MAPPED, name="left")
    poke(address_of(buffer), b"lost")
    with pytest.warns() as caught:
        del buffer
        gc.collect()
    assert {it.category for it in caught} == {ResourceWarning, UnflushedWriteWarning}


# ---- what is no loss ----


def test_writes_that_lose_nothing(
    simulated: SimulatedDevice, buffer: Buffer, other: Buffer
) -> None:
    view = buffer.mapped
    assert view is not None
    view[:4] = b"once"
    buffer.flush(0, 4)
    view[:4] = b"once"  # the bytes that are there
    simulated.copy_buffer(buffer, other)
    view[:4] = b"else"
    buffer.invalidate(0, 4)
    assert view[:4] == b"once"
    simulated.copy_buffer(buffer, other)
    simulated.fill_buffer(buffer, 7)  # by the device; the host has not looked
    simulated.copy_buffer(buffer, other)
    buffer.write(b"copied", 64)
    assert buffer.read(64, 6) == b"copied"
    simulated.copy_buffer(buffer, other)
    view[8:12] = b"view"
    view.release()  # its end flushes
    simulated.copy_buffer(buffer, other)


@pytest.mark.parametrize("flags", [RANDOM | MAPPED, WRITE | MAPPED])
def test_coherent_memory_needs_no_flush(device: Device, allocator: Allocator, flags: int) -> None:
    """On every kind of device: the required flag is what the documentation leads with."""
    with (
        allocator.create_buffer(SIZE, TRANSFER, flags=flags, required_flags=COHERENT) as buffer,
        allocator.create_buffer(SIZE, TRANSFER, flags=RANDOM) as target,
    ):
        assert VISIBLE | COHERENT in buffer.allocation.memory_properties
        view = buffer.mapped
        assert view is not None
        view[:] = pattern(SIZE)
        device.copy_buffer(buffer, target)
        assert target.read() == pattern(SIZE)
        address = address_of(buffer)
        del view
        poke(address, b"raw")


# ---- MAPPED without a HOST_ACCESS flag ----

AUTO = [MemoryUsage.AUTO, MemoryUsage.AUTO_PREFER_DEVICE, MemoryUsage.AUTO_PREFER_HOST]


@pytest.mark.parametrize("usage", [*AUTO, MemoryUsage.UNKNOWN])
@pytest.mark.parametrize(
    "required", [VISIBLE, COHERENT, VISIBLE | COHERENT], ids=["visible", "coherent", "both"]
)
def test_required_flags_allow_mapped(
    allocator: Allocator, usage: MemoryUsage, required: MemoryPropertyFlags
) -> None:
    with allocator.create_buffer(
        SIZE, TRANSFER, usage=usage, flags=MAPPED, required_flags=required
    ) as buffer:
        assert required | VISIBLE in buffer.allocation.memory_properties
        assert buffer.mapped is not None
        buffer.write(b"seen")
        assert buffer.read(0, 4) == b"seen"
    with allocator.allocate_memory(
        SIZE, 256, usage=usage, flags=MAPPED, required_flags=required
    ) as memory:
        assert memory.mapped is not None


@pytest.mark.parametrize("usage", AUTO)
@pytest.mark.parametrize("required", [0, MemoryPropertyFlags.DEVICE_LOCAL])
def test_mapped_alone_is_still_refused(
    simulated_allocator: Allocator, usage: MemoryUsage, required: int
) -> None:
    with pytest.raises(InvalidArgumentError, match="or required_flags=HOST_VISIBLE"):
        simulated_allocator.create_buffer(
            SIZE, TRANSFER, usage=usage, flags=MAPPED, required_flags=required
        )
