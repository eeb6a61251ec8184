"""Decoding in processes of its own, and the log of the service."""

import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from index import DecoderPool
from model.errors import ImageError
from service.logs import LOGGERS, configure_logging
from service.query.decoding import decode_upload
from tests import test_reduced_decoding as reduced
from tests.fakes import FakeEncoder
from tests.service_samples import Film, form, png, serve, settings_for

pytest_plugins = ["tests.service_fixtures"]

CRASH = b"crash"


def crash_on_demand(data: bytes, transform):
    """Stands in for a decoder with a hole; runs in the worker."""
    if data == CRASH:
        os._exit(1)
    return decode_upload(data, transform)


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecoderPool]:
    made = DecoderPool(1)
    yield made
    made.close()


def test_a_worker_gives_the_same_pixels(decoder: DecoderPool) -> None:
    transform = FakeEncoder().transform
    for data in (png(), Film("1.2.9.1", 3).dicom()):
        apart, here = decoder(decode_upload, data, transform), decode_upload(data, transform)
        assert np.array_equal(apart.pixels, here.pixels)
        assert (apart.format, apart.facts) == (here.format, here.facts)


def test_a_film_read_at_a_fraction_lies_as_the_whole_one(tmp_path: Path) -> None:
    """How encoder input lies on the film does not depend on how much of the file was decoded for it."""
    film = reduced.film(PatientOrientation=["R", "F"])
    path = tmp_path / "film.dcm"
    path.write_bytes(reduced.data_of(reduced.compressed(film)))
    small, whole = decode_upload(path, reduced.TRANSFORM), decode_upload(reduced.data_of(film), reduced.TRANSFORM)
    assert small.geometry == whole.geometry
    assert small.geometry is not None
    assert (small.geometry.height, small.geometry.width) == (reduced.ROWS, reduced.COLUMNS)
    assert small.geometry.mirrored == (True, False)


def test_errors_of_the_function_come_back(decoder: DecoderPool) -> None:
    with pytest.raises(FileNotFoundError):
        decoder(os.stat, "/no/such/file")


def test_a_crash_is_an_error_of_that_file_and_the_next_one_is_decoded(decoder: DecoderPool) -> None:
    with pytest.raises(ImageError) as caught:
        decoder(os._exit, 1)
    assert caught.value.slug == "decoder-crashed"
    assert decoder(len, b"ab") == 2


def test_an_upload_that_crashes_its_decoder_is_a_problem_and_the_service_goes_on(
    archive_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.query.uploads.decode_upload", crash_on_demand)
    with serve(settings_for(archive_folder, decode_workers=1)) as client:
        crashed = client.post("/v1/search/image-to-text", files=form(CRASH))
        assert (crashed.status_code, crashed.json()["type"]) == (422, "/problems/decoder-crashed")
        assert client.post("/v1/search/image-to-text", files=form(png())).status_code == 200


def test_only_as_many_images_are_decoded_at_once_as_there_are_workers() -> None:
    decoder, running, most = DecoderPool(0), threading.Semaphore(1), []

    def decode() -> None:
        most.append(running.acquire(blocking=False))
        threading.Event().wait(0.01)
        running.release()

    with ThreadPoolExecutor(4) as callers:
        for call in [callers.submit(decoder, decode) for _ in range(4)]:
            call.result()
    assert most == [True] * 4


@pytest.fixture
def restored_loggers() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.level, logger.handlers, logger.propagate) for logger in loggers]
    yield
    for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers, logger.propagate = handlers, propagate


@pytest.mark.usefixtures("restored_loggers")
def test_our_messages_are_written_once_whatever_the_root_logger_does(
    archive_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("info")
    configure_logging("info")
    with serve(settings_for(archive_folder)) as client:
        client.get("/livez", headers={"X-Request-ID": "pacs-42"})
    logging.getLogger("index.embedding.job").debug("too small")
    logging.getLogger("other").info("not ours")
    lines = capsys.readouterr().err.splitlines()
    assert (
        len(
            [line for line in lines if "INFO service.middleware: GET /livez 200" in line and line.endswith("[pacs-42]")]
        )
        == 1
    )
    assert not [line for line in lines if "too small" in line or "not ours" in line]


@pytest.mark.usefixtures("restored_loggers")
def test_the_log_names_errors_without_their_messages(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning")
    try:
        int(Film("1.2.9.1", 1).name)  # the message quotes it
    except ValueError:
        logging.getLogger("index.embedding.job").exception("study row 1 cannot be read")
    written = capsys.readouterr().err
    assert "study row 1" in written
    assert "ValueError" in written
    assert "Secret" not in written
