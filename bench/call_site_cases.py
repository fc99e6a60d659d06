"""Cost of watches and call sites: create and destroy of one buffer on a simulated device, in ns.

    .venv/bin/python bench/call_site_cases.py [quick]

Needs the release build (`tools/setup.sh release`).

All cases alternate in one process, so that they are measured under the same noise. Times are CPU
times, and the first quartile of the rounds counts. `ratio` is to the first case, without watches.
`here` is a loop; `12 deep` runs the loop below twelve more Python functions, which are called anew
each time, as in a program.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from report import Report

import vk_mem
from vk_mem import Allocator, BufferUsage, SimulatedDevice
from vk_mem.observe.tables import text_table

USAGE = BufferUsage.STORAGE_BUFFER
FIRST = "nobody watches"


@contextmanager
def allocator(track: bool | int, **watch: object) -> Iterator[Allocator]:
    with ExitStack() as stack:
        made = stack.enter_context(
            Allocator(SimulatedDevice("discrete-8gib"), track_call_sites=track)
        )
        # Keeps a block allocated, so that no driver call is measured.
        stack.enter_context(made.create_buffer(256, USAGE))
        if watch:
            watch.pop("on")
            stack.enter_context(vk_mem.statistics(made, **watch))
        yield made


CASES: dict[str, Callable[[], object]] = {
    FIRST: lambda: allocator(False),
    "track_call_sites=1": lambda: allocator(1),
    "track_call_sites=4": lambda: allocator(4),
    "track_call_sites=True (8)": lambda: allocator(True),
    "track_call_sites=16": lambda: allocator(16),
    "statistics()": lambda: allocator(False, on=True),
    "statistics(profile='name')": lambda: allocator(False, on=True, profile="name"),
    "statistics(profile=True)": lambda: allocator(False, on=True, profile=True),
}


def here(made: Allocator, pairs: int) -> float:
    create, began = made.create_buffer, time.thread_time_ns()
    for _ in range(pairs):
        create(4096, USAGE).destroy()
    return (time.thread_time_ns() - began) / pairs


def below(made: Allocator, depth: int) -> None:
    if depth:
        return below(made, depth - 1)
    made.create_buffer(4096, USAGE).destroy()


def deep(made: Allocator, pairs: int) -> float:
    began = time.thread_time_ns()
    for _ in range(pairs):
        below(made, 11)
    return (time.thread_time_ns() - began) / pairs


def fastest(times: list[float]) -> float:
    """Returns the first quartile, which excludes most of the noise of other processes."""
    return statistics.quantiles(times, n=4)[0]


def main() -> None:
    pairs, turns = (500, 20) if "quick" in sys.argv[1:] else (2_000, 60)
    rows, lines = [], []
    for place, run in (("here", here), ("12 deep", deep)):
        with ExitStack() as stack:
            made = {name: stack.enter_context(case()) for name, case in CASES.items()}
            times: dict[str, list[float]] = {name: [] for name in CASES}
            for _ in range(turns):
                for name in CASES:
                    times[name].append(run(made[name], pairs))
        first = fastest(times[FIRST])
        for name in CASES:
            cost = fastest(times[name])
            added = cost - first
            rows.append((f"{name}, {place}", f"{cost:.0f}", f"{added:+.0f}", f"{cost / first:.2f}"))
            lines.append(
                {
                    "case": f"{name}, {place}",
                    "n": pairs * turns,
                    "ours": round(cost, 1),
                    "peers": {FIRST: round(first, 1)},
                    "ratio": {FIRST: round(cost / first, 3)},
                    "unit": "ns a create and destroy",
                }
            )
    print("\nwhat watching costs")
    print(text_table(("case", "ns a pair", "added", "ratio"), rows))
    report = Report()
    report.take(lines)
    report.merge()


if __name__ == "__main__":
    main()
