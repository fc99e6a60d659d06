"""Prepares what all pictures draw: the blocks of a dump, or of two, by heap, type and pool."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from vk_mem.dump.compare import DiffEntry, diff
from vk_mem.dump.kinds import FREE, GONE, HELD, MOVED, NEW, SAME, USES, kind_of
from vk_mem.dump.load import Source, as_dump
from vk_mem.dump.model import (
    Block,
    Dump,
    Heap,
    MemoryType,
    PoolDump,
    Region,
    ResourceClass,
)

BOTH, BEFORE, AFTER = 0, 1, 2
SHADES = {BOTH: SAME, BEFORE: GONE, AFTER: NEW}
MOST_LANES = 4
DEEPEST_ALIAS = 8

Progress = Callable[[int, int], object]
"""Called with the number of allocations drawn so far, and with their total."""


@dataclass(slots=True)
class Row:
    """A region at its position in a bar."""

    region: Region
    kind: int
    """Index into `KINDS`."""
    position: int
    """Bytes from the left end of its bar: the offset, or for dedicated memory the sum before it."""
    side: int = BOTH
    lane: int = 0
    """0 for the owner of the memory, 1 and more for aliases."""
    parent: int = -1
    """For an alias: the index of the row whose memory it shares."""
    moved: str = ""
    """For an allocation that has moved: from where, or on the side before: to where."""


@dataclass
class Bar:
    """A block, or the dedicated allocations of a pool, drawn end to end."""

    id: str
    size: int
    dedicated: bool
    side: int
    rows: list[Row]
    allocated: int
    fragmentation: float
    map_count: int = 0
    lanes: int = 0
    """Number of lanes that the aliases need."""
    count: int = 0
    """Number of allocations, without aliases."""


@dataclass
class PoolPart:
    """A pool and its bars."""

    pool: PoolDump
    bars: list[Bar]
    sides: tuple[PoolDump | None, ...]
    """It in each of the dumps: None where it is not there."""


@dataclass
class TypePart:
    """A memory type and its pools."""

    name: str
    memory_type: MemoryType | None
    """None if only pools of the dump mention this type."""
    pools: list[PoolPart] = field(default_factory=list)


@dataclass
class HeapPart:
    """A heap and its types."""

    heap: Heap | None
    """None for types that the dump assigns to no heap."""
    types: list[TypePart]


@dataclass
class Scene:
    """Everything to draw."""

    before: Dump | None
    """None unless two dumps are compared."""
    dump: Dump
    """The dump to draw; in a comparison the later one."""
    heaps: list[HeapPart]
    total: int
    """Number of allocations to draw."""

    @property
    def compares(self) -> bool:
        return self.before is not None

    def bars(self) -> Iterator[tuple[HeapPart, TypePart, PoolPart, Bar]]:
        for heap in self.heaps:
            for of_type in heap.types:
                for pool in of_type.pools:
                    for bar in pool.bars:
                        yield heap, of_type, pool, bar

    def shade(self, row: Row) -> int:
        """Returns the kind that determines the colour of a row."""
        if self.before is None or row.kind >= USES:
            return row.kind
        return MOVED if row.moved else SHADES[row.side]

    def shades(self) -> list[int]:
        """Returns the kinds that occur, for the legend."""
        kinds = {row.kind for *_, bar in self.bars() for row in bar.rows}
        held = [kind for kind in HELD if kind in kinds]
        if self.before is not None:
            moved = any(row.moved for *_, bar in self.bars() for row in bar.rows)
            return [SAME, *([MOVED] if moved else []), GONE, NEW, *held, FREE]
        return [*sorted(kinds - {FREE, *HELD}), *held, FREE]


class _Kinds:
    """Caches `kind_of`: millions of regions have few distinct uses."""

    def __init__(self, api: str) -> None:
        self.api = api
        self.known: dict[tuple[int, int], int] = {}

    def __call__(self, region: Region) -> int:
        # Keyed by id, which hashes faster than an enumeration member; there are only a few members.
        key = (id(region.resource_class), region.usage)
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = kind_of(region, self.api)
        return found


PoolKey = tuple[str, str | None]


def make_scene(source: Source, other: Source | None = None) -> Scene:
    """Reads the sources to draw. Raises what `load_dump` raises."""
    if other is None:
        dump, before = as_dump(source), None
        sides = _Sides(None, _Kinds(dump.api))
    else:
        found = diff(source, other)
        before, dump = found.a, found.b
        sides = _Sides((before, dump), _Kinds(dump.api))
        sides.take(found.only_in_a, found.only_in_b)
        sides.take_moved(found.moved)
    pools: dict[PoolKey, list[PoolDump | None]] = {}
    for number, it in enumerate((before, dump)):
        for pool in it.pools if it is not None else ():
            pools.setdefault((pool.type_name, pool.name), [None, None])[number] = pool
    parts: dict[str, list[PoolPart]] = {}
    for (type_name, _), (a, b) in pools.items():
        shown = b or a
        assert shown is not None
        both = (a, b) if before is not None else (shown,)
        parts.setdefault(type_name, []).append(PoolPart(shown, _bars(a, b, sides), both))
    heaps = []
    for heap in _heaps(before, dump):
        types = [
            TypePart(it.name, it, parts.pop(it.name, [])) for it in heap.memory_types
        ]  # A type that two heaps name keeps its pools in the first.
        heaps.append(HeapPart(heap, types))
    if parts:
        heaps.append(HeapPart(None, [TypePart(name, None, of) for name, of in parts.items()]))
    scene = Scene(before, dump, heaps, 0)
    scene.total = sum(bar.count for *_, bar in scene.bars())
    return scene


def _heaps(before: Dump | None, dump: Dump) -> Iterable[Heap]:
    yield from dump.heaps
    names = {heap.name for heap in dump.heaps}
    yield from (heap for heap in (before.heaps if before else ()) if heap.name not in names)


class _Sides:
    """Tells which of two dumps a region is in, and its kind."""

    def __init__(self, dumps: tuple[Dump, Dump] | None, kind: _Kinds) -> None:
        self.dumps, self.kind = dumps, kind
        self.only: set[int] = set()
        self.moved: dict[int, str] = {}

    def take(self, gone: Iterable[object], new: Iterable[object]) -> None:
        for entries in (gone, new):
            self.only.update(id(entry.region) for entry in entries)  # type: ignore[attr-defined]

    def take_moved(self, pairs: Iterable[tuple[DiffEntry, DiffEntry]]) -> None:
        for before, after in pairs:
            for entry, what in ((before, f"to {_place(after)}"), (after, f"from {_place(before)}")):
                self.only.add(id(entry.region))
                self.moved[id(entry.region)] = what

    def row(self, region: Region, position: int, side: int) -> Row:
        """Returns the row of a region on a side."""
        return Row(region, self.kind(region), position, side, moved=self.moved.get(id(region), ""))

    def of(self, region: Region, side: int) -> int:
        """Returns `BOTH`, or the side of a region that only one dump has."""
        if self.dumps is None:
            return BOTH
        return side if not region.is_allocation or id(region) in self.only else BOTH


def _place(entry: DiffEntry) -> str:
    """Names the place of an allocation: `block 3, offset 65,536`."""
    if entry.block is None:
        return "memory of its own"
    return f"block {entry.block.id}, offset {entry.region.offset:,}"


def _bars(a: PoolDump | None, b: PoolDump | None, sides: _Sides) -> list[Bar]:
    blocks: dict[str, list[Block | None]] = {}
    for number, pool in enumerate((a, b)):
        for block in pool.blocks if pool else ():
            blocks.setdefault(block.id, [None, None])[number] = block
    bars = [_block_bar(before, after, sides) for before, after in blocks.values()]
    strip = _strip(a.dedicated if a else (), b.dedicated if b else (), sides)
    return bars if strip is None else [*bars, strip]


def _block_bar(a: Block | None, b: Block | None, sides: _Sides) -> Bar:
    block = b or a
    assert block is not None
    compares = sides.dumps is not None
    side = BOTH if not compares or (a and b) else AFTER if b else BEFORE
    bar = Bar(
        block.id,
        max(it.size for it in (a, b) if it),
        False,
        side,
        [],
        block.allocated,
        block.fragmentation,
        block.map_count,
    )
    if not compares:
        kind = sides.kind
        bar.rows = [Row(region, kind(region), region.offset) for region in block.regions]
    else:
        for of, number in ((a, BEFORE), (b, AFTER)):
            for region in of.regions if of else ():
                found = sides.of(region, number)
                # A region in both dumps is drawn once, as it is in the later one.
                if found != BOTH or number == AFTER:
                    bar.rows.append(sides.row(region, region.offset, found))
        bar.rows.sort(key=lambda row: (row.position, row.side))
    bar.count = sum(row.kind < USES for row in bar.rows)
    _overlaps(bar)
    gone: dict[int, list[Region]] = {}
    if compares and a and b:
        after = _alias_keys(b)
        for region in a.regions:
            if region.aliases and sides.of(region, BEFORE) == BOTH:
                gone[region.offset] = [it for it in region.aliases if _alias_key(it) not in after]
    if gone or any(row.region.aliases for row in bar.rows):
        _aliases(bar, sides.kind, _alias_keys(a) if compares else None, gone)
    return bar


def _strip(a: Iterable[Region], b: Iterable[Region], sides: _Sides) -> Bar | None:
    rows = [sides.row(region, 0, sides.of(region, AFTER)) for region in b]
    if sides.dumps is not None:
        found = (sides.row(region, 0, sides.of(region, BEFORE)) for region in a)
        rows += [row for row in found if row.side == BEFORE]
    if not rows:
        return None
    rows.sort(key=lambda row: -row.region.size)
    count = sum(row.kind < USES for row in rows)
    rows = [part for row in rows for part in _with_margins(row, sides)]
    end = 0
    for row in rows:
        row.position = end
        end += row.region.size
    now = sum(row.region.size for row in rows if row.side != BEFORE and row.kind < USES)
    bar = Bar("", end, True, BOTH, rows, now, 0.0, count=count)
    if any(row.region.aliases for row in rows):
        _aliases(bar, sides.kind, None, {})
    return bar


def _with_margins(row: Row, sides: _Sides) -> Iterator[Row]:
    """Yields dedicated memory between its margins, which the dump does not list as regions."""
    front, back = row.region.margins
    for size, region in ((front, None), (0, row), (back, None)):
        if region is not None:
            yield region
        elif size:
            yield sides.row(Region(0, size, ResourceClass.MARGIN), 0, row.side)


def _overlaps(bar: Bar) -> None:
    """Finds regions that overlap, as some foreign dumps have: later ones are drawn as aliases."""
    before = after = 0
    for row in bar.rows:
        if row.kind >= USES:
            continue
        start, side = row.position, row.side
        if (side != AFTER and start < before) or (side != BEFORE and start < after):
            row.lane = bar.lanes = 1
        end = start + row.region.size
        if side != AFTER and end > before:
            before = end
        if side != BEFORE and end > after:
            after = end


AliasKey = tuple[int, int, str, str | None]


def _alias_keys(block: Block | None) -> set[AliasKey]:
    return {_alias_key(it) for region in block.regions for it in region.aliases} if block else set()


def _alias_key(region: Region) -> AliasKey:
    return (region.offset, region.size, region.type_name, region.name)


def _aliases(
    bar: Bar, kind: _Kinds, before: set[AliasKey] | None, gone: dict[int, list[Region]]
) -> None:
    """Adds the aliases after their owners, in lanes so that no two in a lane overlap.

    In a comparison, `before` has the aliases of the earlier block, and `gone` those that only it
    had, by the offset of a region that still exists.
    """
    rows: list[Row] = []
    ends = [0] * MOST_LANES

    def put(base: Row, parent: int, region: Region, side: int, depth: int) -> None:
        position = base.position + max(region.offset - base.region.offset, 0)
        lane = next((i for i, end in enumerate(ends) if end <= position), MOST_LANES - 1)
        ends[lane] = max(ends[lane], position + region.size)
        bar.lanes = max(bar.lanes, lane + 1)
        rows.append(Row(region, kind(region), position, side, lane + 1, parent))
        if depth < DEEPEST_ALIAS:
            put_all(rows[-1], len(rows) - 1, depth + 1)

    def put_all(base: Row, parent: int, depth: int) -> None:
        for region in sorted(base.region.aliases, key=lambda it: it.offset):
            side = base.side
            if before is not None and side == BOTH:
                side = BOTH if _alias_key(region) in before else AFTER
            put(base, parent, region, side, depth)

    for row in bar.rows:
        rows.append(row)
        base = len(rows) - 1
        if row.region.aliases:
            put_all(row, base, 0)
        if row.side == BOTH and gone:
            # If several regions begin at one offset, the first of them gets these aliases.
            for region in gone.pop(row.region.offset, ()):
                put(row, base, region, BEFORE, 0)
    bar.rows = rows


def check_progress(progress: Progress | None) -> Progress:
    """Returns a function to call for progress; None gives one that does nothing."""
    return progress if progress is not None else lambda done, total: None
