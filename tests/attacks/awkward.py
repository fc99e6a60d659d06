"""States in which a program may end, and ways to end it, as pieces of source code."""

from __future__ import annotations

import os
import signal
import socket
from typing import NamedTuple

from systems import WINDOWS

__all__ = ["COME_LAST", "ENDS", "START", "STATES", "End"]

START = """
import atexit, builtins, contextlib, gc, os, signal, sys, threading, time, warnings, weakref
EARLY = []
# Runs after everything that is registered later, so after the package has closed all.
atexit.register(lambda: [it() for it in EARLY])
import vk_mem
from vk_mem import *
RANDOM = AllocationCreateFlags.HOST_ACCESS_RANDOM
MAPPED = AllocationCreateFlags.MAPPED
device = {device}
allocator = Allocator(device, frames_in_flight=2, track_call_sites=True)
buffer = allocator.create_buffer(64, 3, flags=RANDOM | MAPPED, name="left open")
image = allocator.create_image(37, (8, 8), 3)
pool = allocator.create_pool(memory_type_index=buffer.allocation.memory_type_index)
inside = allocator.create_buffer(64, 3, pool=pool)
block = VirtualBlock(1 << 20)
kept = []

def exhaust(allocator):
    index = allocator.find_memory_type_index_for_buffer_info(4096, 3)
    small = allocator.create_pool(memory_type_index=index, block_size=4096, max_block_count=1)
    for _ in range(2):
        kept.append(allocator.create_buffer(4096, 3, pool=small))

def use(allocator=allocator, buffer=buffer, image=image, pool=pool, block=block, device=device):
    for call in (
        lambda: allocator.create_buffer(64, 3).destroy(),
        lambda: allocator.create_buffers([64, None], 3),
        lambda: allocator.create_image(37, (4, 4), 3).retire(),
        lambda: allocator.allocate_memory(100, name="x" * 99).free(),
        lambda: buffer.write(b"x"), buffer.read, lambda: buffer.map().close(),
        lambda: (buffer.usage, image.format, buffer.name, repr(buffer), repr(allocator)),
        allocator.leaks, allocator.snapshot, allocator.heap_budgets, allocator.validate,
        lambda: str(allocator.calculate_statistics()), allocator.trim, pool.statistics,
        lambda: allocator.set_current_frame_index(allocator.current_frame_index + 1),
        lambda: device.copy_buffer(buffer, buffer, 8, target_offset=32),
        lambda: block.allocate(64).free(), lambda: block.free(12345),
        lambda: allocator.destroy_many([None]), lambda: Allocator(device).close(),
    ):
        try:
            call()
        except (VkMemError, TypeError, BufferError):
            pass
"""

