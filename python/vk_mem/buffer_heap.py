"""Many small pieces of data in few buffers.

A `VkBuffer` for each of ten thousand small meshes costs ten thousand handles, bindings and driver
calls. A `BufferHeap` makes a few large buffers and gives out ranges of them.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from types import TracebackType
from typing import Any, Self, Unpack

from vk_mem._typing import AllocationKeywords
from vk_mem._vk_mem import Allocator, Buffer, VirtualAllocation, VirtualBlock
from vk_mem.errors import InvalidArgumentError, OutOfDeviceMemoryError, UseAfterFreeError
from vk_mem.flags import AllocationCreateFlags, BufferUsage

_HOST_ACCESS = (
    AllocationCreateFlags.HOST_ACCESS_SEQUENTIAL_WRITE | AllocationCreateFlags.HOST_ACCESS_RANDOM
)
_TEXEL = BufferUsage.UNIFORM_TEXEL_BUFFER | BufferUsage.STORAGE_TEXEL_BUFFER
# What vkCmdBindIndexBuffer, vkCmdCopyBuffer of words and indirect commands ask for at most.
_LEAST_ALIGNMENT = 4


class BufferHeap:
    """Divides large buffers of one usage into slices (nothing in VMA corresponds to it).

    `buffer_usage` is the `BufferUsage` of all buffers, `block_size` their size in bytes,
    `algorithm` how they are divided: "tlsf", "linear" or "buddy". The other keywords are those of
    an allocation; with a HOST_ACCESS flag all slices are mapped. A slice larger than a block gets
    a buffer of its own. Usable from many threads at once.

    Raises `InvalidArgumentError` for a block size of 0 or an unknown algorithm.
    """

    def __init__(
        self,
        allocator: Allocator,
        buffer_usage: int,
        *,
        block_size: int = 4 << 20,
        algorithm: str = "tlsf",
        **keywords: Unpack[AllocationKeywords],
    ) -> None:
        if block_size <= 0:
            raise InvalidArgumentError(f"block_size is {block_size}; it must be positive")
        VirtualBlock(block_size, algorithm=algorithm)
        self._allocator = allocator
        self._usage = BufferUsage(buffer_usage)
        self._block_size = block_size
        self._algorithm = algorithm
        self._keywords = keywords
        flags = keywords.get("flags", 0)
        if flags & _HOST_ACCESS:
            keywords["flags"] = flags | AllocationCreateFlags.MAPPED
        self._alignment = self._alignment_of_usage(bool(flags & _HOST_ACCESS))
        self._lock = threading.RLock()
        self._blocks: list[_Block] = []
        self._abandoned: list[tuple[int, _Block, VirtualAllocation]] = []
        # Their views pin the buffers until they are released.
        self._mapped: weakref.WeakSet[BufferSlice] = weakref.WeakSet()
        self._closed = False

    def _alignment_of_usage(self, mapped: bool) -> int:
        limits = self._allocator.device.properties
        alignment = _LEAST_ALIGNMENT
        if self._usage & BufferUsage.UNIFORM_BUFFER:
            alignment = max(alignment, limits.min_uniform_buffer_offset_alignment)
        if self._usage & BufferUsage.STORAGE_BUFFER:
            alignment = max(alignment, limits.min_storage_buffer_offset_alignment)
        if self._usage & _TEXEL:
            alignment = max(alignment, limits.min_texel_buffer_offset_alignment)
        if mapped:
            # Slices that share an atom would flush and invalidate each other.
            alignment = max(alignment, limits.non_coherent_atom_size)
        return alignment

    @property
    def alignment(self) -> int:
        """Of every slice, in bytes: from the usage and the device's limits."""
        return self._alignment

    @property
    def block_size(self) -> int:
        """Of each buffer, in bytes; larger slices get one of their own."""
        return self._block_size

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """The buffers there are."""
        with self._lock:
            return tuple(block.buffer for block in self._blocks)

    @property
    def allocated(self) -> int:
        """Bytes in slices."""
        with self._lock:
            return sum(block.ranges.allocated for block in self._blocks)

    @property
    def closed(self) -> bool:
        """Whether `close` was called, or its allocator's."""
        return self._closed or self._allocator.closed

    def allocate(self, size: int, alignment: int = 1) -> BufferSlice:
        """A slice of `size` bytes, aligned to `alignment` and to what the usage needs.

        Raises what `Allocator.create_buffer` raises, and `UseAfterFreeError` after `close`.
        """
        with self._lock:
            if self.closed:
                raise UseAfterFreeError("the buffer heap is closed")
            self._release_abandoned()
            alignment = max(alignment, self._alignment)
            for block in reversed(self._blocks):
                try:
                    return BufferSlice(self, block, block.ranges.allocate(size, alignment))
                except OutOfDeviceMemoryError:
                    continue
            block = self._grow(max(size, self._block_size))
            try:
                return BufferSlice(self, block, block.ranges.allocate(size, alignment))
            except BaseException:
                self._drop_if_empty(block)
                raise

    def _grow(self, size: int) -> _Block:
        if self._algorithm == "buddy":
            # All of it has to be one range.
            size = 1 << (size - 1).bit_length()
        # First, as it may fail.
        buffer = self._allocator.create_buffer(size, self._usage, **self._keywords)
        block = _Block(buffer, VirtualBlock(size, algorithm=self._algorithm))
        self._blocks.append(block)
        return block

    def _free(self, block: _Block, ranges: VirtualAllocation) -> None:
        with self._lock:
            if self.closed:
                return
            ranges.free()
            empty = [it for it in self._blocks if it.ranges.allocation_count == 0]
            # One is kept: the next slice often comes soon.
            if block in empty and (len(empty) > 1 or block.buffer.size > self._block_size):
                self._drop_if_empty(block)

    def _drop_if_empty(self, block: _Block) -> None:
        if block.ranges.allocation_count == 0:
            self._blocks.remove(block)
            block.buffer.destroy()

    def _abandon(self, block: _Block, ranges: VirtualAllocation) -> None:
        # From a finaliser, which may run inside of any call here: nothing but an append.
        self._abandoned.append((self._allocator.current_frame_index, block, ranges))

    def _release_abandoned(self) -> None:
        last_safe = self._allocator.current_frame_index - self._allocator.frames_in_flight
        waiting, self._abandoned = self._abandoned, []
        for frame, block, ranges in waiting:
            if frame < last_safe:
                self._free(block, ranges)
            else:
                self._abandoned.append((frame, block, ranges))

    def close(self) -> None:
        """Destroys all buffers; the device must be done with them. Nothing happens twice.

        Raises `BufferError`, and goes no further, while a view of a slice is in use.
        """
        with self._lock:
            if self.closed:
                return
            for piece in list(self._mapped):
                piece._release_view()
            while self._blocks:
                self._blocks[-1].buffer.destroy()
                self._blocks.pop()
            self._closed = True

    def __enter__(self) -> Self:
        if self.closed:
            raise UseAfterFreeError("the buffer heap is closed")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = f"{self.allocated} bytes in {len(self._blocks)} buffers"
        return f"<vk_mem.BufferHeap {self._usage.name}, {'closed' if self.closed else state}>"


