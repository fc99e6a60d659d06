"""`Machine`: all that an examination looks at, gathered before it is judged."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import vk_mem
from vk_mem.doctor.computer import Computer, computer_here
from vk_mem.doctor.device_facts import DeviceFacts, facts_of
from vk_mem.doctor.manifests import DRIVER_VARIABLES, Layer, Manifest, drivers_of, layers_of
from vk_mem.doctor.probe import Probe, probe, probe_driver

__all__ = ["Driver", "Machine", "machine_here", "simulated_machine"]

VARIABLES = (
    "VK_DRIVER_FILES",
    "VK_ICD_FILENAMES",
    "VK_ADD_DRIVER_FILES",
    "VK_LOADER_DRIVERS_SELECT",
    "VK_LOADER_DRIVERS_DISABLE",
    "VK_LOADER_LAYERS_ENABLE",
    "VK_LOADER_LAYERS_DISABLE",
    "VK_INSTANCE_LAYERS",
    "VK_LAYER_PATH",
    "MESA_VK_DEVICE_SELECT",
    "NVIDIA_DRIVER_CAPABILITIES",
    "VK_MEM_DEBUG",
)
"""Variables of the environment that change what programs see."""


@dataclass(frozen=True)
class Driver:
    """One driver, and what became of it when it was tried alone."""

    manifest: Manifest
    devices: tuple[str, ...] = ()
    crashed: str = ""

    @property
    def loads(self) -> bool:
        """Whether the driver was loaded and has a device."""
        return bool(self.devices)

    def as_json(self) -> dict[str, Any]:
        """Returns the fields as values that JSON has."""
        return {
            **self.manifest.as_json(),
            "devices": list(self.devices),
            "crashed": self.crashed or None,
        }


@dataclass(frozen=True)
class Machine:
    """The computer, its drivers, layers and devices, and the variables that change them."""

    computer: Computer
    drivers: tuple[Driver, ...] = ()
    layers: tuple[Layer, ...] = ()
    probe: Probe = field(default_factory=Probe)
    variables: Mapping[str, str] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    """Manifests of drivers that a variable keeps from programs."""
    simulated: bool = False

    @property
    def devices(self) -> tuple[DeviceFacts, ...]:
        """All devices, whether they work or not."""
        return self.probe.devices

    @property
    def best(self) -> DeviceFacts | None:
        """The device that programs get by default, if there is one that works."""
        index = self.probe.best
        chosen = None if index is None else self.devices[index]
        if chosen is not None and not chosen.error:
            return chosen
        return next((it for it in self.devices if not it.error), None)

    def as_json(self) -> dict[str, Any]:
        """Returns all of it as values that JSON has."""
        return {
            "simulated": self.simulated,
            "computer": self.computer.as_json(),
            "loader": self.probe.loader,
            "drivers": [it.as_json() for it in self.drivers],
            "hidden_drivers": list(self.hidden),
            "layers": [it.as_json() for it in self.layers],
            "variables": dict(self.variables),
            "devices": [it.as_json() for it in self.devices],
            "best": None if self.best is None else self.devices.index(self.best),
            "error": self.probe.error or self.probe.crashed or None,
        }


def machine_here(environment: Mapping[str, str] | None = None) -> Machine:
    """Looks at this computer; drivers are tried in processes of their own."""
    here = os.environ if environment is None else environment
    seen = drivers_of(here)
    installed = drivers_of({key: it for key, it in here.items() if key not in DRIVER_VARIABLES})
    # Each waits for a process of its own.
    with ThreadPoolExecutor(max_workers=4) as pool:
        whole = pool.submit(probe, here)
        drivers = tuple(pool.map(lambda it: _try_driver(it, here), seen))
    return Machine(
        computer_here(),
        drivers,
        tuple(layers_of(here)),
        whole.result(),
        {name: here[name] for name in VARIABLES if here.get(name)},
        tuple(it.path for it in installed if it not in seen),
    )


def _try_driver(manifest: Manifest, environment: Mapping[str, str]) -> Driver:
    if manifest.problem:
        return Driver(manifest)
    alone = probe_driver(manifest.path, environment)
    return Driver(manifest, tuple(it.name for it in alone.devices), alone.crashed)


def simulated_machine(device: vk_mem.Device) -> Machine:
    """Describes a machine that has this device and nothing else that could be wrong."""
    computer = replace(computer_here(), cards=(), render_nodes=(), closed_nodes=())
    return Machine(computer, probe=Probe((facts_of(device),), best=0), simulated=True)
