"""A texture cache that streams more mip levels than fit into memory, and checks all that it reads.

A camera goes along a row of textures and back. What it sees near is wanted in all mip levels, what
is far in small ones only. Each level is an image, made by NumPy when it is missing and taken away
by the allocator when another one needs the room: the least recently used first, and never one
that a frame in flight uses.

Run it with `python examples/streaming.py [--device PROFILE] [--total 64MiB] [--limit 16MiB]`: on
the best device, or on a simulated one. On a large GPU try `--total 8GiB --limit 2GiB`.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

import vk_mem
from vk_mem import AllocationCreateFlags, AllocationCreateInfo, ImageUsage, MemoryPropertyFlags

SEEN = 3
"""Textures to either side of the camera that are wanted, each in a mip level less."""
# Memory of the device that may be taken away, and that takes from others what it needs.
STREAMED = AllocationCreateInfo(
    flags=AllocationCreateFlags.CAN_BECOME_LOST | AllocationCreateFlags.CAN_MAKE_OTHER_LOST,
    required_flags=MemoryPropertyFlags.DEVICE_LOCAL,
)
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

Key = tuple[int, int]
"""A texture, and a mip level of it."""


def size(text: str) -> int:
    """Bytes, from a text such as 64MiB."""
    return round(float(text[:-3]) * UNITS[text[-3:]])


def open_device(name: str | None) -> vk_mem.Device:
    """A simulated device, or the best one if there is a driver."""
    if name is None:
        try:
            return vk_mem.Device.open()
        except vk_mem.InitializationError:
            name = "discrete-8gib"
    return vk_mem.SimulatedDevice(name)


def texels(texture: int, level: int, side: int) -> npt.NDArray[np.uint8]:
    """The texels of a mip level: each follows from the texture, the level, x and y."""
    x, y = np.arange(side, dtype=np.uint32), np.arange(side, dtype=np.uint32)[:, None]
    mixed = (x * np.uint32(0x9E3779B1)) ^ (y * np.uint32(0x85EBCA77))
    mixed += np.uint32((texture * 0xC2B2AE3D + level * 0x27D4EB2F) & 0xFFFFFFFF)
    return mixed.view(np.uint8).reshape(side, side, 4)


def path(count: int) -> list[int]:
    """Where the camera is in each frame: along the row and back, with a rest at either end."""
    along = list(range(count))
    return along + [count - 1] * 4 + along[::-1] + [0] * 4


def seen(camera: int, count: int) -> list[Key]:
    """What the camera sees: mip levels of the textures around it, the further the fewer."""
    near = range(max(0, camera - SEEN), min(count, camera + SEEN + 1))
    return [(it, level) for it in near for level in range(abs(it - camera), abs(it - camera) + 4)]


def main() -> None:
    options = argparse.ArgumentParser(description="Streams textures through a memory limit.")
    options.add_argument("--device", help="a profile of a simulated device")
    options.add_argument("--total", type=size, default="64MiB", help="bytes of all textures")
    options.add_argument("--limit", type=size, default="16MiB", help="bytes of device memory")
    options.add_argument("--threads", type=int, default=2, help="threads that make textures")
    given = options.parse_args()
    device = open_device(given.device)
    # As large as possible, but at least 48. All levels together have 4/3 of the bytes of the first.
    side = 1 << int(np.log2(given.total / 48 * 3 / 4 / 4) / 2)
    count = round(given.total / (side * side * 4 * 4 / 3))
    limits = [
        given.limit if heap.flags & vk_mem.MemoryHeapFlags.DEVICE_LOCAL else None
        for heap in device.memory_properties.memory_heaps
    ]
    allocator = vk_mem.Allocator(
        device, heap_size_limits=limits, preferred_block_size=max(given.limit // 16, 1 << 20)
    )

    # Its staging memory counts, too, where the host and the device share a heap.
    transfers = vk_mem.Transfers(allocator, min(given.limit // 16, 64 << 20))

    def make(key: Key) -> vk_mem.Image:
        texture, level = key
        image = allocator.create_image(
            "R8G8B8A8_UNORM",
            (side >> level, side >> level),
            ImageUsage.SAMPLED | ImageUsage.TRANSFER_SRC | ImageUsage.TRANSFER_DST,
            allocation_info=STREAMED,
            name=f"texture {texture}, level {level}",
        )
        made = texels(texture, level, side >> level)
        streamed.append(made.nbytes)
        transfers.upload(made, image)
        return image

    streamed: list[int] = []
    checked = 0
    start = time.perf_counter()
    with (
        allocator,
        vk_mem.ResourceCache(allocator, make) as cache,
        ThreadPoolExecutor(given.threads) as threads,
    ):
        for frame, camera in enumerate(path(count)):
            allocator.set_current_frame_index(frame)
            wanted = seen(camera, count)
            images = list(threads.map(cache.__getitem__, wanted))
            # A program would record its draws here. This one reads a part of what it sees.
            for (texture, level), image in list(zip(wanted, images, strict=True))[frame % 3 :: 3]:
                found = transfers.download(image).result()
                assert np.array_equal(found, texels(texture, level, side >> level)), image.name
                checked += found.nbytes
        seconds = time.perf_counter() - start
        used = max(budget.usage for budget in allocator.heap_budgets())
        print(f"{count} textures of {side} x {side} on {device.properties.device_name}")
        print(f"{cache.hits} hits, {cache.misses} misses, {cache.evicted} evicted")
        print(f"{sum(streamed) / 1e6:.0f} MB streamed, {checked / 1e6:.0f} MB read back and right")
        rate = (sum(streamed) + checked) / 1e6 / seconds
        print(f"{rate:.0f} MB/s, {used / (1 << 20):.1f} MiB in use")


if __name__ == "__main__":
    main()
