"""`vk-mem doctor`: says what works on this machine, what is slow, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer

import vk_mem
from vk_mem.cli.output import Json, fail, out, plain, print_json
from vk_mem.doctor import Verdict, examine, machine_here, report_lines, simulated_machine

DOCTOR_EXIT_CODES = (
    "Exit status: 0 when vk-mem can use a device here, slow or not, 1 when it cannot, 2 for wrong "
    "usage."
)
STYLES = {
    "head": "bold",
    "code": "cyan",
    "BROKEN": "bold red",
    "SLOW": "bold yellow",
    "CARE": "bold",
    "NOTE": "bold",
}


def doctor(
    simulated: Annotated[
        str | None,
        typer.Option(
            "--simulated",
            help="Look at a simulated device instead: "
            + ", ".join(vk_mem.SimulatedDevice.profile_names()),
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Say what works on this machine, what is slow, what is missing, and what to do."""
    try:
        if simulated is None:
            machine = machine_here()
        else:
            machine = simulated_machine(vk_mem.SimulatedDevice(simulated))
    except vk_mem.VkMemError as error:
        raise fail(str(error)) from None
    examination = examine(machine)
    if json:
        print_json(examination.as_json())
    else:
        for line, style in report_lines(examination, out.width):
            out.print(plain(line, STYLES.get(style, "")), soft_wrap=True)
    if examination.verdict is Verdict.BROKEN:
        raise typer.Exit(1)
