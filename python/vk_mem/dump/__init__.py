"""Reads and compares dumps as typed objects."""

from typing import TYPE_CHECKING, Any

from vk_mem._lazy import attribute
from vk_mem.dump.entrance import diff, load_dump
from vk_mem.dump.held import DebugStatistics

if TYPE_CHECKING:
    from vk_mem.dump.compare import Diff, DiffEntry
    from vk_mem.dump.load import Source, as_dump
    from vk_mem.dump.model import (
        Block,
        Dump,
        Figures,
        Heap,
        MemoryType,
        PoolDump,
        Region,
        ResourceClass,
    )

__all__ = [
    "Block",
    "DebugStatistics",
    "Diff",
    "DiffEntry",
    "Dump",
    "Figures",
    "Heap",
    "MemoryType",
    "PoolDump",
    "Region",
    "ResourceClass",
    "Source",
    "as_dump",
    "diff",
    "load_dump",
]

_MODULES = {
    "vk_mem.dump.compare": ("Diff", "DiffEntry"),
    "vk_mem.dump.load": ("Source", "as_dump"),
    "vk_mem.dump.model": (
        "Block",
        "Dump",
        "Figures",
        "Heap",
        "MemoryType",
        "PoolDump",
        "Region",
        "ResourceClass",
    ),
}


def __getattr__(name: str) -> Any:
    """Imports on first use: most programs never look at a dump."""
    return attribute(__name__, _MODULES, name)


def __dir__() -> list[str]:
    """Lists what is not imported yet as well."""
    return sorted({*globals(), *__all__})
