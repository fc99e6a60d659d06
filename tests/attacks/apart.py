"""Runs an attack in a separate interpreter; a crash or a hang counts as a failed case."""

from __future__ import annotations

import faulthandler
import functools
import importlib
import json
import os
import queue
import random
import subprocess
import sys
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator

from attacks.registry import Budget, Failed

__all__ = ["apart"]

PATIENCE = float(os.environ.get("VK_MEM_ATTACK_PATIENCE", "120"))
"""Seconds that one case may take."""
CHILD = "import attacks.apart; attacks.apart.main()"
TOLD = "case "
COUNTED = "counted "
Run = Callable[[int, Budget], None]


def apart(run: Run) -> Run:
    """The attack, in a process of its own. Nothing may be left on its standard error."""

    @functools.wraps(run)
    def run_apart(seed: int, budget: Budget) -> None:
        asked = [seed, budget.seconds, budget.count, budget.first]
        variables = {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            # So that a case is the same each time.
            "PYTHONHASHSEED": str(seed % (1 << 32)),
        }
        with tempfile.TemporaryFile("w+") as errors:
            child = subprocess.Popen(
                [sys.executable, "-c", CHILD, run.__module__, run.__name__, json.dumps(asked)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | variables,
            )
            last = follow(child, budget)
            status = child.wait()
            errors.seek(0)
            said = errors.read()
        if status != 0 or said:
            raise Failed(f"--seed {seed} --case {last}: exit status {status}: {said[-8000:]}")

    return run_apart


def follow(child: subprocess.Popen[str], budget: Budget) -> int | None:
    """Reads what the child says until it ends, and returns its last case."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        assert child.stdout is not None
        with child.stdout:
            for line in child.stdout:
                lines.put(line)
        lines.put(None)

    reader = threading.Thread(target=read)
    reader.start()
    last = None
    try:
        # The child looks at the clock itself, and shows its threads first.
        while (line := lines.get(timeout=PATIENCE + 30)) is not None:
            if line.startswith(TOLD):
                last = int(line.removeprefix(TOLD))
            elif line.startswith(COUNTED):
                budget.counted.update(Counter(json.loads(line.removeprefix(COUNTED))))
            else:
                raise Failed(f"case {last} printed {line!r}")
    except queue.Empty:
        raise Failed(f"case {last} hangs") from None
    finally:
        if sys.exc_info()[0] is not None:
            child.kill()
        reader.join()
    return last


class Telling(Budget):
    """Says which case runs, and ends the process with a look at all threads if one hangs."""

    def cases(self, seed: int) -> Iterator[tuple[int, random.Random]]:
        for number, dice in super().cases(seed):
            print(f"{TOLD}{number}", flush=True)
            faulthandler.dump_traceback_later(PATIENCE, exit=True)
            yield number, dice
        faulthandler.cancel_dump_traceback_later()


def main() -> None:
    """The child: module, function, and the budget as JSON."""
    module, name, asked = sys.argv[1:]
    seed, seconds, count, first = json.loads(asked)
    faulthandler.enable()
    run = getattr(importlib.import_module(module), name).__wrapped__
    budget = Telling(seconds, count, first)
    # What attacks drop is dropped on purpose.
    warnings.simplefilter("ignore", ResourceWarning)
    run(seed, budget)
    print(COUNTED + json.dumps(budget.counted), flush=True)
