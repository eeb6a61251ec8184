"""Studies come from a DICOMweb server: what is asked for, once, and all of it, however the server behaves."""

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from index import Catalog, IngestSummary, ingest_folder
from index.intake.ingest import ingest, ingest_received
from index.intake.received import ReceivedStore
from index.sources import dicomweb_http, dicomweb_peer
from index.sources.dicomweb import PATIENCE, DicomWebSource
from index.sources.dicomweb_http import Origin, PeerError, Retry
from index.sources.dicomweb_peer import DicomWebPeer
from index.tables import Instance
from model.errors import ArchiveError, InputError
from tests.conftest import WriteDicom, chest_dataset
from tests.peers import Orthanc, file_bytes, free_port
from tests.tiny_dicomweb import Answer, TinyDicomWeb, as_json, multipart, running

DAY = date(2024, 3, 1)


class Pull:
    """``alta pull dicomweb`` without the command line, and without waiting."""

    def __init__(self, catalog: Catalog, folder: Path) -> None:
        self.catalog = catalog
        self.store = ReceivedStore(folder / "received", min_free_bytes=0)
        self.waits: list[float] = []
        self.credentials: str | None = None
        self.timeout = (5.0, 5.0)

    def source(self, url: str, first: date = DAY, last: date = DAY, **options: object) -> DicomWebSource:
        retry = Retry(sleep=self.waits.append, chance=lambda: 0.5)
        peer = DicomWebPeer(Origin("pacs", url, self.credentials), retry, self.timeout)
        return DicomWebSource(self.catalog, peer, self.store, first, last, **options)  # type: ignore[arg-type]

    def __call__(self, url: str, first: date = DAY, last: date = DAY, **options: object) -> IngestSummary:
        source = self.source(url, first, last, **options)
        try:
            return ingest(self.catalog, source, workers=0)
        finally:
            source._peer.close()

    def accepted(self) -> set[str]:
        with self.catalog.session() as session:
            query = sa.select(Instance.sop_instance_uid).where(Instance.status == "accepted")
            return {uid for uid in session.scalars(query) if uid}

    def refused(self) -> list[tuple[str, str | None]]:
        with self.catalog.session() as session:
            query = sa.select(Instance.path, Instance.reason).where(Instance.status == "refused")
            return [(path, reason) for path, reason in session.execute(query)]


@pytest.fixture
def pull(sqlite_catalog: Catalog, tmp_path: Path) -> Pull:
    return Pull(sqlite_catalog, tmp_path)


@pytest.fixture
def tiny() -> Iterator[TinyDicomWeb]:
    with running(TinyDicomWeb([chest_dataset(study=f"1.2.3.{n}", seed=n) for n in range(1, 4)])) as server:
        yield server


ALL = {"1.2.3.1.2", "1.2.3.2.3", "1.2.3.3.4"}


# The ordinary way, with Orthanc


def test_studies_of_the_days_and_modalities_asked_for_come_from_orthanc(
    orthanc: Orthanc, catalog: Catalog, tmp_path: Path
) -> None:
    orthanc.upload(
        chest_dataset(study="1.2.3.1", seed=1),
        chest_dataset(study="1.2.3.1", seed=2, ViewPosition="LL"),
        chest_dataset(study="1.2.3.2", seed=3, StudyDate="20240303", Modality="DX", SeriesInstanceUID="1.2.3.2.77"),
        chest_dataset(study="1.2.3.3", seed=4, StudyDate="20240304"),
        chest_dataset(study="1.2.3.4", seed=5, Modality="CT"),
    )
    pull = Pull(catalog, tmp_path)
    summary = pull(orthanc.dicomweb_url, DAY, date(2024, 3, 3))
    assert (summary.accepted, summary.studies_new, summary.refused) == (3, 2, Counter())
    assert pull.accepted() == {"1.2.3.1.2", "1.2.3.1.3", "1.2.3.2.4"}
    again = pull(orthanc.dicomweb_url, DAY, date(2024, 3, 3))
    assert (again.accepted, again.unchanged, again.updated) == (0, 0, 0)
    only = pull.source(orthanc.dicomweb_url, DAY, date(2024, 3, 4), modalities=("dx",)).plan()
    assert (only.studies, only.instances, only.missing) == (1, 1, 0)


