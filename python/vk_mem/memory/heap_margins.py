"""Margins between the slices of a `BufferHeap`: written when a slice is made, checked later."""

from __future__ import annotations

import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from vk_mem._records import AllocationRecord
from vk_mem._vk_mem import Allocator, Buffer, Transfer, _margin_pattern
from vk_mem.debugging.options import Debug, refuse_all_but
from vk_mem.errors import (
    CorruptionError,
    CorruptionWarning,
    DeviceLostError,
    FeatureNotPresentError,
    InvalidArgumentError,
    VkMemError,
)
from vk_mem.flags import AllocationCreateFlags, MemoryPropertyFlags
from vk_mem.text import counted

if TYPE_CHECKING:
    from vk_mem.memory.buffer_range import BufferRange

MOST_FOUND = 64
"""Bytes of an overwritten margin that an error has."""
MOST_SHOWN = 16
"""Bytes of these that its text has."""
MOST_READ = 1 << 20
"""Bytes that are read of a buffer at once."""
ALLOWED = ("margin", "detect_corruption")


def debug_of_heap(debug: Debug | None, allocator: Allocator) -> Debug:
    """Returns the margins of a heap: what is given, else those of its allocator."""
    if debug is None:
        its = allocator.debug
        if its is None:
            return Debug()
        return Debug(margin=its.margin, detect_corruption=its.detect_corruption)
    debug = refuse_all_but(debug, ALLOWED, "a BufferHeap")
    if debug.margin % 4:
        raise InvalidArgumentError(f"margin is {debug.margin}, not a multiple of 4 bytes")
    return debug


@dataclass(slots=True)
class Guarded:
    """A live slice whose margins hold the pattern."""

    offset: int
    size: int
    frame: int
    made: float
    call_site: str | None
    told: frozenset[tuple[object, ...]] = frozenset()
    slice: weakref.ref[BufferRange] | None = None

    def record(self, name: str | None, now: float) -> AllocationRecord:
        """Returns what a report says of it."""
        age = now - self.made
        return AllocationRecord(
            "BufferSlice",
            name,
            self.size,
            self.offset,
            self.frame,
            age,
            self.call_site,
            _object=self.slice,
        )


class GuardedBuffer:
    """A buffer of a heap: which of its slices have margins that hold the pattern."""

    __slots__ = ("buffer", "is_coherent", "is_mapped", "number", "slices")

    def __init__(self, buffer: Buffer, is_mapped: bool, number: int) -> None:
        self.buffer, self.is_mapped, self.number = buffer, is_mapped, number
        properties = buffer.allocation.memory_properties
        self.is_coherent = MemoryPropertyFlags.HOST_COHERENT in properties
        # By offset. An entry may be left of a slice whose creation was interrupted, until its range
        # is freed: its margins hold the pattern as well.
        self.slices: dict[int, Guarded] = {}


class _Margin(NamedTuple):
    slice: Guarded
    region: Literal["before", "behind"]
    offset: int


