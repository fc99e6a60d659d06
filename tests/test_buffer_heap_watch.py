"""`BufferHeap(debug=...)`: fills, quarantine, checks of the allocator, callbacks without locks."""

from __future__ import annotations

import ctypes
import gc
import threading
import warnings
from typing import Any

import pytest
from support import RANDOM, WRITE

import vk_mem
from vk_mem import (
    Allocator,
    BufferHeap,
    BufferUsage,
    CorruptionError,
    CorruptionWarning,
    Debug,
    Device,
    FeatureNotPresentError,
    MemoryPropertyFlags,
    OutOfDeviceMemoryError,
    SimulatedDevice,
)

KIB = 1024
USAGE = BufferUsage.STORAGE_BUFFER | BufferUsage.TRANSFER_SRC | BufferUsage.TRANSFER_DST
CHECKED = Debug(detect_corruption=True)
WAYS = {"write": WRITE, "random": RANDOM, "device": 0}


def write(heap: BufferHeap, offset: int, data: bytes) -> None:
    """Writes into the first buffer, wherever it is."""
    buffer = heap.buffers[0]
    if buffer.mapped is not None:
        buffer.write(data, offset)
    else:
        buffer.upload(data, offset)


def read(heap: BufferHeap, offset: int, size: int) -> bytes:
    buffer = heap.buffers[0]
    if buffer.mapped is not None:
        return bytes(buffer.read(offset, size))
    return bytes(buffer.download("u1", offset=offset, size=size))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("algorithm", ["tlsf", "linear", "buddy"])
def test_fills_and_quarantine(device: Device, way: str, algorithm: str) -> None:
    debug = Debug(fill="nan", fill_on_free=0xAB, quarantine="2 frames", margin=20)
    with Allocator(device) as allocator:
        heap = BufferHeap(
            allocator,
            USAGE,
            block_size=64 * KIB,
            algorithm=algorithm,
            debug=debug,
            flags=WAYS[way],
        )
        pieces = [heap.allocate(size, name=f"piece {size}") for size in (1, 333, 4096)]
        for it in pieces:
            assert read(heap, it.offset, it.size) == b"\xff" * it.size
            write(heap, it.offset, b"\x01" * it.size)
        one, two, three = pieces
        assert (heap.allocated, heap.quarantined_bytes) == (4430, 0)
        place = two.offset
        allocator.set_current_frame_index(5)
        two.free()
        assert (heap.allocated, heap.quarantined_bytes) == (4097, 333)
        assert read(heap, place, 333) == b"\xab" * 333
        with heap.allocate(333) as other:
            assert other.offset != place
        assert heap.check_corruption() == 2
        # A write after the free is found, by the heap and by the allocator.
        write(heap, place + 7, b"\x05\x06")
        for check in (heap.check_corruption, allocator.check_corruption):
            with pytest.raises(CorruptionError) as caught:
                check()
            error = caught.value
            assert (error.region, error.offset, error.count) == ("freed", 7, 2)
            assert (error.found, error.expected) == (b"\x05\x06", b"\xab\xab")
            assert error.record is not None and error.name == "piece 333"
            assert (error.record.frame, error.record.freed_frame) == (0, 5)
            assert error.before is not None and error.after is not None
            assert {error.before.name, error.after.name} <= {"piece 1", "piece 4096"}
            assert "2 bytes were written after it was freed" in str(error)
        allocator.set_current_frame_index(6)
        heap.allocate(8).free()
        assert heap.quarantined_bytes == 333 + 333 + 8
        # It was told, so that leaving does not tell it again.
        allocator.set_current_frame_index(7)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with heap.allocate(333):
                assert heap.quarantined_bytes == 8
        one.free()
        three.free()
        heap.close()


def test_a_quarantine_of_bytes(simulated: SimulatedDevice) -> None:
    with Allocator(simulated) as allocator:
        heap = BufferHeap(allocator, USAGE, block_size=4096, debug=Debug(quarantine=1000))
        pieces = [heap.allocate(300) for _ in range(5)]
        for count, it in enumerate(pieces, 1):
            it.free()
            assert (
                heap.quarantined_bytes == 300 * min(count, 3)
                and heap.allocated == 1500 - 300 * count
            )
        assert heap.check_corruption() == 3
        heap.close()


