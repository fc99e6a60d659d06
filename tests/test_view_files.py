"""Writing pictures to files: targets, and replacing existing files."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from pictures import large_dump, mixed_dump, page_data
from systems import WINDOWS

import vk_mem
from vk_mem import InvalidArgumentError, SimulatedDevice
from vk_mem.view.page import write_page
from vk_mem.view.scene import make_scene

OUTPUTS = ("svg", "png", "html")


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_second_argument_is_the_path(tmp_path: Path, output: str) -> None:
    made = getattr(vk_mem.view, output)(mixed_dump(), tmp_path / "a")
    written = (tmp_path / "a").read_bytes()
    assert written == (made if isinstance(made, bytes) else made.encode())
    assert getattr(vk_mem.view, output)(mixed_dump(), str(tmp_path / "b")) == made
    assert sorted(it.name for it in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_source_is_not_written_over(tmp_path: Path, output: str) -> None:
    """Who compares by position has to say other=, and loses no dump."""
    dump = tmp_path / "after.JSON"
    dump.write_text("{}")
    for path in (mixed_dump(), SimulatedDevice(), dump, str(dump), " {}"):
        with pytest.raises(InvalidArgumentError, match=r"^path is where to write.*other=$"):
            getattr(vk_mem.view, output)(mixed_dump(), path)
    assert dump.read_text() == "{}"
    with pytest.raises(TypeError):
        getattr(vk_mem.view, output)(mixed_dump(), mixed_dump(), path=tmp_path / "x")


def test_a_page_takes_the_place_of_another_once_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, link = tmp_path / "page.html", tmp_path / "link.html"
    path.write_text("before")
    path.chmod(0o640)
    # On Windows links need a privilege, and files have no such mode.
    if WINDOWS:
        link = path
    else:
        link.symlink_to(path)

    def broken(*_: Any) -> Any:
        yield "<!DOCTYPE html>"
        (part,) = tmp_path.glob("*.part")
        assert path.read_text() == "before" and part.exists()
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr("vk_mem.view.draw.write_page", broken)
        with pytest.raises(RuntimeError, match="broken"):
            vk_mem.view.html(mixed_dump(), path)
    assert path.read_text() == "before"
    made = vk_mem.view.html(mixed_dump(), link)
    assert path.read_text(encoding="utf-8") == made
    if not WINDOWS:
        assert link.is_symlink() and path.stat().st_mode & 0o777 == 0o640
    assert {it.name for it in tmp_path.iterdir()} == {link.name, "page.html"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_page_goes_into_a_pipe(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text(encoding="utf-8")))
    reader.start()
    made = vk_mem.view.html(mixed_dump(), pipe)
    reader.join()
    assert read == [made]


def test_a_page_is_written_while_it_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lump comes in pieces, which are one deflated stream in base64."""
    scene = make_scene(large_dump(20_000, 60))
    whole = "".join(write_page(scene, None, lambda done, total: None))
    monkeypatch.setattr("vk_mem.view.columns.CHUNK", 3000)
    pieces = list(write_page(scene, None, lambda done, total: None))
    assert len(pieces) > 20
    assert page_data("".join(pieces))[:2] == page_data(whole)[:2]
