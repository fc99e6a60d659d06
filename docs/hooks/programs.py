"""Runs the programs of a page to make its pictures, when the site is built.

`![alt](name.svg)` stands for a picture that a program of the page wrote as `name.svg`. It is put
into the page inline, so that hovering shows its tooltips and it has the colours of the site's
scheme. `![alt](name.html)` does so for a page of `vk_mem.view.html`, `![alt](name.png)` for a
bitmap. The gallery shows them again, by their paths, without running anything.
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

import contact_sheet
from code_blocks import python_blocks, run
from gallery import differences, pictures
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

log = logging.getLogger("mkdocs.hooks.programs")

HIDDEN = re.compile(r"<!--\s*hidden\b.*?-->\n?", re.DOTALL)
IMAGE = re.compile(r'<p><img alt="([^"]*)" src="([\w./-]+\.(svg|html|png))" ?/?></p>')
SHEET = re.compile(rf"!\[[^\]]*\]\({re.escape(contact_sheet.SHEET)}\)")
DARK = "@media(prefers-color-scheme:dark){"

_made: dict[str, bytes] = {}
_no_sheet: str | None = None


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Runs the programs of each page that shows a picture."""
    global _no_sheet
    _made.clear()
    texts = {
        it.src_uri: Path(str(it.abs_src_path)).read_text(encoding="utf-8")
        for it in files.documentation_pages()
    }
    pages = {it.dest_uri for it in files.documentation_pages()}
    for page, text in texts.items():
        for name, content in _pictures(text, page).items():
            uri = posixpath.join(posixpath.dirname(page), name)
            if uri in _made or uri in pages:
                log.warning("%s: another page or picture is called %s", page, uri)
            _made[uri] = content
    if any(SHEET.search(text) for text in texts.values()):
        _no_sheet = contact_sheet.why_not()
        if _no_sheet is None:
            root = Path(config.config_file_path).parent
            _made[contact_sheet.SHEET] = contact_sheet.drawn(root)
    for uri, content in _made.items():
        files.append(File.generated(config, uri, content=content))
    for line in differences(texts):
        log.warning(line)
    return files


def _pictures(text: str, page: str) -> dict[str, bytes]:
    names = pictures(page, text)
    if not names:
        return {}
    there = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="vk-mem-docs-") as folder:
        os.chdir(folder)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                # Call sites in the pictures name the page, not a path of this machine.
                run(python_blocks(text), page)
            return {name: Path(name).read_bytes() for name in names}
        finally:
            os.chdir(there)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leaves out what only runs, and says why what could not be drawn is missing."""
    if _no_sheet is not None:
        note = f'!!! note "Not drawn in this build"\n    {_no_sheet}'
        markdown = SHEET.sub(lambda _: note, markdown)
    return HIDDEN.sub("", markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Puts the pictures in, last of all: their texts are nothing to search for."""
    folder = posixpath.dirname(page.file.src_uri)

    def shown(found: re.Match[str]) -> str:
        alt, name, kind = found.groups()
        content = _made.get(posixpath.normpath(posixpath.join(folder, name)))
        if content is None:
            return found[0]
        if kind == "html":
            # A timeline stands below the map.
            tall = ' class="tall"' if b'data-kind="trace"' in content else ""
            inner = f'<iframe{tall} src="{name}" title="{alt}" loading="lazy"></iframe>'
        elif kind == "png":
            inner = f'<img src="{name}" alt="{alt}" loading="lazy">'
        else:
            inner = _inline(content.decode("utf-8"), html.unescape(alt))
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
