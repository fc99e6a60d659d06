"""What all commands have in common: tables, errors, JSON, progress."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from vk_mem.tables import clean

EXIT_CODES = (
    "Exit status: 0 when all went well, 1 when the work failed (one line on stderr says why), "
    "2 for wrong usage."
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def table(title: str, *columns: str, right: tuple[int, ...] = ()) -> Table:
    """An empty table in the style of all of them; `right` are the columns of numbers."""
    made = Table(
        *columns,
        title=title or None,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in right:
        made.columns[column].justify = "right"
        made.columns[column].no_wrap = True
    return made


def show(*tables: Table) -> None:
    """Prints tables, each after an empty line."""
    for it in tables:
        out.print()
        out.print(it)


def plain(text: str, style: str = "") -> Text:
    """A text from outside: no markup in it, no control characters."""
    return Text(clean(text), style=style)


def fail(message: str) -> typer.Exit:
    """Prints one line; to be raised."""
    say(message)
    return typer.Exit(1)


def say(message: str) -> None:
    """One line on stderr."""
    err.print(f"vk-mem: {clean(' '.join(message.split()))}", markup=False, soft_wrap=True)


def print_json(value: dict[str, Any]) -> None:
    """One object on one line, whole, whatever the width of the terminal."""
    out.file.write(json.dumps(value) + "\n")
    out.file.flush()


@contextmanager
def steps(*names: str) -> Iterator[Iterator[None]]:
    """A bar on stderr for work in a few long steps; each is entered with `next`."""
    columns = (TextColumn("{task.description}"), BarColumn())
    # Where nobody looks there is nothing to show.
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(names[0], total=len(names))

        def enter() -> Iterator[None]:
            for number, name in enumerate(names):
                progress.update(task, description=name, completed=number)
                yield

        yield enter()


def bar(share: float, width: int = 20) -> Text:
    """A share of a whole, from 0 to 1: green, yellow from 75 %, red from 90 %."""
    share = min(max(share, 0.0), 1.0)
    full = round(share * width)
    style = "red" if share >= 0.9 else "yellow" if share >= 0.75 else "green"
    return Text.assemble(("█" * full, style), ("░" * (width - full), "dim"))
