"""Arrays into buffers and back: bytes, sources, targets, ways, checks."""

from __future__ import annotations

import array
import asyncio
import ctypes
import mmap
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import DONT_BIND, MAPPED, RANDOM, TRANSFER, WRITE, Check, pattern

import vk_mem
from vk_mem import (
    Allocator,
    Buffer,
    BufferHeap,
    BufferUsage,
    Device,
    FeatureNotPresentError,
    InvalidArgumentError,
    SimulatedDevice,
    Transfers,
    UseAfterFreeError,
)

RING = 64 << 10
Way = Literal["direct", "ring", "import"]


@pytest.fixture
def transfers(allocator: Allocator) -> Iterator[Transfers]:
    with Transfers(allocator, RING) as transfers:
        yield transfers


@pytest.fixture
def simulated_transfers(simulated_allocator: Allocator) -> Iterator[Transfers]:
    with Transfers(simulated_allocator, RING) as transfers:
        yield transfers


def ways(transfers: Transfers, buffer: Buffer, direction: str, seen: Any) -> list[Way | None]:
    """Those that a buffer has; of an array that is registered, the import as well."""
    found: list[Way | None] = [None, "ring"]
    for way in ("direct", "import"):
        try:
            if direction == "upload":
                transfers.upload(seen, buffer, way=way).result()  # type: ignore[arg-type]
            else:
                transfers.download(buffer, out=seen, way=way).result()  # type: ignore[call-overload]
        except InvalidArgumentError:
            continue
        found.append(way)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("flags", [0, RANDOM, WRITE | MAPPED], ids=["plain", "random", "mapped"])
def test_bytes_arrive_by_every_way(
    allocator: Allocator, transfers: Transfers, check: Check, flags: int
) -> None:
    random = np.random.default_rng(7)
    size = 300_000
    memory = np.frombuffer(mmap.mmap(-1, 1 << 20), np.uint8)
    with allocator.create_buffer(size, TRANSFER, flags=flags) as buffer:
        try:
            registered = transfers.register(memory)
        except FeatureNotPresentError:
            registered = None
        part = memory[4097 : 4097 + size]
        for way in ways(transfers, buffer, "upload", part):
            for offset, length in ((0, size), (1, 1), (4095, 70_001), (size - 5, 5)):
                data = random.integers(0, 256, length, np.uint8)
                part[:length] = data
                begun = transfers.upload(part[:length], buffer, offset, way=way)
                assert begun.nbytes == length and begun.direction == "upload"
                assert way is None or begun.way == way
                assert begun.result() is None and begun.done() and begun.exception() is None
                assert check.read(buffer)[offset : offset + length] == data.tobytes()
        whole = random.integers(0, 256, size, np.uint8)
        check.write(buffer, whole.tobytes())
        for way in ways(transfers, buffer, "download", part):
            for offset, length in ((0, size), (1, 1), (4095, 70_001), (size - 5, 5)):
                out = memory[8193 : 8193 + length]
                out[:] = 0
                back = transfers.download(buffer, offset=offset, out=out, way=way)
                assert back.result() is out
                assert (out == whole[offset : offset + length]).all()
        if registered is not None:
            registered.close()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_random_regions(data: st.DataObject) -> None:
    """Whatever is copied where and by which way, in whatever batches: as the book says."""
    profile = data.draw(st.sampled_from(SimulatedDevice.profile_names()))
    device = SimulatedDevice(profile)
    if data.draw(st.booleans()):
        device.set_completion("when waited")
    size = data.draw(st.integers(1, 200_000))
    with Allocator(device) as allocator, Transfers(allocator, RING) as transfers:
        flags = data.draw(st.sampled_from([0, RANDOM, WRITE]))
        buffer = allocator.create_buffer(size, TRANSFER, flags=flags)
        expected = np.zeros(size, np.uint8)
        transfers.upload(expected, buffer)
        for step in range(data.draw(st.integers(1, 12))):
            offset = data.draw(st.integers(0, size - 1))
            length = data.draw(st.integers(1, size - offset))
            way = data.draw(st.sampled_from([None, "ring"]))
            with transfers.batch() if data.draw(st.booleans()) else transfers_alone():
                if data.draw(st.booleans()):
                    piece = np.arange(step, step + length).astype(np.uint8)
                    transfers.upload(piece, buffer, offset, way=way)  # type: ignore[arg-type]
                    expected[offset : offset + length] = piece
                back = transfers.download(buffer, offset=offset, size=length, way=way)  # type: ignore[arg-type]
            assert (back.result() == expected[offset : offset + length]).all()
        assert transfers.wait()
        buffer.destroy()
    assert device.violations == []
    assert (device.live_memory_objects, device.live_buffers) == (0, 0)


