"""128 device arrays, three rounds of kernels over them; `moved` as an argument: on vk_mem."""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import counting
import numpy as np
import vulkan

counting.count_binding(vulkan)
import numba_vulkan  # noqa: E402
from numba_vulkan import runtime  # noqa: E402


def move() -> None:
    import vk_mem
    from vk_mem import AllocationCreateFlags, MemoryPropertyFlags

    allocators: dict[Any, vk_mem.Allocator] = {}

    def allocator_of(device: Any) -> vk_mem.Allocator:
        if device not in allocators:
            wrapped = vk_mem.Device.wrap(
                runtime._get_instance(),
                device.info.handle,
                device.handle,
                api_version=(1, 2),
                get_instance_proc_addr=counting.get_instance_proc_addr,
            )
            allocators[device] = vk_mem.Allocator(wrapped)
        return allocators[device]

    def new_buffer(self: Any, nbytes: int, host: bool) -> Any:
        flags = AllocationCreateFlags.HOST_ACCESS_RANDOM | AllocationCreateFlags.MAPPED
        if not host:
            flags |= AllocationCreateFlags.HOST_ACCESS_ALLOW_TRANSFER_INSTEAD
        buffer = allocator_of(self).create_buffer(
            size=nbytes,
            buffer_usage="STORAGE_BUFFER|TRANSFER_SRC|TRANSFER_DST",
            flags=flags,
            required_flags=MemoryPropertyFlags.HOST_COHERENT if host else 0,
        )
        is_coherent = MemoryPropertyFlags.HOST_COHERENT in buffer.allocation.memory_properties
        view = np.frombuffer(buffer.mapped, np.uint8) if is_coherent else None
        return runtime._Buffer(buffer, buffer, nbytes, host, view)

    def trim(self: Any, limit: int = 0) -> None:
        for key in sorted(self._free, reverse=True):
            while self._free[key] and self._pooled > limit:
                pooled = self._free[key].pop()
                self._pooled -= pooled.nbytes
                pooled.view = None  # it pins the memory
                pooled.memory.destroy()

    runtime.Device._new_buffer = new_buffer
    runtime.Device.trim = trim


@numba_vulkan.jit
def saxpy(a, x, y):  # type: ignore[no-untyped-def]
    i = numba_vulkan.global_id(0)
    if i < x.shape[0]:
        y[i] = a * x[i] + y[i]


def main() -> None:
    if "moved" in sys.argv:
        move()
    random = np.random.default_rng(7)
    arrays = []
    for size in range(1000, 7208, 97):
        pair = (random.random(size, dtype=np.float32) for _ in range(2))
        arrays.append(tuple(numba_vulkan.to_device(it) for it in pair))
    for step in range(3):
        for x, y in arrays:
            saxpy.forall(x.size)(np.float32(0.5 + step), x, y)
    digest = hashlib.sha256()
    for _, y in arrays:
        digest.update(np.ascontiguousarray(y.copy_to_host()).tobytes())
    print(2 * len(arrays), "arrays, result", digest.hexdigest()[:16], counting.calls)


main()
