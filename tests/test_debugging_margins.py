"""Margins are all that is no part of a buffer; what the library itself does there is no fault."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import pytest
from overruns import by_host
from support import MAPPED, RANDOM, TRANSFER, is_simulated
from systems import needs_descriptors

import vk_mem
from vk_mem import Allocator, BufferUsage, CorruptionError, Debug, Device, SimulatedDevice

DETECT = Debug(detect_corruption=True)


def caught(call: Any, *arguments: Any) -> CorruptionError:
    with pytest.raises(CorruptionError) as found:
        call(*arguments)
    return found.value


@pytest.mark.parametrize("profile", SimulatedDevice.profile_names())
def test_bytes_that_the_driver_adds_to_a_buffer_are_its_margin(
    profile: str, make_simulated: Any
) -> None:
    with Allocator(make_simulated(profile), debug=DETECT) as allocator:
        flags = RANDOM | MAPPED
        its = [allocator.create_buffer(1001, TRANSFER, flags=flags, name=name) for name in "abc"]
        middle = its[1]
        assert middle.allocation.size > 1001
        size = middle.allocation.size
        with by_host(middle) as flip:
            for offset in (1001, size - 1, size, size + 15):
                flip(offset)
                middle.flush()
                error = caught(allocator.check_corruption)
                assert (error.region, error.offset, error.count) == ("behind", offset, 1)
                assert (error.name, error.record.size) == ("b", size)
                assert [error.before.name, error.after.name] == ["a", "c"]
                flip(offset)
                middle.flush()
            past = "right behind its end"
            flip(1001)
            middle.flush()
            assert past in str(caught(allocator.check_corruption))
            flip(1001)
            middle.flush()
        allocator.destroy_many(its)


def test_what_shows_the_memory_may_write_all_of_it(device: Device) -> None:
    """`Buffer.allocation` has the bytes that the driver added, too."""
    with (
        Allocator(device, debug=DETECT) as allocator,
        allocator.create_buffer(1001, TRANSFER, flags=RANDOM) as buffer,
    ):
        allocation = buffer.allocation
        assert allocation.read()[:0] == b""
        allocation.write(b"\7" * allocation.size)
        assert allocator.check_corruption() == 2
        assert buffer.read() == b"\7" * 1001


def test_an_alias_may_use_what_the_buffer_does_not(simulated: SimulatedDevice) -> None:
    with (
        Allocator(simulated, debug=DETECT) as allocator,
        allocator.create_buffer(1001, TRANSFER, flags=RANDOM) as base,
    ):
        whole = base.allocation.size
        with allocator.create_aliasing_buffer(base, whole, TRANSFER) as alias:
            alias.write(b"\7" * whole)
            assert allocator.check_corruption() == 2


class CheckedQueue:
    """A lock of the queue whose end is a moment for a check by another thread."""

    def __init__(self) -> None:
        self.allocator: Allocator | None = None
        self.found: list[CorruptionError] = []
        self.checks = 0

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        allocator, self.allocator = self.allocator, None
        if allocator is None:
            return

        def check() -> None:
            self.checks += 1
            try:
                allocator.check_corruption()
            except CorruptionError as error:
                self.found.append(error)

        thread = threading.Thread(target=check)
        thread.start()
        thread.join()
        self.allocator = allocator


@pytest.mark.parametrize("memory_type", [0, 2])
def test_a_check_during_a_slide_reports_nothing(memory_type: int) -> None:
    queue = CheckedQueue()
    device = SimulatedDevice("discrete-8gib", queue_lock=queue)
    with (
        Allocator(device, debug=DETECT, frames_in_flight=0) as allocator,
        allocator.create_pool(memory_type_index=memory_type, block_size=1 << 20) as pool,
    ):
        gone = allocator.create_buffer(20480, TRANSFER, pool=pool, movable=True)
        stays = allocator.create_buffer(200 << 10, TRANSFER, pool=pool, movable=True)
        stays.upload(bytes(range(256)) * 800)
        before = stays.allocation.offset
        gone.destroy()
        queue.allocator = allocator
        allocator.defragment(pool=pool)
        queue.allocator = None
        assert queue.checks > 0 and queue.found == []
        assert before - (200 << 10) < stays.allocation.offset < before, "it has slid"
        assert allocator.check_corruption() == 2
        assert bytes(stays.download()) == bytes(range(256)) * 800
        stays.destroy()
    assert device.violations == []


@pytest.mark.parametrize("profile", ["discrete-8gib", "non-coherent", "integrated"])
def test_what_the_library_writes_is_no_write_of_the_program(profile: str) -> None:
    device = SimulatedDevice(profile, watch_unbound=True)
    debug = Debug(fill="nan", detect_corruption=True, quarantine="1M")
    with Allocator(device, debug=debug) as allocator:
        for size in (255, 1001, 70_000):
            first = allocator.create_buffer(size, TRANSFER, flags=RANDOM)
            first.write(b"abc")
            first.destroy()
            with allocator.create_buffer(size, TRANSFER, flags=RANDOM | MAPPED) as second:
                device.check_unbound()
                assert second.read() == b"\xff" * size
        allocator.check_corruption()
        device.check_unbound()
        assert device.violations == []
        # What the program writes there is found.
        with allocator.create_buffer(256, TRANSFER, flags=RANDOM | MAPPED) as buffer:
            allocator.on_corruption(lambda error: None)
            with buffer.map() as view:
                address = ctypes.addressof(ctypes.c_char.from_buffer(view))
            end = buffer.allocation.size
            ctypes.memset(address + end, 1, 2)
            device.check_unbound()
            caught(buffer.destroy)
    assert [it.kind for it in device.violations] == ["out_of_bounds"]
    device.violations.clear()


@pytest.mark.parametrize("profile", ["discrete-8gib", "nvidia-h200"])
def test_large_buffers_are_filled_without_margins(profile: str, make_simulated: Any) -> None:
    """A driver that prefers memory of its own for them does not keep the fill out of it."""
    with Allocator(make_simulated(profile), debug=Debug(fill="zero")) as allocator:
        buffer = allocator.create_buffer(40 << 20, BufferUsage.STORAGE_BUFFER, name="large")
        buffer.destroy()
        image = allocator.create_image(
            "BC1_RGBA_UNORM_BLOCK", (64, 64), "SAMPLED", flags="DEDICATED_MEMORY"
        )
        image.destroy()


@needs_descriptors
@pytest.mark.parametrize("what", ["fill_on_free", "quarantine"])
def test_what_an_importer_may_use_is_left_alone(device: Device, what: str) -> None:
    keywords: Any = {what: "zero" if what == "fill_on_free" else "1M"}
    exported = vk_mem.ExternalMemoryHandleType.OPAQUE_FD
    with (
        Allocator(device, debug=Debug(**keywords)) as allocator,
        Allocator(device, debug=Debug()) as other,
    ):
        try:
            buffer = allocator.create_buffer(
                4096, TRANSFER, export_handle_types=exported, name="shared"
            )
        except vk_mem.FeatureNotPresentError:
            pytest.skip("the device exports no memory")
        bits = 1 << buffer.allocation.memory_type_index
        fd = buffer.allocation.export_fd()
        with other.create_buffer(4096, TRANSFER, import_fd=fd, memory_type_bits=bits) as imported:
            imported.upload(b"D" * 4096)
            with pytest.warns(
                vk_mem.CorruptionWarning, match="Buffer 'shared' .4096 bytes.: .* was exported"
            ):
                buffer.destroy()
            assert bytes(imported.download()) == b"D" * 4096
            imported.upload(b"E" * 4096)
            if what == "quarantine":
                allocator.check_corruption()
        # What could be exported and was not is filled as all memory.
        with allocator.create_buffer(4096, TRANSFER, export_handle_types=exported):
            pass
    assert not is_simulated(device) or device.violations == []
