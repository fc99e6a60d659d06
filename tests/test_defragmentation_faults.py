"""What went wrong in other libraries that move memory: each reported fault is a test.

The names say what was lost: SDL_gpu #11107, #11298, #11429, #12242, #12256, #12718, #15123, #15127,
#15542, #15593 and FNA3D #110.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from support import MAPPED, RANDOM, RGBA8, TRANSFER, WRITE, Check, check_statistics, pattern
from test_defragmentation import MIB, VERTEX, check_contents, like, scattered

import vk_mem
from vk_mem import (
    Allocator,
    Buffer,
    Format,
    ImageLayout,
    ImageUsage,
    SimulatedDevice,
)


@pytest.fixture
def late() -> Iterator[SimulatedDevice]:
    """A device that is allowed to report violations, which the test looks at."""
    device = SimulatedDevice("discrete-8gib")
    yield device
    assert (device.live_memory_objects, device.live_buffers, device.live_images) == (0, 0, 0)


def moved_once(allocator: Allocator) -> tuple[Buffer, int, int]:
    """A buffer that was moved, with the handle that it had and the one that it has."""
    buffer = allocator.create_buffer(4096, TRANSFER, movable=True)
    buffer.upload(pattern(4096))
    old = buffer.handle
    assert allocator._relocate([buffer]) == 1  # type: ignore[attr-defined]
    assert buffer.handle != old
    return buffer, old, buffer.handle


class TestRecordedBeforeAMove:
    """Commands that were recorded before a move, and submitted after it (#15123, #15127)."""

    def test_a_write_to_the_old_place_is_lost_and_told(self, late: SimulatedDevice) -> None:
        with Allocator(late, frames_in_flight=2) as allocator:
            allocator.set_current_frame_index(1)
            buffer, old, new = moved_once(allocator)
            late.submit_fill(old, 64, 0xFFFFFFFF)
            (told,) = map(str, late.violations)
            assert f"buffer {old:#x} was moved to {new:#x} by defragmentation" in told
            assert told.endswith("writes to the old place: the write is lost")
            # It is lost indeed, and nothing else is.
            assert buffer.download().tobytes() == pattern(4096)
            late.submit_copy(new, old, 64, target_offset=128)
            assert len(late.violations) == 2
            buffer.destroy()

    def test_a_read_of_the_old_place_sees_what_was_there(self, late: SimulatedDevice) -> None:
        with Allocator(late, frames_in_flight=2) as allocator:
            allocator.set_current_frame_index(1)
            buffer, old, _ = moved_once(allocator)
            with allocator.create_buffer(4096, TRANSFER, flags=RANDOM) as target:
                late.submit_copy(old, target.handle, 4096)
                assert target.read() == pattern(4096)
            assert late.violations == []
            buffer.destroy()

    def test_an_old_place_that_was_released_is_not_used(self, late: SimulatedDevice) -> None:
        with Allocator(late) as allocator:
            buffer, old, new = moved_once(allocator)
            for frame in range(1, 4):
                allocator.set_current_frame_index(frame)
            with pytest.raises(vk_mem.VkMemError):
                late.submit_fill(old, 64)
            with pytest.raises(vk_mem.VkMemError):
                late.submit_copy(old, new, 64)
            told = [it for it in map(str, late.violations) if "by defragmentation" in it]
            assert len(told) == 2
            assert all(it.endswith("uses the old place, which was released") for it in told)
            assert buffer.download().tobytes() == pattern(4096)
            buffer.destroy()

    def test_what_was_submitted_before_a_move_is_carried_out_before_it(
        self, simulated: SimulatedDevice
    ) -> None:
        """Also where the device has not begun with it when the move is submitted."""
        with Allocator(simulated) as allocator:
            buffer = allocator.create_buffer(4096, TRANSFER, movable=True)
            buffer.upload(pattern(4096))
            simulated.set_completion("when waited")
            simulated.submit_fill(buffer.handle, 64, 0x01010101)
            assert allocator._relocate([buffer]) == 1  # type: ignore[attr-defined]
            simulated.submit_fill(buffer.handle, 64, 0x02020202, offset=64)
            assert buffer.download().tobytes() == b"\1" * 64 + b"\2" * 64 + pattern(4096)[128:]
            buffer.destroy()

    def test_the_protocol_tells_of_its_moves_as_well(self, late: SimulatedDevice) -> None:
        with Allocator(late) as allocator:
            pool = allocator.create_pool(memory_type_index=0, block_size=MIB, movable=True)
            contents = scattered(allocator, pool=pool, count=60)
            olds = {}
            with allocator.begin_defragmentation(pool=pool, algorithm="full") as run:
                for step in run:
                    for move in step.moves:
                        olds[move.resource] = move.resource.handle  # type: ignore[union-attr]
                        move.destination.create_buffer()
            resource, old = next((it, old) for it, old in olds.items() if it.handle != old)  # type: ignore[union-attr]
            with pytest.raises(vk_mem.VkMemError):
                late.submit_fill(old, 64)
            assert any(f"buffer {old:#x} was moved" in str(it) for it in late.violations)
            assert resource.generation >= 1  # type: ignore[union-attr]
            allocator.destroy_many(contents)
            pool.close()


class TestMappedAndHostVisible:
    def test_a_mapped_pointer_never_leads_to_bytes_that_are_not_there_yet(
        self, make_simulated: Callable[..., SimulatedDevice]
    ) -> None:
        """#11107, #11298: the copy had not run when the host read the new place."""
        for profile in SimulatedDevice.profile_names():
            device = make_simulated(profile)
            with Allocator(device) as allocator:
                buffers = [
                    allocator.create_buffer(900 + it, VERTEX, flags=RANDOM | MAPPED, movable=True)
                    for it in range(20)
                ]
                for index, it in enumerate(buffers):
                    it.write(pattern(it.size, index))
                device.set_completion("held")
                moved = allocator.defragment_step()
                allocator._relocate(buffers[:5])  # type: ignore[attr-defined]
                device.set_completion("when waited")
                for index, it in enumerate(buffers):
                    assert it.read() == pattern(it.size, index), (profile, moved)
                allocator.destroy_many(buffers)

    def test_a_view_that_is_open_keeps_its_buffer_where_it_is(self, allocator: Allocator) -> None:
        with allocator.create_pool(
            memory_type_index=like(allocator, RANDOM), block_size=MIB, movable=True
        ) as pool:
            contents = scattered(allocator, pool=pool, count=80, flags=RANDOM)
            chosen = list(contents)[::3]
            views = [it.map() for it in chosen]
            handles = [it.handle for it in chosen]
            done = allocator.defragment(pool=pool, algorithm="full")
            assert done.allocations_moved > 0 and done.not_moved["mapped"] == len(chosen)
            assert [it.handle for it in chosen] == handles
            for it, view in zip(chosen, views, strict=True):
                assert bytes(view) == contents[it]
                view.close()
            check_contents(allocator, contents)
            allocator.destroy_many(contents)

    @pytest.mark.parametrize(
        "flags", [RANDOM, WRITE, RANDOM | MAPPED], ids=["random", "write", "mapped"]
    )
    def test_contents_of_host_visible_buffers_are_moved(
        self, allocator: Allocator, flags: int
    ) -> None:
        """#12242, #12256: what the host had written was not copied."""
        with allocator.create_pool(
            memory_type_index=like(allocator, flags), block_size=MIB, movable=True
        ) as pool:
            check = Check(allocator)
            made = [
                allocator.create_buffer(30_000, VERTEX, pool=pool, flags=flags, movable=True)
                for _ in range(120)
            ]
            for index, it in enumerate(made):
                it.write(pattern(30_000, index))
            allocator.destroy_many(made[::2])
            done = allocator.defragment(pool=pool, algorithm="full")
            assert done.allocations_moved > 0 and done.device_memory_blocks_freed > 0
            for index, it in list(enumerate(made))[1::2]:
                assert check.read(it) == pattern(30_000, index)
                if flags & RANDOM:
                    assert it.read() == pattern(30_000, index)
            allocator.destroy_many(made[1::2])


def test_transfers_of_the_program_survive_the_submissions_of_a_move(
    simulated: SimulatedDevice,
) -> None:
    """#11429: the move's own submissions recycled what the program still recorded."""
    with Allocator(simulated) as allocator:
        pool = allocator.create_pool(memory_type_index=0, block_size=MIB, movable=True)
        contents = scattered(allocator, pool=pool, count=60)
        other = allocator.create_buffer(200_000, TRANSFER)
        with allocator.transfers.batch():
            other.upload(pattern(100_000, 1))
            done = allocator.defragment(pool=pool, algorithm="full")
            upload = allocator.transfers.upload(pattern(100_000, 2), other, offset=100_000)
        upload.wait()
        assert done.allocations_moved > 0
        assert other.download().tobytes() == pattern(100_000, 1) + pattern(100_000, 2)
        check_contents(allocator, contents)
        allocator.destroy_many([*contents, other])
        pool.close()


def test_creating_an_image_while_things_move(simulated: SimulatedDevice) -> None:
    """#12718: creating one submitted, which defragmented, which created one."""
    with Allocator(
        simulated, preferred_block_size=MIB, auto_defragment=True, frames_in_flight=1
    ) as allocator:
        contents = scattered(allocator, count=100)
        images = []
        inside: list[int] = []

        @allocator.on_move
        def create_more(moves: list[vk_mem.Move]) -> None:
            assert not inside, "moves within the callback of moves"
            inside.append(len(moves))
            image = allocator.create_image(RGBA8, (16, 16), ImageUsage.SAMPLED, movable=True)
            image.upload(np.full((16, 16, 4), len(images) % 251, np.uint8))
            images.append(image)
            inside.pop()

        for frame in range(1, 30):
            allocator.set_current_frame_index(frame)
        assert images
        for index, image in enumerate(images):
            assert (image.download() == index % 251).all()
        check_contents(allocator, contents)
        allocator.on_move(None)
        allocator.destroy_many([*contents, *images])


def test_a_resource_without_memory_of_ours_is_never_moved(allocator: Allocator) -> None:
    """#15542: a swapchain's image has no allocation. Memory that a program bound itself, and
    memory alone, are among what a run passes over."""
    with allocator.create_pool(
        memory_type_index=like(allocator), block_size=MIB, name="mixed"
    ) as pool:
        contents = scattered(allocator, pool=pool, count=60)
        plain = [allocator.allocate_memory(65536, 256, pool=pool) for _ in range(4)]
        unbound = [
            allocator.create_buffer(
                5000, VERTEX, pool=pool, flags=vk_mem.AllocationCreateFlags.DONT_BIND
            )
            for _ in range(3)
        ]
        stay = [*plain, *unbound]
        places = [(it.device_memory, it.offset) for it in plain]
        handles = [it.handle for it in unbound]
        done = allocator.defragment(pool=pool, algorithm="extensive")
        assert done.allocations_moved > 0
        assert [(it.device_memory, it.offset) for it in plain] == places
        assert [it.handle for it in unbound] == handles
        check_contents(allocator, contents)
        allocator.destroy_many([*contents, *stay])


def test_a_resource_that_is_new_while_things_move_is_whole(simulated: SimulatedDevice) -> None:
    """#15593: a move found a resource before its owner knew it."""
    with Allocator(simulated) as allocator:
        pool = allocator.create_pool(memory_type_index=0, block_size=MIB, movable=True)
        contents = scattered(allocator, pool=pool, count=80)
        young: dict[Buffer, bytes] = {}

        @allocator.on_move
        def make_another(moves: list[vk_mem.Move]) -> None:
            for it in moves:
                assert it.resource.handle == it.new_handle and it.resource.generation >= 1
            buffer = allocator.create_buffer(20_000, VERTEX, pool=pool, movable=True)
            young[buffer] = pattern(20_000, len(young))
            Check(allocator).write(buffer, young[buffer])

        while allocator.defragment_step(200_000, 4, pool=pool, algorithm="full").allocations_moved:
            if len(young) > 40:
                allocator.on_move(None)
        assert young
        check_contents(allocator, {**contents, **young})
        check_statistics(allocator)
        allocator.destroy_many([*contents, *young])
        allocator.on_move(None)
        pool.close()


@pytest.mark.parametrize("extent", [(16, 16, 16), (9, 5, 7), (1, 1, 33)])
def test_levels_of_3d_images_have_their_own_depth(
    allocator: Allocator, extent: tuple[int, int, int]
) -> None:
    """Levels were copied with the depth of level 0."""
    levels = max(extent).bit_length()
    with allocator.create_image(
        RGBA8, extent, ImageUsage.SAMPLED, mip_levels=levels, movable=True
    ) as image:
        contents = []
        for level in range(levels):
            sides = [max(1, side >> level) for side in reversed(extent)]
            data = np.random.default_rng(level).integers(0, 256, (*sides, 4), np.uint8)
            image.upload(data, mip_level=level)
            contents.append(data)
        assert allocator._relocate([image]) == 1  # type: ignore[attr-defined]
        for level, data in enumerate(contents):
            found = image.download(mip_level=level)
            assert (found.reshape(data.shape) == data).all(), level


def test_render_targets_move_with_their_layout(allocator: Allocator) -> None:
    """FNA3D #110: too much depended on them, so they were left where they were."""
    made: dict[Any, Any] = {}
    for index in range(24):
        usage = ImageUsage.COLOR_ATTACHMENT | ImageUsage.SAMPLED
        image = allocator.create_image(RGBA8, (64, 48), usage, movable=True, name=f"target {index}")
        data = np.random.default_rng(index).integers(0, 256, (48, 64, 4), np.uint8)
        image.upload(data, layout=ImageLayout.COLOR_ATTACHMENT_OPTIMAL)
        made[image] = data
    depth = allocator.create_image(
        Format.D16_UNORM, (64, 48), ImageUsage.DEPTH_STENCIL_ATTACHMENT, movable=True
    )
    texels = np.random.default_rng(7).integers(0, 65536, (48, 64), np.uint16)
    depth.upload(texels, layout=ImageLayout.DEPTH_STENCIL_ATTACHMENT_OPTIMAL)
    gone = random.Random(3).sample(list(made), 12)
    allocator.destroy_many(gone)
    kept = [it for it in made if it not in gone]
    assert allocator._relocate([*kept, depth]) == len(kept) + 1  # type: ignore[attr-defined]
    for image in kept:
        assert image.layout == ImageLayout.COLOR_ATTACHMENT_OPTIMAL
        assert (image.download() == made[image]).all()
    assert depth.layout == ImageLayout.DEPTH_STENCIL_ATTACHMENT_OPTIMAL
    assert (depth.download().reshape(texels.shape) == texels).all()
    allocator.destroy_many([*kept, depth])


def test_nothing_sinks_where_a_driver_call_fails(simulated: SimulatedDevice) -> None:
    """Each call of a run fails in turn: nothing is lost, and the run can be repeated."""
    failed = 0
    number = 0
    while True:
        with Allocator(simulated, frames_in_flight=1) as allocator:
            pool = allocator.create_pool(memory_type_index=0, block_size=MIB, movable=True)
            contents = scattered(allocator, pool=pool, count=40)
            simulated.fail_call(number)
            calls = simulated.fallible_call_count
            raised = None
            with contextlib.suppress(vk_mem.VkMemError):
                raised = True
                allocator.defragment(pool=pool, algorithm="full")
                raised = False
            has_failed = simulated.fallible_call_count - calls > number
            simulated.clear_failures()
            failed += bool(raised)
            check_contents(allocator, contents)
            check_statistics(allocator)
            allocator.defragment(pool=pool, algorithm="full")
            check_contents(allocator, contents)
            for frame in range(1, 5):
                allocator.set_current_frame_index(frame)
            assert pool.statistics().allocation_count == len(contents)
            # One block may be kept empty.
            assert pool.statistics().block_count <= 2
            allocator.destroy_many(contents)
            for frame in range(5, 9):
                allocator.set_current_frame_index(frame)
            pool.close()
        if not has_failed:
            break
        number += 1
    assert failed >= 10 and number < 500
