"""What a fused ranking costs beside one by images alone, over whole pages of ten hits, reports grouped.

    python -m benchmarks.fused_search [--rows 100000] [--folder build/fused] [--queries 40]

The catalog of ``benchmarks.search``, three studies a patient, with report embeddings near the images' for nine of ten.
Milliseconds, median and 95th percentile, in the same run. Last line: JSON, fused over image by filter.
"""

import argparse
import json
import shutil
import sqlite3
import statistics
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.search import FILTERS, MODEL, NOISE, WIDTH, draws, fill
from index import IMAGE_WEIGHTS, Filters, Gallery, Place, Ranking, Search, Snapshot, build_generation, open_catalog

TOP_K = 10
NOW = "2026-01-01 00:00:00.000000"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=Path("build/fused"))
    parser.add_argument("--queries", type=int, default=40)
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    url = fill(options.folder, options.rows)
    add_reports(options.folder / "alta.db", options.rows)
    catalog = open_catalog(url)
    live = build_generation(catalog, options.folder / "generations", MODEL)
    gallery = Gallery(catalog, options.folder / "generations")
    gallery.refresh(now=True)
    assert gallery.snapshot is not None
    asked = next(draws(2, options.queries))
    rankings = {"image": Ranking("image"), "report": Ranking("report")}
    rankings |= {f"fused {w:g}": live.scores.ranking("image", w) for w in (*IMAGE_WEIGHTS.values(), 0.5)}
    chosen = f"fused {IMAGE_WEIGHTS['image']:g}"
    table = Table("filter", *rankings, title=f"{options.rows} studies, {live.engine}: p50, p95 ms")
    ratios = {}
    filters = {"none": Filters(), "own patient": Filters(exclude_patients=("p5",)), **FILTERS}
    for name, chosen_filters in filters.items():
        times = {each: timed(gallery.snapshot, asked, ranking, chosen_filters) for each, ranking in rankings.items()}
        table.add_row(name, *(f"{statistics.median(found):.1f}, {high(found):.1f}" for found in times.values()))
        ratios[name] = round(statistics.median(times[chosen]) / statistics.median(times["image"]), 2)
    console = Console(width=120)
    console.print(table)
    console.print(f"Second page: {second_page(gallery.snapshot, asked, rankings[chosen]):.1f} ms")
    catalog.close()
    print(json.dumps(ratios))


def add_reports(file: Path, rows: int) -> None:
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA synchronous = OFF")
        database.executemany(
            "INSERT INTO patient (id, key) VALUES (?, ?)", ((n, f"p{n}") for n in range(2, rows // 3 + 2))
        )
        database.execute("UPDATE study SET patient_id = id / 3 + 1")
        drawn, start = np.random.default_rng(9), 0
        for vectors in draws(1, rows):
            near = vectors + NOISE / WIDTH**0.5 * drawn.standard_normal(vectors.shape, dtype=np.float32)
            near /= np.linalg.norm(near, axis=1, keepdims=True)
            database.executemany(
                "INSERT INTO embedding (study_id, kind, model_fingerprint, vector, source_hash, created_at)"
                f" VALUES (?, 'report', '{MODEL}', ?, '{'0' * 64}', '{NOW}')",
                ((n, vector.tobytes()) for n, vector in enumerate(near, start + 1) if n % 10),
            )
            start += len(vectors)
    database.close()


def timed(snapshot: Snapshot, asked: np.ndarray, ranking: Ranking, filters: Filters) -> list[float]:
    times = []
    for query in asked:
        started = time.perf_counter()
        snapshot.page(Search(query, ranking, filters), TOP_K)
        times.append(1000 * (time.perf_counter() - started))
    return times


def second_page(snapshot: Snapshot, asked: np.ndarray, ranking: Ranking) -> float:
    times = []
    for query in asked:
        last = snapshot.page(Search(query, ranking), TOP_K).hits[-1]
        started = time.perf_counter()
        after = Place(last.score, last.study_id, TOP_K)
        snapshot.page(Search(query, ranking, seen=snapshot.seen), TOP_K, after)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def high(times: list[float]) -> float:
    return float(np.quantile(times, 0.95))


if __name__ == "__main__":
    main()
