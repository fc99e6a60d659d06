"""A day of loading, streaming and unloading, with and without `auto_defragment`.

    .venv/bin/python bench/day_cases.py [quick] [NAME OF A PROFILE]

Needs the release build (`tools/setup.sh release`). Runs on the best device of the driver; with the
name of a profile on that simulated device. Sizes, blocks and the bytes that a frame may move are
divided by 16 on a processor, by 64 if quick, and not at all on a GPU with 32 GiB or more: there the
levels have 16 GiB. A frame is four buffers that are created or destroyed, and
`set_current_frame_index`.
"""

from __future__ import annotations

import sys

from day_trace import Day, day, spend
from report import Report

import vk_mem
from vk_mem import Device, SimulatedDevice

LEVEL = 16 << 30


def scale_of(device: Device, quick: bool) -> int:
    """What the sizes of the trace are divided by."""
    is_gpu = device.properties.device_type == "discrete"
    largest = max(it.size for it in device.memory_properties.memory_heaps)
    if is_gpu and largest >= 2 * LEVEL and not isinstance(device, SimulatedDevice):
        return 1
    return 64 if quick else 16


def late(it: Day) -> float:
    """The time within which all frames but one of a thousand end, in milliseconds."""
    return it.milliseconds[len(it.milliseconds) * 999 // 1000]


def main() -> None:
    quick = "quick" in sys.argv[1:]
    names = [it for it in sys.argv[1:] if it != "quick"]
    device = SimulatedDevice(names[0]) if names else vk_mem.Device.open()
    scale = scale_of(device, quick)
    phases = day(1 if quick else 3, LEVEL // scale, scale)
    frames = sum(len(it.steps) for it in phases) // 4
    report = Report()
    report.section(
        f"a day of loading, streaming and unloading on {device.properties.device_name}, "
        f"sizes divided by {scale}"
    )
    plain, tidied = (spend(device, phases, scale, auto=auto) for auto in (False, True))
    for name in ("load", "stream", "unload"):
        ours, theirs = tidied.of(name), plain.of(name)
        report.add(
            f"held over live, mean, {name}",
            frames,
            "x",
            {"ours": [it.mean for it in ours], "without": [it.mean for it in theirs]},
            at_most={"without": 1.0},
        )
    report.add(
        "held over live at the end of streaming",
        frames,
        "x",
        {
            "ours": [it.end for it in tidied.of("stream")],
            "without": [it.end for it in plain.of("stream")],
            "live": [1.0] * len(tidied.of("stream")),
        },
        at_most={"live": 1.1},
    )
    share = [tidied.moved / tidied.allocated]
    report.add("bytes moved over bytes created", frames, "x", {"ours": share, "created": [1.0]})
    slower = [max(late(tidied) - late(plain), 0.0)]
    report.add(
        "p99.9 of a frame, more than without",
        frames,
        "ms",
        {"ours": slower, "1 ms": [1.0], "without": [late(plain)]},
        at_most={"1 ms": 1.0},
    )
    report.merge()


if __name__ == "__main__":
    main()
