"""Little address space left: out-of-memory errors, after which the process continues."""

from __future__ import annotations

import sys

import pytest
from support import run_python

START = """
import resource, sys
import vk_mem

def least_space():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

def limited(more, run):
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (least_space() + more, before[1]))
    try:
        return run()
    except vk_mem.OutOfHostMemoryError as error:
        assert isinstance(error, MemoryError)
        return "out of host memory"
    except MemoryError:
        return "MemoryError"
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)

MIB = 1 << 20
device = vk_mem.SimulatedDevice("discrete-8gib")
allocator = vk_mem.Allocator(device)
"""

PROGRAMS = {
    "a name": """
buffer = allocator.create_buffer(64, 32)
name = "x" * (64 * MIB)
def rename():
    buffer.name = name
print(limited(16 * MIB, rename))
buffer.name = "short"
assert buffer.name == "short"
buffer.destroy()
""",
    "a virtual block": """
block = vk_mem.VirtualBlock(1 << 40)
held = []
def fill():
    while True:
        held.append(block.allocate(16).handle)
print(limited(24 * MIB, fill))
handles = held[:]
for handle in handles:
    block.free(handle)
block.validate()
# Python may have had no memory for the handle of the last one.
assert block.allocated in (0, 16)
""",
    "statistics of a virtual block": """
block = vk_mem.VirtualBlock(1 << 40)
block.allocate_many([16] * 400_000)
print(limited(8 * MIB, block.build_stats_string))
assert len(block.build_stats_string()) > MIB
""",
    "a pool of many blocks": """
def make():
    allocator.create_pool(memory_type_index=0, block_size=4096, min_block_count=1 << 30)
print(limited(16 * MIB, make))
allocator.create_pool(memory_type_index=0, block_size=4096, min_block_count=3).close()
""",
}


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is Linux's")
@pytest.mark.parametrize("name", PROGRAMS)
def test_without_host_memory(name: str) -> None:
    ended = run_python(START + PROGRAMS[name] + "allocator.close()\nprint('over')\n")
    assert ended.returncode == 0, ended.stderr
    first, last = ended.stdout.split("\n")[:2]
    assert first in ("out of host memory", "MemoryError"), ended.stdout
    assert last == "over"
