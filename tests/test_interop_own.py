"""Our own objects as handles, structs without `Vk`, positional addresses, and names in errors."""

from __future__ import annotations

import contextlib
import ctypes
import types
from collections.abc import Iterator
from typing import Any

import pytest
from support import DONT_BIND, TRANSFER, run_python

from vk_mem import (
    Allocator,
    BufferHeap,
    BufferUsage,
    Device,
    Format,
    ImageUsage,
    InvalidArgumentError,
    OutOfDeviceMemoryError,
    SimulatedDevice,
    UseAfterFreeError,
    interop,
)

STORAGE = BufferUsage.STORAGE_BUFFER


class BufferCreateInfo(ctypes.Structure):
    _fields_ = (
        ("sType", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("size", ctypes.c_uint64),
        ("usage", ctypes.c_uint32),
        ("sharingMode", ctypes.c_int),
        ("queueFamilyIndexCount", ctypes.c_uint32),
        ("pQueueFamilyIndices", ctypes.POINTER(ctypes.c_uint32)),
    )


class ImageCreateInfo(ctypes.Structure):
    _fields_ = (
        ("s_type", ctypes.c_int),
        ("p_next", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("image_type", ctypes.c_int),
        ("format", ctypes.c_int),
        ("extent", ctypes.c_uint32 * 3),
        ("mip_levels", ctypes.c_uint32),
        ("array_layers", ctypes.c_uint32),
        ("samples", ctypes.c_int),
        ("tiling", ctypes.c_int),
        ("usage", ctypes.c_uint32),
        ("sharing_mode", ctypes.c_int),
        ("queue_family_index_count", ctypes.c_uint32),
        ("queue_family_indices", ctypes.c_void_p),
        ("initial_layout", ctypes.c_int),
    )


def buffer_info(s_type: int = 12) -> BufferCreateInfo:
    return BufferCreateInfo(sType=s_type, size=3000, usage=int(TRANSFER))


def image_info(s_type: int = 14) -> ImageCreateInfo:
    return ImageCreateInfo(
        s_type=s_type, image_type=1, format=int(Format.R8_UNORM), extent=(8, 4, 1), mip_levels=1,
        array_layers=1, samples=1, usage=int(ImageUsage.SAMPLED),
    )  # fmt: skip


WAYS = [
    lambda it: it,
    ctypes.pointer,
    ctypes.byref,
    ctypes.addressof,
    lambda it: ctypes.c_void_p(ctypes.addressof(it)),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("by_name", [False, True])
def test_structs_without_the_prefix(allocator: Allocator, way: Any, by_name: bool) -> None:
    for make, create in (
        (buffer_info, allocator.create_buffer),
        (image_info, allocator.create_image),
    ):
        info = make()
        given = way(info)
        made = create(info=given) if by_name else create(given)
        assert made.allocation.size >= 32
        if make is buffer_info:
            assert (made.size, made.usage) == (3000, TRANSFER)
        made.destroy()


def test_an_address_by_position_has_keywords(simulated_allocator: Allocator) -> None:
    info = buffer_info()
    with simulated_allocator.create_buffer(ctypes.addressof(info), name="by address") as made:
        assert (made.size, made.name) == (3000, "by address")


def test_s_type_may_be_left_out_where_the_name_is_proof(simulated_allocator: Allocator) -> None:
    simulated_allocator.create_buffer(buffer_info(0)).destroy()
    simulated_allocator.create_image(image_info(0)).destroy()
    unset = buffer_info(0)
    with pytest.raises(InvalidArgumentError, match="sType is 0"):
        simulated_allocator.create_buffer(info=ctypes.addressof(unset))
    # Of some other library.
    other = type("BufferCreateInfo", (ctypes.Structure,), {"_fields_": [("x", ctypes.c_int * 16)]})
    with pytest.raises(InvalidArgumentError, match="sType is 0"):
        simulated_allocator.create_buffer(other())


def test_a_size_without_a_usage_is_no_address(simulated_allocator: Allocator) -> None:
    """Whatever number it is, and whatever lies at that address."""
    info, image = buffer_info(0), image_info()
    numbers = [0, 1, 4096, 65536, 1 << 20, 1 << 30, 1 << 47, (1 << 47) - 4096, (1 << 64) - 8]
    for number in (*numbers, ctypes.addressof(info), ctypes.addressof(image)):
        with pytest.raises(TypeError, match="a buffer needs size= and buffer_usage="):
            simulated_allocator.create_buffer(number)
        with pytest.raises(TypeError, match="an image needs its format"):
            simulated_allocator.create_image(number if number < 4096 else number & ~7 | 4)


def test_an_address_without_memory_is_refused() -> None:
    program = """
        from vk_mem import Allocator, InvalidArgumentError, SimulatedDevice
        import ctypes
        with Allocator(SimulatedDevice()) as allocator:
            for address in (4096, 32768, 1 << 40, (1 << 47) - 8, 1 << 63):
                for given in (address, ctypes.c_void_p(address)):
                    for create in (allocator.create_buffer, allocator.create_image):
                        try:
                            create(info=given)
                        except InvalidArgumentError as error:
                            assert "info: " in str(error), error
                            assert "no memory" in str(error), error
        print("refused")
    """
    ran = run_python(program)
    assert (ran.returncode, ran.stdout) == (0, "refused\n"), ran.stderr


def test_the_positions_stay_what_they_are(simulated_allocator: Allocator) -> None:
    info = buffer_info()
    # With a usage it is a size, on most systems a very large one.
    size = ctypes.addressof(info)
    with (
        contextlib.suppress(OutOfDeviceMemoryError),
        simulated_allocator.create_buffer(size, STORAGE) as made,
    ):
        assert made.size == size
    simulated_allocator.create_buffer(65536, STORAGE).destroy()


# ---- our own objects ----


@pytest.fixture
def binding() -> types.SimpleNamespace:
    """Handles of a ctypes binding; one of its names has no `Vk`."""
    names = ("VkBuffer", "VkImage", "VkDeviceMemory", "VkDevice", "VkInstance", "PhysicalDevice")
    return types.SimpleNamespace(**{name: type(name, (ctypes.c_uint64,), {}) for name in names})


@pytest.fixture
def on_the_driver(real_device: Device) -> Iterator[Allocator]:
    with Allocator(real_device) as allocator:
        yield allocator


def test_own_objects_are_handles(on_the_driver: Allocator, binding: Any) -> None:
    allocator, device = on_the_driver, on_the_driver.device
    heap = BufferHeap(allocator, BufferUsage.UNIFORM_BUFFER)
    piece = heap.allocate(100)
    with (
        allocator.create_buffer(3000, STORAGE) as buffer,
        allocator.create_image(Format.R8_UNORM, (4, 4), ImageUsage.SAMPLED) as image,
        allocator.allocate_memory(4096) as memory,
    ):
        rows = [
            (buffer, None, "VkBuffer", buffer.handle),
            (buffer, "VkDeviceMemory", "VkDeviceMemory", buffer.allocation.device_memory),
            (image, None, "VkImage", image.handle),
            (image, "VkDeviceMemory", "VkDeviceMemory", image.allocation.device_memory),
            (memory, None, "VkDeviceMemory", memory.device_memory),
            (buffer.allocation, None, "VkDeviceMemory", buffer.allocation.device_memory),
            (piece, None, "VkBuffer", piece.handle),
            (device, None, "VkDevice", device.handle),
            (device, "VkInstance", "VkInstance", device.instance),
            (device, "VkPhysicalDevice", "PhysicalDevice", device.physical_device),
            (allocator, "VkDevice", "VkDevice", device.handle),
        ]
        for value, type_name, expected, number in rows:
            made = interop.as_handle(value, binding, type_name)
            assert (type(made).__name__, made.value) == (expected, number)
            assert interop.to_int(value, type_name) == number != 0
    heap.close()


def test_own_objects_in_the_bindings(on_the_driver: Allocator) -> None:
    vulkan = pytest.importorskip("vulkan", exc_type=(ImportError, OSError))
    with on_the_driver.create_buffer(3000, STORAGE) as buffer:
        assert interop.to_vulkan(buffer) == vulkan.ffi.cast("VkBuffer", buffer.handle)
        device = on_the_driver.device
        assert interop.to_vulkan(device) == vulkan.ffi.cast("VkDevice", device.handle)


def test_own_objects_where_handles_are_taken(on_the_driver: Allocator) -> None:
    with (
        on_the_driver.allocate_memory(1 << 20, 65536) as memory,
        on_the_driver.create_buffer(65536, STORAGE, flags=DONT_BIND) as buffer,
    ):
        memory.bind_buffer(buffer)
    wrapped = Device.wrap(*[on_the_driver.device] * 3, api_version=(1, 1))
    assert wrapped.handle == on_the_driver.device.handle


def test_own_objects_of_another_kind_are_refused(simulated_allocator: Allocator) -> None:
    with simulated_allocator.create_buffer(3000, STORAGE) as buffer:
        for type_name in ("VkImage", "VkDevice", "VkSampler"):
            with pytest.raises(InvalidArgumentError, match=f"a {type_name} handle, got a Buffer"):
                interop.to_int(buffer, type_name)
        with pytest.raises(InvalidArgumentError, match="a VkBufferCreateInfo, got a Buffer"):
            simulated_allocator.create_buffer(info=buffer)
    with pytest.raises(UseAfterFreeError):
        interop.to_int(buffer)
    with pytest.raises(InvalidArgumentError, match="type_name is missing: an int does not tell"):
        interop.as_handle(5, types.SimpleNamespace())


# ---- what errors name ----


def bind(allocator: Allocator, call: str, handle: object) -> None:
    with allocator.allocate_memory(64) as memory:
        getattr(memory, call)(handle)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda it: bind(it, "bind_buffer", "x"), "buffer: expected a VkBuffer handle"),
        (lambda it: bind(it, "bind_image", True), "image: expected a VkImage handle"),
        (lambda it: bind(it, "bind_buffer", -1), "buffer is -1"),
        (lambda it: bind(it, "bind_buffer", 0), "buffer: a null handle"),
        (lambda it: it.allocate_memory_for_buffer(None), "buffer: a null handle"),
        (lambda it: it.create_buffer(info="x"), "info: expected a VkBufferCreateInfo, got a str"),
        (
            lambda it: it.create_image(info=object()),
            "info: expected a VkImageCreateInfo, got an ob",
        ),
        (lambda it: it.create_buffer("x"), "the first argument: expected a VkBufferCreateInfo"),
        (
            lambda it: it.create_pool(memory_type_index=0, memory_allocate_next="x"),
            "memory_allocate_next: expected a struct of a pNext chain, got a str",
        ),
        (lambda it: Device.wrap("x", 8, 8, api_version=(1, 1)), "instance: expected a VkInstance"),
        (lambda it: Device.wrap(8, 0, 8, api_version=(1, 1)), "physical_device: expected a VkPhys"),
        (lambda it: Device.wrap(8, 8, 0, api_version=(1, 1)), "logical_device: expected a VkDev"),
    ],
    ids=lambda it: it if isinstance(it, str) else "call",
)
def test_errors_name_the_argument(call: Any, said: str) -> None:
    with Allocator(SimulatedDevice()) as allocator:
        with pytest.raises(InvalidArgumentError) as caught:
            call(allocator)
        assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    "call",
    [
        lambda it: interop.to_int(5, it),
        lambda it: interop.to_int(5, None, it),
        lambda it: interop.struct_address(5, it, 8),
        lambda it: interop.is_struct_at(5, it, 8, 12),
        lambda it: interop.function_address(5, it),
        lambda it: interop.as_handle(5, types.SimpleNamespace(), it),
    ],
)
@pytest.mark.parametrize("name", [7, b"VkBuffer", SimulatedDevice("lavapipe")])
def test_names_are_texts(call: Any, name: object) -> None:
    """Errors are made of them, in one line."""
    with pytest.raises(TypeError, match="must be a str, not a"):
        call(name)


@pytest.mark.parametrize("name", ["\ud800", "a\0b", "Vk Buffer", "", "VkBuffer *", "VkBüffer"])
def test_what_is_no_name_of_a_type_does_not_reach_cffi(name: str) -> None:
    """Over the first of these cffi ends the process."""
    ffi = pytest.importorskip("cffi").FFI()
    with pytest.raises(InvalidArgumentError) as caught:
        interop.as_handle(5, types.SimpleNamespace(ffi=ffi), name)
    assert str(caught.value) == f"type_name is {name!r}, which is no name in C"
