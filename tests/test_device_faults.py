"""Why a device was lost: faulting addresses, and the allocations that they belonged to."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from support import IMAGE_TRANSFER, LOSABLE, RGBA8, TAKES, TRANSFER, is_simulated

import vk_mem
from vk_mem import (
    Allocator,
    Buffer,
    BufferUsage,
    Device,
    DeviceFaultAddressType,
    DeviceLostError,
    FaultReport,
    InvalidArgumentError,
    OutOfHostMemoryError,
    SimulatedDevice,
    UseAfterFreeError,
)

ADDRESS = TRANSFER | BufferUsage.STORAGE_BUFFER | BufferUsage.SHADER_DEVICE_ADDRESS
READ = DeviceFaultAddressType.READ_INVALID_EXT
WRITE = DeviceFaultAddressType.WRITE_INVALID_EXT
PROFILES = SimulatedDevice.profile_names()
HERE = Path(__file__)


def explained(allocator: Allocator, **keywords: bool) -> FaultReport:
    report = allocator.explain_fault(**keywords)
    assert report is not None
    return report


def address_of(allocator: Allocator, buffer: Buffer) -> int:
    """Also on profiles without `bufferDeviceAddress`: memory objects are 2^38 bytes apart there."""
    place = buffer.allocation
    return ((place.device_memory & 0xFFFFFF) << 38) + place.offset


@pytest.fixture
def faulting() -> SimulatedDevice:
    return SimulatedDevice("nvidia-h200", fault_reports=True)


def test_a_device_that_is_not_lost_has_nothing_to_explain(device: Device) -> None:
    with Allocator(device) as allocator:
        assert allocator.explain_fault() is None
    if is_simulated(device):
        assert device.call_count("vkGetDeviceFaultInfoEXT") == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("is_freed", [False, True])
@pytest.mark.parametrize(
    ("offset", "words"),
    [
        (0, "at byte 0 of"),
        (4096, "at byte 4,096 of"),
        (65535, "at byte 65,535 of"),
        (65536, "just past the end of"),
        (65548, "12 bytes past the end of"),
        (-1, "1 byte before the start of"),
    ],
)
def test_a_buffer_is_named_with_the_place(
    profile: str, is_freed: bool, offset: int, words: str
) -> None:
    device = SimulatedDevice(profile, fault_reports=True)
    with Allocator(device, track_call_sites=1) as allocator:
        flags = vk_mem.AllocationCreateFlags.DEDICATED_MEMORY
        # Something before it, so that an address in front of it is not negative.
        first = allocator.create_buffer(64, TRANSFER)
        buffer = allocator.create_buffer(65536, TRANSFER, name="kv_cache", flags=flags)  # made
        address = address_of(allocator, buffer)
        handle, memory = buffer.handle, buffer.allocation.device_memory
        allocator.set_current_frame_index(411)
        if is_freed:
            buffer.destroy()
        device.lose_device(address + offset, WRITE)
        (fault,) = explained(allocator).addresses
        owner = fault.owner
        assert owner is not None
        assert (owner.kind, owner.name, owner.handle) == ("Buffer", "kv_cache", handle)
        assert (owner.address, owner.size, fault.offset) == (address, 65536, offset)
        assert (owner.device_memory, owner.memory_offset) == (memory, 0)
        assert (owner.is_freed, owner.frame) == (is_freed, 411 if is_freed else None)
        lines = HERE.read_text().splitlines()
        line = next(at for at, it in enumerate(lines, 1) if it.endswith("# made"))
        assert (owner.call_site or "").startswith(f"{HERE}:{line} in test_a_buffer_is")
        text = str(fault)
        assert text.startswith(f"the device wrote {words} Buffer 'kv_cache' (64.0 KiB, ")
        assert ("freed in frame 411" in text) == is_freed
        assert f"test_device_faults.py:{line}" in text
        if not is_freed:
            buffer.destroy()
        first.destroy()
    assert device.violations == []


def test_device_addresses_suffice_for_live_buffers() -> None:
    device = SimulatedDevice("nvidia-h200")
    with (
        Allocator(device) as allocator,
        allocator.create_buffer(4096, ADDRESS, name="live") as live,
        allocator.create_buffer(4096, ADDRESS, name="gone") as gone,
        allocator.create_buffer(4096, TRANSFER, name="no address"),
    ):
        device.lose_device(live.device_address + 5)
        device.lose_device(gone.device_address + 5)
        names = [it.owner and it.owner.name for it in explained(allocator).addresses]
        assert names == ["live", "gone"]
        gone.destroy()
        report = explained(allocator)
        assert report.addresses[0].offset == 5
        # Without reports nothing is known of what is freed; its neighbour is.
        owner = report.addresses[1].owner
        assert not report.has_records
        assert owner is None or owner.name == "live"
    assert device.violations == []


def test_retired_buffers_wait_for_their_frame(faulting: SimulatedDevice) -> None:
    with Allocator(faulting, frames_in_flight=2) as allocator:
        buffer = allocator.create_buffer(4096, ADDRESS, name="retired")
        address = buffer.device_address
        buffer.retire()
        faulting.lose_device(address)
        owner = explained(allocator).addresses[0].owner
        assert owner is not None
        assert (owner.name, owner.state, owner.is_freed) == ("retired", "retired", False)
        for frame in (1, 2, 3):
            allocator.set_current_frame_index(frame)
        owner = explained(allocator).addresses[0].owner
        assert owner is not None
        assert (owner.name, owner.state, owner.frame) == ("retired", "freed", 3)


def test_the_last_name_counts(faulting: SimulatedDevice) -> None:
    with Allocator(faulting) as allocator:
        buffer = allocator.create_buffer(4096, ADDRESS, name="before")
        buffer.name = "after"
        faulting.lose_device(buffer.device_address)
        buffer.destroy()
        assert "Buffer 'after'" in str(explained(allocator))


def test_the_newest_of_those_that_had_an_address_comes_first(faulting: SimulatedDevice) -> None:
    with Allocator(faulting) as allocator:
        addresses = set()
        for number in range(4):
            allocator.set_current_frame_index(number + 1)
            with allocator.create_buffer(1 << 20, ADDRESS, name=f"life {number}") as buffer:
                addresses.add(buffer.device_address)
        (address,) = addresses
        faulting.lose_device(address + 7)
        (fault,) = explained(allocator).addresses
        found = [(it.name, it.frame) for it in fault.owners]
        assert found == [(f"life {number}", number + 1) for number in (3, 2, 1, 0)]
        with allocator.create_buffer(1 << 20, ADDRESS, name="alive"):
            (fault,) = explained(allocator).addresses
            assert [it.state for it in fault.owners] == ["live", *["freed"] * 4]


def test_a_precision_covers_all_neighbours(faulting: SimulatedDevice) -> None:
    with Allocator(faulting) as allocator:
        buffers = allocator.create_buffers([1024] * 16, ADDRESS, name="b")
        places = sorted(it.device_address for it in buffers)
        faulting.lose_device(places[5] + 100, precision=4096, description="MMU fault")
        report = explained(allocator)
        (fault,) = report.addresses
        low = (places[5] + 100) & ~4095
        assert (fault.lower_address, fault.upper_address) == (low, low + 4095)
        inside = {it for it in places if it + 1024 > low and it <= low + 4095}
        assert {it.address for it in fault.owners} == inside
        assert "within 4.0 KiB around address" in str(fault)
        assert str(report).startswith("the device is lost: MMU fault\n")
        allocator.destroy_many(buffers)


def test_images_are_found(faulting: SimulatedDevice) -> None:
    with Allocator(faulting) as allocator:
        image = allocator.create_image(RGBA8, (64, 64), IMAGE_TRANSFER, name="albedo")
        place = image.allocation
        address = ((place.device_memory & 0xFFFFFF) << 38) + place.offset
        image.destroy()
        faulting.lose_device(address + 16)
        owner = explained(allocator).addresses[0].owner
        assert owner is not None
        assert (owner.kind, owner.name, owner.size) == ("Image", "albedo", 16384)


def test_what_was_lost_is_found(faulting: SimulatedDevice) -> None:
    with Allocator(faulting, frames_in_flight=0) as allocator:
        pool = allocator.create_pool(memory_type_index=1, block_size=1 << 20, max_block_count=1)
        lost = allocator.create_buffer(1 << 20, ADDRESS, pool=pool, flags=LOSABLE, name="old")
        address = lost.device_address
        for frame in (7, 9):
            allocator.set_current_frame_index(frame)
        new = allocator.create_buffer(1 << 20, ADDRESS, pool=pool, flags=TAKES, name="new")
        assert lost.is_lost
        assert new.device_address == address
        faulting.lose_device(address)
        (fault,) = explained(allocator).addresses
        found = [(it.name, it.state, it.frame) for it in fault.owners]
        assert found == [("new", "live", None), ("old", "lost", 9)]
        new.destroy()
        pool.close()


def test_a_move_leaves_its_old_address(faulting: SimulatedDevice) -> None:
    with Allocator(faulting) as allocator:
        made = [
            allocator.create_buffer(1 << 20, ADDRESS, name=f"b{number}", movable="with_address")
            for number in range(8)
        ]
        for it in made[:-1]:
            it.destroy()
        before = made[-1].device_address
        allocator.defragment()
        after = made[-1].device_address
        assert before != after
        faulting.lose_device(before)
        faulting.lose_device(after)
        old, new = explained(allocator).addresses
        found = [(it.name, it.state) for it in old.owners]
        assert ("b7", "moved") in found
        assert new.owner is not None
        assert (new.owner.name, new.owner.state) == ("b7", "live")
        made[-1].destroy()


def test_vendor_infos_and_unknown_addresses_are_printed(faulting: SimulatedDevice) -> None:
    with Allocator(faulting) as allocator:
        faulting.lose_device(16, 5, vendor_infos=[("warp\nbarrier", 3, 1 << 63)])
        report = explained(allocator)
        (fault,), (vendor,) = report.addresses, report.vendor_infos
        assert fault.address_type is DeviceFaultAddressType.INSTRUCTION_POINTER_INVALID_EXT
        assert (fault.owner, fault.offset, fault.owners) == (None, None, ())
        assert (vendor.code, vendor.data) == (3, 1 << 63)
        assert str(report).splitlines() == [
            "the device is lost",
            "the device ran invalid code at address 0x10, which belongs to nothing that is known",
            f"warp{str(report).splitlines()[2][4]}barrier (code 0x3, data 0x8000000000000000)",
        ]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_device_without_the_extension_says_so(profile: str) -> None:
    device = SimulatedDevice(profile)
    has_it = "VK_EXT_device_fault" in device.extensions
    assert ("deviceFault" in device.features) == has_it == (profile == "nvidia-h200")
    with Allocator(device) as allocator:
        device.lose_device()
        report = explained(allocator)
        assert (report.addresses, report.vendor_infos, report.description) == ((), (), "")
        assert (report.unavailable is None) == has_it
        assert has_it or "VK_EXT_device_fault" in str(report)
        assert not has_it or "reports no address" in str(report)


def test_the_driver_call_can_fail(faulting: SimulatedDevice) -> None:
    with Allocator(faulting) as allocator:
        faulting.lose_device(0)
        faulting.fail_next("vkGetDeviceFaultInfoEXT", vk_result=-1)
        with pytest.raises(OutOfHostMemoryError, match="vkGetDeviceFaultInfoEXT"):
            allocator.explain_fault()
        assert len(explained(allocator).addresses) == 1
    with pytest.raises(UseAfterFreeError):
        allocator.explain_fault()


def test_an_error_that_says_lost_is_enough(faulting: SimulatedDevice) -> None:
    with Allocator(faulting) as allocator, allocator.create_buffer(64, TRANSFER) as buffer:
        faulting.fail_next("vkQueueSubmit", vk_result=-4)
        with pytest.raises(DeviceLostError, match=r"explain_fault\(\) tells more"):
            faulting.fill_buffer(buffer, 0)
        assert explained(allocator).addresses == ()


def test_a_program_that_was_told_can_ask() -> None:
    device = SimulatedDevice("nvidia-h200")
    with Allocator(device) as allocator:
        assert allocator.explain_fault() is None
        assert explained(allocator, device_lost=True).addresses == ()
        # A strict driver complains: this one is not lost.
        assert len(device.violations) == 1


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("completion", ["at once", "when waited", "held"])
def test_everything_ends_on_a_lost_device(profile: str, completion: str) -> None:
    device = SimulatedDevice(profile, fault_reports=True)
    allocator = Allocator(device)
    buffer = allocator.create_buffer(1 << 16, TRANSFER)
    device.set_completion(completion)
    transfer = allocator.transfers.upload(bytes(1 << 16), buffer, way="ring")
    device.lose_device(0)
    for call in (
        lambda: device.fill_buffer(buffer, 0),
        lambda: device.copy_buffer(buffer, buffer, size=16, target_offset=64),
        lambda: allocator.transfers.upload(bytes(16), buffer, way="ring").result(),
    ):
        with pytest.raises(DeviceLostError):
            call()
    # Nothing tells the host of one that was carried out before.
    assert isinstance(transfer.exception(), DeviceLostError)
    assert explained(allocator).addresses != ()
    buffer.destroy()
    allocator.close()
    assert device.violations == []
    assert (device.live_buffers, device.live_memory_objects) == (0, 0)


def test_transfers_in_flight_end_with_the_device(faulting: SimulatedDevice) -> None:
    with Allocator(faulting) as allocator:
        faulting.set_completion("held")
        buffer = allocator.create_buffer(1 << 16, TRANSFER, name="target")
        transfer = allocator.transfers.upload(bytes(1 << 16), buffer)
        failed: list[BaseException] = []

        def wait() -> None:
            try:
                transfer.result()
            except DeviceLostError as error:
                failed.append(error)

        waiter = threading.Thread(target=wait, daemon=True)
        waiter.start()
        time.sleep(0.05)
        faulting.lose_device(address_of(allocator, buffer))
        waiter.join(20)
        assert not waiter.is_alive()
        assert len(failed) == 1
        owner = explained(allocator).addresses[0].owner
        assert owner is not None
        assert owner.name == "target"
        buffer.destroy()
    assert faulting.violations == []


def test_threads_explain_while_others_create_and_destroy(faulting: SimulatedDevice) -> None:
    with Allocator(faulting) as allocator:
        keep = allocator.create_buffer(4096, ADDRESS, name="keep")
        faulting.lose_device(keep.device_address)
        ends = threading.Event()
        wrong: list[BaseException] = []

        def run(step: Callable[[], None]) -> None:
            try:
                while not ends.is_set():
                    step()
            except BaseException as error:
                wrong.append(error)

        def churn() -> None:
            allocator.create_buffer(4096, ADDRESS, name="churn").destroy()
            allocator.create_buffer(4096, TRANSFER).retire()

        def explain() -> None:
            owner = explained(allocator).addresses[0].owner
            assert owner is not None
            assert owner.name == "keep"

        threads = [
            threading.Thread(target=run, args=(it,)) for it in (churn, churn, explain, explain)
        ]
        for it in threads:
            it.start()
        time.sleep(0.3)
        ends.set()
        for it in threads:
            it.join()
        assert wrong == []
        keep.destroy()
    assert faulting.violations == []


def test_records_are_bounded(faulting: SimulatedDevice) -> None:
    with Allocator(faulting) as allocator:
        first = allocator.create_buffer(64, ADDRESS, name="first")
        address = first.device_address
        first.destroy()
        for _ in range(16):
            allocator.destroy_many(allocator.create_buffers([64] * 1100, ADDRESS))
        faulting.lose_device(address)
        (fault,) = explained(allocator).addresses
        assert "first" not in {it.name for it in fault.owners}
        assert 0 < len(fault.owners) <= 16384


def test_records_do_not_keep_their_allocator(faulting: SimulatedDevice) -> None:
    allocator = Allocator(faulting)
    allocator.create_buffer(64, ADDRESS).destroy()
    allocator.close()
    gone = weakref.ref(allocator)
    del allocator
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("keywords", "error", "words"),
    [
        ({"precision": 3}, InvalidArgumentError, "precision is 3; it must be a power of two"),
        ({"precision": 0}, InvalidArgumentError, "power of two"),
        ({"address": -1}, InvalidArgumentError, "address"),
        ({"address": "x"}, TypeError, "address"),
        ({"address_type": 99}, InvalidArgumentError, "address_type is 99; it is from 0 to 6"),
        ({"address_type": BufferUsage.TRANSFER_DST}, TypeError, "DeviceFaultAddressType"),
        ({"vendor_infos": [("a", 1)]}, ValueError, "tuple"),
        ({"vendor_infos": [("a", -1, 1)]}, InvalidArgumentError, "vendor_infos"),
    ],
)
def test_wrong_faults_are_refused(
    keywords: dict[str, object], error: type[Exception], words: str
) -> None:
    device = SimulatedDevice()
    with pytest.raises(error, match=words):
        device.lose_device(**keywords)  # type: ignore[arg-type]
    with Allocator(device) as allocator:
        assert allocator.explain_fault() is None
