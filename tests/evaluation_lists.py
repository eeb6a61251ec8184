"""Small lists on disk, and an encoder that reads the truth off a picture's brightness."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from model.encoder import StudyImages
from model.image import ImageTransform
from tests.fakes import FakeEncoder


class LimitedFake(FakeEncoder):
    """The fake encoder, which notes how many tokens each call may read."""

    def __init__(self, fingerprint: str = "f" * 64) -> None:
        super().__init__(fingerprint)
        self.limits: list[int | None] = []

    def encode_texts(self, texts: Sequence[str], limit: int | None = None) -> np.ndarray:
        self.limits.append(limit)
        kept, self.context_length = self.context_length, limit or self.context_length
        try:
            return super().encode_texts(texts)
        finally:
            self.context_length = kept


class Oracle(LimitedFake):
    """Pictures and texts of class c are the axis c; a picture's class is its brightness by tens, a text's its words."""

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__()
        self.classes = [name.lower() for name in classes]
        self.transform = ImageTransform(resize=8, crop=8, mean=0.0, std=1.0)
        self.dimension = len(classes) + 1

    def encode_studies(self, studies: Sequence[StudyImages]) -> np.ndarray:
        levels = [round(float(np.median(s.current_frontal)) * 25.5) for s in studies if s.current_frontal is not None]
        return np.eye(self.dimension, dtype=np.float32)[levels]

    def encode_texts(self, texts: Sequence[str], limit: int | None = None) -> np.ndarray:
        self.limits.append(limit)
        return np.stack([self.encode_prompts([text]) for text in texts])

    def encode_prompts(self, prompts: Sequence[str]) -> np.ndarray:
        places = [n for n, name in enumerate(self.classes) if any(name in prompt.lower() for prompt in prompts)]
        return np.eye(self.dimension, dtype=np.float32)[places[0] if places else -1]


class Constant(LimitedFake):
    """Everything looks alike."""

    def encode_studies(self, studies: Sequence[StudyImages]) -> np.ndarray:
        return np.tile(np.eye(self.dimension, dtype=np.float32)[0], (len(studies), 1))

    def encode_texts(self, texts: Sequence[str], limit: int | None = None) -> np.ndarray:
        return np.tile(np.eye(self.dimension, dtype=np.float32)[0], (len(texts), 1))

    def encode_prompts(self, prompts: Sequence[str]) -> np.ndarray:
        return np.eye(self.dimension, dtype=np.float32)[0]


def write_picture(path: Path, level: int, seed: int = 0) -> Path:
    """A 12 x 12 PNG of brightness ten times ``level``, with a dark and a bright corner so that it is not blank."""
    pixels = np.full((12, 12), 10 * level, np.uint8)
    pixels[0, :3] = np.random.default_rng(seed).integers(0, 255, 3)
    pixels[-1, -1] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_list(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def class_list(folder: Path, classes: Sequence[str], each: int, **more: object) -> list[dict[str, object]]:
    """Rows sorted by class, a picture each, two pictures a patient; picture n of class c is c-n.png."""
    rows: list[dict[str, object]] = []
    for level, name in enumerate(classes):
        for number in range(each):
            write_picture(folder / f"{level}-{number}.png", level, seed=100 * level + number)
            row = {"image_path": f"{level}-{number}.png", "patient_id": f"p{level}-{number // 2}", "class": name}
            rows.append(row | more)
    return rows
