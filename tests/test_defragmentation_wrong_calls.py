"""Wrong calls of all that moves resources: each has an error of one line, and loses nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from support import check_statistics
from test_defragmentation import VERTEX, check_contents, scattered

import vk_mem
from vk_mem import (
    Allocator,
    Buffer,
    BufferUsage,
    DefragmentationMoveOperation,
    DefragmentationPass,
    DefragmentationPolicy,
    ImageUsage,
    InvalidArgumentError,
    SimulatedDevice,
    UseAfterFreeError,
)

MIB = 1 << 20
SIZE = 40_000


class World:
    """A pool whose buffers move, an open pass over it, and things that do not belong there."""

    def __init__(self, device: SimulatedDevice) -> None:
        self.device = device
        self.allocator = Allocator(device)
        self.pool = self.allocator.create_pool(memory_type_index=0, block_size=MIB)
        self.contents = scattered(self.allocator, pool=self.pool, count=150)
        self.fixed = self.allocator.create_buffer(64, VERTEX)
        self.gone = self.allocator.create_buffer(64, VERTEX)
        self.gone.destroy()
        self.closed = self.allocator.create_pool(memory_type_index=0)
        self.closed.close()
        self.linear = self.allocator.create_pool(memory_type_index=0, algorithm="linear")
        self.other = Allocator(SimulatedDevice())
        self.foreign = self.other.create_buffer(64, VERTEX)
        self.foreign_pool = self.other.create_pool(memory_type_index=0)
        self.run = self.allocator.begin_defragmentation(pool=self.pool, algorithm="full")
        self.step = next(self.run)
        self.move = self.step.moves[0]

    def calls(self) -> list[Callable[..., Any]]:
        it = self.allocator
        return [it.defragment, it.defragment_step, it.begin_defragmentation]

    def check(self) -> None:
        """Nothing is lost, and it can go on."""
        self.run.end()
        check_contents(self.allocator, self.contents)
        check_statistics(self.allocator)
        self.allocator.defragment(pool=self.pool, algorithm="full")
        check_contents(self.allocator, self.contents)
        self.allocator.destroy_many([*self.contents, self.fixed])
        self.linear.close()
        self.pool.close()
        self.allocator.close()
        self.other.destroy_many([self.foreign])
        self.foreign_pool.close()
        self.other.close()
        assert self.device.violations == [] and self.device.live_memory_objects == 0


@pytest.fixture
def world(make_simulated: Callable[..., SimulatedDevice]) -> Iterator[World]:
    world = World(make_simulated("discrete-8gib"))
    yield world
    world.check()


def refused(
    kind: type[BaseException], match: str, call: Callable[..., object], *given: Any, **keywords: Any
) -> None:
    with pytest.raises(kind, match=match) as caught:
        call(*given, **keywords)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_wrong_pools_and_algorithms(world: World) -> None:
    for call in world.calls():
        for pool, kind, why in (
            (5, TypeError, "Pool"),
            (world.fixed, TypeError, "Pool"),
            (world.closed, UseAfterFreeError, "closed"),
            (world.foreign_pool, InvalidArgumentError, "another allocator"),
            (world.linear, vk_mem.FeatureNotPresentError, "linear"),
        ):
            refused(kind, why, call, pool=pool)
        for name in ("fastest", "FAST", "", "a\nb"):
            why = "algorithm is .*'balanced'"
            refused(InvalidArgumentError, why, call, algorithm=name)
        for what in (5, b"fast", DefragmentationMoveOperation.COPY):
            refused(TypeError, "str", call, algorithm=what)


def test_wrong_limits(world: World) -> None:
    it = world.allocator
    limits: list[tuple[Callable[..., Any], str]] = [
        (it.defragment, "max_bytes"),
        (it.defragment_step, "max_bytes"),
        (it.defragment_step, "max_moves"),
        (it.begin_defragmentation, "max_bytes_per_pass"),
        (it.begin_defragmentation, "max_allocations_per_pass"),
    ]
    for call, name in limits:
        for value in (-1, 1 << 70):
            refused(InvalidArgumentError, name, call, **{name: value})
        for wrong in (1.5, float("nan"), "x", np.float32(5), BufferUsage.VERTEX_BUFFER):
            refused(TypeError, name, call, **{name: wrong})
        call(**{name: np.int64(0)})


def test_wrong_times_and_callbacks(world: World) -> None:
    it = world.allocator
    for seconds, why in (
        (-1, "is negative"),
        (float("-inf"), "negative"),
        (float("nan"), "no number"),
    ):
        refused(InvalidArgumentError, f"max_seconds.*{why}", it.defragment, max_seconds=seconds)
    for long in (float("inf"), 1e300, 1 << 70, np.float32(1e30)):
        it.defragment(max_seconds=long)
    refused(TypeError, "max_seconds must be a number", it.defragment, max_seconds="x")
    for wrong in (5, "x", []):
        # Also where there is nothing to report.
        refused(TypeError, "callable", it.defragment, progress=wrong)
        refused(TypeError, "callable", it.begin_defragmentation, break_callback=wrong)
        refused(TypeError, "callable", it.on_move, wrong)
        refused(TypeError, "callable", next(iter(world.contents)).on_move, wrong)
    refused(InvalidArgumentError, "movable=True", world.fixed.on_move, print)
    refused(UseAfterFreeError, "destroyed", world.gone.on_move, print)


def test_wrong_resources(world: World) -> None:
    begin = world.allocator.begin_defragmentation
    for what in (5, world.fixed, object()):
        refused(TypeError, "resources must be an iterable", begin, what)
    for item in (5, None, "x", world.pool, world.allocator):
        refused(TypeError, "no Buffer, Image or Allocation", begin, [item])
    refused(InvalidArgumentError, "another allocator", begin, [world.foreign])
    refused(UseAfterFreeError, "destroyed", begin, [world.gone])
    refused(ZeroDivisionError, "zero", begin, (1 / 0 for _ in range(1)))
    begin([world.fixed, world.fixed]).end()


def test_movable_and_policies(world: World) -> None:
    it = world.allocator
    for wrong in (1, 2, b"x", []):
        refused(TypeError, "movable must be a bool", it.create_buffer, 64, VERTEX, movable=wrong)
    refused(InvalidArgumentError, "with_address", it.create_buffer, 64, VERTEX, movable="x")
    for truth in (np.True_, np.False_):
        with it.create_buffer(64, VERTEX, movable=truth) as buffer:  # type: ignore[arg-type]
            assert buffer.movable is bool(truth)
        Allocator(world.device, auto_defragment=truth).close()  # type: ignore[arg-type]
    for policy, kind in (
        (1, TypeError),
        ("fast", TypeError),
        (DefragmentationPolicy(share="x"), TypeError),  # type: ignore[arg-type]
        (DefragmentationPolicy(share=float("nan")), InvalidArgumentError),
        (DefragmentationPolicy(max_bytes=-1), InvalidArgumentError),
        (DefragmentationPolicy(max_moves=1 << 40), InvalidArgumentError),
        (DefragmentationPolicy(algorithm="slow"), InvalidArgumentError),  # type: ignore[arg-type]
        (DefragmentationPolicy(algorithm=None), TypeError),  # type: ignore[arg-type]
    ):
        refused(kind, ".", Allocator, world.device, auto_defragment=policy)


def test_wrong_destinations(world: World) -> None:
    create = world.move.destination.create_buffer
    refused(InvalidArgumentError, "is no image", world.move.destination.create_image)
    refused(InvalidArgumentError, "size in bytes .* is 40000, not 5", create, 5, VERTEX)
    refused(TypeError, "size", create, SIZE)
    # What is given is not passed over.
    refused(TypeError, "size", create, None, VERTEX)
    refused(TypeError, r"destination.create_buffer\(\).*'name'$", create, SIZE, VERTEX, name="x")
    refused(TypeError, "queue_family_indices", create, SIZE, VERTEX, queue_family_index=1)
    refused(InvalidArgumentError, "negative", create, -1, VERTEX)
    create()
    refused(InvalidArgumentError, "handle already", create)
    for operation in ("x", 5, -1):
        with pytest.raises(InvalidArgumentError, match="operation"):
            world.move.operation = operation  # type: ignore[assignment]
    for wrong in (None, 2.0, b"copy", BufferUsage.VERTEX_BUFFER):
        with pytest.raises(TypeError, match="operation"):
            world.move.operation = wrong  # type: ignore[assignment]
    world.move.operation = np.int64(1)  # type: ignore[assignment]
    assert world.move.operation == "ignore"


def test_wrong_order(world: World) -> None:
    run, step, move = world.run, world.step, world.move
    refused(InvalidArgumentError, "create_buffer", next, run)
    refused(UseAfterFreeError, "pass", move.destination.create_buffer)
    refused(UseAfterFreeError, "pass", setattr, move, "operation", "copy")
    refused(UseAfterFreeError, "too late", step.record, world.device.begin_command_buffer())
    statistics = run.statistics
    run.end()
    refused(UseAfterFreeError, "has ended", next, run)
    run.end()
    assert run.statistics == statistics
    for made in (vk_mem.Defragmentation, DefragmentationPass):
        refused(TypeError, "cannot create", made)


def test_a_pool_says_why_it_cannot_be_closed(world: World) -> None:
    pool = world.allocator.create_pool(memory_type_index=0, block_size=MIB)
    contents = scattered(world.allocator, pool=pool, count=150)
    run = world.allocator.begin_defragmentation(pool=pool, algorithm="full")
    step = next(run)
    world.allocator.destroy_many(contents)
    refused(InvalidArgumentError, "there (is|are) .* a defragmentation has reserved", pool.close)
    assert step.moves
    run.end()
    pool.close()


def check_that_a_break_callback_cannot(allocator: Allocator, pool: vk_mem.Pool, name: str) -> None:
    """What it does to the run that calls it is refused."""
    runs: list[vk_mem.Defragmentation] = []
    told: list[str] = []

    def interrupt() -> bool:
        refused(BufferError, "at work", getattr(runs[0], name))
        told.append(name)
        return True

    runs.append(allocator.begin_defragmentation(pool=pool, break_callback=interrupt))
    assert list(runs[0]) == [] and told == [name]
    runs[0].end()


def test_calls_from_callbacks(world: World) -> None:
    allocator, pool = world.allocator, world.pool
    world.run.end()
    seen: list[str] = []

    def close() -> None:
        refused(BufferError, "call runs", allocator.close)
        seen.append("close")

    def moved(moves: list[vk_mem.Move]) -> None:
        close()
        allocator.defragment(pool=pool)
        allocator.defragment_step(pool=pool)
        allocator.begin_defragmentation(pool=pool).end()
        allocator.on_move(None)

    allocator.on_move(moved)
    allocator.defragment(pool=pool, algorithm="full", max_bytes=SIZE, progress=lambda _: close())
    assert seen == ["close"] * len(seen) and len(seen) >= 2
    for name in ("__next__", "end", "__exit__"):
        check_that_a_break_callback_cannot(allocator, pool, name)
    with pytest.raises(ZeroDivisionError):
        next(allocator.begin_defragmentation(break_callback=lambda: 1 // 0))  # type: ignore[arg-type]


def test_threads_share_a_run(world: World) -> None:
    """Each pass is of one thread; who comes in between is told so, and nothing else."""
    world.run.end()
    run = world.allocator.begin_defragmentation(pool=world.pool, max_allocations_per_pass=1)
    errors: list[BaseException] = []
    passes: list[DefragmentationPass] = []

    def go() -> None:
        for _ in range(200):
            try:
                step = next(run, None)
                if step is None:
                    continue
                passes.append(step)
                for move in step.moves:
                    move.operation = "ignore"
            except (BufferError, UseAfterFreeError, InvalidArgumentError) as error:
                errors.append(error)

    threads = [threading.Thread(target=go) for _ in range(4)]
    for it in threads:
        it.start()
    for it in threads:
        it.join()
    assert passes
    known = ("at work", "the pass of the move has ended", "has no new handle")
    assert [it for it in errors if not any(text in str(it) for text in known)] == []
    run.end()


def test_a_layout_that_is_none(world: World) -> None:
    image = world.allocator.create_image(37, (8, 8), ImageUsage.SAMPLED, movable=True)
    for wrong, kind in (
        ("x", InvalidArgumentError),
        (-1, InvalidArgumentError),
        (None, TypeError),
        (5.0, TypeError),
    ):
        with pytest.raises(kind, match="layout"):
            image.layout = wrong  # type: ignore[assignment]
    with pytest.raises(InvalidArgumentError, match="no VkImageLayout"):
        image.layout = 1 << 31
    image.destroy()
    with pytest.raises(UseAfterFreeError):
        image.layout = 1


def test_all_of_it_after_the_end(make_simulated: Callable[..., SimulatedDevice]) -> None:
    world = World(make_simulated("discrete-8gib"))
    run, step, move = world.run, world.step, world.move
    buffer: Buffer = next(iter(world.contents))
    world.allocator.destroy_many([*world.contents, world.fixed])
    world.allocator.close()
    world.other.destroy_many([world.foreign])
    world.other.close()
    for call in (
        *(world.allocator.defragment, world.allocator.defragment_step),
        *(world.allocator.begin_defragmentation, move.destination.create_buffer),
        lambda: world.allocator.on_move(None),
        lambda: next(run),
        lambda: step.record(5),
        lambda: setattr(move, "operation", "copy"),
        lambda: buffer.generation,
    ):
        refused(UseAfterFreeError, "closed|ended|destroyed", call)
    run.end()
    run.__exit__(None, None, None)
    assert run.statistics.allocations_moved == 0
    assert world.device.violations == [] and world.device.live_memory_objects == 0
