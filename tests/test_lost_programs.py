"""Random programs with resources that may be lost, compared with a shadow model."""

from __future__ import annotations

import os
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, consumes, initialize, multiple, rule
from support import LOSABLE, RANDOM, TAKES, TRANSFER
from test_programs import EXAMPLES, FRAMES_IN_FLIGHT, Programs, Shadow

from vk_mem import LostError, OutOfDeviceMemoryError, SimulatedDevice

SIZES = st.integers(1, 40_000)
PRIORITIES = st.sampled_from([None, 0.0, 0.5, 1.0])
EVICT = st.sampled_from(["idle", "never", "lower_priority", 0, 2, 5])


class LossPrograms(Programs):
    losables = Bundle("losables")

    @initialize(
        profile=st.sampled_from(SimulatedDevice.profile_names()),
        small=st.booleans(),
        algorithm=st.sampled_from(["tlsf", "buddy", "linear"]),
    )
    def open(self, profile: str, small: bool, algorithm: str = "tlsf") -> None:
        self.open_on(profile, small)
        index = self.allocator.find_memory_type_index_for_buffer_info(64, TRANSFER, flags=RANDOM)
        self.small = self.allocator.create_pool(
            memory_type_index=index, block_size=1 << 17, max_block_count=2, algorithm=algorithm
        )
        self.last_use: dict[Shadow, int] = {}

    def find_losses(self) -> list[Shadow]:
        """Notes what was lost, and that it might be."""
        lost = [it for it in self.last_use if it in self.live and it.resource.is_lost]
        for it in lost:
            assert self.last_use[it] + FRAMES_IN_FLIGHT < self.frame, "lost while in use"
            assert it.view is None, "lost under a view"
            assert not it.resource.touch() and not it.resource.alive
            assert it.resource.name == it.name
            self.live.remove(it)
        return lost

    def attempt(self, size: int, **keywords: Any) -> Any:
        """A buffer, or None; a request that fails costs nobody."""
        try:
            return self.allocator.create_buffer(size, TRANSFER, pool=self.small, **keywords)
        except OutOfDeviceMemoryError:
            assert self.find_losses() == []
            return None

    @rule(target=losables, size=SIZES, priority=PRIORITIES, takes=st.booleans())
    def create_losable(self, size: int, priority: float | None, takes: bool) -> Any:
        flags = LOSABLE | RANDOM | (TAKES if takes else 0)
        name = f"losable {size}"
        made = self.attempt(size, flags=flags, priority=priority, name=name)
        lost = self.find_losses()
        assert takes or lost == []
        if made is None:
            return multiple()
        shadow = self.keep(made, size, name)
        self.last_use[shadow] = self.frame
        return shadow

    @rule(target=Programs.resources, size=SIZES, evict=EVICT, priority=PRIORITIES)
    def take(self, size: int, evict: Any, priority: float | None) -> Any:
        made = self.attempt(size, flags=RANDOM | TAKES, evict=evict, priority=priority)
        lost = self.find_losses()
        if evict == "never":
            assert lost == []
        if isinstance(evict, int):
            assert all(self.last_use[it] + evict <= self.frame for it in lost)
        if made is None:
            return multiple()
        return self.keep(made, size, None)

    @rule(shadow=losables)
    def touch(self, shadow: Shadow) -> None:
        if shadow in self.live:
            assert shadow.resource.touch()
            self.last_use[shadow] = self.frame

    @rule(shadows=st.lists(losables, max_size=8))
    def touch_many(self, shadows: list[Shadow]) -> None:
        there = [it for it in shadows if it in self.live or it.resource.is_lost]
        lost = self.allocator.touch_many([it.resource for it in there])
        assert lost == [it.resource for it in there if it not in self.live]
        for it in there:
            if it in self.live:
                self.last_use[it] = self.frame

    @rule(shadow=losables, seed=st.integers(0, 255))
    def fill(self, shadow: Shadow, seed: int) -> None:
        if shadow in self.live:
            shadow.contents[:] = bytes([seed]) * shadow.size
            shadow.resource.write(shadow.contents)
            shadow.known = True
            self.last_use[shadow] = self.frame
        elif shadow.resource.is_lost:
            with pytest.raises(LostError):
                shadow.resource.write(b"x")

    @rule(shadow=losables)
    def look(self, shadow: Shadow) -> None:
        if shadow in self.live and shadow.known:
            assert shadow.resource.read() == shadow.contents
            self.last_use[shadow] = self.frame

    @rule(shadow=losables)
    def view(self, shadow: Shadow) -> None:
        if shadow in self.live:
            if shadow.view is None:
                shadow.view = memoryview(shadow.resource.map())
            else:
                shadow.view.release()
                shadow.view = None
            self.last_use[shadow] = self.frame

    @rule(whole=st.booleans())
    def lose_all(self, whole: bool) -> None:
        idle = [
            it
            for it in self.live
            if it.view is None
            and it in self.last_use
            and self.last_use[it] + FRAMES_IN_FLIGHT < self.frame
        ]
        of = self.allocator if whole else self.small
        assert of.make_allocations_lost() == len(idle)
        assert {id(it) for it in self.find_losses()} == {id(it) for it in idle}

    @rule(shadow=consumes(losables))
    def destroy_losable(self, shadow: Shadow) -> None:
        was_lost = shadow.resource.is_lost
        self.destroy(shadow)
        if was_lost:
            shadow.resource.destroy()
        assert shadow.resource.is_lost == was_lost


case = type("LossPrograms1", (LossPrograms,), {}).TestCase
case.pytestmark = [pytest.mark.timeout(300)]
case.settings = settings(
    max_examples=-(-EXAMPLES // 5),
    stateful_step_count=60,
    deadline=None,
    derandomize="VK_MEM_TEST_PROGRAMS" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLossPrograms = case
del case
