"""`vk_mem` from Python compared with VMA called from native code, in one process, on one VkDevice.

`make bench` runs this after the Rust benchmarks; `quick` as an argument runs fewer rounds. Both
sides are measured in CPU time of the thread, which excludes other work on the machine. Only host
copies, which may use several threads, are measured in wall-clock time.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Callable
from random import Random
from time import perf_counter_ns, thread_time_ns
from typing import Any

import peers
from report import Report, in_turns

import vk_mem
from vk_mem import AllocationCreateFlags, BufferUsage

#: Bytes; as in the Rust benchmarks, 10,000 of them fit into the memory of a machine.
BUFFER_SIZES = (256, 64 << 10)
PAGE = 4096
LIVE = 10_000
USAGE = BufferUsage.VERTEX_BUFFER | BufferUsage.TRANSFER_DST


def log_uniform(random: Random, low: int, high: int) -> int:
    """Returns a number whose logarithm is uniformly distributed."""
    return int(math.exp(random.uniform(math.log(low), math.log(high))))


def buffer_sizes(random: Random, count: int) -> array:
    """Returns random buffer sizes in bytes."""
    return array("Q", (log_uniform(random, *BUFFER_SIZES) for _ in range(count)))


def timed_pairs(
    victims: array, sizes: array, live: list[Any], create: Callable[..., Any], other: object
) -> float:
    """Returns the nanoseconds to destroy a live buffer and create one, with size and `other`."""
    # Reads the arrays that the native loop reads: a list of pairs would be megabytes of objects,
    # and evict the cache for one side only.
    start = thread_time_ns()
    for victim, size in zip(victims, sizes, strict=True):
        live[victim].destroy()
        live[victim] = create(size, other)
    return (thread_time_ns() - start) / len(sizes)


def second_of(turn: Callable[[], float]) -> Callable[[], float]:
    """Returns a turn with warm caches and pages: it runs twice, and the second run counts."""
    return lambda: (turn(), turn())[1]


def plan_of_pairs(random: Random, count: int) -> tuple[array, array]:
    """Returns indices of live buffers to destroy, and the sizes of their replacements."""
    victims = array("I", (random.randrange(LIVE) for _ in range(count)))
    return victims, buffer_sizes(random, count)


def rounds_of_pairs(
    device: vk_mem.Device, random: Random, rounds: int, count: int, *, ours_first: bool
) -> dict[str, list[float]]:
    """Returns nanoseconds per pair for each round, with new buffers: ours, VMA's, the loop alone.

    The first contestant gets new memory, and follows the loop alone in every round.
    """
    first = buffer_sizes(random, LIVE)
    # One for each round, equal for both contestants.
    plans = [plan_of_pairs(random, count) for _ in range(rounds)]
    ours_next, theirs_next, python_next = iter(plans), iter(plans), iter(plans)
    vma = peers.Vma(device)
    with vk_mem.Allocator(device) as allocator:
        create = allocator.create_buffer
        live: list[Any] = []
        fills: dict[str, Callable[[], None]] = {
            "ours": lambda: live.extend(create(size, USAGE) for size in first),
            "vma native": lambda: vma.fill(first),
        }
        order = list(fills) if ours_first else list(fills)[::-1]
        for name in order:
            fills[name]()
        # The time of the Python loop itself, with two calls that do nothing.
        over = create(LIVE, USAGE)
        over.destroy()
        ended, nothing = [over] * LIVE, dict[int, object]().get
        turns: dict[str, Callable[[], float]] = {
            "ours": lambda: timed_pairs(*next(ours_next), live, create, USAGE),
            "vma native": lambda: vma.pairs(*next(theirs_next)) / count,
            "python alone": lambda: timed_pairs(*next(python_next), ended, nothing, over),
        }
        figures = in_turns(rounds, {name: turns[name] for name in [*order, "python alone"]})
        allocator.destroy_many(live)
    vma.close()
    return figures


def buffer_pairs(report: Report, device: vk_mem.Device, quick: bool) -> None:
    """Measures destroy + create_buffer, one at a time and a thousand at once."""
    report.section("buffers from Python on the CPU driver, beside VMA from native code")
    # A round replaces most buffers, so each contestant has its own tables in the cache. Several
    # sets of buffers, as their addresses change the result by a twentieth.
    sets, rounds, count = (2, 4, 10_000) if quick else (6, 4, 40_000)
    random = Random(41)
    pairs: dict[str, list[float]] = {}
    for number in range(sets):
        ours_first = number % 2 == 0
        taken = rounds_of_pairs(device, random, rounds, count, ours_first=ours_first)
        for name, figures in taken.items():
            pairs.setdefault(name, []).extend(figures)
    report.add("buffer pair from Python", LIVE, "ns", pairs, at_most={"vma native": 1.0})

    many = 1_000
    sizes = buffer_sizes(random, many)
    first = buffer_sizes(random, LIVE)
    vma = peers.Vma(device)
    vma.fill(first)
    with vk_mem.Allocator(device) as allocator:
        live = allocator.create_buffers(first, USAGE)
        # Ages the blocks: random frees leave gaps.
        victims, then = plan_of_pairs(random, count)
        timed_pairs(victims, then, live, allocator.create_buffer, USAGE)
        vma.pairs(victims, then)

        def ours_batch() -> float:
            start = thread_time_ns()
            made = allocator.create_buffers(sizes, USAGE)
            allocator.destroy_many(made)
            return (thread_time_ns() - start) / many

        rounds = 21 if quick else 45
        plans = iter([plan_of_pairs(random, LIVE) for _ in range(2 * rounds)])
        turns: dict[str, Callable[[], float]] = {
            "ours": ours_batch,
            "vma native": lambda: vma.batch(sizes) / many,
            "driver alone": lambda: vma.batch(sizes, alone=True) / many,
            "vma native, pair": lambda: vma.pairs(*next(plans)) / LIVE,
        }
        figures = in_turns(rounds, {name: second_of(turn) for name, turn in turns.items()})
        case = "create_buffers + destroy_many, each"
        # Compared with as many pairs of VMA, and with a loop of creates and one of destroys.
        bars = {"vma native, pair": 0.6, "vma native": 0.6}
        report.add(case, many, "ns", figures, at_most=bars)
        allocator.destroy_many(live)
    vma.close()


def virtual_many(report: Report, quick: bool) -> None:
    """Measures VirtualBlock.allocate_many, in a new block and in one with gaps."""
    report.section("VirtualBlock.allocate_many from Python, beside VMA's call in a native loop")
    for count in (1_000, 10_000) if quick else (1_000, 10_000, 100_000):
        for case, live in (("allocate_many, new block, each", 0), ("allocate_many, each", 10_000)):
            virtual_case(report, case, live, count, 9 if quick else 21)


def virtual_case(report: Report, case: str, live: int, count: int, rounds: int) -> None:
    """Measures one case: `live` ranges are allocated before, and every second one is freed."""
    random = Random(42)
    first = array("Q", (log_uniform(random, 256, 2 << 20) for _ in range(live)))
    sizes = array("Q", (log_uniform(random, 256, 2 << 20) for _ in range(count)))
    room = 1 << (sum(first) + sum(sizes) + (live + count) * 256).bit_length()
    # Blocks per turn: 1,000 items alone take 0.1 ms, too little for a stable result.
    blocks = max(10_000 // count, 1)

    def in_one_block() -> int:
        block = vk_mem.VirtualBlock(room)
        if live:
            handles, _ = block.allocate_many(first, 256)
            block.free_many(array("Q", handles[::2]))
        start = thread_time_ns()
        block.allocate_many(sizes, 256)
        taken = thread_time_ns() - start
        block.clear()
        return taken

    def ours() -> float:
        return sum(in_one_block() for _ in range(blocks)) / (blocks * count)

    def theirs(strategy: int) -> float:
        taken = (peers.virtual_many(room, first, sizes, 256, strategy) for _ in range(blocks))
        return sum(taken) / (blocks * count)

    figures = in_turns(
        rounds,
        {
            "ours": ours,
            "vma default": lambda: theirs(0),
            "vma min_time": lambda: theirs(0x20000),
        },
    )
    # The default strategies of both, and our default against VMA's fastest.
    bars = {"vma default": 1.0, "vma min_time": 1.0}
    report.add(case, count, "ns", figures, at_most=bars)


def host_copies(report: Report, device: vk_mem.Device, quick: bool) -> None:
    """Measures write, read and read_into as bandwidth, in wall-clock time, as they use threads."""
    report.section("host copies through Python, beside memcpy on the same memory")
    size = (64 if quick else 256) << 20
    rounds = 7 if quick else 11
    data = bytearray(Random(43).randbytes(1 << 20)) * (size >> 20)
    target = bytearray(size)
    source_address = peers.address_of(data)
    target_address = peers.address_of(target)
    # Python's bytes begin shortly after a page start, where memcpy may be three times slower.
    aligned = bytearray(size + PAGE)
    aligned_address = -(-peers.address_of(aligned) // PAGE) * PAGE

    def gigabytes(nanoseconds: int) -> float:
        return size / nanoseconds

    def timed(function: object, *arguments: object) -> float:
        start = perf_counter_ns()
        result = function(*arguments)
        taken = perf_counter_ns() - start
        del result
        return gigabytes(taken)

    flags = AllocationCreateFlags.HOST_ACCESS_RANDOM | AllocationCreateFlags.MAPPED
    usage = BufferUsage.TRANSFER_SRC | BufferUsage.TRANSFER_DST
    with (
        vk_mem.Allocator(device) as allocator,
        allocator.create_buffer(size, usage, flags=flags) as buffer,
    ):
        with buffer.map() as view:
            mapped = peers.address_of(view)
        # Touches all pages, so that the first contestant is not charged for the page faults.
        peers.memcpy(mapped, source_address, size)
        figures = in_turns(
            rounds,
            {
                "ours": lambda: timed(buffer.write, data),
                "memcpy": lambda: gigabytes(peers.memcpy(mapped, source_address, size)),
            },
        )
        report.add("write", size, "GB/s", figures, at_least={"memcpy": 0.9})
        memcpys: dict[str, Callable[[], float]] = {
            "memcpy": lambda: gigabytes(peers.memcpy(target_address, mapped, size)),
            "memcpy to whole pages": lambda: gigabytes(peers.memcpy(aligned_address, mapped, size)),
        }
        figures = in_turns(
            rounds,
            {
                "ours": lambda: timed(buffer.read_into, target),
                **memcpys,
            },
        )
        report.add("read_into", size, "GB/s", figures, at_least={"memcpy": 0.9})
        turns = {
            "ours": lambda: timed(buffer.read),
            **memcpys,
            "memcpy to new memory": lambda: gigabytes(peers.memcpy_new(mapped, size)),
        }
        # A virtual machine may have returned unused memory to its host; getting it back takes ten
        # times as long as filling it.
        figures = in_turns(rounds, {name: second_of(turn) for name, turn in turns.items()})
        bars = {"memcpy": 0.9, "memcpy to new memory": 0.9}
        report.add("read", size, "GB/s", figures, at_least=bars)


def main() -> None:
    quick = "quick" in sys.argv[1:]
    report = Report()
    virtual_many(report, quick)
    names = [it.properties.device_name for it in vk_mem.list_physical_devices()]
    if any("llvmpipe" in name for name in names):
        device = vk_mem.Device.open("llvmpipe")
        buffer_pairs(report, device, quick)
        host_copies(report, device, quick)
    else:
        print("\nbuffers and host copies left out: there is no CPU driver")
    report.merge()


if __name__ == "__main__":
    main()
