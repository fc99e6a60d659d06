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
from vk_mem.trace.figures import (
    Calls,
    Difference,
    DriverCalls,
    FailedCall,
    Failures,
    HeapReport,
    Leftover,
    Leftovers,
    Peak,
    Placements,
    RecordedReport,
    Sample,
    Total,
)
from vk_mem.trace.load import load
from vk_mem.trace.recorded import Frame, Position
from vk_mem.trace.settings import ReplayKeywords
from vk_mem.trace.trace import Comparison, ReplayReport, Trace
from vk_mem.trace.usage import HeapUsage, Usage
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
    "Calls",
    "Columns",
    "Comparison",
    "Description",
    "Difference",
    "DriverCalls",
    "FailedCall",
    "Failure",
    "Failures",
    "Frame",
    "HeapReport",
    "HeapUsage",
    "ImageInfo",
    "Leftover",
    "Leftovers",
    "Object",
    "Peak",
    "Placement",
    "Placements",
    "Position",
    "RecordedReport",
    "ReplayKeywords",
    "ReplayReport",
    "Request",
    "Sample",
    "Total",
    "Trace",
    "TraceWarning",
    "Usage",
    "load",
    *_events,
]
