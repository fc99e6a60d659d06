"""What transfers need of NumPy and asyncio: arrays to read and to fill, and waiting for them."""

from __future__ import annotations

import math
from operator import index
from typing import TYPE_CHECKING, Any, NamedTuple

from vk_mem._lazy import load
from vk_mem.errors import InvalidArgumentError
from vk_mem.text import counted

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from vk_mem._vk_mem import Transfer

__all__ = ["TransferStatistics"]


class TransferStatistics(NamedTuple):
    """What a `Transfers` has done so far, from `Transfers.stats()`."""

    bytes_up: int
    """Bytes from arrays to buffers."""
    bytes_down: int
    """Bytes from buffers to arrays."""
    submits: int
    """`vkQueueSubmit`s: three for each submission to the transfer queue."""
    waits: int
    """How often a ring was full, and a call waited for its oldest segment."""
    direct: int
    """Transfers through the buffer's own memory."""
    ring: int
    """Transfers through a ring."""
    imported: int
    """Transfers from and to the pages of a registered array."""
    ring_bytes: int
    """Bytes of the rings that were allocated."""
    in_flight: int
    """Transfers that have not ended."""
    on_transfer_queue: int
    """Submissions to `Device.transfer_queue`."""
    by_host: int
    """Transfers of images that the host copied itself."""


def _numpy(what: str) -> Any:
    try:
        return load("numpy")
    except ImportError as error:
        raise ImportError(
            f"{what} needs NumPy: pip install 'vk-mem[numpy]'", name="numpy"
        ) from error


def array_source(array: Any, dtype: Any, name: str) -> tuple[Any, _Converter | None, int, int]:
    """An array with the buffer protocol, or what converts it, its size and that of an element."""
    numpy = _numpy("dtype=" if dtype is not None else f"{name} of {type(array).__name__}")
    found = _as_array(numpy, array, name)
    if dtype is None:
        return found, None, 0, 0
    wanted = numpy.dtype(dtype)
    if wanted.hasobject or found.dtype.hasobject:
        raise TypeError(f"{name}: elements of {found.dtype} do not become {wanted}: no objects")
    if found.dtype == wanted:
        return found, None, 0, 0
    if not numpy.can_cast(found.dtype, wanted, "same_kind"):
        raise TypeError(
            f"{name}: elements of {found.dtype} do not become {wanted} (NumPy's 'same_kind'); use "
            f"{name}.astype({wanted.name!r})"
        )
    if wanted.itemsize == 0:
        raise TypeError(f"{name}: elements of {wanted} have no bytes")
    size = found.size * wanted.itemsize
    return found, _Converter(numpy, found, wanted), size, wanted.itemsize


def _as_array(numpy: Any, array: Any, name: str) -> Any:
    if isinstance(array, numpy.ndarray):
        return array
    if hasattr(array, "__array__") or hasattr(array, "__array_interface__"):
        return numpy.asarray(array)
    if hasattr(array, "__dlpack__"):
        try:
            return numpy.from_dlpack(array)
        except (BufferError, RuntimeError) as error:
            raise InvalidArgumentError(f"{name} is not in memory of the host: {error}") from error
    try:
        view = memoryview(array)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None
    return numpy.asarray(view)


class _Converter:
    """Writes elements of an array as those of another type."""

    __slots__ = ("_array", "_dtype", "_flat", "_numpy")

    def __init__(self, numpy: Any, array: Any, dtype: Any) -> None:
        self._numpy, self._array, self._dtype = numpy, array, dtype
        is_flat = array.ndim == 1 or array.flags.c_contiguous
        self._flat = array.reshape(-1) if is_flat else None

    def __call__(self, first_byte: int, size: int, address: int) -> None:
        memory = (load("ctypes").c_ubyte * size).from_address(address)
        target = self._numpy.frombuffer(memory, self._dtype)
        first = first_byte // self._dtype.itemsize
        if self._flat is not None:
            source = self._flat[first : first + len(target)]
        elif len(target) == self._array.size:
            source, target = self._array, target.reshape(self._array.shape)
        else:
            source = self._array.flat[first : first + len(target)]
        self._numpy.copyto(target, source, casting="same_kind")


