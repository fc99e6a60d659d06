"""Finds the files that tell the Vulkan loader which drivers and layers are installed.

The loader reads JSON files ("manifests") from folders of the system and of the user; variables of
the environment replace or add to them. The rules are those of its documents LoaderDriverInterface
and LoaderLayerInterface.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["DRIVER_VARIABLES", "Layer", "Manifest", "drivers_of", "layers_of"]

DRIVER_VARIABLES = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")
"""Each replaces the search for drivers; the first that is set counts."""


@dataclass(frozen=True)
class Manifest:
    """A file that names a driver."""

    path: str
    library: str = ""
    """The path of the driver's library, or its bare name."""
    api_version: str = ""
    problem: str = ""
    """Why the file or its library cannot be used, as far as files tell."""

    def as_json(self) -> dict[str, Any]:
        """Returns the fields as values that JSON has."""
        return asdict(self)


@dataclass(frozen=True)
class Layer:
    """A layer: code that stands between a program and the driver."""

    path: str
    name: str
    implicit: bool
    """Whether it loads into each program without being asked for."""
    description: str = ""

    def as_json(self) -> dict[str, Any]:
        """Returns the fields as values that JSON has."""
        return asdict(self)


def drivers_of(environment: Mapping[str, str], system: str = sys.platform) -> list[Manifest]:
    """Returns the manifests of drivers that the loader would read."""
    named = next((environment[it] for it in DRIVER_VARIABLES if environment.get(it)), None)
    if named is not None:
        paths = list(_listed(named))
    else:
        added = environment.get("VK_ADD_DRIVER_FILES", "")
        paths = [*_listed(added), *_found(environment, system, "icd.d", "Drivers")]
    return [_read_driver(path) for path in dict.fromkeys(paths)]


def layers_of(environment: Mapping[str, str], system: str = sys.platform) -> list[Layer]:
    """Returns the layers that are installed, those of each kind in the order of their folders."""
    found: dict[str, Layer] = {}
    kinds = (
        ("implicit_layer.d", "ImplicitLayers", "VK_IMPLICIT_LAYER_PATH"),
        ("explicit_layer.d", "ExplicitLayers", "VK_LAYER_PATH"),
    )
    for folder, key, variable in kinds:
        instead = environment.get(variable)
        paths = _listed(instead) if instead else _found(environment, system, folder, key)
        for path in paths:
            for layer in _read_layers(path, folder.startswith("implicit")):
                found.setdefault(layer.name, layer)
    return list(found.values())


def _listed(value: str) -> Iterable[Path]:
    """Returns the manifests that a variable names: files, and folders of them."""
    for part in value.split(os.pathsep):
        path = Path(part)
        if part and path.is_dir():
            yield from sorted(path.glob("*.json"))
        elif part:
            yield path


def _found(
    environment: Mapping[str, str], system: str, folder: str, registry_key: str
) -> Iterable[Path]:
    if system == "win32":
        return _registered(registry_key)
    paths: list[Path] = []
    for root in _roots(environment, system):
        try:
            paths += sorted((root / "vulkan" / folder).glob("*.json"))
        except OSError:
            # A folder that cannot be listed has nothing for the loader either.
            continue
    return paths


def _roots(environment: Mapping[str, str], system: str) -> Iterable[Path]:
    """Returns the folders that the loader searches, in its order."""
    home = environment.get("HOME", "")

    def folders(variable: str, default: str) -> list[str]:
        return [it for it in (environment.get(variable) or default).split(os.pathsep) if it]

    config = environment.get("XDG_CONFIG_HOME") or (home and f"{home}/.config")
    data = environment.get("XDG_DATA_HOME") or (home and f"{home}/.local/share")
    names = [config, *folders("XDG_CONFIG_DIRS", "/etc/xdg"), "/usr/local/etc", "/etc"]
    names += [data, *folders("XDG_DATA_DIRS", f"/usr/local/share{os.pathsep}/usr/share")]
    if system == "darwin":
        names += ["/opt/homebrew/share", "/opt/homebrew/etc"]
    return dict.fromkeys(Path(it) for it in names if it)


def _registered(key: str) -> Iterable[Path]:
    """Returns the manifests that the registry of Windows names, except those of single devices."""
    try:
        import winreg
    except ModuleNotFoundError:
        return []
    windows: Any = winreg
    paths: list[Path] = []
    for root in (windows.HKEY_LOCAL_MACHINE, windows.HKEY_CURRENT_USER):
        try:
            with windows.OpenKey(root, rf"SOFTWARE\Khronos\Vulkan\{key}") as opened:
                count = windows.QueryInfoKey(opened)[1]
                values = [windows.EnumValue(opened, index) for index in range(count)]
        except OSError:
            continue
        # The value 0 switches a manifest on.
        paths += [Path(name) for name, value, _ in values if value == 0]
    return paths


def _read_json(path: Path) -> dict[str, Any]:
    """Reads a manifest. Raises `OSError` or `ValueError`."""
    found = json.loads(path.read_bytes())
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found


def _read_driver(path: Path) -> Manifest:
    try:
        found = _read_json(path).get("ICD")
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "it is no JSON file"
        return Manifest(str(path), problem=f"the file cannot be read: {reason}")
    library = found.get("library_path") if isinstance(found, dict) else None
    if not isinstance(library, str) or not library:
        return Manifest(str(path), problem="the file names no library")
    version = str(found.get("api_version", "")) if isinstance(found, dict) else ""
    # A bare name is looked up by the system; any other path is relative to the manifest.
    is_path = "/" in library or "\\" in library
    full = path.parent / library if is_path else None
    missing = full is not None and not full.exists()
    return Manifest(
        str(path),
        str(full or library),
        version,
        f"its library is missing: {full}" if missing else "",
    )


def _read_layers(path: Path, implicit: bool) -> Iterable[Layer]:
    try:
        found = _read_json(path)
    except (OSError, ValueError, RecursionError):
        return
    listed = found.get("layers")
    for layer in listed if isinstance(listed, list) else [found.get("layer")]:
        if isinstance(layer, dict) and isinstance(layer.get("name"), str):
            yield Layer(str(path), layer["name"], implicit, str(layer.get("description", "")))
