"""Formats parts of a dump as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vk_mem.text import count_text, percent, size_text

if TYPE_CHECKING:
    from vk_mem.dump.evictions import EvictionStatistics
    from vk_mem.dump.held import DebugStatistics
    from vk_mem.dump.model import Figures

MOST_FLAGS = 64
"""Flags shown of a heap, type or pool; Vulkan's flags have at most as many bits."""


def figures_text(figures: Figures) -> str:
    """`12 allocations of 3 MiB in 2 blocks of 4 MiB, 75 % used`"""
    used, held = figures.allocation_bytes, figures.block_bytes
    return (
        f"{count_text(figures.allocation_count, 'allocation')} of {size_text(used)} in "
        f"{count_text(figures.block_count, 'memory object')} of {size_text(held)}, "
        f"{percent(used, held)} used"
    )


def evictions_text(it: EvictionStatistics) -> str:
    """`4 allocations that may be lost, of 3 MiB; 1 lost, of 1 MiB; 7 lost so far`"""
    return (
        f"{count_text(it.evictable_count, 'allocation')} that may be lost, of "
        f"{size_text(it.evictable_bytes)}; {it.lost_count:,} lost, of {size_text(it.lost_bytes)}; "
        f"{it.loss_count:,} lost so far"
    )


def debug_text(it: DebugStatistics) -> str:
    """`12 margins of 192 B; 3 allocations in quarantine, of 16.7 KiB`"""
    return (
        f"{count_text(it.margin_count, 'margin')} of {size_text(it.margin_bytes)}; "
        f"{count_text(it.quarantined_count, 'allocation')} in quarantine, of "
        f"{size_text(it.quarantined_bytes)}"
    )


def flags_text(flags: tuple[str, ...]) -> str:
    """`device local, host visible`"""
    more = ["…"] if len(flags) > MOST_FLAGS else []
    return ", ".join([*(it.lower().replace("_", " ") for it in flags[:MOST_FLAGS]), *more])