STATES: dict[str, str] = {
    "nothing": "",
    "a closed allocator": """
# Refused where something else is open.
with contextlib.suppress(BufferError, InvalidArgumentError):
    for it in (buffer, image, inside): it.destroy()
    pool.close(); allocator.close()
""",
    "daemon threads in calls": """
def work(use=use):
    while True:
        use()
for _ in range(4): threading.Thread(target=work, daemon=True).start()
time.sleep(0.02)
""",
    "a daemon thread in a call of the driver": """
def slow(dedicated=AllocationCreateFlags.DEDICATED_MEMORY, create=allocator.create_buffer):
    # It ends when the allocator is closed.
    with contextlib.suppress(UseAfterFreeError):
        while True:
            create(4096, 3, flags=dedicated).destroy()
if isinstance(device, SimulatedDevice): device.set_latency(0.2, "vkAllocateMemory")
threading.Thread(target=slow, daemon=True).start()
time.sleep(0.02)
""",
    "a thread that nobody joins": """
def later(use=use):
    time.sleep(0.1)
    use()
threading.Thread(target=later).start()
""",
    "an executor with work left": """
from concurrent.futures import ThreadPoolExecutor
executor = ThreadPoolExecutor(2)
for _ in range(6): executor.submit(use)
""",
    "locals of a thread": """
def holds():
    own.buffer = allocator.create_buffer(64, 3)
    own.view = memoryview(buffer.map())
    time.sleep(60)
own = threading.local()
threading.Thread(target=holds, daemon=True).start()
time.sleep(0.02)
""",
    "mappings and views": """
mapping = buffer.map()
views = [memoryview(mapping), buffer.mapped, memoryview(buffer.map(readonly=True))[3:]]
""",
    "a view in builtins": "builtins.view = memoryview(buffer.map())",
    "a view in a cycle": "cycle = [memoryview(buffer.map())]; cycle.append(cycle)",
    "calls in atexit": "atexit.register(use)",
    "calls in atexit after all": "EARLY.append(use)",
    "threads in atexit": """
def starts(use=use):
    try:
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    except RuntimeError:
        pass  # no new thread at this time, from Python 3.12 on
atexit.register(starts); EARLY.append(starts)
""",
    "a finaliser in a global": """
class Late:
    def __init__(self): self.use = use
    def __del__(self): self.use()
late = Late()
""",
    "a finaliser in builtins": """
class Last:
    def __init__(self): self.use = use
    def __del__(self): self.use()
builtins.last = Last()
""",
    "a finaliser in a cycle of modules": """
class Module:
    def __init__(self): self.use, self.itself = use, self
    def __del__(self): self.use()
sys.modules["awkward"] = Module()
""",
    "a finaliser as user data": """
class Data:
    def __init__(self): self.use = use
    def __del__(self): self.use()
buffer.user_data, image.user_data, inside.user_data = Data(), Data(), [Data(), buffer]
block.allocate(64, user_data=Data())
""",
    "a finaliser that closes": """
class Closes:
    def __init__(self): self.close = allocator.close
    def __del__(self):
        try: self.close()
        except BufferError: pass
builtins.closes = Closes()
""",
    "weakref.finalize": """
def close(close=allocator.close):
    # While a view is open it is refused.
    with contextlib.suppress(BufferError): close()
weakref.finalize(buffer, use); weakref.finalize(use, close)
""",
    "a handler that raises": """
def raises(*_): raise ZeroDivisionError("of a handler")
allocator.on_out_of_memory(raises)
try:
    exhaust(allocator)
    print("not reached")
except ZeroDivisionError: pass
""",
    "a handler in a cycle": """
class Handler:
    def __init__(self): self.allocator = allocator
    def free(self, error): return False
    def pressure(self, heap, budget): self.allocator.trim()
handler = Handler()
allocator.on_out_of_memory(handler.free); allocator.on_pressure(handler.pressure, 0.0001)
""",
    "a generator left open": """
def frames():
    with allocator.create_buffer(64, 3, flags=RANDOM) as one, one.map() as view:
        try:
            while True:
                yield view
        finally:
            use()
running = frames(); next(running)
""",
    "a measurement left open": "vk_mem.statistics(allocator, profile=True).__enter__()",
    "a statistics server": """
import tempfile
folder = tempfile.mkdtemp()
atexit.register(lambda: os.path.isdir(folder) and os.rmdir(folder))
server = vk_mem.serve_stats(folder + "/s", allocator)
atexit.register(server.close)
""",
    "slices of a heap of buffers": """
heap = BufferHeap(allocator, 3, block_size=1 << 14, flags=RANDOM)
slices = [heap.allocate(500) for _ in range(9)]
seen = [it.mapped for it in slices[:4]]
slices[8].free()
""",
    "things that were retired or dropped": """
for _ in range(5): allocator.create_buffer(64, 3).retire()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for _ in range(5): allocator.create_buffer(64, 3)
    gc.collect()
""",
    "aliases and borrowed memory": """
base = allocator.create_buffer(4096, 3, flags=AllocationCreateFlags.CAN_ALIAS)
alias = allocator.create_aliasing_buffer(base, 64, 3)
unbound = allocator.create_buffer(64, 3, flags=AllocationCreateFlags.DONT_BIND)
memory = allocator.allocate_memory_for_buffer(unbound, bind=True)
""",
    "a close that was refused": """
held = memoryview(buffer.map())
try: allocator.close()
except BufferError: pass
""",
    "a hook of the collector": """
def collected(phase, info, use=use):
    if phase == "start": use()
gc.callbacks.append(collected)
""",
    "a profiler": """
def profile(frame, event, argument, allocator=allocator):
    if event == "return" and not allocator.closed: allocator.calculate_statistics()
sys.setprofile(profile)
""",
    "a module taken away": """
for name in [it for it in sys.modules if it.partition(".")[0] == "vk_mem"]: del sys.modules[name]
""",
    "closed by hand": "vk_mem._vk_mem._close_all_at_exit(); use()",
    "a signal at the end": """
def alarm(*_, use=use, again=signal.setitimer, what=signal.ITIMER_REAL):
    use()
    # Only now, so that there is time for something else.
    again(what, 0.002)
signal.signal(signal.SIGALRM, alarm)
signal.setitimer(signal.ITIMER_REAL, 0.002)
atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)
""",
    "a device lost on the way": """
if isinstance(device, SimulatedDevice):
    device.fail_next("vkAllocateMemory", 1, -4)
    try: allocator.create_buffer(4096, 3, flags=AllocationCreateFlags.DEDICATED_MEMORY)
    except VkMemError: pass
""",
    "a child that exits": """
child = os.fork()
if child == 0: sys.exit(21)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 21
""",
    "a child that calls and ends": """
sys.stdout.flush()
child = os.fork()
if child == 0:
    use()
    del buffer, image, inside
    gc.collect()
    os._exit(22)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 22
""",
    "a child of a thread": """
def forks():
    child = os.fork()
    if child == 0:
        use()
        os._exit(23)
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
statuses = []
thread = threading.Thread(target=forks); thread.start(); thread.join()
assert statuses == [23]
""",
}

