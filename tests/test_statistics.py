"""Statistics, budgets and measured sections: figures and their text."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from support import (
    DEDICATED,
    IMAGE_TRANSFER,
    RANDOM,
    RGBA8,
    TRANSFER,
    check_statistics,
    totals,
)

import vk_mem
from vk_mem import Allocator, SimulatedDevice, UseAfterFreeError
from vk_mem.observe.tables import count_text, html_table, size_text, text_table

ODD_NAME = "<b>&\"'\n\x1b[31m\u202e☃"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (-1536, "-1.5 KiB"),
        (256 << 20, "256.0 MiB"),
        (2**64 - 1, "unlimited"),
        (2**64 - 2, "16.0 EiB"),
    ],
)
def test_sizes_are_for_people(size: int, text: str) -> None:
    assert size_text(size) == text
    assert count_text(1234567) == "1,234,567"


def test_columns_line_up() -> None:
    text = text_table(("", "size"), [("a", "1 B"), ("longer", "12.0 KiB")])
    assert text.splitlines() == ["            size", "a            1 B", "longer  12.0 KiB"]


def elements(html: str) -> ElementTree.Element:
    """Well-formed, and without colours of its own: pages may be dark."""
    assert "rgb" not in html and "#" not in html.replace("&#", "") and "<script" not in html
    return ElementTree.fromstring(f"<div>{html}</div>")


def test_html_is_escaped() -> None:
    root = elements(html_table((ODD_NAME[:6], "x"), [("</td>", "&")], title="<title>"))
    assert [it.text for it in root.iter("td")] == ["</td>", "&"]


def filled(allocator: Allocator) -> list[Any]:
    pool = allocator.create_pool(memory_type_index=0, name=ODD_NAME, block_size=1 << 20)
    made: list[Any] = [allocator.create_buffer(1000, TRANSFER, name=ODD_NAME) for _ in range(5)]
    made += [allocator.allocate_memory(5000, pool=pool) for _ in range(3)]
    made.append(allocator.create_buffer(1 << 16, TRANSFER, flags=DEDICATED))
    made.pop(1).destroy()
    return [*made, pool]


def end(*resources: Any) -> None:
    for it in resources:
        getattr(it, "destroy", None) and it.destroy()
        getattr(it, "free", None) and it.free()
    for it in resources:
        getattr(it, "close", None) and it.close()


def test_every_figure_prints(simulated_allocator: Allocator) -> None:
    made = filled(simulated_allocator)
    *resources, pool = made
    total = simulated_allocator.calculate_statistics()
    budgets = simulated_allocator.heap_budgets()
    with vk_mem.statistics(simulated_allocator, profile="name") as measured:
        resources.append(simulated_allocator.create_buffer(64, TRANSFER, name=ODD_NAME))
    shown = [
        total,
        total.total,
        total.memory_heaps[0],
        total.memory_types[0],
        total.pools[0],
        pool.statistics(),
        budgets,
        budgets[0],
        measured,
        measured.profile,
        simulated_allocator.leaks(),
    ]
    for it in shown:
        text, html = str(it), it._repr_html_()
        assert text != repr(it)
        lines = text.splitlines()
        assert len(lines) >= 2 and not any(line != line.rstrip() for line in lines)
        assert "\x1b" not in text and "\u202e" not in text and "\x1b" not in html
        assert "B" in text, text
        root = elements(html)
        assert len(list(root.iter("td"))) >= 6
    assert "<b>" not in simulated_allocator._repr_html_()
    elements(simulated_allocator._repr_html_())
    assert isinstance(budgets, list) and budgets == list(budgets)
    end(*resources, pool)


def test_a_table_says_what_is_there(simulated_allocator: Allocator) -> None:
    *resources, pool = filled(simulated_allocator)
    lines = str(simulated_allocator.calculate_statistics()).splitlines()
    assert lines[0].split()[0] == "blocks"
    assert lines[1].startswith("heap 0") and lines[-1].startswith("total")
    (of_pool,) = [line for line in lines if "pool '" in line]
    assert "14.6 KiB" in of_pool and "1.0 MiB" in of_pool
    assert len(lines) == len(set(lines))
    budgets = str(simulated_allocator.heap_budgets()).splitlines()
    assert len(budgets) == 1 + len(simulated_allocator.heap_budgets())
    end(*resources, pool)


def test_a_closed_allocator_has_a_page_as_well(simulated: SimulatedDevice) -> None:
    allocator = Allocator(simulated)
    allocator.close()
    assert "closed" in allocator._repr_html_()


def test_pools_are_told_apart(simulated_allocator: Allocator) -> None:
    with (
        simulated_allocator.create_pool(memory_type_index=0, name="a", block_size=1 << 20) as a,
        simulated_allocator.create_pool(memory_type_index=1, block_size=1 << 20) as unnamed,
        a_few(simulated_allocator, pool=a),
        a_few(simulated_allocator, pool=unnamed),
    ):
        counted = simulated_allocator.calculate_statistics()
        assert [(it.name, it.memory_type_index) for it in counted.pools] == [("a", 0), (None, 1)]
        assert [it.statistics for it in counted.pools] == [a.statistics(), unnamed.statistics()]
        assert "PoolStatistics(name='a', memory_type_index=0" in repr(counted.pools[0])
        check_statistics(simulated_allocator)
    assert simulated_allocator.calculate_statistics().pools == []


class a_few:
    """Some memory while it is entered."""

    def __init__(self, allocator: Allocator, **keywords: Any) -> None:
        self.made = [allocator.allocate_memory(1000 * i, **keywords) for i in (1, 2, 3)]

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        end(*self.made)


def test_fragmentation_is_one_minus_the_largest_part(simulated_allocator: Allocator) -> None:
    size = 1 << 16
    with simulated_allocator.create_pool(memory_type_index=0, block_size=4 * size) as pool:
        assert pool.statistics().fragmentation == 0
        made = [simulated_allocator.allocate_memory(size, pool=pool) for _ in range(4)]
        full = pool.statistics()
        assert (full.unused_range_count, full.unused_range_bytes, full.fragmentation) == (0, 0, 0)
        made[0].free()
        assert pool.statistics().fragmentation == 0
        made[2].free()
        scattered = pool.statistics()
        assert (scattered.unused_range_count, scattered.fragmentation) == (2, 0.5)
        assert scattered.unused_range_bytes == 2 * size
        end(*made)


def test_a_virtual_block_counts_in_its_own_unit() -> None:
    block = vk_mem.VirtualBlock(4096)
    block.allocate(1024)
    statistics = block.statistics()
    assert (statistics.unused_range_bytes, statistics.fragmentation) == (3072, 0)
    assert "1,024" in str(statistics) and "B" not in str(statistics)


# ---- stretches ----


def one_buffer(allocator: Allocator) -> list[Any]:
    return [allocator.create_buffer(1000, TRANSFER, name="x")]


def imported(allocator: Allocator) -> list[Any]:
    import mmap

    return [allocator.import_host_pointer(mmap.mmap(-1, 1 << 16))]


WAYS: dict[str, Callable[[Allocator], list[Any]]] = {
    "create_buffer": one_buffer,
    "dedicated": lambda it: [it.create_buffer(1000, TRANSFER, flags=DEDICATED)],
    "create_image": lambda it: [it.create_image(RGBA8, (9, 9), IMAGE_TRANSFER)],
    "create_buffers": lambda it: it.create_buffers([100, 200], TRANSFER, names=["x", None]),
    "create_images": lambda it: it.create_images([(RGBA8, (9, 9), IMAGE_TRANSFER)] * 2),
    "allocate_memory": lambda it: [it.allocate_memory(1000)],
    "allocate_memory_pages": lambda it: it.allocate_memory_pages(4096, 4096, 3),
    "import_host_pointer": imported,
}
ENDS: dict[str, Callable[[Allocator, list[Any]], object]] = {
    "one by one": lambda _, made: end(*made),
    "destroy_many": lambda it, made: it.destroy_many(made),
    "retired": lambda it, made: ([x.retire() for x in made], it.set_current_frame_index(9)),
    "collected": lambda it, made: (made.clear(), gc.collect(), it.set_current_frame_index(9)),
    "close": lambda it, made: it.close(),
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("profile", [False, True, "name"])
def test_every_creating_and_releasing_call_counts(
    simulated: SimulatedDevice, way: str, how: str, profile: Any
) -> None:
    allocator = Allocator(simulated)
    with vk_mem.statistics(allocator, profile=profile) as measured:
        made = WAYS[way](allocator)
        total = totals(allocator)
        expected = (total.allocation_bytes, total.allocation_count)
        assert expected[1] == len(made)
        for figures in [measured, *([sum_of(measured.profile)] if profile else [])]:
            assert (figures.current_bytes, figures.current_count) == expected
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            ENDS[how](allocator, made)
            made.clear()
            allocator.close()
    assert (measured.current_bytes, measured.current_count) == (0, 0)
    assert (measured.peak_bytes, measured.peak_count) == expected
    assert (measured.total_bytes, measured.total_count) == expected
    if profile:
        assert {it.current_bytes for it in measured.profile} == {0}
        assert {it.current_count for it in measured.profile} == {0}
        where = {it.where for it in measured.profile}
        named = {"create_buffer": {"x"}, "create_buffers": {"x", None}}.get(way, {None})
        assert where == named if profile == "name" else all(__file__ in str(it) for it in where)


def sum_of(profile: vk_mem.observe.measure.Profile) -> Any:
    class Sum:
        current_bytes = sum(it.current_bytes for it in profile)
        current_count = sum(it.current_count for it in profile)

    return Sum


def test_failed_calls_and_aliases_do_not_count(simulated_allocator: Allocator) -> None:
    device = simulated_allocator.device
    assert isinstance(device, SimulatedDevice)
    with (
        simulated_allocator.allocate_memory(4096) as base,
        vk_mem.statistics(simulated_allocator, profile=True) as measured,
    ):
        with simulated_allocator.create_aliasing_buffer(base, 64, TRANSFER):
            pass
        device.fail_next("vkBindBufferMemory")
        with pytest.raises(vk_mem.VkMemError):
            simulated_allocator.create_buffer(64, TRANSFER)
        with pytest.raises(vk_mem.VkMemError):
            simulated_allocator.create_buffers([64, 0], TRANSFER)
    assert (measured.total_count, measured.current_count, measured.profile) == (0, 0, [])


def test_stretches_nest_and_overlap(simulated_allocator: Allocator) -> None:
    outer = vk_mem.statistics(simulated_allocator)
    inner = vk_mem.statistics(simulated_allocator)
    with outer:
        first = one_buffer(simulated_allocator)[0]
        size = first.allocation.size
        with inner:
            first.destroy()
            second = one_buffer(simulated_allocator)[0]
            third = one_buffer(simulated_allocator)[0]
        # What it did not see being created went below zero first.
        assert (inner.current_bytes, inner.peak_bytes, inner.total_bytes) == (size, size, 2 * size)
        end(second, third)
        assert inner.current_count == 1, "it has ended"
    assert (outer.current_bytes, outer.peak_bytes, outer.total_bytes) == (0, 2 * size, 3 * size)
    assert (outer.current_count, outer.peak_count, outer.total_count) == (0, 2, 3)
    end(*one_buffer(simulated_allocator))
    assert outer.total_count == 3


def test_a_thread_may_be_measured_alone(simulated_allocator: Allocator) -> None:
    def work() -> None:
        for _ in range(50):
            end(*one_buffer(simulated_allocator))

    with (
        vk_mem.statistics(simulated_allocator) as all_threads,
        vk_mem.statistics(simulated_allocator, this_thread=True, profile=True) as here,
    ):
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        end(*one_buffer(simulated_allocator))
        for thread in threads:
            thread.join()
    assert (all_threads.total_count, all_threads.current_count) == (201, 0)
    assert 1 <= all_threads.peak_count <= 5
    assert (here.total_count, here.current_count, here.peak_count) == (1, 0, 1)


def test_lines_are_told_apart(simulated_allocator: Allocator) -> None:
    with vk_mem.statistics(simulated_allocator, profile=True) as measured:
        made = [one_buffer(simulated_allocator)[0] for _ in range(3)]
        memory = simulated_allocator.allocate_memory(1 << 16)
        memory.free()
        again = simulated_allocator.allocate_memory(100)
    by_line = {
        it.where: (it.current_count, it.peak_count, it.total_count) for it in measured.profile
    }
    assert sorted(by_line.values()) == [(0, 1, 1), (1, 1, 1), (3, 3, 3)]
    assert measured.profile[0].peak_bytes == 1 << 16, "the highest peak stands first"
    assert all(" in " in str(where) for where in by_line)
    end(*made, again)


def test_a_buffer_heap_shows_its_caller(simulated_allocator: Allocator) -> None:
    with (
        vk_mem.statistics(simulated_allocator, profile=True) as measured,
        vk_mem.BufferHeap(simulated_allocator, TRANSFER) as heap,
    ):
        heap.allocate(64).free()  # here
    source = Path(__file__).read_text().splitlines()
    (entry,) = measured.profile
    assert entry.where is not None
    line = int(entry.where.removeprefix(f"{__file__}:").split()[0])
    assert source[line - 1].endswith("# here")


def test_wrong_use_is_refused(simulated_allocator: Allocator) -> None:
    with pytest.raises(ValueError, match="True, False or 'name'"):
        vk_mem.statistics(simulated_allocator, profile="file")  # type: ignore[arg-type]
    measured = vk_mem.statistics(simulated_allocator)
    assert measured.total_count == 0
    with measured:
        pass
    with pytest.raises(RuntimeError, match="once"), measured:
        pass
    with pytest.raises(ValueError, match="profile=True"):
        _ = measured.profile
    with pytest.raises(TypeError):
        vk_mem.statistics(simulated_allocator, True)  # type: ignore[misc]


def test_a_closed_allocator_is_refused(simulated: SimulatedDevice) -> None:
    allocator = Allocator(simulated)
    allocator.close()
    with pytest.raises(UseAfterFreeError), vk_mem.statistics(allocator):
        pass


def test_a_stretch_that_is_never_ended_ends_with_its_object(
    simulated_allocator: Allocator,
) -> None:
    measured = vk_mem.statistics(simulated_allocator)
    measured.__enter__()
    del measured
    gc.collect()
    with simulated_allocator.create_buffer(64, TRANSFER, flags=RANDOM):
        pass
