"""on_pressure, on_out_of_memory, empty_block_retention, prefetch and trim."""

from __future__ import annotations

import contextlib
import gc
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable

import pytest
from support import DEDICATED, DONT_BIND, IMAGE_TRANSFER, RGBA8, WITHIN_BUDGET

import vk_mem
from vk_mem import Allocator, BufferUsage, Device, EmptyBlockRetention, SimulatedDevice

MIB = 1 << 20
USAGE = BufferUsage.STORAGE_BUFFER


def limited(device: Device, mib: int = 64, **options) -> Allocator:
    """Each heap holds so many MiB; 80 % are the budget where the driver has none."""
    heaps = len(device.memory_properties.memory_heaps)
    options.setdefault("preferred_small_heap_block_size", 4 * MIB)
    return Allocator(device, heap_size_limits=[mib * MIB] * heaps, **options)


def run_out(allocator: Allocator) -> None:
    """Asks for memory that the driver has not, whatever heap is tried."""
    device = allocator.device
    device.fail_next("vkAllocateMemory", 1000)
    try:
        allocator.create_buffer(MIB, USAGE, flags=DEDICATED)
    finally:
        device.clear_failures()


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
        run_out(simulated_allocator)
    assert calls == [raised.value]
    simulated_allocator.device.fail_next("vkAllocateMemory", 1000)
    with pytest.raises(vk_mem.OutOfDeviceMemoryError):
        simulated_allocator.create_pool(memory_type_index=0, block_size=MIB, min_block_count=1)
    with pytest.raises(vk_mem.OutOfDeviceMemoryError):
        simulated_allocator.allocate_memory(MIB)
    simulated_allocator.device.clear_failures()
    assert len(calls) == 3


def test_an_exception_of_the_callback_tells_of_the_error(simulated_allocator: Allocator) -> None:
    def broken(error: vk_mem.VkMemError) -> bool:
        raise KeyError("mine")

    simulated_allocator.on_out_of_memory(broken)
    with pytest.raises(KeyError) as raised:
        run_out(simulated_allocator)
    assert isinstance(raised.value.__context__, vk_mem.OutOfDeviceMemoryError)
    assert simulated_allocator.calculate_statistics().total.allocation_count == 0


def test_only_true_asks_for_another_attempt(simulated_allocator: Allocator) -> None:
    simulated_allocator.on_out_of_memory(type)
    with pytest.raises(TypeError, match="True or False, not type"):
        run_out(simulated_allocator)
    simulated_allocator.on_out_of_memory(lambda error: None)
    with pytest.raises(vk_mem.OutOfDeviceMemoryError):
        run_out(simulated_allocator)


def test_what_fails_inside_the_callback_is_raised_there(simulated_allocator: Allocator) -> None:
    inside = []

    def greedy(error: vk_mem.VkMemError) -> bool:
        with pytest.raises(vk_mem.OutOfDeviceMemoryError):
            run_out(simulated_allocator)
        with pytest.raises(BufferError):
            simulated_allocator.close()
        inside.append(error)
        return False

    simulated_allocator.on_out_of_memory(greedy)
    with pytest.raises(vk_mem.OutOfDeviceMemoryError):
        run_out(simulated_allocator)
    assert len(inside) == 1


