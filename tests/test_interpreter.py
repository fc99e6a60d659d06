"""Interpreter states: shutdown, subinterpreters, forks during a call, endless iterables."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import threading
import warnings

import pytest
from support import run_python

import vk_mem
from vk_mem import (
    Allocator,
    BufferUsage,
    Format,
    ImageUsage,
    InvalidArgumentError,
    SimulatedDevice,
    VirtualBlock,
)

STORAGE = BufferUsage.STORAGE_BUFFER

# Calls that import, raise, warn or name flags, made when modules are being taken down.
LATE = """
import atexit, builtins, os, sys
{first}
import vk_mem
from vk_mem import *
device = SimulatedDevice("discrete-8gib")
allocator = Allocator(device)
buffer = allocator.create_buffer(64, BufferUsage.STORAGE_BUFFER)
image = allocator.create_image(Format.R8G8B8A8_UNORM, (8, 8), ImageUsage.SAMPLED)
block = VirtualBlock(100)
kept = {{
    "destroy_many": lambda: allocator.destroy_many([None]),
    "free_memory_pages": lambda: allocator.free_memory_pages([None]),
    "create_buffers": lambda: allocator.create_buffers([None], 32),
    "create_buffer": lambda: allocator.create_buffer(object()),
    "allocate_many": lambda: block.allocate_many([None]),
    "free": lambda: block.free(12345),
    "usage": lambda: buffer.usage,
    "format": lambda: image.format,
    "memory_properties": lambda: buffer.allocation.memory_properties,
    "types": lambda: device.memory_properties.memory_types[0].property_flags,
    "device_type": lambda: device.properties.device_type,
    "leaks": lambda: allocator.leaks(),
    "statistics": lambda: str(allocator.calculate_statistics()),
    "snapshot": lambda: allocator.snapshot(),
    "create_pool": lambda: allocator.create_pool(memory_type_index=99),
    "SimulatedDevice": lambda: SimulatedDevice("none such"),
}}
def late(kept=kept, write=os.write):
    for name, call in kept.items():
        try:
            call()
            said = "fine"
        except BaseException as error:
            said = type(error).__name__
        write(1, f"{{name}} {{said}}\\n".encode())
class AtTheEnd:
    def __init__(self): self.late = late
    def __del__(self): self.late()
{when}
"""
ALLOWED = {"fine", "TypeError", "InvalidArgumentError", "UseAfterFreeError"}


@pytest.mark.parametrize(
    ("first", "when"),
    [
        ("atexit.register(lambda: late())", ""),
        ("", "atexit.register(late)"),
        ("", "held = AtTheEnd()"),
        ("", "builtins.held = AtTheEnd()"),
        ("", "sys.held = AtTheEnd()"),
        ("", "held = AtTheEnd(); held.itself = held"),
    ],
    ids=["atexit before import", "atexit", "a global", "builtins", "sys", "a cycle"],
)
@pytest.mark.parametrize("wrapped", [False, True], ids=["closed at exit", "left open"])
def test_calls_at_the_end_raise_what_they_always_raise(
    first: str, when: str, wrapped: bool
) -> None:
    if wrapped:
        # Nothing closes it at exit, as if its device were a wrapped one.
        when = "atexit.unregister(vk_mem._vk_mem._close_all_at_exit)\n" + when
    done = run_python(LATE.format(first=first, when=when))
    assert done.returncode == 0, done.stderr
    assert "panicked" not in done.stderr and "ImportError" not in done.stderr, done.stderr
    said = dict(line.split() for line in done.stdout.splitlines())
    assert len(said) == 16
    assert set(said.values()) <= ALLOWED, said


def test_threads_inside_of_a_call_end_with_the_interpreter() -> None:
    """Python before 3.14 unwinds them, which no frame of Rust survives."""
    program = """
import threading, time, vk_mem
from vk_mem import *
device = SimulatedDevice("discrete-8gib")
allocator = Allocator(device, track_call_sites=True)
buffers = allocator.create_buffers([64] * 200, BufferUsage.STORAGE_BUFFER)
block = VirtualBlock(100)
def work():
    calls = (
        allocator.leaks, allocator.snapshot, lambda: block.free(12345),
        lambda: allocator.create_buffer(0, 1),
    )
    while True:
        for call in calls:
            try:
                call()
            except VkMemError:
                pass
for _ in range(6):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.02)
"""
    for _ in range(10):
        done = run_python(program, "-W", "ignore")
        assert (done.returncode, done.stderr) == (0, "")


def subinterpreters() -> str:
    if sys.version_info >= (3, 13):
        return "import _interpreters as made\nrun = made.exec"
    return "import _xxsubinterpreters as made\nrun = made.run_string"


@pytest.mark.parametrize("first", ["", "import vk_mem\n"], ids=["before", "after"])
def test_a_subinterpreter_is_refused_with_a_reason(first: str) -> None:
    program = f"""
{first}
{subinterpreters()}
inside = made.create()
said = None
try:
    said = run(inside, "import vk_mem")
except BaseException as error:
    said = error
