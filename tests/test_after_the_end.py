"""Every use of a destroyed, freed or closed object raises an error."""

from __future__ import annotations

from typing import Any

import pytest
from support import IMAGE_TRANSFER, MAPPED, RANDOM, RGBA8, TRANSFER, WRITE, pattern, totals

import vk_mem
from vk_mem import Allocator, Transfers, UseAfterFreeError

# What works after the end, and why.
ALWAYS = {
    "Resource": {"alive", "is_lost", "last_use"},
    "Buffer": {"alive", "destroy", "is_lost", "last_use", "retire"},
    "Image": {"alive", "destroy", "is_lost", "last_use", "retire"},
    "Allocation": {"alive", "free", "is_lost", "last_use", "retire"},
    # The device is not the allocator's: it outlives it.
    "Allocator": {"closed", "close", "device"},
    "Mapping": {"closed", "close", "offset", "size"},
    "Pool": {"closed", "close", "name"},
    "Transfers": {"closed", "close"},
}
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "write": (b"x",),
    "read_into": (bytearray(1),),
    "bind_buffer": (1,),
    "set_priority": (0.5,),
    "bind_image": (1,),
    "create_buffer": (64, TRANSFER),
    "create_image": (RGBA8, (4, 4), IMAGE_TRANSFER),
    "create_buffers": ([64], TRANSFER),
    "create_images": ([(RGBA8, (4, 4), IMAGE_TRANSFER)],),
    "allocate_memory_pages": (64, 16, 1),
    "create_aliasing_buffer": (None, 64, TRANSFER),
    "create_aliasing_image": (None, RGBA8, (4, 4), IMAGE_TRANSFER),
    "free_memory_pages": ([],),
    "destroy_many": ([],),
    "flush_allocations": ([],),
    "invalidate_allocations": ([],),
    "allocate_memory": (64,),
    "allocate_memory_for_buffer": (1,),
    "allocate_memory_for_image": (1,),
    "import_memory_fd": (0, 64),
    "import_memory_win32_handle": (1, 64),
    "import_host_pointer": (bytearray(64),),
    "find_memory_type_index_for_buffer_info": (64, TRANSFER),
    "find_memory_type_index_for_image_info": (RGBA8, (4, 4), IMAGE_TRANSFER),
    "set_current_frame_index": (1,),
    "on_pressure": (print,),
    "on_move": (print,),
    "on_lost": (print,),
    "on_corruption": (print,),
    "touch_many": ([],),
    "on_device_memory": (print,),
    "on_out_of_memory": (print,),
    "upload": (b"x", None),
    "upload_many": ([], []),
    "download": (None,),
    "download_many": ([],),
    "explain": (1, None),
    "generate_mipmaps": (None,),
    "register": (bytearray(1),),
}
# Where several classes have a call of that name.
OF_CLASS: dict[tuple[str, str], tuple[Any, ...]] = {
    ("Buffer", "upload"): (b"x",),
    ("Buffer", "download"): (),
    ("Image", "upload"): (b"x",),
    ("Image", "download"): (),
}


def public_names(cls: type) -> list[str]:
    return [name for name in dir(cls) if not name.startswith("_")]


def ended(allocator: Allocator, kind: str) -> Any:
    """An object of a class, after its end."""
    flags = WRITE | MAPPED
    if kind == "Allocator":
        other = Allocator(allocator.device)
        other.close()
        return other
    if kind == "Pool":
        pool = allocator.create_pool(memory_type_index=0, name="pool")
        pool.close()
        return pool
    if kind == "Transfers":
        transfers = Transfers(allocator, 1 << 16)
        transfers.close()
        return transfers
    if kind == "Allocation of a Buffer":
        buffer = allocator.create_buffer(64, TRANSFER, flags=flags, name="gone")
        allocation = buffer.allocation
        buffer.destroy()
        return allocation
    if kind == "Mapping":
        with allocator.create_buffer(64, TRANSFER, flags=flags) as buffer:
            mapping = buffer.map()
            mapping.close()
            return mapping
    made = {
        "Buffer": lambda: allocator.create_buffer(64, TRANSFER, flags=flags, name="gone"),
        "Image": lambda: allocator.create_image(RGBA8, (4, 4), IMAGE_TRANSFER, name="gone"),
        "Allocation": lambda: allocator.allocate_memory(64, flags=flags, name="gone"),
    }[kind]()
    made.__exit__(None, None, None)
    return made


