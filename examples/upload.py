"""Arrays into device memory and back, without a line of staging.

Run it with `python examples/upload.py [PROFILE]`: on a simulated device, or on a real one with
`driver` in place of a profile.
"""

import sys

import numpy as np

import vk_mem
from vk_mem import BufferUsage

USAGE = BufferUsage.STORAGE_BUFFER | BufferUsage.TRANSFER_SRC


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "discrete-8gib"
    device = vk_mem.Device.open() if name == "driver" else vk_mem.SimulatedDevice(name)
    with vk_mem.Allocator(device) as allocator:
        # Creates a buffer of the right size, and fills it.
        points = np.random.default_rng(1).normal(size=(10_000, 3)).astype(np.float32)
        buffer = allocator.create_buffer(buffer_usage=USAGE, data=points, name="points")
        print("the array takes the way", allocator.transfers.explain(points, buffer))
        found = buffer.download(np.float32, points.shape)
        print(f"{points.nbytes} bytes went up and came back: {np.array_equal(found, points)}")

        # Many small arrays: one call, and one submission for each 16 MiB.
        arrays = [np.full(1024, number, np.float32) for number in range(1000)]
        buffers = allocator.create_buffers([4096] * 1000, USAGE | BufferUsage.TRANSFER_DST)
        with vk_mem.Transfers(allocator, ring_size=16 << 20) as transfers:
            transfers.upload_many(arrays, buffers)
            transfers.wait()
            count = transfers.stats().submits
            print(f"1000 arrays in {count} submission{'' if count == 1 else 's'}")

            # Strided and of another type: the elements go straight to where they belong.
            table = np.arange(30_000, dtype=np.float64).reshape(10_000, 3)
            begun = transfers.upload(table[:, 1], buffer, dtype=np.float32)
            begun.result()  # What goes wrong with it is raised here.
            column = transfers.download(buffer, np.float32, 10_000).result()
            right = np.array_equal(column, table[:, 1])
            print(f"a column of a table, converted on the way: {right}")
        allocator.destroy_many([buffer, *buffers])


if __name__ == "__main__":
    main()
