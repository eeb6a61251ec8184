"""Simulated radiographs as the view classifier may meet them: bent, cropped, turned, processed, written on.

Whatever the simulator draws alike every time (square films, one silhouette, one grey scale) is varied here far beyond
what films do, so that only what makes a view remains: two lungs beside a midline, or one chest between sternum and
spine. The third class is what must not be answered: parts, limbs, composed figures, scrambled pictures, noise.
"""

import multiprocessing
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..simulation import render, simulate_patient
from ..simulation.study import SimulatedStudy
from ..thumbnails import SIDE, thumbnail
from ..view import CLASSES

__all__ = [
    "DRAWN",
    "RENDERED",
    "axes",
    "blurred",
    "framed",
    "neither",
    "pictures_of",
    "processed",
    "thumbnails",
    "varied",
    "written_on",
]

RENDERED = 112  # px
DRAWN = 80  # px, of the picture that is made from it
PATIENTS = 10  # a chunk of work
FRONTALS, LATERALS = 3, 6  # variants of each: fewer studies have a lateral
NODES = 5  # of the grid that bends a picture, in each direction

Field = NDArray[np.float32]
Box = tuple[float, float, float, float]  # centre x, y, half width, half height; shares of the side


def thumbnails(seed: int, patients: int, workers: int, harshness: float = 1.0) -> tuple[Field, NDArray[np.int64]]:
    """(N, SIDE, SIDE) thumbnails and (N,) classes, of the first ``patients`` of the cohort ``seed``.

    harshness: 1 for training; more varies everything further than training did. The same arguments give the same
    pictures, whatever the number of workers.
    """
    work = partial(_chunk, seed=seed, patients=patients, harshness=harshness)
    starts = range(0, patients, PATIENTS)
    if workers < 2:
        parts = [work(start) for start in starts]
    else:
        # Spawned, not forked: a forked child of a process that runs torch threads can hang.
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            parts = pool.map(work, starts, chunksize=1)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _chunk(start: int, seed: int, patients: int, harshness: float) -> tuple[Field, NDArray[np.int64]]:
    looks: list[Field] = []
    classes: list[int] = []
    for number in range(start, min(start + PATIENTS, patients)):
        rng = np.random.default_rng([seed, number, 1])
        for study in simulate_patient(seed, number).studies:
            for name, picture in pictures_of(study, rng, harshness):
                looks.append(thumbnail(picture))
                classes.append(CLASSES.index(name))
    return np.stack(looks) if looks else np.zeros((0, SIDE, SIDE), np.float32), np.array(classes, np.int64)


def pictures_of(study: SimulatedStudy, rng: np.random.Generator, harshness: float = 1.0) -> list[tuple[str, Field]]:
    """Varied pictures of one study with their class, some of them of no chest view at all."""
    films: dict[str, Field] = {view: render(study, view, RENDERED) for view in study.views}
    found = [("frontal", varied(films["frontal"], rng, harshness)) for _ in range(FRONTALS)]
    if "lateral" in films:
        found += [("lateral", varied(films["lateral"], rng, harshness)) for _ in range(LATERALS)]
    found += [("neither", neither(films, rng, harshness)) for _ in range(FRONTALS)]
    return found


def varied(
    film: Field, rng: np.random.Generator, harshness: float, box: Box | None = None, turned: bool = True
) -> Field:
    """A film of one view, still recognisable: what a site, a device, a scanner or a publisher makes of it.

    turned: sometimes by quarter turns, sometimes inverted.
    """
    if box is None:
        width, height = rng.uniform(0.33, 0.58), rng.uniform(0.33, 0.58)
        off = 0.06 * harshness
        box = (0.5 + rng.uniform(-off, off), 0.5 + rng.uniform(-off, off), width, height)
    picture = _bent(film, rng, harshness, box)
    for _ in range(rng.integers(0, 3)):
        picture = _clouded(picture, rng, harshness)
    picture = processed(picture, rng, harshness)
    if rng.random() < 0.4:
        picture = written_on(picture, rng)
    if rng.random() < 0.35:
        picture = framed(picture, rng)
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    if turned and rng.random() < 0.2:
        picture = np.rot90(picture, int(rng.integers(1, 4)))
    if turned and rng.random() < 0.2:
        picture = 1 - picture
    return np.ascontiguousarray(picture)


