"""What a trace says before its first event, and what was odd in its file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vk_mem._vk_mem import PhysicalDevice

__all__ = ["Description", "TraceWarning"]


@dataclass(frozen=True, slots=True)
class Description:
    """The device, the allocator and the program of a trace. What the file does not say is None or
    empty."""

    format: str
    """`vkmem`, `vma`, `rmm` or `pytorch`."""
    version: tuple[int, int]
    """Version of that format: `(1, 8)` for VMA's `1,8`."""
    device: PhysicalDevice | None
    """Heaps, memory types, limits, name; its `extensions` are those that were enabled."""
    driver_version: int | None
    """`VkPhysicalDeviceProperties::driverVersion`, which each vendor encodes differently."""
    options: dict[str, Any] | None
    """Options of the first allocator by their names."""
    extensions: dict[str, bool]
    """Vulkan extensions by name, and whether each was enabled."""
    settings: dict[str, str]
    """Macros of VMA, unknown lines of its configuration, settings of PyTorch's allocator."""
    program: str | None
    process: int | None
    """Id of the recorded process."""
    library: str | None
    """Name and version of the library that made the recording."""
    start: int | None
    """Nanoseconds from 1970-01-01 UTC to time 0."""
    resolution: int
    """The step of the clock in nanoseconds: 1,000,000 for milliseconds; 0 without times."""


@dataclass(frozen=True, slots=True)
class TraceWarning:
    """Something in a file that was left out, or taken otherwise than written."""

    what: str
    line: int | None
    """The line of a text file, from 1."""
    offset: int | None
    """The byte of a binary file, from 0."""

    def __str__(self) -> str:
        if self.line is not None:
            return f"line {self.line}: {self.what}"
        return self.what if self.offset is None else f"byte {self.offset}: {self.what}"
