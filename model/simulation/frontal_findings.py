"""How each finding looks on the frontal radiograph: functions change the layers and return their footprint 0..1."""

import numpy as np
from numpy.typing import NDArray

from .canvas import Field, Stroke
from .findings import Finding
from .frontal import Frontal, raised_by

__all__ = ["draw_frontal_finding"]


def draw_frontal_finding(layers: Frontal, finding: Finding) -> Field:
    """Draws `finding` into `layers`; returns where it changed them, a field (S, S) of 0..1 (a mask at > 0.3)."""
    match finding.name:
        case "cardiomegaly":
            return layers.heart * layers.above
        case "pleural effusion":
            return _effusion(layers, finding)
        case "pneumothorax":
            return _pneumothorax(layers, finding)
        case "consolidation":
            return _consolidation(layers, finding)
        case "edema":
            return _edema(layers, finding)
        case "atelectasis":
            return _atelectasis(layers, finding)
        case "nodule":
            return _nodule(layers, finding)
        case _:
            return _device(layers, finding)


def _on(layers: Frontal, side: str) -> NDArray[np.bool_]:
    return layers.left if side == "left" else ~layers.left


def _effusion(layers: Frontal, finding: Finding) -> Field:
    """Fluid up to a meniscus that climbs the chest wall; a small one only fills the lateral costophrenic angle."""
    canvas, shape = layers.canvas, layers.shape
    out = layers.ax * np.float32(1 / shape.width)
    climb = np.clip(out - np.float32(0.42), 0.0, 0.62)
    footprint: Field = np.zeros_like(layers.air)
    for side in finding.sides:
        dome = shape.dome_left if side == "left" else shape.dome_right
        level = dome + 0.12 - 0.30 * finding.severity - 0.75 * max(finding.severity - 0.3, 0.0)
        rise = (0.16 + 0.22 * min(finding.severity, 0.6)) * (1.0 + 0.5 * (finding.texture % 7) / 7)
        meniscus = np.float32(level) - np.float32(rise) * climb * climb * np.float32(1 / 0.34) - np.float32(0.05) * out
        fluid = canvas.soft(canvas.y - meniscus, 0.05) * canvas.soft(layers.depth, 0.03) * _on(layers, side)
        footprint = np.maximum(footprint, fluid)
    layers.air *= np.float32(1.0) - np.float32(0.97) * footprint
    layers.extra += np.float32(0.13) * footprint * layers.above * (np.float32(1.0) - layers.center)
    footprint *= layers.above * (np.float32(1.0) - layers.center)
    return footprint


def _pneumothorax(layers: Frontal, finding: Finding) -> Field:
    """The lung falls away from the chest wall: a pleural line, beyond it air without markings."""
    canvas = layers.canvas
    inner = layers.lung_depth(0.09 + 0.52 * finding.severity)
    where = _on(layers, finding.sides[0]) & (layers.ax > 0.1)
    beyond = (np.float32(1.0) - canvas.soft(inner, 0.015)) * layers.lung * where
    layers.vessels *= np.float32(1.0) - beyond
    line = np.clip(
        np.float32(1.3) - np.abs(inner) * np.float32(1 / max(0.006, 0.8 * canvas.pixel)),
        0.0,
        1.0,
    )
    layers.extra += np.float32(0.15) * line * layers.lung * where * (np.float32(1.0) - layers.center)
    collapsed = layers.lung * where * (np.float32(1.0) - beyond)
    layers.air *= np.float32(1.0) + np.float32(0.22) * beyond - np.float32(0.08 + 0.34 * finding.severity) * collapsed
    return beyond


def _consolidation(layers: Frontal, finding: Finding) -> Field:
    """A fluffy opacity with soft, irregular edges."""
    canvas = layers.canvas
    x, y = layers.shape.lung_point(finding.sides[0], finding.place[0], finding.place[1])
    r = 0.12 + 0.17 * finding.severity
    tilt = (finding.texture % 100) / 100 - 0.5
    core = canvas.blob(x, y, r * 1.1, r, tilt) + np.float32(0.42) * canvas.texture(finding.texture, 30)
    footprint = canvas.soft(core - np.float32(0.1), 1.1) * (canvas.blob(x, y, 1.7 * r, 1.7 * r) > 0)
    footprint *= layers.lung * _on(layers, finding.sides[0])
    alpha = np.float32(0.55 + 0.38 * finding.severity) * footprint
    layers.air *= np.float32(1.0) - alpha
    return footprint


