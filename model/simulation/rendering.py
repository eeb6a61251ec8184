"""A study's radiographs as arrays, and masks of what each finding changed on them."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .anatomy import Acquisition
from .canvas import Canvas, Field
from .frontal import Frontal, frontal_shape
from .frontal_findings import draw_frontal_finding
from .lateral import Lateral
from .lateral_findings import draw_lateral_finding
from .study import SimulatedStudy, View

__all__ = ["finding_masks", "lung_mask", "render"]

_MASK_LEVEL = 0.3


def render(study: SimulatedStudy, view: View, size: int) -> Field:
    """The radiograph `view` of `study` as float32 (size, size), 0 black to 1 white, bone bright (MONOCHROME2 sense).

    The same arguments always give the same picture. Raises ValueError for the lateral of a study without one.
    """
    layers, _ = _compose(study, view, size)
    return _expose(layers.image(), study.acquisition(view))


def finding_masks(study: SimulatedStudy, view: View, size: int) -> dict[str, NDArray[np.bool_]]:
    """Where each finding seen on `view` lies: name to bool (size, size), exactly over `render` of the same arguments.

    Findings of one name share a mask. Those the view does not show are absent.
    """
    _, footprints = _compose(study, view, size)
    masks: dict[str, NDArray[np.bool_]] = {}
    for name, footprint in footprints:
        mask = footprint > _MASK_LEVEL
        masks[name] = masks[name] | mask if name in masks else mask
    return {name: mask for name, mask in masks.items() if mask.any()}


def lung_mask(study: SimulatedStudy, size: int) -> NDArray[np.bool_]:
    """Both lungs on the frontal radiograph, as their outlines are without what lies over them: bool (size, size)."""
    layers, _ = _compose(study, "frontal", size)
    assert isinstance(layers, Frontal)
    return layers.lung > 0.5


def _compose(study: SimulatedStudy, view: View, size: int) -> tuple[Frontal | Lateral, list[tuple[str, Field]]]:
    acquisition = study.acquisition(view)
    canvas = Canvas(size, acquisition)
    footprints: list[tuple[str, Field]] = []
    if view == "frontal":
        seen = tuple(finding for finding in study.findings if not finding.lateral_only)
        frontal = Frontal(canvas, study.anatomy, frontal_shape(study.anatomy, acquisition, seen))
        for finding in seen:
            footprints.append((finding.name, draw_frontal_finding(frontal, finding)))
        return frontal, footprints
    lateral = Lateral(canvas, study.anatomy, acquisition, study.findings)
    for finding in study.findings:
        footprint = draw_lateral_finding(lateral, finding)
        if footprint is not None:
            footprints.append((finding.name, footprint))
    return lateral, footprints


def _expose(field: Field, acquisition: Acquisition) -> Field:
    """Turns attenuation into the displayed picture: exposure, quantum noise, collimation and the side marker."""
    a, size = acquisition, len(field)
    field = (field - np.float32(0.5)) * np.float32(a.contrast) + np.float32(0.5 + a.brightness)
    field = np.power(np.clip(field, 0.0, 1.0), np.float32(a.gamma))
    rng = np.random.default_rng(a.seed)
    # A pixel of a smaller image averages more quanta.
    field += rng.standard_normal(field.shape, dtype=np.float32) * np.float32(a.noise * (size / 320) ** 0.5)
    if a.marker is not None:
        _mark(field, a)
    left, top, right, bottom = (round(border * size) for border in a.borders)
    field[:top], field[size - bottom :], field[:, :left], field[:, size - right :] = (
        0.0,
        0.0,
        0.0,
        0.0,
    )
    return np.clip(field, 0.0, 1.0, out=field)


def _mark(field: Field, acquisition: Acquisition) -> None:
    """Writes the lead marker L at the patient's left (the right of the image) or R at the right."""
    size = len(field)
    height = max(size // 14, 8)
    image = Image.new("L", (height, height))
    ImageDraw.Draw(image).text(
        (height // 5, -height // 8),
        acquisition.marker or "",
        fill=255,
        font_size=height,
    )
    letter = np.asarray(image, dtype=np.float32) / 255
    y = round((acquisition.marker_height + 1) / 2 * size)
    x = size - round(0.13 * size) if acquisition.marker == "L" else round(0.06 * size)
    patch = field[y : y + height, x : x + height]
    np.maximum(patch, letter[: patch.shape[0], : patch.shape[1]], out=patch)
