"""`CorruptionError`, its report, callbacks and warnings; what frames, calls and ends check."""

from __future__ import annotations

import copy
import gc
import pickle
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from overruns import COHERENT, VISIBLE, Flip, intruder, not_filled, pool_of
from support import MAPPED, RANDOM, TRANSFER

import vk_mem
from vk_mem import (
    AllocationRecord,
    Allocator,
    Buffer,
    CorruptionError,
    CorruptionWarning,
    Debug,
    Pool,
    SimulatedDevice,
    VkMemError,
)

DETECT = Debug(detect_corruption=True)


def visible(device: SimulatedDevice) -> int:
    """A memory type that the host can see."""
    types = device.memory_properties.memory_types
    return next(index for index, it in enumerate(types) if it.property_flags & VISIBLE)


class World:
    """Three buffers in a row, of which the one in the middle can be overrun."""

    def __init__(self, allocator: Allocator, pool: Pool) -> None:
        self.allocator, self.pool = allocator, pool
        self.its = [self.make(name) for name in "abc"]
        self.flip: Flip

    def make(self, name: str, size: int = 256) -> Buffer:
        return self.allocator.create_buffer(
            size, TRANSFER, pool=self.pool, name=name, flags=RANDOM | MAPPED
        )


@contextmanager
def world(device: SimulatedDevice, debug: Debug = DETECT, **keywords: Any) -> Iterator[World]:
    """Ends clean: the test puts right what it has overwritten, or ends it."""
    with (
        Allocator(device, debug=debug, **keywords) as allocator,
        pool_of(allocator, visible(device)) as pool,
    ):
        made = World(allocator, pool)
        with intruder(made.its[1], device, through=made.its[0]) as made.flip:
            yield made
        for it in made.its:
            it.destroy()


@pytest.fixture(params=["nvidia-h200", "non-coherent"])
def device(request: pytest.FixtureRequest, make_simulated: Any) -> SimulatedDevice:
    device: SimulatedDevice = make_simulated(request.param)
    return device


def caught(call: Any, *arguments: Any) -> CorruptionError:
    with pytest.raises(CorruptionError) as found:
        call(*arguments)
    return found.value


# ---- the error ----


def test_the_report(device: SimulatedDevice) -> None:
    with world(device, track_call_sites=3) as it:
        it.allocator.set_current_frame_index(7)
        late = it.make("late")
        it.its.append(late)
        wrong = it.flip(257, 3)
        error = caught(it.allocator.check_corruption)
        lines = str(error).splitlines()
        kind = error.memory_type_index
        # Up to the ends of what it takes up in its block.
        flags = device.memory_properties.memory_types[kind].property_flags
        margin = 16 if flags & COHERENT == COHERENT else device.properties.non_coherent_atom_size
        assert lines[0] == (
            f"Buffer 'b' (256 bytes, memory type {kind}): 3 of the {margin} bytes behind it were "
            "overwritten, the first one at offset 257, 1 byte past its end, the last one 2 bytes "
            "further"
        )
        assert lines[1].startswith(f"  found {wrong.hex(' ')}, ")
        astray = "a write through a wrong index or address"
        assert (
            lines[2] == f"  this looks like {astray}: the bytes right before and behind are intact"
        )
        assert re.fullmatch(r"  created in frame 0, .* earlier, at .*make, called .*", lines[3])
        assert re.match(r"  before it: Buffer 'a' \(256 bytes\), \d+ bytes away, created", lines[4])
        assert re.match(r"  behind it: Buffer 'c' \(256 bytes\), \d+ bytes away, created", lines[5])
        assert len(lines) == 6
        it.flip(257, 3)
        it.flip(-1)
        text = str(caught(it.allocator.check_corruption))
        overwritten = f"1 of the {margin} bytes before it was overwritten"
        assert f"{overwritten}, the first one 1 byte before" in text
        assert "this looks like a write before its own start" in text
        it.flip(-1)
        assert error.record is not None and error.after is not None and error.before is not None
        place = error.record.offset
        # Where the margins of the neighbours begin that are next to its own.
        behind = error.after.offset - place - margin
        before = error.before.offset + 256 - place
        for flips, looks in [
            ([(256, 1)], "a write past its own end"),
            (
                [(256, margin)],
                "a write past its own end: the margin of Buffer 'c' on that side is intact",
            ),
            (
                [(256, margin), (behind, 1)],
                "a write past its own end, or a write before the start of Buffer 'c'",
            ),
            ([(255 + margin, 1)], f"{astray}: the margin of Buffer 'c' on that side is intact"),
            ([(255 + margin, 1), (behind, 1)], "a write before the start of Buffer 'c'"),
            ([(-margin, 1)], f"{astray}: the margin of Buffer 'a' on that side is intact"),
            (
                [(-margin, margin)],
                "a write before its own start: the margin of Buffer 'a' on that side",
            ),
            ([(-margin, 2), (before, 1)], "a write past the end of Buffer 'a'"),
        ]:
            for flip in flips:
                it.flip(*flip)
            first = caught(it.pool.check_corruption)
            (its,) = (found for found in (first, *first.others) if found.name == "b")
            assert f"  this looks like {looks}" in str(its), (flips, str(its))
            for flip in flips:
                it.flip(*flip)


