"""Copies on the queue of a wrapped device: the lock of its owner, and what is left when it goes."""

from __future__ import annotations

import gc
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bindings import Bound, vulkan_device
from conftest import index_of_the_driver
from odd_driver import Function, OddDriver
from support import RANDOM, TRANSFER, pattern

from vk_mem import Allocator, Device, DeviceLostError, InvalidArgumentError, OutOfHostMemoryError

pytestmark = pytest.mark.driver
SIZE = 4096
TIMELINE = "VK_KHR_timeline_semaphore"
Wrap = Callable[..., Device]


class Lock:
    """A lock that knows who holds it, and fails on demand."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.holder: int | None = None
        self.entered = self.left = 0
        self.fails_to_enter: BaseException | None = None
        self.fails_to_exit: BaseException | None = None

    def __enter__(self) -> None:
        if self.fails_to_enter:
            raise self.fails_to_enter
        self.lock.acquire()
        self.holder = threading.get_ident()
        self.entered += 1

    def __exit__(self, *exception: object) -> None:
        assert exception == (None, None, None)
        self.holder = None
        self.left += 1
        self.lock.release()
        if self.fails_to_exit:
            raise self.fails_to_exit


@pytest.fixture(params=["timeline", "fences"])
def wrap(request: Any, odd_driver: OddDriver, open_odd: Callable[..., Device]) -> Wrap:
    """Wraps a device of the odd driver, which outlives the test."""
    opened = open_odd(validation=True, api_version=(1, 1))
    extensions = list(opened.extensions)
    assert TIMELINE in extensions
    if request.param == "fences":
        extensions.remove(TIMELINE)

    def wrapped(**keywords: object) -> Device:
        device = Device.wrap(
            opened.instance,
            opened.physical_device,
            opened.handle,
            api_version=(1, 1),
            extensions=extensions,
            queue=opened.queue,
            queue_family_index=opened.queue_family_index,
            get_instance_proc_addr=odd_driver.get_instance_proc_addr,
            **keywords,
        )
        assert ("timelineSemaphore" in device.features) == (request.param == "timeline")
        return device

    return wrapped


@pytest.fixture
def noted(odd_driver: OddDriver) -> Iterator[Callable[[Lock], list[tuple[str, bool]]]]:
    """Notes the calls on the queue and the waits, and whether the thread holds a lock meanwhile."""

    def note(lock: Lock) -> list[tuple[str, bool]]:
        calls: list[tuple[str, bool]] = []
        for name in ("vkQueueSubmit", "vkQueueWaitIdle", "vkWaitForFences", "vkWaitSemaphores"):

            def instead(original: Function, *arguments: Any, name: str = name) -> int | None:
                calls.append((name, lock.holder == threading.get_ident()))
                return original(*arguments)

            odd_driver.instead(name, instead)
        return calls

    yield note


def copy(allocator: Allocator, number: int = 1) -> None:
    data = pattern(SIZE)
    with (
        allocator.create_buffer(SIZE, TRANSFER, flags=RANDOM) as source,
        allocator.create_buffer(SIZE, TRANSFER, flags=RANDOM) as target,
    ):
        source.write(data)
        for _ in range(number):
            target.write(bytes(SIZE))
            allocator.device.copy_buffer(source, target)
            assert target.read() == data


def test_the_lock_is_held_around_submissions_alone(
    wrap: Wrap, noted: Callable[[Lock], list[tuple[str, bool]]]
) -> None:
    lock = Lock()
    calls = noted(lock)
    with Allocator(wrap(queue_lock=lock)) as allocator:
        copy(allocator, 3)
        assert (lock.entered, lock.left) == (3, 3)
        with allocator.create_buffer(10, TRANSFER, flags=RANDOM) as buffer:
            allocator.device.fill_buffer(buffer, 0x04030201)
            assert buffer.read() == b"\1\2\3\4\1\2\3\4\1\2"
    assert (lock.entered, lock.left) == (4, 4)
    assert {(name.startswith("vkQueue"), held) for name, held in calls} == {
        (True, True),
        (False, False),
    }


def test_threads_share_a_queue_with_its_owner(wrap: Wrap) -> None:
    lock = threading.Lock()
    with Allocator(wrap(queue_lock=lock)) as allocator:
        failed: list[BaseException] = []

        def run() -> None:
            try:
                copy(allocator, 20)
            except BaseException as error:  # shown below
                failed.append(error)

        threads = [threading.Thread(target=run, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(50):
            with lock:
                pass
        for thread in threads:
            thread.join(60)
        assert not failed and not any(it.is_alive() for it in threads)


def test_who_holds_the_lock_can_copy_where_it_may_be_entered_twice(wrap: Wrap) -> None:
    """The owner's lock comes first: who waits for it holds nothing that its holder needs."""
    lock = threading.RLock()
    with Allocator(wrap(queue_lock=lock)) as allocator:
        with lock:
            other = threading.Thread(target=copy, args=(allocator, 5), daemon=True)
            other.start()
            copy(allocator, 5)
        other.join(60)
        assert not other.is_alive()


