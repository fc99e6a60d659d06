"""The Vulkan objects that live as long as the program: render pass, layouts, pipelines."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import vulkan as vk

import vk_mem

from . import shaders

SAMPLES = vk.VK_SAMPLE_COUNT_4_BIT
COLOUR, DEPTH = vk.VK_FORMAT_R8G8B8A8_SRGB, vk.VK_FORMAT_D32_SFLOAT
FLOAT, FLOAT2, FLOAT3, FLOAT4 = (
    vk.VK_FORMAT_R32_SFLOAT,
    vk.VK_FORMAT_R32G32_SFLOAT,
    vk.VK_FORMAT_R32G32B32_SFLOAT,
    vk.VK_FORMAT_R32G32B32A32_SFLOAT,
)
# For each pipeline: bytes of a vertex, or of an instance, in each binding, and where in it is what.
INPUTS: dict[str, tuple[list[int], list[tuple[int, int, int]]]] = {
    "sky": ([], []),
    "ground": ([28], [(0, FLOAT3, 0), (0, FLOAT3, 12), (0, FLOAT, 24)]),
    "tree": (
        [36, 24],
        [(0, FLOAT3, 0), (0, FLOAT3, 12), (0, FLOAT3, 24), (1, FLOAT4, 0), (1, FLOAT2, 16)],
    ),
    "water": ([], []),
}


class Pipelines:
    def __init__(self, device: Any, size: tuple[int, int]) -> None:
        self.device, self.size = device, size
        # Closes what was made, the newest first, also if a later part cannot be made.
        with ExitStack() as self.made:
            self._make()
            self.made = self.made.pop_all()

    def _make(self) -> None:
        device = self.device
        self.sampler = self._own(
            vk.vkDestroySampler,
            vk.vkCreateSampler(
                device,
                vk.VkSamplerCreateInfo(
                    magFilter=vk.VK_FILTER_LINEAR,
                    minFilter=vk.VK_FILTER_LINEAR,
                    mipmapMode=vk.VK_SAMPLER_MIPMAP_MODE_LINEAR,
                    addressModeU=vk.VK_SAMPLER_ADDRESS_MODE_CLAMP_TO_EDGE,
                    addressModeV=vk.VK_SAMPLER_ADDRESS_MODE_CLAMP_TO_EDGE,
                    addressModeW=vk.VK_SAMPLER_ADDRESS_MODE_CLAMP_TO_EDGE,
                    maxLod=16.0,
                ),
                None,
            ),
        )
        both = vk.VK_SHADER_STAGE_VERTEX_BIT | vk.VK_SHADER_STAGE_FRAGMENT_BIT
        self.scene_layout = self._set_layout(vk.VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER, both)
        self.texture_layout = self._set_layout(
            vk.VK_DESCRIPTOR_TYPE_COMBINED_IMAGE_SAMPLER, vk.VK_SHADER_STAGE_FRAGMENT_BIT
        )
        self.layout = self._own(
            vk.vkDestroyPipelineLayout,
            vk.vkCreatePipelineLayout(
                device,
                vk.VkPipelineLayoutCreateInfo(
                    pSetLayouts=[self.scene_layout, self.texture_layout],
                    pPushConstantRanges=[
                        vk.VkPushConstantRange(vk.VK_SHADER_STAGE_VERTEX_BIT, 0, 16)
                    ],
                ),
                None,
            ),
        )
        self.render_pass = self._own(vk.vkDestroyRenderPass, self._render_pass())
        self.by_name = {
            name: self._own(vk.vkDestroyPipeline, self._pipeline(name)) for name in INPUTS
        }

    def _own(self, destroy: Any, made: Any) -> Any:
        self.made.callback(destroy, self.device, made, None)
        return made

    def close(self) -> None:
        self.made.close()

    def view(self, image: vk_mem.Image) -> Any:
        """A view of a whole image, which the caller destroys."""
        depth = int(image.format) == DEPTH
        aspect = vk.VK_IMAGE_ASPECT_DEPTH_BIT if depth else vk.VK_IMAGE_ASPECT_COLOR_BIT
        info = vk.VkImageViewCreateInfo(
            image=image,
            viewType=vk.VK_IMAGE_VIEW_TYPE_2D,
            format=int(image.format),
            subresourceRange=vk.VkImageSubresourceRange(aspect, 0, image.mip_levels, 0, 1),
        )
        return vk.vkCreateImageView(self.device, info, None)

    def _set_layout(self, kind: int, stages: int) -> Any:
        binding = vk.VkDescriptorSetLayoutBinding(
            binding=0, descriptorType=kind, descriptorCount=1, stageFlags=stages
        )
        info = vk.VkDescriptorSetLayoutCreateInfo(pBindings=[binding])
        return self._own(
            vk.vkDestroyDescriptorSetLayout, vk.vkCreateDescriptorSetLayout(self.device, info, None)
        )

    def _render_pass(self) -> Any:
        def attachment(format: int, samples: int, keep: bool, final: int) -> Any:
            stored = (
                vk.VK_ATTACHMENT_STORE_OP_STORE if keep else vk.VK_ATTACHMENT_STORE_OP_DONT_CARE
            )
            read = vk.VK_ATTACHMENT_LOAD_OP_DONT_CARE if keep else vk.VK_ATTACHMENT_LOAD_OP_CLEAR
            return vk.VkAttachmentDescription(
                format=format,
                samples=samples,
                loadOp=read,
                storeOp=stored,
                stencilLoadOp=vk.VK_ATTACHMENT_LOAD_OP_DONT_CARE,
                stencilStoreOp=vk.VK_ATTACHMENT_STORE_OP_DONT_CARE,
                initialLayout=vk.VK_IMAGE_LAYOUT_UNDEFINED,
                finalLayout=final,
            )

        colour = vk.VK_IMAGE_LAYOUT_COLOR_ATTACHMENT_OPTIMAL
        depth = vk.VK_IMAGE_LAYOUT_DEPTH_STENCIL_ATTACHMENT_OPTIMAL
        source = vk.VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL
        subpass = vk.VkSubpassDescription(
            pipelineBindPoint=vk.VK_PIPELINE_BIND_POINT_GRAPHICS,
            pColorAttachments=[vk.VkAttachmentReference(0, colour)],
            pResolveAttachments=[vk.VkAttachmentReference(1, colour)],
            pDepthStencilAttachment=[vk.VkAttachmentReference(2, depth)],
        )
        output = vk.VK_PIPELINE_STAGE_COLOR_ATTACHMENT_OUTPUT_BIT
        tests = (
            vk.VK_PIPELINE_STAGE_EARLY_FRAGMENT_TESTS_BIT
            | vk.VK_PIPELINE_STAGE_LATE_FRAGMENT_TESTS_BIT
        )
        writes = (
            vk.VK_ACCESS_COLOR_ATTACHMENT_WRITE_BIT
            | vk.VK_ACCESS_DEPTH_STENCIL_ATTACHMENT_WRITE_BIT
        )
        # After the copy, and the attachments, of the frame before; and before the copy of this one.
        dependencies = [
            vk.VkSubpassDependency(
                srcSubpass=vk.VK_SUBPASS_EXTERNAL,
                dstSubpass=0,
                srcStageMask=output | tests | vk.VK_PIPELINE_STAGE_TRANSFER_BIT,
                dstStageMask=output | tests,
                srcAccessMask=writes,
                dstAccessMask=writes
                | vk.VK_ACCESS_COLOR_ATTACHMENT_READ_BIT
                | vk.VK_ACCESS_DEPTH_STENCIL_ATTACHMENT_READ_BIT,
            ),
            vk.VkSubpassDependency(
                srcSubpass=0,
                dstSubpass=vk.VK_SUBPASS_EXTERNAL,
                srcStageMask=output,
                dstStageMask=vk.VK_PIPELINE_STAGE_TRANSFER_BIT,
                srcAccessMask=vk.VK_ACCESS_COLOR_ATTACHMENT_WRITE_BIT,
                dstAccessMask=vk.VK_ACCESS_TRANSFER_READ_BIT,
            ),
        ]
        info = vk.VkRenderPassCreateInfo(
            pAttachments=[
                attachment(COLOUR, SAMPLES, False, colour),
                attachment(COLOUR, vk.VK_SAMPLE_COUNT_1_BIT, True, source),
                attachment(DEPTH, SAMPLES, False, depth),
            ],
            pSubpasses=[subpass],
            pDependencies=dependencies,
        )
        return vk.vkCreateRenderPass(self.device, info, None)

    def _pipeline(self, name: str) -> Any:
        strides, places = INPUTS[name]
        stages = (
            ("vert", vk.VK_SHADER_STAGE_VERTEX_BIT),
            ("frag", vk.VK_SHADER_STAGE_FRAGMENT_BIT),
        )
        modules = []
        for stage, _ in stages:
            code = shaders.spirv(f"{name}.{stage}")
            info = vk.VkShaderModuleCreateInfo(codeSize=len(code), pCode=code)
            modules.append(vk.vkCreateShaderModule(self.device, info, None))
        width, height = self.size
        # The binding copies the structs of a list, but what they point to lives with the originals.
        shader_stages = [
            vk.VkPipelineShaderStageCreateInfo(stage=bit, module=module, pName="main")
            for (_, bit), module in zip(stages, modules, strict=True)
        ]
        info = vk.VkGraphicsPipelineCreateInfo(
            pStages=shader_stages,
            pVertexInputState=vk.VkPipelineVertexInputStateCreateInfo(
                pVertexBindingDescriptions=[
                    vk.VkVertexInputBindingDescription(number, stride, number)
                    for number, stride in enumerate(strides)
                ],
                pVertexAttributeDescriptions=[
                    vk.VkVertexInputAttributeDescription(number, *place)
                    for number, place in enumerate(places)
                ],
            ),
            pInputAssemblyState=vk.VkPipelineInputAssemblyStateCreateInfo(
                topology=vk.VK_PRIMITIVE_TOPOLOGY_TRIANGLE_STRIP
                if name == "water"
                else vk.VK_PRIMITIVE_TOPOLOGY_TRIANGLE_LIST
            ),
            pViewportState=vk.VkPipelineViewportStateCreateInfo(
                pViewports=[vk.VkViewport(0, 0, width, height, 0, 1)],
                pScissors=[vk.VkRect2D(vk.VkOffset2D(0, 0), vk.VkExtent2D(width, height))],
            ),
            pRasterizationState=vk.VkPipelineRasterizationStateCreateInfo(
                polygonMode=vk.VK_POLYGON_MODE_FILL, cullMode=vk.VK_CULL_MODE_NONE, lineWidth=1.0
            ),
            pMultisampleState=vk.VkPipelineMultisampleStateCreateInfo(rasterizationSamples=SAMPLES),
            pDepthStencilState=vk.VkPipelineDepthStencilStateCreateInfo(
                depthTestEnable=True,
                depthWriteEnable=name in ("ground", "tree"),
                depthCompareOp=vk.VK_COMPARE_OP_LESS_OR_EQUAL,
            ),
            pColorBlendState=vk.VkPipelineColorBlendStateCreateInfo(
                pAttachments=[
                    vk.VkPipelineColorBlendAttachmentState(
                        blendEnable=name == "water",
                        srcColorBlendFactor=vk.VK_BLEND_FACTOR_SRC_ALPHA,
                        dstColorBlendFactor=vk.VK_BLEND_FACTOR_ONE_MINUS_SRC_ALPHA,
                        srcAlphaBlendFactor=vk.VK_BLEND_FACTOR_ONE,
                        dstAlphaBlendFactor=vk.VK_BLEND_FACTOR_ZERO,
                        colorWriteMask=0xF,
                    )
                ]
            ),
            layout=self.layout,
            renderPass=self.render_pass,
        )
        try:
            return vk.vkCreateGraphicsPipelines(self.device, None, 1, [info], None)[0]
        finally:
            for module in modules:
                vk.vkDestroyShaderModule(self.device, module, None)
