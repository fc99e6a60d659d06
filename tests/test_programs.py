"""Random programs on simulated devices, compared with a shadow model."""

from __future__ import annotations

import gc
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)
from recorded_programs import begin, check_replay
from support import (
    DEDICATED,
    IMAGE_TRANSFER,
    MAPPED,
    RANDOM,
    RGBA8,
    TRANSFER,
    WRITE,
    check_statistics,
    totals,
)

import vk_mem
from vk_mem import (
    Allocator,
    Buffer,
    BufferUsage,
    ImageTiling,
    OutOfDeviceMemoryError,
    SimulatedDevice,
    UseAfterFreeError,
)

FRAMES_IN_FLIGHT = 2
EXAMPLES = int(os.environ.get("VK_MEM_TEST_PROGRAMS", "250"))
SIZES = st.one_of(st.integers(1, 300), st.integers(1, 70_000), st.just(1 << 20))
HOST_FLAGS = st.sampled_from([RANDOM, WRITE | MAPPED, RANDOM | MAPPED, RANDOM | DEDICATED])
SEEDS = st.integers(0, 255)


class Shadow:
    """What has to be true of one resource."""

    def __init__(self, resource: Any, size: int, name: str | None) -> None:
        self.resource = resource
        self.size = size
        self.name = name
        self.contents = bytearray(size)
        self.known = False
        self.view: memoryview | None = None


