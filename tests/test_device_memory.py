"""`on_device_memory`: an event for each `VkDeviceMemory` that is allocated or freed."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import weakref

import pytest
from support import DEDICATED

import vk_mem
from vk_mem import Allocator, BufferUsage, MemoryUsage

MIB = 1 << 20
STORAGE = BufferUsage.STORAGE_BUFFER


def told(allocator):
    events = []
    allocator.on_device_memory(events.append)
    return events


def kinds(events):
    return [event.kind for event in events]


def test_memory_of_its_own_comes_and_goes(allocator, device):
    events = told(allocator)
    buffer = allocator.create_buffer(3 * MIB, STORAGE, flags=DEDICATED)
    (taken,) = events
    place = buffer.allocation
    assert taken.kind == "allocate"
    assert taken.memory == place.device_memory
    assert taken.size == place.device_memory_size
    assert taken.memory_type_index == place.memory_type_index
    types = device.memory_properties.memory_types
    assert taken.heap_index == types[taken.memory_type_index].heap_index
    buffer.destroy()
    assert kinds(events) == ["allocate", "free"]
    gone = events[1]
    assert (gone.memory, gone.size) == (taken.memory, taken.size)
    assert (gone.memory_type_index, gone.heap_index) == (taken.memory_type_index, taken.heap_index)
    assert f"free memory={taken.memory:#x} size={taken.size}" in repr(gone)


def test_every_way_to_take_and_to_give_back(allocator):
    events = told(allocator)
    steps = []

    def step(count, of_kind):
        assert kinds(events) == [of_kind] * count, steps
        steps.append(of_kind)
        events.clear()

    block = allocator.create_buffer(1000, STORAGE)
    step(1, "allocate")
    allocator.create_buffer(1000, STORAGE).destroy()
    step(0, "allocate")  # from the block
    block.destroy()
    step(0, "free")  # one block is kept
    allocator.trim()
    step(1, "free")
    pool = allocator.create_pool(like=(1000, STORAGE), block_size=MIB, min_block_count=3)
    step(3, "allocate")
    pool.close()
    step(3, "free")
    many = allocator.create_buffers([MIB] * 4, STORAGE, flags=DEDICATED)
    step(4, "allocate")
    allocator.destroy_many(many)
    step(4, "free")
    bare = allocator.allocate_memory(4096, flags=DEDICATED)
    step(1, "allocate")
    bare.free()
    step(1, "free")
    late = allocator.create_buffer(MIB, STORAGE, flags=DEDICATED)
    step(1, "allocate")
    late.retire()
    step(0, "free")
    for frame in range(1, 5):
        allocator.set_current_frame_index(frame)
    step(1, "free")


def test_closing_gives_everything_back(device):
    allocator = Allocator(device)
    events = told(allocator)
    live = {}

    @allocator.on_device_memory
    def count(event):
        events.append(event)
        if event.kind == "allocate":
            assert event.memory not in live
            live[event.memory] = event.size
        else:
            assert live.pop(event.memory) == event.size

    buffers = [allocator.create_buffer(MIB, STORAGE) for _ in range(50)]
    assert sum(live.values()) == allocator.calculate_statistics().total.block_bytes
    allocator.destroy_many(buffers)
    allocator.close()
    assert live == {}
    assert kinds(events).count("allocate") == kinds(events).count("free") > 0


def test_a_failed_call_tells_what_it_took_and_gave_back(make_simulated):
    device = make_simulated("discrete-8gib")
    with Allocator(device) as allocator:
        events = told(allocator)
        device.fail_next("vkBindBufferMemory")
        with pytest.raises(vk_mem.OutOfDeviceMemoryError):
            allocator.create_buffer(MIB, STORAGE, flags=DEDICATED)
        assert kinds(events) == ["allocate", "free"]


def test_it_runs_outside_of_all_locks(allocator):
    depth = []
    made = []

    @allocator.on_device_memory
    def use(event):
        # Not entered again: what it causes comes after it.
        assert not depth
        depth.append(event)
        if len(made) < 5:
            made.append(allocator.create_buffer(MIB, STORAGE, flags=DEDICATED))
        allocator.calculate_statistics()
        allocator.heap_budgets()
        allocator.build_stats_string()
        depth.pop()

    allocator.create_buffer(MIB, STORAGE, flags=DEDICATED).destroy()
    assert len(made) == 5
    allocator.destroy_many(made)


def test_what_it_raises_is_shown(allocator, monkeypatch):
    shown = []
    monkeypatch.setattr(sys, "unraisablehook", lambda it: shown.append(it.exc_value))

    @allocator.on_device_memory
    def fail(event):
        raise KeyError(event.kind)

    allocator.create_buffer(MIB, STORAGE, flags=DEDICATED).destroy()
    allocator.on_device_memory(None)
    assert [error.args for error in shown] == [("allocate",), ("free",)]


def test_none_ends_it_and_others_are_refused(allocator):
    events = told(allocator)
    assert allocator.on_device_memory(None) is None
    allocator.create_buffer(MIB, STORAGE, flags=DEDICATED).destroy()
    assert events == []
    with pytest.raises(TypeError, match="callback must be callable, not int"):
        allocator.on_device_memory(3)


def test_the_callback_goes_with_the_allocator(simulated):
    class Listener:
        def __init__(self):
            self.allocator = Allocator(simulated)
            self.allocator.on_device_memory(self.hear)
            self.buffer = self.allocator.create_buffer(1000, STORAGE)

        def hear(self, event):
            pass

    listener = Listener()
    seen, kept = weakref.ref(listener), listener.buffer
    kept.destroy()
    listener.allocator.close()
    del listener
    gc.collect()
    assert seen() is None


def test_threads_are_told_in_order_and_one_at_a_time(device):
    live, inside, wrong = {}, [], []
    with Allocator(device) as allocator:

        @allocator.on_device_memory
        def count(event):
            if inside:
                wrong.append("two at a time")
            inside.append(1)
            if event.kind == "allocate":
                if event.memory in live:
                    wrong.append(f"{event.memory:#x} came twice")
                live[event.memory] = event.size
            elif live.pop(event.memory, None) != event.size:
                wrong.append(f"{event.memory:#x} went without coming")
            inside.pop()

        def work():
            for _ in range(60):
                allocator.create_buffer(MIB, STORAGE, flags=DEDICATED).destroy()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (wrong, live) == ([], {})


def test_blocks_that_are_taken_ahead_are_told_too(make_simulated):
    device = make_simulated("discrete-8gib")
    with Allocator(device, preferred_block_size=MIB, prefetch=True) as allocator:
        events = told(allocator)
        pool = allocator.create_pool(memory_type_index=0, block_size=MIB, min_block_count=1)
        buffers = [
            allocator.create_buffer(200 << 10, STORAGE, pool=pool, usage=MemoryUsage.UNKNOWN)
            for _ in range(4)
        ]
        # No call of the library: the main thread is told between two of its own steps.
        end = time.monotonic() + 20
        while len(events) < 2 and time.monotonic() < end:
            time.sleep(0.001)
        assert kinds(events) == ["allocate"] * 2
        allocator.destroy_many(buffers)
        pool.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_in_the_callback(simulated_allocator):
    reader, writer = os.pipe()

    @simulated_allocator.on_device_memory
    def fork(event):
        simulated_allocator.on_device_memory(None)
        child = os.fork()
        if child == 0:
            try:
                simulated_allocator.heap_budgets()
            except vk_mem.InvalidArgumentError:
                os.write(writer, b"refused")
            os._exit(0)
        os.waitpid(child, 0)

    simulated_allocator.create_buffer(MIB, STORAGE, flags=DEDICATED).destroy()
    os.close(writer)
    assert os.read(reader, 100) == b"refused"
    os.close(reader)
