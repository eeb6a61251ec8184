"""How often a query is said to be unlike the archive: by its nearest image of another patient, against what is usual.

    python -m benchmarks.unlike_archive --data DATA [--pictures FOLDER] [--model model/demo] [--studies 600]

Two archives of frontal images: simulated (cohort 1000) and real (half of the patients of DATA/cxr). Asked with: unseen
studies of the same kind (cohort 2000, the other half), the same inverted and upside down, studies of the other kind,
drawn pictures, FOLDER. The limit is the product's: what 99 % of the archive's own studies reach. Intervals resample
patients. Last line: JSON.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from model.alta_encoder import AltaEncoder, load_encoder
from model.encoder import StudyImages
from model.evaluation.metrics import bootstrap_mean
from model.simulation import render, simulate_studies

from .unlike import drawn, pictures, real

ARCHIVE_SEED, QUERY_SEED = 1000, 2000
SIZE = 256  # px, of simulated films
UNUSUAL = 0.01

console = Console(width=140)

Films = list[tuple[str, np.ndarray]]  # patient, pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--model", type=Path, default=Path("model/demo"))
    parser.add_argument("--studies", type=int, default=600, help="Of the simulated archive; half as many ask.")
    options = parser.parse_args()
    encoder = load_encoder(options.model, device="cpu", dtype="float32")
    upright = [film for tuned in (True, False) for film in _upright(options.data, tuned)]
    halves: tuple[Films, Films] = ([], [])
    for patient, pixels in upright:
        halves[int(hashlib.sha256(patient.encode()).hexdigest(), 16) % 2].append((patient, pixels))
    archives = {"simulated": simulated(ARCHIVE_SEED, options.studies), "real": halves[0]}
    unseen = {"simulated": simulated(QUERY_SEED, options.studies // 2), "real": halves[1]}
    asked: dict[str, Films] = {}
    for kind, films in unseen.items():
        asked[kind] = films
        asked[f"{kind}, inverted"] = [(patient, 1 - pixels) for patient, pixels in films]
        asked[f"{kind}, upside down"] = [(patient, np.rot90(pixels, 2).copy()) for patient, pixels in films]
    asked["drawn, not a chest"] = others(options.studies // 2)
    if options.pictures:
        asked["pictures, not of a chest"] = [(name, pixels) for _, name, pixels, _ in pictures(options.pictures, "")]
    embedded = {kind: embed(encoder, films) for kind, films in asked.items()}
    table = Table("asked with", "count", *(f"{kind} archive" for kind in archives))
    result: dict[str, dict[str, list[float | None]]] = {kind: {} for kind in asked}
    flagged: dict[str, dict[str, str]] = {kind: {} for kind in asked}
    for archive, films in archives.items():
        vectors = embed(encoder, films)
        own = nearest(vectors, vectors, [p for p, _ in films], [p for p, _ in films])
        limit = float(np.quantile(own, UNUSUAL))
        for kind, queries in asked.items():
            patients = [patient for patient, _ in queries]
            far = nearest(embedded[kind], vectors, patients, [p for p, _ in films]) < limit
            share = bootstrap_mean(np.array(patients), far.astype(float))
            result[kind][archive], flagged[kind][archive] = share.as_list(), str(share)
    for kind, found in flagged.items():
        table.add_row(kind, str(len(asked[kind])), *found.values())
    console.print(table)
    print(json.dumps({"archives": {kind: len(films) for kind, films in archives.items()}} | result))


def _upright(data: Path, tuned: bool) -> Iterator[tuple[str, np.ndarray]]:
    for kind, patient, pixels, _ in real(data / "cxr", tuned):
        if "frontal" in kind and kind.count(",") == 1:  # neither inverted nor turned
            yield patient, pixels


def simulated(seed: int, count: int) -> Films:
    return [(study.patient_id, render(study, "frontal", SIZE)) for study, _ in simulate_studies(seed, count)]


def others(count: int) -> Films:
    draw = np.random.default_rng(QUERY_SEED)
    return [(study.patient_id, drawn(study, draw)) for study, _ in simulate_studies(QUERY_SEED, count)]


def embed(encoder: AltaEncoder, films: Films, batch: int = 32) -> np.ndarray:
    prepared = [StudyImages(encoder.transform(pixels)) for _, pixels in films]
    return np.concatenate([encoder.encode_studies(prepared[n : n + batch]) for n in range(0, len(prepared), batch)])


def nearest(queries: np.ndarray, archive: np.ndarray, asking: Sequence[str], patients: Sequence[str]) -> np.ndarray:
    """(Q,) best cosine to an image of another patient."""
    cosines = queries @ archive.T
    cosines[np.array(asking)[:, None] == np.array(patients)[None, :]] = -1
    return cosines.max(axis=1)


if __name__ == "__main__":
    main()
