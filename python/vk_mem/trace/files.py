"""Writes traces into files that replace others only when they are complete."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

__all__ = ["replacing"]

T = TypeVar("T")


def replacing(path: str | os.PathLike[str], write: Callable[[Path], T]) -> T:
    """Calls `write` with a path, and lets that file replace `path` if it succeeds.

    Raises `OSError` with the caller's path.
    """
    target = Path(os.path.realpath(path))
    try:
        is_file = stat.S_ISREG(target.stat().st_mode)
        mode: int | None = stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        is_file, mode = True, None
    # Pipes and devices are written directly.
    part = target.with_name(f"{target.name[:200]}.{os.getpid()}.part") if is_file else target
    try:
        done = write(part)
        if is_file:
            if mode is not None:
                part.chmod(mode)
            part.replace(target)
        return done
    except OSError as error:
        if is_file:
            part.unlink(missing_ok=True)
        error.filename = os.fspath(path)
        raise
    except BaseException:
        if is_file:
            part.unlink(missing_ok=True)
        raise
