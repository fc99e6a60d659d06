"""Only plain bytes are copied: an array of references has pointers for its bytes."""

from __future__ import annotations

import array
import ctypes
import gc
import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support import RANDOM, TRANSFER, pattern

from vk_mem import Allocator, Buffer, BufferHeap

CALLBACK = ctypes.CFUNCTYPE(None)


class Plain(ctypes.Structure):
    _fields_ = [("number", ctypes.c_int), ("text", ctypes.c_char * 4)]


class PlainUnion(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("parts", ctypes.c_ubyte * 4), ("inner", Plain)]


class Packed(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("byte", ctypes.c_ubyte), ("number", ctypes.c_int)]


class Further(Packed):
    _fields_ = [("more", ctypes.c_short)]


class WithObject(ctypes.Structure):
    _fields_ = [("number", ctypes.c_int), ("object", ctypes.py_object)]


class PackedWithPointer(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("byte", ctypes.c_ubyte), ("pointer", ctypes.c_void_p)]


class FurtherWithPointer(Packed):
    _fields_ = [("pointer", ctypes.POINTER(ctypes.c_int))]


class UnionWithObject(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("object", ctypes.py_object)]


def dtype_of(*fields: tuple[Any, ...]) -> np.dtype[Any]:
    return np.dtype(list(fields))


POINTERS: dict[str, Callable[[], Any]] = {
    "array of objects": lambda: np.array([object(), object()], object),
    "no object": lambda: np.array(None, object),
    "struct with an object": lambda: np.zeros(2, dtype_of(("a", "i4"), ("b", "O"))),
    "nested": lambda: np.zeros(2, dtype_of(("a", [("b", "f4"), ("c", "O", (2,))]))),
    "strings of any length": lambda: np.array(["a", "bc"], np.dtypes.StringDType()),
    "view of objects": lambda: memoryview(np.array([object()], object)),
    "py_object": lambda: (ctypes.py_object * 2)(None, None),
    "void*": lambda: (ctypes.c_void_p * 2)(),
    "char*": lambda: (ctypes.c_char_p * 2)(),
    "wchar_t*": lambda: (ctypes.c_wchar_p * 2)(),
    "int*": lambda: (ctypes.POINTER(ctypes.c_int) * 2)(),
    "functions": lambda: (CALLBACK * 2)(),
    "struct": WithObject,
    "structs": WithObject * 3,
    "packed struct": PackedWithPointer,
    "packed structs": PackedWithPointer * 2 * 2,
    "derived struct": FurtherWithPointer,
    "union": UnionWithObject,
}

