"""With what a trace is replayed: keywords, checked by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from vk_mem._lazy import load
from vk_mem.errors import InvalidArgumentError
from vk_mem.text import nearest

if TYPE_CHECKING:
    from vk_mem._vk_mem import Device, _TraceData
    from vk_mem.debugging.options import Debug
    from vk_mem.memory.retention import EmptyBlockRetention

__all__ = ["ReplayKeywords", "SettingKeywords", "native_settings", "settings_list"]


class SettingKeywords(TypedDict, total=False):
    """Settings of a replay beside its device."""

    algorithm: str | None
    """How all blocks are divided: "tlsf", "linear" or "buddy"."""
    block_size: int | None
    """Size of blocks in heaps above 1 GiB, and of all pools, in bytes."""
    small_heap_block_size: int | None
    """Size of blocks in heaps up to 1 GiB, in bytes."""
    retention: int | float | EmptyBlockRetention | None
    """The empty blocks that are kept, as `Allocator(empty_block_retention=)`."""
    heap_size_limits: Iterable[int | None] | None
    """`[i]` limits the bytes allocated from heap i; None sets no limit."""
    budgets: Iterable[int] | None
    """Budget of each heap in bytes, as the driver reports it."""
    debug: Debug | None
    """Margins, quarantine, granularity and dedicated memory, in all pools; other parts of it do
    nothing here."""
    min_alignment: int | None
    """Least alignment of all allocations in bytes, a power of two: `VMA_MIN_ALIGNMENT`."""
    exceed_allocation_count: bool | None
    """Whether more than `maxMemoryAllocationCount` memory objects may be allocated."""
    frames_in_use: int | None
    """Frames after its last use in which what may be lost is not."""
    inject_failures: bool | None
    """Whether the driver fails where it failed in the recording; True by default. Only as
    recorded."""
    threads: Literal["one", "recorded"] | None
    """All calls in their order on one thread, or those of each recorded thread on one of its
    own."""
    clock: Literal["full", "recorded"] | float | None
    """At full speed, at the times that were recorded, or so many times as fast."""
    until: int | str | None
    """The event to stop before, by its index, or "line 120" of a text file."""
    samples: int | None
    """Number of moments at which fragmentation is measured; 100 by default."""
    record: bool | None
    """Whether the replay is recorded: `ReplayReport.trace`. On one thread only."""
    name: str | None
    """Name for tables."""


class ReplayKeywords(SettingKeywords, total=False):
    """Settings of a replay. What is None or left out is as recorded; where the trace does not say
    it, the default of an `Allocator`."""

    device: Device | str | None
    """A profile of `SimulatedDevice`, a `SimulatedDevice`, whose description counts, a `Device`, on
    which memory is really allocated, or "gpu" for the best one. By default a simulated device as
    the trace describes it; where it describes none, one that fits its kind."""


def native_settings(data: _TraceData, given: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Returns settings as the native module reads them; `where` says whose they are, for errors."""
    known = ReplayKeywords.__annotations__
    for key in given:
        if key not in known:
            hint = "".join(f"; did you mean {it}?" for it in nearest(str(key), known, 1))
            raise InvalidArgumentError(f"{where}no setting of a replay is named {key!r}{hint}")
    settings = dict(given)
    if (device := settings.get("device")) is not None and isinstance(device, str):
        settings["device"] = _device(device)
    if isinstance(until := settings.get("until"), str):
        settings["until"] = _event_of(data, until)
    return settings


def _device(name: str) -> Any:
    if name != "gpu":
        return name
    return load("vk_mem").Device.open()


def _event_of(data: _TraceData, until: str) -> int:
    line = re.fullmatch(r"line (\d{1,18})", until.strip())
    if not line:
        raise InvalidArgumentError(f"until is the index of an event or 'line 120', not {until!r}")
    event = data.event_of_line(int(line[1]))
    if event is None:
        raise InvalidArgumentError("until is the index of an event: the trace is of no text file")
    return event


def settings_list(
    data: _TraceData, settings: Mapping[str, Mapping[str, Any]] | Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Returns several settings, which have names of their own or get their keys, or numbers, as
    names."""
    named: list[tuple[str, object]]
    if isinstance(settings, Mapping):
        named = [(str(name), it) for name, it in settings.items()]
    else:
        named = [(f"settings {number}", it) for number, it in enumerate(settings)]
    found = []
    for name, it in named:
        if not isinstance(it, Mapping):
            kind = type(it).__name__
            raise InvalidArgumentError(f"{name}: settings are a mapping of names, not {kind}")
        found.append({"name": name, **native_settings(data, it, f"{name}: ")})
    return found
