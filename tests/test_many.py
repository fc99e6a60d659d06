"""Creating many resources in one call: all or none."""

from __future__ import annotations

import array
import gc
import itertools
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
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
    Check,
    pattern,
    totals,
)

from vk_mem import (
    AllocationCreateInfo,
    Allocator,
    BufferUsage,
    DeviceLostError,
    InvalidArgumentError,
    MemoryUsage,
    OutOfDeviceMemoryError,
    OutOfHostMemoryError,
    SimulatedDevice,
    TooManyObjectsError,
    UseAfterFreeError,
    VkMemError,
)

SIZES = [64, 4096, 100, 1, 65536, 64]


def places(made: list[Any]) -> list[tuple[int, int, int]]:
    return sorted((it.device_memory, it.offset, it.offset + it.size) for it in made)


def assert_apart(allocations: list[Any]) -> None:
    all_places = places(allocations)
    for (memory, _, end), (other, start, _) in itertools.pairwise(all_places):
        assert memory != other or end <= start


# ---- every device ----


def test_buffers(allocator: Allocator, check: Check) -> None:
    made = allocator.create_buffers(SIZES, TRANSFER, flags=RANDOM, name="chunk", user_data="data")
    assert [it.size for it in made] == SIZES
    assert {it.usage for it in made} == {TRANSFER}
    assert {(it.name, it.user_data) for it in made} == {("chunk", "data")}
    assert len({it.handle for it in made}) == len(SIZES)
    assert_apart([it.allocation for it in made])
    for seed, buffer in enumerate(made):
        buffer.write(pattern(buffer.size, seed))
    for seed, buffer in enumerate(made):
        assert check.read(buffer) == pattern(buffer.size, seed)
    assert totals(allocator).allocation_count == len(SIZES)
    allocator.validate()
    allocator.destroy_many(made)
    assert not any(it.alive for it in made)
    assert totals(allocator).allocation_count == 0


def test_images(allocator: Allocator) -> None:
    items = [(RGBA8, (16, 16), IMAGE_TRANSFER), (RGBA8, 8, IMAGE_TRANSFER)]
    made = allocator.create_images(items * 3, names=[None, "a", "b", None, "c", "d"])
    assert [it.extent for it in made] == [(16, 16, 1), (8, 1, 1)] * 3
    assert [it.name for it in made] == [None, "a", "b", None, "c", "d"]
    assert_apart([it.allocation for it in made])
    allocator.destroy_many(reversed(made))
    assert totals(allocator).allocation_count == 0


def test_pages(allocator: Allocator) -> None:
    page = 64 << 10
    made = allocator.allocate_memory_pages(page, page, 9, name="page")
    assert [(it.size, it.offset % page, it.name) for it in made] == [(page, 0, "page")] * 9
    sized = allocator.allocate_memory_pages([page, 2 * page], page)
    assert [it.size for it in sized] == [page, 2 * page]
    assert_apart(made + sized)
    allocator.free_memory_pages(made)
    allocator.free_memory_pages([*sized, *made])
    assert totals(allocator).allocation_count == 0


@pytest.mark.parametrize("flags", [RANDOM | MAPPED, WRITE | MAPPED | DEDICATED, DEDICATED])
def test_mapped_and_dedicated(allocator: Allocator, flags: int) -> None:
    made = allocator.create_buffers([1000] * 20, TRANSFER, flags=flags)
    for it in made:
        assert (it.mapped is not None) == bool(flags & MAPPED)
        assert it.allocation.is_dedicated or not flags & DEDICATED
    if flags & MAPPED:
        for index, it in enumerate(made):
            it.mapped[:] = pattern(1000, index)
        assert [bytes(it.mapped) for it in made] == [pattern(1000, i) for i in range(20)]
    allocator.destroy_many(made)


def test_not_bound(allocator: Allocator) -> None:
    made = allocator.create_buffers([64, 64], TRANSFER, flags=DONT_BIND)
    for it in made:
        it.bind()
        with pytest.raises(InvalidArgumentError, match="bound already"):
            it.bind()
    allocator.destroy_many(made)


