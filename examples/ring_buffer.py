"""Per-frame uploads in a linear pool: each frame takes the place that the oldest one leaves."""

import vk_mem
from vk_mem import AllocationCreateFlags, BufferUsage

MIB = 1 << 20
FRAMES_IN_FLIGHT = 3
WRITE = AllocationCreateFlags.HOST_ACCESS_SEQUENTIAL_WRITE
MAPPED = AllocationCreateFlags.MAPPED


def open_device() -> vk_mem.Device:
    """The best device, or a simulated one where there is no driver."""
    try:
        return vk_mem.Device.open()
    except vk_mem.InitializationError:
        return vk_mem.SimulatedDevice()


def main() -> None:
    with vk_mem.Allocator(open_device()) as allocator:
        memory_type = allocator.find_memory_type_index_for_buffer_info(
            MIB, BufferUsage.UNIFORM_BUFFER, flags=WRITE
        )
        with allocator.create_pool(
            memory_type_index=memory_type,
            algorithm="linear",
            block_size=4 * MIB,
            max_block_count=1,
        ) as pool:
            ring: list[vk_mem.Buffer] = []
            for frame in range(8):
                if len(ring) == FRAMES_IN_FLIGHT:
                    ring.pop(0).destroy()  # the device is done with it
                uploads = allocator.create_buffer(
                    MIB, BufferUsage.UNIFORM_BUFFER, pool=pool, flags=MAPPED | WRITE
                )
                uploads.write(frame.to_bytes(4, "little") * (MIB // 4))
                ring.append(uploads)
                places = [f"{buffer.allocation.offset // MIB} MiB" for buffer in ring]
                print(f"frame {frame}: buffers in flight at {', '.join(places)}")
            for uploads in ring:
                uploads.destroy()


if __name__ == "__main__":
    main()
