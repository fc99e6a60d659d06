"""Lifetimes: views that pin memory, objects that were never closed, owners."""

from __future__ import annotations

import gc
import io
import itertools
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support import (
    DEDICATED,
    IMAGE_TRANSFER,
    MAPPED,
    RANDOM,
    RGBA8,
    TRANSFER,
    Check,
    pattern,
    totals,
)

import vk_mem
from vk_mem import Allocator, Device, SimulatedDevice, UseAfterFreeError

# ---- views pin ----


def test_a_view_pins_its_buffer(allocator: Allocator) -> None:
    buffer = allocator.create_buffer(64, TRANSFER, flags=RANDOM, name="pinned")
    with buffer.map() as view:
        with pytest.raises(BufferError, match="'pinned'"):
            buffer.destroy()
        with pytest.raises(BufferError, match="'pinned'"):
            allocator.close()
        assert buffer.alive
        assert not allocator.closed
        view[:] = pattern(64)
    assert buffer.read() == pattern(64)
    buffer.destroy()


def test_a_mapping_without_a_view_pins_too(allocator: Allocator) -> None:
    buffer = allocator.create_buffer(64, TRANSFER, flags=RANDOM)
    mapping = buffer.map()
    with pytest.raises(BufferError):
        buffer.destroy()
    mapping.close()
    mapping.close()
    buffer.destroy()


def test_a_slice_keeps_the_memory_after_the_with(allocator: Allocator, check: Check) -> None:
    buffer = allocator.create_buffer(64, TRANSFER, flags=RANDOM)
    mapping = buffer.map()
    with mapping as view:
        part = view[8:16]
    assert not mapping.closed
    with pytest.raises(BufferError):
        mapping.close()
    with pytest.raises(BufferError):
        buffer.destroy()
    part[:] = b"ABCDEFGH"
    assert part.tobytes() == b"ABCDEFGH"
    # No new views meanwhile.
    with pytest.raises(BufferError):
        memoryview(mapping)
    part.release()
    assert mapping.closed
    # Ended with the last slice, and flushed what that wrote.
    assert check.read(buffer)[8:16] == b"ABCDEFGH"
    buffer.destroy()


def test_numpy_arrays_pin(allocator: Allocator, check: Check) -> None:
    numpy = pytest.importorskip("numpy")
    buffer = allocator.create_buffer(400, TRANSFER, flags=RANDOM | MAPPED)
    buffer.write(bytes(400))
    with buffer.map() as view:
        array = numpy.frombuffer(view, numpy.float32)
        corner = array.reshape(10, 10)[2:4, 3:5].T
        del array
    del view
    with pytest.raises(BufferError):
        buffer.destroy()
    corner[:] = 1.5
    assert corner.sum() == 6
    del corner
    assert numpy.frombuffer(check.read(buffer), numpy.float32).sum() == 6
    persistent = numpy.asarray(buffer.mapped)
    with pytest.raises(BufferError):
        buffer.destroy()
    persistent[:] = 0
    del persistent
    buffer.destroy()


def test_a_view_outlives_the_objects_it_came_from(simulated: SimulatedDevice) -> None:
    allocator = Allocator(simulated)
    buffer = allocator.create_buffer(64, TRANSFER, flags=RANDOM, name="left")
    view = memoryview(buffer.map())
    # The mapping keeps the memory: neither of these is an end yet.
    del buffer, allocator
    gc.collect()
    view[:] = pattern(64)
    assert bytes(view) == pattern(64)
    assert simulated.live_memory_objects == 1
    with pytest.warns(ResourceWarning) as warned:
        del view
        gc.collect()
    messages = " ".join(str(it.message) for it in warned)
    assert "'left'" in messages
    assert "never closed" in messages
    assert simulated.live_memory_objects == 0


def test_a_mapping_that_was_entered_and_lost_is_collected(simulated_allocator: Allocator) -> None:
    buffer = simulated_allocator.create_buffer(64, TRANSFER, flags=RANDOM)
    # Mapping and view refer to each other.
    buffer.map().__enter__()[:] = pattern(64)
    gc.collect()
    assert Check(simulated_allocator).read(buffer) == pattern(64)
    buffer.destroy()


def test_a_mapping_is_entered_again(simulated_allocator: Allocator) -> None:
    with simulated_allocator.create_buffer(64, TRANSFER, flags=RANDOM) as buffer:
        mapping = buffer.map()
        with mapping as first:
            second = mapping.__enter__()
            second[:] = pattern(64)
            assert bytes(first) == pattern(64)
            second.release()
        del first, second
        assert mapping.closed
        with pytest.raises(UseAfterFreeError), mapping:
            pass


def test_a_refused_close_changes_nothing(simulated_allocator: Allocator) -> None:
    buffers = [
        simulated_allocator.create_buffer(64, TRANSFER, flags=RANDOM | MAPPED) for _ in range(5)
    ]
    view = buffers[3].mapped
    before = totals(simulated_allocator)
    with pytest.raises(BufferError):
        simulated_allocator.close()
    assert totals(simulated_allocator) == before
    assert all(buffer.alive for buffer in buffers)
    view.release()
    del view
    for buffer in buffers:
        buffer.destroy()


