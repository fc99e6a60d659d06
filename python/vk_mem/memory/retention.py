"""Limits for the empty blocks that an allocator keeps."""

from __future__ import annotations

from dataclasses import dataclass

from vk_mem.errors import InvalidArgumentError

__all__ = ["EmptyBlockRetention"]


@dataclass(frozen=True, kw_only=True)
class EmptyBlockRetention:
    """Limits for empty blocks that are kept for later allocations, while a heap is within budget.

    `count` is in blocks of each memory type and of each pool, `size` in bytes of each heap, `share`
    a part of each heap's budget, from 0 to 1. None sets no limit; all limits apply together. The
    blocks of a pool's `min_block_count` are always kept.

    Raises `InvalidArgumentError` for a negative limit or a share above 1, `TypeError` if a limit is
    not a number.
    """

    count: int | None = None
    size: int | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        for name, limit in (("count", self.count), ("size", self.size)):
            if limit is None:
                continue
            if isinstance(limit, bool) or not hasattr(limit, "__index__"):
                raise TypeError(f"{name} must be an integer or None, not {type(limit).__name__}")
            if limit < 0:
                raise InvalidArgumentError(f"{name} is {limit}, below 0")
        if self.share is not None and (
            isinstance(self.share, bool) or not hasattr(self.share, "__float__")
        ):
            raise TypeError(f"share must be a number or None, not {type(self.share).__name__}")
        if self.share is not None and not 0 <= self.share <= 1:
            raise InvalidArgumentError(f"share is {self.share}, not from 0 to 1")
