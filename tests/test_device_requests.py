"""Requesting extensions, features and a queue when a device is opened."""

from __future__ import annotations

import ctypes
import struct

import pytest
from odd_driver import chain, peek, poke
from support import TRANSFER, WRITE

import vk_mem
from vk_mem import (
    Allocator,
    BufferUsage,
    Device,
    FeatureNotPresentError,
    InitializationError,
    InvalidArgumentError,
    QueueFlags,
    SimulatedDevice,
)

pytestmark = pytest.mark.driver
BUDGET = "VK_EXT_memory_budget"
STORAGE = BufferUsage.STORAGE_BUFFER
VULKAN_1_2_FEATURES = 51
# The structure that gives memory a priority is the next one.
PRIORITY_FEATURES = 1000238000
SHADER_INT64 = 40


@pytest.fixture
def present(real_device):
    """The extensions of the device, by its own words."""
    for found in vk_mem.list_physical_devices():
        if found.properties.device_name == real_device.properties.device_name:
            return found.extensions
    raise AssertionError("the device is not listed")


@pytest.fixture
def created(odd_driver):
    """What the driver is asked to create: extensions, core features, structures."""
    seen = []

    def instead(original, physical, info, *rest):
        count, names = peek(info + 48, "I"), peek(info + 56, "Q")
        read = [ctypes.string_at(peek(names + 8 * it, "Q")).decode() for it in range(count)]
        features = peek(info + 64, "Q")
        core = struct.unpack("55I", ctypes.string_at(features, 220)) if features else (0,) * 55
        structures = {
            it: ctypes.string_at(at + 16, 220) for it, at in chain(peek(info + 8, "Q")).items()
        }
        seen.append((read, core, structures))
        return original(physical, info, *rest)

    odd_driver.instead("vkCreateDevice", instead)
    return seen


# ---- extensions ----


def test_what_is_asked_for_is_enabled_beside_the_rest(open_odd, created, present):
    plain = open_odd()
    other = next(it for it in present if it.startswith("VK_EXT_") and it not in plain.extensions)
    device = open_odd(extensions=[other], validation=False)
    assert set(device.extensions) == {*plain.extensions, other}
    assert sorted(created[-1][0]) == sorted(device.extensions)
    with Allocator(device) as allocator:
        allocator.create_buffer(4096, STORAGE).destroy()


def test_asking_for_what_is_enabled_anyway_changes_nothing(open_odd, created):
    plain = open_odd()
    again = open_odd(extensions=[*plain.extensions, *plain.extensions])
    assert sorted(again.extensions) == sorted(plain.extensions)
    assert sorted(created[-1][0]) == sorted(plain.extensions)


def test_the_error_names_all_that_is_lacking(open_odd, odd_driver, real_device):
    wanted = ["VK_NV_no_such", "VK_EXT_memory_budge", BUDGET, "VK_KHR_also_none"]
    with pytest.raises(FeatureNotPresentError) as caught:
        open_odd(extensions=wanted)
    text = str(caught.value)
    assert real_device.properties.device_name in text
    assert "the extension VK_NV_no_such" in text and "the extension VK_KHR_also_none" in text
    if BUDGET in real_device.extensions:
        assert f"VK_EXT_memory_budge (did you mean {BUDGET}" in text
        assert f"extension {BUDGET}," not in text
    assert odd_driver.calls["vkCreateDevice"] == 0


def test_extensions_of_the_instance(odd_driver, open_odd):
    seen = []

    def instead(original, info, *rest):
        count, names = peek(info + 48, "I"), peek(info + 56, "Q")
        seen.extend(ctypes.string_at(peek(names + 8 * it, "Q")).decode() for it in range(count))
        return original(info, *rest)

    odd_driver.instead("vkCreateInstance", instead)
    device = open_odd(extensions=["VK_EXT_debug_utils"])
    assert seen.count("VK_EXT_debug_utils") == 1
    assert "VK_EXT_debug_utils" not in device.extensions


def test_doing_without(open_odd, created):
    plain = open_odd()
    for name in plain.extensions:
        device = open_odd(without_extensions=[name])
        assert name not in device.extensions and name not in created[-1][0]
        with Allocator(device) as allocator:
            allocator.create_buffer(4096, STORAGE).destroy()
    none = open_odd(without_extensions=[*plain.extensions, "VK_KHR_no_such"])
    assert none.extensions == ()


def test_doing_without_what_became_core(open_odd):
    addresses = "VK_KHR_buffer_device_address"
    plain = open_odd()
    assert "bufferDeviceAddress" in plain.features
    device = open_odd(without_extensions=[addresses, "VK_KHR_maintenance4"])
    assert not {"bufferDeviceAddress", "maintenance4"} & set(device.features)
    usage = STORAGE | BufferUsage.TRANSFER_DST
    with Allocator(device) as allocator, allocator.create_buffer(64, usage) as buffer:
        device.fill_buffer(buffer)