def test_what_leaves_is_checked(simulated: SimulatedDevice) -> None:
    with Allocator(simulated) as allocator:
        debug = Debug(quarantine=100, detect_corruption=True)
        heap = BufferHeap(allocator, USAGE, debug=debug, flags=RANDOM)
        first, second = heap.allocate(64, name="first"), heap.allocate(64, name="second")
        place = first.offset
        first.free()
        heap.buffers[0].write(b"\0", place + 63)
        with pytest.raises(CorruptionError) as caught:
            second.free()
        assert (caught.value.name, caught.value.region, caught.value.offset) == (
            "first",
            "freed",
            63,
        )
        assert heap.quarantined_bytes == 64
        heap.close()


def test_a_full_heap_ends_its_quarantine(simulated: SimulatedDevice) -> None:
    with (
        Allocator(simulated) as allocator,
        allocator.create_pool(memory_type_index=0, block_size=64 * KIB, max_block_count=1) as pool,
    ):
        debug = Debug(quarantine="1M")
        heap = BufferHeap(allocator, USAGE, block_size=32 * KIB, pool=pool, debug=debug)
        pieces = [heap.allocate(30 * KIB) for _ in range(2)]
        pieces.pop().free()
        assert heap.quarantined_bytes == 30 * KIB
        pieces.append(heap.allocate(30 * KIB))
        assert heap.quarantined_bytes == 0
        with pytest.raises(OutOfDeviceMemoryError):
            heap.allocate(30 * KIB)
        for it in pieces:
            it.free()
        heap.close()


@pytest.mark.parametrize("check", ["free", "frame", "call"])
@pytest.mark.parametrize("of_heap", [False, True])
def test_modes_of_checks(simulated: SimulatedDevice, check: Any, of_heap: bool) -> None:
    debug = Debug(detect_corruption=True, check=check)
    with Allocator(simulated, debug=None if of_heap else debug) as allocator:
        heap = BufferHeap(
            allocator,
            USAGE,
            flags=RANDOM,
            required_flags=MemoryPropertyFlags.HOST_COHERENT,
            debug=debug if of_heap else None,
        )
        assert heap.debug == debug
        piece = heap.allocate(100, name="piece")
        address = piece.map()
        at = address.address
        address.close()
        ctypes.memset(at + 100, 1, 3)

        def begin_frame() -> None:
            allocator.set_current_frame_index(1)

        def ask() -> None:
            allocator.calculate_statistics()

        # Each fault is told once.
        sees: Any = {"free": None, "frame": begin_frame, "call": ask}[check]
        for call in (ask, begin_frame):
            if call is sees:
                with pytest.raises(CorruptionError) as caught:
                    call()
                assert (caught.value.name, caught.value.offset) == ("piece", 100)
            else:
                call()
        if sees is not None:
            piece.free()  # it was told
        else:
            with pytest.raises(CorruptionError):
                piece.free()
        heap.close()


def test_checks_of_the_allocator(simulated: SimulatedDevice) -> None:
    with Allocator(simulated) as allocator:
        with pytest.raises(FeatureNotPresentError):
            allocator.check_corruption()
        heaps = [BufferHeap(allocator, USAGE, debug=CHECKED, flags=flags) for flags in (RANDOM, 0)]
        pieces = [heap.allocate(64) for heap in heaps for _ in range(3)]
        assert allocator.check_corruption() == 12
        assert [heap.check_corruption() for heap in heaps] == [6, 6]
        types = [1 << heap.buffers[0].allocation.memory_type_index for heap in heaps]
        assert types[0] != types[1]
        assert [allocator.check_corruption(it) for it in types] == [6, 6]
        with pytest.raises(FeatureNotPresentError, match="memory_type_bits is 0x0, and the device"):
            allocator.check_corruption(0)
        write(heaps[0], pieces[1].offset + 64, b"\0")
        write(heaps[1], pieces[4].offset - 1, b"\0")
        with pytest.raises(CorruptionError) as caught:
            allocator.check_corruption()
        found = [caught.value, *caught.value.others]
        assert [it.allocation for it in found] == [pieces[1], pieces[4]]
        with pytest.raises(CorruptionError) as caught:
            allocator.check_corruption(types[1])
        assert caught.value.allocation is pieces[4] and not caught.value.others
        for it in pieces:
            it.free()
        for heap in heaps:
            heap.close()
        with pytest.raises(FeatureNotPresentError):
            allocator.check_corruption()


