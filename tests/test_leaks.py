"""Call sites, lists of live resources, and the texts of leak warnings."""

from __future__ import annotations

import gc
import json
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from support import IMAGE_TRANSFER, RGBA8, TRANSFER, run_python

import vk_mem
from vk_mem import Allocator, InvalidArgumentError, SimulatedDevice

HERE = __file__


def line_of(mark: str) -> int:
    lines = Path(HERE).read_text().splitlines()
    (line,) = [number for number, text in enumerate(lines, 1) if text.endswith(f"# {mark}")]
    return line


def make(allocator: Allocator, **keywords: Any) -> Any:
    return allocator.create_buffer(64, TRANSFER, **keywords)  # make


def outer(allocator: Allocator, **keywords: Any) -> Any:
    return make(allocator, **keywords)  # outer


@pytest.fixture
def tracked(simulated: SimulatedDevice) -> Any:
    with Allocator(simulated, track_call_sites=True) as allocator:
        yield allocator


def test_a_call_site_is_a_stack(tracked: Allocator) -> None:
    buffer = outer(tracked, name="x")
    (leak,) = tracked.leaks()
    lines = (leak.call_site or "").split("\n")
    assert lines[0] == f"{HERE}:{line_of('make')} in make"
    assert lines[1] == f"{HERE}:{line_of('outer')} in outer"
    assert "in test_a_call_site_is_a_stack" in lines[2]
    assert len(lines) == 8
    assert (leak.name, leak.kind, leak.size) == ("x", "Buffer", buffer.allocation.size)
    assert leak.memory_type_index == buffer.allocation.memory_type_index
    buffer.destroy()
    assert tracked.leaks() == []


@pytest.mark.parametrize("depth", [1, 2, 64])
def test_the_depth_can_be_chosen(simulated: SimulatedDevice, depth: int) -> None:
    def deeper(allocator: Allocator, more: int) -> Any:
        return deeper(allocator, more - 1) if more else make(allocator)

    with Allocator(simulated, track_call_sites=depth) as allocator:
        with deeper(allocator, 70):
            (leak,) = allocator.leaks()
        assert len((leak.call_site or "").split("\n")) == depth


@pytest.mark.parametrize("off", [False, 0, None])
def test_it_can_be_off(simulated: SimulatedDevice, off: Any) -> None:
    with Allocator(simulated, track_call_sites=off) as allocator:
        with make(allocator, name="a"), make(allocator, name="b"):
            leaks = allocator.leaks()
        assert [(it.name, it.call_site, it.age) for it in leaks] == [
            ("a", None, None),
            ("b", None, None),
        ]
        assert "track_call_sites=True" in str(leaks)
        assert str(allocator.leaks()) == "0 alive, 0 B"


@pytest.mark.parametrize(
    ("wrong", "error"),
    [(-1, InvalidArgumentError), (65, InvalidArgumentError), ("8", TypeError), (1.0, TypeError)],
)
def test_wrong_depths_are_refused(simulated: SimulatedDevice, wrong: Any, error: type) -> None:
    with pytest.raises(error, match="track_call_sites"):
        Allocator(simulated, track_call_sites=wrong)


def test_every_creating_call_has_its_site(tracked: Allocator) -> None:
    made: list[Any] = [
        tracked.create_buffer(64, TRANSFER),
        tracked.create_image(RGBA8, (4, 4), IMAGE_TRANSFER),
        tracked.allocate_memory(8192),
        *tracked.create_buffers([64, 64], TRANSFER),
        *tracked.create_images([(RGBA8, (4, 4), IMAGE_TRANSFER)]),
        *tracked.allocate_memory_pages(4096, 4096, 2),
    ]
    made.append(tracked.create_aliasing_buffer(made[2], 64, TRANSFER, name="alias"))
    leaks = tracked.leaks()
    assert len(leaks) == len(made) == len({it.serial for it in leaks})
    assert [it.serial for it in leaks] == sorted(it.serial for it in leaks)
    assert all(it.call_site and it.call_site.startswith(f"{HERE}:") for it in leaks)
    # One call is one site.
    assert len({it.call_site for it in leaks}) == 7
    kinds = ["Buffer", "Image", "Allocation", "Buffer", "Buffer", "Image", *["Allocation"] * 2]
    assert [it.kind for it in leaks] == [*kinds, "Buffer"]
    assert [it.is_alias for it in leaks] == [*[False] * 8, True]
    assert leaks.size == sum(getattr(it, "allocation", it).size for it in made[:-1])
    tracked.destroy_many(made)


