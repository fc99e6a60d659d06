"""A `ResourceCache` is right after an interrupt at any place: no lock stays taken, no key stays in
the making, no resource is left behind."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from support import TRANSFER

from vk_mem import AllocationCreateFlags, Allocator, Buffer, ResourceCache, SimulatedDevice

SIZE = 4096
FRAMES = 2

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

Cache = ResourceCache[int, Buffer]


class Interrupter:
    """Raises KeyboardInterrupt where CPython looks for signals, at the n-th such place: where a
    Python function begins, and after each call of a C function."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.raised = False

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if not frame.f_code.co_filename.endswith(("resource_cache.py", "single_flight.py")):
            return
        # What ends a `with` is called without a look at signals before it.
        if event not in ("call", "c_return") or getattr(argument, "__name__", "") == "__exit__":
            return
        self.left -= 1
        if self.left == 0:
            self.raised = True
            sys.setprofile(None)
            raise KeyboardInterrupt


def new_cache() -> Cache:
    allocator = Allocator(SimulatedDevice("discrete-8gib"), frames_in_flight=FRAMES)
    flags = AllocationCreateFlags.CAN_BECOME_LOST

    def make(key: int) -> Buffer:
        return allocator.create_buffer(SIZE, TRANSFER, flags=flags)

    cache = Cache(allocator, make, on_evict=lambda key, buffer: None)
    for key in range(4):
        cache[key]
    next_frames(allocator)
    return cache


def next_frames(allocator: Allocator) -> None:
    allocator.set_current_frame_index(allocator.current_frame_index + FRAMES + 1)


def check(cache: Cache, place: int) -> None:
    gc.collect()
    allocator: Allocator = cache.allocator
    device: Any = allocator.device
    if not cache.closed:
        # Another thread can make each key, so no lock and no call is left.
        got: list[Buffer] = []
        thread = threading.Thread(target=lambda: got.extend(map(cache.__getitem__, range(8))))
        thread.start()
        thread.join(10)
        assert len(got) == 8, f"stuck after an interrupt at place {place}"
        assert all(it.alive for it in got)
        assert len(cache) == len(cache._by_resource) == 8 and cache.bytes == 8 * SIZE
        assert not any(it.lock.locked() for it in cache._making._calls.values())
        assert not cache._making._waiting
    # Also ends what an interrupted close has left.
    cache.close()
    assert cache.bytes == len(cache) == 0
    next_frames(allocator)
    assert device.live_buffers == 0, f"left behind after an interrupt at place {place}"
    allocator.close()


def budget_of(cache: Cache, bytes: int) -> None:
    cache.budget = bytes
    cache.budget = None


CALLS: dict[str, Callable[[Cache], object]] = {
    "hit": lambda cache: cache[1],
    "miss": lambda cache: cache[5],
    "get": lambda cache: cache.get(2),
    "budget": lambda cache: budget_of(cache, SIZE),
    "delete": lambda cache: cache.__delitem__(1),
    "pop": lambda cache: cache.pop(1).destroy(),
    "set": lambda cache: cache.__setitem__(1, cache._make(1)),
    "loss": lambda cache: cache.allocator.make_allocations_lost(),
    "clear": lambda cache: cache.clear(),
    "close": lambda cache: cache.close(),
}


@pytest.mark.parametrize("name", sorted(CALLS))
def test_an_interrupt_at_any_place(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # What interrupts a callback of losses is printed.
    monkeypatch.setattr(sys, "unraisablehook", lambda it: None)
    places = 0
    while True:
        cache = new_cache()
        interrupter = Interrupter(places + 1)
        sys.setprofile(interrupter)
        try:
            CALLS[name](cache)
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
        check(cache, places + 1)
        if not interrupter.raised:
            break
        places += 1
    assert places >= 5
