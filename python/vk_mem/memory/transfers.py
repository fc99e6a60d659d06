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

# In seconds, between two questions whether an awaited transfer has ended.
_FIRST_PAUSE = 0.0002
_LONGEST_PAUSE = 0.01


class TransferStatistics(NamedTuple):
    """What a `Transfers` has done so far, from `Transfers.stats()`."""

    bytes_up: int
    """Bytes from arrays to buffers and images, by all ways."""
    bytes_down: int
    """Bytes from buffers and images to arrays, by all ways."""
    submits: int
    """`vkQueueSubmit`s: three for each submission to the transfer queue."""
    waits: int
    """How often a ring was full, and a call waited for its oldest segment."""
    direct: int
    """Transfers through the own memory of the buffer or image, which the host reads or writes."""
    ring: int
    """Transfers through a ring."""
    imported: int
    """Transfers from and to the pages of a registered array."""
    ring_bytes: int
    """Bytes that its rings have now: each is allocated when it is first needed."""
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


def array_source(
    array: Any, dtype: Any, name: str
) -> tuple[Any, tuple[_Converter, int, int, tuple[int, int]] | None]:
    """An array with the buffer protocol, and what converts it if it is of another dtype.

    The conversion comes with the bytes that it makes, those of an element, and the addresses that
    it reads between.
    """
    if hasattr(array, "__cuda_array_interface__"):
        raise InvalidArgumentError(
            f"{name}: its memory is a GPU's: copy it to the host first (cupy.asnumpy, tensor.cpu())"
        )
    numpy = _numpy("dtype=" if dtype is not None else f"{name} of {type(array).__name__}")
    found = _as_array(numpy, array, name)
    if dtype is None:
        return found, None
    wanted = numpy.dtype(dtype)
    if wanted.hasobject or found.dtype.hasobject:
        raise TypeError(f"{name}: elements of {found.dtype} do not become {wanted}: no objects")
    if found.dtype == wanted:
        return found, None
    if not numpy.can_cast(found.dtype, wanted, "same_kind"):
        raise TypeError(
            f"{name}: elements of {found.dtype} do not become {wanted} (NumPy's 'same_kind'); use "
            f"{name}.astype({wanted.name!r})"
        )
    if wanted.itemsize == 0:
        raise TypeError(f"{name}: elements of {wanted} have no bytes")
    size = found.size * wanted.itemsize
    return found, (_Converter(numpy, found, wanted), size, wanted.itemsize, _bounds(found))


def _bounds(array: Any) -> tuple[int, int]:
    """The lowest address of an array's elements, and that behind the highest."""
    start = array.__array_interface__["data"][0]
    if array.size == 0:
        return start, start
    reaches = [(side - 1) * s for side, s in zip(array.shape, array.strides, strict=True)]
    low = start + sum(reach for reach in reaches if reach < 0)
    return low, start + sum(reach for reach in reaches if reach > 0) + array.itemsize


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
    except TypeError:
        raise TypeError(
            f"{name}: a value of type {type(array).__name__} is no array: pass "
            "numpy.asarray(value), or anything with the buffer protocol, __array__ or DLPack"
        ) from None
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
        return numpy.empty(sides if channels == 1 else (*sides, channels), component)
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
        count = texel // kind.itemsize
        return numpy.empty(sides if count == 1 else (*sides, count), kind)
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
    """Asks now and then, and takes no thread: any number of transfers may be awaited at a time.

    A transfer of an open batch is submitted first, as `Transfer.wait` does.
    """
    if not transfer.done() and not transfer.wait(0):
        sleep = load("asyncio").sleep
        pause = _FIRST_PAUSE
        while not transfer.done():
            await sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
    return transfer.result()
