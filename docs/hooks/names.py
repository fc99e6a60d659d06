"""Links names of the package in pages to the reference, and warns of unknown names."""

from __future__ import annotations

import enum
import inspect
import logging
import re

from links import linked
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

import vk_mem

log = logging.getLogger("mkdocs.hooks.names")

IDENTIFIER = re.compile(r'id="(vk_mem\.[\w.]+)"')

_shown: set[str] = set()


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links what is named in the text."""
    return linked(markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Notes what the reference shows."""
    _shown.update(IDENTIFIER.findall(output))
    return output


def on_post_build(config: MkDocsConfig) -> None:
    """Warns, which ends a strict build, of what it does not show."""
    for name in vk_mem.__all__:
        thing = getattr(vk_mem, name)
        if not callable(thing):
            continue
        if f"vk_mem.{name}" not in _shown:
            log.warning("vk_mem.%s is not in the reference", name)
        if inspect.isclass(thing) and not issubclass(thing, enum.Enum):
            for inner in vars(thing):
                if not inner.startswith("_") and f"vk_mem.{name}.{inner}" not in _shown:
                    log.warning("vk_mem.%s.%s is not in the reference", name, inner)
    _shown.clear()
