"""Blocks that are half empty, before and after they are tidied.

`python examples/defragment.py [folder]` writes before.svg, after.svg, moves.svg and page.html,
which show what has moved; by default into a temporary folder.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import vk_mem
from vk_mem import BufferUsage, ImageUsage, view

MIB = 1 << 20


def main(folder: Path) -> None:
    device = vk_mem.SimulatedDevice("discrete-8gib")
    chance = random.Random(1)
    with vk_mem.Allocator(device, preferred_block_size=16 * MIB) as allocator:
        resources: list[vk_mem.Buffer | vk_mem.Image] = []
        for index in range(120):
            if index % 4:
                size = chance.randrange(MIB // 16, MIB)
                buffer = allocator.create_buffer(
                    size, BufferUsage.VERTEX_BUFFER, movable=True, name=f"mesh {index}"
                )
                buffer.upload(bytes([index]) * size)
                resources.append(buffer)
            else:
                side = chance.choice([64, 128, 256, 512])
                image = allocator.create_image(
                    "R8G8B8A8_UNORM",
                    (side, side),
                    ImageUsage.SAMPLED,
                    movable=True,
                    name=f"texture {index}",
                )
                image.upload(bytes([index]) * (4 * side * side))
                resources.append(image)
        gone = set(chance.sample(resources, 80))
        allocator.destroy_many(gone)
        kept = [it for it in resources if it not in gone]

        before = allocator.snapshot()
        done = allocator.defragment(algorithm="full")
        # One empty block is kept for what comes next, unless it is asked for.
        allocator.trim()
        after = allocator.snapshot()

        view.svg(before, folder / "before.svg")
        view.svg(after, folder / "after.svg")
        view.svg(before, folder / "moves.svg", other=after)
        view.html(before, folder / "page.html", other=after, title="After defragment()")
        print(done)
        for what, dump in (("before", before), ("after", after)):
            print(f"{what}: {dump.total.block_count} blocks")
        for it in kept:
            # The texels and vertices are the number in the name, over and over.
            number = int((it.name or "").split()[1])
            assert (it.download() == number).all()
        print(f"{len(kept)} resources have what they had")
        allocator.destroy_many(kept)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
