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


@pytest.mark.parametrize("completion", ["at once", "when waited"])
@pytest.mark.parametrize("profile", SimulatedDevice.profile_names())
def test_downloads_of_lists(make_simulated: Any, profile: str, completion: Any) -> None:
    device = make_simulated(profile)
    device.set_completion(completion)
    random = np.random.default_rng(4)
    with Allocator(device) as allocator, Transfers(allocator, RING) as transfers:
        for sizes in (
            [1] * 50,
            [3, 70_001, 64, 65],
            [TOGETHER, TOGETHER + 1, TOGETHER - 64, 64, 64, 1],
            random.integers(1, 3000, 200).tolist(),
        ):
            contents = [random.integers(0, 256, it, np.uint8) for it in sizes]
            buffers = [
                allocator.create_buffer(it, TRANSFER, flags=RANDOM * (number % 7 == 6))
                for number, it in enumerate(sizes)
            ]
            transfers.upload_many(contents, buffers)
            outs = [np.zeros(it, np.uint8) for it in sizes]
            begun = transfers.download_many(buffers, outs=outs)
            assert [it.nbytes for it in begun] == sizes
            for number in reversed(range(len(sizes))):
                assert begun[number].result() is outs[number]
                assert (outs[number] == contents[number]).all()
            # Arrays that the library makes, and a wait for all of them.
            begun = transfers.download_many(buffers)
            assert transfers.wait() and transfers.stats().in_flight == 0
            assert all(it.done() for it in begun)
            for transfer, content in zip(begun, contents, strict=True):
                assert (transfer.result() == content).all()
            allocator.destroy_many(buffers)


def test_downloads_of_a_list_see_what_was_uploaded_before(make_simulated: Any) -> None:
    device = make_simulated("discrete-8gib")
    device.set_completion("when waited")
    with Allocator(device) as allocator, Transfers(allocator, RING) as transfers:
        buffers = allocator.create_buffers([128] * 20, TRANSFER)
        with transfers.batch():
            transfers.upload_many([pattern(128, it) for it in range(20)], buffers)
            first = transfers.download_many(buffers, np.uint8)
            transfers.upload_many([pattern(128, it + 50) for it in range(20)], buffers)
            second = transfers.download_many(buffers, np.uint8)
            assert transfers.stats().submits == 0
        assert transfers.stats().submits == 1 and transfers.stats().in_flight == 80
        with pytest.raises(BufferError):
            buffers[13].destroy()
        assert [it.result().tobytes() for it in first] == [pattern(128, it) for it in range(20)]
        expected = [pattern(128, it + 50) for it in range(20)]
        assert [it.result().tobytes() for it in second] == expected
        allocator.destroy_many(buffers)
    assert device.violations == []


def test_arrays_of_downloads_are_held_until_they_are_filled(make_simulated: Any) -> None:
    device = make_simulated("discrete-8gib")
    device.set_completion("when waited")
    with Allocator(device) as allocator, Transfers(allocator, RING) as transfers:
        buffers = allocator.create_buffers([512] * 20, TRANSFER)
        transfers.upload_many([pattern(512, it) for it in range(20)], buffers)
        outs = [bytearray(512) for _ in range(20)]
        del transfers.download_many(buffers, outs=outs)[:]
        with pytest.raises(BufferError):
            outs[7].append(1)
        assert transfers.wait()
        assert outs == [pattern(512, it) for it in range(20)]
        outs[7].append(1)
        allocator.destroy_many(buffers)


def test_each_call_of_the_driver_fails_in_a_list_of_downloads() -> None:
    failures = 0
    for number in range(40):
        device = SimulatedDevice("non-coherent")
        device.set_completion("when waited")
        with Allocator(device) as allocator, Transfers(allocator, RING) as transfers:
            buffers = allocator.create_buffers([300] * 200, TRANSFER)
            arrays = [pattern(300, it) for it in range(200)]
            transfers.upload_many(arrays, buffers)
            transfers.wait()
            before = device.fallible_call_count
            device.fail_call(number, -2)
            begun = transfers.download_many(buffers)
            errors = [it.exception() for it in begun]
            made = device.fallible_call_count - before
            device.clear_failures()
            failures += any(errors)
            for transfer, error, array in zip(begun, errors, arrays, strict=True):
                assert error is None or isinstance(error, VkMemError)
                assert error is not None or transfer.result().tobytes() == array
            again = transfers.download_many(buffers)
            assert [it.result().tobytes() for it in again] == arrays
            allocator.destroy_many(buffers)
        assert device.violations == []
        assert (device.live_memory_objects, device.live_buffers) == (0, 0)
        if number >= made:
            break
    assert failures >= 3


@pytest.mark.parametrize("size", [4 << 10, 1 << 20])
def test_the_queue_of_a_list_is_that_of_its_largest_array(make_simulated: Any, size: int) -> None:
    """To change the owner of each buffer pays for large arrays, not for many small ones."""
    device = make_simulated("nvidia-h200")
    count = (2 << 20) // size
    with Allocator(device) as allocator, Transfers(allocator) as transfers:
        buffers = allocator.create_buffers([size] * count, TRANSFER)
        arrays = [np.full(size, it % 251, np.uint8) for it in range(count)]
        transfers.upload_many(arrays, buffers)
        backs = transfers.download_many(buffers, np.uint8)
        for array, back in zip(arrays, backs, strict=True):
            assert (back.result() == array).all()
        assert (transfers.stats().on_transfer_queue > 0) == (size >= 1 << 20)
        assert "transfer queue" in transfers.explain(arrays[0], buffers[0]) or size < 1 << 20
        allocator.destroy_many(buffers)


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