def test_a_readonly_mapping_gives_no_writable_buffer(simulated_allocator: Allocator) -> None:
    with simulated_allocator.create_buffer(64, TRANSFER, flags=RANDOM) as buffer:
        mapping = buffer.map(readonly=True)
        with pytest.raises(TypeError), mapping as view:
            view[0] = 1
        mapping = buffer.map(readonly=True)
        with pytest.raises((BufferError, TypeError)):
            io.BytesIO(b"x" * 64).readinto(mapping)
        mapping.close()


# ---- objects that nobody closed ----


@pytest.mark.parametrize("kind", ["Buffer", "Image", "Allocation"])
def test_an_unclosed_object_warns_and_is_kept_for_the_frames(device: Device, kind: str) -> None:
    with Allocator(device, frames_in_flight=3) as allocator:
        allocator.set_current_frame_index(10)
        kept = {
            "Buffer": lambda: allocator.create_buffer(4096, TRANSFER, name="lost one"),
            "Image": lambda: allocator.create_image(
                RGBA8, (32, 32), IMAGE_TRANSFER, name="lost one"
            ),
            "Allocation": lambda: allocator.allocate_memory(4096, name="lost one"),
        }[kind]()
        size = kept.allocation.size if hasattr(kept, "allocation") else kept.size
        with pytest.warns(ResourceWarning) as warned:
            del kept
        assert len(warned) == 1
        message = str(warned[0].message)
        assert f"unclosed {kind} 'lost one'" in message
        assert str(size) in message
        # Frames 11, 12 and 13 may run while the device still works on frame 10.
        for frame in (11, 12, 13):
            allocator.set_current_frame_index(frame)
            assert allocator.current_frame_index == frame
            assert totals(allocator).allocation_count == 1
        allocator.set_current_frame_index(14)
        assert totals(allocator).allocation_count == 0


@pytest.mark.parametrize("kind", ["Buffer", "Image", "Allocation"])
def test_a_retired_object_is_kept_for_the_frames(device: Device, kind: str) -> None:
    with Allocator(device, frames_in_flight=1) as allocator:
        kept = {
            "Buffer": lambda: allocator.create_buffer(4096, TRANSFER, name="retired"),
            "Image": lambda: allocator.create_image(RGBA8, 32, IMAGE_TRANSFER, name="retired"),
            "Allocation": lambda: allocator.allocate_memory(4096, name="retired"),
        }[kind]()
        kept.retire()
        kept.retire()
        kept.__exit__(None, None, None)
        assert not kept.alive
        with pytest.raises(vk_mem.UseAfterFreeError, match="'retired'"):
            kept.read()
        # Nothing is left to warn about.
        del kept
        allocator.set_current_frame_index(1)
        assert totals(allocator).allocation_count == 1
        allocator.set_current_frame_index(2)
        assert totals(allocator).allocation_count == 0


def test_what_is_bound_keeps_memory_from_being_retired(simulated_allocator: Allocator) -> None:
    with (
        simulated_allocator.allocate_memory(4096, flags=RANDOM) as memory,
        simulated_allocator.create_aliasing_buffer(memory, 64, TRANSFER),
    ):
        # Nor does a view of it change that; more in test_retired_views.py.
        with memory.map() as view:
            with pytest.raises(BufferError, match="is bound to it"):
                memory.retire()
            view[:4] = b"1234"
        assert memory.alive
        assert memory.read(0, 4) == b"1234"


def test_unclosed_objects_go_with_the_allocator(simulated: SimulatedDevice) -> None:
    allocator = Allocator(simulated)
    with pytest.warns(ResourceWarning):
        allocator.create_buffer(64, TRANSFER)
    assert simulated.live_buffers == 1
    allocator.close()
    assert simulated.live_buffers == 0
    assert simulated.live_memory_objects == 0


def test_a_missing_memory_error_mentions_unclosed_objects(simulated: SimulatedDevice) -> None:
    with Allocator(simulated) as allocator:
        with pytest.warns(ResourceWarning):
            allocator.create_buffer(4096, TRANSFER)
        simulated.fail_next("vkAllocateMemory", 1000)
        with pytest.raises(vk_mem.OutOfDeviceMemoryError, match=r"1 object that was .* closed"):
            allocator.allocate_memory(1 << 20, flags=DEDICATED)
        simulated.clear_failures()
        # Those are not what is missing here.
        with pytest.raises(vk_mem.OutOfDeviceMemoryError) as caught:
            allocator.allocate_memory(1 << 60)
        assert "never closed" not in str(caught.value)


def test_an_allocator_closed_with_live_objects_lists_them(simulated: SimulatedDevice) -> None:
    allocator = Allocator(simulated)
    buffers = [allocator.create_buffer(64, TRANSFER, name=f"live {i}") for i in range(12)]
    image = allocator.create_image(RGBA8, (4, 4), IMAGE_TRANSFER)
    with pytest.warns(ResourceWarning) as warned:
        allocator.close()
    (message,) = (str(it.message) for it in warned)
    assert "13 live objects" in message
    assert message.count("'live ") >= 9
    assert "more" in message
    assert "\n" not in message
    assert not any(it.alive for it in (*buffers, image))
    assert simulated.live_memory_objects == 0
    # They ended with the allocator, so collecting them says nothing more.
    del buffers, image
    gc.collect()


