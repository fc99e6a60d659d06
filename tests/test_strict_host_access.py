"""`strict_host_access`: a device whose memory is all visible finds what a discrete card would."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from support import IMAGE_TRANSFER, MAPPED, RANDOM, RGBA8, TRANSFER, WRITE, run_python

from vk_mem import (
    Allocator,
    BufferHeap,
    BufferUsage,
    Device,
    FeatureNotPresentError,
    ImageTiling,
    InvalidArgumentError,
    MemoryMapError,
    MemoryPropertyFlags,
    MemoryUsage,
    SimulatedDevice,
)


@pytest.fixture
def strict(device: Device) -> Iterator[Allocator]:
    with Allocator(device, strict_host_access=True) as allocator:
        assert allocator.strict_host_access
        yield allocator


USES: list[Callable[[Any], object]] = [
    lambda it: it.map(),
    lambda it: it.map(readonly=True),
    lambda it: it.read(),
    lambda it: it.read(dtype="u1"),
    lambda it: it.read_into(bytearray(1)),
    lambda it: it.write(b"x"),
    lambda it: it.numpy(),
    lambda it: it.flush(),
    lambda it: it.invalidate(),
    lambda it: np.asarray(it),
]
BUFFERS: list[Callable[[Any], object]] = [
    lambda it: memoryview(it),
    lambda it: it.__dlpack__(),
    lambda it: it.__dlpack_device__(),
]
TEXT = "without a HOST_ACCESS flag, and strict_host_access is on.*HOST_ACCESS_SEQUENTIAL_WRITE"


def refused(it: Any) -> None:
    for use in USES:
        with pytest.raises(MemoryMapError, match=TEXT):
            use(it)


@pytest.mark.parametrize("pooled", [False, True])
def test_memory_that_was_not_asked_for_the_host(strict: Allocator, pooled: bool) -> None:
    pool = None
    if pooled:
        # Its memory type is host-visible.
        with strict.create_buffer(64, TRANSFER, flags=RANDOM) as example:
            pool = strict.create_pool(memory_type_index=example.allocation.memory_type_index)
    keywords: Any = {"pool": pool}
    buffer = strict.create_buffer(64, TRANSFER, **keywords)
    memory = strict.allocate_memory(64, **keywords)
    many = strict.create_buffers([64, 64], TRANSFER, **keywords)
    pages = strict.allocate_memory_pages(64, 16, 2, **keywords)
    for it in (buffer, buffer[8:16], buffer.allocation, memory, *many, *pages):
        refused(it)
        for use in BUFFERS:
            with pytest.raises(BufferError, match=TEXT):
                use(it)
    assert buffer.mapped is None
    for_host = strict.create_buffer(64, TRANSFER, flags=WRITE)
    for call in (strict.flush_allocations, strict.invalidate_allocations):
        with pytest.raises(MemoryMapError, match="item 1: .*" + TEXT):
            call([for_host, buffer])
    # The device works with it as ever.
    strict.device.fill_buffer(buffer)
    strict.destroy_many([for_host, buffer, *many])
    strict.free_memory_pages([memory, *pages])
    if pool is not None:
        pool.close()


def test_a_plain_buffer(strict: Allocator) -> None:
    """The way of `create_buffer` without keywords."""
    with strict.create_buffer(64, TRANSFER) as buffer:
        refused(buffer)


@pytest.mark.parametrize(
    "keywords",
    [
        {"flags": WRITE},
        {"flags": RANDOM},
        {"flags": RANDOM | MAPPED},
        {"required_flags": MemoryPropertyFlags.HOST_VISIBLE},
        {"required_flags": "HOST_COHERENT"},
        {"usage": MemoryUsage.CPU_ONLY},
        {"usage": MemoryUsage.CPU_TO_GPU},
        {"usage": MemoryUsage.GPU_TO_CPU},
    ],
)
def test_memory_for_the_host(strict: Allocator, keywords: Any) -> None:
    with strict.create_buffer(64, TRANSFER, **keywords) as buffer:
        buffer.write(b"1234")
        if keywords.get("flags") == WRITE:
            return
        assert buffer.read(0, 4) == bytes(buffer[:4]) == b"1234"
        assert np.asarray(buffer)[1] == ord("2")
        strict.flush_allocations([buffer])
        with buffer.allocation.map() as view:
            assert bytes(view[:4]) == b"1234"


WRITE_ONLY = "with HOST_ACCESS_SEQUENTIAL_WRITE, .*Pass flags=HOST_ACCESS_RANDOM"


@pytest.mark.parametrize("flags", [WRITE, WRITE | MAPPED])
def test_memory_for_writes_in_order_is_not_read(strict: Allocator, flags: int) -> None:
    reads: list[Callable[[Any], object]] = [
        lambda it: it.read(),
        lambda it: it.read(0, 1),
        lambda it: it.read(dtype="u1"),
        lambda it: it.read_into(bytearray(4)),
        lambda it: it.map(readonly=True),
        lambda it: it.numpy(readonly=True),
    ]
    usage = TRANSFER | BufferUsage.VERTEX_BUFFER
    with strict.create_buffer(64, usage, flags=flags) as buffer:
        buffer.write(b"1234")
        with buffer.map() as view:
            view[4:8] = b"5678"
        buffer.numpy()[8] = 9
        buffer.flush()
        for it in (buffer, buffer[:8], buffer.allocation):
            for read in reads:
                if it is buffer.allocation and read is reads[-1]:
                    continue
                with pytest.raises(MemoryMapError, match=WRITE_ONLY):
                    read(it)
        # The device brings what it holds.
        assert buffer.download().tobytes()[:9] == b"12345678\x09"
        with pytest.raises(InvalidArgumentError, match="HOST_ACCESS_SEQUENTIAL_WRITE"):
            strict.transfers.download(buffer, way="direct")
    with (
        strict.create_buffer(64, BufferUsage.VERTEX_BUFFER, flags=flags) as unread,
        pytest.raises(InvalidArgumentError, match=r"without BufferUsage.TRANSFER_SRC"),
    ):
        unread.download()
    try:
        cached = strict.create_buffer(64, usage, flags=WRITE, required_flags="HOST_CACHED")
    except FeatureNotPresentError:
        return
    with cached:
        cached.write(b"1234")
        assert cached.read(0, 4) == b"1234"


def test_what_a_transfer_uses_is_not_written(make_simulated: Callable[..., Any]) -> None:
    for profile in SimulatedDevice.profile_names():
        device = make_simulated(profile)
        with (
            Allocator(device, strict_host_access=True) as allocator,
            allocator.create_buffer(64, TRANSFER, flags=RANDOM, name="busy") as buffer,
            allocator.create_buffer(64, TRANSFER, flags=RANDOM) as idle,
        ):
            device.set_completion("held")
            transfer = allocator.transfers.download(buffer, way="ring")
            writes: list[Callable[[Any], object]] = [
                lambda it: it.write(b"x"),
                lambda it: it.map(),
                lambda it: it[:4].write(b"x"),
                lambda it: it.allocation.write(b"x"),
            ]
            for write in writes:
                with pytest.raises(
                    MemoryMapError, match=r"'busy'.* transfer in flight, and strict_host_access"
                ):
                    write(buffer)
            buffer.read()
            idle.write(b"x")
            device.complete_submissions()
            transfer.wait()
            buffer.write(b"x")
            device.set_completion("at once")
            assert device.violations == []


def test_images_and_aliases(strict: Allocator) -> None:
    with strict.create_image(RGBA8, (4, 4), IMAGE_TRANSFER, tiling=ImageTiling.LINEAR) as image:
        refused(image)
        refused(image.allocation)
    with (
        strict.allocate_memory(4096) as memory,
        strict.create_aliasing_buffer(memory, 64, TRANSFER) as alias,
    ):
        refused(alias)
    with (
        strict.allocate_memory(4096, flags=RANDOM) as memory,
        strict.create_aliasing_buffer(memory, 64, TRANSFER) as alias,
    ):
        alias.write(b"1234")


def test_memory_of_this_process(strict: Allocator) -> None:
    page = strict.device.min_imported_host_pointer_alignment
    if page is None:
        return
    with mmap.mmap(-1, page) as data:
        try:
            memory = strict.import_host_pointer(data)
        except FeatureNotPresentError:
            return
        memory.write(b"1234")
        assert data[:4] == b"1234"
        memory.free()


def test_heaps(strict: Allocator) -> None:
    usage = BufferUsage.TRANSFER_SRC
    with (
        BufferHeap(strict, usage, block_size=4096, flags=WRITE) as heap,
        heap.allocate(64) as piece,
    ):
        piece.write(b"1234")
        assert piece.mapped is not None
    with BufferHeap(strict, TRANSFER, block_size=4096) as heap, heap.allocate(64) as piece:
        assert piece.mapped is None
        refused(piece)


def test_off_by_default(allocator: Allocator) -> None:
    assert not allocator.strict_host_access
    with allocator.create_buffer(64, TRANSFER, required_flags="HOST_VISIBLE") as buffer:
        buffer.read()


@pytest.mark.parametrize(
    ("value", "keyword", "wanted"),
    [
        ("1", "", "True"),
        ("0", "", "False"),
        ("", "", "False"),
        ("1", ", strict_host_access=False", "False"),
        ("0", ", strict_host_access=True", "True"),
        ("1", ", strict_host_access=None", "True"),
        ("yes", "", "InvalidArgumentError VK_MEM_STRICT is 'yes': it is 1, or 0"),
    ],
)
def test_the_environment(value: str, keyword: str, wanted: str) -> None:
    done = run_python(
        f"""
        import os
        import vk_mem
        os.environ["VK_MEM_STRICT"] = {value!r}
        try:
            with vk_mem.Allocator(vk_mem.SimulatedDevice("lavapipe"){keyword}) as allocator:
                print(allocator.strict_host_access)
        except vk_mem.VkMemError as error:
            print(type(error).__name__, error)
        """
    )
    assert done.stdout.strip() == wanted, done.stderr


def test_the_keyword_is_a_bool(simulated: Device) -> None:
    with pytest.raises(TypeError):
        Allocator(simulated, strict_host_access=1)  # type: ignore[arg-type]