# The first is ours; CPython since 3.12 has words of its own.
reasons = "cannot be imported in a subinterpreter", "does not support loading in subinterpreters"
assert any(it in str(said) for it in reasons), said
import vk_mem
with vk_mem.Allocator(vk_mem.SimulatedDevice()) as allocator:
    with allocator.create_buffer(64, vk_mem.BufferUsage.STORAGE_BUFFER) as buffer:
        assert buffer.usage == vk_mem.BufferUsage.STORAGE_BUFFER
print("over")
"""
    done = run_python(program)
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr


class Forks:
    """Forks when it is asked for its number, or for its items."""

    def __init__(self, number: int = 64) -> None:
        self.number = number

    def __index__(self) -> int:
        self.child = os.fork()
        return self.number

    def __iter__(self):
        yield 64
        self.child = os.fork()
        yield 64


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(
    "call",
    [
        lambda allocator, block, it: allocator.create_buffer(it, STORAGE),
        lambda allocator, block, it: allocator.create_buffer(64, it),
        lambda allocator, block, it: allocator.create_buffers(it, STORAGE),
        lambda allocator, block, it: allocator.allocate_memory(it),
        lambda allocator, block, it: allocator.create_image(
            Format.R8G8B8A8_UNORM, (it, 4), ImageUsage.SAMPLED
        ),
        lambda allocator, block, it: block.allocate(it),
        lambda allocator, block, it: block.allocate_many(it),
        lambda allocator, block, it: allocator.set_current_frame_index(it),
    ],
    ids=[
        "size",
        "usage",
        "create_buffers",
        "allocate_memory",
        "create_image",
        "allocate",
        "allocate_many",
        "frame",
    ],
)
def test_a_fork_inside_of_a_call_ends_it_in_the_child(call) -> None:
    parent = os.getpid()
    with warnings.catch_warnings(), Allocator(SimulatedDevice("discrete-8gib")) as allocator:
        warnings.simplefilter("ignore", ResourceWarning)
        block, it = VirtualBlock(1 << 20), Forks()
        # Another thread is inside of a lock at that moment.
        done = threading.Event()

        def busy() -> None:
            while not done.is_set():
                block.validate()
                allocator.calculate_statistics()

        thread = threading.Thread(target=busy)
        thread.start()
        said = None
        try:
            call(allocator, block, it)
        except InvalidArgumentError as error:
            said = str(error)
        if os.getpid() != parent:
            with contextlib.suppress(BaseException):
                signal.alarm(20)
            os._exit(0 if said and "os.fork()" in said else 1)
        done.set()
        thread.join()
        _, status = os.waitpid(it.child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        # The parent goes on as if nothing had happened.
        assert said is None


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (
            lambda allocator, ones: allocator.create_image(
                Format.R8G8B8A8_UNORM, ones, ImageUsage.SAMPLED
            ),
            "extent has more than 3 items",
        ),
        (
            lambda allocator, ones: allocator.create_buffer(64, STORAGE, queue_family_indices=ones),
            "queue_family_indices has more than",
        ),
        (lambda allocator, ones: allocator.create_buffers(ones, STORAGE), "more than 1048576"),
        (lambda allocator, ones: Allocator(SimulatedDevice(), heap_size_limits=ones), "16 items"),
        (
            lambda allocator, ones: SimulatedDevice(heaps=((1, 1) for _ in ones), types=[(0, 1)]),
            "heaps has more than",
        ),
        (
            lambda allocator, ones: SimulatedDevice(
                heaps=[(1 << 30, 1)], types=((0, 1) for _ in ones)
            ),
            "types has more than",
        ),
        (
            lambda allocator, ones: vk_mem.Device.open(extensions=("x" for _ in ones)),
            "extensions has more than",
        ),
        (lambda allocator, ones: VirtualBlock(1 << 40).allocate_many(ones), "more than 1048576"),
    ],
    ids=["extent", "families", "buffers", "limits", "heaps", "types", "extensions", "virtual"],
)
def test_endless_iterators_end(call, what: str) -> None:
    device = SimulatedDevice("discrete-8gib")
    with Allocator(device) as allocator, pytest.raises(InvalidArgumentError, match=what):
        call(allocator, itertools.repeat(1))


def test_a_close_from_inside_of_a_sample_is_refused() -> None:
    """A sample may drop the last reference of a buffer, and the hook of its warning closes."""
    program = """
import threading, warnings, vk_mem
from vk_mem import *
allocator = Allocator(SimulatedDevice("discrete-8gib"))
said = []
def hook(*args, **kwargs):
    try:
        allocator.close()
        said.append("closed")
    except BufferError as error:
        said.append(str(error))
warnings.simplefilter("always")
warnings.showwarning = hook
buffers = [allocator.create_buffer(64, BufferUsage.STORAGE_BUFFER) for _ in range(20000)]
ended = threading.Event()
def drop():
    while buffers:
        buffers.pop()
    ended.set()
thread = threading.Thread(target=drop)
thread.start()
while not ended.is_set() and not allocator.closed:
    try:
        allocator._sample(3)
    except UseAfterFreeError:
        break
thread.join()
allocator.close()
print("over")
"""
    done = run_python(program)
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr
