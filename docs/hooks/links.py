"""Turns names of the package in Markdown into links to the reference."""

from __future__ import annotations

import enum
import inspect
import re
from functools import cache

import vk_mem

FENCE = re.compile(r"\s*(`{3,}|~{3,})")
CODE = re.compile(r"(?<![`\[])`([^`\n]+)`(?![`\]])")
NAME = re.compile(r"(?:vk_mem\.)?([A-Za-z_][\w.]*)(\(.*\))?")
# Bare names of these methods stand for them: `create_buffer` is `Allocator.create_buffer`.
SPEAK_FOR_THEMSELVES = ("Allocator", "Resource", "Allocation", "SimulatedDevice")


@cache
def public() -> dict[str, str]:
    """What may stand in a text, and where it is in the reference."""
    found: dict[str, str] = {}
    members: dict[str, str] = {}
    for name in vk_mem.__all__:
        thing = getattr(vk_mem, name)
        if inspect.ismodule(thing):
            # As they are: `view.svg`.
            for inner in thing.__all__:
                found[f"{name}.{inner}"] = f"vk_mem.{name}.{inner}"
            continue
        if not callable(thing):
            continue
        found[name] = f"vk_mem.{name}"
        if not inspect.isclass(thing):
            continue
        if issubclass(thing, enum.Enum):
            # Its values stand in a table.
            found |= {f"{name}.{inner}": f"vk_mem.{name}" for inner in thing.__members__}
            continue
        for base in reversed(thing.__mro__):
            if not base.__module__.startswith(("vk_mem", "builtins")) or base is object:
                continue
            for inner in vars(base):
                owner = base.__name__
                if inner.startswith("_") or owner not in vk_mem.__all__:
                    continue
                found[f"{name}.{inner}"] = f"vk_mem.{owner}.{inner}"
                if name in SPEAK_FOR_THEMSELVES and callable(vars(base)[inner]):
                    members.setdefault(inner, f"vk_mem.{owner}.{inner}")
    # Words such as `size` belong to many.
    return {**{it: where for it, where in members.items() if "_" in it}, **found}


def linked(markdown: str) -> str:
    """Turns `Allocator.create_buffer` and the like into links, outside of programs and titles."""
    lines, fence = [], None
    for line in markdown.splitlines():
        if found := FENCE.match(line):
            fence = None if fence == found[1] else fence or found[1]
        elif fence is None and not line.lstrip().startswith(("#", ":::")):
            line = CODE.sub(_link, line)
        lines.append(line)
    return "\n".join(lines)


def _link(found: re.Match[str]) -> str:
    name = NAME.fullmatch(found[1])
    where = public().get(name[1]) if name else None
    return found[0] if where is None else f"[{found[0]}][{where}]"
