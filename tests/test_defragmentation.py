"""`Allocator.defragment`, `defragment_step`: packing, bytes, limits, frames, threads, failures."""

from __future__ import annotations

import contextlib
import gc
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support import RANDOM, RGBA8, Check, check_statistics, pattern

import vk_mem
from vk_mem import (
    Allocator,
    Buffer,
    BufferUsage,
    DefragmentationMoveOperation,
    DefragmentationPolicy,
    DefragmentationStatistics,
    FeatureNotPresentError,
    ImageUsage,
    InvalidArgumentError,
    SimulatedDevice,
    UseAfterFreeError,
)

VERTEX = BufferUsage.VERTEX_BUFFER
MIB = 1 << 20


def scattered(
    allocator: Allocator, count: int = 64, size: int = 40_000, **keywords: Any
) -> dict[Buffer, bytes]:
    """Movable buffers of which every other one was destroyed, and what is in the others."""
    check = Check(allocator)
    keywords = {"movable": True, **keywords}
    all_of_them = [allocator.create_buffer(size, VERTEX, **keywords) for _ in range(count)]
    contents = {}
    for index, it in enumerate(all_of_them):
        if index % 2:
            it.destroy()
        else:
            contents[it] = pattern(size, index)
            check.write(it, contents[it])
    return contents


def check_contents(allocator: Allocator, contents: dict[Any, bytes]) -> None:
    check = Check(allocator)
    for buffer, data in contents.items():
        assert check.read(buffer) == data


def like(allocator: Allocator, flags: int = 0) -> int:
    """The memory type of such buffers."""
    with allocator.create_buffer(4096, VERTEX, movable=True, flags=flags) as buffer:
        return buffer.allocation.memory_type_index


def blocks(allocator: Allocator) -> int:
    return allocator.calculate_statistics().total.block_count


@pytest.mark.parametrize("algorithm", ["fast", "balanced", "full", "extensive"])
def test_bytes_stay_and_blocks_become_empty(allocator: Allocator, algorithm: str) -> None:
    with allocator.create_pool(
        memory_type_index=like(allocator), block_size=MIB, movable=True, name="meshes"
    ) as pool:
        contents = scattered(allocator, pool=pool, count=150)
        before = pool.statistics().block_count
        done = allocator.defragment(pool=pool, algorithm=algorithm)
        assert isinstance(done, DefragmentationStatistics) and str(done)
        after = pool.statistics().block_count
        live = sum(it.allocation.size for it in contents)
        # One block may be kept empty.
        assert after <= -(-live // MIB) + 2 < before
        assert done.allocations_moved > 0 and done.bytes_moved >= 40_000
        assert done.device_memory_blocks_freed == before - after
        assert done.bytes_freed == (before - after) * MIB
        assert done.not_moved == {}
        check_contents(allocator, contents)
        check_statistics(allocator)
        assert sum(it.generation for it in contents) == done.allocations_moved
        again = allocator.defragment(pool=pool, algorithm=algorithm)
        assert again.device_memory_blocks_freed == 0
        allocator.destroy_many(contents)


def test_a_lone_buffer_above_a_gap_moves_down(simulated_allocator: Allocator) -> None:
    allocator = simulated_allocator
    with allocator.create_pool(memory_type_index=0, block_size=8 * MIB) as pool:
        gap = allocator.create_buffer(2 * MIB, VERTEX, pool=pool)
        buffer = allocator.create_buffer(MIB, VERTEX, pool=pool, movable=True)
        gap.destroy()
        assert buffer.allocation.offset > 0
        allocator.defragment(pool=pool, algorithm="full")
        assert buffer.allocation.offset == 0
        buffer.destroy()


def test_what_stays_is_counted_by_reason(simulated_allocator: Allocator) -> None:
    allocator = simulated_allocator
    with allocator.create_pool(memory_type_index=like(allocator, RANDOM), block_size=MIB) as pool:
        contents = scattered(allocator, pool=pool, count=60, flags=RANDOM)
        fixed = [allocator.create_buffer(4000, VERTEX, pool=pool) for _ in range(3)]
        buffers = list(contents)
        views = [it.map() for it in buffers[-2:]]
        places = [(it.allocation.device_memory, it.allocation.offset) for it in buffers[-2:]]
        done = allocator.defragment(pool=pool, algorithm="full")
        assert done.not_moved["mapped"] == 2
        assert [
            (it.allocation.device_memory, it.allocation.offset) for it in buffers[-2:]
        ] == places
        for it in views:
            it.close()
        check_contents(allocator, contents)
        allocator.destroy_many([*buffers, *fixed])


def test_limits_and_progress(simulated_allocator: Allocator) -> None:
    allocator = simulated_allocator
    with allocator.create_pool(memory_type_index=0, block_size=MIB, movable=True) as pool:
        contents = scattered(allocator, pool=pool, count=100)
        heard: list[DefragmentationStatistics] = []
        done = allocator.defragment(pool=pool, max_bytes=100_000, progress=heard.append)
        assert 80_000 <= done.bytes_moved <= 120_000 and heard
        assert heard[-1].bytes_moved == done.bytes_moved
        assert allocator.defragment(pool=pool, max_bytes=0).allocations_moved == 0
        assert allocator.defragment(pool=pool, max_seconds=0).allocations_moved == 0

        def stop(_: DefragmentationStatistics) -> None:
            raise KeyError("of the program")

        with pytest.raises(KeyError, match="of the program"):
            allocator.defragment(pool=pool, progress=stop)
        check_contents(allocator, contents)
        allocator.destroy_many(contents)


def test_wrong_arguments(simulated_allocator: Allocator) -> None:
    allocator = simulated_allocator
    with pytest.raises(InvalidArgumentError, match="algorithm is 'best'"):
        allocator.defragment(algorithm="best")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="max_seconds"):
        allocator.defragment(max_seconds=-1)
    with allocator.create_pool(memory_type_index=0, algorithm="linear", block_size=MIB) as pool:
        for call in (
            allocator.defragment,
            allocator.defragment_step,
            allocator.begin_defragmentation,
        ):
            with pytest.raises(FeatureNotPresentError, match="linear"):
                call(pool=pool)


