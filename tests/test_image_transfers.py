"""Arrays into images and back: every format, regions, layouts, ways, checks."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import IMAGE_TRANSFER, RANDOM, RGBA8, TRANSFER, pattern

from vk_mem import (
    Allocator,
    FeatureNotPresentError,
    Format,
    Image,
    ImageAspect,
    ImageCreateFlags,
    ImageLayout,
    ImageUsage,
    InvalidArgumentError,
    SimulatedDevice,
    Transfers,
    UseAfterFreeError,
)

RING = 64 << 10
DEPTHS = {
    Format.D16_UNORM: [("DEPTH", 2)],
    Format.X8_D24_UNORM_PACK32: [("DEPTH", 4)],
    Format.D32_SFLOAT: [("DEPTH", 4)],
    Format.S8_UINT: [("STENCIL", 1)],
    Format.D16_UNORM_S8_UINT: [("DEPTH", 2), ("STENCIL", 1)],
    Format.D24_UNORM_S8_UINT: [("DEPTH", 4), ("STENCIL", 1)],
    Format.D32_SFLOAT_S8_UINT: [("DEPTH", 4), ("STENCIL", 1)],
}

# The validation layer does not know them unless their extension is enabled.
OF_EXTENSIONS = {
    it
    for it in Format
    if "PVRTC" in it.name or 1_000_288_000 <= it < 1_000_330_000 or it >= 1_000_460_000
}


@pytest.fixture
def transfers(allocator: Allocator) -> Iterator[Transfers]:
    with Transfers(allocator, RING) as transfers:
        yield transfers


def create(allocator: Allocator, format: Any, extent: Any, **keywords: Any) -> Image | None:
    """None where the device has no such images."""
    usage = keywords.pop("image_usage", IMAGE_TRANSFER)
    try:
        return allocator.create_image(format, extent, usage, **keywords)
    except (FeatureNotPresentError, InvalidArgumentError):
        return None


def texels(image: Image, seed: int = 0, **region: Any) -> Any:
    """Random texels of the shape and dtype that a download has, which come back as they are."""
    image.upload(np.zeros(size_of(image, **region), np.uint8), **region)
    found = image.download(**region)
    random = np.random.default_rng(seed)
    data = random.integers(0, 256, found.nbytes, np.uint8).view(found.dtype).reshape(found.shape)
    depth_24 = {Format.X8_D24_UNORM_PACK32, Format.D24_UNORM_S8_UINT}
    if image.format in depth_24 and region.get("aspect") != "STENCIL":
        return data & 0xFFFFFF
    if found.dtype.kind == "f":
        # Not every number comes back from a device: NaN and denormals may change.
        return random.random(found.shape).astype(found.dtype)
    return data


def size_of(image: Image, **region: Any) -> int:
    """Bytes of a region, from the error for an array that has none of them."""
    with pytest.raises(InvalidArgumentError) as caught:
        image.upload(b"", **region)
    if "and the array has" not in str(caught.value):
        raise caught.value
    words = str(caught.value).split(" have ")[1].split(" byte")[0]
    return int(words.replace(",", ""))


def aspects(format: Format) -> list[str]:
    if format in DEPTHS:
        return [aspect for aspect, _ in DEPTHS[format]]
    planes = next((int(part[0]) for part in format.name.split("_") if part.endswith("PLANE")), 1)
    return [f"PLANE_{it}" for it in range(planes)] if planes > 1 else ["COLOR"]


def comes_back(image: Image, given: Any, found: Any) -> bool:
    of_24_bits = image.format in {Format.X8_D24_UNORM_PACK32, Format.D24_UNORM_S8_UINT}
    if of_24_bits and found.dtype == np.uint32:
        found = found & 0xFFFFFF
    # Bits that a format does not use may change.
    packed = "X6" in image.format.name or "X4" in image.format.name
    if packed:
        unused = 0xFFC0 if "X6" in image.format.name else 0xFFF0
        found, given = found.view(np.uint16) & unused, given.view(np.uint16) & unused
    return bool((found == given).all())


def test_every_format(allocator: Allocator, transfers: Transfers) -> None:
    """Bytes of every aspect of every format, up and down."""
    seen, simulated = 0, isinstance(allocator.device, SimulatedDevice)
    for format in Format:
        if format == Format.UNDEFINED or (format in OF_EXTENSIONS and not simulated):
            continue
        image = create(allocator, format, (24, 12))
        if image is None:
            continue
        for seed, aspect in enumerate(aspects(format)):
            try:
                data = texels(image, seed, aspect=aspect)
            except InvalidArgumentError as error:
                # A format that is newer than the tables here.
                assert "no known size" in str(error) or "aspect is PLANE_0" in str(error)
                assert format >= 1_000_054_000
                break
            transfers.upload(data, image, aspect=aspect).result()
            back = transfers.download(image, aspect=aspect).result()
            assert (back.dtype, back.shape) == (data.dtype, data.shape)
            assert comes_back(image, data, back), (format, aspect)
            seen += 1
        image.destroy()
    assert seen > 80


@pytest.mark.parametrize("kind", ["mips", "layers", "cube", "3d", "1d"])
def test_subresources(allocator: Allocator, transfers: Transfers, kind: str) -> None:
    extent, keywords = {
        "mips": ((40, 24), {"mip_levels": 4}),
        "layers": ((17, 9), {"array_layers": 5, "mip_levels": 3}),
        "cube": (
            (16, 16),
            {"array_layers": 6, "create_flags": ImageCreateFlags.CUBE_COMPATIBLE},
        ),
        "3d": ((12, 10, 7), {"mip_levels": 3}),
        "1d": (33, {"mip_levels": 2}),
    }[kind]
    image = allocator.create_image(RGBA8, extent, IMAGE_TRANSFER, **keywords)  # type: ignore[arg-type,call-overload]
    sides = [image.width, image.height, image.depth]
    random = np.random.default_rng(3)
    expected = []
    with transfers.batch():
        for level in range(image.mip_levels):
            width, height, depth = (max(1, side >> level) for side in sides)
            shape = (height, width, 4)
            if kind == "3d":
                shape = (depth, *shape)  # type: ignore[assignment]
            if image.array_layers > 1:
                shape = (image.array_layers, *shape)  # type: ignore[assignment]
            data = random.integers(0, 256, shape, np.uint8)
            transfers.upload(data, image, mip_level=level)
            expected.append(data)
    assert transfers.stats().submits == 1
    for level, data in enumerate(expected):
        found = image.download(mip_level=level)
        assert found.shape == data.shape and (found == data).all()
    if image.array_layers > 1:
        data = random.integers(0, 256, (2, *expected[0].shape[1:]), np.uint8)
        image.upload(data, base_layer=1, layer_count=2)
        expected[0][1:3] = data
        assert (image.download() == expected[0]).all()
        one = image.download(base_layer=2, layer_count=1)
        assert one.shape == expected[0].shape[1:] and (one == expected[0][2]).all()
    image.destroy()


FORMATS = ["R8_UNORM", "R8G8B8_UNORM", "R8G8B8A8_UNORM", "R16G16B16_SFLOAT", "R32G32B32A32_UINT"]
FORMATS += [
    "BC1_RGB_UNORM_BLOCK",
    "BC7_UNORM_BLOCK",
    "ASTC_5x4_UNORM_BLOCK",
    "D16_UNORM",
    "S8_UINT",
]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_random_regions(data: st.DataObject) -> None:
    """Whatever is copied where, in whatever batches, of arrays smaller and larger than the ring."""
    device = SimulatedDevice(data.draw(st.sampled_from(SimulatedDevice.profile_names())))
    if data.draw(st.booleans()):
        device.set_completion("when waited")
    run_random_regions(Allocator(device), data)
    assert device.violations == []


@pytest.mark.driver
def test_random_regions_of_the_driver(real_device: Any) -> None:
    @settings(max_examples=25, deadline=None, database=None)
    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        run_random_regions(Allocator(real_device), data)

    run()


def ways(image: Image) -> list[Any]:
    return [None, "ring", "host"] if ImageUsage.HOST_TRANSFER in image.usage else [None, "ring"]


def run_random_regions(allocator: Allocator, data: st.DataObject) -> None:
    with allocator, Transfers(allocator, RING) as transfers:
        name = data.draw(st.sampled_from([it for it in FORMATS if hasattr(Format, it)]))
        format = Format[name]
        is_3d = data.draw(st.booleans()) and format not in DEPTHS
        width, height = data.draw(st.integers(1, 300)), data.draw(st.integers(1, 90))
        depth = data.draw(st.integers(1, 5)) if is_3d else 1
        layers = 1 if is_3d else data.draw(st.integers(1, 4))
        tiling = data.draw(st.sampled_from(["OPTIMAL", "OPTIMAL", "LINEAR"]))
        extent = (width, height, depth) if is_3d else (width, height)
        extra = data.draw(st.sampled_from([ImageUsage(0), ImageUsage.HOST_TRANSFER]))
        make = functools.partial(
            create, allocator, format, extent, array_layers=layers, tiling=tiling, flags=RANDOM
        )
        image = make(image_usage=IMAGE_TRANSFER | extra)
        if image is None and extra:
            image = make()
        if image is None:
            return
        block = (4, 4) if name.startswith("BC") else (5, 4) if "ASTC" in name else (1, 1)
        whole = size_of(image)
        columns, rows = math.ceil(width / block[0]), math.ceil(height / block[1])
        texel = whole // (columns * rows * depth * layers)
        expected = np.zeros((layers, depth, rows, columns, texel), np.uint8)
        transfers.upload(expected, image)
        backs = []
        for step in range(data.draw(st.integers(1, 6))):
            x, y = data.draw(st.integers(0, columns - 1)), data.draw(st.integers(0, rows - 1))
            z, layer = data.draw(st.integers(0, depth - 1)), data.draw(st.integers(0, layers - 1))
            wide, high = (
                data.draw(st.integers(1, columns - x)),
                data.draw(st.integers(1, rows - y)),
            )
            deep, count = (
                data.draw(st.integers(1, depth - z)),
                data.draw(st.integers(1, layers - layer)),
            )
            region = {
                "offset": (x * block[0], y * block[1], z),
                "extent": (
                    min(wide * block[0], width - x * block[0]),
                    min(high * block[1], height - y * block[1]),
                    deep,
                ),
                "base_layer": layer,
                "layer_count": count,
            }
            part = np.s_[layer : layer + count, z : z + deep, y : y + high, x : x + wide]
            is_batch = data.draw(st.booleans())
            with transfers.batch() if is_batch else nullcontext():
                if data.draw(st.booleans()):
                    piece = np.arange(step, step + expected[part].size).astype(np.uint8)
                    piece = piece.reshape(expected[part].shape)
                    if texel == 6:
                        piece &= 0x3B  # Halves that are numbers.
                    expected[part] = piece
                    if data.draw(st.booleans()):
                        piece = np.asfortranarray(piece)
                    elif data.draw(st.booleans()):
                        # Rows with gaps between them.
                        wider = np.zeros((*piece.shape[:3], piece.shape[3] + 3, texel), np.uint8)
                        wider[:, :, :, : piece.shape[3]] = piece
                        piece = wider[:, :, :, : piece.shape[3]]
                    way = data.draw(st.sampled_from(ways(image)))
                    transfers.upload(piece, image, way=way, **region)
                # The host copies nothing that an open batch is to write to.
                way = "ring" if is_batch else data.draw(st.sampled_from(ways(image)[1:]))
                back = transfers.download(image, way=way, **region)
                backs.append((back, expected[part].copy()))
        for back, right in backs:
            assert back.result().tobytes() == right.tobytes()
        assert image.download().tobytes() == expected.tobytes()
        image.destroy()


def test_layouts(allocator: Allocator) -> None:
    sampled = IMAGE_TRANSFER | ImageUsage.SAMPLED
    image = allocator.create_image(RGBA8, (8, 8), sampled | ImageUsage.STORAGE)
    texels = np.arange(256, dtype=np.uint8).reshape(8, 8, 4)
    assert image.layout is ImageLayout.UNDEFINED
    with pytest.raises(InvalidArgumentError, match=r"no contents to download.*UNDEFINED"):
        image.download()
    image.upload(texels)
    assert image.layout is ImageLayout.SHADER_READ_ONLY_OPTIMAL
    image.upload(texels[:4], extent=(8, 4), layout="GENERAL")
    assert image.layout is ImageLayout.GENERAL
    image.upload(texels[4:], offset=(0, 4))
    assert image.layout is ImageLayout.GENERAL
    assert (image.download() == texels).all()
    assert image.layout is ImageLayout.GENERAL
    for wrong in ("UNDEFINED", "PREINITIALIZED"):
        with pytest.raises(InvalidArgumentError, match="no image can be left in"):
            image.upload(texels, layout=wrong)
    with pytest.raises(InvalidArgumentError, match=r"COLOR_ATTACHMENT_OPTIMAL.*without COLOR_ATT"):
        image.upload(texels, layout="COLOR_ATTACHMENT_OPTIMAL")
    with pytest.raises(InvalidArgumentError, match="PREINITIALIZED"):
        image.layout = ImageLayout.PREINITIALIZED
    # As if somebody else's commands had discarded it.
    image.layout = ImageLayout.UNDEFINED
    with pytest.raises(InvalidArgumentError, match="UNDEFINED"):
        image.download()
    image.upload(texels, layout=ImageLayout.TRANSFER_SRC_OPTIMAL)
    assert image.layout is ImageLayout.TRANSFER_SRC_OPTIMAL
    image.destroy()
    with pytest.raises(UseAfterFreeError):
        image.layout = ImageLayout.GENERAL
    usages = {
        ImageUsage.STORAGE: ImageLayout.GENERAL,
        ImageUsage.COLOR_ATTACHMENT: ImageLayout.COLOR_ATTACHMENT_OPTIMAL,
        ImageUsage.TRANSFER_SRC: ImageLayout.TRANSFER_SRC_OPTIMAL,
        ImageUsage(0): ImageLayout.TRANSFER_DST_OPTIMAL,
    }
    for usage, layout in usages.items():
        with allocator.create_image(RGBA8, (8, 8), usage | ImageUsage.TRANSFER_DST) as image:
            image.upload(texels)
            assert image.layout is layout


def test_layouts_are_those_at_submission(allocator: Allocator, transfers: Transfers) -> None:
    image = allocator.create_image(RGBA8, (4, 4), IMAGE_TRANSFER | ImageUsage.SAMPLED)
    texels = np.full((4, 4, 4), 7, np.uint8)
    with transfers.batch():
        transfers.upload(texels, image, layout="GENERAL")
        assert image.layout is ImageLayout.UNDEFINED
        back = transfers.download(image)
        transfers.upload(texels + 1, image, layout="SHADER_READ_ONLY_OPTIMAL")
        after = transfers.download(image)
        assert image.layout is ImageLayout.UNDEFINED
    assert image.layout is ImageLayout.SHADER_READ_ONLY_OPTIMAL
    assert (back.result() == 7).all() and (after.result() == 8).all()
    image.destroy()


def test_what_is_wrong_is_told(allocator: Allocator) -> None:
    image = allocator.create_image(RGBA8, (8, 6), IMAGE_TRANSFER, name="texture", mip_levels=2)
    good = np.zeros((6, 8, 4), np.uint8)
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        (
            {"mip_level": 2},
            InvalidArgumentError,
            "'texture' .* has 2 mip levels, 0 to 1; there is no 2",
        ),
        ({"base_layer": 1}, InvalidArgumentError, "has one array layer, 0; there is no 1"),
        ({"layer_count": 0}, InvalidArgumentError, "layer_count 0"),
        ({"offset": (8, 0)}, InvalidArgumentError, r"no texels .* at offset \[8, 0, 0\]"),
        ({"offset": (1, 0), "extent": (8, 6)}, InvalidArgumentError, "no texels"),
        ({"extent": (0, 6)}, InvalidArgumentError, "no texels"),
        ({"offset": ()}, InvalidArgumentError, "offset is empty"),
        ({"offset": -1}, (TypeError, InvalidArgumentError), "offset"),  # type: ignore[dict-item]
        ({"aspect": "DEPTH"}, InvalidArgumentError, "aspect is DEPTH: one of"),
        ({"aspect": ImageAspect.COLOR | ImageAspect.DEPTH}, InvalidArgumentError, "aspect is"),
        ({"dtype": "O"}, TypeError, "object"),
    ]
    for keywords, kind, text in wrong:
        with pytest.raises(kind, match=text):
            image.upload(good, **keywords)
    with pytest.raises(
        InvalidArgumentError,
        match=r"'texture'.*: 8 x 6 texels of mip level 0 of layer 0, COLOR of R8G8B8A8_UNORM, have "
        "192 bytes, and the array has 10 bytes",
    ):
        image.upload(bytes(10))
    image.upload(good)
    for keywords, text in (
        ({"shape": (6, 8)}, r"192 bytes, and \(6, 8\) elements of uint8 have 48 bytes"),
        ({"shape": (-1, 8)}, "no side is negative"),
        ({"dtype": "f8"}, "4 bytes of a texel or block are no whole number"),
        ({"out": bytearray(191)}, "out has 191 bytes"),
        ({"out": bytearray(192), "dtype": "u1"}, "out= stands instead"),
    ):
        with pytest.raises(InvalidArgumentError, match=text):
            image.download(**keywords)  # type: ignore[arg-type]
    transfers = allocator.transfers
    with pytest.raises(InvalidArgumentError, match="size is a keyword of buffers"):
        transfers.download(image, size=4)
    with pytest.raises(InvalidArgumentError, match="the array is not registered"):
        transfers.upload(good, image, way="import")
    with pytest.raises(
        InvalidArgumentError, match=r"cannot be copied by the host: (it was cr|the dev)"
    ):
        transfers.upload(good, image, way="host")
    with pytest.raises(InvalidArgumentError, match="no direct way: the texels of its tiling"):
        transfers.upload(good, image, way="direct")
    with allocator.create_buffer(192, TRANSFER) as buffer:
        with pytest.raises(InvalidArgumentError, match="one of images"):
            transfers.upload(good, buffer, way="host")  # type: ignore[call-overload]
        for keyword in ("mip_level", "base_layer", "layer_count", "extent", "aspect", "layout"):
            with pytest.raises(TypeError, match=f"{keyword} is a keyword of images"):
                transfers.upload(good, buffer, **{keyword: 0})  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="aspect is a keyword of images"):
            transfers.download(buffer, aspect=1)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="resource must be"):
        transfers.upload(good, allocator)  # type: ignore[call-overload]
    image.destroy()
    with pytest.raises(UseAfterFreeError):
        image.upload(good)
    with allocator.create_image(RGBA8, (8, 6), ImageUsage.SAMPLED) as image:
        with pytest.raises(
            InvalidArgumentError, match=r"without ImageUsage\.TRANSFER_DST, and the te"
        ):
            image.upload(good)
        image.layout = ImageLayout.GENERAL
        with pytest.raises(InvalidArgumentError, match=r"without ImageUsage\.TRANSFER_SRC"):
            image.download()
    usage = IMAGE_TRANSFER | ImageUsage.COLOR_ATTACHMENT
    with (
        allocator.create_image(RGBA8, (8, 6), usage, samples=4) as image,
        pytest.raises(InvalidArgumentError, match="has 4 samples"),
    ):
        image.upload(good)
    with (
        allocator.create_image(RGBA8, (8, 6), IMAGE_TRANSFER, flags="DONT_BIND") as image,
        pytest.raises(InvalidArgumentError, match="not bound"),
    ):
        image.upload(good)


def test_blocks_are_not_cut(allocator: Allocator) -> None:
    image = create(allocator, Format.BC1_RGB_UNORM_BLOCK, (10, 8))
    if image is None:
        return
    with pytest.raises(InvalidArgumentError, match="cut its blocks of 4 x 4"):
        image.upload(bytes(8), offset=(2, 0), extent=(4, 4))
    with pytest.raises(InvalidArgumentError, match="cut its blocks of 4 x 4"):
        image.upload(bytes(8), extent=(3, 4))
    data = np.frombuffer(pattern(48), np.uint8).reshape(2, 3, 8)
    image.upload(data)
    assert (image.download() == data).all()
    # At the edge a block may have fewer texels.
    assert (image.download(offset=(8, 4)) == data[1:, 2:]).all()
    assert image.download("u8", offset=(8, 4)).shape == (1, 1)
    image.destroy()


def test_sources_and_targets(allocator: Allocator) -> None:
    texels = np.frombuffer(pattern(6 * 8 * 4), np.uint8).reshape(6, 8, 4)
    with allocator.create_image(RGBA8, (8, 6), IMAGE_TRANSFER) as image:
        for source in (
            texels,
            texels.tobytes(),
            np.asfortranarray(texels),
            np.repeat(texels, 2, axis=1)[:, ::2],
            texels.reshape(-1).view(np.uint32),
            memoryview(texels),
        ):
            image.upload(np.zeros_like(texels))
            image.upload(source)
            assert (image.download() == texels).all()
        image.upload(texels.astype(np.uint16), dtype=np.uint8)
        assert (image.download() == texels).all()
        # Elements larger than texels.
        image.upload(np.repeat(texels.reshape(-1).view("u8"), 2)[::2])
        assert (image.download() == texels).all()
        out = bytearray(192)
        assert image.download(out=out) is out and out == texels.tobytes()
        assert (image.download(shape=192) == texels.reshape(-1)).all()
        assert image.download("u4").shape == (6, 8)
        part = image.download(offset=(2, 1), extent=(3, 4))
        assert (part == texels[1:5, 2:5]).all()
    with allocator.create_image("R32_SFLOAT", (4, 2), IMAGE_TRANSFER) as image:
        image.upload(np.arange(8, dtype=np.float64), dtype=np.float32)
        assert image.download().dtype == np.float32 and image.download().shape == (2, 4)
        assert (image.download().reshape(-1) == np.arange(8)).all()


def test_linear_images_have_a_direct_way(allocator: Allocator, transfers: Transfers) -> None:
    texels = np.frombuffer(pattern(6 * 7 * 4), np.uint8).reshape(6, 7, 4)
    image = create(allocator, RGBA8, (7, 6), tiling="LINEAR", flags=RANDOM)
    if image is None:
        return
    assert "layout is not GENERAL or PREINITIALIZED" in transfers.explain(texels, image)
    up = transfers.upload(texels, image)
    assert up.way == "ring"
    up.result()
    assert image.layout is ImageLayout.GENERAL
    assert "direct: upload" in transfers.explain(texels, image)
    up = transfers.upload(texels[::-1], image)
    assert up.way == "direct" and up.done()
    assert (image.numpy() == texels[::-1]).all()
    assert (transfers.download(image, way="ring").result() == texels[::-1]).all()
    transfers.upload(texels[:2, :3], image, offset=(4, 1), extent=(3, 2), way="direct").result()
    right = texels[::-1].copy()
    right[1:3, 4:] = texels[:2, :3]
    for way in (None, "ring", "direct"):
        try:
            back = transfers.download(image, way=way)  # type: ignore[call-overload]
        except InvalidArgumentError as error:
            assert "not cached" in str(error)
            continue
        assert (back.result() == right).all()
    # Another layout is the device's affair.
    assert transfers.upload(texels, image, layout="TRANSFER_SRC_OPTIMAL").way == "ring"
    assert transfers.upload(texels, image).way == "ring"
    transfers.wait()
    image.destroy()
    image = allocator.create_image(
        RGBA8,
        (7, 6),
        ImageUsage.TRANSFER_SRC,
        tiling="LINEAR",
        flags=RANDOM,
        initial_layout="PREINITIALIZED",
    )
    assert image.layout is ImageLayout.PREINITIALIZED
    assert transfers.upload(texels, image).way == "direct"
    assert image.layout is ImageLayout.PREINITIALIZED
    assert (transfers.download(image, way="ring").result() == texels).all()
    assert image.layout is ImageLayout.GENERAL
    image.destroy()


def test_create_image_with_data(allocator: Allocator) -> None:
    texels = np.frombuffer(pattern(6 * 8 * 4), np.uint8).reshape(6, 8, 4)
    usage = ImageUsage.SAMPLED | ImageUsage.TRANSFER_SRC
    with allocator.create_image(RGBA8, (8, 6), usage, data=texels) as image:
        assert image.usage == usage | ImageUsage.TRANSFER_DST
        assert image.layout is ImageLayout.SHADER_READ_ONLY_OPTIMAL and image.mip_levels == 1
        assert (image.download() == texels).all()
    with allocator.create_image(RGBA8, (8, 6), usage, data=texels, layout="GENERAL") as image:
        assert image.layout is ImageLayout.GENERAL
    with allocator.create_image(RGBA8, (8, 6), usage, data=None) as image:
        assert image.layout is ImageLayout.UNDEFINED and image.usage == usage
    before = len(list(allocator.leaks()))
    with pytest.raises(InvalidArgumentError, match="192 bytes, and the array has 188 bytes"):
        allocator.create_image(RGBA8, (8, 6), usage, data=texels.reshape(-1)[4:])
    for keyword in ("layout", "generate_mipmaps"):
        with pytest.raises(InvalidArgumentError, match=f"{keyword} needs data"):
            allocator.create_image(RGBA8, (8, 6), usage, **{keyword: 1})  # type: ignore[call-overload]
    assert len(list(allocator.leaks())) == before


def test_many(allocator: Allocator, transfers: Transfers) -> None:
    images = [allocator.create_image("R8_UNORM", (16, 4 + it), IMAGE_TRANSFER) for it in range(20)]
    arrays = [np.full((4 + it, 16), it, np.uint8) for it in range(20)]
    transfers.upload_many(arrays, images)
    backs = transfers.download_many(images)
    for array, back in zip(arrays, backs, strict=True):
        assert (back.result() == array).all()
    assert transfers.stats().submits == 2
    with pytest.raises(InvalidArgumentError, match="arrays need as many images"):
        transfers.upload_many(arrays[1:], images)
    with pytest.raises(TypeError, match="offsets is a keyword of buffers"):
        transfers.upload_many(arrays, images, [0] * 20)
    with pytest.raises(InvalidArgumentError, match=r"item 3|index 3|3:"):
        transfers.upload_many([*arrays[:3], b"x", *arrays[4:]], images)
    allocator.destroy_many(images)


def test_larger_than_the_ring(allocator: Allocator, transfers: Transfers) -> None:
    """Rows that fit, rows that do not, and slices."""
    random = np.random.default_rng(1)
    for extent, keywords in (
        ((300, 200), {}),
        ((4096, 5), {}),
        ((64, 64), {"array_layers": 9}),
        ((64, 64, 20), {}),
    ):
        image = allocator.create_image("R8G8B8A8_UNORM", extent, IMAGE_TRANSFER, **keywords)
        data = random.integers(0, 256, size_of(image), np.uint8)
        up = transfers.upload(data, image)
        assert (transfers.download(image).result().reshape(-1) == data).all()
        assert up.result() is None and transfers.stats().in_flight <= 1
        image.destroy()
    image = create(allocator, "R8G8B8_UNORM", (301, 201))
    if image is not None:
        data = random.integers(0, 256, 301 * 201 * 3, np.uint8)
        transfers.upload(data, image).result()
        assert (transfers.download(image).result().reshape(-1) == data).all()
        image.destroy()


def halved(level: Any) -> Any:
    """A box filter, as blits of even sides are."""
    wide = level.astype(np.float64)
    return (wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]) / 4


@pytest.mark.parametrize("format", ["R8G8B8A8_UNORM", "R16G16B16A16_SFLOAT", "R8_UNORM"])
def test_mip_levels(allocator: Allocator, format: str) -> None:
    random = np.random.default_rng(5)
    usage = ImageUsage.SAMPLED | ImageUsage.TRANSFER_SRC
    zeros = np.zeros((32, 64) if format == "R8_UNORM" else (32, 64, 4))
    data = random.integers(0, 256, zeros.shape).astype(np.uint8)
    texels = data.astype(np.float16) if "SFLOAT" in format else data
    image = allocator.create_image(format, (64, 32), usage, data=texels, generate_mipmaps=True)
    assert image.mip_levels == 7 and image.usage == usage | ImageUsage.TRANSFER_DST
    assert image.layout is ImageLayout.SHADER_READ_ONLY_OPTIMAL

    def check(first: Any) -> None:
        level = first
        assert (image.download(mip_level=0) == first).all()
        for number in range(1, 6):
            found = image.download(mip_level=number)
            assert np.abs(found.astype(np.float64) - halved(level)).max() <= 1
            level = found

    check(texels)
    image.upload(texels[::-1])
    image.generate_mipmaps(layout="TRANSFER_SRC_OPTIMAL")
    assert image.layout is ImageLayout.TRANSFER_SRC_OPTIMAL
    check(texels[::-1])
    with Transfers(allocator, 16 * RING) as transfers:
        with transfers.batch():
            transfers.upload(texels, image)
            made = transfers.generate_mipmaps(image, "NEAREST", "GENERAL")
            back = transfers.download(image, mip_level=1)
        assert made.direction == "mipmaps" and made.way == "blit"
        assert made.result() is None and image.layout is ImageLayout.GENERAL
        # Nearest takes one of the four.
        choices = [texels[y::2, x::2] for x in (0, 1) for y in (0, 1)]
        found = back.result()
        assert np.any([found == it for it in choices], axis=0).all()
        assert transfers.stats().submits == 1
    image.destroy()


def test_mip_levels_of_integers_and_layers(allocator: Allocator) -> None:
    texels = np.arange(3 * 8 * 8, dtype=np.uint32).reshape(3, 8, 8)
    usage = ImageUsage.SAMPLED | ImageUsage.TRANSFER_SRC
    image = allocator.create_image(
        "R32_UINT", (8, 8), usage, data=texels, array_layers=3, mip_levels=2, generate_mipmaps=True
    )
    assert image.mip_levels == 2
    found = image.download(mip_level=1)
    choices = [texels[:, y::2, x::2] for x in (0, 1) for y in (0, 1)]
    assert np.any([found == it for it in choices], axis=0).all()
    with pytest.raises(FeatureNotPresentError, match=r"R32_UINT.*FILTER_LINEAR_BIT"):
        image.generate_mipmaps("LINEAR")
    image.destroy()


def test_mip_levels_that_cannot_be_made(allocator: Allocator) -> None:
    with (
        allocator.create_image(RGBA8, (8, 8), IMAGE_TRANSFER, name="flat") as image,
        pytest.raises(InvalidArgumentError, match=r"'flat' .* has one mip level"),
    ):
        image.generate_mipmaps()
    with (
        allocator.create_image(RGBA8, (8, 8), IMAGE_TRANSFER, mip_levels=2) as image,
        pytest.raises(InvalidArgumentError, match=r"no contents.*UNDEFINED"),
    ):
        image.generate_mipmaps()
    for usage, name in (
        (ImageUsage.TRANSFER_DST, "TRANSFER_SRC"),
        (ImageUsage.TRANSFER_SRC, "TRANSFER_DST"),
    ):
        with (
            allocator.create_image(RGBA8, (8, 8), usage, mip_levels=2) as image,
            pytest.raises(InvalidArgumentError, match=rf"without ImageUsage\.{name}"),
        ):
            image.generate_mipmaps()
    image = create(allocator, "D32_SFLOAT_S8_UINT", (8, 8), mip_levels=2)
    if image is not None:
        image.layout = ImageLayout.GENERAL
        with pytest.raises(InvalidArgumentError, match="no one mip level to filter"):
            image.generate_mipmaps()
        image.destroy()
    image = create(allocator, "BC1_RGB_UNORM_BLOCK", (8, 8), mip_levels=2)
    if image is not None:
        image.layout = ImageLayout.GENERAL
        with pytest.raises(
            FeatureNotPresentError, match=r"BC1_RGB_UNORM_BLOCK.*BLIT_(SRC|DST)_BIT"
        ):
            image.generate_mipmaps()
        image.destroy()
