"""Search at 10 thousand to a million studies against bare FAISS in the same run.

    python -m benchmarks.search [--rows 10000 100000 1000000] [--folder build/search] [--queries 300]

Vectors: 128 wide, length 1, clustered as embeddings are: 50 groups, 2,000 centres around them, rows around these (noise
as long as NOISE times the centre). Queries are new draws from the same centres, not rows. A SQLite catalog holds
one study, image, report text and image embedding a row; page cache warm.

Bare FAISS: IndexFlatIP for exact search; for approximate search the cells that the product itself uses, read from its
own file and asked for ten. The product: ``Gallery.refresh`` and ``search``, filters off, to the records of ten hits.
Single queries, round by round; medians count. Filters: SQL decides; compared with a naive search among what
passes. Every size is measured in a process of its own. Ten times the largest size is projected on the line
through the last two. Last line: JSON for the largest size.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from index import Filters, Gallery, Snapshot, build_generation, migrate, open_catalog
from index.engines import IvfIndex

WIDTH, TOP_K = 128, 10
GROUPS, CENTRES, NOISE = 50, 2_000, 0.8
MODEL = "f" * 64
FIRST_DAY, DAYS = date(1998, 1, 1), 10_000
FILTERS = {
    "50 %": Filters(sexes=("F",)),
    "1 %": Filters(date_from=FIRST_DAY + timedelta(3000), date_to=FIRST_DAY + timedelta(3099)),
    "0.01 %": Filters(date_from=FIRST_DAY + timedelta(5000), date_to=FIRST_DAY + timedelta(5000)),
}
SECONDS = 3.0  # of a throughput measurement
ROUNDS = 5
CHUNK = 50_000
REPORT = "FINDINGS: Number {}. " + "The heart is normal in size. The lungs are clear. " * 6 + "IMPRESSION: No change."


def noisy(chosen: np.random.Generator, centres: np.ndarray) -> np.ndarray:
    """(N, WIDTH) of length 1: each centre with noise of its own."""
    vectors = centres + NOISE / WIDTH**0.5 * chosen.standard_normal(centres.shape, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def draws(seed: int, count: int) -> Iterator[np.ndarray]:
    """(up to CHUNK, WIDTH) at a time."""
    fixed = np.random.default_rng(0)
    groups = noisy(fixed, np.zeros((GROUPS, WIDTH), np.float32))
    centres = noisy(fixed, groups[fixed.integers(0, GROUPS, CENTRES)])
    chosen = np.random.default_rng(seed)
    for start in range(0, count, CHUNK):
        yield noisy(chosen, centres[chosen.integers(0, CENTRES, min(CHUNK, count - start))])


def attributes(row: int) -> tuple[str, date]:
    """Sex and date of a study; independent of its vector."""
    return "FM"[row % 2], FIRST_DAY + timedelta(row * 7919 % DAYS)


def fill(folder: Path, rows: int) -> str:
    """A catalog of ``rows`` studies; returns its URL."""
    file = folder / "alta.db"
    migrate(f"sqlite:///{file}")
    now = "2026-01-01 00:00:00.000000"
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute("INSERT INTO patient (id, key) VALUES (1, 'p')")
        start = 0
        for vectors in draws(1, rows):
            numbers = range(start + 1, start + len(vectors) + 1)
            database.executemany(
                "INSERT INTO study (id, study_instance_uid, patient_id, accession_number, study_date, modality,"
                " patient_sex, patient_age, created_at) VALUES (?, ?, 1, ?, ?, 'DX', ?, ?, ?)",
                (
                    (
                        n,
                        f"1.2.826.0.1.3680043.{n}",
                        f"A{n}",
                        attributes(n)[1].isoformat(),
                        attributes(n)[0],
                        n % 90,
                        now,
                    )
                    for n in numbers
                ),
            )
            database.executemany(
                "INSERT INTO instance (path_key, path, status, study_id, sop_instance_uid, view_position, view,"
                " created_at, updated_at) VALUES (?, ?, 'accepted', ?, ?, 'PA', 'frontal', ?, ?)",
                ((f"{n:064}", f"/archive/{n}.dcm", n, f"1.2.826.0.2.{n}", now, now) for n in numbers),
            )
            database.executemany(
                "INSERT INTO report (identity, source, status, study_id, text, sha256, created_at, updated_at)"
                " VALUES (?, 'reports.csv', 'matched', ?, ?, ?, ?, ?)",
                ((f"{n:064}", n, REPORT.format(n), f"{n:064}", now, now) for n in numbers),
            )
            database.executemany(
                "INSERT INTO embedding (study_id, kind, model_fingerprint, vector, source_hash, created_at)"
                f" VALUES (?, 'image', '{MODEL}', ?, '{'0' * 64}', '{now}')",
                ((n, vector.tobytes()) for n, vector in zip(numbers, vectors, strict=True)),
            )
            start += len(vectors)
    database.close()
    return f"sqlite:///{file}"


def build(folder: Path, url: str, rows: int) -> dict[str, float]:
    """Seconds of the product's build, and of FAISS's own for the same engine on vectors that are in memory."""
    catalog = open_catalog(url)
    started = time.perf_counter()
    live = build_generation(catalog, folder / "generations", MODEL)
    took = time.perf_counter() - started
    catalog.close()
    vectors = np.concatenate(list(draws(1, rows)))
    started = time.perf_counter()
    if live.engine == "ivf":
        settings = live.settings["image"]
        index: Any = faiss.index_factory(
            WIDTH, f"IVF{settings['cells']},{settings['code']}", faiss.METRIC_INNER_PRODUCT
        )
        index.train(vectors[: settings["trained_on"]])
    else:
        index = faiss.IndexFlatIP(WIDTH)
    index.add(vectors)
    return {"build_s": took, "bare_build_s": time.perf_counter() - started}


def measure(folder: Path, url: str, rows: int, queries: int) -> dict[str, Any]:
    """Everything about searching one size, in this process alone."""
    catalog = open_catalog(url)
    catalog.session().__enter__().connection()
    started = time.perf_counter()
    gallery = Gallery(catalog, folder / "generations")
    gallery.refresh(now=True)
    opened = time.perf_counter() - started
    snapshot = gallery.snapshot
    assert snapshot is not None
    part = snapshot.parts["image"]
    assert part is not None
    part.require_whole(wait=True)
    verified = time.perf_counter() - started
    asked = np.concatenate(list(draws(2, queries)))
    for query in asked[:20]:
        gallery.search("image", query, TOP_K)
    memory = resident()
    index = part.index
    cells = index.cells if isinstance(index, IvfIndex) else None
    if cells is not None:
        cells.nprobe = snapshot.info.settings["image"]["probes"][str(TOP_K)]
    files = {path.name: path.stat().st_size for path in (folder / "generations" / "1" / "image").iterdir()}

    exact = faiss.IndexFlatIP(WIDTH)  # after the memory of the product was read
    for vectors in draws(1, rows):
        exact.add(vectors)
    bare = exact if cells is None else cells
    timed = in_turn(
        {
            "exact": lambda query: exact.search(query[None], TOP_K),
            "bare": lambda query: bare.search(query[None], TOP_K),
            "engine": lambda query: index.search(query, TOP_K),
            "product": lambda query: found_by(gallery, query, Filters()),
        },
        asked,
    )
    truth = [set((1 + row).tolist()) for row in exact.search(asked, TOP_K)[1]]
    result: dict[str, Any] = {
        "rows": rows,
        "engine": snapshot.info.engine,
        "settings": dict(snapshot.info.settings["image"]),
        "open_s": opened,
        "verified_s": verified,
        "file_mb": {name: size / 1e6 for name, size in files.items()},
        "memory_mb": memory,
        "ms": {name: {"p50": middle(times), "p95": high(times)} for name, times in timed.items()},
        "overhead_ms_p50": middle(timed["product"]) - middle(timed["bare"]),
        "speedup_over_exact": middle(timed["exact"]) / middle(timed["engine"]),
        "recall_at_10": recall([found_by(gallery, query, Filters()) for query in asked], truth),
        "bare_recall": recall([set((1 + bare.search(query[None], TOP_K)[1][0]).tolist()) for query in asked], truth),
        "per_s": {
            f"{name}, {threads} thread{'s' * (threads > 1)}": rate(call, asked, threads)
            for name, call in (
                ("exact", lambda query: exact.search(query[None], TOP_K)),
                ("bare", lambda query: bare.search(query[None], TOP_K)),
                ("product", lambda query: found_by(gallery, query, Filters())),
            )
            for threads in (1, 2)
        },
    }
    result["filters"] = {
        name: filtered(gallery, filters, exact, asked[:100], rows) for name, filters in FILTERS.items()
    }
    return result


def filtered(gallery: Gallery, filters: Filters, exact: Any, asked: np.ndarray, rows: int) -> dict[str, float]:
    passing = np.array([number for number in range(1, rows + 1) if passes(number, filters)], dtype=np.int64)
    selector = faiss.IDSelectorBatch(passing - 1)
    truth = exact.search(asked, TOP_K, params=faiss.SearchParameters(sel=selector))[1]  # type: ignore[call-arg]
    found, times = [], []
    for query in asked:
        started = time.perf_counter()
        found.append(found_by(gallery, query, filters))
        times.append(time.perf_counter() - started)
    wanted = [set((1 + row[row >= 0]).tolist()) for row in truth]
    return {"passing": len(passing), "p50": middle(times), "p95": high(times), "recall_at_10": recall(found, wanted)}


def passes(number: int, filters: Filters) -> bool:
    sex, day = attributes(number)
    return (not filters.sexes or sex in filters.sexes) and (
        filters.date_from is None or filters.date_to is None or filters.date_from <= day <= filters.date_to
    )


def found_by(gallery: Gallery, query: np.ndarray, filters: Filters) -> set[int]:
    gallery.refresh()
    snapshot = gallery.snapshot
    assert isinstance(snapshot, Snapshot)
    hits = snapshot.search("image", query, TOP_K, filters)
    return {int(hit.study.study_instance_uid.rpartition(".")[2]) for hit in hits}


def in_turn(calls: dict[str, Callable[[np.ndarray], Any]], asked: np.ndarray) -> dict[str, list[float]]:
    """Seconds of each call for each query: all queries of one call, then of the next, so that what else runs meets all
    alike and a scan of every vector does not empty the caches of the others."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            for query in asked[: 10 if name == "exact" else None]:
                started = time.perf_counter()
                call(query)
                times[name].append(time.perf_counter() - started)
    return times


