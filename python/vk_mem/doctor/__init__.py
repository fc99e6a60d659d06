"""Looks at a machine and says in plain words what works, what is slow, and what to do about it.

`vk-mem doctor` prints it; `python -m vk_mem.doctor` does so without any other package.
"""

from vk_mem.doctor.examination import Examination, Verdict, examine
from vk_mem.doctor.finding import Finding, Weight
from vk_mem.doctor.machine import Machine, machine_here, simulated_machine
from vk_mem.doctor.report import report_lines

__all__ = [
    "Examination",
    "Finding",
    "Machine",
    "Verdict",
    "Weight",
    "examine",
    "machine_here",
    "report_lines",
    "simulated_machine",
]
