"""Where pictures are written to."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from vk_mem.errors import InvalidArgumentError

PathLike = str | os.PathLike[str]


def check_path(path: object) -> None:
    """Refuses what is a source: it would be written over."""
    if path is None:
        return
    if not isinstance(path, str | os.PathLike):
        raise InvalidArgumentError(
            f"path is where to write, not {type(path).__name__}: to compare with it, other="
        )
    text = os.fsdecode(path)
    if text.lstrip()[:1] == "{" or text.lower().endswith(".json"):
        raise InvalidArgumentError(
            f"path is where to write, and {text.strip()[:80]!r} would be a dump: to compare with "
            "it, other="
        )


@contextmanager
def saving(path: PathLike) -> Iterator[TextIO]:
    """A file for a text, which takes the place of what is there once all went well."""
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        mode = None
    part = target.with_name(f"{target.name[:200]}.{os.getpid()}.part")
    file = None
    # A pipe, or a device, is written as it is; so is a file in a folder that takes no other.
    if mode is None or stat.S_ISREG(mode):
        try:
            file = open(part, "w", encoding="utf-8")  # noqa: SIM115  (closed below)
        except PermissionError:
            pass
        except OSError as error:
            # The error names the file that the caller named, not the one beside it.
            error.filename = str(path)
            raise
    if file is None:
        with open(target, "w", encoding="utf-8") as file:
            yield file
        return
    try:
        with file:
            yield file
        if mode is not None:
            part.chmod(stat.S_IMODE(mode))
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
