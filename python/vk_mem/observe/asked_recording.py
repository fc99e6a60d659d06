"""A recording that another process asks for: `vk-mem top --record`."""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress

from vk_mem._vk_mem import Allocator, Recording, record

__all__ = ["begin_recording"]


def begin_recording(allocator: Allocator, line: bytes) -> Recording:
    """Begins the recording that a line asks for: `{"record": path}` with an absolute path.

    Raises `ValueError` for another line, `OSError` if the file cannot be written.
    """
    try:
        path = json.loads(line)["record"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError("that is no request for a recording") from None
    if not isinstance(path, str) or not os.path.isabs(path) or "\0" in path:
        raise ValueError("a recording is asked for with an absolute path")
    with suppress(FileNotFoundError):
        # A FIFO would wait for a reader, and all clients with it.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError(f"{path} is no regular file")
    return record(allocator, path)
