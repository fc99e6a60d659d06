"""Inserts the table of the last `make bench`, if there was one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

RESULTS = "bench/results.json"
HERE = "<!-- results of the last benchmark -->"
NONE = """
!!! note "No figures in this build"
    `make bench` had not run in the checkout that this site was built from. It takes some minutes
    and writes `bench/results.json`, which `make docs` shows here.
"""


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Puts the table in its place."""
    if HERE not in markdown:
        return markdown
    path = Path(config.config_file_path).parent / RESULTS
    if not path.exists():
        return markdown.replace(HERE, NONE)
    return markdown.replace(HERE, _table(json.loads(path.read_text(encoding="utf-8"))))


def _table(lines: list[dict[str, Any]]) -> str:
    out = ["| case | n | ours | beside | ratio | bar |", "| --- | ---: | ---: | --- | ---: | --- |"]
    met = missed = 0
    for line in lines:
        start = f"| {_words(line['case'])} | {line['n']:,} | {_short(line['ours'])} {line['unit']}"
        bars, verdicts = line.get("bar", {}), line.get("met", {})
        met += sum(verdicts.values())
        missed += len(verdicts) - sum(verdicts.values())
        own = _bar(bars.get("ours"), verdicts.get("ours"))
        peers = line["peers"] or {"": None}
        for number, (name, value) in enumerate(peers.items()):
            beside = "" if value is None else f"{_words(name)}: {_short(value)}"
            ratio = "" if value is None else _short(line["ratio"][name])
            bar = _bar(bars.get(name), verdicts.get(name))
            if number == 0 and own:
                bar = f"{own} for ours{'; ' + bar if bar else ''}"
            out.append(f"{start if number == 0 else '| | | '} | {beside} | {ratio} | {bar} |")
    verdict = f"{met} bars met, {missed} missed."
    return "\n".join([verdict, "", *out])


def _bar(bar: dict[str, float] | None, met: bool | None) -> str:
    if not bar:
        return ""
    kind, value = next(iter(bar.items()))
    sign = "≤" if kind == "at_most" else "≥"
    return f"{sign} {value:g} {'met' if met else '**missed**'}"


def _short(value: float) -> str:
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _words(text: str) -> str:
    return text.replace("|", "\\|").replace("_", "\\_")
