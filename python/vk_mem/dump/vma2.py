"""Reads dumps of VMA 2 (`vmaBuildStatsString` of 2.0 to 2.3), which have their own layout."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from vk_mem.dump.model import Block, Dump, Figures, Heap, MemoryType, PoolDump, Region
from vk_mem.dump.parts import block_of, flags_of, region_of
from vk_mem.dump.values import get, items, list_of, number, object_of, text

HEAP = re.compile(r"Heap \d+")
TYPE = re.compile(r"Type \d+")
# How `printf("%p")` writes user data that is an address and not a text.
POINTER = re.compile(r"0x[0-9a-fA-F]{1,16}|[0-9A-F]{8}|[0-9A-F]{16}|\(nil\)")
NOTHING = Figures(0, 0, 0, 0, 0)


def is_of_vma_2(of: Mapping[str, Any]) -> bool:
    """Whether an object is a dump of VMA 2: only there `Total` has `UsedBytes`."""
    total = of.get("Total")
    return "General" not in of and isinstance(total, Mapping) and "UsedBytes" in total


def read_vma_2(of: Mapping[str, Any], source: str) -> Dump:
    """Reads a whole dump, which names no device.

    User data that is a text counts as the name of its allocation: programs set names that way, with
    `VMA_ALLOCATION_CREATE_USER_DATA_COPY_STRING_BIT`.
    """
    heaps = tuple(_heap(name, heap) for name, heap in items(of, "") if HEAP.fullmatch(name))
    return Dump(
        api="Vulkan",
        device="",
        general={},
        total=_figures(of["Total"], "Total"),
        heaps=heaps,
        pools=(*_default_pools(of), *_custom_pools(of)),
        detailed="DefaultPools" in of or "Pools" in of,
        source=source,
    )


def _figures(value: object, where: str) -> Figures:
    of = object_of(value, where)

    def required(key: str) -> int:
        return number(get(of, key, where), f"{where}.{key}")

    def extremes(key: str, count: int, size: int) -> tuple[int | None, int | None]:
        # VMA 2 omits the sizes if there is only one.
        if key not in of:
            return (size, size) if count == 1 else (None, None)
        there = f"{where}.{key}"
        found = object_of(of[key], there)
        least, most = (number(get(found, end, there), f"{there}.{end}") for end in ("Min", "Max"))
        return least, most

    used, unused = required("UsedBytes"), required("UnusedBytes")
    allocations, ranges = required("Allocations"), required("UnusedRanges")
    return Figures(
        required("Blocks"),
        used + unused,
        allocations,
        used,
        ranges,
        *extremes("AllocationSize", allocations, used),
        *extremes("UnusedRangeSize", ranges, unused),
    )


def _heap(name: str, value: object) -> Heap:
    of = object_of(value, name)
    where = f"{name}.Budget"
    budget = object_of(of.get("Budget", {}), where)

    def optional(of: Mapping[str, Any], key: str, where: str) -> int | None:
        return number(of[key], f"{where}.{key}") if key in of else None

    def stats(of: Mapping[str, Any], where: str) -> Figures:
        # VMA 2 omits the statistics if there is no block.
        return _figures(of["Stats"], f"{where}.Stats") if "Stats" in of else NOTHING

    types = []
    for type_name, item in items(of, name):
        if TYPE.fullmatch(type_name):
            here = f"{name}.{type_name[:40]}"
            memory_type = object_of(item, here)
            flags = flags_of(memory_type, here)
            types.append(MemoryType(type_name, flags, stats(memory_type, here)))
    return Heap(
        name,
        flags_of(of, name),
        optional(of, "Size", name),
        optional(budget, "Budget", where),
        optional(budget, "Usage", where),
        stats(of, name),
        tuple(types),
    )


def _default_pools(of: Mapping[str, Any]) -> Iterator[PoolDump]:
    dedicated = {
        name: _dedicated(listed, f"DedicatedAllocations.{name[:40]}")
        for name, listed in items(of.get("DedicatedAllocations", {}), "DedicatedAllocations")
    }
    for name, value in items(of.get("DefaultPools", {}), "DefaultPools"):
        where = f"DefaultPools.{name[:40]}"
        pool = object_of(value, where)
        size = number(pool.get("PreferredBlockSize", 0), f"{where}.PreferredBlockSize")
        yield PoolDump(name, None, size, (), _blocks(pool, where), dedicated.pop(name, ()))
    for name, regions in dedicated.items():
        yield PoolDump(name, None, 0, (), (), regions)


def _custom_pools(of: Mapping[str, Any]) -> Iterator[PoolDump]:
    for identity, value in items(of.get("Pools", {}), "Pools"):
        where = f"Pools.{identity[:40]}"
        pool = object_of(value, where)
        index = number(get(pool, "MemoryTypeIndex", where), f"{where}.MemoryTypeIndex")
        name = text(pool.get("Name", ""), f"{where}.Name")
        algorithm = text(pool.get("Algorithm", ""), f"{where}.Algorithm")
        yield PoolDump(
            f"Type {index}",
            f"{identity} - {name}" if name else identity,
            number(pool.get("BlockSize", 0), f"{where}.BlockSize"),
            (f"{algorithm.upper()}_ALGORITHM",) if algorithm else (),
            _blocks(pool, where),
            (),
        )


def _blocks(pool: Mapping[str, Any], where: str) -> tuple[Block, ...]:
    def block(identity: str, value: object) -> Block:
        here = f"{where}.Blocks.{identity[:40]}"
        of = object_of(value, here)
        listed = list_of(get(of, "Suballocations", here), f"{here}.Suballocations")
        return block_of(
            identity, {**of, "Suballocations": [*map(_in_words_of_3, listed)]}, here, None
        )

    there = f"{where}.Blocks"
    return tuple(block(name, it) for name, it in items(get(pool, "Blocks", where), there))


def _dedicated(value: object, where: str) -> tuple[Region, ...]:
    return tuple(
        region_of(_in_words_of_3(item), f"{where}[{index}]", None, None, index)
        for index, item in enumerate(list_of(value, where))
    )


def _in_words_of_3(region: object) -> object:
    """Renames the keys of an entry to those of VMA 3."""
    if not isinstance(region, Mapping) or "UserData" not in region:
        return region
    data = region["UserData"]
    is_name = isinstance(data, str) and not POINTER.fullmatch(data)
    return {**region, "CustomData": data, **({"Name": data} if is_name else {})}
