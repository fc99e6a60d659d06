"""User code that runs inside library calls: callbacks, finalisers, `__index__`, exporters."""

from __future__ import annotations

import contextlib
import gc
import sys
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support import DEDICATED, MAPPED, RANDOM, TRANSFER, pattern, totals

from vk_mem import Allocator, Buffer, SimulatedDevice, VkMemError

# ---- moments ----


class Finaliser:
    """Runs something when it is collected."""

    def __init__(self, run: Callable[[], object]) -> None:
        self.run = run

    def __del__(self) -> None:
        self.run()


def test_finalisers_of_user_data_come_back(simulated: SimulatedDevice) -> None:
    allocator = Allocator(simulated)
    seen: list[object] = []
    buffer = allocator.create_buffer(64, TRANSFER, flags=RANDOM | MAPPED)
    for use in (
        lambda: seen.append(buffer.user_data),
        lambda: setattr(buffer, "user_data", "set by the finaliser"),
        lambda: buffer.write(pattern(64)),
        lambda: seen.append(bytes(buffer.mapped)),
        lambda: allocator.create_buffer(64, TRANSFER).destroy(),
        lambda: gc.collect(),
        lambda: allocator.validate(),
        buffer.destroy,
    ):
        buffer.user_data = Finaliser(use)
        buffer.user_data = None
    assert not buffer.alive
    assert seen[1] == pattern(64)
    other = allocator.create_buffer(64, TRANSFER, user_data=Finaliser(allocator.close))
    # Raised in a finaliser, where a warning that is an error is only shown.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        other.user_data = None
    assert allocator.closed
    assert not other.alive
    assert [it.category for it in caught] == [ResourceWarning]


def test_a_finaliser_destroys_what_is_being_dropped(simulated_allocator: Allocator) -> None:
    buffer = simulated_allocator.create_buffer(64, TRANSFER)
    again = weakref.ref(buffer)
    buffer.user_data = Finaliser(lambda: again() and again().destroy())
    buffer.destroy()
    del buffer
    gc.collect()
    # And one that closes others of its kind while it goes.
    others = [simulated_allocator.create_buffer(64, TRANSFER) for _ in range(5)]
    one = simulated_allocator.create_buffer(
        64, TRANSFER, user_data=Finaliser(lambda: [it.destroy() for it in others])
    )
    one.destroy()
    del one
    gc.collect()
    assert not any(it.alive for it in others)


def test_numbers_that_end_what_they_are_given_to(simulated_allocator: Allocator) -> None:
    device = simulated_allocator.device
    refused: list[type[BaseException]] = []

    class Ends:
        def __init__(self, end: Callable[[], None]) -> None:
            self.end = end

        def __index__(self) -> int:
            try:
                self.end()
            except BufferError as error:
                refused.append(type(error))
            return 0

    def fresh() -> Buffer:
        return simulated_allocator.create_buffer(64, TRANSFER, flags=RANDOM | MAPPED)

    uses: list[Callable[[Buffer, Any], object]] = [
        lambda it, number: it.read(number, 4),
        lambda it, number: it.read(0, number),
        lambda it, number: it.write(b"x", number),
        lambda it, number: it.read_into(bytearray(4), number),
        lambda it, number: it.flush(number),
        lambda it, number: it.invalidate(0, number),
        lambda it, number: device.fill_buffer(it, number),
        lambda it, number: device.fill_buffer(it, 0, offset=number),
        lambda it, number: device.copy_buffer(it, it, 8, source_offset=number, target_offset=32),
        lambda it, number: simulated_allocator.create_buffer(number, 3),
        lambda it, number: simulated_allocator.allocate_memory(64, number),
        lambda it, number: simulated_allocator.create_image(37, (number, 4), 3),
    ]
    for use in uses:
        for close in (False, True):
            buffer = fresh()
            end = simulated_allocator.close if close else buffer.destroy
            if close:
                view = buffer.mapped  # so that it is refused: the allocator is still needed
            # UseAfterFreeError is a ValueError.
            with contextlib.suppress(ValueError, BufferError):
                use(buffer, Ends(end))
            if close:
                view.release()
                del view
            buffer.destroy()
    assert refused


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ in Python code is of 3.12")
def test_buffers_that_end_what_they_are_copied_to(simulated_allocator: Allocator) -> None:
    buffer = simulated_allocator.create_buffer(64, TRANSFER, flags=RANDOM)

    class Ends:
        def __buffer__(self, flags: int) -> memoryview:
            with pytest.raises(BufferError):
                buffer.destroy()
            return memoryview(bytearray(b"abcd"))

    class Raises:
        def __buffer__(self, flags: int) -> memoryview:
            raise ZeroDivisionError("mine")

    buffer.write(Ends())
    buffer.read_into(Ends())
    for use in (buffer.write, buffer.read_into):
        with pytest.raises(ZeroDivisionError, match="mine"):
            use(Raises())
    assert buffer.read(0, 4) == b"abcd"
    buffer.destroy()


