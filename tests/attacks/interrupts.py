"""KeyboardInterrupt at random points of calls: no leaks, and everything still works."""

from __future__ import annotations

import ctypes
import gc
import itertools
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

from support import RANDOM, TRANSFER, check_statistics, totals
from systems import WINDOWS

from attacks.actions import REFUSALS, Worker
from attacks.apart import apart
from attacks.devices import any_allocator, any_device, check_device
from attacks.places import Place
from attacks.registry import Budget, attack
from vk_mem import SimulatedDevice

ROUNDS = 60
"""Interrupts that are tried in a case."""
CALLS = 6
"""Among which one comes, where its time is random."""
LATEST = 0.001
"""When it comes, in seconds; mostly much sooner."""


@attack("interrupts", short=36)
@apart
def interrupts(seed: int, budget: Budget) -> None:
    """Raises KeyboardInterrupt inside of calls, in every way; afterwards nothing is left."""
    sys.setswitchinterval(1e-5)
    sys.unraisablehook = show
    for number, dice in budget.cases(seed):
        with budget.case(seed, number):
            device = any_device(number)
            allocator = any_allocator(device, dice)
            place = Place(allocator, dice)
            worker = Worker(place, dice, str(number))
            kind = KINDS[number // 9 % len(KINDS)]
            with kind(dice) as interrupter:
                for _ in range(ROUNDS):
                    was_hit = interrupter.around(worker.step)
                    budget.counted[f"interrupts by {kind.__name__.lower()}"] += was_hit
                    # What an interrupt took from everybody, as an alias, ends with its frame.
                    place.pass_frames()
                    allocator.validate()
                    if was_hit:
                        # Calls do what they always do.
                        worker.step()
            end(worker)
            check_device(device)
            budget.counted["actions"] += worker.actions


def end(worker: Worker) -> None:
    """Frees all that is held; then nothing is left, and everything works."""
    allocator, place = worker.allocator, worker.place
    if isinstance(worker.device, SimulatedDevice):
        worker.device.clear_failures()
    worker.end()
    # The traceback of an interrupt that was raised in a callback, and what it holds.
    gc.collect()
    place.end()
    allocator.validate()
    check_statistics(allocator)
    total = totals(allocator)
    assert total.allocation_count == 0, f"{total}, {allocator.leaks()}"
    with allocator.create_buffer(1000, TRANSFER, flags=RANDOM) as buffer:
        buffer.write(bytes(range(250)) * 4)
        assert buffer.read() == bytes(range(250)) * 4
    allocator.close()


shown: list[type[BaseException]] = []
"""Interrupts that came where nothing can be raised: in finalisers and some callbacks."""


def show(it: Any) -> None:
    """Notes an interrupt; anything else is a fault, and shown."""
    if issubclass(it.exc_type, KeyboardInterrupt):
        shown.append(it.exc_type)
    else:
        sys.__unraisablehook__(it)


class Interrupter:
    """Calls something and interrupts it, or not."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice

    def __enter__(self) -> Interrupter:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def around(self, call: Callable[[], None]) -> bool:
        """Whether it was interrupted."""
        raise NotImplementedError


class FromAThread(Interrupter):
    """Another thread interrupts this one after a while."""

    def __enter__(self) -> Interrupter:
        # Armed: an interrupt that comes now is raised. Sent: it was.
        self.armed = self.sent = self.ended = False
        self.lock = threading.Lock()
        self.go = threading.Semaphore(0)
        self.came = threading.Semaphore(0)
        self.main = threading.get_ident()
        self.thread = threading.Thread(target=self.work)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = True
        self.go.release()
        self.thread.join()

    def work(self) -> None:
        while self.go.acquire() and not self.ended:
            time.sleep(self.delay)
            self.send()
            self.came.release()

    def send(self) -> None:
        """In the other thread."""
        raise NotImplementedError

    def around(self, call: Callable[[], None]) -> bool:
        shown.clear()
        self.sent = was_hit = False
        self.delay = self.dice.random() ** 3 * LATEST
        self.go.release()
        try:
            self.armed = True
            for _ in range(CALLS):
                call()
            with self.lock:
                self.armed = False
            end = time.monotonic() + 10
            while self.sent and not shown:
                assert time.monotonic() < end, "an interrupt was swallowed"
        except KeyboardInterrupt:
            was_hit = True
        self.armed = False
        self.came.acquire()
        return was_hit


class Signals(FromAThread):
    """It sends a signal, whose handler raises."""

    def __enter__(self) -> Interrupter:
        self.before = signal.signal(signal.SIGUSR1, self.handle)
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        signal.signal(signal.SIGUSR1, self.before)

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.armed:
            self.armed, self.sent = False, True
            raise KeyboardInterrupt

    def send(self) -> None:
        signal.pthread_kill(self.main, signal.SIGUSR1)


class Exceptions(FromAThread):
    """It raises with `PyThreadState_SetAsyncExc`.

    That cannot be taken back: CPython 3.11 would keep a note that something is to be done, and hang
    with it as soon as a profiler is set.
    """

    def send(self) -> None:
        with self.lock:
            if self.armed:
                self.sent = True
                raise_in(self.main, KeyboardInterrupt)


def raise_in(thread: int, exception: type[BaseException]) -> None:
    """An exception that comes where a thread looks for signals."""
    what = ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), what)


class Places(Interrupter):
    """Raises at the n-th place where a Python function begins or a C function has ended."""

    def around(self, call: Callable[[], None]) -> bool:
        self.left = self.dice.randrange(1, 120)
        self.was_raised = was_hit = False
        shown.clear()
        sys.setprofile(self.profile)
        try:
            call()
        except KeyboardInterrupt:
            was_hit = True
        finally:
            sys.setprofile(None)
        assert was_hit or shown or not self.was_raised, "an interrupt was swallowed"
        return was_hit

    def profile(self, frame: FrameType, event: str, argument: Any) -> None:
        # What ends a `with` is called without a look at signals before it.
        if event not in ("call", "c_return") or getattr(argument, "__name__", "") == "__exit__":
            return
        self.left -= 1
        if self.left == 0:
            self.was_raised = True
            sys.setprofile(None)
            raise KeyboardInterrupt


class Arguments(Interrupter):
    """The call comes back into Python code that raises: numbers, items, callbacks."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__(dice)
        self.count = itertools.count()

    def around(self, call: Callable[[], None]) -> bool:
        worker: Worker = call.__self__  # type: ignore[attr-defined]
        if self.dice.random() < 0.5:
            call()
        try:
            self.dice.choice(self.calls())(worker)
        except KeyboardInterrupt:
            return True
        except REFUSALS:
            pass
        return False

    def calls(self) -> list[Callable[[Worker], object]]:
        """Each takes an interrupt somewhere in its middle."""
        return [
            lambda it: it.allocator.create_buffer(Interrupts(), TRANSFER),
            lambda it: it.allocator.create_buffer(64, TRANSFER, min_alignment=Interrupts()),
            lambda it: it.allocator.create_image(37, (4, Interrupts()), 3),
            lambda it: it.allocator.create_buffers(self.items(64), TRANSFER),
            lambda it: it.allocator.create_images(self.items((37, (4, 4), 3))),
            lambda it: it.allocator.allocate_memory(Interrupts()),
            lambda it: it.allocator.allocate_memory_pages(self.items(64)),
            lambda it: it.allocator.destroy_many(self.held(it)),
            lambda it: it.allocator.flush_allocations(self.held(it)),
            lambda it: it.place.block.allocate_many(self.items(64)),
            lambda it: it.place.block.free_many(self.items(0)),
            lambda it: it.place.block.allocate(64, Interrupts()),
            lambda it: it.place.heaps[0].allocate(Interrupts()),
            lambda it: it.allocator.set_current_frame_index(Interrupts()),
            lambda it: [it.device.fill_buffer(one.resource, Interrupts()) for one in it.one()],
            lambda it: [one.resource.read(0, Interrupts()) for one in it.one()],
            self.out_of_memory,
            self.warned,
        ]

    def items(self, item: Any) -> Iterator[Any]:
        for _ in range(self.dice.randrange(20)):
            yield item
        raise KeyboardInterrupt

    def held(self, worker: Worker) -> Iterator[Any]:
        for it in worker.held:
            yield it.resource
        raise KeyboardInterrupt

    def out_of_memory(self, worker: Worker) -> None:
        def interrupt(*_: object) -> bool:
            raise KeyboardInterrupt

        allocator, index = worker.allocator, worker.place.memory_type_index
        allocator.on_out_of_memory(interrupt)
        try:
            with (
                allocator.create_pool(
                    memory_type_index=index, block_size=4096, max_block_count=1
                ) as pool,
                allocator.create_buffer(4096, TRANSFER, pool=pool),
            ):
                allocator.create_buffer(4096, TRANSFER, pool=pool)
        finally:
            allocator.on_out_of_memory(None)

    def warned(self, worker: Worker) -> None:
        """A finaliser of user data, in the middle of a destroy."""

        class Raises:
            def __del__(self) -> None:
                raise KeyboardInterrupt

        worker.allocator.create_buffer(64, TRANSFER, user_data=Raises()).destroy()
        raise KeyboardInterrupt


class Interrupts:
    """A number that takes an interrupt."""

    def __index__(self) -> int:
        raise KeyboardInterrupt


KINDS: tuple[type[Interrupter], ...] = (Signals, Exceptions, Places, Arguments)
if WINDOWS:  # which sends no signals to threads
    KINDS = KINDS[1:]
