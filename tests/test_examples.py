"""Every example runs without warnings and prints what it promises."""

import pathlib
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"
SHOWS = {
    "budget": ["MiB of", "pressure: heap", "made room", "refused within the budget"],
    "aliasing": ["the same memory: True, 0 bytes apart", "1 allocation", "refused: ", "0 left"],
    "buffer_heap": ["1000 meshes in", "written and read back"],
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
    "upload": [
        "the array takes the way",
        "went up and came back",
        "1000 arrays in",
        "a column of a table, converted on the way",
    ],
    "virtual_block": ["material 7: slots 0 to 15", "600 slots at", "1 left"],
}


def test_every_example_is_run():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SHOWS)


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
