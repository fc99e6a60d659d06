"""`vk-mem top`: shows the allocator of another process as it changes."""

from __future__ import annotations

import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live

from vk_mem.cli.output import PERFETTO, bar, fail, out, plain, print_json, say, table
from vk_mem.observe.serve import FORMAT
from vk_mem.observe.tables import count_text, share_text, size_text, usage_text
from vk_mem.text import known_size

LONGEST_LINE = 1 << 20
PATIENCE = 10.0
"""Seconds to wait for the first sample."""
SILENCE = 3700.0
"""Seconds to wait for the next sample: a little more than the longest interval of a server."""


class Unreadable(Exception):
    """The server sent something that is not a sample."""


@dataclass(frozen=True)
class HeapNow:
    size: int
    usage: int
    budget: int
    allocation_bytes: int
    local: bool


@dataclass(frozen=True)
class Sample:
    """One sample, which is one line from the server."""

    title: str
    time: float
    created: int
    alive: int
    failures: int
    """Attempts to allocate that failed, since the server began."""
    moves: int
    """Moves of resources since the server began."""
    evictable: tuple[int, int]
    """Number and bytes of what may be lost (`CAN_BECOME_LOST`)."""
    lost: tuple[int, int]
    """Number and bytes of what was lost, and whose objects are not destroyed yet."""
    heaps: list[HeapNow]
    names: list[tuple[str | None, int, int]]
    raw: dict[str, Any]


def top(
    path: Annotated[str, typer.Argument(metavar="SOCKET", help="As given to serve_stats.")],
    once: Annotated[bool, typer.Option("--once", help="Show one sample and end.")] = False,
    names: Annotated[int, typer.Option(help="Names to list.", min=0)] = 10,
    json_lines: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a sample, each on its line.")
    ] = False,
    record: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Let the process record meanwhile; it has to serve with may_record=True.",
        ),
    ] = None,
) -> None:
    """Watch the allocator of a process that called vk_mem.serve_stats(SOCKET, allocator).

    Heaps with their budgets, how much is created a second, and the names that hold most memory, as
    often as the server sends them. Ends with the server, or with Ctrl-C.

    With --record the process writes a recording of all its calls from now on, with what exists
    already at its beginning: vk-mem view shows it over time, vk-mem trace exports it. A FILE that
    ends with .pftrace is a timeline for ui.perfetto.dev instead.
    """
    if record is not None and (once or not record):
        raise typer.BadParameter("--record FILE records until the end, and --once has none")
    try:
        client = connect(path)
    except OSError as error:
        why = "it is no socket" if is_other(path) else reason(error)
        raise fail(f"no statistics are served at {path}: {why}") from None
    with client:
        try:
            lines = read(client)
            if record is None:
                samples = parsed(lines)
            else:
                samples = recorded(client, lines, os.path.abspath(record))
            show(samples, path, once, names, json_lines)
        except Unreadable as error:
            raise fail(f"{path}: {error}") from None
        except OSError as error:
            raise fail(f"{path}: {reason(error)}") from None
        except KeyboardInterrupt:
            pass
        if record is not None:
            wait_for_end(client)
            is_timeline = Path(record).suffix.lower() in PERFETTO
            shown = "https://ui.perfetto.dev shows it" if is_timeline else f"vk-mem view {record}"
            say(f"{record} is recorded: {shown}")


def connect(path: str) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise OSError("Python has no Unix sockets on this system, on which statistics are served")
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        client.settimeout(PATIENCE)
        patient_connect(client, path)
    except BaseException:
        client.close()
        raise
    return client


def recorded(client: socket.socket, lines: Iterator[bytes], path: str) -> Iterator[Sample]:
    """Asks for a recording, and yields samples once it has begun."""
    first = next(parsed(lines), None)
    if first is None:
        return
    if not first.raw.get("may_record"):
        raise Unreadable("the program allows no recording: serve_stats(..., may_record=True)")
    client.sendall(json.dumps({"record": path}).encode() + b"\n")
    if any(answered(line) for line in lines):
        yield first
    yield from parsed(lines)


def wait_for_end(client: socket.socket) -> None:
    """Lets the server end the recording, and waits until it has, or for some seconds."""
    with suppress(OSError):
        client.shutdown(socket.SHUT_WR)
        client.settimeout(PATIENCE)
        while client.recv(1 << 16):
            pass


