"""`BufferHeap`: suballocating buffers, on every device."""

import copy
import gc
import pickle
import threading

import numpy as np
import pytest

from vk_mem import (
    AllocationCreateFlags,
    Allocator,
    BufferHeap,
    BufferUsage,
    InvalidArgumentError,
    MemoryMapError,
    OutOfDeviceMemoryError,
    SimulatedDevice,
    UseAfterFreeError,
)

WRITE = AllocationCreateFlags.HOST_ACCESS_SEQUENTIAL_WRITE
UNIFORM = BufferUsage.UNIFORM_BUFFER
KIB = 1024


@pytest.mark.parametrize("algorithm", ["tlsf", "linear", "buddy"])
def test_slices_share_buffers_and_keep_their_contents(device, algorithm):
    with (
        Allocator(device) as allocator,
        BufferHeap(
            allocator, UNIFORM, block_size=64 * KIB, algorithm=algorithm, flags=WRITE
        ) as heap,
    ):
        slices = [heap.allocate(700 + i) for i in range(300)]
        for i, piece in enumerate(slices):
            piece.write(np.full(700 + i, i % 251, np.uint8))
        assert 3 <= len(heap.buffers) <= 12
        assert heap.allocated == sum(700 + i for i in range(300))
        places = set()
        for i, piece in enumerate(slices):
            assert piece.read() == bytes([i % 251]) * (700 + i)
            assert piece.offset % device.properties.min_uniform_buffer_offset_alignment == 0
            places.add((piece.handle, piece.offset))
        assert len(places) == 300
        for piece in slices:
            piece.free()
        assert len(heap.buffers) <= 1 and heap.allocated == 0
    assert heap.closed


def test_a_mapped_slice_is_flushed_by_hand(device):
    with Allocator(device) as allocator, BufferHeap(allocator, UNIFORM, flags=WRITE) as heap:
        one, two = heap.allocate(256), heap.allocate(256)
        np.frombuffer(one.mapped, np.uint32)[:] = 7
        one.flush()
        assert one.read() == (7).to_bytes(4, "little") * 64
        assert two.mapped is two.mapped and len(two.mapped) == 256
        array = np.frombuffer(one.mapped, np.uint8)
        with pytest.raises(BufferError):
            one.free()
        with pytest.raises(BufferError):
            heap.close()
        del array
        one.free()
        two.free()


def test_memory_of_the_device_has_no_view():
    with (
        Allocator(SimulatedDevice("discrete-8gib")) as allocator,
        BufferHeap(allocator, BufferUsage.VERTEX_BUFFER) as heap,
        heap.allocate(100) as piece,
    ):
        assert piece.mapped is None
        with pytest.raises(MemoryMapError):
            piece.write(b"x")


def test_a_large_slice_gets_a_buffer_of_its_own():
    with (
        Allocator(SimulatedDevice("nvidia-h200")) as allocator,
        BufferHeap(allocator, UNIFORM, block_size=64 * KIB) as heap,
    ):
        small, large = heap.allocate(100), heap.allocate(1 << 20)
        assert large.buffer.size == 1 << 20 and small.handle != large.handle
        large.free()
        assert [buffer.size for buffer in heap.buffers] == [64 * KIB]
        small.free()
    with (
        Allocator(SimulatedDevice("nvidia-h200")) as allocator,
        BufferHeap(allocator, UNIFORM, block_size=64 * KIB, algorithm="buddy") as heap,
        heap.allocate(100 * KIB) as large,
    ):
        assert large.size == 100 * KIB


def test_wrong_use_gets_one_clear_line():
    with Allocator(SimulatedDevice("nvidia-h200")) as allocator:
        with pytest.raises(InvalidArgumentError, match="must be positive"):
            BufferHeap(allocator, UNIFORM, block_size=0)
        with pytest.raises(InvalidArgumentError, match="no algorithm"):
            BufferHeap(allocator, UNIFORM, algorithm="best")
        with pytest.raises(
            TypeError, match=r"BufferHeap\(\) got an unexpected keyword argument 'foo'"
        ):
            BufferHeap(allocator, UNIFORM, foo=1)
        heap = BufferHeap(allocator, UNIFORM, flags=WRITE)
        for size, alignment in ((0, 1), (-1, 1), (5, -8)):
            with pytest.raises(InvalidArgumentError):
                heap.allocate(size, alignment)
        assert heap.buffers == ()
        with pytest.raises(OutOfDeviceMemoryError):
            heap.allocate(1 << 60)
        piece = heap.allocate(100)
        for call in (
            lambda: piece.write(b"x" * 101),
            lambda: piece.write(b"x", 100),
            lambda: piece.read(0, 101),
            lambda: piece.read(101),
        ):
            with pytest.raises(InvalidArgumentError, match="outside of a slice of 100 bytes"):
                call()
        piece.free()
        piece.free()
        for call in (
            lambda: piece.offset,
            lambda: piece.size,
            lambda: piece.handle,
            lambda: piece.buffer,
            lambda: piece.mapped,
            lambda: piece.device_address,
            lambda: piece.write(b"x"),
            piece.read,
            piece.flush,
            piece.__enter__,
        ):
            with pytest.raises(UseAfterFreeError, match="was freed"):
                call()
        heap.close()
        heap.close()
        for call in (lambda: heap.allocate(1), heap.__enter__):
            with pytest.raises(UseAfterFreeError, match="heap is closed"):
                call()


