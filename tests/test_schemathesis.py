"""Requests made from the OpenAPI document: whatever is sent, answers are what the document says, and none is a 5xx.

New routes are covered by being in the document. ALTA_TEST_SEED gives other requests than the usual ones.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, seed, settings
from schemathesis import Case, SerializationContext
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.app import create_app
from service.settings import Settings
from tests.live_service import live
from tests.service_samples import A1, C1, Film, settings_for

pytest_plugins = ["tests.service_fixtures"]

FORM = "multipart/form-data"
BESIDE_A_FILM = ("top_k", "sex", "age_min", "evidence", "check_image", "labels", "phrase", "text", "group_reports")
RELATED = 'multipart/related; type="application/dicom"'
FILM = Film("1.2.9.1", 1).dicom()
SEED = int(os.environ.get("ALTA_TEST_SEED", "0"))
ADDRESS = 60_000  # bytes; a longer one the server itself turns away, before the service sees it
CHECKS = (
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)


def requests_of(coverage: bool) -> schemathesis.BaseSchema:
    """coverage: also each limit of each field in turn, some hundreds of requests a call."""
    document = create_app(Settings()).openapi()
    for calls in document["paths"].values():
        for operation in calls.values():
            operation.pop("security", None)  # made-up credentials would be all that is answered, and soon with 429
    schema = schemathesis.openapi.from_dict(document)
    schema.config.phases.update(phases=["examples", "coverage", "fuzzing"] if coverage else ["examples", "fuzzing"])
    return schema


some, many = requests_of(coverage=False), requests_of(coverage=True)


def bounded(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=SEED == 0,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def url(archive_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service that takes things in, on a copy of the archive."""
    folder = tmp_path_factory.mktemp("schemathesis") / "data"
    shutil.copytree(archive_folder, folder)
    with live(settings_for(folder, receive=True)) as running:
        yield running


def ask(case: Case, url: str, known: bool) -> None:
    """known: with a file that can be read and a study that is there, where the request takes such; else by chance."""
    if known and "study_instance_uid" in case.path_parameters:
        case.path_parameters["study_instance_uid"] = C1 if case.method == "DELETE" else A1
    assume(len(urlencode(case.query or {}, doseq=True)) < ADDRESS)
    answer = case.call_and_validate(base_url=url, checks=list(CHECKS), timeout=30, **_multipart(case, known))
    assert answer.status_code not in (401, 429)  # or nothing was tried


def _multipart(case: Case, known: bool) -> dict[str, Any]:
    """For the call: a body with parts that are files, where the request has one."""
    if case.media_type == FORM and isinstance(case.body, dict):
        body = {name: value for name, value in case.body.items() if not known or name in BESIDE_A_FILM}
        body |= {"files": [FILM]} if known else {}
        items = (
            (name, item) for name, value in body.items() for item in (value if isinstance(value, list) else [value])
        )
        parts = [(_disposition(name), _bytes(item)) for name, item in items]
    elif case.media_type == RELATED and isinstance(case.body, list):
        parts = [("Content-Type: application/dicom", _bytes(part)) for part in ([FILM] if known else case.body)]
    else:
        return {}
    data = b"".join(b"--b\r\n" + head.encode() + b"\r\n\r\n" + part + b"\r\n" for head, part in parts) + b"--b--\r\n"
    return {"data": data, "headers": {"Content-Type": f"{case.media_type}; boundary=b"}}


def _disposition(name: str) -> str:
    filename = '; filename="f"' if name in ("files", "prior_files") else ""
    return f'Content-Disposition: form-data; name="{name}"{filename}'


def _bytes(item: object) -> bytes:
    item = getattr(item, "data", item)
    if isinstance(item, bytes):
        return item
    return (item if isinstance(item, str) else json.dumps(item)).encode(errors="replace")


@schemathesis.serializer(RELATED)
def related(context: SerializationContext, value: Any) -> dict[str, Any]:
    """Known, so that it is asked for; what is sent is made above."""
    return {}


@some.parametrize()
@pytest.mark.parametrize("known", [False, True])
@bounded(8)
@seed(SEED)
def test_answers_are_what_the_document_says(case: Case, known: bool, url: str) -> None:
    ask(case, url, known)


@pytest.mark.slow
@many.parametrize()
@pytest.mark.parametrize("known", [False, True])
@bounded(100)
@seed(SEED)
def test_many_answers_are_what_the_document_says(case: Case, known: bool, url: str) -> None:
    ask(case, url, known)
