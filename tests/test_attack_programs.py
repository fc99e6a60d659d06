"""Runs each attack of `tests/attacks` briefly, with fixed seeds."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from attacks import ATTACKS, Budget, Failed
from attacks.__main__ import main

SEED = 20_260_101


@pytest.mark.parametrize("name", ATTACKS)
def test_it_holds(name: str) -> None:
    budget = Budget(count=ATTACKS[name].short)
    ATTACKS[name].run(SEED, budget)
    idle = next((it for it in budget.counted if it.startswith("nothing done")), None)
    if idle is not None:
        pytest.skip(idle)
    assert budget.counted["cases"] == ATTACKS[name].short
    assert sum(budget.counted.values()) > budget.counted["cases"], "it looked at what came out"


def test_cases_are_the_same_each_time() -> None:
    def numbers(budget: Budget, seed: int) -> list[float]:
        return [dice.random() for _, dice in budget.cases(seed)]

    whole = numbers(Budget(count=9), 5)
    assert whole == numbers(Budget(count=9), 5) != numbers(Budget(count=9), 6)
    assert numbers(Budget(count=1, first=7), 5) == whole[7:8]
    assert len(numbers(Budget(seconds=0.05), 5)) > 1


def test_a_failure_says_how_to_see_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = Budget(count=5)
    with pytest.raises(Failed, match=r"--seed 3 --case 2: ValueError: broken"):
        for number, _ in budget.cases(3):
            with budget.case(3, number):
                if number == 2:
                    raise ValueError("broken")

    monkeypatch.setattr("attacks.dumps.vk_mem.load_dump", lambda source: 1 / 0)
    for arguments, status in ((["top", "--count", "3"], 0), (["dumps", "--count", "3"], 1)):
        monkeypatch.setattr(sys, "argv", ["attack.py", "--seed", "1", *arguments])
        assert main() == status
    said = capsys.readouterr()
    assert "top: held" in said.out and "dumps: FAILED" in said.out
    assert "ZeroDivisionError" in said.err


ENDINGS = """
import os, sys, threading, time
from attacks.apart import apart
def ends(how):
    def run(seed, budget):
        for number, _ in budget.cases(seed):
            budget.counted["looks"] += 1
            if number == 4:
                how()
    run.__module__ = __name__
    return run
def named(name, how):
    run = ends(how)
    run.__name__ = name
    return apart(run)
works = named("works", lambda: None)
crashes = named("crashes", os.abort)
raises = named("raises", lambda: 1 / 0)
hangs = named("hangs", lambda: time.sleep(100))
talks = named("talks", lambda: print("a word", file=sys.stderr))
"""


def test_what_runs_apart_may_crash_or_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(tmp_path, "endings.py").write_text(ENDINGS)
    # The child takes the path from here, and its patience from the environment.
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("VK_MEM_ATTACK_PATIENCE", "1")
    endings = importlib.import_module("endings")
    budget = Budget(count=3, first=3)
    endings.works(7, budget)
    assert budget.counted == {"cases": 3, "looks": 3}
    for name, said in {
        "crashes": r"--seed 7 --case 4: exit status (-6|3): Fatal Python error: Aborted",
        "raises": r"(?s)--seed 7 --case 4: exit status 1: .*ZeroDivisionError",
        "hangs": r"(?s)--seed 7 --case 4: exit status 1: Timeout .*in <lambda>",
        "talks": r"--seed 7 --case 5: exit status 0: a word",
    }.items():
        with pytest.raises(Failed, match=said):
            getattr(endings, name)(7, Budget(count=3, first=3))
