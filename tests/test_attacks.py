"""Programs that once crashed, hung or leaked memory."""

import array
import contextlib
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from vk_mem import (
    AllocationCreateFlags,
    AllocationCreateInfo,
    Allocator,
    BufferUsage,
    Format,
    ImageUsage,
    InvalidArgumentError,
    MemoryPropertyFlags,
    MemoryUsage,
    OutOfDeviceMemoryError,
    SimulatedDevice,
    VirtualBlock,
)

STORAGE = BufferUsage.STORAGE_BUFFER | BufferUsage.TRANSFER_DST
DEDICATED = AllocationCreateFlags.DEDICATED_MEMORY
DONT_BIND = AllocationCreateFlags.DONT_BIND


def test_arrays_cannot_be_taken_away_while_they_are_filled():
    """A collection hook finds every view there is."""
    count = 1 << 12
    block = VirtualBlock(1 << 40)
    sizes = array.array("Q", [1]) * count

    def release_all(phase, info):
        for found in gc.get_objects():
            if type(found) is memoryview:
                try:
                    if found.nbytes == count * 8:
                        found.release()
                except ValueError:
                    pass

    threshold = gc.get_threshold()
    gc.callbacks.append(release_all)
    gc.set_threshold(1, 1, 1)
    try:
        for _ in range(5):
            # Its own views may be taken away as well; then nothing is allocated.
            with contextlib.suppress(ValueError):
                block.allocate_many(sizes)
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(release_all)
    block.validate()


