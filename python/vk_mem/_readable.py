"""Reads memory at any address: an unmapped address gives None instead of a segmentation fault."""

from __future__ import annotations

import ctypes
import os

__all__ = ["read_memory"]


def read_memory(address: int, size: int) -> bytes | None:
    """Copies `size` bytes (at most 4096) of this process from `address`; None if not readable.

    A system call copies them, which fails where a direct read would crash. Raises `OSError` if the
    process has no file descriptors left.
    """
    if not 0 < address < (1 << (8 * ctypes.sizeof(ctypes.c_void_p))) - size:
        return None
    return _read_on_windows(address, size) if os.name == "nt" else _read_on_posix(address, size)


def _read_on_posix(address: int, size: int) -> bytes | None:
    write = ctypes.CDLL(None).write
    write.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    write.restype = ctypes.c_ssize_t
    # A pipe always has room for 4096 bytes, and no other writer uses this one.
    reader, writer = os.pipe()
    try:
        if write(writer, address, size) != size:
            return None
        return os.read(reader, size)
    finally:
        os.close(reader)
        os.close(writer)


def _read_on_windows(address: int, size: int) -> bytes | None:
    kernel = getattr(ctypes, "WinDLL")("kernel32")  # noqa: B009  (typeshed has it there only)
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    read = kernel.ReadProcessMemory
    read.argtypes = (
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.POINTER(ctypes.c_size_t),
    )
    copy, count = ctypes.create_string_buffer(size), ctypes.c_size_t()
    done = read(kernel.GetCurrentProcess(), address, copy, size, ctypes.byref(count))
    return copy.raw if done and count.value == size else None
