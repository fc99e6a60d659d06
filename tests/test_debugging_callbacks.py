"""Callbacks of `on_corruption` that check, raise, or end what was damaged; many faults at once."""

from __future__ import annotations

import ctypes
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support import MAPPED, RANDOM, TRANSFER

import vk_mem
from vk_mem import Allocator, Buffer, CorruptionError, CorruptionWarning, Debug, SimulatedDevice

DETECT = Debug(detect_corruption=True)


@pytest.fixture(params=["nvidia-h200", "discrete-8gib"])
def device(request: pytest.FixtureRequest, make_simulated: Any) -> SimulatedDevice:
    device: SimulatedDevice = make_simulated(request.param)
    return device


def make(allocator: Allocator, count: int = 1, **keywords: Any) -> list[Buffer]:
    return allocator.create_buffers([256] * count, TRANSFER, flags=RANDOM | MAPPED, **keywords)


def address_of(buffer: Buffer) -> int:
    mapping = buffer.map()
    address = mapping.address
    mapping.close()
    return address


def overrun(buffer: Buffer, offset: int = 256) -> None:
    ctypes.memset(address_of(buffer) + offset, 0, 1)


@pytest.mark.parametrize("check", ["free", "frame", "call"])
def test_a_check_inside_of_it_raises_without_another_call(
    device: SimulatedDevice, check: Any
) -> None:
    with Allocator(device, debug=Debug(detect_corruption=True, check=check)) as allocator:
        its = make(allocator, 3)
        addresses = [address_of(it) for it in its]
        depth, most, inside = 0, 0, []

        @allocator.on_corruption
        def again(error: CorruptionError) -> None:
            nonlocal depth, most
            depth, most = depth + 1, max(most, depth + 1)
            try:
                allocator.check_corruption()
            except CorruptionError as found:
                inside.append(len(found.others))
            finally:
                depth -= 1

        for address in addresses:
            ctypes.memset(address + 256, 0, 1)
        with pytest.raises(CorruptionError) as caught:
            allocator.check_corruption()
        assert (most, inside, len(caught.value.others)) == (1, [2, 2, 2], 2)
        # Other threads have a call of their own.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(pytest.raises, CorruptionError, allocator.check_corruption).result()
        assert (most, len(inside)) == (1, 6)
        allocator.destroy_many(its)


def test_two_allocators_that_check_each_other(device: SimulatedDevice) -> None:
    calls = []
    with Allocator(device, debug=DETECT) as one, Allocator(device, debug=DETECT) as other:
        for mine, their in ((one, other), (other, one)):

            def check(error: CorruptionError, their: Allocator = their) -> None:
                calls.append(error.name)
                with pytest.raises(CorruptionError):
                    their.check_corruption()

            mine.on_corruption(check)
        its = make(one, name="one") + make(other, name="other")
        for it in its:
            overrun(it)
        with pytest.raises(CorruptionError):
            one.check_corruption()
        assert calls == ["one", "other"]
        for it in its:
            it.destroy()


@pytest.mark.parametrize("ends", ["resource", "all", "pool", "allocator"])
@pytest.mark.parametrize("call", ["check", "destroy", "frame"])
def test_it_ends_what_was_damaged(
    device: SimulatedDevice, ends: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda it: printed.append(it.exc_value))
    check: Any = "frame" if call == "frame" else "free"
    debug = Debug(detect_corruption=True, check=check, quarantine="64K")
    allocator = Allocator(device, debug=debug)
    pool = allocator.create_pool(
        like=((256, TRANSFER), vk_mem.AllocationCreateInfo(flags=RANDOM | MAPPED))
    )
    its = make(allocator, 3, pool=pool)
    overrun(its[1])

    @allocator.on_corruption
    def end(error: CorruptionError) -> None:
        assert error.allocation in (its[1], None)
        if ends == "resource":
            its[1].destroy()
        elif ends == "all":
            allocator.destroy_many(its)
        elif ends == "pool":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                pool.close()
        else:
            allocator.close()

    with pytest.raises(CorruptionError) as caught:
        if call == "check":
            allocator.check_corruption()
        elif call == "destroy":
            its[1].destroy()
        else:
            allocator.set_current_frame_index(1)
    assert caught.value.offset == 256
    # The call that has found it uses the allocator.
    assert [type(it) for it in printed] == [BufferError] * (ends == "allocator")
    assert its[0].alive == (ends in ("resource", "allocator"))
    assert pool.closed == (ends == "pool")
    allocator.on_corruption(None)
    allocator.destroy_many(its)
    allocator.close()


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit])
def test_what_is_no_error_leaves_the_call(device: SimulatedDevice, raised: Any) -> None:
    with Allocator(device, debug=DETECT) as allocator:
        its = make(allocator, 2)
        told = []

        @allocator.on_corruption
        def stop(error: CorruptionError) -> None:
            told.append(error)
            if len(told) == 1:
                raise raised

        for it in its:
            overrun(it)
        with pytest.raises(raised) as caught:
            allocator.destroy_many(its)
        # All of it was done and told.
        assert len(told) == 2 and not any(it.alive for it in its)
        assert caught.value.__context__ is told[0]