def test_steps_move_a_little_each_frame(simulated: SimulatedDevice) -> None:
    with Allocator(simulated, frames_in_flight=2) as allocator:
        pool = allocator.create_pool(memory_type_index=0, block_size=MIB, movable=True)
        contents = scattered(allocator, pool=pool, count=100)
        before = pool.statistics().block_count
        moved, steps, frame = 0, 0, 0
        for frame in range(1, 60):
            allocator.set_current_frame_index(frame)
            done = allocator.defragment_step(100_000, 2, pool=pool, algorithm="fast")
            assert done.allocations_moved <= 2 and done.bytes_moved <= 100_000
            moved += done.allocations_moved
            steps += done.allocations_moved > 0
            check_contents(allocator, contents)
        assert moved > 4 and steps >= moved / 2
        assert pool.statistics().block_count < before
        calls = simulated.calls if hasattr(simulated, "calls") else None
        assert allocator.defragment_step(pool=pool, algorithm="fast").allocations_moved == 0
        del calls
        allocator.destroy_many(contents)
        allocator.set_current_frame_index(frame + 9)
        pool.close()


def test_a_step_does_not_wait_for_the_device(simulated: SimulatedDevice) -> None:
    with Allocator(simulated) as allocator:
        pool = allocator.create_pool(memory_type_index=0, block_size=MIB, movable=True)
        contents = scattered(allocator, pool=pool, count=60)
        simulated.set_completion("held")
        done = allocator.defragment_step(pool=pool)
        assert done.allocations_moved > 0
        allocator.defragment_step(pool=pool)
        simulated.set_completion("at once")
        simulated.complete_submissions()
        check_contents(allocator, contents)
        allocator.destroy_many(contents)
        pool.close()