def test_warnings_that_come_back(simulated: SimulatedDevice) -> None:
    """Showing a warning runs Python code in the middle of a finaliser."""
    allocator = Allocator(simulated)
    shown = 0

    def show(*_: object, **__: object) -> None:
        nonlocal shown
        shown += 1
        gc.collect()
        if not allocator.closed:
            allocator.create_buffer(64, TRANSFER, flags=DEDICATED).destroy()
            allocator.set_current_frame_index(100 * shown)
            allocator.validate()
        if shown == 5:
            allocator.close()

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        for _ in range(10):
            if not allocator.closed:
                allocator.create_buffer(64, TRANSFER, flags=RANDOM)
        gc.collect()
    assert shown >= 5
    assert allocator.closed


def test_collections_at_every_moment(simulated: SimulatedDevice) -> None:
    """Garbage is collected at nearly every allocation of a Python object."""
    before = gc.get_threshold()
    allocator = Allocator(simulated)
    gc.set_threshold(1, 1, 1)
    try:
        for i in range(60):
            buffer = allocator.create_buffer(64, TRANSFER, flags=RANDOM, name=f"number {i}")
            buffer.user_data = [buffer]
            # A cycle that pins; only a collection ends it.
            mapping = buffer.map(readonly=i % 2 == 0)
            cycle: list[Any] = [memoryview(mapping)]
            cycle.append(cycle)
            del cycle
            with pytest.raises((BufferError, TypeError)):
                # For a read-only mapping, while the collection may release views of it.
                memoryview(mapping)[0] = "x"  # type: ignore[call-overload]
            gc.collect()
            mapping.close()
            buffer.destroy()
            del buffer, mapping
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert totals(allocator).allocation_count == 0
    allocator.close()


def test_destroy_inside_the_release_of_a_view(simulated_allocator: Allocator) -> None:
    buffer = simulated_allocator.create_buffer(64, TRANSFER, flags=RANDOM)
    outcomes: list[str] = []

    def end(_: object) -> None:
        try:
            buffer.destroy()
            outcomes.append("destroyed")
        except BufferError:
            outcomes.append("refused")

    mapping = buffer.map()
    watched = weakref.ref(mapping, end)
    view = memoryview(mapping)
    del mapping
    view.release()
    del view
    gc.collect()
    assert watched() is None
    assert outcomes in (["destroyed"], ["refused"])
    buffer.destroy()
    assert not buffer.alive


def test_deep_nesting_of_views(simulated_allocator: Allocator) -> None:
    with simulated_allocator.create_buffer(4096, TRANSFER, flags=RANDOM) as buffer:
        view = memoryview(buffer.map())
        for _ in range(4095):
            view = view[1:]
        view[0] = 7
        assert buffer.read(4095) == b"\x07"
        with pytest.raises(BufferError):
            buffer.destroy()
        view.release()
        del view
        gc.collect()


def test_a_copy_of_a_buffer_to_itself_through_its_own_view(
    simulated_allocator: Allocator,
) -> None:
    with simulated_allocator.create_buffer(200_000, TRANSFER, flags=RANDOM) as buffer:
        buffer.write(pattern(200_000))
        with buffer.map() as view:
            # Overlapping, and above the size from which other threads run.
            buffer.write(view[:100_000], 50_000)
            expected = pattern(200_000)
            expected = expected[:50_000] + expected[:100_000] + expected[150_000:]
            assert bytes(view) == expected
        assert buffer.read() == expected


def test_sizes_at_the_edge_of_the_machine(make_simulated: Callable[..., SimulatedDevice]) -> None:
    device = make_simulated(
        heaps=[(2**64 - 1, 1)], types=[(0, 15)], max_memory_allocation_size=2**64 - 1
    )
    for size in (2**64 - 1, 2**63, 2**63 - 1, 2**62):
        for block in (None, 1, 2**64 - 1, 2**63):
            with Allocator(device, preferred_block_size=block) as allocator:
                memory = allocator.allocate_memory(size, flags=DEDICATED)
                assert memory.size == size
                # More than the host has; each is an error, not an end.
                for use in (memory.read, memory.map, lambda it=memory: it.write(b"x", it.size - 1)):
                    with pytest.raises((VkMemError, MemoryError)):
                        use()
                memory.read(0, 0)
                memory.flush(size - 1)
                memory.free()
