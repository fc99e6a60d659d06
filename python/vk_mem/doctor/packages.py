"""Names the packages that bring what is missing, and the commands that install them."""

from __future__ import annotations

from vk_mem.doctor.computer import Computer

__all__ = ["install"]

INSTALL = {
    "debian": "sudo apt install",
    "fedora": "sudo dnf install",
    "arch": "sudo pacman -S",
    "suse": "sudo zypper install",
    "alpine": "sudo apk add",
}
PACKAGES = {
    "loader": {
        "debian": "libvulkan1",
        "fedora": "vulkan-loader",
        "arch": "vulkan-icd-loader",
        "suse": "libvulkan1",
        "alpine": "vulkan-loader",
    },
    "mesa": {
        "debian": "mesa-vulkan-drivers",
        "fedora": "mesa-vulkan-drivers",
        "arch": "vulkan-swrast",
        "suse": "libvulkan_lvp",
        "alpine": "mesa-vulkan-swrast",
    },
    "AMD": {
        "debian": "mesa-vulkan-drivers",
        "fedora": "mesa-vulkan-drivers",
        "arch": "vulkan-radeon",
        "suse": "libvulkan_radeon",
        "alpine": "mesa-vulkan-ati",
    },
    "Intel": {
        "debian": "mesa-vulkan-drivers",
        "fedora": "mesa-vulkan-drivers",
        "arch": "vulkan-intel",
        "suse": "libvulkan_intel",
        "alpine": "mesa-vulkan-intel",
    },
    "Broadcom": {
        "debian": "mesa-vulkan-drivers",
        "fedora": "mesa-vulkan-drivers",
        "arch": "vulkan-broadcom",
        "suse": "libvulkan_broadcom",
        "alpine": "mesa-vulkan-broadcom",
    },
    "validation": {
        "debian": "vulkan-validationlayers",
        "fedora": "vulkan-validation-layers",
        "arch": "vulkan-validation-layers",
        "suse": "vulkan-validationlayers",
        "alpine": "vulkan-validation-layers",
    },
}
"""By what is missing and by family of the distribution."""


def install(computer: Computer, *parts: str) -> str:
    """Returns the command that installs some parts of `PACKAGES`, or "" where it is not known."""
    if computer.family not in INSTALL:
        return ""
    names = [PACKAGES[part][computer.family] for part in parts if part in PACKAGES]
    if not names:
        return ""
    return f"{INSTALL[computer.family]} {' '.join(dict.fromkeys(names))}"
