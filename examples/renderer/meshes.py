"""Meshes that code makes: the ground of a tile, a conifer, and where conifers stand."""

from __future__ import annotations

import math

import numpy as np

from .world import STEPS, TILE, Array, World


def grid(tile: tuple[int, int], count: int) -> tuple[Array, Array]:
    """Coordinates x and z of so many places along each side of a tile."""
    along = np.linspace(0, TILE, count)
    x, z = np.meshgrid(tile[0] * TILE + along, tile[1] * TILE + along)
    return x, z


def ground(world: World, tile: tuple[int, int]) -> Array:
    """Position, normal and light of each vertex of a tile."""
    x, z = grid(tile, STEPS + 1)
    y = world.height(x, z)
    parts = [x, y, z, *np.moveaxis(world.normal(x, z), -1, 0), world.light(x, y, z)]
    return np.stack(parts, -1).reshape(-1, 7).astype(np.float32)


def ground_indices() -> np.ndarray:
    corner = (np.arange(STEPS)[:, None] * (STEPS + 1) + np.arange(STEPS)).reshape(-1, 1)
    square = np.array([0, STEPS + 1, 1, 1, STEPS + 1, STEPS + 2])
    return (corner + square).astype(np.uint16).ravel()


def conifer() -> Array:
    """Position, normal and colour of each vertex of triangles: a trunk and three cones."""
    sides = 7
    vertices = []
    layers = [(0.0, 0.35, 0.07, 0.07, (0.20, 0.12, 0.07))]
    layers += [
        (0.22 + 0.25 * it, 0.78 + 0.25 * it, 0.40 - 0.10 * it, 0.0, (0.05, 0.15 + 0.02 * it, 0.05))
        for it in range(3)
    ]
    for low, high, wide, top, colour in layers:
        for side in range(sides):
            angles = (math.tau * side / sides, math.tau * (side + 1) / sides)
            ring = [
                (math.cos(a) * r, y, math.sin(a) * r)
                for y, r in ((low, wide), (high, top))
                for a in angles
            ]
            slope = (wide - top) / (high - low)
            for corner in (0, 1, 2, 1, 3, 2):
                angle = angles[corner % 2]
                normal = np.array([math.cos(angle), slope, math.sin(angle)])
                vertices.append([*ring[corner], *(normal / np.linalg.norm(normal)), *colour])
    return np.array(vertices, np.float32)


def conifers(world: World, tile: tuple[int, int]) -> Array:
    """Place, size, hue and light of each conifer of a tile."""
    numbers = np.random.default_rng([world.seed, tile[0] + 10_000, tile[1] + 10_000])
    x, z = numbers.random((2, 70)) * TILE + np.array(tile)[:, None] * TILE
    size, hue, chance = numbers.random((3, 70))
    y = world.height(x, z)
    steep = world.normal(x, z)[:, 1] < 0.78
    woods = np.clip(0.5 + 1.6 * world.height(x / 3 + 500, z / 3, 3) / 20, 0.05, 0.95)
    here = (y > 1.2) & (y < 24) & ~steep & (chance < woods)
    parts = [x, y - 0.15, z, 2.2 + 2.6 * size, hue**2, world.light(x, y + 1, z)]
    return np.stack(parts, -1)[here].astype(np.float32)
