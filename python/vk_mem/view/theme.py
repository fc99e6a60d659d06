"""Colours for light and dark backgrounds, apart from those of the kinds."""

from __future__ import annotations

from vk_mem.dump.kinds import FREE, KINDS

LIGHT = {
    "ground": "#ffffff",
    "ink": "#1b1f27",
    "quiet": "#626c7c",
    "alarm": "#b42318",
    "track": "#e6e9ee",
    "allocated": "#3d4757",
    "margin": "#14171c",
    "quarantine": "#b460fc",
    "reserved": "#a3adbc",
    "foreign": "#cdb8dc",
    "budget": "#d9542b",
    "fragmented": "#7b8698",
    "free": "#f4f5f8",
    "hatch": "#e0e3e9",
    "edge": "#c9ced7",
    "panel": "#f8f9fb",
    "accent": "#2559c0",
    "chosen": "#e3ebfb",
    "dimmed": "#dcdfe5",
}
DARK = {
    "ground": "#14171c",
    "ink": "#e7eaf0",
    "quiet": "#98a2b3",
    "alarm": "#ff8f7a",
    "track": "#2a303a",
    "allocated": "#c9d1de",
    "margin": "#fcfcfc",
    "quarantine": "#b460fc",
    "reserved": "#6b7686",
    "foreign": "#6d5680",
    "budget": "#ff8a5c",
    "fragmented": "#98a2b3",
    "free": "#1d2229",
    "hatch": "#2a313b",
    "edge": "#3b4350",
    "panel": "#191d23",
    "accent": "#86acff",
    "chosen": "#25314a",
    "dimmed": "#343b46",
}


def kind_colours(dark: bool) -> list[str]:
    """Returns one colour for each of `KINDS`."""
    return [
        (DARK if dark else LIGHT)["free"]
        if number == FREE
        else kind.dark
        if dark and kind.dark
        else kind.colour
        for number, kind in enumerate(KINDS)
    ]


def luminance(colour: str) -> float:
    """Returns the relative luminance of `#rrggbb` as defined by WCAG 2."""
    parts = []
    for start in (1, 3, 5):
        value = int(colour[start : start + 2], 16) / 255
        parts.append(value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4)
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: str, other: str) -> float:
    """Returns the contrast ratio as defined by WCAG 2: from 1 (equal) to 21 (black on white)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


ON_LIGHT, ON_DARK = "#14171c", "#ffffff"


def ink_on(colour: str) -> str:
    """Returns a readable text colour for a background: nearly black or white."""
    return max((ON_LIGHT, ON_DARK), key=lambda ink: contrast(ink, colour))
