"""What a report about memory says of an allocation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from vk_mem._vk_mem import Allocation, Buffer, Image, _HostBytes

__all__ = ["AllocationRecord"]


@dataclass(frozen=True, slots=True)
class AllocationRecord:
    """What `CorruptionError` says of an allocation: one that is live, or in quarantine."""

    kind: str
    """`Buffer`, `Image`, `Allocation` or `BufferSlice`; `Memory` for what the library itself has
    allocated."""
    name: str | None
    size: int | None
    """Size of its memory in bytes; None if it is not known."""
    offset: int | None
    """Where it begins in its memory object, a slice in its buffer, in bytes; None if unknown."""
    frame: int | None
    """`current_frame_index` when it was created."""
    age: float | None
    """Seconds from its creation to the report."""
    call_site: str | None
    """Where it was created, if `track_call_sites` is set: one `file:line in function` per line,
    innermost first."""
    freed_frame: int | None = None
    """`current_frame_index` when it was freed; None for what is live."""
    freed_age: float | None = None
    """Seconds from its end to the report; None for what is live."""
    freed_call_site: str | None = None
    """Where it was freed, if `track_call_sites` is set."""
    _object: Callable[[], Any] | None = field(default=None, repr=False, compare=False)

    @property
    def allocation(self) -> Buffer | Image | Allocation | _HostBytes | None:
        """The object; None if it does not exist any more."""
        found: Buffer | Image | Allocation | _HostBytes | None = (
            self._object() if self._object else None
        )
        return found

    def __reduce__(self) -> tuple[type[AllocationRecord], tuple[object, ...]]:
        # Without the object, which cannot be copied.
        values = (
            self.kind,
            self.name,
            self.size,
            self.offset,
            self.frame,
            self.age,
            self.call_site,
            self.freed_frame,
            self.freed_age,
            self.freed_call_site,
        )
        return AllocationRecord, values
