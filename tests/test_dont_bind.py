"""`DONT_BIND`: resources that are created unbound, and bound to another allocation's memory."""

import pytest
from support import DONT_BIND, IMAGE_TRANSFER, MAPPED, RANDOM, RGBA8, TRANSFER, totals

from vk_mem import Allocator, BufferHeap, BufferUsage, InvalidArgumentError, SimulatedDevice


@pytest.mark.parametrize("flags", [0, MAPPED])
def test_a_buffer_that_is_bound_elsewhere_is_not_read_in_its_own_memory(device, flags):
    with Allocator(device) as allocator:
        memory = allocator.allocate_memory(65536, 4096, flags=RANDOM)
        buffer = allocator.create_buffer(
            4096, TRANSFER, flags=DONT_BIND | RANDOM | flags, name="elsewhere"
        )
        memory.bind_buffer(buffer, 4096)
        for use in (
            lambda: buffer.write(b"x"),
            lambda: buffer.read(),
            lambda: buffer.read_into(bytearray(1)),
            lambda: buffer.map(),
            lambda: buffer.flush(),
            lambda: buffer.invalidate(),
            lambda: buffer.allocation.read(),
            lambda: allocator.create_aliasing_buffer(buffer, 64, TRANSFER),
            lambda: allocator.create_aliasing_image(buffer, RGBA8, (4, 4), IMAGE_TRANSFER),
            *([lambda: buffer.mapped] if flags else []),
        ):
            with pytest.raises(InvalidArgumentError, match=r"'elsewhere' .* is bound to Alloc"):
                use()
        # The device sees the memory that it is bound to.
        device.fill_buffer(buffer, 0x01020304)
        assert memory.read(4096, 8) == (0x01020304).to_bytes(4, "little") * 2
        assert buffer.handle and buffer.size == 4096
        buffer.destroy()
        memory.free()


def test_before_it_is_bound_its_own_memory_is_there(device):
    with (
        Allocator(device) as allocator,
        allocator.create_buffer(4096, TRANSFER, flags=DONT_BIND | RANDOM) as buffer,
    ):
        buffer.write(b"before")
        buffer.bind()
        assert buffer.read(0, 6) == b"before"


def test_what_is_bound_may_be_a_buffer_or_an_image_of_ours():
    device, other = SimulatedDevice("discrete-8gib"), SimulatedDevice("discrete-8gib")
    with Allocator(device) as allocator, Allocator(other) as stranger:
        memory = allocator.allocate_memory(65536, 65536)
        buffer = allocator.create_buffer(4096, TRANSFER, flags=DONT_BIND)
        image = allocator.create_image(RGBA8, (4, 4), IMAGE_TRANSFER, flags=DONT_BIND)
        foreign = stranger.create_buffer(4096, TRANSFER, flags=DONT_BIND)
        with pytest.raises(InvalidArgumentError, match="is of another device"):
            memory.bind_buffer(foreign)
        foreign.destroy()
        with pytest.raises(InvalidArgumentError, match="expected a VkBuffer"):
            memory.bind_buffer(image)
        memory.bind_buffer(buffer)
        memory.bind_image(image, 8192)
        for bind in (lambda: memory.bind_buffer(buffer), lambda: memory.bind_image(image)):
            with pytest.raises(InvalidArgumentError, match="bound already"):
                bind()
        with pytest.raises(BufferError, match="is bound to it"):
            memory.free()
        allocator.destroy_many([memory, buffer, image])
    assert device.violations == []


