"""How each finding looks on the lateral radiograph: functions change the layers and return their footprint 0..1."""

import numpy as np
from numpy.typing import NDArray

from .canvas import Field, Stroke
from .findings import Finding
from .frontal import raised_by
from .lateral import Lateral

__all__ = ["draw_lateral_finding"]


def draw_lateral_finding(layers: Lateral, finding: Finding) -> Field | None:
    """Draws `finding` into `layers`; returns where it changed them, a field (S, S) of 0..1 (a mask at > 0.3).

    None for what a lateral view does not show (a pneumothorax).
    """
    match finding.name:
        case "cardiomegaly":
            return layers.heart * layers.above
        case "pleural effusion":
            return _effusion(layers, finding)
        case "pneumothorax":
            return None
        case "consolidation":
            return _consolidation(layers, finding)
        case "edema":
            return _edema(layers, finding)
        case "atelectasis":
            return _atelectasis(layers, finding)
        case "nodule":
            return _nodule(layers, finding)
        case _:
            metal = layers.canvas.strokes(_device_strokes(layers, finding))
            layers.metal = np.maximum(layers.metal, metal)
            return metal * np.float32(2.0)


def _effusion(layers: Lateral, finding: Finding) -> Field:
    """Fluid fills the posterior costophrenic angle first; its meniscus climbs behind."""
    canvas, s = layers.canvas, finding.severity
    floor = layers.right if finding.side == "right" else layers.left
    t = np.clip(canvas.x * np.float32(1 / layers.reach) + np.float32(0.1), 0.0, 1.1)
    level = floor + 0.20 - 0.35 * s - 0.70 * max(s - 0.3, 0.0)
    meniscus = np.float32(level) - np.float32(0.12 + 0.22 * s) * t * t
    fluid = canvas.soft(canvas.y - meniscus, 0.05) * canvas.soft(layers.depth, 0.03)
    if s < 0.4:
        fluid = fluid * np.clip((canvas.x - np.float32(0.05)) * 8.0, 0.0, 1.0)
    weight = np.float32(0.95 if finding.side == "bilateral" else 0.72)
    layers.air *= np.float32(1.0) - weight * fluid
    layers.extra += np.float32(0.10) * fluid * layers.above
    return fluid * layers.above


def _consolidation(layers: Lateral, finding: Finding) -> Field:
    canvas = layers.canvas
    x, y = layers.point(finding.place[2], finding.place[1])
    r = 0.12 + 0.16 * finding.severity
    core = canvas.blob(x, y, r, r * 1.1) + np.float32(0.42) * canvas.texture(finding.texture, 30)
    footprint = canvas.soft(core - np.float32(0.1), 1.1) * (canvas.blob(x, y, 1.7 * r, 1.7 * r) > 0) * layers.lung
    layers.air *= np.float32(1.0) - np.float32(0.45 + 0.3 * finding.severity) * footprint
    layers.extra += np.float32(0.05) * footprint
    return footprint


def _edema(layers: Lateral, finding: Finding) -> Field:
    canvas, s = layers.canvas, finding.severity
    dx, dy = (
        canvas.x * np.float32(1 / (0.8 * layers.reach)),
        (canvas.y - np.float32(0.02)) * np.float32(1 / 0.42),
    )
    haze = np.exp(-dx * dx - dy * dy) * (
        np.float32(1.0) + np.float32(0.12 + 0.2 * s) * canvas.texture(finding.texture, 44)
    )
    footprint = np.clip(haze, 0.0, 1.0) * layers.lung
    layers.vessels *= np.float32(1.0) + np.float32(0.9) * footprint
    layers.air *= np.float32(1.0) - np.clip(np.float32(0.25 + 0.5 * s) * footprint + np.float32(0.12), 0.0, 0.9)
    return footprint


