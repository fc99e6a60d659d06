"""Runs attacks; see the docstring of the package."""

from __future__ import annotations

import argparse
import faulthandler
import secrets
import sys
import time
import traceback

from attacks import ATTACKS, Budget


def main() -> int:
    """Runs those that are named, or all; 1 if something did not hold."""
    listed = "\n".join(f"  {name:<12} {it.title}" for name, it in ATTACKS.items())
    parser = argparse.ArgumentParser(
        prog="attack.py",
        description="Tries to break vk-mem from outside.",
        epilog=f"attacks:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="ATTACK", help="which; all if none is named")
    parser.add_argument("--seconds", type=float, help="of each attack (60 if there is no --count)")
    parser.add_argument("--count", type=int, help="cases of each attack")
    parser.add_argument("--seed", type=int, help="of the random numbers (a new one)")
    parser.add_argument("--case", type=int, help="run this case alone")
    given = parser.parse_args()
    for name in given.names:
        if name not in ATTACKS:
            parser.error(f"there is no attack {name}")
    seed = secrets.randbelow(1 << 32) if given.seed is None else given.seed
    seconds = 60.0 if given.seconds is None and given.count is None else given.seconds
    failures = 0
    for name in given.names or ATTACKS:
        budget = Budget(seconds, given.count)
        if given.case is not None:
            budget = Budget(count=1, first=given.case)
        print(f"{name}: seed {seed}", flush=True)
        began, state = time.monotonic(), "held"
        try:
            ATTACKS[name].run(seed, budget)
        except Exception:
            failures += 1
            state = "FAILED"
            traceback.print_exc()
        counted = ", ".join(f"{count:,} {what}" for what, count in budget.counted.items())
        print(f"{name}: {state} after {time.monotonic() - began:.0f} s: {counted}", flush=True)
    return int(failures > 0)


if __name__ == "__main__":
    faulthandler.enable()
    sys.exit(main())
