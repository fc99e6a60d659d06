"""Faulting addresses and lost devices while memory is watched."""

from __future__ import annotations

import ctypes
import warnings

import pytest
from support import MAPPED, RANDOM, TRANSFER

from vk_mem import (
    Allocator,
    BufferUsage,
    Debug,
    DeviceLostError,
    SimulatedDevice,
)

ADDRESS = TRANSFER | BufferUsage.STORAGE_BUFFER | BufferUsage.SHADER_DEVICE_ADDRESS
EVERYTHING = Debug(detect_corruption=True, quarantine="1M", fill="nan", check="call")


@pytest.mark.parametrize("debug", [Debug(detect_corruption=True), EVERYTHING, Debug(fill="nan")])
def test_an_overrun_names_the_buffer_in_front(debug: Debug) -> None:
    device = SimulatedDevice("nvidia-h200", fault_reports=True)
    with Allocator(device, debug=debug) as allocator:
        its = [allocator.create_buffer(4096, ADDRESS, name=f"b{index}") for index in range(6)]
        its[0].upload(bytes(4096))
        assert bytes(its[0].download()) == bytes(4096)
        # Nobody has what lies behind the last one.
        last = max(its, key=lambda it: it.device_address)
        last_end = last.device_address + 4096
        device.lose_device(last_end + 4)
        report = allocator.explain_fault()
        assert report is not None
        owners = report.addresses[0].owners
        assert (owners[0].kind, owners[0].name) == ("Buffer", last.name)
        assert f"4 bytes past the end of Buffer '{last.name}'" in str(report)
        # The memory object alone is known besides: helpers of the library are not.
        assert {it.kind for it in owners[1:]} <= {"VkDeviceMemory"}
        assert "more owner" not in str(report)
        allocator.destroy_many(its)


def test_margins_name_their_buffer_and_its_neighbour() -> None:
    device = SimulatedDevice("nvidia-h200", fault_reports=True)
    with Allocator(device, debug=Debug(detect_corruption=True)) as allocator:
        its = [allocator.create_buffer(4096, ADDRESS, name=f"b{index}") for index in range(6)]
        allocator.check_corruption()
        device.lose_device(its[0].device_address + 4096 + 4)
        report = allocator.explain_fault()
        assert report is not None
        fault = report.addresses[0]
        assert fault.owner is not None
        assert (fault.owner.name, fault.offset) == ("b0", 4100)
        assert {it.kind for it in fault.owners} <= {"Buffer", "VkDeviceMemory"}
        assert sum(it.kind == "Buffer" for it in fault.owners) <= 2
        allocator.destroy_many(its)


def test_a_neighbour_that_is_far_worse_is_left_out() -> None:
    device = SimulatedDevice("nvidia-h200")
    with Allocator(device) as allocator:
        its = [allocator.create_buffer(size, ADDRESS) for size in (4096, 32768, 4096)]
        first, middle, last = sorted(its, key=lambda it: it.device_address)
        first.name = "first"
        last.name = "last"
        # Without records nothing is known of the gap that this leaves.
        start = middle.device_address
        gap = last.device_address - start
        assert middle is its[1] and gap >= 32768
        middle.destroy()
        device.lose_device(start + 4)
        device.lose_device(start + gap // 2)
        report = allocator.explain_fault()
        assert report is not None
        names = [[it.name for it in fault.owners] for fault in report.addresses]
        assert names[0] == ["first"]
        assert sorted(str(it) for it in names[1]) == ["first", "last"]
        allocator.destroy_many([first, last])


@pytest.mark.parametrize("quarantine", [None, "1M"])
def test_watched_memory_has_records_of_what_was_freed(quarantine: str | None) -> None:
    device = SimulatedDevice("nvidia-h200")
    debug = Debug(detect_corruption=True, quarantine=quarantine)
    with Allocator(device, debug=debug) as allocator:
        it = allocator.create_buffer(4096, ADDRESS, name="gone")
        address = it.device_address
        it.destroy()
        device.lose_device(address + 8)
        report = allocator.explain_fault()
        assert report is not None and report.has_records
        owner = report.addresses[0].owner
        assert owner is not None
        assert (owner.name, owner.state) == ("gone", "freed")


def test_options_that_watch_nothing_keep_no_records() -> None:
    device = SimulatedDevice("nvidia-h200")
    with Allocator(device, debug=Debug(strict_host_access=True)) as allocator:
        device.lose_device(0x1000)
        report = allocator.explain_fault()
        assert report is not None and not report.has_records


@pytest.mark.parametrize("profile", SimulatedDevice.profile_names())
def test_nothing_is_checked_on_a_lost_device(profile: str) -> None:
    device = SimulatedDevice(profile)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        allocator = Allocator(device, debug=EVERYTHING)
        its = [
            allocator.create_buffer(4096, TRANSFER, flags=RANDOM | MAPPED, name=name)
            for name in ("freed", "kept")
        ]
        addresses = []
        for it in its:
            mapping = it.map()
            addresses.append(mapping.address)
            mapping.close()
        for address in addresses:
            ctypes.memset(address + 4096, 1, 4)
        device.lose_device()
        with pytest.raises(DeviceLostError):
            allocator.check_corruption()
        its[0].destroy()
        its[1].retire()
        allocator.close()
    assert device.violations == []
    assert device.live_memory_objects == 0
