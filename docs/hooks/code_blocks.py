"""Finds the programs in Markdown pages, and runs them.

A block that cannot run has a comment before it: `<!-- not run: reason -->`. A block inside a
comment that begins `<!-- hidden` runs but is not shown, for example to clean up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

NOT_RUN = re.compile(r"<!--\s*not run:\s*(.+?)\s*-->")
PYTHON = {"python", "py", "python3"}


class Block(NamedTuple):
    line: int
    code: str
    not_run: str | None


def python_blocks(text: str) -> Iterator[Block]:
    """All blocks in Python, in order."""
    not_run: str | None = None
    fence: str | None = None
    is_python = False
    start, lines = 0, []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if fence is not None:
            if stripped == fence:
                if is_python:
                    yield Block(start, "\n".join(lines) + "\n", not_run)
                fence, not_run = None, None
            else:
                lines.append(line)
        elif found := re.match(r"(`{3,}|~{3,})\s*(\w*)", stripped):
            fence, is_python = found[1], found[2] in PYTHON
            start, lines = number, []
        elif comment := NOT_RUN.search(line):
            not_run = comment[1]
        elif stripped:
            not_run = None
    if fence is not None:
        raise ValueError(f"the block of line {start} does not end")


def run(blocks: Iterable[Block], name: str) -> None:
    """Runs blocks one after the other as one program; those that cannot run are compiled only."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks:
        # Line numbers as in the file.
        code = compile("\n" * block.line + block.code, name, "exec")
        if block.not_run is None:
            exec(code, scope)