def test_a_pool_with_slices(simulated: SimulatedDevice) -> None:
    with Allocator(simulated) as allocator:
        pool = allocator.create_pool(memory_type_index=0, block_size=1 << 20, name="meshes")
        heap = BufferHeap(allocator, USAGE, block_size=4096, pool=pool, debug=CHECKED)
        other = BufferHeap(allocator, USAGE, block_size=4096, debug=CHECKED)
        piece, elsewhere = heap.allocate(64), other.allocate(64)
        assert pool.check_corruption() == 2 and allocator.check_corruption() == 4
        piece.free()
        elsewhere.free()
        heap.close()
        other.close()
        pool.close()


@pytest.mark.parametrize("way", ["allocate", "free", "trim", "close"])
def test_callbacks_may_use_the_heap_in_other_threads(way: str, make_simulated: Any) -> None:
    """The lock of the heap is free while a callback runs, whatever it is told."""
    done: list[str | None] = []
    debug = Debug(detect_corruption=True)
    with Allocator(make_simulated("discrete-8gib"), debug=debug, frames_in_flight=0) as allocator:
        heap = BufferHeap(allocator, USAGE, block_size=4096, flags=RANDOM, name="heap")

        def use() -> None:
            if not heap.closed:
                heap.allocate(16).free()

        @allocator.on_corruption
        def told(error: CorruptionError) -> None:
            thread = threading.Thread(target=use)
            thread.start()
            thread.join(20)
            assert not thread.is_alive()
            done.append(error.record.kind if error.record else None)

        pieces = [heap.allocate(3000), heap.allocate(3000)]
        if way == "trim":
            # The margins of the buffers of the heap, one of which is destroyed when both are empty.
            for buffer in heap.buffers:
                mapping = buffer.map()
                address = mapping.address
                mapping.close()
                ctypes.memset(address + buffer.size, 0, 4)
        else:
            heap.buffers[0].write(b"\0" * 4, pieces[0].offset + 3000)
        if way == "allocate":
            with pytest.warns(ResourceWarning):
                del pieces[0]
                gc.collect()
            allocator.set_current_frame_index(5)
            heap.allocate(100).free()
        elif way == "close":
            heap.close()
        else:
            raised = 0
            for it in pieces:
                try:
                    it.free()
                except CorruptionError:
                    raised += 1
            assert raised == 1
        assert done == ["Buffer" if way == "trim" else "BufferSlice"]
        if way == "allocate":
            pieces[0].free()
        if way == "trim":
            with pytest.raises(CorruptionError, match="Buffer 'heap'"):
                heap.close()
        heap.close()


def test_a_device_without_a_queue(make_simulated: Any) -> None:
    """What cannot be mapped is neither filled nor checked there, which is said once."""
    device = make_simulated("discrete-8gib", queue_flags=0)
    with Allocator(device) as allocator, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        heap = BufferHeap(allocator, USAGE, debug=Debug(detect_corruption=True, fill="zero"))
        pieces = [heap.allocate(64) for _ in range(3)]
        texts = [str(it.message) for it in told if it.category is CorruptionWarning]
        assert len(texts) == 2 and all("slices of a BufferHeap whose" in it for it in texts)
        with pytest.raises(FeatureNotPresentError, match="without a queue"):
            heap.check_corruption()
        for it in pieces:
            it.free()
        heap.close()
        mapped = BufferHeap(allocator, USAGE, debug=CHECKED, flags=RANDOM)
        with mapped.allocate(64):
            assert mapped.check_corruption() == 2
        mapped.close()
    assert not device.violations


def test_names_of_slices(simulated: SimulatedDevice) -> None:
    with Allocator(simulated) as allocator, BufferHeap(allocator, USAGE) as heap:
        with heap.allocate(16, name="it") as named, heap.allocate(16) as plain:
            assert (named.name, plain.name) == ("it", None)
        wrong: Any = 3
        with pytest.raises(TypeError, match=r"^name must be a str, not int$"):
            heap.allocate(16, name=wrong)
        assert heap.allocated == 0 and vk_mem.BufferSlice is type(named)
