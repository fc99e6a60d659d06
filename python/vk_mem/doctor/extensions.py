"""Extensions of Vulkan that an allocator can use, what each brings, and which a device lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vk_mem.doctor.device_facts import DeviceFacts
from vk_mem.doctor.finding import Finding, Weight

__all__ = ["EXTENSIONS", "Extension", "extensions_of", "missing_extensions"]

NEVER = (99, 0)


@dataclass(frozen=True)
class Extension:
    """An extension that helps, and the version of Vulkan that needs it no more."""

    name: str
    brings: str
    core: tuple[int, int] = NEVER
    cards_only: bool = False
    """Whether it helps only a device that has memory of its own."""


EXTENSIONS = (
    Extension("VK_EXT_memory_budget", "how much memory is left, from the driver"),
    Extension("VK_EXT_memory_priority", "priority=, what stays on a full card", cards_only=True),
    Extension(
        "VK_EXT_pageable_device_local_memory",
        "a card that may be filled beyond its size, and set_priority()",
        cards_only=True,
    ),
    Extension("VK_EXT_external_memory_host", "uploads straight from an array's own memory"),
    Extension("VK_KHR_external_memory_fd", "sharing memory with CUDA and other processes"),
    Extension("VK_KHR_external_memory_win32", "sharing memory with CUDA and other processes"),
    Extension("VK_EXT_host_image_copy", "images filled without a queue", (1, 4)),
    Extension("VK_KHR_dedicated_allocation", "what the driver wants apart", (1, 1)),
    Extension("VK_KHR_buffer_device_address", "addresses of buffers in shaders", (1, 2)),
    Extension("VK_KHR_timeline_semaphore", "transfers that need no fence each", (1, 2)),
    Extension("VK_KHR_maintenance4", "requirements without creating a resource", (1, 3)),
    Extension("VK_EXT_device_fault", "which buffer a lost device stumbled over"),
)
"""What `Device.open` looks for, except what stands below others of this list."""
OF_ANOTHER_SYSTEM = {"VK_KHR_external_memory_fd", "VK_KHR_external_memory_win32"}


def extensions_of(device: DeviceFacts) -> dict[str, str]:
    """Returns by extension: "core", "used", "present" (and not used) or "missing"."""
    states = {}
    for it in EXTENSIONS:
        if it.name in device.enabled:
            state = "used"
        elif it.core <= device.api_version[:2]:
            state = "core"
        elif it.name in device.extensions:
            state = "present"
        else:
            state = "missing"
        states[it.name] = state
    # A device has those of its own system only.
    present = {name for name in OF_ANOTHER_SYSTEM if states[name] != "missing"}
    for name in OF_ANOTHER_SYSTEM - present if present else ():
        del states[name]
    return states


def missing_extensions(device: DeviceFacts) -> Finding | None:
    """Finds what the device cannot do for lack of extensions. Budgets have a rule of their own."""
    states = extensions_of(device)
    missing: dict[str, Any] = {
        it.brings: it.name
        for it in EXTENSIONS
        if states.get(it.name) == "missing"
        and it.name != "VK_EXT_memory_budget"
        and not (it.cards_only and device.shares_memory)
    }
    if not missing:
        return None
    listed = "; ".join(f"{brings} ({name})" for brings, name in missing.items())
    return Finding(
        "missing-extensions",
        Weight.NOTE,
        f"The driver lacks {len(missing)} of {len(EXTENSIONS)} extensions that vk-mem can use",
        f"What they would bring: {listed}.",
        "Nothing is needed: vk-mem does without. A newer driver may have them.",
    )
