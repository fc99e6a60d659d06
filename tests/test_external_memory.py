"""Memory shared between allocators, and imported host memory, on every device."""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import socket
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from support import (
    DEDICATED,
    IMAGE_TRANSFER,
    MAPPED,
    NEVER,
    RANDOM,
    RGBA8,
    TRANSFER,
    WRITE,
    Check,
    is_simulated,
    pattern,
    totals,
)
from systems import WINDOWS, need_descriptors, needs_descriptors

import vk_mem
from vk_mem import (
    AllocationCreateFlags,
    AllocationCreateInfo,
    Allocator,
    Buffer,
    Device,
    FeatureNotPresentError,
    ImageTiling,
    InvalidArgumentError,
    OutOfDeviceMemoryError,
    SimulatedDevice,
    UseAfterFreeError,
    VkMemError,
)
from vk_mem import ExternalMemoryHandleType as HandleType

OPAQUE_FD, DMA_BUF = HandleType.OPAQUE_FD, HandleType.DMA_BUF_EXT
SIZE = 4096
FD_EXTENSION, DMA_BUF_EXTENSION = "VK_KHR_external_memory_fd", "VK_EXT_external_memory_dma_buf"
HOST_EXTENSION = "VK_EXT_external_memory_host"


def need(device: Device, extension: str) -> None:
    if extension not in device.extensions:
        pytest.skip(f"{device.properties.device_name} has no {extension}")
    if extension in (FD_EXTENSION, DMA_BUF_EXTENSION):
        need_descriptors()


@pytest.fixture
def exporter(allocator: Allocator) -> Allocator:
    need(allocator.device, FD_EXTENSION)
    return allocator


@pytest.fixture
def importer(exporter: Allocator) -> Iterator[Allocator]:
    """Another allocator of the same device."""
    with Allocator(exporter.device) as importer:
        yield importer


@pytest.fixture(autouse=True)
def every_descriptor_is_closed() -> Iterator[None]:
    def open_descriptors() -> Counter[str]:
        found: Counter[str] = Counter()
        if WINDOWS:
            return found
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                found[os.readlink(f"/proc/self/fd/{fd}")] += 1
        # NVIDIA's driver keeps files of its own open when a device is gone, and pipes with them.
        if any(it.startswith("/dev/nvidia") for it in found):
            theirs = ("/dev/nvidia", "pipe:")
            found = Counter({it: n for it, n in found.items() if not it.startswith(theirs)})
        return found

    gc.collect()
    before = open_descriptors()
    yield
    gc.collect()
    assert open_descriptors() == before


def place(buffer: Buffer) -> dict[str, int]:
    """The keywords that find an exported buffer."""
    memory = buffer.allocation
    return {
        "import_size": memory.device_memory_size,
        "import_offset": memory.offset,
        "import_memory_type_index": memory.memory_type_index,
    }


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def held_bytes(allocator: Allocator) -> int:
    return sum(heap.block_bytes for heap in allocator.heap_budgets())


# ---- file descriptors ----


def test_a_buffer_is_shared(exporter: Allocator, importer: Allocator) -> None:
    with exporter.create_buffer(SIZE, TRANSFER, export_handle_types=OPAQUE_FD) as first:
        assert first.allocation.is_dedicated
        assert first.allocation.offset == 0
        assert first.allocation.export_handle_types == OPAQUE_FD
        assert first.allocation.device_memory_size == first.allocation.size >= SIZE
        fd = first.export_fd()
        with importer.create_buffer(SIZE, TRANSFER, import_fd=fd, **place(first)) as second:
            assert not is_open(fd), "consumed"
            assert second.allocation.is_dedicated
            assert second.allocation.memory_type_index == first.allocation.memory_type_index
            assert totals(importer).allocation_count == 1
            assert totals(importer).block_bytes == first.allocation.device_memory_size
            Check(exporter).write(first, pattern(SIZE))
            assert Check(importer).read(second) == pattern(SIZE)
            Check(importer).write(second, pattern(SIZE, 7))
            assert Check(exporter).read(first) == pattern(SIZE, 7)
    assert totals(importer).allocation_count == 0


