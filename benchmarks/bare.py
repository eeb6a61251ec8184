"""The bare encoder's best rate over batch sizes, in a process of its own: what a service of it can reach at most."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from model.alta_encoder import load_encoder
from model.encoder import StudyImages

__all__ = ["IMAGES", "TEXTS", "bare_rates"]

IMAGES, TEXTS = (1, 2, 4, 8, 16, 32), (1, 8, 32, 64)


def bare_rates(
    folder: Path, device: str, dtype: str, texts: Sequence[str], seconds: float, images_at: Sequence[int] = IMAGES,
    texts_at: Sequence[int] = TEXTS,
) -> tuple[dict[int, float], dict[int, float]]:  # fmt: skip
    """Images (lone frontals) and texts a second, each by batch size, ``seconds`` each."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_measure, folder, device, dtype, texts, seconds, images_at, texts_at).result()


def _measure(
    folder: Path, device: str, dtype: str, texts: Sequence[str], seconds: float, images_at: Sequence[int],
    texts_at: Sequence[int],
) -> tuple[dict[int, float], dict[int, float]]:  # fmt: skip
    encoder = load_encoder(folder, device, dtype)
    side = encoder.transform.crop
    films = np.random.default_rng(0).standard_normal((max(images_at), side, side)).astype(np.float32)
    studies = [StudyImages(film) for film in films]

    def rate(size: int, encode: Callable[[int], object]) -> float:
        encode(0)
        began, rounds = time.perf_counter(), 0
        while time.perf_counter() < began + seconds:
            encode(rounds * size % max(len(texts) - size, 1))
            rounds += 1
        return size * rounds / (time.perf_counter() - began)

    return (
        {size: rate(size, lambda _, n=size: encoder.encode_studies(studies[:n])) for size in images_at},
        {size: rate(size, lambda at, n=size: encoder.encode_texts(texts[at : at + n])) for size in texts_at},
    )
