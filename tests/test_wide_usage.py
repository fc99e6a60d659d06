"""64-bit buffer usage (`VkBufferUsageFlags2CreateInfo`), in a chain or as a keyword."""

from __future__ import annotations

import ctypes
import json

import pytest
from odd_driver import chain, peek
from support import RANDOM, TRANSFER

from vk_mem import (
    Allocator,
    BufferUsage,
    Device,
    FeatureNotPresentError,
    InvalidArgumentError,
    SimulatedDevice,
)

STORAGE = BufferUsage.STORAGE_BUFFER
ADDRESS = BufferUsage.SHADER_DEVICE_ADDRESS
WIDE = BufferUsage.MEMORY_DECOMPRESSION_EXT
FLAGS_2 = 1000470006


class VkBufferCreateInfo(ctypes.Structure):
    _fields_ = (
        ("sType", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("size", ctypes.c_uint64),
        ("usage", ctypes.c_uint32),
        ("sharingMode", ctypes.c_int),
        ("queueFamilyIndexCount", ctypes.c_uint32),
        ("pQueueFamilyIndices", ctypes.c_void_p),
    )


class UsageFlags2(ctypes.Structure):
    _fields_ = (("sType", ctypes.c_int), ("pNext", ctypes.c_void_p), ("usage", ctypes.c_uint64))


def struct(size: int, usage: int, plain: int = 0) -> VkBufferCreateInfo:
    chained = UsageFlags2(FLAGS_2, None, usage)
    info = VkBufferCreateInfo(12, ctypes.addressof(chained), 0, size, plain, 0, 0, None)
    info.chained = chained
    return info


@pytest.fixture
def wide_device(make_simulated):
    return make_simulated("nvidia-h200")


@pytest.fixture
def wide_allocator(wide_device):
    with Allocator(wide_device) as allocator:
        yield allocator


def test_a_chained_usage_is_the_usage(wide_allocator):
    usage = STORAGE | ADDRESS | TRANSFER | WIDE
    with wide_allocator.create_buffer(struct(64, usage), flags=RANDOM, name="b") as buffer:
        assert buffer.usage == usage
        assert buffer.device_address > 0
        wide_allocator.device.fill_buffer(buffer, 0x01020304)
        with wide_allocator.create_buffer(struct(64, TRANSFER), flags=RANDOM) as other:
            wide_allocator.device.copy_buffer(buffer, other)
            assert other.read() == buffer.read() == b"\4\3\2\1" * 16
        dump = json.loads(wide_allocator.build_stats_string())
        assert f'"Usage": {int(usage)}' in json.dumps(dump)


def test_a_chained_usage_stands_instead_of_the_plain_one(wide_allocator):
    plain = struct(64, STORAGE, plain=int(TRANSFER | ADDRESS))
    with (
        wide_allocator.create_buffer(plain, flags=RANDOM) as buffer,
        wide_allocator.create_buffer(64, TRANSFER) as source,
    ):
        assert buffer.usage == STORAGE
        with pytest.raises(InvalidArgumentError, match=r"without BufferUsage.TRANSFER_DST"):
            wide_allocator.device.copy_buffer(source, buffer)
        with pytest.raises(FeatureNotPresentError, match="SHADER_DEVICE_ADDRESS"):
            _ = buffer.device_address


def test_a_chained_usage_chooses_the_memory_type(wide_allocator):
    find = wide_allocator.find_memory_type_index_for_buffer_info
    for usage in (TRANSFER, STORAGE, STORAGE | TRANSFER):
        other = STORAGE if usage == TRANSFER else TRANSFER
        info = struct(1 << 16, usage, plain=int(other))
        for flags in (0, int(RANDOM)):
            assert find(info, flags=flags) == find(1 << 16, usage, flags=flags)


def test_many_and_aliases(wide_allocator):
    usage = STORAGE | WIDE
    many = wide_allocator.create_buffers([struct(64, usage), struct(64, STORAGE)])
    assert [it.usage for it in many] == [usage, STORAGE]
    wide_allocator.destroy_many(many)
    many = wide_allocator.create_buffers([64, 128], usage)
    assert [it.usage for it in many] == [usage, usage]
    wide_allocator.destroy_many(many)
    with wide_allocator.allocate_memory(4096, 4096) as memory:
        for alias in (
            wide_allocator.create_aliasing_buffer(memory, struct(64, usage)),
            wide_allocator.create_aliasing_buffer(memory, 64, usage),
        ):
            assert alias.usage == usage
            alias.destroy()


def test_a_wide_keyword(wide_allocator):
    usage = STORAGE | WIDE
    for buffer in (
        wide_allocator.create_buffer(64, usage),
        wide_allocator.create_buffer(64, int(usage), name="named"),
        wide_allocator.create_buffer(64, usage, export_handle_types=1),
    ):
        assert buffer.usage == usage
        buffer.destroy()
    assert wide_allocator.find_memory_type_index_for_buffer_info(64, usage) is not None
    with pytest.raises(InvalidArgumentError, match="does not fit 64 bits"):
        wide_allocator.create_buffer(64, 1 << 64)


@pytest.mark.parametrize("wide", [WIDE, STORAGE | 1 << 63])
def test_a_device_without_wide_usages_says_so(make_simulated, wide):
    device = make_simulated("integrated")
    with Allocator(device) as allocator:
        for call in (
            lambda: allocator.create_buffer(64, wide),
            lambda: allocator.create_buffer(64, wide, name="named"),
            lambda: allocator.create_buffer(struct(64, wide)),
            lambda: allocator.create_buffers([64], wide),
            lambda: allocator.find_memory_type_index_for_buffer_info(64, wide),
        ):
            with pytest.raises(FeatureNotPresentError, match=r"VK_KHR_maintenance5 or Vulkan 1.4"):
                call()
        assert device.call_count("vkCreateBuffer") == 0


@pytest.mark.driver
def test_the_driver_gets_the_structure(odd_driver, open_odd):
    """A driver that has it, as far as the wrapped device says."""
    seen = []

    def instead(original, device, info, *rest):
        structures = chain(info)
        found = structures.get(FLAGS_2)
        seen.append(found and peek(found + 16, "Q"))
        return original(device, info, *rest)

    odd_driver.instead("vkCreateBuffer", instead)
    opened = open_odd(validation=False)
    device = Device.wrap(
        opened.instance,
        opened.physical_device,
        opened.handle,
        api_version=(1, 1),
        extensions=["VK_KHR_maintenance5"],
        get_instance_proc_addr=odd_driver.get_instance_proc_addr,
    )
    with Allocator(device) as allocator:
        for usage in (STORAGE, STORAGE | WIDE):
            with allocator.create_buffer(64, usage) as buffer:
                assert buffer.usage == usage
    assert seen == [None, STORAGE | WIDE]


def test_simulated_devices_agree():
    assert "VK_KHR_maintenance5" in SimulatedDevice("nvidia-h200").extensions
    assert "VK_KHR_maintenance5" not in SimulatedDevice("integrated").extensions
