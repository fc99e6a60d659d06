"""Images beyond the limits of the device are refused without a driver call."""

from __future__ import annotations

import ctypes

import pytest
from odd_driver import peek, poke

from vk_mem import (
    Allocator,
    FeatureNotPresentError,
    Format,
    ImageCreateFlags,
    ImageTiling,
    ImageUsage,
    InvalidArgumentError,
    OutOfDeviceMemoryError,
    SampleCount,
    SimulatedDevice,
)

RGBA8 = Format.R8G8B8A8_UNORM
SAMPLED = ImageUsage.SAMPLED | ImageUsage.TRANSFER_DST
ATTACHMENT = ImageUsage.COLOR_ATTACHMENT
QUERIES = ("vkGetPhysicalDeviceImageFormatProperties", "vkGetPhysicalDeviceImageFormatProperties2")
NOT_SUPPORTED = -11


class VkImageCreateInfo(ctypes.Structure):
    _fields_ = (
        ("sType", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("imageType", ctypes.c_int),
        ("format", ctypes.c_int),
        ("extent", ctypes.c_uint32 * 3),
        ("mipLevels", ctypes.c_uint32),
        ("arrayLayers", ctypes.c_uint32),
        ("samples", ctypes.c_int),
        ("tiling", ctypes.c_int),
        ("usage", ctypes.c_uint32),
        ("sharingMode", ctypes.c_int),
        ("queueFamilyIndexCount", ctypes.c_uint32),
        ("pQueueFamilyIndices", ctypes.c_void_p),
        ("initialLayout", ctypes.c_int),
    )


class ImageFormatListCreateInfo(ctypes.Structure):
    _fields_ = (
        ("sType", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("viewFormatCount", ctypes.c_uint32),
        ("pViewFormats", ctypes.POINTER(ctypes.c_int)),
    )


class StencilUsage(ctypes.Structure):
    _fields_ = (("sType", ctypes.c_int), ("pNext", ctypes.c_void_p), ("usage", ctypes.c_uint32))


def struct(size: int, chained: ctypes.Structure | None = None, **fields) -> VkImageCreateInfo:
    info = VkImageCreateInfo(
        sType=14,
        imageType=1,
        format=RGBA8,
        extent=(size, size, 1),
        mipLevels=1,
        arrayLayers=1,
        samples=1,
        usage=SAMPLED,
        pNext=ctypes.addressof(chained) if chained else None,
    )
    for name, value in fields.items():
        setattr(info, name, value)
    info.chained = chained
    return info


@pytest.mark.parametrize("side", [65537, 40000, 1 << 31])
def test_too_large(allocator, side):
    """65537 x 65537 gave an image of 1 MB on Mesa's CPU driver."""
    for extent in ((side, side), (side, 1), (1, side), (side,), (1, 1, side)):
        with pytest.raises(
            InvalidArgumentError, match=rf"{side} .*; the most is .* R8G8B8A8_UNORM"
        ):
            allocator.create_image(RGBA8, extent, SAMPLED)
    with pytest.raises(InvalidArgumentError, match="the most is"):
        allocator.create_image(struct(side))
    with pytest.raises(InvalidArgumentError, match="the most is"):
        allocator.find_memory_type_index_for_image_info(RGBA8, (side, side), SAMPLED)


def test_too_many_layers_levels_and_samples(allocator):
    with pytest.raises(InvalidArgumentError, match="100000 array layers; the most is"):
        allocator.create_image(RGBA8, (4, 4), SAMPLED, array_layers=100_000)
    with pytest.raises(InvalidArgumentError, match="2 array layers; the most is 1"):
        allocator.create_image(RGBA8, (4, 4, 4), SAMPLED, array_layers=2)
    with pytest.raises(InvalidArgumentError, match="64 samples; it can be 1"):
        allocator.create_image(RGBA8, (4, 4), ATTACHMENT, samples=SampleCount.COUNT_64)
    with pytest.raises(InvalidArgumentError, match="4 samples; it can be 1 on"):
        allocator.create_image(RGBA8, (4, 4, 4), ATTACHMENT, samples=SampleCount.COUNT_4)
    with pytest.raises(InvalidArgumentError, match="levels"):
        allocator.create_image(RGBA8, (4, 4), SAMPLED, mip_levels=4)
    with allocator.create_image(RGBA8, (4, 4), ATTACHMENT, samples=SampleCount.COUNT_4) as image:
        assert image.allocation.size >= 4 * 4 * 4 * 4


def test_of_many_the_item_is_named(allocator):
    kinds = [(RGBA8, (16, 16), SAMPLED), (RGBA8, (65537, 65537), SAMPLED)]
    with pytest.raises(InvalidArgumentError, match="item 1: an image of 65537") as caught:
        allocator.create_images(kinds)
    assert caught.value.item == 1


def test_in_an_alias(allocator):
    with (
        allocator.allocate_memory(1 << 20, 1 << 16) as memory,
        pytest.raises(InvalidArgumentError, match="the most is"),
    ):
        allocator.create_aliasing_image(memory, RGBA8, (65537, 1), SAMPLED)


@pytest.mark.parametrize(
    ("profile", "side"), [("nvidia-h200", 32_768), ("raspberry-pi", 4096), ("integrated", 16_384)]
)
def test_limits_of_profiles(profile, side):
    device = SimulatedDevice(profile)
    with Allocator(device) as allocator:
        allocator.create_image(Format.R8_UNORM, (side, 1), SAMPLED).destroy()
        with pytest.raises(InvalidArgumentError, match=f"the most is {side} x {side} x 1"):
            allocator.create_image(Format.R8_UNORM, (side + 1, 1), SAMPLED)
        with pytest.raises(InvalidArgumentError, match="2 mip levels; the most is 1"):
            allocator.create_image(RGBA8, (4, 4), SAMPLED, mip_levels=2, tiling=ImageTiling.LINEAR)
        cube = ImageCreateFlags.CUBE_COMPATIBLE
        with pytest.raises(FeatureNotPresentError, match=r"no images of .*CUBE_COMPATIBLE"):
            allocator.create_image(RGBA8, (4, 4, 4), SAMPLED, create_flags=cube)
    assert device.violations == []


def test_a_kind_is_asked_for_once():
    device = SimulatedDevice("integrated")
    name = "vkGetPhysicalDeviceImageFormatProperties2"
    with Allocator(device) as allocator:
        for size in (16, 32, 64):
            allocator.create_image(RGBA8, (size, size), SAMPLED).destroy()
        assert device.call_count(name) == 1
        allocator.create_image(RGBA8, (4, 4), ATTACHMENT).destroy()
        assert device.call_count(name) == 2


# ---- drivers that are odd ----


def questions(driver) -> int:
    return sum(driver.calls[it] for it in QUERIES)


@pytest.mark.driver
@pytest.mark.parametrize("version", [(1, 0), (1, 3)])
def test_a_driver_is_asked_once_for_a_kind(odd_driver, open_odd, version):
    with Allocator(open_odd(api_version=version)) as allocator:
        allocator.create_image(RGBA8, (16, 16), SAMPLED).destroy()
        asked = questions(odd_driver)
        before = odd_driver.calls.copy()
        for size in range(1, 50):
            allocator.create_image(RGBA8, (size, size), SAMPLED).destroy()
        with pytest.raises(InvalidArgumentError, match="the most is"):
            allocator.create_image(RGBA8, (65537, 65537), SAMPLED)
        assert questions(odd_driver) == asked == 1
        made = odd_driver.calls - before
        assert made["vkCreateImage"] == 49


@pytest.mark.driver
def test_a_driver_with_small_limits(odd_driver, open_odd):
    def change(_, info, properties):
        poke(properties + 16, "I", 100)

    odd_driver.after(QUERIES[1], change)
    with Allocator(open_odd(validation=False)) as allocator:
        allocator.create_image(RGBA8, (100, 200), SAMPLED).destroy()
        with pytest.raises(InvalidArgumentError, match="the most is 100 x "):
            allocator.create_image(RGBA8, (101, 1), SAMPLED)
    assert odd_driver.calls["vkCreateImage"] == 1


@pytest.mark.driver
@pytest.mark.parametrize("result", [-1, -13])
def test_a_driver_that_does_not_tell_is_believed(odd_driver, open_odd, result):
    odd_driver.fail(QUERIES[1], result)
    with Allocator(open_odd(validation=False)) as allocator:
        allocator.create_image(RGBA8, (100, 100), SAMPLED).destroy()


@pytest.mark.driver
def test_an_unsupported_kind(odd_driver, open_odd):
    odd_driver.fail(QUERIES[1], NOT_SUPPORTED)
    says = "no images of R8G8B8A8_UNORM, 2D, OPTIMAL"
    with Allocator(open_odd(validation=False)) as allocator:
        for side in range(1, 50):
            with pytest.raises(FeatureNotPresentError, match=says):
                allocator.create_image(RGBA8, (side, side), SAMPLED)
        with pytest.raises(FeatureNotPresentError, match=says):
            allocator.find_memory_type_index_for_image_info(RGBA8, (4, 4), SAMPLED)
    assert questions(odd_driver) == 1
    assert odd_driver.calls["vkCreateImage"] == 0


@pytest.mark.driver
def test_too_little_memory_for_the_texels(odd_driver, open_odd):
    """A driver that counts in 32 bits."""

    def change(_device, _info, requirements):
        poke(requirements + 16, "Q", peek(requirements + 16, "Q") & 0xFFFF)

    odd_driver.after("vkGetImageMemoryRequirements2", change)
    with Allocator(open_odd(validation=False)) as allocator:
        with pytest.raises(InvalidArgumentError, match="takes 200000 bytes at least"):
            allocator.create_image(RGBA8, (100, 100), SAMPLED, array_layers=5)
        allocator.create_image(RGBA8, (10, 10), SAMPLED).destroy()
    assert odd_driver.calls["vkCreateImage"] == odd_driver.calls["vkDestroyImage"] == 2


@pytest.mark.driver
def test_structures_are_passed_on(odd_driver, open_odd):
    """A list of formats and the usage of the stencil aspect are part of the question."""
    seen = []

    def instead(original, device, info, properties):
        types = []
        at = peek(info + 8, "Q")
        while at:
            types.append(peek(at, "i"))
            at = peek(at + 8, "Q")
        seen.append(sorted(types))
        return original(device, info, properties)

    odd_driver.instead(QUERIES[1], instead)
    formats = (ctypes.c_int * 2)(RGBA8, Format.R8G8B8A8_SRGB)
    mutable = ImageCreateFlags.MUTABLE_FORMAT
    with Allocator(open_odd()) as allocator:
        listed = ImageFormatListCreateInfo(1000147000, None, 2, formats)
        allocator.create_image(struct(16, listed, flags=mutable)).destroy()
        assert seen == [[1000147000]]
        depth = Format.D32_SFLOAT_S8_UINT
        attachment = ImageUsage.DEPTH_STENCIL_ATTACHMENT
        other = StencilUsage(1000246000, None, attachment | ImageUsage.TRANSFER_SRC)
        info = struct(16, other, format=depth, usage=attachment)
        allocator.create_image(info).destroy()
        assert seen[1:] == [[1000246000]]
        allocator.create_image(info).destroy()
        assert len(seen) == 2


@pytest.mark.driver
def test_what_cannot_be_asked_for_is_not(odd_driver, open_odd):
    """A structure that this library does not know may allow what is refused without it."""
    unknown = StencilUsage(1_000_999_000, None, 0)
    with Allocator(open_odd(validation=False)) as allocator:
        allocator.create_image(struct(16, unknown)).destroy()
    assert questions(odd_driver) == 0


def test_the_usage_of_the_stencil_aspect_counts():
    """Memory that only copies use is chosen in another way than memory of an attachment."""
    with Allocator(SimulatedDevice("discrete-8gib")) as allocator:
        copies = ImageUsage.TRANSFER_SRC | ImageUsage.TRANSFER_DST
        depth = Format.D32_SFLOAT_S8_UINT
        plain = struct(16, format=depth, usage=copies)
        chained = struct(
            16,
            StencilUsage(1000246000, None, ImageUsage.DEPTH_STENCIL_ATTACHMENT),
            format=depth,
            usage=copies,
        )
        find = allocator.find_memory_type_index_for_image_info
        whole = struct(16, format=depth, usage=copies | ImageUsage.DEPTH_STENCIL_ATTACHMENT)
        assert find(chained) == find(whole)
        with allocator.create_image(chained) as image:
            assert image.usage == copies
        assert find(plain) is not None


def test_memory_is_still_what_runs_out():
    """An image within the limits that no heap has room for is no wrong argument."""
    with (
        Allocator(SimulatedDevice("nvidia-h200")) as allocator,
        pytest.raises(OutOfDeviceMemoryError),
    ):
        allocator.create_image(RGBA8, (32_768, 32_768), SAMPLED, array_layers=2048)
