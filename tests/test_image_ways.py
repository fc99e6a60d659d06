"""Images that the host copies itself, and those that are copied from and to pages of arrays."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from support import IMAGE_TRANSFER, RGBA8

from vk_mem import (
    Allocator,
    Device,
    DeviceLostError,
    DeviceType,
    FeatureNotPresentError,
    ImageLayout,
    ImageUsage,
    InvalidArgumentError,
    OutOfHostMemoryError,
    QueueFlags,
    SimulatedDevice,
    Transfers,
)

HOST = ImageUsage.HOST_TRANSFER
BOTH = IMAGE_TRANSFER | HOST
RING = 64 << 10
# Profiles with `VK_EXT_host_image_copy`: a card, and a device that shares the host's memory.
HAVE_IT = ["nvidia-h200", "integrated"]


@pytest.fixture(params=HAVE_IT)
def device(request: Any) -> Iterator[SimulatedDevice]:
    device = SimulatedDevice(request.param)
    yield device
    assert device.violations == []


@pytest.fixture
def allocator(device: SimulatedDevice) -> Iterator[Allocator]:
    with Allocator(device) as allocator:
        yield allocator
    assert device.live_images == 0 and device.live_memory_objects == 0


@pytest.fixture
def transfers(allocator: Allocator) -> Iterator[Transfers]:
    with Transfers(allocator, RING) as transfers:
        yield transfers


def texels_of(shape: tuple[int, ...], seed: int = 1) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def submits(device: SimulatedDevice) -> int:
    return device.call_count("vkQueueSubmit")


CASES: dict[str, tuple[str, Any, dict[str, Any], tuple[int, ...]]] = {
    "colour": ("R8G8B8A8_UNORM", (40, 24), {}, (24, 40, 4)),
    "halves": ("R16G16B16A16_SFLOAT", (5, 3), {}, (3, 5, 8)),
    "depth and stencil": ("D24_UNORM_S8_UINT", (9, 7), {}, (7, 9, 4)),
    "blocks": ("BC1_RGB_UNORM_BLOCK", (18, 10), {}, (3, 5, 8)),
    "layers": ("R8G8B8A8_UNORM", (17, 9), {"array_layers": 5}, (5, 9, 17, 4)),
    "3d": ("R8_UNORM", (12, 10, 7), {}, (7, 10, 12)),
    "1d": ("R8G8B8A8_UNORM", 33, {}, (1, 33, 4)),
    "linear": ("R8G8B8A8_UNORM", (40, 24), {"tiling": "LINEAR"}, (24, 40, 4)),
}


@pytest.mark.parametrize("case", CASES)
def test_all_ways_give_the_same_bytes(
    allocator: Allocator, transfers: Transfers, case: str
) -> None:
    format, extent, keywords, shape = CASES[case]
    image = allocator.create_image(format, extent, BOTH, **keywords)  # type: ignore[call-overload]
    source, target = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    unused = np.array([255, 255, 255, 0] if "D24" in format else [255], np.uint8)
    # Where the pages begin is the driver's affair, and where the array begins NumPy's.
    with transfers.register(source), transfers.register(target):
        seed = 0
        for up in ("ring", "host", "import"):
            for down in ("ring", "host", "import"):
                seed += 1
                source[:] = texels_of(shape, seed)
                if format == "R16G16B16A16_SFLOAT":
                    source &= 0x3B  # Halves that are numbers.
                target[:] = 0
                begun = transfers.upload(source, image, way=up)  # type: ignore[call-overload]
                assert begun.way == up and begun.result() is None
                begun = transfers.download(image, out=target, way=down)  # type: ignore[call-overload]
                assert begun.way == down and begun.result() is target
                size = len(unused)
                right = source.reshape(-1, size) & unused if size > 1 else source
                found = target.reshape(-1, size) & unused if size > 1 else target
                assert (found == right).all(), (up, down)
    stats = transfers.stats()
    assert (stats.by_host, stats.imported, stats.ring) == (6, 6, 6)
    assert stats.bytes_up == stats.bytes_down == 9 * source.nbytes
    image.destroy()


def test_the_host_copies_without_ring_and_submission(
    device: SimulatedDevice, allocator: Allocator, transfers: Transfers
) -> None:
    texels = texels_of((24, 40, 4))
    image = allocator.create_image(RGBA8, (40, 24), BOTH | ImageUsage.SAMPLED)
    is_card = device.properties.device_type is DeviceType.DISCRETE_GPU
    assert "host: upload" in transfers.explain(texels, image)
    up = transfers.upload(texels, image)
    assert up.way == "host" and up.done() and up.direction == "upload"
    assert submits(device) == 0 and transfers.stats().ring_bytes == 0
    assert image.layout is ImageLayout.SHADER_READ_ONLY_OPTIMAL
    text = transfers.explain(texels, image, "download")
    # Over the bus of a card the host reads slowly.
    assert text.startswith("ring" if is_card else "host") and ("slowly" in text) == is_card
    back = transfers.download(image)
    assert back.way == ("ring" if is_card else "host")
    assert (back.result() == texels).all()
    assert submits(device) == int(is_card)
    image.destroy()


def test_the_device_copies_where_that_is_better(
    device: SimulatedDevice, allocator: Allocator, transfers: Transfers
) -> None:
    """What a card draws to is not compressed any more where the host copies it."""
    texels = texels_of((8, 8, 4))
    usage = BOTH | ImageUsage.SAMPLED | ImageUsage.COLOR_ATTACHMENT
    image = allocator.create_image(RGBA8, (8, 8), usage)
    asked = device.call_count("vkGetPhysicalDeviceImageFormatProperties2")
    is_card = device.properties.device_type is DeviceType.DISCRETE_GPU
    for _ in range(3):
        assert transfers.upload(texels, image).way == ("ring" if is_card else "host")
    transfers.wait()
    # Once for all transfers of an image.
    now = device.call_count("vkGetPhysicalDeviceImageFormatProperties2")
    assert now - asked == int(is_card)
    if is_card:
        assert "do not lie as the device likes" in transfers.explain(texels, image)
    assert (transfers.download(image, way="host").result() == texels).all()
    image.destroy()
    # Without the usages of copies there is no choice.
    image = allocator.create_image(RGBA8, (8, 8), HOST | ImageUsage.COLOR_ATTACHMENT)
    assert transfers.upload(texels, image).way == "host"
    # The host cannot bring it into COLOR_ATTACHMENT_OPTIMAL.
    assert image.layout is ImageLayout.GENERAL
    assert (image.download() == texels).all()
    with pytest.raises(InvalidArgumentError, match=r"without ImageUsage\.TRANSFER_DST"):
        transfers.upload(texels, image, way="ring")
    image.destroy()


def test_layouts(allocator: Allocator, transfers: Transfers) -> None:
    texels = texels_of((8, 8, 4))
    usage = BOTH | ImageUsage.SAMPLED | ImageUsage.COLOR_ATTACHMENT
    image = allocator.create_image(RGBA8, (8, 8), usage)
    for layout in ("GENERAL", "SHADER_READ_ONLY_OPTIMAL", "TRANSFER_SRC_OPTIMAL"):
        transfers.upload(texels, image, layout=layout, way="host").result()
        assert image.layout is ImageLayout[layout]
        assert (transfers.download(image, way="host").result() == texels).all()
        assert image.layout is ImageLayout[layout]
    # A part of it, in a layout that cannot be copied to: the rest stays.
    texels[2:4] = 7
    transfers.upload(texels[2:4], image, offset=(0, 2), extent=(8, 2), way="host").result()
    assert image.layout is ImageLayout.TRANSFER_SRC_OPTIMAL
    assert (transfers.download(image, way="ring").result() == texels).all()
    with pytest.raises(InvalidArgumentError, match="cannot bring it into the layout"):
        transfers.upload(texels, image, layout="COLOR_ATTACHMENT_OPTIMAL", way="host")
    up = transfers.upload(texels, image, layout="COLOR_ATTACHMENT_OPTIMAL")
    assert up.way == "ring" and up.result() is None
    for start in (lambda: transfers.upload(texels, image, way="host"),):
        with pytest.raises(InvalidArgumentError, match="can neither copy in its layout nor"):
            start()
    with pytest.raises(InvalidArgumentError, match="can neither copy in its layout nor"):
        transfers.download(image, way="host")
    assert transfers.download(image).way == "ring"
    transfers.wait()
    image.destroy()
    image = allocator.create_image(
        RGBA8, (8, 8), BOTH, tiling="LINEAR", initial_layout="PREINITIALIZED"
    )
    transfers.upload(texels, image, way="host").result()
    assert image.layout is ImageLayout.GENERAL
    assert (image.download() == texels).all()
    image.destroy()


def test_sources(allocator: Allocator, transfers: Transfers) -> None:
    """Arrays that the device reads as they lie, and those that are gathered or converted."""
    texels = texels_of((3, 6, 8, 4))
    wide = np.zeros((3, 6, 11, 4), np.uint8)
    wide[:, :, :8] = texels
    tall = np.zeros((3, 9, 8, 4), np.uint8)
    tall[:, :6] = texels
    odd = np.zeros((3, 6, 8 * 4 + 3), np.uint8)
    odd[:, :, :32] = texels.reshape(3, 6, 32)
    sources: list[Any] = [
        texels,
        texels.tobytes(),
        wide[:, :, :8],
        tall[:, :6],
        odd[:, :, :32],
        np.ascontiguousarray(texels[:, ::-1])[:, ::-1],
        np.asfortranarray(texels),
        np.repeat(texels, 2, axis=1)[:, ::2],
        np.repeat(texels, 2, axis=2)[:, :, ::2],
        # Elements larger than texels.
        np.repeat(texels.reshape(-1).view("u8"), 2)[::2],
    ]
    with allocator.create_image(RGBA8, (8, 6), BOTH, array_layers=3) as image:
        for number, source in enumerate(sources):
            transfers.upload(np.zeros_like(texels), image, way="ring").result()
            transfers.upload(source, image, way="host").result()
            assert (transfers.download(image, way="ring").result() == texels).all(), number
        transfers.upload(texels[::-1].astype(np.uint16), image, dtype=np.uint8, way="host").result()
        assert (transfers.download(image, way="host").result() == texels[::-1]).all()
        part = transfers.download(image, offset=(2, 1), extent=(3, 4), way="host").result()
        assert (part == texels[::-1, 1:5, 2:5]).all()
    # Larger than what is gathered at once.
    large = np.asfortranarray(texels_of((2100, 2048, 4)))
    with allocator.create_image(RGBA8, (2048, 2100), BOTH) as image:
        transfers.upload(large, image, way="host").result()
        assert (transfers.download(image, way="host").result() == large).all()


def test_what_cannot_be_converted_is_told(allocator: Allocator, transfers: Transfers) -> None:
    class Broken(np.ndarray):
        def __array_function__(self, *_: Any, **__: Any) -> Any:
            raise ZeroDivisionError

    with allocator.create_image("R32_SFLOAT", (4, 4), BOTH) as image:
        with pytest.raises(ZeroDivisionError):
            transfers.upload(np.zeros(16).view(Broken), image, dtype=np.float32, way="host")
        transfers.upload(np.arange(16, dtype=np.float32), image, way="host").result()
        assert (image.download().reshape(-1) == np.arange(16)).all()


def test_what_is_in_flight(
    device: SimulatedDevice, allocator: Allocator, transfers: Transfers
) -> None:
    texels = texels_of((8, 8, 4))
    device.set_completion("when waited")
    image = allocator.create_image(RGBA8, (8, 8), BOTH | ImageUsage.SAMPLED)
    first = transfers.upload(texels, image, way="ring")
    assert "an earlier transfer of the image is in flight" in transfers.explain(texels, image)
    second = transfers.upload(texels[::-1], image)
    assert second.way == "ring" and not first.done()
    third = transfers.upload(texels, image, way="host")
    assert first.done() and second.done() and third.done()
    assert (transfers.download(image, way="host").result() == texels).all()
    with transfers.batch():
        fourth = transfers.upload(texels[::-1], image, way="ring")
        with pytest.raises(InvalidArgumentError, match="an open batch is to write to it"):
            transfers.upload(texels, image, way="host")
        assert transfers.upload(texels[::-1], image).way == "ring"
    assert (transfers.download(image).result() == texels[::-1]).all() and fourth.done()
    transfers.wait()
    image.destroy()


@pytest.mark.parametrize(("vk_result", "kind"), [(-1, OutOfHostMemoryError), (-4, DeviceLostError)])
def test_each_call_fails(
    device: SimulatedDevice,
    allocator: Allocator,
    transfers: Transfers,
    vk_result: int,
    kind: type[Exception],
) -> None:
    """The error is the transfer's, and the layout is the one that the image is in."""
    texels = texels_of((8, 8, 4))
    image = allocator.create_image(RGBA8, (8, 8), BOTH | ImageUsage.SAMPLED)
    device.fail_next("vkTransitionImageLayout", vk_result=vk_result)
    up = transfers.upload(texels, image, way="host")
    assert isinstance(up.exception(), kind) and up.done()
    assert image.layout is ImageLayout.UNDEFINED
    device.fail_next("vkCopyMemoryToImage", vk_result=vk_result)
    up = transfers.upload(texels, image, way="host")
    with pytest.raises(kind, match="vkCopyMemoryToImage"):
        up.result()
    assert image.layout is ImageLayout.SHADER_READ_ONLY_OPTIMAL
    transfers.upload(texels, image, way="host").result()
    device.fail_next("vkCopyImageToMemory", vk_result=vk_result)
    back = transfers.download(image, way="host")
    with pytest.raises(kind, match="vkCopyImageToMemory"):
        back.result()
    # Copied, and not brought into the layout that was asked for.
    device.fail_next("vkTransitionImageLayout", vk_result=vk_result)
    up = transfers.upload(texels[::-1], image, layout="TRANSFER_SRC_OPTIMAL", way="host")
    assert isinstance(up.exception(), kind)
    assert image.layout is ImageLayout.SHADER_READ_ONLY_OPTIMAL
    assert (transfers.download(image, way="host").result() == texels[::-1]).all()
    image.destroy()


