"""Transfers of images and their ends: threads, failures of the driver, images in flight."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from support import IMAGE_TRANSFER, RGBA8, TRANSFER, run_python

from vk_mem import (
    Allocator,
    DeviceLostError,
    ImageLayout,
    ImageUsage,
    InvalidArgumentError,
    OutOfDeviceMemoryError,
    OutOfHostMemoryError,
    SimulatedDevice,
    Transfers,
    VkMemError,
)

RING = 64 << 10
TEXELS = np.arange(64 * 64 * 4).astype(np.uint8).reshape(64, 64, 4)


@pytest.fixture
def held(simulated: SimulatedDevice) -> Iterator[SimulatedDevice]:
    """A device that ends nothing before it is told to."""
    simulated.set_completion("held")
    yield simulated
    simulated.set_completion("at once")


def test_an_image_in_flight_is_not_destroyed(held: SimulatedDevice) -> None:
    with Allocator(held) as allocator, Transfers(allocator, RING) as transfers:
        image = allocator.create_image(RGBA8, (64, 64), IMAGE_TRANSFER, name="texture")
        up = transfers.upload(TEXELS, image)
        back = transfers.download(image)
        for end in (image.destroy, image.retire):
            with pytest.raises(BufferError, match=r"Image 'texture' .* a transfer of it is in fli"):
                end()
        assert not up.done() and image.layout is ImageLayout.TRANSFER_SRC_OPTIMAL
        held.complete_submissions()
        assert (back.result() == TEXELS).all()
        made = allocator.create_image(RGBA8, (64, 64), IMAGE_TRANSFER, mip_levels=2)
        transfers.upload(TEXELS, made)
        mips = transfers.generate_mipmaps(made)
        with pytest.raises(BufferError, match="in flight"):
            made.destroy()
        held.complete_submissions()
        assert mips.result() is None and up.done()
        allocator.destroy_many([image, made])


@pytest.mark.parametrize("vk_result", [-1, -2, -4])
@pytest.mark.parametrize("extent", [(8, 8), (300, 200)])
def test_each_call_of_the_driver_fails(extent: tuple[int, int], vk_result: int) -> None:
    """The error is the transfer's, nothing leaks, layout and ring are right afterwards."""
    kinds = {-1: OutOfHostMemoryError, -2: OutOfDeviceMemoryError, -4: DeviceLostError}
    width, height = extent
    data = np.random.default_rng(2).integers(0, 256, (height, width, 4), np.uint8)
    failures = 0
    for number in range(60):
        device = SimulatedDevice("non-coherent")
        device.set_completion("when waited")
        with Allocator(device) as allocator, Transfers(allocator, RING) as transfers:
            image = allocator.create_image(RGBA8, extent, IMAGE_TRANSFER, mip_levels=2)
            before = device.fallible_call_count
            device.fail_call(number, vk_result)
            begun = [transfers.upload(data, image)]
            try:
                begun.append(transfers.download(image))
                begun.append(transfers.generate_mipmaps(image))
            except InvalidArgumentError as error:
                # Nothing was uploaded.
                assert "UNDEFINED" in str(error) and begun[0].exception() is not None
            errors = [it.exception() for it in begun]
            made = device.fallible_call_count - before
            device.clear_failures()
            failures += sum(it is not None for it in errors)
            for error in errors:
                assert error is None or isinstance(error, (kinds[vk_result], VkMemError)), error
            if errors == [None, None, None]:
                assert (begun[1].result() == data).all()
            transfers.upload(data, image).result()
            assert (transfers.download(image).result() == data).all()
            image.destroy()
        assert device.violations == []
        assert (device.live_memory_objects, device.live_buffers, device.live_images) == (0, 0, 0)
        if number >= made:
            break
    assert failures >= 3


def test_a_new_image_whose_data_does_not_arrive(simulated: SimulatedDevice) -> None:
    usage = ImageUsage.SAMPLED | ImageUsage.TRANSFER_SRC
    with Allocator(simulated) as allocator:
        allocator.create_image(RGBA8, (64, 64), usage, data=TEXELS).destroy()
        before = simulated.live_images
        for with_mips in (False, True):
            simulated.fail_next("vkQueueSubmit", vk_result=-4)
            with pytest.raises(DeviceLostError):
                allocator.create_image(
                    RGBA8, (64, 64), usage, data=TEXELS, generate_mipmaps=with_mips
                )
            assert simulated.live_images == before
        assert not list(allocator.leaks())