def test_a_compressed_instance_comes_from_orthanc_as_it_is(orthanc: Orthanc, pull: Pull) -> None:
    dataset = chest_dataset()
    dataset.compress("1.2.840.10008.1.2.5")  # RLE
    orthanc.upload(dataset)
    assert pull(orthanc.dicomweb_url).accepted == 1
    with pull.catalog.session() as session:
        assert Path(session.scalars(sa.select(Instance.path)).one()).read_bytes() == file_bytes(dataset)


def test_a_changed_instance_is_noticed_when_asked_to_fetch_again(orthanc: Orthanc, pull: Pull) -> None:
    orthanc.upload(chest_dataset(sop="1.2.3.1.9", seed=1))
    pull(orthanc.dicomweb_url)
    orthanc.upload(chest_dataset(sop="1.2.3.1.9", seed=2))
    assert pull(orthanc.dicomweb_url).accepted == 0
    changed = pull(orthanc.dicomweb_url, again=True)
    assert (changed.accepted + changed.updated, changed.studies_new) == (1, 0)
    assert pull(orthanc.dicomweb_url, again=True).unchanged == 1
    assert pull.accepted() == {"1.2.3.1.9"}


# Paging


@pytest.mark.parametrize(
    ("cap", "limits", "offset"),
    [(None, True, True), (1, True, True), (2, True, True), (None, False, True), (None, False, False)],
)
def test_every_study_is_found_however_the_server_pages(
    pull: Pull, tiny: TinyDicomWeb, cap: int | None, limits: bool, offset: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicomweb_peer, "PAGE", 2)
    tiny.cap, tiny.limits, tiny.offset = cap, limits, offset
    assert pull(tiny.url).accepted == 3


def test_a_server_without_offset_that_holds_results_back_is_no_silent_loss(
    pull: Pull, tiny: TinyDicomWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicomweb_peer, "PAGE", 2)
    tiny.offset = False
    assert pull(tiny.url).refused == {"pages-unsupported": 1}


def test_a_study_that_comes_while_pages_are_read_doubles_none(
    pull: Pull, tiny: TinyDicomWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicomweb_peer, "PAGE", 2)

    def arrive(path: str, number: int) -> None:
        if path == "studies" and number == 2:
            tiny.objects.insert(0, chest_dataset(study="1.2.3.9", seed=8))

    tiny.instead = arrive
    assert pull(tiny.url).accepted == 3  # the new one is before the page that was read already
    assert sorted(tiny.retrieved()) == sorted(ALL)
    assert pull(tiny.url).accepted == 1


def test_the_server_may_ignore_the_date(pull: Pull, tiny: TinyDicomWeb) -> None:
    tiny.objects.append(chest_dataset(study="1.2.3.4", seed=4, StudyDate="20240302"))
    everything = tiny.page([as_json(item, "0020000D", "00080020") for item in tiny.objects], {})
    tiny.instead = lambda path, number: everything if path == "studies" and number == 1 else None
    assert pull(tiny.url).accepted == 3


# Failures that pass


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_asked_again_no_earlier_than_it_says(pull: Pull, tiny: TinyDicomWeb, status: int) -> None:
    tiny.instead = lambda path, number: Answer(status, b"", {"Retry-After": "7"}) if number == 1 else None
    assert pull(tiny.url).accepted == 3
    assert set(pull.waits) == {7.0}


