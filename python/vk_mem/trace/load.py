"""Reads traces from files and bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, NoReturn

from vk_mem._files import read_regular_file
from vk_mem._vk_mem import _TraceData
from vk_mem.errors import TraceError
from vk_mem.text import with_article
from vk_mem.trace.trace import Trace

__all__ = ["Format", "load"]

Format = Literal["vkmem", "vma", "rmm", "pytorch"]
LARGEST_FILE = 16 << 30
"""In bytes. A recording of a thousand million events has about this."""


def load(
    source: str | bytes | bytearray | memoryview | os.PathLike[str],
    format: Format | None = None,
    *,
    progress: Callable[[int, int], object] | None = None,
) -> Trace:
    """Reads a trace from a path, or from the bytes of a file.

    Its first bytes tell the format, unless `format` does: `vkmem` (recordings of this library),
    `vma` (recordings of the Vulkan Memory Allocator, versions 1.0 to 1.8), `rmm` (logs of the
    RAPIDS Memory Manager) or `pytorch` (`torch.cuda.memory._dump_snapshot`, read without running
    what is in it). A file that is being written, or was cut off, is read up to the last complete
    event: `Trace.cut`.

    A million events take about 80 MB. `progress` is called with the bytes that are read and with
    all; not for snapshots of PyTorch. The GIL is released meanwhile, and Ctrl-C ends the call.

    Raises `TraceError` with the line or the offset of what is wrong, and for what is no regular
    file or empty; `OSError` if the file cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        data = read_regular_file(path, LARGEST_FILE, "trace", _refuse)
        name = os.path.basename(path)
    else:
        data, name = _bytes_of(source), ""
    if not data and format is None:
        why = "this is no trace: it is empty"
        raise TraceError(f"{name}: {why}" if name else why, offset=0)
    try:
        return Trace(_TraceData.load(data, format, progress), name)
    except TraceError as error:
        if not name:
            raise
        # A message that names the file.
        raise TraceError(f"{name}: {error}", line=error.line, offset=error.offset) from None


def _bytes_of(source: object) -> bytes:
    # A number would make as many zeros.
    if not isinstance(source, int):
        with suppress(TypeError):
            return bytes(memoryview(source))  # type: ignore[arg-type]
    kind = with_article(type(source).__name__)
    raise TypeError(f"source must be a path or the bytes of a file, not {kind}")


def _refuse(what: str) -> NoReturn:
    raise TraceError(what)