class HeapMargins:
    """Writes and checks the margins of one heap, whose lock is held in each call."""

    def __init__(self, allocator: Allocator, debug: Debug, key: int, flags: int) -> None:
        self.allocator, self.size, self.key = allocator, debug.margin, key
        self.is_checked = debug.detect_corruption and debug.margin > 0
        # Where the host may only write, a strict allocator refuses to read.
        is_readable = bool(flags & AllocationCreateFlags.HOST_ACCESS_RANDOM)
        self.uses_device = allocator.strict_host_access and not is_readable
        visible = MemoryPropertyFlags.HOST_VISIBLE
        both = visible | MemoryPropertyFlags.HOST_COHERENT
        types = allocator.device.memory_properties.memory_types
        # There the host and the device may see other bytes, and both are looked at.
        self.looks_twice = any(it.property_flags & both == visible for it in types)
        self._buffers = 0
        self._kept: list[CorruptionError | str] = []

    def reads_by_device(self, is_mapped: bool) -> bool:
        """Whether the device may have to copy margins."""
        return self.is_checked and (not is_mapped or self.uses_device or self.looks_twice)

    def begin(self, buffer: Buffer, is_mapped: bool) -> GuardedBuffer | None:
        """Begins a buffer; None if margins are not checked."""
        if not self.is_checked:
            return None
        self._buffers += 1
        return GuardedBuffer(buffer, is_mapped and not self.uses_device, self._buffers)

    def write(self, within: GuardedBuffer | None, offset: int, size: int) -> Guarded | None:
        """Writes the margins of a new slice."""
        if within is None or not self.is_checked:
            return None
        allocator, buffer = self.allocator, within.buffer
        frame, site = allocator.current_frame_index, allocator._call_site()
        made = Guarded(offset, size, frame, time.monotonic(), site)
        places = [it.offset for it in self._margins(made)]
        parts = [self._pattern(within, at, self.size) for at in places]
        try:
            if within.is_mapped:
                for part, at in zip(parts, places, strict=True):
                    buffer.write(part, at)
            else:
                transfers = buffer._transfers
                for begun in transfers.upload_many(parts, [buffer] * len(parts), places):
                    begun.result()
        except FeatureNotPresentError as error:
            self.is_checked = False
            text = f"debug: the margins of a BufferHeap are neither written nor checked: {error}"
            warnings.warn(text, CorruptionWarning, stacklevel=4)
            return None
        within.slices[offset] = made
        return made

    def check_freed(self, within: GuardedBuffer | None, offset: int) -> CorruptionError | None:
        """Checks the margins of a slice that is being freed, and forgets it."""
        entry = None if within is None else within.slices.get(offset)
        if within is None or entry is None:
            return None
        try:
            found = list(self._faults(within, [entry], only_new=True))
        except DeviceLostError:
            # Nothing can be read any more, and what frees memory has to go on.
            return None
        finally:
            within.slices.pop(offset, None)
        if not found:
            return None
        found[0].others = tuple(found[1:])
        return found[0]

    def check(
        self, buffers: Iterable[GuardedBuffer], *, only_new: bool = False
    ) -> tuple[int, list[CorruptionError]]:
        """Checks all margins. Returns their number and what was found, or what was not told yet."""
        count = 0
        errors: list[CorruptionError] = []
        for within in buffers:
            if within.buffer.alive:
                count += 2 * len(within.slices)
                errors += self._faults(within, within.slices.values(), only_new)
        return count, errors

    def keep(self, free: Callable[[], CorruptionError | None]) -> None:
        """Frees what has no owner any more, and keeps what was found, as no caller waits for it."""
        try:
            found = free()
        except VkMemError as error:
            self._kept.append(f"debug: the margins of a slice cannot be checked: {error}")
            return
        if found is not None:
            self._kept.append(found)

    def tell_kept(self) -> None:
        """Tells what was kept. The lock is not held, as callbacks run."""
        kept, self._kept = self._kept, []
        for it in kept:
            self.tell(it)

    def tell(self, found: CorruptionError | str) -> None:
        """Passes an error to the callback of the allocator, else to a warning."""
        others = () if isinstance(found, str) else found.others
        for it in (found, *others):
            if isinstance(it, str) or not self.allocator._tell_corruption(it):
                warnings.warn(str(it), CorruptionWarning, stacklevel=4)

    def _margins(self, of: Guarded) -> tuple[_Margin, _Margin]:
        return (
            _Margin(of, "before", of.offset - self.size),
            _Margin(of, "behind", of.offset + of.size),
        )

    def _pattern(self, within: GuardedBuffer, offset: int, size: int) -> bytes:
        return _margin_pattern(self.key, within.number, offset, size)

    def _faults(
        self, within: GuardedBuffer, slices: Iterable[Guarded], only_new: bool
    ) -> Iterator[CorruptionError]:
        margins = sorted((it for of in slices for it in self._margins(of)), key=_offset_of)
        wanted = [self._pattern(within, it.offset, self.size) for it in margins]
        read = self._read_mapped if within.is_mapped else self._read_by_device
        found = list(read(within.buffer, margins))
        if within.is_mapped and not within.is_coherent:
            self._add_view_of_device(within.buffer, margins, wanted, found)
        for margin, content, expected in zip(margins, found, wanted, strict=True):
            if content != expected:
                error = self._error(within, margin, content, expected)
                fault, of = (error.region, error.offset, error.length, error.count), margin.slice
                is_new = fault not in of.told
                of.told |= {fault}
                if is_new or not only_new:
                    yield error

    def _add_view_of_device(
        self, buffer: Buffer, margins: list[_Margin], wanted: list[bytes], found: list[bytes]
    ) -> None:
        """Replaces what the host finds intact by what the device sees, which may differ."""
        intact = [at for at, it in enumerate(found) if it == wanted[at]]
        begun: list[tuple[int, bytearray, Transfer]] = []
        # A device without a queue cannot copy: then what the host sees has to do.
        with suppress(FeatureNotPresentError):
            for at in intact:
                # Each alone: what lies between them may hold what the host has not flushed yet.
                offset, view = margins[at].offset, bytearray(self.size)
                transfer = buffer._transfers.download(
                    buffer, offset=offset, size=self.size, out=view, way="ring"
                )
                begun.append((at, view, transfer))
        for at, view, transfer in begun:
            transfer.result()
            found[at] = bytes(view)

    def _read_mapped(self, buffer: Buffer, margins: list[_Margin]) -> Iterator[bytes]:
        """Reads what the host sees. An invalidate would lose what it has not flushed yet."""
        import ctypes

        # A mapping of no bytes pins the memory and invalidates nothing.
        mapping = buffer.map(0, 0, readonly=True)
        try:
            for margin in margins:
                yield ctypes.string_at(mapping.address + margin.offset, self.size)
        finally:
            mapping.close()

    def _read_by_device(self, buffer: Buffer, margins: list[_Margin]) -> Iterator[bytes]:
        """Copies by the device, together, all margins that lie within so many bytes."""
        at = 0
        while at < len(margins):
            start, first = margins[at].offset, at
            while at < len(margins) and margins[at].offset + self.size - start <= MOST_READ:
                at += 1
            at = max(at, first + 1)
            size = margins[at - 1].offset + self.size - start
            whole = bytearray(size)
            buffer._transfers.download(buffer, offset=start, size=size, out=whole).result()
            for margin in margins[first:at]:
                yield bytes(whole[margin.offset - start :][: self.size])

    def _error(
        self, within: GuardedBuffer, margin: _Margin, content: bytes, expected: bytes
    ) -> CorruptionError:
        wrong = [i for i, (a, b) in enumerate(zip(content, expected, strict=True)) if a != b]
        first, last, of = wrong[0], wrong[-1], margin.slice
        now, name = time.monotonic(), within.buffer.name
        others = [it for it in within.slices.values() if it is not of]
        before = max((it for it in others if it.offset < of.offset), key=_offset_of, default=None)
        after = min((it for it in others if it.offset > of.offset), key=_offset_of, default=None)
        figures: dict[str, Any] = {
            "record": of.record(name, now),
            "region": margin.region,
            "offset": margin.offset + first - of.offset,
            "length": last - first + 1,
            "count": len(wrong),
            "found": content[first : last + 1][:MOST_FOUND],
            "expected": expected[first : last + 1][:MOST_FOUND],
            "before": None if before is None else before.record(name, now),
            "after": None if after is None else after.record(name, now),
            "memory_type_index": within.buffer.allocation.memory_type_index,
        }
        return CorruptionError("\n".join(_lines(figures, self.size, name)), **figures)


