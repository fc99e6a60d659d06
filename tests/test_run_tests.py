"""What runs all tests: failures are named at the end, and what is left out is spelt right."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
OK = "test result: ok. 3 passed; 0 failed; 0 ignored"
BAD = (
    "test one ... ok\ntest room::two ... FAILED\ntest result: FAILED. 1 passed; 1 failed; 0 ignored"
)


@pytest.fixture
def run_tests(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_tests", ROOT / "tools" / "run_tests.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "run_tests", module)
    spec.loader.exec_module(module)
    return module


def said(text: str, status: int) -> list[str]:
    return [sys.executable, "-c", f"print({text!r}); raise SystemExit({status})"]


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize(
    ("binary", "pytest_status", "expected"),
    [
        (said(OK, 0), 0, []),
        (said(BAD, 101), 0, ["FAILED engine/other: room::two"]),
        # Killed, before it could name a test.
        (said("", 7), 0, ["FAILED engine/other: exit status 7"]),
        (said(OK, 0), 2, ["FAILED pytest: exit status 2, see above"]),
    ],
    ids=["all is well", "a test of Rust", "a crash", "pytest"],
)
def test_failures_are_named_at_the_end(
    run_tests: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    binary: list[str],
    pytest_status: int,
    expected: list[str],
    quick: bool,
) -> None:
    names = [*list(run_tests.SLOW_RUST)[:2], "engine/other"]
    runs = [run_tests.Run(name, said(OK, 0), ROOT) for name in names]
    runs[2] = runs[2]._replace(command=binary)
    monkeypatch.setattr(run_tests, "built", lambda packages: runs)
    asked: list[list[str]] = []

    def execute(command: list[str], **keywords: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        if command[0] == "cargo":
            return subprocess.CompletedProcess(command, 0, OK)
        if "pytest" in command:
            return subprocess.CompletedProcess(command, pytest_status)
        return run(command, **keywords)

    run = subprocess.run
    monkeypatch.setattr(run_tests.subprocess, "run", execute)
    monkeypatch.setattr(sys, "argv", ["run_tests.py", *(["--quick"] if quick else [])])
    assert run_tests.main() == (1 if expected else 0)
    printed = capsys.readouterr().out
    assert [it for it in printed.splitlines() if it.startswith("FAILED")] == expected
    assert printed.count("Running engine/") == (1 if quick else 3)
    assert any(it[:3] == ["cargo", "test", "--doc"] for it in asked) is not quick
    left_out = "--ignore=tests/test_programs.py" in asked[-1]
    assert left_out is quick is ("left out" in printed)
    if quick:
        everything = [*run_tests.SLOW_RUST, *run_tests.SLOW_PYTHON]
        assert all(f"  {name}: " in printed for name in everything)


def test_a_build_that_fails_is_a_failure(
    run_tests: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        run_tests.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 101)
    )
    monkeypatch.setattr(sys, "argv", ["run_tests.py"])
    assert run_tests.main() == 1
    assert "FAILED the build of the Rust tests\n" in capsys.readouterr().out


def test_what_is_left_out_exists(run_tests: ModuleType) -> None:
    for name in run_tests.SLOW_PYTHON:
        assert (ROOT / "tests" / name).is_file(), name
    for name in list(run_tests.SLOW_RUST)[:2]:
        package, binary = name.split("/")
        assert (ROOT / "crates" / package / "tests" / f"{binary}.rs").is_file(), name