def test_the_order_is_that_of_creation_though_places_are_used_again(tracked: Allocator) -> None:
    first = [make(tracked, name=str(i)) for i in range(5)]
    first.pop(1).destroy()
    first.pop(2).destroy()
    first += [make(tracked, name="new"), make(tracked, name="newer")]
    assert [it.name for it in tracked.leaks()] == ["0", "2", "4", "new", "newer"]
    ages = [it.age for it in tracked.leaks()]
    assert ages == sorted(ages, reverse=True) and all(age is not None and age >= 0 for age in ages)
    tracked.destroy_many(first)


def test_a_table_has_a_line_for_each_call_site(tracked: Allocator) -> None:
    made = [outer(tracked, name=f"n{i}") for i in range(3)]
    made.append(tracked.create_buffer(1 << 16, TRANSFER, name="<b>big\x1b[0m"))
    leaks = tracked.leaks()
    groups = leaks.groups()
    assert [len(it.leaks) for it in groups] == [1, 3]
    text = str(leaks)
    assert text.startswith("4 alive, 64.") and "'n0', 'n1', …" in text
    assert (
        f"called from {vk_mem.observe.tables.short_path(HERE)}:{line_of('outer')} in outer" in text
    )
    assert "\x1b" not in text and "<b>" not in leaks._repr_html_()
    tracked.destroy_many(made)


def test_a_long_table_is_cut(tracked: Allocator) -> None:
    made: list[Any] = []
    for number in range(30):
        scope: dict[str, Any] = {}
        exec(compile(f"{chr(10) * number}def f(g): return g()", "made.py", "exec"), scope)
        made.append(scope["f"](lambda: make(tracked)))
    text = str(tracked.leaks())
    assert "and 10 more places" in text and len(text.splitlines()) < 100
    tracked.destroy_many(made)


def test_code_that_is_gone_is_still_named(tracked: Allocator) -> None:
    scope: dict[str, Any] = {}
    exec(compile("def gone(f):\n    return f()\n", "/made/up.py", "exec"), scope)
    buffer = scope["gone"](lambda: make(tracked))
    scope.clear()
    gc.collect()
    assert "/made/up.py:2 in gone" in str(tracked.leaks()[0].call_site)
    buffer.destroy()


def test_odd_globals_do_no_harm(tracked: Allocator) -> None:
    class Loud(str):
        def __eq__(self, other: object) -> bool:
            raise AssertionError("tracking ran user code")

        __hash__ = str.__hash__
        startswith = __eq__  # type: ignore[assignment]

    made = []
    for name in (Loud("vk_mem.x"), 3, None, "\ud800"):
        scope: dict[str, Any] = {"__name__": name}
        exec(compile("def f(g): return g()", "odd\n.py", "exec"), scope)
        made.append(scope["f"](lambda: tracked.create_buffer(64, TRANSFER)))
    assert all("\n".join(str(it.call_site).split("\n")) for it in tracked.leaks())
    tracked.destroy_many(made)


def test_one_call_site_in_many_threads(tracked: Allocator) -> None:
    made: list[Any] = []

    def work() -> None:
        for _ in range(100):
            made.append(outer(tracked))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({it.call_site for it in tracked.leaks()}) == 1
    tracked.destroy_many(made)


def test_a_generator_and_a_finaliser_have_call_sites(tracked: Allocator) -> None:
    def generator() -> Any:
        yield make(tracked)

    made = [next(generator())]

    class Ends:
        def __del__(self) -> None:
            made.append(make(tracked))

    Ends()
    gc.collect()
    sites = [str(it.call_site) for it in tracked.leaks()]
    assert "generator" in sites[0] and "Ends.__del__" in sites[1]
    tracked.destroy_many(made)


