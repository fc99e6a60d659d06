"""Wrong calls about lost allocations: each is one clear line, and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from support import DEDICATED, DONT_BIND, LOSABLE, MAPPED, RGBA8, TAKES, TRANSFER, WRITE

import vk_mem
from vk_mem import (
    AllocationCreateFlags,
    AllocationCreateInfo,
    Allocator,
    BufferUsage,
    ExternalMemoryHandleType,
    ImageUsage,
    InvalidArgumentError,
    LostError,
    SimulatedDevice,
    UseAfterFreeError,
)

VERTEX = BufferUsage.VERTEX_BUFFER


def test_the_flags_have_the_values_of_vma() -> None:
    assert int(AllocationCreateFlags.CAN_BECOME_LOST) == 0x8
    assert int(AllocationCreateFlags.CAN_MAKE_OTHER_LOST) == 0x10


def test_lost_is_a_use_after_the_end() -> None:
    assert issubclass(LostError, UseAfterFreeError)


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"flags": LOSABLE | MAPPED | WRITE}, InvalidArgumentError, "MAPPED memory is in use"),
    ({"flags": LOSABLE | DONT_BIND}, InvalidArgumentError, "DONT_BIND leaves it to the caller"),
    (
        {"flags": LOSABLE, "export_handle_types": ExternalMemoryHandleType.OPAQUE_FD},
        InvalidArgumentError,
        "its memory is exported",
    ),
    ({"evict": "idle"}, InvalidArgumentError, "set that flag as well"),
    ({"flags": LOSABLE, "evict": 3}, InvalidArgumentError, "how far CAN_MAKE_OTHER_LOST goes"),
    ({"flags": TAKES, "evict": "all"}, InvalidArgumentError, "evict is 'all', not 'idle'"),
    ({"flags": TAKES, "evict": -1}, InvalidArgumentError, "evict is -1; it must not be negative"),
    ({"flags": TAKES, "evict": 2**32}, InvalidArgumentError, "does not fit 32 bits"),
    ({"flags": TAKES, "evict": True}, TypeError, "evict must be 'idle'.* not bool"),
    ({"flags": TAKES, "evict": 1.5}, TypeError, "evict must be 'idle'.* not float"),
    ({"flags": LOSABLE, "priority": 2.0}, InvalidArgumentError, "priority is 2, not from 0 to 1"),
]


@pytest.mark.parametrize(("keywords", "error", "message"), WRONG)
@pytest.mark.parametrize(
    "call", ["buffer", "image", "memory", "buffers", "images", "pages", "info"]
)
def test_keywords(
    simulated_allocator: Allocator,
    call: str,
    keywords: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    allocator = simulated_allocator
    image = (RGBA8, (8, 8), ImageUsage.SAMPLED)
    calls = {
        "buffer": lambda: allocator.create_buffer(256, VERTEX, **keywords),
        "image": lambda: allocator.create_image(*image, **keywords),
        "memory": lambda: allocator.allocate_memory(256, **keywords),
        "buffers": lambda: allocator.create_buffers([256, 512], VERTEX, **keywords),
        "images": lambda: allocator.create_images([image, image], **keywords),
        "pages": lambda: allocator.allocate_memory_pages(256, 16, 2, **keywords),
        "info": lambda: allocator.create_buffer(
            256, VERTEX, allocation_info=AllocationCreateInfo(**keywords)
        ),
    }
    with pytest.raises(error, match=message):
        calls[call]()
    assert allocator.calculate_statistics().total.allocation_count == 0


def test_the_info_keeps_the_keyword(simulated_allocator: Allocator) -> None:
    for evict in ("idle", "never", "lower_priority", 0, 7):
        info = AllocationCreateInfo(flags=TAKES, evict=evict)
        assert info.evict == evict and info.flags == TAKES
        simulated_allocator.create_buffer(256, VERTEX, allocation_info=info).destroy()
    assert AllocationCreateInfo().evict == "idle"
    assert AllocationCreateInfo(flags=TAKES, evict=None).evict == "idle"


def test_imports_cannot_be_lost(simulated_allocator: Allocator) -> None:
    allocator = simulated_allocator
    data = bytearray(1 << 16)
    for call in (
        lambda: allocator.import_host_pointer(data, flags=LOSABLE),
        lambda: allocator.create_buffer(256, VERTEX, import_host_pointer=data, flags=LOSABLE),
        lambda: allocator.import_memory_fd(0, 64, flags=LOSABLE),
        lambda: allocator.create_image(
            RGBA8, (8, 8), ImageUsage.SAMPLED, import_fd=0, flags=LOSABLE
        ),
    ):
        with pytest.raises(InvalidArgumentError, match="CAN_BECOME_LOST: it cannot be lost"):
            call()


def test_numbers_of_frames(simulated: SimulatedDevice) -> None:
    for wrong, error in ((1, InvalidArgumentError), (-1, InvalidArgumentError), ("2", TypeError)):
        with pytest.raises(error, match="frames_in_use"):
            Allocator(simulated, frames_in_use=wrong)  # type: ignore[arg-type]
        with Allocator(simulated) as allocator, pytest.raises(error, match="frames_in_use"):
            allocator.create_pool(memory_type_index=0, frames_in_use=wrong)  # type: ignore[arg-type]
    with Allocator(simulated) as allocator:
        with allocator.create_pool(memory_type_index=0, frames_in_use=None) as pool:
            assert pool.frames_in_use == allocator.frames_in_use == 2
        with pytest.raises(UseAfterFreeError):
            pool.make_allocations_lost()
        with pytest.raises(UseAfterFreeError):
            _ = pool.frames_in_use


def test_touching_what_is_no_resource(simulated: SimulatedDevice) -> None:
    with Allocator(simulated) as allocator, Allocator(simulated) as other:
        mine = allocator.create_buffer(256, VERTEX, flags=LOSABLE)
        theirs = other.create_buffer(256, VERTEX, flags=LOSABLE, name="theirs")
        with pytest.raises(TypeError, match=r"resources must be of Buffer, Image .* not int"):
            allocator.touch_many([mine, 1])  # type: ignore[list-item]
        with pytest.raises(
            TypeError, match=r"a list of resources, not Buffer: touch\(\) is for one"
        ):
            allocator.touch_many(mine)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError, match=r"'theirs'.* is of another allocator"):
            allocator.touch_many([mine, theirs])
        assert allocator.touch_many([]) == []
        assert allocator.touch_many(it for it in [mine, mine]) == []
        assert allocator.touch_many((mine,)) == []
        mine.destroy()
        with pytest.raises(UseAfterFreeError, match="was destroyed"):
            allocator.touch_many([mine])
        theirs.destroy()


def test_callbacks_of_what_is_not_lost(simulated_allocator: Allocator) -> None:
    allocator = simulated_allocator
    fixed = allocator.create_buffer(256, VERTEX, name="fixed")
    with pytest.raises(InvalidArgumentError, match=r"'fixed'.* create it with CAN_BECOME_LOST"):
        fixed.on_lost(print)
    fixed.destroy()
    with allocator.create_buffer(256, VERTEX, flags=LOSABLE) as it:
        with pytest.raises(InvalidArgumentError, match="belongs to a Buffer: call on_lost"):
            it.allocation.on_lost(print)
        for on in (it.on_lost, allocator.on_lost):
            with pytest.raises(TypeError, match="the callback must be callable, not int"):
                on(1)  # type: ignore[arg-type, type-var]


def test_every_use_of_what_was_lost(simulated: SimulatedDevice) -> None:
    with Allocator(simulated, frames_in_flight=0) as allocator:
        it = allocator.create_buffer(256, TRANSFER, flags=LOSABLE | WRITE, name="tile")
        image = allocator.create_image(
            RGBA8, (8, 8), ImageUsage.TRANSFER_DST | ImageUsage.SAMPLED, flags=LOSABLE
        )
        other = allocator.create_buffer(256, TRANSFER)
        allocation = it.allocation
        allocator.set_current_frame_index(1)
        other.touch()
        assert allocator.make_allocations_lost() == 2
        uses = [
            lambda: it.handle,
            lambda: int(it),
            lambda: it.size,
            lambda: it.usage,
            lambda: it.allocation,
            lambda: it.mapped,
            lambda: it.map(),
            lambda: it.write(b"x"),
            lambda: it.read(),
            lambda: bytes(it),
            lambda: it.upload(b"x"),
            lambda: it.download(),
            lambda: it.flush(),
            lambda: it.invalidate(),
            lambda: it.export_fd(),
            lambda: it.on_lost(print),
            lambda: it.on_move(print),
            lambda: it.generation,
            lambda: setattr(it, "name", "x"),
            lambda: setattr(it, "user_data", 1),
            lambda: it[0:4],
            lambda: image.extent,
            lambda: image.upload(bytes(256)),
            lambda: allocation.offset,
            lambda: allocation.bind_buffer(1),
            lambda: simulated.copy_buffer(other, it),
            lambda: allocator.create_aliasing_buffer(it, 64, VERTEX),
            lambda: it.__enter__(),
        ]
        for use in uses:
            with pytest.raises(LostError, match=r"(Buffer 'tile'|Image) was lost"):
                use()
        assert it.name == "tile" and it.user_data is None
        allocator.destroy_many([it, image, other])
        with pytest.raises(LostError):
            _ = it.size


def test_dedicated_and_never_allocate(simulated: SimulatedDevice) -> None:
    with Allocator(simulated, frames_in_flight=0) as allocator:
        with allocator.create_buffer(256, VERTEX, flags=LOSABLE | DEDICATED | TAKES) as it:
            assert it.touch()
        assert vk_mem.LostError is LostError