NEEDS = {
    "setitimer": hasattr(signal, "setitimer"),
    "os.fork": hasattr(os, "fork"),
    "serve_stats": hasattr(socket, "AF_UNIX"),
}
for missing in (it for it, there in NEEDS.items() if not there):
    STATES = {name: code for name, code in STATES.items() if missing not in code}

COME_LAST = ("a closed allocator", "closed by hand", "a module taken away")
"""Nothing else can be set up after these."""


class End(NamedTuple):
    """How it ends."""

    code: str
    status: int
    said: str = ""
    """What the last line on standard error contains."""


ENDS: dict[str, End] = {
    "the last line": End("", 0),
    "sys.exit": End("sys.exit(3)", 3),
    "sys.exit with a text": End("sys.exit('a text')", 1, "a text"),
    "an exception": End("raise LookupError('mine')", 1, "LookupError: mine"),
    "os._exit": End("os._exit(5)", 5),
    "sys.exit inside of with": End(
        """
with Allocator(device) as other, other.create_buffer(64, 3, flags=RANDOM) as one:
    with one.map() as inner:
        sys.exit(4)
""",
        4,
    ),
    "sys.exit in a handler": End(
        """
def leaves(error): sys.exit(6)
allocator = Allocator(device)
allocator.on_out_of_memory(leaves)
exhaust(allocator)
""",
        6,
    ),
    "sys.exit in a number": End(
        """
class Leaves:
    def __index__(self): sys.exit(7)
Allocator(device).create_buffer(Leaves(), 3)
""",
        7,
    ),
    "sys.exit in items": End(
        """
def items():
    yield 64
    sys.exit(8)
Allocator(device).create_buffers(items(), 3)
""",
        8,
    ),
    # On Windows it is STATUS_CONTROL_C_EXIT.
    "KeyboardInterrupt": End(
        "raise KeyboardInterrupt", 0xC000013A if WINDOWS else -2, "KeyboardInterrupt"
    ),
    "a signal that kills": End("os.kill(os.getpid(), signal.SIGKILL)", -9),
    "another program": End(
        """
signal.setitimer(signal.ITIMER_REAL, 0)  # it would go on
os.execv(sys.executable, [sys.executable, "-c", "exit(9)"])
""",
        9,
    ),
    "sys.exit in a thread": End(
        "thread = threading.Thread(target=sys.exit, args=(9,)); thread.start(); thread.join()", 0
    ),
}
if WINDOWS:
    # It has no such signal, and there `os.execv` starts a process beside this one.
    del ENDS["a signal that kills"], ENDS["another program"]
