"""Checks that wait for the device: Ctrl-C stops them, and the interpreter exits without them."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from overruns import intruder, pool_of
from support import TRANSFER, run_python
from systems import ctrl_c, need_descriptors

import vk_mem
from vk_mem import Allocator, Buffer, CorruptionError, CorruptionWarning, Debug, SimulatedDevice

DETECT = Debug(detect_corruption=True)
HIDDEN = 0
"""A memory type that the device alone reads and writes."""


@pytest.fixture
def device(make_simulated: Any) -> SimulatedDevice:
    device: SimulatedDevice = make_simulated("nvidia-h200")
    flags = device.memory_properties.memory_types[HIDDEN].property_flags
    assert not flags & vk_mem.MemoryPropertyFlags.HOST_VISIBLE
    return device


@contextmanager
def never_ending(device: SimulatedDevice) -> Iterator[None]:
    """What is submitted ends with the block."""
    device.set_completion("held")
    try:
        yield
    finally:
        device.complete_submissions()
        device.set_completion("at once")


def interrupted(call: Callable[[], object]) -> BaseException:
    """Calls something that waits, and sends a Ctrl-C a moment later."""
    timer = threading.Timer(0.2, ctrl_c)
    timer.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        call()
    timer.join()
    return caught.value


@contextmanager
def three(device: SimulatedDevice, debug: Debug, **keywords: Any) -> Iterator[Any]:
    """An allocator with three buffers, and what flips bytes beside the one in the middle."""
    need_descriptors()
    with (
        Allocator(device, debug=debug, **keywords) as allocator,
        pool_of(allocator, HIDDEN) as pool,
    ):
        its = [allocator.create_buffer(256, TRANSFER, pool=pool, name=name) for name in "abc"]
        with intruder(its[1], device) as flip:
            yield allocator, pool, its, flip
        for it in its:
            it.destroy()


@pytest.mark.parametrize("of_pool", [False, True])
def test_a_check_is_interrupted_and_tells_all_the_next_time(
    device: SimulatedDevice, of_pool: bool
) -> None:
    with three(device, DETECT) as (allocator, pool, its, flip):
        check = pool.check_corruption if of_pool else allocator.check_corruption
        flip(256)
        with never_ending(device):
            for _ in range(2):
                interrupted(check)
            assert all(it.alive for it in its)
        with pytest.raises(CorruptionError) as found:
            check()
        assert (found.value.name, found.value.offset) == ("b", 256)
        flip(256)


def test_what_an_interrupted_check_reads_stays_until_it_has_been_read(
    device: SimulatedDevice,
) -> None:
    with Allocator(device, debug=DETECT, empty_block_retention=0.0) as allocator:
        buffer = allocator.create_buffer(256, TRANSFER, memory_type_bits=1 << HIDDEN)
        assert allocator.check_corruption() == 2
        before = device.live_memory_objects
        with never_ending(device):
            interrupted(allocator.check_corruption)
            left = device.live_memory_objects
            assert left > before
            # The copy reads the block: it outlives what was in it.
            with pytest.warns(CorruptionWarning, match="a signal has interrupted that"):
                interrupted(buffer.destroy)
            assert not buffer.alive
            allocator.trim()
            assert device.live_memory_objects >= left
        keep = allocator.create_buffer(256, TRANSFER, memory_type_bits=1 << HIDDEN)
        assert allocator.check_corruption() == 2
        keep.destroy()
        allocator.trim()
        assert device.live_memory_objects == 0


def test_close_waits_for_what_an_interrupted_check_has_left(device: SimulatedDevice) -> None:
    allocator = Allocator(device, debug=DETECT)
    buffer = allocator.create_buffer(256, TRANSFER, memory_type_bits=1 << HIDDEN)
    with never_ending(device):
        interrupted(allocator.check_corruption)
        interrupted(allocator.close)
        assert not allocator.closed and buffer.alive
        threading.Timer(0.2, device.complete_submissions).start()
        buffer_ends = threading.Timer(0.5, device.complete_submissions)
        buffer_ends.start()
        buffer.destroy()
        buffer_ends.join()
        allocator.close()
    assert (device.live_memory_objects, device.live_buffers) == (0, 0)


@pytest.mark.parametrize("check", ["free", "frame", "call"])
def test_what_ends_a_resource_has_ended_it(device: SimulatedDevice, check: Any) -> None:
    with three(device, Debug(detect_corruption=True, check=check)) as (allocator, _, its, _):
        with never_ending(device):
            with pytest.warns(CorruptionWarning, match="a signal has interrupted that"):
                interrupted(its[0].destroy)
            assert not its[0].alive
            if check == "call":
                # Before it has done anything, as if Ctrl-C came a moment sooner.
                interrupted(lambda: allocator.destroy_many(its))
                assert its[1].alive
        # It is told once.
        allocator.set_current_frame_index(1)


def test_a_frame_that_is_interrupted_has_begun(device: SimulatedDevice) -> None:
    debug = Debug(detect_corruption=True, check="frame")
    with three(device, debug) as (allocator, _, _, flip):
        flip(256)
        with never_ending(device):
            interrupted(lambda: allocator.set_current_frame_index(1))
            assert allocator.current_frame_index == 1
        with pytest.raises(CorruptionError, match="'b'"):
            allocator.set_current_frame_index(2)
        flip(256)


def test_other_threads_go_on(device: SimulatedDevice) -> None:
    """Signals are the main thread's: a check of another one waits on."""
    with three(device, DETECT) as (allocator, _, _, _), ThreadPoolExecutor(1) as pool:
        with never_ending(device):
            there = pool.submit(allocator.check_corruption)
            interrupted(allocator.check_corruption)
            assert not there.done()
        assert there.result(10) == 6


