"""Mutated dumps, given to every reader and every writer."""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
from collections.abc import Iterator
from typing import Any

from pictures import parsed_svg

import vk_mem
from attacks.registry import Budget, attack
from attacks.samples import texts
from vk_mem import Dump, DumpError, view

try:
    from vk_mem.cli import dumps as commands
except ModuleNotFoundError:  # without the extra "cli"
    commands = None  # type: ignore[assignment]

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 255, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30,
    0.5, -0.0, 1e308, "", "x", "FREE", "BUFFER", "IMAGE_OPTIMAL", "\ud800", "\udfff\ud800", "\0",
    "\u202e", "<script>", "]]>", "{", "[bold]", "\x1b[31m", "é" * 300, "x" * 20_000, [], {}, [[]],
    [{}], {"": {}}, [0] * 300, {"0": 0}, {"Offset": 0, "Size": 0, "Type": "FREE"},
    {"Offset": 0, "Size": 2**64 - 1, "Type": "BUFFER"},
)  # fmt: skip
KEYS = (
    "General", "API", "GPU", "Total", "MemoryInfo", "Heap 0", "Budget", "UsageBytes", "BudgetBytes",
    "Stats", "MemoryPools", "Type 0", "Flags", "Size", "DefaultPools", "CustomPools", "Blocks", "0",
    "TotalBytes", "Suballocations", "DedicatedAllocations", "Offset", "Type", "Usage", "Name",
    "CustomData", "Layout", "MapRefCount", "CallSites", "Sites", "Aliases", "UsedBytes", "Pools",
    "UserData", "MemoryTypeIndex", "\ud800", "", "x" * 11_000,
)  # fmt: skip
JUNK = (
    b"\0",
    b"\xff",
    b"{",
    b"}",
    b"[",
    b'"',
    b"\\ud800",
    b"1e999",
    b"NaN",
    b"-",
    b"\xef\xbb\xbf",
    b",",
)
NO_NUMBER = re.compile(r"\b(NaN|nan|inf|Infinity)\b")


@attack("dumps", short=250)
def mutated_dumps(seed: int, budget: Budget) -> None:
    """Changes dumps at random: each is refused with a DumpError, or read, and written by all."""
    base = vk_mem.load_dump(texts()[0])
    for number, dice in budget.cases(seed):
        with budget.case(seed, number):
            dump = read(mutated(dice), budget)
            if dump is not None:
                for what in written(dump, base, dice):
                    budget.counted[what] += 1


# ---- changes ----


def mutated(dice: random.Random) -> Any:
    """A dump with some changes: a dict, a text, bytes, or one in a log."""
    text = dice.choice(texts())
    if dice.random() < 0.25:
        return of_bytes(text.encode(), dice)
    value = json.loads(text)
    for _ in range(int(dice.expovariate(0.4)) + 1):
        change(value, dice)
    kind = dice.randrange(4)
    if kind == 0:
        return value
    text = json.dumps(value, ensure_ascii=dice.random() < 0.8)
    if kind == 1:
        return text
    if kind == 2:
        text = f"{dice.choice(['log {', '[INFO] ', '{} '])}\n{text}\n{dice.choice(['', '}', text])}"
    return text.encode(dice.choice(["utf-8", "utf-16", "utf-8"]), "surrogatepass")


def of_bytes(data: bytes, dice: random.Random) -> bytes:
    """The same with bytes changed, cut out, put in and cut off."""
    made = bytearray(data)
    for _ in range(dice.randrange(1, 6)):
        at, length = dice.randrange(len(made) + 1), dice.randrange(1, 40)
        kind = dice.randrange(4)
        if kind == 0 and at < len(made):
            made[at] = dice.randrange(256)
        elif kind == 1:
            del made[at : at + length]
        elif kind == 2:
            made[at:at] = dice.choice(JUNK) * dice.choice([1, 1, 1, 3, 2000])
        elif dice.random() < 0.3:
            del made[at:]
    return bytes(made)


def places(value: Any, found: list[tuple[Any, Any]]) -> None:
    """Every container with every key in it."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        found.append((value, key))
        if isinstance(item, dict | list):
            places(item, found)


def change(value: Any, dice: random.Random) -> None:
    """Changes one place."""
    found: list[tuple[Any, Any]] = []
    places(value, found)
    if not found:
        return
    where, key = dice.choice(found)
    kind = dice.randrange(9)
    if kind <= 2:
        where[key] = json.loads(json.dumps(dice.choice(VALUES)))
    elif kind == 3:
        del where[key]
    elif kind == 4 and isinstance(where, dict):
        where[dice.choice(KEYS)] = where.pop(key)
    elif kind == 5:
        # What stands elsewhere: of the right type, in the wrong place.
        other, its_key = dice.choice(found)
        where[key] = json.loads(json.dumps(other.get(its_key) if isinstance(other, dict) else 0))
    elif kind == 6 and isinstance(where, list):
        where.extend(json.loads(json.dumps(where))[: dice.randrange(1, 20)])
    elif kind == 7 and isinstance(key, str):
        # The same everywhere, as where a writer counts wrongly.
        new = dice.choice([0, 0, 1, 2**64 - 1, dice.choice(VALUES)])
        for one, its_key in found:
            if its_key == key:
                one[its_key] = json.loads(json.dumps(new))
    elif isinstance(where[key], int) and not isinstance(where[key], bool):
        where[key] = max(where[key] + dice.choice([-1, 1, -where[key], 1 << 20]), 0)


# ---- readers and writers ----


def read(source: Any, budget: Budget) -> Dump | None:
    """The dump; None if it was refused as it has to be."""
    try:
        dump = vk_mem.load_dump(source)
    except DumpError as error:
        text = str(error)
        text.encode()
        assert "\n" not in text and len(text) < 1000, text
        budget.counted["refused"] += 1
        return None
    budget.counted["read"] += 1
    return dump


def written(dump: Dump, base: Dump, dice: random.Random) -> Iterator[str]:
    """Writes it in every way, and looks at what came out."""
    found = vk_mem.diff(base, dump)
    for text in (repr(dump), repr(found), dump._repr_html_(), found._repr_html_()):
        check_text(text)
    yield "summaries"
    comparisons = ((dump, None), (base, dump), (dump, base))
    for source, other in comparisons:
        picture = view.svg(source, other=other)
        check_text(picture)
        parsed_svg(picture)
        yield "SVGs"
    source, other = dice.choice(comparisons)
    view.html(source, other=other).encode()
    yield "pages"
    if dice.random() < 0.1:
        try:
            view.png(dump, width=480, scale=0.5)
            yield "PNGs"
        except vk_mem.FeatureNotPresentError:
            pass
    if commands is not None:
        json.loads(json.dumps([commands.dump_json(dump, 9), commands.diff_json(found, 9)]))
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            commands.print_dump(dump, 9)
            commands.print_diff(found, 9)
        check_text(printed.getvalue())
        yield "tables"


def check_text(text: str) -> None:
    """It can be written, and has no figure that is none."""
    text.encode()
    wrong = NO_NUMBER.search(text)
    assert wrong is None, text[max(wrong.start() - 80, 0) : wrong.end() + 80]
