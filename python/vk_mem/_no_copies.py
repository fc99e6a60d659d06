"""For classes of which a copy would be a second owner of the same thing."""

from __future__ import annotations

from typing import NoReturn


class NoCopies:
    """Refuses `copy`, `deepcopy` and `pickle`."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"cannot pickle or copy 'vk_mem.{type(self).__name__}' object")
