"""Arrays that are views of the memory that they are copied to or from: NumPy's bytes come out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from support import RANDOM, TRANSFER, pattern

from vk_mem import Allocator, Buffer, Image, InvalidArgumentError, Transfers

SIZE = 8192


Source = Callable[[Any], Any]
SOURCES: list[tuple[Source, int, str | None]] = [
    (lambda it: it, 0, None),
    (lambda it: it[::-1], 0, None),
    (lambda it: it[: SIZE // 2], 100, None),
    (lambda it: it[100:], 0, None),
    (lambda it: it[: SIZE // 2], 0, "u2"),
    (lambda it: it[SIZE // 2 :], 0, "u2"),
    (lambda it: it[::-2], 0, "u2"),
    (lambda it: it.view("u4").reshape(32, 64).T, 0, None),
    (lambda it: it.reshape(64, 128)[::-1], 0, None),
    (lambda it: it.reshape(64, 128)[:, 4:100], 4, None),
    (lambda it: np.broadcast_to(it[5:6], (300,)), 0, None),
]


@pytest.fixture
def buffer(allocator: Allocator) -> Any:
    with allocator.create_buffer(SIZE, TRANSFER, flags=RANDOM, name="b") as buffer:
        yield buffer


@pytest.mark.parametrize("way", ["direct", "ring"])
@pytest.mark.parametrize("number", range(len(SOURCES)))
def test_uploads_from_the_buffer_itself(
    allocator: Allocator, buffer: Buffer, number: int, way: Literal["direct", "ring"]
) -> None:
    view_of, offset, dtype = SOURCES[number]
    before = np.frombuffer(pattern(SIZE, 3), np.uint8)
    buffer.write(before)
    source = view_of(before).astype(dtype) if dtype else view_of(before)
    expected = before.copy()
    expected[offset : offset + source.nbytes] = np.frombuffer(source.tobytes(), np.uint8)
    with Transfers(allocator, 64 << 10) as transfers, buffer.map(readonly=True) as view:
        array = np.asarray(view)
        transfers.upload(view_of(array), buffer, offset, dtype=dtype, way=way).result()
        del array
    assert buffer.read() == expected.tobytes()


def test_pieces_of_a_ring_do_not_read_what_earlier_ones_have_written(allocator: Allocator) -> None:
    size = 1 << 20
    before = np.frombuffer(pattern(size, 5), np.uint8)
    with (
        allocator.create_buffer(size, TRANSFER, flags=RANDOM) as buffer,
        Transfers(allocator, 64 << 10) as transfers,
    ):
        buffer.write(before)
        with buffer.map(readonly=True) as view:
            transfers.upload(view[:-64], buffer, 64, way="ring").result()
        assert buffer.read()[64:] == before[:-64].tobytes()
        buffer.write(before)
        array = buffer.numpy()
        out = array[64:]
        for way in (None, "ring"):
            transfers.download(buffer, size=size - 64, out=out, way=way).result()  # type: ignore[call-overload]
            assert buffer.read()[64:] == before[:-64].tobytes()
            buffer.write(before)
        del array, out


@pytest.mark.parametrize("shift", [0, 1, 64, 4096])
def test_downloads_into_the_buffer_itself(buffer: Buffer, shift: int) -> None:
    before = np.frombuffer(pattern(SIZE, 7), np.uint8)
    array = buffer.numpy()
    for start, from_ in ((shift, 0), (0, shift)):
        buffer.write(before)
        count = SIZE - shift
        buffer.download(offset=from_, size=count, out=array[start : start + count])
        expected = before.copy()
        expected[start : start + count] = before[from_ : from_ + count]
        assert buffer.read() == expected.tobytes()
    buffer.write(before)
    buffer.write(array[:4096], 8)
    assert buffer.read(8, 4096) == before[:4096].tobytes()
    buffer.write(before)
    buffer.read_into(array[8:4104])
    assert buffer.read(8, 4096) == before[:4096].tobytes()
    del array


def test_lists_of_views(allocator: Allocator, buffer: Buffer) -> None:
    before = np.frombuffer(pattern(SIZE, 9), np.uint8)
    buffer.write(before)
    array = buffer.numpy()
    for begun in allocator.transfers.upload_many([array[:4096]], [buffer], [8]):
        begun.result()
    assert buffer.read(8, 4096) == before[:4096].tobytes()
    buffer.write(before)
    for begun in allocator.transfers.download_many([buffer[:4096]], outs=[array[4:4100]]):
        begun.result()
    assert buffer.read(4, 4096) == before[:4096].tobytes()
    del array


def linear(allocator: Allocator) -> Image:
    usage = "TRANSFER_SRC|TRANSFER_DST"
    return allocator.create_image(
        "R8G8B8A8_UNORM", (16, 8), usage, tiling="LINEAR", flags=RANDOM, name="i"
    )


@pytest.mark.parametrize("view_of", [lambda it: it, lambda it: it[::-1], lambda it: it[:, ::-1]])
def test_uploads_from_the_image_itself(allocator: Allocator, view_of: Source) -> None:
    before = np.frombuffer(pattern(512, 3), np.uint8).reshape(8, 16, 4)
    with linear(allocator) as image:
        image.upload(before)
        array = image.numpy()
        image.upload(view_of(array))
        assert (array == view_of(before)).all()
        assert (image.download() == view_of(before)).all()
        del array


def test_downloads_into_the_image_itself(allocator: Allocator) -> None:
    before = np.frombuffer(pattern(512, 3), np.uint8).reshape(8, 16, 4)
    with linear(allocator) as image:
        image.upload(before)
        mapping = image.map()
        whole = np.asarray(mapping)
        way = allocator.transfers.explain(512, image, "download").split(":")[0]
        if way == "ring":
            with pytest.raises(InvalidArgumentError, match="out lies in the memory of"):
                image.download(out=whole[:512])
        else:
            image.download(out=whole[:512])
            assert whole[:512].tobytes() == before.tobytes()
        del whole
        mapping.close()
