"""Which allocations are lost first, how far a request goes, contents, and the budget."""

from __future__ import annotations

import random
from typing import Any

import pytest
from support import DEDICATED, LOSABLE, RGBA8, TAKES, TRANSFER, Check, pattern
from test_lost_allocations import BOTH, KIB, MIB, VERTEX, frames, losses, pool_of

from vk_mem import (
    Allocator,
    Buffer,
    Device,
    ImageUsage,
    InvalidArgumentError,
    LostError,
    OutOfDeviceMemoryError,
    Pool,
    SimulatedDevice,
)

ALGORITHMS = ["tlsf", "buddy", "linear"]


class TestWhoGoes:
    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_the_oldest_first(self, device: Device, algorithm: str) -> None:
        with (
            frames(device) as allocator,
            pool_of(allocator, MIB, algorithm=algorithm) as pool,
        ):
            its = []
            for frame in range(1, 17):
                allocator.set_current_frame_index(frame)
                its.append(allocator.create_buffer(64 * KIB, VERTEX, pool=pool, flags=LOSABLE))
            allocator.set_current_frame_index(17)
            order = []
            for _ in range(6):
                its.append(allocator.create_buffer(64 * KIB, VERTEX, pool=pool, flags=TAKES))
                order.append(losses(its))
            assert order == [list(range(count)) for count in range(1, 7)]
            allocator.validate()
            allocator.destroy_many(its)

    def test_a_touch_changes_the_order(self, device: Device) -> None:
        with frames(device) as allocator, pool_of(allocator, MIB) as pool:
            its = [
                allocator.create_buffer(64 * KIB, VERTEX, pool=pool, flags=LOSABLE)
                for _ in range(16)
            ]
            for frame, index in enumerate(reversed(range(16)), start=1):
                allocator.set_current_frame_index(frame)
                assert its[index].touch()
            allocator.set_current_frame_index(20)
            made = [
                allocator.create_buffer(64 * KIB, VERTEX, pool=pool, flags=TAKES) for _ in range(5)
            ]
            assert losses(its) == [11, 12, 13, 14, 15]
            allocator.destroy_many([*its, *made])

    def test_low_priority_before_age(self, device: Device) -> None:
        with frames(device) as allocator, pool_of(allocator, MIB) as pool:
            priorities = [0.9, 0.5, 0.1, None]
            its = []
            for frame in range(1, 17):
                allocator.set_current_frame_index(frame)
                priority = priorities[frame % 4]
                keywords = {} if priority is None else {"priority": priority}
                its.append(
                    allocator.create_buffer(64 * KIB, VERTEX, pool=pool, flags=LOSABLE, **keywords)
                )
            allocator.set_current_frame_index(20)
            order: list[int] = []
            for _ in range(16):
                before = set(losses(its))
                its.append(allocator.create_buffer(64 * KIB, VERTEX, pool=pool, flags=TAKES))
                order += set(losses(its)) - before
            of_frame = [priorities[(index + 1) % 4] for index in order]
            assert of_frame[:4] == [0.1] * 4 and of_frame[-4:] == [0.9] * 4
            # Those of 0.5 and those without a priority are of one class.
            assert order[4:12] == sorted(order[4:12])
            allocator.destroy_many(its)

    def test_dedicated_memory(self, device: Device) -> None:
        with Allocator(device) as plain, plain.create_buffer(256, VERTEX) as example:
            heap = device.memory_properties.memory_types[example.allocation.memory_type_index]
        limits = [None] * len(device.memory_properties.memory_heaps)
        limits[heap.heap_index] = 8 * MIB
        with frames(device, heap_size_limits=limits) as allocator:
            its = []
            for frame in range(1, 5):
                allocator.set_current_frame_index(frame)
                its.append(allocator.create_buffer(2 * MIB, VERTEX, flags=LOSABLE | DEDICATED))
            allocator.set_current_frame_index(6)
            index = its[0].allocation.memory_type_index
            allocator.set_current_frame_index(7)
            more = allocator.create_buffer(
                2 * MIB, VERTEX, flags=TAKES | DEDICATED, memory_type_bits=1 << index
            )
            assert losses(its) == [1], "the first one was asked for in frame 6"
            allocator.destroy_many([*its, more])

    def test_default_pools_give_blocks_back(self, device: Device) -> None:
        with Allocator(device) as plain, plain.create_buffer(256, VERTEX) as example:
            index = example.allocation.memory_type_index
        limits = [None] * len(device.memory_properties.memory_heaps)
        limits[device.memory_properties.memory_types[index].heap_index] = 8 * MIB
        with frames(device, heap_size_limits=limits, preferred_block_size=MIB) as allocator:
            its = []
            for frame in range(1, 1000):
                allocator.set_current_frame_index(frame)
                try:
                    its.append(
                        allocator.create_buffer(
                            100 * KIB, VERTEX, flags=LOSABLE, memory_type_bits=1 << index
                        )
                    )
                except OutOfDeviceMemoryError:
                    break
            allocator.set_current_frame_index(2000)
            big = allocator.create_buffer(3 * MIB, VERTEX, flags=TAKES, memory_type_bits=1 << index)
            lost = losses(its)
            assert lost and sum(100 * KIB for _ in lost) <= 6 * MIB
            assert max(lost) < len(its) * 3 // 4, "the older ones"
            allocator.validate()
            allocator.destroy_many([*its, big])


