"""What a timeline in the format of Perfetto says, read in two ways."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

COUNTER, SLICE_BEGIN, SLICE_END, INSTANT = 4, 1, 2, 3


class Packet(NamedTuple):
    """What the tests need of a packet."""

    track: tuple[int, str] | None = None
    """Number and name of a track that it declares."""
    event: tuple[int, int, int] | None = None
    """Kind, number of its track, and value of a counter."""
    name: int = 0
    """Number of the event's name."""
    names: tuple[tuple[int, str], ...] = ()
    """Names that it stores."""


def messages(data: bytes) -> list[tuple[int, int | bytes]]:
    """The fields of a message of Protocol Buffers."""
    found: list[tuple[int, int | bytes]] = []
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = number()
        match key & 7:
            case 0:
                found.append((key >> 3, number()))
            case 1:
                found.append((key >> 3, struct.unpack_from("<Q", data, at)[0]))
                at += 8
            case 2:
                size = number()
                found.append((key >> 3, data[at : at + size]))
                at += size
            case other:
                raise AssertionError(f"wire type {other}")
    assert at == len(data)
    return found


def own_packets(data: bytes) -> Iterator[Packet]:
    """Packets by a reader of our own."""
    for number, packet in messages(data):
        assert number == 1 and isinstance(packet, bytes)
        of: dict[int, Any] = dict(messages(packet))
        track = event = None
        name, names = 0, ()
        if 60 in of:
            it: dict[int, Any] = dict(messages(of[60]))
            text = it[2] if 2 in it else dict(messages(it[3]))[6]
            track = (it[1], text.decode())
        if 11 in of:
            it = dict(messages(of[11]))
            event, name = (it[9], it[11], it.get(30, 0)), it.get(10, 0)
        if 12 in of:
            stored = [dict(messages(it)) for number, it in messages(of[12]) if number == 2]
            names = tuple((it[1], it[2].decode()) for it in stored)
        yield Packet(track, event, name, names)


def official_packets(data: bytes) -> Iterator[Packet]:
    """Packets by the classes of Perfetto, which know every field."""
    module = import_module("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    trace = module.Trace()
    trace.ParseFromString(data)
    assert unknown_fields(trace) == []
    for it in trace.packet:
        track = event = None
        name = 0
        if it.HasField("track_descriptor"):
            of = it.track_descriptor
            track = (of.uuid, of.name or of.process.process_name)
        if it.HasField("track_event"):
            of = it.track_event
            event, name = (of.type, of.track_uuid, of.counter_value), of.name_iid
        names = tuple((of.iid, of.name) for of in it.interned_data.event_names)
        yield Packet(track, event, name, names)


def unknown_fields(message: Any) -> list[int]:
    """Numbers of the fields that the classes of Perfetto do not know."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    found = [it.field_number for it in UnknownFieldSet(message)]
    for of, value in message.ListFields():
        if of.type == of.TYPE_MESSAGE:
            for it in value if of.is_repeated else [value]:
                found += unknown_fields(it)
    return found


def complete(data: bytes) -> bytes:
    """What of a file that was cut off is whole packets."""
    at = end = 0
    while at < len(data):
        assert data[at] == 0x0A
        at += 1
        size = shift = 0
        while at < len(data):
            size |= (data[at] & 0x7F) << shift
            shift += 7
            at += 1
            if data[at - 1] < 0x80:
                break
        else:
            break
        at += size
        if at > len(data):
            break
        end = at
    return data[:end]


READERS = {"own": own_packets, "official": official_packets}


@dataclass
class Timeline:
    """A timeline that was read."""

    counters: dict[str, list[int]] = field(default_factory=dict)
    """Values of each counter by the name of its track."""
    marks: dict[str, dict[str, int]] = field(default_factory=dict)
    """The values of all counters at each instant, by its name."""
    depths: dict[str, int] = field(default_factory=dict)
    """Slices of each track that have not ended."""


def read(path: Path, reader: str = "own") -> Timeline:
    """Reads a file."""
    made, tracks, names, now = Timeline(), {}, {}, {}
    for it in READERS[reader](path.read_bytes()):
        names.update(it.names)
        if it.track is not None:
            assert it.track[0] not in tracks, "a track is declared once"
            tracks[it.track[0]] = it.track[1]
        if it.event is None:
            continue
        kind, track, value = it.event
        where = tracks[track]
        if kind == COUNTER:
            made.counters.setdefault(where, []).append(value)
            now[where] = value
        elif kind == INSTANT:
            made.marks[names[it.name]] = dict(now)
        else:
            depth = made.depths.get(where, 0) + (1 if kind == SLICE_BEGIN else -1)
            assert depth >= 0, where
            made.depths[where] = depth
    return made