def transfers_alone() -> Any:
    from contextlib import nullcontext

    return nullcontext()


class OnlyArray:
    def __init__(self, found: Any) -> None:
        self.found = found

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.found


class OnlyDLPack:
    def __init__(self, found: Any) -> None:
        self.found = found

    def __dlpack__(self, **keywords: Any) -> Any:
        return self.found.__dlpack__()

    def __dlpack_device__(self) -> Any:
        return self.found.__dlpack_device__()


READ_ONLY = np.arange(999, dtype=np.int16)
READ_ONLY.flags.writeable = False
BLOCK = np.arange(24 * 35 * 17, dtype=np.float32).reshape(24, 35, 17)
SOURCES = {
    "bytes": pattern(70_000),
    "bytearray": bytearray(pattern(99)),
    "memoryview": memoryview(pattern(999))[1:],
    "strided memoryview": memoryview(pattern(999))[::-3],
    "array.array": array.array("d", range(500)),
    "ctypes": (ctypes.c_int * 50)(*range(50)),
    "read-only": READ_ONLY,
    "a number": np.float64(2.5),
    "Fortran order": np.asfortranarray(BLOCK),
    "strided": BLOCK[::2, ::-1, 3:9],
    "transposed": BLOCK.transpose(2, 0, 1),
    "broadcast": np.broadcast_to(np.arange(7, dtype=np.uint16), (900, 7)),
    "struct": np.zeros(300, [("a", "<u2"), ("b", "<f8", (3,))]),
    "struct, strided": np.ones(600, [("a", "<u2"), ("b", "<f8")])[::3],
    "dates": np.arange("2020-01-01", "2021-01-01", dtype="datetime64[D]"),
    "complex": np.arange(198, dtype=np.float64).view(np.complex128)[::-1],
    "__array__": OnlyArray(BLOCK.T),
    "DLPack": OnlyDLPack(BLOCK),
}


@pytest.mark.parametrize("name", SOURCES)
def test_sources(allocator: Allocator, transfers: Transfers, name: str) -> None:
    source = SOURCES[name]
    found = getattr(source, "found", source)
    expected = np.asarray(found).tobytes()
    with allocator.create_buffer(len(expected) + 3, TRANSFER) as buffer:
        for way in (None, "ring"):
            transfers.upload(bytes(len(expected) + 3), buffer).result()
            transfers.upload(source, buffer, 3, way=way).result()  # type: ignore[arg-type]
            assert buffer.download().tobytes() == bytes(3) + expected
        buffer.upload(bytes(len(expected) + 3))
        buffer.upload(source)
        assert buffer.download(size=len(expected)).tobytes() == expected


@pytest.mark.parametrize(
    ("source", "dtype"),
    [
        (np.arange(50_000, dtype=np.float64), np.float32),
        (BLOCK.T, np.float64),
        (BLOCK[::2], "<f2"),
        (np.arange(40_000, dtype=np.uint8), ">u4"),
        (range(3), None),
        (memoryview(array.array("i", range(999))), np.int64),
        (OnlyArray(BLOCK), np.float64),
        (np.arange(9.0), np.float64),
    ],
)
def test_conversions(allocator: Allocator, transfers: Transfers, source: Any, dtype: Any) -> None:
    if isinstance(source, range):
        with (
            allocator.create_buffer(64, TRANSFER) as buffer,
            pytest.raises(TypeError, match="array: "),
        ):
            transfers.upload(source, buffer)  # type: ignore[arg-type]
        return
    expected = np.asarray(getattr(source, "found", source)).astype(dtype)
    with allocator.create_buffer(expected.nbytes, TRANSFER) as buffer:
        for way in (None, "ring"):
            transfers.upload(bytes(expected.nbytes), buffer).result()
            transfers.upload(source, buffer, dtype=dtype, way=way).result()  # type: ignore[arg-type]
            back = transfers.download(buffer, dtype, expected.shape).result()
            assert back.dtype == expected.dtype and (back == expected).all()