def test_memory_for_what_is_of_another_device_is_refused(device):
    """Its handle means nothing here, and drivers end the process over it."""
    with (
        Allocator(device) as allocator,
        Allocator(SimulatedDevice("discrete-8gib")) as stranger,
        stranger.create_buffer(4096, TRANSFER, flags=DONT_BIND) as buffer,
        stranger.create_image(RGBA8, (4, 4), IMAGE_TRANSFER, flags=DONT_BIND) as image,
        BufferHeap(stranger, BufferUsage.UNIFORM_BUFFER, block_size=4096) as heap,
        heap.allocate(64) as piece,
        allocator.allocate_memory(65536, 65536) as memory,
    ):
        for bind in (False, True):
            for call in (
                lambda bind=bind: allocator.allocate_memory_for_buffer(buffer, bind=bind),
                lambda bind=bind: allocator.allocate_memory_for_buffer(piece, bind=bind),
                lambda bind=bind: allocator.allocate_memory_for_image(image, bind=bind),
                lambda bind=bind: allocator.allocate_memory_for_image(image, plane=0, bind=bind),
            ):
                with pytest.raises(InvalidArgumentError, match="is of another device"):
                    call()
        for call in (lambda: memory.bind_buffer(piece), lambda: memory.bind_image(image)):
            with pytest.raises(InvalidArgumentError, match="is of another device"):
                call()
        assert totals(allocator).allocation_count == 1


def test_memory_for_a_buffer_of_ours_is_bound_as_ours(device):
    with Allocator(device) as allocator:
        buffer = allocator.create_buffer(4096, TRANSFER, flags=DONT_BIND, name="ours")
        memory = allocator.allocate_memory_for_buffer(buffer, bind=True, flags=RANDOM)
        device.fill_buffer(buffer, 0x01020304)
        assert memory.read(0, 4) == (0x01020304).to_bytes(4, "little")
        with pytest.raises(InvalidArgumentError, match=r"'ours' .* is bound to Alloc"):
            buffer.read()
        with pytest.raises(BufferError, match="is bound to it"):
            memory.free()
        count = totals(allocator).allocation_count
        with (
            BufferHeap(allocator, TRANSFER, block_size=4096) as heap,
            heap.allocate(64) as piece,
            pytest.raises(InvalidArgumentError, match="bound already"),
        ):
            allocator.allocate_memory_for_buffer(piece, bind=True)
        # The memory of a bind that failed is gone.
        assert totals(allocator).allocation_count == count
        allocator.destroy_many([memory, buffer])


def test_whatever_lives_is_known_when_a_bare_handle_comes_first(device):
    """Bindings are only kept from the first handle on that was not seen before."""

    def refused(bind, what):
        with pytest.raises(InvalidArgumentError, match="bound already"):
            bind(what)

    with Allocator(device) as allocator, Allocator(device) as other:
        before = [other.create_buffer(64, TRANSFER) for _ in range(3)]
        image = other.create_image(RGBA8, (4, 4), IMAGE_TRANSFER)
        retired = allocator.create_buffer(64, TRANSFER)
        handle = retired.handle
        retired.retire()
        memory = allocator.allocate_memory(65536, 4096, memory_type_bits=0)
        for buffer in (before[0].handle, before[1], handle):
            refused(memory.bind_buffer, buffer)
        refused(memory.bind_image, image.handle)
        after = allocator.create_buffer(64, TRANSFER)
        many = allocator.create_buffers([64, 64], TRANSFER)
        for buffer in (after, *many):
            refused(memory.bind_buffer, buffer.handle)
        allocator.destroy_many([after, *many, memory])
        image.destroy()
        for buffer in before:
            buffer.destroy()


def test_a_handle_that_comes_again_is_bound_again():
    """A driver gives the handle of a destroyed buffer to the next one."""
    device = SimulatedDevice("discrete-8gib")
    with Allocator(device) as allocator:
        memory = allocator.allocate_memory(65536, 4096)
        kept = allocator.create_buffer(64, TRANSFER)
        with pytest.raises(InvalidArgumentError, match="bound already"):
            memory.bind_buffer(kept.handle)
        for _ in range(3):
            buffer = allocator.create_buffer(64, TRANSFER, flags=DONT_BIND)
            memory.bind_buffer(buffer)
            with pytest.raises(BufferError, match="is bound to it"):
                memory.free()
            buffer.destroy()
        kept.destroy()
        memory.free()
