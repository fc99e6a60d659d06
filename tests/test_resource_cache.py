"""`ResourceCache`: makes on a miss, touches on a hit, makes again after a loss, on every device."""

from __future__ import annotations

import copy
import gc
import pickle
import random
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from support import DEDICATED, IMAGE_TRANSFER, RANDOM, RGBA8, TRANSFER

from vk_mem import (
    AllocationCreateFlags,
    Allocator,
    Buffer,
    Image,
    InvalidArgumentError,
    LostError,
    OutOfDeviceMemoryError,
    Pool,
    ResourceCache,
    SimulatedDevice,
    UseAfterFreeError,
)

KIB = 1 << 10
SIZE = 64 * KIB
LOSABLE = AllocationCreateFlags.CAN_BECOME_LOST | AllocationCreateFlags.CAN_MAKE_OTHER_LOST
FRAMES = 2


def maker(allocator: Allocator, **keywords: Any) -> Callable[[int], Buffer]:
    """Makes buffers of 64 KiB that may be lost; the key is their contents."""

    def make(key: int) -> Buffer:
        keywords.setdefault("flags", LOSABLE)
        buffer = allocator.create_buffer(SIZE, TRANSFER, name=f"buffer {key}", **keywords)
        try:
            buffer.upload(np.full(SIZE // 4, key, np.uint32))
        except Exception:
            buffer.destroy()
            raise
        return buffer

    return make


def is_right(key: int, buffer: Buffer) -> bool:
    return bool((buffer.download(np.uint32) == key).all())


@pytest.fixture
def pool(allocator: Allocator) -> Iterator[Pool]:
    """A pool with room for four buffers of 64 KiB."""
    index = allocator.find_memory_type_index_for_buffer_info(SIZE, TRANSFER)
    with allocator.create_pool(
        memory_type_index=index, block_size=4 * SIZE, max_block_count=1
    ) as pool:
        yield pool


def figures(cache: ResourceCache[Any, Any]) -> tuple[int, int, int]:
    return cache.hits, cache.misses, cache.evicted


def test_it_makes_what_is_missing_and_touches_what_is_there(allocator: Allocator) -> None:
    with ResourceCache(allocator, maker(allocator)) as cache:
        assert (len(cache), cache.bytes, figures(cache)) == (0, 0, (0, 0, 0))
        first = cache[1]
        assert is_right(1, first) and is_right(2, cache[2])
        assert cache[1] is first
        assert figures(cache) == (1, 2, 0)
        assert cache.bytes == sum(it.allocation.size for _, it in cache.items()) >= 2 * SIZE
        assert list(cache) == [2, 1] and len(cache) == 2
        assert 1 in cache and 3 not in cache
        # Asking for nothing makes nothing, and moves nothing.
        assert cache.get(3) is None and cache.get(3, "none") == "none"
        assert cache.items() == [(2, cache.get(2)), (1, first)]
        assert cache.allocator is allocator and cache.budget is None
        assert repr(cache) == (
            "<vk_mem.ResourceCache, 2 resources, 128 KiB; 2 hits, 2 missed, 0 evicted>"
        )
    assert cache.closed and repr(cache) == "<vk_mem.ResourceCache, closed>"
    assert not first.alive


def test_what_was_lost_is_made_again(allocator: Allocator, pool: Pool) -> None:
    told: list[tuple[int, Buffer]] = []
    with ResourceCache(
        allocator, maker(allocator, pool=pool), on_evict=lambda *it: told.append(it)
    ) as cache:
        made = [cache[key] for key in range(4)]
        allocator.set_current_frame_index(FRAMES + 1)
        assert cache[0] is made[0]
        # No room for a fifth one but that of the one that was not used for longest.
        assert is_right(4, cache[4])
        assert told == [(1, made[1])] and made[1].is_lost
        assert made[1].name == "buffer 1"
        assert 1 not in cache and cache.get(1) is None
        assert list(cache) == [2, 3, 0, 4] and cache.bytes == 4 * SIZE
        with pytest.raises(LostError):
            made[1].download()
        again = cache[1]
        assert again is not made[1] and is_right(1, again)
        assert [key for key, _ in told] == [1, 2]
        assert figures(cache) == (1, 6, 2)
        # All that is left was used in this frame, or the buffers fill the pool.
        assert cache[3] is made[3]
        with pytest.raises(OutOfDeviceMemoryError):
            cache[5]
        assert 5 not in cache and figures(cache) == (2, 7, 2)
        assert all(is_right(key, it) for key, it in cache.items())


def test_a_loss_elsewhere_is_told_at_once(allocator: Allocator, pool: Pool) -> None:
    """Whoever takes the memory: the entry is gone when that call returns."""
    told: list[int] = []
    with ResourceCache(
        allocator, maker(allocator, pool=pool), on_evict=lambda key, _: told.append(key)
    ) as cache:
        for key in range(4):
            assert cache[key].touch()
        allocator.set_current_frame_index(FRAMES + 1)
        large = allocator.create_buffer(2 * SIZE, TRANSFER, pool=pool, flags=LOSABLE)
        assert sorted(told) == sorted({0, 1, 2, 3} - set(cache)) and len(cache) == 2
        large.destroy()
        left = list(cache)
        assert pool.make_allocations_lost() == 2
        assert told[-2:] == left and len(cache) == 0 and cache.bytes == 0
        assert cache.evicted == 4


def test_images_and_memory(allocator: Allocator) -> None:
    def make(side: int) -> Image:
        image = allocator.create_image(RGBA8, (side, side), IMAGE_TRANSFER, flags=LOSABLE)
        image.upload(np.full((side, side, 4), side, np.uint8))
        return image

    with (
        ResourceCache(allocator, make) as images,
        ResourceCache(allocator, lambda size: allocator.allocate_memory(size)) as memory,
    ):
        image = images[32]
        assert (image.download() == 32).all()
        allocator.set_current_frame_index(FRAMES + 1)
        assert allocator.make_allocations_lost() == 1
        assert image.is_lost and 32 not in images
        assert (images[32].download() == 32).all()
        assert memory[4096] is memory[4096] and memory.bytes == 4096


def keep_frames(allocator: Allocator, count: int = FRAMES + 1) -> None:
    allocator.set_current_frame_index(allocator.current_frame_index + count)


def test_the_budget_takes_the_least_recently_used(allocator: Allocator) -> None:
    told: list[tuple[int, bool]] = []
    with ResourceCache(
        allocator,
        maker(allocator),
        3 * SIZE,
        on_evict=lambda key, it: told.append((key, it.alive)),
    ) as cache:
        made = [cache[key] for key in range(5)]
        # All are used in this frame: the budget has to wait.
        assert len(cache) == 5 and cache.bytes == 5 * SIZE
        keep_frames(allocator, FRAMES)
        assert cache[0] is made[0] and told == []
        keep_frames(allocator, 1)
        # A hit is enough. The resource is still there while it is told of.
        assert cache[4] is made[4]
        assert told == [(1, True), (2, True)] and not made[1].alive
        assert list(cache) == [3, 0, 4] and cache.evicted == 2
        keep_frames(allocator)
        cache.budget = SIZE
        assert [key for key, _ in told] == [1, 2, 3, 0] and list(cache) == [4]
        assert cache.budget == SIZE
        assert "1 resource, 64 KiB of 64 KiB; 2 hits, 5 missed, 4 evicted" in repr(cache)
        cache.budget = None
        cache[5]
        assert len(cache) == 2


def test_what_the_budget_took_is_released_with_its_frame(
    make_simulated: Callable[..., SimulatedDevice],
) -> None:
    device = make_simulated()
    with Allocator(device) as allocator:
        cache = ResourceCache(
            allocator, lambda _: allocator.create_buffer(SIZE, TRANSFER), budget=SIZE
        )
        for frame in range(40):
            allocator.set_current_frame_index(frame)
            assert cache[frame].alive
            # Those of the last three frames, and as many that wait for their frame.
            assert device.live_buffers <= 2 * (FRAMES + 1)
        assert figures(cache) == (0, 40, 40 - FRAMES - 1)
        cache.close()
        keep_frames(allocator)
        assert device.live_buffers == 0


def test_uses_elsewhere_count(allocator: Allocator) -> None:
    """A program that keeps what it got and touches it is using it, as the allocator sees it."""
    with ResourceCache(allocator, maker(allocator), budget=2 * SIZE) as cache:
        made = [cache[key] for key in range(4)]
        keep_frames(allocator)
        assert allocator.touch_many(made[:2]) == []
        cache[4]
        assert set(cache) == {0, 1, 4}
        keep_frames(allocator)
        assert made[0].touch()
        cache[5]
        assert set(cache) == {0, 5}


class Model:
    """What the cache has to do: exact LRU with frames."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.used: OrderedDict[int, int] = OrderedDict()
        self.evicted: list[int] = []

    def use(self, key: int, frame: int) -> None:
        self.used[key] = frame
        self.used.move_to_end(key)
        while len(self.used) > self.budget:
            oldest, last = next(iter(self.used.items()))
            if last + FRAMES >= frame:
                break
            del self.used[oldest]
            self.evicted.append(oldest)


@pytest.mark.parametrize("losable", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_an_exact_lru(simulated_allocator: Allocator, seed: int, losable: bool) -> None:
    chance, model = random.Random(seed), Model(budget=8)
    evicted: list[int] = []
    made: list[int] = []
    allocator = simulated_allocator
    flags = LOSABLE if losable else AllocationCreateFlags(0)

    def make(key: int) -> Buffer:
        made.append(key)
        return allocator.create_buffer(4096, TRANSFER, flags=flags)

    with ResourceCache(
        allocator, make, 8 * 4096, on_evict=lambda key, _: evicted.append(key)
    ) as cache:
        frame = 0
        for _ in range(2000):
            if chance.random() < 0.2:
                frame += chance.randrange(1, 4)
                allocator.set_current_frame_index(frame)
            key = int(chance.paretovariate(0.9)) % 40
            expected = model.used.get(key)
            before = len(made)
            cache[key]
            assert (len(made) == before) == (expected is not None)
            model.use(key, frame)
            assert list(cache) == list(model.used)
            assert evicted == model.evicted
        assert cache.misses == len(made) and cache.hits == 2000 - len(made)
        assert cache.evicted == len(evicted) > 100
        cache._on_evict = None


def test_frames_wrap_around(simulated_allocator: Allocator) -> None:
    allocator = simulated_allocator
    allocator.set_current_frame_index((1 << 32) - 1)
    with ResourceCache(allocator, maker(allocator), budget=SIZE) as cache:
        cache[0]
        allocator.set_current_frame_index(1)
        cache[1]
        assert list(cache) == [0, 1]
        allocator.set_current_frame_index(2)
        cache[1]
        assert list(cache) == [1]


def test_taking_out_and_putting_in(allocator: Allocator) -> None:
    told: list[int] = []
    make = maker(allocator)
    with ResourceCache(allocator, make, on_evict=lambda key, _: told.append(key)) as cache:
        kept = [cache[key] for key in range(4)]
        # The caller owns what it popped.
        assert cache.pop(0) is kept[0] and told == [] and kept[0].alive
        assert cache.pop(0, None) is None
        with pytest.raises(KeyError, match="0"):
            cache.pop(0)
        assert cache.pop(key=0, default=5) == 5
        del cache[1]
        assert told == [1] and not kept[1].alive
        with pytest.raises(KeyError, match="1"):
            del cache[1]
        # Its own again, and one in place of another.
        cache[0] = kept[0]
        assert cache[0] is kept[0]
        other = make(2)
        cache[2] = other
        cache[2] = other
        assert cache[2] is other and told == [1, 2] and not kept[2].alive
        assert cache.evicted == 0 and cache.bytes == 3 * SIZE
        cache.clear()
        assert told == [1, 2, 3, 0, 2] and len(cache) == 0 and cache.bytes == 0
        assert not kept[3].alive and not cache.closed
        cache[7]
    assert told[-1] == 7


def test_what_was_popped_is_lost_without_the_cache(allocator: Allocator, pool: Pool) -> None:
    told: list[int] = []
    with ResourceCache(
        allocator, maker(allocator, pool=pool), on_evict=lambda key, _: told.append(key)
    ) as cache:
        mine = cache[0]
        lost = cache[1]
        cache.pop(0)
        cache[0] = again = cache._make(0)
        keep_frames(allocator)
        assert again.touch()
        assert pool.make_allocations_lost() == 2
        assert mine.is_lost and lost.is_lost and told == [1]
        assert cache[0] is again
        mine.destroy()


def test_what_the_caller_destroyed_is_made_again(allocator: Allocator) -> None:
    with ResourceCache(allocator, maker(allocator)) as cache:
        cache[0].destroy()
        assert 0 not in cache
        assert is_right(0, cache[0])
        assert cache.bytes == SIZE and cache.evicted == 0


def test_what_on_evict_raises(allocator: Allocator) -> None:
    """It reaches the caller, and the cache has done all there was to do."""

    def on_evict(key: int, buffer: Buffer) -> None:
        buffer.destroy()
        if key:
            raise OSError(f"no {key}")

    cache = ResourceCache(allocator, maker(allocator), on_evict=on_evict)
    for key in range(6):
        cache[key]
    keep_frames(allocator)
    with pytest.raises(OSError, match="no 1"):
        cache.budget = 4 * SIZE
    assert list(cache) == [2, 3, 4, 5]
    cache._budget = 2 * SIZE
    with pytest.raises(ExceptionGroup, match="on_evict failed 2 times") as raised:
        cache[5]
    assert [str(it) for it in raised.value.exceptions] == ["no 2", "no 3"]
    assert list(cache) == [4, 5]
    with pytest.raises(ExceptionGroup):
        cache.close()
    assert cache.closed and cache.bytes == 0


def test_what_on_evict_raises_after_a_loss_is_printed(
    allocator: Allocator, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[str] = []
    monkeypatch.setattr("sys.unraisablehook", lambda it: printed.append(str(it.exc_value)))

    def on_evict(key: int, buffer: Buffer) -> None:
        raise OSError(f"no {key}")

    cache = ResourceCache(allocator, maker(allocator, pool=pool), on_evict=on_evict)
    cache[0]
    keep_frames(allocator)
    assert pool.make_allocations_lost() == 1
    assert printed == ["no 0"] and len(cache) == 0
    cache.close()


def test_on_evict_may_use_the_cache(allocator: Allocator) -> None:
    cache: ResourceCache[int, Buffer]
    cache = ResourceCache(
        allocator, maker(allocator), 2 * SIZE, on_evict=lambda key, _: cache.get(key + 1)
    )
    for key in range(20):
        keep_frames(allocator, 1)
        cache[key]
    assert cache.hits > 5 and cache.misses == 20 == cache.evicted + len(cache)
    cache._on_evict = None
    cache.close()


# Threads


def in_threads(count: int, call: Callable[[int], Any]) -> list[Any]:
    """Calls from threads at the same time; returns what each returns or raises."""

    def run(number: int) -> Any:
        start.wait()
        try:
            return call(number)
        except BaseException as error:
            return error

    start = threading.Barrier(count)
    with ThreadPoolExecutor(count) as threads:
        return [it.result(timeout=30) for it in [threads.submit(run, n) for n in range(count)]]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def waiting(cache: ResourceCache[Any, Any]) -> int:
    return len(cache._making._waiting)


def test_one_thread_makes_and_others_wait(allocator: Allocator) -> None:
    made: list[int] = []
    make = maker(allocator)

    def slow(key: int) -> Buffer:
        made.append(key)
        wait_until(lambda: waiting(cache) == 7)
        return make(key)

    with ResourceCache(allocator, slow) as cache:
        got = in_threads(8, lambda _: cache[1])
        assert made == [1] and len(set(got)) == 1 and is_right(1, got[0])
        assert figures(cache) == (7, 1, 0)


def test_different_keys_are_made_in_parallel(allocator: Allocator) -> None:
    together = threading.Barrier(4)
    make = maker(allocator)

    def slow(key: int) -> Buffer:
        together.wait(timeout=20)
        return make(key)

    with ResourceCache(allocator, slow) as cache:
        got = in_threads(4, cache.__getitem__)
        assert all(is_right(key, it) for key, it in enumerate(got))
        assert figures(cache) == (0, 4, 0)


def test_an_exception_reaches_all_who_wait_and_leaves_nothing(allocator: Allocator) -> None:
    make, fails = maker(allocator), [True]

    def failing(key: int) -> Buffer:
        wait_until(lambda: waiting(cache) == 3 or not fails)
        if fails:
            raise OSError(f"no file {key}")
        return make(key)

    with ResourceCache(allocator, failing) as cache:
        got = in_threads(4, lambda _: cache[1])
        assert [str(it) for it in got] == ["no file 1"] * 4
        assert (len(cache), cache.bytes, figures(cache)) == (0, 0, (0, 1, 0))
        assert not cache._making._calls and not cache._making._waiting
        fails.clear()
        assert is_right(1, cache[1])


def test_an_interrupt_is_for_one_thread(allocator: Allocator) -> None:
    make, interrupts = maker(allocator), [KeyboardInterrupt()]

    def interrupted(key: int) -> Buffer:
        if interrupts:
            wait_until(lambda: waiting(cache) == 3)
            raise interrupts.pop()
        return make(key)

    with ResourceCache(allocator, interrupted) as cache:
        got = in_threads(4, lambda _: cache[1])
        assert sum(isinstance(it, KeyboardInterrupt) for it in got) == 1
        assert sum(isinstance(it, Buffer) for it in got) == 3
        assert is_right(1, cache[1]) and cache.misses == 2


def test_a_make_may_ask_for_other_keys_but_not_in_a_circle(allocator: Allocator) -> None:
    make = maker(allocator)
    both = threading.Barrier(2)

    def nested(key: int) -> Buffer:
        if key in (10, 11):
            both.wait(timeout=20)
            cache[21 - key]
        elif key:
            cache[key - 1 if key < 5 else key]
        return make(key)

    with ResourceCache(allocator, nested) as cache:
        assert is_right(3, cache[3]) and list(cache) == [0, 1, 2, 3]
        with pytest.raises(RuntimeError, match=r"^5 waits for itself: the call that makes it asks"):
            cache[5]
        # Each makes what the other one waits for: one is told, and that ends both.
        got = in_threads(2, lambda number: cache[10 + number])
        assert {type(it) for it in got} == {RuntimeError}
        assert list(cache) == [0, 1, 2, 3] and not cache._making._calls


def test_closing_while_something_is_made(allocator: Allocator) -> None:
    make, going = maker(allocator), threading.Event()
    made: list[Buffer] = []

    def slow(key: int) -> Buffer:
        going.set()
        wait_until(lambda: cache.closed)
        made.append(make(key))
        return made[0]

    cache = ResourceCache(allocator, slow)

    def use(number: int) -> object:
        if number < 2:
            return cache[1]
        going.wait()
        wait_until(lambda: waiting(cache) == 1)
        return cache.close()

    got = in_threads(3, use)
    assert {type(it) for it in got[:2]} == {UseAfterFreeError} and got[2] is None
    assert not made[0].alive and cache.bytes == 0


def test_setting_what_is_being_made(allocator: Allocator) -> None:
    make, going, is_set = maker(allocator), threading.Event(), threading.Event()
    made: list[Buffer] = []

    def slow(key: int) -> Buffer:
        made.append(make(key))
        going.set()
        is_set.wait()
        return made[0]

    with ResourceCache(allocator, slow) as cache:
        mine = make(1)

        def use(number: int) -> object:
            if number == 0:
                return cache[1]
            going.wait()
            cache[1] = mine
            return is_set.set()

        assert in_threads(2, use)[0] is mine
        assert not made[0].alive and cache.bytes == SIZE


def test_threads_against_losses_and_a_budget(allocator: Allocator, pool: Pool) -> None:
    """Whatever leaves and comes back meanwhile: what a thread gets is what it asked for."""
    errors: list[BaseException] = []
    stop = threading.Event()

    def work(number: int) -> int:
        chance, used = random.Random(number), 0
        while not stop.is_set():
            key = min(int(chance.paretovariate(0.9)), 12)
            try:
                if not is_right(key, cache[key]):
                    errors.append(AssertionError(key))
                used += 1
            except (OutOfDeviceMemoryError, UseAfterFreeError):
                # All four were used lately, or this one was taken while the thread was asleep.
                time.sleep(0.001)
        return used

    with ResourceCache(allocator, maker(allocator, pool=pool), budget=3 * SIZE) as cache:
        with ThreadPoolExecutor(4) as threads:
            running = [threads.submit(work, number) for number in range(4)]
            for frame in range(150):
                allocator.set_current_frame_index(frame)
                time.sleep(0.002)
            stop.set()
            used = sum(it.result(timeout=30) for it in running)
        # How many leave depends on how often the threads get to run.
        assert errors == [] and used > 20 and cache.evicted > 0
        assert cache.bytes == sum(it.allocation.size for _, it in cache.items())


# Wrong arguments, ends and failures


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((None, print), TypeError, "allocator must be an Allocator, not a NoneType"),
        (("device", print), TypeError, "allocator must be an Allocator, not a SimulatedDevice"),
        (("allocator", None), TypeError, "make must be callable, not a NoneType"),
        (("allocator", 5), TypeError, "make must be callable, not an int"),
        (("allocator", print, "1"), TypeError, "budget must be an integer, not str"),
        (("allocator", print, 1.5), TypeError, "budget must be an integer, not float"),
        (
            ("allocator", print, -1),
            InvalidArgumentError,
            "budget is -1; it must not be negative",
        ),
        (("allocator", print, 1, 5), TypeError, "on_evict must be callable, not an int"),
    ],
)
def test_wrong_arguments(
    simulated_allocator: Allocator, arguments: tuple[Any, ...], error: type, message: str
) -> None:
    names = {"allocator": simulated_allocator, "device": simulated_allocator.device}
    with pytest.raises(error) as raised:
        ResourceCache(*(names.get(it, it) if isinstance(it, str) else it for it in arguments))
    assert str(raised.value) == message


def test_what_make_returns_is_checked(
    simulated_allocator: Allocator, make_simulated: Callable[..., SimulatedDevice]
) -> None:
    allocator = simulated_allocator
    with Allocator(make_simulated()) as stranger:
        foreign = stranger.create_buffer(64, TRANSFER)
        gone = allocator.create_buffer(64, TRANSFER)
        gone.destroy()
        good = allocator.create_buffer(64, TRANSFER)
        lost = allocator.create_lost_allocation()
        made: dict[str, Any] = {"none": None, "foreign": foreign, "gone": gone}
        made |= {"good": good, "again": good, "lost": lost, "owned": good.allocation}
        with ResourceCache(allocator, made.__getitem__) as cache:
            with pytest.raises(TypeError) as raised:
                cache["none"]
            assert str(raised.value) == (
                "the resource of 'none' must be a Buffer, an Image or an Allocation, not None"
            )
            with pytest.raises(InvalidArgumentError, match="another allocator"):
                cache["foreign"]
            with pytest.raises(UseAfterFreeError, match="destroyed"):
                cache["gone"]
            with pytest.raises(LostError, match="the resource of 'lost' is lost already"):
                cache["lost"]
            assert cache["good"] is good
            with pytest.raises(InvalidArgumentError) as refused:
                cache["again"]
            assert str(refused.value) == (
                "the resource of 'again' is in the cache already, as that of 'good'"
            )
            with pytest.raises(InvalidArgumentError) as refused:
                cache["owned"]
            assert str(refused.value) == "this memory belongs to a Buffer: put that into the cache"
            for name in ("none", "foreign", "gone", "lost", "owned"):
                with pytest.raises((TypeError, ValueError)):
                    cache["good"] = made[name]
            with pytest.raises(InvalidArgumentError, match="in the cache already"):
                cache["again"] = good
            with pytest.raises(KeyError):
                cache["unknown"]
            with pytest.raises(TypeError, match="unhashable"):
                cache[[]]  # type: ignore[index]
            assert list(cache) == ["good"] and cache["good"] is good
        lost.free()
        foreign.destroy()


def test_every_use_after_the_end_is_refused(simulated_allocator: Allocator) -> None:
    allocator = simulated_allocator
    cache = ResourceCache(allocator, maker(allocator), budget=SIZE)
    buffer = cache[0]
    cache.close()
    cache.close()
    uses: list[Callable[[], object]] = [
        lambda: cache[0],
        lambda: cache.get(0),
        lambda: cache.pop(0),
        lambda: cache.pop(0, None),
        lambda: cache.__delitem__(0),
        lambda: cache.__setitem__(0, buffer),
        cache.clear,
        lambda: setattr(cache, "budget", 1),
        cache.__enter__,
    ]
    for use in uses:
        with pytest.raises(UseAfterFreeError, match=r"closed|destroyed"):
            use()
    assert (len(cache), list(cache), cache.items(), 0 in cache) == (0, [], [], False)
    assert figures(cache) == (0, 1, 0)


def test_the_end_of_the_allocator_is_the_end_of_the_cache(
    make_simulated: Callable[..., SimulatedDevice],
) -> None:
    allocator = Allocator(make_simulated())
    cache = ResourceCache(allocator, maker(allocator))
    cache[0].destroy()
    allocator.close()
    assert cache.closed and repr(cache) == "<vk_mem.ResourceCache, closed>"
    with pytest.raises(UseAfterFreeError, match="the resource cache is closed"):
        cache[0]
    cache.close()


def test_nothing_keeps_a_dropped_cache_alive(simulated_allocator: Allocator) -> None:
    """Neither its resources nor what `make` raised; the resources tell that nobody ended them."""
    allocator = simulated_allocator
    make = maker(allocator)

    def some(key: int) -> Buffer:
        if key < 0:
            raise OSError
        return make(key)

    gc.collect()
    gc.disable()
    try:
        cache = ResourceCache(allocator, some)
        with pytest.raises(OSError):
            cache[-1]
        kept = cache[0]
        there = weakref.ref(cache)
        del cache
        assert there() is None
    finally:
        gc.enable()
    assert kept.alive and is_right(0, kept)
    keep_frames(allocator)
    # Its callback of losses does nothing any more.
    assert allocator.make_allocations_lost() == 1
    kept.destroy()


def test_it_is_not_copied(simulated_allocator: Allocator) -> None:
    with ResourceCache(simulated_allocator, maker(simulated_allocator)) as cache:
        for call in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match=r"cannot pickle or copy 'vk_mem\.ResourceCache'"):
                call(cache)


@pytest.mark.parametrize(
    "call",
    ["vkAllocateMemory", "vkCreateBuffer", "vkBindBufferMemory", "vkQueueSubmit"],
)
def test_failures_of_the_driver(make_simulated: Callable[..., SimulatedDevice], call: str) -> None:
    """They are raised as by the calls themselves; the cache is what it was."""
    device = make_simulated("discrete-8gib")
    with Allocator(device) as allocator:
        first = maker(allocator, flags=LOSABLE | DEDICATED)
        with ResourceCache(allocator, first) as cache:
            good = cache[0]
            device.fail_next(call, 100)
            with pytest.raises(Exception, match=r"out of device memory|lost|fail"):
                cache[1]
            device.clear_failures()
            assert list(cache) == [0] and cache[0] is good and cache.bytes >= SIZE
            assert is_right(1, cache[1]) and is_right(0, good)


def test_what_is_mapped_is_not_lost_and_outlives_the_budget(
    allocator: Allocator,
) -> None:
    def make(key: int) -> Buffer:
        flags = AllocationCreateFlags.CAN_BECOME_LOST | RANDOM
        buffer = allocator.create_buffer(SIZE, TRANSFER, flags=flags)
        buffer.write(bytes([key]) * SIZE)
        return buffer

    with ResourceCache(allocator, make) as cache:
        mapping = cache[1].map()
        view = memoryview(mapping)
        keep_frames(allocator)
        assert allocator.make_allocations_lost() == 0
        cache.budget = 0
        assert len(cache) == 0
        keep_frames(allocator)
        assert bytes(view[:4]) == b"\1\1\1\1"
        view.release()
        mapping.close()
        keep_frames(allocator)
