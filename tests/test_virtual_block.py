"""Virtual blocks: the suballocators without memory."""

import array
import gc
import itertools
import json
import threading
import weakref

import numpy as np
import pytest

from vk_mem import (
    AllocationCreateFlags,
    Allocator,
    BufferUsage,
    InvalidArgumentError,
    OutOfDeviceMemoryError,
    SimulatedDevice,
    UseAfterFreeError,
    VirtualBlock,
)

ALGORITHMS = ["tlsf", "linear", "buddy"]


@pytest.fixture(params=ALGORITHMS)
def block(request):
    made = VirtualBlock(1 << 20, algorithm=request.param)
    yield made
    made.validate()


def test_allocations_do_not_overlap_and_are_aligned(block):
    taken = [block.allocate(100, 1 << (i % 9)) for i in range(200)]
    spans = sorted((it.offset, it.offset + it.size) for it in taken)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert all(it.offset % (1 << (i % 9)) == 0 for i, it in enumerate(taken))
    assert (block.allocation_count, block.allocated) == (200, 20000)
    statistics = block.statistics()
    assert (statistics.allocation_count, statistics.allocation_bytes) == (200, 20000)
    assert (statistics.allocation_size_min, statistics.allocation_size_max) == (100, 100)


def test_a_freed_allocation_is_stale(block):
    one = block.allocate(64)
    block.free(one)
    with pytest.raises(UseAfterFreeError, match="was freed"):
        block.free(one)
    with pytest.raises(UseAfterFreeError):
        block.info(one.handle)
    one.free()
    again = block.allocate(64)
    assert again.handle != one.handle


def test_an_allocation_of_another_block_is_refused(block):
    other = VirtualBlock(1000)
    theirs, ours = other.allocate(10), block.allocate(10)
    for call in (block.free, block.info):
        with pytest.raises(InvalidArgumentError, match="of another block"):
            call(theirs)
    assert block.info(ours).offset == ours.offset
    assert other.allocation_count == 1


def test_a_handle_is_as_good_as_the_object(block):
    one = block.allocate(64, 16)
    found = block.info(one.handle)
    assert (found.offset, found.size, found.handle) == (one.offset, 64, one.handle)
    block.free(one.handle)
    assert block.allocation_count == 0


def test_context_managers_free(block):
    with block.allocate(64) as one:
        assert block.allocation_count == 1
        assert one.block is block
    assert block.allocation_count == 0
    with VirtualBlock(16) as other:
        other.allocate(4)
    assert other.allocation_count == 0


def test_user_data_is_kept_and_collected(block):
    class Data:
        pass

    one = block.allocate(64, user_data=Data())
    seen = weakref.ref(one.user_data)
    assert block.info(one.handle).user_data is one.user_data is seen()
    block.free(one)
    assert seen() is None
    two = block.allocate(64)
    assert two.user_data is None
    two.user_data = [block, two]
    seen = weakref.ref(block)
    two.user_data = None
    assert seen() is block
    block.clear()
    with pytest.raises(UseAfterFreeError):
        two.user_data = 1


def test_a_cycle_through_user_data_is_collected():
    block = VirtualBlock(64)
    one = block.allocate(8)
    one.user_data = [block, one]
    seen = weakref.ref(block)
    del block, one
    gc.collect()
    assert seen() is None


def test_many_at_once_in_numpy_arrays(block):
    sizes = np.random.default_rng(1).integers(1, 500, 1000).astype(np.uint64)
    handles, offsets = (np.asarray(it) for it in block.allocate_many(sizes, 8))
    assert handles.dtype == offsets.dtype == np.uint64
    order = np.argsort(offsets)
    assert np.all(offsets[order][:-1] + sizes[order][:-1] <= offsets[order][1:])
    assert not np.any(offsets % 8)
    assert block.info(int(handles[7])).offset == offsets[7]
    block.free_many(handles[::2].copy())
    assert block.allocation_count == 500
    with pytest.raises(UseAfterFreeError):
        block.free_many(handles)
    assert block.allocation_count == 500
    block.free_many(handles[1::2].copy())
    assert (block.allocation_count, block.allocated) == (0, 0)


