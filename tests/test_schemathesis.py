"""Requests made from the OpenAPI document: whatever is sent, answers are what the document says, and none is a 5xx.

New routes are covered by being in the document. ALTA_TEST_SEED gives other requests than the usual ones.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, seed, settings
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
from tests.service_samples import A1, Film, settings_for

pytest_plugins = ["tests.service_fixtures"]

RELATED = 'multipart/related; type="application/dicom"'
FILM = Film("1.2.9.1", 1).dicom()
SEED = int(os.environ.get("ALTA_TEST_SEED", "0"))
CHECKS = (
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)


def requests_of(coverage: bool) -> schemathesis.BaseSchema:
    """coverage: also each limit of each field in turn, some hundreds of requests a call."""
    schema = schemathesis.openapi.from_dict(create_app(Settings()).openapi())
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
    if known:
        case.path_parameters = {
            name: A1 if name == "study_instance_uid" else value for name, value in case.path_parameters.items()
        }
        if isinstance(case.body, dict) and "files" in case.body:
            case.body["files"] = [FILM]
        elif case.media_type == RELATED and isinstance(case.body, list):
            case.body = [FILM]
    case.call_and_validate(base_url=url, checks=list(CHECKS), timeout=30)


@schemathesis.serializer(RELATED)
def related(context: SerializationContext, value: Any) -> dict[str, Any]:
    """Parts of a STOW-RS body."""
    parts = value if isinstance(value, list) else [value]
    body = b"".join(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + _bytes(part) + b"\r\n" for part in parts)
    return {"data": body + b"--b--\r\n", "headers": {"Content-Type": f"{RELATED}; boundary=b"}}


def _bytes(part: object) -> bytes:
    part = getattr(part, "data", part)
    return part if isinstance(part, bytes) else str(part).encode(errors="replace")


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
