"""A texture cache that stays within its budget: told early, asked last, and never in the way."""

from collections import OrderedDict

import vk_mem
from vk_mem import (
    AllocationCreateFlags,
    AllocationCreateInfo,
    Buffer,
    BufferUsage,
    EmptyBlockRetention,
    HeapBudget,
    MemoryPropertyFlags,
)

MIB = 1 << 20
LIMIT = 64 * MIB
USAGE = BufferUsage.STORAGE_BUFFER | BufferUsage.TRANSFER_DST
# Memory of the device, within its budget: no other will do.
TEXTURE = AllocationCreateInfo(
    flags=AllocationCreateFlags.WITHIN_BUDGET, required_flags=MemoryPropertyFlags.DEVICE_LOCAL
)


def open_device() -> vk_mem.Device:
    """The best device, or a simulated one where there is no driver."""
    try:
        return vk_mem.Device.open()
    except vk_mem.InitializationError:
        return vk_mem.SimulatedDevice()


def main() -> None:
    device = open_device()
    heaps = len(device.memory_properties.memory_heaps)
    with vk_mem.Allocator(
        device,
        preferred_block_size=4 * MIB,
        heap_size_limits=[LIMIT] * heaps,
        empty_block_retention=EmptyBlockRetention(count=2),
    ) as allocator:
        cache: OrderedDict[int, Buffer] = OrderedDict()

        @allocator.on_pressure
        def warn(heap: int, budget: HeapBudget) -> None:
            used, allowed = budget.usage // MIB, budget.budget // MIB
            print(f"pressure: heap {heap} uses {used} MiB of {allowed}, {len(cache)} in the cache")

        @allocator.on_out_of_memory
        def evict(error: vk_mem.VkMemError) -> bool:
            if not cache:
                return False
            oldest, buffer = cache.popitem(last=False)
            buffer.destroy()
            if oldest < 3:
                print(f"made room: texture {oldest} left the cache")
            return True

        for number in range(40):
            cache[number] = allocator.create_buffer(
                2 * MIB, USAGE, allocation_info=TEXTURE, name=f"texture {number}"
            )
        for heap, budget in enumerate(allocator.heap_budgets()):
            print(f"heap {heap}: {budget.usage // MIB} MiB of {budget.budget // MIB}")

        allocator.on_out_of_memory(None)
        try:
            allocator.create_buffer(40 * MIB, USAGE, allocation_info=TEXTURE)
        except vk_mem.OutOfDeviceMemoryError as error:
            print(f"40 MiB more are refused within the budget: {error}")
        for buffer in cache.values():
            buffer.destroy()


if __name__ == "__main__":
    main()
