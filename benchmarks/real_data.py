"""Real radiographs, DICOM files and reports through the product, and how the encoders do on real pairs.

    python -m benchmarks.real_data --data DATA [--model DIR] [--work DIR]

DATA holds cxr/manifest.csv, dicom/ and reports/*.jsonl. Everything goes in through the product's own code, is embedded,
indexed and asked over HTTP. Prints what was accepted and refused, times, paired retrieval against chance, and how well
zero-shot tells pneumonia from no finding.
"""

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from index import (
    Catalog,
    build_generation,
    embed_pending,
    ingest_folder,
    ingest_manifest,
    migrate,
    open_catalog,
    read_pairs,
    refused_files,
)
from model.alta_encoder import load_encoder
from model.encoder import StudyImages
from model.evaluation.metrics import Interval, bootstrap_auroc
from model.evaluation.paired import evaluate_paired
from model.image import read_radiograph
from model.prompts import PROMPT_SETS
from service.demo import running
from service.settings import DEMO_ENCODERS, Settings

console = Console()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=DEMO_ENCODERS)
    parser.add_argument("--work", type=Path, help="Folder of the catalog; default: one that is removed again.")
    parser.add_argument("--port", type=int, default=8766)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=options.work or Path(folder), model_path=options.model, port=options.port)
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        print(json.dumps(run(options.data, settings)))


def run(data: Path, settings: Settings) -> dict[str, Any]:
    encoder = load_encoder(settings.model_path)
    migrate(settings.catalog_url)
    catalog = open_catalog(settings.catalog_url)
    times: dict[str, float] = {}
    cxr = _timed(times, "ingest_cxr", lambda: ingest_manifest(catalog, data / "cxr" / "manifest.csv"))
    reports = next((data / "reports").glob("*.jsonl"), None)
    dicom = _timed(times, "ingest_dicom_and_reports", lambda: ingest_folder(catalog, data / "dicom", reports))
    made = _timed(times, "embed", lambda: embed_pending(catalog, encoder))
    live = _timed(times, "build", lambda: build_generation(catalog, settings.generations_dir, encoder.fingerprint))
    _print_refusals(catalog, data)
    table = Table("step", "result", "seconds")
    table.add_row(
        "manifest of pictures", f"accepted {cxr.accepted}, refused {dict(cxr.refused)}", _s(times, "ingest_cxr")
    )
    table.add_row("", f"studies {cxr.studies_new}, reports matched {cxr.reports_matched}")
    waiting = f"reports waiting {dicom.reports_unmatched}, refused {dict(dicom.reports_refused)}"
    table.add_row("DICOM folder", f"accepted {dicom.accepted}, refused {dict(dicom.refused)}", "")
    table.add_row("report file", waiting, _s(times, "ingest_dicom_and_reports"))
    table.add_row(
        "embed", f"{made.images} studies, {made.reports} reports, failed {dict(made.failed)}", _s(times, "embed")
    )
    table.add_row("build", f"{live.image_rows} studies, {live.report_rows} reports", _s(times, "build"))
    console.print(table)

    pairs = read_pairs(catalog, encoder.fingerprint)
    paired = evaluate_paired(pairs.images, pairs.reports, pairs.texts, pairs.patients)
    table = Table("real pairs", "figure (95 % interval)", "chance", title=f"{len(pairs.texts)} studies with a report")
    for name, interval in paired.figures.items():
        table.add_row(name, str(interval), f"{paired.chance[name]:.3f}")
    console.print(table)
    pneumonia, cases = _pneumonia(encoder, data / "cxr")
    console.print(f"Zero-shot pneumonia against no finding, {cases} labelled frontals: AUROC {pneumonia} (chance 0.5)")
    latency = _ask(settings, encoder, data)
    console.print(f"Over HTTP, one query each, ms: {latency}")
    catalog.close()
    return {
        "accepted": cxr.accepted + dicom.accepted,
        "refused": dict(cxr.refused + dicom.refused),
        "studies": live.image_rows,
        "reports": live.report_rows,
        "reports_waiting": dicom.reports_unmatched,
        "seconds": {name: round(value, 2) for name, value in times.items()},
        "paired": {name: interval.as_list() for name, interval in paired.figures.items()},
        "paired_chance": {name: round(value, 4) for name, value in paired.chance.items()},
        "pneumonia_auroc": pneumonia.as_list(),
        "query_ms": latency,
    }


def _print_refusals(catalog: Catalog, data: Path) -> None:
    refused = {Path(row.path).name: row for row in refused_files(catalog, limit=1000)}
    table = Table("DICOM file", "outcome", "detail")
    for path in sorted((data / "dicom").glob("*.dcm")):
        row = refused.get(path.name)
        table.add_row(path.name, row.reason if row else "accepted", row.detail[:70] if row else "")
    console.print(table)


def _pneumonia(encoder: Any, folder: Path) -> tuple[Interval, int]:
    """AUROC of the built-in Pneumonia prompts: labelled pneumonia of any cause against No Finding, frontals only."""
    with (folder / "manifest.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["view"] != "L" and row["findings"]]
    chosen = [
        r for r in rows if r["findings"] == "No Finding" or "neumonia" in r["findings"] or "COVID" in r["findings"]
    ]
    pair = PROMPT_SETS["Pneumonia"]
    direction = encoder.encode_prompts(pair.positive) - encoder.encode_prompts(pair.negative)
    pixels = [encoder.transform(read_radiograph(folder / row["image_path"]).pixels) for row in chosen]
    parts = [
        encoder.encode_studies([StudyImages(image) for image in pixels[start : start + 32]])
        for start in range(0, len(pixels), 32)
    ]
    scores = np.concatenate(parts) @ direction
    sick = np.array([row["findings"] != "No Finding" for row in chosen])
    patients = np.array([row["patient_id"] for row in chosen])
    return bootstrap_auroc(patients, scores, sick), len(chosen)


def _ask(settings: Settings, encoder: Any, data: Path) -> dict[str, float]:
    """One query of each kind on a real file; every answer must have hits."""
    chest = (data / "dicom" / "chest_CR_mono1_15bit_j2k_lossy.dcm").read_bytes()
    with (data / "cxr" / "manifest.csv").open(newline="") as stream:
        first = next(csv.DictReader(stream))
    files = [("files", ("query.dcm", chest, "application/dicom"))]
    taken: dict[str, float] = {}
    with running(settings, encoder) as address, httpx.Client(base_url=address, timeout=60) as client:
        calls: dict[str, Callable[[], httpx.Response]] = {
            "image_to_text": lambda: client.post("/v1/search/image-to-text", files=files),
            "image_to_image": lambda: client.post("/v1/search/image-to-image", files=files),
            "text_to_image": lambda: client.post("/v1/search/text-to-image", json={"text": first["text"]}),
            "zero_shot": lambda: client.post("/v1/zero-shot", files=files),
        }
        for name, call in calls.items():
            started = time.perf_counter()
            response = call().raise_for_status().json()
            taken[name] = round((time.perf_counter() - started) * 1000, 1)
            if not (response.get("hits") or response.get("findings")):
                raise SystemExit(f"{name}: no answer")
    return taken


def _timed(times: dict[str, float], name: str, work: Callable[[], Any]) -> Any:
    started = time.perf_counter()
    result = work()
    times[name] = time.perf_counter() - started
    return result


def _s(times: dict[str, float], name: str) -> str:
    return f"{times[name]:.1f}"


if __name__ == "__main__":
    main()
