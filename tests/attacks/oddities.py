"""Objects that lie about what they are, as arguments and as `self`."""

from __future__ import annotations

import array
import contextlib
import ctypes
import random
from collections.abc import Callable, Iterator
from typing import Any

import vk_mem
from vk_mem import AllocationCreateInfo, BufferUsage, Format, MemoryUsage

__all__ = ["Mine", "oddities", "uninitialised"]


class Mine(Exception):
    """What an odd object raises by itself."""


def oddities(dice: random.Random, mischief: Callable[[], object]) -> list[Any]:
    """Some of each kind. `mischief` runs whenever one of them is asked for something."""

    def number() -> int:
        mischief()
        return dice.choice([0, 1, 64, -1, 1 << 70])

    class Ends:
        """Ends something whenever it is asked for a number."""

        def __index__(self) -> int:
            return number()

        def __len__(self) -> int:
            return number()

        def __hash__(self) -> int:
            return number()

        def __eq__(self, other: object) -> bool:
            return bool(number())

        def __iter__(self) -> Iterator[Any]:
            return iter([self, 1])

        def __repr__(self) -> str:
            raise Mine("no repr")

    class Raises:
        """Answers nothing."""

        def answer(self, *_: object, **__: object) -> Any:
            raise Mine("no answer")

        __index__ = __len__ = __iter__ = __eq__ = __hash__ = __bool__ = __str__ = answer
        __repr__ = __call__ = __enter__ = __float__ = __getitem__ = __contains__ = answer

    class Wrong:
        """Answers with what is of no use."""

        def __index__(self) -> Any:
            return "1"

        def __len__(self) -> int:
            return -5

        def __iter__(self) -> Any:
            return 5

        def __repr__(self) -> Any:
            return b"no text"

        def __bool__(self) -> Any:
            return 7

        def __eq__(self, other: object) -> Any:
            return "perhaps"

        def __hash__(self) -> Any:
            return "none"

    class Long(list):  # type: ignore[type-arg]
        """Has another length than it says."""

        def __len__(self) -> int:
            return 1 << 40

        def __iter__(self) -> Iterator[Any]:
            for it in range(5):
                self.append(it)
                mischief()
                yield it

    class Shrinks(list):  # type: ignore[type-arg]
        """Loses its items while it is read."""

        def __getitem__(self, key: Any) -> Any:
            self.clear()
            mischief()
            return 64

    class Number(int):
        """Another number for everybody who asks."""

        def __index__(self) -> int:
            return number()

        __int__ = __hash__ = __index__

        def __eq__(self, other: object) -> bool:
            mischief()
            return True

        def __and__(self, other: object) -> Any:
            raise Mine("and")

        __or__ = __rand__ = __ror__ = __lt__ = __gt__ = __and__

    class Text(str):
        """Not what it says."""

        def __str__(self) -> Any:
            return 5

        def encode(self, *_: Any) -> Any:
            return None

        def __hash__(self) -> int:
            raise Mine("hash")

        def __eq__(self, other: object) -> bool:
            raise Mine("eq")

    class Lies:
        """Says that it is of another class."""

        def __init__(self, of: type) -> None:
            self.of = of

        @property
        def __class__(self) -> Any:
            return self.of

    class Everything:
        """Has every attribute."""

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            mischief()
            return dice.choice([self, 1, "x", None, lambda *_, **__: 0])

    class Struct(ctypes.Structure):
        _fields_ = (("x", ctypes.c_int * 3),)

    def comes_back() -> Iterator[Any]:
        for _ in range(3):
            mischief()
            yield dice.choice([64, 1, None])
        raise Mine("in a generator")

    lying = [Lies(it) for it in (vk_mem.Buffer, vk_mem.Allocator, vk_mem.SimulatedDevice, int, str)]
    return [
        *(None, True, False, 0, 1, 3, 16, 64, 100, 4096, -1, 2**31, 2**32 - 1, 2**32, 2**63),
        *(2**64 - 1, 2**64, -(2**63), 10**30, 0.5, float("nan"), float("inf"), 1j),
        *(
            "",
            "a",
            "a\0b",
            "a\nb",
            "\ud800",
            "é" * 99,
            b"",
            b"abc",
            bytearray(64),
            memoryview(bytes(64)),
        ),
        *(memoryview(bytearray(64))[::2], array.array("Q", [64, 64]), array.array("d", [1.0])),
        *([], (), {}, [1, 2], (4, 4), (4, 4, 4), (0, 0), (2**32, 1), range(5), {1: 2}, {3}),
        *(object(), int, Ends, Ends(), Raises, Raises(), Wrong(), Long(), Shrinks([1, 2, 3])),
        *(Number(64), Text("a"), *lying, Everything(), Struct(), comes_back(), iter([64, 64])),
        *(
            [Ends()],
            [Raises()],
            [None],
            [b"x"],
            (Ends(), Ends()),
            [(37, (4, 4), 3)],
            [(37, Ends(), 3)],
        ),
        *(
            BufferUsage.TRANSFER_DST,
            Format.R8G8B8A8_UNORM,
            MemoryUsage.AUTO,
            AllocationCreateInfo(),
        ),
        *(AllocationCreateInfo(name="kept", user_data=[]), Exception(), lambda *_, **__: 0, type),
        *(Ellipsis, NotImplemented, "vkAllocateMemory", ctypes.c_uint64(64), ctypes.c_void_p()),
        *(vk_mem.Buffer, vk_mem.Allocator, vk_mem, "tlsf", "linear", "{}", '{"General": 5}'),
    ]


def uninitialised() -> list[Any]:
    """Instances of all public classes and of subclasses, which no `__init__` has seen."""
    found: list[Any] = []
    for cls in vars(vk_mem).values():
        if not isinstance(cls, type) or not cls.__module__.startswith("vk_mem"):
            continue
        made: list[type] = [cls]
        # Many are final; enumerations have members.
        with contextlib.suppress(TypeError, AttributeError):
            made.append(type(f"Sub{cls.__name__}", (cls,), {"allocate": 5, "alive": None}))
        for it in made:
            for new in (it.__new__, object.__new__):
                try:
                    found.append(new(it))
                except TypeError:
                    continue
    assert len(found) > 10
    return found