def test_what_no_array_becomes(
    simulated_transfers: Transfers, simulated_allocator: Allocator
) -> None:
    with simulated_allocator.create_buffer(64, TRANSFER) as buffer:
        upload, download = simulated_transfers.upload, simulated_transfers.download
        with pytest.raises(
            TypeError, match=r"array: elements of float64 do not become int32.*astype"
        ):
            upload(np.arange(3.0), buffer, dtype=np.int32)
        with pytest.raises(TypeError, match="may hold references or pointers"):
            upload(np.array([None, 1]), buffer)
        with pytest.raises(TypeError, match="no objects"):
            upload(np.arange(3), buffer, dtype=object)
        with pytest.raises(TypeError, match="holds no objects"):
            download(buffer, object)
        with pytest.raises(TypeError, match="array: "):
            upload([1, 2, 3], buffer)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="array: "):
            upload(None, buffer)  # type: ignore[arg-type]
        with pytest.raises(
            TypeError, match=r"must be a vk_mem.Buffer, a range of one or a vk_mem.Image"
        ):
            upload(b"x", b"y")  # type: ignore[arg-type]
        assert simulated_transfers.stats().bytes_up == 0
        assert (buffer.download() == 0).all()


def test_arrays_that_come_back(allocator: Allocator, transfers: Transfers) -> None:
    values = np.arange(100, dtype=np.float32)
    with allocator.create_buffer(400, TRANSFER) as buffer:
        transfers.upload(values, buffer)
        found = transfers.download(buffer, np.float32).result()
        assert found.shape == (100,) and found.flags.writeable and (found == values).all()
        assert transfers.download(buffer, np.float32, (5, 20)).result().shape == (5, 20)
        assert transfers.download(buffer, "<u2", 7).result().shape == (7,)
        assert transfers.download(buffer, shape=(2, 3)).result().dtype == np.uint8
        assert transfers.download(buffer, np.float32, offset=392).result().tolist() == [98, 99]
        assert transfers.download(buffer, np.float32, offset=4, size=8).result().tolist() == [1, 2]
        assert transfers.download(buffer, np.float32, ()).result().shape == ()
        assert transfers.download(buffer, np.float32, 0).result().size == 0
        for out in (bytearray(12), array.array("f", [0, 0, 0]), np.zeros(3, np.float32)):
            assert transfers.download(buffer, out=out, offset=4).result() is out
            assert bytes(out) == values[1:4].tobytes()


def test_refused_downloads(simulated_allocator: Allocator, simulated_transfers: Transfers) -> None:
    download = simulated_transfers.download
    with simulated_allocator.create_buffer(64, TRANSFER, name="small") as buffer:
        for arguments, keywords, error, text in (
            ((), {"offset": 65}, InvalidArgumentError, "offset 65 is outside of Buffer 'small'"),
            ((), {"size": 65}, InvalidArgumentError, "65 bytes are wanted: outside of the 64"),
            ((np.float64, 9), {}, InvalidArgumentError, "72 bytes are wanted"),
            ((np.float64,), {"size": 9}, InvalidArgumentError, "no whole number of elements"),
            ((np.float64, 2), {"size": 17}, InvalidArgumentError, "size is 17"),
            ((np.float64, (-1,)), {}, InvalidArgumentError, "no side is negative"),
            ((), {"out": bytes(4)}, InvalidArgumentError, "out cannot be filled"),
            ((), {"out": np.zeros(8)[::2]}, InvalidArgumentError, "out cannot be filled"),
            ((), {"out": np.array([None])}, TypeError, "may hold references or pointers"),
            ((), {"out": bytearray(65)}, InvalidArgumentError, "65 bytes at offset 0: outside"),
            (
                (),
                {"out": bytearray(4), "size": 5},
                InvalidArgumentError,
                "size is 5, and out has 4",
            ),
            ((np.uint8,), {"out": bytearray(4)}, InvalidArgumentError, "out= stands instead"),
            ((), {"way": "post"}, InvalidArgumentError, "way is 'post'"),
        ):
            with pytest.raises(error, match=text):
                download(buffer, *arguments, **keywords)
    assert simulated_transfers.stats().bytes_down == 0