class _Block:
    """One buffer and its division."""

    def __init__(self, buffer: Buffer, ranges: VirtualBlock) -> None:
        self.buffer = buffer
        self.ranges = ranges


class BufferSlice:
    """A range of a buffer of a `BufferHeap`: bind `handle` at `offset`."""

    def __init__(self, heap: BufferHeap, block: _Block, ranges: VirtualAllocation) -> None:
        self._heap = heap
        self._block = block
        self._range: VirtualAllocation | None = ranges
        self._view: memoryview | None = None

    def _live(self) -> VirtualAllocation:
        if self._range is None or not self._block.buffer.alive:
            raise UseAfterFreeError("the buffer slice was freed")
        return self._range

    @property
    def buffer(self) -> Buffer:
        """The buffer it is a part of."""
        self._live()
        return self._block.buffer

    @property
    def handle(self) -> int:
        """The `VkBuffer`."""
        self._live()
        return self._block.buffer.handle

    @property
    def offset(self) -> int:
        """In the buffer, in bytes."""
        return self._live().offset

    @property
    def size(self) -> int:
        """In bytes."""
        return self._live().size

    @property
    def device_address(self) -> int:
        """Where shaders find it; see `Buffer.device_address`."""
        return self.buffer.device_address + self.offset

    @property
    def mapped(self) -> memoryview | None:
        """Its memory, if the heap has a HOST_ACCESS flag and the memory can be mapped; else None.

        Flush what was written to it on memory that is not coherent. Ends with `free`.
        """
        ranges = self._live()
        if self._view is None:
            whole = self._block.buffer.mapped
            if whole is not None:
                self._view = whole[ranges.offset : ranges.offset + ranges.size]
                self._heap._mapped.add(self)
        return self._view

    def write(self, data: Any, offset: int = 0) -> None:
        """Copies a contiguous buffer of any Python object into the slice, and flushes.

        Raises `InvalidArgumentError` if it does not fit, `MemoryMapError` if it cannot be mapped.
        """
        ranges = self._live()
        length = memoryview(data).nbytes
        self._check(offset, length)
        self._block.buffer.write(data, ranges.offset + offset)

    def read(self, offset: int = 0, size: int | None = None) -> bytes:
        """Copies `size` bytes from `offset` on; up to the end without a size.

        Raises what `write` raises.
        """
        ranges = self._live()
        size = ranges.size - offset if size is None else size
        self._check(offset, size)
        return self._block.buffer.read(ranges.offset + offset, size)

    def flush(self) -> None:
        """Makes what was written to `mapped` visible to the device."""
        ranges = self._live()
        self._block.buffer.flush(ranges.offset, ranges.size)

    def _check(self, offset: int, size: int) -> None:
        whole = self._live().size
        if offset < 0 or size < 0 or offset + size > whole:
            raise InvalidArgumentError(
                f"{size} bytes at offset {offset} are outside of a slice of {whole} bytes"
            )

    def free(self) -> None:
        """Gives it back; the device must be done with it. Nothing happens the second time.

        Raises `BufferError` while an array uses `mapped`.
        """
        ranges = self._range
        if ranges is None:
            return
        self._release_view()
        self._range = None
        self._heap._free(self._block, ranges)

    def _release_view(self) -> None:
        if self._view is None:
            return
        # An array holds the mapping below the view, not the view itself; each slice has a mapping
        # of its own, which is gone when nobody holds it.
        mapping = weakref.ref(self._view.obj)
        self._view.release()
        self._view = None
        still_there = mapping()
        if still_there is not None:
            ranges = self._live()
            self._view = memoryview(still_there)[ranges.offset : ranges.offset + ranges.size]
            raise BufferError(f"cannot free {self!r}: an array or a view uses its memory")

    def __enter__(self) -> Self:
        self._live()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.free()

    def __del__(self) -> None:
        ranges = getattr(self, "_range", None)
        if ranges is None or self._heap.closed:
            return
        warnings.warn(
            f"unclosed BufferSlice ({ranges.size} bytes): it is released when no frame in flight "
            "can use it, or with its heap",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )
        self._heap._abandon(self._block, ranges)

    def __repr__(self) -> str:
        if self._range is None:
            return "<vk_mem.BufferSlice, freed>"
        return f"<vk_mem.BufferSlice of {self._range.size} bytes at {self._range.offset}>"