def rate(call: Callable[[np.ndarray], Any], asked: np.ndarray, threads: int) -> float:
    """Queries a second."""
    end = time.perf_counter() + SECONDS
    done = [0] * threads

    def work(place: int) -> None:
        while time.perf_counter() < end:
            call(asked[(done[place] * threads + place) % len(asked)])
            done[place] += 1

    workers = [threading.Thread(target=work, args=(place,)) for place in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(done) / SECONDS


def recall(found: list[set[int]], truth: list[set[int]]) -> float:
    return float(np.mean([len(a & b) / len(b) if b else 1.0 for a, b in zip(found, truth, strict=True)]))


def middle(times: list[float]) -> float:
    return 1000 * statistics.median(times)


def high(times: list[float]) -> float:
    return 1000 * float(np.percentile(times, 95))


def resident() -> dict[str, float]:
    """MB of this process: its own, and mapped files."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(lines[key].split()[0]) / 1e3 for name, key in (("own", "RssAnon"), ("mapped", "RssFile"))}


def separately(function: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def one_size(folder: Path, rows: int, queries: int) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    url = separately(fill, folder, rows)
    built = separately(build, folder, url, rows)
    result = built | separately(measure, folder, url, rows, queries)
    shutil.rmtree(folder)
    return result


def show(result: dict[str, Any]) -> None:
    print(f"\n{result['rows']:,} rows, engine {result['engine']} {result['settings']}")
    print(f"  build {result['build_s']:.1f} s (FAISS's own share {result['bare_build_s']:.1f} s)")
    print(f"  open {result['open_s']:.3f} s; every byte compared with its hash after {result['verified_s']:.2f} s")
    print("  files, MB: " + ", ".join(f"{name} {size:.1f}" for name, size in result["file_mb"].items()))
    print("  resident, MB: " + ", ".join(f"{name} {size:.0f}" for name, size in result["memory_mb"].items()))
    for name, times in result["ms"].items():
        print(f"  {name:8} p50 {times['p50']:.3f} ms  p95 {times['p95']:.3f} ms")
    print("  queries/s: " + ", ".join(f"{name} {value:.0f}" for name, value in result["per_s"].items()))
    print(f"  recall@10 {result['recall_at_10']:.4f} (bare FAISS, same cells {result['bare_recall']:.4f})")
    print(f"  engine {result['speedup_over_exact']:.0f} times as fast as FAISS's exact search")
    print(f"  the product's path adds {result['overhead_ms_p50']:.2f} ms to bare FAISS")
    for name, row in result["filters"].items():
        numbers = f"p50 {row['p50']:.2f} ms  p95 {row['p95']:.2f} ms  recall@10 {row['recall_at_10']:.4f}"
        print(f"  filter {name:7} ({row['passing']:,} pass)  {numbers}")


def project(results: list[dict[str, Any]]) -> None:
    """Ten times the largest size, on the lines through it and the size of a tenth."""
    last = results[-1]
    before = next((result for result in results if result["rows"] * 10 == last["rows"]), None)
    if before is None:
        return

    def line(value: Callable[[dict[str, Any]], float]) -> float:
        slope = (value(last) - value(before)) / (last["rows"] - before["rows"])
        return value(last) + slope * 9 * last["rows"]

    growth = last["build_s"] / before["build_s"]
    print(f"\n{last['rows']:,} rows cost {growth:.1f} times the build of {before['rows']:,}")
    print(
        f"projected for {10 * last['rows']:,}: build {line(lambda r: r['build_s']) / 60:.0f} min, files"
        f" {line(lambda r: sum(r['file_mb'].values())) / 1e3:.1f} GB, engine"
        f" {line(lambda r: r['ms']['engine']['p50']):.2f} ms,"
        f" FAISS exact {line(lambda r: r['ms']['exact']['p50']):.0f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="Emptied. Default: a temporary one; a million rows take 4 GB.")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="alta-search-"))
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, FAISS {faiss.__version__}")
    results = []
    for rows in sorted(options.rows):
        results.append(one_size(folder / str(rows), rows, options.queries))
        show(results[-1])
    project(results)
    named = ("rows", "overhead_ms_p50", "recall_at_10", "speedup_over_exact", "build_s", "open_s")
    print(json.dumps({name: round(results[-1][name], 4) for name in named}))


if __name__ == "__main__":
    main()
