"""Ranges of a buffer: what `buffer[a:b]` gives, and what a `BufferSlice` is."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any, overload

from vk_mem._no_copies import NoCopies
from vk_mem._typing import SupportsArrayInterface
from vk_mem._vk_mem import Buffer, Mapping, Resource, _HostBytes
from vk_mem.errors import InvalidArgumentError
from vk_mem.memory.arrays import array_of, dlpack_of, read_array, view_array
from vk_mem.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt
    from typing_extensions import Buffer as PythonBuffer

    from vk_mem._typing import ArrayLike


def unsigned(value: Any, name: str) -> int:
    """Converts a size, offset or alignment like the native calls do, with the same errors."""
    # Buffers have `__index__`, but only as handles.
    try:
        if isinstance(value, Resource):
            raise TypeError
        number = index(value)
    except TypeError:
        kind = type(value).__name__
        raise TypeError(f"{name} must be an integer, not {kind}") from None
    if number < 0:
        raise InvalidArgumentError(f"{name} is {number}; it must not be negative")
    if number >= 1 << 64:
        raise InvalidArgumentError(f"{name} is {number}; it does not fit 64 bits")
    return number


class BufferRange(NoCopies, _HostBytes):
    """A range of a buffer: `buffer[a:b]`. Bind `handle` at `offset`.

    Calls that take a buffer take a range as well; offsets count from its start, and sizes end with
    it. It owns nothing: it keeps the Python object of the buffer alive, and after the end of that
    raises what the buffer raises.
    """

    def __init__(self, buffer: Buffer | BufferRange, offset: int = 0, size: int | None = None):
        whole = buffer.size
        self._start = unsigned(offset, "offset")
        rest = max(whole - self._start, 0)
        self._size = rest if size is None else unsigned(size, "size")
        if self._start + self._size > whole:
            raise InvalidArgumentError(
                f"{counted(self._size, 'byte')} at offset {self._start}: outside of "
                f"{counted(whole, 'byte')}"
            )
        self._whole = buffer
        # A range of a range is one of what that is a range of.
        if type(buffer) is BufferRange:
            self._whole, self._start = buffer._whole, self._start + buffer._start

    def _live_place(self) -> tuple[Buffer, int]:
        """The buffer, and where the range starts in it. Raises after the end."""
        whole = self._whole
        if isinstance(whole, BufferRange):
            buffer, start = whole._live_place()
            return buffer, start + self._start
        # Raises after its end.
        _ = whole.size
        return whole, self._start

    def _open(self, offset: int, size: int, readonly: bool) -> Mapping:
        """Maps a part, in bytes from the start of the range."""
        offset += self._start
        if isinstance(self._whole, BufferRange):
            return self._whole._open(offset, size, readonly)
        return self._whole.map(offset, size, readonly=readonly)

    @property
    def buffer(self) -> Buffer:
        """The buffer it is a part of."""
        return self._live_place()[0]

    @property
    def handle(self) -> int:
        """The `VkBuffer`."""
        return self.buffer.handle

    @property
    def offset(self) -> int:
        """Start in the buffer, in bytes."""
        return self._live_place()[1]

    @property
    def size(self) -> int:
        """Size in bytes."""
        self._live_place()
        return self._size

    @property
    def nbytes(self) -> int:
        """Size in bytes, like `size`."""
        return self.size

    @property
    def device_address(self) -> int:
        """Address for shaders; see `Buffer.device_address`."""
        buffer, start = self._live_place()
        return buffer.device_address + start

    def map(
        self, offset: int | None = None, size: int | None = None, *, readonly: bool = False
    ) -> Mapping:
        """Maps the range, or `size` bytes from `offset` on; see `Buffer.map`."""
        self._live_place()
        return self._open(*self._part(offset, size), readonly)

    def write(self, data: PythonBuffer | SupportsArrayInterface, offset: int | None = None) -> None:
        """Copies a contiguous buffer of any Python object into the range and flushes it.

        Raises `InvalidArgumentError` if it does not fit, `MemoryMapError` if the memory cannot be
        mapped, `TypeError` for an array of objects or pointers.
        """
        buffer, start = self._live_place()
        buffer._write_part(data, offset, start, self._size)

    @overload
    def read(self, offset: int | None = None, size: int | None = None) -> bytes: ...
    @overload
    def read(
        self,
        offset: int | None = None,
        size: int | None = None,
        *,
        dtype: npt.DTypeLike,
        shape: int | tuple[int, ...] | None = None,
    ) -> npt.NDArray[Any]: ...
    @overload
    def read(
        self,
        offset: int | None = None,
        size: int | None = None,
        *,
        shape: int | tuple[int, ...],
    ) -> npt.NDArray[Any]: ...
    def read(
        self,
        offset: int | None = None,
        size: int | None = None,
        *,
        dtype: npt.DTypeLike | None = None,
        shape: int | tuple[int, ...] | None = None,
    ) -> bytes | npt.NDArray[Any]:
        """Returns a copy of `size` bytes from `offset` on; up to the end without a size.

        With a dtype or a shape it is a new NumPy array. Raises what `write` raises.
        """
        buffer, start = self._live_place()
        start_of_part = 0 if offset is None else unsigned(offset, "offset")
        if dtype is None and shape is None:
            start_of_part, length = self._part(offset, size)
            return buffer.read(start + start_of_part, length)
        part = None if size is None else unsigned(size, "size")
        return read_array(self, self._size, start_of_part, part, dtype, shape)

    def read_into(
        self, target: PythonBuffer | SupportsArrayInterface, offset: int | None = None
    ) -> None:
        """Fills a writable contiguous buffer of any Python object from `offset` on.

        Raises what `write` raises.
        """
        buffer, start = self._live_place()
        buffer._read_part_into(target, offset, start, self._size)

    def upload(
        self,
        array: ArrayLike,
        offset: int | None = None,
        *,
        dtype: Any = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        """Copies an array into the range, and waits for the device; see `Buffer.upload`."""
        transfers = self.buffer._transfers
        transfers.upload(array, self, offset, dtype=dtype, progress=progress).result()

    def download(
        self,
        dtype: Any = None,
        shape: int | Iterable[int] | None = None,
        *,
        offset: int | None = None,
        size: int | None = None,
        out: PythonBuffer | SupportsArrayInterface | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> Any:
        """Copies the range into a new array, and waits for it; see `Buffer.download`."""
        begun = self.buffer._transfers.download(
            self, dtype, shape, offset=offset, size=size, out=out, progress=progress
        )
        return begun.result()

    def flush(self, offset: int | None = None, size: int | None = None) -> None:
        """Flushes `size` bytes from `offset` on; up to the end of the range without a size.

        Raises `InvalidArgumentError` outside of the range.
        """
        buffer, start = self._live_place()
        offset, size = self._part(offset, size)
        buffer.flush(start + offset, size)

    def invalidate(self, offset: int | None = None, size: int | None = None) -> None:
        """Makes what the device wrote there visible in open views.

        Host writes that were not flushed are lost. Raises what `flush` raises.
        """
        buffer, start = self._live_place()
        offset, size = self._part(offset, size)
        buffer.invalidate(start + offset, size)

    def numpy(
        self,
        dtype: npt.DTypeLike | None = None,
        shape: int | tuple[int, ...] | None = None,
        *,
        offset: int | None = None,
        readonly: bool = False,
    ) -> npt.NDArray[Any]:
        """Returns a NumPy array that is a view of the range; see `Buffer.numpy`."""
        self._live_place()
        return view_array(self, self._size, dtype, shape, offset, readonly)

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        return array_of(self, dtype, copy)

    def __dlpack__(self, **options: Any) -> Any:
        """Returns a DLPack capsule of the bytes; see `Mapping.__dlpack__`."""
        return dlpack_of(self, **options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.buffer.__dlpack_device__()

    def __bytes__(self) -> bytes:
        return self.read()

    def __len__(self) -> int:
        return self.size

    def __bool__(self) -> bool:
        # As of any object, also after the end of its buffer.
        return True

    def __getitem__(self, index: slice) -> BufferRange:
        return range_of(self, self.size, index)

    def _part(self, offset: int | None, size: int | None) -> tuple[int, int]:
        """Checks a part of the range: its offset and size, up to the end without a size."""
        whole = self._size
        offset = 0 if offset is None else unsigned(offset, "offset")
        size = max(whole - offset, 0) if size is None else unsigned(size, "size")
        if offset + size > whole:
            raise InvalidArgumentError(
                f"{counted(size, 'byte')} at offset {offset}: outside of a slice of "
                f"{counted(whole, 'byte')}"
            )
        return offset, size

    def __repr__(self) -> str:
        whole, start = self._whole, self._start
        return f"<vk_mem.BufferRange of {counted(self._size, 'byte')} at {start} of {whole!r}>"


def range_of(whole: Buffer | BufferRange, size: int, index: object) -> BufferRange:
    """What indexing a buffer, or a range of one, of so many bytes gives."""
    kind = type(index).__name__
    if not isinstance(index, slice):
        raise TypeError(
            f"a buffer is not indexed by {kind}: buffer[0:64] is a range of bytes, and numpy() "
            "gives an array of elements"
        )
    for bound in (index.start, index.stop, index.step):
        if isinstance(bound, Resource):
            raise TypeError(f"a bound of a range must be a number, not {type(bound).__name__}")
    start, stop, step = index.indices(size)
    if step != 1:
        raise InvalidArgumentError(f"the step is {step}; that of a range of a buffer is 1")
    return BufferRange(whole, start, max(stop - start, 0))
