"""Reads what our dumps have beyond VMA's: call sites, aliases, what may be lost, margins and
quarantine.

`crates/engine/src/dump/additions.rs` writes them, each under its own top-level key, with the same
layout as the pools. Each entry must belong to an allocation of the dump.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from vk_mem.dump.evictions import NO_EVICTIONS, EvictionStatistics, read_evictions
from vk_mem.dump.held import NOTHING_HELD, DebugStatistics, numbers, read_held
from vk_mem.dump.model import Region, ResourceClass
from vk_mem.dump.values import get, items, list_of, number, object_of, text, wrong

CLASSES = {
    "FREE": ResourceClass.FREE,
    "UNKNOWN": ResourceClass.UNKNOWN,
    "BUFFER": ResourceClass.BUFFER,
    "IMAGE_UNKNOWN": ResourceClass.IMAGE_UNKNOWN,
    "IMAGE_LINEAR": ResourceClass.IMAGE_LINEAR,
    "IMAGE_OPTIMAL": ResourceClass.IMAGE_OPTIMAL,
    # Direct3D 12 names of D3D12MA.
    "TEXTURE1D": ResourceClass.IMAGE_OPTIMAL,
    "TEXTURE2D": ResourceClass.IMAGE_OPTIMAL,
    "TEXTURE3D": ResourceClass.IMAGE_OPTIMAL,
}

"""Resource classes by the type names of VMA and D3D12MA."""
HELD = {"Margins": ResourceClass.MARGIN, "Quarantined": ResourceClass.QUARANTINED}

PLACE = re.compile("0|[1-9][0-9]{0,19}")
T = TypeVar("T")

Path = tuple[str | None, ...]
"""`DefaultPools`, the type and the block; or `CustomPools`, the type, the index and the block. A
block of None means the dedicated allocations."""


@dataclass(slots=True)
class Places:
    """Additions of one block by offset, or of the dedicated allocations of a pool by index."""

    where: str
    call_sites: dict[int, str] = field(default_factory=dict)
    aliases: dict[int, tuple[Region, ...]] = field(default_factory=dict)
    last_uses: dict[int, int] = field(default_factory=dict)
    held: dict[int, tuple[int, ResourceClass]] = field(default_factory=dict)
    """Sizes and classes of margins and of what is in quarantine."""
    margins: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Bytes before and behind dedicated allocations."""

    def complete(self, region: Region, place: int) -> Region:
        """Returns the region with all that is said of it here."""
        if place in self.held:
            return self._held(region, place)
        if place in self.margins:
            region = replace(region, margins=self.margins.pop(place))
        site, aliases = self.call_sites.pop(place, None), self.aliases.pop(place, ())
        last_use = self.last_uses.pop(place, None)
        if site is None and not aliases and last_use is None:
            return region
        if not region.is_allocation:
            wrong(f"{self.where}.{place}", "it refers to an unused range")
        for alias in aliases:
            if alias.offset < region.offset or alias.end > region.end:
                span = f"{alias.offset} to {alias.end}"
                memory = f"{region.offset} to {region.end}"
                wrong(f"{self.where}.{place}", f"an alias from {span} is outside of {memory}")
        return replace(region, call_site=site, aliases=aliases, last_use=last_use)

    def _held(self, region: Region, place: int) -> Region:
        size, held = self.held.pop(place)
        if not region.is_free or region.size != size:
            wrong(f"{self.where}.{place}", f"there is no unused range of {size} bytes in the dump")
        return replace(region, resource_class=held)


class Additions:
    """The additions of a whole dump."""

    evictions: EvictionStatistics = NO_EVICTIONS
    debug: DebugStatistics = NOTHING_HELD

    def __init__(self) -> None:
        self._places: dict[Path, Places] = {}
        self._quarantined: dict[Path, tuple[Region, ...]] = {}

    def quarantine(self, path: Path, regions: tuple[Region, ...]) -> None:
        """Adds dedicated memory in quarantine to the pool at a path."""
        self._quarantined[path] = regions

    def take_quarantined(self, *path: str) -> tuple[Region, ...]:
        """Returns dedicated memory in quarantine of the pool at a path, once."""
        return self._quarantined.pop(path, ())

    def at(self, path: Path, where: str) -> Places:
        """Returns the `Places` at a path, creating it if needed."""
        return self._places.setdefault(path, Places(where))

    def of(self, *path: str | None) -> Places | None:
        """Returns the additions of a block, or of the dedicated allocations of a pool."""
        return self._places.get(path)

    def check_all_used(self) -> None:
        """Raises `DumpError` if an entry refers to an allocation that the dump does not have."""
        for places in self._places.values():
            for place in (*places.call_sites, *places.aliases, *places.last_uses, *places.margins):
                wrong(f"{places.where}.{place}", "there is no such allocation in the dump")
            for place, (size, _) in places.held.items():
                what = f"there is no unused range of {size} bytes in the dump"
                wrong(f"{places.where}.{place}", what)
        if self._quarantined:
            wrong(f"Debug.{'.'.join(map(str, next(iter(self._quarantined))))}", "no such pool")


