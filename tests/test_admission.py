"""Only so many requests are worked on; the next is turned away unread; who leaves is no longer worked for."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.service_samples import serve, settings_for
from tests.test_batching import TEXT_TO_IMAGE, GatedEncoder, Waiting

pytest_plugins = ["tests.service_fixtures"]


def test_one_request_too_many_is_turned_away_unread_and_others_go_on(archive_folder: Path) -> None:
    encoder = GatedEncoder()
    with (
        serve(settings_for(archive_folder, max_requests=2), encoder) as client,
        ThreadPoolExecutor(4) as callers,
    ):
        waiting = Waiting(client, encoder, callers)
        taken = [waiting.occupy(), waiting.ask("the second")]
        waiting.until_waiting(texts=1)

        refused = client.post(TEXT_TO_IMAGE, content=never_read(), headers={"content-type": "application/json"})
        assert (refused.status_code, refused.json()["type"]) == (429, "/problems/overloaded")
        assert refused.headers["Retry-After"] == "1" and refused.headers["X-Request-ID"]
        assert client.get("/v1/model").status_code == 429
        for path in ("/livez", "/", "/openapi.json", "/problems/overloaded", "/readyz"):
            assert client.get(path).status_code == 200
        assert waiting.inference.depths == {"studies": 0, "texts": 1, "ensembles": 0}

        encoder.gate.set()
        assert [answer.result()[0] for answer in taken] == [200, 200]
        assert client.get("/v1/model").status_code == 200


def never_read():  # type: ignore[no-untyped-def]
    yield b"{"
    raise AssertionError("the body of a request that is turned away was read")
