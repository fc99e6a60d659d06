"""Mistakes with transfers: the error names the argument, what is wrong with it, and what helps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support import IMAGE_TRANSFER, RANDOM, RGBA8, TRANSFER

import vk_mem
from vk_mem import (
    Allocator,
    BufferUsage,
    ImageLayout,
    ImageUsage,
    InvalidArgumentError,
    SimulatedDevice,
    Transfers,
)

A = Any


class OnGpu:
    """An array of CuPy, as far as an upload looks at it."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": (4,), "typestr": "|u1", "data": (4096, False)}


def refused(call: Callable[[], object], text: str, kind: type[Exception] = ValueError) -> None:
    with pytest.raises(kind, match=text):
        call()


@pytest.mark.parametrize("dtype", [None, "u1"])
@pytest.mark.parametrize(("given", "name"), [([1, 2], "list"), (5, "int"), ((1,), "tuple")])
def test_what_is_no_array(
    simulated_allocator: Allocator, given: A, name: str, dtype: str | None
) -> None:
    with simulated_allocator.create_buffer(64, TRANSFER) as buffer:
        text = rf"array: a value of type {name} is no array: pass numpy.asarray\(value\)"
        refused(lambda: buffer.upload(given, dtype=dtype), text, TypeError)
        text = "its memory is a GPU's: copy it to the host first"
        refused(lambda: buffer.upload(OnGpu(), dtype=dtype), text, InvalidArgumentError)  # type: ignore[arg-type]


def test_sizes_are_sizes(simulated_allocator: Allocator) -> None:
    with simulated_allocator.create_buffer(64, TRANSFER) as buffer:
        refused(lambda: buffer.download(size=-1), "size .*negative", Exception)
        refused(lambda: buffer.download(size=2**64 - 1), "outside of the 64 bytes")
        assert len(buffer.download(size=0)) == 0


def test_texels_that_an_image_has_not(simulated_allocator: Allocator) -> None:
    good = np.zeros((4, 8, 4), np.uint8)
    with simulated_allocator.create_image(RGBA8, (8, 4), IMAGE_TRANSFER, data=good) as image:
        refused(lambda: image.download(base_layer=1), "has one array layer, 0; there is no 1")
        refused(lambda: image.download(mip_level=1), "has one mip level, 0; there is no 1")
        refused(lambda: image.upload(good, aspect=0), "aspect is 0: one of those of R8G8B8A8_UNORM")
        text = r"no texels of extent \[9, 4, 1\] at offset \[0, 0, 0\] in its mip level 0, whose"
        refused(lambda: image.download(extent=(9, 4)), text)
    with simulated_allocator.create_image(
        RGBA8, (8, 4), IMAGE_TRANSFER, data=good, generate_mipmaps=True
    ) as image:
        refused(lambda: image.download(mip_level=4), "has 4 mip levels, 0 to 3; there is no 4")


def test_layouts_that_are_none(simulated_allocator: Allocator) -> None:
    good = np.zeros((4, 8, 4), np.uint8)
    with simulated_allocator.create_image(RGBA8, (8, 4), IMAGE_TRANSFER, data=good) as image:
        before = image.layout
        for number in (9, 12345, 999_999_999, 2**31):
            text = f"layout is {number}, which is no VkImageLayout"
            refused(lambda number=number: setattr(image, "layout", number), text)  # type: ignore[misc]
            refused(lambda number=number: image.upload(good, layout=number), text)  # type: ignore[misc]
        assert image.layout == before
        # One of an extension.
        image.layout = 1_000_001_002
        assert image.layout is ImageLayout.PRESENT_SRC_KHR


def test_a_usage_that_is_missing(simulated: SimulatedDevice) -> None:
    with Allocator(simulated, strict_host_access=True) as allocator:
        with allocator.create_buffer(64, BufferUsage.STORAGE_BUFFER) as buffer:
            text = r"pass buffer_usage=\.\.\. \| BufferUsage\.TRANSFER_DST at its creation"
            refused(lambda: buffer.upload(b"abcd"), text)
        with allocator.create_image(RGBA8, (8, 4), ImageUsage.SAMPLED) as image:
            text = r"pass image_usage=\.\.\. \| ImageUsage\.TRANSFER_DST at its creation"
            refused(lambda: image.upload(bytes(128)), text)


def test_strict_mode_is_named() -> None:
    device = SimulatedDevice("lavapipe")
    with Allocator(device, strict_host_access=True) as allocator:
        with allocator.create_buffer(64, TRANSFER) as buffer:
            assert "strict_host_access" in allocator.transfers.explain(64, buffer)
            refused(lambda: allocator.transfers.upload(b"a", buffer, way="direct"), "strict_host")
        with allocator.create_buffer(64, BufferUsage.STORAGE_BUFFER) as buffer:
            refused(lambda: buffer.upload(b"abcd"), "strict_host_access")


