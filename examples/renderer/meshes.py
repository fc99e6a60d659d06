"""Meshes that code makes: the ground of a tile, a conifer, and where conifers stand."""

from __future__ import annotations

import math

import numpy as np

from .world import STEPS, TILE, Array, World


def ground(world: World, tile: tuple[int, int]) -> Array:
    """Position, normal and light of each vertex of a tile."""
    x, y, z, normal = world.ground(tile, STEPS + 1)
    parts = [x, y, z, *np.moveaxis(normal, -1, 0), world.light(x, y, z)]
    return np.stack(parts, -1).reshape(-1, 7).astype(np.float32)


def ground_indices() -> np.ndarray:
    corner = (np.arange(STEPS)[:, None] * (STEPS + 1) + np.arange(STEPS)).reshape(-1, 1)
    square = np.array([0, STEPS + 1, 1, 1, STEPS + 1, STEPS + 2])
    return (corner + square).astype(np.uint16).ravel()


def cone(low: float, high: float, wide: float, colour: tuple[float, ...], sides: int) -> Array:
    """Position, normal and colour of each vertex of a cone's triangles."""
    angles = np.arange(sides + 1) * math.tau / sides
    round_about = np.stack([np.cos(angles), np.zeros(sides + 1), np.sin(angles)], -1)
    ring = round_about * wide + np.array([0, low, 0])
    normals = round_about + np.array([0, wide / (high - low), 0])
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    vertices = np.empty((sides, 3, 9), np.float32)
    vertices[:, 0, :3], vertices[:, 1, :3], vertices[:, 2, :3] = ring[:-1], ring[1:], (0, high, 0)
    vertices[:, 0, 3:6], vertices[:, 1, 3:6] = normals[:-1], normals[1:]
    vertices[:, 2, 3:6] = normals[:-1]
    vertices[..., 6:] = colour
    return vertices.reshape(-1, 9)


def conifer() -> Array:
    """A trunk, which is a slim cone, and three cones of needles: 75 vertices."""
    trunk = cone(0, 0.7, 0.07, (0.20, 0.12, 0.07), 4)
    needles = [
        cone(
            0.22 + 0.25 * it, 0.78 + 0.25 * it, 0.40 - 0.10 * it, (0.05, 0.15 + 0.02 * it, 0.05), 7
        )
        for it in range(3)
    ]
    return np.concatenate([trunk, *needles])


def far_conifer() -> Array:
    """A conifer of two cones: 24 vertices, for where it is a few texels high."""
    lower = cone(0.15, 0.9, 0.36, (0.05, 0.15, 0.05), 4)
    return np.concatenate([lower, cone(0.55, 1.28, 0.24, (0.05, 0.18, 0.05), 4)])


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
