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
from vk_mem.errors import DumpError

LARGEST_FILE = 2 << 30
"""Bytes. A dump of a million allocations has about a tenth of this."""
LARGEST_NUMBER = (1 << 64) - 1
LONGEST_TEXT = 10_000

CLASSES = {
    "FREE": ResourceClass.FREE,
    "UNKNOWN": ResourceClass.UNKNOWN,
    "BUFFER": ResourceClass.BUFFER,
    "IMAGE_UNKNOWN": ResourceClass.IMAGE_UNKNOWN,
    "IMAGE_LINEAR": ResourceClass.IMAGE_LINEAR,
    "IMAGE_OPTIMAL": ResourceClass.IMAGE_OPTIMAL,
    # Direct3D 12.
    "TEXTURE1D": ResourceClass.IMAGE_OPTIMAL,
    "TEXTURE2D": ResourceClass.IMAGE_OPTIMAL,
    "TEXTURE3D": ResourceClass.IMAGE_OPTIMAL,
}


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
        _wrong("", f"a dump is a path, JSON text or a dict, not {type(source).__name__}")
    if isinstance(source, str) and (not source.strip() or "\0" in source or len(source) > 4096):
        _wrong("", "this text is neither JSON nor a path")
    path = Path(source)
    size = path.stat().st_size
    if size > LARGEST_FILE:
        _wrong("", f"the file has {size} bytes; no dump is larger than {LARGEST_FILE}")
    return _dump(_parse(_decode(path.read_bytes())), path.name)


def as_dump(source: Source) -> Dump:
    """The same for anything that stands for a dump, a live allocator among them."""
    if isinstance(source, Dump):
        return source
    if isinstance(source, HasSnapshot):
        return source.snapshot()
    return load_dump(source)


def _wrong(where: str, what: str) -> NoReturn:
    raise DumpError(f"not a readable dump: {where}{': ' if where else ''}{what}")


def _decode(data: bytes) -> str:
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding).lstrip("\ufeff")
    except UnicodeDecodeError as error:
        _wrong("", f"byte {error.start} is not {encoding.removesuffix('-sig').upper()}")


def _no_constant(name: str) -> NoReturn:
    _wrong("", f"{name} is not a number of JSON")


def _parse(text: str) -> object:
    try:
        parsed: object = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        _wrong("", f"line {error.lineno}, column {error.colno}: {error.msg}")
    except RecursionError:
        _wrong("", "it is nested too deeply")
    except DumpError:
        raise
    except ValueError:
        # Python refuses to read integers of thousands of digits.
        _wrong("", "a number has too many digits")
    return parsed


# ---- values ----


def _shown(value: object) -> str:
    if isinstance(value, str):
        return "a text"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int | float):
        short = -(10**30) < value < 10**30
        return str(value) if short else "a huge number"
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list) else type(value).__name__


