"""Suballocates buffers: many small pieces of data in few `VkBuffer` objects.

Ten thousand small meshes with a `VkBuffer` each need ten thousand handles, bindings and driver
calls. A `BufferHeap` creates a few large buffers and returns ranges of them.
"""

from __future__ import annotations

import math
import os
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from vk_mem._keywords import unexpected_keyword
from vk_mem._no_copies import NoCopies
from vk_mem._typing import AllocationKeywords, Flags
from vk_mem._vk_mem import (
    AllocationCreateInfo,
    Allocator,
    Buffer,
    Mapping,
    _HeapDebugger,
    _Range,
    _record_ranges,
    _VirtualBlocks,
)
from vk_mem.debugging.options import Debug
from vk_mem.errors import (
    FeatureNotPresentError,
    InvalidArgumentError,
    OutOfDeviceMemoryError,
    UseAfterFreeError,
)
from vk_mem.flags import AllocationCreateFlags, BufferUsage, MemoryPropertyFlags
from vk_mem.flags.names import number_of_names
from vk_mem.memory.buffer_range import BufferRange, unsigned
from vk_mem.memory.heap_debug import SliceQuarantine, debug_of_heap, is_watched
from vk_mem.text import counted, with_article

_HOST_ACCESS = (
    AllocationCreateFlags.HOST_ACCESS_SEQUENTIAL_WRITE | AllocationCreateFlags.HOST_ACCESS_RANDOM
)
_TEXEL = BufferUsage.UNIFORM_TEXEL_BUFFER | BufferUsage.STORAGE_TEXEL_BUFFER
# The largest alignment among vkCmdBindIndexBuffer, 4-byte copies and indirect commands.
_LEAST_ALIGNMENT = 4


