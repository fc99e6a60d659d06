"""Recording of allocators: files, rings, the environment, and what goes wrong."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
from recorded_programs import warned_while_recording
from support import MAPPED, TRANSFER, WRITE, run_python
from systems import lacks

import vk_mem
from vk_mem import Allocator, Ring, SimulatedDevice

MAGIC = b"\x89VKMEM\r\n"


def blocks(data: bytes) -> list[tuple[int, bytes]]:
    """Kind and payload of each complete block of a recording."""
    assert data[:8] == MAGIC
    assert struct.unpack_from("<HH", data, 8) == (1, 1)
    found, at = [], 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "little")
        if at + 8 + size > len(data):
            break
        found.append((data[at], data[at + 8 : at + 8 + size]))
        at += 8 + size
    return found


def kinds(path: Path) -> list[int]:
    return [kind for kind, _ in blocks(path.read_bytes())]


def test_a_recording_of_an_allocator_has_its_calls(tmp_path: Path) -> None:
    path = tmp_path / "a.vkmem"
    device = SimulatedDevice("discrete-8gib")
    allocator = Allocator(device, record=path, track_call_sites=True)
    buffer = allocator.create_buffer(1000, TRANSFER, name="the buffer", user_data="some data")
    buffer.destroy()
    allocator.close()
    data = path.read_bytes()
    assert kinds(path)[0] == 1 and 2 in kinds(path)
    for text in (b"the buffer", b"Simulated discrete GPU", b"test_recording.py", b"vk-mem"):
        assert text in data, text


@pytest.mark.parametrize("given", [str, Path])
def test_paths(tmp_path: Path, given: type) -> None:
    path = tmp_path / "a.vkmem"
    with Allocator(SimulatedDevice("discrete-8gib"), record=given(path)):
        pass
    assert kinds(path)[0] == 1


@pytest.mark.parametrize("wrong", [7, 1.5, object(), True])
def test_what_is_no_recording(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"record must be a path, a vk_mem\.Ring"):
        Allocator(SimulatedDevice("discrete-8gib"), record=wrong)  # type: ignore[arg-type]


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "a.vkmem"
    with pytest.raises(FileNotFoundError) as caught:
        Allocator(SimulatedDevice("discrete-8gib"), record=path)
    assert caught.value.filename == str(path)


@pytest.mark.parametrize("name", ["a.json", "a.JSON"])
def test_the_name_of_a_timeline_for_chrome_is_refused(
    allocator: Allocator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    path.write_text("kept")

    def by_environment() -> None:
        monkeypatch.setenv("VK_MEM_RECORD", str(path))
        Allocator(SimulatedDevice("discrete-8gib"))

    for begin in (
        lambda: vk_mem.record(allocator, path),
        lambda: Allocator(SimulatedDevice("discrete-8gib"), record=path),
        by_environment,
    ):
        with pytest.raises(vk_mem.InvalidArgumentError) as caught:
            begin()
        # As Rust and Python write a text: backslashes twice.
        other = json.dumps(str(path.with_suffix(".vkmem")))
        assert str(caught.value) == (
            f"{path}: a recording is no timeline for Chrome, which is complete only at its end: "
            f"record to {other}, then make one by vk_mem.trace.load({other}).to_chrome_json(...), "
            "or record to a .pftrace"
        )
    # The file that had the name, and the allocator, are as before.
    assert path.read_text() == "kept" and os.listdir(tmp_path) == [name]
    with vk_mem.record(allocator, tmp_path / "a.vkmem"):
        allocator.create_buffer(64, TRANSFER).destroy()
    monkeypatch.delenv("VK_MEM_RECORD", raising=False)
    vk_mem.trace.load(tmp_path / "a.vkmem").to_chrome_json(tmp_path / "made.json")
    assert (tmp_path / "made.json").stat().st_size > 0


def test_a_recording_can_be_read_while_it_is_written(allocator: Allocator, tmp_path: Path) -> None:
    path = tmp_path / "a.vkmem"
    with vk_mem.record(allocator, path) as recording:
        allocator.create_buffer(1000, TRANSFER, name="early").destroy()
        recording.flush()
        assert b"early" in path.read_bytes()
        before = recording.events
        allocator.create_buffer(1000, TRANSFER, name="later").destroy()
        end = time.monotonic() + 30
        while b"later" not in path.read_bytes():
            assert time.monotonic() < end
            time.sleep(0.01)
        assert recording.events > before and recording.dropped == 0
        recording.mark("a mark of the program")
        assert (recording.path, recording.closed) == (path, False)
    assert recording.closed
    assert b"a mark of the program" in path.read_bytes()
    size = path.stat().st_size
    allocator.create_buffer(1000, TRANSFER).destroy()
    assert path.stat().st_size == size
    recording.close()
    for late in (lambda: recording.mark("too late"), recording.flush, recording.__enter__):
        with pytest.raises(vk_mem.UseAfterFreeError, match="the recording was closed"):
            late()
    assert recording.events > before and "closed" in repr(recording)


def test_what_existed_is_told(allocator: Allocator, tmp_path: Path) -> None:
    path = tmp_path / "a.vkmem"
    pool = allocator.create_pool(memory_type_index=0, name="old pool")
    buffer = allocator.create_buffer(1000, TRANSFER, name="old buffer")
    with vk_mem.record(allocator, path):
        pass
    data = path.read_bytes()
    assert b"old pool" in data and b"old buffer" in data
    buffer.destroy()
    pool.close()


def test_several_allocators_share_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.vkmem"
    first = Allocator(SimulatedDevice("discrete-8gib"))
    with vk_mem.record([first], path) as recording:
        second = Allocator(SimulatedDevice("nvidia-h200"), record=recording)
        first.create_buffer(1000, TRANSFER, name="of the first").destroy()
        second.create_buffer(1000, TRANSFER, name="of the second").destroy()
        second.close()
        first.create_buffer(1000, TRANSFER, name="after the second").destroy()
    data = path.read_bytes()
    assert all(it in data for it in (b"of the first", b"of the second", b"after the second"))
    first.close()


def test_a_ring_keeps_the_last_calls(tmp_path: Path) -> None:
    ring = Ring(1000)
    path = tmp_path / "ring.vkmem"
    with Allocator(SimulatedDevice("discrete-8gib"), record=ring) as allocator:
        for number in range(20_000):
            allocator.create_buffer(64 + number % 1000, TRANSFER).destroy()
        kept = ring.save(path)
        # Whole blocks are dropped, so more may be left; how much, the pace of the thread decides.
        assert 1000 <= kept < 20_000
        assert path.stat().st_size < 300_000
        allocator.create_buffer(64, TRANSFER, name="the last").destroy()
        ring.save(path)
        assert b"the last" in path.read_bytes()
    assert ring.save(path) >= 1000
    assert (ring.events, ring.path, ring.on) == (1000, None, ("out_of_memory", "corruption"))
    with pytest.raises(vk_mem.InvalidArgumentError, match="no path"):
        ring.save()
    with pytest.raises(FileNotFoundError):
        ring.save(tmp_path / "missing" / "x")


def test_100_000_events_fit_in_3_mb(tmp_path: Path) -> None:
    ring = Ring()
    path = tmp_path / "ring.vkmem"
    with Allocator(SimulatedDevice("discrete-8gib"), record=ring) as allocator:
        for number in range(60_000):
            allocator.create_buffer(64 + number % 5000, TRANSFER).destroy()
        assert ring.save(path) >= 100_000
    assert path.stat().st_size <= 3_000_000


@pytest.mark.parametrize("on", [None, "out_of_memory", "corruption", ()])
def test_a_ring_is_saved_when_memory_is_short(tmp_path: Path, on: object) -> None:
    path = tmp_path / "short.vkmem"
    ring = Ring(100, path=path, on=on)  # type: ignore[arg-type]
    device = SimulatedDevice("discrete-8gib")
    with (
        Allocator(device, heap_size_limits=[1 << 20], record=ring) as allocator,
        pytest.raises(vk_mem.OutOfDeviceMemoryError),
    ):
        allocator.create_buffer(1 << 36, TRANSFER, name="too large")
    assert path.exists() == (on in (None, "out_of_memory"))


@pytest.mark.parametrize("on", [None, "corruption", "out_of_memory"])
def test_a_ring_is_saved_when_memory_was_overwritten(tmp_path: Path, on: object) -> None:
    path = tmp_path / "overwritten.vkmem"
    ring = Ring(100, path=path, on=on)  # type: ignore[arg-type]
    device = SimulatedDevice("discrete-8gib")
    debug = vk_mem.Debug(detect_corruption=True)
    with Allocator(device, debug=debug, record=ring) as allocator:
        buffer = allocator.create_buffer(64, TRANSFER, flags=WRITE | MAPPED)
        with buffer.map() as mapped:
            address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
            ctypes.memset(address + 64, 7, 4)
        with pytest.raises(vk_mem.CorruptionError):
            allocator.check_corruption()
        assert path.exists() == (on != "out_of_memory")
        buffer.destroy()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"events": 0}, "events is 0"),
        ({"events": 1 << 40}, "events is"),
        ({"on": "leaks"}, "on has 'leaks'"),
        ({"on": ["corruption", "x"]}, "on has 'x'"),
    ],
)
def test_wrong_rings(keywords: dict[str, object], message: str) -> None:
    with pytest.raises(vk_mem.InvalidArgumentError, match=message):
        Ring(**keywords)  # type: ignore[arg-type]


@lacks(sys.platform != "linux", "disk that is always full")
def test_a_full_disk_ends_the_recording_with_one_warning() -> None:
    messages = warned_while_recording("/dev/full")
    assert messages == ["/dev/full: the recording has ended, as its file cannot be written"]


def test_many_threads_record_into_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.vkmem"
    allocator = Allocator(SimulatedDevice("discrete-8gib"), record=path)

    def work(thread: int) -> None:
        for number in range(300):
            name = f"{thread} {number}" if number == 299 else None
            allocator.create_buffer(64 + number, TRANSFER, name=name).destroy()

    threads = [threading.Thread(target=work, args=(it,)) for it in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    allocator.close()
    data = path.read_bytes()
    assert all(f"{thread} 299".encode() in data for thread in range(6))


PROGRAM = """
import vk_mem
allocator = vk_mem.Allocator(vk_mem.SimulatedDevice("discrete-8gib"))
other = vk_mem.Allocator(vk_mem.SimulatedDevice("nvidia-h200"))
off = vk_mem.Allocator(vk_mem.SimulatedDevice("lavapipe"), record=False)
usage = vk_mem.BufferUsage.VERTEX_BUFFER
for it, name in ((allocator, "one"), (other, "two"), (off, "three")):
    it.create_buffer(64, usage, name="buffer " + name).destroy()
