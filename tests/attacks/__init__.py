"""Programs that try to break the package: for any time by hand, briefly in the tests.

    python tools/attack.py                          # each for a minute
    python tools/attack.py --seconds 3600 dumps     # one of them for an hour
    python tools/attack.py --seed 7 --case 1234 dumps   # only the case that failed

Each case derives its random numbers from the seed and its own number, so that it can be run again
alone. A new attack is a function with `@attack` in a module that is imported here. With `@apart` it
runs in a process of its own, and a crash or a hang counts as a failed case.
"""

from attacks import (  # noqa: F401  (they register themselves)
    confused,
    dumps,
    interrupts,
    many,
    pages,
    servers,
    shutdown,
    threads,
    traces,
)
from attacks.registry import ATTACKS, Budget, Failed, attack

__all__ = ["ATTACKS", "Budget", "Failed", "attack"]
