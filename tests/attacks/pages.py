"""Markup and scripts in every text of a dump, none of which may reach the output unescaped."""

from __future__ import annotations

import random
import re
import tempfile
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from browser import launched
from pictures import MIB, page_data

import vk_mem
from attacks.registry import Budget, attack
from vk_mem import Dump, view
from vk_mem.dump import (
    Block,
    Figures,
    Heap,
    MemoryType,
    PoolDump,
    Region,
    ResourceClass,
)

CALL = "window.hacked=1"
PAYLOADS = (
    f"<script>{CALL}</script>",
    f"</script><script>{CALL}</script>",
    f"</title><script>{CALL}</script>",
    f"</style><script>{CALL}</script>",
    f"<img src=x onerror={CALL}>",
    f'"><img src=x onerror="{CALL}">',
    f"'><svg onload='{CALL}'>",
    f"]]><script>{CALL}</script>",
    f"--><script>{CALL}</script><!--",
    f"<!--<script>{CALL}",
    f'" onmouseover="{CALL}" x="',
    f"' onfocus='{CALL}' autofocus x='",
    f"javascript:{CALL}",
    f"<a href='javascript:{CALL}'>x</a>",
    f"<iframe srcdoc='<script>parent.{CALL}</script>'>",
    f"<use href='data:image/svg+xml,<svg onload={CALL}>'/>",
    f"<foreignObject><body onload={CALL}/></foreignObject>",
    f"<animate attributeName=href values=javascript:{CALL}>",
    f"&lt;script&gt;{CALL}&lt;/script&gt;",
    f"&#60;script&#62;{CALL}&#60;/script&#62;",
    f"\\u003cscript\\u003e{CALL}\\u003c/script\\u003e",
    f"`${{{CALL}}}`",
    "{{lump}}{{header}}{{script}}{{policy}}",
    f"<?xml-stylesheet href='javascript:{CALL}'?>",
    f"<!ENTITY x '{CALL}'>&x;",
    f"url(javascript:{CALL})",
    f"}}</style><script>{CALL}</script>",
    "<base href='https://example.org/'>",
    "<meta http-equiv=refresh content='0;url=https://example.org/'>",
    "<link rel=stylesheet href='https://example.org/x.css'>",
    "<form action='https://example.org/'><input autofocus>",
    f"<math><mtext><script>{CALL}</script>",
    f"<noscript><p title='</noscript><img src=x onerror={CALL}>'>",
    f"<template><script>{CALL}</script></template>",
    "\0<scr\0ipt>",
    "\u202e<script>\u2066",
    f"+ADw-script+AD4-{CALL}+ADw-/script+AD4-",
    "\ud800<script>\udfff",
    "\u2028\u2029*/;//",
)
PIECES = (
    "<", ">", '"', "'", "&", ";", "/", "`", "\\", "{{", "}}", "<!--", "-->", "]]>", "<![CDATA[",
    "script", "style", "title", "svg", "onload=", CALL, " ", "\n", "\0", "\u2028", "&#x3c", "&lt",
)  # fmt: skip
SVG = "{http://www.w3.org/2000/svg}"
IN_AN_SVG = {"svg", "title", "style", "defs", "pattern", "path", "rect", "g", "text"}
IN_A_SUMMARY = {"div", "span", "b", "table", "tr", "td", "svg", "rect", "title"}
ATTRIBUTES = {
    "class", "width", "height", "viewBox", "viewbox", "role", "aria-label", "id", "patternUnits",
    "d", "x", "y", "rx", "fill", "fill-opacity", "text-anchor", "data-id", "data-size", "transform",
    "style",
}  # fmt: skip


@attack("pages", short=12)
def injected_fields(seed: int, budget: Budget) -> None:
    """Puts markup into every text of dumps: in pages, SVGs and summaries it is none."""
    clean = Counted(view.html(nasty(random.Random(0), plain=True)))
    for number, dice in budget.cases(seed):
        with budget.case(seed, number):
            dump, other = nasty(dice), nasty(dice)
            title = text(dice)
            for than in (None, other):
                check_page(view.html(dump, other=than, title=title), clean)
                check_svg(view.svg(dump, other=than, title=title))
                budget.counted["pages and SVGs"] += 2
            check_summary(dump._repr_html_() + vk_mem.diff(dump, other)._repr_html_())
            budget.counted["fields"] += 3 * FIELDS


@attack("browser", short=3)
def injected_fields_in_a_browser(seed: int, budget: Budget) -> None:
    """Opens such pages, SVGs and summaries in Chromium and moves about in them; no script runs."""
    with launched() as (browser, why), tempfile.TemporaryDirectory() as folder:
        if browser is None:
            budget.counted[f"nothing done: {why}"] += 1
            return
        for number, dice in budget.cases(seed):
            with budget.case(seed, number):
                dump, other = nasty(dice), nasty(dice)
                documents = {
                    "page.html": view.html(dump, title=text(dice)),
                    "compared.html": view.html(dump, other=other),
                    "picture.svg": view.svg(dump, other=other, title=text(dice)),
                    "summary.html": f"<meta charset=utf-8><body>{dump._repr_html_()}",
                }
                for name, made in documents.items():
                    path = Path(folder, name)
                    path.write_text(made, encoding="utf-8")
                    visit(browser, path)
                    budget.counted["documents"] += 1
                    budget.counted["fields"] += FIELDS


