"""Transfers in flight: ends, failures, threads, signals, forks, the end of the interpreter."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from support import MAPPED, RANDOM, TRANSFER, pattern, run_python

from vk_mem import (
    Allocator,
    Buffer,
    DeviceLostError,
    InvalidArgumentError,
    OutOfDeviceMemoryError,
    OutOfHostMemoryError,
    SimulatedDevice,
    Transfer,
    Transfers,
    UseAfterFreeError,
    VkMemError,
)

RING = 64 << 10


@pytest.fixture
def held(simulated: SimulatedDevice) -> Iterator[SimulatedDevice]:
    """A device that ends nothing before it is told to."""
    simulated.set_completion("held")
    yield simulated
    simulated.set_completion("at once")


def begun(allocator: Allocator) -> tuple[Transfers, Buffer, Transfer]:
    transfers = Transfers(allocator, RING)
    buffer = allocator.create_buffer(4096, TRANSFER, name="target")
    return transfers, buffer, transfers.upload(pattern(4096), buffer)


@pytest.mark.parametrize("way", ["destroy", "retire", "destroy_many"])
def test_a_resource_in_flight_is_not_destroyed(held: SimulatedDevice, way: str) -> None:
    with Allocator(held) as allocator:
        transfers, buffer, transfer = begun(allocator)
        end = {
            "destroy": buffer.destroy,
            "retire": buffer.retire,
            "destroy_many": lambda: allocator.destroy_many([buffer]),
        }[way]
        text = "Buffer 'target' .* a transfer of it is in flight; wait for it"
        with pytest.raises(BufferError, match=text):
            end()
        assert not transfer.done() and "in flight" in repr(transfer)
        assert not transfer.wait(0) and not transfer.wait(0.06)
        with pytest.raises(TimeoutError, match="has not ended"):
            transfer.result(timeout=0.01)
        with pytest.raises(TimeoutError):
            transfer.exception(timeout=0)
        assert not transfers.wait(0.01)
        assert held.complete_submissions() == 1 and held.pending_submissions == 0
        # Nobody has asked for its end.
        end()
        assert transfer.done() and transfer.result() is None
        transfers.close()


def test_a_download_in_flight(held: SimulatedDevice) -> None:
    with Allocator(held) as allocator:
        transfers, buffer, _ = begun(allocator)
        back = transfers.download(buffer)
        out = bytearray(100)
        second = transfers.download(buffer, out=out)
        with pytest.raises(BufferError, match="Existing exports"):
            out.clear()
        assert out == bytes(100)
        held.complete_submissions()
        with pytest.raises(BufferError, match="exports"):
            out.clear()
        buffer.destroy()
        assert back.result().tobytes() == pattern(4096)
        assert second.result() is out and out == pattern(100)
        out.clear()
        transfers.close()


def test_a_pool_with_transfers(held: SimulatedDevice) -> None:
    with Allocator(held) as allocator:
        pool = allocator.create_pool(memory_type_index=0)
        buffer = allocator.create_buffer(64, TRANSFER, pool=pool)
        with Transfers(allocator, RING) as transfers:
            transfers.upload(bytes(64), buffer)
            with pytest.raises(BufferError, match="cannot close the pool"):
                pool.close()
            held.complete_submissions()
            with pytest.warns(ResourceWarning, match="1 live object"):
                pool.close()


def test_close_waits(held: SimulatedDevice) -> None:
    allocator = Allocator(held)
    transfers, buffer, transfer = begun(allocator)
    back = transfers.download(buffer)
    with transfers.batch():
        pending = transfers.upload(pattern(64, 3), buffer)
        done = threading.Timer(0.2, held.set_completion, ["at once"])
        done.start()
        before = time.monotonic()
        with pytest.warns(ResourceWarning, match="Buffer 'target'"):
            allocator.close()
        assert time.monotonic() - before >= 0.15
    assert transfer.done() and pending.done() and pending.exception() is None
    assert back.result().tobytes() == pattern(4096)
    assert transfers.closed and "closed" in repr(transfers)
    with pytest.raises(UseAfterFreeError, match="the allocator is closed"):
        transfers.upload(bytes(4), buffer)
    done.join()


def test_transfers_close_while_others_go_on(held: SimulatedDevice) -> None:
    held.set_completion("when waited")
    with Allocator(held) as allocator:
        transfers, buffer, transfer = begun(allocator)
        other, second, _ = begun(allocator)
        batch = transfers.batch()
        transfers.close()
        transfers.close()
        assert transfer.done()
        for use in (
            lambda: transfers.upload(bytes(4), buffer),
            lambda: transfers.download(buffer),
            lambda: transfers.upload_many([], []),
            transfers.batch,
            transfers.flush,
            transfers.wait,
            transfers.stats,
            batch.__enter__,
        ):
            with pytest.raises(UseAfterFreeError, match="the transfers are closed"):
                use()
        assert other.download(second).result().tobytes() == pattern(4096)
        other.close()
        buffer.destroy()
        second.destroy()


def test_unclosed_transfers(simulated: SimulatedDevice) -> None:
    with Allocator(simulated) as allocator:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Transfers(allocator, RING)
        transfers, buffer, transfer = begun(allocator)
        transfer.wait()
        with pytest.warns(ResourceWarning, match="unclosed Transfers"):
            del transfers, transfer
            gc.collect()
        registered = allocator.transfers.register(np.zeros(9999, np.uint8))
        with pytest.warns(ResourceWarning, match="unclosed RegisteredArray of 9999 bytes"):
            del registered
            gc.collect()
        buffer.destroy()


ERRORS: dict[int, type[VkMemError]] = {
    -1: OutOfHostMemoryError,
    -2: OutOfDeviceMemoryError,
    -4: DeviceLostError,
}


@pytest.mark.parametrize("vk_result", ERRORS)
@pytest.mark.parametrize("size", [100, 300_000])
@pytest.mark.parametrize("way", ["ring", "direct"])
def test_each_call_of_the_driver_fails(size: int, vk_result: int, way: Any) -> None:
    """The error is the transfer's, nothing leaks, and the ring can be used afterwards."""
    data, failures = pattern(size), 0
    for number in range(40):
        device = SimulatedDevice("non-coherent")
        device.set_completion("when waited")
        with Allocator(device) as allocator, Transfers(allocator, RING) as transfers:
            flags = RANDOM if way == "direct" else 0
            buffer = allocator.create_buffer(size, TRANSFER, flags=flags)
            before = device.fallible_call_count
            device.fail_call(number, vk_result)
            up = transfers.upload(data, buffer, way=way)
            error = up.exception()
            if error is not None and way == "direct":
                # What was written is not flushed, and the device would not see it.
                device.clear_failures()
                transfers.upload(data, buffer, way=way).result()
            down = transfers.download(buffer, way="ring")
            second = down.exception()
            made = device.fallible_call_count - before
            device.clear_failures()
            for transfer, found in ((up, error), (down, second)):
                if found is None:
                    transfer.result()
                    continue
                failures += 1
                assert isinstance(found, VkMemError), found
                if vk_result == -4:
                    assert type(found) is DeviceLostError
                with pytest.raises(type(found)):
                    transfer.result()
                assert "failed" in repr(transfer)
            if error is None and second is None:
                assert down.result().tobytes() == data
            transfers.upload(data, buffer).result()
            assert transfers.download(buffer).result().tobytes() == data
            buffer.destroy()
        assert device.violations == []
        assert (device.live_memory_objects, device.live_buffers) == (0, 0)
        if number >= made:
            break
    assert failures >= 2