# Numbers, no memory: a freed one keeps what it said. Their own tests are in test_virtual_block.py.
NUMBERS = {"VirtualBlock", "VirtualAllocation"}
KINDS = [
    "Buffer",
    "Image",
    "Allocation",
    "Allocation of a Buffer",
    "Mapping",
    "Pool",
    "Allocator",
    "Transfers",
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_use_after_the_end_is_refused(simulated_allocator: Allocator, kind: str) -> None:
    gone = ended(simulated_allocator, kind)
    cls = type(gone)
    used = 0
    for name in public_names(cls):
        if name in ALWAYS[cls.__name__]:
            continue
        used += 1
        if callable(getattr(cls, name)):
            arguments = OF_CLASS.get((cls.__name__, name), ARGUMENTS.get(name, ()))
            with pytest.raises(UseAfterFreeError, match=r"destroyed|freed|closed"):
                getattr(gone, name)(*arguments)
        else:
            with pytest.raises(UseAfterFreeError, match=r"destroyed|freed|closed"):
                getattr(gone, name)
            setter = getattr(cls, name)
            if name in {"name", "user_data"}:
                assert hasattr(setter, "__set__")
                with pytest.raises(UseAfterFreeError):
                    setattr(gone, name, "x")
    assert used >= 3
    with pytest.raises(UseAfterFreeError), gone:
        pass
    assert isinstance(repr(gone), str)
    assert "gone" not in repr(gone)


def test_every_class_that_ends_is_tested(simulated_allocator: Allocator) -> None:
    enders = {
        cls.__name__
        for cls in vars(vk_mem).values()
        if isinstance(cls, type) and {"destroy", "free", "close"} & set(public_names(cls))
    }
    # In test_buffer_heap.py, test_resource_cache.py and test_serve.py.
    in_python = {"BufferHeap", "BufferSlice", "ResourceCache", "StatsServer"}
    # In test_transfers.py: it says how large the array was, and nothing else.
    in_python |= {"RegisteredArray"}
    # In test_recording.py: it says how much was recorded.
    in_python |= {"Recording"}
    tested = {kind.split()[0] for kind in KINDS} | NUMBERS | in_python
    assert enders <= tested, "a new class: add it to KINDS"


def test_the_error_names_the_object(simulated_allocator: Allocator) -> None:
    gone = ended(simulated_allocator, "Buffer")
    with pytest.raises(UseAfterFreeError, match="Buffer 'gone' was destroyed"):
        gone.map()
    gone = ended(simulated_allocator, "Allocation")
    with pytest.raises(UseAfterFreeError, match="Allocation 'gone' was freed"):
        gone.read()


@pytest.mark.parametrize("kind", KINDS)
def test_ending_twice_is_harmless(simulated_allocator: Allocator, kind: str) -> None:
    gone = ended(simulated_allocator, kind)
    before = totals(simulated_allocator)
    for name in ("destroy", "free", "close", "retire"):
        if hasattr(type(gone), name):
            getattr(gone, name)()
            getattr(gone, name)()
    gone.__exit__(None, None, None)
    assert totals(simulated_allocator) == before


def test_a_new_object_is_not_mistaken_for_an_old_one(simulated_allocator: Allocator) -> None:
    old = simulated_allocator.create_buffer(64, TRANSFER, flags=RANDOM)
    place = (old.allocation.device_memory, old.allocation.offset)
    old.destroy()
    new = simulated_allocator.create_buffer(64, TRANSFER, flags=RANDOM)
    assert (new.allocation.device_memory, new.allocation.offset) == place
    new.write(pattern(64))
    with pytest.raises(UseAfterFreeError):
        old.write(bytes(64))
    old.destroy()
    assert new.read() == pattern(64)
    new.destroy()


def test_copies_with_a_destroyed_buffer(simulated_allocator: Allocator) -> None:
    device = simulated_allocator.device
    gone = ended(simulated_allocator, "Buffer")
    gone_image = ended(simulated_allocator, "Image")
    with (
        simulated_allocator.create_buffer(64, TRANSFER) as live,
        simulated_allocator.create_image(RGBA8, (4, 4), IMAGE_TRANSFER) as image,
    ):
        for use in (
            lambda: device.fill_buffer(gone),
            lambda: device.copy_buffer(gone, live),
            lambda: device.copy_buffer(live, gone),
            lambda: device.copy_buffer_to_image(gone, image),
            lambda: device.copy_buffer_to_image(live, gone_image),
            lambda: device.copy_image_to_buffer(image, gone),
            lambda: device.copy_image_to_buffer(gone_image, live),
        ):
            with pytest.raises(UseAfterFreeError):
                use()