class TestHowFar:
    def full(self, allocator: Allocator, pool: Pool) -> list[Buffer]:
        its = []
        for frame in range(1, 17):
            allocator.set_current_frame_index(frame)
            its.append(
                allocator.create_buffer(
                    64 * KIB, VERTEX, pool=pool, flags=LOSABLE, priority=frame % 2 * 0.8
                )
            )
        return its

    def test_never(self, device: Device) -> None:
        with frames(device) as allocator, pool_of(allocator, MIB) as pool:
            its = self.full(allocator, pool)
            allocator.set_current_frame_index(30)
            for keywords in ({"flags": TAKES, "evict": "never"}, {"flags": 0}, {"flags": LOSABLE}):
                with pytest.raises(OutOfDeviceMemoryError):
                    allocator.create_buffer(64 * KIB, VERTEX, pool=pool, **keywords)
            assert losses(its) == []
            allocator.destroy_many(its)

    def test_lower_priority(self, device: Device) -> None:
        with frames(device) as allocator, pool_of(allocator, MIB) as pool:
            its = self.full(allocator, pool)
            allocator.set_current_frame_index(30)
            keywords = {"pool": pool, "flags": TAKES, "evict": "lower_priority", "priority": 0.5}
            made = [allocator.create_buffer(64 * KIB, VERTEX, **keywords) for _ in range(8)]
            assert losses(its) == list(range(1, 16, 2))
            with pytest.raises(OutOfDeviceMemoryError):
                allocator.create_buffer(64 * KIB, VERTEX, **keywords)
            assert losses(its) == list(range(1, 16, 2)), "a request that fails costs nobody"
            allocator.destroy_many([*its, *made])

    def test_frames(self, device: Device) -> None:
        with frames(device) as allocator, pool_of(allocator, MIB) as pool:
            its = self.full(allocator, pool)
            allocator.set_current_frame_index(20)
            # Last used in frames 1 to 16.
            keywords: dict[str, Any] = {"pool": pool, "flags": TAKES}
            made = []
            with pytest.raises(OutOfDeviceMemoryError):
                while True:
                    made.append(allocator.create_buffer(64 * KIB, VERTEX, evict=15, **keywords))
            assert losses(its) == [0, 1, 2, 3, 4]
            made.append(allocator.create_buffer(64 * KIB, VERTEX, evict=4, **keywords))
            assert len(losses(its)) == 6
            with pytest.raises(OutOfDeviceMemoryError):
                allocator.create_buffer(64 * KIB, VERTEX, evict=2**32 - 1, **keywords)
            allocator.destroy_many([*its, *made])

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_a_request_that_fails_costs_nobody(self, device: Device, algorithm: str) -> None:
        with (
            frames(device) as allocator,
            pool_of(allocator, MIB, algorithm=algorithm) as pool,
        ):
            its = []
            for frame in range(1, 17):
                allocator.set_current_frame_index(frame)
                flags = 0 if frame == 8 else LOSABLE
                its.append(allocator.create_buffer(64 * KIB, VERTEX, pool=pool, flags=flags))
            allocator.set_current_frame_index(30)
            # The eighth cannot be lost, so no range is as long.
            with pytest.raises(OutOfDeviceMemoryError):
                allocator.create_buffer(768 * KIB, VERTEX, pool=pool, flags=TAKES)
            assert losses(its) == []
            allocator.validate()
            allocator.destroy_many(its)


class TestContents:
    def test_what_is_not_lost_keeps_its_bytes(self, device: Device) -> None:
        with frames(device) as allocator, pool_of(allocator, MIB) as pool:
            check = Check(allocator)
            contents: dict[Buffer, bytes] = {}
            rng = random.Random(3)
            for frame in range(1, 60):
                allocator.set_current_frame_index(frame)
                size = rng.randrange(1, 12) * 16 * KIB
                it = allocator.create_buffer(size, TRANSFER, pool=pool, flags=BOTH)
                contents[it] = pattern(size, frame)
                check.write(it, contents[it])
                live = [other for other in contents if not other.is_lost]
                for other in rng.sample(live, min(2, len(live))):
                    assert check.read(other) == contents[other]
            allocator.validate()
            lost = [it for it in contents if it.is_lost]
            assert 10 < len(lost) < len(contents)
            for it, data in contents.items():
                assert it.is_lost or check.read(it) == data
            allocator.destroy_many(contents)

    def test_images(self, device: Device) -> None:
        with frames(device) as allocator:
            image = allocator.create_image(
                RGBA8, (64, 64), ImageUsage.SAMPLED, flags=LOSABLE, name="tile"
            )
            memory = image.allocation.memory_type_index
            with allocator.create_pool(
                memory_type_index=memory, block_size=MIB, max_block_count=1
            ) as pool:
                its = []
                for frame in range(1, 100):
                    allocator.set_current_frame_index(frame)
                    its.append(
                        allocator.create_image(
                            RGBA8, (128, 128), ImageUsage.SAMPLED, pool=pool, flags=BOTH
                        )
                    )
                lost = [index for index, it in enumerate(its) if it.is_lost]
                assert len(lost) > 80 and lost == list(range(len(lost)))
                with pytest.raises(LostError):
                    _ = its[0].handle
                allocator.destroy_many(its)
            image.destroy()


