"""Lists of arrays: uploads that share a job, in what order they arrive, and how they fail."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from support import RANDOM, TRANSFER, pattern

from vk_mem import (
    Allocator,
    DeviceLostError,
    OutOfDeviceMemoryError,
    SimulatedDevice,
    Transfers,
    VkMemError,
)

RING = 64 << 10
# What one submission, and one job of a list, takes of such a ring.
TOGETHER = RING // 4


@pytest.mark.parametrize("completion", ["at once", "when waited"])
@pytest.mark.parametrize("profile", SimulatedDevice.profile_names())
def test_lists_of_all_kinds_of_arrays(make_simulated: Any, profile: str, completion: Any) -> None:
    device = make_simulated(profile)
    device.set_completion(completion)
    random = np.random.default_rng(3)
    with Allocator(device) as allocator, Transfers(allocator, RING) as transfers:
        for sizes in (
            [1] * 50,
            [0, 3, 0, 70_001, 64, 65, 0],
            [TOGETHER, TOGETHER + 1, TOGETHER - 64, 64, 64, 1],
            random.integers(0, 3000, 200).tolist(),
        ):
            arrays: list[Any] = [random.integers(0, 256, it, np.uint8) for it in sizes]
            # Every third one is not contiguous.
            arrays = [
                np.repeat(it, 2)[::2] if number % 3 == 2 else it for number, it in enumerate(arrays)
            ]
            buffers = [
                allocator.create_buffer(max(it, 1), TRANSFER, flags=RANDOM * (number % 7 == 6))
                for number, it in enumerate(sizes)
            ]
            begun = transfers.upload_many(arrays, buffers)
            assert [it.nbytes for it in begun] == sizes
            for array, buffer, transfer in zip(arrays, buffers, begun, strict=True):
                assert transfer.result() is None and transfer.done()
                assert (buffer.download(size=array.size) == array).all()
            assert transfers.stats().bytes_up >= sum(sizes)
            assert transfers.wait() and transfers.stats().in_flight == 0
            allocator.destroy_many(buffers)


def test_later_items_of_a_list_stay(allocator: Allocator) -> None:
    with Transfers(allocator, RING) as transfers:
        buffer = allocator.create_buffer(4096, TRANSFER)
        arrays = [pattern(1000, it) for it in range(40)]
        offsets = [it * 77 for it in range(40)]
        expected = np.zeros(4096, np.uint8)
        transfers.upload(expected, buffer).result()
        for array, offset in zip(arrays, offsets, strict=True):
            expected[offset : offset + 1000] = np.frombuffer(array, np.uint8)
        for _ in range(2):
            transfers.upload_many(arrays, [buffer] * 40, offsets)
            assert (buffer.download() == expected).all()
        transfers.wait()
        buffer.destroy()


def test_a_list_in_a_batch(make_simulated: Any) -> None:
    device = make_simulated("discrete-8gib")
    with Allocator(device) as allocator, Transfers(allocator, RING) as transfers:
        buffers = allocator.create_buffers([512] * 20, TRANSFER)
        with transfers.batch():
            first = transfers.upload(pattern(512, 99), buffers[3])
            begun = transfers.upload_many([pattern(512, it) for it in range(20)], buffers)
            assert transfers.stats().submits == 0 and not begun[0].done()
            assert "512 bytes" in repr(begun[7]) and "in flight" in repr(begun[7])
        assert transfers.stats().submits == 1
        assert begun[7].done() and begun[19].done() and first.done()
        assert buffers[3].download().tobytes() == pattern(512, 3)
        allocator.destroy_many(buffers)


@pytest.mark.parametrize(
    ("vk_result", "expected"), [(-2, OutOfDeviceMemoryError), (-4, DeviceLostError)]
)
def test_a_submission_of_a_list_fails(vk_result: int, expected: type[VkMemError]) -> None:
    """Those that it had fail, and no others."""
    count = 2 * TOGETHER // 512
    device = SimulatedDevice("non-coherent")
    with Allocator(device) as allocator, Transfers(allocator, RING) as transfers:
        buffers = allocator.create_buffers([512] * count, TRANSFER)
        arrays = [pattern(512, it) for it in range(count)]
        device.fail_next("vkQueueSubmit", vk_result=vk_result)
        errors = [it.exception() for it in transfers.upload_many(arrays, buffers)]
        assert {type(it) for it in errors[: count // 2]} == {expected}
        assert errors[count // 2 :] == [None] * (count // 2)
        device.clear_failures()
        for transfer in transfers.upload_many(arrays, buffers):
            transfer.result()
        assert [it.download().tobytes() for it in buffers] == arrays
        allocator.destroy_many(buffers)
    assert device.violations == []


def test_each_call_of_the_driver_fails_in_a_list() -> None:
    failures = 0
    for number in range(40):
        device = SimulatedDevice("non-coherent")
        device.set_completion("when waited")
        with Allocator(device) as allocator, Transfers(allocator, RING) as transfers:
            buffers = allocator.create_buffers([300] * 200, TRANSFER)
            arrays = [pattern(300, it) for it in range(200)]
            before = device.fallible_call_count
            device.fail_call(number, -2)
            errors = [it.exception() for it in transfers.upload_many(arrays, buffers)]
            made = device.fallible_call_count - before
            device.clear_failures()
            failures += any(errors)
            assert all(it is None or isinstance(it, VkMemError) for it in errors)
            for transfer in transfers.upload_many(arrays, buffers):
                transfer.result()
            assert [it.download().tobytes() for it in buffers] == arrays
            allocator.destroy_many(buffers)
        assert device.violations == []
        assert (device.live_memory_objects, device.live_buffers) == (0, 0)
        if number >= made:
            break
    assert failures >= 3


def test_what_has_ended_is_let_go(make_simulated: Any) -> None:
    """An array that was handed out is its caller's alone, without another call."""
    device = make_simulated("discrete-8gib")
    with Allocator(device) as allocator, Transfers(allocator, RING) as transfers:
        buffer = allocator.create_buffer(200_000, TRANSFER)
        array = transfers.download(buffer).result()
        seen = weakref.ref(array)
        del array
        assert seen() is None
        begun = transfers.upload_many([b"1234"] * 3, [buffer] * 3, [0, 4, 8])
        assert not any(gc.is_tracked(it) for it in begun), "they lead nowhere"
        assert gc.is_tracked(transfers.download(buffer))
        transfers.wait()
        buffer.destroy()