def test_other_threads_run_meanwhile(
    device: SimulatedDevice, allocator: Allocator, transfers: Transfers
) -> None:
    texels = texels_of((8, 8, 4))
    image = allocator.create_image(RGBA8, (8, 8), BOTH)
    transfers.upload(texels, image, way="host").result()
    ticks: list[float] = []
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(0.01):
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    for call, copy in (
        ("vkCopyMemoryToImage", lambda: transfers.upload(texels, image, way="host")),
        ("vkCopyImageToMemory", lambda: transfers.download(image, way="host")),
    ):
        device.set_latency(0.5, call)
        start = time.monotonic()
        copy().result()
        end = time.monotonic()
        assert end - start >= 0.5
        assert sum(start < it < end for it in ticks) >= 5
        device.set_latency(0, call)
    ended.set()
    thread.join()
    image.destroy()


def test_what_is_missing_is_told(device: SimulatedDevice, allocator: Allocator) -> None:
    transfers, texels = allocator.transfers, texels_of((8, 8, 4))
    with allocator.create_image(RGBA8, (8, 8), IMAGE_TRANSFER) as image:
        for start in (transfers.upload, lambda _, image, way: transfers.download(image, way=way)):
            image.layout = ImageLayout.GENERAL
            with pytest.raises(InvalidArgumentError, match=r"without ImageUsage\.HOST_TRANSFER"):
                start(texels, image, way="host")
    with pytest.raises(InvalidArgumentError, match="'direct', 'ring', 'import' or 'host'"):
        transfers.upload(texels, image, way="hosted")  # type: ignore[call-overload]
    with pytest.raises(FeatureNotPresentError, match="HOST_TRANSFER_EXT usage"):
        allocator.create_image("G8_B8R8_2PLANE_420_UNORM", (8, 8), BOTH)
    with Allocator(SimulatedDevice("lavapipe")) as without:
        with pytest.raises(FeatureNotPresentError, match="needs the feature hostImageCopy"):
            without.create_image(RGBA8, (8, 8), BOTH)
        with (
            without.create_image(RGBA8, (8, 8), IMAGE_TRANSFER) as image,
            pytest.raises(InvalidArgumentError, match=r"device has no copies .*hostImageCopy"),
        ):
            without.transfers.upload(texels, image, way="host")


