"""The commands that read dumps: `view` and `stats`."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from vk_mem._files import open_regular_file
from vk_mem.cli.output import Json, fail, out, plain, print_json, show, table, working
from vk_mem.dump import Diff, DiffEntry, Dump, Figures, Heap, PoolDump, Region, diff, load_dump
from vk_mem.dump.read import LARGEST_FILE
from vk_mem.dump.words import debug_text
from vk_mem.errors import DumpError, TraceError, VkMemError
from vk_mem.observe.tables import (
    clean,
    count_text,
    percent,
    share_text,
    short_path,
    size_text,
    usage_text,
)
from vk_mem.text import counted
from vk_mem.trace import Trace
from vk_mem.trace import load as load_trace

T = TypeVar("T")
MOST_ROWS = 1000
"""Rows of a table; `--json` writes all of them."""
TRACES = (b"\x89VKMEM", b"Vulkan Memory Allocator,", b"Thread,Time,Action,", b"\x80")
"""First bytes of traces: our recordings, VMA's, RMM's, and pickles of PyTorch."""
FORMATS = {".html": "html", ".htm": "html", ".svg": "svg", ".png": "png"}

DumpPath = Annotated[
    str,
    typer.Argument(metavar="DUMP", help="JSON of build_stats_string, VMA or D3D12MA; - is stdin."),
]
Shown = Annotated[
    str,
    typer.Argument(
        metavar="DUMP",
        help="JSON of build_stats_string, VMA or D3D12MA, - is stdin; or a trace, for a timeline.",
    ),
]
Other = Annotated[
    str | None,
    typer.Option("--diff", metavar="OTHER", help="A later dump: show what is different there."),
]


def read(path: str) -> Dump:
    """Reads a dump from a path, or from standard input for `-`. On an error exits with one line."""
    try:
        if path != "-":
            return load_dump(Path(path))
        data = sys.stdin.buffer.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise DumpError(f"not a readable dump: it has more than {LARGEST_FILE} bytes")
        return load_dump(data)
    except DumpError as error:
        raise fail(f"{path}: {error}") from None
    except OSError as error:
        raise fail(f"{path or '.'}: {error.strerror or error}") from None


def read_trace(path: str, progress: Callable[[int, int], object]) -> Trace | None:
    """Reads a trace from a file of which the first bytes are one of our recordings, VMA's, RMM's or
    PyTorch's; None for any other file. On an error exits with one line."""

    def refuse(what: str) -> NoReturn:
        raise DumpError(what)

    try:
        with open_regular_file(path, refuse) as file:
            start = file.read(64)
    except (DumpError, OSError):
        # Reading it as a dump says what is wrong.
        return None
    if not start.startswith(TRACES):
        return None
    try:
        return load_trace(path, progress=progress)
    except (TraceError, OSError) as error:
        raise fail(f"{path}: {error}") from None


# ---- view ----


def view(
    dump: Shown,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Where to write; .html, .svg or .png. By default DUMP with the suffix .html.",
        ),
    ] = None,
    other: Other = None,
    title: Annotated[str | None, typer.Option(help="Of the picture.")] = None,
    json: Json = False,
) -> None:
    """Draw a dump, the difference of two, or a trace, as a page or a picture.

    Says where it was written. A .png needs Pillow: the extra "view" of vk-mem.
    """
    if dump == "-" and other == "-":
        raise typer.BadParameter("only one of the two dumps can be standard input")
    target = output_path(dump, output)
    kind = FORMATS[target.suffix.lower()]
    try:
        pictures = importlib.import_module("vk_mem.view")
    except ModuleNotFoundError as missing:
        raise fail(f"pictures need {missing.name}, which is not installed") from None
    with working() as work:
        work.step("reading")
        first: Dump | Trace
        if (trace := read_trace(dump, work.progress)) is not None:
            if kind != "html" or other is not None:
                raise fail("a trace is drawn as a page (.html), and not compared with a dump")
            first, second = trace, None
        else:
            first, second = read(dump), None if other is None else read(other)
        work.step("drawing")
        draw = getattr(pictures, kind)
        try:
            made: str | bytes = draw(first, other=second, title=title, progress=work.progress)
        except VkMemError as error:
            raise fail(str(error)) from None
        work.step("writing")
        data = made.encode() if isinstance(made, str) else made
        try:
            write(target, data)
        except OSError as error:
            raise fail(f"{target}: {error.strerror or error}") from None
    if json:
        print_json({"written": str(target.absolute()), "format": kind, "bytes": len(data)})
    else:
        line = f"wrote {clean(str(target))} ({size_text(len(data))})"
        out.print(line, markup=False, soft_wrap=True)


