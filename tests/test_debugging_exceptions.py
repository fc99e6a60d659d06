"""What a fault does to an exception that is on its way, and how often it is told."""

from __future__ import annotations

import gc
import warnings
from typing import Any

import pytest
from overruns import by_host
from support import MAPPED, RANDOM, TRANSFER

import vk_mem
from vk_mem import Allocator, Buffer, CorruptionError, CorruptionWarning, Debug, SimulatedDevice

DETECT = Debug(detect_corruption=True)


@pytest.fixture
def device(make_simulated: Any) -> SimulatedDevice:
    """Its memory for the host is coherent, so that the host can overwrite it by its address."""
    made: SimulatedDevice = make_simulated("discrete-8gib")
    return made


def make(allocator: Allocator) -> Buffer:
    return allocator.create_buffer(256, TRANSFER, flags=RANDOM | MAPPED)


def overrun(buffer: Buffer, offset: int = 256) -> None:
    with by_host(buffer) as flip:
        flip(offset)


@pytest.mark.parametrize("is_heard", [False, True])
def test_the_exception_of_the_program_leaves_a_with_block(
    device: SimulatedDevice, is_heard: bool
) -> None:
    heard: list[CorruptionError] = []
    with Allocator(device, debug=DETECT) as allocator:
        if is_heard:
            allocator.on_corruption(heard.append)
        with (
            warnings.catch_warnings(record=True) as told,
            pytest.raises(ValueError, match="mine"),
            make(allocator) as buffer,
        ):
            warnings.simplefilter("always")
            overrun(buffer)
            overrun(buffer, -1)
            raise ValueError("mine")
        assert not buffer.alive
        assert len(heard) == (2 if is_heard else 0)
        kinds = [it.category for it in told]
        assert kinds == ([] if is_heard else [CorruptionWarning] * 2)


def test_an_exception_that_is_handled_is_the_context(device: SimulatedDevice) -> None:
    with Allocator(device, debug=DETECT) as allocator:
        buffer, mine = make(allocator), ValueError("mine")
        overrun(buffer)
        with pytest.raises(CorruptionError) as caught:
            try:
                raise mine
            finally:
                buffer.destroy()
        assert caught.value.__context__ is mine
        with pytest.raises(vk_mem.UseAfterFreeError) as other:
            try:
                raise mine
            finally:
                buffer.read()
        assert other.value.__context__ is mine


@pytest.mark.parametrize("is_failing", [False, True])
def test_a_block_ends_although_its_call_is_checked(
    device: SimulatedDevice, is_failing: bool
) -> None:
    debug = Debug(detect_corruption=True, check="call")
    with Allocator(device, debug=debug) as allocator:
        buffer = make(allocator)
        pool = allocator.create_pool(memory_type_index=0)
        expected: Any = KeyError if is_failing else CorruptionError
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            with pytest.raises(expected), pool:
                overrun(buffer)
                if is_failing:
                    raise KeyError
        assert pool.closed
        assert [it.category for it in told] == [CorruptionWarning] * is_failing
        buffer.destroy()


@pytest.mark.parametrize("quarantine", [None, "1M"])
@pytest.mark.parametrize("check", ["free", "frame", "call"])
def test_each_fault_is_told_once(device: SimulatedDevice, check: Any, quarantine: Any) -> None:
    debug = Debug(detect_corruption=True, check=check, quarantine=quarantine)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Allocator(device, debug=debug) as allocator:
            buffer = make(allocator)
            allocator.calculate_statistics()
            overrun(buffer)
            if check == "call":
                with pytest.raises(CorruptionError):
                    allocator.calculate_statistics()
            for _ in range(2):
                with pytest.raises(CorruptionError):
                    allocator.check_corruption()
            allocator.set_current_frame_index(1)
            allocator.calculate_statistics()
            overrun(buffer, 258)
            with pytest.raises(CorruptionError) as caught:
                buffer.destroy()
            assert (caught.value.length, caught.value.count) == (3, 2)
            assert caught.value.found is not None and len(caught.value.found) == 3
            allocator.set_current_frame_index(2)
    gc.collect()
