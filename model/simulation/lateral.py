"""The lateral radiograph: the layers it is composed of, with the sternum at the left of the image."""

import numpy as np

from .anatomy import Acquisition, Anatomy, enlarged_heart_ratio
from .canvas import Canvas, Field, Stroke, joined
from .findings import Finding
from .frontal import raised_by, vessel_tree

__all__ = ["Lateral"]


class Lateral:
    """The layers of one lateral radiograph as fields (S, S); x grows towards the spine, y downwards.

    `air` is the lungs' air 0..1, `extra` attenuation added on top, `metal` devices, `vessels` the markings 0..1.
    """

    def __init__(
        self,
        canvas: Canvas,
        anatomy: Anatomy,
        acquisition: Acquisition,
        findings: tuple[Finding, ...],
    ) -> None:
        self.canvas, self.anatomy = canvas, anatomy
        a = anatomy
        self.reach = a.chest_depth
        self.apex = a.apex
        self.middle = a.dome - 0.55 * (1.0 - acquisition.inspiration)  # y of the top of the right dome
        raised = {"right": 0.0, "left": 0.0}
        ratio = a.heart_ratio
        for finding in findings:
            if finding.name == "atelectasis":
                for side in finding.sides:
                    raised[side] = raised_by(finding)
            if finding.name == "cardiomegaly":
                ratio = enlarged_heart_ratio(a, finding.severity)
        self.right = self.middle - raised["right"]
        self.left = self.middle + 0.035 + a.dome_difference - raised["left"]
        self.dome = np.minimum(self.dome_curve(self.right), self.dome_curve(self.left))
        self.deep = np.maximum(self.dome_curve(self.right), self.dome_curve(self.left))
        self.depth = self._depth()
        # Between the two domes one lung still holds air.
        high, low = (
            canvas.soft(self.dome - canvas.y, 0.02),
            canvas.soft(self.deep - canvas.y, 0.02),
        )
        self.above = np.float32(0.6) * high + np.float32(0.4) * low
        self.lung = canvas.soft(self.depth, 0.05) * self.above
        r = 0.52 * self.reach * (ratio / 0.43) ** 0.9
        self.heart_place = (-0.92 * self.reach + r, self.middle - 0.62 * r, r)
        x, y, r = self.heart_place
        body = canvas.blob(x, y, r, 1.15 * r, -0.75)
        self.heart = canvas.soft(body * np.float32(0.5 * r), 0.05) * canvas.soft(self.depth + np.float32(0.05), 0.05)
        self.air = self.lung * (np.float32(1.0) - np.float32(0.72) * self.heart)
        self.extra: Field = np.zeros_like(self.air)
        self.metal: Field = np.zeros_like(self.air)
        self.vessels = self._vessels()

    def point(self, depth: float, v: float) -> tuple[float, float]:
        """The point at `depth` -1..1 from sternum to spine and `v` 0..1 from the apex to the diaphragm."""
        return depth * self.reach, self.apex + v * (float(self.middle) - self.apex)

    def dome_curve(self, top: float) -> Field:
        """y of a hemidiaphragm whose highest point is at `top`: shallow in front, deep behind."""
        t = (self.canvas.x + np.float32(0.35 * self.reach)) * np.float32(1 / self.reach)
        back = np.clip(t, 0.0, None)
        return np.float32(top) + np.float32(0.10) * t * t + np.float32(0.16) * back * back

    def _depth(self) -> Field:
        canvas = self.canvas
        t = np.clip(
            (canvas.y - np.float32(self.apex)) * np.float32(1 / (self.middle + 0.3 - self.apex)),
            0.0,
            1.0,
        )
        front = np.float32(self.reach) * (np.float32(0.30) + np.float32(0.72) * np.sqrt(t) * (1.25 - 0.3 * t) * 0.8)
        back = np.float32(self.reach) * (np.float32(0.55) + np.float32(0.55) * np.sin(np.float32(2.0) * t + 0.2))
        wall = -joined(-(canvas.x + front), canvas.x - back, 0.08)
        top = canvas.y - np.float32(self.apex) - np.float32(0.5) * (canvas.x - np.float32(0.1)) ** 2
        return -joined(-wall, -top, 0.3)

    def spine_x(self) -> Field:
        """x of the middle of the vertebral column at every pixel's y."""
        return np.float32(self.reach) * (
            np.float32(0.50) + np.float32(0.34) * np.sin(np.float32(1.5) * self.canvas.y + 1.3)
        )

    def _vessels(self) -> Field:
        strokes: list[Stroke] = []
        hilum = np.array([0.08 * self.reach, -0.04])
        for sign, seed in (
            (1.0, self.anatomy.seed + 2),
            (-0.75, self.anatomy.seed + 3),
        ):
            stretch = np.array([sign * self.reach * 1.0, (self.middle - self.apex) * 0.7])
            for points, weight, generation in vessel_tree(seed):
                strokes.append(
                    (
                        hilum + np.array(points) * stretch,
                        0.026 * weight,
                        (0.55, 0.6, 0.55, 0.45)[generation],
                    )
                )
        return self.canvas.strokes(strokes)

    def bones(self) -> Field:
        """Attenuation of the spine, the ribs and the sternum."""
        a, canvas, y = self.anatomy, self.canvas, self.canvas.y
        off = canvas.x - self.spine_x()
        column = canvas.soft(np.float32(0.10) - np.abs(off), 0.02)
        level = (y - np.float32(0.25) * off) * np.float32(1 / 0.135) + np.float32(a.rib_phase)
        body = np.clip(
            (np.float32(0.42) - np.abs(level - np.floor(level) - np.float32(0.5))) * 9.0,
            0.0,
            1.0,
        )
        field = column * (np.float32(0.05) + np.float32(0.07) * body)
        for slope, shift, weight in ((0.75, 0.0, 0.045), (0.85, 0.5, 0.03)):
            x = canvas.x * np.float32(1 / self.reach)
            wave = (y + np.float32(slope * 0.5) * x + np.float32(0.10) * x * x) * np.float32(1 / (a.rib_spacing * 1.05))
            wave = wave + np.float32(a.rib_phase + shift)
            band = np.clip(
                (np.float32(0.17) - np.abs(wave - np.floor(wave) - np.float32(0.5))) * 12.0,
                0.0,
                1.0,
            )
            field += (
                np.float32(weight * a.rib_contrast)
                * band
                * canvas.soft(self.depth + np.float32(0.05), 0.04)
                * self.above
            )
        front = self.depth + (canvas.x > 0) * np.float32(9.0)
        sternum = np.clip(
            np.float32(1.2) - np.abs(front + np.float32(0.045)) * np.float32(1 / 0.028),
            0.0,
            1.0,
        )
        return field + np.float32(0.10) * sternum * np.clip((y + np.float32(0.55)) * 6.0, 0.0, 1.0) * self.above

    def image(self) -> Field:
        """The composed radiograph, about 0..1, before exposure and noise."""
        a, canvas, x, y = self.anatomy, self.canvas, self.canvas.x, self.canvas.y
        back = np.clip(x * np.float32(4.0) + np.float32(0.5), 0.0, 1.0)
        wall = self.depth + np.float32(0.10 + 0.7 * a.fat) + back * np.float32(0.12 - 0.1 * a.fat)
        if a.breast:
            bulge = canvas.blob(-1.0 * self.reach, 0.16, 0.16 + 0.16 * a.breast, 0.27, -0.2)
            wall = joined(wall, bulge * np.float32(0.12), 0.08)
        belly = np.minimum(
            x + np.float32(1.02 * self.reach + a.fat),
            np.float32(1.10 * self.reach + 0.6 * a.fat) - x,
        )
        wall = joined(wall, np.minimum(belly, y - np.float32(0.3)), 0.15)
        shoulders = canvas.blob(0.06, -0.72, 0.50 + 0.4 * a.fat, 0.36) * np.float32(0.2)
        neck = np.minimum(
            np.float32(0.26) - np.abs(x + np.float32(0.04) * (y + 1.0)),
            np.float32(-0.3) - y,
        )
        body = canvas.soft(joined(joined(wall, shoulders, 0.2), neck, 0.15), 0.04)
        below = np.float32(1.0) - self.above
        top = np.clip((np.float32(-0.25) - y) * np.float32(2.0), 0.0, 1.0)  # shoulders and arms overlie the apices
        field = body * (np.float32(0.48 + 0.15 * a.fat) + np.float32(0.2) * below * (y > 0) + np.float32(0.13) * top)
        field += body * np.float32(0.02) * canvas.texture(a.seed, 24)
        field += np.float32(0.10) * self.heart * self.above
        hila = canvas.soft(
            canvas.blob(0.06 * self.reach, -0.06, 0.11, 0.15, 0.3) * np.float32(0.06),
            0.10,
        )
        arch = canvas.soft(
            canvas.blob(0.10 * self.reach, -0.30, 0.17, 0.13, 0.4) * np.float32(0.07),
            0.10,
        )
        field += np.float32(0.09) * hila + np.float32(0.05) * arch
        # Over the spine the lungs grow darker downwards until something lies in the lower lobes.
        thicker = np.float32(0.34) + np.float32(0.08) * np.clip(y + np.float32(0.4), 0.0, 1.0)
        field -= self.air * (thicker - np.float32(0.10 * a.markings) * self.vessels)
        if a.gastric_bubble:
            r = a.gastric_bubble
            bubble = canvas.blob(-0.05, self.left + 0.08 + 0.6 * r, 1.4 * r, 0.7 * r)
            field -= np.float32(0.2) * canvas.soft(bubble * np.float32(0.4 * r), 0.04) * below
        windpipe = canvas.x - np.float32(0.02) - np.float32(0.16) * (y + np.float32(0.75))
        trachea = canvas.soft(np.float32(0.042) - np.abs(windpipe), 0.025) * np.clip(
            (np.float32(-0.2) - y) * 8.0, 0.0, 1.0
        )
        field -= np.float32(0.13) * trachea
        field += self.bones() * body + self.extra
        return field + self.metal * (np.float32(1.0) - field)
