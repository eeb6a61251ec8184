"""How often a query is said to be unlike the archive: by its nearest image of another patient, against what is usual.

    python -m benchmarks.unlike_archive --data DATA [--pictures FOLDER] [--model model/demo] [--studies 600]

Two archives: simulated (cohort 1000, whole studies with lateral and prior as the product embeds them) and real (the
frontals of half of the patients of DATA/cxr). Asked with: unseen studies of the same kind (cohort 2000, the other
half), their frontals inverted and upside down, studies of the other kind, drawn pictures, FOLDER. The limit is the
product's: what 99 % of the archive's own studies reach. Intervals resample patients. Last line: JSON.
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
from model.evaluation.cohort import prepare_views, study_images
from model.evaluation.metrics import bootstrap_mean
from model.simulation import render, simulate_studies

from .unlike import drawn, pictures, real

ARCHIVE_SEED, QUERY_SEED = 1000, 2000
SIZE = 256  # px, of simulated films
UNUSUAL = 0.01

console = Console(width=140)

Films = list[tuple[str, np.ndarray]]  # patient, pixels
Embedded = tuple[np.ndarray, np.ndarray]  # patients (N,), embeddings (N, D)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--model", type=Path, default=Path("model/demo"))
    parser.add_argument("--studies", type=int, default=600, help="Of the simulated archive; half as many ask.")
    options = parser.parse_args()
    encoder = load_encoder(options.model, device="cpu", dtype="float32")
    halves: tuple[Films, Films] = ([], [])
    for patient, pixels in (film for tuned in (True, False) for film in _upright(options.data, tuned)):
        halves[int(hashlib.sha256(patient.encode()).hexdigest(), 16) % 2].append((patient, pixels))
    archives = {
        "simulated": whole_studies(encoder, ARCHIVE_SEED, options.studies),
        "real": frontals(encoder, halves[0]),
    }
    asked = {"simulated, whole studies": whole_studies(encoder, QUERY_SEED, options.studies // 2)}
    for kind, films in (("simulated", simulated(QUERY_SEED, options.studies // 2)), ("real", halves[1])):
        asked[f"{kind}, frontal"] = frontals(encoder, films)
        asked[f"{kind}, inverted"] = frontals(encoder, [(patient, 1 - pixels) for patient, pixels in films])
        turned = [(patient, np.rot90(pixels, 2).copy()) for patient, pixels in films]
        asked[f"{kind}, upside down"] = frontals(encoder, turned)
    asked["drawn, not a chest"] = frontals(encoder, others(options.studies // 2))
    if options.pictures:
        named = [(name, pixels) for _, name, pixels, _ in pictures(options.pictures, "")]
        asked["pictures, not of a chest"] = frontals(encoder, named)
    show(archives, asked)


def show(archives: dict[str, Embedded], asked: dict[str, Embedded]) -> None:
    table = Table("asked with", "count", *(f"{kind} archive" for kind in archives))
    limits = {kind: float(np.quantile(nearest(archive, archive), UNUSUAL)) for kind, archive in archives.items()}
    result: dict[str, dict[str, list[float | None]]] = {}
    for kind, queries in asked.items():
        shares = {
            each: bootstrap_mean(queries[0], (nearest(queries, archive) < limits[each]).astype(float))
            for each, archive in archives.items()
        }
        table.add_row(kind, str(len(queries[0])), *map(str, shares.values()))
        result[kind] = {each: share.as_list() for each, share in shares.items()}
    console.print(table)
    print(json.dumps({"archives": {kind: len(archive[0]) for kind, archive in archives.items()}} | result))


def _upright(data: Path, tuned: bool) -> Iterator[tuple[str, np.ndarray]]:
    for kind, patient, pixels, _ in real(data / "cxr", tuned):
        if "frontal" in kind and kind.count(",") == 1:  # neither inverted nor turned
            yield patient, pixels


def simulated(seed: int, count: int) -> Films:
    return [(study.patient_id, render(study, "frontal", SIZE)) for study, _ in simulate_studies(seed, count)]


def others(count: int) -> Films:
    draw = np.random.default_rng(QUERY_SEED)
    return [(study.patient_id, drawn(study, draw)) for study, _ in simulate_studies(QUERY_SEED, count)]


def frontals(encoder: AltaEncoder, films: Films) -> Embedded:
    return embed(encoder, [(patient, StudyImages(encoder.transform(pixels))) for patient, pixels in films])


def whole_studies(encoder: AltaEncoder, seed: int, count: int) -> Embedded:
    cohort = list(simulate_studies(seed, count))
    views = prepare_views(cohort, [encoder.transform], 1, lambda done, total: None)[encoder.transform]
    return embed(encoder, [(study.patient_id, study_images(study, prior, views, "study")) for study, prior in cohort])


def embed(encoder: AltaEncoder, studies: Sequence[tuple[str, StudyImages]], batch: int = 32) -> Embedded:
    images = [study for _, study in studies]
    rows = [encoder.encode_studies(images[start : start + batch]) for start in range(0, len(images), batch)]
    return np.array([patient for patient, _ in studies]), np.concatenate(rows)


def nearest(queries: Embedded, archive: Embedded) -> np.ndarray:
    """(Q,) best cosine to a study of another patient."""
    cosines = queries[1] @ archive[1].T
    cosines[queries[0][:, None] == archive[0][None, :]] = -1
    return cosines.max(axis=1)


if __name__ == "__main__":
    main()
