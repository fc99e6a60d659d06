"""The command line with streams that are full, closed, broken or ASCII-only; unusual arguments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import TRANSFER

import vk_mem.cli.dumps
from vk_mem import Allocator, SimulatedDevice

COMMAND = (sys.executable, "-m", "vk_mem.cli")
NAME = "é 日本 █"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="shells and devices of Unix")


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streams") / "dump.json"
    with (
        Allocator(SimulatedDevice("discrete-8gib")) as allocator,
        allocator.create_buffer(1024, TRANSFER, name=NAME),
    ):
        path.write_text(allocator.build_stats_string())
    return path


def shell(text: str, *arguments: Any, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Runs a line of a shell, in which `"$@"` is the command with its arguments."""
    return subprocess.run(
        ["sh", "-c", text, "sh", *COMMAND, *map(os.fspath, arguments)],
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": "80", **environment},
    )


def arguments_of(kind: str, dump: Path) -> list[str]:
    return {
        "stats": ["stats", str(dump)],
        "json": ["stats", "--json", str(dump)],
        "diff": ["stats", str(dump), "--diff", str(dump)],
        "view": ["view", str(dump), "-o", str(dump.with_suffix(".svg"))],
        "info": ["info", "--simulated", "discrete-8gib"],
        "help": ["--help"],
        "version": ["--version"],
    }[kind]


KINDS = ["stats", "json", "view", "info", "help", "version"]
needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")


@needs_full
@pytest.mark.parametrize("kind", KINDS)
def test_a_full_device_is_one_line(dump: Path, kind: str) -> None:
    done = shell('"$@" >/dev/full', *arguments_of(kind, dump))
    assert (done.returncode, done.stderr) == (1, b"vk-mem: No space left on device\n")


@needs_full
@pytest.mark.parametrize("line", ['"$@" >/dev/full 2>/dev/full', '"$@" 2>/dev/full'])
def test_where_not_even_the_error_can_be_written(dump: Path, line: str) -> None:
    done = shell(line, "stats", dump.with_name("missing"))
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("kind", ["stats", "view", "info"])
def test_closed_streams(dump: Path, kind: str, closed: str) -> None:
    done = shell(f'"$@" {closed}', *arguments_of(kind, dump))
    assert (done.returncode, done.stderr) == (0, b"")
    if kind == "view":
        # Nothing else was written into the file that took the place of a stream.
        assert dump.with_suffix(".svg").read_text().endswith("</svg>\n")


def test_a_dump_on_a_closed_standard_input() -> None:
    done = shell('"$@" <&-', "stats", "-")
    assert done.returncode == 1 and done.stderr.count(b"\n") == 1, done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_that_leaves(dump: Path, kind: str) -> None:
    # What is behind the pipe has ended before the command writes.
    done = shell('{ sleep 0.2; "$@"; echo $? >&2; } | true', *arguments_of(kind, dump))
    assert done.stderr == b"0\n"


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["ascii", "latin-1", "C"],
)
@pytest.mark.parametrize("kind", [*KINDS, "diff"])
def test_terminals_of_few_letters(dump: Path, kind: str, environment: dict[str, str]) -> None:
    done = shell('"$@"', *arguments_of(kind, dump), **environment)
    assert (done.returncode, done.stderr) == (0, b"")
    if kind == "stats":
        text = done.stdout.decode("latin-1")
        assert "?? ?" in text and "1.0 KiB" in text
        assert "---" in text, "lines of what there is"
    if kind == "json":
        assert json.loads(done.stdout)["largest_names"][0]["name"] == NAME


def test_paths_that_name_no_file(tmp_path: Path) -> None:
    for path in ("/", "", ".", "..", str(tmp_path)):
        for command in ("view", "stats"):
            done = shell('"$@"', command, path)
            expected = f"vk-mem: {path or '.'}: Is a directory\n".encode()
            assert (done.returncode, done.stderr) == (1, expected)


def test_special_files_do_not_block(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path, what in ((fifo, b"a FIFO"), ("/dev/zero", b"a character device")):
        for command in (["view"], ["stats"], ["stats", str(path), "--diff"]):
            done = shell('"$@"', *command, path)
            assert done.returncode == 1 and what in done.stderr, done
    done = shell('"$@"', "top", "/dev/zero")
    assert done.returncode == 1 and b"it is no socket" in done.stderr


def test_undecodable_arguments(dump: Path) -> None:
    odd = os.fsdecode(b"\xff\xfe")
    done = shell('"$@"', "info", "--device", odd)
    assert done.returncode == 1 and done.stderr.count(b"\n") == 1
    assert b"no Vulkan device" in done.stderr or b"driver" in done.stderr
    for command in (["stats", odd], ["view", odd], ["top", odd], ["info", "--simulated", odd]):
        done = shell('"$@"', *command)
        assert done.returncode == 1 and done.stderr.count(b"\n") == 1, done
        assert b"Traceback" not in done.stderr
    named = dump.with_name(odd + ".json")
    named.write_bytes(dump.read_bytes())
    for more in ({}, {"PYTHONIOENCODING": "utf-8"}, {"PYTHONIOENCODING": "ascii"}):
        for command in (["stats", named], ["view", named, "--title", odd]):
            done = shell('"$@"', *command, **more)
            assert (done.returncode, done.stderr) == (0, b""), done
    page = named.with_suffix(".html").read_text(encoding="utf-8")
    assert "\\udcff" in page.split("</title>")[0]


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 0, ""),
        (MemoryError(), 1, "vk-mem: not enough memory\n"),
        (OSError(5, "Input/output error", "a.json"), 1, "vk-mem: a.json: Input/output error\n"),
    ],
    ids=["interrupt", "pipe", "memory", "disk"],
)
def test_what_ends_a_command(
    raised: BaseException,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr(vk_mem.cli.dumps, "load_dump", fail)
    monkeypatch.setattr(sys, "argv", ["vk-mem", "stats", "a.json"])
    if isinstance(raised, OSError):
        monkeypatch.setattr(vk_mem.cli.dumps, "read", fail)
    with pytest.raises(SystemExit) as ended:
        vk_mem.cli.main()
    assert ended.value.code == status
    assert capsys.readouterr() == ("", said)