def test_the_report_without_call_sites(device: SimulatedDevice) -> None:
    with world(device) as it:
        it.flip(256)
        error = caught(it.allocator.check_corruption)
        assert "track_call_sites=True" in str(error)
        assert (error.call_site, error.freed_at) == (None, None)
        assert error.record is not None
        assert error.record.age is not None
        assert 0 <= error.record.age < 60
        it.flip(256)


def test_errors_and_records_are_values(device: SimulatedDevice) -> None:
    with world(device, track_call_sites=3) as it:
        it.flip(256)
        error = caught(it.allocator.check_corruption)
        it.flip(256)
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert str(again) == str(error)
            for name in ("region", "offset", "length", "count", "found", "expected", "record"):
                assert getattr(again, name) == getattr(error, name), name
            assert (again.name, again.call_site) == (error.name, error.call_site)
        again = pickle.loads(pickle.dumps(error))
        assert again.allocation is None
        assert error.allocation is it.its[1]
        assert isinstance(error.record, AllocationRecord)
        assert error.record == copy.deepcopy(error.record)
        assert hash(error.record) == hash(again.record)
    plain = CorruptionError("text")
    figures = (plain.record, plain.allocation, plain.name, plain.offset, plain.others)
    assert figures == (None, None, None, None, ())


def test_an_error_keeps_nothing_alive(device: SimulatedDevice) -> None:
    with world(device) as it:
        more = it.make("more")
        with intruder(more, device, through=it.its[0]) as flip:
            flip(256)
        error = caught(more.destroy).with_traceback(None)
        assert error.allocation is more
        del more
        gc.collect()
        assert error.allocation is None
        assert error.name == "more"


# ---- when ----


def test_what_frees_has_freed(device: SimulatedDevice) -> None:
    with world(device) as it:
        before = it.allocator.calculate_statistics().total.allocation_count
        it.flip(256)
        caught(it.its[1].destroy)
        assert it.allocator.calculate_statistics().total.allocation_count == before - 1
        it.its[1].destroy()
        more = [it.make(f"{index}") for index in range(3)]
        with intruder(more[0], device) as flip:
            flip(-1)
        error = caught(it.allocator.destroy_many, more)
        assert error.allocation is more[0]
        assert not any(buffer.alive for buffer in more)
        with pytest.raises(vk_mem.UseAfterFreeError):
            more[0].write(b"x")


def test_a_with_block_raises_at_its_end(device: SimulatedDevice) -> None:
    with (
        world(device) as it,
        pytest.raises(CorruptionError),
        it.make("inside") as inside,
        intruder(inside, device) as flip,
    ):
        flip(256)


def test_frames(device: SimulatedDevice) -> None:
    debug = Debug(detect_corruption=True, check="frame")
    with world(device, debug) as it:
        it.allocator.set_current_frame_index(1)
        it.flip(256)
        error = caught(it.allocator.set_current_frame_index, 2)
        assert (error.offset, error.allocation) == (256, it.its[1])
        assert it.allocator.current_frame_index == 2
        # Each fault is told once, and a new one again.
        it.allocator.set_current_frame_index(3)
        it.flip(258)
        assert caught(it.allocator.set_current_frame_index, 4).count == 2
        it.its[1].destroy()
        it.allocator.set_current_frame_index(5)


