"""The demonstration: a simulated archive taken through the product, then one query of each kind over HTTP."""

import errno
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from index import build_generation, embed_pending, ingest_folder, migrate, open_catalog
from model.alta_encoder import AltaEncoder, load_encoder
from model.errors import AltaError
from model.simulation import SimulatedStudy, simulate_studies, write_cohort, write_dicom

from .app import create_app
from .cli.console import progress_bar
from .settings import Settings

__all__ = ["run_demo", "running"]

ARCHIVE_SEED = 7  # the archive's patients; training used 1 and 2
QUERY_SEED = 8  # the patient who comes to the door
PHRASE = "Large left pneumothorax."


def run_demo(console: Console, folder: Path, port: int, studies: int, keep_serving: bool) -> None:
    """Every step is skipped where it was done before. Raises AltaError when the port is taken."""
    _require_free(port)
    settings = Settings(data_dir=folder, database_url="", port=port, host="127.0.0.1")
    encoder = load_encoder(settings.model_path, settings.device, settings.dtype)
    _fill_archive(console, settings, encoder, studies)
    query, prior = _query_study()
    files = write_dicom(query, folder / "query")
    prior_files = write_dicom(prior, folder / "query-prior") if prior else []
    with running(settings, encoder) as address:
        console.rule("Ask")
        with httpx.Client(base_url=address, timeout=60) as client:
            _ask(console, client, query, files, prior_files)
        console.rule()
        if keep_serving:
            console.print(f"Web page  {address}/\nOpenAPI   {address}/docs")
        console.print("[bold]Simulated patients, small encoders: a demonstration, not for clinical use.[/bold]")
        if keep_serving:
            console.print("Serving until Ctrl-C.")
            _wait()


def _fill_archive(console: Console, settings: Settings, encoder: AltaEncoder, studies: int) -> None:
    archive = settings.data_dir / "archive"
    console.rule(f"Fill the archive in {settings.data_dir}")
    with progress_bar("simulating") as progress:
        write_cohort(ARCHIVE_SEED, studies, archive, progress=lambda done: progress(done, studies))
    migrate(settings.catalog_url)
    catalog = open_catalog(settings.catalog_url)
    with progress_bar("ingesting") as progress:
        taken = ingest_folder(catalog, (archive / "dicom").absolute(), archive / "reports.csv", progress=progress)
    with progress_bar("embedding") as progress:
        made = embed_pending(catalog, encoder, progress=progress)
    with progress_bar("indexing") as progress:
        live = build_generation(
            catalog,
            settings.generations_dir,
            encoder.fingerprint,
            model_path=str(settings.model_path.absolute()),
            progress=progress,
        )
    catalog.close()
    console.print(
        f"Files accepted {taken.accepted}, unchanged {taken.unchanged}, refused {taken.refused.total()};"
        f" embedded {made.images} studies and {made.reports} reports;"
        f" generation {live.id}: {live.image_rows} studies, {live.report_rows} reports."
    )


def _query_study() -> tuple[SimulatedStudy, SimulatedStudy | None]:
    """A patient the archive does not know, with an effusion, a lateral view and an earlier study."""
    return next(
        (study, prior)
        for study, prior in simulate_studies(QUERY_SEED, 2000)
        if study.finding_classes == {"pleural effusion"} and study.has_lateral and prior is not None
    )


def _ask(
    console: Console, client: httpx.Client, query: SimulatedStudy, files: list[Path], prior_files: list[Path]
) -> None:
    console.print("\n[bold]1. Image to text.[/bold] Which reports fit this study (frontal, lateral and its prior)?")
    console.print(f"[dim]What the simulator put there: {escape(query.report.impression)}[/dim]")
    upload = [("files", (path.name, path.read_bytes(), "application/dicom")) for path in files]
    with_prior = upload + [("prior_files", (path.name, path.read_bytes(), "application/dicom")) for path in prior_files]
    reply = _reply(client.post("/v1/search/image-to-text", files=with_prior, data={"top_k": "3"}))
    _print_hits(console, reply)

    console.print(f'\n[bold]2. Text to image.[/bold] Which studies show "{PHRASE}"')
    _print_hits(console, _reply(client.post("/v1/search/text-to-image", json={"text": PHRASE, "top_k": 3})))

    console.print("\n[bold]3. Image to image.[/bold] Which past studies resemble this one?")
    _print_hits(console, _reply(client.post("/v1/search/image-to-image", files=upload, data={"top_k": "3"})))

    console.print("\n[bold]4. Zero-shot.[/bold] Which findings fit the image? (built-in prompts, first five)")
    reply = _reply(client.post("/v1/zero-shot", files=upload))
    table = Table("finding", "score", "cosine: present", "cosine: absent")
    for finding in sorted(reply["findings"], key=lambda f: -f["score"])[:5]:
        cosines = f"{finding['positive_cosine']:.3f}", f"{finding['negative_cosine']:.3f}"
        table.add_row(finding["name"], f"{finding['score']:.3f}", *cosines)
    console.print(table)
    console.print(f"[dim]{reply['score_kind']}[/dim]")


def _print_hits(console: Console, reply: dict[str, Any]) -> None:
    table = Table("", "score", "study", "report", show_lines=True)
    for hit in reply["hits"]:
        study, report = hit["study"], hit["report"] or {}
        who = ", ".join(str(part) for part in (study["sex"], f"{study['age']:.0f} y") if part)
        label = f"{study['accession_number']}\n{study['study_date']}  {who}"
        text = "\n".join(part for part in (report.get("findings"), report.get("impression")) if part)
        table.add_row(str(hit["rank"]), f"{hit['score']:.3f}", label, escape(text) or "(no report)")
    console.print(table)


def _reply(response: httpx.Response) -> dict[str, Any]:
    if response.is_error:
        raise AltaError(f"The service answered {response.status_code}: {response.text}")
    reply: dict[str, Any] = response.json()
    return reply


@contextmanager
def running(settings: Settings, encoder: AltaEncoder) -> Iterator[str]:
    """The service on its real port, in a thread of this process."""
    app = create_app(settings, encoder=encoder)
    config = uvicorn.Config(app, host=settings.host, port=settings.port, access_log=False, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise AltaError("The service did not start; its messages are above.")
        time.sleep(0.05)
    try:
        yield f"http://{settings.host}:{settings.port}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def _require_free(port: int) -> None:
    """Said before the minutes of work, not after."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise AltaError(f"Port {port} of 127.0.0.1 is taken; choose another: make demo PORT=8001") from None


def _wait() -> None:
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        return