class Programs(RuleBasedStateMachine):
    folder: ClassVar = tempfile.TemporaryDirectory()
    count: ClassVar[int] = 0
    resources = Bundle("resources")
    buffers = Bundle("buffers")

    @initialize(profile=st.sampled_from(SimulatedDevice.profile_names()), small=st.booleans())
    def open(self, profile: str, small: bool) -> None:
        self.open_on(profile, small)

    def open_on(self, profile: str, small: bool) -> None:
        self.device = SimulatedDevice(profile)
        # A share of the programs is recorded, and has to come out of a replay as it was.
        Programs.count += 1
        self.trace = Path(self.folder.name) / f"{Programs.count}.vkmem"
        self.recording = begin(self.trace) if small else None
        self.allocator = Allocator(
            self.device,
            record=False if self.recording is None else self.recording,
            preferred_block_size=1 << 18 if small else None,
            frames_in_flight=FRAMES_IN_FLIGHT,
            track_call_sites=3,
        )
        self.pool = self.allocator.create_pool(
            memory_type_index=self.allocator.find_memory_type_index_for_buffer_info(64, TRANSFER),
            name="pool",
            block_size=1 << 17,
        )
        # From the beginning, so it knows everything.
        self.measured = vk_mem.statistics(self.allocator, profile=True)
        self.measured.__enter__()
        self.peaks = (0, 0)
        self.frame = 0
        self.live: list[Shadow] = []
        # Frames in which something was dropped without a close, and how many bytes.
        self.dropped: list[tuple[int, int]] = []

    def keep(self, resource: Any, size: int, name: str | None) -> Shadow:
        shadow = Shadow(resource, size, name)
        self.live.append(shadow)
        return shadow

    # ---- create ----

    @rule(target=buffers, size=SIZES, flags=HOST_FLAGS, name=st.none() | st.text(max_size=5))
    def create_buffer(self, size: int, flags: int, name: str | None) -> Any:
        try:
            made = self.allocator.create_buffer(size, TRANSFER, flags=flags, name=name)
        except OutOfDeviceMemoryError:
            return multiple()
        return self.keep(made, size, name)

    @rule(target=buffers, sizes=st.lists(SIZES, max_size=5), flags=HOST_FLAGS)
    def create_buffers(self, sizes: list[int], flags: int) -> Any:
        try:
            made = self.allocator.create_buffers(sizes, TRANSFER, flags=flags, name="one of many")
        except OutOfDeviceMemoryError as error:
            assert error.item is not None
            return multiple()
        assert [it.size for it in made] == sizes
        return multiple(*(self.keep(it, it.size, "one of many") for it in made))

    @rule(target=resources, size=SIZES, alignment=st.sampled_from([1, 16, 256, 4096]))
    def create_hidden_buffer(self, size: int, alignment: int) -> Any:
        made = self.allocator.create_buffer(
            size, BufferUsage.STORAGE_BUFFER, min_alignment=alignment
        )
        assert made.allocation.offset % alignment == 0
        return self.keep(made, size, None)

    @rule(target=resources, side=st.integers(1, 100), tiling=st.sampled_from(list(ImageTiling)[:2]))
    def create_image(self, side: int, tiling: int) -> Any:
        made = self.allocator.create_image(RGBA8, (side, side), IMAGE_TRANSFER, tiling=tiling)
        return self.keep(made, made.allocation.size, None)

    @rule(target=resources, size=SIZES)
    def allocate_memory(self, size: int) -> Any:
        return self.keep(self.allocator.allocate_memory(size), size, None)

    @rule(target=resources, size=st.integers(1, 60_000))
    def create_in_the_pool(self, size: int) -> Any:
        try:
            made = self.allocator.create_buffer(size, TRANSFER, pool=self.pool)
        except OutOfDeviceMemoryError:
            return multiple()
        return self.keep(made, size, None)

    # ---- use ----

    @rule(shadow=buffers, seed=SEEDS, place=st.floats(0, 1), part=st.floats(0, 1))
    def write(self, shadow: Shadow, seed: int, place: float, part: float) -> None:
        if shadow not in self.live:
            return
        offset = int(place * shadow.size)
        length = int(part * (shadow.size - offset))
        data = bytes([seed]) * length
        if not shadow.known:
            # New memory holds anything.
            shadow.resource.write(bytes(shadow.size))
            shadow.known = True
        shadow.resource.write(data, offset)
        shadow.contents[offset : offset + length] = data

    @rule(shadow=buffers, seed=SEEDS)
    def write_through_a_view(self, shadow: Shadow, seed: int) -> None:
        if shadow not in self.live:
            return
        with shadow.resource.map() as view:
            view[:] = bytes([seed]) * shadow.size
        shadow.contents[:] = bytes([seed]) * shadow.size
        shadow.known = True

    @rule(one=buffers, other=buffers)
    def copy(self, one: Shadow, other: Shadow) -> None:
        if one is other or one not in self.live or other not in self.live:
            return
        if not (one.known and other.known) or one.view or other.view:
            return
        length = min(one.size, other.size)
        self.device.copy_buffer(one.resource, other.resource, length)
        other.contents[:length] = one.contents[:length]

    @rule(shadow=buffers)
    def read(self, shadow: Shadow) -> None:
        if shadow in self.live and shadow.known:
            assert shadow.resource.read() == shadow.contents

    @rule(shadow=buffers)
    def open_a_view(self, shadow: Shadow) -> None:
        if shadow in self.live and shadow.view is None:
            shadow.view = memoryview(shadow.resource.map())

    @rule(shadow=buffers)
    def end_a_view(self, shadow: Shadow) -> None:
        if shadow.view is not None:
            shadow.view.release()
            shadow.view = None

    @rule(shadow=buffers, name=st.none() | st.text(max_size=5))
    def rename(self, shadow: Shadow, name: str | None) -> None:
        if shadow in self.live:
            shadow.resource.name = name
            shadow.name = name

    # ---- end ----

    def destroy(self, shadow: Shadow) -> None:
        resource = shadow.resource
        if shadow not in self.live:
            return
        end = resource.destroy if hasattr(resource, "destroy") else resource.free
        if shadow.view is not None:
            try:
                end()
            except BufferError:
                return
            raise AssertionError("destroyed under a view")
        end()
        end()
        self.live.remove(shadow)
        try:
            resource.read()
        except UseAfterFreeError:
            return
        raise AssertionError("read after destroy")

    @rule(shadow=buffers)
    def destroy_a_buffer(self, shadow: Shadow) -> None:
        self.destroy(shadow)

    @rule(shadows=st.lists(buffers, max_size=4))
    def destroy_many(self, shadows: list[Shadow]) -> None:
        ending = [it.resource for it in shadows if it.resource is not None]
        if any(it.view is not None for it in shadows):
            try:
                self.allocator.destroy_many(ending)
            except BufferError:
                return
            raise AssertionError("destroyed under a view")
        self.allocator.destroy_many(ending)
        assert not any(it.alive for it in ending)
        self.live = [it for it in self.live if it not in shadows]

    @rule(shadow=consumes(resources))
    def destroy_a_resource(self, shadow: Shadow) -> None:
        self.destroy(shadow)

    @rule(shadow=buffers | resources)
    def drop_without_close(self, shadow: Shadow) -> None:
        if shadow not in self.live or shadow.view is not None:
            return
        self.live.remove(shadow)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            shadow.resource = None
            gc.collect(0)
        assert [it.category for it in caught] == [ResourceWarning]
        self.dropped.append((self.frame, shadow.size))

    @rule(step=st.integers(1, 3))
    def next_frame(self, step: int) -> None:
        self.frame += step
        self.allocator.set_current_frame_index(self.frame)
        self.dropped = [it for it in self.dropped if it[0] + FRAMES_IN_FLIGHT >= self.frame]

    # ---- always ----

    @invariant()
    def counts_are_right(self) -> None:
        if not hasattr(self, "allocator"):
            return
        self.allocator.validate()
        total = totals(self.allocator)
        assert total.allocation_count == len(self.live) + len(self.dropped)
        assert total.allocation_bytes >= sum(it.size for it in self.live)
        budgets = self.allocator.heap_budgets()
        assert sum(it.allocation_count for it in budgets) == total.allocation_count
        assert sum(it.allocation_bytes for it in budgets) == total.allocation_bytes
        assert sum(it.block_bytes for it in budgets) == total.block_bytes
        held = sum(self.device.live_bytes(heap) for heap in range(len(budgets)))
        assert held == total.block_bytes
        assert self.device.live_memory_objects == total.block_count
        assert self.device.violations == []
        check_statistics(self.allocator)
        # Where several are made or ended in one step, a peak in between is not seen from here.
        measured = self.measured
        now = (measured.current_bytes, measured.current_count)
        assert now == (total.allocation_bytes, total.allocation_count)
        assert measured.peak_bytes >= max(self.peaks[0], now[0])
        assert measured.peak_count >= max(self.peaks[1], now[1])
        self.peaks = (measured.peak_bytes, measured.peak_count)
        profile = measured.profile
        assert sum(it.current_bytes for it in profile) == now[0]
        assert sum(it.total_count for it in profile) == measured.total_count
        leaks = self.allocator.leaks()
        assert len(leaks) == len(self.live)
        assert [it.serial for it in leaks] == sorted(it.serial for it in leaks)
        assert all(it.call_site and "_programs.py" in it.call_site for it in leaks)

    def teardown(self) -> None:
        if not hasattr(self, "allocator"):
            return
        for shadow in self.live:
            if shadow.view is not None:
                shadow.view.release()
            if isinstance(shadow.resource, Buffer):
                if shadow.known:
                    assert shadow.resource.read() == shadow.contents
                assert shadow.resource.name == shadow.name
        if self.recording is not None:
            check_replay(self.recording, self.trace, self.allocator)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            self.allocator.close()
        assert not any(shadow.resource.alive for shadow in self.live)
        if self.recording is not None:
            self.recording.close()
            self.trace.unlink()
        assert (self.measured.current_bytes, self.measured.current_count) == (0, 0)
        self.measured.__exit__(None, None, None)
        assert self.device.violations == []
        left = (self.device.live_memory_objects, self.device.live_buffers, self.device.live_images)
        assert left == (0, 0, 0)


PARTS = 5


def part(number: int) -> type:
    """A part of the programs as a test of its own: workers run the parts side by side. Hypothesis
    takes the seed from the name of the machine."""
    case = type(f"Programs{number}", (Programs,), {}).TestCase
    # They look at everything after every step.
    case.pytestmark = [pytest.mark.timeout(300)]
    case.settings = settings(
        max_examples=-(-EXAMPLES // PARTS),
        stateful_step_count=50,
        deadline=None,
        derandomize="VK_MEM_TEST_PROGRAMS" not in os.environ,
        suppress_health_check=[HealthCheck.too_slow],
    )
    return case


TestPrograms1, TestPrograms2, TestPrograms3, TestPrograms4, TestPrograms5 = (
    part(number) for number in range(1, PARTS + 1)
)
