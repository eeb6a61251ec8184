"""The log: which request a line belongs to, as text and as JSON, and that it repeats nothing about a patient."""

import json
import logging
import threading
from collections.abc import Iterator

import pytest

from index import DecoderPool
from service.logs import LOGGERS, LogFormat, configure_logging
from service.observing import Work, working_on
from tests.service_samples import A1, Film, serve, settings_for

pytest_plugins = ["tests.service_fixtures"]

log = logging.getLogger("service.test")


@pytest.fixture(autouse=True)
def restored_loggers() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.level, logger.handlers, logger.propagate) for logger in loggers]
    yield
    for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers, logger.propagate = handlers, propagate


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_request_ends_with_one_json_line(archive_folder, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    with serve(settings_for(archive_folder)) as client:
        client.get(f"/v1/studies/{A1}", headers={"X-Request-ID": "pacs-42"})
    (line,) = [line for line in lines(capsys) if line["logger"] == "service.middleware"]
    assert line["level"] == "info"
    assert line["request_id"] == "pacs-42"
    assert (line["method"], line["route"], line["status"]) == ("GET", "/v1/studies/{study_instance_uid}", 200)
    assert line["milliseconds"] >= 0


@pytest.mark.parametrize("form", ["text", "json"])
def test_lines_of_a_request_name_it_and_others_do_not(form: LogFormat, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", form)
    with working_on(Work("request_id", "pacs-42")):
        log.info("inside")
    log.info("outside")
    inside, outside = capsys.readouterr().err.splitlines()
    assert "pacs-42" in inside
    assert "pacs-42" not in outside


def test_lines_from_threads_that_decode_for_a_request_name_it(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    pool = DecoderPool(0)
    with working_on(Work("request_id", "pacs-42")):
        pool(log.info, "decoding")
    pool.close()
    assert lines(capsys)[0]["request_id"] == "pacs-42"


def test_a_line_of_a_job_names_the_job(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    with working_on(Work("job_id", "j1")):
        log.info("working")
    line = lines(capsys)[0]
    assert line["job_id"] == "j1"
    assert "request_id" not in line


def test_requests_side_by_side_keep_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    both = threading.Barrier(2)

    def work(name: str) -> None:
        with working_on(Work("request_id", name)):
            both.wait(10)
            log.info(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(line["message"] == line["request_id"] for line in lines(capsys))


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("logger", ["index.intake", "uvicorn.error"])
def test_exceptions_are_written_without_their_messages(
    form: LogFormat, logger: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("warning", form)
    try:
        int(Film("1.2.9.1", 1).name)  # the message quotes it
    except ValueError:
        logging.getLogger(logger).exception("a file cannot be read")
    written = capsys.readouterr().err
    assert "a file cannot be read" in written
    assert "ValueError" in written
    assert "Secret" not in written


def test_messages_of_several_lines_are_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    log.info("one\ntwo")
    assert lines(capsys)[0]["message"] == "one\ntwo"
