"""Command buffers of a program, on simulated devices and on the driver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bindings import import_vulkan
from support import is_simulated

from vk_mem import Device, interop


def execute(device: Device, record: Callable[[Any], None]) -> None:
    """Records a command buffer, submits it, and waits until the device has executed it."""
    if is_simulated(device):
        commands = device.begin_command_buffer()
        record(commands)
        device.submit_command_buffer(commands)
        device.complete_submissions()
        return
    vk = import_vulkan()
    handle = interop.to_vulkan(device.handle, "VkDevice")
    queue = interop.to_vulkan(device.queue, "VkQueue")
    pool = vk.vkCreateCommandPool(
        handle, vk.VkCommandPoolCreateInfo(queueFamilyIndex=device.queue_family_index), None
    )
    try:
        info = vk.VkCommandBufferAllocateInfo(
            commandPool=pool, level=vk.VK_COMMAND_BUFFER_LEVEL_PRIMARY, commandBufferCount=1
        )
        commands = vk.vkAllocateCommandBuffers(handle, info)[0]
        once = vk.VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT
        vk.vkBeginCommandBuffer(commands, vk.VkCommandBufferBeginInfo(flags=once))
        record(commands)
        vk.vkEndCommandBuffer(commands)
        vk.vkQueueSubmit(queue, 1, [vk.VkSubmitInfo(pCommandBuffers=[commands])], None)
        vk.vkQueueWaitIdle(queue)
    finally:
        vk.vkDestroyCommandPool(handle, pool, None)
