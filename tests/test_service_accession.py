"""A study asked with by its accession number: the one that has it, or a plain answer that several do."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from index import build_generation, migrate, open_catalog
from tests.fakes import FakeEncoder
from tests.service_samples import Film, form, serve, settings_for, take_in


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Two sites that number their studies alike, and one study with a number of its own."""
    source, data = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("data")
    films = [
        Film("1.2.9.1", 1, patient="P1", extra={"AccessionNumber": "A17", "InstitutionName": "North"}),
        Film("1.2.9.2", 2, patient="P2", extra={"AccessionNumber": "A17", "InstitutionName": "South"}),
        Film("1.2.9.3", 3, patient="P3", date="20210101", extra={"AccessionNumber": "A17", "InstitutionName": "South"}),
        Film("1.2.9.4", 4, patient="P4", extra={"AccessionNumber": "A 18/1"}),
    ]
    for number, film in enumerate(films):
        (source / f"{number}.dcm").write_bytes(film.dicom())
    (source / "reports.csv").write_text("accession_number,text\nA 18/1,Clear lungs.")
    settings = settings_for(data)
    migrate(settings.catalog_url)
    take_in(settings, source)
    catalog = open_catalog(settings.catalog_url)
    build_generation(catalog, settings.generations_dir, FakeEncoder().fingerprint)
    catalog.close()
    with serve(settings) as running:
        yield running


SIMILAR, STUDY = "/v1/similar", "/v1/studies"


def asked(client: TestClient, path: str = SIMILAR, **query: object) -> tuple[int, dict[str, object]]:
    response = client.get(path, params=query)  # type: ignore[arg-type]
    return response.status_code, response.json()


def test_the_study_with_the_number_is_asked_with_as_by_its_uid(client: TestClient) -> None:
    status, reply = asked(client, accession_number="A 18/1", top_k=2)
    assert status == 200
    by_uid = client.get("/v1/studies/1.2.9.4/similar", params={"top_k": 2}).json()
    cursors = (reply.pop("next_cursor"), by_uid.pop("next_cursor"))
    assert reply == by_uid and all(cursors)


def test_the_study_with_the_number_is_told_as_by_its_uid(client: TestClient) -> None:
    status, reply = asked(client, STUDY, accession_number="A 18/1")
    assert status == 200 and reply == client.get("/v1/studies/1.2.9.4").json()
    assert reply["report"]["text"] == "Clear lungs."  # type: ignore[index]


@pytest.mark.parametrize("path", [SIMILAR, STUDY])
def test_several_studies_with_the_number_are_said_without_naming_them(client: TestClient, path: str) -> None:
    status, problem = asked(client, path, accession_number="A17")
    assert (status, problem["type"]) == (409, "/problems/ambiguous-accession")
    detail = str(problem["detail"])
    assert detail.startswith("3 studies have that accession number, of 2 institutions and 2 dates")
    assert "A17" not in detail and "1.2.9" not in detail and "North" not in detail


def test_institution_and_date_tell_them_apart(client: TestClient) -> None:
    for narrowed, uid in (
        ({"accession_institution": "North"}, "1.2.9.1"),
        ({"accession_institution": "South", "accession_date": "2021-01-01"}, "1.2.9.3"),
        ({"accession_date": "2021-01-01"}, "1.2.9.3"),
    ):
        for path, answer in ((SIMILAR, "query"), (STUDY, "study")):
            status, reply = asked(client, path, accession_number="A17", **narrowed)
            assert status == 200 and reply[answer]["study_instance_uid"] == uid  # type: ignore[index]
    assert asked(client, accession_number="A17", accession_institution="South")[0] == 409


@pytest.mark.parametrize("path", [SIMILAR, STUDY])
def test_what_cannot_be_asked_is_said(client: TestClient, path: str) -> None:
    assert asked(client, path, accession_number="A19")[0] == 404
    assert asked(client, path, accession_number="A17", accession_institution="West")[0] == 404
    for wrong in ({}, {"accession_number": ""}, {"accession_number": "A17", "accession_date": "1.1.2021"}):
        assert asked(client, path, **wrong)[0] == 422
    assert asked(client, path, accession_number="A17", institutoin="North")[0] == 422


def test_a_study_is_looked_up_beside_the_door_of_the_same_address(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, receive=True)
    migrate(settings.catalog_url)
    with serve(settings) as client:
        assert asked(client, STUDY, accession_number="A1")[0] == 404
        stored = client.post(STUDY, files=form(Film("1.2.9.1", 1, extra={"AccessionNumber": "A1"}).dicom()))
        assert stored.status_code == 200
        assert asked(client, STUDY, accession_number="A1")[0] == 200
