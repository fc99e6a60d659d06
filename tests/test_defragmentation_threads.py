"""Eight threads allocate, free, map and write what is being moved.

Environment: `VK_MEM_THREADS_SECONDS=60` makes each case run for that long instead of a few seconds.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable

import pytest
from support import RANDOM, RGBA8, check_statistics, pattern

from vk_mem import Allocator, Buffer, BufferUsage, Device, ImageUsage, SimulatedDevice

SECONDS = float(os.environ.get("VK_MEM_THREADS_SECONDS", "4"))
THREADS = 8
STORAGE = BufferUsage.STORAGE_BUFFER


class Work:
    """What the threads do, until the time is over or one of them fails."""

    def __init__(self, allocator: Allocator) -> None:
        self.allocator = allocator
        self.stop = threading.Event()
        self.errors: list[BaseException] = []
        self.rounds = 0
        self.moved = 0

    def until_it_stops(self, run: Callable[[random.Random], None], seed: int) -> None:
        chance = random.Random(seed)
        try:
            while not self.stop.is_set():
                run(chance)
                self.rounds += 1
        except BaseException as error:
            self.errors.append(error)
            self.stop.set()

    def use(self, chance: random.Random) -> None:
        """Creates, destroys, and writes and reads in every way."""
        allocator, mine = self.allocator, {}
        for seed in range(10):
            size = int(2 ** chance.uniform(0, 15))
            buffer = allocator.create_buffer(size, STORAGE, flags=RANDOM, movable=True)
            mine[buffer] = pattern(size, seed)
            buffer.write(mine[buffer])
        for it in chance.sample(list(mine), 5):
            it.destroy()
            del mine[it]
        for it, data in mine.items():
            self.check(chance, it, data)
        allocator.destroy_many(mine)

    def check(self, chance: random.Random, it: Buffer, data: bytes) -> None:
        way = chance.randrange(4)
        if way == 0:
            assert it.read() == data
            it.write(data[::-1])
            assert it.read() == data[::-1]
        elif way == 1:
            with it.map() as view:
                assert bytes(view) == data
                view[0:1] = b"!"
                assert bytes(view) == b"!" + data[1:]
            assert it.read() == b"!" + data[1:]
        elif way == 2:
            assert it.download().tobytes() == data
        else:
            it.upload(data[::-1])
            assert it.read() == data[::-1]
            assert it.generation >= 0 and it.alive and it.handle

    def use_images(self, chance: random.Random) -> None:
        sides = chance.randrange(1, 40), chance.randrange(1, 40)
        with self.allocator.create_image(RGBA8, sides, ImageUsage.SAMPLED, movable=True) as image:
            data = chance.randbytes(sides[0] * sides[1] * 4)
            image.upload(data)
            time.sleep(0.002)
            assert image.download().tobytes() == data

    def defragment(self, chance: random.Random) -> None:
        if chance.random() < 0.1:
            done = self.allocator.defragment(algorithm=chance.choice(["full", "extensive"]))  # type: ignore[arg-type]
        else:
            done = self.allocator.defragment_step(chance.choice([1, 10_000, 1 << 24]))
        self.moved += done.allocations_moved

    def run(self) -> None:
        calls = [self.use] * (THREADS - 2) + [self.use_images] * 2 + [self.defragment]
        threads = [
            threading.Thread(target=self.until_it_stops, args=(call, seed))
            for seed, call in enumerate(calls)
        ]
        for thread in threads:
            thread.start()
        self.stop.wait(SECONDS)
        self.stop.set()
        for thread in threads:
            thread.join()
        if self.errors:
            raise self.errors[0]


def run_on(device: Device, frames: int) -> None:
    with Allocator(device, preferred_block_size=1 << 20, frames_in_flight=frames) as allocator:
        kept = {}
        all_of_them = allocator.create_buffers([9000] * 200, STORAGE, flags=RANDOM, movable=True)
        for index, it in enumerate(all_of_them[1::2]):
            it.write(pattern(9000, index))
            kept[it] = pattern(9000, index)
        allocator.destroy_many(all_of_them[::2])
        work = Work(allocator)
        frame = 0
        runner = threading.Thread(target=work.run)
        runner.start()
        while runner.is_alive():
            frame += 1
            allocator.set_current_frame_index(frame)
            runner.join(0.01)
        if work.errors:
            raise work.errors[0]
        assert work.moved > 0 and work.rounds > THREADS
        for it, data in kept.items():
            assert it.read() == data
        allocator.destroy_many(kept)
        for _ in range(6):
            frame += 1
            allocator.set_current_frame_index(frame)
        check_statistics(allocator)
        allocator.transfers.close()
        assert allocator.calculate_statistics().total.allocation_count == 0


@pytest.mark.parametrize("completion", ["at once", "when waited"])
def test_threads_lose_nothing(simulated: SimulatedDevice, completion: str) -> None:
    simulated.set_completion(completion)
    run_on(simulated, 2)


@pytest.mark.driver
def test_threads_lose_nothing_on_a_driver(real_device: Device) -> None:
    run_on(real_device, 1)