def test_closing_the_allocator_ends_heap_and_slices():
    allocator = Allocator(SimulatedDevice("nvidia-h200"))
    heap = BufferHeap(allocator, UNIFORM)
    piece = heap.allocate(100)
    with pytest.warns(ResourceWarning, match="1 live object "):
        allocator.close()
    assert heap.closed
    with pytest.raises(UseAfterFreeError):
        _ = piece.handle
    heap.close()
    piece.free()


def test_a_collected_slice_is_released_after_the_frames_in_flight():
    with (
        Allocator(SimulatedDevice("nvidia-h200"), frames_in_flight=2) as allocator,
        BufferHeap(allocator, UNIFORM) as heap,
    ):
        piece = heap.allocate(100)
        with pytest.warns(ResourceWarning, match=r"unclosed BufferSlice \(100 bytes\)"):
            del piece
            gc.collect()
        heap.allocate(50).free()
        assert heap.allocated == 100
        allocator.set_current_frame_index(3)
        heap.allocate(50).free()
        assert heap.allocated == 0


def test_threads_share_a_heap(device):
    failures = []

    def work(mark):
        for i in range(60):
            with heap.allocate(64 + i) as piece:
                piece.write(bytes([mark]) * (64 + i))
                if piece.read() != bytes([mark]) * (64 + i):
                    failures.append(mark)

    with (
        Allocator(device) as allocator,
        BufferHeap(allocator, UNIFORM, block_size=4 * KIB, flags=WRITE) as heap,
    ):
        threads = [threading.Thread(target=work, args=(mark,)) for mark in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures and heap.allocated == 0


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_nothing_is_copied(copied):
    with Allocator(SimulatedDevice()) as allocator, BufferHeap(allocator, UNIFORM) as heap:
        with heap.allocate(100) as piece, pytest.raises(TypeError, match="cannot pickle or copy"):
            copied(piece)
        with pytest.raises(TypeError, match=r"cannot pickle or copy 'vk_mem.BufferHeap'"):
            copied(heap)


@pytest.mark.parametrize("name", ["on_out_of_memory", "on_pressure"])
def test_a_heap_that_is_closed_while_it_allocates_loses_nothing(name):
    device = SimulatedDevice("discrete-8gib")
    with Allocator(device) as allocator:
        heap = BufferHeap(allocator, UNIFORM)

        def close(*_):
            heap.close()
            return True

        if name == "on_pressure":
            allocator.on_pressure(close, threshold=0.0)
        else:
            allocator.on_out_of_memory(close)
            device.fail_next("vkCreateBuffer")
        with pytest.raises(UseAfterFreeError, match="heap is closed"):
            heap.allocate(100)
        assert heap.closed and device.live_buffers == 0


@pytest.mark.parametrize("size", [1000, 10_000])
def test_an_empty_buffer_that_is_mapped_stays_until_it_can_go(size):
    device = SimulatedDevice("discrete-8gib")
    with (
        Allocator(device) as allocator,
        BufferHeap(allocator, UNIFORM, block_size=4 * KIB, flags=WRITE) as heap,
    ):
        other = heap.allocate(4 * KIB)
        piece = heap.allocate(size)
        buffer = piece.buffer
        with buffer.map():
            piece.free()
            other.free()
            assert buffer in heap.buffers and heap.allocated == 0
            with pytest.raises(BufferError):
                heap.close()
            # It serves as before.
            with heap.allocate(4 * KIB), heap.allocate(size) as again:
                assert again.buffer is buffer
        heap.allocate(4 * KIB).free()
        assert len(heap.buffers) == 1 and device.live_buffers == 1
        assert heap.buffers[0].size == 4 * KIB


def test_a_collected_slice_of_a_mapped_buffer_is_not_lost():
    with (
        Allocator(SimulatedDevice("discrete-8gib"), frames_in_flight=1) as allocator,
        BufferHeap(allocator, UNIFORM, block_size=4 * KIB, flags=WRITE) as heap,
    ):
        piece = heap.allocate(10_000)
        mapping = piece.buffer.map()
        with pytest.warns(ResourceWarning):
            del piece
            gc.collect()
        allocator.set_current_frame_index(2)
        heap.allocate(100).free()
        assert heap.allocated == 0 and [buffer.size for buffer in heap.buffers] == [10_000]
        mapping.close()
        heap.allocate(100).free()
        assert heap.buffers == ()


def test_the_index_of_frames_wraps_around_for_slices_as_well():
    with (
        Allocator(SimulatedDevice(), frames_in_flight=2) as allocator,
        BufferHeap(allocator, UNIFORM) as heap,
    ):
        allocator.set_current_frame_index((1 << 32) - 1)
        piece = heap.allocate(100)
        with pytest.warns(ResourceWarning):
            del piece
            gc.collect()
        for frame, left in ((0, 100), (1, 100), (2, 0)):
            allocator.set_current_frame_index(frame)
            heap.allocate(50).free()
            assert heap.allocated == left


def test_a_buffer_that_the_caller_destroys_takes_its_slices_along():
    device = SimulatedDevice("discrete-8gib")
    with (
        Allocator(device) as allocator,
        BufferHeap(allocator, UNIFORM, block_size=4 * KIB, flags=WRITE) as heap,
    ):
        gone = [heap.allocate(100) for _ in range(3)]
        heap.buffers[0].destroy()
        assert heap.buffers == ()
        for use in (lambda: gone[0].offset, lambda: gone[1].write(b"x"), lambda: gone[2].mapped):
            with pytest.raises(UseAfterFreeError, match="its buffer was destroyed"):
                use()
        kept = heap.allocate(100)
        gone[0].free()
        kept.write(b"kept")
        assert kept.read(0, 4) == b"kept" and heap.allocated == 100
        kept.free()
        gone.clear()
        gc.collect()
    assert device.live_buffers == 0


@pytest.mark.parametrize("algorithm", ["tlsf", "linear", "buddy"])
def test_many_full_buffers_are_not_tried_one_by_one(algorithm):
    """Counted in calls of the driver; how long it takes is a matter for benchmarks."""
    with (
        Allocator(SimulatedDevice("nvidia-h200")) as allocator,
        BufferHeap(allocator, UNIFORM, block_size=KIB, algorithm=algorithm) as heap,
    ):
        pieces = [heap.allocate(KIB) for _ in range(500)]
        assert len(heap.buffers) == 500
        pieces[123].free()
        small = [heap.allocate(256) for _ in range(4)]
        assert len({piece.handle for piece in small}) == 1 and len(heap.buffers) == 500
        heap._ranges.validate()
        for piece in pieces + small:
            piece.free()
        assert len(heap.buffers) == 1 and heap.allocated == 0


def test_alignments_above_a_block_are_served():
    for algorithm in ("tlsf", "linear", "buddy"):
        with (
            Allocator(SimulatedDevice("nvidia-h200")) as allocator,
            BufferHeap(allocator, UNIFORM, block_size=KIB, algorithm=algorithm) as heap,
            heap.allocate(100, 1 << 14) as piece,
        ):
            assert piece.offset == 0


@pytest.mark.parametrize("algorithm", ["tlsf", "linear", "buddy"])
def test_slices_are_aligned_to_any_stride(algorithm: str) -> None:
    with (
        Allocator(SimulatedDevice("discrete-8gib")) as allocator,
        BufferHeap(
            allocator, BufferUsage.VERTEX_BUFFER, algorithm=algorithm, block_size=1 << 16
        ) as heap,
    ):
        pieces = [
            heap.allocate(size, stride) for size in (120, 7, 70_000) for stride in (12, 36, 20, 0)
        ]
        for piece, stride in zip(pieces, [12, 36, 20, 1] * 3, strict=True):
            assert piece.offset % stride == 0
            assert piece.offset % heap.alignment == 0
        for piece in pieces:
            piece.free()


def test_what_is_no_allocator_is_refused():
    with Allocator(SimulatedDevice()) as allocator:
        heap = BufferHeap(allocator, UNIFORM)
        for wrong in (None, allocator.device, heap, "allocator"):
            with pytest.raises(TypeError, match="allocator must be an Allocator, not a"):
                BufferHeap(wrong, UNIFORM)
        # Once it was its own allocator, and asked itself for ever whether it is closed.
        with pytest.raises(TypeError, match="not a BufferHeap"):
            heap.__init__(heap, UNIFORM)
        heap.allocate(64).free()
        heap.close()
