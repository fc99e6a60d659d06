"""`BufferHeap(debug=...)`: margins between slices, written and checked on every device."""

from __future__ import annotations

import ctypes
import dataclasses
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
    InvalidArgumentError,
    SimulatedDevice,
    UseAfterFreeError,
)

KIB = 1024
USAGE = BufferUsage.STORAGE_BUFFER | BufferUsage.TRANSFER_SRC | BufferUsage.TRANSFER_DST
CHECKED = Debug(detect_corruption=True)
# By the host in order, by the host as it likes, and by the device.
WAYS = {"write": WRITE, "random": RANDOM, "device": 0}


def poke(heap: BufferHeap, buffer: vk_mem.Buffer, data: bytes, offset: int) -> None:
    """Writes where nobody may."""
    if heap._flags & (WRITE | RANDOM) and buffer.mapped is not None:
        buffer.write(data, offset)
    else:
        buffer.upload(data, offset)


def peek(heap: BufferHeap, buffer: vk_mem.Buffer, offset: int, size: int) -> bytes:
    """Reads what nobody may write."""
    if heap._flags & (WRITE | RANDOM) and buffer.mapped is not None:
        return bytes(buffer.read(offset, size))
    return bytes(buffer.download("u1", offset=offset, size=size))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("algorithm", ["tlsf", "linear", "buddy"])
def test_what_is_written_beside_a_slice_is_found(device: Device, way: str, algorithm: str) -> None:
    debug = Debug(detect_corruption=True, margin=32)
    with Allocator(device, frames_in_flight=0) as allocator:
        heap = BufferHeap(
            allocator,
            USAGE,
            block_size=64 * KIB,
            algorithm=algorithm,
            debug=debug,
            flags=WAYS[way],
            name="heap",
        )
        slices = [heap.allocate(100 + 13 * i, 4, name=f"piece {i}") for i in range(6)]
        assert heap.check_corruption() == 12
        # As much as fits is the slices' own.
        for it in slices:
            it.upload(b"\xaa" * it.size)
        assert heap.check_corruption() == 12
        allocator.set_current_frame_index(7)
        victim = slices[3]
        before, after = slices[2], slices[4]
        for region, at, data in (
            ("behind", victim.size, b"\x01"),
            ("behind", victim.size + 31, b"\x02"),
            ("behind", victim.size + 3, b"\x00\x03\x04\x05\x00"),
            ("before", -1, b"\x06"),
            ("before", -32, b"\x07\x08"),
        ):
            place = victim.offset + at
            kept = peek(heap, heap.buffers[0], place, len(data))
            changed = bytes(a ^ 0x5A for a in kept)
            poke(heap, heap.buffers[0], changed, place)
            with pytest.raises(CorruptionError) as caught:
                heap.check_corruption()
            error = caught.value
            assert (error.region, error.offset, error.length) == (region, at, len(data))
            assert (error.count, error.others) == (len(data), ())
            assert error.found is not None and error.found.startswith(changed)
            assert error.expected is not None and error.expected.startswith(kept)
            assert error.allocation is victim and error.name == victim.name == "piece 3"
            assert error.record is not None and error.record.size == victim.size
            assert (error.record.frame, error.record.kind) == (0, "BufferSlice")
            assert error.before is not None and error.before.allocation is before
            assert error.after is not None and error.after.allocation is after
            assert error.memory_type_index == heap.buffers[0].allocation.memory_type_index
            where = f"({victim.size} bytes, at {victim.offset} of buffer 'heap', memory type "
            assert f"BufferSlice 'piece 3' {where}" in str(error)
            assert "  allocated in frame 0" in str(error)
            assert "before it: BufferSlice 'piece 2' (" in str(error)
            poke(heap, heap.buffers[0], kept, place)
            assert heap.check_corruption() == 12
        poke(heap, heap.buffers[0], b"\0\0\0\0\0", victim.offset - 5)
        allocated, size = heap.allocated, victim.size
        with pytest.raises(CorruptionError) as caught:
            victim.free()
        assert caught.value.offset in (-5, -4)
        # It is freed nevertheless, and only told once.
        assert heap.allocated == allocated - size and heap.check_corruption() == 10
        victim.free()
        heap.close()


