"""Going on where a page of hits ended, without sending the images again."""

import base64
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from index import build_generation, embed_pending, open_catalog
from index.tables import Patient
from service.settings import Settings
from tests.fakes import FakeEncoder
from tests.service_samples import A1, B1, C1, FILMS, Film, form, png, serve, take_in

pytest_plugins = ["tests.service_fixtures"]

NEW = "1.2.9.1"
SEARCH, PAGE = "/v1/search", "/v1/search/page"


def uids(reply: dict) -> list[str]:
    return [hit["study"]["study_instance_uid"] for hit in reply["hits"]]


def first_page(client: TestClient, top_k: int = 1, **data: object) -> dict:
    reply = client.post(SEARCH, files=form(png()), data={"top_k": top_k, "rank_by": "image", **data})
    assert reply.status_code == 200, reply.text
    return reply.json()


def pages_after(client: TestClient, reply: dict) -> list[dict]:
    found = []
    while reply["next_cursor"]:
        response = client.post(PAGE, json={"cursor": reply["next_cursor"]})
        assert response.status_code == 200, response.text
        reply = response.json()
        found.append(reply)
    return found


def assert_problem(response, slug: str, status: int) -> None:
    assert (response.status_code, response.json()["type"]) == (status, f"/problems/{slug}")


@pytest.mark.parametrize("rank_by", ["image", "report", "fused"])
def test_pages_together_are_the_hits_of_one_long_list(client: TestClient, rank_by: str) -> None:
    whole = first_page(client, 50, rank_by=rank_by)
    assert whole["next_cursor"] is None
    first = first_page(client, 1, rank_by=rank_by)
    pages = [first, *pages_after(client, first)]
    assert [hit for page in pages for hit in page["hits"]] == whole["hits"]
    assert [hit["rank"] for page in pages for hit in page["hits"]] == list(range(1, len(whole["hits"]) + 1))
    assert all(page["ranking"] == whole["ranking"] for page in pages)


def test_later_pages_keep_the_filters_and_what_is_left_out(client: TestClient) -> None:
    film = form(Film(NEW, 2, patient="P1", date="20240101").dicom())
    first = client.post(SEARCH, files=film, data={"top_k": 1, "sex": ["F", "M"]}).json()
    found = [uid for page in (first, *pages_after(client, first)) for uid in uids(page)]
    assert set(found) == {B1, C1}
    film = form(Film(NEW, 2, patient="P1", date="20240101").dicom())
    kept = {"top_k": 1, "exclude_own_patient": "false", "find_prior": "false", "modality": "DX"}
    first = client.post(SEARCH, files=film, data=kept).json()
    hits = [hit for page in (first, *pages_after(client, first)) for hit in page["hits"]]
    own = {hit["study"]["study_instance_uid"]: hit["same_patient"] for hit in hits}
    assert (own[A1], own[C1]) == (True, False)
    assert B1 not in own


def test_a_patient_whose_identity_is_corrected_between_two_pages_stays_left_out(own_archive: Settings) -> None:
    with serve(own_archive) as client:
        data = {"study_instance_uid": A1, "find_prior": "false", "top_k": 1, "rank_by": "image"}
        first = client.post(SEARCH, data=data).json()
        catalog = client.app.state.resources.catalog
        with catalog.write() as session:
            own = sa.update(Patient).where(Patient.key == catalog.patient_key("P1"))
            assert session.execute(own.values(key="f" * 64)).rowcount == 1
        found = [uid for page in (first, *pages_after(client, first)) for uid in uids(page)]
    assert set(found) == {B1, C1}


def test_what_arrives_meanwhile_is_on_no_later_page(own_archive: Settings, tmp_path: Path) -> None:
    with serve(own_archive) as client:
        expected = uids(first_page(client, 50))
        first = first_page(client)
        source = tmp_path / "more"
        source.mkdir()
        (source / "new.dcm").write_bytes(Film("1.2.3.77", 3, patient="P7").dicom())
        (source / "reports.csv").write_text("study_instance_uid,findings\n1.2.3.77,New.\n")
        take_in(own_archive, source)
        client.app.state.resources.gallery.refresh(now=True)
        assert "1.2.3.77" in uids(first_page(client, 50))
        later = [uid for page in pages_after(client, first) for uid in uids(page)]
        assert uids(first) + later == expected


