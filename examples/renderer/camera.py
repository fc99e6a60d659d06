"""The camera's flight along the river, and its matrices."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from .world import Array, World

SPEED = 3.2
"""Metres in a frame."""
FAR = 420.0


class Camera:
    def __init__(self, world: World, frame: int, aspect: float) -> None:
        z = frame * SPEED
        rise = 0.5 - 0.5 * math.cos(z / 70)
        self.eye = np.array([world.river(z), 5.5 + 22 * rise, z])
        target = np.array([world.river(z + 45), 5.5 + 10 * rise, z + 45])
        self.ahead = (target - self.eye) / np.linalg.norm(target - self.eye)
        roll = 0.0022 * (world.river(z + 40) - world.river(z))
        right = np.cross([math.sin(roll), math.cos(roll), 0.0], self.ahead)
        right /= np.linalg.norm(right)
        up = np.cross(self.ahead, right)
        view = np.eye(4)
        view[:3, :3] = [right, up, self.ahead]
        view[:3, 3] = -view[:3, :3] @ self.eye
        near, scale = 0.4, 1 / math.tan(math.radians(58) / 2)
        projection = np.zeros((4, 4))
        projection[0, 0], projection[1, 1] = scale / aspect, -scale
        projection[2, 2:] = FAR / (FAR - near), -near * FAR / (FAR - near)
        projection[3, 2] = 1
        self.view_projection = projection @ view
        # The five planes that tell what is not seen; the sixth, `near`, is not worth a test.
        w = self.view_projection[3]
        rows = self.view_projection
        self.planes = np.array([w + rows[0], w - rows[0], w + rows[1], w - rows[1], w - rows[2]])

    def sees(self, low: Array, high: Array) -> npt.NDArray[np.bool_]:
        """Which boxes of the world may be in the picture, by rows of their corners."""
        facing = self.planes[:, None, :3]
        corners = np.where(facing > 0, high, low)
        return ((corners * facing).sum(-1) + self.planes[:, 3:] > 0).all(0)