@pytest.mark.parametrize("way", ["check", "free"])
@pytest.mark.parametrize("strict", [False, True])
def test_both_views_of_memory_that_is_not_coherent(way: str, strict: bool) -> None:
    device = SimulatedDevice("non-coherent")
    with Allocator(device, frames_in_flight=0, strict_host_access=strict) as allocator:
        heap = BufferHeap(allocator, USAGE, debug=CHECKED, flags=RANDOM)
        _first, second, third = (heap.allocate(200) for _ in range(3))
        mapping = second.map()
        address = mapping.address
        mapping.close()
        look = heap.check_corruption if way == "check" else second.free
        kept = bytes(heap.buffers[0].read(second.offset + 200, 16))
        # What the host has not flushed is found behind a slice, and not lost inside of it.
        ctypes.memset(address, 7, 208)
        with pytest.raises(CorruptionError) as caught:
            look()
        assert (caught.value.offset, caught.value.count) == (200, 8)
        assert ctypes.string_at(address, 208) == b"\7" * 208
        if way == "check":
            heap.buffers[0].write(kept, second.offset + 200)
            ctypes.memset(address, 9, 200)
            assert heap.check_corruption() == 6
            assert ctypes.string_at(address, 200) == b"\x09" * 200
            second.flush()
            assert bytes(second.read()) == b"\x09" * 200
        # What the device wrote is not visible to the host, and found.
        buffer = heap.buffers[0]
        buffer.flush()
        allocator.transfers.upload(b"\5", buffer, third.offset - 1, way="ring").result()
        with pytest.raises(CorruptionError) as caught:
            heap.check_corruption() if way == "check" else third.free()
        assert (caught.value.offset, caught.value.found[:1]) == (-1, b"\5")
        # Both have been told.
        heap.close()
    assert not device.violations


def test_all_faults_of_a_check(simulated_allocator: Allocator) -> None:
    told: list[CorruptionError] = []
    simulated_allocator.on_corruption(told.append)
    heap = BufferHeap(simulated_allocator, USAGE, debug=CHECKED, flags=RANDOM)
    slices = [heap.allocate(64) for _ in range(4)]
    buffer = heap.buffers[0]
    for it in slices[1:]:
        buffer.write(b"\x00" * 16, it.offset - 16)
    with pytest.raises(CorruptionError) as caught:
        heap.check_corruption()
    first = caught.value
    assert [it.allocation for it in (first, *first.others)] == slices[1:]
    assert told == [first, *first.others]
    told.clear()
    # Freed one after the other, each tells what was not told before.
    for it in slices[1:]:
        buffer.write(b"\x00" * 4, it.offset + 64)
    for it in slices[1:3]:
        with pytest.raises(CorruptionError):
            it.free()
    assert [it.region for it in told] == ["behind", "behind"]
    heap.close()
    assert len(told) == 3 and told[-1].allocation is slices[3]


def test_call_sites_are_told(simulated: SimulatedDevice) -> None:
    with Allocator(simulated, track_call_sites=True) as allocator:
        heap = BufferHeap(allocator, USAGE, debug=CHECKED, flags=RANDOM)

        def make() -> vk_mem.BufferSlice:
            return heap.allocate(64)

        first, second = make(), heap.allocate(64)
        heap.buffers[0].write(b"\x00" * 8, first.offset + 64)
        with pytest.raises(CorruptionError) as caught:
            heap.check_corruption()
        site = caught.value.call_site
        assert site is not None and site.splitlines()[0].endswith(".make")
        assert __file__ in site and "vk_mem/memory" not in site
        assert caught.value.after is not None and "test_call_sites" in str(
            caught.value.after.call_site
        )
        assert ".make, called from " in str(caught.value)
        first.free()  # that was told
        second.free()
        heap.close()


