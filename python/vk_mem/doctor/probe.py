"""Looks at drivers in a process of its own: one that crashes or hangs ends that process alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vk_mem
from vk_mem.doctor.device_facts import DeviceFacts, facts_of, facts_of_unopened
from vk_mem.doctor.manifests import DRIVER_VARIABLES
from vk_mem.errors import VkMemError

__all__ = ["Probe", "probe", "probe_driver"]

PATIENCE = 60.0
"""Seconds that a process of probing gets; the first use of a driver can compile for many."""
MARK = "vk-mem probe: "
"""Begins the line of the result: drivers write to the standard output, too."""


@dataclass(frozen=True)
class Probe:
    """What a process found that looked at drivers."""

    devices: tuple[DeviceFacts, ...] = ()
    best: int | None = None
    """Index of the device that `Device.open()` takes."""
    loader: str | None = None
    """The file of the loader that was loaded, as far as the system tells."""
    error: str = ""
    """Why there is no device."""
    crashed: str = ""
    """How the process ended, if it ended without a result."""


def probe(environment: Mapping[str, str] | None = None, patience: float = PATIENCE) -> Probe:
    """Looks at all devices that Vulkan has; `environment` is by default that of this process."""
    here = dict(os.environ if environment is None else environment)
    # The child has to find the same package, however this process found it.
    package = str(Path(vk_mem.__file__).parent.parent)
    here["PYTHONPATH"] = os.pathsep.join(filter(None, (package, here.get("PYTHONPATH"))))
    here.pop("VK_MEM_DEBUG", None)
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "vk_mem.doctor.probe"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=here,
            timeout=patience,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Probe(crashed=f"it hung: nothing came back for {patience:.0f} s")
    except OSError as error:
        return Probe(crashed=f"it could not be started: {error.strerror or error}")
    output = done.stdout.decode(errors="replace")
    for line in output.splitlines():
        if line.startswith(MARK):
            return _from_json(json.loads(line.removeprefix(MARK)))
    return Probe(crashed=_ending(done.returncode))


def probe_driver(manifest: str, environment: Mapping[str, str] | None = None) -> Probe:
    """Looks at one driver alone, by its manifest."""
    here = dict(os.environ if environment is None else environment)
    # Older loaders know the second name only.
    return probe({**here, **dict.fromkeys(DRIVER_VARIABLES, manifest)})


def _ending(status: int) -> str:
    if status >= 0:
        return f"it ended with status {status}"
    try:
        return f"it crashed ({signal.Signals(-status).name})"
    except ValueError:
        return f"it crashed (signal {-status})"


def _from_json(found: dict[str, Any]) -> Probe:
    devices = tuple(DeviceFacts.from_json(it) for it in found["devices"])
    return Probe(devices, found["best"], found["loader"], found["error"])


def _look() -> dict[str, Any]:
    """Looks at all devices in this process."""
    devices: list[DeviceFacts] = []
    best, error = None, ""
    try:
        present = vk_mem.list_physical_devices()
        for index, it in enumerate(present):
            try:
                devices.append(facts_of(vk_mem.Device.open(index=index), it))
            except VkMemError as failed:
                devices.append(facts_of_unopened(it, str(failed)))
        best = _best(present)
    except VkMemError as failed:
        error = str(failed)
    return {
        "devices": [it.as_json() for it in devices],
        "best": best,
        "loader": _loader(),
        "error": error,
    }


def _best(present: list[vk_mem.PhysicalDevice]) -> int | None:
    """Finds which device `Device.open()` takes."""
    try:
        opened = vk_mem.Device.open().properties
    except VkMemError:
        return None

    def identity(it: vk_mem.DeviceProperties) -> tuple[object, ...]:
        return it.device_name, it.driver, it.vendor_id, it.device_id, it.device_type

    equal = [
        index
        for index, device in enumerate(present)
        if identity(device.properties) == identity(opened)
    ]
    return equal[0] if equal else None


def _loader() -> str | None:
    """Finds the file of the loader among those that are mapped into this process."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            paths = (line.split(maxsplit=5)[-1].strip() for line in maps)
            names = ("libvulkan.so", "libvulkan-1.so")
            return next((it for it in paths if Path(it).name.startswith(names)), None)
    except OSError:
        return None


if __name__ == "__main__":
    # A driver that ends the process by itself has written whatever it wanted before.
    print(f"\n{MARK}{json.dumps(_look())}", flush=True)
