"""One wrong byte is found in each memory type, with each algorithm, and the figures are exact."""

from __future__ import annotations

from typing import Any

import pytest
from overruns import BLOCK, by_host, host_flags, intruder, not_filled, pool_of, reachable_types
from support import DEDICATED, IMAGE_TRANSFER, MAPPED, RANDOM, RGBA8, TRANSFER, is_simulated

import vk_mem
from vk_mem import (
    Allocator,
    Buffer,
    CorruptionError,
    Debug,
    Device,
    FeatureNotPresentError,
    MemoryPropertyFlags,
    Pool,
    SimulatedDevice,
)

ALGORITHMS = ["tlsf", "linear", "buddy"]
DETECT = Debug(detect_corruption=True)
KEPT = Debug(detect_corruption=True, quarantine="1M")


def found_by(check: Any) -> CorruptionError:
    with pytest.raises(CorruptionError) as caught:
        check()
    return caught.value


def three(allocator: Allocator, pool: Pool, index: int) -> list[Buffer]:
    flags = host_flags(allocator.device, index)
    return [
        allocator.create_buffer(256, TRANSFER, pool=pool, name=name, flags=flags) for name in "abc"
    ]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_byte_beside_a_buffer(device: Device, algorithm: str) -> None:
    for index in reachable_types(device):
        with (
            Allocator(device, debug=DETECT) as allocator,
            pool_of(allocator, index, algorithm=algorithm) as pool,
        ):
            its = three(allocator, pool, index)
            middle = its[1]
            with intruder(middle, device) as flip:
                assert pool.check_corruption() == 6
                for offset, region in [
                    (256, "behind"),
                    (271, "behind"),
                    (-1, "before"),
                    (-16, "before"),
                ]:
                    wrong = flip(offset)
                    for check in (pool.check_corruption, allocator.check_corruption):
                        error = found_by(check)
                        where = (error.offset, error.length, error.count, error.region)
                        assert where == (offset, 1, 1, region), index
                        assert error.found[:1] == wrong
                        assert error.expected[0] == wrong[0] ^ 0xFF
                        assert error.allocation is middle
                        assert error.name == "b"
                        assert error.memory_type_index == index
                        neighbours = [error.before.allocation, error.after.allocation]
                        assert neighbours == [its[0], its[2]]
                        assert error.before.offset < error.record.offset < error.after.offset
                        assert error.record.offset == middle.allocation.offset
                        assert error.others == ()
                    flip(offset)
                assert pool.check_corruption() == 6
                flip(257)
                error = found_by(middle.destroy)
                assert (error.offset, error.count, error.allocation) == (257, 1, middle)
                assert len(error.found) == len(error.expected) == 1
                assert not middle.alive
                middle.destroy()
            assert pool.check_corruption() == 4
            its[0].destroy()
            its[2].destroy()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_byte_after_the_free(device: Device, algorithm: str) -> None:
    for index in reachable_types(device):
        with (
            Allocator(device, debug=KEPT, track_call_sites=4) as allocator,
            pool_of(allocator, index, algorithm=algorithm) as pool,
        ):
            its = three(allocator, pool, index)
            with intruder(its[1], device, through=its[2]) as flip:
                allocator.set_current_frame_index(3)
                its[1].destroy()
                assert pool.check_corruption() == 4 + 3
                for offset in (0, 100, 255):
                    wrong = flip(offset)
                    error = found_by(pool.check_corruption)
                    assert (error.offset, error.length, error.count) == (offset, 1, 1), index
                    assert (error.found[:1], error.region) == (wrong, "freed")
                    assert error.expected[:1] == b"\xef"
                    assert (error.name, error.record.frame, error.record.freed_frame) == ("b", 0, 3)
                    assert "in three" in (error.call_site or "")
                    assert "in test_one_byte_after_the_free" in (error.freed_at or "")
                    assert [error.before.name, error.after.name] == ["a", "c"]
                    flip(offset)
                flip(10, 3)
                # Others are found when they end; this one when its memory is given out again.
                with not_filled(device):
                    its[0].destroy()
                with pytest.warns(
                    vk_mem.CorruptionWarning, match="3 bytes were written after"
                ) as told:
                    block = allocator.create_buffer(
                        BLOCK - 4096 if algorithm != "buddy" else BLOCK // 4, TRANSFER
                    )
                    its[2].destroy()
                    block.destroy()
                    pool.close()
                assert len(told) == 1