def test_margins_come_from_the_allocator(simulated: SimulatedDevice) -> None:
    debug = Debug(detect_corruption=True, margin=48, quarantine="1M")
    whole = dataclasses.replace(debug, min_granularity=1024)
    with Allocator(simulated, debug=whole) as allocator:
        with BufferHeap(allocator, USAGE, flags=RANDOM) as heap:
            assert heap.debug == debug
            heap.allocate(64).free()
        with BufferHeap(allocator, USAGE, debug=Debug()) as heap:
            assert heap.debug is None
            with pytest.raises(
                FeatureNotPresentError, match="neither margins that are checked nor a quarantine"
            ):
                heap.check_corruption()
        with BufferHeap(allocator, USAGE, debug=Debug(margin=16)) as heap:
            one, two = heap.allocate(64), heap.allocate(64)
            assert abs(one.offset - two.offset) >= 64 + 32
            with pytest.raises(FeatureNotPresentError):
                heap.check_corruption()
            one.free()
            two.free()


@pytest.mark.parametrize(
    ("debug", "text"),
    [
        (
            Debug(min_granularity=64),
            "min_granularity is not for a BufferHeap, whose debug= has fill",
        ),
        (Debug(always_dedicated=True), "always_dedicated is not for a BufferHeap"),
        (Debug(strict_host_access=True), "strict_host_access is not for a BufferHeap"),
    ],
)
def test_what_a_heap_does_not_take(simulated_allocator: Allocator, debug: Debug, text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=text):
        BufferHeap(simulated_allocator, USAGE, debug=debug)


@pytest.mark.parametrize("algorithm", ["tlsf", "linear", "buddy"])
@pytest.mark.parametrize("alignment", [1, 12, 256, 4096])
def test_large_slices_and_alignments(
    simulated_allocator: Allocator, algorithm: str, alignment: int
) -> None:
    heap = BufferHeap(
        simulated_allocator,
        USAGE,
        block_size=16 * KIB,
        algorithm=algorithm,
        debug=Debug(detect_corruption=True, margin=20),
        flags=RANDOM,
    )
    slices = [heap.allocate(size, alignment) for size in (1, 4096, 16 * KIB, 100_000)]
    assert all(it.offset % alignment == 0 for it in slices)
    for it in slices:
        it.write(b"\xff" * it.size)
    assert heap.check_corruption() == 8
    for it in slices:
        it.free()
    assert heap.check_corruption() == 0
    heap.close()


def test_a_slice_that_was_dropped(simulated: SimulatedDevice) -> None:
    with Allocator(simulated, frames_in_flight=0) as allocator:
        heap = BufferHeap(allocator, USAGE, debug=CHECKED, flags=RANDOM)
        keep = heap.allocate(64)
        dropped = heap.allocate(64)
        heap.buffers[0].write(b"\x00" * 4, dropped.offset - 4)
        with pytest.warns(ResourceWarning, match="unclosed BufferSlice"):
            del dropped
            gc.collect()
        allocator.set_current_frame_index(1)
        with pytest.warns(CorruptionWarning, match="of the 16 bytes before it were overwritten"):
            other = heap.allocate(64)
        assert heap.check_corruption() == 4
        keep.free()
        other.free()
        heap.close()


def test_an_exception_on_its_way_comes_first(simulated_allocator: Allocator) -> None:
    heap = BufferHeap(simulated_allocator, USAGE, debug=CHECKED, flags=RANDOM)
    with (
        pytest.warns(CorruptionWarning, match="BufferSlice"),
        pytest.raises(KeyError),
        heap.allocate(64) as piece,
    ):
        heap.buffers[0].write(b"\x00" * 4, piece.offset - 4)
        raise KeyError("first")
    with pytest.raises(CorruptionError), heap.allocate(64) as piece:
        heap.buffers[0].write(b"\x00" * 4, piece.offset - 4)
    heap.close()


