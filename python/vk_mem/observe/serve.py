"""Serves samples of an allocator to other processes, for `vk-mem top`.

The server sends each client a line of JSON on connection and one per interval. A client that does
not read is dropped. All that a client may ask for is a recording, and only where the program allows
it (`may_record`): it ends with the client's connection.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import socket
import stat
import sys
import threading
import time
import weakref
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from vk_mem._no_copies import NoCopies
from vk_mem._vk_mem import Allocator, Recording
from vk_mem.errors import FeatureNotPresentError, InvalidArgumentError, VkMemError
from vk_mem.observe.asked_recording import begin_recording
from vk_mem.text import well_formed

__all__ = ["StatsServer", "serve_stats"]

FORMAT = 1
NAMES = 50
"""Most names in a sample: those with the most memory."""
LONGEST_NAME = 200
EVICTIONS = ("evictable_count", "evictable_bytes", "lost_count", "lost_bytes")
"""Keys of what may be lost (`CAN_BECOME_LOST`), and of what was."""
BACKLOG = 128
"""Length of the queue of pending connections; clients that left again stay in it."""
MOST_CLIENTS = 16
PATIENCE = 10.0
"""Seconds that a client has to receive a line."""
READ_LIMIT = 4096
"""Bytes. A client that sends more is dropped: it is not `vk-mem top`."""


def serve_stats(
    path: str | os.PathLike[str],
    allocator: Allocator,
    *,
    interval: float = 1.0,
    may_record: bool = False,
) -> StatsServer:
    """Starts a server on a new Unix socket, so that `vk-mem top PATH` can watch an allocator.

    A daemon thread takes a sample every `interval` seconds while a client is connected: heap
    budgets, the number of resources created, the names with the most memory, what may be lost and
    what was, and how many events of each kind (create, free, map, flush, failure ...) there were
    since the server began. Sampling makes short calls of the allocator; `allocator.close()` waits
    for one that is running. Only this user can connect (mode 0600). A socket that a dead process
    left at `path` is replaced.

    With `may_record`, `vk-mem top PATH --record FILE` makes this process record the allocator into
    a file, as `vk_mem.record` does, as long as that client is connected. Without, nothing that a
    client sends has an effect.

    Returns a `StatsServer`, to be closed or used as a context manager. The server also ends when
    the allocator is closed, at interpreter exit, and in a forked child. It holds only a weak
    reference to the allocator.

    Raises `OSError` if the socket cannot be created, another process serves there, or `path` is not
    a socket; `InvalidArgumentError` for an interval below 0.01 or above 3600 seconds, or an invalid
    path; `UseAfterFreeError` if the allocator is closed; `FeatureNotPresentError` on systems
    where Python has no Unix sockets, such as Windows.
    """
    return StatsServer(path, allocator, interval=interval, may_record=may_record)


@dataclass(slots=True)
class _Client:
    socket: socket.socket
    unsent: bytes = b""
    waits_since: float = 0.0
    received: bytes = b""
    answer: bytes = b""
    """A line that is to be sent before the next sample."""
    recording: Recording | None = None
    """Ends with the connection."""


class StatsServer(NoCopies):
    """A server of samples, which runs until it is closed; see `serve_stats`."""

    _socket: socket.socket | None = None
    """None before the server starts and after it has ended."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        allocator: Allocator,
        *,
        interval: float = 1.0,
        may_record: bool = False,
    ) -> None:
        if not hasattr(socket, "AF_UNIX"):
            raise FeatureNotPresentError(
                "serve_stats needs Unix sockets, which Python does not have on this system; "
                "vk_mem.record and calculate_statistics() need none"
            )
        if not 0.01 <= interval <= 3600:
            raise InvalidArgumentError(f"interval is {interval}, not from 0.01 to 3600 seconds")
        self.path = _path_of_a_socket(path)
        """Absolute path of the socket."""
        self._interval = interval
        self._allocator = weakref.ref(_checked(allocator))
        self._may_record = bool(may_record)
        self._about = {**_about(allocator), "may_record": self._may_record}
        _sample(allocator)
        self._events = allocator._count_events()
        self._clients: dict[int, _Client] = {}
        self._next_sample = 0.0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="vk-mem statistics", daemon=True)
        # If anything below raises or is interrupted, the file and all descriptors are released.
        with contextlib.ExitStack() as undo:
            undo.callback(self._events.end)
            self._awake, self._wake = map(undo.enter_context, socket.socketpair())
            self._selector = undo.enter_context(selectors.DefaultSelector())
            listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            undo.callback(_unbind, listener, self.path)
            self._inode = _listen(listener, self.path)
            for ours in (listener, self._awake):
                ours.setblocking(False)
                self._selector.register(ours, selectors.EVENT_READ)
            undo.callback(self._give_up)
            self._socket = listener
            _servers.add(self)
            self._thread.start()
            undo.pop_all()

    def _give_up(self) -> None:
        """Stops the thread, which an interrupt may have left partly started."""
        self._stopping = True
        _servers.discard(self)
        if self._thread.is_alive():
            self.close()
        self._socket = None

    @property
    def closed(self) -> bool:
        """Whether the server has ended: closed, or with its allocator."""
        return self._socket is None

    def close(self) -> None:
        """Stops the server and removes the socket. May be called again."""
        if self._socket is None:
            return
        self._stopping = True
        # If the pair is full or closed, the thread wakes without this byte.
        with contextlib.suppress(OSError):
            self._wake.send(b"x")
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"<vk_mem.StatsServer at {well_formed(self.path)}{', closed' if self.closed else ''}>"
        )

    # ---- the thread ----

    def _run(self) -> None:
        try:
            self._serve()
        finally:
            self._end()

    def _serve(self) -> None:
        listener = self._socket
        while not self._stopping:
            allocator = self._allocator()
            ended = allocator is None or allocator.closed
            del allocator
            now = time.monotonic()
            if ended or (self._clients and now >= self._next_sample):
                line = self._line()
                for client in list(self._clients.values()):
                    self._send(client, line)
                self._next_sample = time.monotonic() + self._interval
            if ended:
                return
            # Without clients only check now and then whether the allocator is gone.
            wait = max(self._next_sample - now, 0.0) if self._clients else min(self._interval, 1.0)
            for key, _ in self._selector.select(wait):
                if key.fileobj is listener:
                    self._accept()
                elif key.fileobj is not self._awake:
                    self._receive(self._clients[key.fd])
            for client in list(self._clients.values()):
                if client.unsent:
                    self._send(client, b"")

    def _line(self) -> bytes:
        """Returns a sample as a line, or the last line with the reason for the end."""
        allocator = self._allocator()
        try:
            if allocator is None:
                raise VkMemError("the allocator is gone")
            sample = {**self._about, **_sample(allocator), "events": self._events.counts()}
            return _encode(sample)
        except VkMemError as error:
            if allocator is not None and not allocator.closed:
                # The allocator is being closed, or its `close` is about to raise: skip this sample.
                return b""
            return _encode({"format": FORMAT, "end": str(error)})

    def _accept(self) -> None:
        assert self._socket is not None
        try:
            made, _ = self._socket.accept()
        except OSError:
            # The client left again, or no descriptors are free: wait a moment for some to be
            # closed.
            time.sleep(0.01)
            return
        if len(self._clients) >= MOST_CLIENTS:
            made.close()
            return
        made.setblocking(False)
        client = _Client(made)
        self._clients[made.fileno()] = client
        self._selector.register(made, selectors.EVENT_READ)
        self._send(client, self._line())
        if len(self._clients) == 1:
            self._next_sample = time.monotonic() + self._interval

    def _receive(self, client: _Client) -> None:
        try:
            received = client.socket.recv(READ_LIMIT)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        client.received += received
        if not received or len(client.received) > READ_LIMIT:
            self._drop(client)
        elif client.recording is None and b"\n" in client.received:
            line, _, client.received = client.received.partition(b"\n")
            self._answer(client, line)

    def _answer(self, client: _Client, line: bytes) -> None:
        """Begins the recording that a client asks for, and tells it the file or what is wrong."""
        allocator = self._allocator()
        if not self._may_record or allocator is None:
            return
        answer: dict[str, str]
        try:
            client.recording = begin_recording(allocator, line)
            answer = {"path": str(client.recording.path)}
        except (OSError, ValueError, VkMemError) as error:
            answer = {"error": str(error)}
        client.answer = _encode({"format": FORMAT, "record": answer})
        self._send(client, b"")

    def _send(self, client: _Client, line: bytes) -> None:
        now = time.monotonic()
        if not client.unsent:
            client.unsent, client.waits_since = client.answer + line, now
            client.answer = b""
        if not client.unsent:
            return
        # Otherwise the previous line is still being sent: skip this one.
        try:
            sent = client.socket.send(client.unsent)
            client.unsent = client.unsent[sent:]
        except BlockingIOError:
            if now - client.waits_since > PATIENCE:
                self._drop(client)
        except OSError:
            self._drop(client)

    def _drop(self, client: _Client) -> None:
        number = client.socket.fileno()
        if number not in self._clients:
            return
        self._selector.unregister(client.socket)
        if client.recording is not None:
            # First, so that a client that waits for the end finds the whole file.
            client.recording.close()
        del self._clients[number]
        client.socket.close()

    def _end(self) -> None:
        listener = self._socket
        if listener is None:
            return
        self._events.end()
        # Before closing the listener: until then no other process can listen there.
        _remove(self.path, self._inode)
        for client in list(self._clients.values()):
            self._drop(client)
        self._close_descriptors(listener)
        # Last, so that everything is released when `closed` becomes true.
        self._socket = None

    def _close_descriptors(self, listener: socket.socket) -> None:
        self._selector.close()
        for ours in (listener, self._awake, self._wake):
            ours.close()

    def _after_fork(self) -> None:
        """Closes descriptors in a forked child; the thread, path and clients stay the parent's."""
        listener, self._socket = self._socket, None
        if listener is not None:
            for client in self._clients.values():
                client.socket.close()
            self._clients.clear()
            self._close_descriptors(listener)