def test_refused_uploads(simulated_allocator: Allocator, simulated_transfers: Transfers) -> None:
    make = simulated_allocator.create_buffer
    upload, download = simulated_transfers.upload, simulated_transfers.download
    with (
        make(64, BufferUsage.TRANSFER_SRC, name="source") as source,
        make(64, BufferUsage.TRANSFER_DST, name="target") as target,
        make(64, TRANSFER, flags=DONT_BIND) as unbound,
    ):
        with pytest.raises(InvalidArgumentError, match="65 bytes at offset 0: outside of Buffer"):
            upload(bytes(65), target)
        with pytest.raises(InvalidArgumentError, match="1 byte at offset 64: outside"):
            upload(bytes(1), target, 64)
        with pytest.raises(
            InvalidArgumentError, match=r"'source'.* without BufferUsage.TRANSFER_DST"
        ):
            upload(b"x", source)
        with pytest.raises(
            InvalidArgumentError, match=r"'target'.* without BufferUsage.TRANSFER_SRC"
        ):
            download(target)
        with pytest.raises(InvalidArgumentError, match="is not bound to memory"):
            upload(b"x", unbound)
        with pytest.raises(InvalidArgumentError, match="the array is not registered"):
            upload(b"x", target, way="import")
        with pytest.raises(InvalidArgumentError, match="no direct way: its memory is not HOST_VIS"):
            upload(b"x", target, way="direct")
        with pytest.raises(InvalidArgumentError, match="offset is -1"):
            upload(b"x", target, -1)
        with (
            Allocator(simulated_allocator.device) as other,
            other.create_buffer(64, TRANSFER) as foreign,
            pytest.raises(InvalidArgumentError, match="is of another allocator"),
        ):
            upload(b"x", foreign)
        upload(b"", target, 64).result()
        with pytest.raises(InvalidArgumentError, match="offset 65 is outside"):
            upload(b"", target, 65)
    with pytest.raises(UseAfterFreeError, match="'target' was destroyed"):
        upload(b"x", target)


def test_host_memory_needs_no_usage_flag(simulated_allocator: Allocator) -> None:
    """A direct way is there without the flags of a copy."""
    with simulated_allocator.create_buffer(
        64, BufferUsage.STORAGE_BUFFER, flags=RANDOM, name="host"
    ) as buffer:
        buffer.upload(pattern(64))
        assert simulated_allocator.transfers.stats().direct == 1
        assert buffer.read() == pattern(64)


def test_a_strict_allocator_writes_to_memory_for_the_host_alone(make_simulated: Any) -> None:
    with (
        Allocator(make_simulated("lavapipe"), strict_host_access=True) as allocator,
        allocator.create_buffer(64, TRANSFER) as plain,
        allocator.create_buffer(64, TRANSFER, flags=RANDOM) as host,
    ):
        assert allocator.transfers.upload(bytes(64), plain).way == "ring"
        assert allocator.transfers.upload(bytes(64), host).way == "direct"
        with pytest.raises(InvalidArgumentError, match="no direct way"):
            allocator.transfers.upload(bytes(64), plain, way="direct")
        allocator.transfers.wait()


def test_ranges(allocator: Allocator, transfers: Transfers) -> None:
    with allocator.create_buffer(400, TRANSFER) as buffer:
        buffer.upload(bytes(400))
        buffer[100:200].upload(pattern(100))
        transfers.upload(pattern(50, 2), buffer[300:], 50).result()
        assert buffer[100:300].download(size=100).tobytes() == pattern(100)
        expected = bytes(100) + pattern(100) + bytes(150) + pattern(50, 2)
        assert buffer.download().tobytes() == expected
        with pytest.raises(InvalidArgumentError, match="101 bytes at offset 0: outside of a slice"):
            buffer[100:200].upload(bytes(101))


def test_slices(allocator: Allocator, transfers: Transfers) -> None:
    with BufferHeap(allocator, TRANSFER) as heap:
        first, second = heap.allocate(100), heap.allocate(100)
        first.upload(pattern(100))
        second.upload(pattern(50, 1), 50)
        transfers.upload(pattern(50, 2), second).result()
        assert first.download().tobytes() == pattern(100)
        assert second.download().tobytes() == pattern(50, 2) + pattern(50, 1)
        assert second.download(np.uint16, (5, 2), offset=50).tobytes() == pattern(50, 1)[:20]
        with pytest.raises(InvalidArgumentError, match="51 bytes at offset 50: outside of a slice"):
            first.upload(bytes(51), 50)
        with pytest.raises(InvalidArgumentError):
            first.download(size=101)
        first.free()
        for use in (lambda: first.upload(b"x"), first.download):
            with pytest.raises(UseAfterFreeError):
                use()
        second.free()


