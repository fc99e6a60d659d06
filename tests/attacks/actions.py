"""Random calls of every kind, with the expected contents of each resource."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from support import DEDICATED, DONT_BIND, IMAGE_TRANSFER, MAPPED, RANDOM, RGBA8, TRANSFER, WRITE

import vk_mem
from attacks.places import Held, Place
from vk_mem import (
    AllocationCreateFlags,
    Allocator,
    FeatureNotPresentError,
    ImageTiling,
    OutOfDeviceMemoryError,
    Pool,
    SimulatedDevice,
    TooManyObjectsError,
    UseAfterFreeError,
    VirtualBlock,
)

__all__ = ["Worker"]

REFUSALS = (OutOfDeviceMemoryError, TooManyObjectsError)
"""What any creating call may raise where limits, budgets and pools are small."""
MOST_HELD = 40
HOST_FLAGS = (RANDOM, RANDOM, RANDOM | MAPPED, WRITE | MAPPED, RANDOM | DEDICATED)
STRATEGIES = (
    0,
    AllocationCreateFlags.STRATEGY_MIN_MEMORY,
    AllocationCreateFlags.STRATEGY_MIN_TIME,
    AllocationCreateFlags.STRATEGY_MIN_OFFSET,
)


class Worker:
    """Makes random calls; `step` makes a few that belong together."""

    def __init__(self, place: Place, dice: random.Random, name: str) -> None:
        self.place = place
        self.allocator = place.allocator
        self.device = place.device
        self.dice = dice
        self.name = name
        self.numbers = itertools.count()
        self.held: list[Held] = []
        self.slices: list[tuple[Any, bytes | None]] = []
        self.ranges: list[tuple[Any, object]] = []
        self.actions = 0

    def step(self) -> None:
        """One action; what it raises beyond what it has to is a fault."""
        action = self.dice.choices(ACTIONS, WEIGHTS)[0]
        if len(self.held) > MOST_HELD:
            action = Worker.destroy_many
        with contextlib.suppress(*REFUSALS):
            action(self)
        self.actions += 1

    def end(self) -> None:
        """Compares and destroys all that it holds."""
        while self.slices:
            piece, data = self.slices.pop()
            assert data is None or piece.read() == data
            piece.free()
        while self.ranges:
            made, mark = self.ranges.pop()
            assert made.user_data is mark
            made.free()
        while self.held:
            self.destroy_one()

    # ---- helpers ----

    def new_name(self) -> str:
        return f"{self.name}.{next(self.numbers)}"

    def size(self) -> int:
        kind = self.dice.randrange(20)
        if kind == 0:
            return self.dice.randrange(1, 300_000)
        return self.dice.randrange(1, 300 if kind < 12 else 9000)

    def keep(self, resource: Any, size: int, name: str | None, user_data: object = None) -> Held:
        held = Held(resource, size, name, user_data)
        self.held.append(held)
        return held

    def fill(self, held: Held) -> None:
        """Writes a pattern of its own."""
        held.data = None
        data = self.dice.randbytes(held.size)
        way = self.dice.randrange(3)
        if way == 0:
            held.resource.write(data)
        elif way == 1:
            with held.resource.map() as view:
                view[:] = data
        else:
            middle = self.dice.randrange(held.size + 1)
            held.resource.write(data[:middle])
            held.resource.write(memoryview(data)[middle:], middle)
        held.data = data

    def buffers(self, count: int) -> list[Held]:
        """Some that it holds, of known contents."""
        known = [it for it in self.held if it.is_buffer and it.data is not None]
        return self.dice.sample(known, count) if len(known) >= count else []

    def one(self) -> Iterator[Held]:
        yield from self.buffers(1)

    def keywords(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "flags": self.dice.choice(HOST_FLAGS) | self.dice.choice(STRATEGIES)
        }
        if self.dice.random() < 0.2:
            found["min_alignment"] = 1 << self.dice.randrange(13)
        if self.dice.random() < 0.1:
            found["priority"] = self.dice.random()
        return found

    # ---- create ----

    def create_buffer(self) -> None:
        size, name = self.size(), self.new_name()
        mark = object()
        made = self.allocator.create_buffer(
            size, TRANSFER, name=name, user_data=mark, **self.keywords()
        )
        self.fill(self.keep(made, size, name, mark))

    def create_in_a_pool(self) -> None:
        pool = self.dice.choice(self.place.pools)
        size, name = self.dice.randrange(1, 5000), self.new_name()
        held = self.keep(
            self.allocator.create_buffer(size, TRANSFER, pool=pool, name=name), size, name
        )
        self.fill(held)

    def create_buffers(self) -> None:
        sizes = [self.size() for _ in range(self.dice.randrange(6))]
        names = [self.new_name() for _ in sizes]
        made = self.allocator.create_buffers(sizes, TRANSFER, names=names, **self.keywords())
        several = [Held(*it) for it in zip(made, sizes, names, strict=True)]
        self.held += several
        for held in several:
            self.fill(held)

    def create_image(self) -> None:
        side, name = self.dice.randrange(1, 40), self.new_name()
        tiling = self.dice.choice([ImageTiling.OPTIMAL, ImageTiling.LINEAR])
        made = self.allocator.create_image(
            RGBA8, (side, side), IMAGE_TRANSFER, tiling=tiling, name=name
        )
        self.keep(made, side * side * 4, name)

    def create_images(self) -> None:
        sides = [self.dice.randrange(1, 20) for _ in range(self.dice.randrange(4))]
        made = self.allocator.create_images([(RGBA8, (it, it), IMAGE_TRANSFER) for it in sides])
        self.held += [Held(it, side * side * 4, None) for it, side in zip(made, sides, strict=True)]

    def allocate_memory(self) -> None:
        size, name = self.size(), self.new_name()
        made = self.allocator.allocate_memory(size, name=name, **self.keywords())
        # Its memory may be larger than what was asked for.
        self.fill(self.keep(made, made.size, name))

    def allocate_memory_pages(self) -> None:
        count = self.dice.randrange(1, 8)
        made = self.allocator.allocate_memory_pages(4096, 4096, count, flags=RANDOM, name="page")
        pages = [Held(it, it.size, "page") for it in made]
        self.held += pages
        for page in pages:
            self.fill(page)
        if self.dice.random() < 0.5:
            for page in pages:
                page.check()
            self.held = [it for it in self.held if it not in pages]
            self.allocator.free_memory_pages([it.resource for it in pages])

    def bind_it_late(self) -> None:
        with self.allocator.create_buffer(
            self.size(), TRANSFER, flags=DONT_BIND | RANDOM
        ) as buffer:
            buffer.bind()
            data = self.dice.randbytes(buffer.size)
            buffer.write(data)
            assert buffer.read() == data

    def alias(self) -> None:
        for held in self.one():
            if held.resource.allocation.names_resource:
                # Vulkan allows nothing else in it.
                continue
            size = self.dice.randrange(1, held.size + 1)
            with self.allocator.create_aliasing_buffer(held.resource, size, TRANSFER) as alias:
                assert held.data is not None
                assert alias.read() == held.data[:size]

    def create_pool(self) -> None:
        name = self.new_name()
        pool: Pool = self.allocator.create_pool(
            memory_type_index=self.place.memory_type_index,
            name=name,
            block_size=1 << 16,
            min_block_count=self.dice.randrange(2),
            algorithm=self.dice.choice(["tlsf", "linear", "buddy"]),
        )
        with pool:
            made = [self.allocator.create_buffer(100 + it, TRANSFER, pool=pool) for it in range(5)]
            self.dice.shuffle(made)
            assert pool.statistics().allocation_count == 5
            assert pool.name == name
            self.allocator.destroy_many(made)

    def open_an_allocator(self) -> None:
        with (
            Allocator(self.device, preferred_block_size=1 << 16) as other,
            other.create_buffer(self.size(), TRANSFER, flags=RANDOM) as buffer,
        ):
            data = self.dice.randbytes(buffer.size)
            buffer.write(data)
            assert buffer.read() == data

    # ---- use ----

    def write_a_part(self) -> None:
        for held in self.one():
            assert held.data is not None
            old, held.data = held.data, None
            offset = self.dice.randrange(held.size)
            data = self.dice.randbytes(self.dice.randrange(held.size - offset + 1))
            held.resource.write(data, offset)
            held.data = old[:offset] + data + old[offset + len(data) :]

    def compare(self) -> None:
        for held in self.one():
            held.check()
            assert held.data is not None
            offset = self.dice.randrange(held.size)
            part = bytearray(self.dice.randrange(held.size - offset + 1))
            held.resource.read_into(part, offset)
            assert part == held.data[offset : offset + len(part)]
            with held.resource.map(readonly=True) as view:
                assert view == held.data
                held.resource.invalidate()

    def write_through_the_persistent_view(self) -> None:
        for held in self.one():
            view = held.resource.mapped
            if view is None:
                continue
            old, held.data = held.data, None
            assert old is not None and view == old
            view[0] = old[0] ^ 1
            held.resource.flush(0, 1)
            view.release()
            held.data = bytes([old[0] ^ 1]) + old[1:]

    def flush_many(self) -> None:
        some = [it.resource for it in self.buffers(2)]
        self.allocator.flush_allocations(some)
        self.allocator.invalidate_allocations(some, [0] * len(some), [1] * len(some))

    def copy(self) -> None:
        if found := self.buffers(2):
            source, target = found
            assert source.data is not None and target.data is not None
            length = min(source.size, target.size)
            old, target.data = target.data, None
            self.device.copy_buffer(source.resource, target.resource, length)
            # Or a flush of what is mapped for ever would put back what the host saw before.
            target.resource.invalidate()
            target.data = source.data[:length] + old[length:]

    def fill_on_the_device(self) -> None:
        for held in self.one():
            if held.size < 8:
                continue
            assert held.data is not None
            value = self.dice.randrange(1 << 32)
            old, held.data = held.data, None
            self.device.fill_buffer(held.resource, value, offset=4, size=4)
            held.resource.invalidate()
            held.data = old[:4] + value.to_bytes(4, "little") + old[8:]

    def through_an_image(self) -> None:
        side = self.dice.randrange(1, 20)
        size = side * side * 4
        data = self.dice.randbytes(size)
        with (
            self.allocator.create_image(RGBA8, (side, side), IMAGE_TRANSFER) as image,
            self.allocator.create_buffer(size, TRANSFER, flags=RANDOM) as source,
            self.allocator.create_buffer(size, TRANSFER, flags=RANDOM) as target,
        ):
            source.write(data)
            self.device.copy_buffer_to_image(source, image)
            self.device.copy_image_to_buffer(image, target)
            assert target.read() == data

    def rename(self) -> None:
        for held in self.one():
            name, mark = self.dice.choice([None, self.new_name(), "é" * 30]), object()
            held.is_labelled = False
            held.resource.name = held.name = name
            held.resource.user_data = held.user_data = mark
            held.is_labelled = True
            held.check()

    # ---- virtual blocks and heaps of buffers ----

    def use_the_virtual_block(self) -> None:
        block = self.place.block
        if self.ranges and self.dice.random() < 0.5:
            made, mark = self.ranges.pop(self.dice.randrange(len(self.ranges)))
            assert block.info(made).offset == made.offset and made.user_data is mark
            made.free()
        else:
            mark = object()
            alignment = 1 << self.dice.randrange(8)
            made = block.allocate(self.dice.randrange(1, 5000), alignment, user_data=mark)
            assert made.offset % alignment == 0
            self.ranges.append((made, mark))

    def allocate_many_in_the_virtual_block(self) -> None:
        block = self.place.block
        count = self.dice.randrange(1, 50)
        handles, offsets = block.allocate_many([64] * count)
        assert len(set(offsets)) == count
        block.free_many(handles)

    def look_at_the_virtual_block(self) -> None:
        block = self.place.block
        block.validate()
        json.loads(block.build_stats_string())
        assert block.statistics().allocation_count >= len(self.ranges)

    def use_a_virtual_block_alone(self) -> None:
        with VirtualBlock(4096, algorithm=self.dice.choice(["tlsf", "linear", "buddy"])) as block:
            for _ in range(5):
                block.allocate(self.dice.randrange(1, 300))
            assert block.allocation_count == 5
            with contextlib.suppress(FeatureNotPresentError, vk_mem.InvalidArgumentError):
                block.grow(8192)
            block.clear()

    def use_a_heap_of_buffers(self) -> None:
        if self.slices and self.dice.random() < 0.5:
            piece, data = self.slices.pop(self.dice.randrange(len(self.slices)))
            assert data is None or piece.read() == data
            piece.free()
            return
        heap = self.dice.choice(self.place.heaps)
        piece = heap.allocate(self.dice.randrange(1, 5000), self.dice.choice([1, 12, 64]))
        data = None
        if heap is self.place.heaps[0]:
            data = self.dice.randbytes(piece.size)
            piece.write(data)
        self.slices.append((piece, data))
        assert heap.allocated >= piece.size

    # ---- looks ----

    def look(self) -> None:
        total = self.allocator.calculate_statistics().total
        assert total.allocation_count >= len(self.held)
        budgets = self.allocator.heap_budgets()
        assert sum(it.allocation_count for it in budgets) >= len(self.held)
        assert str(budgets) and self.allocator._repr_html_() and repr(self.allocator)

    def dump(self) -> None:
        detailed = self.dice.random() < 0.5
        text = self.allocator.build_stats_string(detailed)
        assert vk_mem.load_dump(text) is not None
        if detailed:
            names = {it.name for it in self.held if it.is_labelled and it.name}
            assert all(f'"{it}"' in text for it in names)

    def snapshot(self) -> None:
        before = self.allocator.snapshot()
        assert repr(vk_mem.diff(before, self.allocator.snapshot()))

    def leaks(self) -> None:
        assert len(self.allocator.leaks()) >= len(self.held)

    def validate(self) -> None:
        self.allocator.validate()

    def measure(self) -> None:
        with vk_mem.statistics(self.allocator, this_thread=True) as measured:
            self.allocator.create_buffer(64, TRANSFER).destroy()
        assert (measured.total_count, measured.current_count) == (1, 0)

    def find_a_memory_type(self) -> None:
        index = self.allocator.find_memory_type_index(flags=RANDOM)
        again = self.allocator.find_memory_type_index_for_image_info(RGBA8, (4, 4), IMAGE_TRANSFER)
        types = self.device.memory_properties.memory_types
        assert index < len(types) and again < len(types)

    def listen(self) -> None:
        """Callbacks that call."""
        allocator = self.allocator
        if self.dice.random() < 0.5:
            allocator.on_pressure(lambda heap, budget: allocator.validate(), 0.5)
            allocator.on_out_of_memory(lambda error: allocator.trim() > 0)
        else:
            allocator.on_pressure(None)  # type: ignore[type-var]
            allocator.on_out_of_memory(None)  # type: ignore[type-var]

    def next_frame(self) -> None:
        # Between the two another thread may set a later one.
        with contextlib.suppress(vk_mem.InvalidArgumentError):
            self.allocator.set_current_frame_index(next(self.place.frames))
        assert self.allocator.current_frame_index > 0

    def trim(self) -> None:
        assert self.allocator.trim() >= 0

    def fail(self) -> None:
        """The next block cannot be had, whoever asks for it."""
        if isinstance(self.device, SimulatedDevice):
            self.device.fail_next("vkAllocateMemory")

    # ---- end ----

    def destroy_one(self) -> None:
        if not self.held:
            return
        held = self.held.pop(self.dice.randrange(len(self.held)))
        held.check()
        end: Callable[[], None] = (
            held.resource.free
            if isinstance(held.resource, vk_mem.Allocation)
            else held.resource.destroy
        )
        if held.data is not None and self.dice.random() < 0.2:
            with held.resource.map() as view:
                try:
                    end()
                    raise AssertionError("destroyed under a view")
                except BufferError:
                    assert view == held.data
        self.dice.choice([end, end, end, held.resource.retire])()
        try:
            held.resource.read()
            raise AssertionError("read after its end")
        except UseAfterFreeError:
            pass
        # Nothing of it was anybody else's.
        for other in self.buffers(2):
            other.check()

    def destroy_many(self) -> None:
        self.dice.shuffle(self.held)
        middle = len(self.held) // 2
        ending, self.held = self.held[:middle], self.held[middle:]
        for held in ending:
            held.check()
        self.allocator.destroy_many([it.resource for it in ending])
        assert not any(it.resource.alive for it in ending)
        for other in self.held:
            other.check()

    def hand_over(self) -> None:
        """Gives a buffer to whoever comes next, and destroys one of somebody else."""
        for held in self.one():
            self.held.remove(held)
            self.place.handed_over.append(held)
        with contextlib.suppress(IndexError):
            given = self.place.handed_over.popleft()
            given.check()
            given.resource.destroy()


ACTIONS: tuple[Callable[[Worker], None], ...] = (
    Worker.create_buffer,
    Worker.create_in_a_pool,
    Worker.create_buffers,
    Worker.create_image,
    Worker.create_images,
    Worker.allocate_memory,
    Worker.allocate_memory_pages,
    Worker.bind_it_late,
    Worker.alias,
    Worker.create_pool,
    Worker.open_an_allocator,
    Worker.write_a_part,
    Worker.compare,
    Worker.write_through_the_persistent_view,
    Worker.flush_many,
    Worker.copy,
    Worker.fill_on_the_device,
    Worker.through_an_image,
    Worker.rename,
    Worker.use_the_virtual_block,
    Worker.allocate_many_in_the_virtual_block,
    Worker.look_at_the_virtual_block,
    Worker.use_a_virtual_block_alone,
    Worker.use_a_heap_of_buffers,
    Worker.look,
    Worker.dump,
    Worker.snapshot,
    Worker.leaks,
    Worker.validate,
    Worker.measure,
    Worker.find_a_memory_type,
    Worker.listen,
    Worker.next_frame,
    Worker.trim,
    Worker.fail,
    Worker.destroy_one,
    Worker.destroy_many,
    Worker.hand_over,
)
WEIGHT = {
    Worker.create_buffer: 60,
    Worker.create_in_a_pool: 30,
    Worker.destroy_one: 60,
    Worker.write_a_part: 40,
    Worker.compare: 40,
    Worker.use_the_virtual_block: 40,
    Worker.use_a_heap_of_buffers: 30,
    Worker.dump: 2,
    Worker.snapshot: 2,
    Worker.leaks: 2,
    Worker.open_an_allocator: 4,
    Worker.fail: 3,
}
WEIGHTS = [WEIGHT.get(it, 10) for it in ACTIONS]
