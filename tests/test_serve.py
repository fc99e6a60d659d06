"""The statistics server on a Unix socket, with well-behaved and hostile clients."""

from __future__ import annotations

import contextlib
import copy
import gc
import json
import os
import pickle
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timelines
from support import TRANSFER, run_python
from systems import needs_unix_sockets

import vk_mem
import vk_mem.observe.serve
from vk_mem import Allocator, InvalidArgumentError, SimulatedDevice, StatsServer, UseAfterFreeError

pytestmark = needs_unix_sockets
QUICK = 0.02


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "stats.sock")


@pytest.fixture
def server(simulated_allocator: Allocator, path: str) -> Iterator[StatsServer]:
    with vk_mem.serve_stats(path, simulated_allocator, interval=QUICK) as server:
        yield server


@contextlib.contextmanager
def client(path: str) -> Iterator[Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        made.settimeout(20)
        made.connect(path)
        with made.makefile("rb") as lines:
            yield lines


def sample(lines: Any) -> dict[str, Any]:
    line = lines.readline()
    assert line.endswith(b"\n")
    return json.loads(line)


def eventually(condition: Any) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def test_a_client_gets_samples(simulated_allocator: Allocator, path: str, server: Any) -> None:
    made = [simulated_allocator.create_buffer(1000, TRANSFER, name="x\n\x1b") for _ in range(3)]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert path in repr(server) and not server.closed
    with client(path) as lines:
        first = sample(lines)
        assert (first["created"], first["alive"]) == (3, 3)
        assert first["names"] == [
            {"name": "x\n\x1b", "count": 3, "bytes": 3 * made[0].allocation.size}
        ]
        assert first["pid"] == os.getpid()
        budgets = simulated_allocator.heap_budgets()
        assert [heap["usage"] for heap in first["heaps"]] == [it.usage for it in budgets]
        made.pop().destroy()
        while sample(lines)["alive"] != 2:
            pass
    simulated_allocator.destroy_many(made)


def test_many_clients_come_and_go(path: str, server: Any) -> None:
    for _ in range(100):
        with client(path) as lines:
            sample(lines)
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(client(path)) for _ in range(vk_mem.observe.serve.MOST_CLIENTS)
        ]
        for lines in clients:
            sample(lines)
        with client(path) as one_too_many:
            assert one_too_many.readline() == b""
        for lines in clients:
            sample(lines)
    with client(path) as lines:
        eventually(lambda: lines.readline())