def test_a_new_buffer_with_its_data(allocator: Allocator, check: Check) -> None:
    values = np.arange(1000, dtype=np.float32)
    usage = BufferUsage.STORAGE_BUFFER | BufferUsage.TRANSFER_SRC
    with allocator.create_buffer(buffer_usage=usage, data=values, name="filled") as buffer:
        assert buffer.size == 4000 and buffer.name == "filled"
        assert buffer.usage == usage | BufferUsage.TRANSFER_DST
        assert check.read(buffer) == values.tobytes()
    with allocator.create_buffer(5000, "TRANSFER_SRC", data=values.reshape(10, 100).T) as buffer:
        assert buffer.size == 5000
        assert check.read(buffer)[:4000] == values.reshape(10, 100).T.tobytes()
    before = allocator.calculate_statistics().total.allocation_count
    with pytest.raises(InvalidArgumentError, match="4000 bytes at offset 0: outside"):
        allocator.create_buffer(3999, usage, data=values)
    with pytest.raises(TypeError, match="data: "):
        allocator.create_buffer(buffer_usage=usage, data=[1, 2])  # type: ignore[call-overload]
    with pytest.raises(InvalidArgumentError, match="of size 0"):
        allocator.create_buffer(buffer_usage=usage, data=b"")
    with pytest.raises(TypeError, match="needs size="):
        allocator.create_buffer(data=values)  # type: ignore[call-overload]
    assert allocator.calculate_statistics().total.allocation_count == before
    allocator.transfers.close()


def test_many_in_one_submission(allocator: Allocator) -> None:
    arrays = [np.full(1024, it, np.float32) for it in range(60)]
    with Transfers(allocator) as transfers:
        buffers = allocator.create_buffers([4096] * 60, TRANSFER)
        begun = transfers.upload_many(arrays, buffers)
        assert len(begun) == 60 and transfers.stats().submits <= 1
        back = transfers.download_many(buffers, np.float32)
        assert transfers.stats().submits <= 2
        for expected, transfer in zip(arrays, back, strict=True):
            assert (transfer.result() == expected).all()
        one = allocator.create_buffer(60 * 4096, TRANSFER)
        transfers.upload_many(arrays, [one] * 60, range(0, 60 * 4096, 4096))
        assert (one.download(np.float32, (60, 1024)) == np.stack(arrays)).all()
        outs = [bytearray(4096) for _ in buffers]
        for transfer in transfers.download_many(buffers, outs=outs):
            transfer.result()
        assert [bytes(it) for it in outs] == [it.tobytes() for it in arrays]
        wrong = [*arrays[:3], bytes(4097), *arrays[4:]]
        before = transfers.stats()
        with pytest.raises(InvalidArgumentError, match="item 3: 4097 bytes at offset 0") as caught:
            transfers.upload_many(wrong, buffers)
        assert caught.value.item == 3
        assert transfers.stats()[:3] == before[:3], "nothing was copied"
        with pytest.raises(InvalidArgumentError, match="60 arrays need as many buffers"):
            transfers.upload_many(arrays, buffers[1:])
        with pytest.raises(InvalidArgumentError, match="as many outs"):
            transfers.download_many(buffers, outs=outs[1:])
        transfers.wait()
        allocator.destroy_many([*buffers, one])


def test_batches(make_simulated: Any) -> None:
    device = make_simulated("discrete-8gib")
    with Allocator(device) as allocator, Transfers(allocator, 1 << 20) as transfers:
        buffer = allocator.create_buffer(64 << 10, TRANSFER)
        with transfers.batch() as batch:
            begun = [transfers.upload(pattern(64, it), buffer, it * 64) for it in range(100)]
            with transfers.batch():
                last = transfers.download(buffer, size=6400)
            assert transfers.stats().submits == 0
            assert not begun[0].done() and not last.done()
            assert transfers.stats().in_flight == 101
            batch.flush()
            assert transfers.stats().submits == 1 and begun[0].done()
            waited = transfers.upload(pattern(64, 200), buffer)
            assert waited.wait() and transfers.stats().submits == 2
            transfers.upload(pattern(64, 201), buffer)
        assert transfers.stats().submits == 3
        expected = b"".join(pattern(64, it) for it in range(100))
        assert last.result().tobytes() == expected
        assert buffer.download(size=6400).tobytes() == pattern(64, 201) + expected[64:]
        with pytest.raises(ZeroDivisionError), transfers.batch():
            last = transfers.upload(pattern(64, 7), buffer)
            raise ZeroDivisionError
        assert last.result() is None
        # The order of a batch is kept where its parts meet.
        with transfers.batch():
            for it in range(9):
                transfers.upload(pattern(64, it), buffer)
                last = transfers.download(buffer, size=64)
        assert last.result().tobytes() == pattern(64, 8)
        buffer.destroy()


