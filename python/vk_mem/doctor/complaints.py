"""Known complaints about GPU memory, from public trackers, and whether a device would meet them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from vk_mem.doctor import memory_rules as rules
from vk_mem.doctor.device_facts import DeviceFacts
from vk_mem.doctor.finding import Finding

__all__ = ["COMPLAINTS", "Complaint", "Met", "meet_complaints"]

Rule = Callable[[DeviceFacts], Finding | None]


@dataclass(frozen=True)
class Complaint:
    """What users of other programs met, and where."""

    symptom: str
    seen_in: tuple[str, ...]
    """Programs, with the numbers of issues in their trackers."""
    rule: Rule | None = None
    """Whether a device would meet it; None if no device would, with vk-mem."""
    avoided_by: str = ""
    """What vk-mem does that no setting is needed for."""


@dataclass(frozen=True)
class Met:
    """A complaint, and the finding about it where a device would meet it."""

    complaint: Complaint
    finding: Finding | None

    def as_json(self) -> dict[str, Any]:
        """Returns the fields as values that JSON has."""
        found = self.finding
        return {
            "symptom": self.complaint.symptom,
            "seen_in": list(self.complaint.seen_in),
            "met": found is not None,
            "finding": found.key if found else None,
            "setting": (found.setting or None) if found else None,
            "avoided_by": self.complaint.avoided_by or None,
        }


COMPLAINTS = (
    Complaint(
        "A large tensor fails although the card has room",
        ("llama.cpp 5441, 12817, 13024, 18160", "stable-diffusion.cpp 673, 761, 1290, 1621, 1659"),
        rules.largest_request,
        "A request larger than a block gets memory of its own, and the error names the limit.",
    ),
    Complaint(
        "Speed falls to a fraction, with no error",
        ("stable-diffusion.cpp 481", "llama.cpp 22898"),
        rules.silent_spill,
        "The device has one kind of memory: there is nothing to spill to.",
    ),
    Complaint(
        "The device is lost when much memory of the host is used",
        ("llama.cpp 29213",),
        rules.host_memory_overcommitted,
        "The drivers that do this are AMD's in Mesa.",
    ),
    Complaint(
        "Memory of other programs is not taken into account",
        ("llama.cpp 9785",),
        rules.no_budget,
        "The driver reports budgets, and vk-mem asks for them.",
    ),
    Complaint(
        "A small heap is taken, and is full at once",
        ("llama.cpp 22368", "upscayl 1314 (ncnn)"),
        rules.small_window,
        "The memory that the host can write to is as large as the device's.",
    ),
    Complaint(
        "An integrated card takes the smaller of two heaps",
        ("llama.cpp 22368", "upscayl 1314 (ncnn)"),
        rules.several_heaps,
        "Memory types are rated, and the next one is tried when a heap is full.",
    ),
    Complaint(
        "Decoding is slow with small blocks of memory",
        ("llama.cpp 27734",),
        rules.block_size,
        "The device is too small, or shares the computer's memory.",
    ),
    Complaint(
        "The program stops at the limit of memory objects",
        ("Godot 120534, 120603",),
        rules.count_of_memory_objects,
        "The driver allows more memory objects than a program makes.",
    ),
    Complaint(
        "The program stutters while memory is taken from the driver",
        ("VulkanMemoryAllocator 470", "Godot 38369"),
        rules.slow_driver_allocations,
        "The driver was timed, and is quick; no other thread waits for it.",
    ),
    Complaint(
        "Memory is never given back",
        ("Godot 56205", "DXVK 958, 1100, 1318, 2552, 4823", "gpu-alloc 55", "bevy 24892"),
        rules.held_memory,
        "Empty blocks go back to the driver, but for one of each memory type.",
    ),
    Complaint(
        "Out of memory with much of it free",
        ("Ryujinx 3523", "DXVK 5773"),
        rules.fragmentation,
        "The device is large; defragment() is there all the same.",
    ),
    Complaint(
        "Creating a pool fails on a Raspberry Pi",
        ("Godot 62693",),
        rules.v3dv_pools,
        "The device is none of Broadcom's.",
    ),
    Complaint(
        "Buffers in shared blocks hang on a Mac",
        ("Quadrants 834",),
        rules.moltenvk_blocks,
        "The device does not run on top of Metal.",
    ),
    Complaint(
        "Pinned memory fails, and nothing is tried instead",
        ("llama.cpp 9271",),
        avoided_by="The next memory type is tried, and uploads go through a ring.",
    ),
    Complaint(
        "Larger blocks fail, and smaller ones are not tried",
        ("bevy 24722", "wgpu 9462"),
        avoided_by="A refused block is halved down to 1 MiB, then the request is tried alone.",
    ),
    Complaint(
        "Memory does not come back before an explicit destroy()",
        ("pygfx 1007, 1283, 1288", "wgpu-py 353, 405", "vispy 2272, 2653"),
        avoided_by=(
            "What is dropped is freed some frames later, and a ResourceWarning names it "
            "(python -X dev)."
        ),
    ),
)


def meet_complaints(device: DeviceFacts) -> list[Met]:
    """Returns all complaints, each with the finding about this device if it would meet it."""
    met = []
    for complaint in COMPLAINTS:
        found = complaint.rule(device) if complaint.rule else None
        met.append(Met(complaint, found and replace(found, seen_in=complaint.seen_in)))
    return met
