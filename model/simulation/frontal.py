"""The frontal radiograph: where its anatomy lies, and the layers it is composed of.

The picture is a sum of attenuations in display units (0 black air, about 0.6 soft tissue of the chest, 1 white metal):
soft tissue, minus the air of the lungs, plus bone. Findings act on the air (`frontal_findings`).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .anatomy import Acquisition, Anatomy, enlarged_heart_ratio
from .canvas import Canvas, Field, Stroke, joined
from .findings import Finding

__all__ = ["Frontal", "Shape", "frontal_shape", "raised_by", "vessel_tree"]


@dataclass
class Shape:
    """The frontal anatomy after inspiration and the findings that move it. x grows to the patient's left."""

    width: float
    apex: float
    dome_right: float
    dome_left: float
    dome_height: float
    heart: tuple[float, float, float, float, float]  # x, y, half width, half height, tilt
    shift: float  # of the mediastinum towards the patient's left

    def lung_point(self, side: str, u: float, v: float) -> tuple[float, float]:
        """The point at `u` from midline to chest wall and `v` from apex to diaphragm on `side`."""
        sign = 1.0 if side == "left" else -1.0
        dome = self.dome_left if side == "left" else self.dome_right
        return sign * u * self.width, self.apex + v * (dome - self.apex)


def frontal_shape(anatomy: Anatomy, acquisition: Acquisition, findings: tuple[Finding, ...]) -> Shape:
    """Where the frontal anatomy lies for these findings: cardiomegaly widens the heart, volume loss raises a dome."""
    a = anatomy
    right = a.dome - 0.62 * (1.0 - acquisition.inspiration)
    left = right + a.dome_difference
    ratio, shift = a.heart_ratio, acquisition.obliquity
    ratio += 0.06 * (1.0 - acquisition.inspiration)
    for finding in findings:
        if finding.name == "cardiomegaly":
            ratio = enlarged_heart_ratio(a, finding.severity)
        if finding.name == "atelectasis":
            raised = raised_by(finding)
            if "right" in finding.sides:
                right -= raised
            if "left" in finding.sides:
                left -= raised
            if finding.side != "bilateral":
                shift += (0.06 if finding.side == "left" else -0.06) * max(finding.severity - 0.4, 0.0)
        if finding.name == "pneumothorax":
            shift += (-0.08 if finding.side == "left" else 0.08) * max(finding.severity - 0.6, 0.0)
        if finding.name == "pleural effusion" and finding.side != "bilateral":
            shift += (-0.10 if finding.side == "left" else 0.10) * max(finding.severity - 0.7, 0.0)
    half = ratio * a.chest_width
    height = 0.19 * a.chest_width / 0.7 + 0.36 * half
    center = (2 * a.heart_lean - 1) * half + shift
    base = a.dome - 0.5 * (1.0 - acquisition.inspiration) + 0.05
    heart = (center, base - 0.62 * height, half, height, a.heart_tilt)
    return Shape(a.chest_width, a.apex, right, left, a.dome_height, heart, shift)


def raised_by(finding: Finding) -> float:
    """How far the volume loss of an atelectasis lifts the hemidiaphragm below it, in units of 200 mm."""
    return 0.03 + 0.15 * finding.severity


@lru_cache(maxsize=256)
def vessel_tree(
    seed: int,
) -> tuple[tuple[tuple[tuple[float, float], ...], float, int], ...]:
    """Branching vessels of one lung in a frame of 0..1 from hilum to wall: polylines, relative width, generation."""
    rng = np.random.default_rng(seed)
    lines: list[tuple[tuple[tuple[float, float], ...], float, int]] = []

    def grow(x: float, y: float, angle: float, length: float, width: float, generation: int) -> None:
        points = [(x, y)]
        for _ in range(3):
            angle += rng.normal(0.0, 0.16)
            x, y = x + np.cos(angle) * length / 3, y + np.sin(angle) * length / 3
            points.append((float(x), float(y)))
        lines.append((tuple(points), width, generation))
        if generation < 3:
            for turn in (-1, 1):
                bend = angle + turn * rng.uniform(0.2, 0.55)
                grow(
                    x,
                    y,
                    bend,
                    length * rng.uniform(0.6, 0.85),
                    width * 0.68,
                    generation + 1,
                )

    for angle in np.linspace(-1.35, 1.45, 7):
        grow(
            0.0,
            0.03 * angle,
            angle + rng.normal(0, 0.08),
            rng.uniform(0.2, 0.3),
            1.0,
            0,
        )
    return tuple(sorted(lines, key=lambda line: -line[2]))  # thick branches are drawn last, over the thin ones