def _edema(layers: Frontal, finding: Finding) -> Field:
    """Bilateral perihilar haze with thick vessels, septal lines at the bases, and patches when severe."""
    canvas, shape, s = layers.canvas, layers.shape, finding.severity
    dx = (layers.ax - np.float32(0.36 * shape.width)) * np.float32(1 / (0.34 * shape.width + 0.12 * s))
    dy = (canvas.y - np.float32(0.05)) * np.float32(1 / (0.36 + 0.1 * s))
    haze = np.exp(-dx * dx - dy * dy) * (
        np.float32(1.0) + np.float32(0.12 + 0.22 * s) * canvas.texture(finding.texture, 44)
    )
    footprint = np.clip(haze, 0.0, 1.0) * layers.lung
    layers.vessels *= np.float32(1.0) + np.float32(0.9) * footprint
    alpha = np.float32(0.26 + 0.62 * s) * footprint + np.float32(0.10 + 0.12 * s) * layers.lung
    layers.air *= np.float32(1.0) - np.clip(alpha, 0.0, 0.95)
    rng = np.random.default_rng(finding.texture)
    lines: list[Stroke] = []
    for side in finding.sides:
        for index in range(7):
            u, v = 0.93 - rng.uniform(0, 0.03), 0.68 + 0.045 * index
            start = np.array(shape.lung_point(side, u, v))
            end = np.array(shape.lung_point(side, u - rng.uniform(0.08, 0.14), v + 0.01))
            lines.append((np.stack((start, end)), 0.007, 0.9))
    layers.extra += np.float32(0.07 + 0.06 * s) * canvas.strokes(lines) * layers.lung
    return footprint * (np.float32(1.0) - layers.center)


def _atelectasis(layers: Frontal, finding: Finding) -> Field:
    """Plate-like bands above a raised hemidiaphragm; when severe, a dense collapsed wedge as well."""
    canvas, shape, s = layers.canvas, layers.shape, finding.severity
    rng = np.random.default_rng(finding.texture)
    raised = raised_by(finding)
    right = raised if "right" in finding.sides else 0.0
    left = raised if "left" in finding.sides else 0.0
    low = layers.dome_curve(shape.dome_right + right, shape.dome_left + left)
    lost = canvas.soft(low - canvas.y, 0.02) * (np.float32(1.0) - layers.above) * canvas.soft(layers.depth, 0.03)
    lines: list[Stroke] = []
    footprint: Field = lost
    for side in finding.sides:
        u, v, _ = finding.place
        for index in range(1 if s < 0.4 else 2):
            tilt = rng.uniform(-0.10, 0.12)
            ends = np.linspace(-1, 1, 7)
            x, y = shape.lung_point(side, u + 0.06 * index, v - 0.10 * index)
            reach = (0.20 + 0.10 * s) * shape.width
            sag = 0.02 * rng.normal() * (1 - ends**2)
            points = np.stack(
                (
                    x + ends * reach,
                    y + ends * tilt * reach * (1 if side == "left" else -1) + sag,
                ),
                axis=-1,
            )
            # Fainter and wider below, shorter and denser on top: a band that fades at its ends and rims.
            width = 0.016 + 0.032 * s
            lines += [
                (points, 1.5 * width, 0.4),
                (points[1:-1], width, 0.7),
                (points[2:-2], 0.7 * width, 0.9),
            ]
        if s >= 0.7:
            x, y = shape.lung_point(side, 0.42, 0.98)
            wedge = canvas.soft(
                canvas.blob(x, y, 0.34 * shape.width, 0.30, 0.5 if side == "left" else -0.5),
                0.6,
            )
            wedge = wedge * layers.lung * _on(layers, side)
            layers.air *= np.float32(1.0) - np.float32(0.8) * wedge
            footprint = np.maximum(footprint, wedge)
    bands = canvas.strokes(lines) * layers.lung
    layers.air *= np.float32(1.0) - np.float32(0.5 + 0.4 * s) * bands
    return np.maximum(footprint, bands)


def _nodule(layers: Frontal, finding: Finding) -> Field:
    """A round, well-defined opacity of `Finding.diameter`."""
    canvas = layers.canvas
    x, y = layers.shape.lung_point(finding.sides[0], finding.place[0], finding.place[1])
    r = (finding.diameter or 0.0) / 400.0
    inside = canvas.blob(x, y, r * 1.04, r * 0.97, finding.texture % 3)
    disc = canvas.soft(inside * np.float32(0.5 * r), 0.4 * r)
    layers.extra += (np.float32(0.20) + np.float32(0.06 * finding.severity)) * disc * (1 - layers.center)
    return disc


def _device(layers: Frontal, finding: Finding) -> Field:
    canvas = layers.canvas
    metal = canvas.strokes(_device_strokes(layers, finding))
    layers.metal = np.maximum(layers.metal, metal)
    return metal * np.float32(2.0)


