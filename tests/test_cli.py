"""The command line, through its entry point and in this process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import COMMAND, DEDICATED, LOSABLE, TRANSFER
from systems import WINDOWS, needs_a_shell, needs_unix_sockets
from timeline_data import SCENES
from typer.testing import CliRunner

import vk_mem
from vk_mem import Allocator, SimulatedDevice
from vk_mem.cli import main
from vk_mem.cli.commands import app

SIMULATED = ("--simulated", "discrete-8gib")
ODD = "[bold]\x1b[31m<b>\n"


def run(*arguments: str | Path, columns: int = 80, **keywords: Any) -> Any:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color"},
        **keywords,
    )


def good(*arguments: str | Path, **keywords: Any) -> str:
    done = run(*arguments, **keywords)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "\x1b" not in done.stdout, "control codes where there is no terminal"
    return done.stdout


def bad(status: int, *arguments: str | Path, **keywords: Any) -> str:
    """One line on stderr, nothing on stdout."""
    done = run(*arguments, **keywords)
    assert (done.returncode, done.stdout) == (status, ""), done
    assert done.stderr.startswith("vk-mem: ") and done.stderr.count("\n") == 1, done.stderr
    assert "\x1b" not in done.stderr
    return done.stderr


Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Refused:
    """What `bad` does, without a process for each call."""

    def call(status: int, *arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["vk-mem", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert (ended.value.code, said.out) == (status, ""), said
        assert said.err.startswith("vk-mem: ") and said.err.count("\n") == 1, said.err
        return said.err

    return call


@pytest.fixture
def dumps(tmp_path: Path) -> tuple[Path, Path]:
    """Before and after: one was freed, two are new."""
    paths = (tmp_path / "before.json", tmp_path / "after.json")
    with Allocator(SimulatedDevice("discrete-8gib"), track_call_sites=2) as allocator:
        pool = allocator.create_pool(memory_type_index=0, name="textures", block_size=1 << 20)
        made = [allocator.create_buffer(1000, TRANSFER, name=f"stays {i % 3}") for i in range(9)]
        made.append(allocator.create_buffer(5000, TRANSFER, name="goes", pool=pool))
        made.append(allocator.create_buffer(1 << 16, TRANSFER, flags=DEDICATED))
        paths[0].write_text(allocator.build_stats_string())
        made.pop(9).destroy()
        made.append(allocator.create_buffer(3 << 20, TRANSFER, name=ODD))
        made.append(allocator.create_buffer(1000, TRANSFER, name=ODD))
        paths[1].write_text(allocator.build_stats_string())
        allocator.destroy_many(made)
        pool.close()
    return paths


# ---- all commands ----


@pytest.mark.parametrize("command", ["info", "demo", "doctor", "view", "stats", "top"])
def test_every_command_explains_itself(command: str) -> None:
    text = good(command, "--help", columns=100)
    assert "--json" in text and "Exit status" in text


def test_the_command_itself() -> None:
    assert good("--version") == f"{vk_mem.__version__}\n"
    assert "Exit status: 0" in good("--help", columns=200)
    done = run()
    assert done.returncode == 2 and "Commands" in done.stdout and done.stderr == ""
    for module in ("vk_mem", "vk_mem.cli"):
        ran = subprocess.run(
            [sys.executable, "-m", module, "--version"], capture_output=True, check=True
        )
        assert ran.stdout.decode().strip() == vk_mem.__version__


@pytest.mark.parametrize(
    "wrong",
    [
        ("nothing",),
        ("stats",),
        ("stats", "a", "b"),
        ("stats", "--names", "0", "x"),
        ("stats", "--names", "many", "x"),
        ("stats", "-", "--diff", "-"),
        ("view",),
        ("view", "x.json", "-o", "x.pdf"),
        ("view", "x.json", "-o", "x"),
        ("view", "-", "--diff", "-"),
        ("top",),
        ("top", "--names", "-1", "x"),
        ("info", "--frobnicate"),
        ("demo", "--count", "-1"),
    ],
    ids=" ".join,
)
def test_wrong_usage(wrong: tuple[str, ...], refused: Refused) -> None:
    assert "vk-mem --help" in refused(2, *wrong)


def test_wrong_usage_of_the_entry_point() -> None:
    bad(2, "stats")
    bad(2, "view", "x.json", "-o", "x.pdf")


def test_what_cannot_be_read(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "broken.json").write_text('{"General": ')
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\xff")
    names = ["none.json", "broken.json", "list.json", "binary.json", ""]
    if not WINDOWS:  # whose names have no such characters
        names.append("new\nline.json")
        (tmp_path / names[-1]).write_text("{}")
    for name in names:
        assert str(tmp_path)[:10] in refused(1, "stats", tmp_path / name)
        refused(1, "stats", tmp_path / name, "--json")
    bad(1, "stats", tmp_path / "none.json")
    bad(1, "stats", "-", input="nonsense")
    refused(1, "info", "--simulated", "none")
    refused(1, "info", "--simulated", "discrete-8gib", "--device", "x")


# ---- info and demo ----


def test_info() -> None:
    text = good("info", *SIMULATED)
    assert "Heaps" in text and "DEVICE_LOCAL" in text and "maxMemoryAllocationCount" in text
    found = json.loads(good("info", *SIMULATED, "--json"))
    assert [heap["size"] for heap in found["heaps"]] == [8 << 30, 16 << 30]
    assert found["device"]["kind"] == "simulated, no driver"
    assert {use for it in found["memory_types"] for use in it["chosen_for"]} >= {"staging"}


def test_demo() -> None:
    text = good("demo", *SIMULATED, "--count", "50")
    assert "What went where" in text and "ok on" in text
    found = json.loads(good("demo", *SIMULATED, "--count", "50", "--json"))
    assert (found["churned"], found["left_over"], len(found["placed"])) == (50, 0, 6)
    assert found["moved"] is None


def test_demo_times_a_transfer() -> None:
    text = good("demo", *SIMULATED, "--count", "1", "--transfer", "3")
    assert "3.0 MiB uploaded at" in text and "(way: ring)" in text
    found = json.loads(good("demo", *SIMULATED, "--count", "1", "--transfer", "3", "--json"))
    moved = found["moved"]
    assert moved["size"] == 3 << 20 and moved["upload_way"] == moved["download_way"] == "ring"
    assert moved["upload_seconds"] > 0 and moved["download_seconds"] > 0


# ---- stats ----


@pytest.mark.parametrize("columns", [80, 120])
def test_stats(dumps: tuple[Path, Path], columns: int) -> None:
    text = good("stats", dumps[1], columns=columns)
    assert all(len(line) <= columns for line in text.splitlines()), text
    for part in ("Heaps", "Memory types in use", "Pools", "Largest names", "Largest call sites"):
        assert part in text.splitlines() or part in [it.rstrip() for it in text.splitlines()]
    assert "Heap 0" in text and "Type 0" in text and "0 - textures" in text
    assert "[bold]" in text and "stays 0" in text and "test_cli.py" in text.replace("\n", "")
    assert "3.0 MiB" in text and "8.0 GiB" in text


def test_stats_in_json_are_those_of_the_dump(dumps: tuple[Path, Path]) -> None:
    found = json.loads(good("stats", dumps[0], "--json", "--names", "2"))
    raw = json.loads(dumps[0].read_text())
    assert found["total"]["allocation_bytes"] == raw["Total"]["AllocationBytes"]
    assert found["total"]["block_count"] == raw["Total"]["BlockCount"]
    regions = [
        it
        for pools in (raw["DefaultPools"].values(), *raw["CustomPools"].values())
        for pool in pools
        for block in pool["Blocks"].values()
        for it in block["Suballocations"]
        if it["Type"] == "FREE"
    ]
    unused = [it["Size"] for it in regions]
    assert found["total"]["unused_range_bytes"] == sum(unused)
    assert found["total"]["fragmentation"] == pytest.approx(1 - max(unused) / sum(unused))
    assert [it["name"] for it in found["largest_names"]] == [None, "goes"]
    assert sum(it["count"] for it in found["largest_call_sites"]) == 10
    for part in ("heaps", "pools"):
        counted = sum(it["allocation_bytes"] for it in found[part])
        assert counted == found["total"]["allocation_bytes"]
    types = [it for heap in found["heaps"] for it in heap["types"]]
    assert sum(it["unused_range_bytes"] for it in types) == sum(unused)


def test_stats_of_two(dumps: tuple[Path, Path]) -> None:
    text = good("stats", dumps[0], "--diff", dumps[1])
    assert "Only before: freed" in text and "goes" in text and "New, by call site" in text
    assert text.rstrip().splitlines()[-1].startswith("1 (4.9 KiB) freed, 10 (")
    found = json.loads(good("stats", dumps[0], "--diff", dumps[1], "--json"))
    assert (found["freed"]["count"], found["stayed"]["count"], found["new"]["count"]) == (1, 10, 2)
    assert found["new"]["largest_names"] == [
        {"name": ODD, "count": 2, "bytes": found["new"]["bytes"]}
    ]


def test_stats_of_what_is_not_detailed(tmp_path: Path) -> None:
    path = tmp_path / "short.json"
    with Allocator(SimulatedDevice()) as allocator:
        path.write_text(allocator.build_stats_string(detailed=False))
    assert "not a detailed dump" in good("stats", path)
    assert json.loads(good("stats", path, "--json"))["detailed"] is False
    assert "not both" in good("stats", path, "--diff", path)


def test_stats_of_standard_input(dumps: tuple[Path, Path]) -> None:
    found = json.loads(good("stats", "-", "--json", input=dumps[0].read_text()))
    assert found["total"]["allocation_count"] == 11


@needs_a_shell
def test_a_reader_that_leaves_is_no_error(dumps: tuple[Path, Path]) -> None:
    shell = f"set -o pipefail; {shlex.join(COMMAND)} stats {dumps[1]} | true"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_in_this_process(dumps: tuple[Path, Path]) -> None:
    runner = CliRunner()
    assert "Largest names" in runner.invoke(app, ["stats", str(dumps[0])]).output
    missing = runner.invoke(app, ["stats", "/none/at/all"])
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert runner.invoke(app, ["stats"]).exit_code == 2


# ---- view ----


@pytest.mark.parametrize("name", [None, "picture.svg", "page.HTM", "picture.png"])
@pytest.mark.parametrize("two", [False, True])
def test_view(dumps: tuple[Path, Path], tmp_path: Path, name: str | None, two: bool) -> None:
    arguments: list[str | Path] = ["view", dumps[0]]
    arguments += ["-o", tmp_path / name] if name else []
    arguments += ["--diff", dumps[1]] if two else []
    target = tmp_path / (name or "before.html")
    text = good(*arguments, "--title", "My <title>")
    assert text.startswith(f"wrote {target} (")
    data = target.read_bytes()
    starts = {".svg": (b"<svg", b"<?xml"), ".png": (b"\x89PNG",)}
    assert data.lstrip().startswith(starts.get(target.suffix, (b"<!",)))
    assert (b"My &lt;title&gt;" in data or b"My <title>" in data) or target.suffix == ".png"
    assert b"\x1b" not in data or target.suffix == ".png"
    found = json.loads(good(*arguments, "--json"))
    assert (found["written"], found["bytes"]) == (str(target), target.stat().st_size)
    assert target.stat().st_mode & 0o600 == 0o600
    assert sorted(it.name for it in tmp_path.iterdir() if it.name.startswith(".")) == []


def test_view_of_what_cannot_be(dumps: tuple[Path, Path], tmp_path: Path, refused: Refused) -> None:
    refused(1, "view", tmp_path / "none.json")
    refused(1, "view", dumps[0], "--diff", tmp_path / "none.json")
    refused(1, "view", dumps[0], "-o", tmp_path / "none" / "x.svg")
    (tmp_path / "broken.json").write_text("{")
    refused(1, "view", tmp_path / "broken.json")
    assert not (tmp_path / "broken.html").exists()


def test_view_of_a_trace(dumps: tuple[Path, Path], tmp_path: Path, refused: Refused) -> None:
    trace = tmp_path / "scenes.vkmem"
    trace.write_bytes(SCENES.read_bytes())
    good("view", trace, "--title", "Some scenes")
    page = (tmp_path / "scenes.html").read_text(encoding="utf-8")
    assert 'data-kind="trace"' in page and '<h1 id="title">Some scenes</h1>' in page
    refused(1, "view", trace, "-o", tmp_path / "x.svg")
    refused(1, "view", trace, "--diff", dumps[0])
    (tmp_path / "cut.csv").write_text("Vulkan Memory Allocator,Calls recording\n9,9\n")
    refused(1, "view", tmp_path / "cut.csv")


# ---- top ----


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Allocator]]:
    path = str(tmp_path / "socket")
    with Allocator(SimulatedDevice("discrete-8gib")) as allocator:
        made = allocator.create_buffers([1 << 20] * 3, TRANSFER, name=ODD)
        with vk_mem.serve_stats(path, allocator, interval=0.05):
            yield path, allocator
        allocator.destroy_many(made)


@needs_unix_sockets
@pytest.mark.parametrize("columns", [80, 120])
def test_top_once(served: tuple[str, Allocator], columns: int) -> None:
    text = good("top", served[0], "--once", columns=columns)
    assert "3 alive of 3 created" in text and "[bold]" in text and "3.0 MiB" in text
    assert "0 local" in text and "░" in text and f"pid {os.getpid()}" in text
    assert all(len(line.rstrip()) <= columns for line in text.splitlines()), text
    found = json.loads(good("top", served[0], "--once", "--json"))
    assert (found["alive"], found["names"][0]["name"]) == (3, ODD)


@needs_unix_sockets
@pytest.mark.parametrize("option", [(), ("--json",)])
def test_top_goes_on_until_the_server_ends(tmp_path: Path, option: tuple[str, ...]) -> None:
    path = str(tmp_path / "socket")
    with Allocator(SimulatedDevice()) as allocator:
        server = vk_mem.serve_stats(path, allocator, interval=0.02)
        with subprocess.Popen(
            [*COMMAND, "top", path, *option],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as watching:
            while not server._clients:
                time.sleep(0.01)
            for _ in range(20):
                allocator.create_buffer(64, TRANSFER).destroy()
                time.sleep(0.01)
            server.close()
            out, err = watching.communicate(timeout=30)
    assert watching.returncode == 0, err
    assert err == f"vk-mem: {path}: the server has ended\n"
    assert "\x1b" not in out
    if option:
        samples = [json.loads(line) for line in out.splitlines()]
        assert len(samples) >= 2 and samples[-1]["created"] > 0
    else:
        assert out.count("alive of") >= 2 and "created and" in out


@needs_unix_sockets
def test_top_records_what_it_watches(tmp_path: Path) -> None:
    path, file = str(tmp_path / "socket"), tmp_path / "x.vkmem"
    with Allocator(SimulatedDevice()) as allocator:
        server = vk_mem.serve_stats(path, allocator, interval=0.02, may_record=True)
        with subprocess.Popen(
            [*COMMAND, "top", path, "--record", "x.vkmem"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as watching:
            while not any(it.recording for it in server._clients.values()):
                assert watching.poll() is None, watching.stderr and watching.stderr.read()
                time.sleep(0.01)
            allocator.create_buffer(64, TRANSFER, name="seen").destroy()
            watching.send_signal(signal.SIGINT)
            _, err = watching.communicate(timeout=30)
        server.close()
    assert (watching.returncode, err) == (
        0,
        "vk-mem: x.vkmem is recorded: vk-mem view x.vkmem\n",
    )
    assert "1" in good("trace", "info", file) and vk_mem.trace.load(file).cut is None
    assert [it.name for it in vk_mem.trace.load(file) if it.kind == "name"] == ["seen"]


@needs_unix_sockets
def test_top_records_only_what_is_allowed(
    served: tuple[str, Allocator], tmp_path: Path, refused: Refused
) -> None:
    path, allocator = served
    assert "may_record=True" in refused(1, "top", path, "--record", tmp_path / "x.vkmem")
    assert "--once has none" in bad(2, "top", path, "--once", "--record", "x.vkmem")
    with vk_mem.serve_stats(tmp_path / "other", allocator, interval=0.02, may_record=True):
        missing = tmp_path / "missing" / "x.vkmem"
        said = refused(1, "top", tmp_path / "other", "--record", missing)
        assert "it does not record" in said and "No such file" in said
    assert not (tmp_path / "x.vkmem").exists()


@needs_unix_sockets
def test_top_says_that_nothing_is_there(tmp_path: Path, refused: Refused) -> None:
    assert "no statistics are served" in bad(1, "top", tmp_path / "none")
    (tmp_path / "file").write_text("x")
    assert "no statistics are served" in refused(1, "top", tmp_path / "file")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    assert "its process has ended" in refused(1, "top", tmp_path / "dead")
    refused(1, "top", tmp_path / ("x" * 200))


@needs_unix_sockets
def test_top_waits_for_a_server_that_is_busy(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "busy")
    with contextlib.ExitStack() as open_sockets:
        made = [open_sockets.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(4)]
        made[0].bind(path)
        made[0].listen(0)
        for waiting in made[1:]:
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(path)
        monkeypatch.setattr("vk_mem.cli.top.PATIENCE", 0.1)
        assert "it does not answer" in refused(1, "top", path)


def test_without_unix_sockets(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, "AF_UNIX", raising=False)
    with (
        Allocator(SimulatedDevice()) as allocator,
        pytest.raises(vk_mem.FeatureNotPresentError, match="serve_stats needs Unix sockets"),
    ):
        vk_mem.serve_stats(tmp_path / "s", allocator)
    assert "no Unix sockets on this system" in refused(1, "top", tmp_path / "s", "--once")


GOOD: dict[str, Any] = {
    "format": 1,
    "pid": 1,
    "program": "p",
    "device": "d",
    "heap_sizes": [1],
    "heap_flags": [[]],
    "time": 1.0,
    "created": 0,
    "alive": 0,
    "heaps": [dict.fromkeys(("usage", "budget", "allocation_bytes"), 0)],
    "names": [],
}
HOSTILE = {
    "nothing": b"",
    "no JSON": b"hello\n",
    "not UTF-8": b"\xff\xfe\n",
    "a list": b"[]\n",
    "deep": b"[" * 100_000 + b"\n",
    "endless": b"x" * (3 << 20),
    "another format": json.dumps(GOOD | {"format": 2}).encode() + b"\n",
    "negative": json.dumps(GOOD | {"alive": -1}).encode() + b"\n",
    "a huge number": json.dumps(GOOD).replace('"alive": 0', '"alive": ' + "9" * 5000).encode()
    + b"\n",
    "heaps that do not match": json.dumps(GOOD | {"heap_sizes": []}).encode() + b"\n",
    "wrong names": json.dumps(GOOD | {"names": [3]}).encode() + b"\n",
    "not a time": json.dumps(GOOD | {"time": "now"}).encode() + b"\n",
    "half a line": json.dumps(GOOD).encode()[:50],
}


@contextlib.contextmanager
def serving(path: Path, data: bytes) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            client, _ = listener.accept()
            with client, contextlib.suppress(OSError):
                client.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


@needs_unix_sockets
@pytest.mark.parametrize("name", HOSTILE)
def test_top_survives_a_hostile_server(tmp_path: Path, name: str, refused: Refused) -> None:
    with serving(tmp_path / "s", HOSTILE[name]):
        refused(1, "top", tmp_path / "s", "--once")


@needs_unix_sockets
def test_top_shows_no_control_codes_of_a_server(tmp_path: Path) -> None:
    names = [{"name": "\x1b[2Jx[red]", "count": 1, "bytes": 1}]
    odd = GOOD | {"names": names, "program": "\x1b]0;title\x07", "device": "[bold]"}
    with serving(tmp_path / "s", json.dumps(odd).encode() + b"\n"):
        text = good("top", tmp_path / "s", "--once")
    assert "[red]" in text and "[bold]" in text and "\x07" not in text


@needs_unix_sockets
def test_top_counts_failures_and_moves(tmp_path: Path) -> None:
    with serving(
        tmp_path / "s", json.dumps(GOOD | {"events": {"failure": 2, "move": 5}}).encode() + b"\n"
    ):
        assert "2 failed; 5 moved" in good("top", tmp_path / "s", "--once")


@needs_unix_sockets
def test_top_tells_what_may_be_lost_and_what_was(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with Allocator(SimulatedDevice("discrete-8gib"), frames_in_flight=0) as allocator:
        made = [allocator.create_buffer(1 << 20, TRANSFER, flags=LOSABLE) for _ in range(5)]
        allocator.set_current_frame_index(1)
        allocator.touch_many(made[:3])
        with vk_mem.serve_stats(path, allocator, interval=0.02):
            line = "that may be lost"
            assert f"5 {line}: 5.0 MiB; 0 lost: 0 B" in good("top", path, "--once")
            assert allocator.make_allocations_lost() == 2
            assert f"3 {line}: 3.0 MiB; 2 lost: 2.0 MiB" in good("top", path, "--once")
            made.pop().destroy()
            assert f"3 {line}: 3.0 MiB; 1 lost: 1.0 MiB" in good("top", path, "--once")
            found = json.loads(good("top", path, "--once", "--json"))["evictions"]
            assert list(found.values()) == [3, 3 << 20, 1, 1 << 20]
            allocator.destroy_many(made)
            assert line not in good("top", path, "--once")


@needs_unix_sockets
def test_top_in_a_terminal(served: tuple[str, Allocator]) -> None:
    pty = pytest.importorskip("pty", reason="no pseudo-terminals here")
    parent, child = pty.openpty()
    # Tests that run in the background of a shell ignore it, and so would the command.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        [*COMMAND, "top", served[0]],
        stdin=child,
        stdout=child,
        stderr=child,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "12"},
    ) as watching:
        signal.signal(signal.SIGINT, before)
        os.close(child)
        seen = b""
        try:
            while seen.count(b"alive of") < 4:
                seen += os.read(parent, 1 << 16)
            watching.send_signal(signal.SIGINT)
            with contextlib.suppress(OSError):
                while data := os.read(parent, 1 << 16):
                    seen += data
            assert watching.wait(30) == 0
        finally:
            # Nobody reads what it writes any more: it would wait for that, and we for it.
            watching.kill()
    os.close(parent)
    assert b"\x1b[" in seen and b"Traceback" not in seen
    # It is drawn in place: the cursor goes up again.
    assert re.search(rb"\x1b\[1A", seen)
    assert b"\x1b[31m<b>" not in seen
