"""Makes every driver call of every operation fail once: the right error, and no leaks.

`fail_call(n)` makes the nth call from now fail. Each operation runs with n = 0, 1, 2, ... until it
makes fewer calls, so driver calls that are added to an operation later are tested as well.
"""

from __future__ import annotations

import gc
import mmap
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from support import (
    DEDICATED,
    DONT_BIND,
    IMAGE_TRANSFER,
    MAPPED,
    RANDOM,
    RGBA8,
    TRANSFER,
    WRITE,
    pattern,
)
from systems import needs_descriptors

from vk_mem import (
    Allocator,
    DeviceLostError,
    MemoryMapError,
    OutOfDeviceMemoryError,
    OutOfHostMemoryError,
    SimulatedDevice,
    VkMemError,
)

ERRORS: dict[int, type[VkMemError]] = {
    -1: OutOfHostMemoryError,
    -2: OutOfDeviceMemoryError,
    -4: DeviceLostError,
    -5: MemoryMapError,
}
# Of vkAllocateMemory, all but a lost device: smaller blocks and other types follow.
MAY_RECOVER = {-1, -2, -5}


class World:
    """A device with a few things on it, among them both kinds of memory."""

    def __init__(self, profile: str) -> None:
        self.device = SimulatedDevice(profile)
        self.allocator = Allocator(self.device)
        make = self.allocator.create_buffer
        self.kept = make(64, TRANSFER, flags=RANDOM, name="kept")
        self.kept.write(pattern(64))
        self.buffer = make(4096, TRANSFER, flags=RANDOM | DEDICATED)
        self.mapped = make(4096, TRANSFER, flags=RANDOM | MAPPED | DEDICATED)
        self.target = make(4096, TRANSFER)
        self.unbound = make(4096, TRANSFER, flags=DONT_BIND)
        self.exported = make(4096, TRANSFER, export_handle_types=1)
        self.image = self.allocator.create_image(RGBA8, (32, 32), IMAGE_TRANSFER)
        self.unbound_image = self.allocator.create_image(RGBA8, 4, IMAGE_TRANSFER, flags=DONT_BIND)
        self.device.copy_buffer_to_image(self.target, self.image)
        self.resources = [it for it in vars(self).values() if hasattr(it, "destroy")]

    def state(self) -> dict[str, Any]:
        """What a failure must not change."""
        device, allocator = self.device, self.allocator
        statistics = allocator.calculate_statistics()
        return {
            "buffers": device.live_buffers,
            "images": device.live_images,
            "allocations": [it.allocation_count for it in statistics.memory_types],
            "bytes": [it.allocation_bytes for it in statistics.memory_types],
            "alive": [it.alive for it in self.resources],
            "repr": repr(allocator),
        }

    def close(self) -> None:
        device = self.device
        for it in self.resources:
            it.destroy()
        self.allocator.close()
        assert device.violations == []
        left = (device.live_memory_objects, device.live_buffers, device.live_images)
        assert left == (0, 0, 0)


class Operation(NamedTuple):
    run: Callable[[World], Any]
    undo: Callable[[World, Any], None] = lambda world, made: None


def destroy(world: World, made: Any) -> None:
    made.destroy()


def free(world: World, made: Any) -> None:
    made.free()


def close(world: World, made: Any) -> None:
    made.close()


def nothing(world: World, made: Any) -> None:
    pass


def renew(name: str) -> Callable[[World, Any], None]:
    """For what happens once to a resource: another one takes its place."""

    def undo(world: World, made: Any) -> None:
        old = getattr(world, name)
        world.resources.remove(old)
        old.destroy()
        if name == "unbound":
            new: Any = world.allocator.create_buffer(4096, TRANSFER, flags=DONT_BIND)
        else:
            new = world.allocator.create_image(RGBA8, 4, IMAGE_TRANSFER, flags=DONT_BIND)
        setattr(world, name, new)
        world.resources.append(new)

    return undo


def import_memory_fd(world: World) -> Any:
    memory = world.exported.allocation
    fd = world.exported.export_fd()
    try:
        return world.allocator.import_memory_fd(
            fd, memory.device_memory_size, memory_type_index=memory.memory_type_index
        )
    except BaseException:
        os.close(fd)  # raises unless it is still ours
        raise


def write_through_a_view(world: World) -> None:
    with world.buffer.map() as view:
        view[:] = pattern(4096)


def create_and_free_a_large_buffer(world: World) -> None:
    world.allocator.create_buffer(1 << 28, TRANSFER).destroy()