def test_asking_for_what_is_left_out():
    with pytest.raises(InvalidArgumentError, match="leaves out what is asked for: " + BUDGET):
        Device.open(extensions=[BUDGET], without_extensions=[BUDGET])


@pytest.mark.parametrize("keyword", ["extensions", "without_extensions", "features"])
@pytest.mark.parametrize("wrong", ["VK_EXT_memory_budget", 5, [5], [b"name"]])
def test_lists_of_names(keyword, wrong):
    with pytest.raises(TypeError, match=f"{keyword} must be an? (list of names|iterable)"):
        Device.open(**{keyword: wrong})


def test_endless_lists_end():
    endless = iter(lambda: "VK_EXT_memory_budget", None)
    with pytest.raises(InvalidArgumentError, match="more than 10000 items"):
        Device.open(extensions=endless)


# ---- features ----


def test_features_by_their_names(open_odd, created):
    wanted = ["shaderInt64", "hostQueryReset", "synchronization2", "multiview"]
    device = open_odd(features=wanted)
    assert set(wanted) < set(device.features)
    assert set(device.features) - set(wanted) == set(open_odd().features)
    _, core, structures = created[0]
    assert core[SHADER_INT64] == 1 and sum(core) == 1
    # No structure stands beside one that gathers its features.
    assert set(structures) >= {49, VULKAN_1_2_FEATURES, 53}
    assert not {1000207000, 1000257000, 1000413000} & set(structures)


@pytest.mark.parametrize("version", [(1, 0), (1, 1), (1, 2), (1, 3)])
def test_features_of_older_versions(open_odd, created, version):
    device = open_odd(api_version=version, features=["shaderInt64", "timelineSemaphore"])
    assert {"shaderInt64", "timelineSemaphore"} <= set(device.features)
    extension = "VK_KHR_timeline_semaphore"
    assert (extension in device.extensions) == (version < (1, 2))
    with Allocator(device) as allocator:
        allocator.create_buffer(4096, STORAGE).destroy()


def test_a_feature_brings_its_extension(open_odd, present):
    if "VK_EXT_transform_feedback" not in present:
        pytest.skip("the driver has no VK_EXT_transform_feedback")
    device = open_odd(features=["transformFeedback"])
    assert "VK_EXT_transform_feedback" in device.extensions
    assert "transformFeedback" in device.features
    with pytest.raises(InvalidArgumentError, match="which the feature transformFeedback needs"):
        open_odd(features=["transformFeedback"], without_extensions=["VK_EXT_transform_feedback"])


def test_a_feature_that_the_driver_has_not(odd_driver, open_odd):
    def change(_, features):
        poke(features + 16 + 4 * SHADER_INT64, "I", 0)

    odd_driver.after("vkGetPhysicalDeviceFeatures2", change)
    with pytest.raises(FeatureNotPresentError, match=r"lacks the feature shaderInt64$"):
        open_odd(features=["shaderInt64", "timelineSemaphore"])
    assert odd_driver.calls["vkCreateDevice"] == 0


def test_a_feature_whose_extension_is_missing(odd_driver, open_odd, present):
    if "VK_NV_cooperative_matrix" in present:
        pytest.skip("the driver has the extension")
    with pytest.raises(FeatureNotPresentError, match="cooperativeMatrix, which needs VK_KHR_coop"):
        open_odd(features=["cooperativeMatrix"])


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("shaderInt46", "shaderInt64"),
        ("timelineSemaphores", "timelineSemaphore"),
        ("shader_int64", "shaderInt64"),
        ("", None),
        ("xyzzy", None),
        ("shaderInt64\0", "shaderInt64"),
    ],
)
def test_a_feature_that_is_none(open_odd, name, meant):
    with pytest.raises(InvalidArgumentError, match="Vulkan has no feature called") as caught:
        open_odd(features=[name])
    assert "did you mean" not in str(caught.value) if meant is None else meant in str(caught.value)