NUMBERS: dict[str, Callable[[], Any]] = {
    "bytes": lambda: bytearray(pattern(24)),
    "view": lambda: memoryview(bytearray(pattern(24))).cast("d"),
    "mmap": lambda: mmap.mmap(-1, 24),
    "array": lambda: array.array("l", [1, -2, 3]),
    "text": lambda: array.array("u", "text"),
    "float16": lambda: np.arange(12, dtype=np.float16),
    "big-endian": lambda: np.arange(6, dtype=">i4"),
    "bool": lambda: np.ones(24, bool),
    "complex": lambda: np.arange(3, dtype=np.complex64),
    "long double": lambda: np.arange(2, dtype=np.longdouble),
    "matrix": lambda: np.arange(6, dtype=np.float32).reshape(2, 3),
    "zero dimensions": lambda: np.array(1.5),
    "characters": lambda: np.array(["ab", "cd"], "S3"),
    "wide characters": lambda: np.array(["ab", "cd"], "U3"),
    "bytes of any use": lambda: np.zeros(3, "V8"),
    "dates": lambda: np.array(["2020-01-01", "2021-02-03"], "M8[s]"),
    "spans": lambda: np.array([1, 2], "m8[ns]"),
    "struct with a date": lambda: np.zeros(2, dtype_of(("when", "M8[s]"), ("what", "i8"))),
    "vertices": lambda: np.ones(2, dtype_of(("xyz", "<f4", (3,)), ("rgba", "u1", 4))),
    "aligned": lambda: np.ones(2, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    "double*": lambda: (ctypes.c_double * 3)(1, 2, 3),
    "struct": lambda: Plain(7, b"abc"),
    "structs": lambda: (Plain * 2)(Plain(1, b"x"), Plain(2, b"y")),
    "packed struct": lambda: Packed(1, 2),
    "packed structs": lambda: (Packed * 3)(Packed(1, 2)),
    "derived struct": lambda: Further(1, 2, 3),
    "union": lambda: (PlainUnion * 2)(PlainUnion(1)),
}


def bytes_of(source: Any) -> bytes:
    """NumPy gives some of its types no buffer, and `bytes()` of others are their items."""
    return source.tobytes() if hasattr(source, "tobytes") else memoryview(source).tobytes()


@pytest.fixture
def buffer(simulated_allocator: Allocator) -> Any:
    with simulated_allocator.create_buffer(256, TRANSFER, flags=RANDOM) as buffer:
        buffer.write(b"\xff" * 256)
        yield buffer


@pytest.mark.parametrize("name", POINTERS)
def test_pointers_are_neither_read_nor_written(buffer: Buffer, name: str) -> None:
    target = POINTERS[name]()
    before = ctypes.string_at(np.asarray(target).ctypes.data, 8) if "array" in name else None
    calls: tuple[Callable[[Any], object], ...] = (
        buffer.read_into,
        buffer.write,
        buffer.allocation.write,
        lambda it: buffer.allocation.read_into(it, 8),
    )
    for call in calls:
        with pytest.raises(TypeError, match="may hold references or pointers"):
            call(target)
    if before is not None:
        assert ctypes.string_at(np.asarray(target).ctypes.data, 8) == before
    repr(target)
    gc.collect()
    assert buffer.read() == b"\xff" * 256


def test_the_error_names_the_format(buffer: Buffer) -> None:
    for target, words in (
        (np.array([None]), r"a buffer of format 'O' may"),
        ((ctypes.c_void_p * 2)(), r"a buffer of format '<P' may"),
        (
            np.zeros(1, dtype_of(("a", "i4"), ("b", "O"))),
            r"a buffer of format 'T\{i:a:.*O:b:\}' may",
        ),
        (np.array(["a"], np.dtypes.StringDType()), r"without a format \(cannot include dtype"),
    ):
        with pytest.raises(TypeError, match=words):
            buffer.read_into(target)


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_and_characters_make_the_round_trip(buffer: Buffer, name: str) -> None:
    source, target = NUMBERS[name](), NUMBERS[name]()
    data = bytes_of(source)
    buffer.write(source)
    assert buffer.read(0, len(data)) == data
    other = bytes(len(data))
    buffer.write(other)
    buffer.read_into(target)
    assert bytes_of(target) == other
    buffer.write(data)
    buffer.read_into(target)
    assert bytes_of(target) == data


def test_slices_copy_plain_bytes_only(simulated_allocator: Allocator) -> None:
    with BufferHeap(simulated_allocator, TRANSFER, flags=RANDOM) as heap:
        piece = heap.allocate(64)
        with pytest.raises(TypeError, match="format 'O'"):
            piece.write(np.array([object()], object))
        piece.write(np.arange(4))
        piece.free()


def test_the_device_works_on_plain_memory_only(simulated_allocator: Allocator) -> None:
    page = simulated_allocator.device.min_imported_host_pointer_alignment
    assert page
    objects = np.full(2 * page // 8, None, object)
    start = -objects.ctypes.data % page // 8
    part = objects[start : start + page // 8]
    with pytest.raises(TypeError, match="format 'O'"):
        simulated_allocator.import_host_pointer(part)
    with pytest.raises(TypeError, match="format 'O'"):
        simulated_allocator.create_buffer(page, TRANSFER, import_host_pointer=part)
    pointers = (ctypes.c_void_p * (page // 8))()
    with pytest.raises(TypeError, match="format '<P'"):
        simulated_allocator.import_host_pointer(pointers)
    assert all(it is None for it in objects)
