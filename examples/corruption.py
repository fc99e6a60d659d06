"""Something overwrites my buffer: who, where, and by how much?

    python examples/corruption.py [--device PROFILE]

A little simulation with three faults of the kind that C extensions, shaders and kernels have. A
loop writes one particle too many. A filter reads and writes the element before the first one. And
a job keeps the address of a buffer that is destroyed before it has run. Nothing crashes, and the
pictures are a little wrong. `Debug` finds each of them and says who was written over.
"""

from __future__ import annotations

import argparse
import ctypes

import numpy as np

import vk_mem
from vk_mem import BufferUsage

PARTICLE = 32
"""Bytes of one particle."""
DEBUG = vk_mem.Debug(fill="nan", detect_corruption=True, quarantine="16M", check="frame")


class Native:
    """Stands for a C extension: it gets addresses, and nobody checks where it writes."""

    def __init__(self) -> None:
        self.jobs: list[int] = []

    def move(self, address: int, count: int) -> None:
        """Moves the particles 0 to `count`, and should have stopped before the last one."""
        for index in range(count + 1):
            ctypes.memset(address + index * PARTICLE, index & 0xFF, PARTICLE // 4)

    def smooth(self, address: int) -> None:
        """Begins one element of four bytes before the first."""
        ctypes.memset(address - 4, 0x2A, 4)

    def later(self, address: int) -> None:
        """Keeps an address for a job that is run much later."""
        self.jobs.append(address)

    def run(self) -> None:
        """Runs the jobs, whatever has become of their memory."""
        for address in self.jobs:
            ctypes.memset(address + 64, 0x07, 16)


def address_of(buffer: vk_mem.Buffer) -> int:
    """Returns the address of a mapped buffer, as a native function takes it."""
    mapping = buffer.map()
    try:
        return mapping.address
    finally:
        mapping.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--device", default="discrete-8gib", help="profile of a simulated device")
    device = vk_mem.SimulatedDevice(parser.parse_args().device)
    native = Native()
    # Only while looking for something: call sites and checks take time in each call.
    with vk_mem.Allocator(device, debug=DEBUG, track_call_sites=True) as allocator:

        def upload_buffer(size: int, name: str) -> vk_mem.Buffer:
            return allocator.create_buffer(
                size,
                BufferUsage.STORAGE_BUFFER,
                flags=vk_mem.AllocationCreateFlags.MAPPED
                | vk_mem.AllocationCreateFlags.HOST_ACCESS_RANDOM,
                name=name,
            )

        forces = upload_buffer(4096, "forces")
        particles = upload_buffer(100 * PARTICLE, "particles")
        weights = upload_buffer(1024, "weights")
        print("new memory is NaN:", bool(np.isnan(weights.numpy(np.float32)).all()))

        print("\n1. One particle too many")
        native.move(address_of(particles), 100)
        try:
            allocator.check_corruption()
        except vk_mem.CorruptionError as error:
            print(error)
            print(f"as figures: {error.name!r}, offset {error.offset}, {error.count} bytes")

        print("\n2. The element before the first one")
        native.smooth(address_of(weights))
        try:
            weights.destroy()
        except vk_mem.CorruptionError as error:
            print(error)  # the buffer is destroyed all the same

        print("\n3. A write to memory that was freed")
        native.later(address_of(forces))
        forces.destroy()
        native.run()
        try:
            allocator.set_current_frame_index(1)  # tells what was not told before
        except vk_mem.CorruptionError as error:
            print(error)
        particles.destroy()
        total = allocator.calculate_statistics().total
        print(f"\nheld back in the quarantine: {total.quarantined_count}")


if __name__ == "__main__":
    main()
