"""A flight along a river, through a landscape that is larger than the memory for its textures.

Run it with `python examples/renderer --out FOLDER`, or `python -m examples.renderer`; it needs the
packages `vulkan` and `numpy` and a Vulkan driver, and no window. `--help` lists what it can show.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack, closing
from pathlib import Path

import vulkan as vk

import vk_mem
from vk_mem import interop

from . import png
from .camera import Camera
from .frames import IN_FLIGHT, Frames
from .pipelines import Pipelines
from .streaming import Streamer
from .world import World

MIB = 1 << 20
SHEET = 12
"""Pictures on a contact sheet."""


def size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    found = int(width), int(height)
    if not all(16 <= it <= 4096 for it in found):
        raise argparse.ArgumentTypeError(f"{text}: width and height are 16 to 4096")
    return found


def budget(text: str) -> int:
    found = round(float(text.removesuffix("MiB")) * MIB)
    if found < MIB:
        raise argparse.ArgumentTypeError(f"{text}: it is 1MiB at least")
    return found


def count(text: str) -> int:
    found = int(text)
    if found < 1:
        raise argparse.ArgumentTypeError(f"{text}: it is 1 at least")
    return found


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="renderer", description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=count, default=300, help="how many (300)")
    parser.add_argument("--size", type=size, default=(320, 180), help="WIDTHxHEIGHT (320x180)")
    parser.add_argument("--out", type=Path, help="folder for a PNG of each frame")
    parser.add_argument("--contact-sheet", type=Path, metavar="FILE.png", help="frames on one PNG")
    parser.add_argument("--budget", type=budget, default=3 * MIB, help="of textures (3MiB)")
    parser.add_argument("--record", metavar="FILE.vkmem", help="records what is allocated")
    parser.add_argument(
        "--debug", action="store_true", help="margins and fills, checked in each frame"
    )
    parser.add_argument("--defragment", action="store_true", help="moves textures in each frame")
    parser.add_argument("--validation", action="store_true", help="with the validation layer")
    parser.add_argument("--seed", type=int, default=7, help="of the landscape (7)")
    parser.add_argument("--device", help="a part of the name of a Vulkan device")
    parser.add_argument("--report", action="store_true", help="prints the memory at the end, too")
    return parser


def main(arguments: list[str] | None = None) -> None:
    parser = options()
    given = parser.parse_args(arguments)
    if given.contact_sheet and not given.contact_sheet.parent.is_dir():
        parser.error(f"--contact-sheet: there is no folder {given.contact_sheet.parent}")
    device = vk_mem.Device.open(given.device, validation=given.validation)
    debug = None
    if given.debug:
        debug = vk_mem.Debug(
            fill="pattern",
            fill_on_free="pattern",
            detect_corruption=True,
            quarantine="2 frames",
            check="frame",
        )
    allocator = vk_mem.Allocator(
        device,
        frames_in_flight=IN_FLIGHT,
        preferred_block_size=4 * MIB,
        debug=debug,
        record=given.record,
    )
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
    with allocator:
        render(allocator, given)
    for message in device.validation_messages:
        print(message)
    if device.validation_messages:
        raise SystemExit(1)


def render(allocator: vk_mem.Allocator, given: argparse.Namespace) -> None:
    handle = interop.to_vulkan(allocator.device.handle, "VkDevice")
    world, aspect = World(given.seed), given.size[0] / given.size[1]
    shown = {given.frames * it // SHEET for it in range(SHEET)}
    kept: list[png.Texels] = []
    peak = moved = 0

    def take(frame: int, texels: png.Texels) -> None:
        if given.out:
            png.write(given.out / f"frame-{frame:04}.png", texels)
        if given.contact_sheet and frame in shown:
            kept.append(texels)

    start = time.perf_counter()
    with ExitStack() as made:
        pipelines = made.enter_context(closing(Pipelines(handle, given.size)))
        frames = made.enter_context(closing(Frames(allocator, handle, pipelines)))
        streamer = made.enter_context(
            closing(Streamer(allocator, handle, pipelines, world, given.budget, given.defragment))
        )
        made.callback(vk.vkDeviceWaitIdle, handle)
        for frame in range(given.frames):
            for done in frames.draw(frame, Camera(world, frame, aspect), streamer):
                take(*done)
            if given.defragment:
                run = allocator.defragment_step(MIB, pool=streamer.pool, algorithm="full")
                moved += run.allocations_moved
            peak = max(peak, allocator.calculate_statistics().total.block_bytes)
        for done in frames.rest():
            take(*done)
        report(allocator, given, streamer, time.perf_counter() - start, peak, moved)
    if given.contact_sheet:
        png.write(given.contact_sheet, png.contact_sheet(kept, 3))


def report(
    allocator: vk_mem.Allocator,
    given: argparse.Namespace,
    streamer: Streamer,
    seconds: float,
    peak: int,
    moved: int,
) -> None:
    total = allocator.calculate_statistics().total
    rows = {
        "device": allocator.device.properties.device_name,
        "frames": f"{given.frames} in {seconds:.1f} s",
        "uploaded": f"{streamer.uploaded / MIB:.1f} MiB",
        "texture budget": f"{given.budget / MIB:.1f} MiB",
        "textures": f"{streamer.cache.misses} loaded, {streamer.cache.evicted} evicted, "
        f"{streamer.coarser} drawn coarser",
        "moved": moved,
        "blocks": f"{total.block_count}, {total.block_bytes / MIB:.1f} MiB, "
        f"peak {peak / MIB:.1f} MiB",
    }
    for name, value in rows.items():
        print(f"{name:<16}{value}")
    if given.report:
        print(allocator.calculate_statistics())