_servers: weakref.WeakSet[StatsServer] = weakref.WeakSet()


def _close_all() -> None:
    for server in list(_servers):
        server.close()


def _after_fork_in_child() -> None:
    for server in list(_servers):
        server._after_fork()


# Registered after `_close_all_at_exit`, so it runs earlier: atexit goes in reverse order.
atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


# ---- the socket ----


def _listen(listener: socket.socket, path: str) -> tuple[int, int]:
    """Creates the socket's file and listens. Returns the file's device and inode."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(f"{well_formed(path)} is there and is no socket")
        if _is_served(path):
            raise OSError(f"another process serves at {well_formed(path)}")
        os.unlink(path)
    listener.bind(path)
    # No client can connect before `listen`, so none connects with wider permissions.
    os.chmod(path, 0o600)
    found = os.lstat(path)
    listener.listen(BACKLOG)
    return found.st_dev, found.st_ino


def _unbind(listener: socket.socket, path: str) -> None:
    """Removes the file of the socket if `bind` created it."""
    with contextlib.suppress(OSError):
        if listener.getsockname() and stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)


def _path_of_a_socket(path: str | os.PathLike[str]) -> str:
    made = os.fsdecode(path)
    try:
        os.fsencode(made)
    except UnicodeEncodeError:
        raise InvalidArgumentError("path has characters that no file name can have") from None
    if "\0" in made:
        raise InvalidArgumentError("path has a null character")
    return os.path.abspath(made)


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        try:
            client.connect(path)
        except ConnectionRefusedError:
            return False
        except OSError:
            # The socket is busy, or this user must not connect: it may be in use.
            return True
    return True


def _remove(path: str, inode: tuple[int, int]) -> None:
    """Removes the file, unless another file has replaced it."""
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        if (found.st_dev, found.st_ino) == inode:
            os.unlink(path)


# ---- samples ----


def _checked(allocator: object) -> Allocator:
    if not isinstance(allocator, Allocator):
        kind = type(allocator).__name__
        raise TypeError(f"allocator must be a vk_mem.Allocator, not {kind}")
    return allocator


def _about(allocator: Allocator) -> dict[str, Any]:
    """Returns the part of a sample that never changes."""
    device = allocator.device
    heaps = device.memory_properties.memory_heaps
    return {
        "format": FORMAT,
        "pid": os.getpid(),
        "program": os.path.basename(sys.argv[0] if sys.argv else "") or "python",
        "device": device.properties.device_name,
        "heap_sizes": [heap.size for heap in heaps],
        "heap_flags": [[flag.name for flag in heap.flags] for heap in heaps],
    }


def _sample(allocator: Allocator) -> dict[str, Any]:
    """Takes a sample. Raises `UseAfterFreeError` if the allocator is closed."""
    created, alive, names, budgets, evictions = allocator._sample(NAMES)
    keys = ("usage", "budget", "block_count", "block_bytes", "allocation_count", "allocation_bytes")
    return {
        "time": time.monotonic(),
        "created": created,
        "alive": alive,
        "heaps": [dict(zip(keys, budget, strict=True)) for budget in budgets],
        "names": [
            {"name": None if name is None else name[:LONGEST_NAME], "count": count, "bytes": size}
            for name, count, size in names
        ],
        "evictions": dict(zip(EVICTIONS, evictions, strict=True)),
    }


def _encode(sample: dict[str, Any]) -> bytes:
    return json.dumps(sample, separators=(",", ":")).encode() + b"\n"
