"""`python -m vk_mem.doctor`: the examination, without the packages of the extra `vk-mem[cli]`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys

import vk_mem
from vk_mem.doctor import Verdict, examine, machine_here, report_lines, simulated_machine


def main(arguments: list[str] | None = None, program: str = "python -m vk_mem.doctor") -> int:
    """Prints the examination and returns the exit status: 1 if no device works."""
    parser = argparse.ArgumentParser(prog=program, description="Say what works on this machine.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--simulated",
        metavar="PROFILE",
        choices=vk_mem.SimulatedDevice.profile_names(),
        help="a simulated device: " + ", ".join(vk_mem.SimulatedDevice.profile_names()),
    )
    options = parser.parse_args(arguments)
    if options.simulated is not None:
        machine = simulated_machine(vk_mem.SimulatedDevice(options.simulated))
    else:
        machine = machine_here()
    examination = examine(machine)
    if options.json:
        print(json.dumps(examination.as_json()))
    else:
        for line, _ in report_lines(examination, shutil.get_terminal_size().columns):
            print(line)
    return 1 if examination.verdict is Verdict.BROKEN else 0


if __name__ == "__main__":
    sys.exit(main())
