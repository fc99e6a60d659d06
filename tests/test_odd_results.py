"""Every driver call fails with every `VkResult`: once, several times and always."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import index_of_the_driver
from odd_driver import OddDriver
from support import DEDICATED, DONT_BIND, IMAGE_TRANSFER, MAPPED, RANDOM, RGBA8, TRANSFER, WRITE

from vk_mem import (
    Allocator,
    Device,
    DeviceLostError,
    DeviceType,
    FeatureNotPresentError,
    MemoryMapError,
    MemoryPropertyFlags,
    OutOfDeviceMemoryError,
    OutOfHostMemoryError,
    TooManyObjectsError,
    VkMemError,
)

pytestmark = pytest.mark.driver
MIB = 1 << 20
GIB = 1 << 30
LOCAL = MemoryPropertyFlags.DEVICE_LOCAL
VISIBLE = MemoryPropertyFlags.HOST_VISIBLE | MemoryPropertyFlags.HOST_COHERENT
BUDGET = "VK_EXT_memory_budget"

RESULTS: dict[int, tuple[type[VkMemError], str]] = {
    -1: (OutOfHostMemoryError, "VK_ERROR_OUT_OF_HOST_MEMORY (-1)"),
    -2: (OutOfDeviceMemoryError, "VK_ERROR_OUT_OF_DEVICE_MEMORY (-2)"),
    -3: (VkMemError, "VK_ERROR_INITIALIZATION_FAILED (-3)"),
    -13: (VkMemError, "VK_ERROR_UNKNOWN (-13)"),
    -1000011001: (VkMemError, "VK_ERROR_VALIDATION_FAILED (-1000011001)"),
    -1000299000: (VkMemError, "VkResult -1000299000"),
    -77: (VkMemError, "VkResult -77"),
    -(1 << 31): (VkMemError, "VkResult -2147483648"),
}
LOST = {-4: (DeviceLostError, "VK_ERROR_DEVICE_LOST (-4)")}


def live(driver: OddDriver) -> dict[str, int]:
    """How many of each kind of object were made and are not destroyed."""
    calls = driver.calls
    return {
        "memory": calls["vkAllocateMemory"] - calls["vkFreeMemory"],
        "buffers": calls["vkCreateBuffer"] - calls["vkDestroyBuffer"],
        "images": calls["vkCreateImage"] - calls["vkDestroyImage"],
    }


@contextmanager
def failing(driver: OddDriver, name: str, result: int, times: int | None = None) -> Iterator[None]:
    """Lets a call fail; calls that failed have made nothing and are not counted."""
    before = driver.calls[name]
    answered = 0

    def counted(*_: Any) -> bool:
        nonlocal answered
        answered += 1
        return True

    driver.fail(name, result, counted, times)
    try:
        yield
    finally:
        driver.recover(name)
        failed = answered
        assert failed > 0, f"{name} was not called"
        driver.calls[name] -= failed
        assert driver.calls[name] >= before


@pytest.fixture(autouse=True)
def the_processor_runs_it(real_device: Device) -> None:
    """What is said of memory here is not true, and harmless where all of it is the host's."""
    if real_device.properties.device_type != DeviceType.CPU:
        pytest.skip("memory types that the device does not have are only harmless on the processor")


