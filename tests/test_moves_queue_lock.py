"""A queue lock that fails after the submission: moves and transfers lose nothing."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
from support import RGBA8, Check, check_statistics, pattern
from test_defragmentation import MIB, VERTEX, check_contents, like, scattered
from test_moves import SAMPLED, relocate
from test_queue_lock import Lock

import vk_mem
from vk_mem import Allocator, Device, ImageLayout, SimulatedDevice


class Failing(Lock):
    """Cannot be left for some time: the `n`th time from now, or from then on."""

    def __init__(self) -> None:
        super().__init__()
        self.number = -1

    def fail(self, number: int) -> ZeroDivisionError:
        self.number, self.fails_to_exit = number, None
        self.error = ZeroDivisionError(f"exit {number}")
        return self.error

    def __exit__(self, *exception: object) -> None:
        self.fails_to_exit = self.error if self.number == 0 else None
        self.number -= 1
        super().__exit__(*exception)


@pytest.fixture
def lock() -> Failing:
    return Failing()


@pytest.fixture(
    params=[*SimulatedDevice.profile_names(), pytest.param("driver", marks=pytest.mark.driver)]
)
def device(request: pytest.FixtureRequest, lock: Failing) -> Device:
    if request.param != "driver":
        return SimulatedDevice(request.param, queue_lock=lock)
    opened: Device = request.getfixturevalue("real_device")
    return Device.wrap(
        opened.instance,
        opened.physical_device,
        opened.handle,
        api_version=opened.api_version[:2],
        queue=opened.queue,
        queue_family_index=opened.queue_family_index,
        queue_lock=lock,
    )


def violations(device: Device) -> list[str]:
    if isinstance(device, SimulatedDevice):
        return list(map(str, device.violations))
    return device.validation_messages


@pytest.mark.parametrize("number", [0, 1, 3])
def test_what_has_moved_has_moved(device: Device, lock: Failing, number: int) -> None:
    with Allocator(device) as allocator:
        pool = allocator.create_pool(
            memory_type_index=like(allocator), block_size=MIB, movable=True
        )
        contents = scattered(allocator, pool=pool, count=90)
        told: list[vk_mem.Move] = []
        allocator.on_move(told.extend)
        error = lock.fail(number)
        try:
            allocator.defragment(pool=pool, algorithm="full")
        except ZeroDivisionError as caught:
            assert caught is error
        else:
            assert lock.number >= 0, "there were fewer submissions"
        assert len(told) == sum(it.generation for it in contents)
        assert told or number
        told.clear()
        allocator.on_move(None)
        lock.number = -1
        check_contents(allocator, contents)
        check_statistics(allocator)
        allocator.defragment(pool=pool, algorithm="full")
        check_contents(allocator, contents)
        allocator.destroy_many(contents)
        pool.close()
    assert violations(device) == []


@pytest.mark.parametrize("gap", [MIB, 4096])
def test_what_has_slid_has_slid(device: Device, lock: Failing, gap: int) -> None:
    """In pieces, or through other memory: the old place is overwritten."""
    with Allocator(device) as allocator:
        pool = allocator.create_pool(
            memory_type_index=like(allocator), block_size=10 * MIB, movable=True
        )
        below = allocator.create_buffer(gap, VERTEX, pool=pool)
        buffer = allocator.create_buffer(8 * MIB, VERTEX, pool=pool)
        data = np.random.default_rng(gap).integers(0, 256, 8 * MIB, np.uint8)
        buffer.upload(data)
        below.destroy()
        error = lock.fail(0)
        with pytest.raises(ZeroDivisionError) as caught:
            allocator.defragment(pool=pool, algorithm="full")
        assert caught.value is error
        assert buffer.allocation.offset == 0 and buffer.generation == 1
        assert (np.frombuffer(buffer.download(), np.uint8) == data).all()
        assert allocator.defragment(pool=pool, algorithm="full").allocations_moved == 0
        check_statistics(allocator)
        buffer.destroy()
        pool.close()
    assert violations(device) == []


def test_a_lock_that_cannot_be_entered_moves_nothing(device: Device, lock: Failing) -> None:
    with Allocator(device) as allocator:
        pool = allocator.create_pool(
            memory_type_index=like(allocator), block_size=MIB, movable=True
        )
        contents = scattered(allocator, pool=pool, count=60)
        lock.fails_to_enter = error = ZeroDivisionError("no")
        with pytest.raises(ZeroDivisionError) as caught:
            allocator.defragment(pool=pool, algorithm="full")
        assert caught.value is error
        lock.fails_to_enter = None
        assert not any(it.generation for it in contents)
        check_contents(allocator, contents)
        assert allocator.defragment(pool=pool, algorithm="full").allocations_moved > 0
        check_contents(allocator, contents)
        allocator.destroy_many(contents)
        pool.close()
    assert violations(device) == []


def test_images_are_known_to_be_where_they_are_and_in_their_layout(
    device: Device, lock: Failing
) -> None:
    """Of a transfer as well: its commands have run, and have changed the layout."""
    with Allocator(device) as allocator:
        image = allocator.create_image(RGBA8, (16, 16), SAMPLED, movable=True)
        data = pattern(16 * 16 * 4)
        lock.fail(0)
        with pytest.raises(ZeroDivisionError):
            image.upload(data)
        assert image.layout != ImageLayout.UNDEFINED
        handle = image.handle
        lock.fail(0)
        with pytest.raises(ZeroDivisionError):
            relocate(allocator, image)
        assert image.generation == 1 and image.handle != handle
        assert image.download().tobytes() == data
        image.destroy()
    assert violations(device) == []


def test_copies_and_fills_have_taken_place(device: Device, lock: Failing) -> None:
    with Allocator(device) as allocator:
        check = Check(allocator)
        usage = VERTEX | vk_mem.BufferUsage.TRANSFER_SRC | vk_mem.BufferUsage.TRANSFER_DST
        with allocator.create_buffer(4096, usage) as buffer:
            lock.fail(0)
            with pytest.raises(ZeroDivisionError):
                device.fill_buffer(buffer, 0x01010101)
            assert check.read(buffer) == b"\1" * 4096


def test_the_lock_of_a_simulated_queue() -> None:
    """It is held around submissions of the library, and not around those of the program."""
    lock = Failing()
    device = SimulatedDevice("discrete-8gib", queue_lock=lock)
    with Allocator(device) as allocator:
        buffer = allocator.create_buffer(4096, "TRANSFER_SRC | TRANSFER_DST")
        buffer.upload(pattern(4096))
        assert lock.entered == lock.left >= 1
        before = lock.entered
        with lock:
            device.submit_fill(buffer.handle, 64, 1)
            device.submit_command_buffer(device.begin_command_buffer())
        assert lock.entered == before + 1
        buffer.destroy()
    with pytest.raises(TypeError, match="queue_lock must be a context manager"):
        SimulatedDevice(queue_lock=threading.Lock)  # type: ignore[arg-type]


class Owner(Lock):
    device: Device


def test_a_lock_that_leads_to_its_simulated_device_is_collected() -> None:
    owner = Owner()
    owner.device = SimulatedDevice("integrated", queue_lock=owner)
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None
