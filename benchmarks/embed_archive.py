"""How near the embedding job comes to the bare encoder, on an archive of detector-sized films.

    python -m benchmarks.embed_archive --studies 96                       # the published size on this processor
    python -m benchmarks.embed_archive --studies 400 --device-rate 200    # beside a simulated accelerator

The archive: simulated patients with one to four studies, half of them with a lateral, a film being 2,048 x 2,500 px of
12 bits; half of the films uncompressed, a third lossless JPEG 2000, the rest lossy; nine in ten with a window in their
header (``--windowed``; the others are decoded whole). It is ingested and embedded as `alta embed` does it.

The encoder: ViT-B/16 of the published size with random weights, which is right for speed and for nothing else, in the
dtype that the product chooses (``--dtype auto``). ``--device-rate``: instead, one that sleeps as long as a device of so
many studies a second would work, and leaves the processor to the decoders. It shows whether they keep up, no more.

The bare encoder's rate is measured on the same prepared batches before and after the job, because other work on the
machine comes and goes. Stages, each alone and one after the other on one core: read (with the hash), decode, transform,
write. The last line is JSON with `share_of_encoder`: the job's rate over the bare encoder's. Where encoder and decoders
share the cores the share cannot be more than `processor_share`: processor time of the encoder over that of encoder and
decoders together, which other work on the machine hardly changes.
"""

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.large_films import encoded, enlarged, film
from index import Catalog, embed_pending, ingest_folder, migrate, open_catalog
from index.embedding.job import EmbedSummary
from index.embedding.pending import Task, Walk
from index.embedding.rows import write_outcomes
from index.tables import IMAGE
from model.alta import ALTA, ALTAConfig
from model.alta_encoder import AltaEncoder, load_encoder
from model.checkpoint import Checkpoint
from model.encoder import StudyEncoder, StudyImages
from model.image import ImageTransform, picture_for, read_dicom
from model.processor import has_native_bfloat16
from model.simulation import render, simulate_studies

DEMO = Path(__file__).parents[1] / "model" / "demo"
FIRST, ROWS = 10, 2500
RENDERED = 640