def test_a_date_to_retry_after_is_understood_and_waiting_has_a_limit(pull: Pull, tiny: TinyDicomWeb) -> None:
    late = format_datetime(datetime.now(UTC) + timedelta(hours=9), usegmt=True)
    tiny.instead = lambda path, number: Answer(503, b"", {"Retry-After": late}) if number == 1 else None
    assert pull(tiny.url).accepted == 3
    assert set(pull.waits) == {Retry().most_seconds}


def test_waits_grow(pull: Pull, tiny: TinyDicomWeb) -> None:
    tiny.instead = lambda path, number: Answer(503) if path == "studies" and number <= 4 else None
    assert pull(tiny.url).accepted == 3
    assert pull.waits == [0.5, 1.0, 2.0, 4.0]


def test_a_connection_that_breaks_midway_is_tried_again(pull: Pull, tiny: TinyDicomWeb) -> None:
    def cut(path: str, number: int) -> Answer | None:
        if path.count("/") == 5 and number == 1:
            whole = multipart(file_bytes(tiny.objects[0]))
            return Answer(200, whole.body, whole.headers, cut=1000)
        return None

    tiny.instead = cut
    summary = pull(tiny.url)
    assert summary.accepted == 3 and summary.refused == {}
    assert pull.store.waiting() == [] and len(list(pull.store.folder.rglob("*.dcm"))) == 3


def test_an_answer_that_ends_before_its_boundary_is_tried_again(pull: Pull, tiny: TinyDicomWeb) -> None:
    def shorten(path: str, number: int) -> Answer | None:
        if path.count("/") == 5 and number == 1:
            whole = multipart(file_bytes(tiny.objects[0]))
            return Answer(200, whole.body[:1000], whole.headers)
        return None

    tiny.instead = shorten
    assert pull(tiny.url).accepted == 3


def test_an_instance_that_never_comes_is_counted_and_fetched_by_the_next_run(pull: Pull, tiny: TinyDicomWeb) -> None:
    never = threading.Event()
    pull.timeout = (5.0, 0.05)

    def hang(path: str, number: int) -> Answer | None:
        if path.endswith("/1.2.3.2.3"):
            never.wait(20)
        return None

    tiny.instead = hang
    try:
        summary = pull(tiny.url)
    finally:
        never.set()
    assert summary.accepted == 2 and summary.refused == {"timeout": 1}
    name = "dicomweb:pacs/studies/1.2.3.2/series/1.2.3.2.0/instances/1.2.3.2.3"
    assert pull.refused() == [(name, "timeout")]
    pull.timeout, tiny.instead = (5.0, 5.0), lambda path, number: None
    tiny.asked.clear()
    summary = pull(tiny.url)
    assert summary.accepted == 1 and tiny.retrieved() == ["1.2.3.2.3"]
    assert pull.accepted() == ALL and pull.refused() == []


def test_a_day_that_cannot_be_searched_does_not_end_the_run(pull: Pull, tiny: TinyDicomWeb) -> None:
    tiny.instead = lambda path, number: Answer(500) if path == "studies" and number == 1 else None
    summary = pull(tiny.url, DAY - timedelta(1), DAY)
    assert summary.accepted == 3 and summary.refused == {"server-error": 1}
    assert pull(tiny.url, DAY - timedelta(1), DAY).refused == {} and pull.refused() == []


def test_a_server_that_is_gone_ends_the_run(pull: Pull, tiny: TinyDicomWeb) -> None:
    tiny.objects = [chest_dataset(study=f"1.2.3.{n}", seed=n) for n in range(30)]
    tiny.instead = lambda path, number: Answer(503) if path.count("/") == 5 else None
    with pytest.raises(PeerError) as caught:
        pull(tiny.url)
    assert caught.value.slug == "peer-unreachable" and len(set(tiny.retrieved())) == PATIENCE


def test_nobody_listening_is_an_error(pull: Pull) -> None:
    summary = pull(f"http://127.0.0.1:{free_port()}/dicom-web")
    assert summary.refused == {"connection-lost": 1}


# Failures that stay