def test_awaiting(allocator: Allocator, transfers: Transfers) -> None:
    values = np.arange(1000, dtype=np.float64)

    async def work() -> list[Any]:
        begun = transfers.upload(values, buffer, way="ring")
        assert await begun is None
        backs = [transfers.download(buffer, np.float64, offset=it * 8, size=8) for it in range(9)]
        return await asyncio.gather(*backs)

    with allocator.create_buffer(8000, TRANSFER) as buffer:
        assert [it.item() for it in asyncio.run(work())] == list(range(9))


def test_the_loop_goes_on_while_one_waits(make_simulated: Any) -> None:
    device = make_simulated("discrete-8gib")

    async def work(transfers: Transfers, buffer: Buffer) -> int:
        device.set_completion("held")
        begun = transfers.download(buffer)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            for _ in range(20):
                await asyncio.sleep(0.005)
                ticks += 1
            device.complete_submissions()

        _, found = await asyncio.gather(tick(), begun)
        assert len(found) == 64
        return ticks

    with (
        Allocator(device) as allocator,
        Transfers(allocator, RING) as transfers,
        allocator.create_buffer(64, TRANSFER) as buffer,
    ):
        assert asyncio.run(work(transfers, buffer)) == 20


def test_registered_arrays(device: Device) -> None:
    memory: Any = np.zeros(500_000, np.uint8)
    with Allocator(device) as allocator, Transfers(allocator, RING) as transfers:
        buffer = allocator.create_buffer(500_000, TRANSFER)
        try:
            registered = transfers.register(memory)
        except FeatureNotPresentError as error:
            assert "VK_EXT_external_memory_host" in str(error)
            buffer.destroy()
            return
        with registered:
            assert registered.nbytes == 500_000 and not registered.closed
            memory[:] = np.arange(500_000) % 251
            begun = transfers.upload(memory[1000:], buffer, 3)
            assert begun.way == "import" and begun.result() is None
            back = transfers.download(buffer, out=memory[:400_000], offset=3)
            assert back.way == "import"
            assert (back.result() == (np.arange(1000, 401_000) % 251).astype(np.uint8)).all()
            assert transfers.stats().imported == 2 and transfers.stats().ring == 0
            assert "registered" in transfers.explain(memory, buffer)
            # What does not lie in one piece, or not in it alone, takes another way.
            assert transfers.upload(memory[::2], buffer).way != "import"
            transfers.wait()
        assert registered.closed
        registered.close()
        with pytest.raises(UseAfterFreeError, match="registration is closed"), registered:
            pass
        assert transfers.upload(memory, buffer).way != "import"
        for wrong, text in (
            (bytes(9), "array"),
            (bytearray(), "no bytes"),
            (memory[::2], "contig"),
        ):
            with pytest.raises(InvalidArgumentError, match=text):
                transfers.register(wrong)
        transfers.wait()
        buffer.destroy()


def test_what_explain_tells(make_simulated: Any) -> None:
    device = make_simulated("discrete-8gib-bar")
    with Allocator(device) as allocator, Transfers(allocator, RING) as transfers:
        local = allocator.create_buffer(64, TRANSFER, name="local")
        written = allocator.create_buffer(64, TRANSFER, flags=WRITE, name="written")
        cached = allocator.create_buffer(64, TRANSFER, flags=RANDOM, name="cached")
        text = transfers.explain(bytes(64), local)
        assert text.startswith("ring: upload of 64 bytes to Buffer 'local'")
        assert "DEVICE_LOCAL" in text and "65536 bytes" in text
        assert transfers.explain(64, written).startswith("direct: ")
        assert transfers.explain(64, written, "download").startswith("ring: ")
        assert "not cached" in transfers.explain(64, written, "download")
        assert transfers.explain(64, cached, "download").startswith("direct: ")
        with pytest.raises(InvalidArgumentError, match="65 bytes"):
            transfers.explain(65, cached)
        with pytest.raises(InvalidArgumentError, match="direction is 'side'"):
            transfers.explain(64, cached, "side")  # type: ignore[arg-type]
        assert transfers.stats() == (0,) * 11
        allocator.destroy_many([local, written, cached])


