"""Docstrings of the compiled module beside the signatures of its stub, for mkdocstrings."""

from __future__ import annotations

import importlib
import inspect
import logging
import re
from typing import Any

import griffe

log = logging.getLogger("mkdocs.hooks.docstrings")

NATIVE = "vk_mem._vk_mem"
# In reStructuredText a double colon stands before what is code.
LITERAL = re.compile(r"::(\n\n {4})")


class NativeDocstrings(griffe.Extension):
    """Stubs have no docstrings: those of the running module are taken."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: Any) -> None:
        native = importlib.import_module(NATIVE)
        module = pkg["_vk_mem"]
        for name in native.__all__:
            if not name.startswith("_"):
                self._complete(module.members[name], getattr(native, name))
        self._tidy(pkg, set())

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
        private = any(part.startswith("_") for part in shown.name.split("."))
        if shown.docstring is not None:
            shown.docstring.value = LITERAL.sub(r":\1", shown.docstring.value)
        elif (shown.is_class or shown.is_function) and not private and _is_public(shown):
            log.warning("%s has no docstring", shown.path)
        for member in shown.members.values():
            self._tidy(member, seen)


def _is_public(shown: griffe.Object | griffe.Alias) -> bool:
    """Whether it, or what it belongs to, can be reached through `vk_mem`."""
    import vk_mem

    names = shown.path.split(".")
    return any(name in vk_mem.__all__ for name in names)
