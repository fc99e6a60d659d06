"""Modules that are loaded when they are first used, as most programs never do."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

__all__ = ["load"]

# When the interpreter ends it empties `sys.modules`, and nothing can be imported any more.
_loaded: dict[str, ModuleType] = {}


def load(name: str) -> ModuleType:
    """A module by its whole name.

    Raises `ImportError`, which while the interpreter ends says so: then only what was loaded before
    is there.
    """
    try:
        module = importlib.import_module(name)
    except ImportError:
        if not sys.is_finalizing():
            raise
        if name not in _loaded:
            raise ImportError(
                f"{name} cannot be loaded while the interpreter ends: import it before", name=name
            ) from None
        return _loaded[name]
    _loaded[name] = module
    return module
