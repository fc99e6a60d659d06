"""What was held and live over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vk_mem._numpy import array_of_buffer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vk_mem._vk_mem import _TraceColumn

__all__ = ["HeapUsage", "Usage"]


class HeapUsage(NamedTuple):
    """A heap, or all of them, after each event that changed it. The arrays are of one length."""

    events: npt.NDArray[np.uint32]
    """Indices of the events: `columns.times[events]` are their times."""
    held: npt.NDArray[np.uint64]
    """Bytes of all memory objects; zeros where the trace does not say them."""
    live: npt.NDArray[np.uint64]
    """Bytes of all allocations."""


class Usage(NamedTuple):
    """What was held and live over time, as the recording says it. A replay's own has
    `ReplayReport.trace`."""

    total: HeapUsage
    """All heaps together."""
    heaps: tuple[HeapUsage, ...]
    """Each heap, if the trace describes the device; of allocations those whose place it says."""


def usage_of(columns: list[list[_TraceColumn]]) -> Usage:
    """Makes arrays of what the native module has counted."""
    total, *heaps = (HeapUsage(*(array_of_buffer(it, it.dtype) for it in each)) for each in columns)
    return Usage(total, tuple(heaps))
