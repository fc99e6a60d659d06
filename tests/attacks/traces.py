"""Mutated recordings of all formats, given to every reader, and to replays and writers."""

from __future__ import annotations

import contextlib
import json
import random
import tempfile
from pathlib import Path

import vk_mem
from attacks.registry import Budget, attack
from vk_mem.trace import load

DATA = Path(__file__).parents[2] / "crates/trace/tests/data"
LONGEST = 60_000
"""Bytes of a file: longer ones have more of the same."""
MOST = 400_000_000
"""Bytes that a file may take in memory."""
JUNK = (
    b"\0", b"\xff", b"\x80" * 10, b"\xff" * 9 + b"\x7f", b",", b"\n", b"\r\n", b"-1", b"1e9",
    b"18446744073709551615", b"18446744073709551616", b"0000000000000001", b"(nil)",
    b"Config,Begin", b"Config,End", b"vmaCreateAllocator", b"vmaDestroyBuffer",
    b"allocate", b"free", b"\x80\x05",
    b"(dq\x00", b"}", b"]", b"\x94", b"h\xff", b"j\xff\xff\xff\xff", b"X\xff\xff\xff\x7f",
    b"cos\nsystem\n", b"\x93", b"R", b".", b"\xef\xbb\xbf", "é\u202e".encode(),
)  # fmt: skip


def samples() -> list[bytes]:
    """All files of the tests, and each as a recording of this library."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted([*DATA.glob("*.csv"), *DATA.glob("*.pickle")]):
            found.append(path.read_bytes()[:LONGEST])
            played = load(path).replay(record=True).trace
            assert played is not None
            for number, trace in enumerate((load(path), played)):
                trace.save(Path(folder) / f"{number}.vkmem")
                found.append((Path(folder) / f"{number}.vkmem").read_bytes()[:LONGEST])
    return found


def mutated(dice: random.Random, files: list[bytes]) -> bytes:
    """A file with some bytes changed, left out, doubled, or taken from another one."""
    data = bytearray(dice.choice(files))
    for _ in range(1 << dice.randrange(6)):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(7):
            case 0 if at < len(data):
                data[at] ^= 1 << dice.randrange(8)
            case 1 if at < len(data):
                data[at] = dice.randrange(256)
            case 2:
                del data[at : at + dice.choice((1, 2, 8, 100, 5000))]
            case 3:
                data[at:at] = dice.choice(JUNK)
            case 4:
                end = at + dice.choice((1, 4, 60, 2000))
                data[at:at] = data[at:end]
            case 5:
                other = dice.choice(files)
                start = dice.randrange(len(other))
                data[at : at + dice.randrange(40)] = other[start : start + dice.randrange(400)]
            case 6 if dice.randrange(8) == 0:
                del data[at:]
        if not data:
            data += b"\0"
    return bytes(data)


@attack("traces", short=150)
def mutated_traces(seed: int, budget: Budget) -> None:
    """Changes recordings at random: each is refused with a TraceError, or read, played, written."""
    files = samples()
    folder = Path(tempfile.mkdtemp())
    for number, dice in budget.cases(seed):
        with budget.case(seed, number):
            data = mutated(dice, files)
            try:
                trace = load(data)
            except vk_mem.TraceError as error:
                assert str(error) and "\n" not in str(error)
                budget.counted["refused"] += 1
                continue
            assert 100 * len(trace) < MOST
            budget.counted["read"] += 1
            budget.counted["events"] += len(trace)
            for event in trace[: dice.randrange(400)]:
                assert event == trace[event.index] and repr(event)
            trace.usage()
            settings = dice.choice(
                ({}, {"device": "integrated"}, {"algorithm": "buddy"}, {"threads": "recorded"})
            )
            with contextlib.suppress(vk_mem.TraceError):
                report = trace.replay(samples=3, **settings)
                assert report.events == len(trace) and str(report) and json.loads(report.to_json())
                for allocator in report.allocators:
                    report.snapshot(allocator)
            write = dice.choice(
                (trace.save, trace.to_vma_csv, trace.to_rmm_csv, trace.to_chrome_json)
            )
            with contextlib.suppress(vk_mem.TraceError):
                write(folder / "x")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