def test_a_new_buffer_whose_data_does_not_arrive(simulated: SimulatedDevice) -> None:
    with Allocator(simulated) as allocator:
        allocator.create_buffer(buffer_usage=TRANSFER, data=b"warm").destroy()
        before = simulated.live_buffers
        simulated.fail_next("vkQueueSubmit", vk_result=-4)
        with pytest.raises(DeviceLostError):
            allocator.create_buffer(buffer_usage=TRANSFER, data=b"lost")
        assert simulated.live_buffers == before
        assert not list(allocator.leaks())


def test_a_lost_device_does_not_hang(simulated: SimulatedDevice) -> None:
    simulated.set_completion("held")
    with Allocator(simulated) as allocator:
        transfers, buffer, transfer = begun(allocator)
        back = transfers.download(buffer)
        simulated.fail_next("vkWaitSemaphores", vk_result=-4)
        with pytest.raises(DeviceLostError):
            back.result()
        with pytest.raises(DeviceLostError):
            transfer.result()
        buffer.destroy()
        simulated.set_completion("at once")
        transfers.close()


def test_a_steady_state_allocates_nothing_and_waits_for_no_queue(
    simulated: SimulatedDevice,
) -> None:
    calls = ("vkAllocateMemory", "vkCreateBuffer", "vkMapMemory", "vkFreeMemory")
    with Allocator(simulated) as allocator, Transfers(allocator, RING) as transfers:
        buffer = allocator.create_buffer(200_000, TRANSFER)
        data = np.arange(200_000).astype(np.uint8)
        counts = []
        for _ in range(4):
            transfers.upload(data, buffer).result()
            assert (transfers.download(buffer).result() == data).all()
            with transfers.batch():
                for it in range(50):
                    transfers.upload(data[:900], buffer, it * 1000)
            transfers.wait()
            counts.append([simulated.call_count(it) for it in calls])
        assert counts == [counts[0]] * 4
        stats = transfers.stats()
        assert stats.ring_bytes == 2 * RING and stats.in_flight == 0
        buffer.destroy()


