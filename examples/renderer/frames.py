"""Records, submits and reads back frames, two of them in flight."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import vulkan as vk

import vk_mem
from vk_mem import AllocationCreateFlags, BufferUsage, ImageUsage, interop

from .camera import Camera
from .pipelines import Pipelines
from .png import Texels
from .streaming import Streamer
from .world import SUN, TILE

IN_FLIGHT = 2
FOREVER = 2**64 - 1


class Slot:
    """What one frame in flight has for itself."""

    def __init__(self) -> None:
        self.commands: Any = None
        self.fence: Any = None
        self.scene: Any = None
        self.descriptors: Any = None
        self.picture: Any = None
        self.frame: int | None = None


class Frames:
    def __init__(self, allocator: vk_mem.Allocator, device: Any, pipelines: Pipelines) -> None:
        self.allocator, self.device, self.pipelines = allocator, device, pipelines
        self.size = pipelines.size
        # Closes what was made, the newest first, also if a later part cannot be made.
        with ExitStack() as made:
            self._make(made)
            self.made = made.pop_all()

    def _make(self, made: ExitStack) -> None:
        allocator, device, pipelines = self.allocator, self.device, self.pipelines
        self.queue = interop.to_vulkan(allocator.device.queue, "VkQueue")
        drawn = ImageUsage.COLOR_ATTACHMENT
        wanted = [
            ("R8G8B8A8_SRGB", drawn, 4, "samples"),
            ("R8G8B8A8_SRGB", drawn | ImageUsage.TRANSFER_SRC, 1, "resolved"),
            ("D32_SFLOAT", ImageUsage.DEPTH_STENCIL_ATTACHMENT, 4, "depth"),
        ]
        self.targets, views = [], []
        for format, usage, samples, name in wanted:
            image = allocator.create_image(format, self.size, usage, samples=samples, name=name)
            made.callback(image.destroy)
            self.targets.append(image)
            views.append(pipelines.view(image))
            made.callback(vk.vkDestroyImageView, device, views[-1], None)
        self.framebuffer = vk.vkCreateFramebuffer(
            device,
            vk.VkFramebufferCreateInfo(
                renderPass=pipelines.render_pass,
                pAttachments=views,
                width=self.size[0],
                height=self.size[1],
                layers=1,
            ),
            None,
        )
        made.callback(vk.vkDestroyFramebuffer, device, self.framebuffer, None)
        self.command_pool = vk.vkCreateCommandPool(
            device,
            vk.VkCommandPoolCreateInfo(
                flags=vk.VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                queueFamilyIndex=allocator.device.queue_family_index,
            ),
            None,
        )
        made.callback(vk.vkDestroyCommandPool, device, self.command_pool, None)
        self.descriptor_pool = vk.vkCreateDescriptorPool(
            device,
            vk.VkDescriptorPoolCreateInfo(
                maxSets=IN_FLIGHT,
                pPoolSizes=[
                    vk.VkDescriptorPoolSize(vk.VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER, IN_FLIGHT)
                ],
            ),
            None,
        )
        made.callback(vk.vkDestroyDescriptorPool, device, self.descriptor_pool, None)
        self.scenes = vk_mem.BufferHeap(
            allocator,
            BufferUsage.UNIFORM_BUFFER,
            block_size=1 << 16,
            flags=AllocationCreateFlags.HOST_ACCESS_SEQUENTIAL_WRITE,
            name="scenes",
        )
        made.callback(self.scenes.close)
        self.slots = [self._slot(it, made) for it in range(IN_FLIGHT)]

    def _slot(self, number: int, made: ExitStack) -> Slot:
        slot = Slot()
        slot.commands = vk.vkAllocateCommandBuffers(
            self.device,
            vk.VkCommandBufferAllocateInfo(
                commandPool=self.command_pool,
                level=vk.VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                commandBufferCount=1,
            ),
        )[0]
        slot.fence = vk.vkCreateFence(self.device, vk.VkFenceCreateInfo(), None)
        made.callback(vk.vkDestroyFence, self.device, slot.fence, None)
        slot.scene = self.scenes.allocate(160, name=f"scene {number}")
        made.callback(slot.scene.free)
        slot.picture = self.allocator.create_buffer(
            self.size[0] * self.size[1] * 4,
            BufferUsage.TRANSFER_DST,
            flags=AllocationCreateFlags.HOST_ACCESS_RANDOM,
            name=f"picture {number}",
        )
        made.callback(slot.picture.destroy)
        slot.descriptors = vk.vkAllocateDescriptorSets(
            self.device,
            vk.VkDescriptorSetAllocateInfo(
                descriptorPool=self.descriptor_pool, pSetLayouts=[self.pipelines.scene_layout]
            ),
        )[0]
        handle = interop.to_vulkan(slot.scene.handle, "VkBuffer")
        write = vk.VkWriteDescriptorSet(
            dstSet=slot.descriptors,
            dstBinding=0,
            descriptorType=vk.VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER,
            pBufferInfo=[vk.VkDescriptorBufferInfo(handle, slot.scene.offset, 160)],
            descriptorCount=1,
        )
        vk.vkUpdateDescriptorSets(self.device, 1, [write], 0, None)
        return slot

    def draw(self, frame: int, camera: Camera, streamer: Streamer) -> Iterator[tuple[int, Texels]]:
        """Submits a frame, and yields the one that was drawn in its slot before."""
        slot = self.slots[frame % IN_FLIGHT]
        yield from self._finished(slot)
        self.allocator.set_current_frame_index(frame)
        streamer.release(frame, camera)
        seen = [
            (place, tile, streamer.texture(place, far), streamer.tree(far))
            for place, tile, far in streamer.seen(camera)
        ]
        forward = camera.view_projection
        scene = np.zeros(40, np.float32)
        scene[:16] = forward.T.ravel()
        scene[16:32] = np.linalg.inv(forward).T.ravel()
        scene[32:36] = [*camera.eye, frame / 24]
        scene[36:39] = SUN
        slot.scene.write(scene.tobytes())
        vk.vkBeginCommandBuffer(slot.commands, vk.VkCommandBufferBeginInfo())
        self._record(slot, seen, streamer)
        vk.vkEndCommandBuffer(slot.commands)
        submit = vk.VkSubmitInfo(pCommandBuffers=[slot.commands])
        vk.vkQueueSubmit(self.queue, 1, [submit], slot.fence)
        slot.frame = frame

    def rest(self) -> Iterator[tuple[int, Texels]]:
        """Yields the frames that are in flight, the oldest first."""
        for slot in sorted(self.slots, key=lambda it: -1 if it.frame is None else it.frame):
            yield from self._finished(slot)

    def _finished(self, slot: Slot) -> Iterator[tuple[int, Texels]]:
        if slot.frame is None:
            return
        vk.vkWaitForFences(self.device, 1, [slot.fence], True, FOREVER)
        vk.vkResetFences(self.device, 1, [slot.fence])
        width, height = self.size
        yield slot.frame, np.frombuffer(slot.picture.read(), np.uint8).reshape(height, width, 4)
        slot.frame = None

    def _record(self, slot: Slot, seen: list[Any], streamer: Streamer) -> None:
        commands, layout = slot.commands, self.pipelines.layout
        graphics = vk.VK_PIPELINE_BIND_POINT_GRAPHICS
        area = vk.VkRect2D(vk.VkOffset2D(0, 0), vk.VkExtent2D(*self.size))
        black = vk.VkClearValue(color=vk.VkClearColorValue(float32=[0.0] * 4))
        far = vk.VkClearValue(depthStencil=vk.VkClearDepthStencilValue(1.0, 0))
        vk.vkCmdBeginRenderPass(
            commands,
            vk.VkRenderPassBeginInfo(
                renderPass=self.pipelines.render_pass,
                framebuffer=self.framebuffer,
                renderArea=area,
                pClearValues=[black, black, far],
            ),
            vk.VK_SUBPASS_CONTENTS_INLINE,
        )
        vk.vkCmdBindDescriptorSets(commands, graphics, layout, 0, 1, [slot.descriptors], 0, None)

        def bind(piece: Any, binding: int) -> None:
            handle = interop.to_vulkan(piece.handle, "VkBuffer")
            vk.vkCmdBindVertexBuffers(commands, binding, 1, [handle], [piece.offset])

        pipelines = self.pipelines.by_name
        vk.vkCmdBindPipeline(commands, graphics, pipelines["ground"])
        indices = streamer.indices
        handle = interop.to_vulkan(indices.handle, "VkBuffer")
        vk.vkCmdBindIndexBuffer(commands, handle, indices.offset, vk.VK_INDEX_TYPE_UINT16)
        for (x, z), tile, texture, _ in seen:
            vk.vkCmdBindDescriptorSets(commands, graphics, layout, 1, 1, [texture], 0, None)
            corner = np.array([x * TILE, z * TILE, 1 / TILE, 0], np.float32)
            vk.vkCmdPushConstants(
                commands, layout, vk.VK_SHADER_STAGE_VERTEX_BIT, 0, 16, vk.ffi.from_buffer(corner)
            )
            bind(tile.ground, 0)
            vk.vkCmdDrawIndexed(commands, streamer.index_count, 1, 0, 0, 0)
        vk.vkCmdBindPipeline(commands, graphics, pipelines["tree"])
        for _, tile, _, tree in seen:
            if tile.trees is not None:
                bind(tree, 0)
                bind(tile.trees, 1)
                vk.vkCmdDraw(commands, tree.size // 36, tile.tree_count, 0, 0)
        vk.vkCmdBindPipeline(commands, graphics, pipelines["sky"])
        vk.vkCmdDraw(commands, 3, 1, 0, 0)
        vk.vkCmdBindPipeline(commands, graphics, pipelines["water"])
        vk.vkCmdDraw(commands, 4, 1, 0, 0)
        vk.vkCmdEndRenderPass(commands)
        copy = vk.VkBufferImageCopy(
            imageSubresource=vk.VkImageSubresourceLayers(vk.VK_IMAGE_ASPECT_COLOR_BIT, 0, 0, 1),
            imageExtent=vk.VkExtent3D(*self.size, 1),
        )
        source = vk.VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL
        vk.vkCmdCopyImageToBuffer(commands, self.targets[1], source, slot.picture, 1, [copy])
        barrier = vk.VkMemoryBarrier(
            srcAccessMask=vk.VK_ACCESS_TRANSFER_WRITE_BIT, dstAccessMask=vk.VK_ACCESS_HOST_READ_BIT
        )
        stages = vk.VK_PIPELINE_STAGE_TRANSFER_BIT, vk.VK_PIPELINE_STAGE_HOST_BIT
        vk.vkCmdPipelineBarrier(commands, *stages, 0, 1, [barrier], 0, None, 0, None)

    def close(self) -> None:
        """Destroys everything. The device must be done with it."""
        self.made.close()
