"""The embedding job on a Ray cluster: one actor a GPU, or a node where there is none, each with an encoder.

The database stays the queue. The driver hands out ranges of patients, so that no two actors do the same studies. A
range whose actor died is handed out again, and what was committed of it is no longer pending. The actors end with the
driver.
"""

import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from model.encoder import StudyEncoder
from model.errors import ArchiveError

from ..catalog import Catalog, open_catalog
from ..progress import Progress
from .job import EmbedSummary, embed_pending
from .pending import Part, a_pending_file, forget_failures, pending_counts, pending_patients

__all__ = ["embed_on_ray"]

logger = logging.getLogger(__name__)

PART_SIZE: Final = 512  # embeddings in a range: minutes of work, so that little is done again
MAX_STARTS: Final = 4  # of actors in one place, before it is given up
WAIT_S: Final = 1.0
ANSWER_S: Final = 10.0

LoadEncoder = Callable[[], StudyEncoder]


def embed_on_ray(
    address: str,
    url: str,
    load_encoder: LoadEncoder,
    fingerprint: str,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
    part_size: int = PART_SIZE,
) -> EmbedSummary:
    """``embed_pending`` on every node of the cluster at ``address``; returns when nothing is left to do.

    load_encoder: gives the encoder on a node; it is imported there by name. Every node must reach the database and see
    the files under the paths that the catalog has. ``workers``: decoder processes of each actor, by default the node's
    cores shared out. Raises ArchiveError: ray-unavailable, database-not-shared, files-not-shared, model-mismatch,
    cluster-lost; the error of an encoder that fails on study after study.
    """
    ray = _connect(address)
    try:
        catalog = open_catalog(url)
        try:
            _require_shared_database(ray, url)
            if retry_failed:
                forget_failures(catalog, fingerprint)
            job = _Job(url, load_encoder, fingerprint, batch_size, workers, a_pending_file(catalog, fingerprint))
            parts = deque(_parts(catalog, fingerprint, part_size))
            total = sum(pending_counts(catalog, fingerprint).values())
            return _Driver(ray, job, parts, total, progress).run() if parts else EmbedSummary()
        finally:
            catalog.close()
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class _Job:
    """What every actor is told."""

    url: str
    load_encoder: LoadEncoder
    fingerprint: str
    batch_size: int
    workers: int | None
    a_file: Path | None  # one that is to be read, to see whether it is there


class _Embedder:
    """Runs in a process of a node."""

    def __init__(self, job: _Job, workers: int) -> None:
        self._job = job
        self._workers = workers
        self._ready: tuple[Catalog, StudyEncoder] | None = None

    def embed(self, part: Part | None) -> EmbedSummary:
        """``part``: None only gets ready."""
        catalog, encoder = self._ready = self._ready or self._get_ready()
        if part is None:
            return EmbedSummary()
        return embed_pending(catalog, encoder, batch_size=self._job.batch_size, workers=self._workers, part=part)

    def _get_ready(self) -> tuple[Catalog, StudyEncoder]:
        job, host = self._job, socket.gethostname()
        if job.a_file is not None and not job.a_file.exists():
            message = f"The node {host} does not see {job.a_file}. Mount the archive under the same path on every node."
            raise ArchiveError(message, "files-not-shared")
        encoder = job.load_encoder()
        if encoder.fingerprint != job.fingerprint:
            message = (
                f"The node {host} has encoders {encoder.fingerprint[:12]}, expected {job.fingerprint[:12]}."
                " Put the same model folder under the same path on every node."
            )
            raise ArchiveError(message, "model-mismatch")
        return open_catalog(job.url), encoder


@dataclass(frozen=True)
class _Place:
    """Where one actor runs."""

    node: str
    number: int
    cpus: int
    gpus: int


