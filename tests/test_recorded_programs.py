"""A replay of our own recording is the program: each place, and the dump byte for byte."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from recorded_programs import Program, begin, check_replay
from traces import PROFILES

from vk_mem.trace import load

# Where the driver is made to fail, freed memory cannot be filled and looked at.
pytestmark = pytest.mark.filterwarnings("ignore::vk_mem.errors.CorruptionWarning")


@pytest.mark.parametrize("profile", PROFILES)
def test_random_programs_come_out_as_recorded(profile: str, tmp_path: Path) -> None:
    kinds: Counter[str] = Counter()
    for seed in range(6):
        path = tmp_path / f"{seed}.vkmem"
        with begin(path) as recording:
            program = Program(seed, profile, recording)
            for _ in range(4):
                program.run(120)
                checked = check_replay(recording, path, program.allocator).placements.checked
            assert checked > 150
            program.end()
        kinds += load(path).kinds()
    # What the programs are to do, and what is to happen to them.
    for kind in (
        "allocate", "allocate_failed", "free", "map", "begin_frame", "alias", "lose", "touch",
        "make_evictable", "create_pool", "name", "set_data", "request_free", "group", "end_move",
        "virtual_allocate", "virtual_free", "add_block", "trim", "make_lost", "allocate_memory",
    ):  # fmt: skip
        assert kinds[kind] > 0, kind


def test_two_allocators_of_one_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.vkmem"
    with begin(path) as recording:
        programs = [Program(seed, "discrete-8gib", recording) for seed in (1, 2)]
        for _ in range(20):
            for it in programs:
                it.run(10)
        for number, it in enumerate(programs):
            check_replay(recording, path, it.allocator, number)
        for it in programs:
            it.end()
