"""Whether there is memory at an address, asked without a crash where there is none."""

from __future__ import annotations

import ctypes
import os

__all__ = ["read_memory"]


def read_memory(address: int, size: int) -> bytes | None:
    """A copy of up to 4096 bytes of this process at `address`; None where they cannot be read.

    The system copies them, and answers with an error where this process would be ended. Raises
    `OSError` if it cannot be asked, for want of descriptors.
    """
    if not 0 < address < (1 << (8 * ctypes.sizeof(ctypes.c_void_p))) - size:
        return None
    return _read_on_windows(address, size) if os.name == "nt" else _read_on_posix(address, size)


def _read_on_posix(address: int, size: int) -> bytes | None:
    write = ctypes.CDLL(None).write
    write.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    write.restype = ctypes.c_ssize_t
    # A pipe takes as many bytes at once, and nobody else writes into this one.
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
