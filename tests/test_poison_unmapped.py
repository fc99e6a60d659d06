"""`poison_unmapped`: what is seen through an address after the mapping has ended."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator

import pytest
from support import MAPPED, RANDOM, TRANSFER, WRITE, pattern

from vk_mem import Allocator, Device, FeatureNotPresentError, SimulatedDevice

POISON = b"\xdd"
SIZE = 4096


@pytest.fixture(params=SimulatedDevice.profile_names())
def device(request: pytest.FixtureRequest) -> Iterator[SimulatedDevice]:
    device = SimulatedDevice(request.param, poison_unmapped=True)
    yield device
    assert device.violations == [] and device.live_memory_objects == 0


def test_a_view_that_is_kept(device: SimulatedDevice) -> None:
    with Allocator(device) as allocator:
        buffer = allocator.create_buffer(SIZE, TRANSFER, flags=RANDOM)
        with buffer.map() as view:
            address = ctypes.addressof(ctypes.c_char.from_buffer(view))
            view[:] = pattern(SIZE)
            assert ctypes.string_at(address, SIZE) == pattern(SIZE)
        kept = (ctypes.c_ubyte * SIZE).from_address(address)
        assert bytes(kept) == POISON * SIZE
        # The device and later mappings see the bytes.
        assert buffer.download().tobytes() == pattern(SIZE)
        # What is written through the old address is lost.
        kept[0] = 99
        assert buffer.read() == pattern(SIZE)
        assert bytes(kept) == POISON * SIZE
        device.fill_buffer(buffer, 0x01020304)
        assert bytes(kept) == POISON * SIZE
        assert buffer.read(0, 4) == (0x01020304).to_bytes(4, "little")
        buffer.destroy()
    assert bytes(kept) == POISON * SIZE


def test_however_often_it_is_mapped(device: SimulatedDevice) -> None:
    """Blocks are not kept mapped, as they are without it."""
    with (
        Allocator(device) as allocator,
        allocator.create_buffer(SIZE, TRANSFER, flags=RANDOM) as buffer,
    ):
        for turn in range(20):
            with buffer.map() as view:
                address = ctypes.addressof(ctypes.c_char.from_buffer(view))
                assert turn == 0 or view[0] == turn
                view[0] = turn + 1
            assert ctypes.string_at(address, 2) == POISON * 2


def test_what_stays_mapped_stays(device: SimulatedDevice) -> None:
    with (
        Allocator(device) as allocator,
        allocator.create_buffer(SIZE, TRANSFER, flags=WRITE | MAPPED) as buffer,
    ):
        with buffer.map() as view:
            address = ctypes.addressof(ctypes.c_char.from_buffer(view))
            view[:4] = b"1234"
        assert ctypes.string_at(address, 4) == b"1234"


def test_off_by_default(make_simulated: Callable[..., SimulatedDevice]) -> None:
    device = make_simulated("lavapipe")
    with (
        Allocator(device) as allocator,
        allocator.create_buffer(SIZE, TRANSFER, flags=RANDOM) as buffer,
    ):
        with buffer.map() as view:
            address = ctypes.addressof(ctypes.c_char.from_buffer(view))
            view[:4] = b"1234"
        assert ctypes.string_at(address, 4) == b"1234"
        device._set_poison_unmapped(True)
        with buffer.map():
            pass
        assert ctypes.string_at(address, 4) == POISON * 4
        device._set_poison_unmapped(False)
        assert buffer.read(0, 4) == b"1234"


def test_real_devices_refuse(real_device: Device) -> None:
    for on in (True, False):
        with pytest.raises(FeatureNotPresentError, match="needs a SimulatedDevice"):
            real_device._set_poison_unmapped(on)


def test_the_keyword_is_a_bool() -> None:
    with pytest.raises(TypeError):
        SimulatedDevice(poison_unmapped=1)  # type: ignore[arg-type]