def test_calls(device: SimulatedDevice) -> None:
    debug = Debug(detect_corruption=True, check="call")
    with world(device, debug) as it:
        calls: list[Any] = [
            lambda: it.make("new"),
            lambda: it.its[0].map(),
            lambda: it.its[0].read(),
            it.allocator.calculate_statistics,
            lambda: it.allocator.create_buffers([64] * 3, TRANSFER),
            lambda: it.allocator.create_aliasing_buffer(it.its[0], 64, TRANSFER),
        ]
        for index, call in enumerate(calls):
            before = len(it.allocator.leaks())
            it.flip(256 + index)
            error = caught(call)
            assert (error.offset, error.count) == (256, index + 1)
            assert len(it.allocator.leaks()) == before
        assert it.allocator.current_frame_index == 0
        it.flip(256, len(calls))
    with world(device, Debug(check="call", quarantine="1M")) as it:
        it.its[2].destroy()
        it.its[1].destroy()
        it.flip(5)
        with not_filled(device):
            error = caught(it.its[0].destroy)
        assert (error.region, error.offset, it.its[0].alive) == ("freed", 5, False)
        it.flip(5)


def test_a_call_inside_of_a_callback_checks_nothing(device: SimulatedDevice) -> None:
    debug = Debug(detect_corruption=True, check="call")
    with world(device, debug) as it:
        seen: list[Any] = []
        it.allocator.on_corruption(lambda error: seen.append((error, len(it.allocator.leaks()))))
        it.flip(256)
        error = caught(it.its[0].write, b"x")
        assert seen == [(error, 3)]
        it.flip(256)


def test_retired_and_collected_resources(device: SimulatedDevice) -> None:
    with world(device, frames_in_flight=1, track_call_sites=2) as it:
        it.allocator.set_current_frame_index(1)
        it.flip(256)
        it.its[1].retire()
        it.allocator.set_current_frame_index(2)
        error = caught(it.allocator.set_current_frame_index, 3)
        assert (error.offset, error.name) == (256, "b")
        assert "in test_retired" in (error.freed_at or "")
        with intruder(it.its[2], device, through=it.its[0]) as flip:
            flip(-1)
        with pytest.warns(ResourceWarning):
            it.its.pop()
            gc.collect()
        it.allocator.set_current_frame_index(4)
        error = caught(it.allocator.set_current_frame_index, 5)
        assert (error.offset, error.name) == (-1, "c")


@pytest.mark.parametrize("whole", [False, True])
def test_close_warns(device: SimulatedDevice, whole: bool) -> None:
    allocator = Allocator(device, debug=DETECT)
    with pool_of(allocator, visible(device)) as pool:
        it = World(allocator, pool)
        with intruder(it.its[1], device) as flip:
            flip(256)
            flip(-1)
            with pytest.warns() as told:
                (allocator if whole else pool).close()
        kinds = [one.category for one in told]
        assert kinds.count(ResourceWarning) == 1
        assert kinds.count(CorruptionWarning) == 2
    allocator.close()
    assert allocator.closed


# ---- callbacks ----


def test_a_callback_is_called_with_each(device: SimulatedDevice) -> None:
    with world(device) as it:
        heard: list[CorruptionError] = []
        assert it.allocator.on_corruption(heard.append) == heard.append
        it.flip(256)
        it.flip(-1)
        error = caught(it.allocator.check_corruption)
        assert heard == [error, *error.others]
        assert [one.offset for one in heard] == [-1, 256]
        heard.clear()
        it.allocator.on_corruption(None)
        caught(it.allocator.check_corruption)
        assert heard == []
        it.allocator.on_corruption(heard.append)
        it.its[1].destroy()  # what a check on demand has told is not told again
        assert heard == []
        with intruder(it.its[0], device) as flip:
            flip(256)
        caught(it.its[0].destroy)
        assert [one.name for one in heard] == ["a"]


def test_a_callback_takes_the_place_of_warnings(device: SimulatedDevice) -> None:
    allocator = Allocator(device, debug=DETECT)
    heard: list[CorruptionError] = []
    allocator.on_corruption(heard.append)
    with pool_of(allocator, visible(device)) as pool:
        it = World(allocator, pool)
        with intruder(it.its[1], device) as flip:
            flip(256)
            with pytest.warns(ResourceWarning, match="live object") as told:
                allocator.close()
        assert len(told) == 1
    assert [(one.name, one.offset) for one in heard] == [("b", 256)]


def test_a_callback_that_raises(device: SimulatedDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda it: printed.append(it.exc_value))
    with world(device) as it:

        @it.allocator.on_corruption
        def fail(error: CorruptionError) -> None:
            raise ValueError(error.offset)

        it.flip(256)
        caught(it.allocator.check_corruption)
        it.flip(257)
        caught(it.its[1].destroy)
        assert [type(one) for one in printed] == [ValueError, ValueError]