class TestMemory:
    """Two types of memory in two heaps. A first block has 32 MiB, and 1 MiB at least."""

    @pytest.fixture
    def allocator(self, odd_driver: OddDriver, open_odd: Callable[..., Any]) -> Iterator[Allocator]:
        odd_driver.set_memory([(2 * GIB, 1), (2 * GIB, 0)], [(0, LOCAL | VISIBLE), (1, VISIBLE)])
        with Allocator(open_odd(validation=False)) as allocator:
            yield allocator
        assert not any(live(odd_driver).values())

    @pytest.mark.parametrize("result", RESULTS)
    def test_once(self, odd_driver: OddDriver, allocator: Allocator, result: int) -> None:
        with failing(odd_driver, "vkAllocateMemory", result, 1):
            buffer = allocator.create_buffer(5000, TRANSFER, required_flags=LOCAL)
        assert buffer.allocation.memory_type_index == 0
        buffer.destroy()

    @pytest.mark.parametrize("result", RESULTS)
    def test_a_smaller_block(
        self, odd_driver: OddDriver, allocator: Allocator, result: int
    ) -> None:
        with allocator.create_buffer(5000, TRANSFER) as buffer:
            first = buffer.allocation.device_memory_size
        allocator.trim()
        with failing(odd_driver, "vkAllocateMemory", result, 2):
            buffer = allocator.create_buffer(5000, TRANSFER)
        assert buffer.allocation.memory_type_index == 0
        assert buffer.allocation.device_memory_size == first // 4 == 8 * MIB
        buffer.destroy()

    @pytest.mark.parametrize("result", RESULTS)
    def test_the_next_type(self, odd_driver: OddDriver, allocator: Allocator, result: int) -> None:
        # Blocks of 32 MiB to 1 MiB, and memory of its own; then the next type.
        with failing(odd_driver, "vkAllocateMemory", result, 7):
            buffer = allocator.create_buffer(5000, TRANSFER)
        assert buffer.allocation.memory_type_index == 1
        buffer.destroy()

    @pytest.mark.parametrize("flags", [0, DEDICATED, WRITE | MAPPED])
    @pytest.mark.parametrize("result", RESULTS)
    def test_for_ever(
        self, odd_driver: OddDriver, allocator: Allocator, result: int, flags: int
    ) -> None:
        kind, name = RESULTS[result]
        with (
            failing(odd_driver, "vkAllocateMemory", result),
            pytest.raises(kind) as caught,
        ):
            allocator.create_buffer(5000, TRANSFER, flags=flags)
        error = caught.value
        assert type(error) is kind
        # What the host writes is not the device's own.
        first = 1 if flags & WRITE else 0
        assert (error.vk_result, error.memory_type_index) == (result, first)
        assert error.size is not None and error.size >= 5000
        for part in (
            f"vkAllocateMemory answered {name}",
            f"{error.size} bytes",
            f"memory type {first}",
        ):
            assert part in str(error)
        assert not any(live(odd_driver).values())
        allocator.create_buffer(5000, TRANSFER, flags=flags).destroy()
        allocator.validate()

    def test_a_lost_device_is_asked_once(self, odd_driver: OddDriver, allocator: Allocator) -> None:
        before = odd_driver.calls["vkAllocateMemory"]
        odd_driver.fail("vkAllocateMemory", -4)
        with pytest.raises(
            DeviceLostError, match=r"vkAllocateMemory answered VK_ERROR_DEVICE_LOST"
        ):
            allocator.create_buffer(5000, TRANSFER)
        assert odd_driver.calls["vkAllocateMemory"] == before + 1
        odd_driver.recover("vkAllocateMemory")
        odd_driver.calls["vkAllocateMemory"] = before


def write(allocator: Allocator) -> None:
    with allocator.create_buffer(4096, TRANSFER, flags=RANDOM) as buffer:
        buffer.write(bytes(100))


def read(allocator: Allocator) -> None:
    with allocator.create_buffer(4096, TRANSFER, flags=RANDOM) as buffer:
        buffer.read()


def view(allocator: Allocator) -> None:
    with allocator.create_buffer(4096, TRANSFER, flags=RANDOM) as buffer, buffer.map() as view:
        view[:] = bytes(4096)


def flush_mapped(allocator: Allocator) -> None:
    with allocator.create_buffer(4096, TRANSFER, flags=RANDOM | MAPPED) as buffer:
        buffer.flush()


def copy(allocator: Allocator) -> None:
    with (
        allocator.create_buffer(4096, TRANSFER) as source,
        allocator.create_buffer(4096, TRANSFER) as target,
    ):
        allocator.device.copy_buffer(source, target)


def copy_again(allocator: Allocator) -> None:
    copy(allocator)
    copy(allocator)


