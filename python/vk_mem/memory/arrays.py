"""Memory that the host sees as NumPy arrays and DLPack capsules.

NumPy is imported by the first call that needs it. The native classes and `BufferRange` call the
functions here with an object that has the methods `map` and `read_into`.
"""

from __future__ import annotations

import math
from operator import index
from typing import TYPE_CHECKING, Any, NamedTuple

from vk_mem._lazy import load
from vk_mem.errors import InvalidArgumentError, MemoryMapError
from vk_mem.text import counted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class SubresourceLayout(NamedTuple):
    """Where a subresource of a linear image lies, in bytes: `VkSubresourceLayout`."""

    offset: int
    """From the start of the image."""
    size: int
    """With the padding of its rows."""
    row_pitch: int
    """From one row of texels, or of texel blocks, to the next."""
    array_pitch: int
    """From one array layer to the next; 0 for an image with one layer."""
    depth_pitch: int
    """From one slice to the next; 0 unless the image is 3D."""


def _numpy() -> Any:
    try:
        return load("numpy")
    except ImportError as why:
        raise ImportError(
            "arrays need NumPy: pip install numpy, or use map(), read() and memoryview(), which "
            "do not",
            name=why.name,
        ) from why


def _dtype(dtype: Any) -> np.dtype[Any]:
    found: np.dtype[Any] = _numpy().dtype("u1" if dtype is None else dtype)
    if found.hasobject:
        raise TypeError(f"dtype {found} holds references to objects of this process")
    if found.itemsize == 0:
        raise InvalidArgumentError(f"dtype {found} has no size")
    return found


def _sides(shape: Any, room: int, itemsize: int) -> tuple[int, ...]:
    """The sides of an array in so many bytes; one side that is -1 takes what is left."""
    if shape is None:
        if room % itemsize:
            raise InvalidArgumentError(
                f"{counted(room, 'byte')} are no whole number of elements of "
                f"{counted(itemsize, 'byte')}: give the shape, or another size"
            )
        return (room // itemsize,)
    sides = (index(shape),) if hasattr(shape, "__index__") else tuple(index(it) for it in shape)
    if min(sides, default=0) < -1 or sides.count(-1) > 1:
        raise InvalidArgumentError(f"shape is {sides}; at most one side is -1, none less")
    if -1 not in sides:
        return sides
    known = itemsize * math.prod(side for side in sides if side != -1)
    if known == 0 or room % known:
        raise InvalidArgumentError(
            f"shape is {sides}: {counted(room, 'byte')} are no whole number of "
            f"{counted(known, 'byte')}"
        )
    return tuple(room // known if side == -1 else side for side in sides)


def _unsigned(value: Any, name: str) -> int:
    number = index(value)
    if number < 0:
        raise InvalidArgumentError(f"{name} is {number}; it must not be negative")
    return number


def _fitting(whole: int, offset: int, size: int) -> None:
    if offset + size > whole:
        raise InvalidArgumentError(
            f"an array of {counted(size, 'byte')} at offset {offset}: outside of "
            f"{counted(whole, 'byte')}"
        )


def _array(mapping: Any, dtype: Any, shape: tuple[int, ...], strides: Any = None) -> Array:
    """An array over a mapping, which it keeps open by a view that nobody can close."""
    numpy = _numpy()
    held = numpy.frombuffer(mapping, "u1") if len(mapping) else numpy.empty(0, "u1")
    array: Array = numpy.ndarray(shape, dtype, held, 0, strides)
    return array


def view_array(whole: Any, size: int, dtype: Any, shape: Any, offset: Any, readonly: bool) -> Array:
    """A view of the memory of `whole`, which has `size` bytes."""
    found = _dtype(dtype)
    offset = 0 if offset is None else _unsigned(offset, "offset")
    sides = _sides(shape, max(size - offset, 0), found.itemsize)
    length = math.prod(sides) * found.itemsize
    _fitting(size, offset, length)
    return _array(whole.map(offset, length, readonly=readonly), found, sides)


def read_array(
    whole: Any, size: int, offset: int, length: int | None, dtype: Any, shape: Any
) -> Array:
    """A new array with a copy of `length` bytes of `whole`, which has `size` bytes."""
    found = _dtype(dtype)
    room = max(size - offset, 0) if length is None else length
    sides = _sides(shape, room, found.itemsize)
    needed = math.prod(sides) * found.itemsize
    if length is not None and needed != length:
        raise InvalidArgumentError(
            f"size is {length}, and an array of shape {sides} has {counted(needed, 'byte')}"
        )
    _fitting(size, offset, needed)
    array: Array = _numpy().empty(sides, found)
    if needed:
        whole.read_into(array, offset)
    return array


def texel_array(
    image: Any,
    offset: int,
    size: int,
    dtype: str,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    readonly: bool,
) -> Array:
    """A view of `size` bytes of a linear image, with the strides of its texels."""
    _numpy()
    return _array(image.map(offset, size, readonly=readonly), dtype, shape, strides)


def array_of(whole: Any, dtype: Any, copy: bool | None) -> Array:
    """The `__array__` of `whole`: its `numpy()`, or a copy where that or a dtype asks for one."""
    array: Array = whole.numpy(readonly=bool(copy))
    if dtype is not None and _numpy().dtype(dtype) != array.dtype:
        if copy is False:
            raise ValueError(
                f"the memory is seen as {array.dtype}: as {_numpy().dtype(dtype)} it has to be "
                "converted, which is a copy; numpy(dtype) sees the same bytes so"
            )
        return array.astype(dtype)
    return array.copy() if copy else array


def dlpack_of(whole: Any, **options: Any) -> Any:
    """The `__dlpack__` of `whole`: of an image with its texels, else of the bytes."""
    try:
        if hasattr(whole, "subresource_layout"):
            tensor = whole.numpy()
        else:
            tensor = whole.map(readonly=options.get("copy") is True)
    except MemoryMapError as why:
        raise BufferError(str(why)) from why
    return tensor.__dlpack__(**{key: it for key, it in options.items() if it is not None})
