"""Runs all tests, those of Rust first, so many side by side as there are workers.

    .venv/bin/python tools/run_tests.py [--quick] [--workers N]

`cargo test` runs the binaries of tests one after the other; here they are built by it and run side
by side, the slow ones first, each with its output in one piece. Its tests of documentation run
among them. pytest comes afterwards, with pytest-xdist. What failed is named again at the end.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FEATURES = ("--features", "vkmem-engine/validate,vkmem-vulkan/validate")
# The crate for Python is tested from there.
ALL = ("--workspace", "--exclude", "vkmem-python", *FEATURES)
PACKAGES = ("vkmem-engine", "vkmem-vulkan", "vkmem-trace")
QUICK = (*(it for name in PACKAGES for it in ("--package", name)), *FEATURES)

# What `--quick` leaves out, with what is lost by it. The first two are binaries of tests; they are
# started first in a whole run, so that nothing is left to wait for them in the end.
SLOW_RUST = {
    "engine/shadow_suballocator": "random programs of each suballocator beside a model",
    "engine/shadow_allocator": "random requests beside a model of the allocator",
    "vkmem-peers": "the engine beside VMA",
    "documentation": "the programs in the comments of Rust code",
}
SLOW_PYTHON = {
    "test_attack_programs.py": "attacks from Python, in short",
    "test_buffer_heap_interrupts.py": "interrupts at every moment",
    "test_cli.py": "the command line, in a process for each call",
    "test_cli_streams.py": "the command line with odd streams and arguments",
    "test_doctor_machines.py": "the doctor on this machine, and with drivers that crash",
    "test_exit.py": "processes that end with things left open",
    "test_interpreter.py": "calls while the interpreter ends, subinterpreters, forks in a call",
    "test_many.py": "many at once, with each call of the driver failing once",
    "test_programs.py": "random programs on simulated devices",
    "test_threads.py": "many threads at once, some of them for seconds",
    "test_transfer_lifetime.py": "transfers in flight while things end, fork or fail",
    "test_view.py": "pictures of memory: what is in them, and where",
    "test_view_limits.py": "pictures and pages of nothing or of much",
    "test_view_load.py": "pages in a browser: nasty texts, a million allocations",
    "test_view_page.py": "pages in a browser: what they show, and how they move",
    "test_view_table.py": "pages in a browser: search, filters, table",
}

RESULT = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed", re.MULTILINE)
FAILED = re.compile(r"^test (.+) \.\.\. FAILED$", re.MULTILINE)


class Run(NamedTuple):
    name: str
    command: list[str]
    folder: Path


class Ran(NamedTuple):
    run: Run
    status: int
    output: str
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="leave out what is slow, and say what")
    parser.add_argument("--workers", type=int, default=2, help="how many run side by side")
    options = parser.parse_args()
    failed = [
        *rust(options.workers, options.quick),
        *python(options.workers, options.quick),
    ]
    if options.quick:
        print("left out (make test runs it):")
        for name, what in {**SLOW_RUST, **SLOW_PYTHON}.items():
            print(f"  {name}: {what}")
    for it in failed:
        print(f"FAILED {it}")
    return 1 if failed else 0


# ---- Rust ----


def rust(workers: int, quick: bool) -> list[str]:
    """What failed of it."""
    runs = built(QUICK if quick else ALL)
    if runs is None:
        return ["the build of the Rust tests"]
    slow = [it for it in runs if it.name in SLOW_RUST]
    assert len(slow) == 2, f"of {list(SLOW_RUST)} some are not built"
    others = [it for it in runs if it.name not in SLOW_RUST]
    documentation = Run("documentation", ["cargo", "test", "--doc", *ALL], ROOT)
    runs = others if quick else [*slow, documentation, *others]
    failed, passed = [], 0
    with ThreadPoolExecutor(workers) as pool:
        for done in as_completed([pool.submit(executed, it) for it in runs]):
            ran = done.result()
            print(f"\n     Running {ran.run.name} ({ran.seconds:.1f} s)\n{ran.output}", end="")
            sys.stdout.flush()
            passed += sum(int(found[1]) for found in RESULT.finditer(ran.output))
            if ran.status != 0:
                names = FAILED.findall(ran.output) or [f"exit status {ran.status}"]
                failed += [f"{ran.run.name}: {name}" for name in names]
    print(f"\n{passed} tests of Rust passed in {len(runs)} runs, {len(failed)} failed\n")
    sys.stdout.flush()
    return failed


def built(packages: tuple[str, ...]) -> list[Run] | None:
    """Builds the binaries of tests; None where that fails, which cargo has explained."""
    command = ["cargo", "test", "--no-run", "--message-format=json-render-diagnostics", *packages]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        return None
    runs = []
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message["reason"] == "compiler-artifact" and message["profile"]["test"]:
            # Where cargo runs it: in the folder of its package.
            folder = Path(message["manifest_path"]).parent
            name = f"{folder.name}/{message['target']['name']}"
            runs.append(Run(name, [message["executable"]], folder))
    assert runs, "no binaries of tests"
    return runs


def executed(run: Run) -> Ran:
    start = time.monotonic()
    done = subprocess.run(
        run.command,
        cwd=run.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return Ran(run, done.returncode, done.stdout, time.monotonic() - start)


# ---- Python ----


def python(workers: int, quick: bool) -> list[str]:
    """Whether it failed."""
    command = [sys.executable, "-m", "pytest", "-n", str(workers), "--dist", "worksteal"]
    if quick:
        for name in SLOW_PYTHON:
            assert (ROOT / "tests" / name).is_file(), name
            command.append(f"--ignore=tests/{name}")
    done = subprocess.run(command, cwd=ROOT, check=False)
    return [f"pytest: exit status {done.returncode}, see above"] if done.returncode != 0 else []


if __name__ == "__main__":
    sys.exit(main())