def test_new_images_with_data(device: SimulatedDevice, allocator: Allocator) -> None:
    texels = texels_of((8, 8, 4))
    usage = HOST | ImageUsage.SAMPLED | ImageUsage.TRANSFER_SRC
    with allocator.create_image(RGBA8, (8, 8), usage, data=texels, generate_mipmaps=True) as image:
        assert allocator.transfers.stats().by_host == 1
        assert (image.download() == texels).all()
        assert image.download(mip_level=1).shape == (4, 4, 4)


def test_pages_of_an_array(
    device: SimulatedDevice, allocator: Allocator, transfers: Transfers
) -> None:
    """The device copies between an array that is registered and an image."""
    memory = np.zeros(1 << 16, np.uint8)
    # From a multiple of 4 on in its page, so that the parts below are what they say.
    start = -memory.ctypes.data % 4
    texels = memory[start : start + 24 * 40 * 4].reshape(24, 40, 4)
    texels[:] = texels_of(texels.shape)
    image = allocator.create_image(RGBA8, (40, 24), IMAGE_TRANSFER, mip_levels=2)
    with transfers.register(memory):
        assert "import: upload" in transfers.explain(texels, image)
        up = transfers.upload(texels, image)
        assert up.way == "import"
        up.result()
        device.set_completion("held")
        begun = transfers.upload(texels, image)
        with pytest.raises(BufferError, match="in flight"):
            image.destroy()
        device.complete_submissions()
        device.set_completion("at once")
        assert begun.result() is None
        target = memory[start + texels.nbytes :][: texels.nbytes].reshape(texels.shape)
        back = transfers.download(image, out=target)
        assert back.way == "import" and back.result() is target
        assert (target == texels).all()
        before = submits(device)
        with transfers.batch():
            transfers.upload(target[:12, :20].copy(), image, mip_level=1)
            texels[0] = 9
            transfers.upload(texels, image)
            part = target.reshape(-1)[: 20 * 4].reshape(1, 20, 4)
            below = transfers.download(image, out=part, mip_level=1, extent=(20, 1))
        assert below.way == "import" and below.result() is part
        assert submits(device) == before + 1
        assert (image.download() == texels).all()
        # Texels begin at multiples of 4 bytes.
        odd = memory[start + 1 : start + 1 + texels.nbytes]
        right = odd.copy()
        with pytest.raises(InvalidArgumentError, match="does not begin at a multiple of 4 bytes"):
            transfers.upload(odd, image, way="import")
        up = transfers.upload(odd, image)
        assert up.way == "ring" and up.result() is None
        assert (image.download().reshape(-1) == right).all()
        # What is strided is gathered.
        assert transfers.upload(texels[::-1], image).way == "ring"
        transfers.wait()
    with pytest.raises(InvalidArgumentError, match="not registered"):
        transfers.download(image, out=target, way="import")
    image.destroy()
    with (
        allocator.create_image(RGBA8, (40, 24), ImageUsage.SAMPLED) as image,
        pytest.raises(InvalidArgumentError, match=r"without ImageUsage\.TRANSFER_DST"),
    ):
        transfers.upload(texels, image, way="import")


