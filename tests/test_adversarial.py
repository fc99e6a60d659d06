"""Programs that try to crash the interpreter: odd arguments, and code that runs at odd moments.

What might crash runs in an interpreter of its own.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from conftest import index_of_the_driver
from support import DEDICATED, MAPPED, RANDOM, TRANSFER, pattern, run_python, totals

from vk_mem import Allocator, Buffer, SimulatedDevice, VkMemError

# ---- arguments ----

FUZZ = """
import faulthandler, random, sys, time, warnings
faulthandler.enable()
warnings.simplefilter("ignore")
import vk_mem
from vk_mem import *

def shown(it):
    # What a callback of `on_pressure` raises is shown, not raised; odd things are callbacks here.
    if not isinstance(it.exc_value, TypeError):
        sys.__unraisablehook__(it)
sys.unraisablehook = shown

rng = random.Random(SEED)
device = DEVICE
other = SimulatedDevice("lavapipe")
allocator = Allocator(device, preferred_block_size=1 << 20)
flags = AllocationCreateFlags.HOST_ACCESS_RANDOM | AllocationCreateFlags.MAPPED

class Evil:
    # Ends something whenever it is asked for a number.
    def __index__(self):
        for it in rng.sample(held, min(3, len(held))):
            try:
                it.__exit__(None, None, None)
            except (BufferError, ValueError):
                pass
        return rng.choice([0, 1, 64, -1, 1 << 70])
    __len__ = __hash__ = __index__
    def __eq__(self, other):
        return bool(self.__index__())
    def __iter__(self):
        return iter([self, 1])
    def __repr__(self):
        raise RuntimeError("no repr")

held = []
ODD = [
    None, True, False, 0, 1, 3, 16, 64, 100, 4096, -1, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1,
    2**64, -2**63, 10**30, 0.5, float("nan"), float("inf"), 1j, "", "a", "a\\0b",
    "\\ud800", "é" * 99, b"", b"abc", bytearray(64), memoryview(bytes(64)), [], (), {},
    memoryview(bytearray(64))[::2],
    [1, 2], (4, 4), (4, 4, 4), (0, 0), (2**32, 1), (-1,), range(5), object(), int, Evil, Evil(),
    Buffer, device, other, allocator, BufferUsage.TRANSFER_DST, Format.R8G8B8A8_UNORM,
    MemoryUsage.AUTO, AllocationCreateInfo(), AllocationCreateInfo(flags=flags, name="kept"),
    Exception(), lambda *a, **k: 0, type, Ellipsis, NotImplemented, "vkAllocateMemory",
]
KEYWORDS = ["usage", "flags", "required_flags", "preferred_flags", "not_preferred_flags",
    "memory_type_bits", "min_alignment", "name", "user_data", "allocation_info", "create_flags",
    "sharing_mode", "queue_family_indices", "offset", "size", "readonly", "value", "target_offset",
    "source_offset", "buffer_offset", "alignment", "bind", "nonsense", ""]
# These trust a handle, an address or a pointer: Vulkan cannot tell a wrong one. And what waits,
# and failures that are asked for.
TRUSTING = {"bind_buffer", "bind_image", "allocate_memory_for_buffer", "allocate_memory_for_image",
    "wrap", "open", "set_latency", "fail_call", "fail_next"}
# Shapes of images go to the driver as they are, and only a simulated one checks them.
if not isinstance(device, SimulatedDevice):
    TRUSTING |= {"create_image", "find_memory_type_index_for_image_info", "copy_image_to_buffer",
        "copy_buffer_to_image"}
    KEYWORDS = [it for it in KEYWORDS if it not in {"create_flags", "sharing_mode",
        "queue_family_indices"}]

def make():
    held.append(allocator.create_buffer(rng.choice([1, 64, 5000]), 3, flags=flags, name="x"))
    held.append(allocator.create_image(37, (8, 8), 3))
    held.append(allocator.allocate_memory(64, flags=flags))

def odd():
    return rng.choice(held) if held and rng.random() < 0.2 else rng.choice(ODD)

end = time.monotonic() + SECONDS
calls = 0
done = 0
while time.monotonic() < end:
    if allocator.closed:
        allocator = Allocator(device, preferred_block_size=1 << 20)
        held.clear()
    while len(held) < 5:
        make()
    if len(held) > 60:
        del held[: rng.randrange(40)]
    target = rng.choice([device, allocator, allocator, *rng.choices(held, k=5)])
    name = rng.choice(dir(target))
    if name in TRUSTING or name in {"__class__", "__reduce__", "__reduce_ex__"}:
        continue
    calls += 1
    try:
        if rng.random() < 0.1 and not name.startswith("__"):
            setattr(target, name, odd())
        member = getattr(target, name)
        if callable(member):
            arguments = [odd() for _ in range(rng.choice([0, 1, 1, 2, 2, 3, 4]))]
            keywords = {rng.choice(KEYWORDS): odd() for _ in range(rng.choice([0, 0, 1, 2]))}
            member = member(*arguments, **keywords)
        if isinstance(member, (Buffer, Image, Allocation, Mapping, memoryview)):
            held.append(member)
        done += 1
    except (Exception, BufferError) as error:
        # A panic is no Exception.
        assert "\\n" not in str(error) or not isinstance(error, VkMemError), error
