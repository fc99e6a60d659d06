"""Only plain data is copied: the bytes of an object array are pointers, and are refused."""

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

from vk_mem import Allocator, Buffer, BufferHeap, InvalidArgumentError

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
    # The first is its name since Python 3.13, which warns of the second.
    "text": lambda: array.array("w" if "w" in array.typecodes else "u", "text"),
    "float16": lambda: np.arange(12, dtype=np.float16),
    "big-endian": lambda: np.arange(6, dtype=">i4"),
    "bool": lambda: np.ones(24, bool),
    "complex": lambda: np.arange(6, dtype=np.float32).view(np.complex64),
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
            r"a buffer of format 'T\{[il]:a:.*O:b:\}' may",
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


RELEASED = memoryview(b"1234")
RELEASED.release()
WRONG_DATA: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "objects": (lambda: np.array([object()], object), TypeError, "format 'O'"),
    "no object": (lambda: np.array(None, object), TypeError, "format 'O'"),
    "strings": (
        lambda: np.array(["a", "bc"], np.dtypes.StringDType()),
        TypeError,
        "without a format",
    ),
    "struct": (WithObject, TypeError, "may hold references"),
    "None": (lambda: None, TypeError, "not 'NoneType'"),
    "number": (lambda: 1, TypeError, "not 'int'"),
    "text": (lambda: "text", TypeError, "not 'str'"),
    "list": (lambda: [1, 2], TypeError, "not 'list'"),
    "every second": (
        lambda: np.zeros((4, 4), np.uint8)[:, ::2],
        InvalidArgumentError,
        "in one piece",
    ),
    "columns": (
        lambda: memoryview(np.zeros((4, 4), np.uint8).T),
        InvalidArgumentError,
        "in one piece",
    ),
    "released": (lambda: RELEASED, InvalidArgumentError, "released"),
    "too long": (lambda: bytes(65), InvalidArgumentError, "65 bytes at offset 0: outside of"),
}


@pytest.mark.parametrize("name", WRONG_DATA)
def test_whatever_is_written_to_raises_the_same(simulated_allocator: Allocator, name: str) -> None:
    make, kind, says = WRONG_DATA[name]
    with (
        BufferHeap(simulated_allocator, TRANSFER, flags=RANDOM) as heap,
        heap.allocate(64) as piece,
        simulated_allocator.create_buffer(64, TRANSFER, flags=RANDOM) as buffer,
        simulated_allocator.allocate_memory(64, flags=RANDOM) as memory,
    ):
        copies = [it.write for it in (buffer, buffer.allocation, memory, piece)]
        if "outside" not in says:
            copies += [it.read_into for it in (buffer, buffer.allocation, memory)]
        for copy in copies:
            with pytest.raises(kind, match=says) as caught:
                copy(make())
            assert type(caught.value) is kind
            if "outside" not in says:
                argument = "target" if copy.__name__ == "read_into" else "data"
                assert str(caught.value).startswith(argument)


def test_dates_are_written_to_slices_too(simulated_allocator: Allocator) -> None:
    """NumPy has no format of a buffer for them."""
    dates = np.array(["2024-02-29", "1970-01-02"], "M8[D]")
    with BufferHeap(simulated_allocator, TRANSFER, flags=RANDOM) as heap:
        piece, neighbour = heap.allocate(24), heap.allocate(24)
        piece.write(dates, 8)
        assert piece.read(8) == dates.tobytes()
        assert piece.read(0, 8) == neighbour.read(0, 8) == bytes(8)
        piece.free()
        neighbour.free()


class Unwilling:
    def __index__(self) -> int:
        raise KeyError("unwilling")


WRONG_NUMBERS: list[tuple[Any, type[Exception], str]] = [
    (1.5, TypeError, "{} must be an integer, not float"),
    ("1", TypeError, "{} must be an integer, not str"),
    # Not -1, which is VK_WHOLE_SIZE.
    (-2, InvalidArgumentError, "{} is -2; it must not be negative"),
    (-(1 << 70), InvalidArgumentError, "{} is -1180591620717411303424; it must not be negative"),
    (1 << 64, InvalidArgumentError, "{} is 18446744073709551616; it does not fit 64 bits"),
    (Unwilling(), KeyError, "unwilling"),
]


@pytest.mark.parametrize(("number", "kind", "says"), WRONG_NUMBERS)
def test_errors_name_the_keyword(
    simulated_allocator: Allocator, number: Any, kind: type[Exception], says: str
) -> None:
    with (
        BufferHeap(simulated_allocator, TRANSFER, flags=RANDOM) as heap,
        heap.allocate(64) as piece,
        simulated_allocator.create_buffer(64, TRANSFER, flags=RANDOM) as buffer,
    ):
        calls: list[tuple[str, Callable[[], Any]]] = [
            ("size", lambda: heap.allocate(number)),
            ("alignment", lambda: heap.allocate(16, number)),
            ("block_size", lambda: BufferHeap(simulated_allocator, TRANSFER, block_size=number)),
        ]
        for it in (buffer, buffer.allocation, piece):
            calls += [
                ("offset", lambda it=it: it.write(b"1", number)),
                ("offset", lambda it=it: it.read(number)),
                ("size", lambda it=it: it.read(0, number)),
                ("offset", lambda it=it: it.flush(number)),
                ("size", lambda it=it: it.flush(0, number)),
                ("offset", lambda it=it: it.invalidate(number, 1)),
                ("size", lambda it=it: it.invalidate(0, number)),
            ]
        for name, call in calls:
            with pytest.raises(kind) as caught:
                call()
            assert says.format(name) in str(caught.value)
        for it in (buffer, piece):
            for offset, size in ((65, 0), (60, 5), (0, 65), ((1 << 64) - 1, 2)):
                with pytest.raises(InvalidArgumentError, match="outside"):
                    it.read(offset, size)
            it.write(b"ab", None)
            assert it.read(None, 2) == b"ab"


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