def test_memory_of_its_own_need_not_name_what_it_is_for(exporter: Allocator) -> None:
    with (
        exporter.create_buffer(SIZE, TRANSFER, export_handle_types=OPAQUE_FD) as plain,
        exporter.create_buffer(SIZE, TRANSFER, flags=DEDICATED) as named,
        exporter.create_buffer(
            SIZE, TRANSFER, flags=DEDICATED, export_handle_types=OPAQUE_FD
        ) as exported,
        exporter.create_buffer(
            SIZE, TRANSFER, flags=DEDICATED | AllocationCreateFlags.CAN_ALIAS
        ) as unnamed,
        exporter.create_buffer(SIZE, TRANSFER) as shared,
        exporter.allocate_memory(SIZE, flags=DEDICATED) as bare,
    ):
        memories = [it.allocation for it in (plain, named, exported, unnamed, shared)] + [bare]
        assert [it.is_dedicated for it in memories] == [True, True, True, True, False, True]
        # The driver wants to have exported buffers named, or has no wish.
        wished = memories[0].names_resource
        if is_simulated(exporter.device):
            assert not wished
        assert [it.names_resource for it in memories[1:]] == [True, True, False, False, False]
        with exporter.import_memory_fd(
            plain.export_fd(),
            plain.allocation.device_memory_size,
            memory_type_index=plain.allocation.memory_type_index,
        ) as imported:
            assert imported.is_dedicated
            assert not imported.names_resource


def test_it_is_shared_by_the_host_as_well(exporter: Allocator, importer: Allocator) -> None:
    with exporter.create_buffer(
        SIZE, TRANSFER, flags=WRITE, export_handle_types=OPAQUE_FD
    ) as first:
        first.write(pattern(SIZE))
        fd = first.allocation.export_fd(OPAQUE_FD)
        with importer.create_buffer(
            SIZE, TRANSFER, flags=RANDOM | MAPPED, import_fd=fd, **place(first)
        ) as second:
            second.invalidate()
            assert bytes(second.mapped or b"") == pattern(SIZE)
            assert second.read() == pattern(SIZE)


def test_the_importer_outlives_the_exporter(exporter: Allocator, importer: Allocator) -> None:
    first = exporter.create_buffer(SIZE, TRANSFER, export_handle_types=OPAQUE_FD)
    Check(exporter).write(first, pattern(SIZE))
    where, fd = place(first), first.export_fd()
    first.destroy()
    with importer.create_buffer(SIZE, TRANSFER, import_fd=fd, **where) as second:
        assert Check(importer).read(second) == pattern(SIZE)


def test_each_export_is_a_new_descriptor(exporter: Allocator, importer: Allocator) -> None:
    with exporter.create_buffer(SIZE, TRANSFER, export_handle_types=OPAQUE_FD) as first:
        one, two = first.export_fd(), first.export_fd()
        assert one != two
        assert not os.get_inheritable(one) or not is_simulated(exporter.device)
        os.close(one)
        importer.create_buffer(SIZE, TRANSFER, import_fd=two, **place(first)).destroy()
        third = os.dup(two := first.export_fd())
        for fd in (two, third):
            importer.create_buffer(SIZE, TRANSFER, import_fd=fd, **place(first)).destroy()


def test_a_pool_exports_its_blocks(exporter: Allocator, importer: Allocator) -> None:
    with exporter.create_pool(
        like=((SIZE, TRANSFER), AllocationCreateInfo()),
        block_size=1 << 20,
        export_handle_types=OPAQUE_FD,
    ) as pool:
        buffers = [exporter.create_buffer(SIZE, TRANSFER, pool=pool) for _ in range(3)]
        second = buffers[1]
        assert not second.allocation.is_dedicated
        assert second.allocation.offset > 0
        assert second.allocation.device_memory_size == 1 << 20
        assert second.allocation.export_handle_types == OPAQUE_FD
        Check(exporter).write(second, pattern(SIZE))
        fd = second.export_fd()
        with importer.create_buffer(SIZE, TRANSFER, import_fd=fd, **place(second)) as shared:
            assert shared.allocation.offset == second.allocation.offset
            assert Check(importer).read(shared) == pattern(SIZE)
        for buffer in buffers:
            buffer.destroy()


