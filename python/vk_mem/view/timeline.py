"""Completes the data of a trace's page, which `crates/trace/src/page` makes and describes.

Added to its header are title and summary, titles of heaps, memory types and pools, kinds of uses,
and the colours of groups; bytes and texts stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from vk_mem.dump.additions import CLASSES
from vk_mem.dump.kinds import KINDS, kind_of, usage_text
from vk_mem.dump.model import Region
from vk_mem.dump.words import flags_text
from vk_mem.flags import MemoryHeapFlags, MemoryPropertyFlags
from vk_mem.text import count_text
from vk_mem.trace import Trace
from vk_mem.view.columns import kinds, packed
from vk_mem.view.scene import Progress
from vk_mem.view.theme import DARK, LIGHT, ink_on

# Neighbours in a stack differ in hue and in lightness. The first are those of the largest groups.
GROUPS = (
    "vertex",
    "sampled",
    "storage",
    "attachment",
    "uniform",
    "storage-image",
    "buffer",
    "image",
    "acceleration",
    "transfer",
)
REST = "same"

Header = dict[str, Any]


def encode_trace(
    trace: Trace, title: str | None, progress: Progress
) -> tuple[Header, Iterator[str]]:
    """Returns the header, and the columns in base64, which are compressed while it is iterated."""
    made, body = trace._data.timeline(progress)
    header: Header = json.loads(made)
    header["title"] = title if title is not None else _heading(header, trace.source)
    header["summary"] = list(_summary(header))
    header["kinds"] = [*kinds(), *group_kinds()]
    header["themes"] = {"light": LIGHT, "dark": DARK}
    header["uses"] = [_use(it) for it in header["uses"]]
    header["heaps"] = [_heap(it, at) for at, it in enumerate(header["heaps"])]
    header["types"] = [_type(it, header["heaps"]) for it in header["types"]]
    several = len({it["allocator"] for it in header["pools"]}) > 1
    names = _texts(header, body) if any(it["name"] for it in header["pools"]) else [""]
    header["pools"] = [_pool(it, header["types"], names, several) for it in header["pools"]]
    return header, packed([memoryview(body)])


def group_kinds() -> Iterator[dict[str, Any]]:
    """Yields a kind for each group of a stack, and one for the rest of them."""
    by_key = {kind.key: kind for kind in KINDS}
    keys = [(f"group {number}", key) for number, key in enumerate(GROUPS)]
    for key, like in [*keys, ("group rest", REST)]:
        kind = by_key[like]
        light, dark = kind.colour, kind.dark or kind.colour
        inks = {"onLight": ink_on(light), "onDark": ink_on(dark)}
        yield {"key": key, "title": key, "held": False, "light": light, "dark": dark, **inks}


def _heading(header: Header, source: str) -> str:
    what = header["program"] or source or header["format"]
    device = header["device"]
    return f"{what} on {device}" if device and not header["played"] else f"{what}"


def _summary(header: Header) -> Iterator[str]:
    parts = [f"{header['format']} {header['source']}", count_text(header["events"], "event")]
    if header["cut"]:
        parts.append("the end of the file is missing")
    if header["warnings"]:
        parts.append(count_text(header["warnings"], "warning"))
    yield ", ".join(parts)
    if header["played"]:
        yield (
            "The trace does not say what was where: the places are those of a simulated device on "
            f"which it was played ({header['device']})."
        )


def _use(use: dict[str, Any]) -> dict[str, Any]:
    region = Region(0, 0, CLASSES[use["class"]], int(use["usage"], 16), type_name=use["class"])
    more = {"class": region.resource_class.value, "type": use["class"], "layout": None}
    return {**use, **more, "kind": kind_of(region), "flags": usage_text(region)}


@cache
def _flag_names(kind: type[MemoryHeapFlags] | type[MemoryPropertyFlags], bits: int) -> str:
    named = {int(it): it.name or "" for it in kind}
    found = [name for bit, name in named.items() if bits & bit]
    rest = bits & ~sum(named)
    return flags_text((*found, *([f"0x{rest:x}"] if rest else [])))


def _heap(heap: dict[str, Any], number: int) -> dict[str, Any]:
    if heap["flags"] is None:
        device = heap["device"]
        name = "Other memory" if device is None else "Memory" if device == 0 else f"GPU {device}"
        return {**heap, "name": name, "flags": "", "texts": []}
    flags = _flag_names(MemoryHeapFlags, heap["flags"])
    return {**heap, "name": f"Heap {number}", "flags": flags, "texts": []}


def _type(of: dict[str, Any], heaps: list[dict[str, Any]]) -> dict[str, Any]:
    if of["number"] is None:
        name, flags = heaps[of["heap"]]["name"], ""
    else:
        name = f"Type {of['number']}"
        flags = _flag_names(MemoryPropertyFlags, of["flags"])
    return {**of, "name": name, "flags": flags, "blocks": 0, "held": 0, "allocated": 0}


def _pool(
    pool: dict[str, Any], types: list[dict[str, Any]], names: list[str], several: bool
) -> dict[str, Any]:
    of_type = types[pool["type"]]
    title, name = of_type["name"], None
    if pool["number"] is not None:
        given = names[pool["name"]]
        name = f"{pool['number']} - {given}" if given else str(pool["number"])
        title += f", pool {name}"
    if several and of_type["number"] is not None:
        title += f" of allocator {pool['allocator']}"
    return {**pool, "title": title, "name": name, "flags": "", "figures": ""}


def _texts(header: Header, body: bytes) -> list[str]:
    texts: list[str] = json.loads(body[len(body) - header["texts"] :])
    return texts