def test_dedicated_memory(device: Device) -> None:
    for index in reachable_types(device):
        flags = host_flags(device, index)
        visible = device.memory_properties.memory_types[index].property_flags
        with Allocator(device, debug=KEPT) as allocator:
            keywords: dict[str, Any] = {"memory_type_bits": 1 << index, "flags": DEDICATED | flags}
            buffer = allocator.create_buffer(256, TRANSFER, name="alone", **keywords)
            if not visible & MemoryPropertyFlags.HOST_COHERENT:
                assert allocator.check_corruption(1 << index) in (0, 2)
                buffer.destroy()
                continue
            with by_host(buffer) as flip:
                if allocator.check_corruption(1 << index) == 0:
                    # The driver wants the memory for this buffer alone, in its exact size.
                    assert is_simulated(device)
                    buffer.destroy()
                    continue
                for offset in (256, -1):
                    flip(offset)
                    error = found_by(lambda: allocator.check_corruption())
                    assert (error.offset, error.count, error.allocation) == (offset, 1, buffer)
                    assert (error.before, error.after) == (None, None)
                    flip(offset)
                buffer.destroy()
                flip(7)
                error = found_by(lambda: allocator.check_corruption())
                assert (error.offset, error.region, error.name) == (7, "freed", "alone")
                flip(7)


def test_many_wrong_bytes_and_many_places(allocator: Allocator, device: Device) -> None:
    index = reachable_types(device)[-1]
    flags = host_flags(device, index)
    with (
        Allocator(device, debug=DETECT) as allocator,
        pool_of(allocator, index) as pool,
    ):
        its = allocator.create_buffers([256] * 200, TRANSFER, pool=pool, flags=flags)
        with intruder(its[0], device) as flip:
            flip(256, 16)
            error = found_by(pool.check_corruption)
            assert (error.offset, error.length, error.count) == (256, 16, 16)
            assert (len(error.found), len(error.expected)) == (16, 16)
            flip(256, 16)
            flip(257, 1)
            flip(270, 2)
            error = found_by(pool.check_corruption)
            assert (error.offset, error.length, error.count) == (257, 15, 3)
            base = its[0].allocation.offset
            for it in its[1:]:
                flip(it.allocation.offset - base - 2, 2)
            error = found_by(pool.check_corruption)
            assert len(error.others) == 99
            more = "and 199 more places (the first 99 in CorruptionError.others)"
            assert str(error).endswith(more)
            assert [it.allocation for it in error.others[:50]] == its[1:51]
            # More of each, as the rest was told.
            flip(260)
            for it in its[1:]:
                flip(it.allocation.offset - base - 3)
            error = found_by(lambda: allocator.destroy_many(its))
            assert "and 199 more places" in str(error)
            assert not any(it.alive for it in its)


# ---- fills ----


@pytest.mark.parametrize(
    ("fill", "byte"), [("pattern", 0xDC), ("zero", 0), ("nan", 0xFF), (0x5A, 0x5A)]
)
def test_new_and_freed_memory_is_filled(device: Device, fill: Any, byte: int) -> None:
    freed = {0xDC: 0xEF}.get(byte, byte)
    for index in reachable_types(device):
        flags = host_flags(device, index)
        with (
            Allocator(device, debug=Debug(fill=fill, fill_on_free=fill)) as allocator,
            pool_of(allocator, index) as pool,
            allocator.create_buffer(256, TRANSFER, pool=pool, flags=flags) as stays,
            intruder(stays, device) as flip,
        ):
            its = [
                allocator.create_buffer(size, TRANSFER, pool=pool, flags=flags)
                for size in (255, 256, 1000, 65536)
            ]
            places = [it.allocation.offset - stays.allocation.offset for it in its]
            # Before the first flip, which exports the memory.
            its[1].destroy()
            its[3].destroy()
            for at in (1, 3):
                assert flip(places[at], 16) == bytes([freed ^ 0xFF]) * 16, (index, at)
            for at in (0, 2):
                size = its[at].size
                new = bytes([byte ^ 0xFF]) * size
                assert flip(places[at], size) == new, (index, size)
            with not_filled(device):
                its[2].destroy()
            its[0].destroy()


