"""Writing and reading dumps, and refusing invalid ones."""

from __future__ import annotations

import functools
import json
import operator
import random
from typing import Any

import pytest
from support import DEDICATED, IMAGE_TRANSFER, RANDOM, RGBA8, TRANSFER, totals

import vk_mem
from vk_mem import Allocator, DumpError, SimulatedDevice

STATS = {"BlockCount", "BlockBytes", "AllocationCount", "AllocationBytes", "UnusedRangeCount"}
EXTREMES = {f"{kind}Size{end}" for kind in ("Allocation", "UnusedRange") for end in ("Min", "Max")}


def end(resource: Any) -> None:
    (resource.destroy if hasattr(resource, "destroy") else resource.free)()


def check_against_a_walk(allocator: Allocator, live: list[Any]) -> None:
    """The dump, counted by hand, equals the engine's own figures and the live objects."""
    raw = json.loads(allocator.build_stats_string())
    total = totals(allocator)
    assert STATS <= set(raw["Total"]) <= STATS | EXTREMES
    pools = [
        *raw["DefaultPools"].values(),
        *functools.reduce(operator.iadd, raw["CustomPools"].values(), []),
    ]
    blocks = [block for pool in pools for block in pool["Blocks"].values()]
    dedicated = [it for pool in pools for it in pool["DedicatedAllocations"]]
    regions = [it for block in blocks for it in block["Suballocations"]]
    used = [it for it in regions if it["Type"] != "FREE"] + dedicated
    assert len(blocks) + len(dedicated) == total.block_count == raw["Total"]["BlockCount"]
    assert len(used) == total.allocation_count == raw["Total"]["AllocationCount"] == len(live)
    assert sum(it["Size"] for it in used) == total.allocation_bytes
    assert len(regions) + len(dedicated) - len(used) == total.unused_range_count
    assert sorted((it.get("Name") or "", it["Size"]) for it in used) == sorted(
        (it.name or "", getattr(it, "allocation", it).size) for it in live
    )
    assert "DefaultPools" not in json.loads(allocator.build_stats_string(detailed=False))
    assert vk_mem.load_dump(raw).total.allocation_count == len(live)


@pytest.mark.parametrize("profile", SimulatedDevice.profile_names())
def test_a_dump_equals_a_walk_after_every_step(profile: str) -> None:
    dice = random.Random(profile)
    with Allocator(SimulatedDevice(profile), preferred_block_size=1 << 20) as allocator:
        live: list[Any] = []
        for step in range(60):
            if live and dice.random() < 0.4:
                end(live.pop(dice.randrange(len(live))))
            else:
                name = dice.choice([None, f"n{step}", '"\\\n\0<script>\u2028'])
                size = int(2 ** dice.uniform(4, 18))
                kind = dice.randrange(4)
                if kind == 0:
                    image = allocator.create_image(RGBA8, (9, 9), IMAGE_TRANSFER, name=name)
                    live.append(image)
                elif kind == 1:
                    live.append(allocator.allocate_memory(size, name=name))
                else:
                    flags = RANDOM | (DEDICATED if kind == 2 else 0)
                    live.append(allocator.create_buffer(size, TRANSFER, flags=flags, name=name))
            check_against_a_walk(allocator, live)
        for resource in live:
            end(resource)


class Loud:
    def __str__(self) -> str:
        raise AssertionError("a dump ran user code")

    __repr__ = __format__ = __str__


@pytest.mark.parametrize(
    ("data", "shown"),
    [("abc9", "abc9"), ("a b/c", "abc"), (17, "17"), (True, "True"), (None, None)],
)
def test_user_data_is_shown(simulated_allocator: Allocator, data: Any, shown: str | None) -> None:
    with simulated_allocator.create_buffer(64, TRANSFER, user_data=data):
        ((_, _, region),) = simulated_allocator.snapshot().allocations()
        assert region.custom_data == shown
        assert region.usage == TRANSFER


@pytest.mark.parametrize("data", [Loud(), -1, 10**5000, "\ud800", "é", []], ids=list("abcdef"))
def test_odd_user_data_is_shown_by_type(simulated_allocator: Allocator, data: Any) -> None:
    with simulated_allocator.create_buffer(64, TRANSFER, user_data=data):
        ((_, _, region),) = simulated_allocator.snapshot().allocations()
        assert region.custom_data == f"{type(data).__name__}0x{id(data):x}"


def test_a_pool_has_its_name(simulated_allocator: Allocator) -> None:
    with simulated_allocator.create_pool(memory_type_index=0, name="té", algorithm="linear"):
        pool = simulated_allocator.snapshot().pools[-1]
        assert pool.name is not None and pool.name.endswith(" - té")
        assert pool.flags == ("LINEAR_ALGORITHM",)


def test_a_diff_finds_the_leak(simulated_allocator: Allocator) -> None:
    stays = simulated_allocator.create_buffer(64, TRANSFER, name="stays")
    goes = simulated_allocator.create_buffer(64, TRANSFER, name="goes")
    before = simulated_allocator.snapshot()
    comes = simulated_allocator.create_buffer(64, TRANSFER, flags=DEDICATED, name="comes")
    goes.destroy()
    found = vk_mem.diff(before, simulated_allocator)
    names = [[it.region.name for it in part] for part in (found.only_in_a, found.in_both)]
    assert names == [["goes"], ["stays"]]
    assert [it.region.name for it in found.only_in_b] == ["comes"]
    stays.destroy()
    comes.destroy()


FIGURES = dict.fromkeys(STATS, 0)


def dump_with(suballocation: Any) -> dict[str, Any]:
    block = {"TotalBytes": 100, "Suballocations": [suballocation]}
    pool = {"PreferredBlockSize": 1, "Blocks": {"0": block}, "DedicatedAllocations": []}
    return {
        "General": {"API": "Direct3D 12"},
        "Total": FIGURES,
        "MemoryInfo": {"L0": {"Budget": {}, "Stats": FIGURES, "MemoryPools": {}}},
        "DefaultPools": {"DEFAULT": pool},
    }


GOOD = {"Offset": 0, "Type": "TEXTURE2D", "Size": 100, "Usage": 1, "Name": "x"}


def test_a_dump_of_d3d12ma_is_read() -> None:
    text = json.dumps(dump_with(GOOD))
    for source in (text, "\ufeff" + text, text.encode("utf-16"), text.encode()):
        ((pool, block, region),) = vk_mem.load_dump(source).allocations()
        assert (pool.title, block.id, region.type_name) == ("DEFAULT", "0", "TEXTURE2D")


@pytest.mark.parametrize(
    "change",
    [
        {"Size": -1},
        {"Size": 1.5},
        {"Size": True},
        {"Size": 1 << 64},
        {"Size": "1"},
        {"Offset": 1},
        {"Offset": None},
        {"Type": 3},
        {"Name": []},
        {"Usage": {}},
    ],
)
def test_wrong_values_get_one_clear_line(change: dict[str, Any]) -> None:
    with pytest.raises(DumpError, match="Suballocations") as caught:
        vk_mem.load_dump(dump_with(GOOD | change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        "",
        '{"General": NaN}',
        '{"General":' * 10**6,
        "[" * 10**6,
        '{"General": ' + "9" * 5000 + "}",
        json.dumps(dump_with(GOOD))[:-9],
        '{"TotalBytes": 1}',
    ],
    ids=list("abcdefghij"),
)
def test_broken_texts_get_one_clear_line(text: str) -> None:
    with pytest.raises(DumpError) as caught:
        vk_mem.load_dump(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
