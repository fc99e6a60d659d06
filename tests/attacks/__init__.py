"""Programs that try to break the package from outside: as long as one likes, shortly in the tests.

    python tools/attack.py                          # each for a minute
    python tools/attack.py --seconds 3600 dumps     # one of them for an hour
    python tools/attack.py --seed 7 --case 1234 dumps   # a case that failed, alone

Each case has random numbers of its own, from the seed and its number, so that any one can be run
again. A new attack is a function with `@attack` in a module that is imported here. With `@apart` it
runs in a process of its own, and a crash or a hang is a case that failed.
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
)
from attacks.registry import ATTACKS, Budget, Failed, attack

__all__ = ["ATTACKS", "Budget", "Failed", "attack"]
