"""A replay of our own recording is the program: each place, and the dump byte for byte."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from recorded_programs import Program, RoomProgram, begin, check_replay
from traces import PROFILES

from vk_mem import Debug
from vk_mem.trace import EndMove, MakeRoom, load

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


@pytest.mark.parametrize("profile", PROFILES)
def test_moves_that_make_room_come_out_as_recorded(profile: str, tmp_path: Path) -> None:
    kinds: Counter[str] = Counter()
    moved, answers = 0, set()
    for seed in range(8):
        path = tmp_path / f"{seed}.vkmem"
        with begin(path) as recording:
            program = RoomProgram(seed, profile, recording)
            for _ in range(3):
                program.run(60)
                report = check_replay(recording, path, program.allocator)
            program.end()
        trace = load(path)
        kinds += trace.kinds()
        of_rooms = sum(isinstance(it, EndMove) and it.run is None for it in trace)
        assert report.moves.count >= of_rooms
        moved += of_rooms
        answers |= {(it.is_made, bool(it.allocations)) for it in trace if isinstance(it, MakeRoom)}
    assert moved > 50
    # Room was made, and was not because something was in the way.
    assert answers == {(True, False), (False, True)}
    for kind in ("answer_moves", "keep_source", "lose", "allocate_failed", "name"):
        assert kinds[kind] > 0, kind


def test_a_replay_with_other_settings_tells_of_moves_that_it_leaves_out(tmp_path: Path) -> None:
    path = tmp_path / "a.vkmem"
    with begin(path) as recording:
        program = RoomProgram(1, "discrete-8gib", recording)
        program.run(100)
        program.end()
    trace = load(path)
    moved = sum(isinstance(it, EndMove) and it.run is None for it in trace)
    report = trace.replay(debug=Debug(margin=32))
    assert moved > 0
    assert report.skipped["this library cannot do that"] == moved


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