@pytest.mark.parametrize("nonsense", [b"\0" * 100_000, b"GET / HTTP/1.1\r\n\r\n" * 9999])
def test_a_client_that_talks_is_dropped(path: str, server: Any, nonsense: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as hostile, client(path) as lines:
        hostile.connect(path)
        hostile.settimeout(20)
        with contextlib.suppress(OSError):
            hostile.sendall(nonsense)
        with contextlib.suppress(ConnectionResetError):
            while hostile.recv(1 << 16):
                pass
        sample(lines)


def test_a_client_that_does_not_read_is_dropped(
    path: str, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vk_mem.observe.serve, "PATIENCE", 0.2)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as idle, client(path) as lines:
        idle.connect(path)
        eventually(lambda: len(server._clients) == 2)
        # Others are served all the time.
        while len(server._clients) == 2:
            sample(lines)
        sample(lines)


def test_a_client_that_leaves_in_the_middle(path: str, server: Any) -> None:
    for _ in range(20):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
            made.connect(path)
    with client(path) as lines:
        sample(lines)
    eventually(lambda: not server._clients)


def test_the_socket_goes_with_the_server(simulated_allocator: Allocator, path: str) -> None:
    server = vk_mem.serve_stats(Path(path), simulated_allocator)
    with client(path) as lines:
        sample(lines)
        server.close()
        server.close()
        assert server.closed and "closed" in repr(server)
        assert lines.read() == b""
    assert not os.path.exists(path)


def test_what_somebody_else_put_there_stays(simulated_allocator: Allocator, path: str) -> None:
    with vk_mem.serve_stats(path, simulated_allocator):
        os.unlink(path)
        Path(path).write_text("mine")
    assert Path(path).read_text() == "mine"
    with pytest.raises(FileExistsError, match="no socket"):
        vk_mem.serve_stats(path, simulated_allocator)
    assert Path(path).read_text() == "mine"


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(
    simulated_allocator: Allocator, path: str
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(path)
    with vk_mem.serve_stats(path, simulated_allocator, interval=QUICK):
        with pytest.raises(OSError, match="another process serves"):
            vk_mem.serve_stats(path, simulated_allocator)
        with client(path) as lines:
            sample(lines)


@pytest.mark.parametrize("interval", [0, 0.001, -1, 3601, float("nan"), float("inf")])
def test_odd_intervals_are_refused(
    simulated_allocator: Allocator, path: str, interval: float
) -> None:
    with pytest.raises(InvalidArgumentError, match="interval"):
        vk_mem.serve_stats(path, simulated_allocator, interval=interval)
    assert not os.path.exists(path)


def test_wrong_places_and_things_are_refused(
    simulated: SimulatedDevice, simulated_allocator: Allocator, tmp_path: Path, path: str
) -> None:
    for wrong in (tmp_path / "none" / "x", tmp_path / ("x" * 200), tmp_path):
        with pytest.raises(OSError):
            vk_mem.serve_stats(wrong, simulated_allocator)
    with pytest.raises(ValueError):
        vk_mem.serve_stats(path + "\0", simulated_allocator)
    with pytest.raises(TypeError, match="must be a vk_mem"):
        vk_mem.serve_stats(path, simulated)  # type: ignore[arg-type]
    closed = Allocator(simulated)
    closed.close()
    with pytest.raises(UseAfterFreeError):
        vk_mem.serve_stats(path, closed)
    assert not os.path.exists(path)
    assert threading.active_count() < 10


@pytest.mark.parametrize("how", ["closed", "collected"])
def test_it_ends_with_the_allocator(simulated: SimulatedDevice, path: str, how: str) -> None:
    allocator: Any = Allocator(simulated)
    server = vk_mem.serve_stats(path, allocator, interval=QUICK)
    with client(path) as lines:
        sample(lines)
        allocator.close()
        if how == "collected":
            del allocator
            gc.collect()
        last = [json.loads(line) for line in lines][-1]
        assert "closed" in last["end"] or "gone" in last["end"]
    eventually(lambda: server.closed)
    assert not os.path.exists(path)
    server.close()


def test_it_ends_with_the_allocator_that_nobody_watches(
    simulated: SimulatedDevice, path: str
) -> None:
    allocator = Allocator(simulated)
    server = vk_mem.serve_stats(path, allocator, interval=QUICK)
    allocator.close()
    eventually(lambda: server.closed)
    assert not os.path.exists(path)


def test_it_does_not_get_in_the_way_of_close(simulated: SimulatedDevice, path: str) -> None:
    for _ in range(10):
        allocator = Allocator(simulated)
        made = allocator.create_buffers([64] * 20_000, TRANSFER)
        with vk_mem.serve_stats(path, allocator, interval=0.01), client(path) as lines:
            sample(lines)
            # Samples of that many take a while, and one of them runs nearly always.
            for _ in range(10):
                time.sleep(0.003)
                allocator.create_buffer(64, TRANSFER, name="x").destroy()
            allocator.destroy_many(made)
            allocator.close()
            assert allocator.closed


def test_a_refused_close_does_not_end_it(simulated: SimulatedDevice, path: str) -> None:
    with Allocator(simulated) as allocator:
        buffer = allocator.create_buffer(
            64, TRANSFER, flags=vk_mem.AllocationCreateFlags.HOST_ACCESS_RANDOM
        )
        with vk_mem.serve_stats(path, allocator, interval=0.01), client(path) as lines:
            with buffer.map():
                for _ in range(50):
                    with pytest.raises(BufferError):
                        allocator.close()
            for _ in range(5):
                assert "end" not in sample(lines)
        buffer.destroy()


SERVE = """
import os, sys, time, socket, json
import vk_mem
allocator = vk_mem.Allocator(vk_mem.SimulatedDevice())
server = vk_mem.serve_stats({path!r}, allocator, interval=0.02)
def look():
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect({path!r})
        return json.loads(client.makefile().readline())["alive"]
"""


def test_the_end_of_the_interpreter(path: str) -> None:
    done = run_python(SERVE.format(path=path) + "look(); allocator.close()\n", "-W", "error")
    assert (done.returncode, done.stderr) == (0, "")
    assert not os.path.exists(path)


def test_the_end_with_an_allocator_that_is_open(path: str) -> None:
    done = run_python(SERVE.format(path=path) + "look()\n", "-X", "dev")
    assert done.returncode == 0 and "never closed" in done.stderr
    assert not os.path.exists(path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_leaves_the_server_to_the_parent(path: str) -> None:
    program = """
look()
child = os.fork()
if child == 0:
    assert server.closed
    server.close()
    assert look() == 0
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert not server.closed and look() == 0
server.close()
allocator.close()
print("end")
"""
    done = run_python(SERVE.format(path=path) + program, "-W", "ignore::DeprecationWarning")
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


# ---- what cannot start, and what cannot be copied ----


@pytest.mark.parametrize(
    ("owner", "name", "raised"),
    [
        (vk_mem.observe.serve.os, "chmod", OSError),
        (vk_mem.observe.serve.socket.socket, "listen", OSError),
        (vk_mem.observe.serve.socket, "socketpair", OSError),
        (vk_mem.observe.serve.selectors, "DefaultSelector", OSError),
        (vk_mem.observe.serve.threading.Thread, "start", RuntimeError),
        (vk_mem.observe.serve.threading.Thread, "start", KeyboardInterrupt),
        (vk_mem.observe.serve, "_listen", KeyboardInterrupt),
    ],
)
def test_a_server_that_cannot_start_leaves_nothing(
    owner: Any,
    name: str,
    raised: type[BaseException],
    simulated_allocator: Allocator,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = getattr(owner, name)

    def fail(*arguments: Any, **keywords: Any) -> Any:
        if name in ("_listen", "start") and raised is KeyboardInterrupt:
            # An interrupt comes behind what it interrupts.
            real(*arguments, **keywords)
        raise raised("not now")

    descriptors = count_of_descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        with pytest.raises(raised):
            vk_mem.serve_stats(path, simulated_allocator)
    assert not os.path.lexists(path)
    assert count_of_descriptors() == descriptors
    assert [it.name for it in threading.enumerate() if it.name == "vk-mem statistics"] == []
    with vk_mem.serve_stats(path, simulated_allocator), client(path) as lines:
        sample(lines)


def count_of_descriptors() -> int:
    gc.collect()
    return len(os.listdir("/dev/fd"))


def test_the_files_of_others_stay(simulated_allocator: Allocator, path: str) -> None:
    Path(path).write_text("mine")
    with pytest.raises(FileExistsError):
        vk_mem.serve_stats(path, simulated_allocator)
    assert Path(path).read_text() == "mine"


@pytest.mark.parametrize("call", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_server_is_not_copied(server: StatsServer, call: Any) -> None:
    with pytest.raises(TypeError, match=r"cannot pickle or copy 'vk_mem\.StatsServer' object"):
        call(server)


@pytest.mark.parametrize("wrong", ["\ud800", "a\0b"])
def test_a_path_that_no_file_has(simulated_allocator: Allocator, wrong: str) -> None:
    with pytest.raises(InvalidArgumentError, match="path has"):
        vk_mem.serve_stats(wrong, simulated_allocator)


# ---- recordings that a client asks for ----


def ask(path: str, request: bytes) -> Iterator[Any]:
    """Lines that a client gets which asks for a recording; the connection ends with it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        made.settimeout(20)
        made.connect(path)
        made.sendall(request)
        with made.makefile("rb") as lines:
            for line in lines:
                yield json.loads(line)


def answer_to(path: str, request: bytes) -> dict[str, str]:
    lines = ask(path, request)
    found: dict[str, str] = next(line["record"] for line in lines if "record" in line)
    lines.close()  # type: ignore[attr-defined]
    return found


def test_a_client_asks_for_a_recording(
    simulated_allocator: Allocator, path: str, tmp_path: Path
) -> None:
    file = tmp_path / "asked.vkmem"
    before = simulated_allocator.create_buffer(1000, TRANSFER, name="before")
    with vk_mem.serve_stats(path, simulated_allocator, interval=QUICK, may_record=True) as server:
        lines = ask(path, json.dumps({"record": str(file)}).encode() + b"\n")
        answer = next(line["record"] for line in lines if "record" in line)
        assert answer == {"path": str(file)}
        during = simulated_allocator.create_buffer(1000, TRANSFER, name="during")
        assert next(lines)["may_record"] is True
        lines.close()  # type: ignore[attr-defined]
        eventually(lambda: not server._clients)
        after = simulated_allocator.create_buffer(1000, TRANSFER, name="after")
    trace = vk_mem.trace.load(file)
    names = {it.name: it.is_state for it in trace if isinstance(it, vk_mem.trace.Name)}
    assert names == {"before": True, "during": False} and trace.cut is None
    simulated_allocator.destroy_many([before, during, after])


def test_a_client_asks_for_a_timeline(path: str, tmp_path: Path) -> None:
    file = tmp_path / "asked.pftrace"
    with Allocator(SimulatedDevice()) as allocator:
        with vk_mem.serve_stats(path, allocator, interval=QUICK, may_record=True):
            lines = ask(path, json.dumps({"record": str(file)}).encode() + b"\n")
            assert any("path" in line.get("record", {}) for line in lines)
            allocator.create_buffer(1024, TRANSFER).destroy()
        assert timelines.read(file).counters["heap 0 live"] == [0, 1024, 0]


def test_recordings_have_to_be_allowed(
    simulated_allocator: Allocator, path: str, server: Any, tmp_path: Path
) -> None:
    file = tmp_path / "asked.vkmem"
    lines = ask(path, json.dumps({"record": str(file)}).encode() + b"\n")
    seen = [next(lines) for _ in range(5)]
    assert all(it["may_record"] is False and "record" not in it for it in seen)
    assert not file.exists()


@pytest.mark.parametrize(
    ("request_line", "why"),
    [
        (b"{}", "no request for a recording"),
        (b"[" * 3000, "no request for a recording"),
        (b"\xff", "no request for a recording"),
        (b'{"record": 7}', "absolute path"),
        (b'{"record": "x.vkmem"}', "absolute path"),
        (b'{"record": "/tmp/\\u0000"}', "absolute path"),
        (b'{"record": "/dev/null"}', "no regular file"),
        (b'{"record": "/tmp"}', "no regular file"),
        (b'{"record": "/missing/folder/x.vkmem"}', "No such file"),
        (b'{"record": "/\\ud800"}', "surrogates not allowed"),
    ],
)
def test_wrong_requests_for_recordings(
    simulated_allocator: Allocator, path: str, request_line: bytes, why: str
) -> None:
    with vk_mem.serve_stats(path, simulated_allocator, interval=QUICK, may_record=True) as server:
        assert why in answer_to(path, request_line + b"\n")["error"]
        with client(path) as lines:
            assert sample(lines)["alive"] == 0
        assert not server.closed


@pytest.mark.parametrize("ends", ["allocator", "server"])
def test_a_recording_ends_with_its_allocator_and_its_server(
    path: str, tmp_path: Path, ends: str
) -> None:
    file = tmp_path / f"{ends}.vkmem"
    with Allocator(SimulatedDevice()) as allocator:
        server = vk_mem.serve_stats(path, allocator, interval=QUICK, may_record=True)
        lines = ask(path, json.dumps({"record": str(file)}).encode() + b"\n")
        assert any("path" in line.get("record", {}) for line in lines)
        allocator.create_buffer(64, TRANSFER).destroy()
        if ends == "server":
            server.close()
    eventually(lambda: server.closed)
    kinds = vk_mem.trace.load(file).kinds()
    assert (kinds["allocate"], kinds["free"]) == (1, 1)
    assert ("destroy_allocator" in kinds) is (ends == "allocator")
