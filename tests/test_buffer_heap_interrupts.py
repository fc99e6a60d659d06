"""A `BufferHeap` loses no range to an interrupt or a warning that raises."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest
from support import run_python

from vk_mem import AllocationCreateFlags, Allocator, BufferHeap, BufferUsage, SimulatedDevice
from vk_mem.memory.buffer_heap import BufferSlice

UNIFORM = BufferUsage.UNIFORM_BUFFER
WRITE = AllocationCreateFlags.HOST_ACCESS_SEQUENTIAL_WRITE
FRAMES = 2

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(autouse=True)
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What finalisers raised. A hook that kept whole tracebacks would keep what they lost, too."""
    types: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda it: types.append(it.exc_type))
    return types


class Interrupter:
    """Raises KeyboardInterrupt where CPython looks for signals, at the n-th such place: where a
    Python function begins, and after each call of a C function."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.raised = False

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if not frame.f_code.co_filename.endswith("buffer_heap.py"):
            return
        # What ends a `with` is called without a look at signals before it.
        if event not in ("call", "c_return") or getattr(argument, "__name__", "") == "__exit__":
            return
        self.left -= 1
        if self.left == 0:
            self.raised = True
            sys.setprofile(None)
            raise KeyboardInterrupt


def interrupted_everywhere(make: Callable[[], tuple[BufferHeap, Callable[[], object]]]) -> int:
    """Runs a call once for each place where it can be interrupted; afterwards its heap has no range
    in use and serves as a new one does."""
    places = 0
    while True:
        heap, call = make()
        interrupter = Interrupter(places + 1)
        sys.setprofile(interrupter)
        try:
            call()
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
        del call
        check_all_is_back(heap, places + 1)
        if not interrupter.raised:
            return places
        places += 1


def check_all_is_back(heap: BufferHeap, place: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
        allocator = heap._allocator
        # What was dropped is seen by the next call, and waits for its frame.
        heap.allocate(16).free()
        for frame in range(1, FRAMES + 2):
            allocator.set_current_frame_index(allocator.current_frame_index + frame)
        heap.allocate(16).free()
        assert heap.allocated == 0, f"lost at place {place}"
        heap._ranges.validate()
        # No lock is left with this thread.
        taken: list[Any] = []
        thread = threading.Thread(target=lambda: taken.append(heap.allocate(16)))
        thread.start()
        thread.join(10)
        assert taken, f"the lock is held at place {place}"
        taken.pop().free()
        heap.close()
        allocator.close()


def new_heap(**keywords: Any) -> BufferHeap:
    allocator = Allocator(SimulatedDevice("discrete-8gib"), frames_in_flight=FRAMES)
    return BufferHeap(allocator, UNIFORM, block_size=4096, **keywords)


def test_an_interrupted_allocate() -> None:
    def make() -> tuple[BufferHeap, Callable[[], object]]:
        heap = new_heap()
        return heap, lambda: heap.allocate(100)

    assert interrupted_everywhere(make) > 10


def test_an_interrupted_allocate_that_grows_and_releases() -> None:
    def make() -> tuple[BufferHeap, Callable[[], object]]:
        heap = new_heap()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(3):
                heap.allocate(3000)
        heap._allocator.set_current_frame_index(FRAMES + 1)
        return heap, lambda: [heap.allocate(4000) for _ in range(3)]

    assert interrupted_everywhere(make) > 30


def test_an_interrupted_free() -> None:
    def make() -> tuple[BufferHeap, Callable[[], object]]:
        heap = new_heap(flags=WRITE)
        slices = [heap.allocate(3000) for _ in range(3)]
        assert slices[0].mapped is not None

        def call() -> None:
            while slices:
                slices[-1].free()
                slices.pop()

        return heap, call

    assert interrupted_everywhere(make) > 20


def test_an_interrupted_finaliser() -> None:
    def make() -> tuple[BufferHeap, Callable[[], object]]:
        heap = new_heap()
        slices = [heap.allocate(100) for _ in range(2)]
        return heap, slices.clear

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert interrupted_everywhere(make) > 3


def test_an_interrupted_free_can_be_repeated() -> None:
    """Whatever of the view was released already: an array that is left still holds the range."""
    places = 0
    while True:
        heap = new_heap(flags=WRITE)
        piece = heap.allocate(256)
        array = np.frombuffer(piece.mapped, np.uint8)
        interrupter = Interrupter(places + 1)
        sys.setprofile(interrupter)
        try:
            piece.free()
        except (KeyboardInterrupt, BufferError):
            pass
        finally:
            sys.setprofile(None)
        with pytest.raises(BufferError):
            piece.free()
        assert heap.allocated == 256
        del array
        piece.free()
        assert heap.allocated == 0
        heap.close()
        heap._allocator.close()
        if not interrupter.raised:
            break
        places += 1
    assert places > 3


def test_a_warning_as_an_error_loses_nothing(unraisable: list[Any]) -> None:
    heap = new_heap()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        heap.allocate(100)
        gc.collect()
        heap._allocator.set_current_frame_index(FRAMES + 1)
        heap.allocate(16).free()
    assert unraisable == [ResourceWarning]
    assert heap.allocated == 0
    heap.close()
    heap._allocator.close()


def test_a_warning_hook_that_keeps_the_slice() -> None:
    """It has given its range back, and cannot do so twice."""
    kept: list[BufferSlice] = []
    heap = new_heap()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_, **__: None
        show = warnings._showwarnmsg  # type: ignore[attr-defined]
        warnings._showwarnmsg = lambda it: kept.append(it.source)  # type: ignore[attr-defined]
        try:
            heap.allocate(100)
        finally:
            warnings._showwarnmsg = show  # type: ignore[attr-defined]
    (piece,) = kept
    piece.free()
    heap._allocator.set_current_frame_index(FRAMES + 1)
    heap.allocate(16).free()
    assert heap.allocated == 0
    del piece
    kept.clear()
    heap.close()
    heap._allocator.close()


def test_an_interrupt_frees_nothing_that_is_looked_at() -> None:
    """Ranges that were dropped wait for their views, whatever interrupts the call that looks."""
    places = 0
    while True:
        heap = new_heap(flags=WRITE)
        pieces = [heap.allocate(256) for _ in range(3)]
        views = [piece.map() for piece in pieces]
        pieces.clear()
        gc.collect()
        allocator = heap._allocator
        allocator.set_current_frame_index(FRAMES + 1)
        interrupter = Interrupter(places + 1)
        sys.setprofile(interrupter)
        try:
            heap._free_due()
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
        for frame in (2, 3):
            allocator.set_current_frame_index(frame * (FRAMES + 1))
            heap._free_due()
        assert heap.allocated == 3 * 256, places
        for view in views:
            view.close()
        heap._free_due()
        assert heap.allocated == 0, places
        heap.close()
        allocator.close()
        if not interrupter.raised:
            break
        places += 1
    assert places > 3


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers of the system's here")
def test_real_signals() -> None:
    """As many as a timer gives, in a process of its own."""
    program = """
        import gc, signal, time, warnings
        from vk_mem import Allocator, BufferHeap, BufferUsage, SimulatedDevice
        warnings.simplefilter("ignore")
        allocator = Allocator(SimulatedDevice("discrete-8gib"), frames_in_flight=1)
        heap = BufferHeap(allocator, BufferUsage.UNIFORM_BUFFER, block_size=4096)
        armed = False
        count = 0
        def interrupt(*_):
            global count
            if armed:
                count += 1
                raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, interrupt)
        import sys
        sys.unraisablehook = lambda _: None
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
        end = time.monotonic() + 2
        frame = 0
        while time.monotonic() < end:
            frame += 1
            try:
                armed = True
                made = [heap.allocate(500) for _ in range(9)]
                made[0].free()
                made.clear()
                armed = False
            except KeyboardInterrupt:
                armed = False
            allocator.set_current_frame_index(frame)
        signal.setitimer(signal.ITIMER_REAL, 0)
        made = None
        gc.collect()
        heap.allocate(8).free()
        allocator.set_current_frame_index(frame + 5)
        heap.allocate(8).free()
        print(heap.allocated, count > 100)
        heap.close()
        allocator.close()
    """
    ran = run_python(program)
    assert (ran.returncode, ran.stdout) == (0, "0 True\n"), ran.stdout + ran.stderr
