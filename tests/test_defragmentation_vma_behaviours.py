"""What VMA's own tests of defragmentation check, through Python: `d0` is the protocol, `d1` is
`TestDefragmentationSimple`; `test_defragmentation_vma_programs.py` has the others.

Where VMA's program makes the copies, these do it by `begin_defragmentation`; what that copies is
compared where the device is simulated. `defragment` copies by itself on all devices.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from support import MAPPED, RANDOM, TRANSFER, Check, check_statistics, is_simulated
from test_defragmentation import like

from vk_mem import (
    Allocator,
    Buffer,
    Defragmentation,
    DefragmentationStatistics,
    Device,
    FeatureNotPresentError,
    Image,
    InvalidArgumentError,
    Pool,
)

ALGORITHMS = ["fast", "balanced", "full", "extensive"]
KIB, MIB = 1 << 10, 1 << 20
K64 = 64 * KIB
NOTHING = DefragmentationStatistics(0, 0, 0, 0, {})


def random_bytes(size: int, seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def host_pool(allocator: Allocator, block_size: int, **keywords: Any) -> Pool:
    """A pool of memory that the host reads and writes."""
    return allocator.create_pool(
        memory_type_index=like(allocator, RANDOM), block_size=block_size, **keywords
    )


def filled(buffers: Iterable[Buffer]) -> dict[Buffer, bytes]:
    """Writes to each; returns what."""
    contents = {it: random_bytes(it.size, seed) for seed, it in enumerate(buffers)}
    for it, data in contents.items():
        it.write(data)
    return contents


def every_second_of_two_blocks(allocator: Allocator, pool: Pool) -> dict[Buffer, bytes]:
    """Eight buffers of 64 KiB in two blocks with room for eight each."""
    made = [
        allocator.create_buffer(K64, TRANSFER, pool=pool, flags=RANDOM, movable=True)
        for _ in range(16)
    ]
    assert pool.statistics().block_count == 2
    contents = filled(made)
    for it in made[::2]:
        it.destroy()
        del contents[it]
    return contents


def check_contents(allocator: Allocator, contents: dict[Buffer, bytes]) -> None:
    check = Check(allocator)
    for it, data in contents.items():
        assert it.read() == data
        assert check.read(it) == data
    check_statistics(allocator)


def place(it: Any) -> tuple[int, int]:
    """Where a buffer, an image or an allocation is."""
    at = getattr(it, "allocation", it)
    return at.device_memory, at.offset


def make_moves(
    device: Device,
    run: Defragmentation,
    ignores: Callable[[Any], bool] = lambda _: False,
    most: int | None = None,
) -> list[Any]:
    """Goes through the passes, and copies; returns what was ignored."""
    ignored = []
    for number, step in enumerate(run):
        for move in step.moves:
            resource = move.resource
            if ignores(resource):
                move.operation = "ignore"
                ignored.append(resource)
            elif isinstance(resource, Image):
                move.destination.create_image()
            elif isinstance(resource, Buffer):
                handle = move.destination.create_buffer()
                if is_simulated(device):
                    device.submit_copy(resource.handle, handle, resource.size)  # type: ignore[attr-defined]
        if most is not None and number + 1 == most:
            next(run, None)
            break
    return ignored


def written_again(device: Device, contents: dict[Buffer, bytes]) -> None:
    """Writes what a program that moves by the protocol has not copied on a driver."""
    if not is_simulated(device):
        for it, data in contents.items():
            it.write(data)


def write_again(resources: Iterable[Any], contents: dict[Any, Any]) -> None:
    """Writes what was moved without a copy."""
    for it in resources:
        if isinstance(it, Image):
            it.layout = "UNDEFINED"  # type: ignore[assignment]
        it.upload(contents[it])


def all_above_zero(done: DefragmentationStatistics) -> bool:
    return all(figure > 0 for figure in done[:4])


class TestD0Protocol:
    def test_d0_1_begin_takes_all_default_pools_or_one(self, allocator: Allocator) -> None:
        """Without a pool each memory type by itself; a limit of 0 is none; no linear pool."""
        with host_pool(allocator, 8 * K64) as pool, host_pool(allocator, 8 * K64) as other:
            contents = every_second_of_two_blocks(allocator, pool)
            others = every_second_of_two_blocks(allocator, other)
            with allocator.begin_defragmentation(algorithm="full") as run:
                assert list(run) == []
            places = [place(it) for it in others]
            with allocator.begin_defragmentation(
                pool=pool, max_bytes_per_pass=0, max_allocations_per_pass=0
            ) as run:
                step = next(run)
                assert len(step.moves) == 4
                assert {it.resource for it in step.moves} <= set(contents)
            assert [place(it) for it in others] == places
            allocator.destroy_many([*contents, *others])
        index = like(allocator)
        with (
            allocator.create_pool(memory_type_index=index, algorithm="linear") as linear,
            pytest.raises(FeatureNotPresentError, match="linear"),
        ):
            allocator.begin_defragmentation(pool=linear)

    def test_d0_2_a_pass_has_moves_or_is_the_end(self, allocator: Allocator) -> None:
        with host_pool(allocator, 8 * K64) as pool:
            contents = every_second_of_two_blocks(allocator, pool)
            with allocator.begin_defragmentation(pool=pool, max_allocations_per_pass=3) as run:
                counts = []
                for step in run:
                    counts.append(len(step.moves))
                    for move in step.moves:
                        move.destination.create_buffer()
                assert counts[0] == 3 and 0 not in counts
                assert list(run) == []
            allocator.destroy_many(contents)

    def test_d0_3_a_destination_is_reserved_and_like_its_source(self, allocator: Allocator) -> None:
        with host_pool(allocator, 8 * K64) as pool:
            contents = every_second_of_two_blocks(allocator, pool)
            with allocator.begin_defragmentation(pool=pool) as run:
                step = next(run)
                taken = {}
                for move in step.moves:
                    source, to = move.source, move.destination
                    assert move.operation == "copy"
                    assert place(move.resource) == (source.device_memory, source.offset)
                    assert to.size == source.size
                    assert (to.device_memory, to.offset) != place(move.resource)
                    assert to.offset % 16 == 0
                    taken[to.device_memory, to.offset] = to.size
                young = []
                # What is left of the two blocks, and no more.
                while pool.statistics().block_count == 2 and len(young) < 8:
                    young.append(allocator.create_buffer(K64, TRANSFER, pool=pool, flags=RANDOM))
                for it in young:
                    at = it.allocation
                    for (memory, offset), size in taken.items():
                        apart = at.offset + at.size <= offset or offset + size <= at.offset
                        assert at.device_memory != memory or apart
                allocator.destroy_many(young)
            allocator.destroy_many(contents)

    def test_d0_4_and_5_operations_decide_where_each_is(self, allocator: Allocator) -> None:
        """COPY: at the new place, the old one is free; IGNORE: where it was; DESTROY: gone."""
        with host_pool(allocator, 8 * K64) as pool:
            contents = every_second_of_two_blocks(allocator, pool)
            with allocator.begin_defragmentation(pool=pool, algorithm="full") as run:
                step = next(run)
                copied, ignored, destroyed, *rest = step.moves
                ignored.operation, destroyed.operation = "ignore", "destroy"
                for move in (copied, *rest):
                    move.destination.create_buffer()
                to = (copied.destination.device_memory, copied.destination.offset)
                stays = place(ignored.resource)
                before = pool.statistics().allocation_count
                # The destinations of four moves.
                assert before == len(contents) + len(step.moves)
                next(run, None)
                assert place(copied.resource) == to and place(ignored.resource) == stays
                assert not destroyed.resource.alive
            assert pool.statistics().allocation_count == len(contents) - 1
            check_statistics(allocator)
            allocator.destroy_many([it for it in contents if it.alive])

    def test_d0_6_statistics_count_copies_alone(self, allocator: Allocator) -> None:
        with host_pool(allocator, 8 * K64) as pool:
            contents = every_second_of_two_blocks(allocator, pool)
            with allocator.begin_defragmentation(pool=pool, algorithm="full") as run:
                assert run.statistics == NOTHING
                step = next(run)
                copied, ignored, destroyed, *rest = step.moves
                for move in (ignored, *rest):
                    move.operation = "ignore"
                destroyed.operation = "destroy"
                copied.destination.create_buffer()
                for step in run:
                    for move in step.moves:
                        move.operation = "ignore"
                done = run.statistics
            assert (done.allocations_moved, done.bytes_moved) == (1, K64)
            allocator.destroy_many([it for it in contents if it.alive])

    def test_d0_7_only_the_place_changes(self, allocator: Allocator) -> None:
        with host_pool(allocator, 8 * K64) as pool:
            contents = every_second_of_two_blocks(allocator, pool)
            for index, it in enumerate(contents):
                it.name, it.user_data = f"vertices {index}", ("data", index)
            before = [(it.allocation.size, it.allocation.memory_type_index) for it in contents]
            places = [place(it) for it in contents]
            with allocator.begin_defragmentation(pool=pool) as run:
                make_moves(allocator.device, run)
            for index, it in enumerate(contents):
                assert (it.name, it.user_data) == (f"vertices {index}", ("data", index))
            assert before == [
                (it.allocation.size, it.allocation.memory_type_index) for it in contents
            ]
            changed = [it.generation > 0 for it in contents]
            assert sum(changed) == 4
            assert changed == [place(it) != at for it, at in zip(contents, places, strict=True)]
            written_again(allocator.device, contents)
            check_contents(allocator, contents)
            allocator.destroy_many(contents)

    def test_d0_8_others_may_allocate_and_free_at_any_time(self, allocator: Allocator) -> None:
        """Also what is in the list of moves, which VMA forbids."""
        with host_pool(allocator, 8 * K64) as pool:
            contents = every_second_of_two_blocks(allocator, pool)
            young: list[Buffer] = []

            def make_another() -> None:
                young.append(
                    allocator.create_buffer(
                        3 * KIB, TRANSFER, pool=pool, flags=RANDOM, movable=True
                    )
                )

            with allocator.begin_defragmentation(pool=pool, algorithm="full") as run:
                make_another()
                for step in run:
                    make_another()
                    for move in step.moves:
                        move.destination.create_buffer()
                    gone = step.moves[0].resource
                    if len(contents) > 5 and gone in contents:
                        gone.destroy()
                        del contents[gone]  # type: ignore[arg-type]
                    make_another()
                    if len(young) > 8:
                        young.pop(0).destroy()
            check_statistics(allocator)
            assert pool.statistics().allocation_count == len(contents) + len(young)
            allocator.destroy_many([*contents, *young])

    def test_d0_9_one_algorithm_of_four(self, allocator: Allocator) -> None:
        for algorithm in [*ALGORITHMS, None]:
            with allocator.begin_defragmentation(algorithm=algorithm) as run:  # type: ignore[arg-type]
                assert list(run) == []
        for wrong in ("", "fast full", "best"):
            with pytest.raises(InvalidArgumentError, match="algorithm is"):
                allocator.begin_defragmentation(algorithm=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("flags", [RANDOM, RANDOM | MAPPED], ids=["unmapped", "mapped"])
class TestD1Simple:
    def test_d1_1_an_empty_pool(self, allocator: Allocator, flags: int) -> None:
        with host_pool(allocator, 8 * K64) as pool:
            with allocator.begin_defragmentation(pool=pool, algorithm="fast") as run:
                assert list(run) == []
                assert run.statistics == NOTHING
            assert allocator.defragment(pool=pool, algorithm="fast") == NOTHING
            with allocator.create_buffer(K64, TRANSFER, pool=pool, flags=flags, movable=True):
                assert allocator.defragment(pool=pool, algorithm="fast") == NOTHING

    def test_d1_2_half_of_two_blocks(self, allocator: Allocator, flags: int) -> None:
        with host_pool(allocator, 8 * K64) as pool:
            made = [
                allocator.create_buffer(K64, TRANSFER, pool=pool, flags=flags, movable=True)
                for _ in range(16)
            ]
            contents = filled(made)
            for it in made[::2]:
                it.destroy()
                del contents[it]
            done = allocator.defragment(pool=pool, algorithm="fast")
            assert (done.allocations_moved, done.bytes_moved) == (4, 4 * K64)
            check_contents(allocator, contents)
            allocator.destroy_many(contents)

    def test_d1_3_one_move_a_pass(self, allocator: Allocator, flags: int) -> None:
        with host_pool(allocator, 8 * K64) as pool:
            made = [
                allocator.create_buffer(K64, TRANSFER, pool=pool, flags=flags, movable=True)
                for _ in range(16)
            ]
            contents = filled(made)
            for it in made[1::2]:
                it.destroy()
                del contents[it]
            with allocator.begin_defragmentation(
                pool=pool, algorithm="fast", max_bytes_per_pass=K64, max_allocations_per_pass=1
            ) as run:
                make_moves(allocator.device, run, most=4)
                assert (run.statistics.allocations_moved, run.statistics.bytes_moved) == (
                    4,
                    4 * K64,
                )
            written_again(allocator.device, contents)
            check_contents(allocator, contents)
            allocator.destroy_many(contents)

    def test_d1_4_random_sizes_some_ignored(self, allocator: Allocator, flags: int) -> None:
        chance = random.Random(flags)
        with host_pool(allocator, 8 * K64) as pool:
            made = [
                allocator.create_buffer(
                    chance.randrange(32, 256 * KIB, 64),
                    TRANSFER,
                    pool=pool,
                    flags=flags,
                    movable=True,
                )
                for _ in range(100)
            ]
            contents = filled(made)
            for it in chance.sample(made, 60):
                it.destroy()
                del contents[it]
            places = {it: place(it) for it in contents}
            with allocator.begin_defragmentation(pool=pool, algorithm="fast") as run:
                stay = make_moves(allocator.device, run, lambda _: chance.random() < 0.2)
                assert run.statistics.allocations_moved > 0
            assert all(place(it) == places[it] or it.generation for it in stay)
            assert all(place(it) == places[it] for it in contents if it.generation == 0)
            written_again(allocator.device, contents)
            check_contents(allocator, contents)
            allocator.destroy_many(contents)

    def test_d1_5_a_move_to_a_place_that_overlaps_its_own(
        self, allocator: Allocator, flags: int
    ) -> None:
        with host_pool(allocator, 8 * K64) as pool:
            below = allocator.create_buffer(K64, TRANSFER, pool=pool, flags=flags)
            above = allocator.create_buffer(
                K64 + 256, TRANSFER, pool=pool, flags=flags & ~MAPPED, movable=True
            )
            contents = filled([above])
            assert above.allocation.offset >= K64
            below.destroy()
            done = allocator.defragment(pool=pool, algorithm="full")
            assert done.allocations_moved == 1 and done.bytes_moved > 0
            assert above.allocation.offset == 0
            check_contents(allocator, contents)
            above.destroy()