def test_a_lock_of_the_queue_that_is_interrupted() -> None:
    class Interrupted:
        fails = False

        def __enter__(self) -> None:
            if self.fails:
                raise KeyboardInterrupt

        def __exit__(self, *_: object) -> None:
            pass

    lock = Interrupted()
    device = SimulatedDevice("nvidia-h200", queue_lock=lock)
    with Allocator(device, debug=DETECT) as allocator:
        its = [
            allocator.create_buffer(256, TRANSFER, memory_type_bits=1 << HIDDEN) for _ in range(3)
        ]
        calls: list[tuple[Callable[[], object], Buffer | None]] = [
            (allocator.check_corruption, None),
            (its[0].destroy, its[0]),
            (lambda: allocator.destroy_many(its), its[2]),
        ]
        for call, ended in calls:
            lock.fails = True
            with pytest.raises(KeyboardInterrupt), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                call()
            lock.fails = False
            assert ended is None or not ended.alive
            # It is raised once.
            allocator.calculate_statistics()


EXIT = """
import threading
from vk_mem import *
lock = threading.Lock()
class Lock:
    __enter__ = lambda self: lock.acquire()
    __exit__ = lambda self, *exception: lock.release()
device = SimulatedDevice("nvidia-h200", queue_lock=Lock())
debug = Debug(detect_corruption=True, fill_on_free="zero", quarantine="1M", check={check!r})
allocator = Allocator(device, debug=debug)
buffers = [allocator.create_buffer(256, 3) for _ in range(3)]
{then}
print("end", flush=True)
"""
ENDS = {
    "held": 'device.set_completion("held")',
    "locked": "lock.acquire()",
    "locked by another": "threading.Thread(target=lock.acquire, daemon=True).start()",
    "answers": "",
}


def test_the_interpreter_exits_while_the_device_does_not_answer() -> None:
    def run(then: str, check: str) -> Any:
        return run_python(EXIT.format(then=then, check=check), "-X", "dev", timeout=120)

    cases = [(name, check) for name in ENDS for check in ("free", "call")]
    with ThreadPoolExecutor(len(cases)) as pool:
        runs = {it: pool.submit(run, ENDS[it[0]], it[1]) for it in cases}
    for (name, _), there in runs.items():
        done = there.result()
        assert (done.returncode, done.stdout) == (0, "end\n"), (name, done.stderr)
        assert "was never closed" in done.stderr, name
        # What cannot be checked is left as it is: the process ends.
        assert ("the check of its memory does not end" in done.stderr) == (name != "answers")


def test_damage_is_told_at_exit() -> None:
    then = """
import ctypes
flags = AllocationCreateFlags.HOST_ACCESS_RANDOM | AllocationCreateFlags.MAPPED
one = allocator.create_buffer(256, 3, flags=flags, name="hurt")
mapping = one.map()
address = mapping.address
mapping.close()
ctypes.memset(address + 256, 1, 1)
"""
    done = run_python(EXIT.format(then=then, check="free"), "-X", "dev")
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
    assert "CorruptionWarning: Buffer 'hurt'" in done.stderr