# ---- dumps full of it ----

FIELDS = 60
"""Texts of a dump, about."""


def text(dice: random.Random) -> str:
    """One of the known ones, or pieces of them at random."""
    if dice.random() < 0.6:
        return dice.choice(PAYLOADS)
    return "".join(dice.choice(PIECES) for _ in range(dice.randrange(1, 25)))


def nasty(dice: random.Random, plain: bool = False) -> Dump:
    """A dump whose texts are all such; of `plain` ones none is."""

    def some() -> str:
        return "text" if plain else text(dice)

    def region(index: int, **more: Any) -> Region:
        held = dice.choice([ResourceClass.BUFFER, ResourceClass.IMAGE_OPTIMAL])
        words = {"name": some(), "custom_data": some(), "type_name": some(), "call_site": some()}
        return Region(index * MIB, MIB, held, 1 << index, **words, **more)

    regions = tuple(
        region(index, aliases=(region(index),) if index == 3 else ()) for index in range(8)
    )
    kind = some()
    block = Block(some(), 16 * MIB, regions)
    pools = (
        PoolDump(kind, None, MIB, (some(),), (block,), (region(0),)),
        PoolDump(kind, some(), MIB, (some(),), (Block(some(), 16 * MIB, regions[:3]),), ()),
        PoolDump(some(), some(), MIB, (some(),), (), (region(0),)),
    )
    figures = Figures(3, 33 * MIB, 12, 12 * MIB, 0)
    types = (MemoryType(kind, (some(), some()), figures), MemoryType(some(), (), figures))
    heap = Heap(some(), (some(), some()), 64 * MIB, 60 * MIB, 33 * MIB, figures, types)
    empty = Heap(some(), (), None, None, None, Figures(0, 0, 0, 0, 0), ())
    return Dump("Vulkan", some(), {some(): some()}, figures, (heap, empty), pools, True, some())


# ---- looking at what came out ----


class Counted(HTMLParser):
    """Which elements with which attributes a document has, and what its scripts are."""

    def __init__(self, document: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: Counter[tuple[str, tuple[str, ...]]] = Counter()
        self.scripts: list[str] = []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements[tag, tuple(name for name, _ in attributes)] += 1
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data


def check_page(page: str, clean: Counted) -> None:
    """The same elements as those of a page without markup in its texts, and the same program."""
    found = Counted(page)
    assert found.elements == clean.elements, found.elements - clean.elements
    programs = [it for it in found.scripts if CALL not in it and "use strict" in it]
    assert programs == [it for it in clean.scripts if "use strict" in it]
    assert "default-src 'none'" in page and "unsafe" not in page.partition("<style")[0]
    page_data(page)


def check_svg(picture: str) -> None:
    """Only what pictures consist of, and nothing that refers to anything outside."""
    assert "<!" not in picture and "<?" not in picture
    for element in ElementTree.fromstring(picture).iter():
        assert element.tag.removeprefix(SVG) in IN_AN_SVG, element.tag
        assert set(element.attrib) <= ATTRIBUTES, element.attrib
        for name, value in element.attrib.items():
            if name in ("fill", "style", "transform", "d"):
                assert CALL not in value, (name, value)
        if element.tag == f"{SVG}style":
            assert CALL not in (element.text or "")


def check_summary(summary: str) -> None:
    """The same of what notebooks show."""
    for tag, attributes in Counted(summary).elements:
        assert tag in IN_A_SUMMARY, tag
        assert set(attributes) <= ATTRIBUTES, (tag, attributes)
    assert re.search(r"style=\"[^\"]*hacked", summary) is None


def visit(browser: Any, path: Path) -> None:
    """Opens it, searches, hovers and moves about; nothing of it runs, asks or loads anything."""
    troubles: list[str] = []
    context = browser.new_context()
    try:
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("dialog", lambda it: (troubles.append(it.message), it.dismiss()))
        page.on("pageerror", lambda it: troubles.append(str(it)))
        page.on(
            "request", lambda it: None if it.url == path.as_uri() else troubles.append(it.url[:200])
        )
        page.goto(path.as_uri())
        if path.name.endswith(".html") and path.name != "summary.html":
            page.wait_for_selector("html[data-ready=yes]", state="attached")
            page.focus("#canvas")
            for key in ("n", "n", "Enter", "+", "p", "Escape"):
                page.keyboard.press(key)
            for x in range(300, 1200, 90):
                page.mouse.move(x, 300)
            page.fill("input[type=search]", "script")
            page.wait_for_timeout(50)
        assert page.evaluate("window.hacked") is None, "a script ran"
        foreign = "img, iframe, object, embed, link, a, foreignObject, animate, base, [action]"
        assert page.locator(foreign).count() == 0
        assert page.url == path.as_uri()
    finally:
        context.close()
    assert troubles == []
