"""Margins and quarantine of what moves, is lost, is shared, is used by threads; VMA's tests."""

from __future__ import annotations

import random
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any

import pytest
from overruns import COHERENT, by_host, host_flags, intruder, not_filled, pool_of, reachable_types
from support import LOSABLE, MAPPED, RANDOM, RGBA8, TAKES, TRANSFER, WRITE, pattern
from systems import needs_descriptors

import vk_mem
from vk_mem import (
    Allocator,
    Buffer,
    BufferUsage,
    CorruptionError,
    CorruptionWarning,
    Debug,
    Device,
    FeatureNotPresentError,
    ImageUsage,
    OutOfDeviceMemoryError,
    SimulatedDevice,
)

KIB, MIB = 1 << 10, 1 << 20
DETECT = Debug(detect_corruption=True)
ALL = Debug(fill="pattern", fill_on_free="nan", detect_corruption=True, quarantine="64K")


def caught(call: Callable[[], object]) -> CorruptionError:
    with pytest.raises(CorruptionError) as found:
        call()
    return found.value


# ---- moves ----


def scattered(allocator: Allocator, **keywords: Any) -> list[Buffer]:
    """Movable buffers with gaps between them, each with contents of its own."""
    its = [
        allocator.create_buffer(4 * KIB, TRANSFER, movable=True, name=f"{index}", **keywords)
        for index in range(64)
    ]
    for it in its[::2]:
        it.destroy()
    kept = its[1::2]
    for index, it in enumerate(kept):
        it.upload(pattern(4 * KIB, index))
    return kept


@contextmanager
def tidied(device: Device, index: int, debug: Debug) -> Iterator[tuple[Any, ...]]:
    """Buffers to be moved together, behind one that stays and keeps the block mapped if the host
    can see it, through which others are overrun then."""
    flags = host_flags(device, index)
    with (
        Allocator(device, debug=debug) as allocator,
        allocator.create_pool(memory_type_index=index, block_size=MIB, max_block_count=1) as pool,
        allocator.create_buffer(256, TRANSFER, pool=pool, flags=flags) as stays,
    ):
        kept = scattered(allocator, pool=pool, flags=flags & ~MAPPED)
        properties = device.memory_properties.memory_types[index].property_flags
        if properties & COHERENT != COHERENT:
            yield allocator, pool, kept, None
        else:
            with by_host(stays) as flip:
                start = stays.allocation.offset
                beside = lambda it, offset: flip(it.allocation.offset - start + offset)  # noqa: E731
                yield allocator, pool, kept, beside
        allocator.destroy_many(kept)


@pytest.mark.parametrize("quarantine", [None, "1M"])
def test_moves_carry_margins(device: Device, quarantine: Any) -> None:
    debug = Debug(detect_corruption=True, quarantine=quarantine, fill="zero")
    for index in reachable_types(device):
        with tidied(device, index, debug) as (allocator, pool, kept, flip):
            before = pool.check_corruption()
            moved = allocator.defragment(pool=pool).allocations_moved
            assert moved > 0 or quarantine
            # What moved left memory that is in quarantine, if there is one: contents and margins.
            assert pool.check_corruption() == before + (3 * moved if quarantine else 0)
            for number, it in enumerate(kept):
                assert bytes(it.download()) == pattern(4 * KIB, number)
            if flip is not None:
                flip(kept[-1], 4 * KIB)
                error = caught(pool.check_corruption)
                assert (error.offset, error.allocation) == (4 * KIB, kept[-1])
                flip(kept[-1], 4 * KIB)
                flip(kept[-1], -1)
                error = caught(kept[-1].destroy)
                assert (error.offset, error.name) == (-1, "63")


def test_margins_of_what_moved_hold_in_memory_that_is_not_coherent() -> None:
    device = SimulatedDevice("non-coherent")
    with Allocator(device, debug=Debug(detect_corruption=True)) as allocator:
        old = allocator.create_buffer(64 * KIB, TRANSFER, flags=RANDOM, data=b"\1" * 64 * KIB)
        its = [
            allocator.create_buffer(
                size, TRANSFER, flags=RANDOM, movable=True, data=pattern(size, size)
            )
            for size in (4 * KIB, 100, 5000, 1)
        ]
        # The host still sees its bytes where the margins of others will be.
        old.destroy()
        assert allocator.defragment().allocations_moved >= 4
        assert allocator.check_corruption() == 8
        assert [bytes(it.download()) for it in its] == [pattern(it.size, it.size) for it in its]
        assert allocator.check_corruption() == 8
        allocator.destroy_many(its)
    assert not device.violations


