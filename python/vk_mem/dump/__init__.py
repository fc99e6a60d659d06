"""Reads and compares dumps as typed objects."""

from vk_mem.dump.compare import Diff, DiffEntry, diff
from vk_mem.dump.held import DebugStatistics
from vk_mem.dump.load import Source, as_dump, load_dump
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
