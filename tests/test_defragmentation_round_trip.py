"""Buffers and images of all kinds keep their bytes through a defragmentation, in large numbers.

Environment: `VK_MEM_ROUND_TRIP=full` moves 10,000 buffers and 500 images in each case instead of a
tenth of them. On a GPU:

    VK_MEM_ROUND_TRIP=full pytest tests/test_defragmentation_round_trip.py -k "gpu or driver"
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from support import check_statistics, is_simulated
from test_image_transfers import comes_back, create, texels
from test_moves import KINDS, parts

from vk_mem import (
    Allocator,
    Buffer,
    BufferUsage,
    Device,
    Image,
    ImageLayout,
    ImageUsage,
    SimulatedDevice,
)

FULL = os.environ.get("VK_MEM_ROUND_TRIP") == "full"
BUFFERS, IMAGES = (10_000, 500) if FULL else (1000, 56)
ALGORITHMS = ["fast", "balanced", "full", "extensive"]
LARGEST = 64 << 10
BLOCK = 1 << 20


def make_buffers(allocator: Allocator, chance: random.Random) -> dict[Buffer, bytes]:
    """Buffers of log-uniform sizes and random bytes, of which every other one, by chance, ended."""
    sizes = [int(2 ** chance.uniform(0, 16)) for _ in range(BUFFERS)]
    assert max(sizes) <= LARGEST
    all_of_them = allocator.create_buffers(sizes, BufferUsage.STORAGE_BUFFER, movable=True)
    chance.shuffle(all_of_them)
    allocator.destroy_many(all_of_them[BUFFERS // 2 :])
    contents = {it: chance.randbytes(it.size) for it in all_of_them[: BUFFERS // 2]}
    with allocator.transfers.batch():
        for buffer, data in contents.items():
            buffer.upload(data)
    return contents


def make_images(allocator: Allocator, chance: random.Random) -> dict[Image, list[Any]]:
    """Images of each kind that the device has, and the texels of each level and aspect."""
    made: list[Image] = []
    for index in range(IMAGES):
        name, extent, keywords = KINDS[index % len(KINDS)]
        image = create(
            allocator, name, extent, image_usage=ImageUsage.SAMPLED, movable=True, **keywords
        )
        made += [image] if image is not None else []
    chance.shuffle(made)
    allocator.destroy_many(made[len(made) // 2 :])
    contents: dict[Image, list[Any]] = {}
    for number, image in enumerate(made[: len(made) // 2]):
        contents[image] = []
        for part in parts(image):
            data = texels(image, number, **part)
            image.upload(data, **part)
            contents[image].append((part, data))
    return contents


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_all_bytes_and_texels_are_as_they_were(device: Device, algorithm: Any) -> None:
    chance = random.Random(algorithm)
    with Allocator(device, preferred_block_size=BLOCK, preferred_small_heap_block_size=BLOCK) as it:
        buffers = make_buffers(it, chance)
        images = make_images(it, chance)
        live = [*buffers, *images]
        layouts = {image: image.layout for image in images}
        assert ImageLayout.UNDEFINED not in layouts.values()
        before = it.calculate_statistics().total
        done = it.defragment(algorithm=algorithm)
        after = it.calculate_statistics().total
        assert after.block_count < before.block_count, (before, after, done)
        assert after.allocation_bytes == before.allocation_bytes
        assert after.allocation_count == before.allocation_count
        assert done.allocations_moved == sum(one.generation for one in live) > 0
        assert done.device_memory_blocks_freed == before.block_count - after.block_count
        assert done.not_moved.keys() <= {"not movable"}, "buffers of the transfers alone"
        moved_images = sum(image.generation for image in images)
        assert moved_images or algorithm == "fast"
        for buffer, data in buffers.items():
            assert buffer.download().tobytes() == data
        for image, listed in images.items():
            assert image.layout == layouts[image]
            for part, texel in listed:
                assert comes_back(image, texel, image.download(**part)), (image, part)
        check_statistics(it)
        it.destroy_many(live)
        if is_simulated(device):
            it.transfers.close()
            assert it.calculate_statistics().total.allocation_count == 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_second_run_has_nothing_left_to_do(simulated: SimulatedDevice, algorithm: Any) -> None:
    chance = random.Random(algorithm + "again")
    with Allocator(simulated, preferred_block_size=BLOCK) as it:
        buffers = make_buffers(it, chance)
        it.defragment(algorithm=algorithm)
        blocks = it.calculate_statistics().total.block_count
        again = it.defragment(algorithm=algorithm)
        assert it.calculate_statistics().total.block_count == blocks
        assert again.device_memory_blocks_freed == 0
        for buffer, data in buffers.items():
            assert buffer.download().tobytes() == data
        it.destroy_many(buffers)
