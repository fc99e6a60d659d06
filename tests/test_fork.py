"""In a forked child, objects of the parent raise errors and print; no call hangs.

At the fork another thread of the parent is inside the library and holds a lock, which no thread of
the child can release.
"""

import contextlib
import mmap
import os
import signal
import threading

import pytest

from vk_mem import (
    AllocationCreateFlags,
    Allocator,
    BufferHeap,
    BufferUsage,
    InvalidArgumentError,
    ResourceCache,
    SimulatedDevice,
    VirtualBlock,
)

NO_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
# The warning is about what is tested here.
pytestmark = [NO_FORK, pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")]

STORAGE = BufferUsage.STORAGE_BUFFER
WRITE = AllocationCreateFlags.HOST_ACCESS_SEQUENTIAL_WRITE
FORKS = 4


@contextlib.contextmanager
def busy(call):
    """Another thread calls it all the time."""
    done = threading.Event()
    inside = threading.Event()

    def work():
        while not done.is_set():
            inside.set()
            call()

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    try:
        yield
    finally:
        done.set()
        thread.join()


def in_children(uses, texts):
    """Forks some times; each of the uses raises, each of the texts says where it comes from."""
    for _ in range(FORKS):
        child = os.fork()
        if child == 0:
            wrong = 100
            with contextlib.suppress(BaseException):
                signal.alarm(20)
                wrong = 0
                for use in uses:
                    try:
                        use()
                    except InvalidArgumentError as error:
                        wrong += "os.fork()" not in str(error)
                    else:
                        wrong += 1
                wrong += sum("before os.fork()" not in text() for text in texts)
            os._exit(wrong)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0


def test_virtual_blocks():
    block = VirtualBlock(1 << 24)
    handles, _ = block.allocate_many([16] * 100_000)
    one = block.info(handles[0])
    one.user_data = "kept"
    uses = [
        lambda: block.size,
        lambda: block.algorithm,
        lambda: block.allocation_count,
        lambda: block.allocated,
        lambda: block.allocate(1),
        lambda: block.allocate_many([1]),
        lambda: block.free(one),
        lambda: block.free_many([one.handle]),
        block.defragment,
        lambda: block.info(one.handle),
        lambda: block.grow(1 << 25),
        lambda: one.free(),
        lambda: setattr(one, "user_data", 1),
        lambda: block.__exit__(None, None, None),
        block.statistics,
        block.build_stats_string,
        block.validate,
        block.clear,
    ]
    with busy(block.validate):
        in_children(uses, [lambda: repr(block)])
    assert block.allocation_count == 100_000 and one.user_data == "kept"


def test_what_lives_on_a_device():
    device = SimulatedDevice("discrete-8gib")
    with Allocator(device) as allocator:
        pool = allocator.create_pool(memory_type_index=1)
        buffer = allocator.create_buffer(4096, STORAGE, flags=WRITE, pool=pool)
        unbound = allocator.create_buffer(
            4096, STORAGE, flags=AllocationCreateFlags.DONT_BIND, name="unbound"
        )
        pages = allocator.allocate_memory_pages(256, count=30_000, pool=pool)
        mapping = buffer.map()
        uses = [
            lambda: buffer.retire(),
            lambda: buffer.name,
            lambda: buffer.allocation.device_memory_size,
            lambda: buffer.allocation.export_handle_types,
            lambda: device.copy_buffer(unbound, buffer),
            lambda: device.live_bytes(0),
            lambda: device.live_buffers,
            lambda: device.live_images,
            lambda: device.live_memory_objects,
            lambda: device.fallible_call_count,
            lambda: device.violations,
            lambda: device.validation_messages,
            lambda: device.call_count(),
            lambda: device.set_latency(0),
            lambda: device.fail_call(),
            lambda: device.fail_next("vkAllocateMemory"),
            lambda: device.clear_failures(),
            lambda: pool.statistics(),
            lambda: mapping.flush(),
            lambda: allocator.calculate_statistics(),
        ]
        texts = [lambda it=it: repr(it) for it in (buffer, pool, allocator)]
        with busy(allocator.calculate_statistics):
            in_children(uses, texts)
        mapping.close()
        allocator.free_memory_pages(pages)
        allocator.destroy_many([buffer, unbound])
        pool.close()


def test_buffer_heaps():
    with Allocator(SimulatedDevice()) as allocator, BufferHeap(allocator, STORAGE) as heap:
        piece = heap.allocate(100)
        held = threading.Event()
        go_on = threading.Event()

        def hold():
            with heap._lock:
                held.set()
                go_on.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        try:
            uses = [
                lambda: heap.allocate(1),
                lambda: heap.buffers,
                lambda: heap.allocated,
                heap.close,
                piece.free,
            ]
            in_children(uses, [lambda: repr(heap)])
        finally:
            go_on.set()
            thread.join()
        piece.free()


def test_resource_caches():
    def make(key):
        return allocator.create_buffer(key, STORAGE)

    with Allocator(SimulatedDevice()) as allocator, ResourceCache(allocator, make) as cache:
        cache[64]
        held, go_on = threading.Event(), threading.Event()

        def hold():
            with cache._lock:
                held.set()
                go_on.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        try:
            uses = [
                lambda: cache[64],
                lambda: cache[128],
                lambda: cache.get(64),
                lambda: cache.pop(64),
                lambda: 64 in cache,
                lambda: list(cache),
                cache.items,
                cache.clear,
                cache.close,
            ]
            in_children(uses, [lambda: repr(cache)])
        finally:
            go_on.set()
            thread.join()


def test_what_an_unclosed_object_held_is_let_go_of_in_the_child():
    """The host memory that it was made of is the child's again, though nothing is released."""
    device = SimulatedDevice("discrete-8gib")
    page = max(device.min_imported_host_pointer_alignment or 0, 4096)
    memory = mmap.mmap(-1, page)
    with Allocator(device) as allocator:
        allocation = allocator.import_host_pointer(memory)
        with pytest.raises(BufferError):
            memory.close()
        child = os.fork()
        if child == 0:
            wrong = 1
            with contextlib.suppress(BaseException):
                signal.alarm(20)
                del allocation
                memory.close()
                wrong = 0
            os._exit(wrong)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        allocation.free()
    memory.close()