def test_in_a_pool(allocator: Allocator) -> None:
    with allocator.create_pool(like=((64, TRANSFER), AllocationCreateInfo())) as pool:
        made = allocator.create_buffers([64] * 10, TRANSFER, pool=pool)
        assert pool.statistics().allocation_count == 10
        allocator.destroy_many(made)
        assert pool.statistics().allocation_count == 0


# ---- what may stand for the sizes ----


@pytest.mark.parametrize(
    "sizes",
    [
        [64, 128],
        (64, 128),
        range(64, 129, 64),
        array.array("Q", [64, 128]),
        array.array("i", [64, 128]),
        np.array([64, 128], np.uint64),
        np.array([64, 128]),
        np.array([64, 0, 128, 0], np.uint64)[::2],
        {64: "a", 128: "b"},
        memoryview(array.array("Q", [64, 128])),
    ],
    ids=lambda it: type(it).__name__,
)
def test_every_sequence_of_numbers(simulated_allocator: Allocator, sizes: Any) -> None:
    made = simulated_allocator.create_buffers(sizes, TRANSFER)
    assert [it.size for it in made] == [64, 128]
    simulated_allocator.destroy_many(made)


def test_none_at_all(simulated_allocator: Allocator) -> None:
    calls = simulated_allocator.device.call_count()
    assert simulated_allocator.create_buffers([], TRANSFER) == []
    assert simulated_allocator.create_buffers([]) == []
    assert simulated_allocator.create_images([]) == []
    assert simulated_allocator.allocate_memory_pages(64, 64, 0) == []
    simulated_allocator.destroy_many([])
    simulated_allocator.free_memory_pages([])
    assert simulated_allocator.device.call_count() == calls


Call = Callable[[Allocator], Any]
WRONG: list[tuple[Call, type[Exception], str, int | None]] = [
    (lambda it: it.create_buffers(64, TRANSFER), TypeError, "must be an iterable, not int", None),
    (lambda it: it.create_buffers("64", TRANSFER), TypeError, "must be an iterable, not str", None),
    (lambda it: it.create_buffers(b"64", TRANSFER), TypeError, "must be an iterable", None),
    (lambda it: it.create_buffers([1, "2"], TRANSFER), TypeError, "item 1: size must be an", 1),
    (lambda it: it.create_buffers([1, None], TRANSFER), TypeError, "item 1: size", 1),
    (lambda it: it.create_buffers([1, 1, -1], TRANSFER), InvalidArgumentError, "item 2: .*neg", 2),
    (lambda it: it.create_buffers([1 << 64], TRANSFER), InvalidArgumentError, "item 0: .*64 b", 0),
    (lambda it: it.create_buffers([1, TRANSFER], TRANSFER), TypeError, "item 1: .*BufferUsage", 1),
    (lambda it: it.create_buffers([1, 0], TRANSFER), InvalidArgumentError, "item 1: .*size 0", 1),
    (lambda it: it.create_buffers([1, 1 << 63], TRANSFER), OutOfDeviceMemoryError, "item 1: ", 1),
    (lambda it: it.create_buffers([1], 0), InvalidArgumentError, "buffer_usage is 0", None),
    (
        lambda it: it.create_buffers([object()]),
        ValueError,
        "item 0: the first argument: expected a VkBuff",
        0,
    ),
    (lambda it: it.create_buffers([1], TRANSFER, info=1), TypeError, "'info'", None),
    (lambda it: it.create_buffers([], create_flags=1), InvalidArgumentError, "create_fla", None),
    (lambda it: it.create_buffers([1], TRANSFER, names=["a", "b"]), ValueError, "2 names f", None),
    (lambda it: it.create_buffers([1], TRANSFER, names=[5]), TypeError, "item 0: a name", 0),
    (lambda it: it.create_buffers([1], TRANSFER, names="a"), TypeError, "names must be a", None),
    (lambda it: it.create_buffers([1], TRANSFER, nonsense=1), TypeError, "nonsense", None),
    (lambda it: it.create_images([(RGBA8, 4)]), TypeError, "item 0: an image of many", 0),
    (lambda it: it.create_images([(RGBA8, 4, 1), 5]), TypeError, "item 1: ", 1),
    (lambda it: it.create_images([(RGBA8, 4, 1), (RGBA8, 0, 1)]), ValueError, "item 1: .*0 x", 1),
    (lambda it: it.create_images([(RGBA8, 4, 1)], info=1), TypeError, "'info'", None),
    (lambda it: it.allocate_memory_pages(64), TypeError, "needs a count", None),
    (lambda it: it.allocate_memory_pages([64], 64, 2), TypeError, "count stands beside", None),
    (lambda it: it.allocate_memory_pages(64, 3, 2), InvalidArgumentError, "item 0: al", 0),
    (lambda it: it.allocate_memory_pages(64, 64, -1), InvalidArgumentError, "count is -1", None),
    (
        lambda it: it.allocate_memory_pages(64, 64, 1 << 62),
        OutOfDeviceMemoryError,
        "all heaps",
        None,
    ),
    (
        lambda it: it.allocate_memory_pages(64, 64, (1 << 32) - 1),
        OutOfDeviceMemoryError,
        "all heaps",
        None,
    ),
    (lambda it: it.allocate_memory_pages(0, count=1 << 61), OutOfHostMemoryError, "bookkeep", None),
    (
        lambda it: it.create_buffers([64], TRANSFER, name="a", names=["b"]),
        ValueError,
        "names=",
        None,
    ),
    (lambda it: it.destroy_many([5]), TypeError, "item 0: int is no Buffer, Image or A", 0),
    (lambda it: it.destroy_many(5), TypeError, "must be an iterable", None),
]


