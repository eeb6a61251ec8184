"""Pictures of anything but a chest radiograph, drawn: pages, scenes, portraits, sections, other parts of the body.

None is meant to look real. Together they are to leave a chest, two lungs beside a midline or one between sternum and
spine, as the only thing that they have not.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .view_pictures import DRAWN, axes, blurred, framed, neither, processed, written_on

__all__ = ["other_picture"]

Field = NDArray[np.float32]
Draw = Callable[[np.random.Generator], Field]


def other_picture(films: Mapping[str, Field], rng: np.random.Generator, harshness: float = 1.0) -> Field:
    """Values in 0..1. films: of one study by view, out of whose parts some are made."""
    if rng.random() < 0.4:
        return neither(dict(films), rng, harshness)  # any size: a figure of two films is twice as wide or high
    picture = KINDS[int(rng.integers(len(KINDS)))](rng)
    if rng.random() < 0.7:
        picture = processed(picture, rng, harshness)
    if rng.random() < 0.2:
        picture = written_on(picture, rng)
    if rng.random() < 0.2:
        picture = framed(picture, rng)
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    if rng.random() < 0.25:
        picture = np.rot90(picture, int(rng.integers(1, 4)))
    if rng.random() < 0.3:
        picture = 1 - picture
    return np.ascontiguousarray(np.clip(picture, 0, 1), dtype=np.float32)


def _page(rng: np.random.Generator) -> Field:
    """Lines of words in columns, headings, figures; ink of any weight on paper, the page full or not."""
    side = 4 * DRAWN
    image = Image.new("L", (side, side), 255)
    draw = ImageDraw.Draw(image)
    columns, margin, step = int(rng.integers(1, 4)), rng.uniform(0.02, 0.2) * side, rng.uniform(0.012, 0.06) * side
    end_of_page = side * (rng.uniform(0.25, 1) if rng.random() < 0.5 else 0.97)
    weight, ink = rng.uniform(0.15, 0.55), int(rng.integers(0, 110))
    width = (side - 2 * margin) / columns
    for column in range(columns):
        y = rng.uniform(0.02, 0.25) * side
        while y < end_of_page:
            x, end = margin + column * width, margin + (column + rng.uniform(0.6, 0.97)) * width
            tall = step * (1.5 if rng.random() < 0.08 else 1) * weight
            if rng.random() < 0.04:
                draw.rectangle((x, y, end, y + 4 * step), fill=int(rng.integers(0, 230)))
                y += 5 * step
                continue
            while x < end:
                word = rng.uniform(0.5, 4) * step
                draw.rectangle((x, y, min(x + word, end), y + tall), fill=ink)
                x += word + 0.4 * step
            y += step * (2 if rng.random() < 0.12 else 1)
    return _scaled(image)


def _noise(rng: np.random.Generator, roughness: float) -> Field:
    """1/f noise: clouds, grass, walls. Zero mean, unit variance."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(DRAWN), np.fft.rfftfreq(DRAWN), indexing="ij"))
    spectrum = np.maximum(frequency, 1 / DRAWN) ** -roughness * np.exp(2j * np.pi * rng.random(frequency.shape))
    field = np.fft.irfft2(spectrum, (DRAWN, DRAWN))
    return ((field - field.mean()) / field.std()).astype(np.float32)


def _texture(rng: np.random.Generator) -> Field:
    return np.clip(0.5 + 0.25 * _noise(rng, rng.uniform(0.3, 2.2)), 0, 1).astype(np.float32)


def _scene(rng: np.random.Generator) -> Field:
    """A horizon, and things before it."""
    y, x = axes()
    horizon, slope = rng.uniform(0.15, 0.85), rng.normal(0, 0.15)
    sky = rng.uniform(0, 1) + rng.normal(0, 0.3) * y
    ground = rng.uniform(0, 1) + rng.normal(0, 0.3) * y + 0.12 * _noise(rng, 1.0)
    picture = np.where(y < horizon + slope * (x - 0.5), sky + 0.05 * _noise(rng, 2.0), ground)
    return _with_things(picture.astype(np.float32), rng, int(rng.integers(1, 14)))


