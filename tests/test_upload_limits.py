"""Hostile uploads on the running service: refused for what they are, before they take memory."""

import contextlib
import gzip
import io
import json
import os
import shutil
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import httpx
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from service import http_protocol
from tests.live_service import live
from tests.service_samples import Film, form, pattern, png, settings_for

pytest_plugins = ["tests.service_fixtures"]

SEARCH = "/v1/search/image-to-text"
MEBIBYTE = 2**20
MANY = 200  # answers of openapi.json are more than the buffers of two sockets hold


@pytest.fixture(scope="module")
def url(archive_folder: Path) -> Iterator[str]:
    """The service on a socket, with one decoder process."""
    with live(settings_for(archive_folder, decode_workers=1, max_upload_mb=16, max_files=3)) as found:
        assert httpx.post(found + SEARCH, files=form(png())).status_code == 200  # decoder and libraries are loaded
        yield found


def family(pid: int) -> list[int]:
    """A process and all that it and its children started; decoders are grandchildren."""
    children: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError):  # a thread that ended
            children += map(int, file.read_text().split())
    return [pid, *(found for child in children for found in family(child))]


def peak(pid: int) -> int:
    """Bytes of memory that a process held at most since ``forget_peaks``."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def forget_peaks() -> dict[int, int]:
    pids = family(os.getpid())
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    return {pid: peak(pid) for pid in pids}


@cache
def zeros() -> bytes:
    """256 MiB of them, compressed to a quarter of one."""
    return zlib.compress(bytes(256 * MEBIBYTE), 9)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, *extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", zeros()) + chunk(b"IEND", b"")


def jpeg_of(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (16, 16)).save(stream, "JPEG")
    data = stream.getvalue()
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def dicom_of(rows: int, columns: int) -> bytes:
    return Film("1.2.9.1", 1, extra={"Rows": rows, "Columns": columns}).dicom()


def jpeg_2000_dicom(rows: int, columns: int) -> bytes:
    """The header says the truth about a small image; the codestream claims rows x columns."""
    dataset = pydicom.dcmread(io.BytesIO(Film("1.2.9.1", 1).dicom()))
    dataset.compress(JPEG2000Lossless)
    frame = bytearray(pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1))
    place = frame.index(b"\xff\x4f\xff\x51") + 8
    frame[place : place + 8] = struct.pack(">II", columns, rows)
    frame[place + 16 : place + 24] = struct.pack(">II", columns, rows)  # one tile
    dataset.PixelData = encapsulate([bytes(frame)])
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def deflated_dicom() -> bytes:
    plain = Film("1.2.9.1", 1).dicom()
    deflated = plain.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99\0")
    length = plain.index(b"1.2.840.10008.1.2.1\0") - 2
    deflated = deflated[:length] + struct.pack("<H", 22) + b"1.2.840.10008.1.2.1.99" + deflated[length + 25 :]
    compressor = zlib.compressobj(9, wbits=-15)
    return deflated[: length + 24] + compressor.compress(bytes(256 * MEBIBYTE)) + compressor.flush()


BOMBS = {
    "png of 4 gigapixels": (lambda: png_of(65535, 65535), "too-many-pixels"),
    "png of one endless row": (lambda: png_of(2**31 - 1, 1), "too-many-pixels"),
    "png with a colour profile of 256 MiB": (
        lambda: png_of(96, 96, chunk(b"iCCP", b"x\0\0" + zeros())), "truncated",
    ),
    "png with a text of 256 MiB": (lambda: png_of(96, 96, chunk(b"zTXt", b"x\0\0" + zeros())), "truncated"),
    "png with an international text of 256 MiB": (
        lambda: png_of(96, 96, chunk(b"iTXt", b"x\0\1\0\0\0" + zeros())), "truncated",
    ),
    "png with more pixels than it says": (lambda: png_of(96, 96), "blank-image"),
    "jpeg of 4 gigapixels": (lambda: jpeg_of(65500, 65500), "too-many-pixels"),
    "dicom of 3.6 gigapixels": (lambda: dicom_of(60000, 60000), "too-many-pixels"),
    "dicom whose jpeg 2000 has 3.6 gigapixels": (lambda: jpeg_2000_dicom(60000, 60000), "undecodable"),
    "deflated dicom": (deflated_dicom, "unsupported-transfer-syntax"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_and_takes_no_memory(url: str, name: str) -> None:
    make, slug = BOMBS[name]
    bomb = make()
    before = forget_peaks()
    answer = httpx.post(url + SEARCH, files=form(bomb), timeout=60)
    assert answer.json()["type"] == f"/problems/{slug}", answer.text
    for pid, held in before.items():
        assert peak(pid) - held < 64 * MEBIBYTE, "it was unpacked"


def test_the_largest_usable_picture_is_no_bomb(url: str) -> None:
    stream = io.BytesIO()
    Image.fromarray((pattern(3) // 16).astype("uint8")).resize((6000, 6000)).save(stream, "PNG")
    before = forget_peaks()
    assert httpx.post(url + SEARCH, files=form(stream.getvalue()), timeout=60).status_code == 200
    assert max(peak(pid) - held for pid, held in before.items()) > 64 * MEBIBYTE  # so that is what unpacking takes


@pytest.mark.parametrize("make", [deflated_dicom, lambda: dicom_of(60000, 60000)], ids=["deflated", "gigapixels"])
def test_a_bomb_that_is_stored_is_refused_as_well(
    archive_folder: Path, tmp_path: Path, make: Callable[[], bytes]
) -> None:
    shutil.copytree(archive_folder, tmp_path / "data")
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=x'}

    def store(url: str, film: bytes) -> int:
        body = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + film + b"\r\n--x--\r\n"
        return httpx.post(f"{url}/dicomweb/studies", content=body, headers=headers, timeout=60).status_code

    with live(settings_for(tmp_path / "data", decode_workers=1, receive=True, min_free_mb=0)) as url:
        assert store(url, Film("1.2.9.2", 2).dicom()) == 200
        before = forget_peaks()
        assert store(url, make()) == 409
        assert all(peak(pid) - held < 64 * MEBIBYTE for pid, held in before.items())


def multipart(*parts: bytes) -> dict[str, object]:
    body = b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n"
    return {"content": body, "headers": {"Content-Type": "multipart/form-data; boundary=x"}}


def field(name: str, value: bytes, *headers: bytes) -> bytes:
    head = (
        b'Content-Disposition: form-data; name="'
        + name.encode()
        + b'"\r\n'
        + b"".join(line + b"\r\n" for line in headers)
    )
    return head + b"\r\n" + value


@pytest.mark.parametrize(
    ("parts", "status", "slug"),
    [
        ([b'Content-Disposition: form-data; name="files"; filename="f"\r\n\r\nx'] * 4, 413, "too-many-files"),
        ([field("views", b"PA")] * 3001, 400, "bad-request"),
        ([field("views", bytes(MEBIBYTE + 1))], 400, "bad-request"),
        ([field("views", b"PA", *[b"X-Part: 1"] * 9)], 400, "bad-request"),
        ([field("views", b"PA", b"X-Part: " + 5000 * b"1")], 400, "bad-request"),
    ],
    ids=["files", "fields", "size of a field", "headers of a part", "size of a header"],
)
def test_a_form_has_so_many_parts_of_such_a_size(url: str, parts: list[bytes], status: int, slug: str) -> None:
    answer = httpx.post(url + SEARCH, **multipart(*parts))
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}"), answer.text


@pytest.mark.parametrize("path", ["/v1/search/text-to-image", "/v1/search/page"])
@pytest.mark.parametrize("opened", [b"[", b'{"text":'])
def test_json_of_any_depth_is_answered(url: str, path: str, opened: bytes) -> None:
    body = opened * (MEBIBYTE // len(opened) - 1)
    answer = httpx.post(url + path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400


def test_json_has_a_mebibyte_at_most(url: str) -> None:
    before = forget_peaks()
    answer = httpx.post(f"{url}/v1/search/text-to-image", json={"text": "a" * (MEBIBYTE + 1)}, timeout=60)
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/file-too-large")
    largest = json.dumps({"text": "a", "filters": {"exclude_study": [[]] * 150_000}})
    assert (
        httpx.post(
            f"{url}/v1/search/text-to-image",
            content=largest,
            headers={"Content-Type": "application/json"},
            timeout=60,
        ).status_code
        == 422
    )
    assert all(peak(pid) - held < 128 * MEBIBYTE for pid, held in before.items())


def test_compressed_bodies_are_not_unpacked(url: str) -> None:
    body = gzip.compress(json.dumps({"text": "effusion"}).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = httpx.post(f"{url}/v1/search/text-to-image", content=body, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (415, "/problems/compressed-body")
    assert answer.headers["accept-encoding"] == "identity"


def connected(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def read_all(connection: socket.socket) -> bytes:
    pieces = []
    while piece := connection.recv(4096):
        pieces.append(piece)
    return b"".join(pieces)


def test_who_does_not_end_the_head_of_a_request_is_not_waited_for(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.2)
    with connected(url) as silent, connected(url) as slow, connected(url) as second:
        slow.sendall(b"GET /livez HTTP/1.1\r\nHost: loc")
        second.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in second.recv(4096)
        second.sendall(b"GET /livez HT")
        for connection in (silent, slow, second):
            read = read_all(connection)
            assert b"HTTP/1.1 400" in read and b"within" in read


def test_a_body_may_come_later_than_its_head(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.05)
    with connected(url) as connection, connected(url) as late:
        body = b'{"text": "effusion"}'
        lines = ("POST /v1/search/text-to-image HTTP/1.1", "Host: localhost", "Content-Type: application/json")
        head = "\r\n".join((*lines, f"Content-Length: {len(body)}", "Connection: close", "", ""))
        connection.sendall(head.encode())
        late.sendall(b"GET")
        assert b"within" in read_all(late)  # so the time of a head is over
        connection.sendall(body)
        assert b"200 OK" in connection.recv(65536)


def test_a_request_that_has_its_answer_is_not_waited_for(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.2)
    with connected(url) as connection:
        connection.sendall(b"POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        assert b"405" in connection.recv(4096)
        connection.sendall(b"a")  # from here uvicorn would wait for the others
        assert b"HTTP/1.1" not in read_all(connection)


def test_who_does_not_take_an_answer_is_not_waited_for(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def connection_lost(self: http_protocol.TimedProtocol, exc: Exception | None) -> None:
        forget(self, exc)
        ended.set()

    forget = http_protocol.TimedProtocol.connection_lost
    monkeypatch.setattr(http_protocol.TimedProtocol, "connection_lost", connection_lost)
    monkeypatch.setattr(http_protocol, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(http_protocol, "SLOWEST_BYTES", 2**30)
    with connected(url) as connection:
        connection.sendall(MANY * b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert ended.wait(30)


def test_a_request_behind_an_answer_that_nobody_takes_has_no_place(archive_folder: Path) -> None:
    with live(settings_for(archive_folder, decode_workers=1, max_requests=1)) as found, connected(found) as connection:
        openapi = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection.sendall(
            MANY * openapi + b"GET /v1/studies/1.2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        assert httpx.get(found + "/v1/studies/1.2").status_code == 404
        assert read_all(connection).count(b"HTTP/1.1 ") == MANY + 1  # nothing is lost to who takes it


@pytest.mark.parametrize("charset", ["punycode", "unicode_escape", "utf-7"])
def test_a_form_is_in_utf_8(url: str, charset: str) -> None:
    """The codec is the client's to name, and of Python's some are slow and some give what no answer can quote."""
    body = b'--x\r\nContent-Disposition: form-data; name="\\ud800"\r\n\r\nb-kvaaaa\r\n--x--\r\n'
    headers = {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
    answer = httpx.post(url + "/v1/search", content=body, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (415, "/problems/wrong-media-type")


def test_a_head_that_is_too_large_is_refused_however_it_comes(url: str) -> None:
    whole = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Large: " + 40_000 * b"a" + b"\r\n\r\n"
    with connected(url) as connection:
        connection.sendall(whole)
        assert b"HTTP/1.1 400" in connection.recv(4096)


def test_a_head_without_an_end_is_refused(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Large: " + 40_000 * b"a")
        assert b"HTTP/1.1 4" in connection.recv(4096)


def test_a_proxy_that_says_nothing_of_itself_is_known_by_its_old_http(url: str) -> None:
    for version, status in ((b"1.0", b"401"), (b"1.1", b"200")):
        with connected(url) as connection:
            connection.sendall(b"GET /v1/model HTTP/%b\r\nHost: localhost\r\nConnection: close\r\n\r\n" % version)
            assert read_all(connection).startswith(b"HTTP/1.1 " + status)
