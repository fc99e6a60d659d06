"""Unusual but real devices: heaps of 0 bytes, unset limits, rare results."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
from support import DEDICATED, RANDOM, TRANSFER, WRITE, run_python

import vk_mem
from vk_mem import (
    Allocator,
    BufferUsage,
    DeviceLostError,
    DeviceType,
    FeatureNotPresentError,
    InvalidArgumentError,
    MemoryMapError,
    MemoryPropertyFlags,
    OutOfDeviceMemoryError,
    OutOfHostMemoryError,
    SimulatedDevice,
    TooManyObjectsError,
    VkMemError,
)

MIB = 1 << 20
GIB = 1 << 30
LOCAL = MemoryPropertyFlags.DEVICE_LOCAL
VISIBLE = MemoryPropertyFlags.HOST_VISIBLE | MemoryPropertyFlags.HOST_COHERENT


def with_empty_heap(**keywords: Any) -> SimulatedDevice:
    """The first heap, with the memory types that would be the best choice, has no bytes."""
    return SimulatedDevice(
        heaps=[(0, 1), (GIB, 0), (2 * GIB, 1)],
        types=[(0, LOCAL), (0, LOCAL | VISIBLE), (1, VISIBLE), (2, LOCAL)],
        **keywords,
    )


@pytest.mark.parametrize("limits", [None, [None, GIB, GIB], [5 * GIB], [0, 0, 0]])
@pytest.mark.parametrize("prefetch", [False, True])
def test_a_heap_of_no_bytes_is_never_used(limits: Any, prefetch: bool) -> None:
    device = with_empty_heap()
    with Allocator(device, heap_size_limits=limits, prefetch=prefetch) as allocator:
        allocator.on_pressure(lambda heap, budget: None, 0.5)
        if limits != [0, 0, 0]:
            made = [
                allocator.create_buffer(4096, TRANSFER),
                allocator.create_buffer(4096, TRANSFER, flags=WRITE),
                allocator.create_buffer(4096, TRANSFER, flags=RANDOM | DEDICATED),
            ]
            assert [it.allocation.memory_type_index for it in made] == [3, 2, 2]
        else:
            with pytest.raises(OutOfDeviceMemoryError):
                allocator.create_buffer(4096, TRANSFER)
            made = []
        with pytest.raises(FeatureNotPresentError, match="a heap of 0 bytes"):
            allocator.create_buffer(4096, TRANSFER, memory_type_bits=0b11)
        with pytest.raises(OutOfDeviceMemoryError, match="at most 0 bytes"):
            allocator.create_pool(memory_type_index=0)
        budget = allocator.heap_budgets()[0]
        assert (budget.usage, budget.budget, budget.block_count) == (0, 0, 0)
        assert allocator.preferred_block_sizes[:2] == [0, 0]
        allocator.set_current_frame_index(1)
        text = allocator.build_stats_string(True)
        assert json.loads(text)["MemoryInfo"]["Heap 0"]["Size"] == 0
        for words in (str(allocator.calculate_statistics()), repr(device), repr(budget)):
            assert words
        dump = vk_mem.load_dump(text)
        assert vk_mem.view.svg(dump) and vk_mem.view.html(dump)
        allocator.validate()
        for it in made:
            it.destroy()
    assert device.violations == []
    assert device.live_bytes(0) == 0


def test_the_statistics_of_an_empty_heap_can_be_printed() -> None:
    shown = run_python(
        """
        import vk_mem
        device = vk_mem.SimulatedDevice(
            heaps=[(0, 1), (1 << 30, 1)], types=[(0, 1), (1, 7)], max_memory_allocation_size=0
        )
        with vk_mem.Allocator(device) as allocator:
            buffer = allocator.create_buffer(1000, 32)
            print(allocator.heap_budgets())
            print(allocator.calculate_statistics())
            allocator.save_dump("/dev/stdout") if hasattr(allocator, "save_dump") else None
            buffer.destroy()
        """
    )
    assert shown.returncode == 0, shown.stderr


def test_limits_of_zero_are_not_known() -> None:
    for profile in SimulatedDevice.profile_names():
        device = SimulatedDevice(
            profile,
            max_memory_allocation_size=0,
            max_memory_allocation_count=0,
            buffer_image_granularity=0,
            non_coherent_atom_size=0,
        )
        properties = device.properties
        assert properties.max_memory_allocation_size == (1 << 64) - 1
        assert properties.max_memory_allocation_count == (1 << 32) - 1
        with Allocator(device) as allocator:
            for flags in (WRITE, WRITE | DEDICATED):
                allocator.create_buffer(MIB, TRANSFER, flags=flags).destroy()
        assert device.violations == []


RESULTS: dict[int, tuple[type[VkMemError], str]] = {
    -1: (OutOfHostMemoryError, "VK_ERROR_OUT_OF_HOST_MEMORY (-1)"),
    -2: (OutOfDeviceMemoryError, "VK_ERROR_OUT_OF_DEVICE_MEMORY (-2)"),
    -3: (VkMemError, "VK_ERROR_INITIALIZATION_FAILED (-3)"),
    -5: (MemoryMapError, "VK_ERROR_MEMORY_MAP_FAILED (-5)"),
    -8: (FeatureNotPresentError, "VK_ERROR_FEATURE_NOT_PRESENT (-8)"),
    -10: (TooManyObjectsError, "VK_ERROR_TOO_MANY_OBJECTS (-10)"),
    -13: (VkMemError, "VK_ERROR_UNKNOWN (-13)"),
    -1000011001: (VkMemError, "VK_ERROR_VALIDATION_FAILED (-1000011001)"),
    -1000072003: (InvalidArgumentError, "VK_ERROR_INVALID_EXTERNAL_HANDLE (-1000072003)"),
    -1000257000: (VkMemError, "VK_ERROR_INVALID_OPAQUE_CAPTURE_ADDRESS (-1000257000)"),
    -1000999999: (VkMemError, "VkResult -1000999999"),
}


@pytest.mark.parametrize("result", RESULTS)
def test_every_result_of_vk_allocate_memory_leads_on(result: int) -> None:
    kind, name = RESULTS[result]
    device = SimulatedDevice("discrete-8gib")
    with Allocator(device) as allocator:
        # Blocks of 32 MiB to 1 MiB, and memory of its own; then the next type.
        device.fail_next("vkAllocateMemory", 7, result)
        with allocator.create_buffer(5000, BufferUsage.STORAGE_BUFFER) as buffer:
            assert buffer.allocation.memory_type_index == 1
        allocator.trim()
        # A smaller block of the same type.
        device.fail_next("vkAllocateMemory", 2, result)
        with allocator.create_buffer(5000, BufferUsage.STORAGE_BUFFER) as buffer:
            assert buffer.allocation.memory_type_index == 0
            assert buffer.allocation.device_memory_size == 8 * MIB
        allocator.trim()
        for flags in (0, DEDICATED):
            asked: list[VkMemError] = []
            device.fail_next("vkAllocateMemory", 1 << 60, result)
            allocator.on_out_of_memory(lambda error, asked=asked: bool(asked.append(error)))
            with pytest.raises(kind) as caught:
                allocator.create_buffer(5000, BufferUsage.STORAGE_BUFFER, flags=flags)
            device.clear_failures()
            error = caught.value
            assert type(error) is kind
            assert error.vk_result == result
            assert (error.size, error.memory_type_index) == (5024, 0)
            for part in ("vkAllocateMemory", name, "5024 bytes", "memory type 0"):
                assert part in str(error)
            assert asked == [error]
            assert isinstance(error, MemoryError) == (result in (-1, -2))
        assert device.live_memory_objects == 0
        allocator.on_out_of_memory(None)
        many = allocator.create_buffers([5000] * 10, BufferUsage.STORAGE_BUFFER)
        for it in many:
            it.destroy()
    assert device.violations == []


def test_a_lost_device_ends_at_once() -> None:
    device = SimulatedDevice("discrete-8gib")
    with Allocator(device) as allocator:
        device.fail_next("vkAllocateMemory", 1, -4)
        with pytest.raises(DeviceLostError):
            allocator.create_buffer(5000, TRANSFER)
        assert device.call_count("vkAllocateMemory") == 1


def test_pools_take_smaller_blocks_or_fall_back_whatever_the_driver_says() -> None:
    device = SimulatedDevice("discrete-8gib")
    with Allocator(device) as allocator:
        pool = allocator.create_pool(memory_type_index=0, max_block_count=1, fallback=True)
        device.fail_next("vkAllocateMemory", 6, -13)
        with allocator.create_buffer(5000, TRANSFER, pool=pool) as buffer:
            assert buffer.allocation.memory_type_index == 0
        pool.close()
        with pytest.raises(VkMemError, match=r"VK_ERROR_UNKNOWN \(-13\)"):
            device.fail_next("vkAllocateMemory", 1, -13)
            allocator.create_pool(memory_type_index=0, block_size=MIB, min_block_count=1)


class TestAllocationCount:
    def fill(self, allocator: Allocator, count: int) -> list[vk_mem.Buffer]:
        return [allocator.create_buffer(64, TRANSFER, flags=DEDICATED) for _ in range(count)]

    def test_it_is_enforced_unless_asked(self) -> None:
        device = SimulatedDevice("lavapipe", max_memory_allocation_count=4)
        device.set_enforces_allocation_count(False)
        with Allocator(device) as allocator:
            made = self.fill(allocator, 4)
            with pytest.raises(TooManyObjectsError, match="the device allows 4"):
                allocator.create_buffer(64, TRANSFER, flags=DEDICATED)
            for it in made:
                it.destroy()

    def test_it_is_exceeded_with_one_warning(self) -> None:
        device = SimulatedDevice("lavapipe", max_memory_allocation_count=4)
        device.set_enforces_allocation_count(False)
        with Allocator(device, enforce_allocation_count=False) as allocator:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                made = self.fill(allocator, 4)
            with pytest.warns(RuntimeWarning, match="more than 4 memory objects"):
                made += self.fill(allocator, 1)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                made += self.fill(allocator, 5)
                allocator.set_current_frame_index(1)
            assert device.live_memory_objects == 10
            device.set_enforces_allocation_count(True)
            with pytest.raises(TooManyObjectsError, match="VK_ERROR_TOO_MANY_OBJECTS"):
                allocator.create_buffer(64, TRANSFER, flags=DEDICATED)
            for it in made:
                it.destroy()
        assert device.violations == []

    def test_a_warning_that_is_an_error_loses_nothing(self) -> None:
        ended = run_python(
            """
            import vk_mem
            device = vk_mem.SimulatedDevice("lavapipe", max_memory_allocation_count=1)
            device.set_enforces_allocation_count(False)
            with vk_mem.Allocator(device, enforce_allocation_count=False) as allocator:
                made = [allocator.create_buffer(64, 3, flags=1) for _ in range(3)]
                print(len(made), device.live_memory_objects)
                for it in made:
                    it.destroy()
            """,
            "-W",
            "error",
        )
        assert ended.stdout.split() == ["3", "3"], ended.stderr
        assert ended.stderr.count("RuntimeWarning: the device has more than 1 memory object,") == 1

    def test_a_pool_may_be_the_first_past_it(self) -> None:
        device = SimulatedDevice("lavapipe", max_memory_allocation_count=2)
        device.set_enforces_allocation_count(False)
        with Allocator(device, enforce_allocation_count=False) as allocator:
            with pytest.warns(RuntimeWarning, match="maxMemoryAllocationCount"):
                pool = allocator.create_pool(memory_type_index=0, block_size=MIB, min_block_count=5)
            pool.close()


class TestLimitsOfProfiles:
    @pytest.mark.parametrize("profile", [None, *SimulatedDevice.profile_names()])
    def test_each_limit_applies(self, profile: str | None) -> None:
        device = SimulatedDevice(
            profile,
            device_type=DeviceType.VIRTUAL_GPU,
            buffer_image_granularity=4096,
            non_coherent_atom_size=512,
            max_memory_allocation_count=7,
            max_memory_allocation_size=3 * MIB,
        )
        properties = device.properties
        assert properties.device_type == DeviceType.VIRTUAL_GPU
        assert properties.buffer_image_granularity == 4096
        assert properties.non_coherent_atom_size == 512
        assert properties.max_memory_allocation_count == 7
        assert properties.max_memory_allocation_size == 3 * MIB
        plain = SimulatedDevice(profile)
        assert repr(device.memory_properties.memory_types) == repr(
            plain.memory_properties.memory_types
        )
        assert device.extensions == plain.extensions
        with Allocator(device) as allocator:
            with pytest.raises(OutOfDeviceMemoryError, match="maxMemoryAllocationSize"):
                allocator.create_buffer(4 * MIB, TRANSFER)
            made = [allocator.create_buffer(64, TRANSFER, flags=DEDICATED) for _ in range(7)]
            with pytest.raises(TooManyObjectsError):
                allocator.create_buffer(64, TRANSFER, flags=DEDICATED)
            for it in made:
                it.destroy()
        assert device.violations == []

    def test_the_device_type_takes_part_in_the_choice(self) -> None:
        for kind, expected in ((DeviceType.INTEGRATED_GPU, 1), (DeviceType.DISCRETE_GPU, 0)):
            device = SimulatedDevice("discrete-8gib", device_type=kind)
            with Allocator(device) as allocator:
                found = allocator.find_memory_type_index(
                    usage=vk_mem.MemoryUsage.GPU_ONLY,
                    preferred_flags=MemoryPropertyFlags.HOST_VISIBLE,
                )
                assert found == expected

    @pytest.mark.parametrize(
        ("keywords", "says"),
        [
            ({"buffer_image_granularity": 3}, "bufferImageGranularity, not 3"),
            ({"non_coherent_atom_size": 48}, "nonCoherentAtomSize, not 48"),
            ({"device_type": 9}, "no DeviceType is 9"),
            ({"heaps": [(GIB, 1)]}, "either a profile, or heaps together with types"),
            ({"types": [(0, 1)]}, "either a profile, or heaps together with types"),
            (
                {"profile": "lavapipe", "heaps": [(GIB, 1)], "types": [(0, 7)]},
                "either a profile, or heaps together with types",
            ),
            ({"profile": "lavapippe"}, "no profile is named 'lavapippe'"),
            ({"heaps": [(0, 1)], "types": [(0, 7)]}, "a heap of more than 0 bytes"),
        ],
    )
    def test_what_cannot_be_is_refused(self, keywords: dict[str, Any], says: str) -> None:
        with pytest.raises(InvalidArgumentError, match=says):
            SimulatedDevice(**keywords)


def test_the_preferred_block_size_is_that_of_large_heaps() -> None:
    device = SimulatedDevice("discrete-8gib-bar")
    with Allocator(device, preferred_block_size=256 * MIB) as allocator:
        sizes = allocator.preferred_block_sizes
        assert sizes[:4] == [256 * MIB, 256 * MIB, 32 * MIB, 256 * MIB]
    both = {"preferred_block_size": 64 * MIB, "preferred_small_heap_block_size": 2 * MIB}
    with Allocator(device, **both) as allocator:
        assert allocator.preferred_block_sizes[:3] == [64 * MIB, 64 * MIB, 2 * MIB]
        window = allocator.create_buffer(4096, BufferUsage.UNIFORM_BUFFER, flags=WRITE)
        assert window.allocation.memory_type_index == 2
        assert window.allocation.device_memory_size == 2 * MIB
        window.destroy()
    with pytest.raises(InvalidArgumentError, match="preferred_small_heap_block_size is 0"):
        Allocator(device, preferred_small_heap_block_size=0)
    # A limit makes a heap small, as in VMA.
    with Allocator(device, heap_size_limits=[GIB], preferred_block_size=64 * MIB) as allocator:
        assert allocator.preferred_block_sizes[0] == 128 * MIB


def test_a_transfer_instead_serves_where_nothing_can_be_mapped() -> None:
    transfer = vk_mem.AllocationCreateFlags.HOST_ACCESS_ALLOW_TRANSFER_INSTEAD
    for kind in DeviceType:
        device = SimulatedDevice("discrete-8gib", device_type=kind)
        with Allocator(device) as allocator:
            for access in (WRITE, RANDOM):
                with pytest.raises(FeatureNotPresentError):
                    allocator.create_buffer(64, TRANSFER, flags=access, memory_type_bits=1)
                with allocator.create_buffer(
                    64, TRANSFER, flags=access | transfer, memory_type_bits=1
                ) as buffer:
                    assert buffer.allocation.memory_type_index == 0