def new_array(dtype: Any, shape: Any, available: int, size: int | None) -> Any:
    """A writable array for a download of `size` bytes, or of all that are available."""
    if dtype is None and shape is None:
        wanted = available if size is None else size
        if wanted > available:
            raise _too_large(wanted, available)
        try:
            numpy = load("numpy")
        except ImportError:
            return bytearray(wanted)
        return numpy.empty(wanted, numpy.uint8)
    numpy = _numpy("dtype=" if dtype is not None else "shape=")
    kind = numpy.dtype(numpy.uint8 if dtype is None else dtype)
    if kind.hasobject:
        raise TypeError(f"dtype is {kind}: a buffer holds no objects")
    if kind.itemsize == 0:
        raise InvalidArgumentError(f"dtype is {kind}, whose elements have no bytes")
    if shape is None:
        wanted = available if size is None else size
        if wanted % kind.itemsize:
            raise InvalidArgumentError(
                f"{counted(wanted, 'byte')} are no whole number of elements of {kind}, of "
                f"{counted(kind.itemsize, 'byte')} each"
            )
        shape = (wanted // kind.itemsize,)
    else:
        shape = tuple(map(index, shape)) if hasattr(shape, "__iter__") else (index(shape),)
        if any(side < 0 for side in shape):
            raise InvalidArgumentError(f"shape is {shape}; no side is negative")
        wanted = math.prod(shape) * kind.itemsize
        if size is not None and wanted != size:
            raise InvalidArgumentError(
                f"size is {size}; {shape} elements of {kind} have {counted(wanted, 'byte')}"
            )
    if wanted > available:
        raise _too_large(wanted, available)
    return numpy.empty(shape, kind)


def new_texels(
    dtype: Any, shape: Any, natural: tuple[str, tuple[int, ...], int, int], region: str
) -> Any:
    """A writable array for a download of texels.

    `natural` has the dtype of their components, the sides, the components of each and the bytes of
    all; `region` says in errors what they are.
    """
    component, sides, channels, size = natural
    if dtype is None and shape is None:
        try:
            numpy = load("numpy")
        except ImportError:
            return bytearray(size)
        return numpy.empty((*sides, channels), component)
    numpy = _numpy("dtype=" if dtype is not None else "shape=")
    kind = numpy.dtype(component if dtype is None else dtype)
    if kind.hasobject:
        raise TypeError(f"dtype is {kind}: an image holds no objects")
    if shape is None:
        texel = channels * numpy.dtype(component).itemsize
        if kind.itemsize == 0 or texel % kind.itemsize:
            raise InvalidArgumentError(
                f"dtype is {kind}: the {counted(texel, 'byte')} of a texel or block are no whole "
                "number of its elements"
            )
        return numpy.empty((*sides, texel // kind.itemsize), kind)
    shape = tuple(map(index, shape)) if hasattr(shape, "__iter__") else (index(shape),)
    if any(side < 0 for side in shape):
        raise InvalidArgumentError(f"shape is {shape}; no side is negative")
    wanted = math.prod(shape) * kind.itemsize
    if wanted != size:
        raise InvalidArgumentError(
            f"{region}, and {shape} elements of {kind} have {counted(wanted, 'byte')}"
        )
    return numpy.empty(shape, kind)


def _too_large(wanted: int, available: int) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{counted(wanted, 'byte')} are wanted: outside of the {counted(available, 'byte')} that "
        "are left of the buffer"
    )


def awaited(transfer: Transfer) -> Coroutine[Any, Any, Any]:
    """What `await transfer` waits for."""
    return _wait(transfer)


async def _wait(transfer: Transfer) -> Any:
    """Waits in a thread of the event loop's, so that the loop goes on meanwhile."""
    if not transfer.done():
        loop = load("asyncio").get_running_loop()
        await loop.run_in_executor(None, transfer.wait)
    return transfer.result()