@pytest.mark.parametrize("callback", [1, "x", []])
def test_wrong_callbacks(device: SimulatedDevice, callback: Any) -> None:
    with world(device) as it, pytest.raises(TypeError, match="must be callable"):
        it.allocator.on_corruption(callback)


def test_a_callback_may_use_the_allocator(device: SimulatedDevice) -> None:
    with world(device) as it:

        @it.allocator.on_corruption
        def repair(error: CorruptionError) -> None:
            assert error.allocation is it.its[1]
            with it.make("in the callback"):
                it.its[1].write(b"abc")

        it.flip(256)
        caught(it.allocator.check_corruption)
        assert it.its[1].read(0, 3) == b"abc"
        it.flip(256)


# ---- failures ----


def test_failures_while_memory_is_checked(device: SimulatedDevice) -> None:
    """A call fails with the error of the driver, or does what it has to; nothing is left."""
    for n in range(60):
        with Allocator(device, debug=DETECT) as allocator, pool_of(allocator, 0) as pool:
            buffer = allocator.create_buffer(256, TRANSFER, pool=pool)
            device.fail_call(n)
            try:
                count = allocator.check_corruption()
            except VkMemError as error:
                assert not isinstance(error, CorruptionError)
            else:
                assert count == 2
            device.clear_failures()
            assert allocator.check_corruption() == 2
            buffer.destroy()


def test_failures_while_memory_is_filled(device: SimulatedDevice) -> None:
    debug = Debug(fill="nan", fill_on_free="zero", detect_corruption=True, quarantine="1M")
    left_out = 0
    for n in range(60):
        with Allocator(device, debug=debug) as allocator, pool_of(allocator, 0) as pool:
            allocator.create_buffer(64, TRANSFER, pool=pool).destroy()
            device.fail_call(n)
            buffer = None
            with pytest.warns() as told:
                try:
                    buffer = allocator.create_buffer(256, TRANSFER, pool=pool)
                    buffer.destroy()
                except VkMemError as error:
                    assert not isinstance(error, CorruptionError)
                device.clear_failures()
                allocator.set_current_frame_index(1)
                # There is one to look at.
                import warnings

                warnings.warn("end", stacklevel=1)
            left_out += sum(one.category is CorruptionWarning for one in told)
            assert buffer is None or not buffer.alive
            assert allocator.check_corruption() >= 1
    assert left_out > 0


def test_a_lost_device(device: SimulatedDevice) -> None:
    allocator = Allocator(device, debug=Debug(detect_corruption=True, quarantine="1M", fill=0))
    with pool_of(allocator, 0) as pool:
        its = allocator.create_buffers([256] * 8, TRANSFER, pool=pool)
        device.fail_next("vkQueueSubmit", 1000, -4)
        with pytest.raises(vk_mem.DeviceLostError):
            allocator.check_corruption()
        allocator.destroy_many(its)
        allocator.set_current_frame_index(1)
    allocator.close()
    device.clear_failures()


def test_a_report_names_the_pool(simulated: SimulatedDevice) -> None:
    with (
        Allocator(simulated, debug=DETECT) as allocator,
        pool_of(allocator, visible(simulated), name="suspect") as pool,
        allocator.create_buffer(256, TRANSFER, pool=pool, name="it", flags=RANDOM) as it,
        allocator.create_buffer(64, TRANSFER, pool=pool) as other,
        intruder(it, simulated) as flip,
    ):
        flip(256)
        error = caught(pool.check_corruption)
        assert str(error).startswith("Buffer 'it' (256 bytes, in pool 'suspect', memory type ")
        assert "behind it: Buffer (64 bytes, in pool 'suspect'), " in str(error)
        assert error.after is not None and error.after.allocation is other
        flip(256)


def test_quarantine_is_what_keeps_a_defragmentation_from_moving(make_simulated: Any) -> None:
    device = make_simulated("discrete-8gib")
    size = 1 << 20
    with Allocator(device, debug=Debug(quarantine="64M")) as allocator:
        its = [allocator.create_buffer(size, TRANSFER, movable=True) for _ in range(300)]
        for number, it in enumerate(its):
            if number % 3:
                it.destroy()
        done = allocator.defragment()
        assert set(done.not_moved) == {"quarantine"} and done.not_moved["quarantine"] > 0
        allocator.destroy_many([it for it in its if it.alive])
