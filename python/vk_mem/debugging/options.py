"""`Debug`: what an allocator does to find the faults of a program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from operator import index
from typing import Any, Literal, TypeVar, get_args

from vk_mem.debugging.sizes import frames_of, size_of
from vk_mem.errors import InvalidArgumentError
from vk_mem.text import counted, nearest

__all__ = ["Check", "Contents", "Debug", "refuse_all_but"]

Contents = Literal["pattern", "zero", "nan"]
Check = Literal["free", "frame", "call"]

DEFAULT_MARGIN = 16
"""Bytes of a margin where corruption is to be detected and no margin is given."""
LARGEST_MARGIN = 16 << 20
LARGEST_GRANULARITY = 1 << 30
LARGEST_NUMBER = (1 << 64) - 1

_Class = TypeVar("_Class", bound=type)


def _with_hints(cls: _Class) -> _Class:
    """Lets the message for an unknown keyword of a dataclass name the nearest one that is known."""
    make: Callable[..., None] = vars(cls)["__init__"]
    known = [it.name for it in fields(cls)]

    @wraps(make)
    def __init__(self: object, *positional: object, **given: object) -> None:
        for keyword in given:
            if keyword not in known:
                meant = nearest(keyword, known, 1)
                hint = f"; did you mean {meant[0]}=?" if meant else f"; it has {', '.join(known)}"
                raise TypeError(
                    f"{cls.__name__}() got an unexpected keyword argument {keyword[:80]!r}{hint}"
                )
        make(self, *positional, **given)

    type.__setattr__(cls, "__init__", __init__)
    return cls


@_with_hints
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Debug:
    """What an allocator, a pool, a virtual block or a buffer heap does to find a program's faults.

    All is off by default. `VK_MEM_DEBUG` says the same for a program that nobody changes.

    Raises `InvalidArgumentError` for a value that is not allowed, `TypeError` for another type.
    """

    fill: Contents | int | None = None
    """What new memory is filled with: "pattern" (bytes 0xDC, as VMA does), "zero", "nan" (all bits
    set, which is NaN in each floating-point format) or a byte from 0 to 255. None leaves it."""
    fill_on_free: Contents | int | None = None
    """What freed memory is filled with, likewise; "pattern" is bytes 0xEF, as VMA does. In
    quarantine None means "pattern". Left out where a handle of the memory was exported."""
    margin: int = 0
    """Bytes before and behind each allocation that nobody may write: a multiple of 4, at most 16
    MiB; in a `VirtualBlock` units. More where an alignment leaves room. Aliases have none of their
    own: they lie between those of the allocation whose memory they use."""
    detect_corruption: bool = False
    """Whether margins are written and checked. Without a margin it is 16 bytes."""
    quarantine: int | str | None = None
    """How long freed memory is not given out again: until more than so many bytes of its pool are
    waiting (a number, or "64M" or "64 MiB" of 1024 * 1024 bytes each), or for some frames ("3
    frames")."""
    check: Check = "free"
    """When margins and quarantine are checked: those of an allocation when it is freed ("free"),
    besides all of them at each frame ("frame"), or at each call ("call")."""
    min_granularity: int | None = None
    """The least `bufferImageGranularity` in bytes, a power of two of at most 1 GiB."""
    always_dedicated: bool = False
    """Whether each allocation gets a memory object of its own, unless it is `NEVER_ALLOCATE`."""
    poison_unmapped: bool = False
    """Whether memory reads as a pattern through the address of a mapping that has ended: on
    simulated devices only. It stays so until the device is gone."""
    strict_host_access: bool = False
    """Whether the host is refused what only some devices allow, as `strict_host_access` of the
    `Allocator` does, which wins over this."""

    def __post_init__(self) -> None:
        for name in SWITCHES:
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise TypeError(f"{name} must be a bool, not {type(value).__name__}")
        for name in ("fill", "fill_on_free"):
            self._set(name, _contents(name, getattr(self, name)))
        what = f"a multiple of 4, at most 16 MiB ({LARGEST_MARGIN} bytes)"
        margin = _number("margin", self.margin, what)
        if margin % 4 or margin > LARGEST_MARGIN:
            raise InvalidArgumentError(f"margin is {margin}; it is {what}")
        if self.detect_corruption and margin == 0:
            margin = DEFAULT_MARGIN
        self._set("margin", margin)
        self._set("quarantine", _quarantine(self.quarantine))
        _one_of("check", self.check, get_args(Check))
        granularity = self.min_granularity
        if granularity is not None:
            what = f"a power of two of at most {LARGEST_GRANULARITY} bytes"
            granularity = _number("min_granularity", granularity, what)
            if granularity.bit_count() != 1 or granularity > LARGEST_GRANULARITY:
                raise InvalidArgumentError(f"min_granularity is {granularity}; it is {what}")
            self._set("min_granularity", granularity)

    def __repr__(self) -> str:
        values = ((it.name, getattr(self, it.name), it.default) for it in fields(self))
        given = (f"{name}={value!r}" for name, value, default in values if value != default)
        return f"Debug({', '.join(given)})"

    def _set(self, name: str, value: object) -> None:
        # The dataclass is frozen for everybody else.
        object.__setattr__(self, name, value)

    def _quarantine_limits(self) -> tuple[int | None, int | None]:
        """Returns the limit in bytes and the limit in frames, one of which is None."""
        limit = self.quarantine
        return (None, frames_of(limit)) if isinstance(limit, str) else (limit, None)


SWITCHES = ("detect_corruption", "always_dedicated", "poison_unmapped", "strict_host_access")


def refuse_all_but(debug: object, allowed: tuple[str, ...], what: str) -> Debug:
    """Returns a `Debug` if nothing is set in it but what is allowed for `what`.

    Raises `TypeError` for any other object, `InvalidArgumentError` that names what else is set.
    """
    if not isinstance(debug, Debug):
        raise TypeError(f"debug must be a vk_mem.Debug, not {type(debug).__name__}")
    for field in fields(debug):
        if field.name not in allowed and getattr(debug, field.name) != field.default:
            *first, last = allowed
            listed = f"{', '.join(first)} and {last}" if first else last
            raise InvalidArgumentError(
                f"{field.name} is not for {what}, whose debug= has {listed} only"
            )
    return debug


def _number(name: str, value: Any, what: str) -> int:
    """Returns a number that 64 bits hold; `what` says which numbers are allowed."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    number = index(value)
    if not 0 <= number <= LARGEST_NUMBER:
        shown = number if number.bit_length() <= 128 else "a huge number"
        raise InvalidArgumentError(f"{name} is {shown}; it is {what}")
    return number


def _contents(name: str, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, str):
        return _one_of(name, value, get_args(Contents), " or a byte from 0 to 255")
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        kind = type(value).__name__
        raise TypeError(f"{name} must be a text, a byte from 0 to 255 or None, not {kind}")
    what = "a byte from 0 to 255, 'pattern', 'zero' or 'nan'"
    byte = _number(name, value, what)
    if byte > 255:
        raise InvalidArgumentError(f"{name} is {byte}; it is {what}")
    return byte


def _one_of(name: str, value: Any, allowed: tuple[str, ...], more: str = "") -> str:
    listed = ", ".join(f"'{it}'" for it in allowed)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {listed}, not {type(value).__name__}")
    if value not in allowed:
        meant = nearest(value, allowed, 1)
        hint = f"; did you mean '{meant[0]}'?" if meant else ""
        raise InvalidArgumentError(f"{name} is {value[:80]!r}, not one of {listed}{more}{hint}")
    return str(value)


def _quarantine(value: Any) -> int | str | None:
    """Returns bytes as a number, frames as a text such as `3 frames`."""
    if value is None:
        return None
    frames = None
    what = "a number of bytes from 1 on, a text such as '64M', or frames such as '3 frames'"
    if isinstance(value, str):
        frames, size = frames_of(value), size_of(value)
        if frames is None and size is None:
            raise InvalidArgumentError(f"quarantine is {value[:80]!r}; it is {what}")
        number = _number("quarantine", size if frames is None else frames, what)
    elif isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(
            "quarantine must be a number of bytes, a text such as '64M' or '3 frames', or None, "
            f"not {type(value).__name__}"
        )
    else:
        number = _number("quarantine", value, what)
    if number == 0:
        raise InvalidArgumentError(f"quarantine is {value!r}; None is for none")
    return number if frames is None else counted(number, "frame")