def _things(rng: np.random.Generator) -> Field:
    """Things on an even or shaded ground."""
    y, x = axes()
    picture = rng.uniform(0, 1) + rng.normal(0, 0.4) * (y - 0.5) + rng.normal(0, 0.4) * (x - 0.5)
    return _with_things(np.broadcast_to(picture, (DRAWN, DRAWN)).astype(np.float32), rng, int(rng.integers(1, 8)))


def _with_things(picture: Field, rng: np.random.Generator, count: int) -> Field:
    for _ in range(count):
        mask = Image.new("L", (2 * DRAWN, 2 * DRAWN))
        draw = ImageDraw.Draw(mask)
        x, y = rng.uniform(0, 2 * DRAWN, 2)
        w, h = np.exp(rng.normal(2.8, 0.8, 2))
        if rng.random() < 0.35:
            draw.ellipse((x - w, y - h, x + w, y + h), fill=255)
        elif rng.random() < 0.5:
            draw.rectangle((x - w, y - h, x + w, y + h), fill=255)
        else:
            corners = rng.uniform(-1, 1, (int(rng.integers(3, 7)), 2)) * (w, h) + (x, y)
            draw.polygon([float(at) for at in corners.ravel()], fill=255)
        inside = _scaled(mask)
        value = rng.uniform(0, 1) + rng.uniform(0, 0.15) * _noise(rng, rng.uniform(0.5, 2))
        picture = picture * (1 - inside) + value * inside
    return picture.astype(np.float32)


def _portrait(rng: np.random.Generator) -> Field:
    """Head, neck and shoulders: much like the outline of a chest, and no lungs."""
    ground, skin, cloth = rng.uniform(0, 1, 3)
    x, r = rng.uniform(0.35, 0.65), rng.uniform(0.12, 0.26)
    y = rng.uniform(r, 0.55)
    picture = np.full((DRAWN, DRAWN), ground, np.float32) + np.float32(0.05) * _noise(rng, 1.5)
    picture = _put(picture, cloth, (x, y + 2.6 * r, rng.uniform(1.6, 3) * r, 1.4 * r))
    picture = _put(picture, skin, (x, y + r, 0.5 * r, r))
    picture = _put(picture, rng.uniform(0, 1), (x, y - 0.3 * r, 1.05 * r, 1.1 * r))
    picture = _put(picture, skin, (x, y, 0.85 * r, 1.1 * r))
    for place in (-0.35, 0.35):
        picture = _put(picture, rng.uniform(0, 0.5), (x + place * r, y - 0.15 * r, 0.14 * r, 0.08 * r))
    return blurred(_put(picture, rng.uniform(0, 0.6), (x, y + 0.55 * r, 0.3 * r, 0.07 * r)), 0.7)


def _section(rng: np.random.Generator) -> Field:
    """A transverse section of a chest, a belly or a head, on black."""
    x, y = 0.5 + rng.normal(0, 0.04, 2)
    w, h = rng.uniform(0.32, 0.5), rng.uniform(0.2, 0.42)
    picture = _put(np.zeros((DRAWN, DRAWN), np.float32), rng.uniform(0.3, 0.6), (x, y, w, h))
    if rng.random() < 0.35:  # a head
        picture = _put(picture, rng.uniform(0.7, 1), (x, y, 0.85 * h, h))
        picture = _put(picture, rng.uniform(0.2, 0.6), (x, y, 0.75 * h, 0.9 * h))
        for side in (-1, 1):
            picture = _put(picture, rng.uniform(0, 0.4), (x + side * 0.15 * h, y, 0.08 * h, 0.35 * h))
        return blurred(picture + np.float32(0.04) * _noise(rng, 1.0), 0.7)
    picture = _put(picture, rng.uniform(0.45, 0.7), (x, y, 0.9 * w, 0.88 * h))
    filled = rng.uniform(0.0, 0.15) if rng.random() < 0.6 else rng.uniform(0.4, 0.8)  # air, or liver and spleen
    for side in (-1, 1):
        size = rng.uniform(0.25, 0.4) * w, rng.uniform(0.5, 0.75) * h
        picture = _put(picture, filled, (x + side * rng.uniform(0.42, 0.55) * w, y + 0.1 * h * rng.normal(), *size))
    for _ in range(rng.integers(0, 5)):
        place = x + rng.normal(0, 0.3) * w, y + rng.normal(0, 0.3) * h
        picture = _put(picture, rng.uniform(0.2, 0.8), (*place, *(rng.uniform(0.05, 0.25, 2) * h)))
    picture = _put(picture, 1.0, (x, y + 0.6 * h, 0.13 * w, 0.16 * h))
    return blurred(picture + np.float32(0.03) * _noise(rng, 0.8), 0.6)