def _device_strokes(layers: Frontal, finding: Finding) -> list[Stroke]:
    """The course of each device; a tube is two walls with a marker stripe, a line or lead a single stroke."""
    shape = layers.shape
    rng = np.random.default_rng(finding.texture)
    j = rng.uniform(-1.0, 1.0, 8)
    sign = 1.0 if finding.side == "left" else -1.0
    mid, width = shape.shift, shape.width
    heart_x, heart_y, half, height, _ = shape.heart

    def path(*points: tuple[float, float]) -> NDArray[np.float64]:
        return _smooth(np.array(points))

    match finding.device:
        case "endotracheal tube":
            tip = -0.36 + 0.06 * j[0]
            course = path(
                (mid + 0.05 * j[1], -1.3),
                (mid + 0.02 * j[2], -0.75),
                (mid + 0.01 * j[3], tip),
            )
            return [
                (course, 0.042, 0.45),
                (course, 0.026, 0.30),
                (course + np.array((0.017, 0.0)), 0.010, 0.95),
            ]
        case "nasogastric tube":
            end = (0.34 * width + 0.05 * j[0], shape.dome_left + 0.24 + 0.05 * j[1])
            course = path(
                (mid + 0.04 + 0.03 * j[2], -1.3), (mid + 0.03, -0.4), (mid + 0.02, 0.1),
                (mid + 0.07, shape.dome_left + 0.02), (end[0] - 0.12, end[1] - 0.07), end,
            )  # fmt: skip
            return [(course, 0.020, 0.50), (course, 0.009, 0.95)]
        case "central line":
            tip = (mid - 0.085 + 0.01 * j[0], 0.02 + 0.07 * j[1])
            if finding.side == "right":
                course = path(
                    (-0.20 + 0.03 * j[2], -1.15),
                    (-0.15, -0.8),
                    (mid - 0.09, -0.45),
                    tip,
                )
            else:
                course = path(
                    (0.55 + 0.05 * j[2], -0.62),
                    (0.3, -0.66),
                    (0.12, -0.55),
                    (mid - 0.06, -0.36),
                    tip,
                )
            return [(course, 0.013, 0.9)]
        case "pacemaker":
            x, y = sign * (0.74 * width + 0.03 * j[0]), shape.apex + 0.27 + 0.04 * j[1]
            box = np.array([(x - 0.07, y), (x + 0.07, y)])
            cap = np.array([(x - 0.05, y - 0.06), (x + 0.05, y - 0.06)])
            vein = (
                (sign * 0.3, shape.apex + 0.12),
                (mid - 0.07, -0.45),
                (mid - 0.09, -0.1),
            )
            tip = (heart_x + 0.55 * half, heart_y + 0.52 * height)
            ventricle = path(
                (x, y),
                *vein,
                (mid - 0.07, heart_y + 0.3 * height),
                (heart_x, heart_y + 0.55 * height),
                tip,
            )
            strokes: list[Stroke] = [
                (ventricle, 0.012, 0.92),
                (box, 0.13, 0.97),
                (cap, 0.04, 0.97),
            ]
            if j[2] > 0:
                atrium = path(
                    (x, y + 0.02),
                    *vein,
                    (mid - 0.10, heart_y),
                    (mid - 0.15, heart_y - 0.12),
                )
                strokes.insert(0, (atrium, 0.012, 0.92))
            return strokes
        case "sternal wires":
            rows = np.linspace(-0.36, 0.22, 5 + int(j[0] > 0)) + 0.02 * j[1]
            turn = np.linspace(0.0, 2 * np.pi, 12)
            loops = []
            for row in rows:
                r = 0.035 + 0.008 * rng.normal()
                loop = np.stack(
                    (
                        mid + 0.6 * layers.canvas.pixel + r * np.cos(turn),
                        row + 0.5 * r * np.sin(turn),
                    ),
                    -1,
                )
                loops.append((loop, 0.010, 0.97))
            return loops
        case _:
            course = path(
                (sign * (width + 0.30), 0.34 + 0.1 * j[0]), (sign * width * 0.97, 0.20 + 0.1 * j[1]),
                (sign * width * 0.78, -0.15), (sign * (0.48 + 0.06 * j[2]) * width, shape.apex + 0.22 + 0.08 * j[3]),
            )  # fmt: skip
            return [
                (course, 0.040, 0.42),
                (course, 0.024, 0.25),
                (course + np.array((0.014, 0.0)), 0.010, 0.95),
            ]


def _smooth(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """A Catmull-Rom curve (M, 2) through `points` (N, 2)."""
    padded = np.concatenate((2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]))
    t = np.linspace(0.0, 1.0, 9)[:, None]
    a, b, c, d = (padded[i : len(padded) - 3 + i][:, None] for i in range(4))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.asarray(curve.reshape(-1, 2))
