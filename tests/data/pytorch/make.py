"""Writes a memory snapshot of PyTorch: training steps of a small transformer. Needs a GPU.

Arguments: the file, the number of layers, their width, the longest sequence, the batch size, the
number of steps, 1 to record call stacks (else 0), the most entries.
"""

from __future__ import annotations

import sys

import torch
from torch import nn

WORDS = 8192


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 8, batch_first=True)
        wide = nn.Linear(width, 4 * width)
        self.feed = nn.Sequential(wide, nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.feed(self.norm2(x))


def main(path: str, *numbers: str) -> None:
    layers, width, longest, batch, steps, stacks, entries = map(int, numbers)
    torch.cuda.memory._record_memory_history(
        max_entries=entries, context="all" if stacks else None, stacks="python"
    )
    torch.manual_seed(1)
    blocks = [Block(width) for _ in range(layers)]
    model = nn.Sequential(nn.Embedding(WORDS, width), *blocks, nn.Linear(width, WORDS)).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    for step in range(steps):
        length = longest - step * 37 % (longest // 2)
        x = torch.randint(0, WORDS, (batch, length), device="cuda")
        loss = nn.functional.cross_entropy(model(x).flatten(0, 1), x.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        del loss
    torch.cuda.synchronize()
    torch.cuda.memory._dump_snapshot(path)
    figures = torch.cuda.memory_stats()
    for name in ("allocated_bytes", "requested_bytes", "reserved_bytes"):
        print(name, figures[f"{name}.all.peak"])


if __name__ == "__main__":
    main(*sys.argv[1:])
