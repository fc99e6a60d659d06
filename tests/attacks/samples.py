"""Valid dumps to mutate, of all versions that can be read."""

from __future__ import annotations

import functools
import json
from typing import Any

from support import DEDICATED, IMAGE_TRANSFER, RGBA8, TRANSFER

from vk_mem import Allocator, SimulatedDevice

FIGURES = {
    "BlockCount": 1,
    "BlockBytes": 100,
    "AllocationCount": 1,
    "AllocationBytes": 100,
    "UnusedRangeCount": 0,
}


def stat_info(blocks: int, allocations: int, ranges: int, used: int, unused: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "Blocks": blocks,
        "Allocations": allocations,
        "UnusedRanges": ranges,
        "UsedBytes": used,
        "UnusedBytes": unused,
    }
    if allocations > 1:
        found["AllocationSize"] = {"Min": 16, "Avg": used // allocations, "Max": 4096}
    if ranges > 1:
        found["UnusedRangeSize"] = {"Min": 8, "Avg": unused // ranges, "Max": unused - 8}
    return found


def of_vma_2(detailed: bool = True) -> dict[str, Any]:
    """As `vmaBuildStatsString` of VMA 2.3 writes it."""
    frames = {"CreationFrameIndex": 0, "LastUseFrameIndex": 0}
    dump: dict[str, Any] = {
        "Total": stat_info(3, 4, 3, 5000, 65536 + 4096 - 904),
        "Heap 0": {
            "Size": 1 << 30,
            "Flags": ["DEVICE_LOCAL"],
            "Budget": {
                "BlockBytes": 69632,
                "AllocationBytes": 5000,
                "Usage": 100_000,
                "Budget": 900 << 20,
            },
            "Stats": stat_info(3, 4, 3, 5000, 68728),
            "Type 0": {"Flags": ["DEVICE_LOCAL"], "Stats": stat_info(3, 4, 3, 5000, 68728)},
            "Type 1": {"Flags": ["HOST_VISIBLE", "HOST_COHERENT"]},
        },
        "Heap 1": {"Size": 1 << 20, "Flags": []},
    }
    if not detailed:
        return dump
    first = {
        "TotalBytes": 65536,
        "UnusedBytes": 64000,
        "Allocations": 2,
        "UnusedRanges": 1,
        "Suballocations": [
            {
                "Offset": 0,
                "Type": "BUFFER",
                "Size": 1000,
                "UserData": "mesh",
                "Usage": 130,
                **frames,
            },
            {"Offset": 1000, "Type": "IMAGE_OPTIMAL", "Size": 536, "Usage": 4, **frames},
            {"Offset": 1536, "Type": "FREE", "Size": 64000},
        ],
    }
    second = {
        "TotalBytes": 4096,
        "Suballocations": [
            {"Offset": 0, "Type": "UNKNOWN", "Size": 16, "UserData": "0x55d0c8a0", **frames},
            {"Offset": 16, "Type": "FREE", "Size": 4080},
        ],
    }
    return {
        **dump,
        "DefaultPools": {"Type 0": {"PreferredBlockSize": 65536, "Blocks": {"0": first}}},
        "DedicatedAllocations": {
            "Type 0": [{"Type": "IMAGE_OPTIMAL", "Size": 3448, "UserData": "target", **frames}],
            "Type 1": [{"Type": "BUFFER", "Size": 5, **frames}],
        },
        "Pools": {
            "0": {
                "Name": "textures",
                "MemoryTypeIndex": 0,
                "BlockSize": 4096,
                "BlockCount": {"Max": 2, "Cur": 1},
                "Algorithm": "Linear",
                "Blocks": {"0": second},
            }
        },
    }


def of_d3d12ma_2() -> dict[str, Any]:
    """As `Allocator::BuildStatsString` of D3D12MA 2 writes it."""
    texture = {"Offset": 0, "Type": "TEXTURE2D", "Size": 60, "Usage": 1, "Layout": 3, "Name": "t"}
    region = {"Offset": 60, "Type": "FREE", "Size": 40}
    pool = {
        "PreferredBlockSize": 100,
        "Blocks": {"0": {"TotalBytes": 100, "Suballocations": [texture, region]}},
        "DedicatedAllocations": [{"Type": "BUFFER", "Size": 9, "CustomData": 7}],
    }
    budget = {"BudgetBytes": 1000, "UsageBytes": 500}
    memory = {"DEFAULT": {"Flags": [], "Stats": FIGURES}}
    return {
        "General": {"API": "Direct3D 12", "GPU": "A GPU"},
        "Total": FIGURES,
        "MemoryInfo": {
            "L0": {"Flags": ["LOCAL"], "Budget": budget, "Stats": FIGURES, "MemoryPools": memory}
        },
        "DefaultPools": {"DEFAULT": pool},
        "CustomPools": {"UPLOAD": [{"Name": "0 - u", "Flags": [1], **pool}]},
    }


def ours() -> dict[str, Any]:
    """With call sites, aliases, custom pools, dedicated memory, names and user data."""
    with Allocator(SimulatedDevice("discrete-8gib"), track_call_sites=3) as allocator:
        pool = allocator.create_pool(memory_type_index=0, name="textures", block_size=1 << 20)
        made: list[Any] = [
            allocator.create_buffer(1000 * i, TRANSFER, name=f"buffer {i}", user_data=f"data{i}")
            for i in range(1, 5)
        ]
        made += [
            allocator.create_buffer(5000, TRANSFER, name="in a pool", pool=pool),
            allocator.create_buffer(1 << 16, TRANSFER, flags=DEDICATED, name="alone"),
            allocator.create_image(RGBA8, (16, 16), IMAGE_TRANSFER, name="image"),
        ]
        memory = allocator.allocate_memory(1 << 16, 1 << 12, name="shared")
        aliases = [
            allocator.create_aliasing_buffer(memory, 4096, TRANSFER, name=f"alias {i}")
            for i in (1, 2)
        ]
        dump: dict[str, Any] = json.loads(allocator.build_stats_string())
        allocator.destroy_many([*made, *aliases])
        memory.free()
        pool.close()
    return dump


@functools.cache
def texts() -> tuple[str, ...]:
    """All of them as JSON; the first is ours."""
    dumps = (ours(), of_d3d12ma_2(), of_vma_2(), of_vma_2(detailed=False))
    return tuple(json.dumps(it) for it in dumps)