class SimulatedDevice:
    """Takes the time of a device that encodes ``rate`` studies a second; its embeddings mean nothing."""

    fingerprint, dimension, context_length, positions = "d" * 64, 128, 128, 512
    transform = ImageTransform()

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def encode_studies(self, studies: Sequence[StudyImages]) -> np.ndarray:
        np.stack([image for study in studies for image in study.slots() if image is not None])  # as for any device
        time.sleep(len(studies) / self.rate)
        vectors = np.random.default_rng(0).standard_normal((len(studies), self.dimension)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def published_size(dtype: str) -> AltaEncoder:
    demo = load_encoder(DEMO, "cpu")
    torch.manual_seed(0)
    model = ALTA(ALTAConfig()).eval()
    made = Checkpoint(model, demo.tokenizer, ImageTransform(), demo.provenance, "b" * 64)
    device = torch.device("cpu")
    narrow = dtype == "bfloat16" or (dtype == "auto" and has_native_bfloat16(device))
    return AltaEncoder(made, device, torch.bfloat16 if narrow else torch.float32)


def write_archive(folder: Path, studies: int, windowed: float, seed: int) -> Counter[str]:
    """DICOM files of so many studies; returns how many of each encoding."""
    draw = np.random.default_rng(seed)
    pictures = [
        (render(study, "frontal", RENDERED), render(study, "lateral", RENDERED) if study.has_lateral else None)
        for study, _ in simulate_studies(seed, FIRST)
    ]
    laterals = [lateral for _, lateral in pictures if lateral is not None]
    made: Counter[str] = Counter()
    patient = left = 0
    for number in range(studies):
        if not left:
            patient, left = patient + 1, int(draw.integers(1, 5))
        left -= 1
        views = [("PA", pictures[int(draw.integers(len(pictures)))][0])]
        if draw.random() < 0.5:
            views.append(("LL", laterals[int(draw.integers(len(laterals)))]))
        encoding = str(draw.choice(["uncompressed", "j2k-lossless", "j2k-lossy"], p=[1 / 2, 1 / 3, 1 / 6]))
        has_window, inverted = draw.random() < windowed, draw.random() < 0.3
        for image, (view, picture) in enumerate(views):
            uid = f"2.25.{seed}{number:06d}{image}"
            tags: dict[str, Any] = {
                "PatientID": f"P{patient}",
                "StudyInstanceUID": f"2.25.{seed}{number:06d}",
                "SeriesInstanceUID": f"2.25.{seed}{number:06d}9",
                "SOPInstanceUID": uid,
                "StudyDate": f"20{10 + 3 - left:02d}0101",
                "ViewPosition": view,
                "PatientOrientation": ["L", "F"] if view == "PA" else ["P", "F"],
            }
            large = enlarged(picture, ROWS, seed=2 * number + image)
            dataset = encoded(film(large, has_window, inverted, **tags), encoding)
            dataset.save_as(folder / f"{uid}.dcm", enforce_file_format=True)
            made[encoding] += 1
    return made


def stages(catalog: Catalog, batches: list[list[Task]], transform: ImageTransform) -> dict[str, tuple[float, int]]:
    """Processor seconds and units of each stage alone, one after the other; every file once."""
    files = {file.path: file for batch in batches for task in batch for file in task.files.values()}
    spent: Counter[str] = Counter()
    for path in files:
        start = time.process_time()
        data = path.read_bytes()
        hashlib.sha256(data).hexdigest()
        read = time.process_time()
        picture = picture_for(read_dicom(data), transform)
        decoded = time.process_time()
        transform(picture.pixels, picture.extent)
        spent["read"] += read - start
        spent["decode"] += decoded - read
        spent["transform"] += time.process_time() - decoded
    vector = np.ones(128, np.float32) / np.float32(128**0.5)
    start = time.process_time()
    for batch in batches:
        write_outcomes(catalog, IMAGE, "0" * 64, batch, [vector] * len(batch))
    found = {name: (seconds, len(files)) for name, seconds in spent.items()}
    return found | {"write": (time.process_time() - start, sum(map(len, batches)))}


def prepared(batches: list[list[Task]], transform: ImageTransform) -> list[list[StudyImages]]:
    images: dict[Path, np.ndarray] = {}
    for batch in batches:
        for task in batch:
            for file in task.files.values():
                if file.path not in images:
                    picture = picture_for(read_dicom(file.path.read_bytes()), transform)
                    images[file.path] = transform(picture.pixels, picture.extent)
    return [
        [StudyImages(**{slot: images[file.path] for slot, file in task.files.items()}) for task in batch]
        for batch in batches
    ]


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def run(given: argparse.Namespace, folder: Path) -> None:
    url = f"sqlite:///{folder / 'alta.db'}"
    files = folder / "dicom"
    files.mkdir()
    encodings = write_archive(files, given.studies, given.windowed, given.seed)
    migrate(url)
    catalog = open_catalog(url)
    ingest_s = seconds_of(lambda: ingest_folder(catalog, files))
    encoder: StudyEncoder = SimulatedDevice(given.device_rate) if given.device_rate else published_size(given.dtype)
    batches = list(Walk(catalog, IMAGE, encoder.fingerprint, given.batch_size))
    studies = sum(map(len, batches))
    slots = sum(len(task.files) for batch in batches for task in batch)
    images = sum(encodings.values())
    print(f"{studies} studies, {images} films: {dict(encodings)}; {slots} filled slots. Ingested in {ingest_s:.1f} s.")
    each = stages(catalog, batches, encoder.transform)
    inputs = prepared(batches, encoder.transform)

    def bare() -> None:
        for batch in inputs:
            encoder.encode_studies(batch)

    encoder.encode_studies(inputs[0])
    processor = time.process_time()
    before = seconds_of(bare)
    processor = time.process_time() - processor
    summary = EmbedSummary()
    job = seconds_of(
        lambda: embed_pending(catalog, encoder, batch_size=given.batch_size, workers=given.workers, summary=summary)
    )
    after = seconds_of(bare)
    assert summary.images == studies, summary
    bare_s = (before + after) / 2
    print("stage      processor time")
    for name, (seconds, units) in {**each, "encode": (processor, studies)}.items():
        unit = "studies" if name in ("write", "encode") else "films"
        print(f"{name:<10} {seconds:7.2f} s {units / seconds:9.1f} {unit}/s")
    kind = f"simulated device of {given.device_rate:g} studies/s" if given.device_rate else f"ViT-B/16, {given.dtype}"
    print(f"bare encoder ({kind}): {studies / before:.2f} studies/s before, {studies / after:.2f} after")
    print(
        f"the job: {studies / job:.2f} studies/s in {job:.1f} s, of which {summary.waiting_s:.1f} s waiting for"
        f" decoders, {summary.encoding_s:.1f} s encoding, {summary.writing_s:.1f} s writing; {summary.decoded} of"
        f" {slots} slots' images decoded, the rest were the study's before"
    )
    beside = sum(seconds / units * summary.decoded for seconds, units in list(each.values())[:3]) + each["write"][0]
    figures = {
        "studies": studies,
        "films": images,
        "cores": os.cpu_count(),
        "encoder": kind,
        "bare_studies_per_s": round(studies / bare_s, 2),
        "job_studies_per_s": round(studies / job, 2),
        "processor_share": None if given.device_rate else round(processor / (processor + beside), 3),
        "share_of_encoder": round(bare_s / job, 3),
    }
    print(json.dumps(figures))
    catalog.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, help="decoder processes; default as in alta embed")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--windowed", type=float, default=0.9, help="share of studies whose headers have a window")
    parser.add_argument("--device-rate", type=float, default=0, help="studies/s of a simulated accelerator")
    parser.add_argument("--seed", type=int, default=9)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(given, Path(folder))


if __name__ == "__main__":
    main()
