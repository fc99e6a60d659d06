"""Faults of a driver: the system's driver with `VK_EXT_device_fault` and
`VK_EXT_device_address_binding_report` put in front of it."""

from __future__ import annotations

import ctypes
import gc
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import index_of_the_driver
from odd_driver import Function, OddDriver, peek, poke
from support import TRANSFER

import vk_mem
from vk_mem import (
    Allocator,
    Device,
    DeviceLostError,
    FeatureNotPresentError,
    InvalidArgumentError,
    OutOfHostMemoryError,
)

pytestmark = pytest.mark.driver

FAULT = "VK_EXT_device_fault"
REPORT = "VK_EXT_device_address_binding_report"
FAULT_FEATURES, REPORT_FEATURES = 1000341000, 1000354000
INCOMPLETE = 5
BUFFER, PIPELINE = 9, 19


class FaultyDriver(OddDriver):
    """Has both extensions, and tells the faults and bindings that a test sets."""

    def __init__(self, has_report: bool = True) -> None:
        index_of_the_driver()
        super().__init__()
        self.addresses: list[tuple[int, int, int]] = []
        self.more = 0
        self.vendor: list[tuple[bytes, int, int]] = []
        self.description = b""
        self.messengers = 0
        self.enabled: set[int] = set()
        self._callback: tuple[Any, int] | None = None
        self._add_features([FAULT_FEATURES, *([REPORT_FEATURES] if has_report else [])])
        self.add_device_extension(FAULT)
        if has_report:
            self.add_device_extension(REPORT)
        self.add("vkGetDeviceFaultInfoEXT", self._fault_info)
        self.instead("vkCreateDebugUtilsMessengerEXT", self._create_messenger)
        self.instead("vkDestroyDebugUtilsMessengerEXT", self._destroy_messenger)

    def _add_features(self, types: list[int]) -> None:
        """Supports the features, and keeps their structures from the driver."""

        def query(original: Function, physical: int, features: int) -> None:
            with self._hidden(features, types) as hidden:
                original(physical, features)
            for it in hidden:
                poke(it + 16, "I", 1)

        def create(original: Function, physical: int, info: int, *rest: Any) -> int | None:
            with self._hidden(info, types) as hidden:
                self.enabled = {peek(it, "i") for it in hidden if peek(it + 16, "I")}
                return original(physical, info, *rest)

        self.instead("vkGetPhysicalDeviceFeatures2", query)
        self.instead("vkCreateDevice", create)

    @contextmanager
    def _hidden(self, first: int, types: list[int]) -> Iterator[list[int]]:
        """Structures of a chain, which is without them meanwhile."""
        links: list[tuple[int, int]] = []
        hidden = []
        at = first
        while at:
            following = peek(at + 8, "Q")
            while following and peek(following, "i") in types:
                hidden.append(following)
                links.append((at, peek(at + 8, "Q")))
                following = peek(following + 8, "Q")
                poke(at + 8, "Q", following)
            at = following
        yield hidden
        for link, value in reversed(links):
            poke(link + 8, "Q", value)

    def _fault_info(self, _device: int, counts: int, info: int | None) -> int:
        if info is None:
            poke(counts + 16, "I", len(self.addresses))
            poke(counts + 20, "I", len(self.vendor))
            poke(counts + 24, "Q", 4096)
            return 0
        assert peek(counts + 24, "Q") == 0, "the crash dump is not asked for"
        count = peek(counts + 16, "I")
        assert (count, peek(counts + 20, "I")) == (len(self.addresses), len(self.vendor))
        ctypes.memmove(info + 16, self.description.ljust(256, b"\0"), 256)
        target, vendor = peek(info + 272, "Q"), peek(info + 280, "Q")
        for index, fault in enumerate(self.addresses):
            ctypes.memmove(target + 24 * index, struct.pack("iQQ", *fault), 24)
        for index, (text, code, data) in enumerate(self.vendor):
            packed = struct.pack("256sQQ", text, code, data)
            ctypes.memmove(vendor + 272 * index, packed, 272)
        return INCOMPLETE if self.more else 0

    def _create_messenger(
        self, original: Function, instance: int, info: int, callbacks: int | None, made: int
    ) -> int | None:
        function, user_data = peek(info + 32, "Q"), peek(info + 40, "Q")
        prototype = ctypes.CFUNCTYPE(
            ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_void_p
        )
        self._callback = prototype(function), user_data
        assert peek(info + 24, "I") == 8, "a messenger for bindings alone"
        self.messengers += 1
        poke(made, "Q", 0x4D534721)
        return 0

    def _destroy_messenger(
        self, original: Function, instance: int, messenger: int, callbacks: int | None
    ) -> None:
        if messenger:
            assert messenger == 0x4D534721
            self.messengers -= 1

    def bind(
        self,
        object_type: int,
        handle: int,
        address: int,
        size: int,
        name: str = "",
        ends: bool = False,
    ) -> None:
        """Tells the messenger of a binding, as a driver does."""
        assert self._callback is not None
        text = ctypes.create_string_buffer(name.encode()) if name else None
        named = struct.pack(
            "i4xQi4xQQ", 1000128000, 0, object_type, handle, ctypes.addressof(text) if text else 0
        )
        objects = ctypes.create_string_buffer(named, len(named))
        bound = struct.pack("i4xQI4xQQi4x", 1000354001, 0, 0, address, size, int(ends))
        binding = ctypes.create_string_buffer(bound, len(bound))
        data = struct.pack(
            "i4xQI4xQi4xQI4xQI4xQI4xQ",
            *(1000128003, ctypes.addressof(binding), 0, 0, 0, 0, 0, 0, 0, 0),
            *(1, ctypes.addressof(objects)),
        )
        message = ctypes.create_string_buffer(data, len(data))
        callback, user_data = self._callback
        assert callback(1, 8, ctypes.addressof(message), user_data) == 0


