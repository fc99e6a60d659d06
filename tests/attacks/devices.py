"""The devices to attack: every simulated profile, and the CPU driver."""

from __future__ import annotations

import functools
import os
import random
import warnings

import vk_mem
from vk_mem import Allocator, Debug, Device, DeviceType, SimulatedDevice

__all__ = ["any_device", "check_device", "the_driver"]


@functools.cache
def the_driver() -> Device | None:
    """The device of the processor, opened once; None with `VK_MEM_NO_DRIVER=1` or without one."""
    if os.environ.get("VK_MEM_NO_DRIVER") == "1":
        return None
    try:
        found = vk_mem.list_physical_devices()
    except vk_mem.InitializationError:
        return None
    for index, it in enumerate(found):
        if it.properties.device_type == DeviceType.CPU:
            validation = os.environ.get("VK_MEM_TEST_VALIDATION") != "0"
            return Device.open(index=index, validation=validation)
    return None


def any_device(number: int) -> Device:
    """Another one for each number, in turn."""
    names = SimulatedDevice.profile_names()
    turn = number % (len(names) + 1)
    if turn == 0 and (driver := the_driver()) is not None:
        return driver
    return SimulatedDevice(names[turn - 1])


DEBUGS = (
    Debug(detect_corruption=True),
    Debug(fill="nan", fill_on_free="pattern", detect_corruption=True, quarantine="64K"),
    Debug(fill=0x5A, detect_corruption=True, quarantine="2 frames", check="frame"),
    Debug(detect_corruption=True, margin=64, check="call"),
)


def any_allocator(device: Device, dice: random.Random) -> Allocator:
    """One with options that matter to what lies where."""
    heaps = device.memory_properties.memory_heaps
    limits = [dice.choice([None, None, 64 << 20]) for _ in heaps]
    debug = dice.choice([None, *DEBUGS])
    # Calls are made to fail: what cannot be filled then is told.
    warnings.filterwarnings("ignore", "debug: ", vk_mem.CorruptionWarning)
    return Allocator(
        device,
        preferred_block_size=dice.choice([None, 1 << 20, 4 << 20]),
        # The margins of a heap go through a ring as large as these limits.
        heap_size_limits=None if debug else dice.choice([None, limits]),
        frames_in_flight=dice.choice([0, 1, 2]),
        empty_block_retention=dice.choice([None, 0.0, vk_mem.EmptyBlockRetention(count=2)]),
        prefetch=dice.random() < 0.3,
        track_call_sites=dice.choice([None, True, 3]),
        debug=debug,
    )


def check_device(device: Device) -> None:
    """Nothing is left of what was made on it, and no rule of Vulkan was broken."""
    assert device.validation_messages == []
    if isinstance(device, SimulatedDevice):
        assert device.violations == []
        left = (device.live_memory_objects, device.live_buffers, device.live_images)
        assert left == (0, 0, 0), f"memory objects, buffers, images that are left: {left}"
