"""A PACS is searched day by day and gives each study once, whatever it limits, loses or refuses."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)

from index import Catalog, IngestSummary, ReceivedStore
from index.intake.ingest import ingest
from index.listeners.storage_scp import IMAGE_CLASSES, StorageScp
from index.sources.pacs import PacsSource
from index.sources.pacs_peer import PacsError, PacsNode, PacsPeer
from index.tables import Instance
from model.errors import ArchiveError, InputError
from tests.conftest import chest_dataset
from tests.peers import Orthanc

DAY = date(2024, 3, 1)
Pull = Callable[..., IngestSummary]


@pytest.fixture
def store(tmp_path: Path) -> ReceivedStore:
    return ReceivedStore(tmp_path / "received", min_free_bytes=0)


@dataclass
class FakePacs:
    """A PACS that does what a test says. limit: results a search may have. deaf: requests whose association it drops.

    unsent: SOP instance UIDs that it does not send. move_status: what it answers to every C-MOVE.
    """

    datasets: list[Dataset] = field(default_factory=list)
    limit: int = 1000
    deaf: int = 0
    unsent: set[str] = field(default_factory=set)
    move_status: int | None = None
    limit_status: int = 0xA700
    no_image_level: bool = False
    destination: int = 0
    moves: list[list[str]] = field(default_factory=list)
    searches: list[str] = field(default_factory=list)
    port: int = 0

    def find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        self.searches.append(query.QueryRetrieveLevel)
        if self._drops(event):
            return
        results: dict[str, Dataset] = {}
        for dataset in self.datasets if query.QueryRetrieveLevel != "IMAGE" or not self.no_image_level else []:
            if not _matches(dataset, query):
                continue
            keyword = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
            uid = dataset[keyword[query.QueryRetrieveLevel]].value
            result = results.setdefault(uid, Dataset())
            result.QueryRetrieveLevel = query.QueryRetrieveLevel
            for element in query:
                if element.keyword != "ModalitiesInStudy" and element.keyword in dataset:
                    setattr(result, element.keyword, dataset[element.keyword].value)
            if "ModalitiesInStudy" in query:
                result.ModalitiesInStudy = sorted({*_listed(result), dataset.Modality})
        for number, result in enumerate(results.values()):
            if number == self.limit:
                yield self.limit_status, None
                return
            yield 0xFF00, result

    def move(self, event: evt.Event) -> Iterator[object]:
        if self._drops(event):
            return
        if self.move_status == 0xA801:
            yield None, None  # pynetdicom's way to say so
            return
        if self.move_status is not None:
            yield "127.0.0.1", self.destination
            yield 1
            yield self.move_status, None
            return
        query = event.identifier
        chosen = [dataset for dataset in self.datasets if _matches(dataset, query)]
        self.moves.append([dataset.SOPInstanceUID for dataset in chosen])
        sent = [dataset for dataset in chosen if dataset.SOPInstanceUID not in self.unsent]
        yield "127.0.0.1", self.destination
        yield len(sent)
        for dataset in sent:
            yield 0xFF00, dataset

    def _drops(self, event: evt.Event) -> bool:
        if self.deaf:
            self.deaf -= 1
            event.assoc.abort()
            return True
        return False


def _matches(dataset: Dataset, query: Dataset) -> bool:
    for element in query:
        value = element.value
        if element.keyword in ("QueryRetrieveLevel", "ModalitiesInStudy") or not value:
            continue
        own = str(dataset.get(element.keyword, ""))
        if element.keyword == "StudyTime":
            low, _, high = str(value).partition("-")
            if not low <= own <= high:
                return False
        elif own not in ([value] if isinstance(value, str) else list(value)):
            return False
    return True


def _listed(result: Dataset) -> list[str]:
    value = result.get("ModalitiesInStudy") or []
    return [value] if isinstance(value, str) else list(value)


@pytest.fixture
def pacs() -> Iterator[FakePacs]:
    fake = FakePacs()
    entity = AE("PACS")
    entity.require_called_aet = True
    entity.require_calling_aet = ["ALTA"]
    for model in (StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelMove):
        entity.add_supported_context(model)
    for image in IMAGE_CLASSES:
        entity.add_requested_context(image)
    handlers = [(evt.EVT_C_FIND, fake.find), (evt.EVT_C_MOVE, fake.move)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    fake.port = server.server_address[1]
    yield fake
    server.shutdown()


@pytest.fixture
def pull(sqlite_catalog: Catalog, store: ReceivedStore, pacs: FakePacs) -> Iterator[Pull]:
    """``pull()`` takes in what the fake PACS has of one day."""
    peer = PacsPeer(PacsNode("127.0.0.1", pacs.port, "PACS"), store, pause=lambda seconds: None)
    scp = StorageScp(store, allowed=["PACS"], kept=peer.received)
    pacs.destination = scp.start(port=0)

    def run(first: date = DAY, last: date = DAY, **settings: object) -> IngestSummary:
        source = PacsSource(sqlite_catalog, peer, store, first, last, **settings)  # type: ignore[arg-type]
        return ingest(sqlite_catalog, source, workers=0)

    yield run
    peer.close()
    scp.stop(patience=5)


def rows(catalog: Catalog) -> dict[str, int]:
    with catalog.session() as session:
        query = sa.select(sa.func.coalesce(Instance.reason, Instance.status), sa.func.count()).group_by(sa.text("1"))
        return dict(session.execute(query).all())


def studies(count: int, **tags: object) -> list[Dataset]:
    return [chest_dataset(study=f"1.2.3.{n}", StudyTime=f"{n % 24:02d}3000", **tags) for n in range(count)]


def test_studies_of_the_days_come_once(pull: Pull, pacs: FakePacs, sqlite_catalog: Catalog) -> None:
    pacs.datasets = [*studies(3), chest_dataset(study="1.2.9", StudyDate="20240302")]
    assert (pull().accepted, pull().accepted) == (3, 0)
    assert pull(last=date(2024, 3, 2)).accepted == 1
    assert sorted(len(move) for move in pacs.moves) == [1, 1, 1, 1]
    assert rows(sqlite_catalog) == {"accepted": 4}


def test_other_modalities_stay_where_they_are(pull: Pull, pacs: FakePacs) -> None:
    pacs.datasets = [
        chest_dataset(study="1.2.3.1", Modality="CT", SeriesInstanceUID="1.2.3.1.7"),
        chest_dataset(study="1.2.3.2"),
        chest_dataset(study="1.2.3.2", seed=5, Modality="OT", SeriesInstanceUID="1.2.3.2.7"),
    ]
    assert pull().accepted == 1
    assert pacs.moves == [["1.2.3.2.1"]]


def test_only_what_is_missing_of_a_series_is_fetched(pull: Pull, pacs: FakePacs, sqlite_catalog: Catalog) -> None:
    pacs.datasets = [chest_dataset(seed=1)]
    pull()
    pacs.datasets.append(chest_dataset(seed=2))
    assert pull().accepted == 1
    assert pacs.moves == [["1.2.3.1.2"], ["1.2.3.1.3"]]


def test_what_changed_is_noticed_when_fetched_again(pull: Pull, pacs: FakePacs, sqlite_catalog: Catalog) -> None:
    pacs.datasets = [chest_dataset(seed=1, sop="1.2.7")]
    pull()
    pacs.datasets = [chest_dataset(seed=2, sop="1.2.7")]
    assert pull().accepted == 0
    assert pull(again=True).updated == 1
    assert rows(sqlite_catalog) == {"accepted": 1, "superseded": 1}


@pytest.mark.parametrize("status", [0xA700, 0xFE00])
def test_a_limit_of_results_is_got_around_by_the_time_of_day(pull: Pull, pacs: FakePacs, status: int) -> None:
    pacs.datasets = studies(9)
    pacs.limit, pacs.limit_status = 4, status
    assert pull().accepted == 9


def test_a_limit_that_nothing_gets_around_is_said(pull: Pull, pacs: FakePacs) -> None:
    pacs.datasets = [chest_dataset(study=f"1.2.3.{n}", StudyTime="101530") for n in range(4)]
    pacs.limit = 3
    summary = pull()
    assert (summary.accepted, summary.refused) == (3, {"too-many-results": 1})
    pacs.limit = 100
    assert pull().refused == {}


def test_lost_associations_are_opened_again(pull: Pull, pacs: FakePacs, sqlite_catalog: Catalog) -> None:
    pacs.datasets = studies(2)
    pacs.deaf = 3
    assert pull().accepted == 2


def test_a_pacs_that_is_gone_ends_the_run_after_some_tries(pull: Pull, pacs: FakePacs) -> None:
    pacs.deaf = 100
    with pytest.raises(PacsError) as caught:
        pull()
    assert caught.value.slug == "peer-unreachable"
    assert 94 <= pacs.deaf < 100


def test_what_is_not_sent_is_asked_for_again_then_refused_then_mended(
    pull: Pull, pacs: FakePacs, sqlite_catalog: Catalog
) -> None:
    pacs.datasets = [chest_dataset(seed=1), chest_dataset(seed=2)]
    pacs.unsent = {"1.2.3.1.2"}
    assert pull().refused == {"not-sent": 1}
    assert pacs.moves == [["1.2.3.1.2", "1.2.3.1.3"], ["1.2.3.1.2"]]
    pacs.unsent = set()
    assert pull().accepted == 1
    assert rows(sqlite_catalog) == {"accepted": 2}


def test_a_pacs_that_lists_no_instances_sends_whole_series(pull: Pull, pacs: FakePacs) -> None:
    pacs.datasets, pacs.no_image_level = studies(2), True
    assert pull().accepted == 2
    assert pull().unchanged == 2


def test_a_pacs_that_does_not_know_us_as_a_destination(pull: Pull, pacs: FakePacs) -> None:
    pacs.datasets, pacs.move_status = studies(1), 0xA801
    with pytest.raises(PacsError) as caught:
        pull()
    assert caught.value.slug == "unknown-destination"


def test_a_pacs_that_never_sends_ends_the_run(pull: Pull, pacs: FakePacs, sqlite_catalog: Catalog) -> None:
    pacs.datasets, pacs.move_status = studies(12), 0xA702
    with pytest.raises(PacsError) as caught:
        pull()
    assert caught.value.slug == "not-sent"


def test_a_pacs_that_rejects_us(sqlite_catalog: Catalog, store: ReceivedStore, pacs: FakePacs) -> None:
    peer = PacsPeer(PacsNode("127.0.0.1", pacs.port, "PACS", "STRANGER"), store)
    with pytest.raises(PacsError) as caught:
        peer.studies(DAY)
    assert caught.value.slug == "peer-refused"
    peer.close()


def test_a_full_disk_ends_the_run_before_anything_is_asked_for(
    sqlite_catalog: Catalog, tmp_path: Path, pacs: FakePacs
) -> None:
    pacs.datasets = studies(1)
    full = ReceivedStore(tmp_path / "full", min_free_bytes=2**62)
    peer = PacsPeer(PacsNode("127.0.0.1", pacs.port, "PACS"), full)
    with pytest.raises(ArchiveError) as caught:
        ingest(sqlite_catalog, PacsSource(sqlite_catalog, peer, full, DAY, DAY), workers=0)
    assert caught.value.slug == "storage-full" and pacs.moves == []
    peer.close()


def test_a_plan_fetches_nothing(sqlite_catalog: Catalog, store: ReceivedStore, pull: Pull, pacs: FakePacs) -> None:
    pacs.datasets = studies(2)
    pull()
    pacs.datasets += [chest_dataset(study="1.2.3.0", seed=4)]
    peer = PacsPeer(PacsNode("127.0.0.1", pacs.port, "PACS"), store)
    plan = PacsSource(sqlite_catalog, peer, store, DAY, DAY).plan()
    assert (plan.studies, plan.instances, plan.missing) == (2, 3, 1)
    assert len(pacs.moves) == 2
    peer.close()


def test_days_in_the_wrong_order(sqlite_catalog: Catalog, store: ReceivedStore) -> None:
    peer = PacsPeer(PacsNode("127.0.0.1", 1, "PACS"), store)
    with pytest.raises(InputError) as caught:
        PacsSource(sqlite_catalog, peer, store, date(2024, 3, 2), DAY)
    assert caught.value.slug == "bad-dates"


@pytest.mark.parametrize("use_get", [False, True])
def test_an_orthanc_gives_its_radiographs_and_only_once(
    catalog: Catalog, store: ReceivedStore, orthanc: Orthanc, use_get: bool
) -> None:
    orthanc.upload(
        chest_dataset(study="1.2.3.1", seed=1),
        chest_dataset(study="1.2.3.1", seed=2, ViewPosition="LL"),
        chest_dataset(study="1.2.3.2", StudyDate="20240305"),
        chest_dataset(study="1.2.3.3", StudyDate="20240401"),
        chest_dataset(study="1.2.3.4", Modality="CT"),
    )
    peer = PacsPeer(PacsNode("127.0.0.1", orthanc.dicom_port, "ORTHANC"), store, use_get=use_get)
    scp = StorageScp(store, allowed=["ORTHANC"], kept=peer.received)
    orthanc.know("ALTA", scp.start(port=0))

    def run() -> IngestSummary:
        return ingest(catalog, PacsSource(catalog, peer, store, DAY, date(2024, 3, 31)), workers=0)

    try:
        first = run()
        assert (first.accepted, first.studies_new, first.refused) == (3, 2, {})
        assert run().accepted == 0
    finally:
        peer.close()
        scp.stop(patience=5)


def test_an_orthanc_that_does_not_know_us(sqlite_catalog: Catalog, store: ReceivedStore, orthanc: Orthanc) -> None:
    orthanc.upload(chest_dataset())
    peer = PacsPeer(PacsNode("127.0.0.1", orthanc.dicom_port, "ORTHANC"), store)
    source = PacsSource(sqlite_catalog, peer, store, DAY, DAY)
    assert ingest(sqlite_catalog, source, workers=0).refused == {"not-sent": 1}
    peer.close()