@pytest.mark.parametrize("profile", ["non-coherent", "driver"])
def test_threads_and_one_image(request: pytest.FixtureRequest, profile: str) -> None:
    """Each thread has its layers; batches of all threads change the layout of the one image."""
    device = request.getfixturevalue("simulated" if profile != "driver" else "real_device")
    wrong: list[Any] = []
    layouts = ["GENERAL", "SHADER_READ_ONLY_OPTIMAL", "TRANSFER_SRC_OPTIMAL", None]

    def work(number: int) -> None:
        random = np.random.default_rng(number)
        own = {"base_layer": number, "layer_count": 1}
        try:
            for step in range(20):
                using = shared if number % 2 else other
                data = random.integers(0, 256, TEXELS.shape, np.uint8)
                layout = layouts[step % 4]
                if step % 3:
                    with using.batch():
                        using.upload(data, image, layout=layout, **own)
                        back = using.download(image, **own)
                    found = back.result()
                else:
                    using.upload(data, image, layout=layout, **own).result()
                    found = using.download(image, **own).result()
                if not (found == data).all():
                    wrong.append((number, step))
        except BaseException as error:
            wrong.append(error)

    usage = IMAGE_TRANSFER | ImageUsage.SAMPLED
    with (
        Allocator(device) as allocator,
        Transfers(allocator, RING) as shared,
        Transfers(allocator, RING) as other,
        allocator.create_image(RGBA8, (64, 64), usage, array_layers=6) as image,
    ):
        image.upload(np.zeros((6, 64, 64, 4), np.uint8))
        threads = [threading.Thread(target=work, args=[it]) for it in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert wrong == [] and not any(it.is_alive() for it in threads)
        assert shared.wait() and other.wait()


def test_what_waits_in_another_batch_goes_first(simulated: SimulatedDevice) -> None:
    """Two threads with open batches: the later command finds what the earlier one has written."""
    with Allocator(simulated) as allocator, Transfers(allocator, RING) as transfers:
        image = allocator.create_image(RGBA8, (64, 64), IMAGE_TRANSFER)
        buffer = allocator.create_buffer(64, TRANSFER)
        backs = []

        def later() -> None:
            with transfers.batch():
                backs.append(transfers.download(image))
                backs.append(transfers.download(buffer, way="ring"))
                transfers.upload(TEXELS[::-1], image)
                transfers.upload(bytes(64), buffer, way="ring")

        with transfers.batch():
            transfers.upload(TEXELS, image)
            transfers.upload(b"x" * 64, buffer, way="ring")
            thread = threading.Thread(target=later)
            thread.start()
            thread.join()
            backs.append(transfers.download(image))
            backs.append(transfers.download(buffer, way="ring"))
        images, buffers = backs[::2], backs[1::2]
        assert (images[0].result() == TEXELS).all()
        assert (images[1].result() == TEXELS[::-1]).all()
        assert bytes(buffers[0].result()) == b"x" * 64
        assert bytes(buffers[1].result()) == bytes(64)
        image.destroy()
        buffer.destroy()


def test_a_thread_that_flushes_is_not_overtaken(simulated: SimulatedDevice) -> None:
    with Allocator(simulated) as allocator, Transfers(allocator, RING) as transfers:
        buffer = allocator.create_buffer(4096, TRANSFER)
        stop = threading.Event()

        def flush() -> None:
            while not stop.is_set():
                transfers.flush()

        threads = [threading.Thread(target=flush) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for step in range(300):
                with transfers.batch():
                    for value in range(4):
                        transfers.upload(bytes([value, step % 256]) * 2048, buffer, way="ring")
                    back = transfers.download(buffer, way="ring")
                assert bytes(back.result()) == bytes([3, step % 256]) * 2048
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        transfers.wait()
        buffer.destroy()


def test_the_end_of_the_interpreter_with_images_in_flight() -> None:
    ran = run_python(
        "import vk_mem, numpy\n"
        "device = vk_mem.SimulatedDevice('discrete-8gib')\n"
        "device.set_completion('when waited')\n"
        "allocator = vk_mem.Allocator(device)\n"
        "image = allocator.create_image('rgba8unorm', (64, 64), 'TRANSFER_SRC|TRANSFER_DST')\n"
        "up = allocator.transfers.upload(bytes(64 * 64 * 4), image)\n"
        "back = allocator.transfers.download(image)\n"
        "print('begun')\n"
    )
    assert ran.stdout == "begun\n" and ran.returncode == 0, ran.stderr
    assert "panicked" not in ran.stderr


@pytest.mark.driver
@pytest.mark.parametrize("call", ["vkQueueSubmit", "vkWaitSemaphores", "vkBeginCommandBuffer"])
def test_calls_of_the_driver_that_fail(odd_driver: Any, open_odd: Any, call: str) -> None:
    with Allocator(open_odd()) as allocator, Transfers(allocator, RING) as transfers:
        image = allocator.create_image(RGBA8, (64, 64), IMAGE_TRANSFER)
        transfers.upload(TEXELS, image).result()
        odd_driver.fail(call, -2)
        error = transfers.upload(TEXELS[::-1], image, layout="GENERAL").exception()
        odd_driver.recover(call)
        if error is not None or call != "vkWaitSemaphores":
            assert type(error) is OutOfDeviceMemoryError and call in str(error)
        transfers.upload(TEXELS, image).result()
        assert (transfers.download(image).result() == TEXELS).all()
        image.destroy()
