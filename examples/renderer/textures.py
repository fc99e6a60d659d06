"""The texture of a tile: sand, grass, rock and snow, by height and slope."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .world import World, fractal, smooth

SAND, GRASS, MEADOW, ROCK, SNOW = (
    np.array(it)
    for it in ((196, 176, 130), (92, 108, 48), (134, 128, 62), (118, 108, 100), (236, 240, 246))
)


def ground(world: World, tile: tuple[int, int], side: int) -> npt.NDArray[np.uint8]:
    """Rows of RGBA texels, `side` by `side`."""
    x, y, z, normal = world.ground(tile, side)
    rough = fractal(x / 2.2, z / 2.2, world.seed + 80, 5)
    patches = fractal(x / 17, z / 17, world.seed + 90, 3)
    up = normal[..., 1]

    def over(below: npt.NDArray[np.float64], colour: np.ndarray, share: np.ndarray) -> np.ndarray:
        return below + (colour - below) * share[..., None]

    colour = over(
        np.broadcast_to(GRASS, (side, side, 3)).astype(float), MEADOW, smooth(-0.3, 0.5, patches)
    )
    colour = over(colour, SAND, 1 - smooth(0.2, 1.5, y + rough))
    colour = over(colour, ROCK, 1 - smooth(0.66, 0.84, up + 0.16 * rough))
    colour = over(colour, SNOW, smooth(27, 35, y + 7 * rough) * smooth(0.5, 0.72, up))
    # Deep water takes the light away.
    colour *= (1 + 0.34 * rough)[..., None] * np.exp(np.minimum(y, 0) * 0.45)[..., None]
    texels = np.full((side, side, 4), 255, np.uint8)
    texels[..., :3] = np.clip(colour, 0, 255)
    return texels
