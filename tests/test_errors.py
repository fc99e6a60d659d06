"""Attributes of errors, and classes that cannot be created, copied or modified by users."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from support import DEDICATED, MAPPED, RANDOM, TRANSFER

import vk_mem
from vk_mem import (
    AllocationCreateInfo,
    Allocator,
    BufferHeap,
    Device,
    InitializationError,
    InvalidArgumentError,
    OutOfDeviceMemoryError,
    SimulatedDevice,
    TooManyObjectsError,
    UseAfterFreeError,
    VkMemError,
    errors,
)

# ---- what an error carries ----


def test_figures_of_missing_memory(simulated_allocator: Allocator) -> None:
    with pytest.raises(OutOfDeviceMemoryError) as caught:
        simulated_allocator.allocate_memory(1 << 40)
    error = caught.value
    assert isinstance(error, MemoryError)
    assert isinstance(error, VkMemError)
    assert (error.size, error.vk_result) == (1 << 40, -2)
    assert error.memory_type_index is not None
    heap = simulated_allocator.device.memory_properties.memory_types[
        error.memory_type_index
    ].heap_index
    assert error.heap_index == heap
    budget = simulated_allocator.heap_budgets()[heap]
    assert (error.heap_usage, error.heap_budget) == (budget.usage, budget.budget)


def test_figures_of_too_many_objects(make_simulated: Callable[..., SimulatedDevice]) -> None:
    device = make_simulated(heaps=[(1 << 30, 1)], types=[(0, 15)], max_memory_allocation_count=3)
    with Allocator(device) as allocator:
        held = [allocator.allocate_memory(64, flags=DEDICATED) for _ in range(3)]
        with pytest.raises(TooManyObjectsError) as caught:
            allocator.allocate_memory(64, flags=DEDICATED)
        assert "maxMemoryAllocationCount" in str(caught.value)
        assert (caught.value.size, caught.value.vk_result) == (64, -10)
        assert not isinstance(caught.value, MemoryError)
        for it in held:
            it.free()


def test_figures_that_have_no_meaning_are_none(simulated_allocator: Allocator) -> None:
    gone = simulated_allocator.create_buffer(64, TRANSFER, flags=RANDOM)
    gone.destroy()
    for call in (
        lambda: simulated_allocator.create_buffer(0, TRANSFER),
        lambda: gone.read(),
    ):
        with pytest.raises(VkMemError) as caught:
            call()
        figures = vars(caught.value)
        assert set(figures) == {
            "size", "memory_type_index", "heap_index", "heap_usage", "heap_budget", "vk_result",
            "item",
        }  # fmt: skip
        assert set(figures.values()) == {None}
        assert isinstance(caught.value, ValueError)


def test_a_name_of_several_lines_makes_a_message_of_one(simulated_allocator: Allocator) -> None:
    with simulated_allocator.create_buffer(64, TRANSFER, name="two\nlines\0and 'more'") as buffer:
        assert buffer.name == "two\nlines\0and 'more'"
        with pytest.raises(InvalidArgumentError) as caught:
            simulated_allocator.device.fill_buffer(buffer, 0, offset=64)
        assert "two\\nlines" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "\n" not in repr(buffer)
    with pytest.raises(UseAfterFreeError) as caught_gone:
        buffer.map()
    assert "\n" not in str(caught_gone.value)
    with pytest.warns(ResourceWarning, match=r"two\\nlines"):
        simulated_allocator.create_buffer(64, TRANSFER, name="two\nlines\0")


ERRORS = [it for it in errors.__all__ if not it.endswith("Warning")]


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_pickled_and_copied(name: str) -> None:
    error = getattr(vk_mem, name)(
        "message",
        size=1,
        memory_type_index=2,
        heap_index=3,
        heap_usage=4,
        heap_budget=5,
        vk_result=-2,
    )
    error.__notes__ = ["a note"]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is type(error)
        assert str(again) == "message"
        assert vars(again) == vars(error)
    assert vars(copy.copy(error)) == vars(error)


def test_bases_of_the_errors() -> None:
    bases = {
        "OutOfDeviceMemoryError": MemoryError,
        "OutOfHostMemoryError": MemoryError,
        "InvalidArgumentError": ValueError,
        "UseAfterFreeError": ValueError,
        "LostError": ValueError,
        "DumpError": ValueError,
        "TraceError": ValueError,
        "InitializationError": RuntimeError,
    }
    for name in ERRORS:
        cls = getattr(errors, name)
        assert issubclass(cls, VkMemError)
        assert issubclass(cls, bases.get(name, Exception))
        others = {MemoryError, ValueError, RuntimeError} - {bases.get(name)}
        assert not issubclass(cls, tuple(others))


# ---- objects that cannot be made or copied by hand ----


@pytest.mark.parametrize(
    "name", [name for name in vk_mem.__all__ if isinstance(getattr(vk_mem, name), type)]
)
def test_no_class_of_the_module_is_made_from_nothing(name: str) -> None:
    cls: Any = getattr(vk_mem, name)
    if cls.__module__ != "vk_mem":
        return
    for make in (lambda: object.__new__(cls), lambda: vk_mem.Resource.__new__(cls)):
        with pytest.raises(TypeError):
            make()
    if name not in {"Allocator", "AllocationCreateInfo", "Ring", "SimulatedDevice"}:
        with pytest.raises(TypeError):
            cls()
        with pytest.raises(TypeError):
            cls.__new__(cls)


def test_objects_are_not_copied(simulated_allocator: Allocator) -> None:
    allocator, device = simulated_allocator, simulated_allocator.device
    buffer = allocator.create_buffer(64, TRANSFER, flags=RANDOM | MAPPED)
    mapping = buffer.map()
    for it in (device, allocator, buffer, buffer.allocation, mapping):
        for make in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError):
                make(it)
        with pytest.raises(AttributeError):
            it.attribute = 1
    mapping.close()
    buffer.destroy()


# ---- devices ----


@pytest.mark.driver
def test_a_wrong_name_lists_the_devices(real_device: Device) -> None:
    with pytest.raises(InitializationError) as caught:
        Device.open(name="nope")
    message = str(caught.value)
    assert "nope" in message
    assert real_device.properties.device_name in message
    assert "\n" not in message
    with pytest.raises(InitializationError, match="number 99"):
        Device.open(index=99)


class Odd:
    """A type that no keyword takes."""


KEYWORDS = [
    "usage",
    "flags",
    "required_flags",
    "preferred_flags",
    "not_preferred_flags",
    "memory_type_bits",
    "pool",
    "min_alignment",
    "priority",
    "name",
    "export_handle_types",
]
POOL_KEYWORDS = [
    "memory_type_index",
    "block_size",
    "min_block_count",
    "max_block_count",
    "algorithm",
    "min_alignment",
    "priority",
    "ignore_buffer_image_granularity",
    "memory_allocate_next",
    "export_handle_types",
    "fallback",
    "name",
]


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_errors_name_the_keyword_of_an_allocation(
    simulated_allocator: Allocator, keyword: str
) -> None:
    odd: dict[str, Any] = {keyword: Odd()}
    make = simulated_allocator
    for call in (
        lambda: AllocationCreateInfo(**odd),
        lambda: make.create_buffer(64, 3, **odd),
        lambda: make.create_buffers([64], 3, **odd),
        lambda: make.create_image(37, (4, 4), 3, **odd),
        lambda: make.create_images([(37, (4, 4), 3)], **odd),
        lambda: make.allocate_memory(64, **odd),
        lambda: make.find_memory_type_index(**odd),
        lambda: BufferHeap(make, 3, **odd),
    ):
        with pytest.raises(TypeError, match=rf"^{keyword} .*must be .*not Odd|^{keyword} must be"):
            call()


@pytest.mark.parametrize("keyword", POOL_KEYWORDS)
def test_errors_name_the_keyword_of_a_pool(simulated_allocator: Allocator, keyword: str) -> None:
    rules: dict[str, Any] = {"memory_type_index": 0, keyword: Odd()}
    with pytest.raises((TypeError, InvalidArgumentError), match=f"^{keyword}"):
        simulated_allocator.create_pool(**rules)


def test_errors_name_the_keyword_of_an_import(simulated_allocator: Allocator) -> None:
    make = simulated_allocator
    for keyword, value in (
        ("import_host_pointer", 1.5),
        ("import_host_pointer", bytes(4096)),
        ("import_host_pointer", bytearray()),
        ("import_host_pointer", 0),
        ("import_fd", "1"),
        ("import_fd", 987_654),
        ("import_win32_handle", 0),
    ):
        with pytest.raises((TypeError, InvalidArgumentError), match=rf"^{keyword}\b"):
            make.create_buffer(4096, 3, **{keyword: value})
    for argument, call in (
        ("data", lambda: make.import_host_pointer(None)),
        ("data", lambda: make.import_host_pointer(bytes(4096))),
        ("fd", lambda: make.import_memory_fd(987_654, 64)),
        ("handle", lambda: make.import_memory_win32_handle(0, 64)),
    ):
        with pytest.raises((TypeError, InvalidArgumentError), match=rf"^{argument}\b"):
            call()


@pytest.mark.driver
def test_errors_name_what_else_is_odd(simulated: SimulatedDevice) -> None:
    with pytest.raises(TypeError, match=r"^vk_result must be an integer, not str"):
        simulated.fail_call(0, "VK_ERROR_UNKNOWN")  # type: ignore[arg-type]
    for wrong in ((1, "3"), (1.5, 3), (1, -1), (1, 1 << 40)):
        with pytest.raises((TypeError, InvalidArgumentError), match=r"^api_version"):
            Device.open(api_version=wrong)  # type: ignore[arg-type]