def fill(allocator: Allocator) -> None:
    with allocator.create_buffer(4096, TRANSFER) as buffer:
        allocator.device.fill_buffer(buffer, 7)


def aliases(allocator: Allocator) -> None:
    with (
        allocator.allocate_memory(1 << 16, 1 << 12) as memory,
        allocator.create_aliasing_buffer(memory, 4096, TRANSFER),
        allocator.create_aliasing_image(memory, RGBA8, (16, 16), IMAGE_TRANSFER),
    ):
        pass


def buffers(allocator: Allocator) -> None:
    for it in allocator.create_buffers([4096] * 5, TRANSFER):
        it.destroy()


def images(allocator: Allocator) -> None:
    for it in allocator.create_images([(RGBA8, (16, 16), IMAGE_TRANSFER)] * 5):
        it.destroy()


def create_buffer(allocator: Allocator, **keywords: Any) -> None:
    allocator.create_buffer(4096, TRANSFER, **keywords).destroy()


def create_image(allocator: Allocator, **keywords: Any) -> None:
    allocator.create_image(RGBA8, (16, 16), IMAGE_TRANSFER, **keywords).destroy()


def bind(allocator: Allocator) -> None:
    with (
        allocator.create_buffer(4096, TRANSFER, flags=DONT_BIND) as buffer,
        allocator.create_image(RGBA8, (16, 16), IMAGE_TRANSFER, flags=DONT_BIND) as image,
    ):
        buffer.bind()
        image.bind()


OPERATIONS: dict[str, tuple[Callable[[Allocator], None], tuple[str, ...]]] = {
    "create_buffer": (create_buffer, ("vkCreateBuffer", "vkBindBufferMemory")),
    "create_buffer, dedicated": (
        lambda it: create_buffer(it, flags=DEDICATED),
        ("vkCreateBuffer", "vkBindBufferMemory"),
    ),
    "create_buffer, mapped": (
        lambda it: create_buffer(it, flags=WRITE | MAPPED),
        ("vkCreateBuffer", "vkBindBufferMemory", "vkMapMemory"),
    ),
    "create_buffers": (buffers, ("vkCreateBuffer", "vkBindBufferMemory")),
    "create_image": (create_image, ("vkCreateImage", "vkBindImageMemory")),
    "create_image, dedicated": (
        lambda it: create_image(it, flags=DEDICATED),
        ("vkCreateImage", "vkBindImageMemory"),
    ),
    "create_images": (images, ("vkCreateImage", "vkBindImageMemory")),
    "aliases": (
        aliases,
        ("vkCreateBuffer", "vkBindBufferMemory", "vkCreateImage", "vkBindImageMemory"),
    ),
    "bind": (bind, ("vkBindBufferMemory", "vkBindImageMemory")),
    "write": (
        write,
        ("vkMapMemory", "vkInvalidateMappedMemoryRanges", "vkFlushMappedMemoryRanges"),
    ),
    "read": (read, ("vkMapMemory", "vkInvalidateMappedMemoryRanges")),
    "view": (
        view,
        ("vkMapMemory", "vkInvalidateMappedMemoryRanges", "vkFlushMappedMemoryRanges"),
    ),
    "flush": (flush_mapped, ("vkMapMemory", "vkFlushMappedMemoryRanges")),
    "copy": (
        copy,
        (
            "vkCreateSemaphore",
            "vkCreateCommandPool",
            "vkAllocateCommandBuffers",
            "vkBeginCommandBuffer",
            "vkEndCommandBuffer",
            "vkQueueSubmit",
            "vkWaitSemaphores",
        ),
    ),
    "copy again": (copy_again, ("vkResetCommandPool",)),
    "copy, by fences": (
        copy,
        (
            "vkCreateCommandPool",
            "vkAllocateCommandBuffers",
            "vkCreateFence",
            "vkQueueSubmit",
            "vkWaitForFences",
        ),
    ),
    "copy again, by fences": (copy_again, ("vkResetCommandPool", "vkResetFences")),
    "fill": (fill, ("vkQueueSubmit",)),
}
TIMELINE = "VK_KHR_timeline_semaphore"
PAIRS = [(name, call) for name, (_, calls) in OPERATIONS.items() for call in calls]


