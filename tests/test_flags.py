"""Values of the flags, compared with the binding `vulkan` and with the engine."""

from __future__ import annotations

import enum
import importlib
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from vk_mem import flags
from vk_mem.flags import (
    AllocationCreateFlags,
    BufferUsage,
    Format,
    ImageCreateFlags,
    ImageType,
    MemoryUsage,
    SampleCount,
)

REQUEST_RS = Path(__file__).parents[1] / "crates" / "engine" / "src" / "request.rs"

# Class -> prefixes of its constants in C. The second one, if any, is of the 64-bit flags.
PREFIXES = {
    flags.BufferUsage: ("VK_BUFFER_USAGE_", "VK_BUFFER_USAGE_2_"),
    flags.BufferCreateFlags: ("VK_BUFFER_CREATE_",),
    flags.ImageUsage: ("VK_IMAGE_USAGE_",),
    flags.ImageCreateFlags: ("VK_IMAGE_CREATE_",),
    flags.ImageType: ("VK_IMAGE_TYPE_",),
    flags.ImageTiling: ("VK_IMAGE_TILING_",),
    flags.ImageAspect: ("VK_IMAGE_ASPECT_",),
    flags.Filter: ("VK_FILTER_",),
    flags.ImageLayout: ("VK_IMAGE_LAYOUT_",),
    flags.Format: ("VK_FORMAT_",),
    flags.SampleCount: ("VK_SAMPLE_COUNT_",),
    flags.SharingMode: ("VK_SHARING_MODE_",),
    flags.MemoryPropertyFlags: ("VK_MEMORY_PROPERTY_",),
    flags.MemoryHeapFlags: ("VK_MEMORY_HEAP_",),
    flags.ExternalMemoryHandleType: ("VK_EXTERNAL_MEMORY_HANDLE_TYPE_",),
    flags.QueueFlags: ("VK_QUEUE_",),
    flags.DeviceFaultAddressType: ("VK_DEVICE_FAULT_ADDRESS_TYPE_",),
    flags.DeviceType: ("VK_PHYSICAL_DEVICE_TYPE_",),
}
# Its generator counts the extensions wrongly here: the C header has 1000164003 and 1000015000.
WRONG_IN_VULKAN = {
    "VK_IMAGE_LAYOUT_FRAGMENT_SHADING_RATE_ATTACHMENT_OPTIMAL_KHR",
    "VK_FILTER_CUBIC_EXT",
}
NOT_A_MEMBER = re.compile(
    r"_(BEGIN_RANGE|END_RANGE|RANGE_SIZE|MAX_ENUM|ASPECT_NONE|ASPECT_NONE_KHR)$|_RESERVED_|_FEATURE_|_SCI_BUF_|^VK_QUEUE_(GLOBAL|FAMILY)_"
)
VENDOR = re.compile(r"_(AMD|AMDX|ANDROID|ARM|EXT|FUCHSIA|HUAWEI|IMG|KHR|NV|OHOS|QCOM|QNX)$")
EVERY_CLASS = [getattr(flags, name) for name in flags.__all__]


def c_names(cls: type[enum.Enum], name: str) -> list[str]:
    """The names that a member can have in C: with and without `_BIT`, with each prefix."""
    names = []
    for prefix in PREFIXES[cls]:
        # COUNT_1, TYPE_2D and CREATE_2D_ARRAY_COMPATIBLE keep the word before a digit.
        word = prefix.rstrip("_").rpartition("_")[2] + "_"
        bare = name.removeprefix(word) if name.removeprefix(word)[:1].isdigit() else name
        stem, vendor = VENDOR.sub("", bare), VENDOR.search(bare)
        tag = vendor[0] if vendor else ""
        names += [prefix + bare, f"{prefix}{stem}_BIT{tag}"]
    return names


@pytest.fixture(scope="module")
def vulkan() -> Any:
    return pytest.importorskip("vulkan", exc_type=(ImportError, OSError))


@pytest.fixture(scope="module")
def volkano() -> Any:
    """The binding that takes its values from the `vk.xml` of the package `vulkan-object`."""
    vulkan_object = pytest.importorskip("vulkan_object")
    pytest.importorskip("volkano")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOLKANO_XML", str(Path(vulkan_object.__file__).parent / "vk.xml"))
        module = importlib.import_module("volkano")
        module.get_registry()
        yield module


