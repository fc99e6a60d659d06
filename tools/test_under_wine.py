"""Runs the Python tests under Wine, file by file, for tools/check_cross.sh.

    .venv/bin/python tools/test_under_wine.py PYTHON PREFIX LOGS [FILES]

PYTHON is a Windows interpreter, PREFIX a Wine prefix, of which each worker uses a copy, so that a
file that hangs is ended with all of its processes. Every file has a time limit and a log in LOGS.
Simulated devices only, as in CI on Windows: most tests of real ones ask for the validation layer.
"""

from __future__ import annotations

import argparse
import os
import queue
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 600.0
"""Seconds that the tests of a file may take."""

ONE_DRIVER = "Wine's loader has one driver, its own, and reads no VK_DRIVER_FILES"
LEFT_OUT = {
    "test_doctor_machines.py::test_without_drivers": ONE_DRIVER,
    "test_package.py::test_a_program_without_a_driver_says_what_to_install": ONE_DRIVER,
    "test_stubs.py::test_stubtest_compares_every_class": (
        "Wine 8 has no CopyFile2, with which Python copies files"
    ),
}
"""Tests that fail because of Wine, not of Windows, or cannot run there: why, by file or test."""

START = (
    # Wine hands no variable whose name begins with VK_ on to the first process.
    "import os, sys; os.environ['VK_MEM_NO_DRIVER'] = '1'; import pytest; "
    "sys.exit(pytest.main(sys.argv[1:]))"
)
COUNT = re.compile(r"(\d+) (passed|skipped|deselected|failed|error)s?\b")


class Ran(NamedTuple):
    name: str
    counts: Counter[str]
    trouble: str
    """What went wrong; nothing where all is well."""
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("python", type=Path)
    parser.add_argument("prefix", type=Path)
    parser.add_argument("logs", type=Path)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--workers", type=int, default=2, help="how many run side by side")
    options = parser.parse_args()
    files = options.files or sorted((ROOT / "tests").glob("test_*.py"))
    options.logs.mkdir(parents=True, exist_ok=True)
    free: queue.SimpleQueue[Prefix] = queue.SimpleQueue()
    prefixes = [Prefix(options.prefix, number + 1) for number in range(options.workers)]
    for prefix in prefixes:
        free.put(prefix)

    def run(file: Path) -> Ran:
        prefix = free.get()
        try:
            prefix.show_a_window()
            return tested(file, options.python, prefix, options.logs / f"{file.stem}.log")
        finally:
            free.put(prefix)

    start, sums, failed = time.monotonic(), Counter[str](), []
    with ThreadPoolExecutor(options.workers) as pool:
        for done in as_completed([pool.submit(run, file) for file in files]):
            ran = done.result()
            sums += ran.counts
            said_of_it = ran.trouble or said(ran.counts)
            print(f"{ran.name}: {said_of_it} ({ran.seconds:.0f} s)", flush=True)
            if ran.trouble:
                failed.append(ran.name)
    for prefix in prefixes:
        prefix.end()
    for reason, names in reasons(files).items():
        print(f"left out, {reason}: {', '.join(names)}")
    print(
        f"check-cross: python: {said(sums)} in {len(files)} files, {len(failed)} of them failed "
        f"({(time.monotonic() - start) / 60:.0f} min)"
    )
    for name in failed:
        print(f"FAILED {name}: see {options.logs}")
    return 1 if failed else 0


class Prefix:
    """A Wine prefix for one worker."""

    def __init__(self, original: Path, number: int) -> None:
        self.path = original.with_name(f"{original.name}-{number}")
        self.environment = {**os.environ, "WINEPREFIX": str(self.path)}
        self.window: subprocess.Popen[bytes] | None = None
        # Made anew if that of which it is a copy is newer.
        mark = self.path / "windows-10"
        if not mark.exists() or mark.stat().st_mtime < (original / mark.name).stat().st_mtime:
            shutil.rmtree(self.path, ignore_errors=True)
            shutil.copytree(original, self.path, symlinks=True)
            mark.touch()

    def show_a_window(self) -> None:
        """Keeps Wine's desktop alive. The first process that needs it would start it otherwise, and
        hand its pipes to it: whoever reads those would wait for ever."""
        if self.window is None or self.window.poll() is not None:
            nothing = subprocess.DEVNULL
            self.window = subprocess.Popen(
                ["wine", "notepad"],
                env=self.environment,
                stdin=nothing,
                stdout=nothing,
                stderr=nothing,
            )
            # It says nothing once it is there.
            time.sleep(5)

    def end(self) -> None:
        """Ends all of its processes."""
        subprocess.run(["wineserver", "-k"], env=self.environment, check=False)
        if self.window is not None:
            self.window.wait()
            self.window = None


def reasons(files: list[Path]) -> dict[str, list[str]]:
    """What is left out of these files, by reason."""
    found: dict[str, list[str]] = {}
    ran = {file.name for file in files}
    for name, reason in LEFT_OUT.items():
        if name.partition("::")[0] in ran:
            found.setdefault(reason, []).append(name)
    return found


def tested(file: Path, python: Path, prefix: Prefix, log: Path) -> Ran:
    left_out = [f"--deselect=tests/{it}" for it in LEFT_OUT if it.startswith(file.name)]
    command = ["wine", str(python), "-c", START, "-q", "-p", "no:cacheprovider", "--tb=short"]
    command += ["-o", "tmp_path_retention_policy=failed", "-m", "not driver and not gpu"]
    command += [*left_out, f"tests/{file.name}"]
    start, late = time.monotonic(), False
    with log.open("wb") as written:
        # A pipe, as this Python may find its streams invalid if they are files of this system.
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=prefix.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            output, _ = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            late = True
            prefix.end()
            output, _ = process.communicate()
        written.write(output)
    lines = output.decode(errors="replace").splitlines()
    summary = next((it for it in reversed(lines) if COUNT.search(it) and " in " in it), "")
    counts = Counter({kind.rstrip("s"): int(count) for count, kind in COUNT.findall(summary)})
    # All of a file may be left out or skipped: pytest's status is then 5.
    well = bool(counts) and process.returncode in (0, 5)
    trouble = ""
    if late:
        trouble = f"did not end within {LIMIT:.0f} s"
    elif not well:
        trouble = said(counts) if counts else f"ended with status {process.returncode}"
    return Ran(file.name, counts, trouble, time.monotonic() - start)


def said(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[kind]} {kind}" for kind in counts) or "nothing"


if __name__ == "__main__":
    sys.exit(main())
