"""Finding a leak: two snapshots say what is new, call sites say who made it.

    python examples/leaks.py

A renderer loads a level, shows some frames and leaves it again. It should hold as much as before,
and does not: a cache keeps what nobody asks for any more.
"""

import vk_mem
from vk_mem import BufferUsage, ImageUsage

RGBA8 = vk_mem.Format.R8G8B8A8_UNORM


class Level:
    """Its geometry and textures. It destroys all that it knows of."""

    def __init__(self, allocator: vk_mem.Allocator, cache: dict[str, vk_mem.Buffer]) -> None:
        self.made = [
            allocator.create_buffer(1 << 20, BufferUsage.VERTEX_BUFFER, name="terrain"),
            allocator.create_image(RGBA8, (512, 512), ImageUsage.SAMPLED, name="grass"),
        ]
        for index in range(8):
            # Under a name of its own each time: what a level has left in the cache is never found.
            cache[f"{id(self)}/{index}"] = self.lightmap(allocator, index)

    def lightmap(self, allocator: vk_mem.Allocator, index: int) -> vk_mem.Buffer:
        return allocator.create_buffer(
            256 << 10, BufferUsage.STORAGE_BUFFER, name=f"lightmap {index}"
        )

    def close(self) -> None:
        for resource in self.made:
            resource.destroy()


def main() -> None:
    device = vk_mem.SimulatedDevice("discrete-8gib")
    cache: dict[str, vk_mem.Buffer] = {}
    # A few hundred nanoseconds for each create; leave it on while looking for something.
    with vk_mem.Allocator(device, track_call_sites=True) as allocator:
        before = allocator.snapshot()
        with vk_mem.statistics(allocator) as visit:
            level = Level(allocator, cache)
            level.close()
        print(f"the visit made {visit.total_count} allocations and left {visit.current_count}")

        found = vk_mem.diff(before, allocator)
        left = sum(entry.size for entry in found.only_in_b)
        print(f"{len(found.only_in_b)} are new since the first snapshot, {left >> 10} KiB:")
        for site in {entry.region.call_site for entry in found.only_in_b}:
            print("  created at " + "\n    called from ".join((site or "?").split("\n")))

        print("\nThe same, of all that is alive:")
        print(allocator.leaks())
        allocator.destroy_many(cache.values())
        print(f"\nwithout the cache: {len(allocator.leaks())} left")


if __name__ == "__main__":
    main()