def test_frames_of_the_package_are_left_out(tracked: Allocator) -> None:
    with vk_mem.BufferHeap(tracked, TRANSFER) as heap, heap.allocate(64):
        (leak,) = tracked.leaks()
        assert str(leak.call_site).startswith(f"{HERE}:")
        package = vk_mem.__file__.removesuffix("__init__.py")
        assert package not in str(leak.call_site)


# ---- warnings ----


def test_the_warning_of_a_collected_object_says_where(tracked: Allocator) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outer(tracked, name="lost")
        gc.collect()
    (warning,) = caught
    text = str(warning.message)
    assert "unclosed Buffer 'lost'" in text and "\n" not in text
    assert f"created at {HERE}:{line_of('make')} in make" in text
    assert f"called from {HERE}:{line_of('outer')} in outer" in text
    tracked.set_current_frame_index(9)


@pytest.mark.parametrize("owner", ["allocator", "pool"])
def test_the_warning_of_close_says_where(simulated: SimulatedDevice, owner: str) -> None:
    allocator = Allocator(simulated, track_call_sites=True)
    pool = allocator.create_pool(memory_type_index=0)
    made = [outer(allocator, name=f"left {i}") for i in range(2)]
    memory = allocator.allocate_memory(64, pool=pool, name="in the pool")
    with pytest.warns(ResourceWarning) as caught:
        (allocator if owner == "allocator" else pool).close()
    text = str(caught[0].message)
    if owner == "allocator":
        assert f"{HERE}:{line_of('make')} in make, called from" in text
        assert "Buffer 'left 0'" in text and "Buffer 'left 1'" in text
    assert "Allocation 'in the pool'" in text and "in test_the_warning_of_close_says_where" in text
    assert not memory.alive
    if owner == "pool":
        allocator.destroy_many(made)
    allocator.close()


def test_the_end_of_the_interpreter_says_where() -> None:
    done = run_python(
        """
        import vk_mem
        allocator = vk_mem.Allocator(vk_mem.SimulatedDevice(), track_call_sites=True)
        def forgetful():
            return allocator.create_buffer(64, vk_mem.BufferUsage.TRANSFER_DST, name="left")
        kept = forgetful()
        """,
        "-X",
        "dev",
    )
    assert done.returncode == 0, done.stderr
    assert "Buffer 'left'" in done.stderr and "in forgetful, called from" in done.stderr


def test_what_waits_for_its_frame_is_told(tracked: Allocator) -> None:
    retired = outer(tracked, name="retired")
    size = retired.allocation.size
    retired.retire()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        make(tracked)
        gc.collect()
    leaks = tracked.leaks()
    assert (len(leaks), leaks.waiting_count, leaks.waiting_size) == (0, 2, 2 * size)
    assert "2 retired or never closed" in str(leaks)
    # They still hold memory, and a dump says whose it is.
    sites = [region.call_site for _, _, region in tracked.snapshot().allocations()]
    assert all(str(site).startswith(f"{HERE}:{line_of('make')} in make\n") for site in sites)
    assert [region.usage for _, _, region in tracked.snapshot().allocations()] == [TRANSFER] * 2
    tracked.set_current_frame_index(9)
    assert (tracked.leaks().waiting_count, tracked.leaks().waiting_size) == (0, 0)
    assert list(tracked.snapshot().allocations()) == []


# ---- cost ----


def test_call_sites_are_kept_once(tracked: Allocator) -> None:
    """A loop adds no call sites: the dump has one text for all."""
    made = [make(tracked) for _ in range(200)]
    assert len(json.loads(tracked.build_stats_string())["CallSites"]["Sites"]) == 1
    tracked.destroy_many(made)


def test_the_age_grows(tracked: Allocator) -> None:
    with make(tracked):
        (first,) = tracked.leaks()
        time.sleep(0.01)
        (second,) = tracked.leaks()
        assert first.age is not None and second.age is not None
        assert second.age >= first.age + 0.01
