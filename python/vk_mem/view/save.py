"""Writes pictures to files."""

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
    """Refuses a path that looks like a source, which writing would destroy."""
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
    """Opens a file for text that replaces `path` only if the block succeeds."""
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        mode = None
    part = target.with_name(f"{target.name[:200]}.{os.getpid()}.part")
    file = None
    # Pipes and devices are written directly; so are files in a folder that allows no new ones.
    if mode is None or stat.S_ISREG(mode):
        try:
            file = open(part, "w", encoding="utf-8", newline="\n")  # noqa: SIM115  (closed below)
        except PermissionError:
            pass
        except OSError as error:
            # The error must name the caller's file, not the temporary one.
            error.filename = str(path)
            raise
    if file is None:
        with open(target, "w", encoding="utf-8", newline="\n") as file:
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
