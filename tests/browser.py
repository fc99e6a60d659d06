"""Fixtures that open a page in a real browser, and helpers that query it."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import vk_mem

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def launched() -> Iterator[tuple[Any, str]]:
    """The browser; None and the reason where there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        yield None, f"none of {', '.join(BROWSERS)} is installed"
        return
    try:
        api = importlib.import_module("playwright.sync_api")
    except ImportError:
        yield None, "playwright is not installed"
        return
    with api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"]
            )
        except api.Error as error:
            yield None, f"{found} does not start: {str(error).splitlines()[0]}"
            return
        yield browser, ""
        browser.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as (browser, why):
        if browser is None:
            pytest.skip(why)
        yield browser


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens the page of a dump. At the end nothing may have gone wrong or been asked of the net."""
    contexts: list[Any] = []
    troubles: list[str] = []

    def open_page(
        source: Any,
        other: Any = None,
        width: int = 1300,
        height: int = 800,
        dark: bool = False,
        **more: Any,
    ) -> Any:
        path = tmp_path / f"page{len(contexts)}.html"
        vk_mem.view.html(source, path, other=other, **more)
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        # A hint to the tests themselves, which read the canvas.
        page.on(
            "console",
            lambda it: None if "willReadFrequently" in it.text else troubles.append(it.text),
        )
        page.on("dialog", lambda dialog: troubles.append(dialog.message))
        page.on(
            "request",
            lambda it: None if it.url == path.as_uri() else troubles.append(it.url[:200]),
        )
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready=yes]", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


def settle(page: Any) -> None:
    """Until everything that was asked for is drawn."""
    page.wait_for_timeout(150)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)))")


def row_of(page: Any, name: str) -> int:
    """The number of the row with that name."""
    found = page.evaluate(
        """(name) => { const { data } = vkMem; const text = data.texts.indexOf(name);
           return data.columns.name.findIndex((it) => it === text && text > 0) }""",
        name,
    )
    assert found >= 0, name
    return int(found)


def rect_of(page: Any, name: str) -> dict[str, float]:
    """Where it is drawn, in pixels of the page."""
    rect = page.evaluate(
        """(row) => { const rect = vkMem.map.rectOf(row); if (!rect) return null;
           const box = vkMem.map.canvas.getBoundingClientRect();
           return { ...rect, x: rect.x + box.x, y: rect.y + box.y } }""",
        row_of(page, name),
    )
    assert rect is not None, f"{name} is out of sight"
    return dict(rect)


def middle_of(page: Any, name: str) -> tuple[float, float]:
    rect = rect_of(page, name)
    return rect["x"] + rect["width"] / 2, rect["y"] + rect["height"] / 2


def colour_at(page: Any, x: float, y: float) -> str:
    """Of the canvas, at a point of the page."""
    return str(
        page.evaluate(
            """([x, y]) => { const { canvas, view } = vkMem.map;
               const box = canvas.getBoundingClientRect();
               const pixel = canvas.getContext("2d").getImageData(
                 Math.round((x - box.x) * view.ratio), Math.round((y - box.y) * view.ratio), 1, 1);
               const hex = (value) => value.toString(16).padStart(2, "0");
               return "#" + [...pixel.data].slice(0, 3).map(hex).join("") }""",
            [x, y],
        )
    )


def kind_colour(page: Any, key: str) -> str:
    return str(
        page.evaluate(
            """(key) => { const kind = vkMem.data.kinds.find((it) => it.key === key);
               return vkMem.state.dark ? kind.dark : kind.light }""",
            key,
        )
    )


def rows_shown(page: Any) -> list[str]:
    """The names in the table, from top to bottom."""
    return list(
        page.evaluate(
            """() => [...document.querySelectorAll(".row")].filter((it) => !it.hidden)
               .sort((a, b) => a.getBoundingClientRect().y - b.getBoundingClientRect().y)
               .map((it) => it.firstChild.textContent)"""
        )
    )


def selected(page: Any) -> str:
    if not page.is_visible("#details"):
        return ""
    return str(page.inner_text("#details h2"))


def zoom_of(page: Any) -> float:
    return float(page.evaluate("vkMem.map.view.zoom"))


def left_of(page: Any) -> float:
    return float(page.evaluate("vkMem.map.view.left"))


def search(page: Any, text: str) -> None:
    page.fill("#search", text)
    settle(page)
