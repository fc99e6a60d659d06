"""An array becomes a texture with mip levels, is scaled by the device, and comes back as a PNG.

Run it with `python examples/texture.py [PROFILE [FOLDER]]`: on a simulated device, or on a real one
with `driver` in place of a profile. It writes `texture.png`, all mip levels side by side, to a
temporary folder or to the one that is named.
"""

import struct
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np

import vk_mem
from vk_mem import ImageUsage

SIDE = 128


def picture() -> np.ndarray:
    """Tiles with a gradient, as rows of RGBA texels."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    tiles = (rows // 16 + columns // 16) % 2 * 255
    return np.dstack([rows * 2, columns * 2, tiles, np.full_like(rows, 255)]).astype(np.uint8)


def png(texels: np.ndarray) -> bytes:
    """Rows of RGBA texels as a PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    height, width, _ = texels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in texels)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in parts)


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "discrete-8gib"
    folder = sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp(prefix="vk-mem-")
    target = Path(folder) / "texture.png"
    device = vk_mem.Device.open() if name == "driver" else vk_mem.SimulatedDevice(name)
    with vk_mem.Allocator(device) as allocator:
        texture = allocator.create_image(
            "R8G8B8A8_UNORM",
            (SIDE, SIDE),
            ImageUsage.SAMPLED | ImageUsage.TRANSFER_SRC,
            data=picture(),
            generate_mipmaps=True,
            name="tiles",
        )
        print(f"{texture.mip_levels} mip levels, in {texture.layout.name}")
        print(f"the first came back as it was: {np.array_equal(texture.download(), picture())}")

        sheet = np.zeros((SIDE, 2 * SIDE, 4), np.uint8)
        left = 0
        for level in range(texture.mip_levels):
            texels = texture.download(mip_level=level)
            height, width, _ = texels.shape
            sheet[:height, left : left + width] = texels
            left += width
        target.write_bytes(png(sheet))
        print(f"wrote {target}, {sheet.shape[1]} x {sheet.shape[0]}")
        texture.destroy()


if __name__ == "__main__":
    main()
