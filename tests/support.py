"""Helpers that several tests use: flags, subprocesses, and reading memory through the device."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import vk_mem
from vk_mem import (
    AllocationCreateFlags,
    Allocator,
    Buffer,
    BufferRange,
    BufferUsage,
    Device,
    Format,
    ImageUsage,
    SimulatedDevice,
    UnflushedWriteWarning,
)

TRANSFER = BufferUsage.TRANSFER_SRC | BufferUsage.TRANSFER_DST
IMAGE_TRANSFER = ImageUsage.TRANSFER_SRC | ImageUsage.TRANSFER_DST
RGBA8 = Format.R8G8B8A8_UNORM
WRITE = AllocationCreateFlags.HOST_ACCESS_SEQUENTIAL_WRITE
RANDOM = AllocationCreateFlags.HOST_ACCESS_RANDOM
MAPPED = AllocationCreateFlags.MAPPED
DEDICATED = AllocationCreateFlags.DEDICATED_MEMORY
NEVER = AllocationCreateFlags.NEVER_ALLOCATE
DONT_BIND = AllocationCreateFlags.DONT_BIND
WITHIN_BUDGET = AllocationCreateFlags.WITHIN_BUDGET
LOSABLE = AllocationCreateFlags.CAN_BECOME_LOST
TAKES = AllocationCreateFlags.CAN_MAKE_OTHER_LOST


COMMAND = [shutil.which("vk-mem", path=Path(sys.executable).parent) or ""]
"""What starts `vk-mem`: the script of this interpreter, or the module where none was installed."""
if not COMMAND[0]:
    COMMAND = [sys.executable, "-m", "vk_mem"]


def tool(name: str) -> ModuleType:
    """A program of the folder `tools`, as a module."""
    tools = str(Path(__file__).parents[1] / "tools")
    sys.path.insert(0, tools)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(tools)


def pattern(size: int, seed: int = 0) -> bytes:
    """Bytes that do not repeat soon, so a wrong offset shows."""
    return bytes((seed * 89 + i * 7 + (i >> 8) * 13 + 1) & 0xFF for i in range(size))


def repr_without_addresses(value: object) -> str:
    """For the names of cases, which have to be the same in each process."""
    return re.sub(r"0x[0-9a-f]{8,}|(?<=\()\d{12,}", "...", repr(value))


def is_simulated(device: Device) -> bool:
    return isinstance(device, SimulatedDevice)


class Check:
    """Reads and writes memory with copies of the device, through staging buffers of its own."""

    def __init__(self, allocator: Allocator) -> None:
        self.allocator = allocator
        self.device = allocator.device

    def read(self, buffer: Buffer) -> bytes:
        with self.allocator.create_buffer(
            buffer.size, BufferUsage.TRANSFER_DST, flags=RANDOM, name="read back"
        ) as target:
            self.device.copy_buffer(buffer, target)
            return target.read()

    def read_unflushed(self, buffer: Buffer) -> bytes:
        """Reads where the host wrote something that is not flushed yet."""
        with pytest.warns(UnflushedWriteWarning, match="did not flush before the device reads"):
            seen = self.read(buffer)
        assert isinstance(self.device, SimulatedDevice)
        assert [it.kind for it in self.device.take_violations()] == ["missing_flush"]
        return seen

    def write(self, buffer: Buffer | BufferRange, data: bytes) -> None:
        with self.allocator.create_buffer(
            len(data), BufferUsage.TRANSFER_SRC, flags=WRITE, name="staging"
        ) as source:
            source.write(data)
            self.device.copy_buffer(source, buffer)


def run_python(code: str, *options: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs a program in an interpreter of its own, with the package that is tested here."""
    # The isolated mode does not look where this interpreter was told to.
    found = str(Path(vk_mem.__file__).parent.parent)
    start = f"import sys; sys.path.insert(0, {found!r})\n" if "-I" in options else ""
    return subprocess.run(
        [sys.executable, *options, "-c", start + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def figures_of_a_walk(allocator: Allocator) -> dict[str, dict[str, Any]]:
    """Statistics by memory type, and by custom pool, counted region by region in a dump."""
    dump = json.loads(allocator.build_stats_string())
    found: dict[str, dict[str, Any]] = {}
    listed = [(name, [name], pool) for name, pool in dump["DefaultPools"].items()]
    for name, pools in dump["CustomPools"].items():
        listed += [(name, [name, pool["Name"]], pool) for pool in pools]
    for _, keys, pool in listed:
        blocks = list(pool["Blocks"].values())
        regions = [region for block in blocks for region in block["Suballocations"]]
        used = [it["Size"] for it in regions if it["Type"] != "FREE"]
        used += [it["Size"] for it in pool["DedicatedAllocations"]]
        unused = [it["Size"] for it in regions if it["Type"] == "FREE"]
        sizes = [block["TotalBytes"] for block in blocks]
        for key in keys:
            sums = found.setdefault(key, {"blocks": [], "used": [], "unused": [], "dedicated": 0})
            sums["blocks"] += sizes
            sums["used"] += used
            sums["unused"] += unused
            sums["dedicated"] += len(pool["DedicatedAllocations"])
    return found


def check_statistics(allocator: Allocator) -> None:
    """Every figure equals a walk over all regions, and those of heaps and all are their sums."""
    walk, counted = figures_of_a_walk(allocator), allocator.calculate_statistics()
    types = allocator.device.memory_properties.memory_types
    pools = {name: sums for name, sums in walk.items() if not name.startswith("Type ")}
    titles = [pool.name for pool in counted.pools]
    assert sorted(name.partition(" - ")[2] for name in pools) == sorted(it or "" for it in titles)
    for pool in counted.pools:
        same = [it for it in pools.values() if equals(pool.statistics, it)]
        assert same, pool
    for index, of_type in enumerate(counted.memory_types):
        assert equals(of_type, walk[f"Type {index}"]), (index, of_type)
    for heap, of_heap in enumerate(counted.memory_heaps):
        here = [walk[f"Type {it}"] for it, one in enumerate(types) if one.heap_index == heap]
        assert equals(of_heap, added(here)), heap
    assert equals(counted.total, added([walk[f"Type {it}"] for it in range(len(types))]))


def added(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "blocks": [it for part in parts for it in part["blocks"]],
        "used": [it for part in parts for it in part["used"]],
        "unused": [it for part in parts for it in part["unused"]],
        "dedicated": sum(part["dedicated"] for part in parts),
    }


def equals(counted: vk_mem.Statistics, walk: dict[str, Any]) -> bool:
    """Whether they say the same. A dump says no size of dedicated memory but the allocation's."""
    used, unused = walk["used"], walk["unused"]
    scattered = 1 - max(unused) / sum(unused) if unused else 0.0
    if held := counted.margin_bytes + counted.quarantined_bytes:
        # They are unused ranges of a dump, as in VMA; in dedicated memory it leaves them out.
        return (
            counted.block_count >= len(walk["blocks"]) + walk["dedicated"]
            and counted.block_bytes >= sum(walk["blocks"])
            and counted.allocation_count == len(used)
            and counted.allocation_bytes == sum(used)
            and counted.unused_range_bytes <= sum(unused) <= counted.unused_range_bytes + held
        )
    return (
        counted.block_count == len(walk["blocks"]) + walk["dedicated"]
        and counted.block_bytes >= sum(walk["blocks"])
        and (walk["dedicated"] > 0 or counted.block_bytes == sum(walk["blocks"]))
        and counted.allocation_count == len(used)
        and counted.allocation_bytes == sum(used)
        and counted.allocation_size_min == min(used, default=None)
        and counted.allocation_size_max == max(used, default=None)
        and counted.unused_range_count == len(unused)
        and counted.unused_range_bytes == sum(unused)
        and counted.unused_range_size_min == min(unused, default=None)
        and counted.unused_range_size_max == max(unused, default=None)
        and abs(counted.fragmentation - scattered) < 1e-9
    )


def totals(allocator: Allocator) -> vk_mem.Statistics:
    return allocator.calculate_statistics().total
