"""Opens the device that the command line names."""

from __future__ import annotations

import vk_mem
from vk_mem.flags import DeviceType
from vk_mem.observe.tables import size_text

__all__ = [
    "flag_names",
    "kind_of",
    "open_device",
    "short_flag_names",
    "size_text",
    "version_text",
]


def open_device(
    name: str | None, simulated: str | None, validation: bool
) -> tuple[vk_mem.Device, str | None]:
    """Opens a simulated profile, a device by name, or the best device.

    Without a name and without a driver it makes a simulated device, and returns the reason.
    """
    if simulated is not None and name is not None:
        raise vk_mem.InvalidArgumentError("--device and --simulated exclude each other")
    if simulated is not None:
        return vk_mem.SimulatedDevice(simulated), None
    try:
        return vk_mem.Device.open(name, validation=validation), None
    except vk_mem.InitializationError as error:
        if name is not None or validation:
            raise
        return vk_mem.SimulatedDevice(), str(error)


def kind_of(device: vk_mem.Device) -> str:
    """Describes for people whether a device is a GPU, a CPU driver or simulated."""
    if isinstance(device, vk_mem.SimulatedDevice):
        return "simulated, no driver"
    if device.properties.device_type is DeviceType.CPU:
        return "CPU driver"
    return device.properties.device_type.name.lower().replace("_", " ")


def version_text(version: tuple[int, int, int]) -> str:
    """Formats a version: `1.3.230`."""
    return ".".join(map(str, version))


def flag_names(flags: int) -> str:
    """Names memory property flags: `DEVICE_LOCAL HOST_VISIBLE`, or a dash for none."""
    properties = vk_mem.MemoryPropertyFlags(flags)
    return " ".join(flag.name for flag in properties if flag.name) or "-"


def short_flag_names(flags: int) -> str:
    """Names memory property flags in short: `device, visible, coherent`, or a dash for none."""
    names = flag_names(flags).split()
    return ", ".join(name.removesuffix("_LOCAL").split("_")[-1].lower() for name in names)
