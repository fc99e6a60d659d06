"""Programs that exit in every awkward state."""

from __future__ import annotations

import random
import re

from support import run_python

from attacks.awkward import COME_LAST, ENDS, START, STATES
from attacks.devices import the_driver
from attacks.registry import Budget, attack
from vk_mem import SimulatedDevice

OPTIONS: tuple[tuple[str, ...], ...] = ((), (), ("-I",), ("-X", "dev"), ("-W", "error"))
WATCHED = {("-X", "dev"), ("-W", "error")}
"""With these a ResourceWarning is shown, of which Python shows the lines of code, too."""
FATAL = re.compile(r"panicked|Fatal|SystemError|ImportError|core dumped|terminate called|PyO3")
SECONDS = 30.0


@attack("shutdown", short=24)
def shutdown(seed: int, budget: Budget) -> None:
    """Runs programs that end in awkward states: their exit status, and nothing else is said."""
    for number, dice in budget.cases(seed):
        with budget.case(seed, number):
            names = list(STATES)
            # Each in turn, with others beside it.
            states = [names[number % len(names)], *dice.sample(names, dice.choice([0, 1, 2]))]
            run(states, dice.choice(list(ENDS)), dice)
            budget.counted["programs"] += 1


def run(states: list[str], end: str, dice: random.Random) -> None:
    """One program."""
    device = f"SimulatedDevice({dice.choice(SimulatedDevice.profile_names())!r})"
    if dice.random() < 0.2 and the_driver() is not None:
        device = "next(Device.open(index=i) for i, it in enumerate(list_physical_devices()) "
        device += "if it.properties.device_type == DeviceType.CPU)"
    options = dice.choice(OPTIONS)
    states.sort(key=COME_LAST.__contains__)
    pieces = [START.format(device=device), *(STATES[it] for it in states)]
    program = "\n".join([*pieces, 'print("set up", flush=True)', ENDS[end].code])
    done = run_python(program, *options, timeout=SECONDS)
    status, said = ENDS[end].status, ENDS[end].said
    what = f"{states}, {end}, {options}, {device}: status {done.returncode}: {done.stderr[-3000:]}"
    assert done.stdout.startswith("set up\n"), what
    assert done.returncode == status, what
    assert not FATAL.search(done.stderr), what
    assert said in done.stderr, what
    if options not in WATCHED:
        # A traceback, its line and the text; no word more.
        left = re.sub(r"^Traceback \(most recent call last\):\n(  .*\n)*", "", done.stderr)
        assert left.strip() == said, what
