"""How near the service comes to the bare encoder, over real sockets, and what it does under too much load.

    python -m benchmarks.serve                                  # all parts, under nine minutes on 2 cores
    python -m benchmarks.serve --only throughput --seconds 30
    python -m benchmarks.serve --infinity VENV                  # beside infinity-emb, installed in that environment

The encoder: ViT-B/16 and BERT of the published size with random weights, which is right for speed and for nothing else.
The server is ``alta serve`` in a process of its own, on an archive of simulated studies embedded with it; the client is
another process and its share of a core is printed. An image query is one JPEG (``--side`` px) to image-to-text search:
received, decoded, encoded, searched for, answered with ten reports. A text query is a phrase of 12 words that no
request had before, so that no cache helps.

Throughput: queries a second at 1, 8 and 32 clients, each of whom waits for their answer, and the bare encoder's best
rate over batch sizes, measured in the same run before and after. Overload: image queries that come at twice the rate of
32 clients, whether or not they are answered. Memory: of the server and its decoders while 20,000 queries, texts and
images mixed, go through, from when the caches are full; with the small demo encoders, so that it ends. The last line is
JSON.
"""

import argparse
import io
import json
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.bare import bare_rates
from benchmarks.infinity import compare
from benchmarks.load import Load, arrive, form_request, json_request, keep_busy
from benchmarks.served import Server, fill_archive, serving
from model.alta import ALTA, ALTAConfig
from model.alta_encoder import load_encoder
from model.checkpoint import Provenance, save_checkpoint
from model.image import ImageTransform
from model.simulation import render, simulate_studies
from model.text import report_body

DEMO = Path(__file__).parents[1] / "model" / "demo"
PARTS = ("throughput", "overload", "memory", "infinity")
CLIENTS = (1, 8, 32)
IMAGE_SEARCH, TEXT_SEARCH = "/v1/search/image-to-text", "/v1/search/text-to-image"
MEMORY_REQUESTS, STEP = 20_000, 2_000
FILLED = 6_000  # requests after which caches are full, ALTA_TEXT_CACHE above all
WORDS = 12


def write_encoders(folder: Path) -> Path:
    """A checkpoint of the published size with random weights."""
    torch.manual_seed(0)
    known = load_encoder(DEMO, "cpu").tokenizer.vocabulary
    vocabulary = [*known, *(f"[unused{number}]" for number in range(ALTAConfig().text.vocabulary - len(known)))]
    provenance = Provenance("random", "nothing", "none", "Random weights, for benchmarks of speed.")
    save_checkpoint(folder, ALTA(ALTAConfig()), vocabulary, ImageTransform(), provenance)
    return folder


def films(count: int, side: int) -> list[bytes]:
    """Simulated frontal radiographs as JPEG."""
    made = []
    for study, _ in simulate_studies(6, count):
        pixels = render(study, "frontal", side)
        grey = (255 * (pixels - pixels.min()) / np.ptp(pixels)).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(grey).save(stream, "JPEG", quality=90)
        made.append(stream.getvalue())
    return made


def phrases(count: int) -> list[str]:
    """Distinct ones, of the words of simulated reports."""
    reports = [study.report for study, _ in simulate_studies(6, 50)]
    words = " ".join(report_body(report.findings, report.impression) for report in reports).split()
    draw = np.random.default_rng(0)
    return [" ".join(draw.choice(words, WORDS)) for _ in range(count)]


def shown(what: str, load: Load, server: Server | None = None) -> None:
    middle, most, nearly_all = load.percentiles_ms()
    print(
        f"{what:<28} {load.rate:8.1f}/s   p50 {middle:7.0f} ms  p95 {most:7.0f}  p99 {nearly_all:7.0f}"
        f"   client {100 * load.client_share:3.0f} % of a core   {load.statuses}",
        flush=True,
    )


def measured(
    server: Server, what: str, requests: Sequence[bytes], clients: int, seconds: float, most: int | None = None
) -> Load:
    before = server.processor_s
    load = keep_busy(server.port, requests, clients, seconds, most)
    own, decoders = (now - then for now, then in zip(server.processor_s, before, strict=True))
    shown(f"{what}, {clients} clients", load)
    own, decoders, client = (1000 * spent / (len(load.answers) or 1) for spent in (own, decoders, load.processor_s))
    print(f"{'':<28} processor time a query: server {own:.1f} ms, decoders {decoders:.1f} ms, client {client:.2f} ms")
    return load