@pytest.mark.parametrize("profile", ["non-coherent", "driver"])
def test_eight_threads(request: pytest.FixtureRequest, profile: str) -> None:
    device = request.getfixturevalue("simulated" if profile != "driver" else "real_device")
    wrong: list[Any] = []

    def work(number: int) -> None:
        random = np.random.default_rng(number)
        try:
            for _ in range(15):
                size = int(random.integers(1, 300_000 if number == 0 else 9_000))
                data = random.integers(0, 256, size, np.uint8)
                if number % 3 == 0:
                    buffer.upload(data, number * 300_000)
                    found = buffer.download(offset=number * 300_000, size=size)
                else:
                    with transfers.batch():
                        transfers.upload(data, buffer, number * 300_000, way="ring")
                        back = transfers.download(
                            buffer, offset=number * 300_000, size=size, way="ring"
                        )
                    found = back.result()
                if not (found == data).all():
                    wrong.append((number, size))
        except BaseException as error:
            wrong.append(error)

    with Allocator(device) as allocator, Transfers(allocator, RING) as transfers:
        buffer = allocator.create_buffer(8 * 300_000, TRANSFER)
        threads = [threading.Thread(target=work, args=[it]) for it in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert wrong == [] and not any(it.is_alive() for it in threads)
        transfers.wait()
        allocator.transfers.wait()
        buffer.destroy()


def test_small_uploads_pass_beside_a_large_one(make_simulated: Any) -> None:
    device = make_simulated("discrete-8gib")
    with Allocator(device) as allocator, Transfers(allocator, 1 << 20) as transfers:
        large = allocator.create_buffer(64 << 20, TRANSFER)
        small = allocator.create_buffer(4096, TRANSFER)
        transfers.upload(bytes(4096), small).result()
        data = np.zeros(64 << 20, np.uint8)
        thread = threading.Thread(
            target=lambda: [transfers.upload(data, large, way="ring").result() for _ in range(3)]
        )
        thread.start()
        passed = 0
        while thread.is_alive():
            transfers.upload(bytes(4096), small, way="ring").result()
            passed += 1
        thread.join()
        assert passed > 20
        allocator.destroy_many([large, small])


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers of the system's here")
@pytest.mark.parametrize("what", ["result", "wait", "exception", "all", "full ring"])
def test_ctrl_c(held: SimulatedDevice, what: str) -> None:
    with Allocator(held) as allocator:
        transfers, buffer, transfer = begun(allocator)
        large = allocator.create_buffer(300_000, TRANSFER)
        call = {
            "result": transfer.result,
            "wait": transfer.wait,
            "exception": transfer.exception,
            "all": transfers.wait,
            "full ring": lambda: transfers.upload(bytes(300_000), large),
        }[what]
        handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            before = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                call()
            assert time.monotonic() - before < 2
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
        assert not transfer.done()
        held.set_completion("at once")
        assert transfer.result() is None
        assert transfers.download(buffer).result().tobytes() == pattern(4096)
        transfers.close()
        allocator.destroy_many([buffer, large])


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child(held: SimulatedDevice) -> None:
    with Allocator(held) as allocator:
        transfers, buffer, transfer = begun(allocator)
        registered = transfers.register(np.zeros(9999, np.uint8))
        default = allocator.transfers
        child = os.fork()
        if child == 0:
            wrong = 100
            try:
                uses = [
                    lambda: transfers.upload(bytes(4), buffer),
                    lambda: transfers.download(buffer),
                    lambda: transfers.upload_many([], []),
                    lambda: default.wait(),
                    lambda: buffer.upload(bytes(4)),
                    lambda: buffer.download(),
                    transfers.batch,
                    transfers.flush,
                    transfers.stats,
                    transfers.close,
                    transfer.done,
                    transfer.wait,
                    transfer.result,
                    transfer.exception,
                    registered.close,
                ]
                wrong = len(uses)
                for use in uses:
                    try:
                        use()
                    except InvalidArgumentError as error:
                        wrong -= "before os.fork()" in str(error)
                texts = [repr(transfers), repr(transfer)]
                wrong += sum("from before os.fork()" not in it for it in texts)
                del transfers, transfer, registered, default, uses
                gc.collect()
            finally:
                os._exit(wrong)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        held.complete_submissions()
        assert transfer.result() is None
        registered.close()
        transfers.close()
        buffer.destroy()


AT_EXIT = """
import atexit, gc, sys, threading, time
import vk_mem
from vk_mem import *
TRANSFER = BufferUsage.TRANSFER_SRC | BufferUsage.TRANSFER_DST
device = SimulatedDevice("non-coherent")
device.set_completion("held")
allocator = Allocator(device)
transfers = Transfers(allocator, 65536)
buffer = allocator.create_buffer(4096, TRANSFER)
transfer = transfers.upload(bytes(4096), buffer)
back = transfers.download(buffer)
"""
PROGRAMS = {
    "ends": "device.set_completion('when waited')",
    "a waiting daemon": "device.set_completion('when waited')\n"
    "work = lambda: [buffer.download() for _ in range(100_000)]\n"
    "threading.Thread(target=work, daemon=True).start()\n"
    "time.sleep(0.05)",
    "a batch": "device.set_completion('when waited')\n"
    "batch = transfers.batch()\nbatch.__enter__()\nmore = transfers.upload(bytes(9), buffer)",
    "nobody holds it": "device.set_completion('when waited')\n"
    "del transfers, transfer, back, buffer, allocator\ngc.collect()",
    "a registered array": "device.set_completion('when waited')\n"
    "array = bytearray(9999)\nregistered = transfers.register(array)\n"
    "last = transfers.upload(array, buffer, way='import') if len(array) < 4097 else None",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
@pytest.mark.parametrize("options", [(), ("-X", "dev"), ("-W", "error")])
def test_the_end_of_the_interpreter(program: str, options: tuple[str, ...]) -> None:
    ran = run_python(AT_EXIT + program, *options)
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr or "ResourceWarning" in ran.stderr, ran.stderr


def test_the_end_with_a_device_that_never_ends() -> None:
    before = time.monotonic()
    ran = run_python(AT_EXIT, "-W", "always")
    assert ran.returncode == 0, ran.stderr
    assert "transfers are in flight, and do not end" in ran.stderr
    assert time.monotonic() - before < 50


class Knows(np.ndarray):  # type: ignore[type-arg]
    """An array that knows its transfer."""

    user: Any


def test_cycles_through_transfers(held: SimulatedDevice) -> None:
    with Allocator(held, frames_in_flight=1) as allocator:
        transfers, buffer, _ = begun(allocator)
        out: Any = np.zeros(64, np.uint8).view(Knows)
        out.user = transfers.download(buffer, out=out, size=64)
        seen = weakref.ref(out)
        del out
        gc.collect()
        assert seen() is not None, "the device writes there"
        held.complete_submissions()
        transfers.wait()
        gc.collect()
        assert seen() is None
        memory: Any = np.zeros(9999, np.uint8).view(Knows)
        memory.user = transfers.register(memory)
        seen = weakref.ref(memory)
        del memory
        with pytest.warns(ResourceWarning, match="unclosed RegisteredArray"):
            gc.collect()
        transfers.close()
        gc.collect()
        assert seen() is None
        buffer.destroy()


def test_a_mapped_buffer_with_a_transfer_in_flight(held: SimulatedDevice) -> None:
    """A later direct transfer waits for its turn, or takes the ring."""
    with Allocator(held) as allocator, Transfers(allocator, RING) as transfers:
        buffer = allocator.create_buffer(64, TRANSFER, flags=RANDOM | MAPPED)
        first = transfers.upload(pattern(64), buffer, way="ring")
        second = transfers.upload(pattern(64, 1), buffer)
        assert second.way == "ring" and "in flight" in transfers.explain(64, buffer)
        timer = threading.Timer(0.1, held.set_completion, ["at once"])
        timer.start()
        third = transfers.upload(pattern(64, 2), buffer, way="direct")
        assert first.done() and second.done() and third.done()
        assert buffer.read() == pattern(64, 2)
        timer.join()
        buffer.destroy()


@pytest.mark.driver
def test_calls_of_a_steady_state(odd_driver: Any, open_odd: Any) -> None:
    """Driver calls in a steady state: memory and objects are kept, and no queue is waited for."""
    data = np.arange(200_000).astype(np.uint8)
    with Allocator(open_odd()) as allocator, Transfers(allocator, RING) as transfers:
        buffer = allocator.create_buffer(len(data), TRANSFER)

        def round_trip() -> None:
            transfers.upload(data, buffer, way="ring").result()
            back = transfers.download(buffer, way="ring")
            with transfers.batch():
                for it in range(50):
                    transfers.upload(data[:900], buffer, it * 1000, way="ring")
            assert (back.result() == data).all()
            assert transfers.wait()

        def made_by_three() -> dict[str, int]:
            before = dict(odd_driver.calls)
            for _ in range(3):
                round_trip()
            made = {it: odd_driver.calls[it] - before.get(it, 0) for it in odd_driver.calls}
            return {name: count for name, count in made.items() if count}

        # How many submissions are under way at once differs a little each time.
        for _ in range(10):
            made = made_by_three()
            wrong = {name for name in made if "Allocate" in name or "Create" in name}
            wrong |= {it for it in made if "Idle" in it or "Free" in it or "Destroy" in it}
            if not wrong:
                break
        assert made["vkQueueSubmit"] > 3
        assert wrong == set(), made
        buffer.destroy()


@pytest.mark.driver
@pytest.mark.parametrize("call", ["vkQueueSubmit", "vkWaitSemaphores", "vkBeginCommandBuffer"])
def test_calls_of_the_driver_that_fail(odd_driver: Any, open_odd: Any, call: str) -> None:
    with Allocator(open_odd()) as allocator, Transfers(allocator, RING) as transfers:
        buffer = allocator.create_buffer(4096, TRANSFER)
        transfers.upload(pattern(4096), buffer, way="ring").result()
        odd_driver.fail(call, -2)
        transfer = transfers.upload(pattern(4096, 1), buffer, way="ring")
        error = transfer.exception()
        odd_driver.recover(call)
        # Nobody waits for what has ended by then.
        if error is not None or call != "vkWaitSemaphores":
            assert type(error) is OutOfDeviceMemoryError and call in str(error)
        transfers.upload(pattern(4096, 2), buffer, way="ring").result()
        assert transfers.download(buffer, way="ring").result().tobytes() == pattern(4096, 2)
        buffer.destroy()
