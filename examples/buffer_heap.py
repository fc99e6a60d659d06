"""A thousand small meshes in a few buffers, instead of a thousand buffers."""

import numpy as np

import vk_mem
from vk_mem import AllocationCreateFlags, BufferUsage

# What is only written takes HOST_ACCESS_SEQUENTIAL_WRITE: here it is read back, too.
READ_WRITE = AllocationCreateFlags.HOST_ACCESS_RANDOM


def open_device() -> vk_mem.Device:
    """The best device, or a simulated one where there is no driver."""
    try:
        return vk_mem.Device.open()
    except vk_mem.InitializationError:
        return vk_mem.SimulatedDevice()


def main() -> None:
    random = np.random.default_rng(1)
    with (
        vk_mem.Allocator(open_device()) as allocator,
        vk_mem.BufferHeap(
            allocator, BufferUsage.VERTEX_BUFFER, block_size=1 << 20, flags=READ_WRITE
        ) as heap,
    ):
        meshes = [random.random(random.integers(10, 2000), np.float32) for _ in range(1000)]
        slices = [heap.allocate(mesh.nbytes, alignment=16) for mesh in meshes]
        for mesh, place in zip(meshes, slices, strict=True):
            place.write(mesh)
        print(f"{len(slices)} meshes in {len(heap.buffers)} buffers, {heap.allocated} bytes")
        print(f"the first: bind buffer {slices[0].handle:#x} at offset {slices[0].offset}")
        assert all(
            np.array_equal(np.frombuffer(place.read(), np.float32), mesh)
            for mesh, place in zip(meshes, slices, strict=True)
        )
        print("written and read back")
        for place in slices:
            place.free()


if __name__ == "__main__":
    main()
