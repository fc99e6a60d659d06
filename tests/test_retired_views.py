"""`retire()` with open views: gone for Python at once, released after its frames and its views."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from support import MAPPED, RANDOM, TRANSFER, Check, pattern, run_python, totals

from vk_mem import Allocator, Buffer, Device, SimulatedDevice, UseAfterFreeError


@pytest.fixture
def allocator(device: Device) -> Iterator[Allocator]:
    with Allocator(device, frames_in_flight=1) as allocator:
        yield allocator


def count(allocator: Allocator) -> int:
    return totals(allocator).allocation_count


def make(allocator: Allocator, **keywords: Any) -> Buffer:
    return allocator.create_buffer(4096, TRANSFER, **{"flags": RANDOM, **keywords})


@pytest.mark.parametrize("flags", [RANDOM, RANDOM | MAPPED])
def test_a_view_lives_on(allocator: Allocator, flags: Any) -> None:
    buffer = make(allocator, flags=flags, name="old")
    array = buffer.numpy("<u4")
    buffer.retire()
    assert not buffer.alive
    for use in (buffer.numpy, buffer.map, buffer.read, lambda: buffer.size):
        with pytest.raises(UseAfterFreeError, match="'old' was retired"):
            use()
    buffer.retire()
    buffer.destroy()
    array[:] = 7
    for frame in range(1, 6):
        allocator.set_current_frame_index(frame)
        # Nothing else gets its place.
        with make(allocator) as other:
            other.write(b"\x01" * 4096)
        assert array.tolist() == [7] * 1024
    assert count(allocator) == 1
    del array
    allocator.set_current_frame_index(6)
    assert count(allocator) == 0


def test_not_before_its_frames(allocator: Allocator) -> None:
    buffer = make(allocator)
    view = memoryview(buffer)
    buffer.retire()
    view.release()
    # The device may still use it.
    allocator.set_current_frame_index(1)
    assert count(allocator) == 1
    allocator.set_current_frame_index(2)
    assert count(allocator) == 0


def test_others_do_not_wait_for_a_view(allocator: Allocator) -> None:
    first, second = make(allocator), make(allocator)
    view = first.map()
    first.retire()
    second.retire()
    allocator.set_current_frame_index(2)
    assert count(allocator) == 1
    view.close()
    allocator.set_current_frame_index(2)
    assert count(allocator) == 0


def test_a_mapping_of_what_was_retired_works(simulated: SimulatedDevice) -> None:
    with Allocator(simulated, frames_in_flight=1) as allocator:
        buffer, target = make(allocator), make(allocator)
        mapping = buffer.map(256, 256)
        buffer.retire()
        flushes = simulated.call_count("vkFlushMappedMemoryRanges")
        with mapping as view:
            view[:4] = b"1234"
            mapping.flush(0, 4)
            assert simulated.call_count("vkFlushMappedMemoryRanges") == flushes + 1
            mapping.invalidate()
            assert bytes(view[:4]) == b"1234"
        # Its end flushes, as long as the memory is there.
        assert simulated.call_count("vkFlushMappedMemoryRanges") == flushes + 2
        assert mapping.closed
        target.destroy()


def test_who_closes_is_refused_while_a_view_lives(allocator: Allocator) -> None:
    with make(allocator) as example:
        pool = allocator.create_pool(memory_type_index=example.allocation.memory_type_index)
    buffer = make(allocator, pool=pool, name="seen")
    array = np.asarray(buffer)
    buffer.retire()
    for owner, close in (("pool", pool.close), ("allocator", allocator.close)):
        with pytest.raises(BufferError, match=f"cannot close the {owner}: .*open view"):
            close()
    assert array[0] == array[0]
    del array
    pool.close()
    assert count(allocator) == 0


def test_memory_alone(allocator: Allocator) -> None:
    memory = allocator.allocate_memory(4096, flags=RANDOM)
    array = memory.numpy()
    memory.retire()
    array[:] = 3
    allocator.set_current_frame_index(9)
    assert array.tolist() == [3] * 4096
    assert count(allocator) == 1
    del array
    allocator.set_current_frame_index(10)
    assert count(allocator) == 0


def test_an_alias_with_a_view_keeps_what_it_lies_in(simulated: SimulatedDevice) -> None:
    with Allocator(simulated, frames_in_flight=1) as allocator:
        base = allocator.allocate_memory(4096, flags=RANDOM)
        alias = allocator.create_aliasing_buffer(base, 256, TRANSFER)
        with pytest.raises(BufferError, match="is bound to it"):
            base.retire()
        array = alias.numpy()
        alias.retire()
        with pytest.raises(BufferError, match="cannot"):
            base.free()
        base.retire()
        allocator.set_current_frame_index(9)
        array[:] = 1
        assert (count(allocator), simulated.live_buffers) == (1, 1)
        del array
        allocator.set_current_frame_index(10)
        assert (count(allocator), simulated.live_buffers) == (0, 0)
        # And one whose own view ends last.
        base = allocator.allocate_memory(4096, flags=RANDOM)
        alias = allocator.create_aliasing_buffer(base, 256, TRANSFER)
        of_alias, of_base = alias.numpy(), base.numpy()
        alias.retire()
        base.retire()
        del of_alias
        allocator.set_current_frame_index(20)
        assert (count(allocator), simulated.live_buffers) == (1, 0)
        del of_base
        allocator.set_current_frame_index(21)
        assert count(allocator) == 0


def test_destroy_stays_strict(allocator: Allocator) -> None:
    buffer = make(allocator)
    array = buffer.numpy()
    with pytest.raises(BufferError, match="cannot destroy"):
        buffer.destroy()
    with pytest.raises(BufferError, match="cannot destroy"):
        allocator.destroy_many([buffer])
    del array
    buffer.destroy()


def test_a_call_that_runs_is_no_view(simulated: SimulatedDevice) -> None:
    """What another thread does with it may need it afterwards."""
    with Allocator(simulated) as allocator:
        buffer = make(allocator)
        view = buffer.map()
        simulated.set_latency(0.3, "vkQueueSubmit")
        worker = threading.Thread(target=simulated.fill_buffer, args=(buffer,))
        worker.start()
        refused = False
        while worker.is_alive() and not refused:
            try:
                if simulated.call_count("vkQueueSubmit"):
                    buffer.retire()
                    break
            except BufferError:
                refused = True
        worker.join()
        assert refused
        assert buffer.alive
        simulated.set_latency(0)
        view.close()
        buffer.retire()


def test_dumps_have_what_is_retired_and_seen(allocator: Allocator) -> None:
    buffer = make(allocator, name="seen")
    array = buffer.numpy()
    buffer.retire()
    assert "seen" in allocator.build_stats_string()
    del array


def test_views_at_the_end_of_the_interpreter() -> None:
    done = run_python(
        """
        import vk_mem
        device = vk_mem.SimulatedDevice("non-coherent")
        allocator = vk_mem.Allocator(device)
        buffer = allocator.create_buffer(64, "TRANSFER_SRC", flags="HOST_ACCESS_RANDOM")
        array = buffer.numpy()
        array[:] = 1
        capsule = buffer.__dlpack__()
        buffer.retire()
        """
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_device_sees_what_a_late_view_wrote(allocator: Allocator, check: Check) -> None:
    base = allocator.allocate_memory(4096, flags=RANDOM)
    alias = allocator.create_aliasing_buffer(base, 4096, TRANSFER)
    other = allocator.create_aliasing_buffer(base, 4096, TRANSFER)
    array = alias.numpy()
    alias.retire()
    array[:] = np.frombuffer(pattern(4096), np.uint8)
    del array
    gc.collect()
    assert check.read(other) == pattern(4096)
    other.destroy()
    base.retire()
