"""`examples/renderer` draws the picture that is expected, whatever the allocator does meanwhile."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import DEVICE_NAME
from PIL import Image

from vk_mem import trace

ROOT = Path(__file__).parents[1]
EXPECTED = Path(__file__).parent / "data" / "renderer.png"
sys.path.insert(0, str(ROOT / "examples"))

from renderer import shaders  # noqa: E402


def run(*arguments, start=("examples/renderer",)):
    device = ("--device", DEVICE_NAME) if DEVICE_NAME else ()
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", *start, *map(str, arguments), *device],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def rendered(*arguments, start=("examples/renderer",)):
    ran = run(*arguments, start=start)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr == ""
    return ran.stdout


def number(pattern, text):
    found = re.search(pattern, text)
    assert found, text
    return int(found[1])


def picture(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def alike(one, other):
    """Drivers differ in rounding and at edges: few texels may differ, and all a little."""
    difference = np.abs(one - other).max(-1)
    return one.shape == other.shape and difference.mean() < 3 and (difference > 24).mean() < 0.02


def test_the_shaders_are_those_of_their_sources():
    """After a change of a shader, tools/make_shaders.py must be run."""
    made = json.loads((shaders.FOLDER / "spirv.json").read_text(encoding="utf-8"))
    assert {name: it["source"] for name, it in made.items()} == {
        name: shaders.digest(name) for name in shaders.NAMES
    }
    for name in shaders.NAMES:
        code = shaders.spirv(name)
        assert len(code) % 4 == 0
        assert code[:4] == b"\x03\x02\x23\x07"


@pytest.mark.driver
def test_the_picture_is_the_expected_one(tmp_path):
    flags = ("--frames", 3, "--size", "160x90", "--out")
    shown = rendered(*flags, tmp_path / "right", start=("-m", "examples.renderer"))
    assert "frames          3 in " in shown
    pictures = sorted((tmp_path / "right").iterdir())
    assert [it.name for it in pictures] == [f"frame-{it:04}.png" for it in range(3)]
    expected = picture(EXPECTED)
    assert alike(picture(pictures[2]), expected)
    assert not alike(np.roll(picture(pictures[2]), 8, 1), expected)
    rendered(*flags, tmp_path / "wrong", "--seed", 8)
    assert not alike(picture(tmp_path / "wrong" / "frame-0002.png"), expected)


@pytest.mark.driver
def test_moves_evictions_and_checks_change_no_picture(tmp_path):
    flags = ("--frames", 12, "--size", "96x54", "--budget", "2MiB", "--contact-sheet")
    plain = rendered(*flags, tmp_path / "plain.png")
    recording = tmp_path / "flight.vkmem"
    shown = rendered(
        *flags,
        tmp_path / "all.png",
        *("--record", recording, "--debug", "--defragment", "--validation", "--report"),
    )
    assert number(r"moved +(\d+)", plain) == 0
    assert number(r"moved +(\d+)", shown) > 0
    assert number(r"(\d+) evicted", shown) > 0
    assert "pool 'textures'" in shown
    sheet = picture(tmp_path / "all.png")
    assert sheet.shape == (4 * 58 - 4, 3 * 100 - 4, 3)
    assert alike(sheet, picture(tmp_path / "plain.png"))
    report = trace.load(recording).replay()
    assert report.placements.differing == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--size", "8x8"), "8x8: width and height are 16 to 4096"),
        (("--frames", "0"), "0: it is 1 at least"),
        (("--budget", "0.5MiB"), "0.5MiB: it is 1MiB at least"),
        (("--contact-sheet", "no/such/sheet.png"), "--contact-sheet: there is no folder no/such"),
    ],
)
def test_wrong_options_are_one_line(flags, said):
    ran = run(*flags)
    assert ran.returncode == 2
    # Windows has other separators in paths.
    assert ran.stderr.splitlines()[-1].replace("\\", "/").endswith(said)