OPERATIONS = {
    "create_buffer": Operation(lambda it: it.allocator.create_buffer(100, TRANSFER), destroy),
    "create_buffer mapped": Operation(
        lambda it: it.allocator.create_buffer(100, TRANSFER, flags=WRITE | MAPPED, name="n"),
        destroy,
    ),
    "create_buffer dedicated": Operation(
        lambda it: it.allocator.create_buffer(100, TRANSFER, flags=DEDICATED), destroy
    ),
    "create_buffer dedicated and mapped": Operation(
        lambda it: it.allocator.create_buffer(100, TRANSFER, flags=RANDOM | MAPPED | DEDICATED),
        destroy,
    ),
    "create_buffer large": Operation(
        lambda it: it.allocator.create_buffer(1 << 29, TRANSFER), destroy
    ),
    "create_buffer in a new block": Operation(
        lambda it: it.allocator.create_buffer(100 << 20, TRANSFER), destroy
    ),
    "create_image": Operation(
        lambda it: it.allocator.create_image(RGBA8, (64, 64), IMAGE_TRANSFER), destroy
    ),
    "create_image dedicated": Operation(
        lambda it: it.allocator.create_image(RGBA8, (64, 64), IMAGE_TRANSFER, flags=DEDICATED),
        destroy,
    ),
    "create_buffer to export": Operation(
        lambda it: it.allocator.create_buffer(100, TRANSFER, export_handle_types=1), destroy
    ),
    "create_image to export": Operation(
        lambda it: it.allocator.create_image(RGBA8, 64, IMAGE_TRANSFER, export_handle_types=1),
        destroy,
    ),
    "create_buffer on memory of the host": Operation(
        lambda it: it.allocator.create_buffer(
            4096, TRANSFER, flags=RANDOM | MAPPED, import_host_pointer=mmap.mmap(-1, 4096)
        ),
        destroy,
    ),
    "import_host_pointer": Operation(
        lambda it: it.allocator.import_host_pointer(mmap.mmap(-1, 4096)), free
    ),
    "export_fd": Operation(lambda it: it.exported.export_fd(), lambda it, made: os.close(made)),
    "import_memory_fd": Operation(import_memory_fd, free),
    "allocate_memory": Operation(lambda it: it.allocator.allocate_memory(100), free),
    "allocate_memory mapped": Operation(
        lambda it: it.allocator.allocate_memory(100, flags=RANDOM | MAPPED | DEDICATED), free
    ),
    "allocate_memory_for_buffer": Operation(
        lambda it: it.allocator.allocate_memory_for_buffer(it.unbound.handle), free
    ),
    "allocate_memory_for_buffer and bind": Operation(
        lambda it: it.allocator.allocate_memory_for_buffer(it.unbound.handle, bind=True),
        lambda it, made: (renew("unbound")(it, made), made.free())[1],
    ),
    "allocate_memory_for_image and bind": Operation(
        lambda it: it.allocator.allocate_memory_for_image(it.unbound_image.handle, bind=True),
        lambda it, made: (renew("unbound_image")(it, made), made.free())[1],
    ),
    "bind a buffer": Operation(lambda it: it.unbound.bind(), renew("unbound")),
    "bind an image": Operation(lambda it: it.unbound_image.bind(), renew("unbound_image")),
    "find_memory_type_index": Operation(lambda it: it.allocator.find_memory_type_index(), nothing),
    "find_memory_type_index_for_buffer_info": Operation(
        lambda it: it.allocator.find_memory_type_index_for_buffer_info(64, TRANSFER)
    ),
    "find_memory_type_index_for_image_info": Operation(
        lambda it: it.allocator.find_memory_type_index_for_image_info(RGBA8, 4, IMAGE_TRANSFER)
    ),
    "map": Operation(lambda it: it.buffer.map(), close),
    "map readonly": Operation(lambda it: it.buffer.map(readonly=True), close),
    "mapped": Operation(lambda it: it.mapped.mapped, lambda it, made: made.release()),
    "write through a view": Operation(write_through_a_view),
    "write": Operation(lambda it: it.buffer.write(pattern(100))),
    "write persistently mapped": Operation(lambda it: it.mapped.write(pattern(100))),
    "read": Operation(lambda it: it.buffer.read()),
    "read persistently mapped": Operation(lambda it: it.mapped.read()),
    "read_into": Operation(lambda it: it.buffer.read_into(bytearray(100))),
    "flush": Operation(lambda it: it.mapped.flush()),
    "invalidate": Operation(lambda it: it.mapped.invalidate()),
    "fill_buffer": Operation(lambda it: it.device.fill_buffer(it.target)),
    "copy_buffer": Operation(lambda it: it.device.copy_buffer(it.kept, it.target)),
    "copy_buffer_to_image": Operation(
        lambda it: it.device.copy_buffer_to_image(it.target, it.image)
    ),
    "copy_image_to_buffer": Operation(
        lambda it: it.device.copy_image_to_buffer(it.image, it.target)
    ),
    "destroy": Operation(create_and_free_a_large_buffer),
    "heap_budgets": Operation(lambda it: it.allocator.heap_budgets()),
    "calculate_statistics": Operation(lambda it: it.allocator.calculate_statistics()),
    "set_current_frame_index": Operation(lambda it: it.allocator.set_current_frame_index(1)),
    "Allocator": Operation(lambda it: Allocator(it.device), close),
}
# Of these the first part stands when the last one, a flush at the end of a view, fails.
PROFILES = ["non-coherent", "discrete-8gib-bar", "nvidia-h200"]


