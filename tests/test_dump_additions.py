"""The keys that our dumps have beyond VMA's: aliases and call sites."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support import DEDICATED, IMAGE_TRANSFER, RGBA8, TRANSFER

import vk_mem
from vk_mem import Allocator, DumpError, ImageTiling, SimulatedDevice
from vk_mem.dump import Region, ResourceClass

CAN_ALIAS = vk_mem.AllocationCreateFlags.CAN_ALIAS


@pytest.fixture
def tracked(simulated: SimulatedDevice) -> Any:
    with Allocator(simulated, track_call_sites=True) as allocator:
        yield allocator


def regions(allocator: Allocator) -> dict[str | None, Region]:
    return {region.name: region for _, _, region in allocator.snapshot().allocations()}


def test_vma_keys_are_untouched(tracked: Allocator) -> None:
    plain = Allocator(tracked.device)
    made = []
    dumps = []
    for allocator in (plain, tracked):
        base = allocator.allocate_memory(4096, name="base", user_data=7)
        alias = allocator.create_aliasing_buffer(base, 64, TRANSFER)
        made += [alias, base]
        dumps.append(json.loads(allocator.build_stats_string()))
    added = [set(dump) - {"General", "Total", "MemoryInfo"} for dump in dumps]
    assert added == [
        {"DefaultPools", "CustomPools", "Aliases"},
        {"DefaultPools", "CustomPools", "Aliases", "CallSites"},
    ]
    for dump in dumps:
        for heap in dump["MemoryInfo"].values():
            assert set(heap) == {"Flags", "Size", "Budget", "Stats", "MemoryPools"}
        for pool in dump["DefaultPools"].values():
            assert set(pool) == {"PreferredBlockSize", "Blocks", "DedicatedAllocations"}
            for block in pool["Blocks"].values():
                for it in block["Suballocations"]:
                    assert set(it) <= {"Offset", "Type", "Size", "Usage", "CustomData", "Name"}
    short = json.loads(tracked.build_stats_string(detailed=False))
    assert set(short) == {"General", "Total", "MemoryInfo"}
    for it in made:
        getattr(it, "destroy", getattr(it, "free", None))()
    plain.close()
    nothing = set(json.loads(tracked.build_stats_string()))
    assert nothing == {"General", "Total", "MemoryInfo", "DefaultPools", "CustomPools"}


@pytest.mark.parametrize("where", ["block", "dedicated", "pool"])
def test_aliases_come_back(tracked: Allocator, where: str) -> None:
    pools = [tracked.create_pool(memory_type_index=0, name=f"p{i}") for i in range(2)]
    before = tracked.allocate_memory(100, name="before", pool=pools[1])
    keywords: dict[str, Any] = {"name": "base"}
    keywords |= {"flags": DEDICATED} if where == "dedicated" else {}
    keywords |= {"pool": pools[1]} if where == "pool" else {}
    base = tracked.allocate_memory(1 << 16, 4096, **keywords)
    first = tracked.create_aliasing_buffer(base, 64, TRANSFER, local_offset=256, name='"\n<x>')
    second = tracked.create_aliasing_image(
        base, RGBA8, (4, 4), IMAGE_TRANSFER, tiling=ImageTiling.OPTIMAL, user_data="data1"
    )
    linear = tracked.create_aliasing_image(
        base, RGBA8, (4, 4), IMAGE_TRANSFER, tiling=ImageTiling.LINEAR, name="linear"
    )
    found = regions(tracked)
    region = found["base"]
    assert (found["before"].aliases, region.size) == ((), 1 << 16)
    assert (region.call_site or "").split("\n")[0].endswith("in test_aliases_come_back")
    by_name = {it.name: it for it in region.aliases}
    assert set(by_name) == {'"\n<x>', None, "linear"}
    buffer, image = by_name['"\n<x>'], by_name[None]
    assert (buffer.offset, buffer.size) == (region.offset + 256, first.allocation.size)
    assert (buffer.resource_class, buffer.usage) == (ResourceClass.BUFFER, TRANSFER)
    assert (image.resource_class, image.usage) == (ResourceClass.IMAGE_OPTIMAL, IMAGE_TRANSFER)
    assert image.custom_data == "data1"
    assert by_name["linear"].resource_class is ResourceClass.IMAGE_LINEAR
    assert all(it.call_site for it in by_name.values())
    assert len({it.call_site for it in by_name.values()}) == 3
    total = tracked.snapshot().total
    assert total.allocation_count == 2, "an alias is no allocation"
    tracked.destroy_many([first, second, linear, base, before])
    assert regions(tracked) == {}
    for pool in pools:
        pool.close()


def test_an_alias_of_a_buffer_that_can_alias(tracked: Allocator) -> None:
    base = tracked.create_buffer(4096, TRANSFER, flags=CAN_ALIAS, name="base")
    alias = tracked.create_aliasing_buffer(base, 1024, TRANSFER, name="alias")
    nested = tracked.create_aliasing_buffer(alias, 512, TRANSFER, name="nested")
    assert [it.name for it in regions(tracked)["base"].aliases] == ["alias", "nested"]
    nested.destroy()
    assert [it.name for it in regions(tracked)["base"].aliases] == ["alias"]
    tracked.destroy_many([alias, base])


def test_each_allocation_has_its_own_site(tracked: Allocator) -> None:
    one = tracked.create_buffer(64, TRANSFER, name="one")
    two = tracked.create_buffer(64, TRANSFER, flags=DEDICATED, name="two")
    three = tracked.create_buffer(64, TRANSFER, flags=DEDICATED, name="three")
    two.destroy()
    found = regions(tracked)
    leaks = {it.name: it.call_site for it in tracked.leaks()}
    assert {name: region.call_site for name, region in found.items()} == leaks
    assert leaks["one"] != leaks["three"]
    tracked.destroy_many([one, three])


FIGURES = dict.fromkeys(
    ("BlockCount", "BlockBytes", "AllocationCount", "AllocationBytes", "UnusedRangeCount"), 0
)


def dump_with(**additions: Any) -> dict[str, Any]:
    regions = [
        {"Offset": 0, "Type": "UNKNOWN", "Size": 60, "Usage": 0},
        {"Offset": 60, "Type": "FREE", "Size": 40},
    ]
    pool = {
        "PreferredBlockSize": 1,
        "Blocks": {"7": {"TotalBytes": 100, "Suballocations": regions}},
        "DedicatedAllocations": [{"Type": "BUFFER", "Size": 50, "Usage": 1}],
    }
    return {
        "General": {"API": "Vulkan"},
        "Total": FIGURES,
        "MemoryInfo": {"Heap 0": {"Budget": {}, "Stats": FIGURES, "MemoryPools": {}}},
        "DefaultPools": {"Type 0": pool},
        "CustomPools": {"Type 0": [{"Name": "0 - x", **pool}]},
        **additions,
    }


def at(value: Any, kind: str = "Blocks") -> dict[str, Any]:
    inner = {"7": value} if kind == "Blocks" else value
    return {"DefaultPools": {"Type 0": {kind: inner}}}


def alias(**changed: Any) -> dict[str, Any]:
    return {"Offset": 0, "Type": "BUFFER", "Size": 10, "Usage": 1} | changed


def test_a_good_one_is_read() -> None:
    sites = {"Sites": ["a.py:1 in f\nb.py:2 in g"], **at({"0": 0})}
    aliases = {"CustomPools": {"Type 0": {"0": {"DedicatedAllocations": {"0": [alias()]}}}}}
    dump = vk_mem.load_dump(json.dumps(dump_with(CallSites=sites, Aliases=aliases)))
    found = [(region.call_site, len(region.aliases)) for _, _, region in dump.allocations()]
    assert found == [("a.py:1 in f\nb.py:2 in g", 0), (None, 0), (None, 0), (None, 1)]


DEEP: Any = []
for _ in range(500):
    DEEP = [DEEP]

WRONG_SITES = [
    3,
    [],
    None,
    {},
    {"Sites": {}},
    {"Sites": [1]},
    {"Sites": ["a"], **at({"0": 1})},
    {"Sites": ["a"], **at({"0": -1})},
    {"Sites": ["a"], **at({"0": True})},
    {"Sites": ["a"], **at({"0": 0.0})},
    {"Sites": ["a"], **at({"0": "0"})},
    {"Sites": ["a"], **at({"0": None})},
    {"Sites": ["a"], **at({"0": DEEP})},
    {"Sites": ["a"], **at({"1": 0})},
    {"Sites": ["a"], **at({"60": 0})},
    {"Sites": ["a"], **at({"00": 0})},
    {"Sites": ["a"], **at({"-0": 0})},
    {"Sites": ["a"], **at({"٣": 0})},
    {"Sites": ["a"], **at({"9" * 5000: 0})},
    {"Sites": ["a"], **at([0])},
    {"Sites": ["a"], **at({"1": 0}, "DedicatedAllocations")},
    {"Sites": ["a"], **at([0], "DedicatedAllocations")},
    {"Sites": ["a"], "DefaultPools": {"Type 1": {"Blocks": {"7": {"0": 0}}}}},
    {"Sites": ["a"], "DefaultPools": {"Type 0": {"Blocks": {"8": {"0": 0}}}}},
    {"Sites": ["a"], "CustomPools": {"Type 0": [{"Blocks": {"7": {"0": 0}}}]}},
    {"Sites": ["a"], "CustomPools": {"Type 0": {"1": {"Blocks": {"7": {"0": 0}}}}}},
    {"Sites": ["a"], "CustomPools": 1},
    {"Sites": ["a"], "DefaultPools": {"x" * 20_000: {}}},
]
WRONG_ALIASES = [
    4,
    [],
    at({"0": 0}),
    at({"0": {}}),
    at({"0": [0]}),
    at({"0": [{}]}),
    at({"0": [alias(Offset=-1)]}),
    at({"0": [alias(Offset=51)]}),
    at({"0": [alias(Size=61)]}),
    at({"0": [alias(Size=1 << 64)]}),
    at({"0": [alias(Size=None)]}),
    at({"0": [alias(Type=0)]}),
    at({"0": [alias(Type="FREE")]}),
    at({"0": [alias(Usage="x")]}),
    at({"0": [alias(Name=[])]}),
    at({"0": [alias(CustomData=7)]}),
    at({"0": [alias(CallSite=0)]}),
    at({"60": [alias(Offset=60)]}),
    at({"61": [alias(Offset=61)]}),
    at({"0": [alias(Size=51)]}, "DedicatedAllocations"),
]


@pytest.mark.parametrize(
    ("key", "value"),
    [("CallSites", it) for it in WRONG_SITES] + [("Aliases", it) for it in WRONG_ALIASES],
)
def test_wrong_ones_get_one_clear_line(key: str, value: Any) -> None:
    with pytest.raises(DumpError, match=key) as caught:
        vk_mem.load_dump(dump_with(**{key: value}))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
