"""What the layers fused for a processor gain over the plain ones, in bfloat16.

    python -m benchmarks.fused_layers                  # some three minutes on 2 cores
    python -m benchmarks.fused_layers --threads 1

Encoders of the published size with random weights (right for speed and for nothing else), once with plain layers and
once with fused ones (``model.fused``), take turns on the same lone frontals and phrases; medians of the rounds and
their ratio are printed. The last line is JSON.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.serve import phrases, write_encoders
from model import alta_encoder
from model.alta_encoder import AltaEncoder, load_encoder
from model.encoder import StudyImages
from model.fused import can_fuse

SIZES = (1, 4, 8, 32)


def load(folder: Path, fused: bool) -> AltaEncoder:
    alta_encoder.can_fuse = lambda: fused
    return load_encoder(folder, "cpu", "bfloat16")


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compare(plain: Callable[[], object], fused: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median seconds of either; they take turns, so that a busy machine slows both."""
    plain(), fused()
    taken = [(seconds(plain), seconds(fused)) for _ in range(rounds)]
    of_plain, of_fused = zip(*taken, strict=True)
    return statistics.median(of_plain), statistics.median(of_fused)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    if not can_fuse():
        raise SystemExit("This processor or this torch has no fused layers.")
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        path = write_encoders(Path(folder) / "encoders")
        plain, fused = load(path, False), load(path, True)
    films = np.random.default_rng(0).standard_normal((max(SIZES), 224, 224), np.float32)
    studies, texts = [StudyImages(film) for film in films], phrases(max(SIZES))
    found: dict[str, float] = {"threads": given.threads}
    for kind in ("images", "texts"):
        for size in SIZES:

            def encode(encoder: AltaEncoder, kind: str = kind, size: int = size) -> object:
                return (
                    encoder.encode_studies(studies[:size]) if kind == "images" else encoder.encode_texts(texts[:size])
                )

            before, now = compare(lambda: encode(plain), lambda: encode(fused), given.rounds)
            ratio = before / now
            print(f"{kind}, {size:>2} in a call: {size / before:6.1f}/s plain, {size / now:6.1f}/s fused: {ratio:.2f}")
            found[f"{kind}_{size}"] = round(ratio, 2)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
