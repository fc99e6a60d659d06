"""Host-visible memory as NumPy arrays, buffers of Python and tensors of DLPack."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import DONT_BIND, MAPPED, RANDOM, TRANSFER, WRITE, Check, pattern, run_python

from vk_mem import (
    Allocator,
    Buffer,
    BufferHeap,
    InvalidArgumentError,
    Mapping,
    MemoryMapError,
    MemoryPropertyFlags,
    SimulatedDevice,
    UnflushedWriteWarning,
    UseAfterFreeError,
)


@pytest.fixture
def buffer(simulated_allocator: Allocator) -> Any:
    with simulated_allocator.create_buffer(256, TRANSFER, flags=RANDOM, name="data") as buffer:
        buffer.write(pattern(256))
        yield buffer


def invisible(allocator: Allocator) -> Buffer | None:
    """A buffer in memory that the host does not see, if the device has any."""
    types = allocator.device.memory_properties.memory_types
    visible = MemoryPropertyFlags.HOST_VISIBLE | MemoryPropertyFlags.LAZILY_ALLOCATED
    bits = sum(1 << at for at, it in enumerate(types) if not it.property_flags & visible)
    return allocator.create_buffer(64, TRANSFER, memory_type_bits=bits) if bits else None


def test_an_array_is_the_memory(allocator: Allocator, check: Check) -> None:
    with allocator.create_buffer(4096, TRANSFER, flags=RANDOM) as buffer:
        array = buffer.numpy(np.float32, (32, -1))
        assert (array.shape, array.dtype) == ((32, 32), np.float32)
        assert array.flags.writeable
        assert not array.flags.owndata
        array[:] = np.arange(1024).reshape(32, 32)
        del array
        # Its end has flushed it.
        wanted = np.arange(1024, dtype=np.float32)
        assert check.read(buffer) == wanted.tobytes()
        check.write(buffer, pattern(4096))
        assert buffer.numpy().tobytes() == pattern(4096)
        assert np.array_equal(np.asarray(buffer), np.frombuffer(pattern(4096), np.uint8))
        assert bytes(memoryview(buffer)) == bytes(buffer) == pattern(4096)
        assert np.from_dlpack(buffer).tobytes() == pattern(4096)


def test_shapes_and_dtypes(buffer: Buffer) -> None:
    assert (buffer.size, buffer.nbytes, len(buffer)) == (256, 256, 256)
    data = np.frombuffer(pattern(256), np.uint8)
    assert buffer.numpy().shape == (256,)
    assert buffer.numpy("<u8").shape == (32,)
    assert buffer.numpy("<u2", 8, offset=16).tolist() == data[16:32].view("<u2").tolist()
    assert buffer.numpy("f4", (4, -1)).shape == (4, 16)
    assert buffer.numpy("u1", (0, 7)).shape == (0, 7)
    assert buffer.numpy("i4", ()).shape == ()
    # What does not lie at a multiple of its size.
    assert buffer.numpy("<u4", 1, offset=3).tolist() == data[3:7].view("<u4").tolist()
    pair = np.dtype([("place", "<f4", 3), ("kind", "<u4")])
    assert buffer.numpy(pair)["kind"].tolist() == data.view(pair)["kind"].tolist()
    assert buffer.numpy("datetime64[s]").shape == (32,)


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "text"),
    [
        (("f4", 65), {}, InvalidArgumentError, "260 bytes at offset 0: outside of 256 bytes"),
        (("f4", 64), {"offset": 4}, InvalidArgumentError, "256 bytes at offset 4: outside"),
        (("V3",), {}, InvalidArgumentError, "no whole number of elements of 3 bytes"),
        (("u1",), {"offset": 257}, InvalidArgumentError, "offset 257: outside"),
        (("u1", (-1, -1)), {}, InvalidArgumentError, "at most one side is -1"),
        (("u1", -2), {}, InvalidArgumentError, "at most one side is -1"),
        (("u1", (3, -1)), {}, InvalidArgumentError, "no whole number of 3 bytes"),
        (("u1", (0, -1)), {}, InvalidArgumentError, "no whole number"),
        (("V0",), {}, InvalidArgumentError, "has no size"),
        (("O",), {}, TypeError, "references to objects"),
        (([("it", "O")],), {}, TypeError, "references to objects"),
        (("nothing",), {}, TypeError, "nothing"),
        (("u1", 2.5), {}, TypeError, "float"),
        (("u1",), {"offset": -1}, InvalidArgumentError, "must not be negative"),
    ],
)
def test_wrong_arrays(
    buffer: Buffer, arguments: Any, keywords: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        buffer.numpy(*arguments, **keywords)
    if "offset" not in keywords:
        dtype, shape = (*arguments, None)[:2]
        with pytest.raises(error, match=text):
            buffer.read(dtype=dtype, shape=shape)
    # Nothing is left open.
    buffer.destroy()


def test_arrays_pin(buffer: Buffer) -> None:
    part = buffer.numpy("u4")[3:5].reshape(2, 1).T
    base: Any = part
    while isinstance(base, np.ndarray):
        base = base.base
    with pytest.raises(BufferError, match="cannot destroy Buffer 'data'"):
        buffer.destroy()
    # Not even what is below can be ended under it.
    assert isinstance(base, memoryview)
    with pytest.raises(BufferError, match="cannot close the mapping"):
        base.obj.close()
    del base, part
    gc.collect()
    buffer.destroy()
    for use in (buffer.numpy, lambda: np.asarray(buffer), lambda: memoryview(buffer)):
        with pytest.raises(UseAfterFreeError, match="'data' was destroyed"):
            use()
    for use in (buffer.__dlpack__, buffer.__dlpack_device__, lambda: len(buffer)):
        with pytest.raises(UseAfterFreeError):
            use()


def test_an_array_that_reads_flushes_nothing(buffer: Buffer, simulated: SimulatedDevice) -> None:
    flushes = simulated.call_count("vkFlushMappedMemoryRanges")
    array = buffer.numpy("u4", readonly=True)
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    with pytest.raises(ValueError):
        array.flags.writeable = True
    assert array.tobytes() == pattern(256)
    del array
    # Who only reads gets a view that only reads.
    assert hashlib.sha256(buffer).digest() == hashlib.sha256(pattern(256)).digest()
    assert b"".join([buffer, buffer]) == pattern(256) * 2
    assert np.array(buffer, copy=True).tobytes() == pattern(256)
    assert np.asarray(buffer, np.float32)[7] == pattern(256)[7]
    copy = np.from_dlpack(buffer, copy=True)
    if copy.flags.writeable:  # some versions of NumPy make it read-only
        copy[0] = 77
    assert buffer.read() == pattern(256)
    view = memoryview(buffer)
    assert not view.readonly
    before = simulated.call_count("vkFlushMappedMemoryRanges")
    view.release()
    assert simulated.call_count("vkFlushMappedMemoryRanges") == before + 1
    assert flushes <= before


def test_only_the_part_is_flushed(simulated_allocator: Allocator) -> None:
    check, atom = Check(simulated_allocator), 256
    assert simulated_allocator.device.properties.non_coherent_atom_size == atom
    with simulated_allocator.create_buffer(4 * atom, TRANSFER, flags=RANDOM) as buffer:
        buffer.write(bytes(4 * atom))
        array = buffer.numpy("u1", atom, offset=atom)
        array[:] = 1
        # The device writes beside it meanwhile.
        check.write(buffer[2 * atom :], pattern(2 * atom))
        del array
        assert check.read(buffer) == bytes(atom) + b"\x01" * atom + pattern(2 * atom)


def test_unflushed_writes_are_found(
    simulated: SimulatedDevice, simulated_allocator: Allocator
) -> None:
    device = simulated
    with (
        simulated_allocator.create_buffer(256, TRANSFER, flags=RANDOM) as source,
        simulated_allocator.create_buffer(256, TRANSFER) as target,
    ):
        array = source.numpy()
        array[8:12] = 7
        with pytest.warns(UnflushedWriteWarning, match="4 bytes at offset 8"):
            device.copy_buffer(source, target)
        (found,) = device.take_violations()
        assert (found.kind, found.resource, found.length) == ("missing_flush", source.handle, 4)
        source.flush(8, 4)
        device.copy_buffer(source, target)
        del array


def test_copies_of_numpy(buffer: Buffer) -> None:
    array = np.asarray(buffer)
    array[0] = 99
    assert buffer.read(0, 1) == b"\x63"
    assert np.asarray(buffer, dtype=np.uint8, copy=False)[0] == 99
    assert np.asarray(buffer, dtype=np.int64).dtype == np.int64
    with pytest.raises(ValueError, match="copy"):
        np.asarray(buffer, dtype=np.int64, copy=False)
    with pytest.raises(ValueError, match="is a copy; numpy"):
        buffer.__array__(np.int64, copy=False)
    copy = buffer.__array__(copy=True)
    copy[0] = 1
    assert array[0] == 99
    assert buffer.__array__(np.float64).dtype == np.float64


def test_reading_into_a_new_array(allocator: Allocator, check: Check) -> None:
    with allocator.create_buffer(1024, TRANSFER, flags=RANDOM) as buffer:
        check.write(buffer, pattern(1024))
        whole = np.frombuffer(pattern(1024), "<u4")
        read = buffer.read(dtype="<u4")
        assert np.array_equal(read, whole)
        assert read.flags.writeable
        assert read.flags.owndata
        assert np.array_equal(buffer.read(dtype="<u4", shape=(16, -1)), whole.reshape(16, 16))
        assert np.array_equal(buffer.read(16, 32, dtype="<u4"), whole[4:12])
        assert np.array_equal(buffer.read(16, dtype="<u4", shape=8), whole[4:12])
        assert buffer.read(8, shape=(2, 2)).tolist() == [
            [*pattern(1024)[8:10]],
            [*pattern(1024)[10:12]],
        ]
        assert buffer.read(0, 0, dtype="u1").size == 0
        assert np.array_equal(buffer.allocation.read(0, 16, dtype="<u4"), whole[:4])
        with pytest.raises(InvalidArgumentError, match="size is 16, and an array of shape"):
            buffer.read(0, 16, dtype="u1", shape=15)
        with pytest.raises(InvalidArgumentError, match="outside of 1024 bytes"):
            buffer.read(1020, 8, dtype="<u4")
        read[:] = 0
        assert buffer.read() == pattern(1024)


def test_memory_that_the_host_does_not_see(allocator: Allocator) -> None:
    buffer = invisible(allocator)
    if buffer is None:
        # The host sees all: nothing can be refused.
        with allocator.create_buffer(64, TRANSFER) as visible:
            assert visible.numpy().shape == (64,)
        return
    part = buffer[8:24]
    for use in (
        buffer.numpy,
        buffer.map,
        buffer.read,
        part.numpy,
        part.map,
        lambda: buffer.read(dtype="u1"),
        lambda: buffer.write(b"x"),
        lambda: part.write(b"x"),
        lambda: buffer.read_into(bytearray(1)),
        lambda: np.asarray(buffer),
        lambda: np.asarray(part),
        lambda: np.array(buffer, np.float32),
    ):
        with pytest.raises(MemoryMapError, match=r"not HOST_VISIBLE.*download\(\)"):
            use()
    for use in (
        lambda: memoryview(buffer),
        lambda: memoryview(part),
        buffer.__dlpack__,
        buffer.__dlpack_device__,
        part.__dlpack__,
        part.__dlpack_device__,
        lambda: np.from_dlpack(buffer),
    ):
        with pytest.raises(BufferError, match=r"download\(\)"):
            use()
    buffer.destroy()


def test_the_memory_of_another(simulated_allocator: Allocator) -> None:
    with (
        simulated_allocator.allocate_memory(4096, flags=RANDOM) as memory,
        simulated_allocator.create_buffer(64, TRANSFER, flags=RANDOM | DONT_BIND) as buffer,
    ):
        memory.bind_buffer(buffer)
        memory.numpy()[:] = 5
        assert np.asarray(memory).tolist() == [5] * 4096
        assert np.from_dlpack(memory)[3] == 5
        assert memoryview(memory)[4] == 5
        for use in (buffer.numpy, lambda: memoryview(buffer), lambda: buffer[:8].read()):
            with pytest.raises(InvalidArgumentError, match="not to memory of its own"):
                use()


@pytest.mark.parametrize("flags", [RANDOM, RANDOM | MAPPED])
def test_arrays_of_slices_of_a_heap(allocator: Allocator, flags: Any) -> None:
    with BufferHeap(allocator, TRANSFER, block_size=1 << 16, flags=flags) as heap:
        piece, other = heap.allocate(1024), heap.allocate(1024)
        other.write(pattern(1024, 3))
        array = piece.numpy("<f4", (16, 16))
        array[:] = 2
        part = piece[64:128]
        assert part.offset == piece.offset + 64
        assert memoryview(piece).nbytes == 1024
        assert np.asarray(part).nbytes == 64
        assert part.numpy("<f4").tolist() == [2.0] * 16
        assert piece.read(0, 8, dtype="<f4").tolist() == [2.0, 2.0]
        assert np.from_dlpack(piece).nbytes == len(piece) == piece.nbytes == 1024
        with pytest.raises(BufferError, match="cannot free"):
            piece.free()
        assert piece.read(0, 4, dtype="<f4")[0] == 2
        del array
        held = part.numpy()
        with pytest.raises(BufferError, match="cannot free"):
            piece.free()
        del held
        with piece.map(8, 8) as view:
            view[:] = b"12345678"
        assert part.buffer is piece.buffer
        piece.free()
        for use in (part.read, part.numpy, part.map, lambda: part.size, lambda: memoryview(part)):
            with pytest.raises(UseAfterFreeError, match="slice was freed"):
                use()
        assert other.read() == pattern(1024, 3)
        other.free()


def test_a_slice_that_was_let_go_of_stays_while_an_array_sees_it(
    simulated_allocator: Allocator,
) -> None:
    with BufferHeap(simulated_allocator, TRANSFER, block_size=4096, flags=RANDOM) as heap:
        piece = heap.allocate(4096)
        place, array = (piece.handle, piece.offset), piece.numpy()
        with pytest.warns(ResourceWarning, match="unclosed BufferSlice"):
            del piece
            gc.collect()
        for frame in range(1, 9):
            simulated_allocator.set_current_frame_index(frame)
        other = heap.allocate(4096)
        assert (other.handle, other.offset) != place
        other.free()
        del array
        again = heap.allocate(4096)
        assert (again.handle, again.offset) == place
        again.free()


# DLPack, looked at as a consumer does.


class Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class Legacy(ctypes.Structure):
    _fields_ = [("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


class Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor),
    ]


def inside(capsule: object, kind: type[Any]) -> Any:
    name = b"dltensor_versioned" if kind is Versioned else b"dltensor"
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return kind.from_address(get(capsule, name))


def take(capsule: object, kind: type[Any]) -> Any:
    """Renames the capsule: from now on the deleter is the consumer's to call."""
    found = inside(capsule, kind)
    rename = ctypes.pythonapi.PyCapsule_SetName
    rename.argtypes = [ctypes.py_object, ctypes.c_char_p]
    rename(capsule, USED)
    return found