@pytest.mark.parametrize("flags", [0, RANDOM])
def test_progress(make_simulated: Any, flags: int) -> None:
    device = make_simulated("discrete-8gib")
    size = (256 << 20) + 5
    data = np.zeros(size, np.uint8)
    calls: list[tuple[int, int]] = []

    def tell(done: int, total: int) -> None:
        calls.append((done, total))

    def fail(*_: int) -> None:
        raise ZeroDivisionError

    with Allocator(device) as allocator, Transfers(allocator) as transfers:
        buffer = allocator.create_buffer(size, TRANSFER, flags=flags)
        transfers.upload(data, buffer, progress=tell).result()
        assert len(calls) >= 2 and calls[-1] == (size, size)
        assert calls == sorted(set(calls))
        calls.clear()
        transfers.download(buffer, progress=tell).result()
        assert len(calls) >= 2 and calls[-1] == (size, size)
        assert calls == sorted(set(calls))
        with pytest.raises(ZeroDivisionError):
            transfers.upload(data, buffer, progress=fail)
        with pytest.raises(ZeroDivisionError):
            transfers.download(buffer, progress=fail)
        calls.clear()
        transfers.upload(data[: 1 << 20], buffer, progress=tell)
        assert calls == []
        transfers.wait()
        buffer.destroy()


def test_the_transfers_of_an_allocator(simulated_allocator: Allocator) -> None:
    with simulated_allocator.create_buffer(64, TRANSFER) as buffer:
        assert simulated_allocator.transfers.stats().ring_bytes == 0
        buffer.upload(pattern(64))
        assert buffer.download().tobytes() == pattern(64)
        stats = simulated_allocator.transfers.stats()
        assert (stats.bytes_up, stats.bytes_down, stats.ring) == (64, 64, 2)
        assert stats.ring_bytes == 128 << 20
        simulated_allocator.transfers.close()
        assert simulated_allocator.transfers.stats().ring_bytes == 0
        buffer.upload(pattern(64, 1))
        assert buffer.download().tobytes() == pattern(64, 1)
        with pytest.raises(InvalidArgumentError, match="ring_size is 1000"):
            Transfers(simulated_allocator, 1000)
        with pytest.raises(TypeError, match=r"must be a vk_mem.Allocator"):
            Transfers(simulated_allocator.device)  # type: ignore[arg-type]


def test_without_numpy(simulated_allocator: Allocator, monkeypatch: pytest.MonkeyPatch) -> None:
    from vk_mem.memory import transfers as module

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(module, "load", missing)
    with simulated_allocator.create_buffer(64, TRANSFER) as buffer:
        buffer.upload(array.array("B", pattern(64)))
        found = buffer.download()
        assert type(found) is bytearray and found == pattern(64)
        for keywords in ({"dtype": "f4"}, {"shape": 3}):
            with pytest.raises(ImportError, match=r"needs NumPy: pip install 'vk-mem\[numpy\]'"):
                buffer.download(**keywords)  # type: ignore[arg-type]
        with pytest.raises(ImportError, match="needs NumPy"):
            buffer.upload(b"x", dtype="f4")


def test_texts(simulated_allocator: Allocator) -> None:
    with Transfers(simulated_allocator, RING) as transfers:
        assert repr(transfers) == "<vk_mem.Transfers, rings of 65536 bytes, 0 in flight>"
        with simulated_allocator.create_buffer(64, TRANSFER) as buffer:
            begun = transfers.upload(bytes(64), buffer)
            begun.wait()
            assert repr(begun) == "<vk_mem.Transfer: upload of 64 bytes, ring, done>"
        assert transfers.ring_size == RING
    assert repr(transfers) == "<vk_mem.Transfers, closed>"
    assert vk_mem.TransferStatistics._fields[:2] == ("bytes_up", "bytes_down")
