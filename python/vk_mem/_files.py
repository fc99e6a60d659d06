"""Reads whole files that somebody else may have put there."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable

from vk_mem.text import counted

__all__ = ["open_regular_file", "read_regular_file"]

KINDS = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)


def open_regular_file(path: str | os.PathLike[str], refuse: Callable[[str], object]) -> io.FileIO:
    """Opens a regular file for reading, without waiting for any other kind of file.

    For another kind `refuse` is called with what is wrong; it raises. Raises `OSError` if the file
    cannot be opened.
    """

    def check_kind(mode: int) -> None:
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(mode):
            what = next((name for is_it, name in KINDS if is_it(mode)), "something else")
            refuse(f"a regular file is expected, not {what}")

    # Opening a device may have side effects, and opening a FIFO waits for a writer. The open file
    # is checked again: the path may have been replaced in between.
    check_kind(os.stat(path).st_mode)
    waiting = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    flags = os.O_RDONLY | waiting | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    file = io.FileIO(os.open(path, flags), "rb")
    try:
        check_kind(os.fstat(file.fileno()).st_mode)
    except BaseException:
        file.close()
        raise
    return file


def read_regular_file(
    path: str | os.PathLike[str], largest: int, noun: str, refuse: Callable[[str], object]
) -> bytes:
    """Returns the content of a regular file of at most `largest` bytes.

    For a larger file, and for any other kind of file, `refuse` is called with what is wrong,
    without waiting for the file; it raises. `noun` is what the file should be. Raises `OSError` if
    the file cannot be read.
    """

    def check_size(size: int) -> None:
        if size > largest:
            refuse(f"the file has {counted(size, 'byte')}; no {noun} is larger than {largest}")

    with open_regular_file(path, refuse) as file:
        check_size(os.fstat(file.fileno()).st_size)
        # Some regular files report no size, and others grow.
        data = bytearray()
        while chunk := file.read(1 << 24):
            data += chunk
            check_size(len(data))
    return bytes(data)