def test_the_host_sees_the_right_part_of_a_block(exporter: Allocator, importer: Allocator) -> None:
    wishes = AllocationCreateInfo(flags=RANDOM)
    with (
        exporter.create_pool(
            like=((SIZE, TRANSFER), wishes), block_size=1 << 20, export_handle_types=OPAQUE_FD
        ) as pool,
        exporter.create_buffer(SIZE, TRANSFER, pool=pool, flags=RANDOM) as before,
        exporter.create_buffer(SIZE, TRANSFER, pool=pool, flags=RANDOM) as first,
    ):
        before.write(bytes(SIZE))
        first.write(pattern(SIZE))
        with importer.create_buffer(
            SIZE, TRANSFER, flags=RANDOM, import_fd=first.export_fd(), **place(first)
        ) as second:
            assert second.read() == pattern(SIZE)
            second.write(pattern(SIZE, 3))
            assert Check(exporter).read(first) == pattern(SIZE, 3)
        assert before.read() == bytes(SIZE)


def test_memory_without_a_buffer(exporter: Allocator, importer: Allocator) -> None:
    with exporter.allocate_memory(1 << 16, export_handle_types=OPAQUE_FD, flags=RANDOM) as first:
        assert first.is_dedicated
        first.write(pattern(1 << 16))
        fd = first.export_fd()
        with importer.import_memory_fd(
            fd,
            first.device_memory_size,
            memory_type_index=first.memory_type_index,
            flags=RANDOM,
            name="shared",
        ) as second:
            assert second.name == "shared"
            assert (second.offset, second.size) == (0, first.device_memory_size)
            assert second.read() == pattern(1 << 16)
            assert second.export_handle_types == 0
            with pytest.raises(InvalidArgumentError, match="export_handle_types"):
                second.export_fd()


def test_images_are_shared(exporter: Allocator, importer: Allocator) -> None:
    device = exporter.device
    size = 64 * 64 * 4
    try:
        image = exporter.create_image(
            RGBA8, (64, 64), IMAGE_TRANSFER, export_handle_types=OPAQUE_FD
        )
    except FeatureNotPresentError as error:
        assert "image of this kind" in str(error)
        pytest.skip(str(error))
    with image, exporter.create_buffer(size, TRANSFER, flags=RANDOM) as staging:
        staging.write(pattern(size))
        device.copy_buffer_to_image(staging, image)
        memory = image.allocation
        with importer.create_image(
            RGBA8,
            (64, 64),
            IMAGE_TRANSFER,
            import_fd=image.export_fd(),
            import_size=memory.device_memory_size,
            import_memory_type_index=memory.memory_type_index,
        ) as other:
            assert other.extent == (64, 64, 1)
            staging.write(bytes(size))
            device.copy_image_to_buffer(image, staging)
            assert staging.read() == pattern(size)


def test_a_dma_buf_is_another_descriptor(exporter: Allocator, importer: Allocator) -> None:
    need(exporter.device, DMA_BUF_EXTENSION)
    with exporter.create_buffer(SIZE, TRANSFER, export_handle_types=DMA_BUF) as first:
        Check(exporter).write(first, pattern(SIZE))
        with pytest.raises(InvalidArgumentError, match="not allocated to be exported as OPAQUE_FD"):
            first.export_fd()
        fd = first.export_fd(DMA_BUF)
        with importer.create_buffer(
            SIZE,
            TRANSFER,
            import_fd=fd,
            import_handle_type=DMA_BUF,
            import_size=first.allocation.device_memory_size,
        ) as second:
            assert Check(importer).read(second) == pattern(SIZE)


def test_the_pool_that_falls_back_still_exports(exporter: Allocator) -> None:
    with exporter.create_pool(
        like=((SIZE, TRANSFER), AllocationCreateInfo()),
        block_size=SIZE,
        max_block_count=1,
        fallback=True,
        export_handle_types=OPAQUE_FD,
    ) as pool:
        one = exporter.create_buffer(SIZE, TRANSFER, pool=pool)
        two = exporter.create_buffer(SIZE, TRANSFER, pool=pool)
        for buffer in (one, two):
            os.close(buffer.export_fd())
            buffer.destroy()


# ---- refusals ----


@pytest.fixture
def shared(exporter: Allocator) -> Iterator[Buffer]:
    with exporter.create_buffer(SIZE, TRANSFER, export_handle_types=OPAQUE_FD) as shared:
        yield shared


