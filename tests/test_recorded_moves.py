"""`DefragmentationPass.record`: the library's copies in a command buffer of the program."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import pytest
from bindings import Bound, vulkan_device
from command_buffers import execute
from conftest import index_of_the_driver
from support import RGBA8, Check, check_statistics, pattern
from test_defragmentation import MIB, VERTEX, check_contents, like, scattered
from test_image_transfers import comes_back, create, texels
from test_moves import KINDS, SAMPLED, parts

import vk_mem
from vk_mem import (
    Allocator,
    Buffer,
    BufferUsage,
    Defragmentation,
    DefragmentationPass,
    ImageLayout,
    InvalidArgumentError,
    Pool,
    SimulatedDevice,
    UseAfterFreeError,
)

SOURCE, TARGET = BufferUsage.TRANSFER_SRC, BufferUsage.TRANSFER_DST


def make_buffers(step: DefragmentationPass) -> None:
    for move in step.moves:
        move.destination.create_buffer()


@pytest.mark.parametrize("movable", [True, False])
def test_buffers_keep_their_bytes(allocator: Allocator, movable: bool) -> None:
    usage = VERTEX | SOURCE | TARGET
    with allocator.create_pool(memory_type_index=like(allocator), block_size=MIB) as pool:
        check = Check(allocator)
        buffers = [
            allocator.create_buffer(40_000 + it, usage, pool=pool, movable=movable)
            for it in range(100)
        ]
        allocator.destroy_many(buffers[::2])
        contents = {it: pattern(it.size, it.size) for it in buffers[1::2]}
        for it, data in contents.items():
            check.write(it, data)
        before = pool.statistics().block_count
        moved = 0
        with allocator.begin_defragmentation(
            () if movable else contents, pool=pool, algorithm="full", max_allocations_per_pass=9
        ) as run:
            for step in run:
                for move in step.moves:
                    assert isinstance(move.resource, Buffer) and not move.recorded
                    if movable:
                        move.destination.create_buffer()
                    else:
                        move.destination.create_buffer(move.resource.size, usage)

                def record(commands: Any, step: DefragmentationPass = step) -> None:
                    assert step.record(commands) == len(step.moves)

                execute(allocator.device, record)
                assert all(it.recorded for it in step.moves)
                moved += len(step.moves)
            done = run.statistics
        assert done.allocations_moved == moved > 9
        assert pool.statistics().block_count < before
        check_contents(allocator, contents)
        check_statistics(allocator)
        allocator.destroy_many(contents)


@pytest.mark.parametrize("kind", KINDS, ids=[f"{it[0]}-{len(it[1])}d-{it[2]}" for it in KINDS])
@pytest.mark.parametrize("movable", [True, False])
def test_images_keep_their_texels_and_their_layout(
    allocator: Allocator, kind: tuple[str, tuple[int, ...], dict[str, Any]], movable: bool
) -> None:
    name, extent, keywords = kind
    usage = SAMPLED | vk_mem.ImageUsage.TRANSFER_SRC | vk_mem.ImageUsage.TRANSFER_DST
    first = create(allocator, name, extent, image_usage=usage, movable=movable, **keywords)
    if first is None:
        pytest.skip("the device has no such images")
    memory_type, size = first.allocation.memory_type_index, first.allocation.size
    first.destroy()
    with allocator.create_pool(memory_type_index=memory_type, block_size=4 * size + MIB) as pool:

        def make() -> Any:
            made = create(
                allocator, name, extent, image_usage=usage, movable=movable, pool=pool, **keywords
            )
            assert made is not None
            return made

        gap, image = make(), make()
        gap.destroy()
        contents = []
        for number, part in enumerate(parts(image)):
            data = texels(image, number, **part)
            image.upload(data, **part)
            contents.append((part, data))
        layout, handle, offset = image.layout, image.handle, image.allocation.offset
        assert layout != ImageLayout.UNDEFINED and offset > 0
        with allocator.begin_defragmentation(
            () if movable else (image,), pool=pool, algorithm="full"
        ) as run:
            for step in run:
                (move,) = step.moves
                if movable:
                    move.destination.create_image()
                else:
                    move.destination.create_image(name, extent, usage, **keywords)
                execute(allocator.device, step.record)
        assert image.handle != handle and image.allocation.offset < offset
        assert image.layout == layout
        for part, data in contents:
            assert comes_back(image, data, image.download(**part))
        image.destroy()


def test_a_preinitialised_image_is_general_afterwards(simulated_allocator: Allocator) -> None:
    """Nothing can be brought into PREINITIALIZED, and the texels are wanted."""
    allocator = simulated_allocator
    keywords: dict[str, Any] = {
        "tiling": "LINEAR",
        "initial_layout": "PREINITIALIZED",
        "flags": vk_mem.AllocationCreateFlags.HOST_ACCESS_RANDOM,
        "movable": True,
    }
    with allocator.create_image(RGBA8, (8, 8), SAMPLED, **keywords) as like_it:
        memory_type = like_it.allocation.memory_type_index
    with allocator.create_pool(memory_type_index=memory_type, block_size=MIB) as pool:
        gap = allocator.create_image(RGBA8, (8, 8), SAMPLED, pool=pool, **keywords)
        image = allocator.create_image(RGBA8, (8, 8), SAMPLED, pool=pool, **keywords)
        gap.destroy()
        data = pattern(image.allocation.size)
        image.allocation.write(data)
        assert image.layout == ImageLayout.PREINITIALIZED
        with allocator.begin_defragmentation(pool=pool, algorithm="full") as run:
            for step in run:
                step.moves[0].destination.create_image()
                execute(allocator.device, step.record)
        assert image.generation == 1 and image.layout == ImageLayout.GENERAL
        assert image.download().tobytes() == data[: 8 * 8 * 4]
        image.destroy()


@pytest.fixture
def pool(simulated_allocator: Allocator) -> Iterator[Pool]:
    with simulated_allocator.create_pool(
        memory_type_index=like(simulated_allocator), block_size=MIB, movable=True
    ) as pool:
        yield pool


class TestWrongCalls:
    """Each is one clear line, and nothing is recorded."""

    @pytest.fixture(autouse=True)
    def begin(
        self, simulated: SimulatedDevice, simulated_allocator: Allocator, pool: Pool
    ) -> Iterator[None]:
        self.allocator, self.device = simulated_allocator, simulated
        self.contents = scattered(simulated_allocator, pool=pool, count=60)
        self.run: Defragmentation = simulated_allocator.begin_defragmentation(
            pool=pool, algorithm="full", max_allocations_per_pass=4
        )
        self.step = next(self.run)
        self.commands = simulated.begin_command_buffer()
        yield
        self.run.end()
        check_contents(simulated_allocator, {k: v for k, v in self.contents.items() if k.alive})
        simulated_allocator.destroy_many(self.contents)

    def refused(self, match: str, *moves: Any) -> None:
        with pytest.raises(InvalidArgumentError, match=match) as caught:
            self.step.record(self.commands, *moves)
        assert "\n" not in str(caught.value)

    def test_handles_that_are_none(self) -> None:
        make_buffers(self.step)
        for null in (0, None):
            with pytest.raises((InvalidArgumentError, TypeError), match="command_buffer"):
                self.step.record(null)
        with pytest.raises(InvalidArgumentError, match="expected a VkCommandBuffer handle, got a"):
            self.step.record("commands")
        assert not any(it.recorded for it in self.step.moves)

    def test_a_move_without_a_new_handle(self) -> None:
        self.refused(r"has no new handle to copy to: call destination.create_buffer\(\)")
        for move in self.step.moves[1:]:
            move.destination.create_buffer()
        self.refused("has no new handle")
        assert not any(it.recorded for it in self.step.moves)
        assert self.step.record(self.commands, self.step.moves[1:]) == len(self.step.moves) - 1
        self.step.moves[0].operation = "ignore"
        self.device.submit_command_buffer(self.commands)

    def test_moves_that_are_not_to_be_copied(self) -> None:
        moves = self.step.moves
        moves[0].operation = "ignore"
        for move in moves[1:]:
            move.operation = "destroy"
        self.refused(f"of {len(moves)}, 0 recorded before, {len(moves)} set to 'ignore'")

    def test_moves_of_what_was_destroyed(self) -> None:
        make_buffers(self.step)
        for move in self.step.moves:
            move.resource.destroy()  # type: ignore[union-attr]
        self.refused("of resources that were destroyed")

    def test_what_is_recorded_twice(self) -> None:
        make_buffers(self.step)
        twice = [self.step.moves[0], self.step.moves[0]]
        assert self.step.record(self.commands, twice) == 1
        assert self.step.record(self.commands) == len(self.step.moves) - 1
        self.refused(f"{len(self.step.moves)} recorded before")
        self.device.submit_command_buffer(self.commands)

    def test_moves_of_another_pass(self) -> None:
        for move in self.step.moves:
            move.operation = "ignore"
        other = next(self.run)
        with pytest.raises(InvalidArgumentError, match="a move of another pass"):
            other.record(self.commands, self.step.moves)
        with pytest.raises(TypeError, match="must be moves of the pass, not int"):
            other.record(self.commands, [1])
        with pytest.raises(TypeError, match="moves must be an iterable, not int"):
            other.record(self.commands, 1)  # type: ignore[arg-type]

    def test_a_pass_that_has_ended(self) -> None:
        for move in self.step.moves:
            move.operation = "ignore"
        next(self.run)
        with pytest.raises(UseAfterFreeError, match="the pass has ended"):
            self.step.record(self.commands)


def test_a_command_buffer_that_is_not_being_recorded() -> None:
    device = SimulatedDevice("discrete-8gib")
    with Allocator(device) as allocator:
        pool = allocator.create_pool(memory_type_index=0, block_size=MIB, movable=True)
        contents = scattered(allocator, pool=pool, count=60)
        commands, gone = device.begin_command_buffer(), device.begin_command_buffer()
        device.submit_command_buffer(gone)
        with allocator.begin_defragmentation(pool=pool, algorithm="full") as run:
            step = next(run)
            make_buffers(step)
            for wrong in (12345, gone):
                with pytest.raises(vk_mem.VkMemError, match="vkCmdCopyBuffer"):
                    step.record(wrong)
                with pytest.raises(vk_mem.VkMemError, match="vkQueueSubmit"):
                    device.submit_command_buffer(wrong)
            assert len(device.violations) == 4
            assert "0x3039 is no command buffer that is being recorded" in str(device.violations[0])
            assert not any(it.recorded for it in step.moves)
            # It can be repeated with one that is.
            assert step.record(commands) == len(step.moves)
            device.submit_command_buffer(commands)
            next(run, None)
        assert len(device.violations) == 4
        check_contents(allocator, contents)
        allocator.destroy_many(contents)
        pool.close()


def test_what_the_library_cannot_copy(simulated_allocator: Allocator) -> None:
    allocator = simulated_allocator
    with allocator.create_pool(memory_type_index=like(allocator), block_size=MIB) as pool:
        pages = allocator.allocate_memory_pages(65536, 256, 16, pool=pool)
        buffers = [allocator.create_buffer(65536, VERTEX, pool=pool) for _ in range(16)]
        allocator.free_memory_pages(pages[::2])
        allocator.destroy_many(buffers[::2])
        kept = [*pages[1::2], *buffers[1::2]]
        commands = allocator.device.begin_command_buffer()  # type: ignore[attr-defined]
        seen = set()
        with allocator.begin_defragmentation(kept, pool=pool, algorithm="full") as run:
            for step in run:
                for move in step.moves:
                    if isinstance(move.resource, Buffer):
                        with pytest.raises(InvalidArgumentError, match="65536, not 70000"):
                            move.destination.create_buffer(70_000, VERTEX)
                        move.destination.create_buffer(65536, VERTEX)
                        why = "was created without TRANSFER_SRC"
                    else:
                        why = "is memory whose contents the library does not know"
                    with pytest.raises(InvalidArgumentError, match=why):
                        step.record(commands, [move])
                    seen.add(why)
                    move.operation = "ignore"
        assert len(seen) == 2
        allocator.free_memory_pages(pages[1::2])
        allocator.destroy_many(buffers[1::2])


def test_an_image_has_to_be_described_as_it_is(simulated_allocator: Allocator) -> None:
    allocator = simulated_allocator
    usage = SAMPLED | vk_mem.ImageUsage.TRANSFER_SRC
    with allocator.create_image(RGBA8, (16, 16), usage) as like_it:
        memory_type = like_it.allocation.memory_type_index
    with allocator.create_pool(memory_type_index=memory_type, block_size=MIB) as pool:
        gap = allocator.create_image(RGBA8, (16, 16), usage, pool=pool)
        image = allocator.create_image(RGBA8, (16, 16), usage, pool=pool)
        gap.destroy()
        with allocator.begin_defragmentation([image], pool=pool, algorithm="full") as run:
            (move,) = next(run).moves
            for arguments, keywords, what in [
                (("R8_UNORM", (16, 16)), {}, "format"),
                ((RGBA8, (16, 8)), {}, "extent"),
                ((RGBA8, (16, 16)), {"mip_levels": 2}, "mip levels"),
                ((RGBA8, (16, 16)), {"array_layers": 2}, "layers"),
                ((RGBA8, (16, 16)), {"samples": 4}, "samples"),
            ]:
                with pytest.raises(InvalidArgumentError, match=what):
                    move.destination.create_image(*arguments, usage, **keywords)
            move.destination.create_image(RGBA8, (16, 16), usage)
        image.destroy()


def test_copies_that_are_submitted_after_the_pass_come_too_late() -> None:
    device = SimulatedDevice("discrete-8gib")
    with Allocator(device) as allocator:
        pool = allocator.create_pool(memory_type_index=0, block_size=MIB, movable=True)
        contents = scattered(allocator, pool=pool, count=60)
        commands = device.begin_command_buffer()
        with allocator.begin_defragmentation(pool=pool, algorithm="full") as run:
            step = next(run)
            make_buffers(step)
            step.record(commands)
            next(run, None)
        with pytest.raises(vk_mem.VkMemError):
            device.submit_command_buffer(commands)
        late = [it for it in device.violations if "was moved to" in str(it)]
        assert late and all("uses the old place, which was released" in str(it) for it in late)
        allocator.destroy_many(contents)
        pool.close()
    assert device.live_buffers == 0


def test_copies_run_when_the_command_buffer_does(simulated: SimulatedDevice) -> None:
    """After what was submitted before it, and with what it has written until then."""
    with Allocator(simulated) as allocator:
        pool = allocator.create_pool(memory_type_index=0, block_size=MIB, movable=True)
        contents = scattered(allocator, pool=pool, count=60)
        simulated.set_completion("held")
        with allocator.begin_defragmentation(
            pool=pool, algorithm="full", max_allocations_per_pass=1
        ) as run:
            step = next(run)
            make_buffers(step)
            commands = simulated.begin_command_buffer()
            step.record(commands)
            (move,) = step.moves
            buffer = move.resource
            assert isinstance(buffer, Buffer)
            simulated.submit_fill(buffer.handle, 64, 0x01010101)
            simulated.submit_command_buffer(commands)
            assert simulated.pending_submissions == 2
            assert simulated.complete_submissions() == 2
            contents[buffer] = b"\1" * 64 + contents[buffer][64:]
            simulated.set_completion("at once")
            for step in run:
                for move in step.moves:
                    move.operation = "ignore"
        assert buffer.generation == 1
        check_contents(allocator, contents)
        allocator.destroy_many(contents)
        pool.close()


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bound]:
    """A device of `vulkan`; what the layer says, of synchronisation as well, fails the test."""
    sync = "VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT"
    monkeypatch.setenv("VK_LAYER_ENABLES", sync)
    with vulkan_device(index_of_the_driver()) as bound:
        yield bound


@pytest.mark.driver
@pytest.mark.parametrize("form", ["cffi", "int", "ctypes"])
def test_handles_of_any_binding(bound: Bound, form: str) -> None:
    def of_form(commands: Any) -> Any:
        number = int(bound.binding.ffi.cast("uintptr_t", commands))
        return {"cffi": commands, "int": number, "ctypes": ctypes.c_void_p(number)}[form]

    with Allocator(bound.device) as allocator:
        check = Check(allocator)
        pool = allocator.create_pool(
            memory_type_index=like(allocator), block_size=MIB, movable=True
        )
        contents = scattered(allocator, pool=pool, count=60)
        with allocator.begin_defragmentation(pool=pool, algorithm="full") as run:
            for step in run:
                make_buffers(step)

                def record(commands: Any, step: DefragmentationPass = step) -> None:
                    step.record(of_form(commands))

                execute(bound.device, record)
            assert run.statistics.allocations_moved > 0
        for it, data in contents.items():
            assert check.read(it) == data
        allocator.destroy_many(contents)
        pool.close()