NEED_DESCRIPTORS = ("export_fd", "import_memory_fd")


@pytest.mark.parametrize("vk_result", ERRORS)
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(it, marks=[needs_descriptors] if it in NEED_DESCRIPTORS else [])
        for it in OPERATIONS
    ],
)
def test_each_call_fails_once(name: str, profile: str, vk_result: int) -> None:
    operation = OPERATIONS[name]
    for n in range(50):
        world = World(profile)
        before = world.state()
        calls = world.device.fallible_call_count
        maps = world.device.call_count("vkMapMemory")
        world.device.fail_call(n, vk_result)
        try:
            made = operation.run(world)
        except VkMemError as error:
            failed_in_map = world.device.call_count("vkMapMemory") > maps
            # A driver that cannot map says so in several ways.
            expected = (ERRORS[vk_result], *([MemoryMapError] * failed_in_map))
            assert type(error) in expected, f"call {n}: {error!r}"
            assert "\n" not in str(error)
            assert error.vk_result in {vk_result, -5 if failed_in_map else vk_result}
            del error
        else:
            hit = world.device.fallible_call_count - calls > n
            world.device.clear_failures()
            assert not hit or vk_result in MAY_RECOVER, f"call {n} failed, and nobody said so"
            operation.undo(world, made)
            del made
            if not hit:
                assert world.state() == before
                world.close()
                break
        gc.collect()
        world.device.clear_failures()
        assert world.state() == before, f"call {n}"
        world.allocator.validate()
        # And it works now.
        operation.undo(world, operation.run(world))
        assert world.kept.read() == pattern(64)
        world.close()
    else:
        pytest.fail("more than 50 calls")
    # On coherent memory more operations need no call.
    assert n > 0 or name in NO_CALLS or profile != "non-coherent"


NO_CALLS = {
    "allocate_memory",
    "allocate_memory_for_buffer",
    "find_memory_type_index",
    "heap_budgets",
    "calculate_statistics",
    "set_current_frame_index",
    "Allocator",
}


# ---- failures that last ----


def test_a_smaller_block_is_taken_where_the_driver_refuses_a_large_one() -> None:
    device = SimulatedDevice("lavapipe")
    with Allocator(device) as allocator:
        device.fail_next("vkAllocateMemory", 1, -2)
        with allocator.create_buffer(64, TRANSFER):
            first = allocator.calculate_statistics().total.block_bytes
    with Allocator(device) as allocator, allocator.create_buffer(64, TRANSFER):
        assert allocator.calculate_statistics().total.block_bytes > first


def test_a_driver_without_memory() -> None:
    device = SimulatedDevice("discrete-8gib")
    with Allocator(device) as allocator:
        device.fail_next("vkAllocateMemory", 1_000, -2)
        for _ in range(3):
            with pytest.raises(OutOfDeviceMemoryError) as caught:
                allocator.create_buffer(1000, TRANSFER)
            assert caught.value.size == 1008  # what the driver asks for this buffer
            assert caught.value.heap_usage == 0
            assert (device.live_buffers, device.live_memory_objects) == (0, 0)
        device.clear_failures()
        allocator.create_buffer(1000, TRANSFER).destroy()
    assert device.violations == []


def test_empty_blocks_are_given_back_before_giving_up() -> None:
    # A heap of 64 MiB, most of it in an empty block that is kept.
    device = SimulatedDevice(heaps=[(64 << 20, 1)], types=[(0, 15)])
    with Allocator(device, preferred_small_heap_block_size=48 << 20) as allocator:
        allocator.create_buffer(64, TRANSFER).destroy()
        assert device.live_bytes(0) == 48 << 20
        with allocator.create_buffer(60 << 20, TRANSFER, flags=DEDICATED) as buffer:
            assert buffer.allocation.is_dedicated


def test_a_flush_that_fails_at_the_end_of_a_view() -> None:
    world = World("non-coherent")
    mapping = world.buffer.map()
    with pytest.raises(DeviceLostError), mapping as view:
        view[:] = pattern(4096)
        world.device.fail_next("vkFlushMappedMemoryRanges", 1, -4)
    assert mapping.closed
    world.buffer.write(pattern(4096))
    world.close()


def test_a_flush_that_fails_when_the_last_slice_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[type[BaseException] | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda it: shown.append(it.exc_type))
    world = World("non-coherent")
    with world.buffer.map() as view:
        part = view[:4]
    world.device.fail_next("vkFlushMappedMemoryRanges", 1, -4)
    # Nothing can be raised there: it is shown.
    del part
    assert shown == [DeviceLostError]
    world.close()