def test_targets_of_downloads(simulated_allocator: Allocator) -> None:
    wanted = "out cannot be filled: .*; it must be writable, contiguous"
    outs: list[A] = [5, bytes(64), np.zeros(128, np.uint8)[::2]]
    with (
        simulated_allocator.create_buffer(64, TRANSFER) as buffer,
        simulated_allocator.create_image(RGBA8, (4, 4), IMAGE_TRANSFER, data=bytes(64)) as image,
    ):
        for out in outs:
            refused(lambda out=out: buffer.download(out=out), wanted, Exception)  # type: ignore[misc]
            refused(lambda out=out: image.download(out=out), wanted, Exception)  # type: ignore[misc]


def test_resources_that_are_none(simulated_allocator: Allocator) -> None:
    transfers: A = simulated_allocator.transfers
    text = "resource must be a vk_mem.Buffer, a range of one or a vk_mem.Image, not int"
    refused(lambda: transfers.upload(b"a", 5), text, TypeError)
    refused(lambda: transfers.download(5), text, TypeError)
    refused(lambda: transfers.explain(b"a", 5), text, TypeError)
    with (
        simulated_allocator.create_buffer(64, TRANSFER) as buffer,
        simulated_allocator.create_image(RGBA8, (4, 4), IMAGE_TRANSFER) as image,
    ):
        text = "item 1: it is an image, and other items are buffers"
        refused(lambda: transfers.upload_many([b"a", bytes(64)], [buffer, image]), text, TypeError)
        refused(lambda: transfers.download_many([buffer, image]), text, TypeError)
    refused(lambda: Transfers(simulated_allocator, queue=3), "queue", TypeError)  # type: ignore[arg-type]


@pytest.mark.parametrize("flags", [0, RANDOM])
def test_progress_is_callable(simulated_allocator: Allocator, flags: int) -> None:
    text = r"progress must be callable with \(bytes_done, bytes\), not int"
    wrong: A = 3
    with (
        simulated_allocator.create_buffer(64, TRANSFER, flags=flags) as buffer,
        simulated_allocator.create_image(RGBA8, (4, 4), IMAGE_TRANSFER, data=bytes(64)) as image,
    ):
        buffer.upload(bytes(64))
        for call in (
            lambda: buffer.upload(b"a", progress=wrong),
            lambda: buffer.download(progress=wrong),
            lambda: image.upload(bytes(64), progress=wrong),
            lambda: image.download(progress=wrong),
        ):
            refused(call, text, TypeError)


def test_arrays_whose_width_stands_before_the_height(allocator: Allocator) -> None:
    text = r"has the shape \[8, 4, 4\], and the texels of .* have \[4, 8, 4\]"
    turned = np.arange(128, dtype=np.uint8).reshape(8, 4, 4)
    with allocator.create_image(RGBA8, (8, 4), IMAGE_TRANSFER) as image:
        refused(lambda: image.upload(turned), text)
        refused(lambda: allocator.transfers.upload_many([turned], [image]), f"item 0: .*{text}")
        for right in (turned.swapaxes(0, 1), turned.reshape(-1), turned.reshape(4, 32)):
            image.upload(right)
            assert image.download().tobytes() == right.tobytes()
    refused(lambda: allocator.create_image(RGBA8, (8, 4), IMAGE_TRANSFER, data=turned), text)
    with allocator.create_image("R32_SFLOAT", (8, 4), IMAGE_TRANSFER) as image:
        one = np.arange(32, dtype=np.float32).reshape(4, 8)
        refused(lambda: image.upload(one.T), r"has the shape \[8, 4\]")
        image.upload(one[..., None])
        found = image.download()
        assert found.shape == (4, 8) and (found == one).all()
        assert image.download("u1").shape == (4, 8, 4)
    with allocator.create_image("R32_SFLOAT", (4, 4), IMAGE_TRANSFER) as image:
        square = one.reshape(-1)[:16].reshape(4, 4)
        image.upload(square.T)
        assert (image.download() == square.T).all()


def test_a_wrong_layout_is_told() -> None:
    good = np.zeros((4, 8, 4), np.uint8)
    usage = IMAGE_TRANSFER | ImageUsage.SAMPLED
    with (
        Allocator(SimulatedDevice("discrete-8gib")) as allocator,
        allocator.create_image(RGBA8, (8, 4), usage, data=good, name="wrong") as image,
    ):
        assert image.layout == ImageLayout.SHADER_READ_ONLY_OPTIMAL
        image.layout = ImageLayout.GENERAL
        text = "VALIDATION_FAILED.*a transfer of Image 'wrong'.*SHADER_READ_ONLY_OPTIMAL.*GENERAL"
        refused(lambda: image.download(), text, vk_mem.VkMemError)
        image.layout = ImageLayout.SHADER_READ_ONLY_OPTIMAL