# The capsule points to it.
USED = ctypes.c_char_p(b"used_dltensor").value


@pytest.mark.parametrize("kind", [Legacy, Versioned])
def test_a_tensor_describes_the_bytes(buffer: Buffer, kind: type[Any]) -> None:
    keywords: Any = {"max_version": (1, 2)} if kind is Versioned else {}
    capsule = buffer[16:48].__dlpack__(**keywords)
    found = inside(capsule, kind)
    tensor = found.tensor
    assert (tensor.device_type, tensor.device_id, tensor.ndim) == (1, 0, 1)
    assert (tensor.code, tensor.bits, tensor.lanes) == (1, 8, 1)
    assert (tensor.shape[0], tensor.strides[0], tensor.byte_offset) == (32, 1, 0)
    assert ctypes.string_at(tensor.data, 32) == pattern(256)[16:48]
    if kind is Versioned:
        assert (found.major, found.flags) == (1, 0)
    with pytest.raises(BufferError, match="cannot destroy"):
        buffer.destroy()
    # Nobody took it.
    del capsule
    buffer.destroy()


@pytest.mark.parametrize("kind", [Legacy, Versioned])
@pytest.mark.parametrize("thread", [False, True])
def test_who_takes_a_tensor_ends_it(buffer: Buffer, kind: type[Any], thread: bool) -> None:
    keywords: Any = {"max_version": (1, 0)} if kind is Versioned else {}
    capsule = buffer.__dlpack__(**keywords)
    taken = take(capsule, kind)
    del capsule
    gc.collect()
    with pytest.raises(BufferError, match="cannot destroy"):
        buffer.destroy()
    # Without the interpreter, as ctypes calls it, and on any thread.
    end = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(taken.deleter)
    if thread:
        worker = threading.Thread(target=end, args=(ctypes.addressof(taken),))
        worker.start()
        worker.join()
    else:
        end(ctypes.addressof(taken))
    buffer.destroy()