class Frontal:
    """The layers of one frontal radiograph as fields (S, S); findings change `air`, `extra` and `vessels` in place.

    `air` is the lung's air 0..1, `extra` attenuation added on top, `vessels` the bronchovascular markings 0..1.
    """

    def __init__(self, canvas: Canvas, anatomy: Anatomy, shape: Shape) -> None:
        self.canvas, self.anatomy, self.shape = canvas, anatomy, shape
        self.ax: Field = np.abs(canvas.x)
        self.left: NDArray[np.bool_] = canvas.x > 0
        self.dome = self.dome_curve(shape.dome_right, shape.dome_left)
        self.depth = self.lung_depth(0.0)
        self.above = canvas.soft(self.dome - canvas.y, 0.02)
        self.lung = canvas.soft(self.depth, 0.05) * self.above
        self.heart = self._heart()
        self.mediastinum = self._mediastinum()
        self.center = np.maximum(self.heart, self.mediastinum)
        self.air = self.lung * (1.0 - 0.9 * self.center)
        self.extra: Field = np.zeros_like(self.air)
        self.metal: Field = np.zeros_like(self.air)
        self.vessels = self._vessels()

    def dome_curve(self, right: float, left: float) -> Field:
        """y of the diaphragm at every pixel's x, with the costophrenic angles deep at the sides."""
        peak = 0.5 * self.shape.width
        away = (self.ax - np.float32(peak)) * np.float32(1 / peak)
        curve = away * away * np.where(away > 0, np.float32(1.25), np.float32(0.55))
        return np.where(self.left, np.float32(left), np.float32(right)) + curve * np.float32(self.shape.dome_height)

    def lung_depth(self, collapse: float) -> Field:
        """Signed distance-like depth inside the lung's outline, which `collapse` (0..1) shrinks towards the hilum."""
        width = self.shape.width
        lateral = width * (0.62 - 0.62 * collapse)
        base = 0.42
        height = (base - self.shape.apex) * (1.0 - 0.55 * collapse)
        across = self.ax - np.float32(0.38 * width)
        across = np.where(
            across > 0,
            across * np.float32(1 / lateral),
            across * np.float32(1 / (0.36 * width)),
        )
        up = np.clip((np.float32(base) - self.canvas.y) * np.float32(1 / height), 0.0, None)
        r = across * across + up * up * np.sqrt(up)
        # Near the edge 1 - r falls twice as fast as the distance in units of the half width.
        return (np.float32(1.0) - r) * np.float32(0.5 * max(lateral, 0.1))

    def _heart(self) -> Field:
        canvas, (x, y, half, height, tilt) = self.canvas, self.shape.heart
        ventricle = canvas.blob(x + 0.10 * half, y + 0.02, half * 0.92, height * 0.80, 0.6 * tilt) * np.float32(
            0.5 * half
        )
        atrium = canvas.blob(x - 0.46 * half, y, half * 0.54, height * 0.86, 0.05) * np.float32(0.4 * half)
        root = canvas.blob(x - 0.05 * half, y - 0.55 * height, 0.45 * half, 0.70 * height) * np.float32(0.3 * half)
        return canvas.soft(joined(joined(ventricle, atrium, 0.12), root, 0.14), 0.03)

    def _mediastinum(self) -> Field:
        a, canvas, shift = self.anatomy, self.canvas, self.shape.shift
        x = canvas.x - np.float32(shift)
        flare = np.clip(canvas.y + np.float32(0.1), 0.0, 0.6)
        neck = np.clip(np.float32(-0.5) - canvas.y, 0.0, 0.5)
        stripe = np.float32(0.85 * a.mediastinum) + np.float32(0.15) * flare + np.float32(0.25) * neck - np.abs(x)
        knob = canvas.blob(0.075 + shift, -0.29, a.aortic_knob, a.aortic_knob * 1.1) * np.float32(a.aortic_knob / 2)
        trunk = canvas.blob(0.08 + shift, -0.08, 0.10, 0.16, 0.25) * np.float32(0.05)
        hila = np.maximum(
            canvas.blob(0.17 + shift, -0.08, 0.08, 0.10, -0.5),
            canvas.blob(-0.16 + shift, -0.03, 0.08, 0.13, 0.4),
        )
        solid = canvas.soft(joined(joined(stripe, knob, 0.03), trunk, 0.05), 0.03)
        return np.maximum(solid, np.float32(0.45) * canvas.soft(hila * np.float32(0.05), 0.09))

    def _vessels(self) -> Field:
        strokes: list[Stroke] = []
        width = self.shape.width
        for side, seed in (
            ("right", self.anatomy.seed),
            ("left", self.anatomy.seed + 1),
        ):
            sign = 1.0 if side == "left" else -1.0
            hilum = np.array([sign * 0.12 + self.shape.shift, -0.04])
            stretch = np.array([sign * width * 1.0, (self.shape.dome_left - self.shape.apex) * 0.66])
            for points, weight, generation in vessel_tree(seed):
                line = hilum + np.array(points) * stretch
                strokes.append((line, 0.030 * weight, (0.80, 0.78, 0.72, 0.62)[generation]))
        return self.canvas.strokes(strokes)

    def bones(self) -> Field:
        """Attenuation of the ribs, clavicles, scapulae and spine, about 0..0.25."""
        a, canvas, ax, y = self.anatomy, self.canvas, self.ax, self.canvas.y
        out = ax * np.float32(1 / self.shape.width)
        posterior = y - np.float32(a.rib_slope) * out * out * out + np.float32(0.10) * out
        ribs = _stripes(posterior, a.rib_spacing, a.rib_phase, 0.42)
        anterior = y + np.float32(0.55 * a.rib_slope + 0.28) * out
        front = _stripes(anterior, a.rib_spacing * 1.12, a.rib_phase + 0.4, 0.34)
        cage = canvas.soft(self.depth + np.float32(0.06), 0.04)
        below = np.clip(np.float32(1.0) - (y - self.dome) * np.float32(6.0), 0.15, 1.0)
        field = ribs * np.float32(0.095) * np.clip(ax * 9.0 - 0.3, 0.0, 1.0)
        field += front * np.float32(0.05) * np.clip((out - np.float32(0.42)) * 5.0, 0.0, 1.0)
        field *= cage * below * np.float32(a.rib_contrast)
        field += self._clavicles()
        spine_x = np.float32(a.spine_curve) * np.cos(np.float32(2.2) * y)
        column = canvas.soft(np.float32(0.085) - np.abs(canvas.x - spine_x), 0.02)
        discs = _stripes(y, 0.125, a.rib_phase, 0.8)
        field += column * (np.float32(0.03) + np.float32(0.025) * discs)
        edge = ax - np.float32(a.scapula * self.shape.width) - np.float32(0.25) * (y + np.float32(0.3))
        blade = canvas.soft(edge, 0.03) * np.clip(np.float32(-2.5) * y, 0.0, 1.0)
        return field + blade * np.float32(0.05)

    def _clavicles(self) -> Field:
        a, ax, y = self.anatomy, self.ax, self.canvas.y
        reach = ax * np.float32(1 / 0.68)
        middle = np.float32(self.shape.apex + a.clavicle_height) - np.float32(a.clavicle_slope) * reach
        middle = middle - np.float32(0.03) * np.sin(np.float32(4.5) * reach)
        off = (y - middle) * np.float32(1 / 0.03)
        ends = np.clip((ax - np.float32(0.07)) * 30.0, 0.0, 1.0)
        return np.float32(0.10) * np.clip(np.float32(1.3) - off * off, 0.0, 1.0) * ends

    def image(self) -> Field:
        """The composed radiograph, about 0..1, before exposure and noise."""
        a, canvas, ax, y = self.anatomy, self.canvas, self.ax, self.canvas.y
        wall = self.shape.width + 0.04 + a.fat
        arm = np.clip(np.float32(0.12) - y, 0.0, None)
        torso = np.float32(wall) + arm * arm * np.float32(1.3) - ax
        top = self.shape.apex - 0.10 - 0.4 * a.fat
        shoulder = y - np.float32(top) - np.float32(a.shoulder_slope) * np.clip(ax - np.float32(0.3), 0.0, None)
        neck = np.float32(0.24 + 0.3 * a.fat) + np.clip(y - np.float32(top), 0.0, None) - ax
        body = canvas.soft(np.minimum(torso, np.maximum(shoulder, neck)), 0.03)
        belly = 1.0 - canvas.soft(self.dome - y, 0.02)
        tissue = np.float32(0.54 + 0.10 * a.fat)
        field: Field = body * (tissue + belly * canvas.soft(self.depth + np.float32(0.15), 0.2) * np.float32(0.15))
        field += self.center * np.float32(0.12) * self.above + self.heart * np.float32(0.05) * self.above
        field += body * np.float32(0.02) * canvas.texture(a.seed, 24)
        if a.gastric_bubble:
            r = a.gastric_bubble
            bubble = canvas.blob(
                0.42 * self.shape.width,
                self.shape.dome_left + 0.05 + 0.6 * r,
                1.3 * r,
                0.7 * r,
            )
            field -= np.float32(0.25) * canvas.soft(bubble * np.float32(r * 0.4), 0.04) * belly
        trachea = canvas.soft(np.float32(0.036) - np.abs(canvas.x - np.float32(self.shape.shift)), 0.025)
        field -= np.float32(0.12) * trachea * np.clip((np.float32(-0.18) - y) * 8.0, 0.0, 1.0)
        field -= self.air * (np.float32(0.45) - np.float32(0.135 * a.markings) * self.vessels)
        if a.breast:
            r = 0.30 + 0.10 * a.breast
            shadow = canvas.soft(
                (np.float32(r) - np.hypot(ax - np.float32(0.36), y - np.float32(0.22))),
                0.05,
            )
            field += np.float32(0.05 + 0.03 * a.breast) * shadow * body
        field += self.bones() * body + self.extra
        return field + self.metal * (np.float32(1.0) - field)


def _stripes(field: Field, spacing: float, phase: float, share: float) -> Field:
    """Periodic bands 0..1 along `field`, each filling `share` of `spacing`, with rims bright as cortical bone."""
    t = field * np.float32(1 / spacing) + np.float32(phase)
    t = np.abs(t - np.floor(t) - np.float32(0.5)) * np.float32(2.0 / share)
    edge = np.clip((np.float32(1.0) - t) * 5.0, 0.0, 1.0)
    return edge * (np.float32(0.65) + np.float32(0.35) * t * t)