def test_nan_is_not_a_number_in_each_format(device: Device) -> None:
    numpy = pytest.importorskip("numpy")
    with (
        Allocator(device, debug=Debug(fill="nan")) as allocator,
        allocator.create_buffer(256, TRANSFER, flags=RANDOM) as buffer,
    ):
        for dtype in ("float16", "float32", "float64"):
            assert numpy.isnan(numpy.frombuffer(buffer.read(), dtype)).all()


def test_data_of_the_program_is_not_overwritten(device: Device) -> None:
    debug = Debug(fill="pattern", fill_on_free="zero", detect_corruption=True, quarantine="1M")
    with Allocator(device, debug=debug) as allocator:
        data = bytes(range(256))
        with allocator.create_buffer(data=data, buffer_usage=TRANSFER) as buffer:
            assert bytes(buffer.download()) == data
        with (
            allocator.create_buffer(256, TRANSFER, flags=RANDOM | MAPPED) as base,
            allocator.create_aliasing_buffer(base, 128, TRANSFER) as alias,
        ):
            base.write(data)
            assert alias.size == 128
            alias.destroy()
            with allocator.create_aliasing_buffer(base, 128, TRANSFER):
                pass
            assert base.read() == data
            assert allocator.check_corruption() >= 2


def test_images_have_margins_and_contents(device: Device) -> None:
    debug = Debug(fill="zero", fill_on_free="nan", detect_corruption=True, quarantine=1 << 20)
    with Allocator(device, debug=debug) as allocator:
        image = allocator.create_image(RGBA8, (16, 16), IMAGE_TRANSFER)
        assert allocator.check_corruption() in (0, 2)
        image.destroy()
        assert allocator.check_corruption() in (0, 1, 3)


# ---- what cannot be checked ----


def test_without_debugging_nothing_can_be_checked(device: Device) -> None:
    debugs = (Debug(), Debug(fill="zero"), Debug(margin=16), Debug(min_granularity=1024))
    for debug in debugs:
        with (
            Allocator(device, debug=debug) as allocator,
            pool_of(allocator, reachable_types(device)[0]) as pool,
        ):
            for check in (allocator.check_corruption, pool.check_corruption):
                with pytest.raises(FeatureNotPresentError, match="nothing can be checked"):
                    check()


def test_memory_types_without_anything_to_check(device: Device) -> None:
    types = reachable_types(device)
    with Allocator(device, debug=Debug()) as allocator:
        with pool_of(allocator, types[0], debug=DETECT) as pool:
            assert pool.check_corruption() == 0
            assert allocator.check_corruption() == 0
            assert allocator.check_corruption(1 << types[0]) == 0
            for bits in (0, ~(1 << types[0]) & 0xFFFFFFFF):
                with pytest.raises(FeatureNotPresentError):
                    allocator.check_corruption(bits)
        with pytest.raises(FeatureNotPresentError):
            allocator.check_corruption()
    with Allocator(device, debug=DETECT) as allocator:
        with pytest.raises(FeatureNotPresentError):
            allocator.check_corruption(1 << 31)
        with (
            pool_of(allocator, types[0], debug=Debug()) as pool,
            pytest.raises(FeatureNotPresentError),
        ):
            pool.check_corruption()


@pytest.mark.parametrize("bits", [-1, 1 << 32, "all", 1.5])
def test_wrong_bits(simulated: SimulatedDevice, bits: Any) -> None:
    with (
        Allocator(simulated, debug=DETECT) as allocator,
        pytest.raises((TypeError, ValueError), match="memory_type_bits"),
    ):
        allocator.check_corruption(bits)
