"""Docstrings of the compiled module beside the signatures of its stub, for mkdocstrings."""

from __future__ import annotations

import importlib
import inspect
import logging
import re
from typing import Any

import griffe

import vk_mem

log = logging.getLogger("mkdocs.hooks.docstrings")

NATIVE = "vk_mem._vk_mem"
# Where things are made; all of them are reached through `vk_mem` itself.
MODULES = {"_vk_mem", "buffer_heap", "compare", "dump", "draw", "errors", "flags", "format", "leaks"}
MODULES |= {"load", "measure", "memory", "model", "resource", "retention", "serve", "summary", "tables"}
# In reStructuredText a double colon stands before what is code.
LITERAL = re.compile(r"::(\n\n {4})")


class NativeDocstrings(griffe.Extension):
    """Stubs have no docstrings: those of the running module are taken."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: Any) -> None:
        native = importlib.import_module(NATIVE)
        module = pkg["_vk_mem"]
        for member in module.members.values():
            if not member.is_alias and member.is_class:
                self._show_overloaded(member)
        for name in native.__all__:
            if not name.startswith("_"):
                self._complete(module.members[name], getattr(native, name))
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
            shown.docstring.value = LITERAL.sub(r":\1", shown.docstring.value)
        elif (shown.is_class or shown.is_function) and _is_public(shown.path):
            log.warning("%s has no docstring", shown.path)
        for member in shown.members.values():
            self._tidy(member, seen)


def _is_public(path: str) -> bool:
    """Whether it can be reached through `vk_mem` and is no special method."""
    names = [name for name in path.split(".")[1:] if name not in MODULES]
    return names[:1] != [] and names[0] in vk_mem.__all__ and not names[-1].startswith("_")
