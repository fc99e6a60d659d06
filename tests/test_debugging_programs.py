"""Random programs with all of debugging on: contents are those of a shadow model."""

from __future__ import annotations

import contextlib
import gc
import random
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from overruns import OPAQUE_FD, can_export
from support import (
    DEDICATED,
    IMAGE_TRANSFER,
    LOSABLE,
    MAPPED,
    RANDOM,
    RGBA8,
    TAKES,
    TRANSFER,
    WRITE,
    pattern,
)

import vk_mem
from vk_mem import (
    AllocationCreateInfo,
    Allocator,
    Buffer,
    BufferHeap,
    Debug,
    Device,
    Image,
    SimulatedDevice,
)

KIB, MIB = 1 << 10, 1 << 20
REFUSALS = (vk_mem.OutOfDeviceMemoryError, vk_mem.TooManyObjectsError)
DEBUGS = {
    "free": Debug(fill="nan", fill_on_free="pattern", detect_corruption=True, quarantine="32K"),
    "frame": Debug(
        fill="zero", detect_corruption=True, margin=64, quarantine="2 frames", check="frame"
    ),
    "call": Debug(
        fill=0x5A,
        fill_on_free="zero",
        detect_corruption=True,
        quarantine="8K",
        min_granularity=1024,
        check="call",
    ),
    "margins": Debug(detect_corruption=True, margin=256, always_dedicated=True),
}


