"""Multisampled images keep their samples, read by a resolve on the driver."""

from __future__ import annotations

from typing import Any

import pytest
from bindings import import_vulkan
from command_buffers import execute
from support import RGBA8
from test_moves import relocate

from vk_mem import Allocator, Device, Image, ImageLayout, ImageUsage, interop

LAYERS = 3
COLOURS = [(255, 0, 51), (0, 255, 102), (153, 204, 255)]
USAGE = ImageUsage.TRANSFER_SRC | ImageUsage.TRANSFER_DST
pytestmark = pytest.mark.driver


def to_general(vk: Any, commands: Any, image: Image) -> None:
    """From UNDEFINED, before anything else is done to the image."""
    barrier = vk.VkImageMemoryBarrier(
        dstAccessMask=vk.VK_ACCESS_TRANSFER_WRITE_BIT,
        oldLayout=vk.VK_IMAGE_LAYOUT_UNDEFINED,
        newLayout=vk.VK_IMAGE_LAYOUT_GENERAL,
        srcQueueFamilyIndex=vk.VK_QUEUE_FAMILY_IGNORED,
        dstQueueFamilyIndex=vk.VK_QUEUE_FAMILY_IGNORED,
        image=interop.to_vulkan(image.handle, "VkImage"),
        subresourceRange=layers(vk, 0, LAYERS),
    )
    stages = vk.VK_PIPELINE_STAGE_TRANSFER_BIT
    vk.vkCmdPipelineBarrier(commands, stages, stages, 0, 0, None, 0, None, 1, [barrier])


def layers(vk: Any, first: int, count: int) -> Any:
    return vk.VkImageSubresourceRange(
        aspectMask=vk.VK_IMAGE_ASPECT_COLOR_BIT,
        baseMipLevel=0,
        levelCount=1,
        baseArrayLayer=first,
        layerCount=count,
    )


@pytest.mark.parametrize("way", ["moved by the library", "recorded"])
def test_samples_stay(real_device: Device, way: str) -> None:
    vk = import_vulkan()
    with Allocator(real_device) as allocator:
        keywords: dict[str, Any] = {"array_layers": LAYERS, "samples": 4, "movable": True}
        usage = USAGE | ImageUsage.COLOR_ATTACHMENT
        with allocator.create_image(RGBA8, (16, 8), usage, **keywords) as like_it:
            memory_type = like_it.allocation.memory_type_index
        pool = allocator.create_pool(memory_type_index=memory_type, block_size=1 << 20)
        gap = allocator.create_image(RGBA8, (16, 8), usage, pool=pool, **keywords)
        image = allocator.create_image(RGBA8, (16, 8), usage, pool=pool, **keywords)
        single = allocator.create_image(RGBA8, (16, 8), USAGE, array_layers=LAYERS)

        def clear(commands: Any) -> None:
            to_general(vk, commands, image)
            for layer, colour in enumerate(COLOURS):
                vk.vkCmdClearColorImage(
                    commands,
                    interop.to_vulkan(image.handle, "VkImage"),
                    vk.VK_IMAGE_LAYOUT_GENERAL,
                    vk.VkClearColorValue(float32=[*(it / 255 for it in colour), 1.0]),
                    1,
                    [layers(vk, layer, 1)],
                )

        execute(real_device, clear)
        image.layout = ImageLayout.GENERAL
        handle = image.handle
        if way == "recorded":
            gap.destroy()
            with allocator.begin_defragmentation(pool=pool, algorithm="full") as run:
                for step in run:
                    step.moves[0].destination.create_image()
                    execute(real_device, step.record)
        else:
            assert relocate(allocator, image) == 1
            gap.destroy()
        assert image.generation == 1 and image.handle != handle
        assert image.layout == ImageLayout.GENERAL

        def resolve(commands: Any) -> None:
            to_general(vk, commands, single)
            part = vk.VkImageSubresourceLayers(
                aspectMask=vk.VK_IMAGE_ASPECT_COLOR_BIT,
                mipLevel=0,
                baseArrayLayer=0,
                layerCount=LAYERS,
            )
            zero = vk.VkOffset3D(0, 0, 0)
            extent = vk.VkExtent3D(16, 8, 1)
            region = vk.VkImageResolve(
                srcSubresource=part,
                srcOffset=zero,
                dstSubresource=part,
                dstOffset=zero,
                extent=extent,
            )
            vk.vkCmdResolveImage(
                commands,
                interop.to_vulkan(image.handle, "VkImage"),
                vk.VK_IMAGE_LAYOUT_GENERAL,
                interop.to_vulkan(single.handle, "VkImage"),
                vk.VK_IMAGE_LAYOUT_GENERAL,
                1,
                [region],
            )

        execute(real_device, resolve)
        single.layout = ImageLayout.GENERAL
        found = single.download()
        for layer, colour in enumerate(COLOURS):
            assert (found[layer] == (*colour, 255)).all()
        image.destroy()
        single.destroy()
        allocator.set_current_frame_index(9)
        pool.close()