def _retrieval(answer: Answer, uid: str = "1.2.3.2.3"):  # type: ignore[no-untyped-def]
    return lambda path, number: answer if path.endswith(f"/{uid}") else None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(200, b"<html>", {"Content-Type": "text/html"}), "wrong-content-type"),
        (multipart(b"{}", kind="application/dicom+json"), "wrong-content-type"),
        (multipart(), "bad-answer"),
        (multipart(b"no DICOM"), "bad-answer"),
        (multipart(file_bytes(chest_dataset(sop="1.2.3.4.5"))), "wrong-instance"),
        (Answer(404), "gone"),
        (Answer(403), "forbidden"),
        (Answer(500), "server-error"),
        (Answer(302, b"", {"Location": "http://127.0.0.1:1/elsewhere"}), "redirected-elsewhere"),
        (Answer(302, b"", {"Location": "https://127.0.0.1/"}), "redirected-elsewhere"),
        (Answer(302, b"", {"Location": "1.2.3.2.3"}), "bad-answer"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_reason_and_the_rest_comes(
    pull: Pull, tiny: TinyDicomWeb, answer: Answer, reason: str
) -> None:
    tiny.instead = _retrieval(answer)
    summary = pull(tiny.url)
    assert summary.accepted == 2 and summary.refused == {reason: 1}
    assert len(list(pull.store.folder.rglob("*.dcm"))) == 2 and list(pull.store.folder.rglob("*.partial")) == []


def test_redirects_within_the_origin_are_followed(pull: Pull, tiny: TinyDicomWeb) -> None:
    moved = Answer(307, b"", {"Location": "/dicom-web/studies/1.2.3.2/series/1.2.3.2.0/instances/1.2.3.2.3"})
    tiny.instead = lambda path, number: moved if path.endswith("/1.2.3.2.3") and number == 1 else None
    assert pull(tiny.url).accepted == 3


def test_a_search_that_redirects_elsewhere_is_refused_and_no_password_goes_there(
    pull: Pull, tiny: TinyDicomWeb
) -> None:
    pull.credentials = "user:password"
    with running(TinyDicomWeb()) as elsewhere:
        moved = Answer(302, b"", {"Location": elsewhere.url + "/studies"})
        tiny.instead = lambda path, number: moved if path == "studies" else None
        assert pull(tiny.url).refused == {"redirected-elsewhere": 1}
    assert elsewhere.asked == []


def test_answers_have_a_limit(pull: Pull, tiny: TinyDicomWeb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicomweb_http, "RETRIEVE_BYTES", 10_000)
    tiny.objects[1].add_new(0x00091001, "OB", bytes(20_000))
    summary = pull(tiny.url)
    assert summary.accepted == 2 and summary.refused == {"answer-too-large": 1}
    monkeypatch.setattr(dicomweb_http, "SEARCH_BYTES", 100)
    assert pull(tiny.url).refused == {"answer-too-large": 1}


def test_an_answer_that_drips_has_a_limit(pull: Pull, tiny: TinyDicomWeb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicomweb_http, "RESPONSE_SECONDS", -1.0)
    assert pull(tiny.url).refused == {"timeout": 1}


@pytest.mark.parametrize(
    ("answer", "slug"),
    [(Answer(401), "peer-refused"), (Answer(403), "peer-refused"), (Answer(404), "no-dicomweb")],
)
def test_a_server_that_refuses_us_ends_the_run(pull: Pull, tiny: TinyDicomWeb, answer: Answer, slug: str) -> None:
    tiny.instead = lambda path, number: answer
    with pytest.raises(PeerError) as caught:
        pull(tiny.url)
    assert caught.value.slug == slug and len(tiny.asked) == 1


@pytest.mark.parametrize("body", [b"<html>", b'"text"', b"[1]", b"\xff", b"[" * 5000])
def test_a_search_that_is_no_dicom_json_is_refused(pull: Pull, tiny: TinyDicomWeb, body: bytes) -> None:
    tiny.instead = lambda path, number: Answer(200, body, {"Content-Type": "application/json"})
    assert pull(tiny.url).refused.total() == 1


def test_a_result_without_a_usable_uid_is_counted(pull: Pull, tiny: TinyDicomWeb) -> None:
    tiny.objects.append(chest_dataset(study="1.2.3.8", seed=8, StudyInstanceUID="1.2/../../x"))
    summary = pull(tiny.url)
    assert summary.accepted == 3 and summary.refused == {"bad-answer": 1}


# Once, and all of it


@pytest.mark.parametrize("kept", [False, True])
def test_a_run_that_was_ended_goes_on_where_it_was(pull: Pull, tiny: TinyDicomWeb, kept: bool) -> None:
    """Ended before anything was recorded, after one (kept) or no instance was safe on the disk."""
    files = pull.source(tiny.url).files()
    if kept:
        next(files)
    files.close()  # type: ignore[attr-defined]
    tiny.asked.clear()
    if kept:
        ingest_received(pull.catalog, pull.store, workers=0)
    summary = pull(tiny.url)
    assert summary.accepted == (2 if kept else 3) and len(tiny.retrieved()) == summary.accepted
    assert pull.accepted() == ALL


def test_a_broken_copy_elsewhere_does_not_keep_the_whole_one_away(
    pull: Pull, tiny: TinyDicomWeb, write_dicom: WriteDicom
) -> None:
    path = write_dicom("film.dcm", study="1.2.3.1", seed=1)
    path.write_bytes(path.read_bytes()[:-100])
    assert ingest_folder(pull.catalog, path.parent, workers=0).refused == {"truncated": 1}
    assert pull(tiny.url).accepted == 3
    assert pull.accepted() == ALL


def test_what_the_archive_refused_is_not_fetched_again(pull: Pull, tiny: TinyDicomWeb) -> None:
    tiny.objects[1].BodyPartExamined = "HAND"
    assert pull(tiny.url).refused == {"not-a-chest-radiograph": 1}
    tiny.asked.clear()
    assert pull(tiny.url).refused == {} and tiny.retrieved() == []
    assert pull(tiny.url, again=True).unchanged == 2


def test_planning_fetches_and_records_nothing(pull: Pull, tiny: TinyDicomWeb) -> None:
    plan = pull.source(tiny.url).plan()
    assert (plan.studies, plan.instances, plan.missing, plan.failed) == (3, 3, 3, 0)
    assert tiny.retrieved() == [] and pull.refused() == [] and not pull.store.folder.exists()


def test_a_full_disk_ends_the_run_and_loses_nothing(pull: Pull, tiny: TinyDicomWeb) -> None:
    full = pull.store = ReceivedStore(pull.store.folder, min_free_bytes=2**62)
    with pytest.raises(ArchiveError) as caught:
        pull(tiny.url)
    assert caught.value.slug == "storage-full" and full.waiting() == []
    pull.store = ReceivedStore(full.folder, min_free_bytes=0)
    assert pull(tiny.url).accepted == 3


@pytest.mark.parametrize(
    ("credentials", "header"),
    [("user:pass:word", "Basic dXNlcjpwYXNzOndvcmQ="), ("Bearer abc", "Bearer abc"), (None, None)],
)
def test_credentials_are_sent_and_shown_nowhere(
    pull: Pull, tiny: TinyDicomWeb, credentials: str | None, header: str | None
) -> None:
    pull.credentials = credentials
    pull(tiny.url)
    assert tiny.authorized == {header}
    assert "pass" not in repr(Origin("a", "b", "user:pass:word"))


def test_days_in_the_wrong_order_are_an_error(pull: Pull, tiny: TinyDicomWeb) -> None:
    with pytest.raises(InputError, match="first day before the last"):
        pull.source(tiny.url, DAY, DAY - timedelta(1))
