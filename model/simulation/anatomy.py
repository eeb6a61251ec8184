"""The anatomy of one simulated patient and the acquisition of one simulated radiograph, as sampled parameters.

Lengths are in units of half the 400 mm field of view: an image spans -1..1 both ways and one unit is 200 mm.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = [
    "MILLIMETRES",
    "Acquisition",
    "Anatomy",
    "enlarged_heart_ratio",
    "sample_acquisition",
    "sample_anatomy",
]

MILLIMETRES = 200.0
"""Millimetres in one unit of length."""


@dataclass(frozen=True)
class Anatomy:
    """What stays the same over a patient's studies. Lengths in units of 200 mm, y grows downwards."""

    chest_width: float  # midline to the inner chest wall
    chest_depth: float  # half the sternum-to-spine distance
    apex: float  # y of the lung apices
    dome: float  # y of the right hemidiaphragm at full inspiration
    dome_difference: float  # left hemidiaphragm below (+) the right one
    dome_height: float  # how far the dome rises above its edges
    heart_ratio: float  # cardiothoracic ratio without cardiomegaly, always below 0.5
    heart_lean: float  # share of the heart width left of the midline
    heart_tilt: float  # radians
    mediastinum: float  # half width of the upper mediastinum
    aortic_knob: float  # radius
    rib_spacing: float
    rib_slope: float
    rib_phase: float
    rib_contrast: float
    clavicle_height: float
    clavicle_slope: float
    scapula: float
    spine_curve: float  # signed sideways bow of the spine
    shoulder_slope: float
    fat: float  # thickness of the soft tissue around the chest
    breast: float  # 0 (none) to 1
    gastric_bubble: float  # radius, 0 for none
    markings: float  # contrast of the vessels
    seed: int  # of the vessel tree and soft-tissue texture


@dataclass(frozen=True)
class Acquisition:
    """How one radiograph was taken. Angles in radians, lengths in units of 200 mm."""

    rotation: float
    shift_x: float
    shift_y: float
    scale: float
    obliquity: float  # sideways displacement of the front of the chest against the spine
    inspiration: float  # 1 full, below 0.8 low lung volumes
    brightness: float
    contrast: float
    gamma: float
    noise: float
    borders: tuple[float, float, float, float]  # collimated fraction at left, top, right, bottom
    marker: Literal["L", "R"] | None
    marker_height: float
    seed: int


def enlarged_heart_ratio(anatomy: Anatomy, severity: float) -> float:
    """The cardiothoracic ratio with cardiomegaly of `severity` (0..1): above 0.53, about 0.71 at most."""
    return 0.545 + 0.155 * severity + 0.3 * (anatomy.heart_ratio - 0.43)


def sample_anatomy(rng: np.random.Generator, sex: Literal["M", "F"], age: int) -> Anatomy:
    """One patient's anatomy, drawn from `rng`; women are on average smaller, and the aortic knob grows with age."""
    size = float(np.clip(rng.normal(0.98 if sex == "M" else 0.93, 0.055), 0.8, 1.1))
    u = rng.uniform
    return Anatomy(
        chest_width=0.70 * size * u(0.95, 1.05),
        chest_depth=0.56 * size * u(0.92, 1.1),
        apex=-0.72 * size + u(-0.03, 0.03),
        dome=0.40 * size + u(-0.05, 0.05),
        dome_difference=u(0.0, 0.07),
        dome_height=u(0.07, 0.15),
        heart_ratio=u(0.39, 0.475),
        heart_lean=u(0.68, 0.78),
        heart_tilt=u(0.35, 0.75),
        mediastinum=u(0.105, 0.15),
        aortic_knob=u(0.08, 0.105) + 0.0006 * max(age - 40, 0),
        rib_spacing=u(0.112, 0.138) * size,
        rib_slope=u(0.20, 0.38),
        rib_phase=u(0.0, 1.0),
        rib_contrast=u(0.75, 1.25) * (1.0 - 0.002 * max(age - 50, 0)),
        clavicle_height=u(0.10, 0.19),
        clavicle_slope=u(-0.02, 0.2),
        scapula=u(0.80, 0.98),
        spine_curve=rng.normal(0.0, 0.018),
        shoulder_slope=u(0.18, 0.42),
        fat=float(np.clip(rng.gamma(3.0, 0.045), 0.05, 0.34)),
        breast=u(0.25, 1.0) if sex == "F" else 0.0,
        gastric_bubble=u(0.05, 0.13) if rng.random() < 0.65 else 0.0,
        markings=u(0.75, 1.25),
        seed=int(rng.integers(2**31)),
    )


def sample_acquisition(rng: np.random.Generator, view: Literal["PA", "AP", "LL"], borders: bool = True) -> Acquisition:
    """How one view was taken; an AP (portable) one is positioned, inspired and exposed less well."""
    portable = view == "AP"
    spread = 1.7 if portable else 1.0
    n = rng.normal
    edges = np.clip(rng.uniform(-0.05, 0.045, 4), 0.0, None) if borders and rng.random() < 0.5 else np.zeros(4)
    return Acquisition(
        rotation=float(np.clip(n(0.0, 0.018 * spread), -0.09, 0.09)),
        shift_x=float(np.clip(n(0.0, 0.022 * spread), -0.1, 0.1)),
        shift_y=float(np.clip(n(0.0, 0.025 * spread), -0.1, 0.1)),
        scale=float(np.clip(n(1.04 if portable else 1.0, 0.03), 0.92, 1.12)),
        obliquity=float(np.clip(n(0.0, 0.014 * spread), -0.06, 0.06)),
        inspiration=float(np.clip(n(0.85 if portable else 0.96, 0.06), 0.68, 1.05)),
        brightness=float(n(0.0, 0.03 * spread)),
        contrast=float(np.clip(n(1.0, 0.08), 0.8, 1.2)),
        gamma=float(np.exp(n(0.0, 0.12 * spread))),
        noise=float(rng.uniform(0.008, 0.022) * (1.3 if portable else 1.0)),
        borders=(float(edges[0]), float(edges[1]), float(edges[2]), float(edges[3])),
        marker=None if rng.random() < 0.5 else ("L" if view == "LL" or rng.random() < 0.6 else "R"),
        marker_height=float(rng.uniform(-0.9, -0.55)),
        seed=int(rng.integers(2**31)),
    )
