"""Parses names of flags and enumeration values: Vulkan's, this package's, and WebGPU's formats.

Only used for arguments that are texts or lists; integers and flags take another path.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from functools import cache
from itertools import islice, product

from vk_mem import flags
from vk_mem.errors import InvalidArgumentError
from vk_mem.text import nearest, with_article

__all__ = ["number_of_names"]

_PREFIXES = {
    "AllocationCreateFlags": "VMA_ALLOCATION_CREATE_",
    "BufferCreateFlags": "VK_BUFFER_CREATE_",
    "BufferUsage": "VK_BUFFER_USAGE_",
    "DefragmentationMoveOperation": "VMA_DEFRAGMENTATION_MOVE_OPERATION_",
    "DeviceFaultAddressType": "VK_DEVICE_FAULT_ADDRESS_TYPE_",
    "DeviceType": "VK_PHYSICAL_DEVICE_TYPE_",
    "ExternalMemoryHandleType": "VK_EXTERNAL_MEMORY_HANDLE_TYPE_",
    "Format": "VK_FORMAT_",
    "ImageCreateFlags": "VK_IMAGE_CREATE_",
    "Filter": "VK_FILTER_",
    "ImageAspect": "VK_IMAGE_ASPECT_",
    "ImageLayout": "VK_IMAGE_LAYOUT_",
    "ImageTiling": "VK_IMAGE_TILING_",
    "ImageType": "VK_IMAGE_TYPE_",
    "ImageUsage": "VK_IMAGE_USAGE_",
    "MemoryHeapFlags": "VK_MEMORY_HEAP_",
    "MemoryPropertyFlags": "VK_MEMORY_PROPERTY_",
    "MemoryUsage": "VMA_MEMORY_USAGE_",
    "QueueFlags": "VK_QUEUE_",
    "SampleCount": "VK_SAMPLE_COUNT_",
    "SharingMode": "VK_SHARING_MODE_",
}
# `_BIT` at the end of a C name, or before its vendor suffix.
_BIT = re.compile(r"_BITS?(?=_[A-Z]+$|$)")
# The prefix that our names need because a Python name cannot begin with a digit.
_BEFORE_DIGIT = re.compile(r"^(?:COUNT|TYPE|CREATE)_(?=\d)")
# Most items of a list: more than any class has flags.
_MOST = 256
# Names in WebGPU and everyday speech, for the hints of errors.
_MEANT = {
    "COPY_SRC": "TRANSFER_SRC",
    "COPY_DST": "TRANSFER_DST",
    "RENDER_ATTACHMENT": "COLOR_ATTACHMENT",
    "TEXTURE_BINDING": "SAMPLED",
    "STORAGE_BINDING": "STORAGE",
    "COHERENT": "HOST_COHERENT",
    "GPU": "GPU_ONLY",
    "CPU": "CPU_ONLY",
    "DEPTH24PLUS": "depth24plus-stencil8",
}
_KINDS = {
    "unorm": "UNORM",
    "snorm": "SNORM",
    "uint": "UINT",
    "sint": "SINT",
    "float": "SFLOAT",
    "ufloat": "UFLOAT",
}


def number_of_names(value: object, kind: str, argument: str) -> int:
    """Converts names to a number: `"VERTEX_BUFFER|TRANSFER_DST"`, or a list of names and numbers.

    `kind` is a class of `vk_mem.flags`; errors begin with `argument`. Case is ignored, and prefixes
    are optional: `"vk_format_r8_unorm"`. An enumeration takes one name.

    Raises `InvalidArgumentError` for an unknown name, with the most similar ones; `TypeError` for
    anything that is not a name.
    """
    cls: type[enum.IntEnum] | type[enum.IntFlag] = getattr(flags, kind)
    if isinstance(value, str):
        parts = value.replace(",", "|").split("|") if issubclass(cls, enum.IntFlag) else [value]
        number = 0
        for part in parts:
            number |= _number_of(part, kind, argument)
        return number
    if not issubclass(cls, enum.IntFlag) or not isinstance(value, Iterable) or _is_bytes(value):
        raise TypeError(
            f"{argument} must be an integer or a name of {kind}, not {type(value).__name__}"
        )
    number = 0
    for index, item in enumerate(islice(value, _MOST + 1)):
        if index == _MOST:
            raise InvalidArgumentError(f"{argument} has more than {_MOST} items")
        if isinstance(item, str):
            number |= number_of_names(item, kind, argument)
        elif isinstance(item, bool) or not isinstance(item, int):
            what = with_article(type(item).__name__)
            raise TypeError(f"{argument}: {what} is neither a name nor a number of {kind}")
        elif type(item).__module__.startswith("vk_mem.flags") and type(item) is not cls:
            what = with_article(type(item).__name__)
            raise TypeError(f"{argument} has {what} in it; it takes {kind}")
        else:
            number |= int(item)
    return number


def _is_bytes(value: object) -> bool:
    return isinstance(value, bytes | bytearray | memoryview)


def _number_of(text: str, kind: str, argument: str) -> int:
    found = _names(kind).get(_key(text, kind))
    if found is not None:
        return found[1]
    raise InvalidArgumentError(f"{argument}: {kind} has no name {text[:80]!r}{_hint(text, kind)}")


def _key(text: str, kind: str) -> str:
    """Reduces a name to its letters and digits, without the prefix and suffix of its C name."""
    name = text.strip().upper().replace("-", "_").replace(" ", "_")
    name = name.removeprefix(f"{kind.upper()}.").removeprefix(_PREFIXES[kind])
    if kind == "BufferUsage" and text.strip().upper().startswith("VK_"):
        name = name.removeprefix("2_")
    return _BIT.sub("", name).replace("_", "")


@cache
def _names(kind: str) -> dict[str, tuple[str, int]]:
    """Maps each reduced name (see `_key`) to its usual spelling and its value."""
    found = {}
    cls: type[enum.IntEnum] | type[enum.IntFlag] = getattr(flags, kind)
    for name, member in cls.__members__.items():
        for written in {name, _BEFORE_DIGIT.sub("", name)}:
            found[written.upper().replace("_", "")] = name, int(member)
    if kind == "Format":
        for name, of_vulkan in _webgpu_formats().items():
            found[name.upper().replace("-", "")] = name, int(flags.Format[of_vulkan])
    if kind == "AllocationCreateFlags":
        for name in ("MIN_MEMORY", "MIN_TIME", "MIN_OFFSET"):
            strategy = flags.AllocationCreateFlags[f"STRATEGY_{name}"]
            found[name.replace("_", "")] = strategy.name or name, int(strategy)
    return found


def _webgpu_formats() -> dict[str, str]:
    """Maps names of `GPUTextureFormat`, and others built the same way, to Vulkan's. Without
    `depth24plus`, which may be one of two Vulkan formats."""
    found = {}
    for channels, bits, kind in product(("r", "rg", "rgb", "rgba", "bgra"), (8, 16, 32), _KINDS):
        colours = "".join(f"{it.upper()}{bits}" for it in channels)
        name = f"{colours}_{_KINDS[kind]}"
        if name in flags.Format.__members__:
            found[f"{channels}{bits}{kind}"] = name
        if kind == "unorm" and f"{colours}_SRGB" in flags.Format.__members__:
            found[f"{channels}{bits}unorm-srgb"] = f"{colours}_SRGB"
    for kind in ("unorm", "uint"):
        found[f"rgb10a2{kind}"] = f"A2B10G10R10_{_KINDS[kind]}_PACK32"
    found |= {
        "rg11b10ufloat": "B10G11R11_UFLOAT_PACK32",
        "rgb9e5ufloat": "E5B9G9R9_UFLOAT_PACK32",
        "stencil8": "S8_UINT",
        "depth16unorm": "D16_UNORM",
        "depth24plus-stencil8": "D24_UNORM_S8_UINT",
        "depth32float": "D32_SFLOAT",
        "depth32float-stencil8": "D32_SFLOAT_S8_UINT",
        "bc4-r-unorm": "BC4_UNORM_BLOCK",
        "bc4-r-snorm": "BC4_SNORM_BLOCK",
        "bc5-rg-unorm": "BC5_UNORM_BLOCK",
        "bc5-rg-snorm": "BC5_SNORM_BLOCK",
        "bc6h-rgb-ufloat": "BC6H_UFLOAT_BLOCK",
        "bc6h-rgb-float": "BC6H_SFLOAT_BLOCK",
        "eac-r11unorm": "EAC_R11_UNORM_BLOCK",
        "eac-r11snorm": "EAC_R11_SNORM_BLOCK",
        "eac-rg11unorm": "EAC_R11G11_UNORM_BLOCK",
        "eac-rg11snorm": "EAC_R11G11_SNORM_BLOCK",
    }
    compressed = {
        "bc1-rgba-unorm": "BC1_RGBA",
        "bc2-rgba-unorm": "BC2",
        "bc3-rgba-unorm": "BC3",
        "bc7-rgba-unorm": "BC7",
        "etc2-rgb8unorm": "ETC2_R8G8B8",
        "etc2-rgb8a1unorm": "ETC2_R8G8B8A1",
        "etc2-rgba8unorm": "ETC2_R8G8B8A8",
    }
    for size in re.findall(r"ASTC_(\d+x\d+)_UNORM_BLOCK ", " ".join(flags.Format.__members__)):
        compressed[f"astc-{size}-unorm"] = f"ASTC_{size}"
    for name, of_vulkan in compressed.items():
        found[name] = f"{of_vulkan}_UNORM_BLOCK"
        found[f"{name}-srgb"] = f"{of_vulkan}_SRGB_BLOCK"
    return found


_ARGUMENTS = {"BufferUsage": "buffer_usage", "ImageUsage": "image_usage"}


def _hint(text: str, kind: str) -> str:
    """Suggests similar names for an unknown one, or the class that has it; "" for none."""
    name = text.strip().upper().replace("-", "_")
    names, key = _names(kind), _key(text, kind)
    meant = _MEANT.get(name)
    if meant is not None and _key(meant, kind) in names:
        return f"; did you mean {meant!r}?"
    for other in _PREFIXES:
        if other != kind and _key(text, other) in _names(other):
            where = _ARGUMENTS.get(other)
            return f": that is one of {other}" + (f", as {where}= takes" if where else "")
    # Names that begin with the text come before those that are only similar.
    near = [it for it in names if len(key) > 2 and it.startswith(key)]
    near += nearest(key, names)
    near += [it for it in names if len(key) > 3 and key in it]
    written = list(dict.fromkeys(names[it][0] for it in near))[:3]
    return f"; did you mean {' or '.join(map(repr, written))}?" if written else ""
