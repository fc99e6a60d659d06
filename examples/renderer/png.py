"""Writes PNG files, and many pictures as one."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

Texels = npt.NDArray[np.uint8]


def write(path: Path, texels: Texels) -> None:
    """Writes rows of RGB or RGBA texels; the alpha is left out."""
    height, width = texels.shape[:2]
    rows = np.ascontiguousarray(texels[..., :3]).reshape(height, width * 3)
    # Each row as its difference to the one above (filter 2), which compresses better.
    filtered = np.empty((height, 1 + width * 3), np.uint8)
    filtered[:, 0] = 2
    filtered[0, 1:], filtered[1:, 1:] = rows[0], rows[1:] - rows[:-1]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes())), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*it) for it in parts))


def contact_sheet(pictures: list[Texels], columns: int) -> Texels:
    """Pictures of one size, from left to right and from top to bottom, with gaps of 4 texels."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (height + 4) - 4, columns * (width + 4) - 4, 3), 24, np.uint8)
    for number, picture in enumerate(pictures):
        top, left = number // columns * (height + 4), number % columns * (width + 4)
        sheet[top : top + height, left : left + width] = picture[..., :3]
    return sheet