def test_many_at_once_take_other_arrays(block):
    sizes = array.array("Q", [1, 2, 3])
    handles, offsets = block.allocate_many(sizes, np.array([1, 2, 4], np.uint64))
    assert handles.format == "Q" and len(offsets) == 3
    block.free_many(handles)
    assert len(block.allocate_many(array.array("Q"))[0]) == 0


@pytest.mark.parametrize(
    "sizes",
    [
        [1, 2, 3],
        (1, 2, 3),
        range(1, 4),
        np.array([1, 2, 3], np.int64),
        np.array([1, 2, 3], np.int32),
        np.arange(1, 7, dtype=np.uint64)[:5:2] // np.uint64(2) + np.uint64(1),
        array.array("i", [1, 2, 3]),
    ],
    ids=["list", "tuple", "range", "int64", "int32", "strided", "array"],
)
def test_many_at_once_take_what_create_buffers_takes(block, sizes):
    handles, offsets = block.allocate_many(sizes, [4, 4, 8])
    assert [block.info(handle).size for handle in handles] == [1, 2, 3]
    assert offsets[2] % 8 == 0
    block.free_many(list(handles))
    assert block.allocation_count == 0
    with Allocator(SimulatedDevice()) as allocator:
        allocator.destroy_many(allocator.create_buffers(sizes, BufferUsage.STORAGE_BUFFER))


@pytest.mark.parametrize("sizes", [np.array([1.0]), [1.0], b"12345678", "12", 5, None])
def test_what_is_no_list_of_integers_is_refused(block, sizes):
    with pytest.raises(TypeError):
        block.allocate_many(sizes)


def test_many_are_allocated_all_or_none(block):
    before = block.statistics()
    with pytest.raises(OutOfDeviceMemoryError, match="item 16: ") as full:
        block.allocate_many(np.full(100, 1 << 16, np.uint64))
    assert full.value.item == 16
    assert block.statistics() == before
    with pytest.raises(InvalidArgumentError, match="item 1: size is 0") as empty:
        block.allocate_many(np.array([1, 0], np.uint64))
    assert empty.value.item == 1
    assert block.allocation_count == 0


@pytest.mark.parametrize(
    ("sizes", "alignments", "message"),
    [
        (np.array([1, -1]), None, "item 1: size is -1"),
        ([1, -1], None, "item 1: size is -1"),
        ([1, 1 << 64], None, "item 1: size is 18446744073709551616"),
        (np.array([1], np.uint64), [-2], "item 0: alignment is -2"),
        (np.array([1], np.uint64), np.array([1, 1], np.uint64), "2 alignments for 1 size"),
    ],
)
def test_wrong_arrays_get_one_clear_line(sizes, alignments, message):
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        VirtualBlock(64).allocate_many(sizes, alignments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: VirtualBlock(0), "not 0"),
        (lambda: VirtualBlock(1 << 63), "units"),
        (lambda: VirtualBlock(1, algorithm="best"), "no algorithm is named 'best'"),
        (lambda: VirtualBlock(64).allocate(0), "size is 0"),
        (lambda: VirtualBlock(64).allocate(-1), "negative"),
        (lambda: VirtualBlock(64).allocate(1, upper_address=True), "linear"),
        (lambda: VirtualBlock(64).allocate(1, strategy=1), "STRATEGY"),
        (lambda: VirtualBlock(64).grow(63), "cannot shrink"),
    ],
)
def test_nonsense_gets_one_clear_line(call, message):
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_full_is_a_memory_error_with_figures():
    with pytest.raises(MemoryError) as caught:
        VirtualBlock(64).allocate(65)
    assert caught.value.size == 65