def _bent(film: Field, rng: np.random.Generator, harshness: float, box: Box) -> Field:
    """The box of the film, turned, sheared and bent smoothly, as (DRAWN, DRAWN); what lies outside is black."""
    x, y, half_width, half_height = box
    angle, shear = np.deg2rad(rng.normal(0, (5 * harshness, 3 * harshness)))
    grid = np.linspace(-1, 1, NODES)
    u, v = np.meshgrid(grid, grid)
    u, v = u * half_width, v * half_height
    u, v = u * np.cos(angle) - v * np.sin(angle) + v * np.tan(shear), u * np.sin(angle) + v * np.cos(angle)
    wobble = rng.normal(0, 0.016 * harshness, (2, NODES, NODES))
    nodes = np.stack([u + x, v + y]) + wobble
    nodes = nodes * len(film)
    edges = np.round(np.linspace(0, DRAWN, NODES)).astype(int)
    mesh = []
    for row in range(NODES - 1):
        for column in range(NODES - 1):
            target = (int(edges[column]), int(edges[row]), int(edges[column + 1]), int(edges[row + 1]))
            corners = [(row, column), (row + 1, column), (row + 1, column + 1), (row, column + 1)]
            mesh.append((target, tuple(float(nodes[axis, r, c]) for r, c in corners for axis in (0, 1))))
    image = Image.fromarray(film).transform((DRAWN, DRAWN), Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.float32)


def _clouded(picture: Field, rng: np.random.Generator, harshness: float) -> Field:
    """A soft opacity or lucency anywhere: a white lung, a cushion, an arm, gas."""
    y, x = axes()
    cx, cy = rng.uniform(0, 1, 2)
    rx, ry = rng.uniform(0.06, 0.32, 2)
    weight = np.exp(-(((x - cx) / rx) ** 2) - ((y - cy) / ry) ** 2).astype(np.float32)
    return picture + np.float32(rng.uniform(-0.2, 0.4) * harshness) * weight


def processed(picture: Field, rng: np.random.Generator, harshness: float) -> Field:
    """Exposure, uneven field, multi-frequency processing, blur and noise."""
    y, x = axes()
    slope = rng.normal(0, 0.10 * harshness, 2)
    picture = picture + np.float32(slope[0]) * (x - 0.5) + np.float32(slope[1]) * (y - 0.5)
    if rng.random() < 0.4:  # digital processing evens out what is large and lifts what is small
        wide = blurred(picture, rng.uniform(6, 18))
        detail, evened = rng.uniform(-0.3, 0.8), rng.uniform(0, 0.5)
        picture = picture + np.float32(detail) * (picture - wide) - np.float32(evened) * (wide - wide.mean())
    if rng.random() < 0.5:
        picture = blurred(picture, rng.uniform(0.5, 2.0 * harshness))
    picture = picture + rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(rng.uniform(0, 0.06))
    low, high = np.percentile(picture, (rng.uniform(0, 8), rng.uniform(92, 100)))
    picture = np.clip((picture - low) / max(high - low, 1e-3), 0, 1)
    return np.power(picture, np.float32(np.exp(rng.normal(0, 0.4)))).astype(np.float32)


