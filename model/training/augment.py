"""The paper's augmentation, on a batch at once: one random affine map and one exposure change a picture.

Axes: B pictures, H side in px.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Augmentation", "draw_augmentation"]

ROTATION = 20.0  # degrees either way; ALTA's values, see its recipe
SHEAR = 10.0
TRANSLATION = 0.1  # share of the side
SCALE = (0.95, 1.05)
EXPOSURE = (0.8, 1.2)  # brightness and contrast factors


@dataclass(frozen=True)
class Augmentation:
    """One draw a study. The current and the prior image of one view share it, or change could not be seen.

    affine (B, 2, 3) in the normalised coordinates of ``affine_grid``; brightness and contrast (B, 1, 1, 1).
    """

    affine: Tensor
    brightness: Tensor
    contrast: Tensor

    def to(self, device: torch.device) -> "Augmentation":
        return Augmentation(self.affine.to(device), self.brightness.to(device), self.contrast.to(device))

    def __call__(self, pictures: Tensor) -> Tensor:
        """(B, 1, H, H) in 0..1 to the same, moved and re-exposed. What lies outside is black."""
        grid = F.affine_grid(self.affine, list(pictures.shape), align_corners=False)
        moved = F.grid_sample(pictures, grid, mode="bilinear", align_corners=False)
        brighter = (moved * self.brightness).clamp(0, 1)
        mean = brighter.mean((1, 2, 3), keepdim=True)
        return (mean + (brighter - mean) * self.contrast).clamp(0, 1)


def draw_augmentation(count: int, generator: torch.Generator, strength: float = 1.0) -> Augmentation:
    """``strength`` scales the affine part: 1 is the paper's, 0 leaves the geometry alone."""

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=generator) * (high - low) + low

    angle = uniform(-ROTATION, ROTATION) * strength * math.pi / 180
    shear = uniform(-SHEAR, SHEAR) * strength * math.pi / 180
    scale = 1 + (uniform(*SCALE) - 1) * strength
    # affine_grid maps output to input, so this is the inverse of what the picture does.
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2)
    shearing = torch.stack(
        [
            torch.ones_like(shear),
            shear.tan(),
            torch.zeros_like(shear),
            torch.ones_like(shear),
        ],
        1,
    )
    linear = rotation @ shearing.view(-1, 2, 2) / scale[:, None, None]
    shift = torch.stack([uniform(-2, 2), uniform(-2, 2)], 1) * TRANSLATION * strength  # the side is 2 long
    factors = [uniform(*EXPOSURE).view(-1, 1, 1, 1) for _ in range(2)]
    return Augmentation(torch.cat([linear, shift[:, :, None]], 2), *factors)