@pytest.mark.parametrize("error", [ZeroDivisionError("no"), KeyboardInterrupt()])
def test_a_lock_that_cannot_be_entered(
    odd_driver: OddDriver, wrap: Wrap, error: BaseException
) -> None:
    lock = Lock()
    with Allocator(wrap(queue_lock=lock)) as allocator:
        source = allocator.create_buffer(SIZE, TRANSFER, flags=RANDOM)
        target = allocator.create_buffer(SIZE, TRANSFER, flags=RANDOM)
        source.write(pattern(SIZE))
        target.write(bytes(SIZE))
        before = odd_driver.calls["vkQueueSubmit"]
        lock.fails_to_enter = error
        for run in (
            lambda: allocator.device.copy_buffer(source, target),
            lambda: allocator.device.fill_buffer(target, 1),
        ):
            with pytest.raises(type(error)) as caught:
                run()
            assert caught.value is error
        assert odd_driver.calls["vkQueueSubmit"] == before
        assert target.read() == bytes(SIZE)
        assert (lock.entered, lock.left) == (0, 0)
        lock.fails_to_enter = None
        allocator.device.copy_buffer(source, target)
        assert target.read() == pattern(SIZE)
        source.destroy()
        target.destroy()


def test_a_lock_that_cannot_be_left(wrap: Wrap) -> None:
    lock = Lock()
    with Allocator(wrap(queue_lock=lock)) as allocator:
        buffer = allocator.create_buffer(SIZE, TRANSFER, flags=RANDOM)
        lock.fails_to_exit = error = ZeroDivisionError("no")
        with pytest.raises(ZeroDivisionError) as caught:
            allocator.device.fill_buffer(buffer, 0)
        assert caught.value is error
        assert buffer.read() == bytes(SIZE), "it has ended"
        lock.fails_to_exit = None
        buffer.destroy()


def test_the_lock_is_left_when_a_submission_fails(odd_driver: OddDriver, wrap: Wrap) -> None:
    lock = Lock()
    with Allocator(wrap(queue_lock=lock)) as allocator:
        odd_driver.fail("vkQueueSubmit", -1, times=1)
        with pytest.raises(OutOfHostMemoryError, match="vkQueueSubmit"):
            copy(allocator)
        assert (lock.entered, lock.left) == (1, 1)
        copy(allocator)