def output_path(dump: str, output: str | None) -> Path:
    """Returns the path of a picture. Raises if its suffix is not a known format."""
    if output is None:
        # A path without a file name, such as `/`, is refused when it is read.
        if dump == "-" or Path(dump).name in ("", ".."):
            return Path("vk-mem.html")
        return Path(dump).with_suffix(".html")
    target = Path(output)
    if target.suffix.lower() not in FORMATS:
        named = ", ".join(dict.fromkeys(f".{name}" for name in FORMATS.values()))
        raise typer.BadParameter(f"{output} ends in none of {named}", param_hint="'-o'")
    return target


def write(target: Path, data: bytes) -> None:
    """Writes a file atomically: a reader never sees half a picture."""
    number, name = tempfile.mkstemp(dir=target.parent, prefix=".vk-mem-")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


# ---- stats ----


def stats(
    dump: DumpPath,
    other: Other = None,
    names: Annotated[int, typer.Option(help="Names and call sites to list.", min=1)] = 15,
    json: Json = False,
) -> None:
    """Count a dump, or two: heaps, memory types, pools, the largest names, fragmentation.

    Fragmentation is 1 - largest unused range / all unused bytes.
    """
    if dump == "-" and other == "-":
        raise typer.BadParameter("only one of the two dumps can be standard input")
    with working() as work:
        work.step("reading")
        first = read(dump)
        second = None if other is None else read(other)
        work.step("counting")
        found = None if second is None else diff(first, second)
    if found is not None:
        if json:
            print_json(diff_json(found, names))
        else:
            print_diff(found, names)
    elif json:
        print_json(dump_json(first, names))
    else:
        print_dump(first, names)


@dataclass(frozen=True, slots=True)
class Unused:
    """Statistics of unused ranges."""

    bytes: int = 0
    largest: int = 0

    @property
    def fragmentation(self) -> float:
        return 1 - self.largest / self.bytes if self.bytes else 0.0


def unused_of(pool: PoolDump) -> Unused:
    sizes = [it.size for block in pool.blocks for it in block.regions if it.is_free]
    return Unused(sum(sizes), max(sizes, default=0))


def added(parts: Iterable[Unused]) -> Unused:
    parts = list(parts)
    return Unused(sum(it.bytes for it in parts), max((it.largest for it in parts), default=0))


def by_type(dump: Dump) -> dict[str, Unused]:
    """Sums unused ranges by memory type. Each type counts once, even if two heaps list it."""
    pools: dict[str, list[PoolDump]] = {}
    for pool in dump.pools:
        pools.setdefault(pool.type_name, []).append(pool)
    return {name: added(map(unused_of, some)) for name, some in pools.items()}


def of_heap(heap: Heap, unused: dict[str, Unused]) -> Unused:
    return added(unused.get(it.name, Unused()) for it in heap.memory_types)


def allocated(pool: PoolDump) -> list[Region]:
    """Returns the allocations of a pool."""
    in_blocks = [it for block in pool.blocks for it in block.allocations]
    return in_blocks + [it for it in pool.dedicated if it.is_allocation]


def dedicated_bytes(pool: PoolDump) -> int:
    """Returns the bytes of dedicated memory, with its margins and what is in quarantine."""
    return sum(it.size + sum(it.margins) for it in pool.dedicated)


def largest(
    regions: Iterable[Region], key: Callable[[Region], str | None], count: int
) -> list[tuple[str | None, int, int]]:
    """Groups regions by a key. Returns count and bytes of each group, most bytes first."""
    counts: Counter[str | None] = Counter()
    sizes: Counter[str | None] = Counter()
    for region in regions:
        counts[key(region)] += 1
        sizes[key(region)] += region.size
    order = sorted(sizes, key=lambda it: (-sizes[it], it or ""))
    return [(it, counts[it], sizes[it]) for it in order[:count]]


def name_of(region: Region) -> str | None:
    return region.name


def site_of(region: Region) -> str | None:
    return None if region.call_site is None else region.call_site.partition("\n")[0]