def test_contents_and_margins_move_with_their_buffer(simulated: SimulatedDevice) -> None:
    with Allocator(simulated, frames_in_flight=0) as allocator:
        usage = USAGE | BufferUsage.TRANSFER_SRC | BufferUsage.TRANSFER_DST
        holes = [allocator.create_buffer(256 * KIB, usage, movable=True) for _ in range(4)]
        heap = BufferHeap(allocator, usage, block_size=64 * KIB, debug=CHECKED, movable=True)
        pieces = [heap.allocate(1000) for _ in range(8)]
        for it in pieces:
            it.upload(b"\x11" * 1000)
        for it in holes:
            it.destroy()
        moved = allocator.defragment(algorithm="full")
        assert moved.allocations_moved >= 1
        assert heap.check_corruption() == 16
        assert all(bytes(it.download("u1")) == b"\x11" * 1000 for it in pieces)
        for it in pieces:
            it.free()
        heap.close()


@pytest.mark.parametrize("flags", [WRITE, RANDOM, 0])
def test_a_strict_allocator(simulated: SimulatedDevice, flags: Any) -> None:
    with (
        Allocator(simulated, strict_host_access=True) as allocator,
        BufferHeap(allocator, USAGE, debug=CHECKED, flags=flags) as heap,
    ):
        piece = heap.allocate(64)
        assert heap.check_corruption() == 2
        piece.free()


@pytest.mark.parametrize("vk_result", [-1, -2])
@pytest.mark.parametrize("way", ["random", "device"])
def test_each_call_fails_once(vk_result: int, way: str, make_simulated: Any) -> None:
    """What is freed is free, whatever fails; margins that were not written are not checked."""
    failures = 0
    for n in range(12):
        device = make_simulated("discrete-8gib")
        with Allocator(device) as allocator, warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            heap = BufferHeap(allocator, USAGE, debug=CHECKED, flags=WAYS[way])
            one, two = heap.allocate(64), heap.allocate(64)
            device.fail_call(n, vk_result)
            one.free()
            two.free()
            make_and_free(heap)
            with pytest.raises(UseAfterFreeError):
                one.read()
            texts = [str(it.message) for it in told]
            assert all("slice" in it and "the driver failed: vk" in it for it in texts), texts
            assert len(texts) <= 1 and heap.allocated == 0
            if texts:
                with heap.allocate(64):
                    assert heap.check_corruption() == 2 and heap.allocated == 64
            assert heap.check_corruption() == 0
            heap.close()
            failures += len(texts)
    # The host needs no call of the driver for margins in coherent memory that is mapped.
    assert (failures > 0) == (way == "device")


def make_and_free(heap: BufferHeap) -> None:
    heap.allocate(32).free()


def test_a_lost_device_is_not_waited_for(make_simulated: Any) -> None:
    for n in range(6):
        device = make_simulated("discrete-8gib")
        with Allocator(device) as allocator:
            heap = BufferHeap(allocator, USAGE, debug=CHECKED)
            pieces = [heap.allocate(64) for _ in range(3)]
            device.fail_call(n, -4)
            # Nothing can be read any more: what is freed is free without a check.
            for it in pieces[:2]:
                it.free()
            assert heap.allocated == 64
            heap.close()


def test_threads(simulated: SimulatedDevice) -> None:
    with Allocator(simulated) as allocator, warnings.catch_warnings():
        warnings.simplefilter("error")
        heap = BufferHeap(allocator, USAGE, block_size=64 * KIB, debug=CHECKED, flags=RANDOM)
        failed: list[BaseException] = []

        def work(seed: int) -> None:
            try:
                for turn in range(30):
                    pieces = [heap.allocate(16 + (seed * 7 + turn * 3 + i) % 300) for i in range(5)]
                    for it in pieces:
                        it.write(b"\x77" * it.size)
                    heap.check_corruption()
                    for it in pieces:
                        it.free()
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for it in threads:
            it.start()
        for it in threads:
            it.join()
        assert not failed and heap.check_corruption() == 0
        heap.close()


def test_nothing_is_written_without_margins(simulated: SimulatedDevice) -> None:
    with (
        Allocator(simulated) as allocator,
        BufferHeap(allocator, USAGE) as heap,
        heap.allocate(64) as piece,
    ):
        assert piece.offset == 0
        assert heap._debugger is None and heap.debug is None
