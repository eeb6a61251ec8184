"""Who may ask: keys, scopes, limits, and an entry in the audit for every answer, on the running app."""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient

from index import Catalog, open_catalog
from index.access.keys import SCOPES, create_key, list_keys, revoke_key
from index.access.usage import usage_on
from index.tables.base import now
from model.errors import ArchiveError, InputError
from service import access_settings
from service.access import authentication, require_safe_exposure
from service.access.audit import NOT_AUDITED
from service.access.gate import is_public
from service.app import create_app
from tests.fakes import FakeEncoder
from tests.service_samples import form, png, serve, settings_for

pytest_plugins = ["tests.service_fixtures"]

TEXT = "/v1/search/text-to-image"
QUERY = {"text": "effusion"}
SENDERS = ("search admin", "write")
CardOf = Callable[..., dict[str, str]]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@contextmanager
def opened(folder: Path) -> Iterator[Catalog]:
    catalog = open_catalog(settings_for(folder).catalog_url)
    try:
        yield catalog
    finally:
        catalog.close()


@pytest.fixture
def folder(archive_folder: Path, tmp_path: Path) -> Path:
    """A copy of the archive, whose keys and audit are this test's own."""
    shutil.copytree(archive_folder, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def key(folder: Path) -> CardOf:
    """``key("search")``: headers with a new key of these scopes."""

    def make(*scopes: str, **limits: object) -> dict[str, str]:
        with opened(folder) as catalog:
            return bearer(create_key(catalog, "test", scopes, "test", **limits)[0])

    return make


def raising(error: Exception) -> Callable[..., None]:
    def call(*_: object) -> None:
        raise error

    return call


def problem(response) -> tuple[int, str]:
    return response.status_code, response.json()["type"].removeprefix("/problems/")


def test_every_route_asks_for_a_scope_or_is_public(tmp_path: Path) -> None:
    app = create_app(settings_for(tmp_path), encoder=FakeEncoder())
    seen = 0
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        path = getattr(route, "path", "")
        scopes = (
            {scope for used in route.dependencies for scope in getattr(used, "scopes", ())}
            if hasattr(route, "dependencies")
            else set()
        )
        assert scopes <= set(SCOPES), path
        assert bool(scopes) != is_public(path), f"{path}: expected a scope, or a place on the public list, not both"
        seen += 1
    assert seen > 15


def test_what_is_not_audited_exists(tmp_path: Path) -> None:
    names = {context.original_route.name for context in iter_route_contexts(create_app(settings_for(tmp_path)).routes)}
    assert names >= NOT_AUDITED
    assert all(len(name) <= 64 for name in names)


def test_this_machine_needs_no_key_until_one_was_made(folder: Path, key: CardOf) -> None:
    with serve(settings_for(folder)) as client:
        assert client.post(TEXT, json=QUERY).status_code == 200
    with opened(folder) as catalog:
        revoke_key(catalog, create_key(catalog, "x", ["search"], "test")[1].id, "test")
    with serve(settings_for(folder)) as client:
        answer = client.post(TEXT, json=QUERY)
        assert problem(answer) == (401, "authentication-required")
        assert answer.headers["www-authenticate"] == "Bearer"
    with serve(settings_for(folder, authentication="off")) as client:
        assert client.post(TEXT, json=QUERY).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "10.0.0.1"},
        {"Forwarded": "for=10.0.0.1"},
        {"X-Forwarded-Host": "alta.hospital.example"},
        {"X-Forwarded-Proto": "https"},
        {"Via": "1.1 proxy"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_what_came_through_a_proxy_or_another_sites_page_is_not_from_this_machine(
    archive_folder: Path, client: TestClient, headers: dict[str, str]
) -> None:
    assert problem(client.post(TEXT, json=QUERY, headers=headers)) == (401, "authentication-required")


def test_the_pages_own_requests_are_from_this_machine(client: TestClient) -> None:
    assert client.post(TEXT, json=QUERY, headers={"Origin": "http://localhost"}).status_code == 200


def test_another_machine_is_asked_who_it_is(archive_folder: Path) -> None:
    app = create_app(settings_for(archive_folder), encoder=FakeEncoder())
    with TestClient(app, base_url="http://localhost", client=("10.0.0.7", 4711)) as client:
        assert problem(client.post(TEXT, json=QUERY)) == (401, "authentication-required")
        assert client.get("/livez").status_code == 200


@pytest.mark.parametrize(
    "changes", [{"host": "0.0.0.0"}, {"authentication": "required"}, {"trusted_proxies": ("::1",)}]
)
def test_where_authentication_is_required_nobody_is_let_in_without(archive_folder: Path, changes: dict) -> None:
    with serve(settings_for(archive_folder, **changes)) as client:
        assert problem(client.post(TEXT, json=QUERY)) == (401, "authentication-required")
        assert problem(client.get("/nothing/here")) == (401, "authentication-required")
        probes = ("/livez", "/readyz")
        for path in ("/", "/docs", "/openapi.json", *probes, "/problems/bad-credentials", "/assets/modules/page.js"):
            assert client.get(path).status_code == 200, path


def test_the_body_of_who_is_not_let_in_is_not_read(archive_folder: Path) -> None:
    read = []

    async def app(scope, receive, send) -> None:
        async def counted():
            read.append(1)
            return await receive()

        await real(scope, counted, send)

    real = create_app(settings_for(archive_folder, authentication="required"), encoder=FakeEncoder())
    with TestClient(app, base_url="http://localhost") as client:
        read.clear()
        assert client.post("/v1/search/image-to-text", files=form(png())).status_code == 401
        assert read == []


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_a_key_lets_in(folder: Path, key: CardOf, scheme: str) -> None:
    headers = {"Authorization": key("search")["Authorization"].replace("Bearer", scheme)}
    with serve(settings_for(folder, host="0.0.0.0")) as client:
        assert client.post(TEXT, json=QUERY, headers=headers).status_code == 200


def test_scopes_do_not_include_each_other(folder: Path, key: CardOf) -> None:
    with serve(settings_for(folder, receive=True)) as client:
        for scope, path in (("search", "/v1/model"), ("admin", "/v1/operations")):
            assert client.get(path, headers=key(scope)).status_code == 200
            for other in set(SCOPES) - {scope}:
                answer = client.get(path, headers=key(other))
                assert problem(answer) == (403, "missing-scope") and answer.json()["scope"] == scope
                assert f'scope="{scope}"' in answer.headers["www-authenticate"]
        assert problem(client.post("/v1/reports/fhir", json={}, headers=key("search", "admin"))) == (
            403,
            "missing-scope",
        )
        assert problem(client.post("/v1/reports/fhir", json={}, headers=key("write"))) == (422, "bad-fhir")


def test_settings_know_every_scope() -> None:
    assert access_settings.SCOPES == SCOPES


def test_a_key_for_metrics_opens_nothing_else(folder: Path, key: CardOf) -> None:
    with serve(settings_for(folder, receive=True)) as client:
        for scope, expected in (("metrics", 200), ("admin", 200), ("search", 403), ("write", 403)):
            assert client.get("/metrics", headers=key(scope)).status_code == expected
        refused = client.get("/metrics", headers=key("search")).json()
        assert (refused["scope"], "metrics or admin" in refused["detail"]) == ("metrics", True)
        for path in ("/v1/operations", "/v1/jobs", "/v1/model", "/v1/studies?accession_number=A1"):
            assert client.get(path, headers=key("metrics")).status_code == 403, path


def test_a_key_that_may_send_studies_does_not_look_them_up(folder: Path, key: CardOf) -> None:
    with serve(settings_for(folder, receive=True)) as client:
        found = {
            scope: client.get("/v1/studies?accession_number=A1", headers=key(scope)) for scope in ("write", "search")
        }
    assert {scope: answer.status_code for scope, answer in found.items()} == {"write": 403, "search": 200}


@pytest.mark.parametrize(
    "given",
    ["Bearer", "Bearer x", "Basic YTpi", "Bearer alta_000000000000_" + 43 * "a", "Bearer " + 5000 * "x"],
)
def test_wrong_credentials_are_refused_on_loopback_too(client: TestClient, given: str) -> None:
    answer = client.post(TEXT, json=QUERY, headers={"Authorization": given})
    assert problem(answer) == (401, "bad-credentials")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_a_key_with_another_secret_an_expired_and_a_revoked_one_are_refused(
    folder: Path, key: CardOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "KEY_SECONDS", 0.0)
    good = key("search")
    wrong = {"Authorization": good["Authorization"][:-1] + ("a" if good["Authorization"][-1] != "a" else "b")}
    with serve(settings_for(folder)) as client:
        assert client.get("/v1/model", headers=good).status_code == 200
        assert problem(client.get("/v1/model", headers=wrong)) == (401, "bad-credentials")
        expired = key("search", expires_at=now() - timedelta(seconds=1))
        assert problem(client.get("/v1/model", headers=expired)) == (401, "bad-credentials")
        with opened(folder) as catalog:
            revoke_key(catalog, list_keys(catalog)[0].id, "test")
        assert problem(client.get("/v1/model", headers=good)) == (401, "bad-credentials")


def test_a_revoked_key_is_refused_when_what_is_known_of_it_is_two_seconds_old(
    folder: Path, key: CardOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = key("search")
    clock = [1000.0]
    monkeypatch.setattr(authentication, "monotonic", lambda: clock[0])
    with serve(settings_for(folder)) as client:
        assert client.get("/v1/model", headers=good).status_code == 200
        with opened(folder) as catalog:
            revoke_key(catalog, list_keys(catalog)[0].id, "test")
        clock[0] += authentication.KEY_SECONDS + 0.1
        assert client.get("/v1/model", headers=good).status_code == 401
    assert authentication.KEY_SECONDS <= 2


def test_who_guesses_is_told_to_wait(folder: Path, key: CardOf) -> None:
    good = key("search")
    with serve(settings_for(folder)) as client:
        assert client.get("/v1/model", headers=good).status_code == 200
        answers = [client.get("/v1/model", headers=bearer(f"alta_{n:012x}_" + 43 * "a")) for n in range(21)]
        assert {problem(answer) for answer in answers[:20]} == {(401, "bad-credentials")}
        assert problem(answers[20]) == (429, "too-many-failures") and int(answers[20].headers["retry-after"]) >= 1
        assert client.get("/v1/model", headers=good).status_code == 200  # who was let in before is not shut out


def test_a_key_may_ask_so_often_a_minute(folder: Path, key: CardOf) -> None:
    few = key("search", requests_per_minute=3)
    with serve(settings_for(folder)) as client:
        answers = [client.get("/v1/model", headers=few) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == ["r=2", "r=1", "r=0", "r=0"]
        assert answers[3].headers["ratelimit-policy"] == '"minute";q=3;w=60'
        assert problem(answers[3]) == (429, "rate-limited") and 1 <= int(answers[3].headers["retry-after"]) <= 60
        assert client.get("/v1/model", headers=key("search")).status_code == 200


def test_a_day_has_so_many_requests_over_all_replicas(folder: Path, key: CardOf) -> None:
    few = key("search", requests_per_day=5, requests_per_minute=0)
    settings = settings_for(folder)
    with serve(settings) as one, serve(settings) as other:
        assert [one.get("/v1/model", headers=few).status_code for _ in range(3)] == [200] * 3
        one.app.state.access.quotas.write()
        answers = [other.get("/v1/model", headers=few) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert problem(answers[2]) == (429, "quota-used-up") and 1 <= int(answers[2].headers["retry-after"]) <= 86_400
        other.app.state.access.quotas.write()
        assert one.get("/v1/model", headers=few).status_code == 200  # as it was when it last looked
        one.app.state.access.quotas.write()
        assert one.get("/v1/model", headers=few).status_code == 429
    with opened(folder) as catalog:
        (record,) = list_keys(catalog)
        assert usage_on(catalog, now().date())[f"key:{record.id}"] == 6
        assert record.last_used_on == now().date()


def test_what_was_counted_is_written_when_the_service_ends_and_kept_when_the_database_is_down(
    folder: Path, key: CardOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = key("search")
    with serve(settings_for(folder)) as client:
        assert client.get("/v1/model", headers=mine).status_code == 200
        quotas = client.app.state.access.quotas
        with monkeypatch.context() as broken:
            broken.setattr(
                "service.access.quotas.add_usage", lambda *_: (_ for _ in ()).throw(sa.exc.SQLAlchemyError())
            )
            with pytest.raises(sa.exc.SQLAlchemyError):
                quotas.write()
    with opened(folder) as catalog:
        assert sum(usage_on(catalog, now().date()).values()) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_loopback_may_be_served_without_authentication(sqlite_catalog: Catalog, tmp_path: Path, host: str) -> None:
    require_safe_exposure(settings_for(tmp_path, host=host), sqlite_catalog)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.10", "alta.hospital.example"])
def test_other_addresses_are_served_only_where_somebody_can_authenticate(
    sqlite_catalog: Catalog, tmp_path: Path, host: str
) -> None:
    settings = settings_for(tmp_path, host=host)
    with pytest.raises(InputError, match="alta keys create"):
        require_safe_exposure(settings, sqlite_catalog)
    create_key(sqlite_catalog, "old", ["search"], "test", expires_at=now() - timedelta(days=1))
    with pytest.raises(InputError, match="alta keys create"):
        require_safe_exposure(settings, sqlite_catalog)
    provider = settings_for(tmp_path, host=host, oidc_issuer="https://idp.example", oidc_audience="alta")
    require_safe_exposure(provider, sqlite_catalog)
    create_key(sqlite_catalog, "new", ["search"], "test")
    require_safe_exposure(settings, sqlite_catalog)
    with pytest.raises(InputError, match="loopback only"):
        require_safe_exposure(settings_for(tmp_path, host=host, authentication="off"), sqlite_catalog)


def test_without_the_database_nobody_is_let_in_and_the_answer_says_why(
    folder: Path, key: CardOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = key("search")
    gone = ArchiveError("The database of postgresql://alta@database cannot be used.", "database-unavailable")
    with serve(settings_for(folder)) as client:
        monkeypatch.setattr(authentication, "find_key", raising(gone))
        answer = client.get("/v1/model", headers=mine)
        assert problem(answer) == (503, "archive-error") and "postgresql" not in answer.text
        assert client.get("/livez").status_code == 200


def test_many_at_once_are_counted_each(folder: Path, key: CardOf) -> None:
    mine = key("search", requests_per_day=20, requests_per_minute=0)
    with serve(settings_for(folder)) as client, ThreadPoolExecutor(8) as callers:
        codes = list(callers.map(lambda _: client.get("/v1/model", headers=mine).status_code, range(30)))
    assert (codes.count(200), codes.count(429)) == (20, 10)
