"""Has `examples/renderer` draw its contact sheet, on the first Vulkan device that there is."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import vk_mem

SHEET = "examples/renderer.png"
"""The sheet's place in the site."""
FRAMES = "48"
"""Of the 300 of the whole flight: seconds instead of a minute on a processor."""


def why_not() -> str | None:
    """Why nothing can be rendered here, if so."""
    try:
        vk_mem.Device.open()
    except vk_mem.VkMemError as error:
        return str(error)
    return None


def drawn(root: Path) -> bytes:
    """The PNG. A renderer that fails raises `CalledProcessError`."""
    with tempfile.TemporaryDirectory(prefix="vk-mem-docs-") as folder:
        path = Path(folder) / "sheet.png"
        command = [sys.executable, "examples/renderer", "--frames", FRAMES]
        subprocess.run(
            [*command, "--contact-sheet", str(path)],
            cwd=root,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return path.read_bytes()
