"""Defragmentation of virtual blocks: offsets, order of the moves, what stays."""

import gc
import itertools
import random
import threading

import pytest

from vk_mem import (
    FeatureNotPresentError,
    InvalidArgumentError,
    UseAfterFreeError,
    VirtualBlock,
    VirtualMove,
)

WAYS = ["fast", "balanced", "full", "extensive"]


class Contents:
    """A block, and numbers in place of what a program keeps in it."""

    def __init__(self, size, algorithm):
        self.block = VirtualBlock(size, algorithm=algorithm)
        self.units = [0] * size
        self.live = {}

    def fill(self, chance, sizes):
        while True:
            alignment = chance.choice([1, 1, 4, 12, 32])
            size = chance.choice(sizes)
            number = len(self.live) + 1
            try:
                made = self.block.allocate(size, alignment, user_data=f"number {number}")
            except Exception:  # full
                return
            self.units[made.offset : made.offset + size] = [number] * size
            self.live[number] = (made, alignment)

    def free_some(self, chance):
        for number, (made, _) in list(self.live.items()):
            if chance.random() < 0.5:
                made.free()
                self.live[number] = None
        self.live = {number: it for number, it in self.live.items() if it}

    def copy(self, moves):
        for move in moves:
            end = move.old_offset + move.size
            self.units[move.new_offset : move.new_offset + move.size] = self.units[
                move.old_offset : end
            ]

    def check(self):
        self.block.validate()
        for number, (made, alignment) in self.live.items():
            assert made.offset % alignment == 0
            assert self.units[made.offset : made.offset + made.size] == [number] * made.size
            assert made.user_data == f"number {number}"
            assert self.block.info(made.handle).offset == made.offset


@pytest.mark.parametrize("algorithm", ["tlsf", "buddy"])
@pytest.mark.parametrize("way", WAYS)
def test_contents_survive_copying_in_the_order_of_the_moves(algorithm, way):
    chance = random.Random(f"{algorithm} {way}")
    contents = Contents(4096, algorithm)
    contents.fill(chance, range(1, 60))
    contents.free_some(chance)
    before = contents.block.statistics()
    moves = contents.block.defragment(algorithm=way)
    assert moves
    contents.copy(moves)
    contents.check()
    after = contents.block.statistics()
    assert (after.allocation_count, after.allocation_bytes) == (
        before.allocation_count,
        before.allocation_bytes,
    )
    assert after.unused_range_size_max >= before.unused_range_size_max
    if algorithm == "tlsf":
        assert after.unused_range_count < before.unused_range_count
    for _ in range(100):
        moves = contents.block.defragment(algorithm=way)
        contents.copy(moves)
        if not moves:
            break
    else:
        pytest.fail("it does not end")
    contents.check()


def test_a_move_says_what_moves():
    block = VirtualBlock(100)
    first, second = block.allocate(10), block.allocate(60, user_data="mesh")
    first.free()
    assert block.defragment(algorithm="balanced") == []
    (move,) = block.defragment(algorithm="full")
    assert isinstance(move, VirtualMove)
    assert (move.old_offset, move.new_offset, move.size) == (10, 0, 60)
    assert (move.allocation.handle, move.allocation.user_data) == (second.handle, "mesh")
    assert (second.offset, move.allocation.offset, block.info(second.handle).offset) == (0, 0, 0)
    assert repr(second) == "<vk_mem.VirtualAllocation of 60 at 0>"
    second.free()
    assert second.offset == 0
    with pytest.raises(UseAfterFreeError):
        block.free(move.allocation)


def test_an_allocation_that_was_freed_before_a_move_keeps_its_offset():
    block = VirtualBlock(100)
    first, second = block.allocate(10), block.allocate(60)
    first.free()
    assert len(block.defragment(algorithm="full")) == 1
    assert (first.offset, second.offset) == (0, 0)


def test_what_cannot_be_is_refused():
    linear = VirtualBlock(100, algorithm="linear")
    one = linear.allocate(10)
    with pytest.raises(FeatureNotPresentError, match="linear"):
        linear.defragment()
    assert one.offset == 0
    with pytest.raises(InvalidArgumentError, match="'fast', 'balanced', 'full', 'extensive'"):
        VirtualBlock(100).defragment(algorithm="quick")
    with pytest.raises(TypeError):
        VirtualBlock(100).defragment("full")


def test_moves_keep_the_block_alive_and_no_longer_than_they_live():
    block = VirtualBlock(100)
    first, _second = block.allocate(10), block.allocate(20)
    first.free()
    (move,) = block.defragment(algorithm="full")
    assert move.allocation.block is block
    del block, first, _second
    gc.collect()
    assert move.allocation.offset == 0


def test_threads_allocate_and_read_offsets_meanwhile():
    block = VirtualBlock(1 << 16)
    kept = [block.allocate(64) for _ in range(200)]
    for it in kept[::2]:
        it.free()
    kept = kept[1::2]
    failures = []

    def work(seed):
        chance = random.Random(seed)
        try:
            for _ in range(200):
                mine = [block.allocate(chance.randrange(1, 200)) for _ in range(5)]
                for it in [*mine, *kept[:10]]:
                    assert 0 <= it.offset < 1 << 16
                for it in mine:
                    it.free()
        except Exception as error:  # told to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        block.defragment(algorithm="full")
    for thread in threads:
        thread.join()
    assert not failures
    block.validate()
    spans = sorted((it.offset, it.offset + it.size) for it in kept)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
