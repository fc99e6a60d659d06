"""on_pressure, on_out_of_memory, empty_block_retention, prefetch and trim."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import time
import weakref

import pytest
from support import DEDICATED, WITHIN_BUDGET

import vk_mem
from vk_mem import Allocator, BufferUsage, Device, EmptyBlockRetention, SimulatedDevice

MIB = 1 << 20
USAGE = BufferUsage.STORAGE_BUFFER


def limited(device: Device, mib: int = 64, **options) -> Allocator:
    """Each heap holds so many MiB; 80 % are the budget where the driver has none."""
    heaps = len(device.memory_properties.memory_heaps)
    options.setdefault("preferred_block_size", 4 * MIB)
    return Allocator(device, heap_size_limits=[mib * MIB] * heaps, **options)


def test_memory_that_runs_out_is_freed_and_asked_for_again(device: Device) -> None:
    with limited(device) as allocator:
        cache = [allocator.create_buffer(4 * MIB, USAGE) for _ in range(4)]
        told = []

        @allocator.on_out_of_memory
        def evict(error: vk_mem.VkMemError) -> bool:
            told.append(error)
            cache.pop(0).destroy()
            return True

        assert callable(evict)
        # On every heap the same: whichever type it falls back to runs out in the end.
        made = []
        while not told:
            made.append(allocator.create_buffer(4 * MIB, USAGE, flags=DEDICATED))
        assert isinstance(told[0], vk_mem.OutOfDeviceMemoryError)
        assert told[0].size and told[0].memory_type_index is not None
        allocator.on_out_of_memory(None)
        for buffer in [*made, *cache]:
            buffer.destroy()
        allocator.validate()


def test_an_answer_of_no_raises_the_error(simulated_allocator: Allocator) -> None:
    calls = []
    simulated_allocator.on_out_of_memory(lambda error: bool(calls.append(error)))
    with pytest.raises(vk_mem.OutOfDeviceMemoryError) as raised:
        simulated_allocator.create_buffer(1 << 50, USAGE)
    assert calls == [raised.value]
    with pytest.raises(vk_mem.OutOfDeviceMemoryError):
        simulated_allocator.create_pool(memory_type_index=0, block_size=1 << 50)
    with pytest.raises(vk_mem.OutOfDeviceMemoryError):
        simulated_allocator.allocate_memory(1 << 50)
    assert len(calls) == 3


def test_an_exception_of_the_callback_tells_of_the_error(simulated_allocator: Allocator) -> None:
    def broken(error: vk_mem.VkMemError) -> bool:
        raise KeyError("mine")

    simulated_allocator.on_out_of_memory(broken)
    with pytest.raises(KeyError) as raised:
        simulated_allocator.create_buffer(1 << 50, USAGE)
    assert isinstance(raised.value.__context__, vk_mem.OutOfDeviceMemoryError)
    assert simulated_allocator.calculate_statistics().total.allocation_count == 0


def test_only_true_asks_for_another_attempt(simulated_allocator: Allocator) -> None:
    simulated_allocator.on_out_of_memory(type)
    with pytest.raises(TypeError, match="True or False, not type"):
        simulated_allocator.create_buffer(1 << 50, USAGE)
    simulated_allocator.on_out_of_memory(lambda error: None)
    with pytest.raises(vk_mem.OutOfDeviceMemoryError):
        simulated_allocator.create_buffer(1 << 50, USAGE)


def test_what_fails_inside_the_callback_is_raised_there(simulated_allocator: Allocator) -> None:
    inside = []

    def greedy(error: vk_mem.VkMemError) -> bool:
        with pytest.raises(vk_mem.OutOfDeviceMemoryError):
            simulated_allocator.create_buffer(1 << 50, USAGE)
        with pytest.raises(BufferError):
            simulated_allocator.close()
        inside.append(error)
        return False

    simulated_allocator.on_out_of_memory(greedy)
    with pytest.raises(vk_mem.OutOfDeviceMemoryError):
        simulated_allocator.create_buffer(1 << 50, USAGE)
    assert len(inside) == 1


def test_pressure_is_told_once_each_time() -> None:
    with limited(SimulatedDevice("discrete-8gib"), 100) as allocator:
        told = []
        allocator.on_pressure(lambda heap, budget: told.append((heap, budget)), threshold=0.5)
        made = [allocator.create_buffer(12 * MIB, USAGE, flags=DEDICATED) for _ in range(3)]
        assert told == []
        made.append(allocator.create_buffer(12 * MIB, USAGE, flags=DEDICATED))
        [(heap, budget)] = told
        assert budget.usage >= 0.5 * budget.budget
        assert allocator.heap_budgets()[heap] == budget
        made.append(allocator.create_buffer(MIB, USAGE))
        assert len(told) == 1
        made.pop(0).destroy()
        made.pop(0).destroy()
        made += [allocator.create_buffer(12 * MIB, USAGE, flags=DEDICATED) for _ in range(2)]
        assert len(told) == 2
        allocator.on_pressure(None)
        for buffer in made:
            buffer.destroy()


def test_the_pressure_callback_may_free_and_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: shown.append(args.exc_value))
    with limited(SimulatedDevice("discrete-8gib"), 100) as allocator:
        made = [allocator.create_buffer(12 * MIB, USAGE, flags=DEDICATED) for _ in range(3)]

        @allocator.on_pressure
        def drop(heap: int, budget: vk_mem.HeapBudget) -> None:
            made.pop().destroy()
            raise KeyError("mine")

        allocator.on_pressure(drop, threshold=0.5)
        kept = allocator.create_buffer(12 * MIB, USAGE, flags=DEDICATED)
        assert len(made) == 2 and kept.size == 12 * MIB
        assert [type(error) for error in shown] == [KeyError]
        for buffer in [*made, kept]:
            buffer.destroy()


@pytest.mark.parametrize("name", ["on_pressure", "on_out_of_memory"])
def test_a_callback_that_cannot_be_called_is_refused(
    simulated_allocator: Allocator, name: str
) -> None:
    with pytest.raises(TypeError, match="callable, not int"):
        getattr(simulated_allocator, name)(3)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_that_is_no_share_is_refused(
    simulated_allocator: Allocator, threshold: float
) -> None:
    with pytest.raises(vk_mem.InvalidArgumentError, match="from 0 to 1"):
        simulated_allocator.on_pressure(print, threshold)


def test_a_callback_that_knows_its_allocator_is_collected() -> None:
    def make() -> weakref.ref:
        allocator = Allocator(SimulatedDevice())

        def callback(*_: object) -> bool:
            return allocator.closed

        allocator.on_out_of_memory(callback)
        allocator.on_pressure(callback)
        allocator.close()
        return weakref.ref(callback)

    watch = make()
    gc.collect()
    assert watch() is None


@pytest.mark.parametrize(
    ("retention", "kept"),
    [
        (None, 1),
        (0, 0),
        (12 * MIB, 3),
        (0.5, 6),
        (EmptyBlockRetention(count=2), 2),
        (EmptyBlockRetention(count=5, size=9 * MIB), 2),
        (EmptyBlockRetention(), 8),
    ],
)
def test_empty_blocks_are_kept(retention: object, kept: int) -> None:
    with limited(SimulatedDevice("discrete-8gib"), empty_block_retention=retention) as allocator:
        made = [allocator.create_buffer(2 * MIB, USAGE) for _ in range(16)]
        for buffer in made:
            buffer.destroy()
        assert allocator.calculate_statistics().total.block_count == kept
        assert allocator.trim() == kept * 4 * MIB
        assert allocator.calculate_statistics().total.block_count == 0


@pytest.mark.parametrize("retention", [-1, 1.5, float("nan"), 1 << 64])
def test_a_retention_out_of_range_is_refused(retention: object) -> None:
    with pytest.raises((vk_mem.InvalidArgumentError, OverflowError)):
        Allocator(SimulatedDevice(), empty_block_retention=retention)


def test_wrong_retentions_are_refused() -> None:
    with pytest.raises(TypeError, match="bytes \\(int\\), a share"):
        Allocator(SimulatedDevice(), empty_block_retention="many")
    for wrong in ({"count": -1}, {"size": -1}, {"share": 1.5}):
        with pytest.raises(vk_mem.InvalidArgumentError):
            EmptyBlockRetention(**wrong)


def test_the_next_block_is_taken_ahead(device: Device) -> None:
    with Allocator(device, preferred_block_size=MIB, prefetch=True) as allocator:
        made = [allocator.create_buffer(256 * 1024, USAGE) for _ in range(3)]
        blocks = allocator.calculate_statistics().total.block_count
        until = time.monotonic() + 20
        while allocator.calculate_statistics().total.block_count == blocks:
            assert time.monotonic() < until, "no block came"
            time.sleep(0.001)
        for buffer in made:
            buffer.destroy()


def test_prefetch_and_close_in_the_middle_of_a_call() -> None:
    device = SimulatedDevice("discrete-8gib")
    device.set_latency(0.02, "vkAllocateMemory")
    for _ in range(5):
        with Allocator(device, preferred_block_size=MIB, prefetch=True) as allocator:
            for _ in range(3):
                allocator.create_buffer(256 * 1024, USAGE).retire()
        assert device.live_memory_objects == 0
    assert all("prefetch" not in thread.name for thread in threading.enumerate())


def test_threads_do_not_exceed_a_budget_together() -> None:
    device = SimulatedDevice("discrete-8gib")
    device.set_latency(0.002, "vkAllocateMemory")
    with limited(device, 100) as allocator:
        made: list[vk_mem.Allocation] = []

        def ask() -> None:
            flags = WITHIN_BUDGET | DEDICATED
            with contextlib.suppress(vk_mem.OutOfDeviceMemoryError):
                made.append(allocator.allocate_memory(13 * MIB, flags=flags, memory_type_bits=1))

        threads = [threading.Thread(target=ask) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 6
        for allocation in made:
            allocation.free()
