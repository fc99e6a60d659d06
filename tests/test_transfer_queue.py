"""Transfers on a second queue: which run there, in which order, and who owns what meanwhile."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from conftest import index_of_the_gpu
from odd_driver import OUT_OF_DEVICE_MEMORY, OUT_OF_HOST_MEMORY, OddDriver
from second_family import QUEUE, SecondFamily
from support import IMAGE_TRANSFER, RGBA8, TRANSFER, pattern

from vk_mem import (
    Allocator,
    Device,
    FeatureNotPresentError,
    ImageUsage,
    InvalidArgumentError,
    OutOfDeviceMemoryError,
    SimulatedDevice,
    Transfers,
)

RING = 64 << 10
LARGE = 1 << 20
TIMELINE = "VK_KHR_timeline_semaphore"
Opened = tuple[Device, SecondFamily]


@pytest.fixture(params=["timeline", "fences"])
def opened(
    request: Any, odd_driver: OddDriver, open_odd: Callable[..., Device]
) -> Iterator[Opened]:
    """A device with a second family, whose rules are checked at the end."""
    family = SecondFamily(odd_driver)
    without = [TIMELINE] if request.param == "fences" else []
    device = open_odd(validation=True, without_extensions=without)
    assert ("timelineSemaphore" in device.features) == (request.param == "timeline")
    family.main_queue(device.queue)
    yield device, family
    family.check()


Wrap = Callable[..., Device]


@pytest.fixture
def wrap(odd_driver: OddDriver, opened: Opened) -> Wrap:
    device, _ = opened

    def wrapped(**keywords: Any) -> Device:
        given = {"queue": device.queue, "transfer_queue": QUEUE, "transfer_queue_family_index": 1}
        given |= keywords
        return Device.wrap(
            device.instance,
            device.physical_device,
            device.handle,
            api_version=device.api_version,
            extensions=device.extensions,
            get_instance_proc_addr=odd_driver.get_instance_proc_addr,
            **{name: value for name, value in given.items() if value is not None},
        )

    return wrapped


@pytest.mark.driver
def test_a_device_is_opened_with_a_queue_for_transfers(opened: Opened) -> None:
    device, _ = opened
    assert (device.transfer_queue, device.transfer_queue_family_index) == (QUEUE, 1)
    assert device.queue_family_index == 0


@pytest.mark.driver
@pytest.mark.parametrize(
    "flags", [0, 1 | 4, 2 | 4, 4 | 0x20, 4 | 0x40, 4 | 0x100], ids=lambda it: f"{it:x}"
)
def test_families_that_do_more_than_copying_are_left_out(
    odd_driver: OddDriver, open_odd: Callable[..., Device], flags: int
) -> None:
    SecondFamily(odd_driver, flags)
    device = open_odd()
    assert device.transfer_queue is None and device.transfer_queue_family_index is None


@pytest.mark.driver
@pytest.mark.parametrize("queue", [None, "main", "transfer"])
@pytest.mark.parametrize("shared", [False, True])
def test_bytes_of_any_number_arrive(opened: Opened, queue: Any, shared: bool) -> None:
    device, family = opened
    numbers = random.Random(5)
    sharing = {"queue_family_indices": [0, 1]} if shared else {}
    with Allocator(device) as allocator, Transfers(allocator, RING, queue=queue) as transfers:
        size = LARGE + 12345
        buffer = allocator.create_buffer(size, TRANSFER, **sharing)
        expected = np.zeros(size, np.uint8)
        transfers.upload(expected, buffer, way="ring").result()
        for _ in range(12):
            length = numbers.choice([1, 77, 5000, RING // 4 + 1, RING, LARGE])
            offset = numbers.randrange(size - length)
            data = np.frombuffer(numbers.randbytes(length), np.uint8)
            expected[offset : offset + length] = data
            transfers.upload(data, buffer, offset, way="ring")
            if numbers.random() < 0.3:
                device.fill_buffer(buffer, 7, offset=0, size=64)
                expected[:64] = np.frombuffer((7).to_bytes(4, "little") * 16, np.uint8)
        found = transfers.download(buffer, way="ring").result()
        assert np.array_equal(found, expected)
        stats = transfers.stats()
        if queue == "main":
            assert stats.on_transfer_queue == 0 and set(family.submits) == {0}
        else:
            assert stats.on_transfer_queue > 0
            assert family.submits.count(1) == stats.on_transfer_queue
        # The ring is shared by both families, so nothing but the buffer changes its owner.
        assert (family.changes > 0) == (queue != "main" and not shared)
        if queue == "transfer":
            assert stats.submits == 3 * stats.on_transfer_queue
        buffer.destroy()


@pytest.mark.driver
def test_the_main_queue_goes_on_with_what_was_overwritten_there(opened: Opened) -> None:
    """A part comes back, and the rest of the buffer never went away."""
    device, _ = opened
    with Allocator(device) as allocator, Transfers(allocator, RING, queue="transfer") as transfers:
        one = allocator.create_buffer(4096, TRANSFER)
        two = allocator.create_buffer(4096, TRANSFER)
        device.fill_buffer(one, 0x01010101)
        transfers.upload(np.full(100, 2, np.uint8), one, 1000, way="ring")
        device.copy_buffer(one, two)
        expected = np.ones(4096, np.uint8)
        expected[1000:1100] = 2
        assert np.array_equal(transfers.download(two, way="ring").result(), expected)
        one.destroy()
        two.destroy()


@pytest.mark.driver
def test_images_change_their_owner_with_their_layout(opened: Opened) -> None:
    device, family = opened
    numbers = np.random.default_rng(3)
    with Allocator(device) as allocator, Transfers(allocator, RING, queue="transfer") as transfers:
        usage = IMAGE_TRANSFER | ImageUsage.SAMPLED
        with (
            allocator.create_image(RGBA8, (96, 80), usage, mip_levels=3, array_layers=2) as image,
            allocator.create_buffer(96 * 80 * 4, TRANSFER) as buffer,
        ):
            expected = numbers.integers(0, 255, (2, 80, 96, 4), np.uint8)
            transfers.upload(expected, image)
            part = numbers.integers(0, 255, (7, 9, 4), np.uint8)
            expected[1, 10:17, 20:29] = part
            transfers.upload(part, image, base_layer=1, offset=(20, 10), extent=(9, 7))
            for layer in (0, 1):
                found = transfers.download(image, base_layer=layer, layer_count=1).result()
                assert np.array_equal(np.squeeze(found), expected[layer])
            assert set(family.submits) == {0, 1} and family.changes > 0
            assert transfers.stats().submits == 3 * transfers.stats().on_transfer_queue
            # The main queue goes on with the image where the other one has left it.
            device.copy_image_to_buffer(image, buffer, layout=image.layout)
            assert bytes(transfers.download(buffer, way="ring").result()) == expected[0].tobytes()
            count = transfers.stats().on_transfer_queue
            image.generate_mipmaps()
            with transfers.batch():
                transfers.upload(np.zeros((2, 20, 24, 4), np.uint8), image, mip_level=2)
                level = transfers.download(image, mip_level=2)
            assert not np.any(level.result())
            assert transfers.stats().on_transfer_queue == count + 1


@pytest.mark.driver
def test_depth_and_stencil_stay_on_the_main_queue(opened: Opened) -> None:
    device, family = opened
    with (
        Allocator(device) as allocator,
        Transfers(allocator, RING, queue="transfer") as transfers,
        allocator.create_image("D32_SFLOAT", (16, 16), IMAGE_TRANSFER) as image,
    ):
        depths = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
        transfers.upload(depths, image)
        assert np.array_equal(np.squeeze(transfers.download(image).result()), depths)
        assert set(family.submits) == {0}


@pytest.mark.driver
def test_registered_arrays_are_of_both_queues(opened: Opened) -> None:
    device, family = opened
    array = np.frombuffer(bytearray(pattern(LARGE)), np.uint8)
    with (
        Allocator(device) as allocator,
        Transfers(allocator, RING, queue="transfer") as transfers,
        allocator.create_buffer(LARGE, TRANSFER) as buffer,
        transfers.register(array),
    ):
        assert transfers.upload(array, buffer).way == "import"
        transfers.wait()
        array[:] = 0
        transfers.download(buffer, out=array).result()
        assert bytes(array) == pattern(LARGE)
        assert family.submits.count(1) == 2


@pytest.mark.driver
def test_small_transfers_stay_on_the_main_queue(opened: Opened) -> None:
    device, family = opened
    with Allocator(device) as allocator, Transfers(allocator) as transfers:
        buffer = allocator.create_buffer(LARGE, TRANSFER)
        transfers.upload(bytes(LARGE - 1), buffer, way="ring").result()
        assert set(family.submits) == {0}
        transfers.upload(bytes(LARGE), buffer, way="ring").result()
        assert 1 in family.submits
        buffer.destroy()


@pytest.mark.driver
def test_a_buffer_of_other_families_stays_on_the_main_queue(opened: Opened) -> None:
    device, family = opened
    with Allocator(device) as allocator, Transfers(allocator, RING, queue="transfer") as transfers:
        buffer = allocator.create_buffer(4096, TRANSFER, queue_family_indices=[0, 2])
        transfers.upload(pattern(4096), buffer, way="ring").result()
        assert bytes(transfers.download(buffer, way="ring").result()) == pattern(4096)
        assert set(family.submits) == {0} and transfers.stats().on_transfer_queue == 0
        buffer.destroy()


@pytest.mark.driver
def test_threads_use_both_queues(opened: Opened) -> None:
    device, _ = opened
    failed: list[BaseException] = []
    with (
        Allocator(device) as allocator,
        Transfers(allocator, RING, queue="transfer") as second,
        Transfers(allocator, RING, queue="main") as first,
    ):
        buffer = allocator.create_buffer(4 * 8192, TRANSFER)

        def run(number: int) -> None:
            try:
                part = buffer[8192 * number : 8192 * (number + 1)]
                for turn in range(10):
                    up, down = (first, second) if (turn + number) % 2 else (second, first)
                    data = pattern(8192, 10 * number + turn)
                    up.upload(data, part, way="ring")
                    assert bytes(down.download(part, way="ring").result()) == data
            except BaseException as error:  # shown below
                failed.append(error)

        threads = [threading.Thread(target=run, args=(it,)) for it in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        buffer.destroy()


CALLS = [
    "vkCreateCommandPool",
    "vkAllocateCommandBuffers",
    "vkCreateSemaphore",
    "vkCreateFence",
    "vkBeginCommandBuffer",
    "vkEndCommandBuffer",
    "vkResetCommandPool",
    "vkResetFences",
]


@pytest.mark.driver
@pytest.mark.parametrize("name", CALLS)
def test_each_call_of_a_submission_fails_in_turn(
    odd_driver: OddDriver, opened: Opened, wrap: Wrap, name: str
) -> None:
    device, family = wrap(), opened[1]
    before = family.live.copy()
    with Allocator(device) as allocator, Transfers(allocator, RING, queue="transfer") as transfers:
        buffer = allocator.create_buffer(4096, TRANSFER)
        expected = pattern(4096)
        transfers.upload(expected, buffer, way="ring").result()
        failures = 0
        for number in range(8):
            seen = [0]

            def when(*_: Any, number: int = number, seen: list[int] = seen) -> bool:
                seen[0] += 1
                return seen[0] == number + 1

            odd_driver.fail(name, OUT_OF_DEVICE_MEMORY, when)
            data = pattern(4096, number)
            try:
                transfers.upload(data, buffer, way="ring").result()
                expected = data
            except OutOfDeviceMemoryError as error:
                assert name in str(error)
                failures += 1
            odd_driver.recover(name)
            assert bytes(transfers.download(buffer, way="ring").result()) == expected
        # Fences are not needed with timeline semaphores.
        assert failures or not seen[0]
        buffer.destroy()
    family.check()
    # With the last allocator of a wrapped device they all go.
    assert family.live == before


@pytest.mark.driver
@pytest.mark.parametrize("part", [0, 1, 2], ids=["release", "copies", "acquire"])
@pytest.mark.parametrize("times", [1, 2])
def test_each_part_of_a_submission_fails(
    odd_driver: OddDriver, opened: Opened, wrap: Wrap, part: int, times: int
) -> None:
    device, family = wrap(), opened[1]
    before = family.live.copy()
    with Allocator(device) as allocator, Transfers(allocator, RING, queue="transfer") as transfers:
        buffer = allocator.create_buffer(4096, TRANSFER)
        transfers.upload(pattern(4096), buffer, way="ring").result()
        seen = [0]

        def when(*_: Any) -> bool:
            seen[0] += 1
            return part < seen[0] <= part + times

        odd_driver.fail("vkQueueSubmit", OUT_OF_HOST_MEMORY, when)
        data = pattern(4096, 1)
        transfer = transfers.upload(data, buffer, way="ring")
        # The last two parts are tried twice: the first one was submitted by then.
        is_carried_out = part > 0 and times == 1
        if is_carried_out:
            transfer.result()
        else:
            with pytest.raises(MemoryError, match="vkQueueSubmit"):
                transfer.result()
            family.forget()
        odd_driver.recover("vkQueueSubmit")
        if is_carried_out:
            assert bytes(transfers.download(buffer, way="ring").result()) == data
        transfers.upload(pattern(4096, 2), buffer, way="ring").result()
        assert bytes(transfers.download(buffer, way="ring").result()) == pattern(4096, 2)
        buffer.destroy()
    assert family.live == before


# ---- wrapped devices ----


class Lock:
    """A lock that notes who holds it, and fails on demand."""

    def __init__(self) -> None:
        self.held = False
        self.entered = 0
        self.fails = False

    def __enter__(self) -> None:
        if self.fails:
            raise ZeroDivisionError
        assert not self.held
        self.held = True
        self.entered += 1

    def __exit__(self, *exception: object) -> None:
        self.held = False


def copy(device: Device) -> None:
    with Allocator(device) as allocator, Transfers(allocator, RING, queue="transfer") as transfers:
        buffer = allocator.create_buffer(4096, TRANSFER)
        try:
            transfers.upload(pattern(4096), buffer, way="ring").result()
            assert bytes(transfers.download(buffer, way="ring").result()) == pattern(4096)
        finally:
            buffer.destroy()


@pytest.mark.driver
def test_both_locks_are_held_around_a_submission(opened: Opened, wrap: Wrap) -> None:
    _, family = opened
    first, second = Lock(), Lock()
    held: list[tuple[int, bool, bool]] = []
    family.holds = lambda of: held.append((of, first.held, second.held))
    device = wrap(queue_lock=first, transfer_queue_lock=second)
    assert (device.transfer_queue, device.transfer_queue_family_index) == (QUEUE, 1)
    copy(device)
    family.holds = None
    assert set(held) == {(0, True, True), (1, True, True)}
    assert (first.entered, second.entered) == (2, 2)
    assert not first.held and not second.held


@pytest.mark.driver
def test_one_lock_for_both_queues_is_entered_once(wrap: Wrap) -> None:
    lock = Lock()
    copy(wrap(queue_lock=lock, transfer_queue_lock=lock))
    assert lock.entered == 2 and not lock.held


@pytest.mark.driver
@pytest.mark.parametrize("which", [0, 1])
def test_a_lock_that_cannot_be_entered(opened: Opened, wrap: Wrap, which: int) -> None:
    _, family = opened
    locks = Lock(), Lock()
    device = wrap(queue_lock=locks[0], transfer_queue_lock=locks[1])
    locks[which].fails = True
    before = len(family.submits)
    with pytest.raises(ZeroDivisionError):
        copy(device)
    assert len(family.submits) == before and not any(it.held for it in locks)
    locks[which].fails = False
    copy(device)


@pytest.mark.driver
@pytest.mark.parametrize(
    ("keywords", "why"),
    [
        ({"transfer_queue_family_index": None}, "belong together"),
        ({"transfer_queue": None}, "belong together"),
        (
            {
                "transfer_queue": None,
                "transfer_queue_family_index": None,
                "transfer_queue_lock": threading.Lock(),
            },
            "transfer_queue_lock= is held around submissions to transfer_queue=",
        ),
        ({"transfer_queue_family_index": 2}, "has 2 queue families, so none of index 2"),
        ({"queue": None}, "the main queue, which is missing"),
    ],
)
def test_a_queue_that_cannot_be_lent(wrap: Wrap, keywords: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidArgumentError, match=why):
        wrap(**keywords)


@pytest.mark.driver
def test_the_main_queue_is_not_lent_twice(opened: Opened, wrap: Wrap) -> None:
    with pytest.raises(InvalidArgumentError, match="it is the main queue itself"):
        wrap(transfer_queue=opened[0].queue)
    with pytest.raises(TypeError, match="transfer_queue_lock must be a context manager"):
        wrap(transfer_queue_lock=threading.Lock)


@pytest.mark.driver
def test_a_family_that_cannot_copy_is_refused(
    odd_driver: OddDriver, open_odd: Callable[..., Device]
) -> None:
    SecondFamily(odd_driver, 0x20)
    device = open_odd()
    with pytest.raises(InvalidArgumentError, match="queue family 1 cannot copy"):
        Device.wrap(
            device.instance,
            device.physical_device,
            device.handle,
            api_version=(1, 1),
            queue=device.queue,
            transfer_queue=QUEUE,
            transfer_queue_family_index=1,
            get_instance_proc_addr=odd_driver.get_instance_proc_addr,
        )


# ---- simulated devices ----


@pytest.mark.parametrize("profile", SimulatedDevice.profile_names())
def test_profiles_have_the_queues_of_their_kind(make_simulated: Any, profile: str) -> None:
    index = {"nvidia-h200": 1, "discrete-8gib": 1, "discrete-8gib-bar": 2}.get(profile)
    device = make_simulated(profile)
    assert device.transfer_queue_family_index == index
    assert device.transfer_queue == (None if index is None else 0)
    assert make_simulated(profile, transfer_queue=False).transfer_queue is None
    forced = make_simulated(profile, transfer_queue=True)
    assert forced.transfer_queue_family_index == (index or 1)


@pytest.mark.parametrize("completion", ["at once", "when waited"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("queue", [None, "main", "transfer"])
@pytest.mark.parametrize("profile", SimulatedDevice.profile_names())
def test_simulated_transfers_on_both_queues(
    make_simulated: Any, profile: str, queue: Any, shared: bool, completion: str
) -> None:
    device = make_simulated(profile, transfer_queue=True)
    device.set_completion(completion)
    sharing = {"queue_family_indices": [0, device.transfer_queue_family_index]} if shared else {}
    with Allocator(device) as allocator, Transfers(allocator, 1 << 20, queue=queue) as transfers:
        buffer = allocator.create_buffer(3 * LARGE, TRANSFER, **sharing)
        expected = np.zeros(3 * LARGE, np.uint8)
        transfers.upload(expected, buffer, way="ring")
        for offset, size in ((0, 3 * LARGE), (5, LARGE), (LARGE, 100), (77, 12_345)):
            data = np.frombuffer(random.Random(size).randbytes(size), np.uint8)
            expected[offset : offset + size] = data
            transfers.upload(data, buffer, offset, way="ring")
        assert np.array_equal(transfers.download(buffer, way="ring").result(), expected)
        assert (transfers.stats().on_transfer_queue > 0) == (queue != "main")
        buffer.destroy()


@pytest.mark.parametrize("part", [0, 1, 2], ids=["release", "copies", "acquire"])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("completion", ["at once", "when waited"])
def test_each_part_of_a_simulated_submission_fails(
    make_simulated: Any, part: int, times: int, completion: str
) -> None:
    device = make_simulated("discrete-8gib")
    device.set_completion(completion)
    with Allocator(device) as allocator, Transfers(allocator, RING, queue="transfer") as transfers:
        buffer = allocator.create_buffer(4096, TRANSFER)
        transfers.upload(pattern(4096), buffer).result()
        for number in range(part, part + times):
            device.fail_call(number, OUT_OF_HOST_MEMORY)
        transfer = transfers.upload(pattern(4096, 2), buffer)
        if part > 0 and times == 1:
            transfer.result()
            assert bytes(transfers.download(buffer).result()) == pattern(4096, 2)
        else:
            with pytest.raises(MemoryError, match="vkQueueSubmit"):
                transfer.result()
        device.clear_failures()
        assert device.pending_submissions == 0
        transfers.upload(pattern(4096, 3), buffer).result()
        assert bytes(transfers.download(buffer).result()) == pattern(4096, 3)
        buffer.destroy()


def test_explain_tells_the_queue(make_simulated: Any) -> None:
    with Allocator(make_simulated("discrete-8gib")) as allocator:
        buffer = allocator.create_buffer(LARGE, TRANSFER)
        other = allocator.create_buffer(LARGE, TRANSFER, queue_family_indices=[0, 2])
        for queue, small, large in (
            (None, False, True),
            ("main", False, False),
            ("transfer", True, True),
        ):
            with Transfers(allocator, RING, queue=queue) as transfers:
                for size, expected in ((64, small), (LARGE, large)):
                    text = transfers.explain(size, buffer)
                    assert ("on the transfer queue" in text) == expected
                    assert "on the transfer queue" not in transfers.explain(size, other)
        buffer.destroy()
        other.destroy()


def test_a_queue_that_is_not_there(make_simulated: Any) -> None:
    with Allocator(make_simulated("lavapipe")) as allocator:
        with pytest.raises(FeatureNotPresentError, match="no transfer queue"):
            Transfers(allocator, queue="transfer")
        with pytest.raises(InvalidArgumentError, match="queue is 'side'"):
            Transfers(allocator, queue="side")  # type: ignore[arg-type]
        with Transfers(allocator, queue="main"):
            pass


# ---- a card ----


@pytest.mark.gpu
@pytest.mark.parametrize("queue", ["main", "transfer"])
@pytest.mark.parametrize("shared", [False, True])
def test_transfers_of_a_card(queue: Any, shared: bool) -> None:
    device = Device.open(index=index_of_the_gpu(), validation=True)
    second = device.transfer_queue_family_index
    if second is None:
        pytest.skip("the card has no queue family that can only copy")
    sharing = {"queue_family_indices": [device.queue_family_index, second]} if shared else {}
    numbers = random.Random(1)
    with Allocator(device) as allocator, Transfers(allocator, 4 << 20, queue=queue) as transfers:
        buffer = allocator.create_buffer(8 << 20, TRANSFER, **sharing)
        expected = np.zeros(8 << 20, np.uint8)
        transfers.upload(expected, buffer, way="ring")
        for _ in range(50):
            size = numbers.choice([1, 4096, 100_000, 5 << 20])
            offset = numbers.randrange(len(expected) - size)
            data = np.frombuffer(numbers.randbytes(size), np.uint8)
            expected[offset : offset + size] = data
            transfers.upload(data, buffer, offset, way="ring")
        assert np.array_equal(transfers.download(buffer, way="ring").result(), expected)
        buffer.destroy()
    assert device.validation_messages == []