def test_images_and_buffers_move_together(allocator: Allocator) -> None:
    """Random kinds and sizes, some of which end in between."""
    chance = random.Random(5)
    check = Check(allocator)
    live: dict[Any, Any] = {}
    for round in range(3):
        for index in range(30):
            if chance.random() < 0.5:
                size = chance.randrange(1, 60_000)
                buffer = allocator.create_buffer(size, VERTEX, movable=True)
                live[buffer] = pattern(size, index + round)
                check.write(buffer, live[buffer])
            else:
                sides = chance.randrange(1, 64), chance.randrange(1, 64)
                image = allocator.create_image(
                    RGBA8, sides, ImageUsage.SAMPLED, movable=True, array_layers=2
                )
                texels = np.random.default_rng(index).integers(
                    0, 256, (2, sides[1], sides[0], 4), np.uint8
                )
                image.upload(texels)
                live[image] = texels
        for it in chance.sample(list(live), len(live) // 2):
            it.destroy()
            del live[it]
        allocator.defragment(algorithm=chance.choice(["fast", "balanced", "full", "extensive"]))  # type: ignore[arg-type]
        for it, data in live.items():
            if isinstance(it, Buffer):
                assert check.read(it) == data
            else:
                assert (it.download() == data).all()
        check_statistics(allocator)
    allocator.destroy_many(live)


def test_a_failure_in_a_run_can_be_repeated(simulated: SimulatedDevice) -> None:
    with Allocator(simulated, frames_in_flight=0) as allocator:
        for number in range(12):
            pool = allocator.create_pool(memory_type_index=0, block_size=MIB, movable=True)
            contents = scattered(allocator, pool=pool, count=40)
            simulated.fail_call(number)
            with contextlib.suppress(vk_mem.VkMemError):
                allocator.defragment(pool=pool, algorithm="full")
            simulated.clear_failures()
            check_contents(allocator, contents)
            count = allocator.calculate_statistics().total.allocation_count
            assert count == len(contents)
            allocator.defragment(pool=pool, algorithm="full")
            check_contents(allocator, contents)
            allocator.destroy_many(contents)
            pool.close()


def test_threads_use_what_moves(simulated: SimulatedDevice) -> None:
    """They create, write, read and destroy while two others defragment."""
    with Allocator(simulated) as allocator:
        stop, errors = threading.Event(), []

        def guarded(run: Callable[[int], None]) -> Callable[[int], None]:
            def call(index: int) -> None:
                try:
                    while not stop.is_set():
                        run(index)
                except BaseException as error:
                    errors.append(error)
                    stop.set()

            return call

        def use(index: int) -> None:
            chance = random.Random(index + time.monotonic_ns())
            mine = {}
            for step in range(12):
                size = chance.randrange(1, 30_000)
                buffer = allocator.create_buffer(size, VERTEX, flags=RANDOM, movable=True)
                mine[buffer] = pattern(size, step)
                buffer.write(mine[buffer])
            for it in chance.sample(list(mine), 6):
                it.destroy()
                del mine[it]
            for it, data in mine.items():
                assert it.read() == data
                it.write(data[::-1])
                assert it.read() == data[::-1]
                with it.map() as view:
                    assert bytes(view) == data[::-1]
            allocator.destroy_many(mine)

        def defragment(index: int) -> None:
            allocator.defragment(algorithm="full") if index else allocator.defragment_step()

        threads = [threading.Thread(target=guarded(use), args=(index,)) for index in range(6)]
        threads += [threading.Thread(target=guarded(defragment), args=(it,)) for it in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(3)
        stop.set()
        for thread in threads:
            thread.join()
        assert not errors, errors
        allocator.set_current_frame_index(1)
        allocator.set_current_frame_index(9)
        check_statistics(allocator)
        assert allocator.calculate_statistics().total.allocation_count == 0


def test_dumps_and_watches_follow_what_moves(simulated: SimulatedDevice) -> None:
    with Allocator(simulated, track_call_sites=True) as allocator:
        pool = allocator.create_pool(memory_type_index=0, block_size=MIB, movable=True)
        with vk_mem.statistics(allocator, profile=True) as measured:
            contents = scattered(allocator, pool=pool, count=40)
            before = {(it.name, it.size) for it in allocator.leaks()}
            allocator.defragment(pool=pool, algorithm="full")
            assert {(it.name, it.size) for it in allocator.leaks()} == before
            allocator.destroy_many(contents)
        assert measured.current_bytes == 0 if hasattr(measured, "current_bytes") else measured
        pool.close()


class TestProtocol:
    """`begin_defragmentation`: the caller copies."""

    @pytest.mark.parametrize("movable", [True, False])
    def test_the_caller_copies(self, allocator: Allocator, movable: bool) -> None:
        usage = VERTEX | BufferUsage.TRANSFER_SRC | BufferUsage.TRANSFER_DST
        memory_type = like(allocator)
        with allocator.create_pool(memory_type_index=memory_type, block_size=MIB) as pool:
            check = Check(allocator)
            buffers = [
                allocator.create_buffer(40_000, usage, pool=pool, movable=movable, name=f"{it}")
                for it in range(100)
            ]
            allocator.destroy_many(buffers[::2])
            buffers = buffers[1::2]
            contents = {it: pattern(40_000, index) for index, it in enumerate(buffers)}
            for it, data in contents.items():
                check.write(it, data)
            before = pool.statistics().block_count
            moved = 0
            with allocator.begin_defragmentation(
                () if movable else buffers,
                pool=pool,
                algorithm="full",
                max_allocations_per_pass=7,
            ) as run:
                for step in run:
                    assert 1 <= len(step.moves) <= 7
                    kept = []
                    for move in step.moves:
                        assert move.operation == "copy" and move.resource in contents
                        assert move.destination.size == move.source.size
                        data = check.read(move.resource)  # type: ignore[arg-type]
                        handle = (
                            move.destination.create_buffer()
                            if movable
                            else move.destination.create_buffer(40_000, usage)
                        )
                        assert handle != move.resource.handle  # type: ignore[union-attr]
                        moved += 1
                        kept.append((move, handle, data))
                    for move, _, _ in kept:
                        with pytest.raises(InvalidArgumentError, match="already"):
                            move.destination.create_buffer(40_000, usage)
                    # A program would copy on the device: here the bytes are written afterwards.
                    for move, _, data in kept:
                        contents[move.resource] = data
                assert run.statistics.allocations_moved == moved > 0
            with pytest.raises(UseAfterFreeError):
                next(run)
            for it, data in contents.items():
                check.write(it, data)
                assert check.read(it) == data
                assert it.name
            assert pool.statistics().block_count < before
            check_statistics(allocator)
            allocator.destroy_many(buffers)

    def test_operations(self, simulated_allocator: Allocator) -> None:
        allocator = simulated_allocator
        with allocator.create_pool(memory_type_index=0, block_size=MIB, movable=True) as pool:
            contents = scattered(allocator, pool=pool, count=60)
            places = {it: it.handle for it in contents}
            ignored, destroyed = [], []
            with allocator.begin_defragmentation(pool=pool, algorithm="full") as run:
                for step in run:
                    for index, move in enumerate(step.moves):
                        with pytest.raises(InvalidArgumentError, match="operation"):
                            move.operation = "move"  # type: ignore[assignment]
                        with pytest.raises(InvalidArgumentError, match="operation is 3"):
                            move.operation = 3
                        move.operation = DefragmentationMoveOperation.COPY
                        assert move.operation == "copy"
                        move.operation = DefragmentationMoveOperation(2 if index % 2 else 1)
                        assert move.operation == ("destroy" if index % 2 else "ignore")
                        (destroyed if index % 2 else ignored).append(move.resource)
                assert run.statistics.allocations_moved == 0
            assert ignored and destroyed and not any(it.alive for it in destroyed)
            for it in contents:
                assert not it.alive or it.handle == places[it]
            check_contents(allocator, {it: data for it, data in contents.items() if it.alive})
            allocator.destroy_many(contents)

    def test_what_ends_or_is_mapped_in_a_pass_stays(self, simulated_allocator: Allocator) -> None:
        allocator = simulated_allocator
        with allocator.create_pool(
            memory_type_index=like(allocator, RANDOM), block_size=MIB, movable=True
        ) as pool:
            contents = scattered(allocator, pool=pool, count=60, flags=RANDOM)
            with allocator.begin_defragmentation(pool=pool, algorithm="full") as run:
                step = next(run)
                assert len(step.moves) >= 2
                for move in step.moves:
                    move.destination.create_buffer()
                first, second = step.moves[0].resource, step.moves[1].resource
                first.destroy()  # type: ignore[union-attr]
                with second.map():
                    handle = second.handle  # type: ignore[union-attr]
                    next(run, None)
                    assert second.handle == handle  # type: ignore[union-attr]
                assert run.statistics.not_moved.get("mapped") == 1
            allocator.destroy_many(contents)

    def test_a_move_without_a_handle_is_an_error(self, simulated_allocator: Allocator) -> None:
        allocator = simulated_allocator
        with allocator.create_pool(memory_type_index=0, block_size=MIB, movable=True) as pool:
            contents = scattered(allocator, pool=pool, count=60)
            with allocator.begin_defragmentation(pool=pool, algorithm="full") as run:
                step = next(run)
                move = step.moves[0]
                with pytest.raises(InvalidArgumentError, match="no new handle"):
                    next(run)
                with pytest.raises(UseAfterFreeError, match="pass"):
                    move.destination.create_buffer()
            check_contents(allocator, contents)
            allocator.destroy_many(contents)

    def test_a_break_callback_ends_it(self, simulated_allocator: Allocator) -> None:
        allocator = simulated_allocator
        with allocator.create_pool(memory_type_index=0, block_size=MIB, movable=True) as pool:
            contents = scattered(allocator, pool=pool, count=60)
            run = allocator.begin_defragmentation(pool=pool, break_callback=lambda: True)
            assert list(run) == []
            run.end()
            run.end()
            allocator.destroy_many(contents)

    def test_an_allocator_ends_what_is_open(self, simulated: SimulatedDevice) -> None:
        with Allocator(simulated) as allocator:
            contents = scattered(allocator, count=60, movable=True)
            run = allocator.begin_defragmentation(algorithm="full")
            step = next(run, None)
            if step is not None:
                step.moves[0].destination.create_buffer()
            allocator.destroy_many(contents)
        run.end()
        assert "ended" in repr(run)

    def test_one_that_nobody_ends_gives_back_what_it_has(self, simulated: SimulatedDevice) -> None:
        with Allocator(simulated) as allocator:
            pool = allocator.create_pool(memory_type_index=0, block_size=MIB, movable=True)
            contents = scattered(allocator, pool=pool, count=60)
            run = allocator.begin_defragmentation(pool=pool, algorithm="full")
            for move in next(run).moves:
                move.destination.create_buffer()
            assert allocator.calculate_statistics().total.allocation_count > len(contents)
            assert simulated.live_buffers > len(contents)
            del run, move
            gc.collect()
            assert allocator.calculate_statistics().total.allocation_count == len(contents)
            assert simulated.live_buffers == len(contents)
            allocator.destroy_many(contents)
            pool.close()

    def test_bare_memory_takes_part(self, simulated_allocator: Allocator) -> None:
        allocator = simulated_allocator
        with allocator.create_pool(memory_type_index=0, block_size=MIB) as pool:
            pages = allocator.allocate_memory_pages(65536, 256, 32, pool=pool)
            allocator.free_memory_pages(pages[::2])
            pages = pages[1::2]
            places = [(it.device_memory, it.offset) for it in pages]
            with allocator.begin_defragmentation(pages, pool=pool, algorithm="full") as run:
                moved = sum(len(step.moves) for step in run)
                assert run.statistics.allocations_moved == moved > 0
            assert [(it.device_memory, it.offset) for it in pages] != places
            # One block may be kept empty.
            assert pool.statistics().block_count <= 2
            allocator.free_memory_pages(pages)


def test_an_allocator_defragments_by_itself(simulated: SimulatedDevice) -> None:
    held = {}
    for auto in (False, True, DefragmentationPolicy(share=0.01, algorithm="full")):
        with Allocator(
            simulated,
            preferred_small_heap_block_size=MIB,
            preferred_block_size=MIB,
            auto_defragment=auto,
        ) as allocator:
            contents = scattered(allocator, count=150)
            for frame in range(1, 40):
                allocator.set_current_frame_index(frame)
            held[auto] = allocator.calculate_statistics().total.block_bytes
            moved = sum(it.generation for it in contents)
            assert (moved > 0) == bool(auto)
            check_contents(allocator, contents)
            allocator.destroy_many(contents)
    least = 75 * 40_000
    assert held[True] <= least * 1.125 + 2 * MIB < held[False]
    for wrong in (DefragmentationPolicy(share=-1), DefragmentationPolicy(algorithm="x")):  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError, match=r"share|algorithm is"):
            Allocator(simulated, auto_defragment=wrong)
    with pytest.raises(TypeError, match="DefragmentationPolicy, not int"):
        Allocator(simulated, auto_defragment=1)  # type: ignore[arg-type]
