"""Reads dumps: ours, those of VMA 3 and those of D3D12MA 2. They share one layout.

A dump may come from anywhere. Every value is looked at before it is believed, and whatever is wrong
with one gets a single `DumpError` that says where.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, Protocol, runtime_checkable

from vk_mem.dump.additions import CLASSES, Additions, Places, read_additions
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
from vk_mem.dump.values import get, items, list_of, number, object_of, text, wrong
from vk_mem.errors import DumpError

LARGEST_FILE = 2 << 30
"""Bytes. A dump of a million allocations has about a tenth of this."""


@runtime_checkable
class HasSnapshot(Protocol):
    """An `Allocator`."""

    def snapshot(self) -> Dump: ...


Source = Dump | HasSnapshot | str | os.PathLike[str] | Mapping[str, object]
"""What is taken for a dump: one, a live allocator, a path, JSON text, or that parsed."""


def load_dump(source: str | bytes | os.PathLike[str] | Mapping[str, object]) -> Dump:
    """Reads a dump: of `Allocator.build_stats_string`, of VMA 3 (`vmaBuildStatsString`) or of
    D3D12MA 2 (`Allocator::BuildStatsString`); a path, the JSON as text or bytes, or a dict of it.

    A text that begins with `{` is JSON, any other is a path. UTF-8 and UTF-16 are told apart by
    themselves.

    Raises `DumpError` if it is not such a dump: cut off, of wrong types, with negative sizes,
    ranges outside their block. `OSError` if the file cannot be read.
    """
    if isinstance(source, Mapping):
        return _dump(source, "")
    if isinstance(source, bytes):
        return _dump(_parse(_decode(source)), "")
    if isinstance(source, str) and source.lstrip("\ufeff \t\r\n").startswith(("{", "[")):
        return _dump(_parse(source.lstrip("\ufeff")), "")
    if not isinstance(source, str | os.PathLike):
        wrong("", f"a dump is a path, JSON text or a dict, not {type(source).__name__}")
    if isinstance(source, str) and (not source.strip() or "\0" in source or len(source) > 4096):
        wrong("", "this text is neither JSON nor a path")
    path = Path(source)
    size = path.stat().st_size
    if size > LARGEST_FILE:
        wrong("", f"the file has {size} bytes; no dump is larger than {LARGEST_FILE}")
    return _dump(_parse(_decode(path.read_bytes())), path.name)


def as_dump(source: Source) -> Dump:
    """The same for anything that stands for a dump, a live allocator among them."""
    if isinstance(source, Dump):
        return source
    if isinstance(source, HasSnapshot):
        return source.snapshot()
    return load_dump(source)


def _decode(data: bytes) -> str:
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding).lstrip("\ufeff")
    except UnicodeDecodeError as error:
        wrong("", f"byte {error.start} is not {encoding.removesuffix('-sig').upper()}")


def _no_constant(name: str) -> NoReturn:
    wrong("", f"{name} is not a number of JSON")


def _parse(text: str) -> object:
    try:
        parsed: object = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        wrong("", f"line {error.lineno}, column {error.colno}: {error.msg}")
    except RecursionError:
        wrong("", "it is nested too deeply")
    except DumpError:
        raise
    except ValueError:
        # Python refuses to read integers of thousands of digits.
        wrong("", "a number has too many digits")
    return parsed


# ---- parts of a dump ----


def _flags(of: Mapping[str, Any], where: str) -> tuple[str, ...]:
    where = f"{where}.Flags"
    given = of.get("Flags", [])
    return tuple(
        item if isinstance(item, str) and len(item) <= 100 else f"0x{number(item, where):x}"
        for item in list_of(given, where)
    )


def _figures(value: object, where: str) -> Figures:
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


def _region(
    value: object, where: str, block_size: int | None, places: Places | None, index: int
) -> Region:
    """One of `Suballocations`, or of `DedicatedAllocations` if it lies in no block."""
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
    # Types of a later format are shown as what they are: something.
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


def _block(identity: str, value: object, where: str, places: Places | None) -> Block:
    of = object_of(value, where)
    size = number(get(of, "TotalBytes", where), f"{where}.TotalBytes")
    listed = list_of(get(of, "Suballocations", where), f"{where}.Suballocations")
    regions = [
        _region(item, f"{where}.Suballocations[{index}]", size, places, index)
        for index, item in enumerate(listed)
    ]
    regions.sort(key=lambda region: region.offset)
    maps = number(of.get("MapRefCount", 0), f"{where}.MapRefCount")
    return Block(identity, size, tuple(regions), maps)


def _pool(
    type_name: str, name: str | None, value: object, where: str, added: Additions, *path: str
) -> PoolDump:
    of = object_of(value, where)
    preferred = number(of.get("PreferredBlockSize", 0), f"{where}.PreferredBlockSize")
    blocks = tuple(
        _block(identity, block, f"{where}.Blocks.{identity[:40]}", added.of(*path, identity))
        for identity, block in items(get(of, "Blocks", where), f"{where}.Blocks")
    )
    there = f"{where}.DedicatedAllocations"
    places = added.of(*path, None)
    dedicated = tuple(
        _region(item, f"{there}[{index}]", None, places, index)
        for index, item in enumerate(list_of(of.get("DedicatedAllocations", []), there))
    )
    return PoolDump(type_name, name, preferred, _flags(of, where), blocks, dedicated)


def _pools(dump: Mapping[str, Any], added: Additions) -> Iterator[PoolDump]:
    for type_name, pool in items(dump.get("DefaultPools", {}), "DefaultPools"):
        where = f"DefaultPools.{type_name[:40]}"
        yield _pool(type_name, None, pool, where, added, "DefaultPools", type_name)
    for type_name, pools in items(dump.get("CustomPools", {}), "CustomPools"):
        there = f"CustomPools.{type_name[:40]}"
        for index, pool in enumerate(list_of(pools, there)):
            where = f"{there}[{index}]"
            name = text(object_of(pool, where).get("Name", str(index)), f"{where}.Name")
            path = ("CustomPools", type_name, str(index))
            yield _pool(type_name, name, pool, where, added, *path)


def _heap(name: str, value: object, where: str) -> Heap:
    of = object_of(value, where)
    budget = object_of(of.get("Budget", {}), f"{where}.Budget")

    def optional(of: Mapping[str, Any], key: str, where: str) -> int | None:
        return number(of[key], f"{where}.{key}") if key in of else None

    there = f"{where}.MemoryPools"
    types = []
    for type_name, item in items(of.get("MemoryPools", {}), there):
        here = f"{there}.{type_name[:40]}"
        memory_type = object_of(item, here)
        figures = _figures(get(memory_type, "Stats", here), f"{here}.Stats")
        types.append(MemoryType(type_name, _flags(memory_type, here), figures))
    return Heap(
        name,
        _flags(of, where),
        optional(of, "Size", where),
        optional(budget, "BudgetBytes", f"{where}.Budget"),
        optional(budget, "UsageBytes", f"{where}.Budget"),
        _figures(get(of, "Stats", where), f"{where}.Stats"),
        tuple(types),
    )


def _general(value: object) -> dict[str, str | int | bool]:
    found: dict[str, str | int | bool] = {}
    for key, item in items(value, "General"):
        if isinstance(item, bool):
            found[key] = item
        elif isinstance(item, str):
            found[key] = text(item, f"General.{key[:40]}")
        else:
            found[key] = number(item, f"General.{key[:40]}")
    return found


def _dump(value: object, source: str) -> Dump:
    of = object_of(value, "")
    if "General" not in of and "TotalBytes" in of:
        wrong("", "this is the JSON of a virtual block, not of an allocator")
    general = _general(get(of, "General", ""))
    heaps = tuple(
        _heap(name, heap, f"MemoryInfo.{name[:40]}")
        for name, heap in items(get(of, "MemoryInfo", ""), "MemoryInfo")
    )
    added = read_additions(of)
    pools = tuple(_pools(of, added))
    added.check_all_used()
    return Dump(
        api=str(general.get("API", "Vulkan")),
        device=str(general.get("GPU", "")),
        general=general,
        total=_figures(get(of, "Total", ""), "Total"),
        heaps=heaps,
        pools=pools,
        detailed="DefaultPools" in of,
        source=source,
    )
