"""Runs the programs of a page to make its pictures, when the site is built.

`![alt](name.svg)` stands for a picture that a program of the page wrote as `name.svg`. It is put
into the page inline, so that hovering shows its tooltips and it has the colours of the site's
scheme. `![alt](name.html)` does so for a page of `vk_mem.view.html`.
"""

from __future__ import annotations

import contextlib
import html
import io
import logging
import os
import posixpath
import re
import tempfile
from pathlib import Path

from code_blocks import python_blocks, run
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

log = logging.getLogger("mkdocs.hooks.programs")

PICTURE = re.compile(r"!\[[^\]]*\]\(([\w-]+\.(?:svg|html))\)")
HIDDEN = re.compile(r"<!--\s*hidden\b.*?-->\n?", re.DOTALL)
IMAGE = re.compile(r'<p><img alt="([^"]*)" src="([\w-]+\.(svg|html))" ?/?></p>')
DARK = "@media(prefers-color-scheme:dark){"

_made: dict[str, str] = {}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Runs the programs of each page that shows a picture."""
    _made.clear()
    for file in list(files.documentation_pages()):
        text = Path(str(file.abs_src_path)).read_text(encoding="utf-8")
        for name, content in _pictures(text, file.src_uri).items():
            uri = posixpath.join(posixpath.dirname(file.src_uri), name)
            if uri in _made:
                log.warning("%s: another page has a picture %s", file.src_uri, uri)
            _made[uri] = content
            files.append(File.generated(config, uri, content=content))
    return files


def _pictures(text: str, page: str) -> dict[str, str]:
    names = PICTURE.findall(text)
    if not names:
        return {}
    there = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="vk-mem-docs-") as folder:
        os.chdir(folder)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                # Call sites in the pictures name the page, not a path of this machine.
                run(python_blocks(text), page)
            return {name: Path(name).read_text(encoding="utf-8") for name in names}
        finally:
            os.chdir(there)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leaves out what only runs."""
    return HIDDEN.sub("", markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Puts the pictures in, last of all: their texts are nothing to search for."""
    folder = posixpath.dirname(page.file.src_uri)

    def shown(found: re.Match[str]) -> str:
        alt, name, kind = found.groups()
        content = _made.get(posixpath.join(folder, name))
        if content is None:
            return found[0]
        if kind == "html":
            inner = f'<iframe src="{name}" title="{alt}" loading="lazy"></iframe>'
        else:
            inner = _inline(content, html.unescape(alt))
        link = f'<a href="{name}">by itself</a>'
        return (
            f'<figure class="vkm-picture">{inner}<figcaption>{alt} ({link})</figcaption></figure>'
        )

    return IMAGE.sub(shown, output)


def _inline(svg: str, alt: str) -> str:
    """In the scheme of the site instead of that of the browser."""
    svg = svg[svg.index("<svg") :]
    svg = svg.replace(DARK, "[data-md-color-scheme=slate]{")
    label = html.escape(alt, quote=True)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