held.clear()
device.validation_messages
if isinstance(device, SimulatedDevice):
    print(device.violations[:5])
print("calls", calls > 1000, done > 100)
"""


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("profile", ["non-coherent", "discrete-8gib", "raspberry-pi"])
def test_odd_arguments(profile: str, seed: int) -> None:
    code = FUZZ.replace("SEED", str(seed)).replace("SECONDS", "1.5")
    done = run_python(code.replace("DEVICE", f'SimulatedDevice("{profile}")', 1))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("calls True True\n")
    assert done.stderr == ""


@pytest.mark.driver
def test_odd_arguments_with_a_real_device() -> None:
    code = FUZZ.replace("SEED", "3").replace("SECONDS", "3")
    done = run_python(code.replace("DEVICE", f"Device.open(index={index_of_the_driver()})", 1))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("calls True True\n")


# ---- moments ----


class Finaliser:
    """Runs something when it is collected."""

    def __init__(self, run: Callable[[], object]) -> None:
        self.run = run

    def __del__(self) -> None:
        self.run()


def test_finalisers_of_user_data_come_back(simulated: SimulatedDevice) -> None:
    allocator = Allocator(simulated)
    seen: list[object] = []
    buffer = allocator.create_buffer(64, TRANSFER, flags=RANDOM | MAPPED)
    for use in (
        lambda: seen.append(buffer.user_data),
        lambda: setattr(buffer, "user_data", "set by the finaliser"),
        lambda: buffer.write(pattern(64)),
        lambda: seen.append(bytes(buffer.mapped)),
        lambda: allocator.create_buffer(64, TRANSFER).destroy(),
        lambda: gc.collect(),
        lambda: allocator.validate(),
        buffer.destroy,
    ):
        buffer.user_data = Finaliser(use)
        buffer.user_data = None
    assert not buffer.alive
    assert seen[1] == pattern(64)
    other = allocator.create_buffer(64, TRANSFER, user_data=Finaliser(allocator.close))
    # Raised in a finaliser, where a warning that is an error is only shown.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        other.user_data = None
    assert allocator.closed
    assert not other.alive
    assert [it.category for it in caught] == [ResourceWarning]


def test_a_finaliser_destroys_what_is_being_dropped(simulated_allocator: Allocator) -> None:
    buffer = simulated_allocator.create_buffer(64, TRANSFER)
    again = weakref.ref(buffer)
    buffer.user_data = Finaliser(lambda: again() and again().destroy())
    buffer.destroy()
    del buffer
    gc.collect()
    # And one that closes others of its kind while it goes.
    others = [simulated_allocator.create_buffer(64, TRANSFER) for _ in range(5)]
    one = simulated_allocator.create_buffer(
        64, TRANSFER, user_data=Finaliser(lambda: [it.destroy() for it in others])
    )
    one.destroy()
    del one
    gc.collect()
    assert not any(it.alive for it in others)


def test_numbers_that_end_what_they_are_given_to(simulated_allocator: Allocator) -> None:
    device = simulated_allocator.device
    refused: list[type[BaseException]] = []

    class Ends:
        def __init__(self, end: Callable[[], None]) -> None:
            self.end = end

        def __index__(self) -> int:
            try:
                self.end()
            except BufferError as error:
                refused.append(type(error))
            return 0

    def fresh() -> Buffer:
        return simulated_allocator.create_buffer(64, TRANSFER, flags=RANDOM | MAPPED)

    uses: list[Callable[[Buffer, Any], object]] = [
        lambda it, number: it.read(number, 4),
        lambda it, number: it.read(0, number),
        lambda it, number: it.write(b"x", number),
        lambda it, number: it.read_into(bytearray(4), number),
        lambda it, number: it.flush(number),
        lambda it, number: it.invalidate(0, number),
        lambda it, number: device.fill_buffer(it, number),
        lambda it, number: device.fill_buffer(it, 0, offset=number),
        lambda it, number: device.copy_buffer(it, it, 8, source_offset=number, target_offset=32),
        lambda it, number: simulated_allocator.create_buffer(number, 3),
        lambda it, number: simulated_allocator.allocate_memory(64, number),
        lambda it, number: simulated_allocator.create_image(37, (number, 4), 3),
    ]
    for use in uses:
        for close in (False, True):
            buffer = fresh()
            end = simulated_allocator.close if close else buffer.destroy
            if close:
                view = buffer.mapped  # so that it is refused: the allocator is still needed
            # UseAfterFreeError is a ValueError.
            with contextlib.suppress(ValueError, BufferError):
                use(buffer, Ends(end))
            if close:
                view.release()
                del view
            buffer.destroy()
    assert refused


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ in Python code is of 3.12")
def test_buffers_that_end_what_they_are_copied_to(simulated_allocator: Allocator) -> None:
    buffer = simulated_allocator.create_buffer(64, TRANSFER, flags=RANDOM)

    class Ends:
        def __buffer__(self, flags: int) -> memoryview:
            with pytest.raises(BufferError):
                buffer.destroy()
            return memoryview(bytearray(b"abcd"))

    class Raises:
        def __buffer__(self, flags: int) -> memoryview:
            raise ZeroDivisionError("mine")

    buffer.write(Ends())
    buffer.read_into(Ends())
    for use in (buffer.write, buffer.read_into):
        with pytest.raises(ZeroDivisionError, match="mine"):
            use(Raises())
    assert buffer.read(0, 4) == b"abcd"
    buffer.destroy()


def test_warnings_that_come_back(simulated: SimulatedDevice) -> None:
    """Showing a warning runs Python code in the middle of a finaliser."""
    allocator = Allocator(simulated)
    shown = 0

    def show(*_: object, **__: object) -> None:
        nonlocal shown
        shown += 1
        gc.collect()
        if not allocator.closed:
            allocator.create_buffer(64, TRANSFER, flags=DEDICATED).destroy()
            allocator.set_current_frame_index(100 * shown)
            allocator.validate()
        if shown == 5:
            allocator.close()

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        for _ in range(10):
            if not allocator.closed:
                allocator.create_buffer(64, TRANSFER, flags=RANDOM)
        gc.collect()
    assert shown >= 5
    assert allocator.closed


def test_collections_at_every_moment(simulated: SimulatedDevice) -> None:
    """Garbage is collected at nearly every allocation of a Python object."""
    before = gc.get_threshold()
    allocator = Allocator(simulated)
    gc.set_threshold(1, 1, 1)
    try:
        for i in range(60):
            buffer = allocator.create_buffer(64, TRANSFER, flags=RANDOM, name=f"number {i}")
            buffer.user_data = [buffer]
            # A cycle that pins; only a collection ends it.
            mapping = buffer.map(readonly=i % 2 == 0)
            cycle: list[Any] = [memoryview(mapping)]
            cycle.append(cycle)
            del cycle
            with pytest.raises((BufferError, TypeError)):
                # For a read-only mapping, while the collection may release views of it.
                memoryview(mapping)[0] = "x"  # type: ignore[call-overload]
            gc.collect()
            mapping.close()
            buffer.destroy()
            del buffer, mapping
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert totals(allocator).allocation_count == 0
    allocator.close()


def test_destroy_inside_the_release_of_a_view(simulated_allocator: Allocator) -> None:
    buffer = simulated_allocator.create_buffer(64, TRANSFER, flags=RANDOM)
    outcomes: list[str] = []

    def end(_: object) -> None:
        try:
            buffer.destroy()
            outcomes.append("destroyed")
        except BufferError:
            outcomes.append("refused")

    mapping = buffer.map()
    watched = weakref.ref(mapping, end)
    view = memoryview(mapping)
    del mapping
    view.release()
    del view
    gc.collect()
    assert watched() is None
    assert outcomes in (["destroyed"], ["refused"])
    buffer.destroy()
    assert not buffer.alive


def test_deep_nesting_of_views(simulated_allocator: Allocator) -> None:
    with simulated_allocator.create_buffer(4096, TRANSFER, flags=RANDOM) as buffer:
        view = memoryview(buffer.map())
        for _ in range(4095):
            view = view[1:]
        view[0] = 7
        assert buffer.read(4095) == b"\x07"
        with pytest.raises(BufferError):
            buffer.destroy()
        view.release()
        del view
        gc.collect()


def test_a_copy_of_a_buffer_to_itself_through_its_own_view(
    simulated_allocator: Allocator,
) -> None:
    with simulated_allocator.create_buffer(200_000, TRANSFER, flags=RANDOM) as buffer:
        buffer.write(pattern(200_000))
        with buffer.map() as view:
            # Overlapping, and above the size from which other threads run.
            buffer.write(view[:100_000], 50_000)
            expected = pattern(200_000)
            expected = expected[:50_000] + expected[:100_000] + expected[150_000:]
            assert bytes(view) == expected
        assert buffer.read() == expected


def test_sizes_at_the_edge_of_the_machine(make_simulated: Callable[..., SimulatedDevice]) -> None:
    device = make_simulated(
        heaps=[(2**64 - 1, 1)], types=[(0, 15)], max_memory_allocation_size=2**64 - 1
    )
    for size in (2**64 - 1, 2**63, 2**63 - 1, 2**62):
        for block in (None, 1, 2**64 - 1, 2**63):
            with Allocator(device, preferred_block_size=block) as allocator:
                memory = allocator.allocate_memory(size, flags=DEDICATED)
                assert memory.size == size
                # More than the host has; each is an error, not an end.
                for use in (memory.read, memory.map, lambda it=memory: it.write(b"x", it.size - 1)):
                    with pytest.raises((VkMemError, MemoryError)):
                        use()
                memory.read(0, 0)
                memory.flush(size - 1)
                memory.free()