def throughput(given: argparse.Namespace, folder: Path, figures: dict[str, Any]) -> None:
    model, texts = folder / "encoders", phrases(20_000)
    images = [form_request(IMAGE_SEARCH, film) for film in films(8, given.side)]
    queries = [json_request(TEXT_SEARCH, json.dumps({"text": text}).encode()) for text in texts]
    bare = (model, given.device, given.dtype, texts)
    of_images, of_texts = bare_rates(*bare, given.seconds / 5)
    best = [max(rates, key=rates.__getitem__) for rates in (of_images, of_texts)]
    for kind, rates in (("images", of_images), ("texts", of_texts)):
        ways = ", ".join(f"{size} x {calls}: {rate:.1f}" for (size, calls), rate in rates.items())
        print(f"bare encoder, {kind}/s by batch size x calls at once: {ways}", flush=True)
    loads: dict[tuple[str, int], Load] = {}
    with serving(folder, model, given.settings) as server:
        for clients in CLIENTS:
            loads["images", clients] = measured(server, "images", images, clients, given.seconds)
        for clients in CLIENTS:
            part = queries[len(queries) * CLIENTS.index(clients) // 3 :]  # none was asked before
            loads["texts", clients] = measured(server, "texts", part, clients, given.seconds / 2)
        if "overload" in given.only:
            overload(server, images, 2 * loads["images", 32].rate, given, figures)
    again = bare_rates(*bare, given.seconds / 5, *best)
    for kind, before, after, way in zip(("images", "texts"), (of_images, of_texts), again, best, strict=True):
        rate = (before[way] + after[way]) / 2
        print(f"bare encoder, {kind}/s, {way[0]} x {way[1]}: {before[way]:.1f} before, {after[way]:.1f} after")
        figures[f"bare_{kind}_per_s"] = round(rate, 2)
        for clients in CLIENTS:
            figures[f"{kind}_per_s_at_{clients}"] = round(loads[kind, clients].rate, 2)
        figures[f"share_of_encoder_at_32{'' if kind == 'images' else '_texts'}"] = round(loads[kind, 32].rate / rate, 3)
    for clients in CLIENTS:
        figures[f"p95_ms_at_{clients}"] = round(loads["images", clients].percentiles_ms()[1])


def overload(
    server: Server, images: Sequence[bytes], rate: float, given: argparse.Namespace, figures: dict[str, Any]
) -> None:
    load = arrive(server.port, images, rate, 1.5 * given.seconds)
    shown(f"images, {rate:.0f}/s arrive", load)
    refused = load.latencies(lambda status: status == 429)
    share = len(refused) / len(load.answers)
    middle, most, nearly_all = load.percentiles_ms(lambda status: status == 429)
    print(
        f"{'':<28} {100 * share:.0f} % answered 429: p50 {middle:.1f} ms  p95 {most:.1f}  p99 {nearly_all:.1f}  slowest"
        f" {1000 * max(refused, default=math.nan):.1f}"
    )
    figures["refused_share_at_twice"] = round(share, 3)
    figures["p99_ms_of_429"] = round(nearly_all, 1)
    figures["p95_ms_at_twice"] = round(load.percentiles_ms()[1])


def memory(given: argparse.Namespace, folder: Path, figures: dict[str, Any]) -> None:
    mixed = [form_request(IMAGE_SEARCH, film) for film in films(8, given.side)]
    texts = [json_request(TEXT_SEARCH, json.dumps({"text": text}).encode()) for text in phrases(given.requests)]
    requests = [mixed[number % 8] if number % 4 == 0 else texts[number] for number in range(given.requests)]
    with serving(folder, DEMO, given.settings) as server:
        sizes, done = [server.memory_mb], 0
        while done < given.requests:
            load = measured(server, "texts and images", requests[done : done + STEP], 8, math.inf, STEP)
            assert set(load.statuses) == {200}, load.statuses
            done += len(load.answers)
            sizes.append(server.memory_mb)
            print(f"{'':<28} memory after {done} queries: {sizes[-1]:.1f} MB", flush=True)
    first = min(FILLED, done // 2) // STEP
    growth = sizes[-1] - sizes[first]
    print(f"memory when ready {sizes[0]:.1f} MB; growth from {first * STEP} to {done} queries {growth:+.1f} MB")
    figures["memory_growth_mb"] = round(growth, 1)
    figures["memory_requests"] = done


def run(given: argparse.Namespace, folder: Path) -> None:
    figures: dict[str, Any] = {"cores": os.cpu_count(), "device": given.device, "dtype": given.dtype}
    if "memory" in given.only:
        small = folder / "small"
        small.mkdir()
        fill_archive(small, load_encoder(DEMO, given.device, given.dtype), DEMO, given.studies)
        memory(given, small, figures)
    if {"throughput", "infinity"} & set(given.only):
        large = folder / "large"
        large.mkdir()
        model = write_encoders(large / "encoders")
        if "throughput" in given.only:
            fill_archive(large, load_encoder(model, given.device, given.dtype), model, given.studies)
            throughput(given, large, figures)
        if "infinity" in given.only:
            figures |= compare(given.infinity, large, films(8, given.side), given.device, given.seconds)
    wanted = ("share_of_encoder_at_32", "p95_ms_at_1", "p95_ms_at_32", "memory_growth_mb")
    print(json.dumps({name: figures.get(name) for name in wanted} | figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="overload goes with throughput")
    parser.add_argument("--seconds", type=float, default=16, help="of each load")
    parser.add_argument("--side", type=int, default=512, help="px of a film")
    parser.add_argument("--studies", type=int, default=100, help="in the archive")
    parser.add_argument("--requests", type=int, default=MEMORY_REQUESTS, help="of the memory part")
    parser.add_argument("--quick", action="store_true", help="short loads and 4,000 requests, to see that it runs")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--infinity", type=Path, help="virtual environment with infinity-emb[torch,server,vision]")
    given = parser.parse_args()
    if given.quick:
        given.seconds, given.requests = 4.0, 2 * STEP
    given.settings = {"ALTA_DEVICE": given.device, "ALTA_DTYPE": given.dtype}
    with tempfile.TemporaryDirectory() as folder:
        run(given, Path(folder))


if __name__ == "__main__":
    main()
