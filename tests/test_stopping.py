"""Told to stop, a service answers what it took, takes no more, and ends well."""

import json
import os
import signal
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.live_service import PATIENCE, answers, process, until

pytest_plugins = ["tests.service_fixtures"]


def environment(archive_folder: Path, **settings: object) -> Mapping[str, str]:
    chosen = {"data_dir": archive_folder, "decode_workers": 1, "log_format": "json", **settings}
    return {**os.environ, **{f"ALTA_{name.upper()}": str(value) for name, value in chosen.items()}}


def ask(url: str) -> httpx.Response:
    return httpx.post(f"{url}/v1/search/text-to-image", json={"text": "slow"}, timeout=PATIENCE)


def test_a_request_under_way_is_answered_and_no_other_is_taken(archive_folder: Path, tmp_path: Path) -> None:
    with (
        process("tests.serve_slowly", tmp_path, environment=environment(archive_folder)) as (service, url),
        ThreadPoolExecutor(1) as client,
    ):
        answer = client.submit(ask, url)
        until((tmp_path / "entered").exists, "the request is worked on")
        service.send_signal(signal.SIGTERM)
        until(lambda: not answers(url), "connections are refused")
        assert not answer.done()
        (tmp_path / "gate").touch()
        assert answer.result().status_code == 200
        _, log = service.communicate(timeout=PATIENCE)
    assert service.returncode == 0
    messages = [json.loads(line)["message"] for line in log.splitlines()]  # uvicorn's lines too
    assert [message for message in messages if message.startswith("Finished server process")]


def test_while_it_drains_it_says_so_and_answers(archive_folder: Path, tmp_path: Path) -> None:
    with process("tests.serve_slowly", tmp_path, environment=environment(archive_folder, drain_s=3600)) as (
        service,
        url,
    ):
        assert httpx.get(f"{url}/readyz").status_code == 200
        service.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{url}/readyz").json()["reasons"] == ["stopping"], "it says that it stops")
        (tmp_path / "gate").touch()
        assert ask(url).status_code == 200
        service.send_signal(signal.SIGTERM)  # at once
        assert service.wait(PATIENCE) == 0


@pytest.mark.slow  # as long as the shortest limit, and a start
def test_a_request_that_does_not_end_is_cut_off(archive_folder: Path, tmp_path: Path) -> None:
    settings = environment(archive_folder, shutdown_timeout_s=1)
    with (
        process("tests.serve_slowly", tmp_path, environment=settings) as (service, url),
        ThreadPoolExecutor(1) as client,
    ):
        answer = client.submit(ask, url)
        until((tmp_path / "entered").exists, "the request is worked on")
        service.send_signal(signal.SIGTERM)
        assert answer.result(PATIENCE).status_code == 500  # uvicorn's own
        assert service.wait(PATIENCE) == 1
