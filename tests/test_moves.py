"""Resources that move: their bytes, what keeps them where they are, what is told, and failures."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support import (
    DONT_BIND,
    MAPPED,
    RANDOM,
    RGBA8,
    TRANSFER,
    WRITE,
    Check,
    check_statistics,
    pattern,
)
from test_image_transfers import aspects, comes_back, create, texels

import vk_mem
from vk_mem import (
    AllocationCreateInfo,
    Allocator,
    BufferUsage,
    Format,
    ImageLayout,
    ImageUsage,
    InvalidArgumentError,
    SimulatedDevice,
)

VERTEX = BufferUsage.VERTEX_BUFFER


def relocate(allocator: Allocator, *objects: Any) -> int:
    """Moves them to wherever there is room."""
    return allocator._relocate(list(objects))  # type: ignore[attr-defined, no-any-return]


def place(resource: Any) -> tuple[int, int]:
    return resource.allocation.device_memory, resource.allocation.offset


@pytest.mark.parametrize("flags", [0, RANDOM, WRITE | MAPPED], ids=["plain", "random", "mapped"])
def test_a_buffer_keeps_its_bytes_name_and_data(
    allocator: Allocator, check: Check, flags: int
) -> None:
    data = pattern(70_001)
    with allocator.create_buffer(
        70_001, VERTEX, flags=flags, movable=True, name="mesh", user_data=["kept"]
    ) as buffer:
        assert buffer.movable and buffer.generation == 0
        assert BufferUsage(buffer.usage) == VERTEX | TRANSFER
        check.write(buffer, data)
        handle, was, size = buffer.handle, place(buffer), buffer.allocation.size
        for step in range(3):
            assert relocate(allocator, buffer) == 1
            assert buffer.generation == step + 1
        assert place(buffer) != was or buffer.generation == 3
        assert buffer.handle == int(buffer) and buffer.alive
        assert buffer.name == "mesh" and buffer.user_data == ["kept"]
        assert buffer.size == 70_001 and buffer.allocation.size == size
        assert check.read(buffer) == data
        if flags:
            assert buffer.read() == data
            buffer.write(b"new", 5)
            assert check.read(buffer)[5:8] == b"new"
        assert buffer.handle != handle or allocator.frames_in_flight
        check_statistics(allocator)
    assert allocator.calculate_statistics().total.allocation_count == 0


def test_what_was_left_is_released_with_its_frame(simulated: SimulatedDevice) -> None:
    with Allocator(simulated, frames_in_flight=1) as allocator:
        buffer = allocator.create_buffer(5000, VERTEX, movable=True)
        allocator.set_current_frame_index(1)
        relocate(allocator, buffer)
        assert simulated.live_buffers == 2
        assert allocator.calculate_statistics().total.allocation_count == 2
        allocator.set_current_frame_index(2)
        assert simulated.live_buffers == 2
        allocator.set_current_frame_index(3)
        assert simulated.live_buffers == 1
        assert allocator.calculate_statistics().total.allocation_count == 1
        buffer.destroy()


def test_without_frames_it_is_released_when_the_copy_has_ended(simulated: SimulatedDevice) -> None:
    simulated.set_completion("when waited")
    with Allocator(simulated) as allocator:
        buffer = allocator.create_buffer(5000, VERTEX, movable=True)
        relocate(allocator, buffer)
        assert simulated.live_buffers == 2
        buffer.destroy()
        allocator.set_current_frame_index(0)
        assert simulated.live_buffers == 0


def test_the_host_sees_the_bytes_at_the_new_place(make_simulated: Callable[..., Any]) -> None:
    """Also while the copy is in flight: the mapped pointer leads to where they are."""
    for profile in SimulatedDevice.profile_names():
        device = make_simulated(profile)
        device.set_completion("when waited")
        with Allocator(device) as allocator:
            for flags in (RANDOM, WRITE | MAPPED, RANDOM | MAPPED):
                buffer = allocator.create_buffer(3000, VERTEX, flags=flags, movable=True)
                data = pattern(3000, flags)
                buffer.write(data)
                assert relocate(allocator, buffer) == 1
                assert buffer.read() == data
                assert relocate(allocator, buffer) == 1
                buffer.write(b"after", 7)
                assert relocate(allocator, buffer) == 1
                with buffer.map() as view:
                    assert bytes(view) == data[:7] + b"after" + data[12:]
                    assert relocate(allocator, buffer) == 0
                buffer.destroy()


def test_what_keeps_a_buffer_where_it_is(simulated_allocator: Allocator) -> None:
    allocator = simulated_allocator
    buffer = allocator.create_buffer(4096, VERTEX, flags=RANDOM, movable=True)
    fixed = allocator.create_buffer(4096, VERTEX)
    assert relocate(allocator, fixed) == 0 and not fixed.movable and fixed.generation == 0
    with buffer.map():
        assert relocate(allocator, buffer) == 0
    view = np.asarray(buffer.numpy())
    assert relocate(allocator, buffer) == 0
    del view
    gc.collect()
    alias = allocator.create_aliasing_buffer(buffer, 64, VERTEX)
    assert relocate(allocator, buffer) == 0
    alias.destroy()
    with allocator.transfers.batch():
        buffer.upload(b"1234")
        transfer = allocator.transfers.upload(b"5678", buffer, way="ring")
        assert relocate(allocator, buffer) == 0
    transfer.wait()
    assert relocate(allocator, buffer) == 1 and buffer.generation == 1
    assert buffer.read(0, 4) == b"5678"
    for it in (buffer, fixed):
        it.destroy()


def test_a_device_address_pins_a_buffer(make_simulated: Callable[..., Any]) -> None:
    usage = BufferUsage.SHADER_DEVICE_ADDRESS | BufferUsage.STORAGE_BUFFER
    device = make_simulated("discrete-8gib")
    with Allocator(device) as allocator:
        plain = allocator.create_buffer(64, usage, movable=True)
        told = allocator.create_buffer(64, usage, movable="with_address")
        try:
            addresses = plain.device_address, told.device_address
        except vk_mem.FeatureNotPresentError:
            addresses = None
        assert relocate(allocator, plain, told) == (1 if addresses else 2)
        plain.destroy()
        told.destroy()


def test_what_cannot_move_is_refused_with_the_reason(simulated_allocator: Allocator) -> None:
    allocator = simulated_allocator
    for keywords, why in [
        ({"flags": DONT_BIND}, "DONT_BIND"),
        ({"usage": vk_mem.MemoryUsage.GPU_LAZILY_ALLOCATED}, "lazily"),
        ({"create_flags": vk_mem.BufferCreateFlags.PROTECTED}, "protected"),
        ({"export_handle_types": "OPAQUE_FD"}, "exported"),
    ]:
        with pytest.raises(InvalidArgumentError, match=why):
            allocator.create_buffer(64, VERTEX, movable=True, **keywords)  # type: ignore[call-overload]
        with pytest.raises(InvalidArgumentError, match=why) as caught:
            allocator.create_buffers([64, 64], VERTEX, movable=True, **keywords)  # type: ignore[arg-type]
        assert caught.value.item == 0
    for call in (
        lambda: allocator.allocate_memory(64, movable=True),
        lambda: allocator.allocate_memory_pages(64, 64, 2, movable=True),
    ):
        with pytest.raises(InvalidArgumentError, match="cannot move"):
            call()
    with pytest.raises(InvalidArgumentError, match="TRANSIENT"):
        allocator.create_image(RGBA8, (4, 4), ImageUsage.TRANSIENT_ATTACHMENT, movable=True)
    with pytest.raises(InvalidArgumentError, match="with_address"):
        allocator.create_buffer(64, VERTEX, movable="yes")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="movable must be a bool"):
        allocator.create_buffer(64, VERTEX, movable=1)  # type: ignore[call-overload]


def test_pools_and_stored_keywords_make_movable(simulated_allocator: Allocator) -> None:
    allocator = simulated_allocator
    with allocator.create_pool(memory_type_index=0, movable=True) as pool:
        one = allocator.create_buffer(64, VERTEX, pool=pool)
        two = allocator.create_buffer(64, VERTEX, pool=pool, movable=False)
        assert one.movable and not two.movable
        assert relocate(allocator, one, two) == 1
        one.destroy()
        two.destroy()
    info = AllocationCreateInfo(movable="with_address")
    assert info.movable == "with_address" and AllocationCreateInfo().movable is None
    many = allocator.create_buffers([64] * 5, VERTEX, allocation_info=info)
    images = allocator.create_images([(RGBA8, (4, 4), ImageUsage.SAMPLED)] * 3, movable=True)
    assert all(it.movable for it in [*many, *images])
    assert relocate(allocator, *many, *images) == 8
    allocator.destroy_many([*many, *images])


def test_callbacks_are_called_once_a_step(simulated_allocator: Allocator) -> None:
    allocator = simulated_allocator
    buffers = allocator.create_buffers([64, 128, 256], VERTEX, movable=True)
    heard: list[tuple[str, list[vk_mem.Move]]] = []

    def of_some(moves: list[vk_mem.Move]) -> None:
        heard.append(("some", moves))

    @allocator.on_move
    def of_all(moves: list[vk_mem.Move]) -> None:
        heard.append(("all", moves))
        for it in moves:
            assert it.resource.handle == it.new_handle != it.old_handle
            assert allocator.device.live_buffers == 6  # type: ignore[attr-defined]

    for it in buffers[:2]:
        assert it.on_move(of_some) is of_some
    places = [place(it) for it in buffers]
    handles = [it.handle for it in buffers]
    assert relocate(allocator, *buffers) == 3
    assert [name for name, _ in heard] == ["some", "all"]
    assert [it.resource for it in heard[0][1]] == buffers[:2]
    told = heard[1][1]
    assert [it.resource for it in told] == buffers
    assert [it.old_handle for it in told] == handles
    assert [it.old_location[:2] for it in told] == places
    assert [it.new_location[:2] for it in told] == [place(it) for it in buffers]
    assert [it.new_location.size for it in told] == [it.allocation.size for it in buffers]
    buffers[0].on_move(None)
    allocator.on_move(None)
    heard.clear()
    relocate(allocator, *buffers)
    assert [(name, len(moves)) for name, moves in heard] == [("some", 1)]
    fixed = allocator.create_buffer(64, VERTEX)
    with pytest.raises(InvalidArgumentError, match="movable=True"):
        fixed.on_move(of_some)
    fixed.destroy()
    del told, it
    heard.clear()
    allocator.destroy_many(buffers)
    gc.collect()


def test_an_exception_in_a_callback_is_printed(
    simulated_allocator: Allocator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda it: seen.append(it.exc_value))
    with simulated_allocator.create_buffer(64, VERTEX, movable=True) as buffer:

        @buffer.on_move
        def fail(moves: list[vk_mem.Move]) -> None:
            raise ValueError("of the program")

        assert relocate(simulated_allocator, buffer) == 1
        assert [str(it) for it in seen] == ["of the program"]


def test_a_callback_and_its_buffer_are_collected(simulated_allocator: Allocator) -> None:
    buffer = simulated_allocator.create_buffer(64, VERTEX, movable=True)
    buffer.on_move(lambda moves, it=buffer: None)
    gone = weakref.ref(buffer)
    with pytest.warns(ResourceWarning, match="unclosed Buffer"):
        del buffer
        gc.collect()
    assert gone() is None


def test_a_failure_loses_nothing(simulated: SimulatedDevice) -> None:
    """Of each driver call in turn: all stays where it was, and the move can be repeated."""
    with Allocator(simulated, preferred_block_size=1 << 20) as allocator:
        check = Check(allocator)
        buffers = allocator.create_buffers([200_000] * 4, VERTEX, movable=True)
        image = allocator.create_image(RGBA8, (8, 8), ImageUsage.SAMPLED, movable=True)
        for index, it in enumerate(buffers):
            check.write(it, pattern(200_000, index))
        objects = [*buffers, image]
        before = allocator.calculate_statistics().total.allocation_count
        failed = 0
        for number in range(40):
            places = [(place(it), it.handle, it.generation) for it in objects]
            simulated.fail_call(number)
            try:
                moved = relocate(allocator, *objects)
            except vk_mem.VkMemError:
                failed += 1
                assert [(place(it), it.handle, it.generation) for it in objects] == places
                assert allocator.calculate_statistics().total.allocation_count == before
            else:
                assert moved == 5
            simulated.clear_failures()
            for index, it in enumerate(buffers):
                assert check.read(it) == pattern(200_000, index)
            allocator.set_current_frame_index(number * 4 + 4)
        assert 8 <= failed < 40
        allocator.destroy_many(objects)


SAMPLED = ImageUsage.SAMPLED
CUBE = vk_mem.ImageCreateFlags.CUBE_COMPATIBLE
# Format, extent, keywords.
KINDS: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("R8G8B8A8_UNORM", (33, 17), {}),
    ("R8G8B8A8_UNORM", (64, 32), {"mip_levels": 7}),
    ("R8_UNORM", (37,), {"mip_levels": 3}),
    ("R16G16B16A16_SFLOAT", (16, 16), {"array_layers": 5, "mip_levels": 2}),
    ("R8G8B8A8_UNORM", (16, 16), {"array_layers": 6, "create_flags": CUBE, "mip_levels": 5}),
    ("R8G8_UNORM", (9, 5, 7), {"mip_levels": 4}),
    ("R32_SFLOAT", (8, 8), {"tiling": "LINEAR"}),
    ("BC1_RGBA_UNORM_BLOCK", (30, 18), {"mip_levels": 5}),
    ("BC7_UNORM_BLOCK", (16, 12), {"array_layers": 3}),
    ("D16_UNORM", (20, 12), {"mip_levels": 3}),
    ("D32_SFLOAT_S8_UINT", (20, 12), {"array_layers": 2}),
    ("S8_UINT", (20, 12), {}),
    ("G8_B8R8_2PLANE_420_UNORM", (24, 16), {}),
    ("G8_B8_R8_3PLANE_420_UNORM", (24, 16), {}),
]


def parts(image: vk_mem.Image) -> list[dict[str, Any]]:
    """Where its texels are, as `download` names it: each level of each aspect."""
    levels, names = range(image.mip_levels), aspects(Format(image.format))
    return [{"mip_level": level, "aspect": name} for level in levels for name in names]


@pytest.mark.parametrize("kind", KINDS, ids=[f"{it[0]}-{len(it[1])}d-{it[2]}" for it in KINDS])
def test_images_of_all_kinds_keep_their_texels(
    allocator: Allocator, kind: tuple[str, tuple[int, ...], dict[str, Any]]
) -> None:
    name, extent, keywords = kind
    image = create(allocator, name, extent, image_usage=SAMPLED, movable=True, **keywords)
    if image is None:
        pytest.skip("the device has no such images")
    with image:
        contents = []
        for number, part in enumerate(parts(image)):
            data = texels(image, number, **part)
            image.upload(data, **part)
            contents.append((part, data))
        layout = image.layout
        assert layout != ImageLayout.UNDEFINED
        for _ in range(2):
            assert relocate(allocator, image) == 1
            assert image.layout == layout
            for part, data in contents:
                assert comes_back(image, data, image.download(**part))
        assert image.generation == 2


def test_an_image_without_contents_is_created_anew(simulated_allocator: Allocator) -> None:
    with simulated_allocator.create_image(RGBA8, (8, 8), SAMPLED, movable=True) as image:
        handle = image.handle
        assert relocate(simulated_allocator, image) == 1
        assert image.handle != handle and image.layout == ImageLayout.UNDEFINED


def test_a_thread_waits_while_a_resource_moves(simulated: SimulatedDevice) -> None:
    with Allocator(simulated) as allocator:
        buffers = [
            allocator.create_buffer(4096, VERTEX, flags=RANDOM, movable=True) for _ in range(8)
        ]
        stop, errors = threading.Event(), []

        def use(index: int) -> None:
            data = pattern(4096, index)
            try:
                while not stop.is_set():
                    mine = buffers[index]
                    mine.write(data)
                    assert mine.read() == data
                    assert mine.alive and mine.handle
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=use, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(300):
            relocate(allocator, *buffers)
        stop.set()
        for thread in threads:
            thread.join()
        assert not errors
        allocator.destroy_many(buffers)
