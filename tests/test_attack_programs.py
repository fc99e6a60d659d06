"""The programs of `attacks`, shortly and with the same numbers each time."""

from __future__ import annotations

import sys

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