def _offset_of(it: Guarded | _Margin) -> int:
    return it.offset


def _lines(it: dict[str, Any], margin: int, name: str | None) -> Iterator[str]:
    """The report: what was written, and what is known of the slice and of those beside it."""
    record: AllocationRecord = it["record"]
    count, offset, length = it["count"], it["offset"], it["length"]
    where = f"{_described(record)} at {record.offset} of {'a buffer' if name is None else name!r}"
    was = "was" if count == 1 else "were"
    away = -offset if offset < 0 else offset - (record.size or 0)
    place = "before its start" if offset < 0 else f"past its end, at offset {offset}"
    run = "" if length == 1 else f", the last one {counted(length - 1, 'byte')} further"
    yield (
        f"{where} (memory type {it['memory_type_index']}): {count} of the "
        f"{counted(margin, 'byte')} {it['region']} it {was} overwritten, the first one "
        f"{counted(away, 'byte')} {place}{run}"
    )
    yield f"  found {_hex(it['found'])}, expected {_hex(it['expected'])}"
    yield f"  {_made(record)}"
    for side, key in (("before", "before"), ("behind", "after")):
        other: AllocationRecord | None = it[key]
        if other is None:
            yield f"  {side} it: no slice"
        else:
            yield f"  {side} it: {_described(other)} at {other.offset}, {_made(other)}"
    if record.call_site is None:
        yield "  Allocator(track_call_sites=True) makes a report say where all that was done"


def _described(record: AllocationRecord) -> str:
    return f"BufferSlice ({counted(record.size or 0, 'byte')})"


def _made(record: AllocationRecord) -> str:
    age = record.age or 0.0
    shown = f"{age * 1000:.0f} ms" if age < 1 else f"{age:.1f} s"
    site = record.call_site
    at = "" if site is None else f", at {site.replace(chr(10), ', called from ')}"
    return f"created in frame {record.frame}, {shown} earlier{at}"


def _hex(content: bytes) -> str:
    return content[:MOST_SHOWN].hex(" ") + (" ..." if len(content) > MOST_SHOWN else "")