def test_flags_of_a_tensor(buffer: Buffer) -> None:
    with buffer.map(readonly=True) as view:
        mapping = view.obj
        assert isinstance(mapping, Mapping)
        assert mapping.__dlpack_device__() == buffer.__dlpack_device__() == (1, 0)
        with pytest.raises(BufferError, match="read-only"):
            mapping.__dlpack__()
        assert inside(mapping.__dlpack__(max_version=(1, 0)), Versioned).flags == 1
        assert not np.from_dlpack(mapping).flags.writeable
        copied = mapping.__dlpack__(max_version=(1, 0), copy=True)
        assert inside(copied, Versioned).flags == 2
        assert inside(mapping.__dlpack__(copy=True), Legacy).tensor.shape[0] == 256
        del view
    capsule = buffer.__dlpack__(max_version=(1, 0), copy=True, dl_device=(1, 0))
    address = inside(capsule, Versioned).tensor.data
    assert ctypes.string_at(address, 256) == pattern(256)
    # A copy holds nothing.
    buffer.destroy()
    assert ctypes.string_at(address, 256) == pattern(256)


def test_tensors_that_there_are_not(buffer: Buffer) -> None:
    with pytest.raises(BufferError, match="stream must be None"):
        buffer.__dlpack__(stream=1)
    with pytest.raises(BufferError, match="dl_device"):
        buffer.__dlpack__(dl_device=(2, 0))
    with pytest.raises(TypeError):
        buffer.__dlpack__(nothing=1)
    mapping = buffer.map()
    mapping.close()
    for keywords in ({}, {"copy": True}):
        with pytest.raises(UseAfterFreeError, match="the mapping is closed"):
            mapping.__dlpack__(**keywords)  # type: ignore[arg-type]
    empty = buffer[8:8]
    assert inside(empty.__dlpack__(), Legacy).tensor.data is None
    assert np.from_dlpack(empty).shape == np.asarray(empty).shape == (0,)
    buffer.destroy()


