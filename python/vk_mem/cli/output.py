"""Output that all commands share: tables, errors, JSON, progress."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from vk_mem.observe.tables import clean

EXIT_CODES = (
    "Exit status: 0 when all went well, 1 when the work failed (one line on stderr says why), "
    "2 for wrong usage."
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]

PERFETTO = (".pftrace", ".perfetto-trace")
"""Endings of timelines for ui.perfetto.dev."""


class Output(Console):
    """A console that allows for a closed pipe."""

    def on_broken_pipe(self) -> None:
        """Raises for `main`, which exits quietly; rich would exit with status 1."""
        raise BrokenPipeError

    @property
    def encoding(self) -> str:
        """The encoding of the current stream; rich would return that of the stream at creation."""
        return (getattr(self.file, "encoding", None) or "utf-8").lower()

    def drawn(self, text: str, instead: str) -> str:
        """Returns `text`, or `instead` if the stream can write ASCII only."""
        return instead if self.options.ascii_only else text


out = Output(highlight=False)
err = Output(stderr=True, highlight=False)


def table(title: str, *columns: str, right: tuple[int, ...] = ()) -> Table:
    """Makes an empty table in the common style; the columns in `right` are right-aligned."""
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
    """Makes untrusted text printable: no markup, no control characters."""
    return Text(clean(text), style=style)


def fail(message: str) -> typer.Exit:
    """Prints an error and returns the exception to raise."""
    say(message)
    return typer.Exit(1)


def say(message: str) -> None:
    """Prints one line on stderr."""
    line = f"vk-mem: {clean(' '.join(message.split()))}"
    # If stderr cannot be written, only the exit status reports the error.
    with suppress(OSError):
        err.print(line, markup=False, soft_wrap=True)


def print_json(value: dict[str, Any]) -> None:
    """Prints an object as one line of JSON, never wrapped to the terminal's width."""
    out.file.write(json.dumps(value) + "\n")
    out.file.flush()


class Work:
    """A progress bar on stderr for work in steps; hidden if stderr is not a terminal."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("")
        self._name = ""

    def step(self, name: str) -> None:
        """Begins a step of unknown length."""
        self._name = name
        self._bar.reset(self._task, description=name, total=None)

    def progress(self, done: int, total: int) -> None:
        """Sets how much of the current step is done."""
        self._bar.update(self._task, completed=done, total=total)

    def of_step(self, name: str, done: int, total: int) -> None:
        """Sets how much of a step is done, and begins it if it is another one than before."""
        if name != self._name:
            self.step(name)
        self.progress(done, total)


@contextmanager
def working() -> Iterator[Work]:
    """Shows a progress bar until the block ends."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        yield Work(bar)


def bar(share: float, width: int = 20) -> Text:
    """Draws a share, from 0 to 1, as a bar: green, yellow from 75 %, red from 90 %."""
    share = min(max(share, 0.0), 1.0)
    full = round(share * width)
    style = "red" if share >= 0.9 else "yellow" if share >= 0.75 else "green"
    parts = out.drawn("█", "#") * full, out.drawn("░", ".") * (width - full)
    return Text.assemble((parts[0], style), (parts[1], "dim"))
