"""The landscape: a river valley between mountains. All of it follows from a seed and a place."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

TILE = 32.0
"""Side of a tile, in metres."""
STEPS = 20
"""Squares along the side of a tile's mesh."""
SUN = np.array([0.60, 0.40, 0.69]) / np.linalg.norm([0.60, 0.40, 0.69])


# What noise has at whole numbers, in 256 rows: a look-up is much faster than a hash.
LATTICE = np.random.default_rng(0).uniform(-1, 1, 1 << 16).astype(np.float32)


def smooth(low: float, high: float, value: Array) -> Array:
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def noise(x: Array, z: Array, seed: int) -> Array:
    """Value noise, from -1 to 1, of each row with a seed of its own: `seed`, `seed + 1` and on."""
    left, low = np.floor(x), np.floor(z)
    u, v = x - left, z - low
    u, v = u * u * u * (u * (u * 6 - 15) + 10), v * v * v * (v * (v * 6 - 15) + 10)
    seeds = np.arange(seed, seed + len(x), dtype=np.int32).reshape(-1, *[1] * (x.ndim - 1))
    i, k = left.astype(np.int32) + seeds * 57, low.astype(np.int32) + seeds * 131
    west, east, south, north = i & 255, (i + 1) & 255, (k & 255) << 8, ((k + 1) & 255) << 8
    at = LATTICE.take
    near = at(south | west) * (1 - u) + at(south | east) * u
    far = at(north | west) * (1 - u) + at(north | east) * u
    return near * (1 - v) + far * v


def fractal(x: Array, z: Array, seed: int, octaves: int) -> Array:
    """Noise with details that halve in size and in strength, from -1 to 1."""
    places = np.empty((octaves, *x.shape), np.complex64)
    places[0] = x + 1j * z
    for octave in range(1, octaves):
        # Turned, so that the lattices do not show.
        places[octave] = places[octave - 1] * (1.6 - 1.2j) + (3.1 + 7.7j)
    sizes = np.float32(0.5) ** np.arange(1, octaves + 1, dtype=np.float32)
    return np.tensordot(sizes, noise(places.real, places.imag, seed), 1)


def unit(parts: tuple[Array | float, ...]) -> Array:
    """Vectors of length 1, of their three parts."""
    found = np.stack(np.broadcast_arrays(*parts), -1)
    return found / np.sqrt((found * found).sum(-1, keepdims=True))


class World:
    def __init__(self, seed: int) -> None:
        self.seed = seed

    def river(self, z: Array | float) -> Array:
        """Where the river is, as x."""
        return 34 * np.sin(np.asarray(z) / 83) + 15 * np.sin(np.asarray(z) / 37 + 1)

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
        """The ground's normal at any places."""
        step = 0.6
        aside = np.array([step, -step, 0, 0])[:, None]
        heights = self.height(x + aside, z + aside[::-1])
        return unit((heights[1] - heights[0], 2 * step, heights[2] - heights[3]))

    def ground(self, tile: tuple[int, int], count: int) -> tuple[Array, Array, Array, Array]:
        """x, height, z and normal of so many places along each side of a tile, edges included."""
        # One more place on each side, so that tiles meet in the same normals.
        step = TILE / (count - 1)
        along = np.arange(-1, count + 1) * step
        x, z = np.meshgrid(tile[0] * TILE + along, tile[1] * TILE + along)
        y = self.height(x, z)
        normal = unit((y[1:-1, :-2] - y[1:-1, 2:], 2 * step, y[:-2, 1:-1] - y[2:, 1:-1]))
        inside = slice(1, -1), slice(1, -1)
        return x[inside], y[inside], z[inside], normal

    def light(self, x: Array, y: Array, z: Array) -> Array:
        """How much of the sun is seen from a place, from 0 to 1."""
        far = np.geomspace(2, 130, 11).reshape(-1, *[1] * y.ndim)
        east, up, north = (it * far for it in SUN)
        over = y + up - self.height(x + east, z + north, 3)
        return smooth(-0.06, 0.05, over / far).min(0)
