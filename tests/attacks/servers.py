"""Hostile connections to the statistics server, and hostile servers for `vk-mem top`."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from support import TRANSFER
from systems import open_descriptors

import vk_mem
from attacks.registry import Budget, attack
from vk_mem import Allocator, SimulatedDevice
from vk_mem.observe.serve import MOST_CLIENTS

try:
    from vk_mem.cli import top
except ModuleNotFoundError:  # without the extra "cli"
    top = None  # type: ignore[assignment]

PATIENCE = 30.0
INTERVAL = 0.01


@attack("server", short=400)
def hostile_connections(seed: int, budget: Budget) -> None:
    """Connects in every rude way; others are served meanwhile, and nothing is left at the end."""
    if not hasattr(socket, "AF_UNIX"):
        budget.counted["nothing done: Python has no Unix sockets here"] += 1
        return
    with tempfile.TemporaryDirectory() as folder, Allocator(SimulatedDevice()) as allocator:
        path = str(Path(folder, "socket"))
        names = ["x" * 300, "\x1b[31m", '"\\\n', None]
        buffers = [allocator.create_buffer(64, TRANSFER, name=name) for name in names]
        before = open_descriptors()
        server = vk_mem.serve_stats(path, allocator, interval=INTERVAL, may_record=True)
        lasting: list[socket.socket] = []
        for number, dice in budget.cases(seed):
            with budget.case(seed, number):
                way = dice.choice(WAYS)
                with contextlib.suppress(OSError):
                    way(path, dice, lasting)
                budget.counted[f"connections that {way.__name__}"] += 1
                while len(lasting) > MOST_CLIENTS // 2:
                    lasting.pop(dice.randrange(len(lasting))).close()
                if number % 20 == 0:
                    is_served(path)
                    budget.counted["connections that were served"] += 1
                assert not server.closed
        for it in lasting:
            it.close()
        with budget.case(seed, -1):
            is_served(path)
            server.close()
            assert not os.path.lexists(path)
            assert "vk-mem statistics" not in [it.name for it in threading.enumerate()]
            assert open_descriptors() == before
            for file in Path(folder).glob("*.vkmem"):
                vk_mem.trace.load(file)
                budget.counted["recordings that were read"] += 1
        allocator.destroy_many(buffers)


def connected(path: str) -> socket.socket:
    """A client, with patience for a server that others keep busy."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(PATIENCE)
    try:
        made.connect(path)
    except BaseException:
        made.close()
        raise
    return made