def open_device(driver: OddDriver, **keywords: Any) -> Device:
    return Device.open(
        index=index_of_the_driver(),
        get_instance_proc_addr=driver.get_instance_proc_addr,
        **keywords,
    )


def lose(device: Device, driver: OddDriver, buffer: vk_mem.Buffer) -> None:
    driver.fail("vkQueueSubmit", -4, times=1)
    with pytest.raises(DeviceLostError):
        device.fill_buffer(buffer, 0)


def test_the_driver_tells_its_faults() -> None:
    driver = FaultyDriver()
    device = open_device(driver)
    assert FAULT in device.extensions
    assert REPORT not in device.extensions
    assert driver.enabled == {FAULT_FEATURES}
    assert "deviceFault" in device.features
    with Allocator(device) as allocator, allocator.create_buffer(4096, TRANSFER) as buffer:
        assert allocator.explain_fault() is None
        assert driver.calls["vkGetDeviceFaultInfoEXT"] == 0
        lose(device, driver, buffer)
        driver.addresses = [(2, 0x7000_1234, 4096), (6, 0x10, 0)]
        driver.vendor = [(b"x" * 256, 1, 2), (b"warp", 3, 4)]
        driver.description = b"MMU fault"
        for driver.more in (0, 1):
            report = allocator.explain_fault()
            assert report is not None
            first, second = report.addresses
            assert (first.lower_address, first.upper_address) == (0x7000_1000, 0x7000_1FFF)
            assert (second.lower_address, second.upper_address) == (0x10, 0x10)
            assert (first.address_type, second.address_type) == (2, 6)
            assert report.description == "MMU fault"
            vendor = [(it.description, it.code, it.data) for it in report.vendor_infos]
            assert vendor == [("x" * 256, 1, 2), ("warp", 3, 4)]
            assert not report.has_records
            assert "Device.open(fault_reports=True)" in str(report)
    assert driver.messengers == 0


