"""Custom pools, on every device."""

import ctypes
import gc
import os

import numpy as np
import pytest
from systems import WINDOWS

from vk_mem import (
    AllocationCreateFlags,
    AllocationCreateInfo,
    Allocator,
    BufferUsage,
    ExternalMemoryHandleType,
    FeatureNotPresentError,
    Format,
    ImageUsage,
    InvalidArgumentError,
    OutOfDeviceMemoryError,
    SimulatedDevice,
    UseAfterFreeError,
)

STORAGE = BufferUsage.STORAGE_BUFFER
WRITE = AllocationCreateFlags.HOST_ACCESS_SEQUENTIAL_WRITE
UPPER = AllocationCreateFlags.UPPER_ADDRESS
MIB = 1 << 20


def pool_of(allocator, **keywords):
    index = allocator.find_memory_type_index_for_buffer_info(4096, STORAGE, flags=WRITE)
    return allocator.create_pool(memory_type_index=index, **keywords)


@pytest.mark.parametrize("algorithm", ["tlsf", "linear", "buddy"])
def test_buffers_live_in_the_blocks_of_their_pool(device, algorithm):
    with (
        Allocator(device) as allocator,
        pool_of(allocator, algorithm=algorithm, block_size=MIB, name="mine") as pool,
    ):
        assert (pool.algorithm, pool.block_size, pool.name) == (algorithm, MIB, "mine")
        buffers = [allocator.create_buffer(60_000, STORAGE, pool=pool) for _ in range(40)]
        for number, buffer in enumerate(buffers):
            assert buffer.allocation.memory_type_index == pool.memory_type_index
            assert not buffer.allocation.is_dedicated
            buffer.write(bytes([number]) * 60_000)
        assert len({buffer.allocation.device_memory for buffer in buffers}) >= 3
        for number, buffer in enumerate(buffers):
            assert buffer.read() == bytes([number]) * 60_000
        statistics = pool.statistics()
        assert statistics.allocation_count == 40
        assert statistics.block_bytes == statistics.block_count * MIB
        assert allocator.calculate_statistics().total.allocation_count == 40
        assert sum(heap.allocation_count for heap in allocator.heap_budgets()) == 40
        allocator.validate()
        for buffer in buffers:
            buffer.destroy()
        assert pool.statistics().allocation_count == 0


def test_images_live_in_pools(device):
    example = ((Format.R8G8B8A8_UNORM, (64, 64), ImageUsage.SAMPLED), AllocationCreateInfo())
    with (
        Allocator(device) as allocator,
        allocator.create_pool(like=example, ignore_buffer_image_granularity=True) as pool,
        allocator.create_image(
            Format.R8G8B8A8_UNORM, (64, 64), ImageUsage.SAMPLED, pool=pool
        ) as image,
    ):
        assert image.allocation.memory_type_index == pool.memory_type_index
        assert pool.statistics().allocation_count == 1


def test_a_pool_like_an_example(device):
    with Allocator(device) as allocator:
        buffer = allocator.create_buffer(4096, STORAGE, flags=WRITE)
        wishes = AllocationCreateInfo(flags=WRITE)
        for like in (buffer, buffer.allocation, ((4096, STORAGE), wishes)):
            with allocator.create_pool(like=like) as pool:
                assert pool.memory_type_index == buffer.allocation.memory_type_index
        buffer.destroy()


