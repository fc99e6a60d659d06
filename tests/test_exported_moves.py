"""Moves in pools that export: the new handles are created for external memory as the first were."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from command_buffers import execute
from support import IMAGE_TRANSFER, LOSABLE, RANDOM, RGBA8, TAKES, TRANSFER, check_statistics
from test_defragmentation import MIB, VERTEX, check_contents, scattered
from test_defragmentation_slides import random_bytes
from test_external_memory import FD_EXTENSION, OPAQUE_FD, need, place
from test_moves import relocate

import vk_mem
from vk_mem import (
    AllocationCreateInfo,
    Allocator,
    Buffer,
    Device,
    FeatureNotPresentError,
    Image,
    ImageTiling,
    InvalidArgumentError,
    Move,
    OutOfDeviceMemoryError,
    Pool,
    SimulatedDevice,
)

KIB = 1 << 10
USAGE = VERTEX | TRANSFER
BUFFER_CREATE_INFO, EXTERNAL_BUFFER, EXPORT = 12, 1000072000, 1000072002
TILINGS = [ImageTiling.OPTIMAL, ImageTiling.LINEAR]


class ExternalMemoryBufferCreateInfo(ctypes.Structure):
    _fields_ = (
        ("sType", ctypes.c_uint32),
        ("pNext", ctypes.c_void_p),
        ("handleTypes", ctypes.c_uint32),
    )


class ExportMemoryAllocateInfo(ctypes.Structure):
    _fields_ = (
        ("sType", ctypes.c_uint32),
        ("pNext", ctypes.c_void_p),
        ("handleTypes", ctypes.c_uint32),
    )


class BufferCreateInfo(ctypes.Structure):
    _fields_ = (
        ("sType", ctypes.c_uint32),
        ("pNext", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("size", ctypes.c_uint64),
        ("usage", ctypes.c_uint32),
        ("sharingMode", ctypes.c_uint32),
        ("queueFamilyIndexCount", ctypes.c_uint32),
        ("pQueueFamilyIndices", ctypes.c_void_p),
    )


def pool_of(allocator: Allocator, block_size: int = MIB, **keywords: Any) -> Pool:
    """A pool for buffers whose blocks can be exported."""
    need(allocator.device, FD_EXTENSION)
    keywords = {"export_handle_types": OPAQUE_FD, **keywords}
    wishes = AllocationCreateInfo(flags=keywords.pop("flags", 0))
    return allocator.create_pool(
        like=((4096, USAGE), wishes), block_size=block_size, movable=True, **keywords
    )


def pool_of_images(allocator: Allocator, tiling: ImageTiling, block_size: int = 4 * MIB) -> Pool:
    """A pool for images of a tiling; skips where the driver shares each in memory of its own."""
    need(allocator.device, FD_EXTENSION)
    try:
        with allocator.create_image(
            RGBA8, (32, 32), IMAGE_TRANSFER, tiling=tiling, export_handle_types=OPAQUE_FD
        ) as image:
            index = image.allocation.memory_type_index
    except FeatureNotPresentError as error:
        pytest.skip(str(error))
    pool = allocator.create_pool(
        memory_type_index=index,
        block_size=block_size,
        movable=True,
        export_handle_types=OPAQUE_FD,
    )
    try:
        allocator.create_image(RGBA8, (32, 32), IMAGE_TRANSFER, tiling=tiling, pool=pool).destroy()
    except FeatureNotPresentError as error:
        pool.close()
        assert "memory object of its own" in str(error)
        pytest.skip(f"{tiling.name} images are shared in memory of their own only: {error}")
    return pool


@pytest.fixture
def importer(allocator: Allocator) -> Iterator[Allocator]:
    """Another allocator of the same device."""
    with Allocator(allocator.device) as importer:
        yield importer


def check_shared(importer: Allocator, contents: dict[Buffer, bytes]) -> None:
    """Whoever imports the memory finds the bytes at the offset that is told."""
    for buffer, data in list(contents.items())[::7]:
        assert buffer.allocation.export_handle_types == OPAQUE_FD
        with importer.create_buffer(
            buffer.size, USAGE, import_fd=buffer.export_fd(), **place(buffer)
        ) as shared:
            check_contents(importer, {shared: data})


# ---- runs of the library ----


@pytest.mark.parametrize("algorithm", ["fast", "balanced", "full", "extensive"])
def test_buffers_move_and_are_found_by_importers(
    allocator: Allocator, importer: Allocator, algorithm: Any
) -> None:
    with pool_of(allocator) as pool:
        contents = scattered(allocator, pool=pool, count=150)
        before = pool.statistics().block_count
        done = allocator.defragment(pool=pool, algorithm=algorithm)
        assert done.allocations_moved > 0 and done.not_moved == {}
        assert pool.statistics().block_count < before
        check_contents(allocator, contents)
        check_shared(importer, contents)
        check_statistics(allocator)
        allocator.destroy_many(contents)


def test_steps(allocator: Allocator, importer: Allocator) -> None:
    with pool_of(allocator) as pool:
        contents = scattered(allocator, pool=pool, count=100)
        before = pool.statistics().block_count
        for frame in range(1, 2000):
            allocator.set_current_frame_index(frame)
            allocator.defragment_step(pool=pool, max_bytes=MIB)
            if pool.statistics().block_count < before:
                break
        assert sum(it.generation for it in contents) > 0
        assert pool.statistics().block_count < before
        check_contents(allocator, contents)
        check_shared(importer, contents)
        allocator.destroy_many(contents)


def test_what_was_imported_before_a_move_stays_where_it_was(
    allocator: Allocator, importer: Allocator
) -> None:
    """An importer has the old memory until it imports the new place, as the exporter tells it."""
    with pool_of(allocator, block_size=8 * MIB) as pool:
        below = allocator.create_buffer(2 * MIB, USAGE, pool=pool)
        buffer = allocator.create_buffer(MIB, USAGE, pool=pool)
        data = random_bytes(MIB, 1)
        buffer.upload(data)
        old = importer.create_buffer(MIB, USAGE, import_fd=buffer.export_fd(), **place(buffer))
        below.destroy()
        told: list[Move] = []
        allocator.on_move(told.extend)
        allocator.defragment(pool=pool, algorithm="full")
        allocator.on_move(None)
        [move] = told
        assert move.resource is buffer
        assert move.new_location.offset == buffer.allocation.offset == 0
        assert move.old_location.offset == old.allocation.offset == 2 * MIB
        # The importer's handle leads to the old place, which the copy has only read.
        assert bytes(old.download()) == data
        with importer.create_buffer(
            MIB, USAGE, import_fd=buffer.export_fd(), **place(buffer)
        ) as new:
            buffer.upload(random_bytes(MIB, 2))
            assert bytes(new.download()) == random_bytes(MIB, 2)
            assert bytes(old.download()) == data
        old.destroy()
        buffer.destroy()


@pytest.mark.parametrize("tiling", TILINGS, ids=["optimal", "linear"])
def test_images_move(allocator: Allocator, tiling: ImageTiling) -> None:
    with pool_of_images(allocator, tiling) as pool:
        images = [
            allocator.create_image(
                RGBA8, (128, 64 + 8 * (it % 5)), IMAGE_TRANSFER, tiling=tiling, pool=pool
            )
            for it in range(40)
        ]
        texels = {}
        for it in images[1::2]:
            texels[it] = np.random.default_rng(len(texels)).integers(
                0, 256, (it.extent[1], 128, 4), np.uint8
            )
            it.upload(texels[it])
        allocator.destroy_many(images[::2])
        done = allocator.defragment(pool=pool, algorithm="full")
        assert done.allocations_moved > 5 and done.not_moved == {}
        for it, data in texels.items():
            assert (it.download() == data).all()
            os.close(it.export_fd())
        check_statistics(allocator)
        allocator.destroy_many(texels)


@pytest.mark.parametrize("gap", [4096, MIB], ids=["through other memory", "in pieces"])
def test_a_buffer_slides(allocator: Allocator, importer: Allocator, gap: int) -> None:
    with pool_of(allocator, block_size=10 * MIB) as pool:
        below = allocator.create_buffer(gap, USAGE, pool=pool)
        buffer = allocator.create_buffer(8 * MIB, USAGE, pool=pool)
        data = random_bytes(8 * MIB, gap)
        buffer.upload(data)
        below.destroy()
        done = allocator.defragment(pool=pool, algorithm="full")
        assert (done.allocations_moved, done.not_moved) == (1, {})
        assert buffer.allocation.offset == 0
        assert bytes(buffer.download()) == data
        check_shared(importer, {buffer: data})
        check_statistics(allocator)
        buffer.destroy()


@pytest.mark.parametrize("tiling", TILINGS, ids=["optimal", "linear"])
def test_an_image_slides_through_other_memory(allocator: Allocator, tiling: ImageTiling) -> None:
    with pool_of_images(allocator, tiling, block_size=16 * MIB) as pool:
        keywords: dict[str, Any] = {"pool": pool, "tiling": tiling}
        below = allocator.create_image(RGBA8, (200, 100), IMAGE_TRANSFER, **keywords)
        image: Image = allocator.create_image(RGBA8, (400, 300), IMAGE_TRANSFER, **keywords)
        texels = np.random.default_rng(1).integers(0, 256, (300, 400, 4), np.uint8)
        image.upload(texels)
        below.destroy()
        done = allocator.defragment(pool=pool, algorithm="full")
        assert (done.allocations_moved, done.not_moved) == (1, {})
        assert image.allocation.offset == 0
        assert (image.download() == texels).all()
        image.destroy()


def test_the_host_moves_buffers_where_there_is_no_queue(
    make_simulated: Callable[..., SimulatedDevice],
) -> None:
    for profile in SimulatedDevice.profile_names():
        device = make_simulated(profile, queue_flags=0)
        if FD_EXTENSION not in device.extensions:
            continue
        with Allocator(device) as allocator:
            pool = pool_of(allocator, flags=RANDOM)
            buffers = [
                allocator.create_buffer(40_000, USAGE, pool=pool, flags=RANDOM) for _ in range(60)
            ]
            for at, it in enumerate(buffers):
                it.write(random_bytes(40_000, at))
            allocator.destroy_many(buffers[::2])
            done = allocator.defragment(pool=pool, algorithm="full")
            assert done.allocations_moved > 5 and done.not_moved == {}
            for at, it in list(enumerate(buffers))[1::2]:
                assert it.read() == random_bytes(40_000, at)
            allocator.destroy_many(buffers[1::2])
            pool.close()


def test_to_wherever_there_is_room(allocator: Allocator) -> None:
    with pool_of(allocator) as pool:
        buffer = allocator.create_buffer(MIB // 4, USAGE, pool=pool)
        data = random_bytes(MIB // 4, 1)
        for generation in range(1, 4):
            buffer.upload(data)
            assert relocate(allocator, buffer) == 1
            assert buffer.generation == generation
            assert bytes(buffer.download()) == data
        buffer.destroy()


def test_room_in_a_full_pool(device: Device) -> None:
    need(device, FD_EXTENSION)
    with Allocator(device, frames_in_flight=0, defragment_when_full=True) as allocator:
        pool = pool_of(allocator, max_block_count=1)
        small = allocator.create_buffers([MIB // 8] * 8, USAGE, pool=pool)
        contents = {it: random_bytes(MIB // 8, at) for at, it in enumerate(small)}
        for it, data in contents.items():
            it.upload(data)
        allocator.destroy_many(small[::2])
        large = allocator.create_buffer(MIB // 2, USAGE, pool=pool)
        assert sum(it.generation for it in small[1::2]) > 0
        for it in small[1::2]:
            assert bytes(it.download()) == contents[it]
        allocator.destroy_many([*small[1::2], large])
        pool.close()


def test_room_among_what_may_be_lost(device: Device) -> None:
    need(device, FD_EXTENSION)
    with Allocator(device, frames_in_flight=0, defragment_when_full=True) as allocator:
        pool = pool_of(allocator, block_size=2 * MIB, max_block_count=1)
        buffers: list[Buffer] = []
        with contextlib.suppress(OutOfDeviceMemoryError):
            while True:
                buffers.append(allocator.create_buffer(16 * KIB, USAGE, pool=pool, flags=LOSABLE))
        contents = {it: random_bytes(64, at) for at, it in enumerate(buffers)}
        for it, data in contents.items():
            it.upload(data)
        by_age = buffers[:]
        random.Random(5).shuffle(by_age)
        for frame, it in enumerate(by_age, start=1):
            allocator.set_current_frame_index(frame)
            it.touch()
        allocator.set_current_frame_index(1000)
        large = allocator.create_buffer(512 * KIB, USAGE, pool=pool, flags=TAKES)
        kept = [it for it in buffers if not it.is_lost]
        assert len(kept) < len(buffers) and sum(it.generation for it in kept) > 0
        for it in kept:
            assert bytes(it.download()[:64]) == contents[it]
        allocator.validate()
        allocator.destroy_many([*buffers, large])
        pool.close()


# ---- the protocol ----


@pytest.mark.parametrize("kind", ["movable", "fixed", "with a chain"])
def test_recorded_copies(allocator: Allocator, importer: Allocator, kind: str) -> None:
    external = ExternalMemoryBufferCreateInfo(EXTERNAL_BUFFER, None, OPAQUE_FD)

    def info(size: int) -> BufferCreateInfo:
        return BufferCreateInfo(
            BUFFER_CREATE_INFO, ctypes.addressof(external), 0, size, int(USAGE), 0, 0, None
        )

    def create(pool: Pool, size: int) -> Buffer:
        if kind == "with a chain":
            return allocator.create_buffer(info=info(size), pool=pool, movable=False)
        return allocator.create_buffer(size, USAGE, pool=pool, movable=kind == "movable")

    with pool_of(allocator) as pool:
        buffers = [create(pool, 40_000 + it) for it in range(60)]
        contents = {it: random_bytes(it.size, it.size) for it in buffers[1::2]}
        for it, data in contents.items():
            it.upload(data)
        allocator.destroy_many(buffers[::2])
        with allocator.begin_defragmentation(
            () if kind == "movable" else contents, pool=pool, algorithm="full"
        ) as run:
            for step in run:
                for move in step.moves:
                    size = move.resource.size
                    if kind == "movable":
                        move.destination.create_buffer()
                    elif kind == "fixed":
                        move.destination.create_buffer(size, USAGE)
                    else:
                        move.destination.create_buffer(info=info(size))

                def record(commands: Any, step: vk_mem.DefragmentationPass = step) -> None:
                    assert step.record(commands) == len(step.moves)

                execute(allocator.device, record)
            done = run.statistics
        assert done.allocations_moved > 5
        check_contents(allocator, contents)
        check_shared(importer, contents)
        check_statistics(allocator)
        allocator.destroy_many(contents)


def test_a_new_image_that_needs_memory_of_its_own_is_refused(
    make_simulated: Callable[..., SimulatedDevice],
) -> None:
    """A discrete GPU shares images with optimal tiling only in memory that is dedicated to them."""
    device = make_simulated("discrete-8gib")
    with Allocator(device) as allocator, pool_of_images(allocator, ImageTiling.LINEAR) as pool:
        linear: dict[str, Any] = {"tiling": ImageTiling.LINEAR, "pool": pool}
        below = allocator.create_image(RGBA8, (64, 64), IMAGE_TRANSFER, **linear)
        image = allocator.create_image(RGBA8, (64, 64), IMAGE_TRANSFER, **linear)
        below.destroy()
        with allocator.begin_defragmentation(pool=pool, algorithm="full") as run:
            [move] = next(run).moves
            with pytest.raises(InvalidArgumentError, match="does not fit the place"):
                move.destination.create_image(RGBA8, (64, 64), IMAGE_TRANSFER)
            move.destination.create_image()
            move.operation = vk_mem.DefragmentationMoveOperation.IGNORE
        image.destroy()


# ---- chains and failures ----


@pytest.mark.parametrize("named", [0, OPAQUE_FD])
def test_a_pool_whose_chain_exports(device: Device, named: int) -> None:
    """Resources are created for what the chain says, whether or not the pool says it as well."""
    need(device, FD_EXTENSION)
    chain = ExportMemoryAllocateInfo(EXPORT, None, OPAQUE_FD)
    with (
        Allocator(device) as allocator,
        Allocator(device) as importer,
        pool_of(allocator, memory_allocate_next=chain, export_handle_types=named) as pool,
    ):
        contents = scattered(allocator, pool=pool, count=100)
        assert allocator.defragment(pool=pool, algorithm="full").allocations_moved > 0
        check_contents(allocator, contents)
        check_shared(importer, contents)
        many = allocator.create_buffers([4096] * 3, USAGE, pool=pool)
        with allocator.create_aliasing_buffer(many[0], 4096, USAGE):
            pass
        allocator.destroy_many([*contents, *many])


def test_a_pool_whose_chain_exports_falls_back_to_memory_that_does(device: Device) -> None:
    need(device, FD_EXTENSION)
    chain = ExportMemoryAllocateInfo(EXPORT, None, OPAQUE_FD)
    with Allocator(device) as allocator:
        pool = allocator.create_pool(
            like=(4096, USAGE),
            block_size=4096,
            max_block_count=1,
            fallback=True,
            memory_allocate_next=chain,
        )
        buffers = [allocator.create_buffer(4096, USAGE, pool=pool) for _ in range(2)]
        assert not buffers[0].allocation.is_dedicated and buffers[1].allocation.is_dedicated
        for it in buffers:
            assert it.allocation.export_handle_types == OPAQUE_FD
            os.close(it.export_fd())
            it.destroy()
        pool.close()


@pytest.mark.parametrize("gap", [4096, 2 * MIB], ids=["a slide", "apart"])
def test_a_failure_leaves_everything_whole(simulated: SimulatedDevice, gap: int) -> None:
    failures = 0
    with Allocator(simulated, frames_in_flight=0) as allocator:
        for number in range(14):
            pool = pool_of(allocator, block_size=4 * MIB)
            below = allocator.create_buffer(gap, USAGE, pool=pool)
            buffer = allocator.create_buffer(3 * MIB // 2, USAGE, pool=pool)
            data = random_bytes(3 * MIB // 2, number)
            buffer.upload(data)
            below.destroy()
            where, live = buffer.allocation.offset, simulated.live_buffers
            simulated.fail_call(number)
            with contextlib.suppress(vk_mem.VkMemError):
                allocator.defragment(pool=pool, algorithm="full")
            simulated.clear_failures()
            if buffer.allocation.offset == where:
                failures += 1
                assert simulated.live_buffers == live
            assert bytes(buffer.download()) == data
            allocator.defragment(pool=pool, algorithm="full")
            assert buffer.allocation.offset == 0 and bytes(buffer.download()) == data
            os.close(buffer.export_fd())
            buffer.destroy()
            pool.close()
            check_statistics(allocator)
    assert failures >= 2