def hopeless(
    allocator: Allocator,
) -> tuple[list[vk_mem.Pool], dict[str, Callable[[], object]]]:
    """Requests that no memory that comes free could serve, and the pools that they go to."""
    index = allocator.find_memory_type_index()
    pool = allocator.create_pool(memory_type_index=index, block_size=MIB, name="small")
    odd = allocator.create_pool(
        memory_type_index=index, block_size=3 * MIB, algorithm="buddy", name="odd"
    )
    most = allocator.device.properties.max_memory_allocation_size
    heaps = sum(heap.size for heap in allocator.device.memory_properties.memory_heaps)
    return [pool, odd], {
        "larger than a block": lambda: allocator.create_buffer(2 * MIB, USAGE, pool=pool),
        "several": lambda: allocator.create_buffers([64, 2 * MIB], USAGE, pool=pool),
        "dedicated": lambda: allocator.create_buffer(64, USAGE, pool=pool, flags=DEDICATED),
        "no power of two": lambda: allocator.create_buffer(5 * MIB // 2, USAGE, pool=odd),
        "maxMemoryAllocationSize": lambda: allocator.allocate_memory(most + 1),
        "heap": lambda: allocator.create_buffer(heaps + 1, USAGE),
        "pages": lambda: allocator.allocate_memory_pages(4096, 4096, heaps // 4096 + 1),
        "pool": lambda: allocator.create_pool(memory_type_index=index, block_size=heaps + 1),
    }


@pytest.mark.parametrize(
    "name",
    [
        "larger than a block",
        "several",
        "dedicated",
        "no power of two",
        "maxMemoryAllocationSize",
        "heap",
        "pages",
        "pool",
    ],
)
def test_what_cannot_be_takes_nothing_from_others(name: str) -> None:
    with Allocator(SimulatedDevice("discrete-8gib"), empty_block_retention=1 << 30) as allocator:
        pools, requests = hopeless(allocator)
        asked: list[vk_mem.VkMemError] = []
        allocator.on_out_of_memory(asked.append)
        allocator.create_buffer(64, USAGE).destroy()
        warm = allocator.calculate_statistics().total.block_bytes
        assert warm > 0
        never = (
            vk_mem.FeatureNotPresentError if name == "dedicated" else vk_mem.OutOfDeviceMemoryError
        )
        with pytest.raises(never):
            requests[name]()
        assert asked == []
        assert allocator.calculate_statistics().total.block_bytes >= warm
        # What may come free is another matter.
        with pytest.raises(vk_mem.OutOfDeviceMemoryError):
            run_out(allocator)
        assert len(asked) == 1 and allocator.trim() == 0
        for pool in pools:
            pool.close()


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("call", ["vkCreateBuffer", "vkBindBufferMemory"])
def test_a_call_that_runs_out_by_itself_is_asked_for_again(call: str, many: bool) -> None:
    device = SimulatedDevice("discrete-8gib")
    with Allocator(device) as allocator:
        told: list[vk_mem.VkMemError] = []
        allocator.on_out_of_memory(lambda error: not told.append(error))
        device.fail_next(call, 2)
        if many:
            allocator.destroy_many(allocator.create_buffers([4096, 4096], USAGE))
        else:
            allocator.create_buffer(4096, USAGE).destroy()
        assert [type(error) for error in told] == [vk_mem.OutOfDeviceMemoryError] * 2
        assert all(call in str(error) and error.size == 4096 for error in told)
        in_memory = call == "vkBindBufferMemory"
        assert all((error.heap_budget is not None) == in_memory for error in told)
        device.fail_next("vkCreateImage")
        allocator.create_image(RGBA8, (4, 4), IMAGE_TRANSFER).destroy()
        assert len(told) == 3 and told[2].size is None
        # No room for the driver's own bookkeeping is another error.
        device.fail_next(call, 1, -1)
        with pytest.raises(vk_mem.OutOfHostMemoryError) as raised:
            allocator.create_buffer(4096, USAGE)
        assert raised.value.size == 4096 and len(told) == 3
    assert (device.live_buffers, device.live_memory_objects) == (0, 0)


def test_aliases_and_bindings_ask_as_well() -> None:
    device = SimulatedDevice("discrete-8gib")
    with Allocator(device) as allocator, allocator.allocate_memory(65536, 65536) as memory:
        told: list[vk_mem.VkMemError] = []
        allocator.on_out_of_memory(lambda error: not told.append(error))
        device.fail_next("vkBindBufferMemory")
        allocator.create_aliasing_buffer(memory, 4096, USAGE).destroy()
        with allocator.create_buffer(4096, USAGE, flags=DONT_BIND) as buffer:
            device.fail_next("vkBindBufferMemory")
            allocated = allocator.allocate_memory_for_buffer(buffer.handle, bind=True)
        allocated.free()
        assert len(told) == 2


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers of the system's here")
def test_an_interrupt_ends_a_callback_without_an_end() -> None:
    """`bool` runs no Python code, in which an interrupt would be noticed."""
    program = """
        import signal, threading, time
        import vk_mem

        device = vk_mem.SimulatedDevice("discrete-8gib")
        allocator = vk_mem.Allocator(device)
        allocator.on_out_of_memory(bool)
        device.fail_next("vkAllocateMemory", (1 << 64) - 1)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            allocator.create_buffer(1 << 20, vk_mem.BufferUsage.STORAGE_BUFFER)
        except KeyboardInterrupt:
            allocator.close()
            print("interrupted")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "interrupted\n", done.stderr


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
    with pytest.raises(TypeError, match="not bool"):
        Allocator(SimulatedDevice(), empty_block_retention=True)
    for wrong in ({"count": "x"}, {"size": 1.5}, {"share": "half"}, {"count": True}):
        with pytest.raises(TypeError, match="must be"):
            EmptyBlockRetention(**wrong)
    for wrong in ({"count": -1}, {"size": -1}, {"share": 1.5}):
        with pytest.raises(vk_mem.InvalidArgumentError):
            EmptyBlockRetention(**wrong)


def test_the_next_block_is_taken_ahead(device: Device) -> None:
    with Allocator(device, preferred_block_size=MIB, prefetch=True) as allocator:
        made = [allocator.create_buffer(256 * 1024, USAGE) for _ in range(3)]
        until = time.monotonic() + 20
        while allocator.calculate_statistics().total.block_count < 2:
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
    assert all("vk_mem prefetch" not in thread.name for thread in threading.enumerate())


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
