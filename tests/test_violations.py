"""What a simulated device finds broken: records that name the bytes."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import MAPPED, RANDOM, TRANSFER, pattern, run_python

import vk_mem
from vk_mem import (
    Allocator,
    Buffer,
    FeatureNotPresentError,
    InvalidArgumentError,
    MemoryPropertyFlags,
    SimulatedDevice,
    UnflushedWriteWarning,
    Violation,
    VkMemError,
)

COHERENT = MemoryPropertyFlags.HOST_COHERENT
SIZE = 4096


@pytest.fixture(params=SimulatedDevice.profile_names())
def device(request: pytest.FixtureRequest) -> Iterator[SimulatedDevice]:
    device = SimulatedDevice(request.param)
    yield device
    assert device.violations == []
    left = (device.live_memory_objects, device.live_buffers, device.live_images)
    assert left == (0, 0, 0)


@pytest.fixture
def allocator(device: SimulatedDevice) -> Iterator[Allocator]:
    with Allocator(device) as allocator:
        yield allocator


@pytest.fixture
def buffers(allocator: Allocator) -> Iterator[list[Buffer]]:
    buffers = allocator.create_buffers([SIZE] * 2, TRANSFER, flags=RANDOM)
    yield buffers
    allocator.destroy_many(buffers)


def only(device: SimulatedDevice, kind: str) -> Violation:
    (found,) = device.take_violations()
    assert found.kind == kind, found
    return found


def check(found: Violation, buffer: Buffer, offset: int, length: int) -> None:
    allocation = buffer.allocation
    assert found.memory == allocation.device_memory
    assert found.memory_type_index == allocation.memory_type_index
    assert (found.offset, found.length) == (allocation.offset + offset, length)


def recorded(device: SimulatedDevice, *commands: tuple[Any, ...]) -> int:
    buffer = device.begin_command_buffer()
    for name, *arguments in commands:
        getattr(device, f"record_{name}")(buffer, *arguments)
    return buffer


# ---- flushes and invalidates ----


def test_a_missing_flush(device: SimulatedDevice, allocator: Allocator) -> None:
    with (
        allocator.create_buffer(SIZE, TRANSFER, flags=RANDOM | MAPPED) as source,
        allocator.create_buffer(SIZE, TRANSFER) as target,
    ):
        view = source.mapped
        assert view is not None
        view[100:116] = pattern(16)
        device.submit_copy(source.handle, target.handle, 112)
        if COHERENT in source.allocation.memory_properties:
            del view
            return
        (found,) = device.violations
        assert found == only(device, "missing_flush") and len({found, found}) == 1
        check(found, source, 100, 12)
        assert (found.call, found.resource) == ("vkQueueSubmit", source.handle)
        assert found.other == "command 0 of submission 1"
        assert str(found).startswith(
            f"vkQueueSubmit: the host wrote 12 bytes at offset {found.offset} of memory "
        )
        assert repr(found) == f"<vk_mem.Violation missing_flush: {found}>"
        source.flush(100, 16)
        device.submit_copy(source.handle, target.handle, SIZE)
        del view


def test_a_missing_invalidate(device: SimulatedDevice, buffers: list[Buffer]) -> None:
    """An open view that may write lies over what the device writes."""
    buffer, _ = buffers
    is_coherent = COHERENT in buffer.allocation.memory_properties
    with buffer.map():
        device.fill_buffer(buffer, 0x01010101, offset=256, size=64)
        seen = buffer.read(0, 300)
        if is_coherent:
            assert seen[256:] == b"\x01" * 44
            return
        found = only(device, "missing_invalidate")
        check(found, buffer, 256, 44)
        assert found.call == "vkInvalidateMappedMemoryRanges"
        assert seen[256:] == bytes(44)
        buffer.invalidate()
        assert buffer.read(0, 300)[256:] == b"\x01" * 44


# ---- barriers ----


def test_a_missing_barrier_between_submissions(
    device: SimulatedDevice, buffers: list[Buffer]
) -> None:
    one, other = buffers
    fill = ("fill", one.handle, 64, 7)
    copy = ("copy", one.handle, other.handle, 32)
    device.submit_command_buffer(recorded(device, fill))
    device.submit_command_buffer(recorded(device, ("barrier",), copy))
    with pytest.raises(VkMemError):
        device.submit_command_buffer(recorded(device, fill))
    found = only(device, "missing_barrier")
    check(found, one, 0, 32)
    assert found.resource == one.handle
    assert found.other == "command 0 of submission 2, which reads there"
    assert "have no barrier between them, and one writes what the other one reads" in str(found)
    # A wait orders, and so does what the library submits.
    device.wait_idle()
    device.submit_command_buffer(recorded(device, fill, ("barrier",)))
    device.submit_command_buffer(recorded(device, copy))
    device.fill_buffer(other, 1)
    device.submit_command_buffer(recorded(device, ("fill", other.handle, 64)))
    device.wait_idle()
    # Within one command buffer.
    with pytest.raises(VkMemError):
        device.submit_command_buffer(recorded(device, fill, copy))
    found = only(device, "missing_barrier")
    check(found, one, 0, 32)
    assert found.other == "command 0, which writes there"
    device.submit_fill(one.handle, 64)
    device.submit_copy(one.handle, other.handle, 64)


def test_two_queues() -> None:
    device = SimulatedDevice("discrete-8gib")
    with (
        Allocator(device) as allocator,
        allocator.create_buffer(
            SIZE, TRANSFER, sharing_mode="CONCURRENT", queue_family_indices=[0, 1]
        ) as buffer,
    ):

        def fill(offset: int) -> int:
            commands = device.begin_command_buffer()
            device.record_barrier(commands)
            device.record_fill(commands, buffer.handle, 64, offset=offset)
            device.record_barrier(commands)
            return commands

        device.submit_command_buffer(fill(0))
        with pytest.raises(VkMemError):
            device.submit_command_buffer(fill(60), transfer_queue=True)
        found = only(device, "missing_barrier")
        check(found, buffer, 60, 4)
        assert "have no wait between them" in str(found)
        device.wait_idle()
        device.submit_command_buffer(fill(60), transfer_queue=True)
        device.wait_idle()
        assert device.violations == []
    without = SimulatedDevice("lavapipe")
    with pytest.raises(FeatureNotPresentError):
        without.submit_command_buffer(without.begin_command_buffer(), transfer_queue=True)


def test_the_host_does_not_wait(device: SimulatedDevice, buffers: list[Buffer]) -> None:
    one, other = buffers
    device.set_completion("when waited")
    device.submit_copy(one.handle, other.handle, 128)
    one.read(0, 256)
    assert device.violations == []
    one.write(bytes(64), 100)
    found = only(device, "in_use")
    check(found, one, 100, 28)
    assert found.other == "submission 1, which reads there"
    other.read(127, 10)
    found = only(device, "in_use")
    check(found, other, 127, 1)
    with other.map(0, 64, readonly=True):
        pass
    check(only(device, "in_use"), other, 0, 64)
    device.wait_idle()
    one.write(bytes(64), 100)
    other.read()


def test_a_wait_for_what_is_held(device: SimulatedDevice, buffers: list[Buffer]) -> None:
    device.set_completion("held")
    device.submit_fill(buffers[0].handle, 64)
    later = threading.Timer(0.05, device.complete_submissions)
    later.start()
    device.wait_idle()
    later.join()
    assert device.pending_submissions == 0
    device.set_completion("at once")


def test_a_wait_is_interrupted() -> None:
    done = run_python(
        """
        import _thread, threading, vk_mem
        device = vk_mem.SimulatedDevice()
        device.set_completion("held")
        with vk_mem.Allocator(device) as allocator:
            with allocator.create_buffer(64, vk_mem.BufferUsage.TRANSFER_DST) as buffer:
                device.submit_fill(buffer.handle, 64)
                try:
                    threading.Timer(0.1, _thread.interrupt_main).start()
                    device.wait_idle()
                except KeyboardInterrupt:
                    print("interrupted")
                device.complete_submissions()
        """
    )
    assert done.stdout.strip() == "interrupted", done.stderr


# ---- ranges, and what was destroyed ----


def test_a_write_behind_the_end(device: SimulatedDevice, allocator: Allocator) -> None:
    first, second = allocator.create_buffers([SIZE] * 2, TRANSFER)
    with pytest.raises(VkMemError):
        device.submit_fill(first.handle, 16, offset=SIZE - 8)
    found = only(device, "out_of_bounds")
    check(found, first, SIZE, 8)
    assert found.resource == first.handle
    is_next = (
        second.allocation.device_memory == first.allocation.device_memory
        and second.allocation.offset == first.allocation.offset + SIZE
    )
    assert found.other == (f"buffer {second.handle:#x}" if is_next else None)
    handle, place = first.handle, first.allocation.offset
    first.destroy()
    with pytest.raises(VkMemError):
        device.submit_copy(second.handle, handle, 64)
    found = only(device, "use_after_free")
    assert (found.resource, found.offset) == (handle, place)
    assert "was destroyed already" in str(found)
    second.destroy()


def test_other_rules_have_no_bytes(device: SimulatedDevice) -> None:
    with pytest.raises(VkMemError):
        device.submit_fill(12345, 16)
    found = only(device, "rule")
    assert (found.memory, found.memory_type_index, found.offset, found.length) == (None,) * 4
    assert (found.resource, found.other) == (12345, None)
    assert str(found) == "vkQueueSubmit: buffer 0x3039: was never created"
    with pytest.raises(TypeError):
        Violation()  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        found.offset = 1  # type: ignore[misc]
    assert found != "rule"


def test_command_buffers_that_are_not_recorded(device: SimulatedDevice) -> None:
    calls: list[Callable[[int], None]] = [
        lambda it: device.record_fill(it, 1, 4),
        lambda it: device.record_copy(it, 1, 2, 4),
        device.record_barrier,
        device.submit_command_buffer,
    ]
    for call in calls:
        with pytest.raises(VkMemError):
            call(77)
        assert "is no command buffer that is being recorded" in str(only(device, "rule"))


def test_an_unflushed_write_still_warns(allocator: Allocator, device: SimulatedDevice) -> None:
    with (
        allocator.create_buffer(64, TRANSFER, flags=RANDOM | MAPPED) as source,
        allocator.create_buffer(64, TRANSFER) as target,
    ):
        if COHERENT in source.allocation.memory_properties:
            return
        view = source.mapped
        assert view is not None
        view[5] = 1
        with pytest.warns(UnflushedWriteWarning, match="1 byte at offset 5"):
            device.copy_buffer(source, target)
        check(only(device, "missing_flush"), source, 5, 1)
        source.flush()
        del view


def test_the_name_is_public() -> None:
    assert vk_mem.Violation is Violation and Violation.__module__ == "vk_mem"


# ---- host writes where nothing is bound ----


@pytest.mark.parametrize("profile", SimulatedDevice.profile_names())
@pytest.mark.parametrize("kept", [False, True])
def test_a_host_write_outside_of_all_resources(profile: str, kept: bool) -> None:
    device = SimulatedDevice(profile, watch_unbound=True)
    flags = RANDOM | MAPPED if kept else RANDOM
    with Allocator(device) as allocator:
        buffer = allocator.create_buffer(SIZE, TRANSFER, flags=flags)
        with buffer.map() as view:
            address = ctypes.addressof(ctypes.c_char.from_buffer(view))
            view[:] = pattern(SIZE)
            device.check_unbound()
            assert device.violations == []
            # Behind the end of all that a driver may add to a buffer.
            ctypes.memset(address + SIZE + 4096, 5, 3)
            if kept:
                device.check_unbound()
        found = only(device, "out_of_bounds")
        check(found, buffer, SIZE + 4096, 3)
        assert found.resource == buffer.handle
        assert "wrote 3 bytes" in str(found) and "where nothing is bound" in str(found)
        assert found.other is not None and found.other.startswith(f"buffer {buffer.handle:#x}")
        assert buffer.read() == pattern(SIZE)
        buffer.destroy()
    assert device.violations == []


# ---- what the allocator knows ----


def test_a_violation_names_live_resources(make_simulated: Any) -> None:
    device = make_simulated("discrete-8gib")
    with (
        Allocator(device) as allocator,
        allocator.create_buffer(SIZE, TRANSFER, name="rows", flags=RANDOM) as rows,
        allocator.create_buffer(SIZE, TRANSFER) as plain,
    ):
        with pytest.raises(VkMemError):
            device.submit_copy(rows.handle, plain.handle, SIZE + 4)
        found = only(device, "out_of_bounds")
        assert (found.name, found.resource) == ("rows", rows.handle)
        where = f"memory type {rows.allocation.memory_type_index}"
        assert str(found).endswith(f" ({rows.handle:#x} is Buffer 'rows' (4096 bytes, {where}))")
        with pytest.raises(VkMemError):
            device.submit_fill(plain.handle, SIZE + 4)
        assert only(device, "out_of_bounds").name is None


def test_unbound_memory_that_nobody_watches(make_simulated: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="watch_unbound=True"):
        make_simulated("discrete-8gib").check_unbound()
