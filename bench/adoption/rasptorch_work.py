"""Six steps of gradient descent on a network of two layers; `moved` as an argument: on vk_mem."""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import counting
import numpy as np
import vulkan

counting.count_binding(vulkan)
from rasptorch import vulkan_backend  # noqa: E402

Context = vulkan_backend._VulkanContext


def move() -> None:
    import vk_mem
    from vk_mem import AllocationCreateFlags, MemoryPropertyFlags

    their_init, their_shutdown = Context.init, Context.shutdown

    def init(self: Any) -> None:
        their_init(self)
        device = vk_mem.Device.wrap(
            self.instance,
            self.physical_device,
            self.device,
            api_version=(1, 0),
            get_instance_proc_addr=counting.get_instance_proc_addr,
        )
        self.allocator = vk_mem.Allocator(device)

    def alloc_buffer(self: Any, nbytes: int) -> Any:
        buffer = self.allocator.create_buffer(
            size=nbytes,
            buffer_usage="STORAGE_BUFFER|TRANSFER_SRC|TRANSFER_DST",
            flags=AllocationCreateFlags.HOST_ACCESS_RANDOM,
            required_flags=MemoryPropertyFlags.HOST_COHERENT,
        )
        return buffer, buffer

    def free_buffer(self: Any, buffer: Any, memory: Any, nbytes: int) -> None:
        buffer.destroy()

    def write_buffer(self: Any, buffer: Any, memory: Any, data: Any) -> None:
        buffer.write(np.ascontiguousarray(data, np.float32))

    def read_buffer(self: Any, memory: Any, nbytes: int) -> bytes:
        return memory.read(0, nbytes)

    def shutdown(self: Any) -> None:
        vulkan.vkDeviceWaitIdle(self.device)
        self.allocator.close()
        their_shutdown(self)

    for function in (init, alloc_buffer, free_buffer, write_buffer, read_buffer, shutdown):
        setattr(Context, function.__name__, function)


def main() -> None:
    if "moved" in sys.argv:
        move()
    vk = vulkan_backend
    vk.init(strict=True)
    random = np.random.default_rng(3)

    def made(*shape: int) -> Any:
        return vk.to_gpu(random.standard_normal(shape, dtype=np.float32))

    x, target, first, second = made(32, 16), made(32, 4), made(16, 24), made(24, 4)
    for _ in range(6):
        before = vk.matmul(x, first)
        hidden = vk.relu(before)
        out = vk.matmul(hidden, second)
        gradient = vk.mse_grad(out, target)
        back = vk.relu_backward(vk.matmul_a_bt(gradient, second), before)
        of_second, of_first = vk.matmul_at_b(hidden, gradient), vk.matmul_at_b(x, back)
        vk.sgd_update_inplace(first, of_first, 0.01)
        vk.sgd_update_inplace(second, of_second, 0.01)
    digest = hashlib.sha256(b"".join(vk.to_cpu(it).tobytes() for it in (first, second, out)))
    vk._ctx().shutdown()
    print("result", digest.hexdigest()[:16], counting.calls)


main()