@pytest.mark.parametrize(("call", "error", "text", "item"), WRONG)
def test_wrong_items(
    simulated_allocator: Allocator,
    call: Call,
    error: type[Exception],
    text: str,
    item: int | None,
) -> None:
    device = simulated_allocator.device
    calls = device.call_count()
    with pytest.raises(error, match=text) as caught:
        call(simulated_allocator)
    assert device.call_count() == calls, "the driver was asked for what cannot be"
    assert getattr(caught.value, "item", None) == item
    assert "\n" not in str(caught.value)
    assert totals(simulated_allocator).allocation_count == 0
    assert (device.live_buffers, device.live_images) == (0, 0)


def test_an_items_own_exception_comes_through(simulated_allocator: Allocator) -> None:
    class Odd:
        def __index__(self) -> int:
            raise KeyError("own")

    with pytest.raises(KeyError, match="own"):
        simulated_allocator.create_buffers([1, Odd()], TRANSFER)


def test_a_list_that_changes_while_it_is_read(simulated_allocator: Allocator) -> None:
    sizes: list[Any] = []

    class Grows:
        def __index__(self) -> int:
            sizes.clear()
            return 64

    sizes[:] = [Grows(), 64, 64]
    made = simulated_allocator.create_buffers(sizes, TRANSFER)
    assert all(it.size == 64 for it in made)
    simulated_allocator.destroy_many(made)


def test_a_huge_list(simulated_allocator: Allocator) -> None:
    count = 3_000
    made = simulated_allocator.create_buffers(np.full(count, 256, np.uint64), TRANSFER)
    assert totals(simulated_allocator).allocation_count == count
    assert_apart([it.allocation for it in made])
    simulated_allocator.destroy_many(made)


# ---- failures: item k fails, and nothing is left ----


def state(allocator: Allocator) -> Any:
    device = allocator.device
    statistics = allocator.calculate_statistics()
    counts = [(it.allocation_count, it.allocation_bytes) for it in statistics.memory_types]
    return counts, device.live_buffers, device.live_images, repr(allocator)


