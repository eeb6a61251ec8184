"""The bare encoder's best rate, in a process of its own: what a service of it can reach at most.

Over batch sizes and, on a processor, over one call that has all cores and several calls that share them.
"""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from model.alta_encoder import load_encoder
from model.encoder import StudyImages

__all__ = ["Way", "bare_rates"]

Way = tuple[int, int]  # studies or texts in a call, calls at once

IMAGES, TEXTS = (1, 4, 8, 32), (1, 8, 32)


def bare_rates(
    folder: Path, device: str, dtype: str, texts: Sequence[str], seconds: float, images: Way | None = None,
    words: Way | None = None,
) -> tuple[dict[Way, float], dict[Way, float]]:  # fmt: skip
    """Images (lone frontals) and texts a second, each in every way, or in the one given; ``seconds`` each."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_measure, folder, device, dtype, texts, seconds, images, words).result()


def _measure(
    folder: Path, device: str, dtype: str, texts: Sequence[str], seconds: float, images: Way | None, words: Way | None
) -> tuple[dict[Way, float], dict[Way, float]]:
    encoder = load_encoder(folder, device, dtype)
    side = encoder.transform.crop
    studies = [StudyImages(film) for film in np.random.default_rng(0).standard_normal((32, side, side), np.float32)]
    calls = sorted({1, encoder.calls_at_once})

    def rate(way: Way, encode: Callable[[int, int], object]) -> float:
        size, at_once = way

        def repeat(caller: int) -> int:
            encoder.share_processor(at_once)
            rounds = 0
            while time.perf_counter() < until:
                encode(size, caller * 5000 + rounds * size)
                rounds += 1
            return rounds * size

        encode(size, 0)
        began = time.perf_counter()
        until = began + seconds
        with ThreadPoolExecutor(at_once) as callers:
            done = sum(callers.map(repeat, range(at_once)))
        return done / (time.perf_counter() - began)

    def encode_texts(size: int, at: int) -> object:
        start = at % (len(texts) - size)
        return encoder.encode_texts(texts[start : start + size])

    return (
        {
            way: rate(way, lambda size, at: encoder.encode_studies(studies[:size]))
            for way in ([images] if images else [(size, many) for size in IMAGES for many in calls])
        },
        {
            way: rate(way, encode_texts)
            for way in ([words] if words else [(size, many) for size in TEXTS for many in calls])
        },
    )