"""


def test_the_environment_asks_for_one_recording_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VK_MEM_RECORD", str(tmp_path / "t-%p.vkmem"))
    ran = run_python(PROGRAM + "allocator.close(); other.close(); off.close()")
    assert ran.returncode == 0 and ran.stderr == "", ran.stderr
    (path,) = tmp_path.glob("t-*.vkmem")
    assert path.name[2:-6].isdigit()
    data = path.read_bytes()
    assert b"buffer one" in data and b"buffer two" in data and b"buffer three" not in data


def test_the_end_of_the_interpreter_completes_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.vkmem"
    monkeypatch.setenv("VK_MEM_RECORD", str(path))
    ran = run_python(PROGRAM + "import warnings; warnings.simplefilter('ignore')")
    assert ran.returncode == 0, ran.stderr
    assert b"buffer two" in path.read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_the_child_of_a_fork_has_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.vkmem"
    monkeypatch.setenv("VK_MEM_RECORD", str(path))
    program = PROGRAM + (
        "import os, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "child = os.fork()\n"
        "mine = vk_mem.Allocator(vk_mem.SimulatedDevice('discrete-8gib'))\n"
        "name = 'of the parent' if child else 'of the child'\n"
        "mine.create_buffer(64, usage, name=name).destroy()\n"
        "mine.close()\n"
        "if child:\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
    )
    ran = run_python(program)
    assert ran.returncode == 0, ran.stderr
    (other,) = (it for it in tmp_path.iterdir() if it != path)
    assert other.name.startswith("a.vkmem.")
    assert b"of the parent" in path.read_bytes() and b"of the child" not in path.read_bytes()
    assert b"of the child" in other.read_bytes()


def test_recordings_do_not_outlive_a_fork(allocator: Allocator, tmp_path: Path) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork")
    recording = vk_mem.record(allocator, tmp_path / "a.vkmem")
    ring = Ring(10)
    with Allocator(SimulatedDevice("discrete-8gib"), record=ring):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        refused = 0
        for call in (recording.flush, recording.close, lambda: ring.save(tmp_path / "b.vkmem")):
            try:
                call()
            except vk_mem.InvalidArgumentError:
                refused += 1
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    recording.close()


def test_two_recordings_are_not_written_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.vkmem"
    with Allocator(SimulatedDevice(), record=path) as allocator:
        (tmp_path / "link").symlink_to(path)
        for other in (path, tmp_path / "link", tmp_path / "." / "a.vkmem"):
            with pytest.raises(vk_mem.InvalidArgumentError, match="is being recorded to"):
                Allocator(SimulatedDevice(), record=other)
            with pytest.raises(vk_mem.InvalidArgumentError, match="is being recorded to"):
                vk_mem.record(allocator, other)
        allocator.create_buffer(64, TRANSFER).destroy()
    kinds = vk_mem.trace.load(path).kinds()
    assert (kinds["allocate"], kinds["free"]) == (1, 1)
    # The first one has ended.
    Allocator(SimulatedDevice(), record=path).close()
    assert vk_mem.trace.load(path).kinds().get("allocate") is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no FIFOs in its files")
def test_a_fifo_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(vk_mem.InvalidArgumentError, match="is a FIFO: record to a file"):
        Allocator(SimulatedDevice(), record=tmp_path / "fifo")


def test_wrong_arguments_of_recordings_are_named(tmp_path: Path) -> None:
    with pytest.raises(vk_mem.InvalidArgumentError, match="record is an empty path"):
        Allocator(SimulatedDevice(), record="")
    with pytest.raises(FileNotFoundError, match=r"'.*missing.*a\.vkmem'") as caught:
        Allocator(SimulatedDevice(), record=tmp_path / "missing" / "a.vkmem")
    assert isinstance(caught.value.filename, str)
    with (
        Allocator(SimulatedDevice()) as allocator,
        vk_mem.record(allocator, tmp_path / "a.vkmem") as recording,
        pytest.raises(TypeError, match="text must be a str, not NoneType"),
    ):
        recording.mark(None)  # type: ignore[arg-type]
