"""Writes memory snapshots as PyTorch does, from a small allocator, in all protocols of pickles.

They show what the reader has to cope with: a trace that is a ring and begins in the middle,
segments that are given back, expandable segments, memory that runs out, several devices, frames
that are shared. Run it in this folder.
"""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

MIB = 1 << 20
FIRST = 0x7F00_0000_0000
STACKS = [
    [
        {"filename": f"layer{layer}.py", "line": 10 + layer, "name": "forward"},
        {"filename": "model.py", "line": 77, "name": "step"},
        {"filename": "train.py", "line": 5, "name": "main"},
    ]
    for layer in range(4)
]


class Device:
    def __init__(self, device: int, seed: int, expandable: bool) -> None:
        self.device, self.random, self.expandable = device, random.Random(seed), expandable
        self.segments: list[dict[str, Any]] = []
        self.trace: list[dict[str, Any]] = []
        self.live: dict[int, tuple[dict[str, Any], int, int, list[dict[str, Any]]]] = {}
        self.time = 1_700_000_000_000_000
        self.next = FIRST + device * (1 << 40)

    def tell(self, action: str, address: int, size: int, stream: int, frames: list[Any]) -> None:
        self.time += self.random.randrange(1, 50)
        key = "device_free" if action == "oom" else "addr"
        self.trace.append(
            {
                "action": action,
                key: address,
                "size": size,
                "stream": stream,
                "time_us": self.time,
                "frames": frames,
            }
        )

    def gap(self, size: int) -> tuple[dict[str, Any], int] | None:
        for segment in self.segments:
            at = segment["address"]
            taken = sorted(
                (a, -(-s // 512) * 512) for a, (seg, s, _, _) in self.live.items() if seg is segment
            )
            for address, length in [*taken, (at + segment["total_size"], 0)]:
                if address - at >= size:
                    return segment, at
                at = address + length
        return None

    def allocate(self) -> None:
        size = self.random.choice([100, 512, 5000, 70_000, MIB, 3 * MIB])
        stream = self.random.choice([0, 0, 0, 94_000_000_001_000])
        frames = self.random.choice(STACKS)
        rounded = -(-size // 512) * 512
        found = self.gap(rounded)
        if found is None:
            total = 2 * MIB if rounded <= MIB else 20 * MIB
            action = "segment_map" if self.expandable else "segment_alloc"
            segment = {
                "device": self.device,
                "address": self.next,
                "total_size": total,
                "stream": stream,
            }
            if self.expandable and self.segments:
                # Grows at its end.
                segment = self.segments[0]
                end = segment["address"] + segment["total_size"]
                segment["total_size"] += total
                self.tell(action, end, total, stream, frames)
            else:
                self.next += 64 * MIB
                self.segments.append(segment)
                self.tell(action, segment["address"], total, stream, frames)
            found = self.gap(rounded)
            assert found
        segment, address = found
        self.live[address] = (segment, size, stream, frames)
        self.tell("alloc", address, size, stream, frames)

    def free(self) -> None:
        address = self.random.choice(list(self.live))
        segment, size, stream, frames = self.live.pop(address)
        self.tell("free_requested", address, size, stream, frames)
        self.tell("free_completed", address, size, stream, frames)
        used = any(seg is segment for seg, *_ in self.live.values())
        if not used and self.random.random() < 0.5:
            action = "segment_unmap" if self.expandable else "segment_free"
            self.segments.remove(segment)
            self.tell(action, segment["address"], segment["total_size"], segment["stream"], frames)

    def run(self, calls: int, ring: int) -> list[dict[str, Any]]:
        for index in range(calls):
            if index % 100 == 99:
                self.tell("oom", 5 * MIB, 1 << 40, 0, STACKS[0])
            elif len(self.live) < 20 or (self.random.random() < 0.5 and len(self.live) < 60):
                self.allocate()
            else:
                self.free()
        self.tell("snapshot", 0, 0, 0, [])
        return self.trace[-ring:]

    def blocks(self, segment: dict[str, Any]) -> list[dict[str, Any]]:
        blocks, at = [], segment["address"]
        taken = sorted((a, it) for a, it in self.live.items() if it[0] is segment)
        for address, (_, size, _, frames) in taken:
            if address > at:
                blocks.append(
                    {
                        "address": at,
                        "size": address - at,
                        "requested_size": 0,
                        "state": "inactive",
                        "frames": [],
                    }
                )
            rounded = -(-size // 512) * 512
            state = "active_allocated"
            blocks.append(
                {
                    "address": address,
                    "size": rounded,
                    "requested_size": size,
                    "state": state,
                    "frames": frames,
                }
            )
            at = address + rounded
        end = segment["address"] + segment["total_size"]
        if end > at:
            blocks.append(
                {
                    "address": at,
                    "size": end - at,
                    "requested_size": 0,
                    "state": "inactive",
                    "frames": [],
                }
            )
        return blocks

    def described(self) -> list[dict[str, Any]]:
        return [
            {
                **segment,
                "allocated_size": 0,
                "active_size": 0,
                "requested_size": 0,
                "segment_type": "large",
                "segment_pool_id": (0, 0),
                "is_expandable": self.expandable,
                "blocks": self.blocks(segment),
            }
            for segment in self.segments
        ]


def snapshot(
    seed: int, calls: int, ring: int, expandable: bool, devices: int = 1
) -> dict[str, Any]:
    all_devices = [Device(number, seed + number, expandable) for number in range(devices)]
    traces = [device.run(calls, ring) for device in all_devices]
    return {
        "segments": [segment for device in all_devices for segment in device.described()],
        "device_traces": traces,
        "allocator_settings": {
            "PYTORCH_CUDA_ALLOC_CONF": "",
            "max_split_size": -1,
            "expandable_segments": expandable,
        },
        "external_annotations": [],
    }


if __name__ == "__main__":
    here = Path(__file__).parent
    for protocol in range(6):
        data = snapshot(protocol, 300, 150, expandable=protocol % 2 == 1, devices=1 + protocol % 3)
        (here / f"snapshot-{protocol}.pickle").write_bytes(pickle.dumps(data, protocol))
    # The program of number 4, all of it.
    whole = snapshot(4, 300, 10_000, expandable=False, devices=2)
    (here / "snapshot-whole.pickle").write_bytes(pickle.dumps(whole, 4))