def is_served(path: str) -> None:
    """Whether an honest client gets samples, though it may have to come again while all is full."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            with connected(path) as client, client.makefile("rb") as lines:
                found = [lines.readline() for _ in range(2)]
        except OSError:
            continue
        if all(found):
            for line in found:
                assert json.loads(line)["alive"] == 4
            return
        time.sleep(0.01)
    raise AssertionError("nobody is served any more")


# ---- ways to connect ----


def left_at_once(path: str, dice: random.Random, lasting: list[socket.socket]) -> None:
    connected(path).close()


def talked(path: str, dice: random.Random, lasting: list[socket.socket]) -> None:
    with connected(path) as client:
        client.settimeout(0.05)
        for _ in range(dice.randrange(1, 20)):
            client.sendall(dice.randbytes(dice.choice([1, 100, 5000])))


def reset(path: str, dice: random.Random, lasting: list[socket.socket]) -> None:
    with connected(path) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.send(b"x")


def sent_half(path: str, dice: random.Random, lasting: list[socket.socket]) -> None:
    client = connected(path)
    lasting.append(client)
    client.shutdown(dice.choice([socket.SHUT_WR, socket.SHUT_RD]))


def did_not_read(path: str, dice: random.Random, lasting: list[socket.socket]) -> None:
    client = connected(path)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    lasting.append(client)


def read_a_little(path: str, dice: random.Random, lasting: list[socket.socket]) -> None:
    with connected(path) as client:
        client.settimeout(0.05)
        client.recv(dice.randrange(1, 50))


def came_in_crowds(path: str, dice: random.Random, lasting: list[socket.socket]) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(dice.randrange(2, 3 * MOST_CLIENTS)):
            client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(path)


def asked_like_a_browser(path: str, dice: random.Random, lasting: list[socket.socket]) -> None:
    with connected(path) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * dice.randrange(1, 400))


def sent_descriptors(path: str, dice: random.Random, lasting: list[socket.socket]) -> None:
    with connected(path) as client, open(os.devnull, "rb") as file:
        socket.send_fds(client, [b"x"], [file.fileno()] * dice.randrange(1, 9))


def asked_for_a_recording(path: str, dice: random.Random, lasting: list[socket.socket]) -> None:
    client = connected(path)
    file = Path(path).with_name(f"{dice.randrange(20)}.vkmem")
    client.sendall(json.dumps({"record": str(file)}).encode() + b"\n" * dice.randrange(3))
    if dice.random() < 0.5:
        client.close()
    else:
        lasting.append(client)


def asked_wrongly(path: str, dice: random.Random, lasting: list[socket.socket]) -> None:
    asked = {"record": dice.choice([*VALUES, "/dev/null", "x.vkmem", path])}
    line = dice.choice([json.dumps(asked).encode(), *JUNK])
    client = connected(path)
    lasting.append(client)
    for part in pieces(line + b"\n" * dice.randrange(3), dice):
        client.sendall(part)


Way = Callable[[str, random.Random, list[socket.socket]], None]
WAYS: tuple[Way, ...] = (
    left_at_once,
    talked,
    reset,
    sent_half,
    did_not_read,
    read_a_little,
    came_in_crowds,
    asked_like_a_browser,
    sent_descriptors,
    asked_for_a_recording,
    asked_wrongly,
)


# ---- the other side ----

SAMPLE = {
    "format": 1,
    "pid": 7,
    "program": "p",
    "device": "d",
    "heap_sizes": [1 << 30],
    "heap_flags": [["DEVICE_LOCAL"]],
    "time": 1.0,
    "created": 5,
    "alive": 3,
    "heaps": [{"usage": 1, "budget": 2, "block_bytes": 3, "allocation_bytes": 1}],
    "names": [{"name": "n", "count": 1, "bytes": 2}],
}
VALUES = (
    None, True, -1, 0, 1 << 64, (1 << 64) - 1, 10**400, 0.5, 1e308, "", "\ud800", "\x1b[2J",
    "[bold]", "x" * 5000, [], {}, [None], [[]], [{}], {"name": None},
)  # fmt: skip
JUNK = (b"", b"\0", b"{", b"[" * 5000, b"NaN", b"\xff\xfe", b"1" * 6000, b'{"format": 1}')


@attack("top", short=400)
def hostile_servers(seed: int, budget: Budget) -> None:
    """Sends `vk-mem top` all but samples; it shows one, or says in a line that it is none."""
    if top is None:
        budget.counted["nothing done: the extra cli is not installed"] += 1
        return
    for number, dice in budget.cases(seed):
        with budget.case(seed, number):
            line = hostile_line(dice)
            ours, theirs = socket.socketpair()
            with ours, theirs:
                ours.settimeout(PATIENCE)
                for part in pieces(line + dice.choice([b"\n", b""]), dice):
                    theirs.sendall(part)
                theirs.shutdown(socket.SHUT_WR)
                try:
                    samples = list(top.parsed(top.read(ours)))
                except top.Unreadable as error:
                    assert "\n" not in str(error) and len(str(error)) < 200
                    budget.counted["refused"] += 1
                    continue
            for sample in samples:
                with top.out.capture() as shown:
                    top.out.print(top.screen(sample, samples[0], 5))
                assert "\x1b[2J" not in shown.get()
                shown.get().encode("utf-8", "strict")
                budget.counted["shown"] += 1


def hostile_line(dice: random.Random) -> bytes:
    """A line with something wrong in it, as a rule."""
    if dice.random() < 0.2:
        return dice.choice(JUNK)
    if dice.random() < 0.1:
        return dice.randbytes(dice.randrange(200)).replace(b"\n", b"")
    value = json.loads(json.dumps(SAMPLE))
    for _ in range(dice.randrange(3)):
        if not value:
            break
        key = dice.choice(list(value))
        place = value[key]
        if (
            isinstance(place, list)
            and place
            and isinstance(place[0], dict)
            and place[0]
            and dice.random() < 0.7
        ):
            place[0][dice.choice(list(place[0]))] = dice.choice(VALUES)
        elif dice.random() < 0.2:
            del value[key]
        else:
            value[key] = dice.choice(VALUES)
    return json.dumps(value).encode()


def pieces(data: bytes, dice: random.Random) -> Iterator[bytes]:
    """The same in parts."""
    while data:
        length = dice.choice([1, 7, 100, 1 << 16])
        yield data[:length]
        data = data[length:]