def _object(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        _wrong(where, f"an object is expected, not {_shown(value)}")
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        _wrong(where, f"a list is expected, not {_shown(value)}")
    return value


def _key(key: object, where: str) -> str:
    if not isinstance(key, str):
        _wrong(where, f"keys are texts, not {_shown(key)}")
    if len(key) > LONGEST_TEXT:
        _wrong(where, f"a key has {len(key)} characters")
    return key


def _number(value: object, where: str) -> int:
    # bool is an int.
    if type(value) is not int or not 0 <= value <= LARGEST_NUMBER:
        _wrong(where, f"a number of bytes, a count or flags are expected, not {_shown(value)}")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        _wrong(where, f"a text is expected, not {_shown(value)}")
    return value if len(value) <= LONGEST_TEXT else value[:LONGEST_TEXT] + "…"


def _get(of: Mapping[str, Any], key: str, where: str) -> object:
    if key not in of:
        _wrong(where, f"{key} is missing")
    return of[key]


def _items(value: object, where: str) -> Iterator[tuple[str, object]]:
    for key, item in _object(value, where).items():
        yield _key(key, where), item


# ---- parts of a dump ----


def _flags(of: Mapping[str, Any], where: str) -> tuple[str, ...]:
    where = f"{where}.Flags"
    given = of.get("Flags", [])
    return tuple(
        item if isinstance(item, str) and len(item) <= 100 else f"0x{_number(item, where):x}"
        for item in _list(given, where)
    )


def _figures(value: object, where: str) -> Figures:
    of = _object(value, where)

    def number(key: str) -> int:
        return _number(_get(of, key, where), f"{where}.{key}")

    def optional(key: str) -> int | None:
        return number(key) if key in of else None

    return Figures(
        number("BlockCount"),
        number("BlockBytes"),
        number("AllocationCount"),
        number("AllocationBytes"),
        number("UnusedRangeCount"),
        optional("AllocationSizeMin"),
        optional("AllocationSizeMax"),
        optional("UnusedRangeSizeMin"),
        optional("UnusedRangeSizeMax"),
    )


def _region(value: object, where: str, block_size: int | None) -> Region:
    """One of `Suballocations`, or of `DedicatedAllocations` if it lies in no block."""
    of = _object(value, where)
    size = _number(_get(of, "Size", where), f"{where}.Size")
    offset = 0
    if block_size is not None:
        offset = _number(_get(of, "Offset", where), f"{where}.Offset")
        if offset + size > block_size:
            _wrong(where, f"it ends at {offset + size}, its block at {block_size}")
    type_name = _text(_get(of, "Type", where), f"{where}.Type")
    # Types of a later format are shown as what they are: something.
    resource_class = CLASSES.get(type_name, ResourceClass.UNKNOWN)
    if len(of) == 3 and block_size is not None:
        return Region(offset, size, resource_class, type_name=type_name)
    name, data, layout = of.get("Name"), of.get("CustomData"), of.get("Layout")
    if data is not None and not isinstance(data, str):
        data = str(_number(data, f"{where}.CustomData"))
    return Region(
        offset,
        size,
        resource_class,
        _number(of.get("Usage", 0), f"{where}.Usage"),
        None if name is None else _text(name, f"{where}.Name"),
        None if data is None else _text(data, f"{where}.CustomData"),
        type_name,
        None if layout is None else _number(layout, f"{where}.Layout"),
    )


def _block(identity: str, value: object, where: str) -> Block:
    of = _object(value, where)
    size = _number(_get(of, "TotalBytes", where), f"{where}.TotalBytes")
    listed = _list(_get(of, "Suballocations", where), f"{where}.Suballocations")
    regions = [
        _region(item, f"{where}.Suballocations[{index}]", size) for index, item in enumerate(listed)
    ]
    regions.sort(key=lambda region: region.offset)
    maps = _number(of.get("MapRefCount", 0), f"{where}.MapRefCount")
    return Block(identity, size, tuple(regions), maps)


def _pool(type_name: str, name: str | None, value: object, where: str) -> PoolDump:
    of = _object(value, where)
    preferred = _number(of.get("PreferredBlockSize", 0), f"{where}.PreferredBlockSize")
    blocks = tuple(
        _block(identity, block, f"{where}.Blocks.{identity[:40]}")
        for identity, block in _items(_get(of, "Blocks", where), f"{where}.Blocks")
    )
    there = f"{where}.DedicatedAllocations"
    dedicated = tuple(
        _region(item, f"{there}[{index}]", None)
        for index, item in enumerate(_list(of.get("DedicatedAllocations", []), there))
    )
    return PoolDump(type_name, name, preferred, _flags(of, where), blocks, dedicated)


def _pools(dump: Mapping[str, Any]) -> Iterator[PoolDump]:
    for type_name, pool in _items(dump.get("DefaultPools", {}), "DefaultPools"):
        yield _pool(type_name, None, pool, f"DefaultPools.{type_name[:40]}")
    for type_name, pools in _items(dump.get("CustomPools", {}), "CustomPools"):
        there = f"CustomPools.{type_name[:40]}"
        for index, pool in enumerate(_list(pools, there)):
            where = f"{there}[{index}]"
            name = _text(_object(pool, where).get("Name", str(index)), f"{where}.Name")
            yield _pool(type_name, name, pool, where)


def _heap(name: str, value: object, where: str) -> Heap:
    of = _object(value, where)
    budget = _object(of.get("Budget", {}), f"{where}.Budget")

    def optional(of: Mapping[str, Any], key: str, where: str) -> int | None:
        return _number(of[key], f"{where}.{key}") if key in of else None

    there = f"{where}.MemoryPools"
    types = []
    for type_name, item in _items(of.get("MemoryPools", {}), there):
        here = f"{there}.{type_name[:40]}"
        memory_type = _object(item, here)
        figures = _figures(_get(memory_type, "Stats", here), f"{here}.Stats")
        types.append(MemoryType(type_name, _flags(memory_type, here), figures))
    return Heap(
        name,
        _flags(of, where),
        optional(of, "Size", where),
        optional(budget, "BudgetBytes", f"{where}.Budget"),
        optional(budget, "UsageBytes", f"{where}.Budget"),
        _figures(_get(of, "Stats", where), f"{where}.Stats"),
        tuple(types),
    )


def _general(value: object) -> dict[str, str | int | bool]:
    found: dict[str, str | int | bool] = {}
    for key, item in _items(value, "General"):
        if isinstance(item, bool):
            found[key] = item
        elif isinstance(item, str):
            found[key] = _text(item, f"General.{key[:40]}")
        else:
            found[key] = _number(item, f"General.{key[:40]}")
    return found


def _dump(value: object, source: str) -> Dump:
    of = _object(value, "")
    if "General" not in of and "TotalBytes" in of:
        _wrong("", "this is the JSON of a virtual block, not of an allocator")
    general = _general(_get(of, "General", ""))
    heaps = tuple(
        _heap(name, heap, f"MemoryInfo.{name[:40]}")
        for name, heap in _items(_get(of, "MemoryInfo", ""), "MemoryInfo")
    )
    return Dump(
        api=str(general.get("API", "Vulkan")),
        device=str(general.get("GPU", "")),
        general=general,
        total=_figures(_get(of, "Total", ""), "Total"),
        heaps=heaps,
        pools=tuple(_pools(of)),
        detailed="DefaultPools" in of,
        source=source,
    )
