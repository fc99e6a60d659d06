"""`Finding`: one thing about a machine that is worth knowing, and what to do about it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

__all__ = ["Finding", "Weight"]


class Weight(enum.IntEnum):
    """How much a finding matters; reports begin with the largest."""

    NOTE = 1
    """Good to know; nothing is wrong."""
    CARE = 2
    """Programs may meet trouble here unless they are prepared for it."""
    SLOW = 3
    """Programs run, and much slower than they could."""
    BROKEN = 4
    """Something that ought to work does not."""


@dataclass(frozen=True)
class Finding:
    """What was found, why it matters, and what to do."""

    key: str
    """A short name that stays the same from one version to the next."""
    weight: Weight
    what: str
    why: str
    do: str
    setting: str = ""
    """The setting of vk-mem, as a Python expression in which `device`, `allocator`, `size` and
    `usage` are the program's own."""
    command: str = ""
    """What to type into a shell."""
    seen_in: tuple[str, ...] = ()
    """Programs whose users met it, with the numbers of issues in their trackers."""

    def as_json(self) -> dict[str, Any]:
        """Returns the finding as values that JSON has."""
        return {
            "key": self.key,
            "weight": self.weight.name,
            "what": self.what,
            "why": self.why,
            "do": self.do,
            "setting": self.setting or None,
            "command": self.command or None,
            "seen_in": list(self.seen_in),
        }
