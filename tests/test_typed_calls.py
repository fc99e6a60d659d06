"""Typical calls, which `mypy --strict` accepts unchanged and which run."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import assert_type

import vk_mem
from vk_mem import Allocator, Buffer, BufferHeap, BufferUsage, ResourceCache, SimulatedDevice


def test_calls(tmp_path: Path) -> None:
    device = SimulatedDevice(heaps=[(1 << 30, "DEVICE_LOCAL")], types=[(0, ["HOST_VISIBLE", 4])])
    with Allocator(device) as allocator:
        one = allocator.create_buffer(4096, BufferUsage.TRANSFER_SRC | BufferUsage.TRANSFER_DST)
        two = allocator.create_buffer(size=4096, buffer_usage="TRANSFER_SRC|TRANSFER_DST")
        three = allocator.create_buffer(4096, ["VERTEX_BUFFER", 2], flags="HOST_ACCESS_RANDOM")
        assert_type(two, vk_mem.Buffer)
        image = allocator.create_image(
            format="rgba8unorm",
            extent=(64, 32),
            image_usage="SAMPLED",
            samples="1",
            tiling="OPTIMAL",
            create_flags=["MUTABLE_FORMAT"],
        )
        assert_type(image.width, int)
        assert_type(image.samples, vk_mem.SampleCount)
        assert_type(image.tiling, vk_mem.ImageTiling)
        assert_type(image.image_type, vk_mem.ImageType)
        # Where a handle is wanted.
        handles: list[int] = [int(one), one.__index__(), int(image), int(one.allocation)]
        assert handles[0] == one.handle and ctypes.c_uint64(handles[1]).value == one.handle
        assert_type(bytes(three), bytes)
        memory = allocator.allocate_memory(size=64, alignment=None, required_flags="HOST_VISIBLE")
        pages = allocator.allocate_memory_pages(size=64, count=2)
        assert_type(pages, list[vk_mem.Allocation])
        with (
            BufferHeap(allocator, "TRANSFER_SRC|TRANSFER_DST") as heap,
            heap.allocate(64) as piece,
        ):
            device.copy_buffer(piece, one)
            device.copy_buffer(source=one, target=piece, size=64)
            device.fill_buffer(piece, 7)
        block = vk_mem.VirtualBlock(size=64)
        made = block.allocate_many(sizes=[1, 2], alignments=[4, 4], strategy="MIN_TIME")
        assert_type(made, vk_mem.VirtualAllocations)
        handle_view, offsets = made
        assert_type(offsets, memoryview)
        assert handle_view is made.handles and offsets.tolist() == [0, 4]
        block.free_many(handles=made.handles)
        before = allocator.snapshot()
        assert_type(vk_mem.view.html(before, tmp_path / "page.html", other=allocator), str)
        assert_type(vk_mem.view.svg(before, str(tmp_path / "picture.svg")), str)
        allocator.destroy_many(resources={one, two, three, image, memory, None})
        allocator.free_memory_pages(allocations=(it for it in pages))


def test_a_cache_has_types() -> None:
    with Allocator(SimulatedDevice()) as allocator:

        def make(key: str) -> Buffer:
            return allocator.create_buffer(len(key), BufferUsage.VERTEX_BUFFER)

        def evicted(key: str, buffer: Buffer) -> None:
            assert key in ("abc", "y") and buffer.alive

        with ResourceCache(allocator, make, budget=1 << 20, on_evict=evicted) as cache:
            assert_type(cache, ResourceCache[str, Buffer])
            assert_type(cache["abc"], Buffer)
            assert_type(cache.get("x"), Buffer | None)
            assert_type(cache.get("x", 5), Buffer | int)
            assert_type(cache.items(), list[tuple[str, Buffer]])
            assert_type(list(cache), list[str])
            taken = cache.pop("abc")
            assert_type(taken, Buffer)
            cache["y"] = taken
            del cache["y"]
