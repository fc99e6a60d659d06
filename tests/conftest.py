"""Fixtures for devices, and checks that run after each test that used one.

Environment:

- `VK_MEM_TEST_DEVICE`: name of the real device (default: the best CPU driver);
- `VK_MEM_TEST_VALIDATION=0`: open it without the validation layer;
- `VK_MEM_NO_DRIVER=1`: there is no driver; tests of real devices are skipped.
"""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from browser import browser, opened  # noqa: F401  (fixtures)
from odd_driver import OddDriver
from support import Check, is_simulated

import vk_mem
from vk_mem import Allocator, Device, DeviceType, SimulatedDevice

NO_DRIVER = os.environ.get("VK_MEM_NO_DRIVER") == "1"
VALIDATION = os.environ.get("VK_MEM_TEST_VALIDATION") != "0"
DEVICE_NAME = os.environ.get("VK_MEM_TEST_DEVICE")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gpu: needs a device that is not the processor")
    config.addinivalue_line("markers", "driver: needs a Vulkan driver")


@pytest.fixture(scope="module", autouse=True)
def the_collector_passes_over_what_stays() -> None:
    """Modules, cases, and what was read once for many tests, such as the registry: a million
    objects, which each collection that a test asks for would walk again. What tests make comes
    later."""
    gc.collect()
    gc.freeze()


@functools.cache
def physical_devices() -> list[vk_mem.PhysicalDevice]:
    if NO_DRIVER:
        return []
    try:
        return vk_mem.list_physical_devices()
    except vk_mem.InitializationError:
        return []


def index_of_the_driver() -> int:
    """Of the device that stands for all real ones: the named one, else one of the processor."""
    if NO_DRIVER:
        pytest.skip("VK_MEM_NO_DRIVER=1")
    for index, found in enumerate(physical_devices()):
        wanted = (
            DEVICE_NAME in found.properties.device_name
            if DEVICE_NAME
            else found.properties.device_type == DeviceType.CPU
        )
        if wanted:
            return index
    what = f"named {DEVICE_NAME}" if DEVICE_NAME else "that runs on the processor"
    names = [found.properties.device_name for found in physical_devices()]
    pytest.fail(
        f"no Vulkan device {what} (there are {names}): install mesa-vulkan-drivers, or set "
        "VK_MEM_TEST_DEVICE to a name, or VK_MEM_NO_DRIVER=1 to go on without",
        pytrace=False,
    )


def index_of_the_gpu() -> int:
    for index, found in enumerate(physical_devices()):
        if found.properties.device_type != DeviceType.CPU:
            return index
    pytest.skip("no device here is other than the processor")


@contextmanager
def checked(device: Device) -> Iterator[Device]:
    """Lends a device; afterwards nothing may be left of it, and no rule of Vulkan broken."""
    yield device
    assert device.validation_messages == []
    if is_simulated(device):
        assert device.violations == []
        left = (device.live_memory_objects, device.live_buffers, device.live_images)
        assert left == (0, 0, 0), "memory objects, buffers, images that are left"


def open_device(name: str) -> Device:
    if name == "driver":
        return Device.open(index=index_of_the_driver(), validation=VALIDATION)
    if name == "gpu":
        return Device.open(index=index_of_the_gpu(), validation=VALIDATION)
    return SimulatedDevice(name)


DEVICES = [
    *SimulatedDevice.profile_names(),
    pytest.param("driver", marks=pytest.mark.driver),
    pytest.param("gpu", marks=pytest.mark.gpu),
]


@pytest.fixture(scope="session", autouse=True)
def the_drivers_stay_loaded() -> Iterator[None]:
    """The loader unloads a driver with its last instance, and some drivers cannot be loaded again
    and again: NVIDIA's runs out of static thread-local storage after a dozen times."""
    held = [Device.open(index=index) for index, _ in enumerate(physical_devices())]
    yield
    held.clear()


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """Every kind of device, simulated and real."""
    with checked(open_device(request.param)) as device:
        yield device


@pytest.fixture
def allocator(device: Device) -> Iterator[Allocator]:
    """An allocator on every kind of device. Closing it must not warn: the test destroys all."""
    with Allocator(device) as allocator:
        yield allocator


@pytest.fixture
def real_device() -> Iterator[Device]:
    """The device of the driver alone."""
    with checked(open_device("driver")) as device:
        yield device


@pytest.fixture
def odd_driver() -> OddDriver:
    """The driver of `real_device`, of which a test changes single answers; see `open_odd`."""
    index_of_the_driver()
    return OddDriver()


@pytest.fixture
def open_odd(odd_driver: OddDriver) -> Iterator[Callable[..., Device]]:
    """Opens the device of `odd_driver`; keywords are those of `Device.open`."""
    devices: list[Device] = []

    def open_it(**keywords: object) -> Device:
        loader = odd_driver.get_instance_proc_addr
        index = index_of_the_driver()
        device = Device.open(index=index, get_instance_proc_addr=loader, **keywords)
        devices.append(device)
        return device

    yield open_it
    for device in devices:
        assert device.validation_messages == []


@pytest.fixture
def simulated() -> Iterator[SimulatedDevice]:
    """One device whose host-visible memory has to be flushed: the strictest."""
    with checked(SimulatedDevice("non-coherent")) as device:
        yield device


@pytest.fixture
def simulated_allocator(simulated: SimulatedDevice) -> Iterator[Allocator]:
    with Allocator(simulated) as allocator:
        yield allocator


@pytest.fixture
def check(allocator: Allocator) -> Check:
    """Looks at memory from the device's side."""
    return Check(allocator)


@pytest.fixture
def make_simulated() -> Iterator[Callable[..., SimulatedDevice]]:
    """Makes simulated devices that are checked at the end."""
    made: list[SimulatedDevice] = []

    def make(*arguments: object, **keywords: object) -> SimulatedDevice:
        made.append(SimulatedDevice(*arguments, **keywords))
        return made[-1]

    yield make
    for device in made:
        with checked(device):
            pass
