"""Adds the docstrings of the compiled module to the signatures of its stub, for mkdocstrings."""

from __future__ import annotations

import importlib
import inspect
import logging
import re
from collections.abc import Iterator
from typing import Any

import griffe
from links import linked

import vk_mem

log = logging.getLogger("mkdocs.hooks.docstrings")

NATIVE = "vk_mem._vk_mem"
# In reStructuredText a double colon stands before what is code.
LITERAL = re.compile(r"::(\n\n {4})")


class NativeDocstrings(griffe.Extension):
    """Stubs have no docstrings: those of the running module are taken."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: Any) -> None:
        native = importlib.import_module(NATIVE)
        for member in _defined(pkg["_vk_mem"]):
            if member.is_class:
                self._show_overloaded(member)
            if not member.name.startswith("_") and member.name in native.__all__:
                self._complete(member, getattr(native, member.name))
        self._tidy(pkg, set())

    def _show_overloaded(self, cls: griffe.Class) -> None:
        """What a stub has overloads of only is no member for griffe."""
        for name, overloads in cls.overloads.items():
            if name in cls.members:
                continue
            first = overloads[0]
            made = griffe.Function(
                name, parameters=first.parameters, returns=first.returns, lineno=first.lineno
            )
            made.overloads = overloads
            cls.set_member(name, made)
        in_order = sorted(cls.members.items(), key=lambda it: it[1].lineno or 0)
        cls.members.clear()
        cls.members.update(in_order)

    def _complete(self, shown: griffe.Object | griffe.Alias, thing: object) -> None:
        text = inspect.getdoc(thing)
        if text and not shown.is_alias:
            shown.docstring = griffe.Docstring(text, parent=shown)
        if not isinstance(thing, type):
            return
        for name, member in shown.members.items():
            if name in vars(thing) and not name.startswith("_"):
                self._complete(member, vars(thing)[name])

    def _tidy(self, shown: griffe.Object | griffe.Alias, seen: set[str]) -> None:
        """Markdown of all docstrings, and a warning where one is missing."""
        if shown.is_alias or shown.path in seen:
            return
        seen.add(shown.path)
        if shown.docstring is not None:
            shown.docstring.value = linked(LITERAL.sub(r":\1", shown.docstring.value))
        elif (shown.is_class or shown.is_function) and _is_public(shown):
            log.warning("%s has no docstring", shown.path)
        if shown.is_class and any(str(base).startswith("enum.") for base in shown.bases):
            _enumeration(shown)
        for member in shown.members.values():
            self._tidy(member, seen)


def _defined(module: griffe.Module) -> Iterator[griffe.Object]:
    """The members of a module and of the modules below it, without what they import."""
    for member in list(module.members.values()):
        if member.is_alias:
            continue
        if member.is_module:
            yield from _defined(member)
        else:
            yield member


def _public() -> set[str]:
    """Paths of what can be reached through `vk_mem`, where it is made."""
    found = set()
    for name in vk_mem.__all__:
        thing = getattr(vk_mem, name)
        things = [thing]
        if inspect.ismodule(thing):
            things = [getattr(thing, inner) for inner in thing.__all__]
        found |= {it.__qualname__ for it in things if callable(it)}
    return found


def _is_public(shown: griffe.Object | griffe.Alias) -> bool:
    inside = shown.path.removeprefix(f"{shown.module.path}.")
    return inside.split(".")[0] in PUBLIC and not shown.name.startswith("_")


def _enumeration(cls: griffe.Class) -> None:
    """Shows its values as a table, instead of a title for each."""
    rows = ["", "", "| name | value | |", "| --- | ---: | --- |"]
    for name, member in list(cls.members.items()):
        if not member.is_attribute or name.startswith("_"):
            continue
        shown = str(member.value)
        if shown[:1].isdigit():
            value = int(shown.replace("_", ""), 0)
            shown = hex(value) if shown.startswith("0x") else str(value)
        words = "" if member.docstring is None else " ".join(member.docstring.value.split())
        rows.append(f"| `{name}` | {shown} | {words} |")
        del cls.members[name]
    text = "" if cls.docstring is None else cls.docstring.value
    cls.docstring = griffe.Docstring(text + "\n".join(rows), parent=cls)


PUBLIC = _public()
