"""Slots of a descriptor table, divided by the same algorithms as memory. Needs no device."""

import numpy as np

import vk_mem


def main() -> None:
    table = vk_mem.VirtualBlock(1000)
    one = table.allocate(16, alignment=16, user_data="material 7")
    print(f"{one.user_data}: slots {one.offset} to {one.offset + one.size - 1}")

    # Many at once, without a Python object for each.
    sizes = np.random.default_rng(1).integers(1, 3, 300).astype(np.uint64)
    handles, offsets = (np.asarray(view) for view in table.allocate_many(sizes))
    print(f"{len(handles)} more, up to slot {offsets.max()}; {table}")
    try:
        table.allocate(600)
    except vk_mem.OutOfDeviceMemoryError as full:
        print(full)

    table.grow(2000)
    print(f"grown: 600 slots at {table.allocate(600).offset}")
    table.free_many(handles)
    one.free()
    statistics = table.statistics()
    print(f"{statistics.allocation_count} left, {statistics.unused_range_count} unused ranges")


if __name__ == "__main__":
    main()
