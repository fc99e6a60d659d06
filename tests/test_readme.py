"""Runs each program in README.md separately.

A block that cannot run here has a comment before it: `<!-- not run: reason -->`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from code_blocks import Block, python_blocks, run

README = Path(__file__).parents[1] / "README.md"
BLOCKS = list(python_blocks(README.read_text(encoding="utf-8")))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda it: f"line-{it.line}")
def test_readme(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What it writes goes nowhere.
    monkeypatch.chdir(tmp_path)
    run([block], str(README))
    if block.not_run:
        pytest.skip(f"not run: {block.not_run}")


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


def test_a_block_that_does_not_end_is_an_error() -> None:
    with pytest.raises(ValueError, match="line 2 does not end"):
        list(python_blocks("\n```python\none = 1\n"))