def is_other(path: str) -> bool:
    """Whether the path exists and is not a socket."""
    try:
        return not stat.S_ISSOCK(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def patient_connect(client: socket.socket, path: str) -> None:
    """Connects, and retries while the server's queue of connections is full."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return client.connect(path)
        except BlockingIOError:
            # A socket with a timeout does not wait for room in the queue, but fails at once.
            if time.monotonic() > end:
                raise TimeoutError from None
            time.sleep(0.01)


def reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, ConnectionRefusedError):
        return "its process has ended"
    return error.strerror or str(error)


def show(samples: Iterator[Sample], path: str, once: bool, names: int, lines: bool) -> None:
    before = next(samples, None)
    if before is None:
        raise Unreadable("it is no server of statistics, or it ended at once")
    if lines:
        print_json(before.raw)
    if once:
        if not lines:
            out.print(screen(before, before, names))
        return
    if lines:
        for sample in samples:
            print_json(sample.raw)
    elif out.is_terminal:
        # A screen taller than the terminal would scroll instead of updating in place.
        def fitting(sample: Sample, before: Sample) -> RenderableType:
            room = out.height - len(sample.heaps) - 9
            return screen(sample, before, min(names, max(room, 0)))

        with Live(fitting(before, before), console=out, auto_refresh=False) as live:
            for sample in samples:
                live.update(fitting(sample, before), refresh=True)
                before = sample
    else:
        out.print(screen(before, before, names))
        for sample in samples:
            out.print(screen(sample, before, names))
            before = sample
    say(f"{path}: the server has ended")


def screen(sample: Sample, before: Sample, names: int) -> RenderableType:
    heaps = table("", "Heap", "", "Usage", "Budget", "Used", "Allocated", right=(2, 3, 4, 5))
    for index, heap in enumerate(sample.heaps):
        used, budget = known_size(heap.usage), known_size(heap.budget)
        share = used / budget if used and budget else 0.0
        heaps.add_row(
            f"{index} {'local' if heap.local else 'host'}",
            bar(share, max(min(out.width - 60, 40), 8)),
            usage_text(heap.usage),
            size_text(heap.budget),
            share_text(heap.usage, heap.budget),
            size_text(heap.allocation_bytes),
        )
    parts: list[RenderableType] = [plain(sample.title, "bold"), rates(sample, before), "", heaps]
    if sample.evictable[0] or sample.lost[0]:
        (count, size), (lost, lost_size) = sample.evictable, sample.lost
        line = f"{count_text(count)} that may be lost: {size_text(size)}"
        parts.append(plain(f"{line}; {count_text(lost)} lost: {size_text(lost_size)}"))
    if names and sample.names:
        rows = table("Largest names", "Name", "Count", "Size", right=(1, 2))
        rows.columns[0].no_wrap = True
        rows.columns[0].overflow = "ellipsis"
        for name, count, size in sample.names[:names]:
            shown = plain("none", "dim") if name is None else plain(name)
            rows.add_row(shown, count_text(count), size_text(size))
        parts += ["", rows]
    return Group(*parts)


def rates(sample: Sample, before: Sample) -> str:
    seconds = sample.time - before.time
    created = sample.created - before.created
    ended = created - (sample.alive - before.alive)
    line = f"{count_text(sample.alive)} alive of {count_text(sample.created)} created"
    if sample.failures:
        line += f"; {count_text(sample.failures)} failed"
    if sample.moves:
        line += f"; {count_text(sample.moves)} moved"
    if seconds <= 0:
        return line
    return f"{line}; {created / seconds:,.0f} created and {ended / seconds:,.0f} ended a second"


# ---- what the server sends ----


def read(client: socket.socket) -> Iterator[bytes]:
    """Yields lines until the server ends."""
    data = b""
    while True:
        line, newline, rest = data.partition(b"\n")
        if newline:
            data = rest
            yield line
            client.settimeout(SILENCE)
            continue
        if len(data) > LONGEST_LINE:
            raise Unreadable("it sends something else than statistics")
        received = client.recv(1 << 16)
        if not received:
            return
        data += received


def parsed(lines: Iterator[bytes]) -> Iterator[Sample]:
    """Yields samples until the server says its end. All input is checked: another process sends
    it."""
    for line in lines:
        sample = parse(line)
        if sample is None:
            return
        yield sample


def answered(line: bytes) -> bool:
    """Whether a line answers the request for a recording. Raises `Unreadable` for a refusal."""
    if b'"record":' not in line:
        return False
    try:
        answer = json.loads(line).get("record")
    except (ValueError, AttributeError, RecursionError):
        return False
    if not isinstance(answer, dict):
        return False
    if "error" in answer:
        raise Unreadable(f"it does not record: {str(answer['error'])[:500]}")
    return True


def parse(line: bytes) -> Sample | None:
    """Parses a line. Returns None for the last line of a server."""
    try:
        of = json.loads(line, parse_constant=number)
        if of["format"] != FORMAT:
            raise Unreadable(f"it speaks format {of['format']!r:.20}; this is {FORMAT}")
        if "end" in of:
            return None
        heaps = [
            HeapNow(
                number(size),
                number(heap["usage"]),
                number(heap["budget"]),
                number(heap["allocation_bytes"]),
                "DEVICE_LOCAL" in flags,
            )
            for heap, size, flags in zip(
                of["heaps"], of["heap_sizes"], of["heap_flags"], strict=True
            )
        ]
        names = [
            (
                None if it["name"] is None else str(it["name"]),
                number(it["count"]),
                number(it["bytes"]),
            )
            for it in of["names"]
        ]
        title = f"{of['program']} (pid {number(of['pid'])}) on {of['device']}"
        created, alive = number(of["created"]), number(of["alive"])
        # A server of an older version counts no events.
        failures = number(of["events"]["failure"]) if "events" in of else 0
        moves = number(of["events"].get("move", 0)) if "events" in of else 0
        # Nor does it know of losses.
        evictions = of.get("evictions", {})
        evictable, lost = (
            (number(evictions.get(f"{kind}_count", 0)), number(evictions.get(f"{kind}_bytes", 0)))
            for kind in ("evictable", "lost")
        )
        time = float(of["time"])
        return Sample(
            title, time, created, alive, failures, moves, evictable, lost, heaps, names, of
        )
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
        OverflowError,
    ):
        raise Unreadable("it sends something else than statistics") from None


def number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise ValueError
    return value
