"""Single flight: threads that want the same thing share one call that makes it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import TypeVar

from vk_mem.text import short, visible

__all__ = ["SingleFlight", "named"]

T = TypeVar("T")


class SingleFlight:
    """Runs one call at a time for each key; calls for other keys run in parallel."""

    def __init__(self) -> None:
        # Reentrant, because finalisers may run anywhere. Not held while a call runs.
        self._lock = threading.RLock()
        self._calls: dict[Hashable, _Call] = {}
        # What each thread waits for.
        self._waiting: dict[int, _Call] = {}

    def run(self, key: Hashable, function: Callable[[], T]) -> T | None:
        """Returns what the function returns, or None after having waited for another thread's call.

        An exception of that one reaches the threads that waited, too. An interrupt does not: it is
        for one thread, and the next one makes a call of its own.

        Raises `RuntimeError` instead of waiting for a call that waits for this thread.
        """
        me = threading.get_ident()
        with self._lock:
            call = self._calls.setdefault(key, _Call())
            self._check_circle(call, key)
            self._waiting[me] = call
        try:
            # An interrupt may come anywhere, but a lock is released in any case. A call that is
            # listed still, but not done, is made by the next thread that wants it.
            with call.lock:
                self._waiting.pop(me, None)
                if not call.is_done:
                    return self._make(key, call, function)
                if call.error is not None:
                    raise call.error
                return None
        finally:
            self._waiting.pop(me, None)
            # The traceback of an error refers to this frame.
            del call

    def _make(self, key: Hashable, call: _Call, function: Callable[[], T]) -> T:
        call.thread = threading.get_ident()
        try:
            made = function()
        except Exception as error:
            call.error = error
            self._end(key, call)
            # The traceback refers to this frame, and the call to the error.
            call = _Call()
            raise
        finally:
            call.thread = None
        self._end(key, call)
        return made

    def _end(self, key: Hashable, call: _Call) -> None:
        with self._lock:
            call.is_done = True
            self._calls.pop(key, None)

    def _check_circle(self, call: _Call, key: Hashable) -> None:
        at: _Call | None = call
        while at is not None and at.lock.locked() and at.thread is not None:
            if at.thread == threading.get_ident():
                raise RuntimeError(
                    f"{named(key)} waits for itself: the call that makes it asks for it, "
                    "directly or through other keys"
                )
            at = self._waiting.get(at.thread)


class _Call:
    """A call that others may wait for, by its lock."""

    __slots__ = ("error", "is_done", "lock", "thread")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        # The thread that makes it.
        self.thread: int | None = None
        # Whether those who waited need not make it themselves.
        self.is_done = False
        self.error: Exception | None = None


def named(key: Hashable) -> str:
    """Names a key in an error, in one line."""
    return visible(short(repr(key), 80))
