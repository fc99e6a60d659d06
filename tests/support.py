"""What several tests use: flags, and a look at memory from the device's side."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import vk_mem
from vk_mem import (
    AllocationCreateFlags,
    Allocator,
    Buffer,
    BufferUsage,
    Device,
    Format,
    ImageUsage,
    SimulatedDevice,
)

TRANSFER = BufferUsage.TRANSFER_SRC | BufferUsage.TRANSFER_DST
IMAGE_TRANSFER = ImageUsage.TRANSFER_SRC | ImageUsage.TRANSFER_DST
RGBA8 = Format.R8G8B8A8_UNORM
WRITE = AllocationCreateFlags.HOST_ACCESS_SEQUENTIAL_WRITE
RANDOM = AllocationCreateFlags.HOST_ACCESS_RANDOM
MAPPED = AllocationCreateFlags.MAPPED
DEDICATED = AllocationCreateFlags.DEDICATED_MEMORY
NEVER = AllocationCreateFlags.NEVER_ALLOCATE
DONT_BIND = AllocationCreateFlags.DONT_BIND
WITHIN_BUDGET = AllocationCreateFlags.WITHIN_BUDGET


def pattern(size: int, seed: int = 0) -> bytes:
    """Bytes that do not repeat soon, so a wrong offset shows."""
    return bytes((seed * 89 + i * 7 + (i >> 8) * 13 + 1) & 0xFF for i in range(size))


def is_simulated(device: Device) -> bool:
    return isinstance(device, SimulatedDevice)


class Check:
    """Reads and writes memory with copies of the device, through staging buffers of its own."""

    def __init__(self, allocator: Allocator) -> None:
        self.allocator = allocator
        self.device = allocator.device

    def read(self, buffer: Buffer) -> bytes:
        with self.allocator.create_buffer(
            buffer.size, BufferUsage.TRANSFER_DST, flags=RANDOM, name="read back"
        ) as target:
            self.device.copy_buffer(buffer, target)
            return target.read()

    def write(self, buffer: Buffer, data: bytes) -> None:
        with self.allocator.create_buffer(
            len(data), BufferUsage.TRANSFER_SRC, flags=WRITE, name="staging"
        ) as source:
            source.write(data)
            self.device.copy_buffer(source, buffer)


def run_python(code: str, *options: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs a program in an interpreter of its own, with the package that is tested here."""
    # The isolated mode does not look where this interpreter was told to.
    found = str(Path(vk_mem.__file__).parent.parent)
    start = f"import sys; sys.path.insert(0, {found!r})\n" if "-I" in options else ""
    return subprocess.run(
        [sys.executable, *options, "-c", start + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def totals(allocator: Allocator) -> vk_mem.Statistics:
    return allocator.calculate_statistics().total
