"""Wrong input: the exact error class, and one line that names the figure.

A row is an expression over the names of `Names`, and a part of the message.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from support import (
    DEDICATED,
    DONT_BIND,
    IMAGE_TRANSFER,
    MAPPED,
    NEVER,
    RANDOM,
    RGBA8,
    TRANSFER,
    WRITE,
    totals,
)

import vk_mem
from vk_mem import (
    AllocationCreateInfo,
    Allocator,
    BufferUsage,
    Device,
    FeatureNotPresentError,
    Format,
    ImageUsage,
    InvalidArgumentError,
    MemoryMapError,
    MemoryUsage,
    OutOfDeviceMemoryError,
    SimulatedDevice,
    UseAfterFreeError,
)

MAX = 2**64 - 1
ALLOW_TRANSFER = 0x1000
# A device on which every kind of request can fail: one hidden type, two visible ones.
PROFILE = "discrete-8gib"


class Broken:
    """A number that is none."""

    def __index__(self) -> int:
        raise ZeroDivisionError("mine")


class Names:
    """What the expressions of the rows are about."""

    TRANSFER, RGBA8, RANDOM, MAX = TRANSFER, RGBA8, RANDOM, MAX
    SPARSE = vk_mem.BufferCreateFlags.SPARSE_BINDING
    HEAPS = ((1 << 30, 1),)
    Allocator, AllocationCreateInfo = Allocator, AllocationCreateInfo
    Device, SimulatedDevice = Device, SimulatedDevice
    Broken, ctypes = Broken, ctypes

    def __init__(self) -> None:
        self.device = SimulatedDevice(PROFILE)
        self.allocator = Allocator(self.device)
        make, make_image = self.allocator.create_buffer, self.allocator.create_image
        self.buffer = make(1000, TRANSFER, flags=RANDOM | MAPPED, name="b")
        self.hidden = make(1000, TRANSFER, name="hidden")
        self.source_only = make(1000, BufferUsage.TRANSFER_SRC)
        self.target_only = make(1000, BufferUsage.TRANSFER_DST)
        self.unbound = make(1000, TRANSFER, flags=DONT_BIND)
        self.image = make_image(RGBA8, (4, 4), IMAGE_TRANSFER)
        self.depth = make_image(Format.D32_SFLOAT, (4, 4), IMAGE_TRANSFER)
        self.samples = make_image(RGBA8, (4, 4), IMAGE_TRANSFER, samples=4)
        self.sampled = make_image(RGBA8, (4, 4), ImageUsage.SAMPLED)
        self.memory = self.allocator.allocate_memory(4096, flags=RANDOM)
        self.other_device = SimulatedDevice(PROFILE)
        self.other = Allocator(self.other_device)
        self.foreign = self.other.create_buffer(1000, TRANSFER)
        self.foreign_image = self.other.create_image(RGBA8, (4, 4), IMAGE_TRANSFER)
        self.closed = Allocator(self.device)
        self.closed.close()
        self.gone = make(64, TRANSFER, flags=RANDOM)
        self.gone.destroy()
        self.released = memoryview(b"x")
        self.released.release()

    def close(self) -> None:
        for it in vars(self).values():
            if isinstance(it, vk_mem.Buffer | vk_mem.Image):
                it.destroy()
        self.memory.free()
        self.allocator.close()
        self.other.close()
        assert self.device.violations == []
        assert self.other_device.violations == []
        assert self.device.live_memory_objects == 0


@pytest.fixture(scope="module")
def names() -> Iterator[Names]:
    names = Names()
    yield names
    names.close()


ROWS: dict[type[BaseException], list[tuple[str, str]]] = {
    InvalidArgumentError: [
        ("device.fail_next('vkFreeMemory')", "vkFreeMemory cannot fail; these can: vkAllocateM"),
        ("device.fail_next('vkAllocateMemory', -1)", "count is -1"),
        ("device.fail_next('vkAllocateMemory', 1 << 70)", "count is 1180591620717411303424"),
        ("device.fail_next('vkAllocateMemory', 1, 0)", "vk_result is 0; a VkResult that fails"),
        ("device.fail_next('vkAllocateMemory', 1, 1 << 31)", "vk_result does not fit"),
        ("device.fail_call(-1)", "n is -1"),
        ("device.fail_call(0, 5)", "vk_result is 5"),
        (
            "buffer.write(released)",
            "data cannot be copied in one piece: operation",
        ),
        ("allocator.import_host_pointer(MAX - 4095, 8192)", "wrap around"),
        ("buffer.read(4097)", "offset 4097 is outside of Buffer 'b'"),
        ("allocator.allocate_memory(64, usage=10)", "10"),
        ("allocator.create_buffer(64, 0)", "buffer_usage"),
        ("allocator.create_buffer(64, TRANSFER, create_flags=SPARSE)", "sparse"),
        ("allocator.create_image(0, (4, 4), 3)", "format is UNDEFINED"),
        ("allocator.create_image(RGBA8, (0, 4), 3)", "0 x 4"),
        ("allocator.create_image(RGBA8, (), 3)", "extent"),
        ("allocator.create_image(RGBA8, (1, 1, 1, 1), 3)", "extent"),
        ("allocator.create_image(RGBA8, (4, -4), 3)", "-4"),
        ("allocator.create_image(RGBA8, (4, 2 ** 32), 3)", "32 bits"),
        ("allocator.create_image(RGBA8, (4, 4), 0)", "image_usage"),
        ("allocator.create_image(RGBA8, (4, 4), 3, mip_levels=0)", "mip"),
        ("allocator.create_image(RGBA8, (4, 4), 3, array_layers=0)", "layers"),
        ("allocator.create_image(RGBA8, (4, 4), 3, mip_levels=4)", "3 at most"),
        ("allocator.create_image(RGBA8, (4, 4), 3, create_flags=512)", "disjoint"),
        ("allocator.create_buffer('info')", "VkBufferCreateInfo"),
        ("allocator.create_buffer(ctypes.c_double())", "VkBufferCreateInfo"),
        ("allocator.create_buffer(info=0)", "null"),
        ("allocator.create_buffer(info=4097)", "0x1001"),
        ("allocator.create_buffer(64, info=1 << 20)", "info="),
        ("allocator.allocate_memory_for_buffer(0)", "null"),
        ("allocator.allocate_memory_for_image(None)", "null"),
        ("allocator.allocate_memory_for_buffer('b')", "str"),
        ("allocator.allocate_memory_for_buffer(True)", "bool"),
        ("memory.bind_buffer(0)", "null"),
        ("memory.bind_image(-1)", "-1"),
        ("memory.bind_buffer(unbound.handle, -1)", "-1"),
        ("buffer.write(bytes(1001))", "1001"),
        ("buffer.write(b'ab', 999)", "999"),
        ("buffer.write(b'a', MAX)", str(MAX)),
        ("buffer.write(b'a', -1)", "-1"),
        ("buffer.write(memoryview(bytes(10))[::2])", "one piece"),
        ("buffer.read(0, 1001)", "1001"),
        ("buffer.read(1001)", "1001"),
        ("buffer.read(MAX, MAX)", str(MAX)),
        ("buffer.read_into(bytes(4))", "one piece"),
        ("buffer.read_into(memoryview(bytearray(10))[::2])", "one piece"),
        ("buffer.read_into(bytearray(1001))", "1001"),
        ("buffer.flush(0, 1 << 40)", str(1 << 40)),
        ("buffer.flush(MAX - 1, 2)", str(MAX - 1)),
        ("buffer.flush(-1)", "-1"),
        ("buffer.invalidate(1 << 40)", str(1 << 40)),
        ("device.fill_buffer(buffer, 0, offset=2, size=4)", "4"),
        ("device.fill_buffer(buffer, 0, size=2)", "4"),
        ("device.fill_buffer(buffer, 0, size=0)", "0 bytes"),
        ("device.fill_buffer(buffer, 0, offset=1000)", "1000"),
        ("device.fill_buffer(buffer, 2 ** 32)", "value"),
        ("device.fill_buffer(buffer, -1)", "value"),
        ("device.fill_buffer(source_only)", "TRANSFER_DST"),
        ("device.fill_buffer(foreign)", "another device"),
        ("device.fill_buffer(unbound)", "not bound"),
        ("device.copy_buffer(buffer, hidden, 1001)", "1001"),
        ("device.copy_buffer(buffer, hidden, 0)", "0 bytes"),
        ("device.copy_buffer(buffer, hidden, 10, target_offset=991)", "991"),
        ("device.copy_buffer(buffer, hidden, 10, source_offset=MAX)", str(MAX)),
        ("device.copy_buffer(buffer, buffer, 10, source_offset=5)", "overlap"),
        ("device.copy_buffer(buffer, source_only)", "TRANSFER_DST"),
        ("device.copy_buffer(target_only, buffer)", "TRANSFER_SRC"),
        ("device.copy_buffer(buffer, foreign)", "another device"),
        ("device.copy_buffer(foreign, buffer)", "another device"),
        ("device.copy_buffer_to_image(buffer, foreign_image)", "another device"),
        ("device.copy_buffer_to_image(buffer, image, buffer_offset=940)", "940"),
        ("device.copy_buffer_to_image(buffer, image, buffer_offset=6)", "6"),
        ("device.copy_buffer_to_image(buffer, depth)", "depth"),
        ("device.copy_image_to_buffer(samples, buffer)", "4 samples"),
        ("device.copy_buffer_to_image(buffer, sampled)", "TRANSFER_DST"),
        ("device.copy_image_to_buffer(sampled, buffer)", "TRANSFER_SRC"),
        ("device.copy_buffer_to_image(buffer, image, layout=0)", "layout"),
        ("allocator.set_current_frame_index(-1)", "frame"),
        ("Allocator(device, preferred_block_size=0)", "preferred_block_size"),
        ("Allocator(device, preferred_block_size=-1)", "-1"),
        ("Allocator(device, heap_size_limits=[1, 2, 3])", "3 entries"),
        ("Allocator(device, heap_size_limits=[-1])", "-1"),
        ("Allocator(device, frames_in_flight=-1)", "frames_in_flight"),
        ("SimulatedDevice('voodoo')", "nvidia-h200, lavapipe"),
        ("SimulatedDevice('a\\nb')", "no profile"),
        ("SimulatedDevice(heaps=[(1, 1)])", "types"),
        ("SimulatedDevice(types=[(0, 1)])", "heaps"),
        ("SimulatedDevice('lavapipe', heaps=[], types=[])", "profile"),
        ("Allocator(SimulatedDevice(heaps=HEAPS, types=[(1, 1)]))", ""),
        ("Allocator(SimulatedDevice(heaps=HEAPS, types=[]))", ""),
        ("Allocator(SimulatedDevice(heaps=[(0, 1)], types=[(0, 1)]))", ""),
        ("Allocator(SimulatedDevice(heaps=HEAPS, types=[(0, 1)] * 33))", ""),
        (
            "Allocator(SimulatedDevice(heaps=HEAPS, types=[(0, 1)], buffer_image_granularity=3))",
            "3",
        ),
        ("device.fail_next('vkFoo')", "vkAllocateMemory"),
        ("device.set_latency(-1)", "-1"),
        ("device.set_latency(float('nan'))", "NaN"),
        ("device.live_bytes(2)", "2"),
        ("Device.wrap(0, 0, 0, api_version=(1, 1))", "null"),
        ("Device.wrap('a', 1, 1, api_version=(1, 1))", "str"),
        ("Device.open('a', index=0)", "not both"),
        ("Device.open(index=-1)", "index"),
    ],
    TypeError: [
        ("Allocator(device, heap_size_limits=5)", "heap_size_limits must be an iterable"),
        ("allocator.create_pool(like=((64, 1), {'usage': 1}))", "AllocationCreateInfo, not dict"),
        ("allocator.create_buffer(64, 3, **{'a\\nb': 1})", "'a\\nb'"),
        ("allocator.create_buffer(64)", "BufferUsage"),
        ("allocator.create_buffer()", "size"),
        ("allocator.create_image(RGBA8, 'ab', 3)", "extent"),
        ("allocator.create_image(RGBA8, (4, 4))", "ImageUsage"),
        ("allocator.create_buffer(64, 3, flag=1)", "'flag'"),
        ("allocator.allocate_memory(64, info=1)", "'info'"),
        ("AllocationCreateInfo(size=1)", "'size'"),
        ("allocator.create_buffer(64, 3, allocation_info={})", "AllocationCreateInfo"),
        ("allocator.create_buffer(64, 3, name=5)", "int"),
        ("setattr(buffer, 'name', b'x')", "bytes"),
        ("allocator.create_image('x', None, 3)", "format"),
        ("buffer.write('text')", "str"),
        ("buffer.write(None)", "NoneType"),
        ("buffer.read(0, 1.0)", "float"),
        ("device.fill_buffer(image)", "Buffer"),
        ("Allocator('device')", "not str"),
        ("Allocator(SimulatedDevice)", "Device"),
        ("Allocator(device, heap_size_limits=5)", "int"),
        ("Allocator(device, 1)", "positional"),
        ("Device.wrap(1, 1, 1)", "api_version"),
    ],
    FeatureNotPresentError: [
        ("allocator.allocate_memory(64, required_flags=1 << 30)", "required 0x40000000,"),
        ("allocator.allocate_memory(64, export_handle_types=1 << 30)", "of type 0x40000000"),
        ("allocator.create_buffer(64, TRANSFER, memory_type_bits=1 << 20)", "no memory type"),
        ("allocator.allocate_memory(64, memory_type_bits=1 << 31)", "no memory type"),
        ("allocator.find_memory_type_index(0)", "no memory type"),
        ("allocator.allocate_memory(64, flags=RANDOM, memory_type_bits=1)", "HOST_VISIBLE"),
    ],
    UseAfterFreeError: [
        ("closed.create_buffer(64, 3)", "closed"),
        ("closed.heap_budgets()", "closed"),
        ("gone.read()", "destroyed"),
    ],
    MemoryMapError: [
        ("hidden.map()", "HOST_VISIBLE"),
        ("hidden.write(b'x')", "HOST_VISIBLE"),
        ("hidden.read()", "HOST_VISIBLE"),
    ],
}
SIZES: list[tuple[str, type[BaseException], str]] = [
    ("0", InvalidArgumentError, "0"),
    ("-1", InvalidArgumentError, "-1"),
    ("-(2**70)", InvalidArgumentError, "negative"),
    ("2**64", InvalidArgumentError, "64 bits"),
    ("10**5000", InvalidArgumentError, "64 bits"),
    ("1.5", TypeError, "float"),
    ("'64'", TypeError, "str"),
    ("b'64'", TypeError, "bytes"),
    ("[64]", TypeError, "list"),
    ("1 << 40", OutOfDeviceMemoryError, str(1 << 40)),
    ("MAX", OutOfDeviceMemoryError, str(MAX)),
    ("Broken()", ZeroDivisionError, "mine"),
]
for size, error, text in SIZES:
    ROWS.setdefault(error, []).append((f"allocator.create_buffer({size}, TRANSFER)", text))
    ROWS[error].append((f"allocator.allocate_memory({size})", text))
    ROWS[error].append((f"allocator.find_memory_type_index_for_buffer_info({size}, 3)", text))
for value in (0, 3, 48, MAX, 2**63 + 1):
    row = f"allocator.allocate_memory(64, {value})"
    ROWS[InvalidArgumentError].append((row, str(value)))
    row = f"allocator.create_buffer(64, TRANSFER, min_alignment={value or -1})"
    ROWS[InvalidArgumentError].append((row, str(value or -1)))
for name in ("flags", "usage", "required_flags", "memory_type_bits", "create_flags"):
    for value in (-1, 2**32):
        row = f"allocator.create_buffer(64, TRANSFER, {name}={value})"
        ROWS[InvalidArgumentError].append((row, name))
    # A text is the name of a flag.
    error = TypeError if name == "memory_type_bits" else InvalidArgumentError
    ROWS[error].append((f"allocator.create_buffer(64, TRANSFER, {name}='x')", name))
STRATEGIES = [0x1_0000, 0x2_0000, 0x4_0000]
CONTRADICTIONS: list[tuple[int, int]] = [
    (DEDICATED | NEVER, MemoryUsage.AUTO),
    (WRITE | RANDOM, MemoryUsage.AUTO),
    (ALLOW_TRANSFER, MemoryUsage.AUTO),
    (ALLOW_TRANSFER | MAPPED, MemoryUsage.AUTO),
    (MAPPED, MemoryUsage.AUTO),
    (MAPPED, MemoryUsage.AUTO_PREFER_HOST),
    *((a | b, MemoryUsage.AUTO) for a, b in itertools.combinations(STRATEGIES, 2)),
    (sum(STRATEGIES), MemoryUsage.AUTO),
    *((flags, MemoryUsage.GPU_LAZILY_ALLOCATED) for flags in (MAPPED, WRITE, RANDOM, NEVER)),
]
# Bits that VMA has had, or will have, or nobody.
CONTRADICTIONS += [(1 << bit, MemoryUsage.AUTO) for bit in (5, 6, 13, 14, 15, 19, 20, 31)]
for flags, usage in CONTRADICTIONS:
    keywords = f"flags={int(flags):#x}, usage={int(usage)}"
    for row in (
        f"allocator.create_buffer(64, TRANSFER, {keywords})",
        f"allocator.create_image(RGBA8, 4, 3, {keywords})",
        f"allocator.allocate_memory(64, {keywords})",
        f"allocator.find_memory_type_index({keywords})",
    ):
        ROWS[InvalidArgumentError].append((row, ""))


@pytest.mark.parametrize(
    ("row", "error", "text"),
    [(row, error, text) for error, rows in ROWS.items() for row, text in rows],
)
def test_wrong_input(names: Names, row: str, error: type[BaseException], text: str) -> None:
    before = totals(names.allocator)
    memory = names.device.live_memory_objects
    scope: dict[str, Any] = vars(Names) | vars(names)
    with pytest.raises(error) as caught:
        eval(row, scope)
    assert type(caught.value) is error
    message = str(caught.value)
    assert text in message
    assert message
    assert len(message) < 1000
    assert "\n" not in message
    assert totals(names.allocator) == before
    assert names.device.live_memory_objects == memory
    assert names.device.violations == []


def test_calls_that_cannot_fail_are_not_offered() -> None:
    device = SimulatedDevice()
    with pytest.raises(InvalidArgumentError, match="no call is named 'vkNothing'") as caught:
        device.fail_next("vkNothing")
    assert "vkMapMemory" in str(caught.value) and "vkUnmapMemory" not in str(caught.value)
    assert device.call_count("vkUnmapMemory") == 0


def test_a_call_keeps_no_reference_for_later(simulated_allocator: Allocator) -> None:
    device = simulated_allocator.device
    assert isinstance(device, SimulatedDevice)
    data, callback = object(), FailingCallback()
    before = sys.getrefcount(data), sys.getrefcount(callback)
    simulated_allocator.on_out_of_memory(callback)
    for _ in range(10):
        with pytest.raises(OutOfDeviceMemoryError):
            simulated_allocator.create_buffer(1 << 40, TRANSFER, user_data=data)
        device.fail_next("vkCreateBuffer")
        with pytest.raises(OutOfDeviceMemoryError):
            simulated_allocator.create_buffer(64, TRANSFER)
        with pytest.raises(TypeError, match="from 0 to 2 positional arguments but 3 were given"):
            simulated_allocator.create_buffer(64, TRANSFER, data)  # type: ignore[call-overload]
    # Nothing of the package is called before this look.
    after = sys.getrefcount(data), sys.getrefcount(callback)
    assert after == (before[0], before[1] + 1)
    assert callback.calls > 0
    simulated_allocator.on_out_of_memory(None)


class FailingCallback:
    """Frees nothing."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _: object) -> bool:
        self.calls += 1
        return False
