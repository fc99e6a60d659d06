"""Traces that the tests of `vk_mem.trace` share."""

from __future__ import annotations

from pathlib import Path

import vk_mem
from vk_mem.trace import Trace, load

DATA = Path(__file__).parents[1] / "crates/trace/tests/data"
VEGA = DATA / "vma-1.8-vega.csv"
ALL_CALLS = DATA / "vma-all-calls.csv"
FILES = sorted([*DATA.glob("*.csv"), *DATA.glob("*.pickle")])


def recorded(path: Path, device: str | None = None) -> Trace:
    """A replay of a file as a trace: it says where everything went."""
    trace = load(path).replay(device, record=True).trace
    assert trace is not None
    return trace


def vma_text(calls: list[str], version: str = "1,8") -> bytes:
    """A recording of VMA with these calls."""
    head = ["Vulkan Memory Allocator,Calls recording", version]
    return "\n".join([*head, *calls, ""]).encode()


def buffers(count: int, keep: int, size: int = 65536) -> Trace:
    """A program that creates buffers, of which the last `keep` are live."""
    lines = ["1,0.000,0,vmaCreateAllocator"]
    for number in range(count):
        pointer = f"{number + 1:016X}"
        time = f"{number / 1000:.3f}"
        lines.append(
            f"1,{time},{number // 8},vmaCreateBuffer,0,{size},32,0,0,2,0,0,0,"
            f"0000000000000000,{pointer},"
        )
        if number >= keep:
            old = f"{number - keep + 1:016X}"
            lines.append(f"1,{time},{number // 8},vmaDestroyBuffer,{old}")
    return load(vma_text(lines))


PROFILES = vk_mem.SimulatedDevice.profile_names()