def test_what_was_overrun_before_a_move_is_found(device: Device) -> None:
    for index in reachable_types(device):
        with tidied(device, index, DETECT) as (allocator, pool, kept, flip):
            if flip is None:
                continue
            count = pool.check_corruption()
            flip(kept[-1], 4 * KIB)
            error = caught(lambda: allocator.defragment(pool=pool))
            assert (error.offset, error.name) == (4 * KIB, "63")
            assert error.allocation is kept[-1]
            assert pool.check_corruption() == count


@pytest.mark.parametrize("copies", ["slides", "protocol"])
def test_other_ways_to_move(device: Device, copies: str) -> None:
    debug = Debug(detect_corruption=True, quarantine="8K", fill="zero", fill_on_free="nan")
    index = reachable_types(device)[0]
    with (
        Allocator(device, debug=debug, frames_in_flight=0) as allocator,
        allocator.create_pool(memory_type_index=index, block_size=MIB) as pool,
    ):
        keywords: dict[str, Any] = {"pool": pool, "movable": True}
        first = allocator.create_buffer(20 * KIB, TRANSFER, **keywords)
        large = allocator.create_buffer(200 * KIB, TRANSFER, name="large", **keywords)
        large.upload(pattern(200 * KIB))
        first.destroy()
        if copies == "slides":
            allocator.defragment(pool=pool)
        else:
            with allocator.begin_defragmentation(pool=pool) as run:
                for step in run:
                    for move in step.moves:
                        target = move.destination.create_buffer()
                        assert target
                        move.operation = "ignore"
        allocator.check_corruption()
        assert bytes(large.download()) == pattern(200 * KIB)
        large.destroy()
        allocator.set_current_frame_index(1)
        allocator.check_corruption()


# ---- losses ----


@needs_descriptors
def test_what_is_lost_is_checked(simulated: SimulatedDevice) -> None:
    with (
        Allocator(simulated, debug=DETECT, frames_in_flight=0) as allocator,
        pool_of(allocator, 0) as pool,
    ):
        its = [
            allocator.create_buffer(64 * KIB, TRANSFER, pool=pool, flags=LOSABLE, name=name)
            for name in "abcd"
        ]
        with intruder(its[1], simulated) as flip:
            flip(64 * KIB)
        allocator.set_current_frame_index(1)
        error = caught(pool.make_allocations_lost)
        assert (error.offset, error.name) == (64 * KIB, "b")
        assert all(it.is_lost for it in its)
        assert pool.check_corruption() == 0


@needs_descriptors
def test_what_makes_others_lost_reports(simulated: SimulatedDevice) -> None:
    with (
        Allocator(simulated, debug=DETECT, frames_in_flight=0) as allocator,
        pool_of(allocator, 0) as pool,
    ):
        old = allocator.create_buffer(600 * KIB, TRANSFER, pool=pool, flags=LOSABLE, name="old")
        with intruder(old, simulated) as flip:
            flip(-3)
        allocator.set_current_frame_index(1)
        with pytest.warns(CorruptionWarning, match="'old'.* 3 bytes before its start"):
            new = allocator.create_buffer(600 * KIB, TRANSFER, pool=pool, flags=TAKES)
        assert old.is_lost
        assert pool.check_corruption() == 2
        new.destroy()


# ---- quarantine ----


def test_quarantine_of_frames(device: Device) -> None:
    index = reachable_types(device)[0]
    with (
        Allocator(device, debug=Debug(quarantine="2 frames")) as allocator,
        pool_of(allocator, index) as pool,
        ExitStack() as stack,
    ):
        # Freed after the memory was exported.
        stack.enter_context(not_filled(device))
        stays = stack.enter_context(allocator.create_buffer(256, TRANSFER, pool=pool))
        flip = stack.enter_context(intruder(stays, device))
        freed = allocator.create_buffer(256, TRANSFER, pool=pool, name="freed")
        place = freed.allocation.offset - stays.allocation.offset
        freed.destroy()
        assert pool.check_corruption() == 1
        allocator.set_current_frame_index(1)
        assert pool.check_corruption() == 1
        flip(place + 9)
        error = caught(lambda: allocator.set_current_frame_index(2))
        assert (error.offset, error.name, error.region) == (9, "freed", "freed")
        assert pool.check_corruption() == 0
        with pytest.raises(vk_mem.UseAfterFreeError):
            freed.write(b"x")


