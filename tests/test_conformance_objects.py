"""Names, user data and binding, on every device."""

from __future__ import annotations

import gc
import weakref
from typing import Any

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
    Check,
    pattern,
    totals,
)

from vk_mem import (
    Allocator,
    Device,
    ImageTiling,
    InvalidArgumentError,
    SimulatedDevice,
)


class Thing:
    """Something that can be referred to weakly."""

    other: Any = None


# ---- names and user data ----


def test_names(allocator: Allocator) -> None:
    with allocator.create_buffer(64, TRANSFER, name="größer 🦀") as buffer:
        assert buffer.name == "größer 🦀"
        assert buffer.allocation.name == "größer 🦀"
        assert "größer 🦀" in repr(buffer)
        buffer.allocation.name = "second"
        assert buffer.name == "second"
        buffer.name = None
        assert buffer.allocation.name is None
        buffer.name = ""
        assert buffer.name == ""
        buffer.name = "x" * 10_000
        assert buffer.name == "x" * 10_000


def test_a_name_ends_with_its_allocation(allocator: Allocator) -> None:
    for i in range(20):
        with allocator.create_buffer(64, TRANSFER, name=f"number {i}") as named:
            assert named.name == f"number {i}"
        with allocator.create_buffer(64, TRANSFER) as unnamed:
            assert unnamed.name is None


def test_user_data_is_the_same_object(allocator: Allocator) -> None:
    thing = Thing()
    with allocator.create_buffer(64, TRANSFER, user_data=thing) as buffer:
        assert buffer.user_data is thing
        assert buffer.allocation.user_data is thing
        for data in (0, "", [], b"", lambda: None, buffer, type, float("nan")):
            buffer.allocation.user_data = data
            assert buffer.user_data is data
        buffer.user_data = None
        assert buffer.allocation.user_data is None


def test_user_data_of_bare_memory(allocator: Allocator) -> None:
    thing = Thing()
    with allocator.allocate_memory(64, user_data=thing) as memory:
        assert memory.user_data is thing


def test_user_data_is_let_go(allocator: Allocator) -> None:
    thing = Thing()
    alive = weakref.ref(thing)
    buffer = allocator.create_buffer(64, TRANSFER, user_data=thing)
    del thing
    assert alive() is not None
    buffer.user_data = None
    assert alive() is None
    buffer.user_data = Thing()
    alive = weakref.ref(buffer.user_data)
    buffer.destroy()
    del buffer
    assert alive() is None


@pytest.mark.parametrize("through", ["buffer", "allocation", "list", "memory"])
def test_cycles_through_user_data_are_collected(allocator: Allocator, through: str) -> None:
    gc.collect()
    thing = Thing()
    if through == "memory":
        resource = allocator.allocate_memory(64, user_data=thing)
    else:
        resource = allocator.create_buffer(64, TRANSFER, user_data=thing)
    thing.other = {
        "buffer": resource,
        "allocation": getattr(resource, "allocation", None),
        "list": [resource],
        "memory": resource,
    }[through]
    alive = weakref.ref(thing)
    object_alive = weakref.ref(resource)
    resource.free() if through == "memory" else resource.destroy()
    del thing, resource
    gc.collect()
    assert alive() is None
    assert object_alive() is None


def test_a_resource_that_is_its_own_user_data_is_collected(allocator: Allocator) -> None:
    buffer = allocator.create_buffer(64, TRANSFER)
    buffer.user_data = buffer
    alive = weakref.ref(buffer)
    buffer.destroy()
    del buffer
    gc.collect()
    assert alive() is None


# ---- binding ----


def test_a_buffer_is_bound_later(allocator: Allocator, check: Check) -> None:
    with allocator.create_buffer(300, TRANSFER, flags=DONT_BIND | RANDOM) as buffer:
        # Its memory is there, and can be written before.
        buffer.write(pattern(300))
        with pytest.raises(InvalidArgumentError, match="not bound"):
            allocator.device.fill_buffer(buffer)
        buffer.bind()
        assert check.read(buffer) == pattern(300)
        with pytest.raises(InvalidArgumentError, match="bound already"):
            buffer.bind()


def test_an_image_is_bound_later(allocator: Allocator) -> None:
    size = 16 * 16 * 4
    with (
        allocator.create_image(RGBA8, (16, 16), IMAGE_TRANSFER, flags=DONT_BIND) as image,
        allocator.create_buffer(size, TRANSFER, flags=RANDOM) as buffer,
    ):
        buffer.write(pattern(size))
        with pytest.raises(InvalidArgumentError, match="not bound"):
            allocator.device.copy_buffer_to_image(buffer, image)
        image.bind()
        with pytest.raises(InvalidArgumentError, match="bound already"):
            image.bind()
        allocator.device.copy_buffer_to_image(buffer, image)
        buffer.write(bytes(size))
        allocator.device.copy_image_to_buffer(image, buffer)
        assert buffer.read() == pattern(size)


def test_what_is_bound_from_the_start_is_not_bound_again(allocator: Allocator) -> None:
    with (
        allocator.create_buffer(64, TRANSFER) as buffer,
        allocator.create_image(RGBA8, (4, 4), IMAGE_TRANSFER) as image,
    ):
        for resource in (buffer, image):
            with pytest.raises(InvalidArgumentError, match="bound already"):
                resource.bind()


def test_memory_for_a_buffer_of_the_caller(allocator: Allocator, check: Check) -> None:
    # The handle of an unbound buffer stands for one that the caller made.
    theirs = allocator.create_buffer(1000, TRANSFER, flags=DONT_BIND)
    with allocator.allocate_memory_for_buffer(
        theirs.handle, bind=True, flags=RANDOM, name="for theirs"
    ) as memory:
        assert memory.size >= 1000
        assert memory.name == "for theirs"
        memory.write(pattern(1000))
        assert check.read(theirs) == pattern(1000)
        # Vulkan wants the buffer to go first.
        theirs.destroy()