def print_dump(dump: Dump, names: int) -> None:
    total = dump.total
    out.print(
        plain(f"{dump.device or dump.api}{f', {dump.source}' if dump.source else ''}", "bold")
    )
    out.print(
        f"{counted(total.allocation_count, 'allocation', ',')} of "
        f"{size_text(total.allocation_bytes)} "
        f"in {counted(total.block_count, 'block', ',')} of {size_text(total.block_bytes)}"
    )
    if any(dump.debug):
        out.print(debug_text(dump.debug))
    unused = by_type(dump)
    show(heap_table(dump, unused), type_table(dump, unused))
    if not dump.detailed:
        out.print("\nnot a detailed dump: it has no pools and no names")
        return
    shown = [pool for pool in dump.pools if pool.blocks or pool.dedicated or pool.name is not None]
    if shown:
        show(pool_table(shown))
    regions = [region for _, _, region in dump.allocations()]
    if regions:
        columns = ("Name", "Count", "Size")
        show(largest_table("Largest names", columns, largest(regions, name_of, names)))
    if any(region.call_site for region in regions):
        columns = ("Created at", "Count", "Size")
        show(largest_table("Largest call sites", columns, largest(regions, site_of, names)))


def optional(size: int | None) -> str:
    return "-" if size is None else size_text(size)


def heap_table(dump: Dump, unused: dict[str, Unused]) -> Any:
    columns = ("Heap", "Size", "Budget", "Usage", "Used", "Blocks", "Allocated", "Fragm.")
    rows = table("Heaps", *columns, right=(1, 2, 3, 4, 5, 6, 7))
    for heap in listed(rows, dump.heaps):
        share = "-"
        if heap.budget is not None and heap.usage is not None:
            share = share_text(heap.usage, heap.budget)
        rows.add_row(
            plain(heap.name),
            optional(heap.size),
            optional(heap.budget),
            "-" if heap.usage is None else usage_text(heap.usage),
            share,
            size_text(heap.figures.block_bytes),
            size_text(heap.figures.allocation_bytes),
            percent(of_heap(heap, unused).fragmentation) if dump.detailed else "-",
        )
    return rows


def type_table(dump: Dump, unused: dict[str, Unused]) -> Any:
    columns = ("Type", "Blocks", "Size", "Count", "Allocated", "Smallest", "Largest", "Unused")
    rows = table("Memory types in use", *columns, right=(1, 2, 3, 4, 5, 6, 7))
    types = [it for heap in dump.heaps for it in heap.memory_types if it.figures.block_count]
    for memory_type in listed(rows, types):
        it = memory_type.figures
        rows.add_row(
            plain(memory_type.name),
            count_text(it.block_count),
            size_text(it.block_bytes),
            count_text(it.allocation_count),
            size_text(it.allocation_bytes),
            optional(it.allocation_size_min),
            optional(it.allocation_size_max),
            size_text(unused.get(memory_type.name, Unused()).bytes) if dump.detailed else "-",
        )
    return rows


def listed(rows: Any, given: Sequence[T]) -> Sequence[T]:
    """Cuts a table to `MOST_ROWS` rows and adds a last row that says how many are left out."""
    if len(given) > MOST_ROWS:
        rows.caption = f"and {len(given) - MOST_ROWS:,} more; --json has all"
        rows.caption_justify = "left"
    return given[:MOST_ROWS]


def pool_table(pools: list[PoolDump]) -> Any:
    columns = ("Pool", "Blocks", "Dedicated", "Allocated", "Unused", "Fragm.")
    rows = table("Pools", *columns, right=(1, 2, 3, 4, 5))
    for pool in listed(rows, pools):
        unused = unused_of(pool)
        rows.add_row(
            plain(pool.title),
            size_text(sum(block.size for block in pool.blocks)),
            size_text(dedicated_bytes(pool)),
            size_text(sum(it.size for it in allocated(pool))),
            size_text(unused.bytes),
            percent(unused.fragmentation),
        )
    return rows


def largest_table(
    title: str, columns: tuple[str, ...], found: list[tuple[str | None, int, int]]
) -> Any:
    rows = table(title, *columns, right=(1, 2))
    rows.columns[0].overflow = "fold"
    for name, count, size in found:
        shown = plain("none", "dim") if name is None else plain(short_path(name))
        rows.add_row(shown, count_text(count), size_text(size))
    return rows


# ---- the difference of two ----


def change(number: int) -> str:
    return f"{'+' if number > 0 else ''}{size_text(number)}"