def test_another_replica_goes_on_and_so_does_a_newer_index(own_archive: Settings) -> None:
    with serve(own_archive) as one:
        expected, first = uids(first_page(one, 50)), first_page(one)
    catalog = open_catalog(own_archive.catalog_url)
    built = build_generation(catalog, own_archive.generations_dir, FakeEncoder().fingerprint, engine="ivf")
    catalog.close()
    with serve(own_archive) as other:
        pages = pages_after(other, first)
    assert [uid for page in (first, *pages) for uid in uids(page)] == expected
    assert pages[0]["generation"] == built.id != first["generation"]


def test_a_replica_that_has_read_less_reads_on_before_it_answers(
    own_archive: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.search.gallery.POLL_SECONDS", 1e9)
    with serve(own_archive) as behind:
        assert len(first_page(behind, 50)["hits"]) == 4
        source = tmp_path / "more"
        source.mkdir()
        (source / "new.dcm").write_bytes(Film("1.2.3.77", 12, patient="P7").dicom())
        (source / "reports.csv").write_text("study_instance_uid,findings\n1.2.3.77,New.\n")
        take_in(own_archive, source)
        with serve(own_archive) as ahead:
            expected, first = uids(first_page(ahead, 50)), first_page(ahead)
        assert len(expected) == 5
        assert [uid for page in (first, *pages_after(behind, first)) for uid in uids(page)] == expected


def test_with_other_encoders_the_list_cannot_be_gone_on_with(own_archive: Settings) -> None:
    other = FakeEncoder("e" * 64)
    with serve(own_archive) as client:
        cursor = first_page(client)["next_cursor"]
    catalog = open_catalog(own_archive.catalog_url)
    embed_pending(catalog, other)
    build_generation(catalog, own_archive.generations_dir, other.fingerprint)
    catalog.close()
    with serve(own_archive, other) as client:
        assert_problem(client.post(PAGE, json={"cursor": cursor}), "cursor-outdated", 410)


def test_a_cursor_that_was_changed_cut_or_made_up_is_refused(client: TestClient) -> None:
    cursor = first_page(client)["next_cursor"]
    sealed = bytearray(base64.urlsafe_b64decode(cursor))
    for place in (0, 20, len(sealed) // 2, len(sealed) - 1):
        changed = bytearray(sealed)
        changed[place] ^= 1
        made_up = base64.urlsafe_b64encode(changed).decode()
        assert_problem(client.post(PAGE, json={"cursor": made_up}), "bad-cursor", 422)
    for other in ("", "a", "AAAA", "%%%%", "ä", cursor[:-4], cursor + "AAAA", f" {cursor}"):
        assert_problem(client.post(PAGE, json={"cursor": other}), "bad-cursor", 422)


def test_a_cursor_of_another_archive_is_refused(client: TestClient, own_archive: Settings) -> None:
    with serve(own_archive) as other:
        cursor = first_page(other)["next_cursor"]
    assert_problem(client.post(PAGE, json={"cursor": cursor}), "bad-cursor", 422)


def test_a_cursor_that_is_too_old_is_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.search.cursor.LIFETIME", timedelta(seconds=-1))
    cursor = first_page(client)["next_cursor"]
    assert_problem(client.post(PAGE, json={"cursor": cursor}), "bad-cursor", 422)


def test_nothing_of_patient_or_study_can_be_read_from_a_cursor(client: TestClient) -> None:
    film = Film("1.2.9.4", 2, patient="SECRET7", date="20240101")
    reply = client.post(SEARCH, files=form(film.dicom()), data={"top_k": 1, "exclude_study": [A1]}).json()
    key = client.app.state.resources.catalog.patient_key("SECRET7")
    sealed = base64.urlsafe_b64decode(reply["next_cursor"])
    for secret in (key, "SECRET7", film.study, A1, "exclude"):
        assert secret.encode() not in sealed and secret not in reply["next_cursor"]


def test_a_list_ends_and_says_so(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.search.asking.MAX_SHOWN", 3)
    first = first_page(client, 2)
    (last,) = pages_after(client, first)
    assert (len(last["hits"]), last["next_cursor"]) == (1, None)
    assert [warning["code"] for warning in last["warnings"]] == ["list-ended"]


def test_the_study_that_was_asked_with_is_named_on_the_first_page_only(client: TestClient) -> None:
    first = client.post(SEARCH, files=form(FILMS[3].dicom()), data={"top_k": 1}).json()
    assert first["query"]["study_instance_uid"] == B1
    assert pages_after(client, first)[0]["query"] is None