class BufferHeap(NoCopies):
    """Suballocates slices from large buffers of one usage. VMA has no equivalent.

    `buffer_usage` is the `BufferUsage` of all buffers, `block_size` their size in bytes, and
    `algorithm` how they are divided: "tlsf", "linear" or "buddy". The other keywords are those of
    an allocation; with a HOST_ACCESS flag all slices are mapped. A slice larger than a block gets
    a buffer of its own. Thread-safe. Unusable in the child of `os.fork()`.

    `debug` is a `Debug`, by default that of the allocator: `fill`, `fill_on_free`, `margin`,
    `detect_corruption`, `quarantine` and `check` do for slices what they do for allocations. Slices
    are checked when they are freed, by `check_corruption` of the heap and of the allocator, and
    with `check="frame"` or `"call"` whenever the allocator checks its own memory.

    Raises `InvalidArgumentError` for a block size of 0, an unknown algorithm or `CAN_BECOME_LOST`,
    `TypeError` for an unknown keyword or anything but an `Allocator`.
    """

    def __init__(
        self,
        allocator: Allocator,
        buffer_usage: Flags,
        *,
        block_size: int = 4 << 20,
        algorithm: str = "tlsf",
        debug: Debug | None = None,
        **keywords: Unpack[AllocationKeywords],
    ) -> None:
        given: object = allocator
        if not isinstance(given, Allocator):
            what = type(given).__name__
            raise TypeError(f"allocator must be an Allocator, not {with_article(what)}")
        block_size = unsigned(block_size, "block_size")
        if block_size == 0:
            raise InvalidArgumentError("block_size is 0; it must be positive")
        known = AllocationKeywords.__annotations__
        for keyword in keywords:
            if keyword not in known:
                raise TypeError(unexpected_keyword("BufferHeap", keyword))
        info = AllocationCreateInfo(**keywords)
        if info.flags & AllocationCreateFlags.CAN_BECOME_LOST:
            raise InvalidArgumentError(
                "CAN_BECOME_LOST: it cannot be lost: a BufferHeap does not know which slices are "
                "in use"
            )
        self._allocator = allocator
        usage: Any = buffer_usage
        if not hasattr(usage, "__index__"):
            usage = number_of_names(usage, "BufferUsage", "buffer_usage")
        self._usage = BufferUsage(unsigned(usage, "buffer_usage"))
        self._block_size = block_size
        self._algorithm = algorithm
        self._flags = int(info.flags)
        mapped = bool(info.flags & _HOST_ACCESS)
        if mapped:
            self._flags |= AllocationCreateFlags.MAPPED
        self._info = info
        self._alignment = self._alignment_of_usage(mapped)
        debug = debug_of_heap(debug, allocator)
        self._debug = debug
        watched = is_watched(debug)
        if watched:
            # Memory that is dedicated to a buffer is reached through that buffer only, which has
            # the usage of the program and no other.
            self._flags |= AllocationCreateFlags.CAN_ALIAS
        self._debugger = _HeapDebugger(allocator, debug) if watched else None
        self._quarantine: SliceQuarantine[_Place] | None = None
        if debug.quarantine is not None:
            self._quarantine = SliceQuarantine(debug)
        self._ranges = _VirtualBlocks(algorithm, self._alignment, debug.margin)
        _record_ranges(allocator, self._ranges)
        # `nonCoherentAtomSize` once a buffer lies in non-coherent memory, which `write` flushes.
        self._atom = 1
        # Reports an invalid block size now, not at the first slice.
        self._ranges.remove(self._ranges.add(block_size))
        self._lock = threading.RLock()
        self._process = os.getpid()
        # Buffers by the number of their virtual block in `_ranges`.
        self._blocks: dict[int, _Block] = {}
        # Buffers without slices. One is kept, as the next slice often comes soon; more while a
        # mapping of the buffer is open.
        self._empties: dict[int, _Block] = {}
        # Buffers that are to be destroyed, which happens without the lock.
        self._doomed: list[_Block] = []
        self._abandoned: deque[tuple[int, _Place, _Views]] = deque()
        # Slices with a view: the view pins the buffer until it is released.
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
            # Slices in the same atom would flush and invalidate each other's bytes.
            alignment = max(alignment, limits.non_coherent_atom_size)
        return alignment

    @property
    def alignment(self) -> int:
        """Alignment of every slice in bytes, from the usage and the device's limits."""
        return math.lcm(self._alignment, self._atom)

    @property
    def block_size(self) -> int:
        """Size of each buffer in bytes. A larger slice gets a buffer of its own."""
        return self._block_size

    @property
    def debug(self) -> Debug | None:
        """What it does to find faults of the program; None if all of that is off."""
        return self._debug if self._debug != Debug() else None

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """The current buffers. The heap owns them: destroying one invalidates the slices in it."""
        self._check_process()
        with self._lock:
            return tuple(block.buffer for block in self._blocks.values() if block.buffer.alive)

    @property
    def allocated(self) -> int:
        """Bytes in all slices, without those in quarantine."""
        self._check_process()
        with self._lock:
            return self._ranges.allocated - self._quarantined

    @property
    def quarantined_bytes(self) -> int:
        """Bytes of slices that were freed and whose memory is not given out again yet."""
        self._check_process()
        with self._lock:
            return self._quarantined

    @property
    def _quarantined(self) -> int:
        return 0 if self._quarantine is None else self._quarantine.bytes

    @property
    def closed(self) -> bool:
        """Whether the heap or its allocator was closed."""
        return self._closed or self._allocator.closed

    def _check_process(self) -> None:
        # Checked before taking the lock: in a forked child it may be held for ever.
        if os.getpid() != self._process:
            raise InvalidArgumentError(
                "the buffer heap was made before os.fork(): make another in this process"
            )

    def _check_open(self) -> None:
        if self.closed:
            raise UseAfterFreeError("the buffer heap is closed")

    def allocate(self, size: int, alignment: int = 1, *, name: str | None = None) -> BufferSlice:
        """Returns a slice of `size` bytes, aligned to `alignment` and to what the usage needs.

        `alignment` is any number of bytes, for example a vertex size of 12. The time does not
        depend on the number of buffers. Reports about its memory say `name`.

        Raises what `Allocator.create_buffer` raises, and `UseAfterFreeError` after `close`.
        """
        self._check_process()
        size, alignment = unsigned(size, "size"), unsigned(alignment, "alignment")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a str, not {type(name).__name__}")
        debugger = self._debugger
        if debugger is not None:
            self._check_open()
            debugger.enter()
        self._free_due()
        with self._lock:
            self._check_open()
            found = self._find(size, alignment)
        if found is None:
            found = self._find_in_new(size, alignment)
        if debugger is not None:
            debugger.allocated(found.block.watched, found.offset, size, name)
        made = BufferSlice(self, found, size, name)
        if debugger is not None:
            debugger.note_object(found.block.watched, found.offset, weakref.ref(made))
            debugger.report()
        return made

    def _find_in_new(self, size: int, alignment: int) -> _Place:
        """Finds room in a new buffer. The lock is not held: what makes room may run callbacks."""
        # A buddy range is always aligned to its own size.
        atom = self._allocator.device.properties.non_coherent_atom_size
        least = max(alignment, atom) if self._algorithm == "buddy" else 1
        try:
            block = self._grow(max(self._with_margins(size, alignment), least, self._block_size))
        except OutOfDeviceMemoryError:
            found = self._find_in_quarantine(size, alignment)
            if found is None:
                raise
            return found
        with self._lock:
            self._check_open()
            found = self._find(size, alignment)
            self._doom_empty(block)
        self._destroy_doomed()
        if found is None:
            raise OutOfDeviceMemoryError(
                f"a new buffer of {counted(block.size, 'byte')} has no room for "
                f"{counted(size, 'byte')}, aligned to {alignment}",
                size=size,
            )
        return found

    def _find_in_quarantine(self, size: int, alignment: int) -> _Place | None:
        """Ends the quarantine, and finds room where it was."""
        if self._quarantine is None:
            return None
        with self._lock:
            leaving = self._quarantine.take(None)
        for place in leaving:
            self._leave(place)
        with self._lock:
            self._check_open()
            return self._find(size, alignment) if leaving else None

    def _with_margins(self, size: int, alignment: int) -> int:
        """Returns the bytes that a slice takes at most with its margins."""
        margin = self._debug.margin
        if not margin:
            return size
        atom = self._allocator.device.properties.non_coherent_atom_size
        alignment = math.lcm(max(alignment, 1), self._alignment, atom)
        return size + math.ceil(margin / alignment) * alignment + margin

    def _find(self, size: int, alignment: int) -> _Place | None:
        if alignment > 0:
            alignment = math.lcm(alignment, self._atom)
        while True:
            found = self._ranges.allocate(size, alignment)
            if found is None:
                return None
            block = self._blocks.get(found.block)
            if block is None:
                # A KeyboardInterrupt came after the virtual block was added, before its buffer.
                self._ranges.remove(found.block)
            elif block.buffer.alive:
                self._empties.pop(found.block, None)
                return _Place(block, found)
            else:
                # The caller destroyed the buffer; its slices raise UseAfterFreeError.
                self._forget(block)

    def _grow(self, size: int) -> _Block:
        if self._algorithm == "buddy":
            # The buddy algorithm needs a power of two to return all of it as one range.
            size = 1 << (size - 1).bit_length()
        # First, because it may raise. It can run callbacks of the allocator.
        buffer = self._allocator.create_buffer(
            size, self._usage, allocation_info=self._info, flags=self._flags
        )
        try:
            properties = buffer.allocation.memory_properties
            visible = MemoryPropertyFlags.HOST_VISIBLE in properties
            is_mapped = visible and bool(self._flags & AllocationCreateFlags.MAPPED)
            with self._lock:
                self._check_open()
                if visible and MemoryPropertyFlags.HOST_COHERENT not in properties:
                    # Slices in the same atom would flush and invalidate each other's bytes.
                    self._atom = self._allocator.device.properties.non_coherent_atom_size
                block = _Block(buffer, is_mapped)
                self._adopt(block)
        except BaseException:
            buffer.destroy()
            raise
        return block

    def _adopt(self, block: _Block) -> None:
        """Begins to give out slices of a buffer that has none."""
        block.number = self._ranges.add(block.size)
        if self._debugger is not None:
            block.watched = self._debugger.add_buffer(block.buffer)
        self._blocks[block.number] = self._empties[block.number] = block

    def _forget(self, block: _Block) -> None:
        # The virtual block last: one without a buffer is found and removed by the next allocation.
        self._empties.pop(block.number, None)
        if self._debugger is not None:
            self._debugger.remove_buffer(block.watched)
        if self._blocks.pop(block.number, None) is not None:
            self._ranges.remove(block.number)

    def _free(self, place: _Place, size: int | None = None) -> None:
        """Frees a range, or puts it into quarantine. The lock is not held: callbacks may run."""
        self._check_process()
        block, quarantine, debugger = place.block, self._quarantine, self._debugger
        if debugger is not None and not self.closed:
            waits = debugger.freed(block.watched, place.offset)
            if waits is not None and quarantine is not None:
                frame = self._allocator.current_frame_index
                with self._lock:
                    quarantine.add(place, waits, frame)
                    leaving = quarantine.take(frame)
                for it in leaving:
                    self._leave(it)
                return
        self._give_back(place)

    def _leave(self, place: _Place) -> None:
        """Ends the quarantine of a slice."""
        if self._debugger is not None and not self.closed:
            self._debugger.leaves(place.block.watched, place.offset)
        self._give_back(place)

    def _give_back(self, place: _Place) -> None:
        with self._lock:
            if self.closed:
                return
            # Does nothing if the range disappeared with its buffer.
            if self._ranges.free(place.range):
                self._empties[place.block.number] = place.block
                self._doom_empty(place.block)
        if self._doomed:
            self._destroy_doomed()

    def check_corruption(self) -> int:
        """Checks that nobody has written where nobody may: margins of slices, and slices in
        quarantine. Returns the number of ranges.

        What the device has not finished yet is not seen. `Allocator.check_corruption` does that for
        all heaps of the allocator, and for the memory around their buffers.

        Raises `CorruptionError` with the slice, those beside it and what was found; the others of
        the same call are its `others`. Raises `FeatureNotPresentError` if nothing can be checked:
        without `debug=Debug(detect_corruption=True)` or a quarantine.
        """
        self._check_process()
        self._check_open()
        debugger = self._debugger
        if debugger is None or not (self._debug.detect_corruption or self._debug.quarantine):
            raise FeatureNotPresentError(
                "the heap has neither margins that are checked nor a quarantine: "
                "debug=Debug(detect_corruption=True)"
            )
        self._free_due()
        count = debugger.check()
        debugger.report()
        return count

    def _doom_empty(self, newest: _Block) -> None:
        """Takes empty buffers out, except one of normal size, preferably the newest."""
        kept = newest if newest.number in self._empties else None
        if kept is not None and kept.size > self._block_size:
            kept = None
        for block in list(self._empties.values()):
            if kept is None and block.size <= self._block_size:
                kept = block
            if block is not kept:
                self._doomed.append(block)
                self._forget(block)

    def _destroy_doomed(self) -> None:
        """Destroys what was taken out. The lock is not held: callbacks may run."""
        for block in tuple(self._doomed):
            try:
                block.buffer.destroy()
            except BufferError:
                # A mapping of the buffer is open: keep it and use it for further slices.
                continue
            finally:
                with self._lock:
                    if block in self._doomed:
                        if block.buffer.alive and not self.closed:
                            self._adopt(block)
                        self._doomed.remove(block)

    def _abandon(self, place: _Place, views: _Views = ()) -> None:
        # Called from finalisers, which may interrupt any method here: only an append is safe.
        self._abandoned.append((self._allocator.current_frame_index, place, views))

    def _free_due(self) -> None:
        """Frees what has no owner any more, and what leaves quarantine. The lock is not held."""
        dropped = self._ranges.take_dropped()
        if not dropped and not self._abandoned and not self._quarantined:
            return
        now, in_flight = self._allocator.current_frame_index, self._allocator.frames_in_flight
        due: list[_Place] = []
        leaving: list[_Place] = []
        with self._lock:
            # An interrupt ended the call, or a finaliser dropped them.
            for it in dropped:
                block = self._blocks.get(it.block)
                if block is not None:
                    self._abandoned.append((now, _Place(block, it), ()))
            # One by one, as an interrupt may end this anywhere: what waits stays, with the views
            # that keep it, and a range that was taken out and not freed is found among the dropped
            # ones.
            for _ in range(len(self._abandoned)):
                frame, place, views = self._abandoned[0]
                # A 32-bit frame index may have wrapped around.
                age = now - frame if now >= frame else (now - frame) % (1 << 32)
                if age > in_flight and not any(map(_is_open, views)):
                    due.append(place)
                    self._abandoned.popleft()
                else:
                    self._abandoned.rotate(-1)
            if self._quarantine is not None:
                leaving = self._quarantine.take(now)
        for place in due:
            self._free(place)
        for place in leaving:
            self._leave(place)

    def close(self) -> None:
        """Destroys all buffers; the device must have finished using them. May be called again.

        What was found in the margins of live slices is told to `Allocator.on_corruption`, else by
        `CorruptionWarning`.

        Raises `BufferError`, and destroys nothing, while a view of a slice or a mapping of a buffer
        is in use.
        """
        self._check_process()
        if self.closed:
            return
        with self._lock:
            for piece in list(self._mapped):
                piece._release_view()
        try:
            if self._debugger is not None:
                self._debugger.check_new()
                self._debugger.report()
        finally:
            self._end()

    def _end(self) -> None:
        """Destroys all buffers. The lock is not held: callbacks may run."""
        with self._lock:
            if self.closed:
                return
            # Nothing is given out meanwhile.
            self._closed = True
            blocks = [*self._blocks.values(), *self._doomed]
        buffers = [it.buffer for it in blocks]
        try:
            self._allocator.destroy_many(buffers)
        finally:
            with self._lock:
                # What was overwritten beside the buffers is raised after they were destroyed.
                self._closed = not any(it.alive for it in buffers)
                if self._closed:
                    for block in blocks:
                        self._forget(block)
                    self._doomed.clear()
                    if self._quarantine is not None:
                        self._quarantine.take(None)
                    if self._debugger is not None:
                        self._debugger.end()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._allocator._end_block(exc_value, self.close)

    def __repr__(self) -> str:
        name = f"vk_mem.BufferHeap {self._usage.name}"
        if os.getpid() != self._process:
            return f"<{name}, from before os.fork()>"
        if self.closed:
            return f"<{name}, closed>"
        allocated = counted(self._ranges.allocated, "byte")
        return f"<{name}, {allocated} in {counted(len(self._blocks), 'buffer')}>"


