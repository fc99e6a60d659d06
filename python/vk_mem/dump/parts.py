"""Reads the parts that the formats of VMA 2, VMA 3 and D3D12MA 2 have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vk_mem.dump.additions import CLASSES, Places
from vk_mem.dump.model import Block, Figures, Region, ResourceClass
from vk_mem.dump.values import get, list_of, number, object_of, text, wrong

LONGEST_FLAG = 100


def flags_of(of: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """Reads names of flags; a flag that the writer could not name stays a number."""
    where = f"{where}.Flags"
    given = of.get("Flags", [])
    return tuple(
        text(item, where)
        if isinstance(item, str) and len(item) <= LONGEST_FLAG
        else f"0x{number(item, where):x}"
        for item in list_of(given, where)
    )


def figures_of(value: object, where: str) -> Figures:
    """Reads what VMA 3 and D3D12MA call `Stats`."""
    of = object_of(value, where)

    def required(key: str) -> int:
        return number(get(of, key, where), f"{where}.{key}")

    def optional(key: str) -> int | None:
        return required(key) if key in of else None

    return Figures(
        required("BlockCount"),
        required("BlockBytes"),
        required("AllocationCount"),
        required("AllocationBytes"),
        required("UnusedRangeCount"),
        optional("AllocationSizeMin"),
        optional("AllocationSizeMax"),
        optional("UnusedRangeSizeMin"),
        optional("UnusedRangeSizeMax"),
    )


def region_of(
    value: object, where: str, block_size: int | None, places: Places | None, index: int
) -> Region:
    """Reads one entry of `Suballocations` or, without a block, of `DedicatedAllocations`."""
    region = _bare_region(value, where, block_size)
    if places is None:
        return region
    return places.complete(region, region.offset if block_size is not None else index)


def _bare_region(value: object, where: str, block_size: int | None) -> Region:
    of = object_of(value, where)
    size = number(get(of, "Size", where), f"{where}.Size")
    offset = 0
    if block_size is not None:
        offset = number(get(of, "Offset", where), f"{where}.Offset")
        if offset + size > block_size:
            wrong(where, f"it ends at {offset + size}, its block at {block_size}")
    type_name = text(get(of, "Type", where), f"{where}.Type")
    # A type name of a newer format: the region is in use, by something unknown.
    resource_class = CLASSES.get(type_name, ResourceClass.UNKNOWN)
    if len(of) == 3 and block_size is not None:
        return Region(offset, size, resource_class, type_name=type_name)
    name, data, layout = of.get("Name"), of.get("CustomData"), of.get("Layout")
    if data is not None and not isinstance(data, str):
        data = str(number(data, f"{where}.CustomData"))
    return Region(
        offset,
        size,
        resource_class,
        number(of.get("Usage", 0), f"{where}.Usage"),
        None if name is None else text(name, f"{where}.Name"),
        None if data is None else text(data, f"{where}.CustomData"),
        type_name,
        None if layout is None else number(layout, f"{where}.Layout"),
    )


def block_of(identity: str, value: object, where: str, places: Places | None) -> Block:
    """Reads one entry of `Blocks`."""
    of = object_of(value, where)
    size = number(get(of, "TotalBytes", where), f"{where}.TotalBytes")
    listed = list_of(get(of, "Suballocations", where), f"{where}.Suballocations")
    regions = [
        region_of(item, f"{where}.Suballocations[{index}]", size, places, index)
        for index, item in enumerate(listed)
    ]
    regions.sort(key=lambda region: region.offset)
    maps = number(of.get("MapRefCount", 0), f"{where}.MapRefCount")
    return Block(identity, size, tuple(regions), maps)
