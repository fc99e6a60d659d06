"""Imports on first use, for modules that most programs never need."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

__all__ = ["attribute", "load"]

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


def attribute(package: str, modules: Mapping[str, tuple[str, ...]], name: str) -> Any:
    """Returns a name of a package that one of its modules defines, and keeps it in the package.

    `modules` has the names by module. Raises `AttributeError` for any other name, and what `load`
    raises.
    """
    for module, names in modules.items():
        if name in names:
            found = getattr(load(module), name)
            if package in sys.modules:
                setattr(sys.modules[package], name, found)
            return found
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
