"""Aliasing: several resources in the same memory."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from support import (
    DEDICATED,
    DONT_BIND,
    IMAGE_TRANSFER,
    MAPPED,
    RANDOM,
    RGBA8,
    TRANSFER,
    WRITE,
    Check,
    is_simulated,
    pattern,
    totals,
)

from vk_mem import (
    AllocationCreateFlags,
    Allocator,
    BufferUsage,
    DeviceLostError,
    ImageTiling,
    InvalidArgumentError,
    OutOfHostMemoryError,
    SimulatedDevice,
    UseAfterFreeError,
    Violation,
    VkMemError,
)

CAN_ALIAS = AllocationCreateFlags.CAN_ALIAS
PAGE = 64 << 10
# No simulated driver asks more of a buffer's offset and size.
PAGE_OF_THE_DRIVER = 256


def place(resource: Any) -> tuple[int, int]:
    return resource.allocation.device_memory, resource.allocation.offset


def counts(allocator: Allocator) -> tuple[int, int]:
    total = totals(allocator)
    return total.allocation_count, total.allocation_bytes


def violations(allocator: Allocator) -> list[Violation]:
    return allocator.device.violations if is_simulated(allocator.device) else []


# ---- every device ----


def test_a_buffer_in_a_buffer(allocator: Allocator, check: Check) -> None:
    base = allocator.create_buffer(4096, TRANSFER, flags=RANDOM | CAN_ALIAS, name="base")
    before = counts(allocator)
    alias = allocator.create_aliasing_buffer(
        base, 1024, TRANSFER, local_offset=2048, name="alias", user_data=7
    )
    assert counts(allocator) == before
    assert (alias.size, alias.usage, alias.name, alias.user_data) == (1024, TRANSFER, "alias", 7)
    assert (base.name, base.user_data) == ("base", None)
    memory, offset = place(base)
    assert place(alias) == (memory, offset + 2048)
    assert alias.allocation.memory_type_index == base.allocation.memory_type_index
    assert alias.handle != base.handle
    base.write(bytes(4096))
    alias.write(pattern(1024))
    assert base.read() == bytes(2048) + pattern(1024) + bytes(1024)
    assert check.read(base) == base.read()
    assert check.read(alias) == pattern(1024)
    check.write(alias, pattern(1024, 5))
    assert base.read(2048, 1024) == pattern(1024, 5) == alias.read()
    with alias.map() as view:
        assert len(view) == 1024
        view[:4] = b"abcd"
    assert base.read(2048, 4) == b"abcd"
    alias.name = "renamed"
    assert (base.name, alias.name) == ("base", "renamed")
    alias.destroy()
    assert counts(allocator) == before
    assert base.read(2048, 4) == b"abcd"
    base.destroy()
    allocator.validate()


def test_images_in_memory_of_its_own(allocator: Allocator) -> None:
    bits = allocator.find_memory_type_index_for_image_info(RGBA8, (64, 64), IMAGE_TRANSFER)
    memory = allocator.allocate_memory(1 << 20, PAGE, memory_type_bits=1 << bits, flags=CAN_ALIAS)
    images = [
        allocator.create_aliasing_image(memory, RGBA8, (64, 64), IMAGE_TRANSFER) for _ in range(3)
    ]
    images.append(
        allocator.create_aliasing_image(
            memory, RGBA8, (16, 16), IMAGE_TRANSFER, local_offset=512 << 10
        )
    )
    assert {it.allocation.offset - memory.offset for it in images} == {0, 512 << 10}
    assert images[3].extent == (16, 16, 1)
    assert totals(allocator).allocation_count == 1
    # What is copied to one is in memory, whichever of them the device reads.
    device = allocator.device
    with (
        allocator.create_buffer(16384, TRANSFER, flags=WRITE) as source,
        allocator.create_buffer(16384, TRANSFER, flags=RANDOM) as target,
    ):
        source.write(pattern(16384))
        device.copy_buffer_to_image(source, images[1])
        device.copy_image_to_buffer(images[1], target)
        assert target.read() == pattern(16384)
    allocator.destroy_many([memory, *images])
    assert totals(allocator).allocation_count == 0


def test_an_image_beside_an_image(allocator: Allocator) -> None:
    with (
        allocator.create_image(RGBA8, (64, 64), IMAGE_TRANSFER, flags=CAN_ALIAS) as base,
        allocator.create_aliasing_image(base, RGBA8, (64, 64), IMAGE_TRANSFER) as alias,
    ):
        assert place(alias) == place(base)
        assert alias.allocation != base.allocation


def test_an_alias_of_an_alias(allocator: Allocator) -> None:
    base = allocator.create_buffer(4096, TRANSFER, flags=RANDOM | CAN_ALIAS)
    first = allocator.create_aliasing_buffer(base, 2048, TRANSFER, local_offset=1024)
    second = allocator.create_aliasing_buffer(first, 1024, TRANSFER, local_offset=512)
    assert place(second)[1] - place(base)[1] == 1536
    second.write(pattern(1024))
    assert base.read(1536, 1024) == first.read(512, 1024) == pattern(1024)
    # Not beyond the alias that was named, though the memory goes on.
    with pytest.raises(InvalidArgumentError, match="the alias needs"):
        allocator.create_aliasing_buffer(first, 2048, TRANSFER, local_offset=512)
    # The memory is the base's: the alias in between may go first.
    first.destroy()
    assert second.read() == pattern(1024)
    with pytest.raises(BufferError, match="is bound to it"):
        base.destroy()
    second.destroy()
    base.destroy()


def test_persistently_mapped(allocator: Allocator) -> None:
    base = allocator.create_buffer(4096, TRANSFER, flags=RANDOM | MAPPED | CAN_ALIAS)
    alias = allocator.create_aliasing_buffer(base, 256, TRANSFER, local_offset=1024)
    alias.mapped[:] = pattern(256)
    assert bytes(base.mapped[1024:1280]) == pattern(256)
    alias.flush()
    alias.invalidate(0, 16)
    alias.destroy()
    base.destroy()


# ---- CAN_ALIAS ----


def test_memory_that_names_its_resource_is_refused(simulated_allocator: Allocator) -> None:
    it = simulated_allocator
    named = it.create_buffer(4096, TRANSFER, flags=DEDICATED)
    with pytest.raises(InvalidArgumentError, match=r"AllocationCreateFlags.CAN_ALIAS"):
        it.create_aliasing_buffer(named, 64, TRANSFER)
    unnamed = it.create_buffer(4096, TRANSFER, flags=DEDICATED | CAN_ALIAS)
    assert unnamed.allocation.is_dedicated
    alias = it.create_aliasing_buffer(unnamed, 64, TRANSFER)
    # A whole memory object has no neighbours, so any kind will do.
    image = it.create_aliasing_image(unnamed, RGBA8, (8, 8), IMAGE_TRANSFER)
    it.destroy_many([named, unnamed, alias, image])
    bare = it.allocate_memory(4096, flags=DEDICATED)
    it.create_aliasing_buffer(bare, 64, TRANSFER).destroy()
    bare.free()
    assert it.device.live_buffers == 0


def test_where_the_driver_insists_on_dedicated_memory(simulated: SimulatedDevice) -> None:
    with Allocator(simulated) as it:
        plain = it.create_buffer(4096, TRANSFER, flags=CAN_ALIAS)
        simulated.set_requires_dedicated(True)
        # The driver's word is kept also with CAN_ALIAS.
        base = it.create_buffer(4096, TRANSFER, flags=CAN_ALIAS)
        assert base.allocation.is_dedicated
        simulated.set_requires_dedicated(False)
        with pytest.raises(InvalidArgumentError, match="cannot be aliased"):
            it.create_aliasing_buffer(base, 64, TRANSFER)
        simulated.set_requires_dedicated(True)
        with pytest.raises(InvalidArgumentError, match="cannot be an alias"):
            it.create_aliasing_buffer(plain, 64, TRANSFER)
        it.destroy_many([base, plain])


# ---- bufferImageGranularity ----


@pytest.fixture
def coarse(make_simulated: Callable[..., SimulatedDevice]) -> Any:
    device = make_simulated(heaps=[(1 << 30, 1)], types=[(0, 15)], buffer_image_granularity=PAGE)
    with Allocator(device) as allocator:
        yield allocator


def test_another_kind_has_its_pages_to_itself(coarse: Allocator) -> None:
    image = (RGBA8, (16, 16), IMAGE_TRANSFER)
    first = coarse.create_buffer(PAGE // 2, TRANSFER)
    small = coarse.create_buffer(PAGE // 2, TRANSFER)
    large = coarse.create_buffer(4 * PAGE, TRANSFER)
    # A neighbour may share the page of the small one, which is checked against a buffer.
    with pytest.raises(InvalidArgumentError, match=r"bufferImageGranularity.*allocate_memory"):
        coarse.create_aliasing_image(small, *image)
    # Inside the large one there are pages that no one else touches.
    local = -large.allocation.offset % PAGE
    inside = coarse.create_aliasing_image(large, *image, local_offset=local)
    assert inside.allocation.offset % PAGE == 0
    # A linear image is no other kind than a buffer.
    linear = coarse.create_aliasing_image(
        small, RGBA8, (8, 8), IMAGE_TRANSFER, tiling=ImageTiling.LINEAR
    )
    unknown = coarse.allocate_memory(1 << 14)
    either = [
        coarse.create_aliasing_image(unknown, *image),
        coarse.create_aliasing_buffer(unknown, 64, TRANSFER),
    ]
    coarse.destroy_many([*either, unknown, inside, linear, first, small, large])


def test_a_buffer_in_an_image(coarse: Allocator) -> None:
    base = coarse.create_image(RGBA8, (16, 16), IMAGE_TRANSFER)
    with pytest.raises(InvalidArgumentError, match="bufferImageGranularity"):
        coarse.create_aliasing_buffer(base, 64, TRANSFER)
    base.destroy()
    with coarse.create_pool(memory_type_index=0, ignore_buffer_image_granularity=True) as pool:
        base = coarse.create_image(RGBA8, (16, 16), IMAGE_TRANSFER, pool=pool)
        coarse.create_aliasing_buffer(base, 64, TRANSFER).destroy()
        base.destroy()


# ---- what does not fit ----

Call = Callable[[Allocator, Any], Any]
WRONG: list[tuple[Call, type[Exception], str]] = [
    (lambda it, b: it.create_aliasing_buffer(b, 8192, TRANSFER), ValueError, "the alias needs 8"),
    (lambda it, b: it.create_aliasing_buffer(b, 64, TRANSFER, local_offset=4090), ValueError, "al"),
    (lambda it, b: it.create_aliasing_buffer(b, 64, TRANSFER, local_offset=1), ValueError, "align"),
    (
        lambda it, b: it.create_aliasing_buffer(b, 64, TRANSFER, local_offset=(1 << 64) - 16),
        InvalidArgumentError,
        "the alias needs",
    ),
    (lambda it, b: it.create_aliasing_buffer(b, 64, TRANSFER, local_offset=-1), ValueError, "neg"),
    (lambda it, b: it.create_aliasing_buffer(b, 0, TRANSFER), ValueError, "size 0"),
    (lambda it, b: it.create_aliasing_buffer(b), TypeError, "needs size="),
    (lambda it, b: it.create_aliasing_buffer(5, 64, TRANSFER), TypeError, "base must be"),
    (lambda it, b: it.create_aliasing_buffer(b, 64, TRANSFER, usage=7), TypeError, "'usage'"),
    (lambda it, b: it.create_aliasing_buffer(b, "64", TRANSFER), TypeError, "size must be"),
    (lambda it, b: it.create_aliasing_image(b, RGBA8, (999, 999), 1), ValueError, "the alias ne"),
    (lambda it, b: it.create_aliasing_image(b, RGBA8, (0, 1), 1), ValueError, "0 x 1"),
    (lambda it, b: it.create_aliasing_image(b, RGBA8), TypeError, "must be an integer|needs its"),
]


@pytest.mark.parametrize(("call", "error", "text"), WRONG)
def test_what_does_not_fit(
    allocator: Allocator, call: Call, error: type[Exception], text: str
) -> None:
    base = allocator.create_buffer(4096, TRANSFER, flags=CAN_ALIAS)
    before = counts(allocator)
    with pytest.raises(error, match=text):
        call(allocator, base)
    assert counts(allocator) == before
    base.destroy()


def test_another_memory_type(make_simulated: Callable[..., SimulatedDevice]) -> None:
    device = make_simulated("nvidia-h200")
    with Allocator(device) as it:
        types = range(len(device.memory_properties.memory_types))
        refused = 0
        for index in types:
            try:
                memory = it.allocate_memory(1 << 20, PAGE, memory_type_bits=1 << index, usage=0)
            except VkMemError:
                continue
            try:
                it.create_aliasing_image(memory, RGBA8, (64, 64), IMAGE_TRANSFER).destroy()
            except InvalidArgumentError as error:
                assert f"cannot live in memory type {index}" in str(error)
                refused += 1
            memory.free()
        assert refused >= 1


def test_ones_of_another_allocator_or_gone(simulated_allocator: Allocator) -> None:
    it = simulated_allocator
    base = it.create_buffer(4096, TRANSFER)
    with Allocator(it.device) as other, pytest.raises(InvalidArgumentError, match="of another"):
        other.create_aliasing_buffer(base, 64, TRANSFER)
    base.destroy()
    with pytest.raises(UseAfterFreeError, match="was destroyed"):
        it.create_aliasing_buffer(base, 64, TRANSFER)


def test_ranges_of_an_alias(simulated_allocator: Allocator) -> None:
    it = simulated_allocator
    base = it.create_buffer(4096, TRANSFER, flags=RANDOM | MAPPED | CAN_ALIAS)
    alias = it.create_aliasing_buffer(base, 256, TRANSFER, local_offset=1024)
    for use in (
        lambda: alias.read(0, 257),
        lambda: alias.write(b"x", 256),
        lambda: alias.flush(0, 257),
        lambda: alias.invalidate(300),
        lambda: alias.read(300),
    ):
        with pytest.raises(InvalidArgumentError, match="outside"):
            use()
    with pytest.raises(InvalidArgumentError, match="overlap in the memory"):
        it.device.copy_buffer(alias, base, size=256, target_offset=1100)
    it.device.copy_buffer(alias, base, size=256, target_offset=2048)
    alias.destroy()
    base.destroy()


def test_both_mapped_lose_nothing(simulated_allocator: Allocator) -> None:
    # Memory that is not coherent: a second map must not throw away what the first wrote.
    it = simulated_allocator
    base = it.create_buffer(4096, TRANSFER, flags=RANDOM | CAN_ALIAS)
    alias = it.create_aliasing_buffer(base, 256, TRANSFER, local_offset=1024)
    with base.map() as whole:
        whole[1024:1280] = pattern(256)
        with alias.map() as part:
            assert bytes(part) == pattern(256)
    assert alias.read() == pattern(256)
    alias.destroy()
    base.destroy()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    profile=st.sampled_from(SimulatedDevice.profile_names()),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["alias", "alias", "write", "write", "destroy", "base"]),
            st.integers(0, 99),
            st.integers(0, 8191),
            st.integers(1, 4096),
        ),
        max_size=40,
    ),
)
def test_programs(profile: str, steps: list[tuple[str, int, int, int]]) -> None:
    """Aliases of one memory, and of each other, beside a bytearray."""
    device = SimulatedDevice(profile)
    with Allocator(device) as it:
        base = it.create_buffer(8192, TRANSFER, flags=RANDOM | CAN_ALIAS)
        start = base.allocation.offset
        base.write(bytes(8192))
        contents = bytearray(8192)
        live: list[Any] = [base]
        for step, which, offset, size in steps:
            one = live[which % len(live)]
            if step == "alias":
                try:
                    made = it.create_aliasing_buffer(one, size, TRANSFER, local_offset=offset)
                except InvalidArgumentError:
                    # Never where it would do: sizes and offsets of the driver's own granularity.
                    aligned = offset % PAGE_OF_THE_DRIVER == 0
                    assert not aligned or offset + size + PAGE_OF_THE_DRIVER > one.allocation.size
                else:
                    assert made.allocation.offset == one.allocation.offset + offset
                    live.append(made)
            elif step == "write" and offset + size <= one.size:
                data = pattern(size, which)
                one.write(data, offset)
                at = one.allocation.offset - start + offset
                contents[at : at + size] = data
            elif step == "destroy" and one is not base:
                live.remove(one)
                one.destroy()
            elif step == "base" and len(live) > 1:
                with pytest.raises(BufferError):
                    base.destroy()
            for each in live:
                at = each.allocation.offset - start
                assert each.read() == contents[at : at + each.size]
            assert counts(it) == (1, base.allocation.size)
            it.validate()
        it.destroy_many(live)
    assert device.violations == []
    assert (device.live_memory_objects, device.live_buffers) == (0, 0)


# ---- the end ----


def test_the_base_stays(simulated_allocator: Allocator) -> None:
    it = simulated_allocator
    base = it.create_buffer(4096, TRANSFER, name="base")
    alias = it.create_aliasing_buffer(base, 64, TRANSFER)
    for end in (base.destroy, base.retire, lambda: it.destroy_many([base])):
        with pytest.raises(BufferError, match=r"cannot .* Buffer 'base'.*bound to it"):
            end()
    assert base.alive
    base.name = "still there"
    alias.destroy()
    with pytest.raises(UseAfterFreeError, match="Buffer was destroyed"):
        alias.map()
    base.destroy()
    assert totals(it).allocation_count == 0


def test_retired_in_turn(simulated: SimulatedDevice) -> None:
    with Allocator(simulated) as it:
        base = it.create_buffer(4096, TRANSFER)
        aliases = [it.create_aliasing_buffer(base, 64, TRANSFER) for _ in range(2)]
        aliases[0].retire()
        with pytest.raises(BufferError, match="cannot retire"):
            base.retire()
        aliases[1].retire()
        # The device may still use them, so the memory cannot go now.
        with pytest.raises(BufferError, match="cannot destroy"):
            base.destroy()
        base.retire()
        assert simulated.live_buffers == 3
        it.set_current_frame_index(3)
        assert simulated.live_buffers == 0
        assert totals(it).allocation_count == 0


@pytest.mark.parametrize("base_first", [True, False])
def test_collected(simulated: SimulatedDevice, base_first: bool) -> None:
    with Allocator(simulated) as it:
        base = it.create_buffer(4096, TRANSFER, name="base")
        alias = it.create_aliasing_buffer(base, 64, TRANSFER, name="alias")
        with pytest.warns(ResourceWarning, match="unclosed Buffer '(alias|base)'"):
            if base_first:
                del base
                gc.collect()
                assert alias.alive
                del alias
            else:
                del alias
                with pytest.raises(BufferError):
                    base.destroy()
                del base
            gc.collect()
        assert simulated.live_buffers == 2
        it.set_current_frame_index(3)
        assert simulated.live_buffers == 0
        assert totals(it).allocation_count == 0


def test_the_allocator_closes_over_them(simulated: SimulatedDevice) -> None:
    it = Allocator(simulated)
    bases = [it.create_buffer(4096, TRANSFER) for _ in range(4)]
    aliases = [it.create_aliasing_buffer(base, 64, TRANSFER) for base in bases]
    aliases[0].retire()
    with pytest.warns(ResourceWarning, match=r"7 live objects \(16.0 KiB\)"):
        it.close()
    assert not any(each.alive for each in bases + aliases)


def test_a_pool_closes_over_them(simulated_allocator: Allocator) -> None:
    it = simulated_allocator
    pool = it.create_pool(memory_type_index=0, block_size=1 << 20)
    memory = it.allocate_memory(4096, 256, pool=pool)
    alias = it.create_aliasing_buffer(memory, 64, TRANSFER)
    with pytest.warns(ResourceWarning, match="2 live objects"):
        pool.close()
    assert not alias.alive and not memory.alive
    assert it.device.live_buffers == 0


def test_bound_by_hand_in_an_alias(simulated_allocator: Allocator) -> None:
    it = simulated_allocator
    base = it.create_buffer(4096, TRANSFER)
    alias = it.create_aliasing_buffer(base, 1024, TRANSFER, local_offset=1024)
    third = it.create_buffer(64, TRANSFER, flags=DONT_BIND)
    alias.allocation.bind_buffer(third.handle, 512)
    with pytest.raises(BufferError, match="bound to it"):
        alias.destroy()
    with pytest.raises(InvalidArgumentError, match="bound already"):
        alias.bind()
    with pytest.raises(InvalidArgumentError, match="belongs to a Buffer"):
        alias.allocation.free()
    it.destroy_many([base, third, alias])


def test_user_data_in_a_cycle_is_collected(simulated: SimulatedDevice) -> None:
    with Allocator(simulated) as it:
        base = it.create_buffer(64, TRANSFER)
        alias = it.create_aliasing_buffer(base, 64, TRANSFER)
        alias.user_data = [alias, base]
        base.user_data = alias
        alias.destroy()
        base.destroy()
        del alias, base
        gc.collect()
        assert simulated.live_buffers == 0


@pytest.mark.parametrize("vk_result", [-1, -4])
@pytest.mark.parametrize("kind", ["buffer", "image"])
def test_each_driver_call_fails_once(simulated: SimulatedDevice, kind: str, vk_result: int) -> None:
    def run(allocator: Allocator, memory: Any) -> Any:
        if kind == "buffer":
            return allocator.create_aliasing_buffer(memory, 64, TRANSFER)
        return allocator.create_aliasing_image(memory, RGBA8, (8, 8), IMAGE_TRANSFER)

    expected: dict[int, type[VkMemError]] = {-1: OutOfHostMemoryError, -4: DeviceLostError}
    with Allocator(simulated) as allocator:
        memory = allocator.allocate_memory(PAGE, PAGE)
        before = counts(allocator)
        failures = 0
        for n in range(10):
            simulated.fail_call(n, vk_result)
            try:
                made = run(allocator, memory)
            except VkMemError as error:
                failures += 1
                assert isinstance(error, expected[vk_result]) or error.vk_result == vk_result
            else:
                made.destroy()
                break
            assert (simulated.live_buffers, simulated.live_images) == (0, 0)
            assert counts(allocator) == before
        assert failures == 2  # creating and binding
        simulated.clear_failures()
        memory.free()


def test_threads(allocator: Allocator) -> None:
    base = allocator.create_buffer(1 << 16, TRANSFER, flags=RANDOM | CAN_ALIAS)
    failed: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for turn in range(40):
                local = seed * 16384 + turn % 4 * 4096
                alias = allocator.create_aliasing_buffer(
                    base, 4096, BufferUsage.TRANSFER_SRC, local_offset=local, name=str(seed)
                )
                alias.write(pattern(4096, seed))
                assert alias.read() == pattern(4096, seed)
                assert alias.name == str(seed)
                try:
                    base.destroy()
                except BufferError:
                    pass
                else:
                    raise AssertionError("the base was destroyed")
                alias.destroy()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    base.destroy()
    assert violations(allocator) == []
    assert totals(allocator).allocation_count == 0
