"""Time and file size of pictures of memory: `python bench/picture_cases.py [quick]`.

Draws 2,000, 100,000 and 1,000,000 allocations (quick: 2,000 and 20,000) as SVG, PNG and HTML page,
and prints a table. If matplotlib is installed, it draws the same rectangles as SVG in the same run:
a ratio of our time to its time is below 1 if ours is better.
"""

from __future__ import annotations

import gc
import io
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from report import Report

import vk_mem
from vk_mem.dump import Block, Dump, Figures, Heap, MemoryType, PoolDump, Region, ResourceClass

MIB = 1 << 20
BLOCK = 256 * MIB
OF_A_BLOCK = 5_000
USES = (
    (ResourceClass.BUFFER, vk_mem.BufferUsage.VERTEX_BUFFER),
    (ResourceClass.BUFFER, vk_mem.BufferUsage.UNIFORM_BUFFER),
    (ResourceClass.BUFFER, vk_mem.BufferUsage.STORAGE_BUFFER),
    (ResourceClass.BUFFER, vk_mem.BufferUsage.TRANSFER_SRC),
    (ResourceClass.IMAGE_OPTIMAL, vk_mem.ImageUsage.SAMPLED),
    (ResourceClass.IMAGE_OPTIMAL, vk_mem.ImageUsage.COLOR_ATTACHMENT),
)


def make_dump(count: int) -> Dump:
    """Returns a dump of `count` allocations of random sizes in blocks of 256 MiB, with gaps."""
    dice = random.Random(count)
    blocks_wanted = max(count // OF_A_BLOCK, 8)
    blocks, made = [], 0
    for number in range(blocks_wanted):
        here = (count - made) // (blocks_wanted - number)
        made += here
        sizes = [dice.lognormvariate(0, 1.5) for _ in range(here)]
        scale = 0.85 * BLOCK / sum(sizes)
        regions, end = [], 0
        for index, size in enumerate(sizes):
            held, usage = USES[dice.randrange(len(USES))]
            length = max(int(size * scale) // 256 * 256, 256)
            name = f"{held.value} {number}.{index}"
            regions.append(Region(end, length, held, int(usage), name, type_name=held.name))
            end += length
            if dice.random() < 0.2:
                gap = max(int(dice.random() * 0.1 * length) // 256 * 256, 256)
                regions.append(Region(end, gap, ResourceClass.FREE, type_name="FREE"))
                end += gap
        size = max(BLOCK, end)
        if end < size:
            regions.append(Region(end, size - end, ResourceClass.FREE, type_name="FREE"))
        blocks.append(Block(str(number), size, tuple(regions)))
    held_bytes = sum(block.size for block in blocks)
    used = sum(block.allocated for block in blocks)
    figures = Figures(len(blocks), held_bytes, count, used, 0)
    types = (MemoryType("Type 0", ("DEVICE_LOCAL",), figures),)
    heap = Heap("Heap 0", (), 2 * held_bytes, 2 * held_bytes, held_bytes, figures, types)
    pool = PoolDump("Type 0", None, BLOCK, (), tuple(blocks), ())
    return Dump("Vulkan", "Benchmark", {}, figures, (heap,), (pool,), True)


def matplotlib_svg(dump: Dump) -> bytes | None:
    """Draws the rectangles of a dump with matplotlib; returns None if that is not installed."""
    try:
        import matplotlib

        matplotlib.use("svg")
        from matplotlib import pyplot
    except ImportError:
        return None
    figure, axes = pyplot.subplots(figsize=(10, 6))
    for pool in dump.pools:
        for row, block in enumerate(pool.blocks):
            used = [it for it in block.regions if not it.is_free]
            spans = [(it.offset, it.size) for it in used]
            axes.broken_barh(spans, (row, 0.8), facecolors=[f"C{it.usage % 10}" for it in used])
    file = io.BytesIO()
    figure.savefig(file, format="svg")
    pyplot.close(figure)
    return file.getvalue()


def measured(draw: Callable[[], str | bytes | None], times: int) -> tuple[float, int] | None:
    """Returns the median CPU time in milliseconds, and the size in bytes."""
    taken, size = [], 0
    for _ in range(times):
        gc.collect()
        began = time.process_time()
        made = draw()
        taken.append((time.process_time() - began) * 1000)
        if made is None:
            return None
        size = len(made.encode()) if isinstance(made, str) else len(made)
    return statistics.median(taken), size


def rows_of(count: int) -> list[dict[str, Any]]:
    """Measures all outputs for a number of allocations."""
    dump = make_dump(count)
    times = 7 if count <= 2000 else 3 if count <= 100_000 else 1
    peer = None
    if count <= 2000:
        matplotlib_svg(dump)  # Its one-time setup is not measured.
        peer = measured(lambda: matplotlib_svg(dump), times)
    rows = []
    outputs: list[tuple[str, Callable[[], str | bytes]]] = [
        ("svg", lambda: vk_mem.view.svg(dump)),
        ("html", lambda: vk_mem.view.html(dump)),
        ("summary_html", lambda: vk_mem.view.summary_html(dump)),
    ]
    try:
        vk_mem.view.png(make_dump(10))
        outputs.insert(1, ("png", lambda: vk_mem.view.png(dump)))
    except vk_mem.FeatureNotPresentError as error:
        print(f"no figures of PNG: {error}")
    for name, draw in outputs:
        found = measured(draw, times)
        assert found is not None
        beside = peer if name == "svg" else None
        for what, unit, index, scale in (("time", "ms", 0, 1), ("size", "kB", 1, 1000)):
            ours = found[index] / scale
            peers = {"matplotlib": round(beside[index] / scale, 2)} if beside else {}
            ratio = {key: round(ours / value, 4) for key, value in peers.items()}
            rows.append(
                {
                    "case": f"picture {name} {what}",
                    "n": count,
                    "ours": round(ours, 2),
                    "peers": peers,
                    "ratio": ratio,
                    "unit": unit,
                }
            )
    return rows


def main() -> None:
    quick = "quick" in sys.argv[1:]
    rows = []
    print("\npictures of memory, processor time and size")
    print(f"{'picture':<28}{'allocations':>12}{'ours':>12}{'matplotlib':>14}{'ratio':>9}")
    for count in (2_000, 20_000) if quick else (2_000, 100_000, 1_000_000):
        for row in rows_of(count):
            rows.append(row)
            peer = row["peers"].get("matplotlib")
            beside = f"{peer:>11,.1f} {row['unit']}{row['ratio']['matplotlib']:>9}" if peer else ""
            ours = f"{row['ours']:>9,.1f} {row['unit']}"
            print(f"{row['case'][8:]:<28}{count:>12,}{ours:>12}{beside}", flush=True)
    report = Report()
    report.take(rows)
    report.merge()


if __name__ == "__main__":
    main()