def _atelectasis(layers: Lateral, finding: Finding) -> Field:
    canvas, s = layers.canvas, finding.severity
    x, y = layers.point(finding.place[2], finding.place[1])
    ends = np.linspace(-1, 1, 5)
    lines: list[Stroke] = []
    for index in range(1 if s < 0.4 else 2):
        reach = (0.34 + 0.15 * s) * layers.reach
        tilt = 0.35 * (((finding.texture >> index) % 100) / 100)
        lines.append(
            (
                np.stack((x + ends * reach, y - 0.09 * index + ends * tilt * reach), -1),
                0.018 + 0.03 * s,
                0.8,
            )
        )
    bands = canvas.strokes(lines) * layers.lung
    layers.air *= np.float32(1.0) - np.float32(0.4 + 0.35 * s) * bands
    low = layers.middle + (0.035 + layers.anatomy.dome_difference if finding.side == "left" else 0.0)
    before, after = layers.dome_curve(low), layers.dome_curve(low - raised_by(finding))
    lost = canvas.soft(before - canvas.y, 0.02) * canvas.soft(canvas.y - after, 0.02) * canvas.soft(layers.depth, 0.03)
    return np.maximum(bands, lost)


def _nodule(layers: Lateral, finding: Finding) -> Field:
    canvas = layers.canvas
    x, y = layers.point(finding.place[2], finding.place[1])
    r = (finding.diameter or 0.0) / 400.0
    disc = canvas.soft(
        canvas.blob(x, y, r * 1.04, r * 0.97, finding.texture % 3) * np.float32(0.5 * r),
        0.4 * r,
    )
    layers.extra += np.float32(0.17 + 0.05 * finding.severity) * disc
    return disc


def _device_strokes(layers: Lateral, finding: Finding) -> list[Stroke]:
    rng = np.random.default_rng(finding.texture)
    j = rng.uniform(-1.0, 1.0, 6)
    reach, (heart_x, heart_y, r) = layers.reach, layers.heart_place

    def path(*points: tuple[float, float]) -> NDArray[np.float64]:
        return np.array(points)

    match finding.device:
        case "endotracheal tube":
            return [
                (
                    path((-0.08, -1.3), (0.0, -0.8), (0.07, -0.4 + 0.05 * j[0])),
                    0.030,
                    0.6,
                )
            ]
        case "nasogastric tube":
            course = path(
                (0.02, -1.3),
                (0.12, -0.5),
                (0.16, 0.0),
                (0.08, layers.left + 0.08),
                (-0.1, layers.left + 0.25),
            )
            return [(course, 0.014, 0.9)]
        case "central line":
            return [
                (
                    path(
                        (-0.12, -1.1),
                        (-0.08, -0.6),
                        (-0.03, -0.3),
                        (-0.06, 0.0 + 0.05 * j[0]),
                    ),
                    0.013,
                    0.85,
                )
            ]
        case "pacemaker":
            y = layers.apex + 0.26 + 0.04 * j[0]
            box = path((-0.66 * reach, y - 0.06), (-0.70 * reach, y + 0.06))
            course = path(
                (-0.62 * reach, y),
                (-0.1, -0.5),
                (-0.02, -0.2),
                (heart_x + 0.3 * r, heart_y),
                (heart_x - 0.5 * r, heart_y + 0.6 * r),
            )
            return [(course, 0.012, 0.9), (box, 0.045, 0.95)]
        case "sternal wires":
            rows = np.linspace(-0.36, 0.22, 5)
            wires: list[Stroke] = []
            for row in rows:
                t = min(
                    max((row - layers.apex) / (layers.middle + 0.3 - layers.apex), 0.0),
                    1.0,
                )
                front = -reach * (0.30 + 0.72 * t**0.5 * (1.25 - 0.3 * t) * 0.8)
                wires.append(
                    (
                        path((front - 0.07, row), (front - 0.02, row + 0.012)),
                        0.012,
                        0.97,
                    )
                )
            return wires
        case _:
            course = path(
                (0.3, 0.35 + 0.1 * j[0]),
                (0.25, 0.1),
                (0.1, -0.2),
                (0.0 + 0.05 * j[1], layers.apex + 0.25),
            )
            return [(course, 0.032, 0.5), (course, 0.010, 0.95)]
