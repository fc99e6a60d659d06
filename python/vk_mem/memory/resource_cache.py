"""A cache of resources that makes what is missing, and makes again what was lost."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar, cast, overload

from vk_mem._no_copies import NoCopies
from vk_mem._vk_mem import Allocation, Allocator, Buffer, Image
from vk_mem.errors import InvalidArgumentError, LostError, UseAfterFreeError
from vk_mem.memory.buffer_range import unsigned
from vk_mem.memory.single_flight import SingleFlight, named
from vk_mem.text import counted, size_text, with_article

__all__ = ["ResourceCache"]

K = TypeVar("K", bound=Hashable)
R = TypeVar("R", bound=Buffer | Image | Allocation)
D = TypeVar("D")

_NO_DEFAULT = object()

_process = object()
"""Stands for this process. Each lookup compares it; `os.getpid` would be a system call."""


def _after_fork_in_child() -> None:
    global _process
    _process = object()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class ResourceCache(NoCopies, Generic[K, R]):
    """A mapping that calls `make(key)` for what it does not have. VMA has no equivalent.

    `make` returns a new `Buffer`, `Image` or `Allocation` of `allocator`, which the cache owns from
    then on. One that was created with `AllocationCreateFlags.CAN_BECOME_LOST` may be lost when
    others need room: it leaves the cache, and the next `cache[key]` makes it again.

    `budget` is how many bytes of memory the resources may have together; None is no limit. Beyond
    it the least recently used ones are retired. Those that were used in the current frame, or in
    the `Allocator.frames_in_use` frames before it, stay even if that exceeds the budget; so it
    takes `Allocator.set_current_frame_index` once a frame.

    `on_evict(key, resource)` is called for each resource that leaves the cache, except by `pop`:
    before it is retired, or after it was lost, so that what refers to it can be released. It runs
    outside of all locks. What it raises reaches the caller of the cache, once all is done; after a
    loss it is printed (`sys.unraisablehook`).

    Thread-safe: while a thread makes a resource, others that want that one wait for it, and other
    keys are made at the same time. Unusable in the child of `os.fork()`.

    Raises `TypeError` for anything but an `Allocator` and callables, `InvalidArgumentError` for a
    negative budget.
    """

    def __init__(
        self,
        allocator: Allocator,
        make: Callable[[K], R],
        budget: int | None = None,
        on_evict: Callable[[K, R], object] | None = None,
    ) -> None:
        given: object = allocator
        if not isinstance(given, Allocator):
            what = type(given).__name__
            raise TypeError(f"allocator must be an Allocator, not {with_article(what)}")
        for name, function in (("make", make), ("on_evict", on_evict)):
            if not callable(function) and (function is not None or name == "make"):
                what = type(function).__name__
                raise TypeError(f"{name} must be callable, not {with_article(what)}")
        self._allocator = allocator
        self._frames_in_use = allocator.frames_in_use
        self._make = make
        self._on_evict = on_evict
        self._budget = None if budget is None else unsigned(budget, "budget")
        # Reentrant, because finalisers may run anywhere and use the cache. Neither `make` nor
        # `on_evict` nor a driver is called while it is held.
        self._lock = threading.RLock()
        self._process = _process
        # The least recently used first.
        self._entries: OrderedDict[K, _Entry[K, R]] = OrderedDict()
        self._by_resource: dict[int, _Entry[K, R]] = {}
        self._bytes = 0
        # What has left the cache, until it is retired.
        self._leaving: list[R] = []
        self._making = SingleFlight()
        self._hits = self._misses = self._evicted = 0
        self._closed = False
        self._on_lost = _loser_of(self)

    def __getitem__(self, key: K) -> R:
        """Returns the resource of a key, and marks it as used in the current frame.

        If there is none, or it was lost, `make(key)` is called, once for all threads that ask
        meanwhile. What it raises reaches all of them, and the next one tries again.

        Raises `LostError` if `make` returns a resource that is lost already, `RuntimeError` if
        `make` waits for itself, and `UseAfterFreeError` after `close`.
        """
        self._check_process()
        while True:
            gone: list[_Entry[K, R]] = []
            with self._lock:
                # Nothing is found in a closed cache, and `_make_it` refuses to make it.
                found = self._use(key, gone)
                if self._budget is not None and self._bytes > self._budget:
                    self._trim(gone)
            if gone:
                self._release(gone)
            if found is None:
                found = self._making.run(key, lambda: self._make_it(key))
            if found is not None:
                return found

    def _use(self, key: K, gone: list[_Entry[K, R]]) -> R | None:
        """Touches the resource of a key, and counts a hit. One that is lost goes to `gone`."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        try:
            there = entry.resource.touch()
        except UseAfterFreeError:
            # The caller destroyed it.
            self._remove(entry)
            return None
        if not there:
            # The call that lost it has not told of it yet.
            self._evict(entry, gone)
            return None
        entry.frame = self._allocator.current_frame_index
        self._entries.move_to_end(key)
        self._hits += 1
        return entry.resource

    def _make_it(self, key: K) -> R:
        gone: list[_Entry[K, R]] = []
        with self._lock:
            self._check_open()
            # Another thread may have made it since it was looked for.
            found = self._use(key, gone)
            self._misses += found is None
        self._release(gone)
        if found is not None:
            return found
        made = self._make(key)
        entry = self._new_entry(key, made)
        gone = []
        with self._lock:
            # Another thread may have closed the cache meanwhile, or set the key.
            closed = self.closed
            found = None if closed else self._use(key, gone)
            if not closed and found is None:
                self._take(entry)
                self._add(entry)
            self._trim(gone)
        if closed or found is not None:
            self._leaving.append(made)
        self._release(gone)
        self._check_open()
        return made if found is None else found

    def _new_entry(self, key: K, resource: R) -> _Entry[K, R]:
        given: object = resource
        if not isinstance(given, Buffer | Image | Allocation):
            what = "None" if given is None else with_article(type(given).__name__)
            raise TypeError(
                f"the resource of {named(key)} must be a Buffer, an Image or an Allocation, "
                f"not {what}"
            )
        # Also refuses a resource of another allocator.
        try:
            lost = self._allocator.touch_many([resource])
        except (InvalidArgumentError, UseAfterFreeError) as error:
            raise type(error)(f"the resource of {named(key)}: {error}") from None
        if lost:
            raise LostError(f"the resource of {named(key)} is lost already: return a new one")
        entry = _Entry(key, resource)
        entry.size = given.size if isinstance(given, Allocation) else given.allocation.size
        return entry

    def _take(self, entry: _Entry[K, R]) -> None:
        """Makes a resource the cache's own, or raises and changes nothing."""
        other = self._by_resource.get(entry.number)
        if other is not None:
            raise InvalidArgumentError(
                f"the resource of {named(entry.key)} is in the cache already, as that of "
                f"{named(other.key)}"
            )
        entry.resource._enter_cache(self._on_lost)
        entry.frame = self._allocator.current_frame_index

    def _add(self, entry: _Entry[K, R]) -> None:
        # Without a call in between, where an interrupt could come.
        self._by_resource[entry.number] = self._entries[entry.key] = entry
        self._bytes += entry.size

    def _remove(self, entry: _Entry[K, R]) -> None:
        del self._entries[entry.key], self._by_resource[entry.number]
        self._bytes -= entry.size

    def _evict(self, entry: _Entry[K, R], gone: list[_Entry[K, R]]) -> None:
        self._remove(entry)
        self._evicted += 1
        gone.append(entry)

    def _trim(self, gone: list[_Entry[K, R]]) -> None:
        """Removes the least recently used entries until the budget is kept, but none in use."""
        budget = self._budget
        if budget is None or self._bytes <= budget or self.closed:
            return
        now = self._allocator.current_frame_index
        while self._bytes > budget and self._entries:
            entry = next(iter(self._entries.values()))
            used = entry.resource.last_use
            if used is not None and _age(used, now) < _age(entry.frame, now):
                # The program has touched it without asking the cache, or a transfer did.
                entry.frame = used
                self._entries.move_to_end(entry.key)
            elif _age(entry.frame, now) <= self._frames_in_use:
                return
            else:
                self._evict(entry, gone)

    def _lose(self, resources: list[R]) -> None:
        """Removes what was lost: the callback of `on_lost`."""
        gone: list[_Entry[K, R]] = []
        with self._lock:
            for resource in resources:
                entry = self._by_resource.get(id(resource))
                if entry is not None:
                    self._evict(entry, gone)
        self._release(gone)

    def _release(self, gone: list[_Entry[K, R]]) -> None:
        """Tells of entries that were removed, and retires their resources."""
        errors: list[Exception] = []
        for entry in gone:
            try:
                if self._on_evict is not None:
                    self._on_evict(entry.key, entry.resource)
            except Exception as error:
                errors.append(error)
            finally:
                self._leaving.append(entry.resource)
        self._retire_leaving()
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise ExceptionGroup(f"on_evict failed {len(errors)} times", errors)

    def _retire_leaving(self) -> None:
        with self._lock:
            leaving, self._leaving = self._leaving, []
        for resource in leaving:
            # What is lost stays so for whoever still has it: `LostError` says more.
            if not resource.is_lost:
                try:
                    resource.retire()
                except BufferError:
                    # A call of another thread uses it; the next call of the cache tries again.
                    self._leaving.append(resource)

    def __setitem__(self, key: K, resource: R) -> None:
        """Adds a resource that was made already, and is owned by the cache from now on.

        One that has this key is retired. Raises `LostError` if it is lost.
        """
        self._check_process()
        self._check_open()
        entry = self._new_entry(key, resource)
        gone: list[_Entry[K, R]] = []
        with self._lock:
            self._check_open()
            old = self._entries.get(key)
            if old is not None and old.resource is resource:
                return
            self._take(entry)
            if old is not None:
                self._remove(old)
                gone.append(old)
            self._add(entry)
            self._trim(gone)
        self._release(gone)

    def __delitem__(self, key: K) -> None:
        """Retires the resource of a key. Raises `KeyError` if there is none."""
        self._check_process()
        with self._lock:
            self._check_open()
            entry = self._entries[key]
            self._remove(entry)
        self._release([entry])

    @overload
    def get(self, key: K) -> R | None: ...
    @overload
    def get(self, key: K, default: D) -> R | D: ...
    def get(self, key: K, default: object = None) -> object:
        """Returns the resource of a key, touched as by `cache[key]`, or `default` if there is none.

        A resource that is there counts as a hit.
        """
        self._check_process()
        gone: list[_Entry[K, R]] = []
        with self._lock:
            self._check_open()
            found = self._use(key, gone)
        self._release(gone)
        return default if found is None else found

    @overload
    def pop(self, key: K) -> R: ...
    @overload
    def pop(self, key: K, default: D) -> R | D: ...
    def pop(self, key: K, default: object = _NO_DEFAULT) -> object:
        """Removes a resource and returns it: the caller owns it.

        Without it, or if it was lost, returns `default`, or raises `KeyError` if there is no
        default.
        """
        self._check_process()
        gone: list[_Entry[K, R]] = []
        with self._lock:
            self._check_open()
            entry = self._entries.get(key)
            if entry is not None and entry.is_there():
                self._remove(entry)
            elif entry is not None:
                self._evict(entry, gone)
                entry = None
        self._release(gone)
        if entry is not None:
            entry.resource._enter_cache(None)
            return entry.resource
        if default is _NO_DEFAULT:
            raise KeyError(key)
        return default

    def clear(self) -> None:
        """Retires all resources. Those that are being made come into the cache afterwards."""
        self._check_process()
        with self._lock:
            self._check_open()
            gone = self._remove_all()
        self._release(gone)

    def _remove_all(self) -> list[_Entry[K, R]]:
        gone = list(self._entries.values())
        self._entries, self._by_resource, self._bytes = OrderedDict(), {}, 0
        return gone

    def close(self) -> None:
        """Retires all resources; the cache cannot be used any more. May be called again.

        What is being made is retired when it is there, and who waits for it gets
        `UseAfterFreeError`. Raises `BufferError` while a call of another thread uses a resource:
        close it again then.
        """
        self._check_process()
        with self._lock:
            gone = [] if self.closed else self._remove_all()
            self._closed = True
        self._release(gone)
        if self._leaving and not self._allocator.closed:
            what = counted(len(self._leaving), "resource")
            raise BufferError(f"cannot close the resource cache: another thread uses {what} of it")

    @property
    def closed(self) -> bool:
        """Whether the cache or its allocator was closed."""
        return self._closed or self._allocator.closed

    @property
    def allocator(self) -> Allocator:
        """The allocator of the resources."""
        return self._allocator

    @property
    def budget(self) -> int | None:
        """Bytes that all resources may have together, or None. A smaller one applies at once."""
        return self._budget

    @budget.setter
    def budget(self, budget: int | None) -> None:
        self._check_process()
        gone: list[_Entry[K, R]] = []
        with self._lock:
            self._check_open()
            self._budget = None if budget is None else unsigned(budget, "budget")
            self._trim(gone)
        self._release(gone)

    @property
    def bytes(self) -> int:
        """Bytes of memory of all resources in the cache, without those that were retired."""
        return self._bytes

    @property
    def hits(self) -> int:
        """How often a resource was there when it was asked for, or another thread was making it."""
        return self._hits

    @property
    def misses(self) -> int:
        """How often `make` was called."""
        return self._misses

    @property
    def evicted(self) -> int:
        """How many resources have left because of the budget, or were lost."""
        return self._evicted

    def __len__(self) -> int:
        """Returns the number of resources."""
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        """Returns whether there is a resource of a key, without touching it."""
        self._check_process()
        with self._lock:
            entry = self._entries.get(cast("K", key))
            return entry is not None and entry.is_there()

    def __iter__(self) -> Iterator[K]:
        """Iterates over the keys there are now, the least recently used first."""
        self._check_process()
        with self._lock:
            return iter(list(self._entries))

    def items(self) -> list[tuple[K, R]]:
        """Returns the keys and resources, the least recently used first, without touching any."""
        self._check_process()
        with self._lock:
            return [(entry.key, entry.resource) for entry in self._entries.values()]

    def _check_process(self) -> None:
        # Checked before taking the lock: in a forked child it may be held for ever.
        if self._process is not _process:
            raise InvalidArgumentError(
                "the resource cache was made before os.fork(): make another in this process"
            )

    def _check_open(self) -> None:
        if self.closed:
            raise UseAfterFreeError("the resource cache is closed")

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._allocator._end_block(exc_value, self.close)

    def __repr__(self) -> str:
        if self._process is not _process:
            return "<vk_mem.ResourceCache, from before os.fork()>"
        if self.closed:
            return "<vk_mem.ResourceCache, closed>"
        limit = "" if self._budget is None else f" of {size_text(self._budget)}"
        return (
            f"<vk_mem.ResourceCache, {counted(len(self._entries), 'resource')}, "
            f"{size_text(self._bytes)}{limit}; "
            f"{counted(self._hits, 'hit')}, {self._misses} missed, {self._evicted} evicted>"
        )


class _Entry(Generic[K, R]):
    """A resource of the cache."""

    __slots__ = ("frame", "key", "number", "resource", "size")

    def __init__(self, key: K, resource: R) -> None:
        self.key = key
        self.resource = resource
        self.number = id(resource)
        # The frame of its last use that the cache knows of, and the bytes of its memory.
        self.frame = self.size = 0

    def is_there(self) -> bool:
        """Whether it was neither lost nor destroyed."""
        return self.resource.alive and not self.resource.is_lost


def _age(frame: int, now: int) -> int:
    """Frames since a frame. The 32-bit frame index may have wrapped around."""
    return (now - frame) % (1 << 32)


def _loser_of(cache: ResourceCache[K, R]) -> Callable[[list[R]], None]:
    # Resources refer to the callback, so it must not keep the cache alive.
    weak = weakref.ref(cache)

    def lose(resources: list[R]) -> None:
        still_there = weak()
        if still_there is not None:
            still_there._lose(resources)

    return lose
