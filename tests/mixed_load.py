"""Callers of a running service, who search, send studies and reports, and remove studies; and what they saw.

Everything is recorded as it was answered and judged afterwards, from the database (``tests.test_mixed_load``).
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

__all__ = ["Arrival", "Failure", "Load", "Search"]

PHRASES = (
    "Large left pneumothorax.",
    "Small right pleural effusion.",
    "Cardiomegaly with pulmonary edema.",
    "No acute cardiopulmonary abnormality.",
    "Consolidation in the right lower lobe.",
)
TOP_K = 10


@dataclass(frozen=True)
class Arrival:
    """A study to be sent."""

    uid: str
    files: tuple[Path, ...]
    findings: str


@dataclass(frozen=True)
class Search:
    """An answered search. ``query``: a phrase, or the StudyInstanceUID of an archived study."""

    started: float
    ended: float
    candidates: str  # image or report
    query: str
    fingerprint: str
    hits: tuple[tuple[str, float], ...]  # StudyInstanceUID and score


@dataclass(frozen=True)
class Failure:
    """An answer that was none, or no answer: ``status`` 0."""

    at: float
    what: str
    status: int
    body: str
    content_type: str = ""


@dataclass
class Load:
    """Runs until ``stop``; each kind of caller in a thread of its own. Times are seconds of the epoch."""

    address: str
    known: list[str]  # studies that are searchable from the beginning
    arrivals: list[Arrival]
    seed: int = 0
    searches: list[Search] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    sent: dict[str, float] = field(default_factory=dict)  # StudyInstanceUID: when it was acknowledged
    reported: set[str] = field(default_factory=set)
    removed: dict[str, float] = field(default_factory=dict)  # when it was acknowledged; infinity: not, or not yet
    jobs: set[str] = field(default_factory=set)
    broken: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        callers = (self._search, self._search, self._send, self._embed)
        for number, caller in enumerate(callers):
            thread = threading.Thread(target=self._repeat, args=(caller, number), name=f"{caller.__name__} {number}")
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive(), f"{thread.name} still waits for an answer"

    def post_job(self, client: httpx.Client, kind: str) -> str | None:
        answer = self._ask(client, f"job {kind}", "POST", "/v1/jobs", json={"kind": kind})
        if answer is None:
            return None
        self.jobs.add(answer["id"])
        return str(answer["id"])

    def _repeat(self, caller: Callable[[httpx.Client, random.Random], float], number: int) -> None:
        rng = random.Random(f"{self.seed} {number}")
        try:
            with httpx.Client(base_url=self.address, timeout=60) as client:
                while not self._stop.is_set():
                    self._stop.wait(caller(client, rng))
        except BaseException as error:
            self.broken.append(error)
            raise

    def _search(self, client: httpx.Client, rng: random.Random) -> float:
        candidates = rng.choice(("image", "report"))
        started = time.time()
        if rng.random() < 0.5:
            query = rng.choice(PHRASES)
            form: dict[str, Any] = {"text": query}
        else:
            query = rng.choice(self.known)
            form = {"study_instance_uid": query}
        form |= {"rank_by": candidates, "top_k": str(TOP_K), "group_reports": "false"}
        answer = self._ask(client, "search", "POST", "/v1/search", data=form)
        if answer is not None:
            hits = tuple((hit["study"]["study_instance_uid"], hit["score"]) for hit in answer["hits"])
            self.searches.append(Search(started, time.time(), candidates, query, answer["model_fingerprint"], hits))
        return 0.02

    def _send(self, client: httpx.Client, rng: random.Random) -> float:
        if self.sent and rng.random() < 0.1:
            self._remove(client, rng)
        if not self.arrivals:
            return 1.0
        coming = self.arrivals[0]  # until it is acknowledged
        files = [("files", (path.name, path.read_bytes())) for path in coming.files]
        if coming.uid not in self.sent:
            if self._ask(client, "study", "POST", "/v1/studies", files=files) is None:
                return 0.5
            self.sent[coming.uid] = time.time()
        report = {"study_instance_uid": coming.uid, "findings": coming.findings}
        if self._ask(client, "report", "POST", "/v1/reports", json=report) is None:
            return 0.5
        self.reported.add(coming.uid)
        self.arrivals.pop(0)
        return rng.uniform(0.5, 1.5)

    def _remove(self, client: httpx.Client, rng: random.Random) -> None:
        """A study that was sent, never one that is asked with."""
        there = sorted(self.reported - set(self.removed))
        if not there:
            return
        uid = rng.choice(there)
        # What happens to it where no answer comes is not known: it is judged neither as there nor as gone.
        self.removed[uid] = float("inf")
        if self._ask(client, "removal", "DELETE", f"/v1/studies/{uid}") is not None:
            self.removed[uid] = time.time()

    def _embed(self, client: httpx.Client, rng: random.Random) -> float:
        self.post_job(client, "embed")
        return 3.0

    def _ask(self, client: httpx.Client, what: str, method: str, path: str, **body: Any) -> dict[str, Any] | None:
        """The answer, None where it was a failure, which is recorded."""
        try:
            response = client.request(method, path, **body)
        except httpx.HTTPError as error:
            self.failures.append(Failure(time.time(), what, 0, repr(error)))
            return None
        if response.is_success:
            return response.json() if response.content else {}
        kind = response.headers.get("content-type", "")
        self.failures.append(Failure(time.time(), what, response.status_code, response.text, kind))
        return None
