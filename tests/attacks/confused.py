"""Public calls with objects of wrong classes, as arguments and as `self`."""

from __future__ import annotations

import contextlib
import copy
import pickle
import random
import sys
from typing import Any

from support import MAPPED, RANDOM

import vk_mem
from attacks.apart import apart
from attacks.devices import any_device
from attacks.oddities import Mine, oddities, uninitialised
from attacks.registry import Budget, attack
from vk_mem import Allocator, Device, SimulatedDevice, VirtualBlock, VkMemError

CALLS = 400
"""In a case."""
ALLOWED = (
    *(TypeError, ValueError, OverflowError, AttributeError, LookupError, BufferError),
    *(pickle.PicklingError, VkMemError, Mine),
)
"""What a confused call may raise: Python's own errors, those of the package, and the caller's."""
KEYWORDS = (
    *("usage", "flags", "required_flags", "preferred_flags", "not_preferred_flags", "name"),
    *("memory_type_bits", "min_alignment", "user_data", "allocation_info", "create_flags", "pool"),
    *("sharing_mode", "queue_family_indices", "offset", "size", "readonly", "value", "names"),
    *("target_offset", "source_offset", "buffer_offset", "alignment", "bind", "count", "strategy"),
    *("block_size", "max_block_count", "memory_type_index", "algorithm", "like", "nonsense", ""),
    *("upper_address", "threshold", "detailed", "local_offset", "profile", "this_thread", "layout"),
)
# A handle, an address or a file cannot be told from a wrong one: these get no numbers.
TRUSTING = {
    *("bind_buffer", "bind_image", "allocate_memory_for_buffer", "allocate_memory_for_image"),
    *("wrap", "import_memory_fd", "import_memory_win32_handle", "import_host_pointer"),
    *("submit_command_buffer", "record"),
    *("find_memory_type_index_for_buffer_info", "find_memory_type_index_for_image_info"),
}
# What waits, what fails because it is asked to, and what opens a driver or a socket.
LEFT_OUT = {
    "open",
    "to_volkano",
    "set_latency",
    "fail_call",
    "fail_next",
    "serve_stats",
    "list_physical_devices",
}
# Python's own, which says what a class is.
NOT_OURS = {"__class__", "__class_getitem__", "__reduce__", "__reduce_ex__", "__dict__"}
CONTAINERS = (list, tuple, dict, str)
MODULES = (vk_mem, vk_mem.interop)
# Only the simulated driver checks them; a real one trusts.
SHAPES = {"create_image", "create_images", "create_aliasing_image"}
SHAPES |= {"copy_image_to_buffer", "copy_buffer_to_image"}
UNCHECKED = {"create_flags", "sharing_mode", "queue_family_indices", "layout"}


@attack("confused_classes", short=27)
@apart
def confused_classes(seed: int, budget: Budget) -> None:
    """Calls all that is public with objects of wrong classes; only ordinary errors may come."""
    sys.unraisablehook = show
    for number, dice in budget.cases(seed):
        with budget.case(seed, number):
            world = World(any_device(number), dice)
            for _ in range(CALLS):
                world.call(budget)
            world.check()


def show(it: Any) -> None:
    """What a callback or a finaliser raises is shown, not raised; odd things are callbacks here."""
    if not isinstance(it.exc_value, ALLOWED):
        sys.__unraisablehook__(it)


def is_python(cls: type) -> bool:
    """Whether it is written in Python, where what begins with `_` trusts its callers."""
    return bool(cls.__flags__ & (1 << 9))


def is_of_python(cls: type, name: str) -> bool:
    """Whether a class has it from a container of Python's: such a list takes as much memory as the
    length of its arguments says, be that a lie."""
    owner = next((it for it in cls.__mro__ if name in vars(it)), None)
    return owner in CONTAINERS


