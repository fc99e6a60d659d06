"""What transfers cost beside staging by hand and beside a copy within host memory.

    .venv/bin/python bench/transfer_cases.py [quick] [NAME OF A PROFILE]

Needs the release build (`tools/setup.sh release`) and NumPy. Runs on the best device of the driver;
with the name of a profile on that simulated device.

Contestants take turns. `by hand` creates a staging buffer, writes to it, copies on the queue, and
destroys it; `memcpy` is `numpy.copyto` of as many bytes. Large copies are in GB/s, small ones in
microseconds each, and the time that 4 KiB take beside large ones is the 99th percentile.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

import numpy as np
from report import Report, in_turns

import vk_mem
from vk_mem import AllocationCreateFlags, Allocator, Buffer, BufferUsage, SimulatedDevice, Transfers

TRANSFER = BufferUsage.TRANSFER_SRC | BufferUsage.TRANSFER_DST
WRITE = AllocationCreateFlags.HOST_ACCESS_SEQUENTIAL_WRITE
RANDOM = AllocationCreateFlags.HOST_ACCESS_RANDOM


def rate(nbytes: int, copy: Callable[[], object]) -> Callable[[], float]:
    def run() -> float:
        began = time.perf_counter()
        copy()
        return nbytes / (time.perf_counter() - began) / 1e9

    return run


def each(count: int, copy: Callable[[], object]) -> Callable[[], float]:
    def run() -> float:
        began = time.perf_counter()
        copy()
        return (time.perf_counter() - began) / count * 1e6

    return run


class Hand:
    """Staging as programs write it."""

    def __init__(self, allocator: Allocator) -> None:
        self.allocator = allocator

    def up(self, data: np.ndarray, buffer: Buffer) -> None:
        size = data.nbytes
        with self.allocator.create_buffer(size, BufferUsage.TRANSFER_SRC, flags=WRITE) as staging:
            staging.write(data)
            self.allocator.device.copy_buffer(staging, buffer)

    def down(self, buffer: Buffer) -> bytes:
        size = buffer.size
        with self.allocator.create_buffer(size, BufferUsage.TRANSFER_DST, flags=RANDOM) as staging:
            self.allocator.device.copy_buffer(buffer, staging)
            return staging.read()


def large(report: Report, allocator: Allocator, size: int, rounds: int) -> None:
    data = np.random.default_rng(1).integers(0, 256, size, np.uint8)
    other = np.empty_like(data)
    hand = Hand(allocator)
    with allocator.create_buffer(size, TRANSFER) as buffer, Transfers(allocator) as transfers:
        registered = transfers.register(other) if has_import(allocator) else None
        ups = {
            "ours": rate(size, lambda: transfers.upload(data, buffer, way="ring").result()),
            "by hand": rate(size, lambda: hand.up(data, buffer)),
            "memcpy": rate(size, lambda: np.copyto(other, data)),
        }
        downs = {
            "ours": rate(size, lambda: transfers.download(buffer, way="ring").result()),
            "by hand": rate(size, lambda: hand.down(buffer)),
            "memcpy": rate(size, lambda: data.copy()),
        }
        for run in (ups["ours"], downs["ours"]):
            run()
        report.add("upload of an array, GB/s", size, "GB/s", in_turns(rounds, ups))
        report.add("download into a new array, GB/s", size, "GB/s", in_turns(rounds, downs))
        if registered is not None:
            both = {
                "ours": rate(size, lambda: transfers.upload(other, buffer).result()),
                "ring": ups["ours"],
            }
            report.add("upload of a registered array, GB/s", size, "GB/s", in_turns(rounds, both))
            registered.close()
        assert (buffer.download() == data).all() or registered is not None


def has_import(allocator: Allocator) -> bool:
    return allocator.device.min_imported_host_pointer_alignment is not None


def small(report: Report, allocator: Allocator, count: int, rounds: int) -> None:
    arrays = [np.full(1024, number % 251, np.float32) for number in range(count)]
    buffers = allocator.create_buffers([4096] * count, TRANSFER)
    hand, few = Hand(allocator), buffers[:50]
    with Transfers(allocator) as transfers:

        def many() -> None:
            transfers.upload_many(arrays, buffers)

        def batch() -> None:
            with transfers.batch():
                for array, buffer in zip(arrays, buffers, strict=True):
                    transfers.upload(array, buffer, way="ring")

        def by_hand() -> None:
            for array, buffer in zip(arrays, few, strict=False):
                hand.up(array, buffer)

        def settled(run: Callable[[], float]) -> Callable[[], float]:
            def timed() -> float:
                taken = run()
                transfers.wait()
                return taken

            return timed

        hands = each(len(few), by_hand)
        for name, call in (("one list call", many), ("single calls in a batch", batch)):
            contestants = {"ours": settled(each(count, call)), "by hand": hands}
            contestants["ours"]()
            figures = in_turns(rounds, contestants)
            report.add(f"4 KiB arrays, {name}, us each", count, "us", figures)
        print(f"  {transfers.stats()}")
    allocator.destroy_many(buffers)


def beside(report: Report, allocator: Allocator, size: int, rounds: int) -> None:
    """How long 4 KiB of one thread take beside large uploads and downloads of another."""
    data, one = np.zeros(size, np.uint8), np.zeros(4096, np.uint8)
    with (
        allocator.create_buffer(size, TRANSFER) as large,
        allocator.create_buffer(4096, TRANSFER) as small,
        Transfers(allocator) as transfers,
    ):

        def waited(run: Callable[[], object] | None) -> Callable[[], float]:
            def measured() -> float:
                taken: list[float] = []
                thread = threading.Thread(target=run) if run else None
                if thread:
                    thread.start()
                while thread.is_alive() if thread else len(taken) < 1000:
                    began = time.perf_counter()
                    transfers.upload(one, small, way="ring").result()
                    taken.append(time.perf_counter() - began)
                if thread:
                    thread.join()
                return sorted(taken)[len(taken) * 99 // 100] * 1e6

            return measured

        def up() -> None:
            for _ in range(2):
                transfers.upload(data, large, way="ring").result()

        def down() -> None:
            for _ in range(2):
                transfers.download(large, out=data, way="ring").result()

        for name, run in (("uploads", up), ("downloads", down)):
            contestants = {"ours": waited(run), "alone": waited(None)}
            for warm in contestants.values():
                warm()
            title = f"99th percentile of 4 KiB beside {name}, us"
            report.add(title, size, "us", in_turns(rounds, contestants))


def main() -> None:
    quick = "quick" in sys.argv[1:]
    names = [it for it in sys.argv[1:] if it != "quick"]
    device = SimulatedDevice(names[0]) if names else vk_mem.Device.open()
    report = Report()
    report.section(f"transfers on {device.properties.device_name}")
    with Allocator(device) as allocator:
        large(report, allocator, (64 << 20) if quick else (1 << 30), 3 if quick else 7)
        small(report, allocator, 1_000 if quick else 10_000, 3 if quick else 7)
        beside(report, allocator, (64 << 20) if quick else (2 << 30), 3)
    report.merge()


if __name__ == "__main__":
    main()
