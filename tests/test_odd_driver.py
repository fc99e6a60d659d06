"""Drivers with answers that Mesa does not give, and loaders other than the system's."""

from __future__ import annotations

import ctypes
import gc
import weakref

import pytest
from odd_driver import OddDriver

from vk_mem import Allocator, BufferUsage, Device, InvalidArgumentError

STORAGE = BufferUsage.STORAGE_BUFFER
pytestmark = pytest.mark.driver


def test_a_device_through_another_loader(odd_driver, open_odd):
    device = open_odd()
    with Allocator(device) as allocator:
        allocator.create_buffer(4096, STORAGE).destroy()
    calls = odd_driver.calls
    assert calls["vkCreateInstance"] == calls["vkCreateDevice"] == 1
    assert calls["vkCreateBuffer"] == calls["vkDestroyBuffer"] == 1
    assert calls["vkAllocateMemory"] == calls["vkFreeMemory"] > 0


def test_single_answers_are_changed(odd_driver, open_odd):
    odd_driver.set_heap_size(0, 1 << 30)
    odd_driver.set_limit("nonCoherentAtomSize", 256)
    device = open_odd()
    assert device.memory_properties.memory_heaps[0].size == 1 << 30
    assert device.properties.non_coherent_atom_size == 256


@pytest.mark.parametrize("kind", ["function", "address"])
def test_a_wrapped_device_through_another_loader(odd_driver, real_device, kind):
    loader = odd_driver.get_instance_proc_addr
    if kind == "address":
        loader = ctypes.cast(loader, ctypes.c_void_p).value
    wrapped = Device.wrap(
        real_device.instance,
        real_device.physical_device,
        real_device.handle,
        api_version=(1, 1),
        get_instance_proc_addr=loader,
    )
    with Allocator(wrapped) as allocator:
        allocator.create_buffer(4096, STORAGE).destroy()
    assert odd_driver.calls["vkCreateInstance"] == 0
    assert odd_driver.calls["vkCreateBuffer"] == 1


def test_the_function_of_a_loader_lives_as_long_as_the_device(real_device):
    other = OddDriver()
    handles = (real_device.instance, real_device.physical_device, real_device.handle)
    loader, seen = other.get_instance_proc_addr, weakref.ref(other.get_instance_proc_addr)
    device = Device.wrap(*handles, api_version=(1, 1), get_instance_proc_addr=loader)
    other.get_instance_proc_addr = loader = None
    gc.collect()
    assert seen() is not None
    del device
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize("wrong", ["vkGetInstanceProcAddr", 1.5, 0, 12, True, object()])
def test_what_is_no_function_is_no_loader(real_device, wrong):
    handles = (real_device.instance, real_device.physical_device, real_device.handle)
    with pytest.raises(InvalidArgumentError, match="get_instance_proc_addr"):
        Device.wrap(*handles, api_version=(1, 1), get_instance_proc_addr=wrong)
    with pytest.raises(InvalidArgumentError, match="get_instance_proc_addr"):
        Device.open(get_instance_proc_addr=wrong)


def test_one_loader_is_named(real_device, odd_driver):
    handles = (real_device.instance, real_device.physical_device, real_device.handle)
    loader = odd_driver.get_instance_proc_addr
    with pytest.raises(InvalidArgumentError, match="both name a loader"):
        Device.wrap(*handles, api_version=(1, 1), binding=ctypes, get_instance_proc_addr=loader)