MANY: dict[str, Callable[[Allocator], list[Any]]] = {
    "buffers": lambda it: it.create_buffers([100] * 5, TRANSFER),
    "buffers mapped": lambda it: it.create_buffers([100] * 5, TRANSFER, flags=RANDOM | MAPPED),
    "buffers dedicated": lambda it: it.create_buffers([100] * 5, TRANSFER, flags=DEDICATED),
    "buffers dedicated and mapped": lambda it: it.create_buffers(
        [100] * 5, TRANSFER, flags=DEDICATED | RANDOM | MAPPED, names=list("abcde")
    ),
    "buffers in new blocks": lambda it: it.create_buffers([100 << 20] * 5, TRANSFER),
    "images": lambda it: it.create_images([(RGBA8, (64, 64), IMAGE_TRANSFER)] * 5),
    "pages": lambda it: it.allocate_memory_pages(65536, 65536, 5),
    "pages dedicated": lambda it: it.allocate_memory_pages(65536, 65536, 5, flags=DEDICATED),
}


@pytest.mark.parametrize("vk_result", [-1, -2, -4])
@pytest.mark.parametrize("profile", ["non-coherent", "discrete-8gib-bar", "nvidia-h200"])
@pytest.mark.parametrize("name", MANY)
def test_each_driver_call_fails_once(name: str, profile: str, vk_result: int) -> None:
    device = SimulatedDevice(profile)
    with Allocator(device) as allocator:
        kept = allocator.create_buffer(64, TRANSFER, flags=RANDOM, name="kept")
        before = state(allocator)
        failures = 0
        for n in range(60):
            calls = device.fallible_call_count
            device.fail_call(n, vk_result)
            try:
                made = MANY[name](allocator)
            except VkMemError as error:
                failures += 1
                assert error.item is not None and 0 <= error.item < 5
                assert str(error).startswith(f"item {error.item}: ")
                del error
            else:
                hit = device.fallible_call_count - calls > n
                # Less memory than was asked for is taken where the driver has no more.
                assert not hit or vk_result in {-1, -2}
                allocator.destroy_many(made)
                del made
                if not hit:
                    break
            device.clear_failures()
            gc.collect()
            assert state(allocator) == before, f"call {n}"
            allocator.validate()
        else:
            pytest.fail("more than 60 calls")
        device.clear_failures()
        assert failures >= 1 or vk_result != -4 or name == "pages"
        kept.destroy()
    assert device.violations == []
    assert (device.live_memory_objects, device.live_buffers) == (0, 0)


@pytest.mark.parametrize("k", range(4))
@pytest.mark.parametrize("call", ["vkCreateBuffer", "vkBindBufferMemory"])
def test_the_error_names_the_item(simulated: SimulatedDevice, call: str, k: int) -> None:
    with Allocator(simulated) as allocator:
        allocator.create_buffer(64, TRANSFER).destroy()
        before = state(allocator)
        # Creating n buffers makes n calls, then binding them n more: nothing else can fail.
        simulated.fail_call(k if call == "vkCreateBuffer" else 4 + k, -4)
        with pytest.raises(DeviceLostError, match=f"item {k}: ") as caught:
            allocator.create_buffers([64] * 4, TRANSFER)
        assert caught.value.item == k
        assert state(allocator) == before


def test_one_size_may_be_a_number_of_numpy(simulated_allocator: Allocator) -> None:
    for size in (np.uint64(4096), np.int32(4096), np.array(4096)):
        pages = simulated_allocator.allocate_memory_pages(size, 4096, np.int64(3))
        assert [page.size for page in pages] == [4096] * 3
        simulated_allocator.free_memory_pages(pages)
    pages = simulated_allocator.allocate_memory_pages(np.array([64]), 64)
    simulated_allocator.free_memory_pages(pages)


def test_no_room_for_item_k(make_simulated: Callable[..., SimulatedDevice]) -> None:
    device = make_simulated(heaps=[(64 << 20, 1)], types=[(0, 15)])
    with Allocator(device) as allocator:
        with pytest.raises(OutOfDeviceMemoryError, match=r"item \d+: ") as caught:
            allocator.create_buffers([10 << 20] * 8, TRANSFER)
        assert 4 <= caught.value.item <= 6
        assert caught.value.size == 10 << 20
        # The blocks that were taken for the others went back.
        assert device.live_memory_objects == 0
        allocator.destroy_many(allocator.create_buffers([10 << 20] * 5, TRANSFER))