def test_memory_for_an_image_of_the_caller(allocator: Allocator) -> None:
    for tiling in (None, ImageTiling.OPTIMAL):
        theirs = allocator.create_image(RGBA8, (16, 16), IMAGE_TRANSFER, flags=DONT_BIND)
        with (
            allocator.allocate_memory_for_image(theirs.handle, tiling=tiling, bind=True) as memory,
            allocator.create_buffer(1024, TRANSFER) as buffer,
        ):
            assert memory.size >= 16 * 16 * 4
            allocator.device.copy_buffer_to_image(buffer, theirs)
            theirs.destroy()


def test_bare_memory_is_bound_at_an_offset(device: Device) -> None:
    with Allocator(device) as allocator:
        check = Check(allocator)
        theirs = allocator.create_buffer(512, TRANSFER, flags=DONT_BIND)
        needs = allocator.allocate_memory_for_buffer(theirs.handle, flags=RANDOM)
        index, alignment = needs.memory_type_index, 1 << 16
        needs.free()
        with allocator.allocate_memory(
            alignment + 4096, alignment, memory_type_bits=1 << index, flags=RANDOM
        ) as memory:
            memory.bind_buffer(theirs.handle, alignment)
            memory.write(pattern(512), alignment)
            assert check.read(theirs) == pattern(512)
            theirs.destroy()


def test_a_bind_outside_of_the_memory_is_refused(allocator: Allocator) -> None:
    with (
        allocator.allocate_memory(4096, 4096) as memory,
        allocator.create_buffer(64, TRANSFER, flags=DONT_BIND) as buffer,
        allocator.create_image(RGBA8, (4, 4), IMAGE_TRANSFER, flags=DONT_BIND) as image,
    ):
        with pytest.raises(InvalidArgumentError, match="4096"):
            memory.bind_buffer(buffer.handle, 4096)
        with pytest.raises(InvalidArgumentError, match="4096"):
            memory.bind_image(image.handle, 4096)


def test_memory_of_one_allocator_under_a_buffer_of_another(device: Device) -> None:
    with Allocator(device) as one, Allocator(device) as other:
        theirs = one.create_buffer(64, TRANSFER, flags=DONT_BIND)
        with other.allocate_memory_for_buffer(theirs.handle, bind=True):
            device.fill_buffer(theirs, 7)
            assert Check(one).read(theirs) == b"\x07\0\0\0" * 16
            theirs.destroy()


def test_memory_that_has_an_owner_goes_with_it(allocator: Allocator) -> None:
    with allocator.create_buffer(64, TRANSFER) as buffer:
        with pytest.raises(InvalidArgumentError, match="Buffer"):
            buffer.allocation.free()
        with buffer.allocation as memory:
            assert memory.size >= 64
        assert buffer.alive


def test_an_allocation_shows_all_of_its_memory(allocator: Allocator, check: Check) -> None:
    # A driver asks for more than a buffer has.
    with allocator.create_buffer(
        1001, TRANSFER, flags=RANDOM | DEDICATED, name="odd", min_alignment=256
    ) as buffer:
        memory = buffer.allocation
        whole = memory.size
        assert whole >= 1001
        memory.write(pattern(whole))
        assert memory.read() == pattern(whole)
        assert buffer.read() == pattern(1001) == check.read(buffer)
        with memory.map() as view:
            assert view.nbytes == whole
            view[-1] = 99
        assert memory.read(whole - 1) == b"\x63"
        target = bytearray(whole)
        memory.read_into(target)
        assert target == pattern(whole)[:-1] + b"\x63"
        for call in (
            lambda: memory.write(b"x", whole),
            lambda: memory.read(0, whole + 1),
            lambda: memory.read_into(bytearray(whole + 1)),
            lambda: memory.map(whole, 1),
        ):
            with pytest.raises(InvalidArgumentError, match=f"Allocation of Buffer 'odd' .{whole} "):
                call()
        with pytest.raises(InvalidArgumentError, match=r"outside of Buffer 'odd' \(1001 bytes"):
            buffer.write(b"x", 1001)


def test_a_required_dedicated_allocation_is_given(allocator: Allocator) -> None:
    device = allocator.device
    if not isinstance(device, SimulatedDevice):
        pytest.skip("only a simulated device can be made to insist")
    device.set_requires_dedicated(True)
    with (
        allocator.create_buffer(64, TRANSFER) as buffer,
        allocator.create_image(RGBA8, (4, 4), IMAGE_TRANSFER) as image,
    ):
        assert buffer.allocation.is_dedicated
        assert image.allocation.is_dedicated


def test_the_repr_says_what_it_is(allocator: Allocator) -> None:
    with allocator.create_buffer(64, TRANSFER, flags=WRITE | MAPPED, name="n") as buffer:
        assert repr(buffer).startswith("<vk_mem.Buffer 'n' (")
        memory = buffer.allocation
        assert repr(memory).startswith(f"<vk_mem.Allocation of Buffer 'n' ({memory.size} bytes, ")
        assert "1 live object>" in repr(allocator)
        assert allocator.device.properties.device_name in repr(allocator)
        assert allocator.device.properties.device_name in repr(allocator.device)
    assert "no longer alive" in repr(buffer)
    assert repr(memory) == "<vk_mem.Allocation, no longer alive>"
    assert totals(allocator).allocation_count == 0