class TestBudget:
    @pytest.mark.parametrize("in_flight", [0, 2])
    def test_a_smaller_budget(self, make_simulated: Any, in_flight: int) -> None:
        device = make_simulated("discrete-8gib")
        with Allocator(
            device,
            frames_in_flight=in_flight,
            evict_over_budget=True,
            heap_size_limits=[64 * MIB] * len(device.memory_properties.memory_heaps),
            preferred_block_size=MIB,
        ) as allocator:
            its: list[Buffer] = []
            heard: list[Buffer] = []
            allocator.on_lost(heard.extend)
            budget = 0
            frame = 0
            while True:
                frame += 1
                allocator.set_current_frame_index(frame)
                it = allocator.create_buffer(512 * KIB, VERTEX, flags=LOSABLE | DEDICATED)
                its.append(it)
                heap = device.memory_properties.memory_types[
                    it.allocation.memory_type_index
                ].heap_index
                now = allocator.heap_budgets()[heap]
                budget = now.budget
                if now.usage > budget:
                    break
            assert heard == []
            for _ in range(in_flight + 1):
                frame += 1
                allocator.set_current_frame_index(frame)
            now = allocator.heap_budgets()[heap]
            assert now.usage <= now.budget
            assert heard == [it for it in its if it.is_lost] and its[0] in heard
            assert losses(its) == list(range(len(heard))), "the oldest ones, and no more"
            assert now.usage + 512 * KIB > now.budget
            allocator.destroy_many(its)


@pytest.mark.parametrize("in_flight", [0, 1, 2])
@pytest.mark.parametrize("dedicated", [True, False], ids=["dedicated", "blocks"])
@pytest.mark.parametrize("profile", SimulatedDevice.profile_names())
def test_a_budget_that_shrinks(
    make_simulated: Any, profile: str, dedicated: bool, in_flight: int
) -> None:
    """By 30 %: without a new request usage is below it within `frames_in_flight` + 1 frames."""
    device = make_simulated(profile)
    heaps = device.memory_properties.memory_heaps
    device.set_heap_budgets([100 * MIB] * len(heaps))
    with Allocator(
        device, frames_in_flight=in_flight, evict_over_budget=True, preferred_block_size=4 * MIB
    ) as allocator:
        heard: list[Buffer] = []
        allocator.on_lost(heard.extend)
        with allocator.create_buffer(MIB, VERTEX) as example:
            index = example.allocation.memory_type_index
        heap = device.memory_properties.memory_types[index].heap_index
        flags = LOSABLE | (DEDICATED if dedicated else 0)
        its = []
        for frame in range(1, 81):
            allocator.set_current_frame_index(frame)
            its.append(
                allocator.create_buffer(MIB, VERTEX, flags=flags, memory_type_bits=1 << index)
            )
        before = allocator.heap_budgets()[heap]
        assert before.budget == 100 * MIB and 80 * MIB <= before.usage <= 100 * MIB
        assert heard == []
        device.set_heap_budgets([70 * MIB] * len(heaps))
        for frame in range(81, 81 + in_flight + 1):
            assert allocator.touch_many(its[-40:]) == []
            allocator.set_current_frame_index(frame)
        now = allocator.heap_budgets()[heap]
        assert now.budget == 70 * MIB and now.usage <= 70 * MIB
        assert losses(its) == list(range(len(heard))), "the oldest ones"
        assert heard == its[: len(heard)]
        # A block goes when all in it may be lost, so at most one more of them than needed.
        assert now.usage > 66 * MIB
        allocator.validate()
        allocator.destroy_many(its)


@pytest.mark.parametrize("budgets", [[], [1], [1, 2, 3]])
def test_budgets_of_all_heaps(make_simulated: Any, budgets: list[int]) -> None:
    device = make_simulated("discrete-8gib")
    assert len(device.memory_properties.memory_heaps) == 2
    with pytest.raises(InvalidArgumentError, match=f"budgets has {len(budgets)} items for 2 heaps"):
        device.set_heap_budgets(budgets)
    device.set_heap_budgets([MIB, 2 * MIB])
    with Allocator(device) as allocator:
        assert [it.budget for it in allocator.heap_budgets()] == [MIB, 2 * MIB]
    device.set_heap_budgets(None)
    with Allocator(device) as allocator, Allocator(make_simulated("discrete-8gib")) as other:
        assert allocator.heap_budgets() == other.heap_budgets()


def test_frames_in_use_must_cover_those_in_flight(device: Device) -> None:
    with pytest.raises(InvalidArgumentError, match="frames_in_use is 1, below frames_in_flight"):
        Allocator(device, frames_in_flight=2, frames_in_use=1)