@pytest.mark.parametrize("has_feature", [False, True])
def test_nothing_is_assumed_of_an_extension_without_its_feature(odd_driver, open_odd, has_feature):
    """A driver that says it has VK_EXT_memory_priority, with its feature or without."""
    name = "VK_EXT_memory_priority"

    def enumerate_extensions(_physical, _layer, count, properties):
        if properties:
            last = properties + 260 * (peek(count, "I") - 1)
            ctypes.memmove(last, name.encode() + b"\0", len(name) + 1)

    def change(_, features):
        found = chain(features).get(PRIORITY_FEATURES)
        if found:
            poke(found + 16, "I", has_feature)

    seen = []

    def allocate(original, device, info, *rest):
        seen.append(PRIORITY_FEATURES + 1 in chain(info))
        return original(device, info, *rest)

    def create(original, physical, info, *rest):
        # It does not have it in truth.
        poke(info + 48, "I", 0)
        found = chain(info).get(PRIORITY_FEATURES)
        if found:
            poke(found + 16, "I", 0)
        return original(physical, info, *rest)

    odd_driver.after("vkEnumerateDeviceExtensionProperties", enumerate_extensions)
    odd_driver.after("vkGetPhysicalDeviceFeatures2", change)
    odd_driver.instead("vkCreateDevice", create)
    odd_driver.instead("vkAllocateMemory", allocate)
    without = [
        "VK_KHR_external_memory",
        "VK_EXT_pageable_device_local_memory",
        "VK_EXT_host_image_copy",
    ]
    device = open_odd(extensions=[name], without_extensions=without, validation=False)
    assert name in device.extensions
    assert ("memoryPriority" in device.features) == has_feature
    with Allocator(device) as allocator:
        dedicated = vk_mem.AllocationCreateFlags.DEDICATED_MEMORY
        allocator.create_buffer(64, STORAGE, flags=dedicated, priority=0.5).destroy()
    assert seen == [has_feature]


def test_features_of_other_devices(real_device):
    handles = (real_device.instance, real_device.physical_device, real_device.handle)
    assert Device.wrap(*handles, api_version=(1, 1)).features == ()
    wrapped = Device.wrap(*handles, api_version=(1, 2), buffer_device_address=True)
    assert wrapped.features == ("bufferDeviceAddress",)
    assert "bufferDeviceAddress" in SimulatedDevice("nvidia-h200").features
    assert SimulatedDevice("raspberry-pi").features == ("maintenance4",)


# ---- queues ----


def families(*flags):
    """Lets a driver have families of these flags, all of which are its first one in truth."""

    def instead(_original, _physical, count, properties):
        if properties:
            for index, it in enumerate(flags):
                data = struct.pack("6I", it, 1, 64, 1, 1, 1)
                ctypes.memmove(properties + 24 * index, data, 24)
        poke(count, "I", len(flags))

    return instead


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (None, 2),
        (QueueFlags.GRAPHICS | QueueFlags.COMPUTE, 2),
        (QueueFlags.COMPUTE, 1),
        (QueueFlags.TRANSFER, 0),
        (int(QueueFlags.GRAPHICS), 2),
        (QueueFlags.TRANSFER | QueueFlags.VIDEO_DECODE_KHR, 3),
        (QueueFlags.COMPUTE | QueueFlags.TRANSFER, 1),
    ],
)
def test_the_queue_that_fits_best(odd_driver, open_odd, wanted, index):
    flags = QueueFlags
    odd_driver.instead(
        "vkGetPhysicalDeviceQueueFamilyProperties",
        families(
            flags.TRANSFER,
            flags.COMPUTE | flags.TRANSFER,
            flags.GRAPHICS | flags.COMPUTE,
            flags.VIDEO_DECODE_KHR | flags.TRANSFER,
            flags.VIDEO_ENCODE_KHR,
        ),
    )
    asked = []

    def create(original, physical, info, *rest):
        queue = peek(info + 24, "Q")
        asked.append(peek(queue + 20, "I"))
        poke(queue + 20, "I", 0)
        poke(info + 20, "I", 1)  # without one for transfers: both families are the first one
        return original(physical, info, *rest)

    odd_driver.instead("vkCreateDevice", create)
    with pytest.raises(InitializationError, match=r"VIDEO_ENCODE_KHR; it has: TRANSFER; COMPUTE"):
        open_odd(queue_flags=QueueFlags.VIDEO_ENCODE_KHR, validation=False)
    try:
        open_odd(queue_flags=wanted, validation=False)
    finally:
        assert asked == [index]


def test_a_queue_of_the_driver(real_device, open_odd):
    device = open_odd(queue_flags=QueueFlags.GRAPHICS | QueueFlags.COMPUTE)
    with (
        Allocator(device) as allocator,
        allocator.create_buffer(64, TRANSFER, flags=WRITE) as buffer,
    ):
        device.fill_buffer(buffer, 1)
    with pytest.raises(InitializationError, match=r"no queue family .* has "):
        open_odd(queue_flags=1 << 30)
    assert open_odd(queue_flags="GRAPHICS|COMPUTE").queue != 0
    with pytest.raises(InvalidArgumentError, match="queue_flags: QueueFlags has no name 'GRAFICS'"):
        open_odd(queue_flags="GRAFICS")
    with pytest.raises(TypeError, match="queue_flags is a BufferUsage; it takes QueueFlags"):
        open_odd(queue_flags=STORAGE)
