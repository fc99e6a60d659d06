"""`vk-mem demo`: create, bind, map, copy on the device, compare, release."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vk_mem import (
    AllocationCreateFlags,
    Allocator,
    Buffer,
    BufferUsage,
    Device,
    Format,
    Image,
    ImageLayout,
    ImageUsage,
    MemoryUsage,
)
from vk_mem.text import counted

WRITE = AllocationCreateFlags.HOST_ACCESS_SEQUENTIAL_WRITE
READ = AllocationCreateFlags.HOST_ACCESS_RANDOM
MAPPED = AllocationCreateFlags.MAPPED
SIDE = 512
STORAGE_SIZE = 8 << 20


class Difference(Exception):
    """Data came back different, or memory was not released."""


@dataclass(frozen=True)
class Placed:
    """A resource and the memory it was bound to."""

    name: str
    kind: str
    size: int
    memory_type_index: int
    memory_properties: int
    memory: str
    offset: int


@dataclass(frozen=True)
class Moved:
    """The transfers of one array of `size` bytes to the device and back."""

    size: int
    upload_seconds: float
    upload_way: str
    download_seconds: float
    download_way: str


@dataclass(frozen=True)
class Result:
    """The measurements of a run, for the report."""

    placed: list[Placed]
    compared_bytes: int
    churned: int
    blocks: int
    left_over: int
    moved: Moved | None


Progress = Callable[[str, int, int], object]


def run(device: Device, churn: int, seed: int, transfer: int, progress: Progress) -> Result:
    """Runs all steps. An array of `transfer` bytes is uploaded and downloaded first; 0 for none.

    `progress` is called with the name of a step, how much of it is done, and of how much.
    Raises `Difference` if data differs or memory is not released.
    """
    with Allocator(device) as allocator:
        moved = there_and_back(allocator, transfer, progress) if transfer else None
        resources = create(allocator)
        compared = round_trips(device, resources, np.random.default_rng(seed))
        churn_at_random(allocator, churn, random.Random(seed), progress)
        allocator.validate()
        placed = where_everything_went(resources)
        blocks = allocator.calculate_statistics().total.block_count
        for resource in resources.values():
            resource.destroy()
        allocator.transfers.close()  # its rings are allocations, too
        left_over = allocator.calculate_statistics().total.allocation_count
        if left_over:
            left = counted(left_over, "allocation")
            raise Difference(f"after everything was destroyed there is {left} left")
    for message in device.validation_messages:
        raise Difference(f"the validation layer said: {message}")
    return Result(placed, compared, churn, blocks, left_over, moved)


def create(allocator: Allocator) -> dict[str, Buffer | Image]:
    """Creates one resource for each common use."""
    both_ways = BufferUsage.TRANSFER_SRC | BufferUsage.TRANSFER_DST
    return {
        "vertices": allocator.create_buffer(
            16 * 1024, BufferUsage.VERTEX_BUFFER | both_ways, name="vertices"
        ),
        "uniforms": allocator.create_buffer(
            4096, BufferUsage.UNIFORM_BUFFER, flags=WRITE | MAPPED, name="uniforms"
        ),
        "storage": allocator.create_buffer(
            STORAGE_SIZE, BufferUsage.STORAGE_BUFFER | both_ways, name="storage"
        ),
        "texture": allocator.create_image(
            Format.R8G8B8A8_UNORM,
            (SIDE, SIDE),
            ImageUsage.SAMPLED | ImageUsage.TRANSFER_SRC | ImageUsage.TRANSFER_DST,
            name="texture",
        ),
        "staging": allocator.create_buffer(
            STORAGE_SIZE, BufferUsage.TRANSFER_SRC, flags=WRITE | MAPPED, name="staging"
        ),
        "readback": allocator.create_buffer(
            STORAGE_SIZE,
            BufferUsage.TRANSFER_DST,
            flags=READ,
            usage=MemoryUsage.AUTO_PREFER_HOST,
            name="readback",
        ),
    }


def round_trips(
    device: Device, resources: dict[str, Buffer | Image], rng: np.random.Generator
) -> int:
    """Copies random bytes to the device and back. Returns the number of bytes compared."""
    staging, readback = resources["staging"], resources["readback"]
    texture, uniforms = resources["texture"], resources["uniforms"]
    assert isinstance(staging, Buffer) and isinstance(readback, Buffer)
    assert isinstance(texture, Image)
    compared = 0
    for name in ("vertices", "storage"):
        target = resources[name]
        assert isinstance(target, Buffer)
        sent = rng.integers(0, 256, target.size, dtype=np.uint8)
        target.upload(sent)
        compared += compare(name, sent, target.download(np.uint8))

    texels = rng.integers(0, 256, SIDE * SIDE * 4, dtype=np.uint8)
    staging.write(texels)
    sampled = ImageLayout.SHADER_READ_ONLY_OPTIMAL
    device.copy_buffer_to_image(staging, texture, layout=sampled)
    device.copy_image_to_buffer(texture, readback, layout=sampled)
    compared += compare("texture", texels, np.frombuffer(readback.read(0, texels.nbytes), np.uint8))

    uniform = rng.random(64, dtype=np.float32)
    mapped = uniforms.mapped
    assert mapped is not None
    np.frombuffer(mapped, np.float32)[: uniform.size] = uniform
    mapped.release()
    uniforms.flush()
    if not np.array_equal(np.frombuffer(uniforms.read(0, uniform.nbytes), np.float32), uniform):
        raise Difference("uniforms: what was mapped and written reads otherwise")
    return compared + uniform.nbytes


def compare(name: str, sent: np.ndarray, got: np.ndarray) -> int:
    """Raises `Difference` unless both are equal. Returns the number of bytes compared."""
    wrong = np.flatnonzero(got != sent)
    if wrong.size:
        raise Difference(
            f"{name}: {wrong.size} of {counted(sent.size, 'byte')} differ, the first at offset "
            f"{wrong[0]}"
        )
    return sent.nbytes


def there_and_back(allocator: Allocator, size: int, progress: Progress) -> Moved:
    """Uploads one array of `size` bytes and downloads it, with the time that each takes."""
    sent = np.arange(-(-size // 8), dtype=np.uint64).view(np.uint8)[:size]
    both_ways = BufferUsage.TRANSFER_SRC | BufferUsage.TRANSFER_DST
    transfers = allocator.transfers
    with allocator.create_buffer(size, BufferUsage.STORAGE_BUFFER | both_ways) as buffer:
        times = [time.perf_counter()]
        up = transfers.upload(sent, buffer, progress=lambda *done: progress("upload", *done))
        up.result()
        times.append(time.perf_counter())
        down = transfers.download(
            buffer, np.uint8, progress=lambda *done: progress("download", *done)
        )
        got = down.result()
        times.append(time.perf_counter())
    if not np.array_equal(got, sent):
        compare("the array that was uploaded and downloaded", sent, got)
    return Moved(size, times[1] - times[0], up.way, times[2] - times[1], down.way)


def churn_at_random(
    allocator: Allocator, count: int, rng: random.Random, progress: Progress
) -> None:
    """Creates and destroys `count` buffers in random order, up to 256 at a time."""
    live: list[tuple[Buffer, bytes]] = []
    created = 0
    while created < count or live:
        if created < count and len(live) < 256 and rng.random() < 0.6:
            size = int(2 ** rng.uniform(8, 19))
            mark = created.to_bytes(8, "little")
            buffer = allocator.create_buffer(size, BufferUsage.STORAGE_BUFFER, flags=WRITE)
            buffer.write(mark, size - len(mark))
            live.append((buffer, mark))
            created += 1
            progress("buffers", created, count)
        elif live:
            buffer, mark = live.pop(rng.randrange(len(live)))
            if buffer.read(buffer.size - len(mark)) != mark:
                raise Difference(f"a buffer of {counted(buffer.size, 'byte')} has not its mark")
            buffer.destroy()


def where_everything_went(resources: dict[str, Buffer | Image]) -> list[Placed]:
    """Returns one row for each resource, in the order of creation."""
    rows = []
    memories: dict[int, int] = {}
    for name, resource in resources.items():
        memory = resource.allocation
        number = memories.setdefault(memory.device_memory, len(memories) + 1)
        rows.append(
            Placed(
                name=name,
                kind=type(resource).__name__,
                size=memory.size,
                memory_type_index=memory.memory_type_index,
                memory_properties=memory.memory_properties,
                memory="its own" if memory.is_dedicated else f"block {number}",
                offset=memory.offset,
            )
        )
    return rows
