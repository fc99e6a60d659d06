"""Classifies a region by its use into one of a dozen kinds, each with a colour for pictures."""

from __future__ import annotations

from typing import NamedTuple

from vk_mem.dump.model import Region, ResourceClass
from vk_mem.flags import BufferUsage, ImageUsage


class Kind(NamedTuple):
    """A use of memory, with its title and colour."""

    key: str
    title: str
    colour: str
    """`#rrggbb`."""
    dark: str = ""
    """Another colour for dark backgrounds, if needed."""


# Buffers are blue to green, images yellow to red: the axis that red-green colour blindness keeps.
# A search over hues chose them, so that for every type of colour vision any two differ by at least
# what tests/test_view_colours.py requires.
KINDS = (
    Kind("vertex", "Vertex, index", "#1e55d8"),
    Kind("uniform", "Uniform", "#5bc0f0"),
    Kind("storage", "Storage", "#12908a"),
    Kind("transfer", "Transfer", "#afdbe8"),
    Kind("acceleration", "Ray tracing", "#1f3a70", "#2d4674"),
    Kind("buffer", "Other buffer", "#878fc8"),
    Kind("sampled", "Sampled image", "#f2b134"),
    Kind("attachment", "Attachment", "#cf602e"),
    Kind("storage-image", "Storage image", "#8c2a3c"),
    Kind("image", "Other image", "#f1d69c"),
    Kind("memory", "Plain memory", "#81529d"),
    Kind("free", "Free", "#f1f2f5"),
    # What is held back to find faults. Margins are thin: the strongest contrast to all others.
    Kind("margin", "Margin", "#14171c", "#fcfcfc"),
    Kind("quarantine", "In quarantine", "#b460fc"),
    # Kinds of a comparison of two dumps.
    Kind("same", "In both", "#9aa1ad"),
    Kind("gone", "Only before", "#cf602e"),
    Kind("new", "Only after", "#1e55d8"),
    Kind("moved", "Moved", "#12908a"),
)
NUMBER = {kind.key: number for number, kind in enumerate(KINDS)}
FREE, SAME, GONE, NEW, MOVED = (NUMBER[key] for key in ("free", "same", "gone", "new", "moved"))
MARGIN, QUARANTINE = NUMBER["margin"], NUMBER["quarantine"]
HELD = (MARGIN, QUARANTINE)
"""Kinds of what is neither in use nor free."""
USES = FREE
"""Number of kinds that stand for a use: those before `FREE`."""

IMAGES = {ResourceClass.IMAGE_UNKNOWN, ResourceClass.IMAGE_LINEAR, ResourceClass.IMAGE_OPTIMAL}

_B, _I = BufferUsage, ImageUsage
# Tried in order, first match wins: the most specific uses come first.
BUFFER_KINDS = (
    (
        int(
            _B.ACCELERATION_STRUCTURE_STORAGE_KHR
            | _B.ACCELERATION_STRUCTURE_BUILD_INPUT_READ_ONLY_KHR
            | _B.SHADER_BINDING_TABLE_KHR
            | _B.MICROMAP_STORAGE_EXT
            | _B.MICROMAP_BUILD_INPUT_READ_ONLY_EXT
        ),
        "acceleration",
    ),
    (int(_B.VERTEX_BUFFER | _B.INDEX_BUFFER), "vertex"),
    (int(_B.UNIFORM_BUFFER | _B.UNIFORM_TEXEL_BUFFER), "uniform"),
    (int(_B.STORAGE_BUFFER | _B.STORAGE_TEXEL_BUFFER | _B.INDIRECT_BUFFER), "storage"),
)
IMAGE_KINDS = (
    (
        int(
            _I.COLOR_ATTACHMENT
            | _I.DEPTH_STENCIL_ATTACHMENT
            | _I.TRANSIENT_ATTACHMENT
            | _I.INPUT_ATTACHMENT
            | _I.FRAGMENT_SHADING_RATE_ATTACHMENT_KHR
        ),
        "attachment",
    ),
    (int(_I.STORAGE), "storage-image"),
    (int(_I.SAMPLED), "sampled"),
)
TRANSFER = int(_B.TRANSFER_SRC | _B.TRANSFER_DST)

# Names of the bits of D3D12_RESOURCE_FLAGS.
D3D12_FLAGS = (
    "ALLOW_RENDER_TARGET",
    "ALLOW_DEPTH_STENCIL",
    "ALLOW_UNORDERED_ACCESS",
    "DENY_SHADER_RESOURCE",
    "ALLOW_CROSS_ADAPTER",
    "ALLOW_SIMULTANEOUS_ACCESS",
    "VIDEO_DECODE_REFERENCE_ONLY",
    "VIDEO_ENCODE_REFERENCE_ONLY",
    "RAYTRACING_ACCELERATION_STRUCTURE",
)


def kind_of(region: Region, api: str = "Vulkan") -> int:
    """Returns the index into `KINDS` for a region."""
    held, usage = region.resource_class, region.usage
    if held is ResourceClass.FREE:
        return FREE
    if held is ResourceClass.MARGIN:
        return MARGIN
    if held is ResourceClass.QUARANTINED:
        return QUARANTINE
    if held is ResourceClass.UNKNOWN:
        return NUMBER["memory"]
    image = held in IMAGES
    if api != "Vulkan":
        return NUMBER[_kind_in_d3d12(image, usage)]
    for bits, key in IMAGE_KINDS if image else BUFFER_KINDS:
        if usage & bits:
            return NUMBER[key]
    if image:
        return NUMBER["image"]
    return NUMBER["transfer" if usage and not usage & ~TRANSFER else "buffer"]


def _kind_in_d3d12(image: bool, usage: int) -> str:
    if usage & 0x100:
        return "acceleration"
    if not image:
        return "storage" if usage & 0x4 else "buffer"
    if usage & 0x3:
        return "attachment"
    if usage & 0x4:
        return "storage-image"
    return "image" if usage & 0x8 else "sampled"


def usage_text(region: Region, api: str = "Vulkan") -> str:
    """Names usage flags: `VERTEX_BUFFER, TRANSFER_DST`; unnamed bits in hexadecimal, "" for 0."""
    if not region.is_allocation or not region.usage:
        return ""
    if api != "Vulkan":
        names = {1 << bit: name for bit, name in enumerate(D3D12_FLAGS)}
    elif region.resource_class in IMAGES:
        names = {flag.value: flag.name or "" for flag in ImageUsage}
    elif region.resource_class is ResourceClass.BUFFER:
        names = {flag.value: flag.name or "" for flag in BufferUsage}
    else:
        names = {}
    rest, found = region.usage, []
    for bit, name in names.items():
        if rest & bit:
            found.append(name)
            rest &= ~bit
    if rest:
        found.append(f"0x{rest:x}")
    return ", ".join(found)