@pytest.mark.parametrize("kind", ["info", "virtual", "memory"])
def test_a_long_chain_of_user_data_is_dropped(kind):
    program = f"""
        from vk_mem import *
        block = VirtualBlock(1 << 40)
        chain = None
        with Allocator(SimulatedDevice()) as allocator:
            for _ in range(100_000):
                if {kind!r} == "info":
                    chain = AllocationCreateInfo(user_data=chain)
                elif {kind!r} == "virtual":
                    chain = block.allocate(1, user_data=chain)
                else:
                    made = allocator.allocate_memory(16, user_data=chain)
                    made.free()
                    chain = made
            block.clear()
            del chain, block
        print("dropped")
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, "dropped\n"), ran.stderr


def test_memory_stays_while_something_is_bound_to_it(real_device):
    with Allocator(real_device) as allocator:
        buffer = allocator.create_buffer(65536, STORAGE, flags=DONT_BIND)
        memory = allocator.allocate_memory(1 << 20, 65536, flags=DEDICATED)
        memory.bind_buffer(buffer.handle)
        for leave in (memory.free, memory.retire):
            with pytest.raises(BufferError, match="is bound to it"):
                leave()
        real_device.fill_buffer(buffer, 1)
        buffer.destroy()
        memory.free()


def test_an_allocator_closes_with_foreign_bindings(real_device):
    allocator = Allocator(real_device)
    buffer = allocator.create_buffer(65536, STORAGE, flags=DONT_BIND)
    allocator.allocate_memory(1 << 20, 65536).bind_buffer(buffer.handle)
    with pytest.warns(ResourceWarning):
        gc.collect()
        allocator.close()
    assert not buffer.alive


def test_binding_checks_what_vulkan_does_not(real_device):
    with (
        Allocator(real_device) as allocator,
        allocator.create_buffer(1 << 20, STORAGE, flags=DONT_BIND) as large,
        allocator.create_buffer(65536, STORAGE) as bound,
        allocator.allocate_memory(65536, 65536) as memory,
    ):
        with pytest.raises(InvalidArgumentError, match="it needs 1048576 bytes"):
            memory.bind_buffer(large.handle)
        with pytest.raises(InvalidArgumentError, match="bound already"):
            memory.bind_buffer(bound.handle)
        with pytest.raises(InvalidArgumentError, match="bound already"):
            allocator.allocate_memory_for_buffer(bound.handle, bind=True)
        with pytest.raises(InvalidArgumentError, match="bound already"):
            bound.bind()
        with (
            allocator.create_buffer(256, STORAGE, flags=DONT_BIND) as small,
            pytest.raises(InvalidArgumentError, match="alignment"),
        ):
            memory.bind_buffer(small.handle, 1)
        large.bind()


def test_close_waits_for_a_destroy_of_another_thread():
    device = SimulatedDevice("nvidia-h200")
    allocator = Allocator(device)
    buffer = allocator.create_buffer(65536, STORAGE, flags=DEDICATED)
    device.set_latency(0.3, "vkFreeMemory")
    thread = threading.Thread(target=buffer.destroy)
    thread.start()
    while buffer.alive:
        pass
    try:
        allocator.close()
    except BufferError:
        thread.join()
        allocator.close()
    assert device.live_memory_objects == 0
    thread.join()


def test_a_second_close_waits_for_the_first():
    device = SimulatedDevice("nvidia-h200")
    allocator = Allocator(device)
    allocator.create_buffer(65536, STORAGE).destroy()
    device.set_latency(0.3, "vkFreeMemory")
    thread = threading.Thread(target=allocator.close)
    thread.start()
    while not allocator.closed:
        pass
    allocator.close()
    assert device.live_memory_objects == 0
    thread.join()


def test_a_pool_that_could_not_close_can_be_closed_later():
    device = SimulatedDevice("nvidia-h200")
    with Allocator(device, frames_in_flight=0) as allocator:
        pool = allocator.create_pool(memory_type_index=1)
        first = allocator.create_buffer(65536, STORAGE, flags=DEDICATED)
        second = allocator.create_buffer(65536, STORAGE, pool=pool)
        first.retire()
        second.retire()
        device.set_latency(0.2, "vkFreeMemory")
        thread = threading.Thread(target=allocator.set_current_frame_index, args=(9,))
        thread.start()
        while not pool.closed:
            try:
                pool.close()
            except InvalidArgumentError:
                thread.join()
        thread.join()
        device.set_latency(0)
        allocator.create_buffer(64, STORAGE).destroy()
    assert device.live_memory_objects == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_the_child_of_a_fork_gets_an_error_and_ends(real_device):
    allocator = Allocator(real_device)
    buffer = allocator.create_buffer(4096, STORAGE)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        refused = 0
        for call in (
            lambda: allocator.create_buffer(16, STORAGE),
            lambda: buffer.read(),
            allocator.close,
        ):
            try:
                call()
            except InvalidArgumentError as error:
                refused += "os.fork()" in str(error)
        del buffer, allocator, real_device
        gc.collect()
        os._exit(refused)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 3
    buffer.destroy()
    allocator.close()


def test_a_buddy_block_survives_absurd_alignments():
    block = VirtualBlock((1 << 60) - 1, algorithm="buddy")
    for log2 in range(50, 60):
        with contextlib.suppress(OutOfDeviceMemoryError):
            block.free(block.allocate(17, 1 << log2))
        block.validate()
    assert block.allocated == 0


def test_an_interrupt_is_not_swallowed():
    class Interrupted:
        def __index__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        VirtualBlock(64).allocate_many(array.array("Q", [1]), Interrupted())


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        ((BufferUsage.VERTEX_BUFFER, 1024), {}, "size is a BufferUsage"),
        ((1024, ImageUsage.SAMPLED), {}, "buffer_usage is an ImageUsage; it takes BufferUsage"),
        ((1024, MemoryUsage.AUTO), {}, "buffer_usage is a MemoryUsage"),
        ((1024, STORAGE), {"usage": BufferUsage.TRANSFER_SRC}, "it takes MemoryUsage"),
        ((1024, STORAGE), {"flags": MemoryPropertyFlags.HOST_VISIBLE}, "AllocationCreateFlags"),
        ((1024, STORAGE), {"required_flags": DEDICATED}, "it takes MemoryPropertyFlags"),
    ],
)
def test_mixed_up_flags_are_refused(arguments, keywords, message):
    with (
        Allocator(SimulatedDevice()) as allocator,
        pytest.raises(TypeError, match=message),
    ):
        allocator.create_buffer(*arguments, **keywords)
    with (
        Allocator(SimulatedDevice()) as allocator,
        pytest.raises(TypeError, match="image_usage is a BufferUsage"),
    ):
        allocator.create_image(Format.R8_UNORM, (4, 4), STORAGE)


def test_an_exception_in_the_body_is_not_hidden():
    device = SimulatedDevice("nvidia-h200")
    write = AllocationCreateFlags.HOST_ACCESS_SEQUENTIAL_WRITE
    with (
        pytest.warns(ResourceWarning, match="cannot close"),
        pytest.raises(RuntimeError),
        Allocator(device) as allocator,
    ):
        buffer = allocator.create_buffer(64, STORAGE, flags=write)
        view = memoryview(buffer.map())
        raise RuntimeError("the bug to see")
    view.release()
    buffer.destroy()
    allocator.close()


def test_writes_are_flushed_at_the_end_of_a_mapping_also_when_an_array_stays():
    device = SimulatedDevice("non-coherent")
    flags = AllocationCreateFlags.HOST_ACCESS_SEQUENTIAL_WRITE
    both = BufferUsage.TRANSFER_SRC | BufferUsage.TRANSFER_DST
    read = AllocationCreateFlags.HOST_ACCESS_RANDOM
    with Allocator(device) as allocator:
        source = allocator.create_buffer(64, both, flags=flags)
        target = allocator.create_buffer(64, both, flags=read)
        with source.map() as view:
            kept = memoryview(view)
            kept[:4] = b"seen"
        device.copy_buffer(source, target)
        assert target.read(0, 4) == b"seen"
        kept.release()
        source.destroy()
        target.destroy()


def test_user_data_keywords_can_be_shared():
    info = AllocationCreateInfo(user_data=[1])
    with (
        Allocator(SimulatedDevice()) as allocator,
        allocator.create_buffer(64, STORAGE, allocation_info=info) as one,
    ):
        assert one.user_data is info.user_data


def test_a_collection_while_an_error_is_made_may_come_back():
    """Making an exception may run a collection, and that any Python code."""
    block = VirtualBlock(64)
    one = block.allocate(8)
    one.free()
    calls = []

    def come_back(phase, info):
        calls.append(block.allocated)
        block.allocate(1).free()

    threshold = gc.get_threshold()
    gc.callbacks.append(come_back)
    gc.set_threshold(1, 1, 1)
    try:
        for call in (
            lambda: block.allocate(100),
            lambda: block.free(one),
            lambda: block.info(one),
            lambda: block.grow(1),
            lambda: block.allocate_many(array.array("Q", [100])),
            lambda: block.free_many(array.array("Q", [one.handle])),
            lambda: setattr(one, "user_data", 1),
        ):
            with pytest.raises((OutOfDeviceMemoryError, ValueError)):
                call()
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(come_back)
    assert calls and block.allocated == 0
