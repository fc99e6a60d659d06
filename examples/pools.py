"""A pool of large blocks for streaming: taken at once, never given back, never more than two."""

import vk_mem
from vk_mem import AllocationCreateInfo, BufferUsage

MIB = 1 << 20
CHUNK = BufferUsage.STORAGE_BUFFER | BufferUsage.TRANSFER_DST


def open_device() -> vk_mem.Device:
    """The best device, or a simulated one where there is no driver."""
    try:
        return vk_mem.Device.open()
    except vk_mem.InitializationError:
        return vk_mem.SimulatedDevice()


def main() -> None:
    with (
        vk_mem.Allocator(open_device()) as allocator,
        allocator.create_pool(
            like=((MIB, CHUNK), AllocationCreateInfo()),
            block_size=16 * MIB,
            min_block_count=1,
            max_block_count=2,
            name="streaming",
        ) as pool,
    ):
        print(f"{pool.name}: memory type {pool.memory_type_index}, {pool.statistics()}")
        chunks = []
        while True:
            try:
                chunks.append(allocator.create_buffer(3 * MIB, CHUNK, pool=pool))
            except vk_mem.OutOfDeviceMemoryError as full:
                print(f"after {len(chunks)} chunks: {full}")
                break
        for chunk in chunks:
            chunk.destroy()
        print(f"all destroyed: {pool.statistics()}")


if __name__ == "__main__":
    main()