def test_a_full_pool_ends_the_quarantine(device: Device) -> None:
    index = reachable_types(device)[0]
    with (
        Allocator(device, debug=Debug(quarantine="64M")) as allocator,
        pool_of(allocator, index) as pool,
    ):
        for _ in range(20):
            allocator.create_buffer(300 * KIB, TRANSFER, pool=pool).destroy()
        assert 1 <= pool.check_corruption() <= 3


# ---- VMA's tests ----


@pytest.mark.parametrize("algorithm", ["tlsf", "linear"])
def test_debug_margin_of_vma(device: Device, algorithm: str) -> None:
    for index in reachable_types(device):
        flags = host_flags(device, index)
        if not flags:
            continue
        for margin in (4, 16, 256):
            debug = Debug(margin=margin, detect_corruption=True)
            with (
                Allocator(device, debug=debug) as allocator,
                pool_of(allocator, index, algorithm=algorithm) as pool,
            ):
                sizes = [256 * (at + 1) for at in range(10)]
                its = [
                    allocator.create_buffer(size, TRANSFER, pool=pool, flags=flags)
                    for size in sizes
                ]
                its[-1].write(b"\xff" * sizes[-1])
                places = sorted((it.allocation.offset, it.allocation.size) for it in its)
                for (start, size), (after, _) in pairwise(places):
                    assert after >= start + size + margin
                assert allocator.check_corruption() == 20
                assert pool.check_corruption() == 20
                assert allocator.build_stats_string()
                with pytest.raises(OutOfDeviceMemoryError):
                    allocator.create_buffer(MIB - margin // 2, TRANSFER, pool=pool)
                with intruder(its[3], device) as flip:
                    flip(its[3].allocation.size)
                    for check in (allocator.check_corruption, pool.check_corruption):
                        assert caught(check).allocation is its[3]
                    flip(its[3].allocation.size + 1)
                    caught(its[3].destroy)
                allocator.destroy_many(its)
                assert allocator.check_corruption() == 0


def test_memory_that_is_not_checked_of_vma(device: Device) -> None:
    types = len(device.memory_properties.memory_types)
    with Allocator(device, debug=DETECT) as allocator:
        assert allocator.check_corruption(0xFFFFFFFF) == 0
        with pytest.raises(FeatureNotPresentError):
            allocator.check_corruption(0xFFFFFFFF << types & 0xFFFFFFFF)


# ---- sharing ----


def test_an_alias_has_no_margin_of_its_own(device: Device) -> None:
    with Allocator(device, debug=ALL) as allocator:
        base = allocator.create_buffer(4 * KIB, TRANSFER, flags=RANDOM)
        base.write(pattern(4 * KIB))
        count = allocator.check_corruption()
        alias = allocator.create_aliasing_buffer(base, KIB, TRANSFER, local_offset=0)
        assert allocator.check_corruption() == count
        alias.destroy()
        assert base.read() == pattern(4 * KIB)
        base.destroy()


def test_transfers_and_images(device: Device) -> None:
    with Allocator(device, debug=ALL) as allocator, vk_mem.Transfers(allocator) as transfers:
        usage = ImageUsage.TRANSFER_SRC | ImageUsage.TRANSFER_DST | ImageUsage.SAMPLED
        for round_ in range(3):
            image = allocator.create_image(RGBA8, (32, 32), usage)
            buffer = allocator.create_buffer(64 * KIB, TRANSFER)
            data = pattern(64 * KIB, round_)
            upload = transfers.upload(data, buffer)
            image.upload(pattern(32 * 32 * 4, round_))
            upload.wait()
            assert bytes(buffer.download()) == data
            assert bytes(image.download()) == pattern(32 * 32 * 4, round_)
            allocator.check_corruption()
            image.destroy()
            buffer.retire()
            allocator.set_current_frame_index(round_ + 1)
        allocator.check_corruption()


def test_a_device_without_a_queue_says_once_what_is_left_out(real_device: Device) -> None:
    wrapped = Device.wrap(
        real_device.instance,
        real_device.physical_device,
        real_device.handle,
        api_version=real_device.api_version,
        extensions=real_device.extensions,
    )
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        allocator = Allocator(wrapped, debug=ALL)
        its = [allocator.create_image(RGBA8, (16, 16), ImageUsage.SAMPLED) for _ in range(3)]
        its += [allocator.create_buffer(256, BufferUsage.VERTEX_BUFFER) for _ in range(3)]
        allocator.destroy_many(its)
        allocator.close()
    texts = [str(it.message) for it in told if it.category is CorruptionWarning]
    assert len(texts) == len(set(texts))
    assert len(texts) <= 2


# ---- threads, programs ----


def test_threads(simulated: SimulatedDevice) -> None:
    debug = Debug(detect_corruption=True, quarantine="16K", fill=0x11, fill_on_free=0x22)
    failures: list[BaseException] = []
    with Allocator(simulated, debug=debug) as allocator:

        def run(seed: int) -> None:
            rng = random.Random(seed)
            try:
                its: list[Buffer] = []
                for _ in range(60):
                    flags = rng.choice([RANDOM, WRITE | MAPPED, vk_mem.AllocationCreateFlags(0)])
                    its.append(
                        allocator.create_buffer(rng.randrange(1, 9000), TRANSFER, flags=flags)
                    )
                    if len(its) > 5:
                        its.pop(rng.randrange(len(its))).destroy()
                    if rng.random() < 0.1:
                        allocator.check_corruption()
                allocator.destroy_many(its)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for frame in range(20):
            allocator.set_current_frame_index(frame)
        for thread in threads:
            thread.join()
        assert failures == []
        allocator.check_corruption()


@needs_descriptors
def test_found_by_a_thread_raised_there(simulated: SimulatedDevice) -> None:
    with Allocator(simulated, debug=DETECT) as allocator, pool_of(allocator, 0) as pool:
        its = [allocator.create_buffer(256, TRANSFER, pool=pool, name=name) for name in "ab"]
        found: list[CorruptionError] = []
        with intruder(its[1], simulated) as flip:
            flip(256)
        thread = threading.Thread(target=lambda: found.append(caught(its[1].destroy)))
        thread.start()
        its[0].destroy()
        thread.join()
        assert [it.name for it in found] == ["b"]


@pytest.mark.parametrize("check", ["free", "frame", "call"])
@pytest.mark.parametrize("seed", range(2))
def test_a_random_program_with_all_of_it_on(device: Device, check: Any, seed: int) -> None:
    """Contents stay, nothing is reported, nothing is left."""
    rng = random.Random(seed)
    debug = Debug(
        fill="nan",
        fill_on_free="pattern",
        detect_corruption=True,
        quarantine="32K",
        check=check,
        min_granularity=1024,
    )
    with (
        Allocator(device, debug=debug, frames_in_flight=1, track_call_sites=2) as allocator,
        allocator.create_buffer(256, TRANSFER) as like,
        allocator.create_pool(
            memory_type_index=like.allocation.memory_type_index, block_size=MIB, algorithm="buddy"
        ) as pool,
    ):
        shadow: dict[Buffer, bytes] = {}
        frame = 0
        for _ in range(40):
            action = rng.randrange(8)
            if action < 4 or not shadow:
                size = rng.choice([1, 100, 256, 1000, 5000])
                keywords: dict[str, Any] = rng.choice(
                    [{}, {"pool": pool}, {"flags": RANDOM}, {"flags": WRITE}, {"movable": True}]
                )
                buffer = allocator.create_buffer(size, TRANSFER, **keywords)
                shadow[buffer] = pattern(size, len(shadow))
                buffer.upload(shadow[buffer])
            elif action == 4:
                allocator.set_current_frame_index(frame := frame + 1)
            elif action == 5:
                allocator.defragment_step(MIB)
            else:
                buffer = rng.choice(list(shadow))
                assert bytes(buffer.download()) == shadow.pop(buffer)
                (buffer.destroy if rng.random() < 0.5 else buffer.retire)()
        for buffer, data in shadow.items():
            assert bytes(buffer.download()) == data
        allocator.check_corruption()
        allocator.destroy_many(list(shadow))
        allocator.validate()
