"""Traces: what a program asked an allocator for, when, and what it was answered.

    trace = vk_mem.trace.load("game.vkmem")
    for event in trace:
        match event:
            case vk_mem.trace.Allocate(size=size, name=name): ...
    print(trace.replay("integrated"))

`load` reads recordings of this library and of the Vulkan Memory Allocator, logs of the RAPIDS
Memory Manager and memory snapshots of PyTorch. Sizes are in bytes, times in nanoseconds since the
start.
"""

from vk_mem.trace.columns import Columns
from vk_mem.trace.description import Description, TraceWarning
from vk_mem.trace.events import *  # noqa: F403
from vk_mem.trace.events import __all__ as _events
from vk_mem.trace.load import load
from vk_mem.trace.trace import Trace
from vk_mem.trace.values import (
    BufferInfo,
    Failure,
    ImageInfo,
    Object,
    Placement,
    Request,
)

__all__ = [
    "BufferInfo",
    "Columns",
    "Description",
    "Failure",
    "ImageInfo",
    "Object",
    "Placement",
    "Request",
    "Trace",
    "TraceWarning",
    "load",
    *_events,
]