def test_first_blocks_are_taken_at_once_and_kept(device):
    with Allocator(device) as allocator:
        with pool_of(allocator, block_size=MIB, min_block_count=3) as pool:
            assert pool.statistics().block_count == 3
            buffers = [allocator.create_buffer(MIB // 2, STORAGE, pool=pool) for _ in range(8)]
            assert pool.statistics().block_count == 4
            for buffer in buffers:
                buffer.destroy()
            assert pool.statistics().block_count in (3, 4)
        assert allocator.calculate_statistics().total.block_count == 0


def test_a_full_pool_refuses_or_falls_back(device):
    with Allocator(device) as allocator:
        for fallback in (False, True):
            with pool_of(allocator, block_size=MIB, max_block_count=1, fallback=fallback) as pool:
                first = allocator.create_buffer(MIB * 3 // 4, STORAGE, pool=pool)
                if fallback:
                    second = allocator.create_buffer(MIB // 2, STORAGE, pool=pool)
                    assert second.allocation.device_memory != first.allocation.device_memory
                    assert pool.statistics().allocation_count == 1
                    second.destroy()
                else:
                    with pytest.raises(OutOfDeviceMemoryError, match="max_block_count"):
                        allocator.create_buffer(MIB // 2, STORAGE, pool=pool)
                first.destroy()


def test_what_falls_back_can_be_mapped_where_the_pool_could():
    heaps = [(64 * MIB, 1), (64 * MIB, 0)]
    # Of the device; of the host; of the host, which the second is preferred to.
    device = SimulatedDevice(heaps=heaps, types=[(0, 1), (1, 0b110), (1, 0b1110)])
    limits = [None, 8 * MIB]
    with (
        Allocator(device, preferred_block_size=MIB, heap_size_limits=limits) as allocator,
        allocator.create_pool(
            memory_type_index=2, block_size=MIB, max_block_count=1, fallback=True
        ) as pool,
    ):
        made = [allocator.create_buffer(MIB, STORAGE, pool=pool) for _ in range(8)]
        # The usage alone would lead to the device.
        assert [it.allocation.memory_type_index for it in made] == [2] * 8
        made[-1].write(b"x")
        # There is no more of what can be mapped, though there is of the rest.
        with pytest.raises(OutOfDeviceMemoryError):
            allocator.create_buffer(MIB, STORAGE, pool=pool)
        allocator.destroy_many(made)


def test_another_type_of_the_same_kind_serves_when_the_own_one_is_full():
    device = SimulatedDevice(
        heaps=[(64 * MIB, 1), (64 * MIB, 0), (64 * MIB, 1)],
        types=[(0, 1), (1, 0b110), (2, 0b111)],
    )
    limits = [None, 2 * MIB, None]
    with (
        Allocator(device, preferred_block_size=MIB, heap_size_limits=limits) as allocator,
        allocator.create_pool(
            memory_type_index=1, block_size=MIB, max_block_count=1, fallback=True
        ) as pool,
    ):
        made = [allocator.create_buffer(MIB, STORAGE, pool=pool) for _ in range(3)]
        assert [it.allocation.memory_type_index for it in made] == [1, 1, 2]
        allocator.destroy_many(made)


def test_upper_addresses_of_a_linear_pool(device):
    with (
        Allocator(device) as allocator,
        pool_of(allocator, algorithm="linear", block_size=MIB, max_block_count=1) as pool,
    ):
        low = allocator.create_buffer(4096, STORAGE, pool=pool)
        high = allocator.create_buffer(4096, STORAGE, pool=pool, flags=UPPER)
        assert low.allocation.offset == 0
        assert high.allocation.offset == MIB - high.allocation.size
        high.destroy()
        low.destroy()
        with pytest.raises(InvalidArgumentError, match="UPPER_ADDRESS"):
            allocator.create_buffer(4096, STORAGE, flags=UPPER)


def test_a_ring_of_frames(device):
    """Each frame's buffer takes the place that the oldest frame leaves."""
    with (
        Allocator(device) as allocator,
        pool_of(allocator, algorithm="linear", block_size=MIB, max_block_count=1) as pool,
    ):
        size = MIB // 4
        frames = [allocator.create_buffer(size, STORAGE, pool=pool) for _ in range(3)]
        for number in range(20):
            frames.pop(0).destroy()
            frames.append(allocator.create_buffer(size, STORAGE, pool=pool))
            frames[-1].write(np.full(size // 8, number, np.uint64))
            allocator.validate()
        for frame in frames:
            frame.destroy()


def test_alignment_of_a_pool_and_of_a_request(device):
    with Allocator(device) as allocator, pool_of(allocator, min_alignment=8192) as pool:
        buffers = [
            allocator.create_buffer(100, STORAGE, pool=pool, min_alignment=alignment)
            for alignment in (1, 16384, 1)
        ]
        assert all(buffer.allocation.offset % 8192 == 0 for buffer in buffers)
        assert buffers[1].allocation.offset % 16384 == 0
        for buffer in buffers:
            buffer.destroy()


def test_closing_a_pool_releases_and_lists_what_lives_in_it(device):
    with Allocator(device) as allocator:
        pool = pool_of(allocator)
        inside = allocator.create_buffer(4096, STORAGE, pool=pool, name="forgotten")
        outside = allocator.create_buffer(4096, STORAGE)
        with inside.map(), pytest.raises(BufferError, match="cannot close the pool"):
            pool.close()
        with pytest.warns(ResourceWarning, match=r"pool was closed with 1 live.*forgotten"):
            pool.close()
        pool.close()
        assert pool.closed and not inside.alive and outside.alive
        with pytest.raises(UseAfterFreeError, match="the pool is closed"):
            allocator.create_buffer(4096, STORAGE, pool=pool)
        with pytest.raises(UseAfterFreeError):
            pool.statistics()
        outside.destroy()


def test_what_lives_in_a_pool_keeps_it_alive(device):
    with Allocator(device) as allocator:
        pool = pool_of(allocator, name="hidden")
        buffer = allocator.create_buffer(4096, STORAGE, pool=pool)
        del pool
        gc.collect()
        buffer.write(b"still here")
        buffer.destroy()
        with pytest.warns(ResourceWarning, match="unclosed Pool 'hidden'"):
            del buffer
            gc.collect()


def test_a_set_of_keywords_names_a_pool(device):
    with Allocator(device) as allocator, pool_of(allocator) as pool:
        info = AllocationCreateInfo(pool=pool, priority=0.5)
        assert (info.pool.memory_type_index, info.priority) == (pool.memory_type_index, 0.5)
        with allocator.create_buffer(4096, STORAGE, allocation_info=info):
            assert pool.statistics().allocation_count == 1


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({}, "either memory_type_index= or like="),
        ({"memory_type_index": 0, "like": (1, 1)}, "like= and memory_type_index= both name"),
        ({"memory_type_index": 32}, "memory type 32 of"),
        ({"memory_type_index": 1, "block_size": 0}, "block_size is 0"),
        ({"memory_type_index": 1, "block_size": -1}, "negative"),
        ({"memory_type_index": 1, "min_block_count": 2, "max_block_count": 1}, "above max"),
        ({"memory_type_index": 1, "min_alignment": 3}, "power of two"),
        ({"memory_type_index": 1, "priority": 2.0}, "not from 0 to 1"),
        ({"memory_type_index": 1, "algorithm": "best"}, "no algorithm is named"),
    ],
)
def test_wrong_pools_get_one_clear_line(keywords, message):
    with (
        Allocator(SimulatedDevice("nvidia-h200")) as allocator,
        pytest.raises(InvalidArgumentError, match=message) as caught,
    ):
        allocator.create_pool(**keywords)
    assert "\n" not in str(caught.value)


def test_other_wrong_calls():
    device = SimulatedDevice("nvidia-h200")
    with Allocator(device) as one, Allocator(device) as other:
        with pytest.raises(TypeError, match="unexpected keyword"):
            one.create_pool(memory_type_index=1, size=3)
        with pytest.raises(OutOfDeviceMemoryError, match="at most"):
            one.create_pool(memory_type_index=1, block_size=1 << 50)
        with one.create_pool(memory_type_index=1, name="theirs") as pool:
            with pytest.raises(InvalidArgumentError, match=r"'theirs'.*another allocator"):
                other.create_buffer(4096, STORAGE, pool=pool)
            with pytest.raises(TypeError, match=r"vk_mem\.Pool"):
                one.create_buffer(4096, STORAGE, pool=3)
        # Optimal images of the H200 cannot live in host memory.
        with one.create_pool(memory_type_index=2) as pool, pytest.raises(FeatureNotPresentError):
            one.create_image(Format.R8G8B8A8_UNORM, (8, 8), ImageUsage.SAMPLED, pool=pool)


def test_a_pool_that_cannot_be_made_leaves_nothing():
    device = SimulatedDevice("nvidia-h200")
    with Allocator(device) as allocator:
        for n in range(3):
            device.fail_call(n)
            with pytest.raises(OutOfDeviceMemoryError):
                allocator.create_pool(memory_type_index=1, block_size=MIB, min_block_count=3)
            device.clear_failures()
            assert device.live_memory_objects == 0
        with allocator.create_pool(memory_type_index=1, block_size=MIB, min_block_count=3):
            assert device.live_memory_objects == 3
    assert device.live_memory_objects == 0


def test_dedicated_memory_in_a_pool(device):
    dedicated = AllocationCreateFlags.DEDICATED_MEMORY
    with Allocator(device) as allocator:
        with (
            pool_of(allocator) as pool,
            allocator.create_buffer(4096, STORAGE, pool=pool, flags=dedicated) as buffer,
        ):
            assert buffer.allocation.is_dedicated
            assert pool.statistics().allocation_count == 1
        for limit in ({"block_size": MIB}, {"max_block_count": 2}):
            with (
                pool_of(allocator, **limit) as pool,
                pytest.raises(FeatureNotPresentError, match="this pool does not allow"),
            ):
                allocator.create_buffer(4096, STORAGE, pool=pool, flags=dedicated)
            with (
                pool_of(allocator, fallback=True, **limit) as pool,
                allocator.create_buffer(4096, STORAGE, pool=pool, flags=dedicated) as buffer,
            ):
                assert buffer.allocation.is_dedicated
                assert pool.statistics().allocation_count == 0


def test_what_the_driver_insists_on_is_not_to_be_had_in_a_pool_of_blocks():
    device = SimulatedDevice("discrete-8gib")
    device.set_requires_dedicated(True)
    with (
        Allocator(device) as allocator,
        allocator.create_pool(memory_type_index=0, block_size=MIB) as pool,
        pytest.raises(FeatureNotPresentError, match="this pool does not allow"),
    ):
        allocator.create_buffer(4096, STORAGE, pool=pool)


@pytest.mark.parametrize("algorithm", ["tlsf", "buddy", "linear"])
def test_only_linear_pools_have_an_upper_end(device, algorithm):
    dedicated = AllocationCreateFlags.DEDICATED_MEMORY
    for limits in ({}, {"block_size": MIB}, {"max_block_count": 1, "fallback": True}):
        with (
            Allocator(device) as allocator,
            pool_of(allocator, algorithm=algorithm, **limits) as pool,
        ):
            keywords = {"pool": pool, "flags": UPPER}
            make = [
                lambda keywords=keywords: [allocator.create_buffer(4096, STORAGE, **keywords)],
                lambda keywords=keywords: [allocator.allocate_memory(4096, **keywords)],
                lambda keywords=keywords: allocator.create_buffers([64] * 3, STORAGE, **keywords),
            ]
            for attempt in make:
                if algorithm == "linear":
                    allocator.destroy_many(attempt())
                    continue
                calls = allocator.calculate_statistics().total.block_count
                with pytest.raises(InvalidArgumentError, match=f"this pool's is {algorithm}"):
                    attempt()
                assert allocator.calculate_statistics().total.block_count == calls
            with pytest.raises(InvalidArgumentError, match="UPPER_ADDRESS"):
                allocator.create_buffer(4096, STORAGE, pool=pool, flags=UPPER | dedicated)
            with pytest.raises(InvalidArgumentError, match="UPPER_ADDRESS"):
                allocator.create_buffer(4096, STORAGE, flags=UPPER | dedicated)


def test_a_popped_top_of_a_linear_pool_is_used_again(device):
    with (
        Allocator(device) as allocator,
        pool_of(allocator, algorithm="linear", block_size=8 * MIB, max_block_count=2) as pool,
    ):
        push = lambda: allocator.create_buffer(MIB, STORAGE, pool=pool)  # noqa: E731
        stack = [push() for _ in range(12)]
        for _ in range(8):
            stack.pop().destroy()
        stack += [push() for _ in range(12)]
        assert pool.statistics().allocation_count == 16
        assert pool.statistics().block_count == 2
        while stack:
            stack.pop().destroy()
        allocator.validate()


class ExportMemoryAllocateInfo(ctypes.Structure):
    _fields_ = (
        ("sType", ctypes.c_uint32),
        ("pNext", ctypes.c_void_p),
        ("handleTypes", ctypes.c_uint32),
    )


def test_a_chain_that_exports_and_handle_types_agree_or_are_refused(device):
    if "VK_KHR_external_memory_fd" not in device.extensions:
        pytest.skip("no external memory on this device")
    opaque, other = ExternalMemoryHandleType.OPAQUE_FD, ExternalMemoryHandleType.DMA_BUF_EXT
    if "VK_EXT_external_memory_dma_buf" not in device.extensions:
        other = None
    chain = ExportMemoryAllocateInfo(1000072002, None, opaque)
    with Allocator(device) as allocator:
        example = {"memory_type_index": allocator.find_memory_type_index()}
        for named in (0, opaque):
            with (
                allocator.create_pool(
                    **example,
                    memory_allocate_next=ctypes.addressof(chain),
                    export_handle_types=named,
                ) as pool,
                allocator.create_buffer(
                    4096, STORAGE, pool=pool, export_handle_types=opaque
                ) as buffer,
            ):
                assert buffer.allocation.export_handle_types == opaque
                # In a block of the pool, which exports as the chain says.
                assert pool.statistics().allocation_count == 1
                if not WINDOWS:  # where no device exports file descriptors
                    os.close(buffer.export_fd())
                if other is not None:
                    with pytest.raises(InvalidArgumentError, match="memory_allocate_next"):
                        allocator.create_buffer(4096, STORAGE, pool=pool, export_handle_types=other)
        if other is not None:
            with pytest.raises(
                InvalidArgumentError, match=r"DMA_BUF_EXT is more than .* OPAQUE_FD"
            ):
                allocator.create_pool(
                    **example,
                    memory_allocate_next=ctypes.addressof(chain),
                    export_handle_types=opaque | other,
                )


def test_a_heap_limit_leaves_no_room_for_a_pool():
    device = SimulatedDevice(heaps=[(1 << 20, 1)], types=[(0, 7)])
    with (
        Allocator(device, heap_size_limits=[0]) as allocator,
        pytest.raises(OutOfDeviceMemoryError, match="at most 0 bytes"),
    ):
        allocator.create_pool(memory_type_index=0, min_block_count=1)
    assert device.violations == []


def test_a_pool_of_memory_that_is_not_enabled_is_refused():
    device = SimulatedDevice(heaps=[(1 << 20, 1)], types=[(0, 7), (0, 7 | 0x40)])
    with (
        Allocator(device) as allocator,
        pytest.raises(InvalidArgumentError, match="VK_AMD_device_coherent_memory"),
    ):
        allocator.create_pool(memory_type_index=1, min_block_count=1)


def test_a_pool_is_renamed():
    with Allocator(SimulatedDevice("nvidia-h200")) as allocator:
        pool = allocator.create_pool(memory_type_index=1, name="before")
        other = allocator.create_pool(memory_type_index=1)

        def names():
            # VMA numbers those of a dump: "0 - name", or the number alone.
            dumped = [it.name for it in allocator.snapshot().pools if it.name is not None]
            in_dump = sorted(it.partition(" - ")[2] for it in dumped if " - " in it)
            in_figures = [it.name for it in allocator.calculate_statistics().pools if it.name]
            assert in_dump == sorted(in_figures)
            return in_dump

        assert names() == ["before"]
        pool.name = "after"
        assert pool.name == "after" and names() == ["after"] and "'after'" in repr(pool)
        other.name = "other"
        assert names() == ["after", "other"]
        pool.name = None
        assert pool.name is None and names() == ["other"]
        with pytest.raises(TypeError):
            pool.name = 5
        other.close()
        with pytest.raises(UseAfterFreeError):
            other.name = "late"
        assert other.name == "other" and names() == []
        pool.close()


def test_names_of_pools_are_on_one_line():
    name = "a\x1b[31m'\nb"
    escaped = r"'a\u{1b}[31m\'\nb'"
    with Allocator(SimulatedDevice("nvidia-h200")) as allocator:
        pool = allocator.create_pool(memory_type_index=1, name=name)
        assert pool.name == name
        assert escaped in repr(pool)
        statistics = allocator.calculate_statistics()
        assert escaped in repr(statistics.pools[0])
        for text in (str(statistics), str(statistics.pools[0])):
            assert "\x1b" not in text and "'\nb" not in text
        with Allocator(allocator.device) as second:
            with pytest.raises(InvalidArgumentError) as caught:
                second.create_buffer(64, BufferUsage.UNIFORM_BUFFER, pool=pool)
            assert escaped in str(caught.value)
        with pytest.warns(ResourceWarning) as warned:
            del pool
            gc.collect()
        assert escaped in str(warned[0].message)