def test_queues_without_graphics() -> None:
    texels = texels_of((8, 8)).astype(np.float32)
    device = SimulatedDevice("discrete-8gib", queue_flags="COMPUTE | TRANSFER")
    with Allocator(device) as allocator:
        image = allocator.create_image("D32_SFLOAT", (8, 8), IMAGE_TRANSFER)
        for copy in (lambda: image.upload(texels), lambda: image.download()):
            with pytest.raises(
                FeatureNotPresentError,
                match="DEPTH is copied by a queue with GRAPHICS, and the device's has none",
            ):
                copy()
            image.layout = ImageLayout.GENERAL
        image.destroy()
        image = allocator.create_image("S8_UINT", (8, 8), IMAGE_TRANSFER)
        with pytest.raises(FeatureNotPresentError, match="STENCIL is copied by a queue with GR"):
            image.upload(bytes(64))
        image.destroy()
        image = allocator.create_image(RGBA8, (8, 8), IMAGE_TRANSFER, mip_levels=2)
        image.upload(texels)
        with pytest.raises(FeatureNotPresentError, match="mip levels are made by a queue with GRA"):
            image.generate_mipmaps()
        assert (image.download() == texels.view(np.uint8).reshape(8, 8, 4)).all()
        image.destroy()
    assert device.violations == []
    # The host needs no queue.
    device = SimulatedDevice("integrated", queue_flags=QueueFlags.TRANSFER)
    with (
        Allocator(device) as allocator,
        allocator.create_image("D32_SFLOAT", (8, 8), BOTH) as image,
    ):
        image.upload(texels)
        assert (image.download() == texels).all()
    assert device.violations == [] and submits(device) == 0
    for wrong in ("GRAPHIC", 1 << 33):
        with pytest.raises((InvalidArgumentError, OverflowError)):
            SimulatedDevice(queue_flags=wrong)  # type: ignore[arg-type]


@pytest.mark.driver
def test_the_driver(real_device: Device) -> None:
    """What the driver and the validation layer say to copies by the host."""
    if "hostImageCopy" not in real_device.features:
        pytest.skip("the driver has no VK_EXT_host_image_copy")
    with Allocator(real_device) as allocator, Transfers(allocator, RING) as transfers:
        usage = BOTH | ImageUsage.SAMPLED
        for case, (format, extent, keywords, shape) in CASES.items():
            try:
                image = allocator.create_image(format, extent, usage, **keywords)  # type: ignore[call-overload]
            except (FeatureNotPresentError, InvalidArgumentError):
                continue
            data = texels_of(shape) & 0x3B
            if "D24" in format:
                data[..., 3] = 0
            for up, down in (("host", "ring"), ("ring", "host"), ("host", "host")):
                transfers.upload(np.zeros_like(data), image, way="ring").result()
                transfers.upload(data, image, way=up).result()  # type: ignore[call-overload]
                back = transfers.download(image, way=down)  # type: ignore[call-overload]
                assert back.result().tobytes() == data.tobytes(), (case, up, down)
            image.destroy()