@pytest.mark.parametrize("cls", PREFIXES, ids=lambda cls: cls.__name__)
def test_values_equal_those_of_vulkan(cls: type[enum.IntEnum], vulkan: Any) -> None:
    compared = 0
    for name, member in cls.__members__.items():
        for c_name in c_names(cls, name):
            value = getattr(vulkan, c_name, None)
            if value is not None and c_name not in WRONG_IN_VULKAN:
                assert member.value == value, c_name
                compared += 1
    assert compared > 0


@pytest.mark.parametrize("cls", PREFIXES, ids=lambda cls: cls.__name__)
def test_no_value_of_vulkan_is_missing(cls: type[enum.IntEnum], vulkan: Any) -> None:
    known = {member.value for member in cls.__members__.values()}
    missing = [
        name
        for name in dir(vulkan)
        if name.startswith(PREFIXES[cls])
        and not NOT_A_MEMBER.search(name)
        and name not in WRONG_IN_VULKAN
        and getattr(vulkan, name) is not None  # how the package writes an alias
        and getattr(vulkan, name) not in known
    ]
    assert missing == []


@pytest.mark.parametrize("cls", PREFIXES, ids=lambda cls: cls.__name__)
def test_every_member_is_in_the_registry(cls: type[enum.IntEnum], volkano: Any) -> None:
    registry = volkano.get_registry()
    for name, member in cls.__members__.items():
        found = {int(getattr(registry, c)) for c in c_names(cls, name) if c in registry}
        assert found == {member.value}, name


@pytest.mark.parametrize("cls", EVERY_CLASS, ids=lambda cls: cls.__name__)
def test_docstring_names_the_type_in_c(cls: type[enum.Enum]) -> None:
    assert cls.__doc__ is not None
    assert re.search(r"`(Vk|Vma)\w+`", cls.__doc__)


@pytest.mark.parametrize("cls", EVERY_CLASS, ids=lambda cls: cls.__name__)
def test_members_survive_pickling(cls: type[enum.Enum]) -> None:
    for member in cls:
        assert pickle.loads(pickle.dumps(member)) is member


@pytest.mark.parametrize(
    "cls", [cls for cls in EVERY_CLASS if issubclass(cls, enum.IntFlag)], ids=lambda c: c.__name__
)
def test_unknown_bits_are_kept(cls: type[enum.IntFlag]) -> None:
    unknown = 1 << 62
    kept = cls(unknown) | next(iter(cls))
    assert isinstance(kept, cls)
    assert kept.value == unknown | next(iter(cls)).value


def test_flags_are_ints() -> None:
    both = BufferUsage.VERTEX_BUFFER | BufferUsage.TRANSFER_DST
    assert isinstance(both, BufferUsage)
    assert both == 0x82
    assert both == BufferUsage.VERTEX_BUFFER | 0x2
    assert Format.R8G8B8A8_UNORM == 37
    assert SampleCount.COUNT_1 == 1
    assert ImageType.TYPE_2D == 1


def test_two_names_of_one_bit() -> None:
    assert (
        ImageCreateFlags.DESCRIPTOR_BUFFER_CAPTURE_REPLAY_EXT
        is ImageCreateFlags.DESCRIPTOR_HEAP_CAPTURE_REPLAY_EXT
    )


def constants_of_request_rs(pattern: str, body: str) -> dict[str, int]:
    return {name: int(value.replace("_", ""), 0) for name, value in re.findall(pattern, body)}


@pytest.mark.skipif(not REQUEST_RS.exists(), reason="only in a checkout")
def test_memory_usage_equals_the_engines() -> None:
    body = REQUEST_RS.read_text().partition("pub enum MemoryUsage {")[2].partition("\n}")[0]
    engine = constants_of_request_rs(r"(\w+) = (\d+),", body)
    ours = {member.name.replace("_", "").lower(): member.value for member in MemoryUsage}
    assert ours == {name.lower(): value for name, value in engine.items()}


@pytest.mark.skipif(not REQUEST_RS.exists(), reason="only in a checkout")
def test_allocation_create_flags_equal_the_engines() -> None:
    body = REQUEST_RS.read_text().partition("struct AllocationCreateFlags")[2].partition("\n}")[0]
    engine = constants_of_request_rs(r"const ([A-Z_]+) = (0x[0-9A-Fa-f_]+);", body)
    assert {member.name: member.value for member in AllocationCreateFlags} == engine