def written_on(picture: Field, rng: np.random.Generator) -> Field:
    """Letters, arrows, cables and labels, black or white."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(1, 5)):
        value = float(rng.choice((0.0, 1.0)))
        x, y = (float(at) for at in rng.uniform(0, DRAWN, 2))
        if rng.random() < 0.5:
            w, h = (float(at) for at in rng.uniform(2, 14, 2))
            draw.rectangle((x, y, x + w, y + h), fill=value)
        else:
            ends = [float(at) for at in rng.uniform(0, DRAWN, 4)]
            draw.line([x, y, *ends], fill=value, width=int(rng.integers(1, 3)))
    return np.asarray(image, dtype=np.float32)


def framed(picture: Field, rng: np.random.Generator) -> Field:
    """Collimation or page around the film, even or with structure, differently wide at each side."""
    picture = picture.copy()
    widths = np.round(np.clip(rng.uniform(-0.08, 0.13, 4), 0, None) * DRAWN).astype(int)
    value = float(rng.choice((0.0, 0.0, 0.05, 0.5, 1.0)))
    left, top, right, bottom = widths
    border = np.full_like(picture, value)
    if rng.random() < 0.3:
        border += rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(0.05)
    inside = np.zeros(picture.shape, bool)
    inside[top : DRAWN - bottom, left : DRAWN - right] = True
    return np.where(inside, picture, np.clip(border, 0, 1)).astype(np.float32)


def neither(films: dict[str, Field], rng: np.random.Generator, harshness: float) -> Field:
    """A picture that has no answer."""
    film = films["lateral"] if "lateral" in films and rng.random() < 0.5 else films["frontal"]
    kind = rng.choice(("part", "limbs", "figure", "scrambled", "noise"), p=(0.25, 0.3, 0.15, 0.2, 0.1))
    if kind == "part":
        half = rng.uniform(0.08, 0.19)
        box = (*rng.uniform(0.15, 0.85, 2), half * rng.uniform(0.8, 1.25), half)
        return varied(film, rng, harshness, (float(box[0]), float(box[1]), float(box[2]), float(box[3])))
    if kind == "limbs":
        return varied(_limbs(rng), rng, harshness)
    if kind == "figure":
        return _figure(films, rng, harshness)
    if kind == "scrambled":
        return _scrambled(varied(film, rng, harshness), rng)
    cells = int(rng.choice((3, 6, 12, 40, DRAWN)))
    grid = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
    noise = np.asarray(grid.resize((DRAWN, DRAWN), Image.Resampling.BICUBIC), dtype=np.float32)
    return np.clip(0.5 + 0.25 * noise, 0, 1)


def _limbs(rng: np.random.Generator) -> Field:
    """Soft tissue around bones on black: one long limb, several fingers, or a joint. (RENDERED, RENDERED)."""
    side = RENDERED
    tissue, bone = Image.new("L", (side, side)), Image.new("L", (side, side))
    on_tissue, on_bone = ImageDraw.Draw(tissue), ImageDraw.Draw(bone)
    for _ in range(rng.integers(1, 6)):
        ends = rng.uniform(-0.2, 1.2, (2, 2)) * side
        if rng.random() < 0.6:
            ends[:, 1] = (-0.1 * side, 1.1 * side)
        width = rng.uniform(0.06, 0.4) * side
        line = [float(at) for at in ends.ravel()]
        on_tissue.line(line, fill=255, width=int(width))
        shaft = width * rng.uniform(0.25, 0.6)
        on_bone.line(line, fill=255, width=max(2, int(shaft)))
        if rng.random() < 0.5:  # the marrow is darker than its cortex
            on_bone.line(line, fill=170, width=max(1, int(0.6 * shaft)))
        for x, y in ends:
            r = shaft * rng.uniform(0.6, 1.2)
            on_bone.ellipse((x - r, y - r, x + r, y + r), fill=230)
    if rng.random() < 0.4:  # hips, shoulders, knees: bone almost everywhere
        for _ in range(rng.integers(1, 4)):
            x, y = rng.uniform(0, 1, 2) * side
            rx, ry = rng.uniform(0.1, 0.35, 2) * side
            on_tissue.ellipse((x - 1.6 * rx, y - 1.6 * ry, x + 1.6 * rx, y + 1.6 * ry), fill=255)
            on_bone.ellipse((x - rx, y - ry, x + rx, y + ry), fill=int(rng.integers(120, 255)))
    around, within = (
        blurred(np.asarray(each, np.float32) / np.float32(255), rng.uniform(0.5, 3)) for each in (tissue, bone)
    )
    return around * np.float32(rng.uniform(0.25, 0.5)) + within * np.float32(rng.uniform(0.2, 0.5))


def _figure(films: dict[str, Field], rng: np.random.Generator, harshness: float) -> Field:
    """Two films side by side or one above the other, as publications show them."""
    first, second = (varied(films[str(rng.choice(sorted(films)))], rng, harshness) for _ in range(2))
    both = np.concatenate([first, second], axis=int(rng.integers(2)))
    return np.ascontiguousarray(both)


def _scrambled(picture: Field, rng: np.random.Generator) -> Field:
    """Its tiles in another order: every texture and grey value of a chest, and no chest."""
    tiles = int(rng.integers(2, 5))
    side = DRAWN // tiles
    order = rng.permutation(tiles * tiles)
    while (order == np.arange(tiles * tiles)).all():
        order = rng.permutation(tiles * tiles)
    cut = [picture[r * side : (r + 1) * side, c * side : (c + 1) * side] for r in range(tiles) for c in range(tiles)]
    rows = [np.concatenate([cut[i] for i in order[r * tiles : (r + 1) * tiles]], axis=1) for r in range(tiles)]
    return np.ascontiguousarray(np.concatenate(rows))


def blurred(picture: Field, radius: float) -> Field:
    """Three box filters of about ``radius`` px in all; the edges are repeated."""
    reach = max(1, round(radius))
    for axis in (0, 1):
        for _ in range(2):
            pad = [(0, 0), (0, 0)]
            pad[axis] = (reach + 1, reach)
            sums = np.cumsum(np.pad(picture, pad, mode="edge"), axis=axis, dtype=np.float64)
            width = 2 * reach + 1
            high = np.take(sums, np.arange(width, sums.shape[axis]), axis=axis)
            low = np.take(sums, np.arange(0, sums.shape[axis] - width), axis=axis)
            picture = ((high - low) / width).astype(np.float32)
    return picture


def axes() -> tuple[Field, Field]:
    axis = ((np.arange(DRAWN, dtype=np.float32) + 0.5) / DRAWN).astype(np.float32)
    return axis[:, None], axis[None, :]
