"""A day of loading, streaming and unloading: what `auto_defragment` holds beside what is live.

`bench/day_cases.py` runs the same trace on a larger scale and measures the frames.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vk_mem import SimulatedDevice

BENCH = Path(__file__).parent.parent / "bench"


@pytest.fixture
def trace(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("day_trace")


def test_a_day_with_auto_defragment_holds_little_more_than_is_live(
    make_simulated: Callable[..., SimulatedDevice], trace: Any
) -> None:
    """Blocks of 2 MiB in place of 256 MiB, and as many of them: 33 for a level of 8 GiB."""
    scale = 128
    phases = trace.day(1, (8 << 30) // scale, scale)
    device = make_simulated("nvidia-h200")
    plain, tidied = (trace.spend(device, phases, scale, auto=auto) for auto in (False, True))
    assert [it.name for it in tidied.phases] == ["load", "stream", "unload"]
    assert all(it.end > 1.2 for it in plain.of("stream")), plain.phases
    assert all(it.mean <= 1.1 for it in tidied.of("stream")), tidied.phases
    # One frame of many: a step waits until a block more than a sixteenth is held, and some gaps
    # are closed by slides, of which a block makes one in a frame.
    assert all(it.end <= 1.15 for it in tidied.of("stream")), tidied.phases
    without = [it.mean for it in plain.of("unload")]
    assert all(
        it.mean < 0.6 * other for it, other in zip(tidied.of("unload"), without, strict=True)
    ), (tidied.phases, without)
    assert plain.moved == 0
    # Most of what is loaded is never moved.
    assert 0 < tidied.moved < 0.75 * tidied.allocated
