"""Pictures of what a program holds, and of what a part of it left behind."""

import pathlib
import random
import tempfile

import vk_mem
from vk_mem import AllocationCreateFlags, BufferUsage, Format, ImageUsage

WRITE = AllocationCreateFlags.HOST_ACCESS_SEQUENTIAL_WRITE
KIB, MIB = 1 << 10, 1 << 20


def open_device() -> vk_mem.Device:
    """The best device, or a simulated one where there is no driver."""
    try:
        return vk_mem.Device.open()
    except vk_mem.InitializationError:
        return vk_mem.SimulatedDevice()


def load_level(
    allocator: vk_mem.Allocator, level: int, dice: random.Random
) -> list[vk_mem.Resource]:
    """Meshes, textures and what draws them."""
    made: list[vk_mem.Resource] = []
    for number in range(40):
        vertices = dice.randrange(16 * KIB, 512 * KIB)
        usage = BufferUsage.VERTEX_BUFFER | BufferUsage.TRANSFER_DST
        made.append(
            allocator.create_buffer(vertices, usage, name=f"level {level}/mesh {number}/vertices")
        )
        usage = BufferUsage.INDEX_BUFFER | BufferUsage.TRANSFER_DST
        made.append(
            allocator.create_buffer(
                vertices // 4, usage, name=f"level {level}/mesh {number}/indices"
            )
        )
    for number in range(24):
        side = 1 << dice.randrange(6, 10)
        made.append(
            allocator.create_image(
                Format.R8G8B8A8_UNORM,
                (side, side),
                ImageUsage.SAMPLED | ImageUsage.TRANSFER_DST,
                name=f"level {level}/texture {number}",
                user_data=f"level{level}",
            )
        )
    return made


def main() -> None:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vk-mem-"))
    dice = random.Random(7)
    with vk_mem.Allocator(open_device(), preferred_block_size=16 * MIB) as allocator:
        target = allocator.create_image(
            Format.R8G8B8A8_UNORM,
            (1280, 720),
            ImageUsage.COLOR_ATTACHMENT,
            flags=AllocationCreateFlags.DEDICATED_MEMORY,
            name="target",
        )
        staging = allocator.create_buffer(
            4 * MIB, BufferUsage.TRANSFER_SRC, flags=WRITE, name="staging"
        )
        before = allocator.snapshot()
        first = load_level(allocator, 1, dice)
        vk_mem.view.svg(allocator, folder / "level-1.svg")
        vk_mem.view.html(allocator, folder / "level-1.html")
        try:
            vk_mem.view.png(allocator, folder / "level-1.png")
        except vk_mem.FeatureNotPresentError as error:
            print(f"no PNG: {error}")
        # The level ends, but one in seven is forgotten: what is only after is the leak.
        forgotten = first[::7]
        for resource in first:
            if resource not in forgotten:
                resource.destroy()
        vk_mem.view.html(before, folder / "leak.html", other=allocator, title="After level 1")
        leaked = vk_mem.diff(before, allocator).only_in_b
        size = sum(entry.size for entry in leaked)
        print(f"{len(leaked)} resources of {size / MIB:.1f} MiB are left of level 1")
        for resource in (*forgotten, target, staging):
            resource.destroy()
    for path in sorted(folder.iterdir()):
        print(f"wrote {path}, {path.stat().st_size // KIB} KiB")


if __name__ == "__main__":
    main()
