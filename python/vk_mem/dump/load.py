"""Reads dumps: ours, those of VMA 2 and 3, and those of D3D12MA 2.

A dump may come from anywhere, so every value is checked before it is used. Whatever is wrong raises
one `DumpError` that says where.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol, cast

from vk_mem.dump.additions import Additions, read_additions
from vk_mem.dump.model import Dump, Heap, MemoryType, PoolDump
from vk_mem.dump.parts import block_of, figures_of, flags_of, region_of
from vk_mem.dump.read import decode, is_text_of_a_dump, parse, read_file
from vk_mem.dump.values import get, items, list_of, number, object_of, text, wrong
from vk_mem.dump.vma2 import is_of_vma_2, read_vma_2
from vk_mem.text import well_formed


class HasSnapshot(Protocol):
    """Has the `snapshot` of an `Allocator`."""

    def snapshot(self) -> Dump: ...


Source = Dump | HasSnapshot | str | os.PathLike[str] | Mapping[str, object]
"""Anything that `as_dump` accepts: a dump, a live allocator, a path, JSON text, or parsed JSON."""


def load_dump(source: str | bytes | os.PathLike[str] | Mapping[str, object]) -> Dump:
    """Does what `vk_mem.load_dump` says."""
    if isinstance(source, Mapping):
        return _dump(source, "")
    if isinstance(source, bytes):
        return _dump(parse(decode(source)), "")
    if isinstance(source, str) and is_text_of_a_dump(source):
        return _dump(parse(source), "")
    if not isinstance(source, str | os.PathLike):
        wrong("", f"a dump is a path, JSON text or a dict, not {type(source).__name__}")
    path = os.fspath(source)
    if not _is_path(path):
        wrong("", "this text is neither JSON nor a path")
    return _dump(parse(decode(read_file(path))), well_formed(os.path.basename(path)))


def _is_path(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return bool(path.strip()) and "\0" not in path and len(path) <= 4096


def as_dump(source: Source) -> Dump:
    """Returns a `Dump` for anything in `Source`; takes a snapshot of a live allocator."""
    if isinstance(source, Dump):
        return source
    # `isinstance` with a protocol may import, which fails while the interpreter ends.
    if hasattr(source, "snapshot"):
        return cast("HasSnapshot", source).snapshot()
    return load_dump(source)


# ---- parts of a dump ----


def _pool(
    type_name: str, name: str | None, value: object, where: str, added: Additions, *path: str
) -> PoolDump:
    of = object_of(value, where)
    preferred = number(of.get("PreferredBlockSize", 0), f"{where}.PreferredBlockSize")
    blocks = tuple(
        block_of(identity, block, f"{where}.Blocks.{identity[:40]}", added.of(*path, identity))
        for identity, block in items(get(of, "Blocks", where), f"{where}.Blocks")
    )
    there = f"{where}.DedicatedAllocations"
    places = added.of(*path, None)
    dedicated = tuple(
        region_of(item, f"{there}[{index}]", None, places, index)
        for index, item in enumerate(list_of(of.get("DedicatedAllocations", []), there))
    )
    dedicated += added.take_quarantined(*path)
    return PoolDump(type_name, name, preferred, flags_of(of, where), blocks, dedicated)


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
        figures = figures_of(get(memory_type, "Stats", here), f"{here}.Stats")
        types.append(MemoryType(type_name, flags_of(memory_type, here), figures))
    return Heap(
        name,
        flags_of(of, where),
        optional(of, "Size", where),
        optional(budget, "BudgetBytes", f"{where}.Budget"),
        optional(budget, "UsageBytes", f"{where}.Budget"),
        figures_of(get(of, "Stats", where), f"{where}.Stats"),
        tuple(types),
    )


def _with_held(heap: Heap, pools: tuple[PoolDump, ...]) -> Heap:
    types = {it.name for it in heap.memory_types}
    held = [pool.held for pool in pools if pool.type_name in types]
    margins, quarantined = (sum(it[part] for it in held) for part in (0, 1))
    return replace(heap, margins=margins, quarantined=quarantined)


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
    if is_of_vma_2(of):
        return read_vma_2(of, source)
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
    if any(added.debug):
        heaps = tuple(_with_held(heap, pools) for heap in heaps)
    return Dump(
        api=str(general.get("API", "Vulkan")),
        device=str(general.get("GPU", "")),
        general=general,
        total=figures_of(get(of, "Total", ""), "Total"),
        heaps=heaps,
        pools=pools,
        detailed="DefaultPools" in of,
        evictions=added.evictions,
        debug=added.debug,
        source=source,
    )
