"""Images and the host: where texels of linear images lie; those of others are left alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from support import IMAGE_TRANSFER, MAPPED, RANDOM, RGBA8, TRANSFER, pattern

import vk_mem
from vk_mem import (
    Allocator,
    FeatureNotPresentError,
    Format,
    Image,
    ImageAspect,
    ImageCreateFlags,
    ImageLayout,
    ImageTiling,
    InvalidArgumentError,
    MemoryMapError,
    SimulatedDevice,
    SubresourceLayout,
)

LINEAR = ImageTiling.LINEAR


def linear(allocator: Allocator, format: Any, extent: Any, **keywords: Any) -> Image:
    keywords = {"tiling": LINEAR, "flags": RANDOM, **keywords}
    return allocator.create_image(format, extent, IMAGE_TRANSFER, **keywords)


def try_linear(allocator: Allocator, format: Any, extent: Any, **keywords: Any) -> Image | None:
    """None where the device has no such images."""
    try:
        return linear(allocator, format, extent, **keywords)
    except (FeatureNotPresentError, InvalidArgumentError):
        return None


def test_an_image_is_an_array(allocator: Allocator) -> None:
    device = allocator.device
    texels = np.frombuffer(pattern(5 * 3 * 4), np.uint8).reshape(3, 5, 4)
    with (
        linear(allocator, RGBA8, (5, 3), name="texels") as image,
        allocator.create_buffer(60, TRANSFER, flags=RANDOM) as buffer,
    ):
        buffer.write(texels)
        device.copy_buffer_to_image(buffer, image)
        layout = image.subresource_layout()
        assert isinstance(layout, SubresourceLayout)
        offset, size, row_pitch, array_pitch, depth_pitch = layout
        assert row_pitch >= 20
        assert offset + size <= image.allocation.size
        assert (image.row_pitch, image.array_pitch, image.depth_pitch) == (row_pitch, 0, 0)
        assert (array_pitch, depth_pitch) == (0, 0)
        # Where the layout says, each row of texels stands in the memory.
        raw = image.read()
        for row in range(3):
            start = offset + row * row_pitch
            assert raw[start : start + 20] == texels[row].tobytes()
        array = image.numpy()
        assert (array.shape, array.dtype) == ((3, 5, 4), np.uint8)
        assert array.strides == (row_pitch, 4, 1)
        assert np.array_equal(array, texels)
        array[1, 2] = (1, 2, 3, 4)
        with pytest.raises(BufferError, match="cannot destroy Image 'texels'"):
            image.destroy()
        del array
        wanted = texels.copy()
        wanted[1, 2] = (1, 2, 3, 4)
        device.copy_image_to_buffer(image, buffer)
        assert np.array_equal(buffer.read(dtype="u1", shape=(3, 5, 4)), wanted)
        assert np.array_equal(np.asarray(image), wanted)
        assert np.array_equal(np.from_dlpack(image), wanted)
        assert image.__dlpack_device__() == (1, 0)
        readonly = image.numpy(readonly=True)
        assert not readonly.flags.writeable
        assert np.array_equal(readonly, wanted)
        del readonly


@pytest.mark.parametrize(
    ("format", "extent", "dtype", "shape"),
    [
        (Format.R8_UNORM, (7, 2), "u1", (2, 7, 1)),
        (Format.R8G8_SNORM, (7, 2), "i1", (2, 7, 2)),
        (Format.B8G8R8A8_SRGB, (3, 2), "u1", (2, 3, 4)),
        (Format.R16G16_SFLOAT, (3, 2), "f2", (2, 3, 2)),
        (Format.R16G16B16A16_UNORM, (3, 2), "u2", (2, 3, 4)),
        (Format.R16_SINT, (3, 2), "i2", (2, 3, 1)),
        (Format.R32_SFLOAT, (3, 2), "f4", (2, 3, 1)),
        (Format.R32G32B32A32_SINT, (3, 2), "i4", (2, 3, 4)),
        (Format.R32_UINT, (3, 2), "u4", (2, 3, 1)),
        (Format.R64_SFLOAT, (3, 2), "f8", (2, 3, 1)),
        # Bytes, where the components have no one size.
        (Format.R5G6B5_UNORM_PACK16, (3, 2), "u1", (2, 3, 2)),
        (Format.A2B10G10R10_UNORM_PACK32, (3, 2), "u1", (2, 3, 4)),
        (Format.B10G11R11_UFLOAT_PACK32, (3, 2), "u1", (2, 3, 4)),
        # Blocks, of which the last ones are not full.
        (Format.BC1_RGBA_UNORM_BLOCK, (9, 5), "u1", (2, 3, 8)),
        (Format.ASTC_6x5_UNORM_BLOCK, (12, 11), "u1", (3, 2, 16)),
        (Format.D16_UNORM, (3, 2), "u2", (2, 3, 1)),
        (Format.D32_SFLOAT, (3, 2), "f4", (2, 3, 1)),
        (Format.S8_UINT, (3, 2), "u1", (2, 3, 1)),
        (Format.R8G8B8A8_UNORM, 6, "u1", (1, 6, 4)),
        (Format.R8G8B8A8_UNORM, (4, 3, 2), "u1", (2, 3, 4, 4)),
    ],
)
def test_shape_and_dtype_follow_the_format(
    allocator: Allocator, format: Format, extent: Any, dtype: str, shape: tuple[int, ...]
) -> None:
    image = try_linear(allocator, format, extent)
    if image is None:
        assert not isinstance(allocator.device, SimulatedDevice)
        return
    array = image.numpy()
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    assert array.strides[-3] == image.row_pitch
    if len(shape) == 4:
        assert array.strides[0] == image.depth_pitch > 0
    # Every element has its own bytes.
    array[...] = np.arange(array.size, dtype=np.uint8).reshape(shape)
    assert np.array_equal(image.numpy(), array)
    wanted = np.arange(array.size, dtype=np.uint8).astype(dtype)
    assert array.reshape(-1).tolist() == wanted.tolist()
    del array
    image.destroy()


def test_planes(allocator: Allocator) -> None:
    format = Format.G8_B8R8_2PLANE_420_UNORM
    image = try_linear(allocator, format, (8, 6))
    if image is None:
        assert not isinstance(allocator.device, SimulatedDevice)
        return
    luma, chroma = image.numpy(), image.numpy(aspect="PLANE_1")
    assert (luma.shape, chroma.shape) == ((6, 8, 1), (3, 4, 2))
    luma[...], chroma[...] = 1, 2
    assert (int(luma.sum()), int(chroma.sum())) == (48, 48)
    first = image.subresource_layout(aspect=ImageAspect.PLANE_0)
    second = image.subresource_layout(aspect=ImageAspect.PLANE_1)
    assert first == image.subresource_layout()
    assert second.offset >= first.offset + first.size
    for aspect in ("COLOR", "PLANE_2", ImageAspect.PLANE_0 | ImageAspect.PLANE_1, 0):
        with pytest.raises(InvalidArgumentError, match="aspect is"):
            image.subresource_layout(aspect=aspect)
    del luma, chroma
    image.destroy()


def test_words_of_sixteen_bits_in_planes(simulated_allocator: Allocator) -> None:
    with linear(
        simulated_allocator, Format.G10X6_B10X6R10X6_2PLANE_420_UNORM_3PACK16, (4, 4)
    ) as image:
        assert (image.numpy().dtype, image.numpy().shape) == (np.uint16, (4, 4, 1))
        assert image.numpy(aspect="plane_1").shape == (2, 2, 2)
        assert image.numpy(aspect="plane_1").dtype == np.uint16


def test_planes_apart_have_layouts_and_no_array(simulated_allocator: Allocator) -> None:
    with linear(
        simulated_allocator,
        Format.G8_B8R8_2PLANE_420_UNORM,
        (8, 6),
        create_flags=ImageCreateFlags.DISJOINT,
    ) as image:
        # Each begins where it is bound.
        assert image.subresource_layout(aspect="PLANE_1").offset == 0
        with pytest.raises(InvalidArgumentError, match="disjoint"):
            image.numpy()


def test_depth_and_stencil_together_are_no_array(simulated_allocator: Allocator) -> None:
    with linear(simulated_allocator, Format.D24_UNORM_S8_UINT, (4, 4)) as image:
        assert image.subresource_layout(aspect="STENCIL").row_pitch >= 16
        with pytest.raises(InvalidArgumentError, match="no array that is known"):
            image.numpy()


def test_what_an_image_has_not(allocator: Allocator) -> None:
    with linear(allocator, RGBA8, (4, 4)) as image:
        for use in (image.subresource_layout, image.numpy):
            with pytest.raises(InvalidArgumentError, match=r"mip_level is 1: .* 1 mip level"):
                use(1)
            with pytest.raises(InvalidArgumentError, match="array_layer is 7"):
                use(array_layer=7)
            with pytest.raises(InvalidArgumentError, match="aspect is 0x2: "):
                use(aspect=ImageAspect.DEPTH)
            with pytest.raises(InvalidArgumentError, match="must not be negative"):
                use(-1)
            with pytest.raises(TypeError, match="it takes ImageAspect"):
                use(aspect=ImageLayout.GENERAL)


OPTIMAL_USES: list[Callable[[Image], object]] = [
    lambda image: image.map(),
    lambda image: image.map(readonly=True),
    lambda image: image.read(),
    lambda image: image.read(dtype="u1"),
    lambda image: bytes(image),
    lambda image: image.write(b"x"),
    lambda image: image.read_into(bytearray(1)),
    lambda image: image.numpy(),
    lambda image: np.asarray(image),
    lambda image: image.__dlpack__(),
    lambda image: image.mapped,
]


def test_texels_of_another_tiling_are_refused(allocator: Allocator) -> None:
    keywords: Any = {"tiling": ImageTiling.OPTIMAL, "flags": RANDOM | MAPPED}
    try:
        image = linear(allocator, RGBA8, (4, 4), name="texture", **keywords)
    except FeatureNotPresentError:
        # Optimal images of this device lie in memory that the host does not see.
        image = allocator.create_image(RGBA8, (4, 4), IMAGE_TRANSFER, name="texture")
        OPTIMAL = OPTIMAL_USES[:-1]
    else:
        OPTIMAL = OPTIMAL_USES
    text = r"Image 'texture' .* not of tiling LINEAR.*upload\(\) and download\(\).*tiling=LINEAR"
    for use in OPTIMAL:
        with pytest.raises(InvalidArgumentError, match=text):
            use(image)
    for use in (
        lambda image: image.row_pitch,
        lambda image: image.depth_pitch,
        lambda image: image.array_pitch,
        lambda image: image.subresource_layout(),
    ):
        with pytest.raises(InvalidArgumentError, match=r"'texture' .* not of tiling LINEAR"):
            use(image)
    # The memory behind it is memory.
    try:
        image.allocation.write(b"\x01" * 16)
    except MemoryMapError:
        assert OPTIMAL is not OPTIMAL_USES
    else:
        assert image.allocation.read(0, 16) == b"\x01" * 16
        assert image.allocation.numpy().nbytes == image.allocation.size
    image.destroy()


def test_an_alias_is_of_its_own_tiling(simulated_allocator: Allocator) -> None:
    with simulated_allocator.allocate_memory(1 << 16, 4096, flags=RANDOM) as memory:
        arguments = (memory, RGBA8, (4, 4), IMAGE_TRANSFER)
        with (
            simulated_allocator.create_aliasing_image(*arguments) as optimal,
            simulated_allocator.create_aliasing_image(*arguments, tiling=LINEAR) as rows,
        ):
            with pytest.raises(InvalidArgumentError, match="not of tiling LINEAR"):
                optimal.read()
            rows.numpy()[...] = 3
            assert np.asarray(memory)[:16].tolist() == [3] * 16


def test_rows_of_a_simulated_device_are_padded(make_simulated: Any) -> None:
    """So that whoever takes the texels for one run of bytes is found out on every profile."""
    for name in SimulatedDevice.profile_names():
        with (
            Allocator(make_simulated(name)) as allocator,
            linear(allocator, RGBA8, (5, 3)) as image,
            linear(allocator, Format.R8_UNORM, (3, 2, 4)) as volume,
        ):
            assert image.row_pitch == 32
            assert (volume.row_pitch, volume.depth_pitch) == (32, 64)
            assert volume.subresource_layout().size == 256


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", vk_mem.UnflushedWriteWarning)
        yield
