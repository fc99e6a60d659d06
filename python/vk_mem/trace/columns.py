"""The events of a trace as NumPy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vk_mem._numpy import array_of_buffer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vk_mem._vk_mem import _TraceData

    U1 = npt.NDArray[np.uint8]
    U2 = npt.NDArray[np.uint16]
    U4 = npt.NDArray[np.uint32]
    U8 = npt.NDArray[np.uint64]

__all__ = ["Columns"]


class Columns:
    """The fields of all events, each as an array whose entry i belongs to event i.

    The arrays are views of the trace, which they keep, and cannot be written. Numbers of objects
    are 4294967295 (2^32 - 1) where there is none. What is not here has the event: `trace[i]`.
    """

    __slots__ = ("_arrays", "_data")

    def __init__(self, data: _TraceData) -> None:
        self._data = data
        self._arrays: dict[str, Any] = {}

    def _column(self, name: str) -> Any:
        found = self._arrays.get(name)
        if found is None:
            column = self._data.column(name)
            found = self._arrays[name] = array_of_buffer(column, column.dtype)
        return found

    @property
    def kinds(self) -> U1:
        """Kinds of events by their numbers: `KINDS[number]` is the class."""
        found: U1 = self._column("kinds")
        return found

    @property
    def flags(self) -> U1:
        """Bit 0: it tells what existed before the recording; bit 1: the place is known; bit 2: the
        allocation has a memory object of its own."""
        found: U1 = self._column("flags")
        return found

    @property
    def memory_types(self) -> U1:
        """Indices into the device's memory types; 255 where it is not known."""
        found: U1 = self._column("memory_types")
        return found

    @property
    def allocators(self) -> U2:
        """Numbers of allocators; the device in snapshots of PyTorch."""
        found: U2 = self._column("allocators")
        return found

    @property
    def threads(self) -> U4:
        """Numbers of threads."""
        found: U4 = self._column("threads")
        return found

    @property
    def sequences(self) -> U8:
        """Positions in the order of all calls; gaps are events that were not kept."""
        found: U8 = self._column("sequences")
        return found

    @property
    def times(self) -> U8:
        """Times in nanoseconds since the start of the recording."""
        found: U8 = self._column("times")
        return found

    @property
    def frames(self) -> U8:
        """Indices of frames."""
        found: U8 = self._column("frames")
        return found

    @property
    def sites(self) -> U4:
        """Numbers of call sites: `trace.stack(number)`."""
        found: U4 = self._column("sites")
        return found

    @property
    def objects(self) -> U4:
        """Numbers of allocations or virtual allocations; of pools for the events of those."""
        found: U4 = self._column("objects")
        return found

    @property
    def requests(self) -> U4:
        """Numbers of requests: `trace.request(number)`."""
        found: U4 = self._column("requests")
        return found

    @property
    def sizes(self) -> U8:
        """Sizes in bytes, or in units of virtual blocks; 0 where it is not known."""
        found: U8 = self._column("sizes")
        return found

    @property
    def buffer_sizes(self) -> U8:
        """`VkBufferCreateInfo::size` in bytes, 0 where it is not known or no buffer; for virtual
        allocations their block in a set."""
        found: U8 = self._column("buffer_sizes")
        return found

    @property
    def offsets(self) -> U8:
        """Offsets in memory objects or virtual blocks, of flushed ranges in their allocation."""
        found: U8 = self._column("offsets")
        return found

    @property
    def memories(self) -> U4:
        """Numbers of memory objects; of virtual blocks and sets for the events of those."""
        found: U4 = self._column("memories")
        return found