def test_a_failed_wait_takes_the_lock_again(
    odd_driver: OddDriver, wrap: Wrap, noted: Callable[[Lock], list[tuple[str, bool]]]
) -> None:
    lock = Lock()
    calls = noted(lock)
    device = wrap(queue_lock=lock)
    wait = "vkWaitSemaphores" if "timelineSemaphore" in device.features else "vkWaitForFences"
    with Allocator(device) as allocator:
        odd_driver.fail(wait, -4, times=1)
        with pytest.raises(DeviceLostError, match=wait):
            copy(allocator)
        assert calls == [("vkQueueSubmit", True), ("vkQueueWaitIdle", True)]
        # Where it cannot be taken the queue is left alone, and the wait is repeated.
        calls.clear()

        def fail_to_enter(*_: object) -> bool:
            lock.fails_to_enter = ZeroDivisionError("no")
            return True

        odd_driver.fail(wait, -4, fail_to_enter, times=1)
        with pytest.raises(DeviceLostError, match=wait):
            copy(allocator)
        lock.fails_to_enter = None
        assert calls == [("vkQueueSubmit", True), (wait, False)]
        copy(allocator)


@pytest.mark.parametrize("wrong", [5, "lock", object(), threading.Lock, lambda: None])
def test_what_is_no_context_manager(wrap: Wrap, wrong: object) -> None:
    with pytest.raises(TypeError, match=r"queue_lock must be a context manager, as threading.Lock"):
        wrap(queue_lock=wrong)


def test_a_lock_without_a_queue(odd_driver: OddDriver, open_odd: Callable[..., Device]) -> None:
    opened = open_odd(validation=False)
    handles = (opened.instance, opened.physical_device, opened.handle)
    with pytest.raises(InvalidArgumentError, match="queue_lock= is held around submissions"):
        Device.wrap(*handles, api_version=(1, 1), queue_lock=threading.Lock())


class Owner(Lock):
    """Keeps what is made from it, as an engine keeps its allocator."""

    device: Device
    allocator: Allocator


def test_a_lock_that_leads_to_its_device_is_collected(wrap: Wrap) -> None:
    owner = Owner()
    owner.device = wrap(queue_lock=owner)
    owner.allocator = Allocator(owner.device)
    copy(owner.allocator)
    gc.collect()
    copy(owner.allocator)
    assert owner.entered == 2, "what can be reached stays"
    owner.allocator.close()
    seen = [weakref.ref(it) for it in (owner, owner.device, owner.allocator)]
    del owner
    gc.collect()
    assert [it() for it in seen] == [None, None, None]


# ---- what is left of copies ----


def left(driver: OddDriver) -> dict[str, int]:
    kinds = ("CommandPool", "Fence", "Semaphore")
    made = {it: driver.calls[f"vkCreate{it}"] for it in kinds}
    # Vulkan lets null handles be destroyed; with a timeline there are no fences.
    return {it: made[it] - driver.calls[f"vkDestroy{it}"] for it in kinds if made[it]}


def test_the_last_allocator_takes_all_that_is_left(odd_driver: OddDriver, wrap: Wrap) -> None:
    device = wrap()
    for _ in range(2):
        first, second = Allocator(device), Allocator(device)
        copy(first)
        copy(second)
        second.close()
        assert left(odd_driver)["CommandPool"] == 1, "another allocator copies on"
        copy(first)
        first.close()
        assert left(odd_driver) and not any(left(odd_driver).values())


def test_an_allocator_that_was_never_closed_calls_nothing(
    odd_driver: OddDriver, wrap: Wrap
) -> None:
    device = wrap()
    forgotten = Allocator(device)
    copy(forgotten)
    before = left(odd_driver)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del forgotten
        gc.collect()
    assert left(odd_driver) == before, "the device may be gone"
    # Who closes another one says that it is not.
    with Allocator(device) as allocator:
        copy(allocator)
    assert not any(left(odd_driver).values())


@pytest.fixture
def bound() -> Iterator[Bound]:
    """A device of a binding; what the validation layer says when it is destroyed fails the test."""
    with vulkan_device(index_of_the_driver()) as bound:
        yield bound


def test_the_layer_finds_nothing_left(bound: Bound) -> None:
    with Allocator(bound.device) as allocator:
        copy(allocator, 3)
    with Allocator(bound.device) as allocator:
        copy(allocator)