def test_too_many_objects(make_simulated: Callable[..., SimulatedDevice]) -> None:
    device = make_simulated(heaps=[(1 << 30, 1)], types=[(0, 15)], max_memory_allocation_count=4)
    with Allocator(device) as allocator:
        with pytest.raises(TooManyObjectsError) as caught:
            allocator.allocate_memory_pages(65536, 65536, 9, flags=DEDICATED)
        assert caught.value.item == 4
        assert device.live_memory_objects == 0


def test_never_allocate(simulated_allocator: Allocator) -> None:
    with pytest.raises(OutOfDeviceMemoryError) as caught:
        simulated_allocator.create_buffers([64, 64], TRANSFER, flags=NEVER)
    assert caught.value.item == 0
    kept = simulated_allocator.create_buffer(64, TRANSFER)
    allocated = simulated_allocator.device.call_count("vkAllocateMemory")
    made = simulated_allocator.create_buffers([64, 64], TRANSFER, flags=NEVER)
    assert simulated_allocator.device.call_count("vkAllocateMemory") == allocated
    simulated_allocator.destroy_many([kept, *made])


def test_each_buffer_costs_no_more_calls_than_one(simulated_allocator: Allocator) -> None:
    device = simulated_allocator.device
    kept = simulated_allocator.create_buffer(64, TRANSFER)
    names = ["vkCreateBuffer", "vkBindBufferMemory", "vkDestroyBuffer", "vkAllocateMemory"]
    before = [device.call_count(name) for name in names]
    simulated_allocator.destroy_many(simulated_allocator.create_buffers([64] * 7, TRANSFER))
    after = [device.call_count(name) for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [7, 7, 7, 0]
    kept.destroy()


# ---- ending ----


def test_a_view_keeps_all(simulated_allocator: Allocator) -> None:
    made = simulated_allocator.create_buffers([64] * 3, TRANSFER, flags=RANDOM)
    with made[2].map(), pytest.raises(BufferError, match="cannot destroy Buffer"):
        simulated_allocator.destroy_many(made)
    assert all(it.alive for it in made)
    made[0].write(pattern(64))
    simulated_allocator.destroy_many(made * 2)
    simulated_allocator.destroy_many(made)
    with pytest.raises(UseAfterFreeError):
        made[0].read()


def test_names_are_remembered(simulated_allocator: Allocator) -> None:
    made = simulated_allocator.create_buffers([64] * 3, TRANSFER, names=["a", None, "c"])
    simulated_allocator.destroy_many(made)
    with pytest.raises(UseAfterFreeError, match="Buffer 'c' was destroyed"):
        made[2].map()
    with pytest.raises(UseAfterFreeError, match="Buffer was destroyed"):
        made[1].map()


def test_mixed_ones_and_wrong_ones(simulated_allocator: Allocator) -> None:
    it = simulated_allocator
    buffer, image = it.create_buffer(64, TRANSFER), it.create_image(RGBA8, 4, IMAGE_TRANSFER)
    memory = it.allocate_memory(64)
    with pytest.raises(TypeError, match="item 0: Buffer is no Allocation"):
        it.free_memory_pages([buffer])
    with pytest.raises(InvalidArgumentError, match="item 1: this memory belongs to a Buffer"):
        it.destroy_many([memory, buffer.allocation])
    with Allocator(it.device) as other, pytest.raises(InvalidArgumentError, match="of another"):
        other.destroy_many([buffer])
    assert buffer.alive and memory.alive
    it.destroy_many([memory, image, buffer])
    assert totals(it).allocation_count == 0


def test_any_iterable_of_resources_is_destroyed(allocator: Allocator) -> None:
    """None stands for nothing, as null does in Vulkan."""

    def make() -> list[Any]:
        buffers = allocator.create_buffers([64] * 4, TRANSFER)
        return [None, *buffers, None, allocator.allocate_memory(64)]

    ways: list[Callable[[list[Any]], Any]] = [
        list,
        tuple,
        set,
        iter,
        lambda made: (it for it in made),
        lambda made: dict(enumerate(made)).values(),
        lambda made: dict.fromkeys(made),
        lambda made: map(lambda it: it, made),
    ]
    for way in ways:
        made = make()
        allocator.destroy_many(way(made))
        assert not any(it.alive for it in made if it is not None)
    pages = allocator.allocate_memory_pages(64, count=3)
    allocator.free_memory_pages(it for it in [None, *pages])
    assert not any(it.alive for it in pages)
    allocator.destroy_many([None])
    allocator.destroy_many(())


def test_an_endless_iterable_destroys_nothing(simulated_allocator: Allocator) -> None:
    with simulated_allocator.create_buffer(64, TRANSFER) as buffer:
        for endless in (itertools.repeat(buffer), itertools.repeat(None)):
            with pytest.raises(InvalidArgumentError, match="more than 1048576 items"):
                simulated_allocator.destroy_many(endless)
        with pytest.raises(TypeError, match="item 2: str is no Buffer"):
            simulated_allocator.destroy_many(it for it in (None, buffer, "x"))  # type: ignore
        with pytest.raises(TypeError, match="must be an iterable, not NoneType"):
            simulated_allocator.destroy_many(None)  # type: ignore[arg-type]
        assert buffer.alive


def test_what_is_bound_ends_with_what_it_is_bound_to(simulated_allocator: Allocator) -> None:
    it = simulated_allocator
    memory = it.allocate_memory(4096, 256)
    buffer = it.create_buffer(64, TRANSFER, flags=DONT_BIND)
    memory.bind_buffer(buffer.handle)
    with pytest.raises(BufferError, match="is bound to it"):
        it.destroy_many([memory])
    assert memory.alive
    it.destroy_many([memory, buffer])


def test_left_alone_they_are_released(simulated: SimulatedDevice) -> None:
    with pytest.warns(ResourceWarning), Allocator(simulated) as allocator:
        made = allocator.create_buffers([64] * 5, TRANSFER)
        del made
        gc.collect()
        assert simulated.live_buffers == 5
        allocator.set_current_frame_index(3)
        assert simulated.live_buffers == 0
        kept = allocator.create_buffers([64] * 5, TRANSFER)
    assert not any(it.alive for it in kept)


def test_threads(allocator: Allocator) -> None:
    failed: list[BaseException] = []

    def work(seed: int) -> None:
        random_sizes = random.Random(seed)
        try:
            for _ in range(8):
                sizes = [random_sizes.randrange(1, 20_000) for _ in range(60)]
                made = allocator.create_buffers(sizes, TRANSFER, flags=RANDOM)
                made[seed].write(pattern(made[seed].size, seed))
                allocator.destroy_many(made[::2])
                if seed % 2:
                    assert made[seed].read() == pattern(made[seed].size, seed)
                allocator.destroy_many(made)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert totals(allocator).allocation_count == 0
    allocator.validate()


def test_two_threads_destroy_the_same(simulated_allocator: Allocator) -> None:
    for _ in range(20):
        made = simulated_allocator.create_buffers([64] * 50, BufferUsage.TRANSFER_SRC)
        arguments = (list(made), list(reversed(made)))
        refused: list[BufferError] = []

        def end(resources: list[Any], refused: list[BufferError] = refused) -> None:
            try:
                simulated_allocator.destroy_many(resources)
            except BufferError as error:
                refused.append(error)

        threads = [threading.Thread(target=end, args=(it,)) for it in arguments]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        simulated_allocator.destroy_many(made)
        assert totals(simulated_allocator).allocation_count == 0
        assert refused == []


def test_closing_meanwhile_is_refused_or_comes_first() -> None:
    device = SimulatedDevice("lavapipe")
    device.set_latency(0.0005, "vkCreateBuffer")
    allocator = Allocator(device)
    started = threading.Event()
    seen: list[object] = []

    def work() -> None:
        started.set()
        try:
            made = allocator.create_buffers([64] * 100, TRANSFER, usage=MemoryUsage.AUTO)
            allocator.destroy_many(made)
            seen.append("done")
        except UseAfterFreeError:
            seen.append("closed")

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    while thread.is_alive():
        try:
            allocator.close()
            break
        except BufferError:
            seen.append("refused")
    thread.join()
    allocator.close()
    assert "done" in seen or "closed" in seen
    assert (device.live_buffers, device.live_memory_objects) == (0, 0)
