"""The landscape: a river valley between mountains. All of it follows from a seed and a place."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

TILE = 32.0
"""Side of a tile, in metres."""
STEPS = 20
"""Squares along the side of a tile's mesh."""
SUN = np.array([0.42, 0.36, 0.83]) / np.linalg.norm([0.42, 0.36, 0.83])


def smooth(low: float, high: float, value: Array) -> Array:
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def noise(x: Array, z: Array, seed: int) -> Array:
    """Value noise, from -1 to 1."""
    left, low = np.floor(x).astype(np.int64), np.floor(z).astype(np.int64)
    u, v = x - left, z - low
    u, v = u * u * u * (u * (u * 6 - 15) + 10), v * v * v * (v * (v * 6 - 15) + 10)

    def random(i: npt.NDArray[np.int64], k: npt.NDArray[np.int64]) -> Array:
        mixed = (i * 374761393 + k * 668265263 + seed * 1442695041) & 0xFFFFFFFF
        mixed = ((mixed ^ (mixed >> 13)) * 1274126177) & 0xFFFFFFFF
        return ((mixed ^ (mixed >> 16)) & 0xFFFF) / 32767.5 - 1

    near = random(left, low) * (1 - u) + random(left + 1, low) * u
    far = random(left, low + 1) * (1 - u) + random(left + 1, low + 1) * u
    return near * (1 - v) + far * v


def fractal(x: Array, z: Array, seed: int, octaves: int) -> Array:
    total, size = np.zeros(np.broadcast_shapes(x.shape, z.shape)), 0.5
    for octave in range(octaves):
        total = total + size * noise(x, z, seed + octave)
        # Turned, so that the lattices do not show.
        x, z = 1.6 * x + 1.2 * z + 3.1, 1.6 * z - 1.2 * x + 7.7
        size *= 0.5
    return total


class World:
    def __init__(self, seed: int) -> None:
        self.seed = seed

    def river(self, z: Array | float) -> Array:
        """Where the river is, as x."""
        return 26 * np.sin(np.asarray(z) / 74) + 11 * np.sin(np.asarray(z) / 31 + 1)

    def height(self, x: Array, z: Array, octaves: int = 7) -> Array:
        """Metres above the water."""
        hills = fractal(x / 95, z / 95, self.seed, octaves)
        ridges = 1 - np.abs(fractal(x / 150 + 9, z / 150, self.seed + 40, 5)) * 2
        away = np.abs(x - self.river(z))
        mountains = smooth(28, 120, away)
        return (
            -4.0
            + 7 * smooth(4, 34, away)
            + 12 * hills * (0.25 + 0.75 * smooth(6, 60, away))
            + mountains * (14 + 42 * np.maximum(ridges, 0) ** 2)
        )

    def normal(self, x: Array, z: Array) -> Array:
        step = 0.6
        east = self.height(x + step, z) - self.height(x - step, z)
        north = self.height(x, z + step) - self.height(x, z - step)
        found = np.stack([-east, np.full_like(east, 2 * step), -north], -1)
        return found / np.linalg.norm(found, axis=-1, keepdims=True)

    def light(self, x: Array, y: Array, z: Array) -> Array:
        """How much of the sun is seen from a place, from 0 to 1."""
        least = np.ones_like(y)
        for far in np.geomspace(2, 150, 14):
            east, up, north = SUN * far
            over = y + up - self.height(x + east, z + north, 4)
            least = np.minimum(least, smooth(-0.06, 0.05, over / far))
        return least