def test_a_warning_that_is_an_error_still_releases(simulated: SimulatedDevice) -> None:
    allocator = Allocator(simulated)
    buffer = allocator.create_buffer(64, TRANSFER)
    with pytest.raises(ResourceWarning):
        allocator.close()
    assert allocator.closed
    assert not buffer.alive
    assert simulated.live_memory_objects == 0


def test_an_unclosed_allocator_warns(simulated: SimulatedDevice) -> None:
    allocator = Allocator(simulated)
    allocator.create_buffer(64, TRANSFER).destroy()
    with pytest.warns(ResourceWarning, match="allocator of .* was never closed"):
        del allocator
        gc.collect()
    assert simulated.live_memory_objects == 0


def test_an_exception_in_the_body_is_kept(simulated: SimulatedDevice) -> None:
    with (
        pytest.raises(KeyError, match="mine"),
        Allocator(simulated) as allocator,
        allocator.create_buffer(64, TRANSFER),
    ):
        raise KeyError("mine")
    assert allocator.closed


# ---- owners ----


def test_resources_keep_what_they_need(simulated: SimulatedDevice) -> None:
    allocator = Allocator(simulated)
    buffer = allocator.create_buffer(64, TRANSFER, flags=RANDOM)
    allocation = buffer.allocation
    alive = weakref.ref(allocator)
    del allocator
    assert alive() is None
    buffer.write(pattern(64))
    assert buffer.read() == pattern(64)
    del buffer
    # The allocation keeps its buffer.
    assert allocation.read() == pattern(64)
    assert simulated.live_buffers == 1
    with pytest.warns(ResourceWarning):
        del allocation
    assert simulated.live_buffers == 0


def test_a_device_is_kept_by_its_allocator() -> None:
    allocator = Allocator(SimulatedDevice("lavapipe"))
    gc.collect()
    assert allocator.device.properties.device_name
    with allocator.create_buffer(64, TRANSFER) as buffer:
        allocator.device.fill_buffer(buffer)
    device = weakref.ref(allocator.device)
    assert device() is not None
    allocator.close()
    del allocator
    gc.collect()
    assert device() is None


ORDERS = list(itertools.permutations(["device", "allocator", "buffer", "allocation", "view"]))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("close", [None, "buffer", "allocator"])
def test_any_order_of_letting_go(close: str | None) -> None:
    for order in ORDERS:
        device = SimulatedDevice("integrated")
        allocator = Allocator(device)
        buffer = allocator.create_buffer(64, TRANSFER, flags=RANDOM | MAPPED, user_data=device)
        held: dict[str, Any] = {
            "device": device,
            "allocator": allocator,
            "buffer": buffer,
            "allocation": buffer.allocation,
            "view": buffer.mapped,
        }
        end: Callable[[], None] | None = None
        if close == "buffer":
            end = buffer.destroy
        elif close == "allocator":
            end = allocator.close
        del device, allocator, buffer
        for name in order:
            del held[name]
            if name == "view" and end is not None:
                end()
        del end
    gc.collect()


def test_any_order_with_a_real_device(real_device: Device) -> None:
    for order in ORDERS[::7]:
        allocator = Allocator(real_device)
        buffer = allocator.create_buffer(64, TRANSFER, flags=RANDOM | MAPPED)
        held: dict[str, Any] = {
            "device": real_device,
            "allocator": allocator,
            "buffer": buffer,
            "allocation": buffer.allocation,
            "view": buffer.mapped,
        }
        del allocator, buffer
        with pytest.warns(ResourceWarning):
            for name in order:
                del held[name]
            gc.collect()


def test_what_leads_to_nothing_is_not_on_the_list_of_the_cycle_collector(
    allocator: Allocator, check: Check
) -> None:
    """And comes onto it with the first user data, through either of its faces."""

    class Data:
        buffer: object = None

    plain, given = allocator.create_buffer(64, TRANSFER), Data()
    assert not gc.is_tracked(plain)
    for make in (
        lambda: allocator.create_buffer(64, TRANSFER, user_data=given),
        lambda: allocator.create_buffers([64], TRANSFER, user_data=given)[0],
    ):
        buffer = make()
        assert gc.is_tracked(buffer)
        buffer.destroy()
    for through in (lambda it: it, lambda it: it.allocation):
        buffer, data = allocator.create_buffer(64, TRANSFER), Data()
        face = through(buffer)
        face.user_data = None
        assert not gc.is_tracked(buffer)
        face.user_data = data
        face.user_data = data
        assert gc.is_tracked(buffer)
        data.buffer, died = buffer, weakref.ref(data)
        buffer.destroy()
        del buffer, data, face
        gc.collect()
        assert died() is None
    plain.destroy()