class _Driver:
    """Keeps one actor in every place, and every actor at work on a range."""

    def __init__(self, ray: Any, job: _Job, parts: "deque[Part]", total: int, progress: Progress | None) -> None:
        self._ray = ray
        self._job = job
        self._parts = parts
        self._total = total
        self._progress = progress
        self._summary = EmbedSummary()
        self._actors: dict[_Place, Any] = {}
        self._starts: dict[_Place, int] = {}
        self._working: dict[Any, tuple[_Place, Part | None]] = {}  # by the promise of its result

    def run(self) -> EmbedSummary:
        while self._parts or any(part for _, part in self._working.values()):
            self._hire()
            if not self._actors:
                message = f"No node of the cluster is left and {len(self._parts)} ranges are. Run the command again."
                raise ArchiveError(message, "cluster-lost")
            done, _ = self._ray.wait(list(self._working), timeout=WAIT_S)
            for promise in done:
                self._take(promise)
        return self._summary

    def _take(self, promise: Any) -> None:
        place, part = self._working.pop(promise)
        from ray.exceptions import ActorUnschedulableError, RayActorError, RayTaskError

        try:
            made: EmbedSummary = self._ray.get(promise)
        except (RayActorError, ActorUnschedulableError) as error:  # its process or its node is gone
            logger.warning("an actor is lost: %s", error)
            del self._actors[place]
            if part is not None:
                self._parts.appendleft(part)
            return
        except RayTaskError as error:
            raise error.cause from error
        self._summary.add(made)
        if self._progress and part is not None:
            self._progress(self._summary.done, max(self._summary.done, self._total))
        self._employ(place)

    def _employ(self, place: _Place) -> None:
        if self._parts:
            part = self._parts.popleft()
            self._working[self._actors[place].embed.remote(part)] = place, part

    def _hire(self) -> None:
        """An actor in every place that has none, at first, where one died, on nodes that join; work for idle ones."""
        busy = {place for place, _ in self._working.values()}
        for place in _places(self._ray):
            if place in self._actors:
                if place not in busy:
                    self._employ(place)
            elif self._parts and self._starts.get(place, 0) < MAX_STARTS:
                self._starts[place] = self._starts.get(place, 0) + 1
                actor = self._start(place)
                self._actors[place] = actor
                self._working[actor.embed.remote(None)] = place, None

    def _start(self, place: _Place) -> Any:
        # Ray gives a process as many OpenMP threads as it has CPUs.
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        remote = self._ray.remote(num_cpus=place.cpus, num_gpus=place.gpus, max_restarts=0)(_Embedder)
        workers = place.cpus if self._job.workers is None else self._job.workers
        where = NodeAffinitySchedulingStrategy(place.node, soft=False)
        return remote.options(scheduling_strategy=where).remote(self._job, workers)


def _connect(address: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # an archive's host tells nobody anything
    try:
        import ray
    except ModuleNotFoundError as error:
        message = f"{error}. Embedding on a cluster needs the extra: pip install 'alta-retrieval[ray]'."
        raise ArchiveError(message, "ray-unavailable") from error
    _require_answer(address)
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except Exception as error:  # ConnectionError, RuntimeError, ValueError by what is wrong with the address
        message = f"There is no Ray cluster at {address!r}: {error}. Start one with `ray start --head`."
        raise ArchiveError(message, "ray-unavailable") from error
    return ray


def _require_answer(address: str) -> None:
    """Ray ends the whole process where nobody listens at an address. ``auto`` it looks up by itself."""
    host, colon, port = address.rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
    except (OSError, ValueError) as error:
        message = f"There is no Ray cluster at {address!r}: {error}. Expected HOST:PORT of its head, or auto."
        raise ArchiveError(message, "ray-unavailable") from error


def _places(ray: Any) -> Iterator[_Place]:
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        cpus, gpus = int(node["Resources"].get("CPU", 0)), int(node["Resources"].get("GPU", 0))
        if cpus:
            count = max(gpus, 1)
            for number in range(count):
                yield _Place(node["NodeID"], number, max(cpus // count, 1), min(gpus, 1))


def _require_shared_database(ray: Any, url: str) -> None:
    if sa.make_url(url).get_backend_name() != "sqlite":
        return
    here = socket.gethostname(), ray.util.get_node_ip_address()
    others = [
        node["NodeManagerHostname"]
        for node in ray.nodes()
        if node["Alive"] and (node["NodeManagerHostname"], node["NodeManagerAddress"]) != here
    ]
    if others:
        message = (
            f"A SQLite file cannot be shared with other hosts ({', '.join(sorted(set(others)))})."
            " Move the archive to PostgreSQL and name it in ALTA_DATABASE_URL."
        )
        raise ArchiveError(message, "database-not-shared")


def _parts(catalog: Catalog, fingerprint: str, size: int) -> Iterator[Part]:
    """Ranges of patients with about ``size`` pending embeddings each, over all patients that have any."""
    after = count = 0
    last = 0
    for patient, pending in pending_patients(catalog, fingerprint):
        if count and count + pending > size:
            yield Part(after, last)
            after, count = last, 0
        count += pending
        last = patient
    if count:
        yield Part(after, last)
