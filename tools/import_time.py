"""Measures how long `import vk_mem` takes: a process that imports it less one that does nothing.

    python tools/import_time.py [--limit MS] [--runs N] [--json]

The least of N runs of each (default 20), taken in turns, in milliseconds: whatever else the machine
does makes a run longer, never shorter. The processor time, where the system counts it, says what a
quiet machine would need. Measures the interpreter that runs this program. With a limit, returns 1
if the import takes longer.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from time import perf_counter

try:
    import resource
except ModuleNotFoundError:  # Windows
    resource = None  # type: ignore[assignment]

PROGRAMS = {"bare": "", "with_import": "import vk_mem"}


def children_seconds() -> float:
    """Returns the processor time of the processes that ended, 0 where it is not counted."""
    if resource is None:
        return 0.0
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(program: str, folder: str) -> tuple[float, float]:
    """Returns the time and the processor time of a process in an empty folder, in milliseconds."""
    used, began = children_seconds(), perf_counter()
    subprocess.run([sys.executable, "-I", "-c", program], cwd=folder, check=True)
    return (perf_counter() - began) * 1e3, (children_seconds() - used) * 1e3


def measure(runs: int) -> dict[str, float]:
    """Returns the least time of each program and what the import adds; `_cpu`: of the processor."""
    with tempfile.TemporaryDirectory() as folder:
        # The first writes the bytecode.
        run(PROGRAMS["with_import"], folder)
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in PROGRAMS}
        for _ in range(runs):
            for name, program in PROGRAMS.items():
                taken[name].append(run(program, folder))
    found = {}
    for place, suffix in enumerate(("", "_cpu")):
        least = {f"{name}{suffix}": min(it[place] for it in taken[name]) for name in PROGRAMS}
        added = least[f"with_import{suffix}"] - least[f"bare{suffix}"]
        found |= {**least, f"import{suffix}": added}
    return found


def main() -> int:
    """Prints the figures; returns 1 if the import takes longer than the limit."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--limit", type=float, help="milliseconds that the import may take")
    arguments.add_argument("--runs", type=int, default=20, help="runs of each process (20)")
    arguments.add_argument("--json", action="store_true", help="print one JSON object")
    chosen = arguments.parse_args()
    if chosen.runs < 1:
        arguments.error(f"--runs is {chosen.runs}, at least 1 is right")
    found = measure(chosen.runs)
    if chosen.json:
        print(json.dumps({name: round(it, 2) for name, it in found.items()}))
    else:
        print(
            f"import vk_mem: {found['import']:.1f} ms, {found['import_cpu']:.1f} of the processor "
            f"({found['with_import']:.1f} less {found['bare']:.1f}; least of {chosen.runs} runs)"
        )
    if chosen.limit is not None and found["import"] > chosen.limit:
        print(f"import vk_mem takes longer than {chosen.limit:g} ms", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