def test_live_buffers_with_an_address_are_matched() -> None:
    driver = FaultyDriver()
    device = open_device(driver)
    usage = TRANSFER | vk_mem.BufferUsage.SHADER_DEVICE_ADDRESS
    with (
        Allocator(device) as allocator,
        allocator.create_buffer(4096, usage, name="live") as buffer,
    ):
        driver.addresses = [(1, buffer.device_address + 4, 1)]
        lose(device, driver, buffer)
        report = allocator.explain_fault()
        assert report is not None
        assert str(report.addresses[0]).startswith("the device read at byte 4 of Buffer 'live' (")


@pytest.mark.parametrize("call", ["vkGetFenceStatus", "vkCreateFence"])
def test_a_loss_that_only_the_program_was_told_of_is_found(call: str) -> None:
    driver = FaultyDriver()
    with Allocator(open_device(driver)) as allocator:
        driver.fail(call, -4)
        report = allocator.explain_fault()
        assert report is not None
        driver.recover(call)
        # It stays lost.
        assert allocator.explain_fault() is not None


@pytest.mark.parametrize("call", ["vkGetFenceStatus", "vkCreateFence", "vkGetDeviceFaultInfoEXT"])
def test_each_call_can_fail(call: str) -> None:
    driver = FaultyDriver()
    device = open_device(driver)
    with Allocator(device) as allocator, allocator.create_buffer(64, TRANSFER) as buffer:
        if call == "vkGetDeviceFaultInfoEXT":
            lose(device, driver, buffer)
        driver.fail(call, -1)
        with pytest.raises(OutOfHostMemoryError, match=call):
            allocator.explain_fault()
        driver.recover(call)
        assert (allocator.explain_fault() is None) == (call != "vkGetDeviceFaultInfoEXT")


def test_bindings_of_the_driver_are_matched() -> None:
    driver = FaultyDriver()
    device = open_device(driver, fault_reports=True)
    assert driver.enabled == {FAULT_FEATURES, REPORT_FEATURES}
    assert {FAULT, REPORT} <= set(device.extensions)
    assert driver.messengers == 0
    with Allocator(device) as allocator, Allocator(device):
        assert driver.messengers == 1
        gone = allocator.create_buffer(4096, TRANSFER, name="gone")
        alive = allocator.create_buffer(4096, TRANSFER, name="alive")
        handle = gone.handle
        driver.bind(BUFFER, gone.handle, 0x10000, 4096)
        driver.bind(BUFFER, alive.handle, 0x20000, 4096)
        driver.bind(PIPELINE, 77, 0x30000, 512, "blur")
        allocator.set_current_frame_index(5)
        gone.destroy()
        driver.bind(BUFFER, handle, 0x10000, 4096, ends=True)
        lose(device, driver, alive)
        driver.addresses = [(1, 0x10010, 1), (2, 0x21004, 1), (3, 0x30000, 1), (1, 0x90000, 1)]
        report = allocator.explain_fault()
        assert report is not None
        texts = [str(it) for it in report.addresses]
        assert texts[0].startswith("the device read at byte 16 of Buffer 'gone' (4.0 KiB, freed in")
        assert texts[1].startswith("the device wrote 4 bytes past the end of Buffer 'alive' (")
        assert "at byte 0 of VkPipeline 'blur' (512 B)" in texts[2]
        assert texts[3].endswith("belongs to nothing that is known")
        (first, *_) = report.addresses
        # The binding of the buffer itself is not listed once more.
        assert [it.state for it in first.owners] == ["freed"]
        alive.destroy()
    assert driver.messengers == 1
    del allocator, device, gone, alive
    gc.collect()
    assert driver.messengers == 0


