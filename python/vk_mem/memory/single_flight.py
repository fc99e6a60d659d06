"""Single flight: threads that want the same thing share one call that makes it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import TypeVar

from vk_mem.text import short

__all__ = ["SingleFlight"]

T = TypeVar("T")


class SingleFlight:
    """Runs one call at a time for each key; calls for other keys run in parallel."""

    def __init__(self) -> None:
        # Reentrant, because finalisers may run anywhere. Not held while a call runs.
        self._lock = threading.RLock()
        self._calls: dict[Hashable, _Call] = {}
        # What each waiting thread waits for.
        self._waiting: dict[int, _Call] = {}

    def run(self, key: Hashable, call: Callable[[], T]) -> T | None:
        """Returns what `call` returns, or None after having waited for another thread's call.

        An exception of that one reaches the threads that waited, too. An interrupt does not: it is
        for one thread, and the others find nothing made.

        Raises `RuntimeError` instead of waiting for a call that waits for this thread.
        """
        me = threading.get_ident()
        own = _Call(me)
        running = None
        try:
            with self._lock:
                running = self._calls.setdefault(key, own)
                if running is not own:
                    self._check_circle(running, key)
                    self._waiting[me] = running
            if running is own:
                return call()
            running.done.wait()
            if running.error is not None:
                raise running.error
            return None
        except Exception as error:
            own.error = error
            raise
        finally:
            with self._lock:
                self._waiting.pop(me, None)
                if self._calls.get(key) is own:
                    del self._calls[key]
            own.done.set()
            # The traceback of an error refers to this frame.
            del own, running

    def _check_circle(self, call: _Call, key: Hashable) -> None:
        at: _Call | None = call
        while at is not None:
            if at.thread == threading.get_ident():
                raise RuntimeError(
                    f"{short(repr(key), 80)} waits for itself: the call that makes it asks for it, "
                    "directly or through other keys"
                )
            at = self._waiting.get(at.thread)


class _Call:
    """A call that others may wait for."""

    __slots__ = ("done", "error", "thread")

    def __init__(self, thread: int) -> None:
        self.thread = thread
        self.done = threading.Event()
        self.error: Exception | None = None