def print_diff(found: Diff, names: int) -> None:
    a, b = found.a, found.b
    arrow = out.drawn("→", "->")
    out.print(plain(f"{a.source or 'before'} {arrow} {b.source or 'after'}", "bold"))
    rows = table("Heaps", "Heap", "Before", "After", "Change", "Blocks", right=(1, 2, 3, 4))
    before = {heap.name: heap.figures for heap in a.heaps}
    for heap in listed(rows, b.heaps):
        now, then = heap.figures, before.get(heap.name, NOTHING)
        rows.add_row(
            plain(heap.name),
            size_text(then.allocation_bytes),
            size_text(now.allocation_bytes),
            change(now.allocation_bytes - then.allocation_bytes),
            change(now.block_bytes - then.block_bytes),
        )
    show(rows)
    if any(a.debug) or any(b.debug):
        texts = dict.fromkeys((debug_text(a.debug), debug_text(b.debug)))
        out.print(f" {arrow} ".join(texts), soft_wrap=True)
    if not (a.detailed and b.detailed):
        out.print("\nnot both are detailed dumps: what is new and freed cannot be told")
        return
    parts = (("Only before: freed", found.only_in_a), ("Only after: new", found.only_in_b))
    for title, entries in parts:
        regions = [entry.region for entry in entries]
        if regions:
            columns = ("Name", "Count", "Size")
            show(largest_table(title, columns, largest(regions, name_of, names)))
    sites = [entry.region for entry in found.only_in_b if entry.region.call_site]
    if sites:
        columns = ("Created at", "Count", "Size")
        show(largest_table("New, by call site", columns, largest(sites, site_of, names)))
    freed, stayed, new = (sum_of(it) for it in (found.only_in_a, found.in_both, found.only_in_b))
    moved = f"{sum_of(tuple(it for _, it in found.moved))} moved, " if found.moved else ""
    out.print(f"\n{freed} freed, {stayed} stayed, {moved}{new} new", soft_wrap=True)


NOTHING = Figures(0, 0, 0, 0, 0)


def sum_of(entries: tuple[DiffEntry, ...]) -> str:
    return f"{count_text(len(entries))} ({size_text(sum(it.size for it in entries))})"


# ---- JSON ----


def figures_json(it: Figures) -> dict[str, Any]:
    return {name: getattr(it, name) for name in Figures.__slots__}


def unused_json(unused: Unused) -> dict[str, Any]:
    return {
        "unused_range_bytes": unused.bytes,
        "unused_range_size_max": unused.largest,
        "fragmentation": unused.fragmentation,
    }


def largest_json(found: list[tuple[str | None, int, int]], key: str) -> list[dict[str, Any]]:
    return [{key: name, "count": count, "bytes": size} for name, count, size in found]


def dump_json(dump: Dump, names: int) -> dict[str, Any]:
    by_name = by_type(dump)
    regions = [region for _, _, region in dump.allocations()]
    sites = [region for region in regions if region.call_site]

    def unused(here: Unused) -> dict[str, Any]:
        return unused_json(here) if dump.detailed else {}

    return {
        "api": dump.api,
        "device": dump.device,
        "detailed": dump.detailed,
        "debug": dump.debug._asdict(),
        "total": {**figures_json(dump.total), **unused(added(by_name.values()))},
        "heaps": [
            {
                "name": heap.name,
                "flags": heap.flags,
                "size": heap.size,
                "budget": heap.budget,
                "usage": heap.usage,
                **figures_json(heap.figures),
                **unused(of_heap(heap, by_name)),
                "types": [
                    {
                        "name": it.name,
                        "flags": it.flags,
                        **figures_json(it.figures),
                        **unused(by_name.get(it.name, Unused())),
                    }
                    for it in heap.memory_types
                ],
            }
            for heap in dump.heaps
        ],
        "pools": [
            {
                "type": pool.type_name,
                "name": pool.name,
                "block_count": len(pool.blocks) + len(pool.dedicated),
                "block_bytes": sum(it.size for it in pool.blocks) + dedicated_bytes(pool),
                "allocation_count": len(allocated(pool)),
                "allocation_bytes": sum(it.size for it in allocated(pool)),
                **unused_json(unused_of(pool)),
            }
            for pool in dump.pools
        ],
        "largest_names": largest_json(largest(regions, name_of, names), "name"),
        "largest_call_sites": largest_json(largest(sites, site_of, names), "call_site"),
    }


def diff_json(found: Diff, names: int) -> dict[str, Any]:
    def part(entries: tuple[DiffEntry, ...]) -> dict[str, Any]:
        regions = [entry.region for entry in entries]
        sites = [region for region in regions if region.call_site]
        return {
            "count": len(entries),
            "bytes": sum(entry.size for entry in entries),
            "largest_names": largest_json(largest(regions, name_of, names), "name"),
            "largest_call_sites": largest_json(largest(sites, site_of, names), "call_site"),
        }

    return {
        "before": figures_json(found.a.total),
        "after": figures_json(found.b.total),
        "debug_before": found.a.debug._asdict(),
        "debug_after": found.b.debug._asdict(),
        "detailed": found.a.detailed and found.b.detailed,
        "freed": part(found.only_in_a),
        "stayed": part(found.in_both),
        "new": part(found.only_in_b),
        "moved": part(tuple(after for _, after in found.moved)),
    }
