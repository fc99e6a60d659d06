"""Brings what the camera sees into memory, and lets go of what it has passed.

Textures are lost allocations in a pool of the given budget: the allocator takes away those that
were not used lately. Meshes are slices of a `BufferHeap`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import vulkan as vk

import vk_mem
from vk_mem import AllocationCreateFlags, AllocationCreateInfo, BufferUsage, ImageUsage

from . import meshes, textures
from .camera import Camera
from .pipelines import Pipelines
from .world import TILE, World

REACH = 10
"""Tiles that are seen to each side."""
SIDES = (128, 64, 16)
"""Sides of the textures of near, of far, and of the farthest tiles, in texels."""
HEIGHTS = (-20.0, 75.0)
"""Between which the whole world lies, in metres."""
USAGE = ImageUsage.SAMPLED | ImageUsage.TRANSFER_SRC | ImageUsage.TRANSFER_DST
STREAMED = AllocationCreateInfo(
    flags=AllocationCreateFlags.CAN_BECOME_LOST | AllocationCreateFlags.CAN_MAKE_OTHER_LOST
)
Key = tuple[int, int, int]
"""A tile, and the side of its texture in texels."""


class Tile:
    """The mesh of a tile, and its conifers."""

    def __init__(self, low: float, high: float, ground: Any, trees: Any, count: int) -> None:
        self.low, self.high = low, high
        self.ground, self.trees, self.tree_count = ground, trees, count


class Bound:
    """The view and the descriptor set of a texture, for one handle of it."""

    def __init__(self, generation: int, view: Any, descriptors: Any) -> None:
        self.generation, self.view, self.descriptors = generation, view, descriptors


class Streamer:
    def __init__(
        self,
        allocator: vk_mem.Allocator,
        device: Any,
        pipelines: Pipelines,
        world: World,
        budget: int,
        movable: bool,
    ) -> None:
        self.allocator, self.device = allocator, device
        self.pipelines, self.world, self.movable = pipelines, world, movable
        self.bound: dict[Key, Bound] = {}
        self.tiles: dict[tuple[int, int], Tile] = {}
        # What no new frame uses, with the frame that was the last to do so.
        self.passed: deque[tuple[int, Bound | vk_mem.BufferRange]] = deque()
        self.uploaded = self.coarser = 0
        # Closes what was made, the newest first, also if a later part cannot be made.
        with ExitStack() as made:
            self._make(made, budget)
            self.made = made.pop_all()

    def _make(self, made: ExitStack, budget: int) -> None:
        allocator, device = self.allocator, self.device
        block = min(1 << 20, budget)
        self.pool = allocator.create_pool(
            like=(("R8G8B8A8_SRGB", (SIDES[0],) * 2, USAGE), STREAMED),
            block_size=block,
            max_block_count=max(budget // block, 1),
            movable=self.movable,
            name="textures",
        )
        made.callback(self.pool.close)
        self.meshes = vk_mem.BufferHeap(
            allocator,
            BufferUsage.VERTEX_BUFFER | BufferUsage.INDEX_BUFFER | BufferUsage.TRANSFER_DST,
            block_size=1 << 20,
            name="meshes",
        )
        made.callback(self.meshes.close)
        sizes = [vk.VkDescriptorPoolSize(vk.VK_DESCRIPTOR_TYPE_COMBINED_IMAGE_SAMPLER, 4096)]
        self.descriptor_pool = vk.vkCreateDescriptorPool(
            device,
            vk.VkDescriptorPoolCreateInfo(
                flags=vk.VK_DESCRIPTOR_POOL_CREATE_FREE_DESCRIPTOR_SET_BIT,
                maxSets=4096,
                pPoolSizes=sizes,
            ),
            None,
        )
        made.callback(vk.vkDestroyDescriptorPool, device, self.descriptor_pool, None)
        self.cache = vk_mem.ResourceCache(allocator, self._load, on_evict=self._evicted)
        made.callback(self._free_all)
        self.conifer = self._upload(meshes.conifer(), "conifer", made)
        self.far_conifer = self._upload(meshes.far_conifer(), "far conifer", made)
        self.indices = self._upload(meshes.ground_indices(), "indices", made)
        self.index_count = self.indices.size // 2

    def _upload(self, array: Any, name: str, made: ExitStack | None = None) -> Any:
        piece = self.meshes.allocate(array.nbytes, name=name)
        if made is not None:
            made.callback(piece.free)
        self.allocator.transfers.upload(array, piece)
        self.uploaded += array.nbytes
        return piece

    def _load(self, key: Key) -> vk_mem.Image:
        x, z, side = key
        image = self.allocator.create_image(
            "R8G8B8A8_SRGB",
            (side, side),
            USAGE,
            mip_levels=side.bit_length(),
            pool=self.pool,
            allocation_info=STREAMED,
            name=f"tile {x}, {z}, {side} texels",
        )
        try:
            texels = textures.ground(self.world, (x, z), side)
            with self.allocator.transfers.batch():
                self.allocator.transfers.upload(texels, image)
                self.allocator.transfers.generate_mipmaps(image)
        except BaseException:
            image.destroy()
            raise
        self.uploaded += texels.nbytes
        return image

    def _evicted(self, key: Key, image: vk_mem.Image) -> None:
        if bound := self.bound.pop(key, None):
            self.passed.append((self.allocator.current_frame_index, bound))

    def texture(self, tile: tuple[int, int], far: float) -> Any:
        """The descriptor set of a tile's texture: a coarser one if the budget is in use."""
        first = 0 if far < 2.2 * TILE else 1 if far < 6 * TILE else 2
        for side in SIDES[first:]:
            key = (*tile, side)
            try:
                found = self._bind(key, self.cache[key])
            except vk_mem.OutOfDeviceMemoryError:
                self.coarser += 1
            else:
                self._drop({(*tile, it) for it in SIDES if it < side})
                return found
        raise SystemExit(
            "the textures of one frame do not fit into --budget even in their coarsest form"
        )

    def _drop(self, keys: set[Key]) -> None:
        """Lets go of textures, which leaves gaps, if textures may move and close them.

        Else they stay until memory is needed: the camera might turn round.
        """
        if self.movable:
            for key in keys & self.bound.keys():
                del self.cache[key]

    def _bind(self, key: Key, image: vk_mem.Image) -> Any:
        bound = self.bound.get(key)
        if bound is None or bound.generation != image.generation:
            if bound is not None:  # It has moved, and has another handle.
                self.passed.append((self.allocator.current_frame_index, bound))
            bound = self.bound[key] = self._make_bound(image)
        return bound.descriptors

    def _make_bound(self, image: vk_mem.Image) -> Bound:
        view = self.pipelines.view(image)
        descriptors = vk.vkAllocateDescriptorSets(
            self.device,
            vk.VkDescriptorSetAllocateInfo(
                descriptorPool=self.descriptor_pool, pSetLayouts=[self.pipelines.texture_layout]
            ),
        )[0]
        info = vk.VkDescriptorImageInfo(
            self.pipelines.sampler, view, vk.VK_IMAGE_LAYOUT_SHADER_READ_ONLY_OPTIMAL
        )
        write = vk.VkWriteDescriptorSet(
            dstSet=descriptors,
            dstBinding=0,
            descriptorType=vk.VK_DESCRIPTOR_TYPE_COMBINED_IMAGE_SAMPLER,
            pImageInfo=[info],
            descriptorCount=1,
        )
        vk.vkUpdateDescriptorSets(self.device, 1, [write], 0, None)
        return Bound(image.generation, view, descriptors)

    def tile(self, place: tuple[int, int]) -> Tile:
        found = self.tiles.get(place)
        if found is None:
            ground = meshes.ground(self.world, place)
            trees = meshes.conifers(self.world, place)
            name = f"tile {place[0]}, {place[1]}"
            found = self.tiles[place] = Tile(
                float(ground[:, 1].min()),
                float(ground[:, 1].max()) + 5,
                self._upload(ground, name),
                self._upload(trees, f"trees of {name}") if len(trees) else None,
                len(trees),
            )
        return found

    def tree(self, far: float) -> Any:
        """The mesh for the conifers of a tile that is so many metres away."""
        return self.conifer if far < 3 * TILE else self.far_conifer

    def seen(self, camera: Camera) -> list[tuple[tuple[int, int], Tile, float]]:
        """Tiles in the picture with their distance in metres, the nearest first."""
        x, z = (math.floor(camera.eye[it] / TILE) for it in (0, 2))
        columns, rows = range(x - REACH, x + REACH + 1), range(z - 1, z + REACH + 1)
        places = [(i, k) for i in columns for k in rows]
        # Before a mesh is made: whether any height of the world would be seen there.
        places = [it for it, seen in zip(places, self._sees(camera, places), strict=True) if seen]
        heights = [(it.low, it.high) for it in map(self.tile, places)]
        found = []
        for place, seen in zip(places, self._sees(camera, places, heights), strict=True):
            if seen:
                middle = ((it + 0.5) * TILE for it in place)
                far = math.dist(middle, (camera.eye[0], camera.eye[2]))
                found.append((place, self.tiles[place], far))
        return sorted(found, key=lambda it: it[2])

    def _sees(
        self,
        camera: Camera,
        places: list[tuple[int, int]],
        heights: Sequence[tuple[float, float]] = (HEIGHTS,),
    ) -> Any:
        corner = np.array(places).reshape(-1, 2) * TILE
        low, high = np.broadcast_to(np.array(heights).reshape(-1, 2), corner.shape).T
        boxes = [np.stack([corner[:, 0], low, corner[:, 1]], -1)]
        boxes.append(np.stack([corner[:, 0] + TILE, high, corner[:, 1] + TILE], -1))
        return camera.sees(*boxes)

    def release(self, frame: int, camera: Camera) -> None:
        """Lets go of what lies behind the camera, and frees what no frame in flight uses."""
        behind = math.floor(camera.eye[2] / TILE) - 1
        for place in [it for it in self.tiles if it[1] < behind]:
            tile = self.tiles.pop(place)
            self.passed += [(frame, it) for it in (tile.ground, tile.trees) if it is not None]
        self._drop({it for it in self.bound if it[1] < behind})
        while self.passed and self.passed[0][0] + self.allocator.frames_in_flight < frame:
            self._free(self.passed.popleft()[1])

    def _free(self, what: Any) -> None:
        if isinstance(what, Bound):
            vk.vkFreeDescriptorSets(self.device, self.descriptor_pool, 1, [what.descriptors])
            vk.vkDestroyImageView(self.device, what.view, None)
        else:
            what.free()

    def _free_all(self) -> None:
        self.cache.close()
        for bound in self.bound.values():
            self._free(bound)
        while self.passed:
            self._free(self.passed.popleft()[1])
        for tile in self.tiles.values():
            for piece in (tile.ground, tile.trees):
                if piece is not None:
                    piece.free()

    def close(self) -> None:
        """Frees everything. The device must be done with it."""
        self.allocator.transfers.wait()
        self.made.close()
