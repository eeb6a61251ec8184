"""Killed anywhere and started again, the archive is what it would have been: nothing lost, nothing twice, no leftovers.

ALTA_TEST_SEED gives other moments than the usual ones.
"""

import contextlib
import os
import random
import selectors
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from index import Catalog, Gallery, migrate, open_catalog
from index.tables import Embedding, EmbeddingFailure, Generation, Instance, Patient, Report, Study
from tests.archive_chain import STAGES, write_material
from tests.fakes import FakeEncoder

ROOT = Path(__file__).parents[1]
SEED = int(os.environ.get("ALTA_TEST_SEED", "0"))
KILLS_IN_A_LIFE = 4
COPIES = ("duplicate", "conflicting")
NewUrl = Callable[[], str]
Rows = dict[str, list[tuple[object, ...]]]


@dataclass(frozen=True)
class Run:
    """How one run of the chain ended, the stages it told, and the seconds each took."""

    status: int
    stages: tuple[str, ...]
    seconds: dict[str, float]


class Chains:
    """Runs of ``tests.archive_chain``, each in a process of its own."""

    def __init__(self, material: Path) -> None:
        command = [sys.executable, "-m", "tests.archive_chain"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)
        self._unread = b""
        self.material = material
        self.unbroken: dict[tuple[str, int], tuple[Run, Rows]] = {}
        assert self._line() == "ready"

    def close(self) -> None:
        self._input.close()
        self._output.close()
        self._selector.close()
        self._process.wait()

    def run(self, url: str, home: Path, workers: int = 0, kill_at: str | None = None, after: float = 0.0) -> Run:
        """One run; killed ``after`` seconds in the stage ``kill_at``, unless it never comes there."""
        home.mkdir(exist_ok=True)
        self._input.write(f"{url} {self.material} {home} {workers}\n".encode())
        process, deadline = 0, None
        stages: list[str] = []
        times: list[float] = []
        while True:
            line = self._line(deadline)
            now = time.perf_counter()
            if line is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                deadline, kill_at = None, None
                continue
            word, _, number = line.partition(" ")
            if word == "pid":
                process = int(number)
            elif word == "ended":
                ends = [*times[1:], now]
                seconds = {stage: end - start for stage, start, end in zip(stages, times, ends, strict=True)}
                return Run(int(number), tuple(stages), seconds)
            else:
                stages.append(line)
                times.append(now)
            if process and kill_at in stages and deadline is None:
                deadline = times[stages.index(kill_at)] + after

    def _line(self, deadline: float | None = None) -> str | None:
        """The next line, or None when it has not come by the deadline."""
        while b"\n" not in self._unread:
            wait = None if deadline is None else max(0.0, deadline - time.perf_counter())
            if not self._selector.select(wait):
                return None
            read = os.read(self._output.fileno(), 4096)
            assert read, "the process that runs the chains has ended"
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()


@pytest.fixture(scope="module")
def chains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chains]:
    material = tmp_path_factory.mktemp("material")
    write_material(material)
    found = Chains(material)
    yield found
    found.close()


@pytest.fixture(scope="module")
def others(chains: Chains) -> Iterator[Chains]:
    """Runs on the same material at the same time."""
    found = Chains(chains.material)
    yield found
    found.close()


