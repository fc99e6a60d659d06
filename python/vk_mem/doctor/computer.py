"""Reads what the operating system tells about graphics cards, without Vulkan."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["VENDORS", "Card", "Computer", "computer_here"]

VENDORS = {
    0x10DE: "NVIDIA",
    0x1002: "AMD",
    0x8086: "Intel",
    0x106B: "Apple",
    0x14E4: "Broadcom",
    0x13B5: "Arm",
    0x5143: "Qualcomm",
}
"""PCI vendors, which are also those of Vulkan, of cards that have Vulkan drivers."""
DISPLAY_CONTROLLER = 0x03
"""The class of graphics cards among PCI devices."""


@dataclass(frozen=True)
class Card:
    """A graphics card that the system sees, with or without a driver."""

    vendor_id: int
    device_id: int

    @property
    def vendor(self) -> str:
        """The name of the vendor, or its number."""
        return VENDORS.get(self.vendor_id, f"vendor {self.vendor_id:#06x}")


@dataclass(frozen=True)
class Computer:
    """The computer, as the operating system shows it to this process."""

    system: str
    """`sys.platform`."""
    family: str
    """The family of the Linux distribution: "debian", "fedora", "arch", "suse", "alpine", or ""."""
    memory: int | None
    """Bytes of main memory."""
    cards: tuple[Card, ...]
    render_nodes: tuple[str, ...]
    """Files through which programs reach cards."""
    closed_nodes: tuple[str, ...]
    """Those that this user may not open."""
    container: bool
    windows_subsystem: bool
    """Whether it is Linux inside Windows (WSL)."""
    nvidia_kernel_driver: bool
    """Whether the kernel has loaded NVIDIA's module."""

    def as_json(self) -> dict[str, Any]:
        """Returns the fields as values that JSON has."""
        return {**asdict(self), "cards": [asdict(card) for card in self.cards]}


def computer_here(
    root: Path = Path("/"),
    system: str = sys.platform,
    may_open: Callable[[Path], bool] | None = None,
) -> Computer:
    """Reads what the system shows; `root` is another folder than `/` in tests."""
    can_open = may_open or (lambda path: os.access(path, os.R_OK | os.W_OK))
    nodes = sorted(root.glob("dev/dri/renderD*")) if system == "linux" else []
    version = _text(root / "proc/version").lower()
    return Computer(
        system=system,
        family=_family(_text(root / "etc/os-release")) if system == "linux" else "",
        memory=_memory(),
        cards=_cards(root),
        render_nodes=tuple(str(it) for it in nodes),
        closed_nodes=tuple(str(it) for it in nodes if not can_open(it)),
        container=any(
            (root / it).exists() for it in (".dockerenv", "run/.containerenv", ".singularity.d")
        ),
        windows_subsystem="microsoft" in version,
        nvidia_kernel_driver=(root / "proc/driver/nvidia/version").exists(),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _family(release: str) -> str:
    """Finds the family of a distribution in `/etc/os-release`."""
    fields = dict(
        (key.strip(), value.strip().strip("\"'"))
        for key, _, value in (line.partition("=") for line in release.splitlines())
    )
    names = f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}".lower().split()
    families = {
        "debian": ("debian", "ubuntu"),
        "fedora": ("fedora", "rhel", "centos"),
        "arch": ("arch",),
        "suse": ("suse", "opensuse"),
        "alpine": ("alpine",),
    }
    for family, members in families.items():
        if any(name == it or name.startswith(f"{it}-") for name in names for it in members):
            return family
    return ""


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        # Windows has no such call.
        return None


def _cards(root: Path) -> tuple[Card, ...]:
    found = []
    for device in sorted(root.glob("sys/bus/pci/devices/*")):
        try:
            kind, vendor, model = (
                int(_text(device / name) or "0", 16) for name in ("class", "vendor", "device")
            )
        except ValueError:
            continue
        # Servers have simple display chips of other vendors, for which there is no Vulkan driver.
        if kind >> 16 == DISPLAY_CONTROLLER and vendor in VENDORS:
            found.append(Card(vendor, model))
    return tuple(found)
