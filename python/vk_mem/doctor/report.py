"""Writes an examination as text for people, for a given width."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

from vk_mem.doctor.device_facts import DeviceFacts
from vk_mem.doctor.examination import Examination
from vk_mem.doctor.extensions import extensions_of
from vk_mem.doctor.finding import Finding, Weight
from vk_mem.doctor.machine import Machine
from vk_mem.flags import MemoryPropertyFlags
from vk_mem.text import known_size, size_text, visible

__all__ = ["report_lines"]

LABELS = {
    Weight.BROKEN: "MEND",
    Weight.SLOW: "SLOW",
    Weight.CARE: "CARE",
    Weight.NOTE: "NOTE",
}
INDENT = " " * 6
CODE = " " * 8
TITLE = 14
LEAST_WIDTH = 40
ANY_NUMBER = 1 << 30
"""Memory objects from which a limit is none: drivers report the largest number that fits."""
WRITABLE_VRAM = MemoryPropertyFlags.DEVICE_LOCAL | MemoryPropertyFlags.HOST_VISIBLE


def report_lines(examination: Examination, width: int = 80) -> Iterator[tuple[str, str]]:
    """Returns lines of at most `width` characters, each with a style: "head", "code", "", or the
    name of a weight. A command, or a word that has no space, may be longer: it is to be copied."""
    width = max(width, LEAST_WIDTH)
    for line in _wrapped(examination.sentence, width):
        yield line, "head"
    if examination.findings:
        yield from _plain(f"Found: {examination.counts}.", width)
    for finding in examination.findings:
        yield "", ""
        yield from _finding(finding, width)
    if examination.complaints:
        yield "", ""
        yield from _plain(examination.complaints_sentence, width)
    yield "", ""
    yield "What was looked at", "head"
    for title, text in _looked_at(examination.machine):
        for line in _wrapped(text, width, f"{title:<{TITLE}}", " " * TITLE):
            yield line, ""
    if examination.machine.best is not None and not examination.machine.simulated:
        yield "", ""
        yield from _plain("Next: vk-mem demo shows vk-mem at work, vk-mem info all limits.", width)


def _plain(text: str, width: int) -> Iterator[tuple[str, str]]:
    yield from ((line, "") for line in _wrapped(text, width))


def _finding(finding: Finding, width: int) -> Iterator[tuple[str, str]]:
    for line in _wrapped(finding.what, width, f"{LABELS[finding.weight]:<6}", INDENT):
        yield line, finding.weight.name
    why = finding.why
    if finding.seen_in:
        why += f" (Seen in {', '.join(finding.seen_in)}.)"
    for line in _wrapped(why, width, INDENT, INDENT):
        yield line, ""
    for line in _wrapped(finding.do, width, f"{INDENT}> ", CODE):
        yield line, ""
    if finding.setting:
        yield from ((line, "code") for line in _code(finding.setting, width))
    if finding.command:
        yield CODE + visible(finding.command), "code"


def _wrapped(text: str, width: int, first: str = "", following: str = "") -> list[str]:
    return textwrap.wrap(
        visible(text),
        width,
        initial_indent=first,
        subsequent_indent=following,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _code(expression: str, width: int) -> list[str]:
    """Breaks a call in Python that is too long, an argument on each line."""
    if len(CODE) + len(expression) <= width or not expression.endswith(")"):
        return [CODE + expression]
    head, _, rest = expression.partition("(")
    arguments, depth, quoted = [""], 0, False
    for char in rest[:-1]:
        quoted ^= char == "'"
        depth += (char in "([{") - (char in ")]}") if not quoted else 0
        if char == "," and not depth and not quoted:
            arguments.append("")
        else:
            arguments[-1] += char
    lines = [f"{CODE}    {it.strip()}," for it in arguments]
    return [f"{CODE}{head}(", *lines, f"{CODE})"]


def _looked_at(machine: Machine) -> Iterator[tuple[str, str]]:
    """Returns what was found of each part of the machine, with a title."""
    if not machine.simulated:
        yield "Loader", machine.probe.loader or ("missing" if not machine.devices else "found")
        for driver in machine.drivers:
            name = Path(driver.manifest.path).name
            state = driver.crashed or driver.manifest.problem or ", ".join(driver.devices)
            yield "Driver", f"{name}: {state or 'finds no device'}"
        if not machine.drivers:
            yield "Driver", "none"
        layers = ", ".join(it.name for it in machine.layers)
        yield "Layers", layers or "none"
        for card in machine.computer.cards:
            yield "Card", f"{card.vendor}, device {card.device_id:#06x}"
    for device in machine.devices:
        yield "Device", f"{device.name}, {device.driver}"
        if not device.error:
            yield from _device(device)
    for name, value in machine.variables.items():
        yield "Variable", f"{name}={value}"


def _device(device: DeviceFacts) -> Iterator[tuple[str, str]]:
    for index, heap in enumerate(device.heaps):
        own = "shared by both" if device.shares_memory else "of the device"
        where = own if heap.device_local else "of the computer"
        budget = "" if heap.budget is None else f", {size_text(heap.budget)} of it may be used"
        yield f"  Heap {index}", f"{size_text(heap.size)} {where}{budget}"
    yield "  Writable", _writable(device)
    limits = device.limits
    size = known_size(limits["max_memory_allocation_size"])
    count = limits["max_memory_allocation_count"]
    yield (
        "  Limits",
        f"{'any number of' if count >= ANY_NUMBER else f'{count:,}'} memory objects of "
        f"{'any size' if size is None else f'{size_text(size)} at most'}; "
        f"granularity {size_text(limits['buffer_image_granularity'])}, "
        f"atom {size_text(limits['non_coherent_atom_size'])}",
    )
    states = extensions_of(device)
    there = [name for name, state in states.items() if state != "missing"]
    yield "  Extensions", f"{len(there)} of {len(states)} that help an allocator"
    for index, seconds in device.seconds.items():
        yield "  Timed", f"64 MiB of memory type {index} taken in {seconds * 1000:.1f} ms"


def _writable(device: DeviceFacts) -> str:
    """Says how much of the device's memory the processor can write to: Resizable BAR or not."""
    heaps = {it.heap for it in device.types if it.has(WRITABLE_VRAM)}
    largest = max((device.heaps[it].size for it in heaps), default=0)
    if not largest:
        return "nothing of the device's memory directly (no Resizable BAR)"
    if device.shares_memory:
        return "all memory, which processor and device share"
    if largest >= device.own_memory // 2:
        return "all of the device's memory (Resizable BAR is on)"
    return f"{size_text(largest)} of the device's memory (Resizable BAR is off)"
