"""What VMA's own tests of defragmentation check, through Python: `d0` is the protocol, `d1` to `d10`
are `TestDefragmentationSimple`, `...VsMapping`, `...Algorithms`, `...Full`, `...Gpu`,
`...IncrementalBasic`, `...IncrementalComplex`, a part of `TestPool_SameSize`, `...WholePool`, and the
interface of VMA 2.

Where VMA's program makes the copies, these do it by `begin_defragmentation`; what that copies is
compared where the device is simulated. `defragment` copies by itself on all devices.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from support import MAPPED, RANDOM, RGBA8, TRANSFER, Check, check_statistics, is_simulated
from test_defragmentation import like
from test_image_transfers import create, texels

from vk_mem import (
    AllocationCreateFlags,
    Allocator,
    Buffer,
    Defragmentation,
    DefragmentationStatistics,
    Device,
    FeatureNotPresentError,
    Image,
    ImageUsage,
    InvalidArgumentError,
    Pool,
    SimulatedDevice,
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
            with pytest.raises(InvalidArgumentError, match="named"):
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


def test_d2_mapping_moves_along(allocator: Allocator) -> None:
    """What is MAPPED moves and is mapped at its new place. What has an open view stays."""
    chance = random.Random(0)
    with host_pool(allocator, MIB, ignore_buffer_image_granularity=True) as pool:
        made = [
            allocator.create_buffer(
                K64,
                TRANSFER,
                pool=pool,
                flags=RANDOM | (MAPPED if chance.random() < 0.5 else 0),
                movable=True,
            )
            for _ in range(160)
        ]
        contents = filled(made)
        is_mapped = {it: it.mapped is not None for it in made}
        assert {*is_mapped.values()} == {True, False}
        for it in chance.sample(made, 107):
            it.destroy()
            del contents[it]
        viewed = chance.sample(list(contents), 3)
        views = {it: [it.map() for _ in range(chance.randrange(1, 4))] for it in viewed}
        stay = {it: place(it) for it in viewed}
        with allocator.begin_defragmentation(pool=pool, algorithm="extensive") as run:
            for step in run:
                assert not {it.resource for it in step.moves} & set(viewed)
                for move in step.moves:
                    if chance.random() < 0.2:
                        move.operation = "ignore"
                    else:
                        new = move.destination.create_buffer()
                        if is_simulated(allocator.device):
                            allocator.device.submit_copy(move.resource.handle, new, K64)  # type: ignore[attr-defined, union-attr]
            assert all_above_zero(run.statistics)
        written_again(allocator.device, contents)
        for it, data in contents.items():
            assert (it.mapped is not None) == is_mapped[it]
            if is_mapped[it]:
                it.invalidate()
                assert bytes(it.mapped) == data  # type: ignore[arg-type]
        assert {it: place(it) for it in viewed} == stay
        for it, open_ones in views.items():
            for view in open_ones:
                assert bytes(view) == contents[it]
                view.close()
        check_contents(allocator, contents)
        allocator.destroy_many(contents)


@pytest.mark.parametrize("share", [0, 0.2], ids=["all", "some ignored"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_d3_buffers_and_linear_images_of_one_pool(
    allocator: Allocator, algorithm: Any, share: float
) -> None:
    chance = random.Random(algorithm)
    with host_pool(allocator, 50 * (K64 + 256)) as pool:
        live: dict[Any, Any] = {}
        for index in range(100):
            size = chance.randrange(2 * KIB, 256 * KIB)
            buffer = allocator.create_buffer(size, TRANSFER, pool=pool, flags=RANDOM, movable=True)
            live[buffer] = random_bytes(size, index)
            buffer.write(live[buffer])
        for index in range(25):
            sides = chance.randrange(128, 257), chance.randrange(128, 257)
            image = create(
                allocator,
                "R8_UNORM",
                sides,
                image_usage=ImageUsage.SAMPLED,
                tiling="LINEAR",
                pool=pool,
                movable=True,
            )
            if image is not None:
                live[image] = texels(image, index)
                image.upload(live[image])
        for it in chance.sample(list(live), len(live) * 55 // 100):
            it.destroy()
            del live[it]
        if share:
            places = {it: place(it) for it in live}
            with allocator.begin_defragmentation(pool=pool, algorithm=algorithm) as run:
                for step in run:
                    for move in step.moves:
                        assert move.resource in live
                        assert move.resource.alive
                        # None is copied: where they are, and what is in them, stays.
                        move.operation = "ignore"
            assert {it: place(it) for it in live} == places
            movable = [it for it in live if chance.random() > share]
            with allocator.begin_defragmentation(pool=pool, algorithm=algorithm) as run:
                ignored = make_moves(allocator.device, run, lambda it: it not in movable)
                assert not any(it.generation for it in ignored)
                assert run.statistics.allocations_moved > 0
            not_copied = [it for it in live if it.generation]
            write_again(not_copied, live)
        done = allocator.defragment(pool=pool, algorithm=algorithm)
        assert done.allocations_moved > 0 or share
        for it, data in live.items():
            if isinstance(it, Buffer):
                assert it.read() == data
            else:
                assert (it.download() == data).all()
        assert allocator.build_stats_string()
        check_statistics(allocator)
        allocator.destroy_many(live)


def test_d4_default_pools_to_the_end(device: Device) -> None:
    chance = random.Random(4)
    blocks: dict[str, Any] = dict.fromkeys(
        ("preferred_block_size", "preferred_small_heap_block_size"), MIB
    )
    with Allocator(device, **blocks) as allocator:
        made = []
        for _ in range(400):
            low, high = (64 * KIB, 640 * KIB) if chance.random() < 1 / 16 else (64, K64)
            size = chance.randrange(low, high)
            made.append(allocator.create_buffer(size, TRANSFER, flags=RANDOM, movable=True))
        for it in chance.sample(made, 320):
            it.destroy()
        contents = filled([it for it in made if it.alive])
        done = allocator.defragment(algorithm="full")
        assert done.allocations_moved > 0 and done.device_memory_blocks_freed > 0
        check_contents(allocator, contents)
        allocator.destroy_many(contents)


def test_d5_device_memory(device: Device) -> None:
    """Sizes and blocks are a 64th of VMA's; 3 % of the buffers stay."""
    chance = random.Random(5)
    blocks: dict[str, Any] = dict.fromkeys(
        ("preferred_block_size", "preferred_small_heap_block_size"), 4 * MIB
    )
    with Allocator(device, **blocks) as allocator:
        made = [
            allocator.create_buffer(
                chance.randrange(5 * MIB // 64, 10 * MIB // 64, 16),
                TRANSFER,
                movable=chance.random() > 0.03,
            )
            for _ in range(153)
        ]
        contents = {}
        for seed, it in enumerate(made):
            if chance.random() < 0.7:
                it.destroy()
            else:
                contents[it] = random_bytes(it.size, seed)
                it.upload(contents[it])
        fixed = {it: place(it) for it in contents if not it.movable}
        done = allocator.defragment()
        assert all_above_zero(done)
        assert {it: place(it) for it in fixed} == fixed
        for it, data in contents.items():
            assert it.download().tobytes() == data
        check_statistics(allocator)
        allocator.destroy_many(contents)


def images_and_buffers(allocator: Allocator, chance: random.Random) -> dict[Any, Any]:
    """Sides of images, and bytes of buffers, are a sixteenth of VMA's; 70 % of them ended."""
    live: dict[Any, Any] = {}
    for _ in range(192):
        side = chance.choice([16, 32, 64])
        image = allocator.create_image(RGBA8, (side, side), ImageUsage.SAMPLED, movable=True)
        live[image] = np.full((side, side, 4), chance.randrange(256), np.uint8)
    for seed in range(24):
        size = chance.randrange(20 * KIB, 40 * KIB, 16)
        buffer = allocator.create_buffer(size, TRANSFER, movable=True)
        live[buffer] = np.frombuffer(random_bytes(size, seed), np.uint8)
    for it in chance.sample(list(live), len(live) * 7 // 10):
        it.destroy()
        del live[it]
    for it, data in live.items():
        it.upload(data)
    return live


def small_blocks(device: Device) -> Allocator:
    size = 256 * KIB
    return Allocator(device, preferred_block_size=size, preferred_small_heap_block_size=size)


def test_d6_images_and_buffers_pass_by_pass(device: Device) -> None:
    chance = random.Random(6)
    with small_blocks(device) as allocator:
        other = allocator.create_buffer(20 * KIB, TRANSFER)
        live = images_and_buffers(allocator, chance)
        stays = place(other)
        moved: list[int] = []
        done = allocator.defragment(progress=lambda it: moved.append(it.allocations_moved))
        assert all_above_zero(done) and moved[-1] == done.allocations_moved
        assert place(other) == stays
        assert any(it.generation for it in live if isinstance(it, Image))
        for it, data in live.items():
            assert (it.download() == data).all()
        allocator.destroy_many([*live, other])


def test_d7_what_is_created_meanwhile_may_move_later(device: Device) -> None:
    chance = random.Random(7)
    with small_blocks(device) as allocator:
        live = images_and_buffers(allocator, chance)
        young: list[Buffer] = []

        def more() -> None:
            for _ in range(min(chance.randrange(4), 100 - len(young))):
                size = chance.randrange(20 * KIB, 40 * KIB, 16)
                young.append(allocator.create_buffer(size, TRANSFER, movable=True))

        run = allocator.begin_defragmentation(algorithm="full", max_allocations_per_pass=8)
        more()
        with run:
            while (step := next(run, None)) is not None:
                more()
                for move in step.moves:
                    assert move.resource in live or move.resource in young
                    is_image = isinstance(move.resource, Image)
                    to = move.destination
                    to.create_image() if is_image else to.create_buffer()
                more()
            assert all_above_zero(run.statistics)
        assert young
        write_again(live, live)
        done = allocator.defragment(algorithm="full")
        assert not any(it.generation > 0 and not it.alive for it in young), done
        for it, data in live.items():
            assert (it.download() == data).all()
        check_statistics(allocator)
        allocator.destroy_many([*live, *young])


def test_d8_no_more_moves_than_empty_two_of_four_blocks(allocator: Allocator) -> None:
    """25 buffers in each of four blocks, of which 13, 12, 13 and 12 are left."""
    index = like(allocator)
    with allocator.create_pool(memory_type_index=index, block_size=25 * K64) as pool:
        made = [allocator.create_buffer(K64, TRANSFER, pool=pool, movable=True) for _ in range(100)]
        assert pool.statistics().block_count == 4
        allocator.destroy_many(made[1::2])
        done = allocator.defragment(pool=pool, algorithm="full")
        assert done.allocations_moved == 24
        # One that is empty may be kept.
        assert done.device_memory_blocks_freed >= 1
        allocator.trim()
        assert pool.statistics().block_count == 2
        allocator.destroy_many(made[::2])


def test_d9_a_pool_and_all_of_its_allocations_are_the_same_run(allocator: Allocator) -> None:
    done = []
    for names_all in (False, True):
        with host_pool(allocator, 8 * K64) as pool:
            contents = every_second_of_two_blocks(allocator, pool)
            with allocator.begin_defragmentation(
                list(contents) if names_all else (), pool=pool, algorithm="fast"
            ) as run:
                make_moves(allocator.device, run)
                done.append(run.statistics)
            written_again(allocator.device, contents)
            check_contents(allocator, contents)
            allocator.destroy_many(contents)
    assert done[0] == done[1]
    assert done[0].allocations_moved > 0 and done[0].bytes_moved > 0


class TestD10InterfaceOfVma2:
    def test_d10_only_what_is_listed_moves(self, allocator: Allocator) -> None:
        """They are not movable; `generation` says whether each moved, as VMA's array did."""
        with host_pool(allocator, 8 * K64) as pool:
            made = [
                allocator.create_buffer(K64, TRANSFER, pool=pool, flags=RANDOM) for _ in range(24)
            ]
            contents = filled(made)
            for it in made[::2]:
                it.destroy()
                del contents[it]
            listed = [*contents][4:8]
            places = {it: place(it) for it in contents}
            proposed = []
            with allocator.begin_defragmentation(listed, pool=pool, algorithm="full") as run:
                for step in run:
                    for move in step.moves:
                        proposed.append(move.resource)
                        handle = move.destination.create_buffer(K64, TRANSFER)
                        if is_simulated(allocator.device):
                            source = move.resource.handle  # type: ignore[union-attr]
                            allocator.device.submit_copy(source, handle, K64)  # type: ignore[attr-defined]
                assert run.statistics.allocations_moved == len(proposed) > 0
            assert set(proposed) <= set(listed)
            for it in contents:
                assert (place(it) != places[it]) == (it.generation > 0) == (it in proposed)
            written_again(allocator.device, contents)
            check_contents(allocator, contents)
            allocator.destroy_many(contents)

    @pytest.mark.parametrize("limit", ["allocations", "bytes"])
    def test_d10_each_of_four_calls_moves_one(self, allocator: Allocator, limit: str) -> None:
        """`maxAllocationsToMove` and `maxBytesToMove`."""
        with host_pool(allocator, 8 * K64) as pool:
            contents = every_second_of_two_blocks(allocator, pool)
            for number in range(1, 5):
                if limit == "bytes":
                    done = allocator.defragment(pool=pool, algorithm="fast", max_bytes=K64)
                else:
                    done = allocator.defragment_step(max_moves=1, pool=pool, algorithm="fast")
                    # Until the old place is released.
                    for frame in range(9 * number, 9 * number + 9):
                        allocator.set_current_frame_index(frame)
                assert done.allocations_moved == 1
                check_contents(allocator, contents)
            assert allocator.defragment(pool=pool, algorithm="fast").allocations_moved == 0
            allocator.destroy_many(contents)

    @pytest.mark.parametrize("way", ["bytes", "seconds"])
    def test_d10_a_limit_of_nothing_moves_nothing(self, allocator: Allocator, way: str) -> None:
        with host_pool(allocator, 8 * K64) as pool:
            contents = every_second_of_two_blocks(allocator, pool)
            limits: dict[str, Any] = {f"max_{way}": 0}
            assert allocator.defragment(pool=pool, **limits) == NOTHING
            check_contents(allocator, contents)
            allocator.destroy_many(contents)

    @pytest.mark.parametrize("is_visible", [True, False], ids=["host", "device"])
    def test_d10_the_library_copies_host_visible_and_other_memory(
        self, make_simulated: Callable[..., SimulatedDevice], is_visible: bool
    ) -> None:
        """VMA 2 had a limit for each; here both are copied by the device."""
        for profile in SimulatedDevice.profile_names():
            device = make_simulated(profile)
            with Allocator(device) as allocator:
                flags = RANDOM if is_visible else AllocationCreateFlags(0)
                index = like(allocator, flags)
                with allocator.create_pool(memory_type_index=index, block_size=8 * K64) as pool:
                    made = [
                        allocator.create_buffer(K64, TRANSFER, pool=pool, movable=True)
                        for _ in range(16)
                    ]
                    for seed, it in enumerate(made):
                        it.upload(random_bytes(K64, seed))
                    allocator.destroy_many(made[::2])
                    done = allocator.defragment(pool=pool, algorithm="fast")
                    assert done.allocations_moved == 4, profile
                    for seed, it in [*enumerate(made)][1::2]:
                        assert it.download().tobytes() == random_bytes(K64, seed), profile
                    allocator.destroy_many(made[1::2])
