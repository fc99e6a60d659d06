"""Disjoint images, whose planes are bound separately."""

from __future__ import annotations

import pytest
from odd_driver import chain, peek, poke
from support import DONT_BIND, totals

from vk_mem import (
    Allocator,
    FeatureNotPresentError,
    Format,
    ImageCreateFlags,
    ImageUsage,
    InvalidArgumentError,
    SimulatedDevice,
    VkMemError,
)

DISJOINT = ImageCreateFlags.DISJOINT
NV12, YV12 = Format.G8_B8R8_2PLANE_420_UNORM, Format.G8_B8_R8_3PLANE_420_UNORM
SAMPLED = ImageUsage.SAMPLED
SIZE = (1920, 1080)
LUMA = 1920 * 1080
PLANE_INFO = 1000156002  # VkBindImagePlaneMemoryInfo
PLANE_REQUIREMENTS = 1000156003
FORMAT_DISJOINT = 0x400000


@pytest.fixture(params=SimulatedDevice.profile_names())
def planes(request, make_simulated):
    with Allocator(make_simulated(request.param)) as allocator:
        yield allocator


@pytest.mark.parametrize("format", [NV12, YV12])
def test_all_planes_are_created_allocated_and_bound(planes, format):
    device = planes.device
    with planes.create_image(format, SIZE, SAMPLED, create_flags=DISJOINT) as image:
        assert image.allocation.size >= LUMA * 3 // 2
        assert device.live_images == 1
        calls = device.call_count("vkBindImageMemory")
        assert calls == 1
        with pytest.raises(InvalidArgumentError, match="bound already"):
            image.bind()
    assert totals(planes).allocation_count == 0
    many = planes.create_images([(format, SIZE, SAMPLED)] * 3, create_flags=DISJOINT)
    planes.destroy_many(many)


def test_planes_that_are_bound_later(planes):
    keywords = {"create_flags": DISJOINT, "flags": DONT_BIND}
    with planes.create_image(NV12, SIZE, SAMPLED, **keywords) as image:
        image.bind()
    image = planes.create_image(NV12, SIZE, SAMPLED, **keywords)
    parts = [planes.allocate_memory_for_image(image.handle, plane=it) for it in (0, 1)]
    assert parts[0].size >= LUMA > parts[1].size >= LUMA // 2
    # Each goes to memory of its own.
    bound = [planes.allocate_memory_for_image(image.handle, plane=it, bind=True) for it in (0, 1)]
    image.destroy()
    planes.free_memory_pages(parts + bound)


def test_several_planes_in_one_call(planes):
    image = planes.create_image(YV12, SIZE, SAMPLED, create_flags=DISJOINT, flags=DONT_BIND)
    memory = planes.allocate_memory_for_image(image.handle, plane=(0, 1, 2), bind=True)
    assert memory.size >= LUMA * 3 // 2
    image.destroy()
    memory.free()


def test_what_is_wrong_with_planes(simulated_allocator):
    device = simulated_allocator.device
    plain = simulated_allocator.create_image(NV12, SIZE, SAMPLED)
    for wrong, words in (
        (3, "planes are 0, 1 and 2"),
        ((0, 0), "each once"),
        ((), "plane is empty"),
        (-1, "negative"),
    ):
        with pytest.raises(InvalidArgumentError, match=words):
            simulated_allocator.allocate_memory_for_image(plain.handle, plane=wrong)
    with pytest.raises(TypeError, match="plane must be an integer"):
        simulated_allocator.allocate_memory_for_image(plain.handle, plane=1.5)
    with pytest.raises(InvalidArgumentError, match="disjoint image of R8G8B8A8_UNORM"):
        simulated_allocator.create_image(
            Format.R8G8B8A8_UNORM, SIZE, SAMPLED, create_flags=DISJOINT
        )
    plain.destroy()
    assert device.violations == []


def test_a_failing_bind_leaves_nothing():
    device = SimulatedDevice("integrated")
    with Allocator(device) as allocator:
        device.fail_next("vkBindImageMemory")
        with pytest.raises(VkMemError):
            allocator.create_image(NV12, SIZE, SAMPLED, create_flags=DISJOINT)
        assert device.live_images == 0 and totals(allocator).allocation_count == 0
        image = allocator.create_image(NV12, SIZE, SAMPLED, create_flags=DISJOINT, flags=DONT_BIND)
        device.fail_next("vkBindImageMemory")
        with pytest.raises(VkMemError, match="vkBindImageMemory2"):
            allocator.allocate_memory_for_image(image.handle, plane=(0, 1), bind=True)
        assert totals(allocator).allocation_count == 1
        image.destroy()


@pytest.mark.driver
def test_a_driver_gets_a_structure_for_each_plane(odd_driver, open_odd):
    """A driver that lets planes be bound one by one, as Mesa's CPU driver does not."""
    asked, bound = [], []

    def format_properties(_physical, _format, properties):
        poke(properties + 4, "I", peek(properties + 4, "I") | FORMAT_DISJOINT)

    def image_format_properties(_original, _physical, _info, properties):
        for index, most in enumerate((4096, 4096, 1, 1, 1, 1)):
            poke(properties + 16 + 4 * index, "I", most)
        return 0

    def create(original, device, info, *rest):
        # In truth it makes another image.
        poke(info + 16, "I", 0)
        poke(info + 24, "I", int(Format.R8G8B8A8_UNORM))
        return original(device, info, *rest)

    def requirements(_device, info, found):
        plane = chain(info).get(PLANE_REQUIREMENTS)
        if plane:
            aspect = peek(plane + 16, "I")
            asked.append(aspect)
            poke(found + 16, "Q", 3000 if aspect == 0x10 else 1000)
            poke(found + 24, "Q", 256)

    def bind(_original, _device, count, infos):
        for it in range(count):
            info = infos + 40 * it
            plane = chain(info)[PLANE_INFO]
            bound.append((peek(plane + 16, "I"), peek(info + 32, "Q")))
        return 0

    odd_driver.after("vkGetPhysicalDeviceFormatProperties", format_properties)
    odd_driver.instead("vkGetPhysicalDeviceImageFormatProperties2", image_format_properties)
    odd_driver.instead("vkCreateImage", create)
    odd_driver.after("vkGetImageMemoryRequirements2", requirements)
    odd_driver.instead("vkBindImageMemory2", bind)
    with Allocator(open_odd(validation=False)) as allocator:
        with allocator.create_image(NV12, (16, 16), SAMPLED, create_flags=DISJOINT) as image:
            start = image.allocation.offset
            assert image.allocation.size == 4072
            assert not image.allocation.is_dedicated
        assert set(asked) == {0x10, 0x20}
        assert bound == [(0x10, start), (0x20, start + 3072)]


@pytest.mark.driver
def test_a_driver_without_disjoint_planes(odd_driver, open_odd):
    def format_properties(_physical, _format, properties):
        poke(properties + 4, "I", peek(properties + 4, "I") & ~FORMAT_DISJOINT)

    odd_driver.after("vkGetPhysicalDeviceFormatProperties", format_properties)
    with (
        Allocator(open_odd()) as allocator,
        pytest.raises(FeatureNotPresentError, match="no images of G8_B8R8_2PLANE_420_UNORM"),
    ):
        allocator.create_image(NV12, SIZE, SAMPLED, create_flags=DISJOINT)
    assert odd_driver.calls["vkCreateImage"] == 0
