"""A base for classes that own something: a copy would be a second owner."""

from __future__ import annotations

from typing import NoReturn


class NoCopies:
    """Raises `TypeError` for `copy`, `deepcopy` and `pickle`."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"cannot pickle or copy 'vk_mem.{type(self).__name__}' object")
