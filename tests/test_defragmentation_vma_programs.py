"""What VMA's own tests of defragmentation check, through Python: `d2` to `d10` are
`TestDefragmentationVsMapping`, `...Algorithms`, `...Full`, `...Gpu`, `...IncrementalBasic`,
`...IncrementalComplex`, a part of `TestPool_SameSize`, `...WholePool`, and what VMA 2 had.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support import MAPPED, RANDOM, RGBA8, TRANSFER, check_statistics, is_simulated
from test_defragmentation import like
from test_defragmentation_vma_behaviours import (
    K64,
    KIB,
    MIB,
    NOTHING,
    all_above_zero,
    check_contents,
    every_second_of_two_blocks,
    filled,
    host_pool,
    make_moves,
    place,
    random_bytes,
    write_again,
    written_again,
)
from test_image_transfers import create, texels

from vk_mem import (
    AllocationCreateFlags,
    Allocator,
    Buffer,
    Device,
    Image,
    ImageUsage,
    SimulatedDevice,
)

ALGORITHMS = ["fast", "balanced", "full", "extensive"]


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
