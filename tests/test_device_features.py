"""Device addresses, priorities, and releasing memory by frames."""

import pytest

from vk_mem import (
    AllocationCreateFlags,
    Allocator,
    BufferUsage,
    FeatureNotPresentError,
    InvalidArgumentError,
    SimulatedDevice,
    UseAfterFreeError,
)

STORAGE = BufferUsage.STORAGE_BUFFER
ADDRESS = BufferUsage.SHADER_DEVICE_ADDRESS
DEDICATED = AllocationCreateFlags.DEDICATED_MEMORY


def test_device_addresses_differ_and_follow_offsets():
    with Allocator(SimulatedDevice("nvidia-h200")) as allocator:
        one, two = (allocator.create_buffer(4096, STORAGE | ADDRESS) for _ in range(2))
        assert one.allocation.device_memory == two.allocation.device_memory
        distance = two.allocation.offset - one.allocation.offset
        assert two.device_address - one.device_address == distance
        plain = allocator.create_buffer(4096, STORAGE)
        with pytest.raises(FeatureNotPresentError, match="SHADER_DEVICE_ADDRESS"):
            _ = plain.device_address
        for buffer in (one, two, plain):
            buffer.destroy()
        with pytest.raises(UseAfterFreeError):
            _ = one.device_address


def test_a_device_without_addresses_says_so():
    with (
        Allocator(SimulatedDevice("raspberry-pi")) as allocator,
        allocator.create_buffer(4096, STORAGE | ADDRESS) as buffer,
        pytest.raises(FeatureNotPresentError, match="bufferDeviceAddress"),
    ):
        _ = buffer.device_address


def test_device_addresses_of_a_real_driver(real_device):
    with (
        Allocator(real_device) as allocator,
        allocator.create_buffer(4096, STORAGE | ADDRESS) as buffer,
    ):
        address = buffer.device_address
        assert address > 0 and address % 16 == 0


def test_priority_of_dedicated_memory():
    with Allocator(SimulatedDevice("nvidia-h200")) as allocator:
        with allocator.create_buffer(4096, STORAGE, flags=DEDICATED, priority=0.25) as buffer:
            buffer.allocation.set_priority(1.0)
            with pytest.raises(InvalidArgumentError, match="not from 0 to 1"):
                buffer.allocation.set_priority(1.5)
        with (
            allocator.create_buffer(4096, STORAGE) as buffer,
            pytest.raises(InvalidArgumentError, match="shares its memory object"),
        ):
            buffer.allocation.set_priority(0.5)
        with pytest.raises(InvalidArgumentError, match="not from 0 to 1"):
            allocator.create_buffer(4096, STORAGE, priority=-1.0)
    with (
        Allocator(SimulatedDevice("integrated")) as allocator,
        allocator.create_buffer(4096, STORAGE, flags=DEDICATED) as buffer,
        pytest.raises(FeatureNotPresentError, match="pageable"),
    ):
        buffer.allocation.set_priority(0.5)


def test_retired_buffers_live_for_the_frames_in_flight():
    device = SimulatedDevice("nvidia-h200")
    with Allocator(device, frames_in_flight=2) as allocator:
        allocator.set_current_frame_index(10)
        buffer = allocator.create_buffer(4096, STORAGE)
        buffer.retire()
        buffer.retire()
        assert not buffer.alive
        with pytest.raises(UseAfterFreeError):
            _ = buffer.handle
        for frame, left in ((11, 1), (12, 1), (13, 0)):
            allocator.set_current_frame_index(frame)
            assert device.live_buffers == left


def test_the_index_of_frames_has_to_grow():
    device = SimulatedDevice("nvidia-h200")
    with Allocator(device, frames_in_flight=2) as allocator:
        for frame in (1, 1, 5):
            allocator.set_current_frame_index(frame)
        allocator.create_buffer(4096, STORAGE).retire()
        for frame in (4, 0):
            with pytest.raises(InvalidArgumentError, match=f"frame is {frame}, after 5: it counts"):
                allocator.set_current_frame_index(frame)
        assert allocator.current_frame_index == 5 and device.live_buffers == 1
        allocator.set_current_frame_index(8)
        assert device.live_buffers == 0


def test_an_index_of_32_bits_wraps_around():
    device = SimulatedDevice("nvidia-h200")
    with Allocator(device, frames_in_flight=2) as allocator:
        allocator.set_current_frame_index((1 << 32) - 2)
        allocator.create_buffer(4096, STORAGE).retire()
        for frame, left in (((1 << 32) - 1, 1), (0, 1), (1, 0)):
            allocator.set_current_frame_index(frame)
            assert device.live_buffers == left and allocator.current_frame_index == frame
        # Beyond 32 bits nothing wraps.
        allocator.set_current_frame_index(1 << 33)
        with pytest.raises(InvalidArgumentError, match="has to grow"):
            allocator.set_current_frame_index(0)


def test_errors_say_that_something_was_retired():
    with Allocator(SimulatedDevice()) as allocator:
        buffer = allocator.create_buffer(4096, STORAGE, name="old")
        buffer.retire()
        with pytest.raises(UseAfterFreeError, match="Buffer 'old' was retired"):
            buffer.read()


def test_retiring_is_for_owners():
    device = SimulatedDevice("nvidia-h200")
    with Allocator(device) as allocator:
        buffer = allocator.create_buffer(4096, STORAGE)
        with pytest.raises(InvalidArgumentError, match="belongs to a Buffer"):
            buffer.allocation.retire()
        buffer.retire()
    assert device.live_buffers == 0


def test_the_budget_of_the_driver_counts():
    """The profile has VK_EXT_memory_budget with what the idle device gave."""
    with Allocator(SimulatedDevice("nvidia-h200")) as allocator:
        assert [heap.budget for heap in allocator.heap_budgets()] == [
            150_092_709_888,
            101_361_423_360,
        ]
        with allocator.create_buffer(1 << 30, STORAGE):
            allocator.set_current_frame_index(1)
            heap = allocator.heap_budgets()[0]
            assert heap.usage >= heap.block_bytes >= 1 << 30
    with Allocator(SimulatedDevice("discrete-8gib")) as allocator:
        size = SimulatedDevice("discrete-8gib").memory_properties.memory_heaps[0].size
        assert allocator.heap_budgets()[0].budget == size // 100 * 80