def test_growing_keeps_what_is_there(block):
    one = block.allocate(1 << 20)
    with pytest.raises(OutOfDeviceMemoryError):
        block.allocate(1)
    block.grow(1 << 21)
    assert block.size == 1 << 21
    assert block.allocate(1 << 20).offset == 1 << 20
    assert block.info(one.handle).offset == 0


def test_linear_is_a_double_stack_and_a_ring():
    block = VirtualBlock(100, algorithm="linear")
    assert block.allocate(30).offset == 0
    assert block.allocate(30, upper_address=True).offset == 70
    block.clear()
    ring = [block.allocate(30) for _ in range(3)]
    for _ in range(50):
        oldest = ring.pop(0)
        oldest.free()
        ring.append(block.allocate(30))
        assert ring[-1].offset == oldest.offset


def test_lowest_offset_first():
    block = VirtualBlock(1000)
    taken = [block.allocate(10) for _ in range(100)]
    for index in (70, 30, 50):
        taken[index].free()
    again = block.allocate(10, strategy=AllocationCreateFlags.STRATEGY_MIN_OFFSET)
    assert again.offset == 300


def test_json_has_the_keys_of_a_block(block):
    block.allocate(64)
    dump = json.loads(block.build_stats_string())
    assert dump["TotalBytes"] - dump["UnusedBytes"] == 64
    assert dump["Allocations"] == 1
    assert len(dump["Suballocations"]) == 1 + dump["UnusedRanges"]
    assert {"Offset": 0, "Type": "UNKNOWN", "Size": 64} in dump["Suballocations"]
    assert "Suballocations" not in json.loads(block.build_stats_string(detailed=False))


def test_threads_share_a_block(block):
    def work():
        for _ in range(300):
            with block.allocate(7, 4):
                pass
            handles, _ = block.allocate_many(np.full(10, 5, np.uint64))
            block.free_many(handles)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert block.allocation_count == 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("alignment", [12, 20, 36, 0, 1, 7, 3 << 20])
def test_any_alignment_will_do(algorithm: str, alignment: int) -> None:
    block = VirtualBlock(1 << 28, algorithm=algorithm)
    made = [block.allocate(size, alignment) for size in (10, 12, 100, 1)]
    handles, offsets = block.allocate_many([5, 6, 7], alignment or 0)
    mixed, places = block.allocate_many([5, 6, 7], [alignment, 16, 0])
    multiple = max(alignment, 1)
    assert all(it.offset % multiple == 0 for it in made)
    assert all(offset % multiple == 0 for offset in offsets)
    assert places[0] % multiple == 0
    assert places[1] % 16 == 0
    block.validate()
    block.free_many(handles)
    block.free_many(mixed)
    for it in made:
        it.free()
    block.validate()
    assert block.allocated == 0


def test_the_upper_end_is_aligned_to_any_number() -> None:
    block = VirtualBlock(1000, algorithm="linear")
    assert block.allocate(10, 36, upper_address=True).offset == 972


def test_user_data_are_in_the_statistics() -> None:
    class Mesh:
        pass

    block = VirtualBlock(1000, algorithm="linear")
    mesh = Mesh()
    data = ["a name!", 77, True, mesh, None, ""]
    made = [block.allocate(10, user_data=it) for it in data]
    regions = json.loads(block.build_stats_string())["Suballocations"]
    texts = [it.get("CustomData") for it in regions if it["Type"] != "FREE"]
    expected = ["aname", "77", "True", f"Mesh0x{id(mesh):x}", None]
    assert texts[:5] == expected
    assert texts[5].startswith("str0x")
    made[0].user_data = None
    made[1].user_data = "other"
    made[2].free()
    regions = json.loads(block.build_stats_string())["Suballocations"]
    texts = [it.get("CustomData") for it in regions if it["Type"] != "FREE"]
    assert texts[:3] == [None, "other", expected[3]]
    assert "Suballocations" not in block.build_stats_string(False)