def test_a_messenger_that_cannot_be_made_leaves_nothing() -> None:
    driver = FaultyDriver()
    device = open_device(driver, fault_reports=True)
    driver.fail("vkCreateDebugUtilsMessengerEXT", -1)
    with pytest.raises(OutOfHostMemoryError, match="vkCreateDebugUtilsMessengerEXT"):
        Allocator(device)
    driver.recover("vkCreateDebugUtilsMessengerEXT")
    with Allocator(device) as allocator:
        assert driver.messengers == 1
        assert allocator.explain_fault() is None


def test_a_driver_without_reports_of_bindings_keeps_what_was_freed() -> None:
    driver = FaultyDriver(has_report=False)
    device = open_device(driver, fault_reports=True)
    if REPORT in device.extensions:
        pytest.skip("the driver itself has reports of bindings")
    usage = TRANSFER | vk_mem.BufferUsage.SHADER_DEVICE_ADDRESS
    with Allocator(device) as allocator:
        with allocator.create_buffer(4096, TRANSFER) as buffer:
            lose(device, driver, buffer)
        gone = allocator.create_buffer(4096, usage, name="gone")
        driver.addresses = [(1, gone.device_address + 8, 1)]
        gone.destroy()
        report = allocator.explain_fault()
        assert report is not None
        assert "at byte 8 of Buffer 'gone' (4.0 KiB, freed)" in str(report)
        assert report.has_records
    assert driver.messengers == 0


def test_extensions_can_be_left_out_or_asked_for() -> None:
    driver = FaultyDriver()
    device = open_device(driver, fault_reports=True, without_extensions=[FAULT])
    assert FAULT not in device.extensions
    device = open_device(driver, fault_reports=True, without_extensions=["VK_EXT_debug_utils"])
    assert REPORT not in device.extensions
    assert FAULT in device.extensions
    with pytest.raises(InvalidArgumentError):
        open_device(driver, extensions=[FAULT], without_extensions=[FAULT])
    device = open_device(
        driver, extensions=["VK_EXT_debug_utils"], features=["reportAddressBinding"]
    )
    assert REPORT in device.extensions
    with Allocator(device):
        assert driver.messengers == 0, "nobody asked for reports"
    if FAULT not in open_device(OddDriver()).extensions:
        with pytest.raises(FeatureNotPresentError, match=FAULT):
            open_device(OddDriver(), extensions=[FAULT])


@pytest.mark.parametrize("reports", [False, True])
@pytest.mark.parametrize("has_extensions", [False, True])
def test_a_wrapped_device_uses_what_is_listed(reports: bool, has_extensions: bool) -> None:
    driver = FaultyDriver()
    own = open_device(driver, fault_reports=True)
    listed = [FAULT, REPORT, "VK_EXT_debug_utils"] if has_extensions else []
    device = Device.wrap(
        own.instance,
        own.physical_device,
        own.handle,
        api_version=(1, 3),
        extensions=listed,
        queue=own.queue,
        queue_family_index=own.queue_family_index,
        get_instance_proc_addr=driver.get_instance_proc_addr,
        fault_reports=reports,
    )
    for _ in range(2):
        with Allocator(device) as allocator:
            assert driver.messengers == int(reports and has_extensions)
            with allocator.create_buffer(64, TRANSFER) as buffer:
                lose(device, driver, buffer)
                report = allocator.explain_fault()
            assert report is not None
            assert (report.unavailable is None) == has_extensions
            assert report.has_records == reports
        # The caller may destroy its instance now.
        assert driver.messengers == 0
    del allocator, device


def test_reports_pass_validation() -> None:
    device = Device.open(index=index_of_the_driver(), validation=True, fault_reports=True)
    with Allocator(device) as allocator:
        allocator.create_buffer(64, TRANSFER).destroy()
        assert allocator.explain_fault() is None
        if FAULT not in device.extensions:
            report = allocator.explain_fault(device_lost=True)
            assert report is not None
            assert FAULT in (report.unavailable or "")
    assert device.validation_messages == []