@pytest.mark.parametrize(("name", "call"), PAIRS)
def test_nothing_is_left_and_the_call_is_named(
    odd_driver: OddDriver, open_odd: Callable[..., Any], name: str, call: str
) -> None:
    """On memory that is said not to be coherent, so that it is flushed."""
    odd_driver.set_memory_type_flags(0, LOCAL | MemoryPropertyFlags.HOST_VISIBLE)
    odd_driver.set_limit("nonCoherentAtomSize", 64)
    operation, _ = OPERATIONS[name]
    without = [TIMELINE] if name.endswith("by fences") else []
    with Allocator(open_odd(validation=False, without_extensions=without)) as allocator:
        kept = allocator.create_buffer(64, TRANSFER, flags=RANDOM)
        before = live(odd_driver)
        for result, (kind, text) in (RESULTS | LOST).items():
            with failing(odd_driver, call, result, 1), pytest.raises(VkMemError) as caught:
                operation(allocator)
            error = caught.value
            assert f"{call} answered {text}" in str(error)
            mapping = call == "vkMapMemory" and result not in (-1, -4)
            assert type(error) is (MemoryMapError if mapping else kind), repr(error)
            assert error.vk_result == (-5 if mapping else result)
            allocator.trim()
            assert live(odd_driver) == before, f"{result}: {error}"
            assert allocator.calculate_statistics().total.allocation_count == 1
            allocator.validate()
        # And it works now.
        operation(allocator)
        kept.destroy()
    assert not any(live(odd_driver).values())


OF_SUBMISSIONS = ("CommandPool", "Fence", "Semaphore")


def made_for_submissions(driver: OddDriver) -> dict[str, int]:
    return {it: driver.calls[f"vkCreate{it}"] for it in OF_SUBMISSIONS}


def left_of_submissions(driver: OddDriver) -> dict[str, int]:
    destroyed = {it: driver.calls[f"vkDestroy{it}"] for it in OF_SUBMISSIONS}
    made = made_for_submissions(driver)
    return {it: made[it] - destroyed[it] for it in OF_SUBMISSIONS if made[it]}