class World:
    """All that may be confused with each other."""

    def __init__(self, device: Device, dice: random.Random) -> None:
        self.device = device
        self.dice = dice
        self.is_simulated = isinstance(device, SimulatedDevice)
        self.other = Allocator(SimulatedDevice("lavapipe"))
        self.closed = Allocator(device)
        self.closed.close()
        self.held: list[Any] = []
        self.open()
        self.odd = oddities(dice, self.mischief)
        # Nothing that is a number, or has one inside.
        kinds = (str, bytes, tuple, dict, type, type(None))
        self.harmless = [it for it in self.odd if isinstance(type(it), type) and type(it) in kinds]
        self.fixed = [
            *uninitialised(),
            *(device, self.other, self.other.device, self.closed, device.properties),
            *(device.memory_properties, device.memory_properties.memory_types[0]),
            self.other.create_buffer(64, 3, flags=RANDOM),
            self.other.create_image(37, (4, 4), 3),
            self.other.create_pool(memory_type_index=0),
        ]
        self.harmless += self.fixed

    def open(self) -> None:
        """Another allocator, and all that there can be of it."""
        heaps = self.device.memory_properties.memory_heaps
        self.allocator = Allocator(
            self.device,
            preferred_block_size=1 << 20,
            # Somebody reads what he made, so it is not to fill the machine.
            heap_size_limits=[64 << 20] * len(heaps),
        )
        self.looks = [
            self.allocator.calculate_statistics(),
            self.allocator.calculate_statistics().total,
            self.allocator.heap_budgets(),
            self.allocator.heap_budgets()[0],
            self.allocator.snapshot(),
            vk_mem.diff(self.allocator.snapshot(), self.allocator.snapshot()),
            self.allocator.leaks(),
            vk_mem.statistics(self.allocator),
        ]
        del self.held[:]

    def fill_up(self) -> None:
        """So many that there is something to choose from."""
        allocator, dice = self.allocator, self.dice
        buffer = allocator.create_buffer(dice.choice([1, 64, 5000]), 3, flags=RANDOM | MAPPED)
        block = VirtualBlock(1 << 20, algorithm=dice.choice(["tlsf", "linear", "buddy"]))
        heap = vk_mem.BufferHeap(allocator, 3, block_size=1 << 16, flags=RANDOM)
        cache = vk_mem.ResourceCache(allocator, lambda key: self.dice.choice(self.held), 1 << 12)
        gone = allocator.create_buffer(64, 3)
        gone.destroy()
        moving = [allocator.create_buffer(5000, 3, movable=True) for _ in range(4)]
        moving.pop(0).destroy()
        run = allocator.begin_defragmentation(algorithm="full")
        if step := next(run, None):
            self.held += [step, step.moves[0], step.moves[0].destination]
        self.held += [run, *moving]
        self.held += [
            *(cache, buffer, allocator.create_image(37, (8, 8), 3), buffer.allocation, gone),
            *(allocator.allocate_memory(64, flags=RANDOM), block, block.allocate(64)),
            *(heap, heap.allocate(64), buffer.map(), allocator.create_pool(memory_type_index=0)),
        ]

    def mischief(self) -> None:
        """Ends some while a call is on its way."""
        for it in self.dice.sample(self.held, min(2, len(self.held))):
            with contextlib.suppress(*ALLOWED):
                it.__exit__(None, None, None)

    def anything(self) -> Any:
        kind = self.dice.random()
        if kind < 0.25 and self.held:
            return self.dice.choice(self.held)
        if kind < 0.3:
            return self.dice.choice([*self.looks, self.allocator])
        return self.dice.choice(self.fixed if kind < 0.4 else self.odd)

    def argument(self, name: str) -> Any:
        return self.dice.choice(self.harmless) if name in TRUSTING else self.anything()

    def call(self, budget: Budget) -> None:
        """One confused call."""
        dice = self.dice
        if self.allocator.closed:
            self.open()
        if len(self.held) < 11:
            self.fill_up()
        if len(self.held) > 60:
            del self.held[: dice.randrange(50)]
        places = [[self.allocator], *[self.held] * 6, *[self.fixed] * 2, self.looks]
        places.append([self.device, vk_mem, vk_mem.interop])
        target = dice.choice(dice.choice(places))
        if isinstance(target, memoryview | BaseException):
            # What they do is Python's own; they serve as arguments.
            return
        names = getattr(target, "__all__", None) if target in MODULES else dir(target)
        name = dice.choice(list(names or ()))
        if name in LEFT_OUT or name in NOT_OURS or is_of_python(type(target), name):
            return
        if name.startswith("_") and not name.startswith("__") and is_python(type(target)):
            return
        if name in SHAPES and not self.is_simulated:
            return
        budget.counted["calls"] += 1
        try:
            made = self.confuse(target, name)
            budget.counted["answers"] += 1
        except ALLOWED as error:
            if isinstance(error, VkMemError):
                assert "\n" not in str(error), error
            budget.counted["refusals"] += 1
            return
        except StopIteration:
            # The end of an iterator: a run of defragmentation.
            assert name == "__next__"
            return
        except ImportError:
            # Of the bindings of which one is named.
            assert target is vk_mem.interop
            return
        except RuntimeError:
            # A measurement is entered once.
            assert isinstance(target, vk_mem.Measurement) and name == "__enter__"
            return
        except OSError:
            # A dump is read from a file of that name.
            assert name in {"load_dump", "diff"}
            return
        if isinstance(made, vk_mem.Resource | vk_mem.Mapping | vk_mem.Pool | memoryview):
            self.held.append(made)

    def confuse(self, target: Any, name: str) -> Any:
        """In one of the ways there are."""
        dice = self.dice
        arguments = [self.argument(name) for _ in range(dice.choice([0, 1, 1, 2, 2, 3, 4]))]
        keywords = {
            dice.choice(KEYWORDS): self.argument(name) for _ in range(dice.choice([0, 0, 1, 2]))
        }
        if not self.is_simulated:
            keywords = {key: it for key, it in keywords.items() if key not in UNCHECKED}
        way = dice.random()
        if way < 0.03:
            return dice.choice([copy.copy, copy.deepcopy, pickle.dumps, repr, str, hash])(target)
        if way < 0.1 and not name.startswith("__") and target not in MODULES:
            return setattr(target, name, self.anything())
        if way < 0.3:
            # Of another class: with a `self` that is none.
            found = vars(type(target)).get(name)
            foreign = self.anything()
            if hasattr(found, "__get__") and dice.random() < 0.5:
                member = found.__get__(foreign)
                return member(*arguments, **keywords) if callable(member) else member
            if hasattr(found, "__set__"):
                return found.__set__(foreign, self.anything())
            if callable(found):
                return found(foreign, *arguments, **keywords)
        member = getattr(target, name)
        if isinstance(member, type) and issubclass(member, BaseException):
            return None
        return member(*arguments, **keywords) if callable(member) else member

    def check(self) -> None:
        """Everything works as if nothing had happened."""
        if self.allocator.closed:
            self.open()
        self.allocator.validate()
        data = self.dice.randbytes(100)
        with self.allocator.create_buffer(100, 3, flags=RANDOM) as buffer:
            buffer.write(data)
            assert buffer.read() == data
        assert self.device.validation_messages == [], self.device.validation_messages
        self.held.clear()
        if isinstance(self.device, SimulatedDevice):
            assert self.device.violations == [], self.device.violations
