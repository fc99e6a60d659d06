"""`Trace.replay` and `Trace.compare`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from traces import FILES, PROFILES, VEGA, buffers, recorded, vma_text

import vk_mem
from vk_mem import SimulatedDevice
from vk_mem.trace import AllocateMemory, FreeMemory, load

MIB = 1 << 20


@pytest.mark.parametrize("path", FILES, ids=lambda it: it.name)
@pytest.mark.parametrize("profile", [None, *PROFILES])
def test_all_files_are_played_on_all_profiles(path: Path, profile: str | None) -> None:
    trace = load(path)
    report = trace.replay(profile)
    assert report.events == len(trace) and report.calls > 0
    assert report.peak_held.bytes >= report.held_at_peak_live >= report.peak_live.bytes > 0
    assert sum(it.count for it in report.functions.values()) == report.calls
    assert sum(it.count for it in report.memory_types) == report.device_allocations
    assert report.held == sum(it.held for it in report.heaps)
    if profile is not None:
        assert report.device == SimulatedDevice(profile).properties.device_name


def test_the_recording_of_vma_is_played_without_a_warning() -> None:
    report = load(VEGA).replay()
    assert report.skipped == {} and not report.failed_now.count and not report.leftovers.allocations
    assert {name: it.count for name, it in report.functions.items()} == {
        "allocate": 8, "free": 8, "name": 1, "create_allocator": 1, "destroy_allocator": 1,
    }  # fmt: skip
    assert report.device_allocations == 2 and report.driver_calls == 9
    assert (report.held, report.live) == (0, 0)
    assert str(report).startswith("as recorded on Radeon RX Vega\n")
    assert "peak 512 MiB held" in repr(report)


@pytest.mark.parametrize("path", FILES, ids=lambda it: it.name)
def test_a_replay_of_a_replay_is_the_same(path: Path) -> None:
    trace = load(path)
    first = trace.replay(record=True)
    ours = first.trace
    assert ours is not None
    again = ours.replay()
    assert again.placements.checked > 0 and again.placements.differing == 0
    assert again.placements.first is None
    assert again.allocators == first.allocators
    for number in first.allocators:
        assert again.dump(number) == first.dump(number)
    assert (again.held, again.live, again.driver) == (first.held, first.live, first.driver)


def test_the_report_is_json() -> None:
    report = load(VEGA).replay(samples=5)
    read = report.to_dict()
    assert read == json.loads(report.to_json())
    assert read["peak_held"] == {"bytes": report.peak_held.bytes, "event": report.peak_held.event}
    assert len(report.samples) == 5 and report.samples[-1].event == 19
    assert set(read) <= set(vars(report))


def test_settings_change_what_they_say() -> None:
    trace = buffers(400, 200)
    plain = trace.replay()
    small = trace.replay(block_size=2 * MIB)
    assert small.peak_held.bytes < plain.peak_held.bytes
    assert small.device_allocations > plain.device_allocations
    dedicated = trace.replay(debug=vk_mem.Debug(always_dedicated=True))
    assert dedicated.device_allocations == 400
    assert dedicated.held_at_peak_live == dedicated.peak_live.bytes
    margins = trace.replay(debug=vk_mem.Debug(margin=1 << 20), block_size=16 * MIB)
    assert margins.peak_held.bytes > 200 * MIB > plain.peak_live.bytes
    aligned = trace.replay(min_alignment=MIB, block_size=16 * MIB)
    assert aligned.peak_held.bytes >= 200 * MIB
    # Each is gone before the next is there.
    one = buffers(100, 0)
    none = one.replay(retention=vk_mem.EmptyBlockRetention(count=0), block_size=MIB)
    assert none.device_allocations > one.replay(block_size=MIB).device_allocations
    buddy = trace.replay(algorithm="buddy")
    # What default pools would serve, a pool of that algorithm does.
    (pools,) = buddy.dump()["CustomPools"].values()
    assert len(pools) == 1 and buddy.failed_now.count == 0
    limited = trace.replay(heap_size_limits=[5 * MIB, 5 * MIB], block_size=MIB)
    assert limited.failed_now.count > 0 and limited.failed_now.first[0].size == 65536
    assert limited.peak_held.bytes <= 10 * MIB
    budget = trace.replay(budgets=[4 * MIB, 6 * MIB]).dump()["MemoryInfo"]
    shown = [it["Budget"]["BudgetBytes"] for it in budget.values()]
    assert shown == [4 * MIB, 6 * MIB]
    fast = trace.replay(clock=1000.0)
    assert fast.wall_time >= 300_000 and fast.peak_held == plain.peak_held


def test_threads_as_recorded_play_the_same_calls() -> None:
    lines = ["1,0.000,0,vmaCreateAllocator"]
    for number in range(300):
        at = f"{number % 4},0.000,0"
        make = "vmaCreateBuffer,0,4096,32,0,0,2,0,0,0,0000000000000000"
        lines.append(f"{at},{make},{number + 1:016X},")
        if number >= 50:
            lines.append(f"{at},vmaDestroyBuffer,{number - 49:016X}")
    trace = load(vma_text(lines))
    one, many = trace.replay(), trace.replay(threads="recorded")
    assert many.threads == 4 and many.skipped == {}
    assert (many.calls, many.live, many.peak_live.bytes >= one.peak_live.bytes // 2) == (
        one.calls,
        one.live,
        True,
    )


def test_an_allocator_ends_with_what_may_be_lost_in_it() -> None:
    made = "1,0.000,0,vmaCreateBuffer,0,64,32,0,8,2,0,0,0,0000000000000000,0000000000000001,"
    report = load(vma_text([made, "1,0.000,0,vmaDestroyAllocator"])).replay()
    assert report.leftovers.allocations == 1 and report.snapshot().total.block_count == 0
    assert report.live == report.held == 0 and report.losses.count == 0


def test_until_shows_the_moment_before_an_event() -> None:
    trace = load(VEGA)
    for end in range(len(trace) + 1):
        report = trace.replay(until=end)
        assert report.events == end
        live = sum(it.kind == "allocate" for it in trace[:end])
        live -= sum(it.kind == "free" for it in trace[:end])
        if report.allocators:
            dump = report.snapshot()
            assert dump.total.allocation_count == live
            assert sum(1 for _ in dump.allocations()) == live
    # The line of the first call is that of vmaCreateAllocator.
    text = VEGA.read_text().splitlines()
    first = next(n for n, it in enumerate(text, 1) if "vmaCreateAllocator" in it)
    assert trace.replay(until=f"line {first}").events == 0
    assert trace.replay(until=f"line {first + 1}").events == 1
    assert trace.replay(until="line 100000").events == len(trace)


def test_reports_are_pictures() -> None:
    report = load(VEGA).replay(until="line 60")
    assert "Ala ma kota" not in vk_mem.view.svg(report)
    early = load(VEGA).replay(until=3)
    assert [it.name for *_, it in early.snapshot().allocations()] == ["Ala ma kota"]
    assert "Radeon RX Vega" in vk_mem.view.html(early)
    difference = vk_mem.diff(load(VEGA).replay(until=2), load(VEGA).replay(until=12))
    assert difference is not None


def test_comparisons_are_one_table() -> None:
    trace = buffers(300, 100)
    seen: list[tuple[int, int]] = []
    found = trace.compare(
        {
            "small": {"block_size": MIB},
            "buddy": {"algorithm": "buddy", "device": "integrated"},
            "as recorded": {},
        },
        threads=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert [it.name for it in found] == ["small", "buddy", "as recorded"]
    assert found["buddy"].device == "Simulated integrated GPU"
    assert found[:1][0] is found[0] and len(found) == 3
    lines = str(found).splitlines()
    assert len(lines) == 4 and lines[1].startswith("small ")
    assert [it["name"] for it in json.loads(found.to_json())] == [it.name for it in found]
    assert all(0 <= done <= total == 3 * len(trace) for done, total in seen)
    for one in found:
        alone = trace.replay(
            None if one.name != "buddy" else "integrated",
            **{"small": {"block_size": MIB}, "buddy": {"algorithm": "buddy"}}.get(one.name, {}),  # type: ignore[arg-type]
        )
        assert (one.peak_held, one.driver, one.live) == (alone.peak_held, alone.driver, alone.live)
    with pytest.raises(vk_mem.TraceError, match="no allocator 0"):
        found[0].dump()
    with pytest.raises(KeyError):
        found["none"]


def test_wrong_settings_are_refused() -> None:
    trace = load(VEGA)
    invalid = vk_mem.InvalidArgumentError
    with pytest.raises(invalid, match="did you mean block_size"):
        trace.compare({"x": {"blok_size": 1}})  # type: ignore[typeddict-unknown-key]
    with pytest.raises(invalid, match="did you mean algorithm"):
        trace.replay(algoritm="tlsf")  # type: ignore[call-arg]
    with pytest.raises(invalid, match="no profile is named 'x'"):
        trace.replay("x")
    with pytest.raises(TypeError, match="device must be"):
        trace.replay(5)  # type: ignore[arg-type]
    for wrong in ({"threads": "two"}, {"clock": "slow"}, {"clock": 0.0}, {"until": "row 5"}):
        with pytest.raises(invalid):
            trace.replay(**wrong)  # type: ignore[arg-type]
    with pytest.raises(invalid, match="no text file"):
        recorded(VEGA).replay(until="line 3")
    with pytest.raises(vk_mem.TraceError, match="one thread only"):
        trace.replay(record=True, threads="recorded")
    with pytest.raises(vk_mem.TraceError, match="blocks is 0"):
        trace.replay(block_size=0)
    with pytest.raises(vk_mem.TraceError, match="power of two"):
        trace.replay(min_alignment=3)


def test_progress_may_raise() -> None:
    trace = buffers(3000, 10)

    class Enough(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Enough

    with pytest.raises(Enough):
        trace.replay(clock=0.05, progress=stop)


def test_a_simulated_device_lends_its_description() -> None:
    device = SimulatedDevice(heaps=[(64 * MIB, 1)], types=[(0, 7)])
    report = buffers(100, 50).replay(device)
    assert [it.size for it in report.heaps] == [64 * MIB] and report.live == 50 * 65536
    assert device.live_memory_count == 0 if hasattr(device, "live_memory_count") else True


def test_memory_of_a_real_device_is_really_allocated(real_device: vk_mem.Device) -> None:
    trace = load(VEGA)
    report = trace.replay(real_device, record=True)
    assert report.device == real_device.properties.device_name
    assert report.device_allocations > 0 and report.failed_now.count == 0
    ours = report.trace
    assert ours is not None
    made = sum(isinstance(it, AllocateMemory) for it in ours)
    freed = sum(isinstance(it, FreeMemory) for it in ours)
    assert made == report.device_allocations and freed == made
    middle = trace.replay(real_device, until=12)
    assert middle.snapshot().total.allocation_count > 0
    # Its memory was given back before the report was there.
    assert middle.held > 0