def test_an_interrupt_while_errors_are_made_loses_none(
    device: SimulatedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Allocator(device, debug=DETECT) as allocator:
        its = make(allocator, 2)
        overrun(its[0])

        def stop(*arguments: object, **keywords: object) -> None:
            raise KeyboardInterrupt

        for call in (its[0].destroy, allocator.check_corruption):
            with monkeypatch.context() as patch:
                patch.setattr(CorruptionError, "__init__", stop)
                with pytest.raises(KeyboardInterrupt):
                    call()
            # The next call of this thread tells it.
            with pytest.raises(CorruptionError) as caught:
                (its[1].destroy if its[1].alive else allocator.check_corruption)()
            assert (caught.value.offset, caught.value.others) == (256, ())
            if call != allocator.check_corruption:
                its = make(allocator, 2)
                overrun(its[0])
                its[1].destroy()
        for it in its:
            it.destroy()


def test_many_faults_take_linear_time(make_simulated: Any) -> None:
    """Each is looked up and told by itself; the text tells of some."""

    def seconds(count: int) -> float:
        with Allocator(make_simulated("discrete-8gib"), debug=DETECT) as allocator:
            its = make(allocator, count)
            for it in its:
                overrun(it)
            begin = time.process_time()
            with pytest.raises(CorruptionError) as caught:
                allocator.check_corruption()
            assert len(caught.value.others) == 99
            assert len(str(caught.value)) < 2000
            allocator.destroy_many(its)
            return time.process_time() - begin

    few = min(seconds(500) for _ in range(2))
    # Sixteen times as many: quadratic would be 256 times as long.
    assert seconds(8000) < 64 * max(few, 0.01)


def test_a_fault_among_many_is_looked_up_at_once(make_simulated: Any) -> None:
    """A free that tells of damage takes not much longer than others among many neighbours."""

    def seconds(is_damaged: bool) -> float:
        with Allocator(make_simulated("discrete-8gib"), debug=DETECT) as allocator:
            its = make(allocator, 6000)
            for it in its:
                if is_damaged:
                    overrun(it)
            begin, told = time.process_time(), 0
            for it in its:
                try:
                    it.destroy()
                except CorruptionError:
                    told += 1
            assert told == len(its) * is_damaged
            return time.process_time() - begin

    assert seconds(True) < 6 * max(seconds(False), 0.1)


def test_many_faults_of_freed_memory_take_linear_time(make_simulated: Any) -> None:
    def seconds(count: int) -> float:
        debug = Debug(detect_corruption=True, quarantine="64M")
        with Allocator(make_simulated("discrete-8gib"), debug=debug) as allocator:
            its = make(allocator, count)
            addresses = [address_of(it) for it in its]
            allocator.destroy_many(its)
            for address in addresses:
                ctypes.memset(address + 8, 0, 1)
            begin = time.process_time()
            with pytest.raises(CorruptionError):
                allocator.check_corruption()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CorruptionWarning)
                allocator.close()
            return time.process_time() - begin

    few = min(seconds(500) for _ in range(2))
    assert seconds(8000) < 64 * max(few, 0.01)