def _belly(rng: np.random.Generator) -> Field:
    """Abdomen and pelvis: even tissue, the spine in its middle, wings of bone, hips, gas."""
    shade = rng.uniform(0.35, 0.6)
    picture = np.full((DRAWN, DRAWN), shade, np.float32) + np.float32(0.06) * _noise(rng, 1.8)
    x, top = 0.5 + rng.normal(0, 0.03), rng.uniform(0.35, 1.2)
    for level in np.arange(-0.1, min(top + 0.15, 1.1), 0.13):
        picture = _put(picture, shade + 0.2, (x, level, 0.075, 0.055))
    for side in (-1, 1):
        picture = _put(picture, shade + 0.22, (x + side * 0.27, top, 0.17, 0.16))
        picture = _put(picture, shade + 0.05, (x + side * 0.12, top + 0.22, 0.09, 0.13))
        picture = _put(picture, shade + 0.35, (x + side * 0.31, top + 0.3, 0.07, 0.07))
        if rng.random() < 0.7:
            picture = _put(picture, rng.uniform(0, 0.2), (x + side * 0.56, rng.uniform(0, 1), 0.1, 0.7))
    for _ in range(rng.integers(0, 12)):
        place = rng.uniform(0.2, 0.8, 2)
        picture = _put(picture, rng.uniform(0.1, 0.4), (*place, *rng.uniform(0.02, 0.09, 2)))
    return blurred(picture, rng.uniform(0.6, 1.6))


def _skull(rng: np.random.Generator) -> Field:
    """A head from before or beside: a bright rim, an even inside, teeth and neck below."""
    x, y, r = 0.5 + rng.normal(0, 0.06), rng.uniform(0.3, 0.5), rng.uniform(0.25, 0.4)
    picture = np.zeros((DRAWN, DRAWN), np.float32)
    picture = _put(picture, rng.uniform(0.3, 0.6), (x + rng.normal(0, 0.08), y + r, 0.6 * r, 1.3 * r))
    picture = _put(picture, rng.uniform(0.8, 1), (x, y, rng.uniform(0.8, 1.15) * r, r))
    picture = _put(picture, rng.uniform(0.4, 0.7), (x, y, 0.9 * r, 0.9 * r))
    for side in (-1, 1):
        if rng.random() < 0.7:
            picture = _put(picture, rng.uniform(0.2, 0.5), (x + side * 0.35 * r, y + 0.4 * r, 0.2 * r, 0.17 * r))
    picture = _put(picture, rng.uniform(0.7, 1), (x + rng.normal(0, 0.2) * r, y + 0.95 * r, 0.4 * r, 0.12 * r))
    return blurred(picture + np.float32(0.05) * _noise(rng, 1.2), rng.uniform(0.5, 1.5))


def _put(picture: Field, value: float, place: tuple[float, ...]) -> Field:
    """A soft-edged ellipse; place: centre x, y, half width, half height, shares of the side."""
    y, x = axes()
    cx, cy, rx, ry = (float(each) for each in place)
    inside = np.clip((1 - ((x - cx) / max(rx, 1e-3)) ** 2 - ((y - cy) / max(ry, 1e-3)) ** 2) * 6, 0, 1)
    return (picture * (1 - inside) + value * inside).astype(np.float32)


def _scaled(image: Image.Image) -> Field:
    return np.asarray(image.resize((DRAWN, DRAWN), Image.Resampling.BOX), np.float32) / np.float32(255)


KINDS: tuple[Draw, ...] = (_page, _texture, _scene, _things, _portrait, _section, _belly, _skull)
