"""What the doctor says of devices: findings, settings that work, known complaints, text, JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from support import RANDOM, TRANSFER

import vk_mem
from vk_mem import Allocator, SimulatedDevice
from vk_mem.doctor import Examination, Verdict, Weight, examine, report_lines, simulated_machine
from vk_mem.doctor.complaints import COMPLAINTS
from vk_mem.doctor.device_facts import DeviceFacts
from vk_mem.doctor.extensions import extensions_of
from vk_mem.doctor.probe import Probe

PROFILES = SimulatedDevice.profile_names()
LOCAL, VISIBLE, COHERENT, CACHED = 1, 2, 4, 8
GIB, MIB = 1 << 30, 1 << 20

# The heaviest first; among equals in the order of the rules.
EXPECTED = {
    "nvidia-h200": "largest-request silent-spill slow-driver-allocations block-size",
    "lavapipe": "no-budget held-memory fragmentation missing-extensions",
    "discrete-8gib": "largest-request silent-spill no-budget slow-driver-allocations block-size "
    "count-of-memory-objects no-resizable-bar missing-extensions",
    "discrete-8gib-bar": "largest-request silent-spill host-memory-overcommitted no-budget "
    "small-window slow-driver-allocations block-size count-of-memory-objects missing-extensions",
    "integrated": "largest-request no-budget count-of-memory-objects held-memory "
    "missing-extensions",
    "raspberry-pi": "largest-request no-budget uncached-host-memory held-memory fragmentation "
    "v3dv-pools missing-extensions",
    "moltenvk": "largest-request no-budget held-memory moltenvk-blocks missing-extensions",
    "non-coherent": "largest-request silent-spill no-budget slow-driver-allocations needs-flushes "
    "count-of-memory-objects held-memory fragmentation granularity missing-extensions",
}


def examined(*arguments: Any, **keywords: Any) -> Examination:
    return examine(simulated_machine(SimulatedDevice(*arguments, **keywords)))


def keys(found: Examination) -> list[str]:
    return [it.key for it in found.findings]


def facts(**changed: Any) -> DeviceFacts:
    best = examined("discrete-8gib").machine.best
    assert best is not None
    return replace(best, **changed)


def of_facts(device: DeviceFacts) -> Examination:
    machine = examined("discrete-8gib").machine
    return examine(replace(machine, probe=Probe((device,), best=0)))


# ---- findings ----


@pytest.mark.parametrize("profile", PROFILES)
def test_findings_of_each_profile(profile: str) -> None:
    found = examined(profile)
    assert keys(found) == EXPECTED[profile].split()
    assert found.verdict is Verdict.WORKS and "simulated" in found.sentence
    weights = [it.weight for it in found.findings]
    assert weights == sorted(weights, reverse=True)
    for finding in found.findings:
        for text in (finding.what, finding.why, finding.do):
            assert text and "  " not in text and "\n" not in text
        assert finding.what[0].isupper() and not finding.what.endswith(".")
        assert finding.why.endswith(".") and finding.do.endswith(".")


@pytest.mark.parametrize("profile", PROFILES)
def test_each_setting_works_on_its_device(profile: str) -> None:
    device = SimulatedDevice(profile)
    findings = examine(simulated_machine(device)).findings
    assert device.live_memory_objects == 0, "the doctor leaves nothing behind"
    with Allocator(device) as allocator:
        names = {
            "vk_mem": vk_mem,
            "device": device,
            "allocator": allocator,
            "size": 4096,
            "usage": TRANSFER,
            "data": b"abcd" * 100,
        }
        for finding in findings:
            if not finding.setting:
                assert finding.key == "missing-extensions"
                continue
            made = eval(finding.setting, names)
            for it in made if isinstance(made, list) else [made]:
                if isinstance(it, vk_mem.Buffer):
                    it.destroy()
                elif isinstance(it, Allocator | vk_mem.Pool):
                    it.close()
    assert device.violations == [] and device.live_memory_objects == 0


@pytest.mark.parametrize(
    ("heaps", "types", "keywords", "expected", "other"),
    [
        # An integrated card whose firmware set 512 MiB apart.
        (
            [(512 * MIB, LOCAL), (15 * GIB, 0)],
            [(0, LOCAL | VISIBLE | COHERENT), (1, VISIBLE | COHERENT | CACHED)],
            {"device_type": "INTEGRATED_GPU"},
            "several-heaps",
            "small-window",
        ),
        (
            [(8 * GIB, LOCAL), (512 * MIB, LOCAL), (8 * GIB, 0)],
            [(0, LOCAL), (1, LOCAL | VISIBLE | COHERENT), (2, VISIBLE | COHERENT | CACHED)],
            {},
            "small-window",
            "no-resizable-bar",
        ),
        (
            [(8 * GIB, LOCAL), (8 * GIB, 0)],
            [(0, LOCAL), (1, VISIBLE | COHERENT)],
            {},
            "uncached-host-memory",
            "needs-flushes",
        ),
        (
            [(8 * GIB, LOCAL), (8 * GIB, 0)],
            [(0, LOCAL), (1, VISIBLE | CACHED), (1, VISIBLE | COHERENT)],
            {},
            "needs-flushes",
            "uncached-host-memory",
        ),
        (
            [(8 * GIB, LOCAL), (8 * GIB, 0)],
            [(0, LOCAL | VISIBLE | COHERENT), (1, VISIBLE | COHERENT | CACHED)],
            {"max_memory_allocation_size": 0, "buffer_image_granularity": 65536},
            "granularity",
            "largest-request",
        ),
        (
            [(8 * GIB, LOCAL), (8 * GIB, 0)],
            [(0, LOCAL | VISIBLE | COHERENT), (1, VISIBLE | COHERENT | CACHED)],
            {"max_memory_allocation_count": 1 << 20, "max_memory_allocation_size": GIB},
            "largest-request",
            "count-of-memory-objects",
        ),
    ],
)
def test_rules_follow_what_the_device_has(
    heaps: list[Any], types: list[Any], keywords: Any, expected: str, other: str
) -> None:
    found = keys(examined(heaps=heaps, types=types, **keywords))
    assert expected in found and other not in found


def test_what_other_programs_hold_is_seen() -> None:
    device = SimulatedDevice("nvidia-h200")
    assert "memory-in-use" not in keys(examine(simulated_machine(device)))
    device.set_heap_budgets([30 * GIB, 90 * GIB])
    found = examine(simulated_machine(device))
    finding = next(it for it in found.findings if it.key == "memory-in-use")
    assert "30 GiB can be used now" in finding.what and finding.weight is Weight.CARE


def test_drivers_are_judged_by_the_time_they_took() -> None:
    slow = of_facts(facts(simulated=False, seconds={0: 0.0001, 1: 0.024}))
    finding = next(it for it in slow.findings if it.key == "slow-driver-allocations")
    assert finding.what == "The driver needs 24 ms for 64 MiB of new memory"
    quick = of_facts(facts(simulated=False, seconds={0: 0.0001, 1: 0.0002}))
    assert "slow-driver-allocations" not in keys(quick)


def test_mesa_on_amd_and_portability() -> None:
    assert "host-memory-overcommitted" in keys(of_facts(facts(vendor_id=0x1002)))
    assert "host-memory-overcommitted" not in keys(of_facts(facts(vendor_id=0x8086)))
    portable = facts(extensions=("VK_KHR_portability_subset",))
    assert "moltenvk-blocks" in keys(of_facts(portable))


@pytest.mark.parametrize("call", ["vkAllocateMemory", "vkCreateBuffer", "vkQueueSubmit"])
def test_a_device_that_fails_is_said_to_be_broken(call: str) -> None:
    device = SimulatedDevice("discrete-8gib")
    device.fail_next(call, count=1000, vk_result=-4 if call == "vkQueueSubmit" else -3)
    machine = simulated_machine(device)
    found = examine(replace(machine, simulated=False))
    assert found.verdict is Verdict.BROKEN and "no device works" in found.sentence
    first = found.findings[0]
    assert (first.key, first.weight) == ("device-fails", Weight.BROKEN)
    assert "VK_ERROR" in first.what and found.complaints == ()


def test_bytes_that_come_back_changed_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vk_mem.doctor.device_facts.TRIED_BYTES", b"\0" * 64)
    assert simulated_machine(SimulatedDevice()).best is not None

    class Forgetful(bytes):
        """Equals nothing, as bytes that a broken driver returns."""

        def __ne__(self, other: object) -> bool:
            return True

        __hash__ = bytes.__hash__

    monkeypatch.setattr("vk_mem.doctor.device_facts.TRIED_BYTES", Forgetful(b"\0" * 64))
    machine = simulated_machine(SimulatedDevice())
    assert machine.best is None and "came back changed" in machine.devices[0].error


# ---- known complaints ----


def test_complaints_name_where_they_were_seen() -> None:
    for complaint in COMPLAINTS:
        assert complaint.seen_in and complaint.symptom and complaint.avoided_by, complaint


@pytest.mark.parametrize("profile", PROFILES)
def test_complaints_that_are_met_have_findings(profile: str) -> None:
    found = examined(profile)
    assert len(found.complaints) == len(COMPLAINTS)
    met = [it for it in found.complaints if it.finding is not None]
    for it in met:
        assert it.finding in found.findings and it.finding.seen_in == it.complaint.seen_in
        assert it.finding.setting, "each has a setting that avoids it"
    assert f"can meet {len(met)} here" in found.complaints_sentence
    assert sum(bool(it.seen_in) for it in found.findings) == len(met)


def test_every_rule_is_met_somewhere_and_not_everywhere() -> None:
    # The one about several heaps has a device of its own, above.
    everywhere = [set(keys(examined(it))) for it in PROFILES]
    for complaint in COMPLAINTS:
        if complaint.rule is None or complaint.rule.__name__ == "several_heaps":
            continue
        key = complaint.rule.__name__.replace("_", "-")
        assert 0 < sum(key in found for found in everywhere) < len(PROFILES), key


# ---- extensions ----


def test_extensions_are_those_in_use_in_the_core_or_missing() -> None:
    states = extensions_of(facts(api_version=(1, 2, 0), enabled=(), extensions=()))
    assert states["VK_KHR_timeline_semaphore"] == states["VK_KHR_dedicated_allocation"] == "core"
    assert states["VK_KHR_maintenance4"] == states["VK_EXT_memory_budget"] == "missing"
    present = facts(extensions=("VK_EXT_memory_budget",), enabled=("VK_KHR_external_memory_fd",))
    states = extensions_of(present)
    assert states["VK_EXT_memory_budget"] == "present"
    assert states["VK_KHR_external_memory_fd"] == "used"
    assert "VK_KHR_external_memory_win32" not in states


# ---- text and JSON ----


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("width", [20, 40, 80, 120])
def test_text_fits_the_width(profile: str, width: int) -> None:
    found = examined(profile)
    lines = list(report_lines(found, width))
    assert lines[0][1] == "head"
    for line, style in lines:
        assert "\n" not in line and line == line.rstrip()
        # What is to be copied is not broken, nor is a word.
        assert len(line) <= max(width, 40) or style == "code" or " " not in line.strip()
    text = " ".join(line.strip() for line, _ in lines)
    for finding in found.findings:
        assert finding.what in text
    assert width < 80 or all(len(line) <= max(width, 40) for line, _ in lines)


@pytest.mark.parametrize("profile", PROFILES)
def test_code_in_the_text_is_python(profile: str) -> None:
    code: list[str] = []
    for line, style in [*report_lines(examined(profile), 60), ("", "")]:
        if style == "code":
            code.append(line)
        elif code:
            compile("\n".join(it.removeprefix(" " * 8) for it in code), "setting", "eval")
            code = []


def test_odd_names_are_made_visible() -> None:
    found = of_facts(facts(name="evil\x1b[31m\nname\u202e"))
    lines = [line for line, _ in report_lines(found)]
    assert any("\\x1b[31m" in line for line in lines)
    assert all("\x1b" not in line and "\u202e" not in line for line in lines)


@pytest.mark.parametrize("profile", PROFILES)
def test_json_has_all_of_it(profile: str) -> None:
    found = examined(profile)
    read = json.loads(json.dumps(found.as_json()))
    assert read["format"] == 1 and read["verdict"] == "works"
    assert [it["key"] for it in read["findings"]] == keys(found)
    assert read["machine"]["best"] == 0 and read["machine"]["simulated"] is True
    assert len(read["complaints"]) == len(COMPLAINTS)
    assert {it["met"] for it in read["complaints"]} == {True, False}
    again = DeviceFacts.from_json(read["machine"]["devices"][0])
    assert again == found.machine.best
    device = SimulatedDevice(profile)
    heaps = device.memory_properties.memory_heaps
    assert [it["size"] for it in read["machine"]["devices"][0]["heaps"]] == [
        it.size for it in heaps
    ]


def test_a_device_is_tried_without_numpy_and_leaves_nothing() -> None:
    device = SimulatedDevice("non-coherent")
    with Allocator(device) as allocator:
        kept = allocator.create_buffer(4096, TRANSFER, flags=RANDOM)
        before = device.live_memory_objects
        examine(simulated_machine(device))
        assert device.live_memory_objects == before
        kept.destroy()
    assert device.violations == []
