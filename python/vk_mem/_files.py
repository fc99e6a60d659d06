"""Reads whole files that somebody else may have put there."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from vk_mem.text import counted

__all__ = ["read_regular_file"]

KINDS = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)


def read_regular_file(
    path: str | os.PathLike[str], largest: int, noun: str, refuse: Callable[[str], object]
) -> bytes:
    """Returns the content of a regular file of at most `largest` bytes.

    For a larger file, and for any other kind of file, `refuse` is called with what is wrong,
    without waiting for the file; it raises. `noun` is what the file should be. Raises `OSError` if
    the file cannot be read.
    """

    def check_kind(mode: int) -> None:
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(mode):
            what = next((name for is_it, name in KINDS if is_it(mode)), "something else")
            refuse(f"a regular file is expected, not {what}")

    def check_size(size: int) -> None:
        if size > largest:
            refuse(f"the file has {counted(size, 'byte')}; no {noun} is larger than {largest}")

    # Opening a device may have side effects, and opening a FIFO waits for a writer. The open file
    # is checked again: the path may have been replaced in between.
    check_kind(os.stat(path).st_mode)
    waiting = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    flags = os.O_RDONLY | waiting | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb", buffering=0) as file:
        found = os.fstat(file.fileno())
        check_kind(found.st_mode)
        check_size(found.st_size)
        # Some regular files report no size, and others grow.
        data = bytearray()
        while chunk := file.read(1 << 24):
            data += chunk
            check_size(len(data))
    return bytes(data)
