"""The programs of README.md run, each as a program of its own.

A block that cannot run here has a comment before it: `<!-- not run: reason -->`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

README = Path(__file__).parents[1] / "README.md"
NOT_RUN = re.compile(r"<!--\s*not run:\s*(.+?)\s*-->")


class Block(NamedTuple):
    line: int
    code: str
    not_run: str | None


def python_blocks(text: str) -> Iterator[Block]:
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
            fence, is_python = found[1], found[2] in {"python", "py", "python3"}
            start, lines = number, []
        elif comment := NOT_RUN.search(line):
            not_run = comment[1]
        elif stripped:
            not_run = None
    assert fence is None, f"the block of line {start} does not end"


BLOCKS = list(python_blocks(README.read_text(encoding="utf-8")))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda it: f"line-{it.line}")
def test_readme(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if block.not_run:
        compile(block.code, f"{README.name}:{block.line}", "exec")
        pytest.skip(f"not run: {block.not_run}")
    # What it writes goes nowhere.
    monkeypatch.chdir(tmp_path)
    # Line numbers as in the file.
    code = "\n" * block.line + block.code
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, str(README), "exec"), scope)


def test_the_readme_has_programs() -> None:
    assert BLOCKS, "no ```python block in README.md"
    assert any(block.not_run is None for block in BLOCKS)


def test_blocks_are_found() -> None:
    text = """
```python
one = 1
```
<!-- not run: needs a window -->

```python
two
```

```sh
three
```
````py
```
four
````
"""
    found = list(python_blocks(text))
    assert [(it.line, it.code, it.not_run) for it in found] == [
        (2, "one = 1\n", None),
        (7, "two\n", "needs a window"),
        (14, "```\nfour\n", None),
    ]