@pytest.mark.parametrize("without", [[], [TIMELINE]], ids=["timeline", "fences"])
class TestSubmissions:
    def test_copies_make_nothing_new(
        self, odd_driver: OddDriver, open_odd: Callable[..., Any], without: list[str]
    ) -> None:
        with Allocator(open_odd(validation=True, without_extensions=without)) as allocator:
            copy(allocator)
            before = made_for_submissions(odd_driver)
            assert before == {
                "CommandPool": 1,
                "Fence": 1 if without else 0,
                "Semaphore": 0 if without else 1,
            }
            for _ in range(20):
                copy(allocator)
            assert made_for_submissions(odd_driver) == before

    def test_threads_wait_side_by_side(
        self, odd_driver: OddDriver, open_odd: Callable[..., Any], without: list[str]
    ) -> None:
        """No thread holds what the other one submits or waits with."""
        both = threading.Barrier(2)

        def meet(original: Callable[..., int | None], *arguments: Any) -> int | None:
            both.wait(30)
            return original(*arguments)

        odd_driver.instead("vkWaitForFences" if without else "vkWaitSemaphores", meet)
        failed: list[BaseException] = []

        def run(allocator: Allocator) -> None:
            try:
                for _ in range(5):
                    copy(allocator)
            except BaseException as error:  # shown below
                failed.append(error)

        with Allocator(open_odd(validation=True, without_extensions=without)) as allocator:
            threads = [threading.Thread(target=run, args=(allocator,)) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert not failed and not both.broken
        # One, where the device was done with it before the other thread needed its own.
        assert odd_driver.calls["vkCreateCommandPool"] in (1, 2)

    @pytest.mark.parametrize("result", [-1, -2, -4])
    def test_a_failed_wait_waits_for_the_queue(
        self, odd_driver: OddDriver, open_odd: Callable[..., Any], without: list[str], result: int
    ) -> None:
        """What the copy uses goes after the call: under the layer it may not run any more."""
        wait = "vkWaitForFences" if without else "vkWaitSemaphores"
        kind, _ = (RESULTS | LOST)[result]
        with Allocator(open_odd(validation=True, without_extensions=without)) as allocator:
            for _ in range(5):
                idle = odd_driver.calls["vkQueueWaitIdle"]
                odd_driver.fail(wait, result, times=1)
                with pytest.raises(kind, match=wait):
                    copy(allocator)
                assert odd_driver.calls["vkQueueWaitIdle"] == idle + 1
                copy(allocator)

    def test_a_lost_device_is_told_where_nothing_can_be_waited_for(
        self, odd_driver: OddDriver, open_odd: Callable[..., Any], without: list[str]
    ) -> None:
        wait = "vkWaitForFences" if without else "vkWaitSemaphores"
        with Allocator(open_odd(validation=False, without_extensions=without)) as allocator:
            # The driver itself ends the copy first: what it uses goes when the device is lost.
            lost = iter([-4])
            odd_driver.instead(wait, lambda call, *given: call(*given) or next(lost, 0))
            odd_driver.fail("vkQueueWaitIdle", -4, times=1)
            with pytest.raises(DeviceLostError, match=wait):
                copy(allocator)
            odd_driver.fail("vkQueueWaitIdle", -4, times=1)
            odd_driver.fail("vkQueueSubmit", -4, times=1)
            with pytest.raises(DeviceLostError, match="vkQueueSubmit"):
                copy(allocator)
            # Only the answers were odd.
            copy(allocator)

    def test_nothing_is_left_when_the_device_goes(
        self, odd_driver: OddDriver, without: list[str]
    ) -> None:
        device = Device.open(
            index=index_of_the_driver(),
            get_instance_proc_addr=odd_driver.get_instance_proc_addr,
            without_extensions=without,
        )
        with Allocator(device) as allocator:
            for call in ("vkQueueSubmit", "vkEndCommandBuffer"):
                odd_driver.fail(call, -1, times=1)
                with pytest.raises(OutOfHostMemoryError):
                    copy(allocator)
                copy(allocator)
        del device, allocator
        gc.collect()
        assert odd_driver.calls["vkDestroyDevice"] == 1
        left = left_of_submissions(odd_driver)
        assert set(left) >= {"CommandPool"} and not any(left.values()), left


def test_a_mapping_without_an_address(odd_driver: OddDriver, open_odd: Callable[..., Any]) -> None:
    odd_driver.fail("vkMapMemory", 0)
    with Allocator(open_odd(validation=False)) as allocator:
        with pytest.raises(MemoryMapError, match=r"could not map .* vkMapMemory"):
            write(allocator)
        odd_driver.recover("vkMapMemory")
        write(allocator)


class TestHeaps:
    @pytest.mark.parametrize(
        "budget", [None, (0, 0), (GIB, 0), (1 << 40, 12345), ((1 << 64) - 1, (1 << 64) - 1)]
    )
    def test_a_heap_of_no_bytes_is_never_used(
        self,
        odd_driver: OddDriver,
        open_odd: Callable[..., Any],
        budget: tuple[int, int] | None,
    ) -> None:
        odd_driver.set_memory([(0, 1), (GIB, 0)], [(0, LOCAL | VISIBLE), (0, LOCAL), (1, VISIBLE)])
        if budget is not None:
            odd_driver.add_device_extension(BUDGET)
            odd_driver.set_heap_budget(0, *budget)
            odd_driver.set_heap_budget(1, GIB, 0)
        device = open_odd(validation=False)
        assert (BUDGET in device.extensions) == (budget is not None)
        assert device.memory_properties.memory_heaps[0].size == 0
        with Allocator(device) as allocator:
            for keywords in ({}, {"flags": WRITE}, {"flags": DEDICATED}):
                with allocator.create_buffer(4096, TRANSFER, **keywords) as buffer:
                    assert buffer.allocation.memory_type_index == 2
            with allocator.create_image(RGBA8, (64, 64), IMAGE_TRANSFER) as image:
                assert image.allocation.memory_type_index == 2
            with pytest.raises(FeatureNotPresentError, match="a heap of 0 bytes"):
                allocator.create_buffer(4096, TRANSFER, required_flags=LOCAL)
            with pytest.raises(OutOfDeviceMemoryError, match="at most 0 bytes"):
                allocator.create_pool(memory_type_index=1)
            allocator.set_current_frame_index(1)
            assert allocator.heap_budgets()[0].block_count == 0
            assert str(allocator.heap_budgets()) and str(allocator.calculate_statistics())
            assert allocator.build_stats_string(True)
            allocator.validate()
        assert not any(live(odd_driver).values())

    def test_no_heap_has_any_bytes(
        self, odd_driver: OddDriver, open_odd: Callable[..., Any]
    ) -> None:
        odd_driver.set_heap_size(0, 0)
        before = odd_driver.calls["vkAllocateMemory"]
        with (
            Allocator(open_odd(validation=False)) as allocator,
            pytest.raises((FeatureNotPresentError, OutOfDeviceMemoryError), match="0 bytes"),
        ):
            allocator.create_buffer(4096, TRANSFER)
        assert odd_driver.calls["vkAllocateMemory"] == before

    def test_an_allocation_size_of_0_is_no_limit(
        self, odd_driver: OddDriver, open_odd: Callable[..., Any]
    ) -> None:
        odd_driver.set_max_memory_allocation_size(0)
        device = open_odd()
        assert device.properties.max_memory_allocation_size == (1 << 64) - 1
        with Allocator(device) as allocator:
            for flags in (0, WRITE, DEDICATED):
                allocator.create_buffer(MIB, TRANSFER, flags=flags).destroy()

    def test_an_allocation_size_is_a_limit(
        self, odd_driver: OddDriver, open_odd: Callable[..., Any]
    ) -> None:
        odd_driver.set_max_memory_allocation_size(MIB)
        with Allocator(open_odd()) as allocator:
            allocator.create_buffer(MIB // 2, TRANSFER).destroy()
            before = odd_driver.calls["vkAllocateMemory"]
            with pytest.raises(OutOfDeviceMemoryError, match="maxMemoryAllocationSize"):
                allocator.create_buffer(2 * MIB, TRANSFER)
            assert odd_driver.calls["vkAllocateMemory"] == before


def test_the_count_of_memory_objects(odd_driver: OddDriver, open_odd: Callable[..., Any]) -> None:
    odd_driver.set_limit("maxMemoryAllocationCount", 3)
    device = open_odd(validation=False)
    with Allocator(device) as allocator:
        made = [allocator.create_buffer(64, TRANSFER, flags=DEDICATED) for _ in range(3)]
        before = odd_driver.calls["vkAllocateMemory"]
        with pytest.raises(TooManyObjectsError, match="the device allows 3"):
            allocator.create_buffer(64, TRANSFER, flags=DEDICATED)
        assert odd_driver.calls["vkAllocateMemory"] == before
        for it in made:
            it.destroy()
    with Allocator(device, enforce_allocation_count=False) as allocator:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            made = [allocator.create_buffer(64, TRANSFER, flags=DEDICATED) for _ in range(10)]
        assert [str(it.message)[:38] for it in caught] == [
            "the device has more than 3 memory objects"[:38]
        ]
        assert live(odd_driver)["memory"] == 10
        # Where the driver does stop, its own word is told.
        odd_driver.fail("vkAllocateMemory", -10)
        with pytest.raises(TooManyObjectsError, match=r"VK_ERROR_TOO_MANY_OBJECTS \(-10\)"):
            allocator.create_buffer(64, TRANSFER, flags=DEDICATED)
        odd_driver.recover("vkAllocateMemory")
        for it in made:
            it.destroy()
