"""Judges a machine: a verdict in one line, findings by weight, known complaints, and JSON."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import vk_mem
from vk_mem.doctor.complaints import Met, meet_complaints
from vk_mem.doctor.device_facts import DeviceFacts
from vk_mem.doctor.extensions import extensions_of, missing_extensions
from vk_mem.doctor.finding import Finding, Weight
from vk_mem.doctor.machine import Machine
from vk_mem.doctor.memory_rules import (
    granularity,
    memory_in_use,
    needs_flushes,
    no_resizable_bar,
    uncached_host_memory,
)
from vk_mem.doctor.system_rules import is_loader_missing, system_findings
from vk_mem.flags import DeviceType
from vk_mem.text import counted, size_text

__all__ = ["Examination", "Verdict", "examine"]

FORMAT = 1
"""Version of the JSON; it grows when a key changes its meaning or goes."""
KINDS = {
    DeviceType.DISCRETE_GPU.name: "graphics card",
    DeviceType.INTEGRATED_GPU.name: "graphics of the processor",
    DeviceType.VIRTUAL_GPU.name: "graphics card of a virtual machine",
    DeviceType.CPU.name: "the processor in place of a card",
}
OTHER_RULES = (
    memory_in_use,
    no_resizable_bar,
    needs_flushes,
    uncached_host_memory,
    granularity,
    missing_extensions,
)
"""Rules that no known complaint is about."""


class Verdict(enum.Enum):
    """The result in one word."""

    WORKS = "works"
    SLOW = "slow"
    BROKEN = "broken"


@dataclass(frozen=True)
class Examination:
    """A machine, and what was found about it."""

    machine: Machine
    findings: tuple[Finding, ...]
    """The heaviest first."""
    complaints: tuple[Met, ...]
    """All known complaints; empty without a device that works."""

    @property
    def verdict(self) -> Verdict:
        """Whether programs can use Vulkan here, and whether that is slow."""
        best = self.machine.best
        if best is None:
            return Verdict.BROKEN
        slow = any(it.weight is Weight.SLOW for it in self.findings)
        return Verdict.SLOW if slow or (best.is_cpu and not best.simulated) else Verdict.WORKS

    @property
    def sentence(self) -> str:
        """The verdict for people, in one line."""
        best = self.machine.best
        if best is None:
            if is_loader_missing(self.machine):
                reason = "Vulkan is not installed"
            elif self.machine.devices:
                reason = "no device works"
            else:
                reason = "no driver has a device"
            return f"vk-mem cannot use a graphics card here: {reason}."
        name = f"{best.name} ({KINDS.get(best.kind, 'device')}, {size_text(best.own_memory)})"
        if self.machine.simulated:
            return f"On a machine like this one, vk-mem works: {name}, simulated."
        if self.verdict is Verdict.SLOW:
            return f"vk-mem works here, but slowly: {name}."
        return f"vk-mem works here: {name}."

    @property
    def counts(self) -> str:
        """How many findings of each weight there are, for people."""
        words = {
            Weight.BROKEN: "to be mended",
            Weight.SLOW: "slow",
            Weight.CARE: "to take care of",
            Weight.NOTE: "good to know",
        }
        found = {weight: [it for it in self.findings if it.weight is weight] for weight in words}
        return ", ".join(f"{len(found[it])} {word}" for it, word in words.items() if found[it])

    @property
    def complaints_sentence(self) -> str:
        """How many known complaints this machine would meet, for people."""
        met = sum(it.finding is not None for it in self.complaints)
        return (
            f"Of {counted(len(self.complaints), 'known complaint')} about memory of graphics "
            f"cards, programs can meet {met} here; the findings say how to avoid each."
        )

    def as_json(self) -> dict[str, Any]:
        """Returns all of it as values that JSON has."""
        best = self.machine.best
        return {
            "format": FORMAT,
            "version": vk_mem.__version__,
            "verdict": self.verdict.value,
            "sentence": self.sentence,
            "findings": [it.as_json() for it in self.findings],
            "complaints": [it.as_json() for it in self.complaints],
            "extensions": None if best is None else extensions_of(best),
            "machine": self.machine.as_json(),
        }


def examine(machine: Machine) -> Examination:
    """Judges a machine."""
    found = list(system_findings(machine))
    complaints: list[Met] = []
    if machine.best is not None:
        complaints = meet_complaints(machine.best)
        found += _device_findings(machine.best, complaints)
    found.sort(key=lambda it: -it.weight)
    return Examination(machine, tuple(found), tuple(complaints))


def _device_findings(device: DeviceFacts, complaints: list[Met]) -> list[Finding]:
    judged = [it.finding for it in complaints] + [rule(device) for rule in OTHER_RULES]
    return [it for it in judged if it is not None]
