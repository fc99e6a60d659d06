"""Registers all attacks by name, and runs one for a given time."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["ATTACKS", "Attack", "Budget", "Failed", "attack"]


class Failed(AssertionError):
    """A case that did not hold."""


@dataclass
class Budget:
    """How much is tried: until the time is over, or so many cases; one of both."""

    seconds: float | None = None
    count: int | None = None
    first: int = 0
    """The number of the first case."""
    counted: Counter[str] = field(default_factory=Counter)
    """What the attack saw, for the report."""

    def cases(self, seed: int) -> Iterator[tuple[int, random.Random]]:
        """Numbers of cases, each with random numbers of its own."""
        end = None if self.seconds is None else time.monotonic() + self.seconds
        number = self.first
        while (self.count is None or number < self.first + self.count) and (
            end is None or time.monotonic() < end
        ):
            yield number, random.Random(f"{seed}:{number}")
            number += 1
            self.counted["cases"] += 1

    @contextmanager
    def case(self, seed: int, number: int) -> Iterator[None]:
        """Says of whatever goes wrong inside how to see it again."""
        try:
            yield
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise Failed(f"--seed {seed} --case {number}: {what:.500}") from error


Run = Callable[[int, Budget], None]


@dataclass(frozen=True)
class Attack:
    """One of them."""

    run: Run
    short: int
    """Cases in the tests: some seconds."""

    @property
    def title(self) -> str:
        """What it does, in a line."""
        return (self.run.__doc__ or "").strip().partition("\n")[0]


ATTACKS: dict[str, Attack] = {}


def attack(name: str, *, short: int) -> Callable[[Run], Run]:
    """Registers a function of a seed and a budget, which raises where something does not hold."""

    def register(run: Run) -> Run:
        assert name not in ATTACKS, name
        ATTACKS[name] = Attack(run, short)
        return run

    return register
