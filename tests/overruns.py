"""Writes where nobody may write, by the device or by the host."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import pytest
import systems
from support import RANDOM, TRANSFER

import vk_mem
from vk_mem import (
    AllocationCreateFlags,
    Allocator,
    Buffer,
    Debug,
    Device,
    ExternalMemoryHandleType,
    MemoryPropertyFlags,
    Pool,
)

BLOCK = 1 << 20
OPAQUE_FD = ExternalMemoryHandleType.OPAQUE_FD
VISIBLE = MemoryPropertyFlags.HOST_VISIBLE
COHERENT = VISIBLE | MemoryPropertyFlags.HOST_COHERENT

Flip = Callable[..., bytes]


def reachable_types(device: Device) -> list[int]:
    """The memory types of buffers in which an `intruder` can write."""
    found, exports = [], can_export(device)
    types = device.memory_properties.memory_types
    with Allocator(device, debug=Debug()) as allocator:
        for index, it in enumerate(types):
            if not exports and it.property_flags & COHERENT != COHERENT:
                continue
            try:
                keywords: dict[str, Any] = {"export_handle_types": OPAQUE_FD} if exports else {}
                allocator.create_buffer(
                    256, TRANSFER, memory_type_bits=1 << index, **keywords
                ).destroy()
            except vk_mem.FeatureNotPresentError:
                continue
            found.append(index)
    return found


def can_export(device: Device) -> bool:
    """Whether memory can have two owners, so that the device writes anywhere in it."""
    if systems.WINDOWS:  # no device exports file descriptors there
        return False
    with Allocator(device, debug=Debug()) as allocator:
        try:
            allocator.create_buffer(256, TRANSFER, export_handle_types=OPAQUE_FD).destroy()
        except vk_mem.FeatureNotPresentError:
            return False
    return True


def not_filled(device: Device) -> Any:
    """Expects the warning that what is freed is not filled once the memory was exported."""
    if not can_export(device):
        return nullcontext()
    return pytest.warns(vk_mem.CorruptionWarning, match="first that of Buffer.* was exported")


@contextmanager
def pool_of(allocator: Allocator, index: int, **keywords: Any) -> Iterator[Pool]:
    """A pool of one block of a memory type, for `intruder`."""
    keywords = {"max_block_count": 1, "block_size": BLOCK, **keywords}
    if can_export(allocator.device):
        keywords["export_handle_types"] = OPAQUE_FD
    with allocator.create_pool(memory_type_index=index, **keywords) as pool:
        yield pool


@contextmanager
def intruder(
    inside: Buffer, device: Device, size: int = BLOCK, through: Buffer | None = None
) -> Iterator[Flip]:
    """Lends `flip(offset, count=1)`: it inverts bytes beside a buffer of a `pool_of`, and returns
    them. Offsets are counted from the start of the buffer, and may be used after its end.

    The first flip exports the memory, if that is possible, of which nothing that is freed later is
    filled. It does so with the buffer, or with `through`, another one of the same block, if the
    buffer has ended by then."""
    if can_export(device):
        with by_device(inside, device, size, through) as flip:
            yield flip
    else:
        with by_host(inside) as flip:
            yield flip


@contextmanager
def by_device(
    inside: Buffer, device: Device, size: int = BLOCK, through: Buffer | None = None
) -> Iterator[Flip]:
    """Does that by copies of the device: the memory object is imported once more."""
    base, bits = inside.allocation.offset, 1 << inside.allocation.memory_type_index
    # Not kept longer than needed: what is collected may end.
    sources = [it for it in (inside, through) if it is not None]
    with ExitStack() as stack:
        stack.callback(sources.clear)
        made: list[Buffer] = []

        def views() -> list[Buffer]:
            if not made:
                fd = next(it for it in sources if it.alive).allocation.export_fd()
                sources.clear()
                other = stack.enter_context(Allocator(device, debug=Debug()))
                whole = other.create_buffer(size, TRANSFER, import_fd=fd, memory_type_bits=bits)
                staging = other.create_buffer(4096, TRANSFER, flags=RANDOM)
                made.extend([stack.enter_context(whole), stack.enter_context(staging)])
            return made

        def flip(offset: int, count: int = 1) -> bytes:
            whole, staging = views()
            device.copy_buffer(whole, staging, count, source_offset=base + offset)
            wrong = bytes(it ^ 0xFF for it in staging.read(0, count))
            staging.write(wrong)
            device.copy_buffer(staging, whole, count, target_offset=base + offset)
            return wrong

        yield flip


@contextmanager
def by_host(inside: Buffer) -> Iterator[Flip]:
    """Does that through a mapping, in memory that the host can see and need not flush."""
    with inside.map() as view:
        base = ctypes.addressof(ctypes.c_char.from_buffer(view))

    def flip(offset: int, count: int = 1) -> bytes:
        there = (ctypes.c_ubyte * count).from_address(base + offset)
        there[:] = [it ^ 0xFF for it in there]
        return bytes(there)

    yield flip


def host_flags(device: Device, index: int) -> AllocationCreateFlags:
    """Flags with which `by_host` can reach a buffer, if its memory type allows that."""
    visible = device.memory_properties.memory_types[index].property_flags & VISIBLE
    return RANDOM | AllocationCreateFlags.MAPPED if visible else AllocationCreateFlags(0)