def test_a_tensor_keeps_its_mapping(buffer: Buffer) -> None:
    mapping = buffer.map()
    capsule = mapping.__dlpack__()
    with pytest.raises(BufferError, match="cannot close"):
        mapping.close()
    del capsule
    mapping.close()


def test_without_numpy() -> None:
    """Its name cannot be imported in this one."""
    done = run_python(
        """
        import sys
        sys.modules["numpy"] = None
        import vk_mem
        with (
            vk_mem.Allocator(vk_mem.SimulatedDevice("lavapipe")) as allocator,
            allocator.create_buffer(64, "TRANSFER_SRC", flags="HOST_ACCESS_RANDOM") as buffer,
        ):
            buffer.write(bytes(range(64)))
            assert memoryview(buffer[8:])[0] == 8
            buffer.__dlpack__()
            for use in (buffer.numpy, buffer[1:].numpy, lambda: buffer.read(dtype="u1")):
                try:
                    use()
                except ImportError as error:
                    assert "pip install numpy" in str(error), error
                else:
                    raise AssertionError
        """
    )
    assert done.returncode == 0, done.stderr


def test_numpy_is_imported_by_who_needs_it() -> None:
    code = "import sys, vk_mem; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_ranges_are_slices_of_bytes(data: Any) -> None:
    """Slices of slices give what they give of bytes."""
    bound = st.none() | st.integers(-300, 300)
    with (
        Allocator(SimulatedDevice("non-coherent")) as allocator,
        allocator.create_buffer(200, TRANSFER, flags=WRITE) as buffer,
    ):
        wanted = pattern(200)
        buffer.write(wanted)
        found: Any = buffer
        for _ in range(data.draw(st.integers(1, 3))):
            index = slice(data.draw(bound), data.draw(bound), data.draw(st.sampled_from([None, 1])))
            found, wanted = found[index], wanted[index]
        assert found.read() == bytes(found) == wanted
        assert (len(found), found.nbytes, found.size) == (len(wanted),) * 3
        assert np.asarray(found).tobytes() == wanted
        if wanted:
            assert pattern(200)[found.offset : found.offset + found.size] == wanted