class _Block:
    """A buffer, and the numbers of the virtual block that divides it and of what watches it."""

    __slots__ = ("buffer", "is_mapped", "number", "size", "watched")

    def __init__(self, buffer: Buffer, is_mapped: bool) -> None:
        self.buffer = buffer
        self.number = self.watched = 0
        self.is_mapped = is_mapped
        self.size = buffer.size


class _Place:
    """A slice's buffer and range. `_free` releases the range, or else its finaliser."""

    __slots__ = ("block", "offset", "range")

    def __init__(self, block: _Block, range: _Range) -> None:
        self.block = block
        self.range = range
        self.offset = range.offset


_Views = Sequence["weakref.ref[Mapping]"]


def _is_open(view: weakref.ref[Mapping]) -> bool:
    mapping = view()
    return mapping is not None and not mapping.closed


class BufferSlice(BufferRange):
    """A range of a buffer of a `BufferHeap`, which owns it: bind `handle` at `offset`.

    It has all that a `BufferRange` has. While a view of it is open, `free` raises `BufferError`.
    """

    def __init__(self, heap: BufferHeap, place: _Place, size: int, name: str | None) -> None:
        self._heap = heap
        self._size = size
        self._name = name
        self._view: memoryview | None = None
        # The mapping below the view; each slice has one.
        self._mapping: weakref.ref[Mapping] | None = None
        # The mappings of `map` and `numpy`.
        self._views: list[weakref.ref[Mapping]] = []
        self._place: _Place | None = place

    def _live(self) -> _Place:
        place = self._place
        if place is None:
            raise UseAfterFreeError("the buffer slice was freed")
        if not place.block.buffer.alive:
            closed = self._heap.closed
            what = "its heap was closed" if closed else "its buffer was destroyed"
            raise UseAfterFreeError(f"the buffer slice is gone: {what}")
        return place

    def _live_place(self) -> tuple[Buffer, int]:
        place = self._live()
        return place.block.buffer, place.offset

    def _open(self, offset: int, size: int, readonly: bool) -> Mapping:
        place = self._live()
        # Without the lock, as it may run callbacks.
        mapping = place.block.buffer.map(place.offset + offset, size, readonly=readonly)
        with self._heap._lock:
            if self._place is place:
                self._views = [*filter(_is_open, self._views), weakref.ref(mapping)]
                return mapping
        mapping.close()
        raise UseAfterFreeError("the buffer slice was freed")

    @property
    def name(self) -> str | None:
        """What it was called by `BufferHeap.allocate`."""
        return self._name

    @property
    def mapped(self) -> memoryview | None:
        """Its memory, if the heap has a HOST_ACCESS flag and the memory can be mapped; else None.

        On non-coherent memory call `flush` after writing. Releasing the view flushes this slice
        only. Invalid after `free`.
        """
        place = self._live()
        if self._view is None and place.block.is_mapped:
            mapping = place.block.buffer.map(place.offset, self._size)
            self._heap._mapped.add(self)
            self._mapping = weakref.ref(mapping)
            self._view = memoryview(mapping)
        return self._view

    def free(self) -> None:
        """Releases the slice; the device must have finished using it. May be called again.

        Raises `BufferError` while a view of it is open. Raises `CorruptionError`, after it was
        freed, if its margins are checked and were written.
        """
        self._heap._check_process()
        debugger = self._heap._debugger
        with self._heap._lock:
            place = self._place
            if place is None:
                return
            if any(map(_is_open, self._views)):
                raise BufferError(f"cannot free {self!r}: an array or a view uses its memory")
            self._release_view()
            self._place = None
        self._heap._free(place)
        if debugger is not None:
            debugger.raise_found()

    def _release_view(self) -> None:
        if self._mapping is None:
            return
        # Arrays reference the mapping, not the view. The weak reference tells whether one is left.
        if self._view is not None:
            self._view.release()
            self._view = None
        still_there = self._mapping()
        if still_there is not None:
            self._view = memoryview(still_there)
            raise BufferError(f"cannot free {self!r}: an array or a view uses its memory")
        self._mapping = None

    def __enter__(self) -> Self:
        self._live()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._heap._allocator._end_block(exc_value, self.free)

    def __del__(self) -> None:
        place = getattr(self, "_place", None)
        if place is None or self._heap.closed or os.getpid() != self._heap._process:
            return
        if not place.block.buffer.alive:
            return
        # Before warning: a filter may turn the warning into an exception.
        views = self._views if self._mapping is None else [*self._views, self._mapping]
        self._heap._abandon(place, views)
        self._place = None
        warnings.warn(
            f"unclosed BufferSlice ({counted(self._size, 'byte')}): it is released when no frame "
            "in flight can use it, or with its heap",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )

    def __repr__(self) -> str:
        if self._place is None:
            return "<vk_mem.BufferSlice, freed>"
        if not self._place.block.buffer.alive:
            return "<vk_mem.BufferSlice, gone with its buffer>"
        return f"<vk_mem.BufferSlice of {counted(self._size, 'byte')} at {self._place.offset}>"