def read_additions(dump: Mapping[str, Any]) -> Additions:
    """Reads the keys `CallSites`, `Aliases`, `Evictable` and `Debug`; each may be missing."""
    added = Additions()
    sites: list[str] = []
    if "CallSites" in dump:
        of = object_of(dump["CallSites"], "CallSites")
        there = "CallSites.Sites"
        listed = list_of(get(of, "Sites", "CallSites"), there)
        sites += [text(site, f"{there}[{index}]") for index, site in enumerate(listed)]

        def site(value: object, where: str) -> str:
            return _site(value, where, sites)

        _read(of, "CallSites", added, site, lambda places: places.call_sites)
    if "Aliases" in dump:

        def aliases(value: object, where: str) -> tuple[Region, ...]:
            listed = list_of(value, where)
            return tuple(_alias(it, f"{where}[{i}]", sites) for i, it in enumerate(listed))

        of = object_of(dump["Aliases"], "Aliases")
        _read(of, "Aliases", added, aliases, lambda places: places.aliases)
    if "Evictable" in dump:
        of = object_of(dump["Evictable"], "Evictable")
        added.evictions = read_evictions(of)
        _read(of, "Evictable", added, number, lambda places: places.last_uses)
    if "Debug" in dump:
        of = object_of(dump["Debug"], "Debug")
        added.debug = read_held(of)
        _read_held(of, added)
    return added


def _site(value: object, where: str, sites: list[str]) -> str:
    index = number(value, where)
    if index >= len(sites):
        wrong(where, f"call site {index} of {len(sites)}")
    return sites[index]


def _alias(value: object, where: str, sites: list[str]) -> Region:
    of = object_of(value, where)
    type_name = text(get(of, "Type", where), f"{where}.Type")
    name, data = of.get("Name"), of.get("CustomData")
    resource_class = CLASSES.get(type_name, ResourceClass.UNKNOWN)
    if resource_class is ResourceClass.FREE:
        wrong(f"{where}.Type", "an alias is a resource, not FREE")
    return Region(
        number(get(of, "Offset", where), f"{where}.Offset"),
        number(get(of, "Size", where), f"{where}.Size"),
        resource_class,
        number(of.get("Usage", 0), f"{where}.Usage"),
        None if name is None else text(name, f"{where}.Name"),
        None if data is None else text(data, f"{where}.CustomData"),
        type_name,
        call_site=_site(of["CallSite"], f"{where}.CallSite", sites) if "CallSite" in of else None,
    )


def _read(
    of: Mapping[str, Any],
    key: str,
    added: Additions,
    value: Callable[[object, str], T],
    values: Callable[[Places], dict[int, T]],
) -> None:
    """Reads one of these keys, which has values by offset or by index."""

    def entries(given: object, where: str, path: Path) -> None:
        for place, item in items(given, where):
            if not PLACE.fullmatch(place):
                wrong(where, "keys are offsets or indices")
            here = f"{where}.{place}"
            found = value(item, here)
            values(added.at(path, where))[int(place)] = found

    _walk(of, key, entries, entries)


def _read_held(of: Mapping[str, Any], added: Additions) -> None:
    """Reads margins and quarantine: pairs of offset and size, and those of dedicated memory."""

    def block(given: object, where: str, path: Path) -> None:
        here, held = object_of(given, where), added.at(path, where).held
        for key, resource_class in HELD.items():
            for index, item in enumerate(list_of(here.get(key, []), f"{where}.{key}")):
                offset, size = numbers(item, 2, f"{where}.{key}[{index}]")
                if offset in held:
                    wrong(f"{where}.{key}[{index}]", f"offset {offset} is listed twice")
                held[offset] = (size, resource_class)

    def dedicated(given: object, where: str, path: Path) -> None:
        for place, item in items(given, where):
            if not PLACE.fullmatch(place):
                wrong(where, "keys are indices")
            front, back = numbers(item, 2, f"{where}.{place}")
            added.at(path, where).margins[int(place)] = (front, back)

    def pool(here: Mapping[str, Any], where: str, path: Path) -> None:
        listed = list_of(here.get("QuarantinedDedicated", []), f"{where}.QuarantinedDedicated")
        regions = []
        for index, item in enumerate(listed):
            size, *margins = numbers(item, 3, f"{where}.QuarantinedDedicated[{index}]")
            held = ResourceClass.QUARANTINED
            regions.append(Region(0, size, held, margins=(margins[0], margins[1])))
        if regions:
            added.quarantine(path, tuple(regions))

    _walk(of, "Debug", block, dedicated, pool)


Entries = Callable[[object, str, Path], None]


def _walk(
    of: Mapping[str, Any],
    key: str,
    block: Entries,
    dedicated: Entries,
    whole: Callable[[Mapping[str, Any], str, Path], None] | None = None,
) -> None:
    """Walks the value of one of these keys, which has the layout of the pools."""

    def pool(given: object, where: str, path: Path) -> None:
        here = object_of(given, where)
        for identity, item in items(here.get("Blocks", {}), f"{where}.Blocks"):
            block(item, f"{where}.Blocks.{identity[:40]}", (*path, identity))
        there = f"{where}.DedicatedAllocations"
        dedicated(here.get("DedicatedAllocations", {}), there, (*path, None))
        if whole is not None:
            whole(here, where, path)

    for type_name, item in items(of.get("DefaultPools", {}), f"{key}.DefaultPools"):
        where = f"{key}.DefaultPools.{type_name[:40]}"
        pool(item, where, ("DefaultPools", type_name))
    for type_name, listed in items(of.get("CustomPools", {}), f"{key}.CustomPools"):
        there = f"{key}.CustomPools.{type_name[:40]}"
        for index, item in items(listed, there):
            pool(item, f"{there}.{index[:40]}", ("CustomPools", type_name, index))
