"""Every example runs without warnings and prints what it promises."""

import pathlib
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"
SHOWS = {
    "budget": ["MiB of", "pressure: heap", "made room", "refused within the budget"],
    "aliasing": ["the same memory: True, 0 bytes apart", "1 allocation", "refused: ", "0 left"],
    "buffer_heap": ["1000 meshes in", "written and read back"],
    "corruption": [
        "new memory is NaN: True",
        "8 of the 32 bytes behind it were overwritten",
        "4 bytes before its start",
        "16 bytes were written after it was freed",
        "freed in frame 0",
    ],
    "defragment": [" freed", "before: ", "after: ", "40 resources have what they had"],
    "leaks": [
        "made 10 allocations and left 8",
        "in Level.lightmap",
        "8 alive, 2.0 MiB",
        ": 0 left",
    ],
    "memory_map": ["15 resources of", "level 1", "level-1.svg, ", "level-1.html, ", "leak.html, "],
    "pools": ["streaming: memory type", "after 10 chunks", "all destroyed"],
    "ring_buffer": ["frame 7: buffers in flight at", "0 MiB"],
    "streaming": ["48 textures of 512", " hits, ", "MB read back and right", "MB/s, "],
    "texture": [
        "8 mip levels, in SHADER_READ_ONLY_OPTIMAL",
        "as it was: True",
        "texture.png, 256 x 128",
    ],
    "upload": [
        "the array takes the way",
        "went up and came back",
        "1000 arrays in",
        "a column of a table, converted on the way",
    ],
    "virtual_block": ["material 7: slots 0 to 15", "600 slots at", "1 left"],
    "what_if": [
        "played again, 720 of 720 are where they were",
        "everything fits, peak",
        " allocations fail, peak",
        "Blocks of 16 MiB would have saved 192 MiB",
    ],
}


def test_every_example_is_run():
    found = {path.stem for path in EXAMPLES.glob("*.py")}
    folders = {path.parent.name for path in EXAMPLES.glob("*/__main__.py")}
    assert found == set(SHOWS)
    # Each is run by a file of its own.
    assert folders
    for name in folders:
        assert (
            f'"examples/{name}"' in pathlib.Path(__file__).with_name(f"test_{name}.py").read_text()
        )


@pytest.mark.parametrize("name", sorted(SHOWS))
def test_the_example_shows_its_result(name):
    ran = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", EXAMPLES / f"{name}.py"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert all(text in ran.stdout for text in SHOWS[name]), ran.stdout


def texels_of_png(png):
    """Rows of RGBA texels of a PNG whose rows are not filtered."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length)[0] == zlib.crc32(kind + data)
        chunks[kind] = data
        at += 12 + length
    width, height, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert rest == [8, 6, 0, 0, 0]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + width * 4)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 4)


@pytest.mark.parametrize(
    "device", ["discrete-8gib", pytest.param("driver", marks=pytest.mark.driver)]
)
def test_the_texture_and_its_mip_levels(device, tmp_path):
    """Each level is the mean of four texels of the one before."""
    program = [sys.executable, EXAMPLES / "texture.py", device, tmp_path]
    subprocess.run(program, check=True, capture_output=True, timeout=60)
    sheet = texels_of_png((tmp_path / "texture.png").read_bytes())
    assert sheet.shape == (128, 256, 4)
    rows, columns = np.mgrid[0:128, 0:128]
    tiles = (rows // 16 + columns // 16) % 2 * 255
    expected = np.dstack([rows * 2, columns * 2, tiles, np.full_like(rows, 255)])
    assert (sheet[:, :128] == expected).all()
    left, side = 128, 64
    level = expected
    while side:
        found = sheet[:side, left : left + side].astype(int)
        mean = (level[::2, ::2] + level[1::2, ::2] + level[::2, 1::2] + level[1::2, 1::2]) / 4
        assert np.abs(found - mean).max() <= 1
        assert not sheet[side:, left : left + side].any()
        level, left, side = found, left + side, side // 2
