"""Imports on first use, for modules that most programs never need."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

__all__ = ["load"]

# At shutdown the interpreter empties `sys.modules`, and imports fail.
_loaded: dict[str, ModuleType] = {}


def load(name: str) -> ModuleType:
    """Imports a module by its full name.

    Raises `ImportError`. At interpreter shutdown only modules loaded earlier are returned; for any
    other, the error says so.
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