class Program:
    """What is live, and what it has to hold."""

    def __init__(self, device: Device, debug: Debug, seed: int) -> None:
        self.rng = random.Random(seed)
        self.device = device
        self.allocator = Allocator(
            device,
            debug=debug,
            frames_in_flight=1,
            frames_in_use=1,
            preferred_block_size=MIB,
            track_call_sites=2,
        )
        like = ((KIB, TRANSFER), AllocationCreateInfo())
        create = self.allocator.create_pool
        self.pools: list[vk_mem.Pool] = [
            create(like=like, block_size=MIB, algorithm=algorithm, max_block_count=2)
            for algorithm in ("tlsf", "buddy")
        ]
        if can_export(device):
            self.pools.append(create(like=like, block_size=MIB, export_handle_types=OPAQUE_FD))
        self.heap = BufferHeap(self.allocator, TRANSFER, block_size=256 * KIB)
        self.number = 0
        self.buffers: dict[Buffer, bytes] = {}
        self.images: dict[Image, bytes] = {}
        self.losable: dict[Buffer, bytes] = {}
        self.slices: dict[Any, bytes] = {}

    def data(self, size: int) -> bytes:
        self.number += 1
        return pattern(size, self.number)

    # ---- what it does ----

    def create(self) -> None:
        size = self.rng.choice([1, 100, 256, 1000, 5000, 70_000])
        keywords: list[dict[str, Any]] = [
            {},
            {"flags": RANDOM},
            {"flags": WRITE | MAPPED},
            {"flags": RANDOM | DEDICATED},
            {"movable": True},
            {"movable": True, "flags": RANDOM},
            {"data": True},
            *({"pool": pool} for pool in self.pools),
            {"pool": self.pools[0], "movable": True},
        ]
        chosen = dict(self.rng.choice(keywords))
        data = self.data(size)
        if chosen.pop("data", False):
            self.buffers[self.allocator.create_buffer(size, TRANSFER, data=data)] = data
            return
        made = self.allocator.create_buffer(size, TRANSFER, **chosen)
        self.buffers[made] = data
        made.upload(data)

    def create_many(self) -> None:
        sizes = [self.rng.randrange(1, 3000) for _ in range(self.rng.randrange(1, 8))]
        made = self.allocator.create_buffers(sizes, TRANSFER, movable=self.rng.random() < 0.5)
        data = [self.data(size) for size in sizes]
        self.buffers.update(zip(made, data, strict=True))
        transfers = self.allocator.transfers.upload_many(data, made)
        transfers[-1].wait()

    def create_image(self) -> None:
        side = self.rng.randrange(1, 40)
        movable = self.rng.random() < 0.5
        made = self.allocator.create_image(RGBA8, (side, side), IMAGE_TRANSFER, movable=movable)
        self.images[made] = self.data(4 * side * side)
        made.upload(self.images[made], dtype="B")

    def create_losable(self) -> None:
        flags = LOSABLE | TAKES
        made = self.allocator.create_buffer(20 * KIB, TRANSFER, flags=flags, pool=self.pools[0])
        self.losable[made] = self.data(20 * KIB)
        made.upload(self.losable[made])

    def create_slice(self) -> None:
        made = self.heap.allocate(self.rng.randrange(1, 9000))
        self.slices[made] = self.data(made.size)
        self.allocator.transfers.upload(self.slices[made], made).wait()

    def rewrite(self) -> None:
        if self.buffers:
            buffer = self.rng.choice(list(self.buffers))
            self.buffers[buffer] = self.data(buffer.size)
            with self.allocator.transfers.batch():
                self.allocator.transfers.upload(self.buffers[buffer], buffer)

    def alias(self) -> None:
        """Writes through a buffer over the memory of another."""
        roots = [it for it in self.buffers if it.size >= 256 and not it.movable]
        if not roots:
            return
        root = self.rng.choice(roots)
        with self.allocator.create_aliasing_buffer(root, 256, TRANSFER) as over:
            data = self.data(256)
            over.upload(data)
            self.buffers[root] = data + self.buffers[root][256:]

    def move(self) -> None:
        way = self.rng.randrange(4)
        if way == 0:
            self.allocator.defragment_step(MIB)
        elif way == 1:
            self.allocator.defragment(algorithm=self.rng.choice(["fast", "full", "extensive"]))
        else:
            self.allocator.defragment(pool=self.pools[0], algorithm="full")

    def lose(self) -> None:
        if self.rng.random() < 0.3:
            self.allocator.make_allocations_lost()
        self.allocator.touch_many(list(self.losable)[::2])

    def frame(self) -> None:
        self.allocator.set_current_frame_index(self.allocator.current_frame_index + 1)

    def end_one(self) -> None:
        """Looks at what it has held before."""
        kinds: list[dict[Any, bytes]] = [self.buffers, self.images, self.slices]
        held = self.rng.choice(kinds)
        if not held:
            return
        it = self.rng.choice(list(held))
        self.compare(it, held.pop(it))
        if it.__class__ is Buffer or it.__class__ is Image:
            (it.destroy if self.rng.random() < 0.5 else it.retire)()
        else:
            it.free()

    def end_many(self) -> None:
        those = self.rng.sample(list(self.buffers), min(5, len(self.buffers)))
        arrays = self.allocator.transfers.download_many(those)
        for it, array in zip(those, arrays, strict=True):
            assert bytes(array.result()) == self.buffers.pop(it)
        self.allocator.destroy_many(those)

    # ---- what has to hold ----

    def compare(self, it: Any, data: bytes) -> None:
        if isinstance(it, Image):
            found = bytes(it.download(dtype="B"))
        else:
            found = bytes(self.allocator.transfers.download(it).result())
        assert found == data, it

    def compare_all(self) -> None:
        for held in (self.buffers, self.images, self.slices):
            for it, data in held.items():
                self.compare(it, data)
        for it, data in list(self.losable.items()):
            if it.is_lost:
                del self.losable[it]
                continue
            # It may be lost right now.
            with contextlib.suppress(vk_mem.LostError):
                self.compare(it, data)
        self.allocator.validate()
        assert self.allocator.check_corruption() > 0
        total = self.allocator.calculate_statistics().total
        live = len(self.buffers) + len(self.images) + len(self.losable)
        assert total.allocation_count >= live

    def run(self, steps: int) -> None:
        actions = [
            *[self.create] * 3,
            self.create_many,
            self.create_image,
            *[self.create_losable] * 2,
            *[self.create_slice] * 2,
            self.rewrite,
            self.alias,
            self.move,
            self.lose,
            self.frame,
            *[self.end_one] * 3,
            self.end_many,
        ]
        for step in range(steps):
            with contextlib.suppress(*REFUSALS):
                self.rng.choice(actions)()
            if step % 20 == 19:
                self.compare_all()
        self.compare_all()

    def end(self) -> None:
        for piece in self.slices:
            piece.free()
        self.heap.close()
        those = [*self.buffers, *self.images, *self.losable]
        self.allocator.destroy_many(those)
        for pool in self.pools:
            pool.close()
        self.allocator.close()


@contextlib.contextmanager
def nothing_is_told() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()


@pytest.mark.parametrize("debug", DEBUGS)
def test_a_program_on_every_device(device: Device, debug: str) -> None:
    with nothing_is_told():
        program = Program(device, DEBUGS[debug], 1)
        program.run(80)
        program.end()


@pytest.mark.parametrize("seed", range(2, 5))
@pytest.mark.parametrize("profile", SimulatedDevice.profile_names())
def test_programs_on_every_profile(make_simulated: Any, profile: str, seed: int) -> None:
    debug = list(DEBUGS)[seed % len(DEBUGS)]
    device = make_simulated(profile)
    device.set_completion("when waited" if seed % 2 else "at once")
    with nothing_is_told():
        program = Program(device, DEBUGS[debug], seed)
        program.run(100)
        program.end()
    device.set_completion("at once")
