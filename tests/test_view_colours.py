"""Pictures of memory: kinds, their colours, and formatted sizes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from pictures import FREE, IMAGE, MIB, region

from vk_mem import text as words
from vk_mem.dump import Region, ResourceClass, kinds
from vk_mem.view import theme

# ---- colours ----

# Linear RGB as those see it who lack one kind of cone: Machado, Oliveira and Fernandes 2009.
BLIND = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}


def oklab(colour: str, matrix: Any) -> tuple[float, float, float]:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    r, g, b = (
        min(max(sum(f * p for f, p in zip(row, linear, strict=True)), 0), 1) for row in matrix
    )
    long = (0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b) ** (1 / 3)
    middle = (0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b) ** (1 / 3)
    short = (0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short,
    )


def apart(one: str, other: str, matrix: Any) -> float:
    a, b = oklab(one, matrix), oklab(other, matrix)
    return float(sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) ** 0.5)


@pytest.mark.parametrize("sight", BLIND)
@pytest.mark.parametrize("dark", [False, True])
def test_colours_can_be_told_apart(sight: str, dark: bool) -> None:
    colours = theme.kind_colours(dark)
    for group in (range(kinds.USES), (kinds.SAME, kinds.GONE, kinds.NEW, kinds.MOVED)):
        for a, b in itertools.combinations([*group, kinds.FREE], 2):
            distance = apart(colours[a], colours[b], BLIND[sight])
            assert distance > 0.085, (kinds.KINDS[a].key, kinds.KINDS[b].key, round(distance, 3))


@pytest.mark.parametrize("colours", [theme.LIGHT, theme.DARK])
def test_texts_can_be_read(colours: dict[str, str]) -> None:
    for ink in ("ink", "quiet", "alarm", "accent"):
        for ground in ("ground", "panel"):
            assert theme.contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    for colour in theme.kind_colours(colours is theme.DARK):
        assert theme.contrast(theme.ink_on(colour), colour) >= 4.4, colour


# ---- kinds and texts ----


@pytest.mark.parametrize(
    ("held", "usage", "key"),
    [
        (ResourceClass.BUFFER, 0x80 | 0x20, "vertex"),
        (ResourceClass.BUFFER, 0x40 | 0x2, "vertex"),
        (ResourceClass.BUFFER, 0x10 | 0x20, "uniform"),
        (ResourceClass.BUFFER, 0x20 | 0x3, "storage"),
        (ResourceClass.BUFFER, 0x3, "transfer"),
        (ResourceClass.BUFFER, 0x100000 | 0x20, "acceleration"),
        (ResourceClass.BUFFER, 0, "buffer"),
        (ResourceClass.BUFFER, 1 << 60, "buffer"),
        (ResourceClass.IMAGE_OPTIMAL, 0x4 | 0x2, "sampled"),
        (ResourceClass.IMAGE_LINEAR, 0x4 | 0x10, "attachment"),
        (ResourceClass.IMAGE_UNKNOWN, 0x4 | 0x8, "storage-image"),
        (ResourceClass.IMAGE_OPTIMAL, 0x3, "image"),
        (ResourceClass.UNKNOWN, 0xFF, "memory"),
        (ResourceClass.FREE, 0, "free"),
    ],
)
def test_kinds_of_vulkan(held: ResourceClass, usage: int, key: str) -> None:
    assert kinds.KINDS[kinds.kind_of(Region(0, 1, held, usage))].key == key


@pytest.mark.parametrize(
    ("held", "usage", "key", "flags"),
    [
        (IMAGE, 0x1, "attachment", "ALLOW_RENDER_TARGET"),
        (IMAGE, 0x4, "storage-image", "ALLOW_UNORDERED_ACCESS"),
        (IMAGE, 0, "sampled", ""),
        (IMAGE, 0x8, "image", "DENY_SHADER_RESOURCE"),
        (ResourceClass.BUFFER, 0x104, "acceleration", "ALLOW_UNORDERED_ACCESS, RAYTRACING"),
        (ResourceClass.BUFFER, 0x4, "storage", "ALLOW_UNORDERED_ACCESS"),
        (ResourceClass.BUFFER, 0, "buffer", ""),
        (FREE, 0, "free", ""),
    ],
)
def test_kinds_of_direct3d(held: ResourceClass, usage: int, key: str, flags: str) -> None:
    it = Region(0, 1, held, usage)
    assert kinds.KINDS[kinds.kind_of(it, "Direct3D 12")].key == key
    assert kinds.usage_text(it, "Direct3D 12").startswith(flags)


def test_usages_are_named() -> None:
    assert kinds.usage_text(region(0, 1, 0)) == "TRANSFER_DST, VERTEX_BUFFER"
    assert kinds.usage_text(region(0, 1, 5)) == "COLOR_ATTACHMENT"
    assert kinds.usage_text(Region(0, 1, IMAGE, 4 | 1 << 62)) == "SAMPLED, 0x4000000000000000"


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (MIB - 1, "1 MiB"),
        (2**40, "1 TiB"),
        (2**64 - 1, "16 EiB"),
    ],
)
def test_sizes(size: int, shown: str) -> None:
    assert words.size_text(size) == shown


def test_percents_do_not_lie() -> None:
    shown = [words.percent(part, 1000) for part in (0, 1, 10, 999, 1000, 2000)]
    assert shown == ["0 %", "< 1 %", "1 %", "99 %", "100 %", "200 %"]
    assert words.percent(0, 0) == "0 %"
