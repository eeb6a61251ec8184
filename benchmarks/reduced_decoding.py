"""What decoding JPEG 2000 at a fraction of its resolution changes for an encoder, and what it saves.

    python -m benchmarks.reduced_decoding --images 12 [--data ../shared/data]

Each film, simulated and real, lossless and lossy, is prepared from the whole picture and from the reduced one, and
both are embedded: by the demo encoders and by the published architecture with random weights, which has learned to
ignore nothing. One thread.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import torch

from benchmarks.large_films import encoded, enlarged, film, real_films, real_pictures
from model.alta import ALTA, ALTAConfig
from model.alta_encoder import load_encoder
from model.encoder import StudyImages
from model.image import ImageTransform, decode_dicom, picture_for
from model.simulation import render, simulate_studies

SEED = 77


def films(images: int, data: Path) -> Iterator[tuple[str, pydicom.Dataset]]:
    simulated = [render(study, "frontal", 640) for study, _ in simulate_studies(SEED, images)]
    for kind, pictures in (("simulated", simulated), ("real", real_pictures(data / "cxr" / "images", images))):
        for number, picture in enumerate(pictures):
            longer = 2500 if kind == "simulated" else None
            turned = ["R", "F"] if number % 4 == 3 else ["L", "F"]
            whole = film(enlarged(picture, longer, number), True, number % 3 == 2, PatientOrientation=turned)
            for encoding in ("j2k-lossless", "j2k-lossy"):
                yield f"{kind}, {encoding}", encoded(whole, encoding)
    yield from real_films(data / "dicom")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=12, help="films of each kind")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    demo = load_encoder(Path(__file__).parents[1] / "model" / "demo", "cpu")
    vit = ALTA(ALTAConfig()).eval().requires_grad_(False)

    def by_demo(pixels: np.ndarray) -> np.ndarray:
        return demo.encode_studies([StudyImages(pixels)])[0]

    def by_vit(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            tokens = vit.image_encoder(torch.from_numpy(pixels)[None, None, None], torch.ones(1, 1, dtype=torch.bool))
            return vit.image_encoder.embed_study(tokens)[0].numpy()

    encoders: dict[str, tuple[ImageTransform, Callable[[np.ndarray], np.ndarray]]] = {
        "demo 160 px": (demo.transform, by_demo),
        "ViT-B/16 224 px": (ImageTransform(), by_vit),
    }
    rows: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for kind, dataset in films(given.images, given.data):
        start = time.perf_counter()
        display = decode_dicom(dataset)
        whole_s = time.perf_counter() - start
        for name, (transform, embed) in encoders.items():
            start = time.perf_counter()
            picture = picture_for(dataset, transform)
            reduced = transform(picture.pixels, picture.extent)
            reduced_s = time.perf_counter() - start
            whole = transform(display)
            one = embed(whole)
            cosine = float(one @ embed(reduced))
            rms = float(np.sqrt(np.square(whole - reduced).mean()))
            rows.setdefault((name, kind), []).append((cosine, rms, whole_s, reduced_s))
    lowest = 1.0
    print(f"{'encoder':<16} {'films':<40} {'n':>2} lowest cosine  of 8 bits  rms    whole   reduced")
    for (name, kind), values in rows.items():
        table = np.array(values)
        lowest = min(lowest, table[:, 0].min())
        whole_ms, reduced_ms = np.median(table[:, 2:], axis=0) * 1e3
        print(
            f"{name:<16} {kind:<40} {len(table):>3} {table[:, 0].min():.6f}      "
            f" {table[:, 1].max():.4f} {whole_ms:4.0f} ms {reduced_ms:4.0f} ms"
        )
    print(json.dumps({"lowest_cosine": round(lowest, 6), "films": sum(map(len, rows.values())) // 2}))


if __name__ == "__main__":
    main()
