"""Tables and bench/results.json, in the format of the Rust benchmarks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import median

RESULTS = Path(__file__).parent / "results.json"


def in_turns(rounds: int, contestants: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Runs the contestants in alternation (A B A B ...); returns the result of each round."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            taken[name].append(contestant())
    return taken


def ratio_of(ours: list[float], theirs: list[float]) -> float:
    """Returns the median of the ratios of the rounds, as a shared machine may be twice as fast in
    one round as in the next, for both alike. For contestants with different numbers of rounds,
    which did not alternate, returns the ratio of the medians."""
    if len(ours) != len(theirs):
        return median(ours) / median(theirs)
    return median(one / other for one, other in zip(ours, theirs, strict=True))


def _short(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _spread(figures: list[float]) -> str:
    return f"{_short(median(figures))} ({_short(min(figures))}..{_short(max(figures))})"


class Report:
    """Collects lines, prints them at once, and merges them into the file at the end."""

    def __init__(self) -> None:
        self.lines: list[dict[str, object]] = []

    def section(self, title: str) -> None:
        """Prints a title above the following lines."""
        print(f"\n{title}")

    def add(
        self,
        case: str,
        n: int,
        unit: str,
        figures: dict[str, list[float]],
        *,
        at_most: dict[str, float] | None = None,
        at_least: dict[str, float] | None = None,
    ) -> None:
        """Adds a case: the results of `ours` and of each peer, and limits for ours / peer."""
        ours = figures["ours"]
        bars = {name: {"at_most": bar} for name, bar in (at_most or {}).items()}
        bars |= {name: {"at_least": bar} for name, bar in (at_least or {}).items()}
        peers = {name: median(it) for name, it in figures.items() if name != "ours"}
        ratio = {name: ratio_of(ours, figures[name]) for name in peers}
        met = {}
        text = f"  {case:<36} {n:>9}  ours {_spread(ours)} {unit}"
        for name in peers:
            text += f" | {name} {_spread(figures[name])} -> {_short(ratio[name])}"
            for kind, bar in bars.get(name, {}).items():
                low = kind == "at_most"
                met[name] = ratio[name] <= bar if low else ratio[name] >= bar
                verdict = "met" if met[name] else "MISSED"
                text += f" [{'<=' if low else '>='} {bar} {verdict}]"
        print(text)
        self.lines.append(
            {
                "case": case,
                "n": n,
                "ours": median(ours),
                "peers": peers,
                "ratio": ratio,
                "bar": bars,
                "met": met,
                "unit": unit,
                "spread": [min(ours), max(ours)],
            }
        )

    def take(self, lines: list[dict[str, object]]) -> None:
        """Adds lines without limits that were printed elsewhere."""
        self.lines += [line | {"bar": {}, "met": {}} for line in lines]

    def merge(self) -> None:
        """Writes the lines to bench/results.json, replacing older ones of the same cases."""
        cases = {line["case"] for line in self.lines}
        old = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
        kept = [line for line in old if line["case"] not in cases]
        RESULTS.write_text(json.dumps(kept + self.lines, indent=2) + "\n")
        print(f"\nmerged into {RESULTS.parent.name}/{RESULTS.name}")
        verdicts = [met for line in self.lines for met in line["met"].values()]
        if verdicts:
            print(f"{sum(verdicts)} bars met, {len(verdicts) - sum(verdicts)} missed")
