"""VMA in this process: the library that `cargo build --release -p vkmem-peers` builds."""

from __future__ import annotations

import ctypes
import sys
from array import array
from ctypes import POINTER, c_bool, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path

import vk_mem

NAMES = {"win32": "vkmem_peers.dll", "darwin": "libvkmem_peers.dylib"}
LIBRARY = (
    Path(__file__).parent.parent / "target/release" / NAMES.get(sys.platform, "libvkmem_peers.so")
)


def _load() -> ctypes.CDLL:
    library = ctypes.CDLL(str(LIBRARY))
    sizes, words = POINTER(c_uint64), POINTER(c_uint32)
    for name, result, parameters in (
        ("peers_open", c_void_p, (c_uint64, c_uint64, c_uint64, c_uint32)),
        ("peers_close", None, (c_void_p,)),
        ("peers_fill", None, (c_void_p, sizes, c_size_t)),
        ("peers_pairs", c_uint64, (c_void_p, words, sizes, c_size_t)),
        ("peers_batch", c_uint64, (c_void_p, sizes, c_size_t, c_bool)),
        (
            "peers_virtual_many",
            c_uint64,
            (c_uint64, sizes, c_size_t, sizes, c_size_t, c_uint64, c_uint32),
        ),
        ("peers_memcpy", c_uint64, (c_void_p, c_void_p, c_size_t)),
        ("peers_memcpy_new", c_uint64, (c_void_p, c_size_t)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, parameters
    return library


_library = _load()


def _pointer(numbers: array) -> ctypes.Array:
    kind = {"Q": c_uint64, "I": c_uint32}[numbers.typecode]
    return (kind * len(numbers)).from_buffer(numbers)


def _checked(nanoseconds: int) -> int:
    if nanoseconds == 0:
        raise RuntimeError("the peer failed")
    return nanoseconds


class Vma:
    """VMA on a device of `vk_mem`. Times are in nanoseconds, measured in native code."""

    def __init__(self, device: vk_mem.Device) -> None:
        major, minor, _ = device.api_version
        version = major << 22 | minor << 12
        self._peer = _library.peers_open(
            device.instance, device.physical_device, device.handle, version
        )
        if not self._peer:
            raise RuntimeError("VMA does not open on this device")

    def fill(self, sizes: array) -> None:
        """Creates live buffers."""
        _library.peers_fill(self._peer, _pointer(sizes), len(sizes))

    def pairs(self, victims: array, sizes: array) -> int:
        """Destroys a live buffer and creates another, many times."""
        return _checked(
            _library.peers_pairs(self._peer, _pointer(victims), _pointer(sizes), len(sizes))
        )

    def batch(self, sizes: array, *, alone: bool = False) -> int:
        """Creates many buffers, then destroys them all; with driver calls only if `alone`."""
        return _checked(_library.peers_batch(self._peer, _pointer(sizes), len(sizes), alone))

    def close(self) -> None:
        """Destroys VMA's allocator with its live buffers."""
        _library.peers_close(self._peer)


def virtual_many(block_size: int, first: array, sizes: array, alignment: int, strategy: int) -> int:
    """Allocates `sizes` in a virtual block of VMA, after half of `first` was freed."""
    return _checked(
        _library.peers_virtual_many(
            block_size,
            _pointer(first),
            len(first),
            _pointer(sizes),
            len(sizes),
            alignment,
            strategy,
        )
    )


def memcpy(target: int, source: int, size: int) -> int:
    """Copies between two addresses with `memcpy`."""
    return _checked(_library.peers_memcpy(target, source, size))


def memcpy_new(source: int, size: int) -> int:
    """Copies from an address to newly allocated memory with `memcpy`."""
    return _checked(_library.peers_memcpy_new(source, size))


def address_of(buffer: bytearray | memoryview) -> int:
    """Returns the address of a writable buffer."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
