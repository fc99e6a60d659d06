"""What if it ran on another GPU, or with other blocks?

    python examples/what_if.py [--keep TRACE]

Records a little renderer that streams textures and draws a few hundred frames, without any GPU.
Then its recording is played again: on three other devices, which says where it would have failed,
and with other block sizes, which says what each would have saved.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

import vk_mem
from vk_mem import AllocationCreateFlags, BufferUsage, Format, ImageUsage

MIB = 1 << 20
GIB = 1 << 30
UPLOAD = AllocationCreateFlags.HOST_ACCESS_SEQUENTIAL_WRITE


def program(path: Path) -> None:
    """Draws 300 frames: meshes that stay, textures that come and go, staging that lives a frame."""
    dice = random.Random(7)
    device = vk_mem.SimulatedDevice("discrete-8gib")
    with vk_mem.Allocator(device) as allocator, vk_mem.record(allocator, path):
        meshes = [
            allocator.create_buffer(
                dice.randrange(16, 4096) << 10, BufferUsage.VERTEX_BUFFER, name=f"mesh {number}"
            )
            for number in range(120)
        ]
        textures: list[vk_mem.Image] = []
        for frame in range(300):
            allocator.set_current_frame_index(frame)
            size = 1 << dice.randrange(8, 12)
            usage = ImageUsage.SAMPLED | ImageUsage.TRANSFER_DST
            staging = allocator.create_buffer(
                4 * size * size, BufferUsage.TRANSFER_SRC, flags=UPLOAD, name="staging"
            )
            textures.append(
                allocator.create_image(
                    Format.R8G8B8A8_UNORM, (size, size), usage, name=f"texture {frame}"
                )
            )
            staging.destroy()
            if len(textures) > 200:
                textures.pop(dice.randrange(len(textures))).destroy()
        for resource in (*meshes, *textures):
            resource.destroy()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--keep", type=Path, help="where to leave the recording")
    keep = arguments.parse_args().keep
    with tempfile.TemporaryDirectory() as folder:
        path = keep or Path(folder) / "renderer.vkmem"
        program(path)
        trace = vk_mem.trace.load(path)
    print(f"{len(trace):,} events on {trace.replay().device}")
    again = trace.replay().placements
    print(f"played again, {again.checked - again.differing} of {again.checked} are where they were")

    print("\nElsewhere:")
    # The last one has a single heap that the CPU and the GPU share.
    shared = vk_mem.SimulatedDevice(
        heaps=[(GIB, "DEVICE_LOCAL")],
        types=[(0, ["DEVICE_LOCAL", "HOST_VISIBLE", "HOST_COHERENT"])],
    )
    for device in ("integrated", "raspberry-pi", shared):
        report = trace.replay(device)
        failed = report.failed_now
        result = f"{failed.count} allocations fail" if failed.count else "everything fits"
        print(f"  {report.device}: {result}, peak {report.peak_held.bytes // MIB} MiB")
        if failed.count:
            first = failed.first[0]
            print(f"    the first is event {first.event}, {first.size / MIB:.1f} MiB")

    print("\nWith other blocks:")
    sizes = {f"{size} MiB": {"block_size": size * MIB} for size in (16, 32, 64, 128)}
    found = trace.compare({"as recorded": {}, **sizes})
    print(found)
    recorded, best = found[0], min(found, key=lambda it: it.peak_held.bytes)
    saved = recorded.peak_held.bytes - best.peak_held.bytes
    print(
        f"Blocks of {best.name} would have saved {saved // MIB} MiB of "
        f"{recorded.peak_held.bytes // MIB}, for {best.device_allocations} calls of "
        f"vkAllocateMemory instead of {recorded.device_allocations}."
    )


if __name__ == "__main__":
    main()
