"""Host and device write to the same non-coherent memory, and no write is lost.

The simulated device keeps separate copies for host and device, so a missing flush, or one of too
many bytes, shows as wrong bytes.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import checked, open_device
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import MAPPED, RANDOM, TRANSFER, Check, pattern

from vk_mem import (
    AllocationCreateFlags,
    Allocator,
    Buffer,
    BufferHeap,
    DeviceLostError,
    InvalidArgumentError,
    Mapping,
    MemoryPropertyFlags,
    Pool,
    SimulatedDevice,
    UnflushedWriteWarning,
    UseAfterFreeError,
)

SIZE = 4096
ATOM = 256  # of the fixture's device


@pytest.fixture(params=[RANDOM, RANDOM | MAPPED], ids=["mapped when used", "MAPPED"])
def buffer(simulated_allocator: Allocator, request: pytest.FixtureRequest) -> Iterator[Buffer]:
    assert simulated_allocator.device.properties.non_coherent_atom_size == ATOM
    with simulated_allocator.create_buffer(SIZE, TRANSFER, flags=request.param) as buffer:
        assert MemoryPropertyFlags.HOST_COHERENT not in buffer.allocation.memory_properties
        buffer.write(pattern(SIZE))
        yield buffer


@pytest.fixture
def seen(simulated_allocator: Allocator) -> Check:
    return Check(simulated_allocator)


def with_part(before: bytes, offset: int, part: bytes) -> bytes:
    return before[:offset] + part + before[offset + len(part) :]


def atoms(offset: int, size: int) -> range:
    """Those that a range touches."""
    return range(offset // ATOM, -(-(offset + size) // ATOM))


# ---- what a view flushes ----


def test_the_end_of_a_view_flushes_its_part_alone(
    simulated: SimulatedDevice, buffer: Buffer, seen: Check
) -> None:
    with buffer.map(ATOM, ATOM) as view:
        assert view.nbytes == ATOM
        simulated.fill_buffer(buffer, 0xAAAAAAAA, size=ATOM)
        simulated.fill_buffer(buffer, 0xBBBBBBBB, offset=2 * ATOM)
        view[10:13] = b"xyz"
    expected = b"\xaa" * ATOM + pattern(SIZE)[ATOM : 2 * ATOM] + b"\xbb" * (SIZE - 2 * ATOM)
    expected = with_part(expected, ATOM + 10, b"xyz")
    assert seen.read(buffer) == expected
    assert buffer.read() == expected


def test_a_read_only_view_flushes_nothing(
    simulated: SimulatedDevice, buffer: Buffer, seen: Check
) -> None:
    mapping = buffer.map(readonly=True)
    with mapping as view:
        assert bytes(view) == pattern(SIZE)
        simulated.fill_buffer(buffer, 0xAAAAAAAA)
        mapping.flush()
        assert seen.read(buffer) == b"\xaa" * SIZE
        mapping.invalidate(ATOM, ATOM)
        assert bytes(view[ATOM : 2 * ATOM]) == b"\xaa" * ATOM
        assert bytes(view[:ATOM]) == pattern(SIZE)[:ATOM]
    assert seen.read(buffer) == b"\xaa" * SIZE


def test_parts_of_a_mapping_are_flushed_and_invalidated(
    simulated: SimulatedDevice, buffer: Buffer, seen: Check
) -> None:
    mapping = buffer.map(512, 2048)
    assert (mapping.offset, mapping.size, len(mapping)) == (512, 2048, 2048)
    assert "2048 bytes at offset 512, open" in repr(mapping)
    with mapping as view:
        view[:] = b"\x01" * 2048
        mapping.flush(256, 256)
        flushed = with_part(pattern(SIZE), 768, b"\x01" * 256)
        assert seen.read_unflushed(buffer) == flushed
        mapping.flush(1024)
        flushed = with_part(flushed, 1536, b"\x01" * 1024)
        assert seen.read_unflushed(buffer) == flushed
        with pytest.warns(UnflushedWriteWarning, match="256 bytes at offset 512 and"):
            simulated.fill_buffer(buffer, 0x22222222, offset=512, size=512)
        mapping.invalidate(0, 256)
        assert bytes(view[:512]) == b"\x22" * 256 + b"\x01" * 256
        for offset, size in ((0, 2049), (2049, 0), (2048, 1), (1 << 63, 1 << 63)):
            for call in (mapping.flush, mapping.invalidate):
                with pytest.raises(InvalidArgumentError, match="mapping of 2048 bytes"):
                    call(offset, size)
        with pytest.raises(TypeError, match="offset"):
            mapping.flush("0")  # type: ignore[arg-type]
    for call in (mapping.flush, mapping.invalidate):
        with pytest.raises(UseAfterFreeError, match="closed"):
            call()


def test_parts_that_cannot_be_mapped(buffer: Buffer) -> None:
    for offset, size in ((SIZE + 1, None), (0, SIZE + 1), (SIZE, 1), (1, (1 << 64) - 2)):
        with pytest.raises(InvalidArgumentError, match="outside of Buffer"):
            buffer.map(offset, size)
    with buffer.map(SIZE) as nothing:
        assert nothing.nbytes == 0
    with buffer.map(size=3, offset=1) as three:
        assert bytes(three) == pattern(SIZE)[1:4]
    first, second = buffer.map(), buffer.map(100)
    assert second.address == first.address + 100
    first.close()
    second.close()


def test_views_side_by_side_do_not_undo_each_other(buffer: Buffer, seen: Check) -> None:
    # The second opens in the atom that the first has written to and not flushed.
    with buffer.map(0, 100) as first:
        first[:] = b"1" * 100
        with buffer.map(100, 100) as second:
            second[:] = b"2" * 100
            with buffer.map(0, 200, readonly=True) as both:
                assert bytes(both) == b"1" * 100 + b"2" * 100
        first[0] = 0
    assert seen.read(buffer)[:201] == b"\0" + b"1" * 99 + b"2" * 100 + pattern(SIZE)[200:201]


def test_an_explicit_flush_gives_back_what_views_show_alone(
    simulated: SimulatedDevice, simulated_allocator: Allocator, seen: Check
) -> None:
    with simulated_allocator.create_buffer(SIZE, TRANSFER, flags=RANDOM) as buffer:
        buffer.write(pattern(SIZE))
        with buffer.map(0, ATOM) as view, buffer.map(readonly=True):
            simulated.fill_buffer(buffer, 0xAAAAAAAA, offset=ATOM)
            view[0] = 7
            buffer.flush()
            expected = b"\x07" + pattern(SIZE)[1:ATOM] + b"\xaa" * (SIZE - ATOM)
            assert seen.read(buffer) == expected
        simulated.fill_buffer(buffer, 0xBBBBBBBB)
        buffer.flush()
        assert seen.read(buffer) == b"\xbb" * SIZE


# ---- copies ----


@pytest.mark.parametrize(("offset", "size"), [(300, 5), (250, 12), (0, 256), (255, 257), (1, 600)])
def test_a_write_leaves_the_rest_of_its_atoms_to_the_device(
    simulated: SimulatedDevice, buffer: Buffer, seen: Check, offset: int, size: int
) -> None:
    simulated.fill_buffer(buffer, 0xAAAAAAAA)
    buffer.write(b"\x01" * size, offset)
    assert seen.read(buffer) == with_part(b"\xaa" * SIZE, offset, b"\x01" * size)


def test_a_write_costs_no_more_calls_than_its_edges_need(
    simulated: SimulatedDevice, buffer: Buffer
) -> None:
    def calls() -> tuple[int, int]:
        before = simulated.call_count("vkFlushMappedMemoryRanges")
        return before, simulated.call_count("vkInvalidateMappedMemoryRanges")

    flushes, invalidates = calls()
    buffer.write(bytes(2 * ATOM), ATOM)
    assert calls() == (flushes + 1, invalidates), "whole atoms need no look at the device's side"
    buffer.write(bytes(2 * ATOM), ATOM + 1)
    assert calls() == (flushes + 2, invalidates + 1), "both edges in one call"


def test_a_read_is_up_to_date_beside_views(simulated: SimulatedDevice, buffer: Buffer) -> None:
    with buffer.map(readonly=True), buffer.map(ATOM, ATOM) as view:
        simulated.fill_buffer(buffer, 0xAAAAAAAA, size=ATOM)
        simulated.fill_buffer(buffer, 0xBBBBBBBB, offset=2 * ATOM)
        view[0] = 9
        expected = b"\xaa" * ATOM + b"\x09" + pattern(SIZE)[ATOM + 1 : 2 * ATOM]
        assert buffer.read() == expected + b"\xbb" * (SIZE - 2 * ATOM)
        target = bytearray(SIZE)
        buffer.read_into(target)
        assert target == expected + b"\xbb" * (SIZE - 2 * ATOM)


def test_an_alias_and_its_base_share_what_is_known(
    simulated: SimulatedDevice, simulated_allocator: Allocator, seen: Check
) -> None:
    with simulated_allocator.allocate_memory(SIZE, 256, flags=RANDOM) as memory:
        whole = simulated_allocator.create_aliasing_buffer(memory, SIZE, TRANSFER)
        part = simulated_allocator.create_aliasing_buffer(memory, 512, TRANSFER, local_offset=1024)
        whole.write(pattern(SIZE))
        with part.map(0, ATOM) as view:
            view[0] = 1
            simulated.fill_buffer(whole, 0xAAAAAAAA, size=1024)
            simulated.fill_buffer(part, 0xBBBBBBBB, offset=ATOM)
            expected = b"\xaa" * 1024 + b"\x01" + pattern(SIZE)[1025 : 1024 + ATOM]
            expected += b"\xbb" * ATOM + pattern(SIZE)[1536:]
            assert whole.read() == memory.read() == expected
        assert seen.read(whole) == expected
        part.destroy()
        whole.destroy()


def test_threads_that_write_into_one_atom_lose_nothing(
    simulated: SimulatedDevice, buffer: Buffer, seen: Check
) -> None:
    failures: list[BaseException] = []

    def work(index: int) -> None:
        try:
            for value in range(200):
                mine = bytes([value]) * 8
                buffer.write(mine, 8 * index)
                assert buffer.read(8 * index, 8) == mine
                buffer.invalidate()
                buffer.flush()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert seen.read(buffer) == with_part(pattern(SIZE), 0, bytes([199]) * 48)


# ---- neighbours ----


def test_the_view_of_a_slice_is_flushed_without_its_neighbours(
    simulated: SimulatedDevice, simulated_allocator: Allocator, seen: Check
) -> None:
    with BufferHeap(simulated_allocator, TRANSFER, flags=RANDOM, block_size=64 << 10) as heap:
        one, two = heap.allocate(100), heap.allocate(100)
        assert one.buffer is two.buffer
        view = one.mapped
        assert view is not None
        view[:4] = b"here"
        simulated.fill_buffer(two.buffer, 0xAAAAAAAA, offset=two.offset, size=100)
        one.flush(0, 4)
        whole = seen.read(one.buffer)
        assert whole[one.offset :][:4] == b"here" and whole[two.offset :][:100] == b"\xaa" * 100
        view[4:8] = b"more"
        simulated.fill_buffer(one.buffer, 0xBBBBBBBB, offset=one.offset, size=4)
        one.invalidate()
        assert bytes(view[:8]) == b"\xbb" * 4 + bytes(4), "what is not flushed is lost"
        view[4:8] = b"last"
        del view
        one.free()
        whole = seen.read(two.buffer)
        assert whole[two.offset :][:100] == b"\xaa" * 100 == two.read()
        for call in (two.flush, two.invalidate):
            for offset, size in ((0, 101), (101, 0)):
                with pytest.raises(InvalidArgumentError, match="slice of 100 bytes"):
                    call(offset, size)


@pytest.mark.parametrize("algorithm", ["tlsf", "linear", "buddy"])
@pytest.mark.parametrize(
    "wishes",
    [
        {"flags": RANDOM},
        {"required_flags": MemoryPropertyFlags.HOST_VISIBLE | MemoryPropertyFlags.HOST_CACHED},
    ],
    ids=["HOST_ACCESS", "required_flags"],
)
def test_slices_are_an_atom_apart(
    simulated_allocator: Allocator, algorithm: str, wishes: dict[str, Any]
) -> None:
    with BufferHeap(
        simulated_allocator, TRANSFER, block_size=64 << 10, algorithm=algorithm, **wishes
    ) as heap:
        pieces = [heap.allocate(size) for size in (1, 300, 20, 257, 4)]
        assert not pieces[0].buffer.allocation.memory_properties & MemoryPropertyFlags.HOST_COHERENT
        assert heap.alignment == ATOM
        atoms = [
            {
                (it.handle, atom)
                for atom in range(it.offset // ATOM, -(-(it.offset + it.size) // ATOM))
            }
            for it in pieces
        ]
        assert sum(map(len, atoms)) == len(set.union(*atoms))


@pytest.mark.parametrize("algorithm", ["tlsf", "linear", "buddy"])
def test_allocations_are_an_atom_apart(simulated_allocator: Allocator, algorithm: str) -> None:
    upper = AllocationCreateFlags.UPPER_ADDRESS if algorithm == "linear" else 0
    like = simulated_allocator.allocate_memory(1, flags=RANDOM)
    type_index = like.memory_type_index
    like.free()
    pool: Pool
    with simulated_allocator.create_pool(
        memory_type_index=type_index, algorithm=algorithm, block_size=64 << 10, max_block_count=1
    ) as pool:
        made = [
            simulated_allocator.create_buffer(size, TRANSFER, pool=pool, flags=flags)
            for size in (1, 300, 20, 257, 4)
            for flags in (0, upper)
        ]
        taken = [
            (it.allocation.device_memory, atom)
            for it in made
            for atom in atoms(it.allocation.offset, it.allocation.size)
        ]
        assert len(taken) == len(set(taken))
        simulated_allocator.destroy_many(made)


# ---- what is not mapped, and many at once ----


@pytest.mark.parametrize(
    "profile", ["non-coherent", "nvidia-h200", pytest.param("driver", marks=pytest.mark.driver)]
)
def test_what_is_not_mapped_needs_no_flush(profile: str) -> None:
    with checked(open_device(profile)) as device, Allocator(device) as allocator:
        buffer = allocator.create_buffer(100, TRANSFER, flags=RANDOM)
        hidden = allocator.create_buffer(100, TRANSFER)
        memory = allocator.allocate_memory(100, flags=RANDOM)
        heap = BufferHeap(allocator, TRANSFER, flags=RANDOM)
        piece = heap.allocate(100)
        everything = [buffer, hidden, memory, buffer.allocation, hidden.allocation]
        for it in [*everything, piece]:
            it.flush()
            it.flush(10, 20)
            it.invalidate()
            it.invalidate(10, 20)
            with pytest.raises(InvalidArgumentError, match="outside"):
                it.flush(1 << 40)
            with pytest.raises(InvalidArgumentError, match="outside"):
                it.invalidate(0, 1 << 40)
        allocator.flush_allocations(everything)
        allocator.invalidate_allocations(everything, [0, 1, 2, 3, 4], [1] * 5)
        piece.free()
        heap.close()
        allocator.destroy_many([buffer, hidden, memory])


def test_many_are_flushed_in_one_call(
    simulated: SimulatedDevice, simulated_allocator: Allocator, seen: Check
) -> None:
    flush, invalidate = "vkFlushMappedMemoryRanges", "vkInvalidateMappedMemoryRanges"
    sizes = [1000, 3000, 1 << 20]
    buffers = simulated_allocator.create_buffers(sizes, TRANSFER, flags=RANDOM | MAPPED)
    views = [it.mapped for it in buffers]
    for view in views:
        view[:] = b"\x01" * len(view)
    before = simulated.call_count(flush)
    simulated_allocator.flush_allocations(buffers, offsets=[0, 512, 256], sizes=[256, 1024, 1])
    assert simulated.call_count(flush) == before + 1
    for it, (start, end) in zip(buffers, [(0, 256), (512, 1536), (256, 512)], strict=True):
        expected = with_part(bytes(it.size), start, b"\x01" * (end - start))
        assert seen.read_unflushed(it) == expected
    for it in buffers:
        with pytest.warns(UnflushedWriteWarning, match="before the device writes there"):
            simulated.fill_buffer(it, 0x02020202)
    before = simulated.call_count(invalidate)
    mixed = [buffers[0], buffers[1].allocation, buffers[2]]
    simulated_allocator.invalidate_allocations(mixed, [0, 256, 0])
    assert simulated.call_count(invalidate) == before + 1
    assert bytes(views[0]) == b"\x02" * 1000
    assert bytes(views[1]) == b"\x01" * 256 + b"\x02" * 2744
    assert bytes(views[2]) == b"\x02" * (1 << 20)
    # One call as well, in another order and with one twice.
    simulated_allocator.invalidate_allocations([*reversed(mixed), buffers[0]])
    simulated_allocator.flush_allocations([])
    simulated_allocator.invalidate_allocations(())
    del views, view
    simulated_allocator.destroy_many(buffers)


def test_many_that_are_wrong_say_which(
    simulated: SimulatedDevice, simulated_allocator: Allocator
) -> None:
    buffers = simulated_allocator.create_buffers([100, 200], TRANSFER, flags=RANDOM | MAPPED)
    with Allocator(simulated) as other, other.create_buffer(8, TRANSFER) as foreign:
        dead = simulated_allocator.create_buffer(8, TRANSFER)
        dead.destroy()
        for call in (
            simulated_allocator.flush_allocations,
            simulated_allocator.invalidate_allocations,
        ):
            before = simulated.fallible_call_count
            for arguments, error, words in (
                (([*buffers, foreign],), InvalidArgumentError, "item 2: .* of another allocator"),
                (([*buffers, dead],), UseAfterFreeError, "item 2: .* destroyed"),
                (([*buffers, 5],), TypeError, "item 2: int is no Buffer"),
                ((buffers, [0, 2010]), InvalidArgumentError, "item 1: .*from offset 2010"),
                ((buffers, None, [1010, 0]), InvalidArgumentError, "item 0: 1010 bytes"),
                ((buffers, [0]), TypeError, "offsets has 1 offset for 2 allocations"),
                ((buffers, None, [1, 2, 3]), TypeError, "sizes has 3 sizes for 2 allocations"),
                ((buffers, ["0", 0]), TypeError, "item 0: offset must be an integer"),
                ((5,), TypeError, "must be an iterable"),
            ):
                with pytest.raises(error, match=words):
                    call(*arguments)
            assert simulated.fallible_call_count == before, "nothing is done of any"
        whole = (1 << 64) - 1
        simulated_allocator.flush_allocations(buffers, None, [whole, whole])
    simulated_allocator.destroy_many(buffers)


# ---- a failing flush ----


def test_a_flush_that_fails_leaves_the_exception_that_is_on_its_way(
    simulated: SimulatedDevice, simulated_allocator: Allocator, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[BaseException | None] = []
    monkeypatch.setattr("sys.unraisablehook", lambda it: shown.append(it.exc_value))

    class Leaving:
        """Leaves the mapping while a function of C has its memory, and fails."""

        def __init__(self, mapping: Mapping) -> None:
            self.mapping = mapping

        def __index__(self) -> int:
            self.mapping.__exit__(None, None, None)
            simulated.fail_next("vkFlushMappedMemoryRanges", 1, -4)
            raise KeyError("the caller's")

    with simulated_allocator.create_buffer(SIZE, TRANSFER, flags=RANDOM) as buffer:
        mapping = buffer.map()
        with pytest.raises(KeyError, match="the caller's"):
            struct.pack_into("i", mapping, 0, Leaving(mapping))
        assert mapping.closed
        assert [type(it) for it in shown] == [DeviceLostError]


# ---- against a model ----

RANGES = st.tuples(st.integers(0, SIZE), st.integers(0, 3 * ATOM))
STEPS = st.one_of(
    st.tuples(st.just("write"), RANGES, st.integers(1, 255)),
    st.tuples(st.just("read"), RANGES, st.booleans()),
    st.tuples(st.just("open"), RANGES, st.booleans()),
    st.tuples(st.just("use"), RANGES, st.integers(1, 255)),
    st.tuples(st.just("flush"), RANGES, st.booleans()),
    st.tuples(st.just("close"), RANGES, st.none()),
    st.tuples(st.just("fill"), RANGES, st.integers(1, 255)),
    st.tuples(st.just("copy"), RANGES, st.integers(1, 255)),
)


class Program:
    """A buffer and an alias of a part of it, beside the bytes that they have to hold."""

    def __init__(self, allocator: Allocator, flags: int) -> None:
        self.device = allocator.device
        self.is_mapped = bool(flags & MAPPED)
        self.check = Check(allocator)
        self.buffer = allocator.create_buffer(
            SIZE, TRANSFER, flags=flags | AllocationCreateFlags.CAN_ALIAS
        )
        self.alias = allocator.create_aliasing_buffer(
            self.buffer, SIZE // 2, TRANSFER, local_offset=SIZE // 4
        )
        self.buffer.write(bytes(SIZE))
        self.model = bytearray(SIZE)
        # Mapping, where it begins in the buffer, and whether it may be written.
        self.views: list[tuple[Mapping, int, int, bool]] = []

    def within(self, place: tuple[int, int]) -> tuple[Buffer, int, int, int]:
        """One of both buffers, a range of it, and where that begins in the first."""
        offset, size = place
        if size % 2 and SIZE // 4 <= offset <= SIZE // 4 * 3:
            base, buffer = SIZE // 4, self.alias
        else:
            base, buffer = 0, self.buffer
        return buffer, offset - base, min(size, buffer.size - (offset - base)), offset

    def is_watched(self, start: int, size: int) -> bool:
        """Whether the host may have unflushed bytes in an atom of the range."""
        mine = set(atoms(start, size))
        return any(
            writable and length and mine & set(atoms(begin, length))
            for _, begin, length, writable in self.views
        )

    def step(self, kind: str, place: tuple[int, int], value: Any) -> None:
        buffer, offset, size, start = self.within(place)
        expected = bytes(self.model[start : start + size])
        match kind:
            case "write":
                buffer.write(bytes([value]) * size, offset)
                self.model[start : start + size] = bytes([value]) * size
            case "read":
                target = bytearray(size)
                buffer.read_into(target, offset)
                assert target == expected == buffer.read(offset, size)
            case "open":
                mapping = buffer.map(offset, size, readonly=value)
                with memoryview(mapping) as view:
                    assert view == expected
                self.views.append((mapping, start, size, not value))
            case "use" if self.views:
                mapping, begin, length, writable = self.views[place[0] % len(self.views)]
                at = min(place[1], length)
                size = min(10, length - at)
                with memoryview(mapping) as view:
                    if writable:
                        view[at : at + size] = bytes([value]) * size
                        self.model[begin + at : begin + at + size] = bytes([value]) * size
            case "flush":
                if value and self.views:
                    self.views[place[0] % len(self.views)][0].flush()
                elif not self.is_mapped:
                    # Of MAPPED memory the host may have written all.
                    buffer.flush(offset, size)
            case "close" if self.views:
                self.views.pop(place[0] % len(self.views))[0].close()
            case "fill" | "copy":
                if kind == "fill":
                    start, offset, size = (it // 4 * 4 for it in (start, offset, size))
                # What both write at once is lost, whoever does it.
                if size and not self.is_watched(start, size):
                    self.device_write(kind, buffer, offset, bytes([value]) * size)
                    self.model[start : start + size] = bytes([value]) * size

    def device_write(self, kind: str, buffer: Buffer, offset: int, data: bytes) -> None:
        if kind == "fill":
            value = int.from_bytes(data[:4], "little")
            self.device.fill_buffer(buffer, value, offset=offset, size=len(data))
            return
        with self.check.allocator.create_buffer(len(data), TRANSFER, flags=RANDOM) as source:
            source.write(data)
            self.device.copy_buffer(source, buffer, target_offset=offset)

    def end(self) -> None:
        for mapping, *_ in self.views:
            mapping.close()
        left = self.check.read(self.buffer), self.buffer.read()
        self.alias.destroy()
        self.buffer.destroy()
        assert left == (self.model, self.model)


@pytest.mark.parametrize("flags", [RANDOM, RANDOM | MAPPED], ids=["mapped when used", "MAPPED"])
@pytest.mark.parametrize(
    "profile", ["non-coherent", pytest.param("driver", marks=pytest.mark.driver)]
)
def test_random_programs_of_host_and_device_lose_nothing(profile: str, flags: int) -> None:
    with checked(open_device(profile)) as device, Allocator(device) as allocator:

        @settings(
            max_examples=150 if profile == "non-coherent" else 15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.lists(STEPS, max_size=30))
        def run(steps: list[tuple[str, tuple[int, int], Any]]) -> None:
            program = Program(allocator, flags)
            try:
                for step in steps:
                    program.step(*step)
            finally:
                program.end()

        run()
