"""Counts the calls of vkAllocateMemory and vkFreeMemory that reach the driver.

A program's own go through its binding, whose functions `count_binding` wraps. Those of an allocator
go through the loader's function: pass `get_instance_proc_addr` to `Device.wrap`.
"""

from __future__ import annotations

import ctypes
from typing import Any

calls = {"vkAllocateMemory": 0, "vkFreeMemory": 0}

_Look = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
_KINDS = {
    b"vkAllocateMemory": ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 4),
    b"vkFreeMemory": ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3),
}
_loader = _Look(("vkGetInstanceProcAddr", ctypes.CDLL("libvulkan.so.1")))
_kept: list[Any] = []  # What the other side calls must not be collected.


def _address(function: Any) -> int | None:
    _kept.append(function)
    return ctypes.cast(function, ctypes.c_void_p).value


def _counted(name: bytes, real: Any) -> int | None:
    def call(*arguments: Any) -> Any:
        calls[name.decode()] += 1
        return real(*arguments)

    return _address(_KINDS[name](call))


@_Look
def get_instance_proc_addr(instance: int, name: bytes) -> int | None:
    found = _loader(instance, name)
    if name != b"vkGetDeviceProcAddr":
        return found
    real = _Look(found)

    def of_device(device: int, name: bytes) -> int | None:
        found = real(device, name)
        return _counted(name, _KINDS[name](found)) if found and name in _KINDS else found

    return _address(_Look(of_device))


def count_binding(binding: Any) -> None:
    """To be called before the program imports anything from the binding."""

    def count(name: str, real: Any) -> None:
        def wrapped(*arguments: Any) -> Any:
            calls[name] += 1
            return real(*arguments)

        setattr(binding, name, wrapped)

    for name in calls:
        count(name, getattr(binding, name))