def refused(importer: Allocator, shared: Buffer, fd: Any, **changes: Any) -> Exception:
    """The error of an import; the descriptor is still the caller's, and nothing is left."""
    before = (totals(importer), held_bytes(importer))
    with pytest.raises((VkMemError, TypeError)) as caught:
        importer.create_buffer(SIZE, TRANSFER, import_fd=fd, **(place(shared) | changes))
    assert (totals(importer), held_bytes(importer)) == before
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_refused_descriptor_stays_the_callers(importer: Allocator, shared: Buffer) -> None:
    fd = shared.export_fd()
    size = shared.allocation.device_memory_size
    for changes, expected in (
        ({"import_offset": 1}, "import"),
        ({"import_offset": 1 << 40}, "the imported memory has"),
        ({"import_size": SIZE // 2}, "the imported memory has"),
        ({"import_size": 0}, "the imported memory has"),
        ({"import_memory_type_index": 40}, "memory type 40"),
        ({"import_handle_type": HandleType.OPAQUE_WIN32}, "handle_type is OPAQUE_WIN32"),
        ({"import_handle_type": OPAQUE_FD | DMA_BUF}, "one of OPAQUE_FD, DMA_BUF_EXT"),
        ({"import_handle_type": 0}, "handle_type is"),
        ({"export_handle_types": OPAQUE_FD}, "exported where it was allocated"),
        ({"flags": AllocationCreateFlags.DONT_BIND}, "DONT_BIND"),
        ({"flags": NEVER}, "NEVER_ALLOCATE"),
        ({"import_size": (1 << 63) + size}, ""),
        ({"import_host_pointer": bytearray(64)}, "name two memories"),
    ):
        error = refused(importer, shared, fd, **changes)
        assert expected in str(error) or "import_offset" in changes, changes
        assert is_open(fd), changes
    importer.create_buffer(SIZE, TRANSFER, import_fd=fd, **place(shared)).destroy()
    assert not is_open(fd)


def test_no_descriptors(importer: Allocator, shared: Buffer) -> None:
    read, write = os.pipe()
    os.close(write)
    os.close(read)
    for fd in (read, -1, 1 << 40, True, 1.5, "3", 999_999):
        refused(importer, shared, fd)
    assert "not open" in str(refused(importer, shared, read))
    with pytest.raises(TypeError, match="not bool"):
        importer.import_memory_fd(True, SIZE)


def test_descriptors_of_something_else(importer: Allocator, shared: Buffer, tmp_path: Any) -> None:
    path = tmp_path / "file"
    path.write_bytes(pattern(1 << 16))
    fd = os.open(path, os.O_RDWR)
    error = refused(importer, shared, fd)
    assert isinstance(error, (InvalidArgumentError, OutOfDeviceMemoryError)), repr(error)
    assert is_open(fd)
    assert path.read_bytes() == pattern(1 << 16)
    os.close(fd)


def test_a_descriptor_is_imported_once(importer: Allocator, shared: Buffer) -> None:
    fd = shared.export_fd()
    importer.create_buffer(SIZE, TRANSFER, import_fd=fd, **place(shared)).destroy()
    assert "not open" in str(refused(importer, shared, fd))


def test_only_what_was_created_for_it_is_exported(exporter: Allocator) -> None:
    with exporter.create_buffer(SIZE, TRANSFER, name="plain") as plain:
        with pytest.raises(InvalidArgumentError, match=r"'plain'.*export_handle_types"):
            plain.export_fd()
        assert plain.allocation.export_handle_types == 0
        for wrong in (0, 3, HandleType.OPAQUE_WIN32, HandleType.HOST_ALLOCATION_EXT):
            with pytest.raises(InvalidArgumentError, match="handle_type is"):
                plain.export_fd(wrong)
        with pytest.raises(InvalidArgumentError, match="ExternalMemoryHandleType has no name 'fd'"):
            plain.export_fd("fd")
        for wrong_kind in (b"fd", 1.0, vk_mem.BufferUsage.TRANSFER_SRC):
            with pytest.raises(TypeError):
                plain.export_fd(wrong_kind)  # type: ignore[arg-type]
    with pytest.raises(UseAfterFreeError):
        plain.export_fd()


def test_what_cannot_be_exported_is_refused(exporter: Allocator) -> None:
    before = totals(exporter)
    for types in (HandleType.HOST_ALLOCATION_EXT, HandleType.OPAQUE_WIN32, 0x400, 1 << 30):
        for make in (
            lambda types=types: exporter.create_buffer(SIZE, TRANSFER, export_handle_types=types),
            lambda types=types: exporter.allocate_memory(SIZE, export_handle_types=types),
            lambda types=types: exporter.create_pool(
                memory_type_index=0, export_handle_types=types
            ),
            lambda types=types: exporter.create_image(
                RGBA8, 4, IMAGE_TRANSFER, export_handle_types=types
            ),
        ):
            with pytest.raises(FeatureNotPresentError):
                make()
    assert totals(exporter) == before


def test_a_pool_of_fixed_blocks_exports_nothing_else(exporter: Allocator) -> None:
    with (
        exporter.create_pool(
            like=((SIZE, TRANSFER), AllocationCreateInfo()), block_size=1 << 20
        ) as pool,
        pytest.raises(FeatureNotPresentError, match="memory object of its own"),
    ):
        exporter.create_buffer(SIZE, TRANSFER, pool=pool, export_handle_types=OPAQUE_FD)


def test_devices_without_the_extension(device: Device) -> None:
    if FD_EXTENSION in device.extensions:
        pytest.skip("it has the extension")
    with Allocator(device) as allocator:
        with pytest.raises(FeatureNotPresentError, match=FD_EXTENSION):
            allocator.create_buffer(SIZE, TRANSFER, export_handle_types=OPAQUE_FD)
        with (
            allocator.create_buffer(SIZE, TRANSFER) as buffer,
            pytest.raises(FeatureNotPresentError, match=FD_EXTENSION),
        ):
            buffer.export_fd()
        read, write = os.pipe()
        with pytest.raises(FeatureNotPresentError, match=FD_EXTENSION):
            allocator.import_memory_fd(read, SIZE)
        assert is_open(read)
        os.close(read)
        os.close(write)


def test_nothing_is_used_that_was_not_enabled(real_device: Device) -> None:
    index = [it.properties.device_name for it in vk_mem.list_physical_devices()].index(
        real_device.properties.device_name
    )
    device = Device.open(index=index, without_extensions=[FD_EXTENSION, HOST_EXTENSION])
    assert device.min_imported_host_pointer_alignment is None
    with Allocator(device) as allocator:
        with pytest.raises(FeatureNotPresentError, match=FD_EXTENSION):
            allocator.create_buffer(SIZE, TRANSFER, export_handle_types=OPAQUE_FD)
        with pytest.raises(FeatureNotPresentError, match=HOST_EXTENSION):
            allocator.import_host_pointer(mmap.mmap(-1, SIZE))


def test_win32_handles_where_there_are_none(device: Device) -> None:
    need_not = "VK_KHR_external_memory_win32"
    if need_not in device.extensions:
        pytest.skip("it has the extension")
    with Allocator(device) as allocator, allocator.create_buffer(SIZE, TRANSFER) as buffer:
        for use in (
            buffer.export_win32_handle,
            buffer.allocation.export_win32_handle,
            lambda: allocator.import_memory_win32_handle(4, SIZE),
            lambda: allocator.create_buffer(SIZE, TRANSFER, import_win32_handle=4),
        ):
            with pytest.raises(FeatureNotPresentError, match=need_not):
                use()
        with pytest.raises(InvalidArgumentError, match="no Win32 handle"):
            allocator.import_memory_win32_handle(0, SIZE)


def test_import_keywords_need_something_to_import(allocator: Allocator) -> None:
    with pytest.raises(InvalidArgumentError, match="import_fd="):
        allocator.create_buffer(SIZE, TRANSFER, import_size=SIZE)
    allocator.create_buffer(SIZE, TRANSFER, import_fd=None, export_handle_types=None).destroy()


def test_the_type_of_an_opaque_descriptor_is_not_guessed(
    importer: Allocator, shared: Buffer
) -> None:
    if len(importer.device.memory_properties.memory_types) == 1:
        pytest.skip("there is one type only")
    fd = shared.export_fd()
    error = refused(importer, shared, fd, import_memory_type_index=None)
    assert "opaque handle" in str(error)
    os.close(fd)


def test_create_info_keeps_the_types(exporter: Allocator) -> None:
    wishes = AllocationCreateInfo(export_handle_types=OPAQUE_FD)
    assert wishes.export_handle_types is OPAQUE_FD
    with exporter.create_buffer(SIZE, TRANSFER, allocation_info=wishes) as buffer:
        os.close(buffer.export_fd())
    assert AllocationCreateInfo().export_handle_types == 0


# ---- memory of the host ----


@pytest.fixture
def host(allocator: Allocator) -> Allocator:
    need(allocator.device, HOST_EXTENSION)
    return allocator


@pytest.fixture
def page(host: Allocator) -> int:
    alignment = host.device.min_imported_host_pointer_alignment
    assert alignment is not None
    assert alignment & (alignment - 1) == 0
    return max(alignment, SIZE)


def test_the_device_works_on_memory_of_the_host(host: Allocator, page: int) -> None:
    with mmap.mmap(-1, page) as memory:
        memory[:] = pattern(page)
        with host.create_buffer(page, TRANSFER, import_host_pointer=memory) as buffer:
            assert buffer.allocation.is_dedicated
            assert totals(host).allocation_bytes == page
            assert Check(host).read(buffer) == pattern(page)
            Check(host).write(buffer, pattern(page, 5))
            assert memory[:] == pattern(page, 5)
            with pytest.raises(BufferError):
                memory.close()
        # The pin goes with the buffer, though its object still lives.
        assert not buffer.alive
        assert totals(host).allocation_count == 0


def test_an_array_is_held_until_it_is_no_longer_used(host: Allocator, page: int) -> None:
    array = np.frombuffer(mmap.mmap(-1, page), np.uint8)
    with host.import_host_pointer(array, name="array", flags=RANDOM) as memory:
        del array
        gc.collect()
        memory.write(pattern(page))
        assert memory.read() == pattern(page)
        assert memory.size == page


def test_an_address_and_a_part(host: Allocator, page: int) -> None:
    memory = mmap.mmap(-1, 4 * page)
    address = np.frombuffer(memory, np.uint8).ctypes.data
    with host.import_host_pointer(address + page, 2 * page) as part:
        assert part.size == 2 * page
    with host.create_buffer(
        page, TRANSFER, import_host_pointer=address, import_size=4 * page, import_offset=2 * page
    ) as buffer:
        assert buffer.allocation.offset == 2 * page
        Check(host).write(buffer, pattern(page))
        assert memory[2 * page : 3 * page] == pattern(page)
        assert memory[3 * page :] == bytes(page)


def test_retired_memory_is_held_as_long(host: Allocator, page: int) -> None:
    memory = mmap.mmap(-1, page)
    buffer = host.create_buffer(page, TRANSFER, import_host_pointer=memory)
    buffer.retire()
    with pytest.raises(BufferError):
        memory.close()
    host.set_current_frame_index(host.current_frame_index + host.frames_in_flight + 2)
    memory.close()


def test_a_closing_allocator_lets_go(device: Device) -> None:
    need(device, HOST_EXTENSION)
    page = max(device.min_imported_host_pointer_alignment or 0, SIZE)
    memory = mmap.mmap(-1, page)
    allocator = Allocator(device)
    buffer = allocator.create_buffer(page, TRANSFER, import_host_pointer=memory)
    with pytest.warns(ResourceWarning):
        allocator.close()
    memory.close()
    assert not buffer.alive


def test_memory_that_cannot_be_imported(host: Allocator, page: int) -> None:
    whole = mmap.mmap(-1, 4 * page)
    array = np.frombuffer(whole, np.uint8)
    released = memoryview(bytearray(page))
    released.release()
    before = (totals(host), held_bytes(host))
    for data, size, expected in (
        (array[1 : page + 1], None, "address.*not a multiple"),
        (array[: page + 1], None, "size.*not a multiple"),
        (array[:page], 2 * page, "of .* bytes"),
        (array[::2], None, "contiguous"),
        (bytes(page), None, "may be written"),
        (released, None, "released"),
        (bytearray(), None, "no bytes"),
        (0, page, "address 0"),
        (array.ctypes.data, None, "has no size"),
        (array.ctypes.data, 0, "size is 0"),
        (array.ctypes.data + 1, page, "not a multiple"),
        (-page, page, "negative"),
    ):
        with pytest.raises(InvalidArgumentError, match=expected):
            host.import_host_pointer(data, size)
    with pytest.raises(InvalidArgumentError, match="the imported memory has"):
        host.create_buffer(2 * page, TRANSFER, import_host_pointer=array[:page])
    for none in (True, 1.5, "text", object()):
        with pytest.raises(TypeError):
            host.import_host_pointer(none, page)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="handle_type is"):
        host.import_host_pointer(array, handle_type=OPAQUE_FD)
    assert (totals(host), held_bytes(host)) == before
    del array
    gc.collect()
    whole.close()


def test_a_view_pins_imported_memory(host: Allocator, page: int) -> None:
    buffer = host.create_buffer(
        page, TRANSFER, flags=RANDOM, import_host_pointer=mmap.mmap(-1, page)
    )
    with buffer.map() as view:
        view[:4] = b"abcd"
        with pytest.raises(BufferError):
            buffer.destroy()
    buffer.destroy()


# ---- injected failures: in test_failures.py too; here what is special to descriptors ----


@needs_descriptors
@pytest.mark.parametrize("profile", ["discrete-8gib", "non-coherent", "nvidia-h200"])
@pytest.mark.parametrize("vk_result", [-1, -2, -4, -1_000_072_003])
def test_a_descriptor_survives_every_failure(profile: str, vk_result: int) -> None:
    device = SimulatedDevice(profile)
    handle_type = DMA_BUF if DMA_BUF_EXTENSION in device.extensions else OPAQUE_FD
    flags = RANDOM | MAPPED
    with Allocator(device) as one, Allocator(device) as two:
        first = one.create_buffer(SIZE, TRANSFER, flags=flags, export_handle_types=handle_type)
        fd = first.export_fd(handle_type)
        keywords = place(first) | {"import_handle_type": handle_type, "flags": flags}
        for n in range(20):
            device.fail_call(n, vk_result)
            calls = device.fallible_call_count
            try:
                second = two.create_buffer(SIZE, TRANSFER, import_fd=fd, **keywords)
            except VkMemError:
                assert is_open(fd), n
                assert totals(two).block_count == 0
                assert (device.live_buffers, device.live_memory_objects) == (1, 1)
                continue
            assert device.fallible_call_count - calls <= n, "a failure that nobody heard of"
            second.destroy()
            break
        device.clear_failures()
        assert n >= 3
        assert not is_open(fd)
        device.fail_next("vkGetMemoryFdKHR", 1, vk_result)
        with pytest.raises(VkMemError):
            first.export_fd(handle_type)
        first.destroy()
    assert device.violations == []


def test_an_import_that_is_never_closed(simulated_allocator: Allocator) -> None:
    memory = mmap.mmap(-1, SIZE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        simulated_allocator.create_buffer(SIZE, TRANSFER, import_host_pointer=memory)
        gc.collect()
    with pytest.raises(BufferError):
        memory.close()
    simulated_allocator.set_current_frame_index(10)
    memory.close()


@needs_descriptors
def test_what_a_strict_driver_refuses() -> None:
    device = SimulatedDevice("discrete-8gib")
    other = SimulatedDevice("integrated")
    with Allocator(device) as one, Allocator(device) as two, Allocator(other) as third:
        shared = one.create_buffer(SIZE, TRANSFER, export_handle_types=OPAQUE_FD)
        fd = shared.export_fd()
        size = shared.allocation.device_memory_size
        index = shared.allocation.memory_type_index
        for allocator, changes in (
            (two, {"size": 2 * size}),
            (two, {"memory_type_index": index + 1}),
            (two, {"handle_type": DMA_BUF}),
            (third, {}),
        ):
            keywords = {"size": size, "memory_type_index": index, **changes}
            with pytest.raises(InvalidArgumentError, match="INVALID_EXTERNAL_HANDLE"):
                allocator.import_memory_fd(fd, **keywords)
        os.close(fd)
        # An image of optimal tiling shares its memory with nothing else, and so on both sides.
        with one.create_image(RGBA8, 64, IMAGE_TRANSFER, export_handle_types=OPAQUE_FD) as image:
            fd = image.export_fd()
            with pytest.raises(InvalidArgumentError, match="INVALID_EXTERNAL_HANDLE"):
                two.import_memory_fd(
                    fd,
                    image.allocation.device_memory_size,
                    memory_type_index=image.allocation.memory_type_index,
                )
            os.close(fd)
        with pytest.raises(FeatureNotPresentError, match="no image of this kind"):
            one.create_image(RGBA8, 64, IMAGE_TRANSFER, export_handle_types=DMA_BUF)
        one.create_image(
            RGBA8, 64, IMAGE_TRANSFER, tiling=ImageTiling.LINEAR, export_handle_types=DMA_BUF
        ).destroy()
        with one.create_buffer(
            SIZE, TRANSFER, flags=DEDICATED, export_handle_types=OPAQUE_FD
        ) as named:
            keywords = place(named) | {"import_fd": named.export_fd()}
            two.create_buffer(SIZE, TRANSFER, flags=DEDICATED, **keywords).destroy()
        shared.destroy()
    assert device.violations == other.violations == []


# ---- addresses without a size ----


@pytest.mark.parametrize("size", [1, 100, 4096, 4097, 10_000])
def test_an_address_alone_takes_what_the_resource_needs(
    host: Allocator, page: int, size: int
) -> None:
    area = mmap.mmap(-1, 4 * page)
    array = np.frombuffer(area, np.uint8)
    address = array.ctypes.data
    with host.create_buffer(
        size, TRANSFER, flags=RANDOM, import_host_pointer=address, name="there"
    ) as buffer:
        needed = buffer.allocation.size
        assert buffer.allocation.device_memory_size == -(-needed // page) * page
        buffer.write(b"\x5a" * size)
        assert bytes(array[:size]) == b"\x5a" * size
    with host.create_buffer(
        size, TRANSFER, flags=RANDOM, import_host_pointer=address, import_offset=page
    ) as buffer:
        needed = buffer.allocation.size
        assert buffer.allocation.device_memory_size == page + -(-needed // page) * page
        buffer.write(b"\xa5" * size)
        assert bytes(array[page : page + size]) == b"\xa5" * size
    with pytest.raises(InvalidArgumentError, match="wrap around"):
        host.create_buffer(page, TRANSFER, import_host_pointer=(1 << 64) - page)
    del array
    area.close()


# ---- descriptors that are no memory ----


@contextmanager
def descriptors() -> Iterator[dict[str, int]]:
    """What a descriptor can be and no driver has to see: reading some of them waits for ever."""
    with tempfile.NamedTemporaryFile() as named:
        pipe, pair, terminal = os.pipe(), socket.socketpair(), os.openpty()
        found = {
            "a pipe": pipe[0],
            "a socket": pair[0].fileno(),
            "a terminal": terminal[1],
            "a directory": os.open("/", os.O_RDONLY),
            "a file": named.fileno(),
            "a device": os.open("/dev/zero", os.O_RDONLY),
            "an event source": os.eventfd(0),
        }
        opened = [*pipe, *terminal, found["a directory"], found["a device"]]
        opened.append(found["an event source"])
        try:
            yield found
        finally:
            for it in pair:
                it.close()
            for fd in opened:
                os.close(fd)


@pytest.mark.driver
@pytest.mark.parametrize("handle_type", [OPAQUE_FD, DMA_BUF])
def test_what_is_no_memory_is_refused_before_the_driver_reads_it(
    odd_driver, open_odd, handle_type
) -> None:
    opened = open_odd()
    need(opened, FD_EXTENSION)
    # Not every driver has the second one; none is asked here.
    device = Device.wrap(
        opened.instance,
        opened.physical_device,
        opened.handle,
        api_version=(1, 1),
        extensions=[FD_EXTENSION, DMA_BUF_EXTENSION],
        get_instance_proc_addr=odd_driver.get_instance_proc_addr,
    )
    with Allocator(device) as allocator, descriptors() as found:
        before = odd_driver.calls.copy()
        for what, fd in found.items():
            for call in (
                lambda fd=fd: allocator.import_memory_fd(fd, SIZE, handle_type=handle_type),
                lambda fd=fd: allocator.create_buffer(
                    SIZE, TRANSFER, import_fd=fd, import_handle_type=handle_type
                ),
            ):
                with pytest.raises(InvalidArgumentError, match=f"fd {fd} is {what}.*, not memory"):
                    call()
            assert is_open(fd)
        assert odd_driver.calls == before


@needs_descriptors
def test_simulated_devices_do_not_know_them_either() -> None:
    with Allocator(SimulatedDevice("integrated")) as allocator, descriptors() as found:
        for fd in found.values():
            with pytest.raises(InvalidArgumentError):
                allocator.import_memory_fd(fd, SIZE)
            assert is_open(fd)
