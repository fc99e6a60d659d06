"""What can be wrong with the loader, the drivers and the layers of a machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vk_mem.doctor.computer import VENDORS
from vk_mem.doctor.finding import Finding, Weight
from vk_mem.doctor.machine import Machine
from vk_mem.doctor.manifests import DRIVER_VARIABLES
from vk_mem.doctor.packages import install
from vk_mem.text import counted

__all__ = ["is_loader_missing", "system_findings"]

VALIDATION = "VK_LAYER_KHRONOS_validation"
HARMLESS_LAYERS = ("VK_LAYER_MESA_device_select", "VK_LAYER_NV_optimus")
"""Layers that come with drivers and choose among devices."""
SIMULATED_MEANWHILE = (
    "Until then, programs can use a simulated card, which needs no driver: "
    "vk_mem.SimulatedDevice()."
)
OTHER_SYSTEMS = {
    "win32": "Install the driver of the card's maker (NVIDIA, AMD or Intel); Vulkan comes with it.",
    "darwin": "Install the Vulkan SDK from LunarG, or with Homebrew: vulkan-loader and molten-vk.",
}


def is_loader_missing(machine: Machine) -> bool:
    """Returns whether Vulkan itself is not installed."""
    return machine.probe.error.startswith("no Vulkan loader found")


def system_findings(machine: Machine) -> Iterator[Finding]:
    """Judges everything but the devices themselves."""
    if machine.simulated:
        return
    if is_loader_missing(machine):
        yield _loader_missing(machine)
    else:
        hidden = [*_hidden_drivers(machine), *_filtered_drivers(machine)]
        yield from hidden
        yield from _bad_drivers(machine)
        # Where a variable is the cause, it would not help to install a driver.
        causes = ("variable-names-missing-driver", "variable-filters-drivers")
        if not machine.devices and not any(it.key in causes for it in hidden):
            yield _no_device(machine)
    yield from _idle_cards(machine)
    yield from _switched_on(machine)
    yield from _layers(machine)


def _loader_missing(machine: Machine) -> Finding:
    computer = machine.computer
    parts = [card.vendor for card in computer.cards]
    return Finding(
        "loader-missing",
        Weight.BROKEN,
        "The Vulkan loader is not installed",
        "Vulkan is how programs reach a graphics card, and each of them goes through this small "
        "library. Without it no driver can be used.",
        OTHER_SYSTEMS.get(
            computer.system,
            "Install it together with drivers; Mesa's work without a graphics card, too. "
            + SIMULATED_MEANWHILE,
        ),
        command=install(computer, "loader", *parts, "mesa"),
    )


def _hidden_drivers(machine: Machine) -> Iterator[Finding]:
    variable = next((it for it in DRIVER_VARIABLES if it in machine.variables), None)
    if variable is None or not machine.drivers:
        return
    missing = [it.manifest.path for it in machine.drivers if not Path(it.manifest.path).exists()]
    others = f"Without it, programs see {counted(len(machine.hidden), 'driver')} more."
    if missing:
        yield Finding(
            "variable-names-missing-driver",
            Weight.BROKEN,
            f"{variable} names a file that does not exist: {missing[0]}",
            f"With this variable set, programs use the drivers that it names, no others. {others}",
            "Remove the variable, or set it to a file of the folder vulkan/icd.d.",
            command=_unset(machine, variable),
        )
    else:
        yield Finding(
            "variable-hides-drivers",
            Weight.BROKEN if machine.hidden and not machine.devices else Weight.NOTE,
            f"{variable} is set: programs see the drivers that it names and no others",
            f"A graphics card whose driver it does not name cannot be used. {others}",
            "Remove the variable if a card is missing here.",
            command=_unset(machine, variable),
        )


def _filtered_drivers(machine: Machine) -> Iterator[Finding]:
    """Finds variables by which the loader leaves out drivers that are installed."""
    for name in ("VK_LOADER_DRIVERS_SELECT", "VK_LOADER_DRIVERS_DISABLE"):
        if name in machine.variables:
            yield Finding(
                "variable-filters-drivers",
                Weight.NOTE if machine.devices else Weight.BROKEN,
                f"{name} leaves out drivers: {machine.variables[name]}",
                "A graphics card whose driver is left out cannot be used, and no program says why.",
                "Remove the variable if a card is missing here.",
                command=_unset(machine, name),
            )


def _unset(machine: Machine, variable: str) -> str:
    return f"set {variable}=" if machine.computer.system == "win32" else f"unset {variable}"


def _bad_drivers(machine: Machine) -> Iterator[Finding]:
    for driver in machine.drivers:
        path = driver.manifest.path
        if driver.crashed:
            yield Finding(
                "driver-crashes",
                Weight.BROKEN,
                f"The driver of {path} does not work: {driver.crashed}",
                "The loader loads all drivers into each program, so this one can take down "
                "programs that use another card.",
                "Update or remove the driver. To go on without it, set the variable below.",
                command=f"export VK_LOADER_DRIVERS_DISABLE='{Path(path).name}'",
            )
        elif driver.manifest.problem and Path(path).exists():
            yield Finding(
                "driver-incomplete",
                Weight.BROKEN,
                f"The driver of {path} cannot be loaded: {driver.manifest.problem}",
                "The card that it is for cannot be used.",
                "Install the driver again, or remove this file if its driver was removed.",
            )
    for device in machine.devices:
        if device.error:
            yield Finding(
                "device-fails",
                Weight.BROKEN,
                f"{device.name} is there, and does not work: {device.error}",
                "vk-mem opened the device, copied 64 KiB to it and back, and looked at what came "
                "back. One of these steps failed.",
                "Update the driver. If that does not help, report it with the output of "
                "vk-mem doctor --json.",
            )


def _no_device(machine: Machine) -> Finding:
    computer = machine.computer
    vendors = [card.vendor for card in computer.cards]
    installed = [it for it in machine.drivers if not it.manifest.problem]
    command = install(computer, *vendors, "mesa")
    if machine.probe.crashed:
        what = f"Looking for graphics cards failed: {machine.probe.crashed}"
        why = "A driver or a layer takes down each program that uses Vulkan."
    elif not installed:
        what = "No Vulkan driver is installed"
        why = (
            "The Vulkan loader is there, and has nothing to load. Each kind of graphics card needs "
            "its driver; Mesa has one that needs no card and runs on the processor."
        )
    else:
        what = (
            "Vulkan drivers are installed, but none of them finds a device"
            f" ({', '.join(Path(it.manifest.path).name for it in installed)})"
        )
        why = (
            "A driver works for the cards of its maker only. None of these cards is here, or this "
            "process may not use it."
        )
    return Finding(
        "no-device",
        Weight.BROKEN,
        what,
        why,
        OTHER_SYSTEMS.get(
            computer.system,
            "Install the driver of your card, and Mesa's, which runs without a card. "
            + SIMULATED_MEANWHILE,
        ),
        command=command,
    )


def _idle_cards(machine: Machine) -> Iterator[Finding]:
    """Finds cards that the system sees and no Vulkan driver works for."""
    computer = machine.computer
    working = {device.vendor_id for device in machine.devices if not device.error}
    if computer.closed_nodes:
        yield Finding(
            "no-permission",
            Weight.BROKEN if not working else Weight.SLOW,
            f"This user may not use the graphics card ({computer.closed_nodes[0]})",
            "Drivers open this file; without permission they find no card, and say nothing.",
            "Add the user to the group that owns the file (render or video), and log in again. "
            "In a container, hand the group over as well.",
            command="sudo usermod -aG render,video $USER",
        )
    idle = {card.vendor_id for card in computer.cards} - working
    if computer.nvidia_kernel_driver and 0x10DE not in working:
        idle.add(0x10DE)
    for vendor_id in sorted(idle):
        yield _idle_card(machine, vendor_id)
    if machine.devices and not any(not it.is_cpu for it in machine.devices) and not idle:
        yield Finding(
            "processor-only",
            Weight.SLOW,
            "Vulkan finds no graphics card; the processor does its work",
            "Everything works and gives the right results, at a small part of the speed of a card. "
            "It is good for tests, not for measuring.",
            "Under Windows' subsystem for Linux, update the driver in Windows and Mesa in Linux."
            if computer.windows_subsystem
            else "If the computer has a card, install its driver. In a virtual machine or a "
            "container, the card has to be handed over from outside.",
        )


def _idle_card(machine: Machine, vendor_id: int) -> Finding:
    computer = machine.computer
    vendor = VENDORS.get(vendor_id, f"vendor {vendor_id:#06x}")
    command = install(computer, vendor)
    if vendor_id == 0x10DE and computer.nvidia_kernel_driver:
        do = (
            "The kernel's half of NVIDIA's driver is loaded; the half for Vulkan is missing. In a "
            "container, start it with graphics, and not compute alone. Elsewhere install "
            "the package of the driver's libraries (libnvidia-gl, nvidia-driver-libs)."
        )
        command = "docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=all ..."
    elif vendor_id == 0x10DE:
        do = "Install NVIDIA's driver, of the version that your system offers."
    elif not computer.render_nodes and computer.system == "linux" and computer.container:
        do = "Hand the card to this container."
        command = "docker run --device /dev/dri ..."
    elif computer.system in OTHER_SYSTEMS:
        do = OTHER_SYSTEMS[computer.system]
    else:
        do = f"Install the Vulkan driver for {vendor}, or update it: new cards need new drivers."
    return Finding(
        "card-without-driver",
        Weight.SLOW,
        f"A graphics card of {vendor} is here, and no Vulkan driver works for it",
        "Programs cannot use the card; at best the processor does its work.",
        do,
        command=command,
    )


def _switched_on(machine: Machine) -> Iterator[Finding]:
    """Finds variables that make each program slow."""
    for name in ("VK_INSTANCE_LAYERS", "VK_LOADER_LAYERS_ENABLE"):
        value = machine.variables.get(name, "")
        if "validation" in value.lower() or "api_dump" in value.lower():
            yield Finding(
                "layers-switched-on",
                Weight.SLOW,
                f"{name} switches checks on in each program: {value}",
                "Validation makes each call of Vulkan slower, many times in some programs.",
                "Remove the variable when you are not looking for mistakes.",
                command=_unset(machine, name),
            )
    if "VK_MEM_DEBUG" in machine.variables:
        yield Finding(
            "debugging-switched-on",
            Weight.SLOW,
            f"VK_MEM_DEBUG is set: {machine.variables['VK_MEM_DEBUG']}",
            "vk-mem then fills and checks memory, which costs time and memory in each program.",
            "Remove the variable when you are not looking for mistakes.",
            command=_unset(machine, "VK_MEM_DEBUG"),
        )


def _layers(machine: Machine) -> Iterator[Finding]:
    names = [it.name for it in machine.layers]
    if machine.devices and VALIDATION not in names:
        yield Finding(
            "validation-missing",
            Weight.NOTE,
            "The validation layer is not installed",
            "It checks the calls of a program against the rules of Vulkan: without it, "
            "vk-mem demo --validation and Device.open(validation=True) fail.",
            "Install it if you write programs that call Vulkan.",
            command=install(machine.computer, "validation"),
        )
    others = [it.name for it in machine.layers if it.implicit and it.name not in HARMLESS_LAYERS]
    if others:
        yield Finding(
            "implicit-layers",
            Weight.NOTE,
            f"Code of other programs loads into each program that uses Vulkan: {', '.join(others)}",
            "Such layers belong to overlays, recorders and the like, and are a frequent cause of "
            "crashes that look like those of the program.",
            "When a program crashes, try it once without them.",
            command="VK_LOADER_LAYERS_DISABLE='~implicit~' python program.py",
        )