@pytest.fixture(params=["sqlite", "postgres"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewUrl]:
    """Makes empty, migrated catalogs."""
    made: list[str] = []
    admin = None
    if request.param == "postgres":
        server = sa.make_url(request.getfixturevalue("postgres_server"))
        admin = sa.create_engine(server.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")

    def make() -> str:
        name = f"alta_{uuid.uuid4().hex}"
        made.append(name)
        url = f"sqlite:///{tmp_path / name}.db"
        if admin is not None:
            with admin.connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE {name}")
            url = server.set(database=name).render_as_string(hide_password=False)
        migrate(url)
        return url

    yield make
    if admin is not None:
        with admin.connect() as connection:
            for name in made:
                connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        admin.dispose()


@contextlib.contextmanager
def opened(url: str) -> Iterator[Catalog]:
    catalog = open_catalog(url)
    yield catalog
    catalog.close()


def rows(url: str, home: Path) -> Rows:
    """All that the archive holds but row ids, times and pseudonyms, which no two archives share."""
    with opened(url) as catalog, catalog.session() as session:

        def ordered(*columns: object, joined: object = None) -> list[tuple[object, ...]]:
            query = sa.select(*columns)  # type: ignore[call-overload]
            found = session.execute(query if joined is None else query.outerjoin(Study, joined)).all()
            return sorted((tuple(row) for row in found), key=repr)

        uid = Study.study_instance_uid
        instances = ordered(
            Instance.path, Instance.status, Instance.reason, Instance.sha256, Instance.sop_instance_uid, Instance.view,
            uid, joined=Study.id == Instance.study_id,
        )  # fmt: skip
        patients: dict[int, list[object]] = {}
        for patient, study in ordered(Study.patient_id, uid):
            patients.setdefault(patient, []).append(study)  # type: ignore[arg-type]
        return {
            "instances": [
                # A copy conflicts with an image as soon as that was replaced: which word it has, the next run changes.
                (str(row[0]).replace(str(home), "HOME"), row[1], "copy" if row[2] in COPIES else row[2], *row[3:])
                for row in instances
            ],
            "studies": ordered(uid, Study.study_date, Study.accession_number, Study.image_source),
            "patients": sorted(tuple(studies) for studies in patients.values()),
            "patient rows": [(session.scalar(sa.select(sa.func.count()).select_from(Patient)),)],
            "reports": ordered(Report.identity, Report.status, Report.sha256, uid, joined=Study.id == Report.study_id),
            "embeddings": ordered(
                uid, Embedding.kind, Embedding.source_hash, Embedding.vector, joined=Study.id == Embedding.study_id
            ),
            "failures": ordered(EmbeddingFailure.reason),
            "live": [
                row[1:]
                for row in ordered(Generation.state, Generation.image_rows, Generation.report_rows)
                if row[0] == "live"
            ],
        }


def assert_searchable(url: str, home: Path) -> None:
    """Every embedded study finds itself first, and every study is found once."""
    with opened(url) as catalog:
        gallery = Gallery(catalog, home / "generations")
        gallery.refresh()
        with catalog.session() as session:
            query = sa.select(Study.study_instance_uid, Embedding.kind, Embedding.vector)
            embedded = session.execute(query.join(Study, Study.id == Embedding.study_id)).all()
        assert embedded
        for uid, kind, vector in embedded:
            hits = gallery.search(kind, np.frombuffer(vector, "<f4"), 1000, fingerprint=FakeEncoder().fingerprint)
            assert hits[0].study.study_instance_uid == uid
            found = Counter(hit.study.study_instance_uid for hit in hits)
            assert found == Counter(other for other, of_kind, _ in embedded if of_kind == kind)


def assert_no_leftovers(url: str, home: Path) -> None:
    with opened(url) as catalog, catalog.session() as session:
        states = session.execute(sa.select(Generation.id, Generation.state)).all()
    assert Counter(state for _, state in states)["live"] == 1
    assert "building" not in {state for _, state in states}
    files = [path.relative_to(home) for path in home.rglob("*")]
    kept = {str(number) for number, state in states if state in ("live", "retired")}
    for path in files:
        assert ".partial" not in path.name, path
        if path.parts[0] == "generations" and len(path.parts) > 1 and not path.name.startswith("."):
            assert set(path.parts[1].removeprefix("generation-").split("-")[:1]) <= kept, path
    assert [path for path in files if path.parts[:2] == ("received", "waiting") and len(path.parts) > 2] == []


def run_unbroken(chains: Chains, new_url: NewUrl, folder: Path, workers: int) -> tuple[Run, Rows]:
    """A run without faults, and what the archive then holds: once for each database."""
    url, home = new_url(), folder / "unbroken"
    key = url.partition(":")[0], workers
    if key in chains.unbroken:
        return chains.unbroken[key]
    unbroken = chains.run(url, home, workers)
    assert unbroken.status == 0
    assert unbroken.stages == STAGES
    expected = rows(url, home)
    assert len(expected["studies"]) == len({row[0] for row in expected["studies"]}) > 40
    assert_as_expected(expected, url, home, "unbroken")
    chains.unbroken[key] = unbroken, expected
    return unbroken, expected


def assert_as_expected(expected: Rows, url: str, home: Path, about: str) -> None:
    found = rows(url, home)
    for what, wanted in expected.items():
        assert found[what] == wanted, f"{what}, {about}"
    assert_searchable(url, home)
    assert_no_leftovers(url, home)


def kill_and_finish(chains: Chains, new_url: NewUrl, folder: Path, rounds: int, workers: int) -> Counter[str]:
    """Kills the chain ``rounds`` times in archive after archive and compares each, once it is done. Returns in which
    stages the kills fell."""
    unbroken, expected = run_unbroken(chains, new_url, folder, workers)
    chance = random.Random(SEED)
    fell: Counter[str] = Counter()
    life = 0
    while fell.total() < rounds:
        life += 1
        url, home = new_url(), folder / f"life{life}"
        for _ in range(KILLS_IN_A_LIFE):
            stage = chance.choice(STAGES)
            run = chains.run(url, home, workers, stage, chance.uniform(0, unbroken.seconds[stage]))
            if run.status == 0:  # there was nothing left to do in that stage
                break
            assert run.status == -signal.SIGKILL
            fell[run.stages[-1]] += 1
        last = chains.run(url, home, workers)
        assert last.status == 0
        assert_as_expected(expected, url, home, f"seed {SEED}, life {life}")
    return fell


def test_killed_anywhere_the_archive_ends_as_in_an_unbroken_run(
    chains: Chains, new_url: NewUrl, tmp_path: Path
) -> None:
    fell = kill_and_finish(chains, new_url, tmp_path, rounds=5, workers=0)
    assert len(fell) > 1


def run_two(chains: Chains, others: Chains, url: str, home: Path, kill_at: str | None, after: float) -> list[Run]:
    home.mkdir()
    with ThreadPoolExecutor(2) as both:
        first = both.submit(chains.run, url, home, 0, kill_at, after)
        second = both.submit(others.run, url, home)
        return [first.result(), second.result()]


def test_two_processes_that_do_everything_at_once_do_it_once(
    chains: Chains, others: Chains, new_url: NewUrl, tmp_path: Path
) -> None:
    _, expected = run_unbroken(chains, new_url, tmp_path, workers=0)
    url, home = new_url(), tmp_path / "two"
    assert [run.status for run in run_two(chains, others, url, home, None, 0.0)] == [0, 0]
    assert chains.run(url, home).status == 0  # what one replaced while the other embedded it
    assert_as_expected(expected, url, home, "two at once")


@pytest.mark.slow
def test_one_of_two_that_is_killed_costs_the_other_nothing(
    chains: Chains, others: Chains, new_url: NewUrl, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unbroken, expected = run_unbroken(chains, new_url, tmp_path, workers=0)
    chance = random.Random(SEED + 1)
    fell: Counter[str] = Counter()
    for number in range(25):
        url, home = new_url(), tmp_path / f"two{number}"
        stage = chance.choice(STAGES)
        after = chance.uniform(0, 2 * unbroken.seconds[stage])  # two share the machine
        killed, other = run_two(chains, others, url, home, stage, after)
        assert other.status == 0
        if killed.status:
            assert killed.status == -signal.SIGKILL
            fell[killed.stages[-1]] += 1
        assert chains.run(url, home).status == 0
        assert_as_expected(expected, url, home, f"seed {SEED}, pair {number}")
    with capsys.disabled():
        print(f"\n25 pairs of seed {SEED}, one of them killed in " + ", ".join(f"{s} {fell[s]}" for s in STAGES))
    assert len(fell) > 5


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_fifty_times_the_archive_ends_as_in_an_unbroken_run(
    chains: Chains, new_url: NewUrl, tmp_path: Path, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.perf_counter()
    fell = kill_and_finish(chains, new_url, tmp_path, rounds=50, workers=workers)
    with capsys.disabled():
        print(f"\n{fell.total()} kills of seed {SEED} with {workers} workers, {time.perf_counter() - started:.0f} s:")
        print(", ".join(f"{stage} {fell[stage]}" for stage in STAGES))
    assert len(fell) >= 8
