"""A DICOMweb server of a hundred lines that can be told to misbehave."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydicom.dataset import Dataset

from tests.peers import file_bytes

__all__ = ["Answer", "TinyDicomWeb", "as_json", "multipart", "running"]

TAGS = {
    "0020000D": "StudyInstanceUID",
    "0020000E": "SeriesInstanceUID",
    "00080018": "SOPInstanceUID",
    "00080020": "StudyDate",
    "00080060": "Modality",
}


@dataclass(frozen=True)
class Answer:
    """``cut``: the connection ends after so many bytes of the body."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


@dataclass
class TinyDicomWeb:
    """``instead(path, number)``: what is answered instead, where it says so, to the ``number``-th request for a path.

    cap: the most results of a page, whatever the limit. offset: whether it knows that parameter.
    """

    objects: list[Dataset] = field(default_factory=list)
    instead: Callable[[str, int], Answer | None] = lambda path, number: None
    cap: int | None = None
    limits: bool = True
    offset: bool = True
    asked: list[str] = field(default_factory=list)  # paths, without the query
    authorized: set[str | None] = field(default_factory=set)
    url: str = ""

    def answer(self, target: str) -> Answer:
        parts = urlsplit(target)
        path, query = parts.path.removeprefix("/dicom-web/"), parse_qs(parts.query)
        self.asked.append(path)
        instead = self.instead(path, self.asked.count(path))
        if instead is not None:
            return instead
        names = path.split("/")
        if names == ["studies"]:
            day = query.get("StudyDate", [""])[0]
            studies = {item.StudyInstanceUID: item for item in self.objects if day in ("", item.StudyDate)}
            return self.page([as_json(item, "0020000D", "00080020") for item in studies.values()], query)
        if len(names) == 3 and names[2] == "instances":
            found = [item for item in self.objects if item.StudyInstanceUID == names[1]]
            return self.page([as_json(item, *TAGS) for item in found], query)
        for item in self.objects:
            if len(names) == 6 and item.SOPInstanceUID == names[5]:
                return multipart(file_bytes(item))
        return Answer(404)

    def retrieved(self) -> list[str]:
        """The SOP instance UIDs that were asked for, in order."""
        return [path.rpartition("/")[2] for path in self.asked if path.count("/") == 5]

    def page(self, results: list[dict[str, Any]], query: dict[str, list[str]]) -> Answer:
        """The results that a query's limit and offset choose."""
        start = int(query.get("offset", ["0"])[0]) if self.offset else 0
        limit = int(query.get("limit", ["1000000"])[0]) if self.limits else 10**6
        page = results[start : start + min(limit, self.cap or limit)]
        if not page:
            return Answer(204)
        return Answer(200, json.dumps(page).encode(), {"Content-Type": "application/dicom+json"})


def multipart(*parts: bytes, kind: str = "application/dicom") -> Answer:
    body = b"".join(b"--edge\r\nContent-Type: " + kind.encode() + b"\r\n\r\n" + part + b"\r\n" for part in parts)
    return Answer(200, body + b"--edge--\r\n", {"Content-Type": f'multipart/related; type="{kind}"; boundary=edge'})


@contextmanager
def running(server: TinyDicomWeb) -> Iterator[TinyDicomWeb]:
    """The server on a port of its own; ``url`` says which."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.authorized.add(self.headers.get("Authorization"))
            answer = server.answer(self.path)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in answer.headers:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body if answer.cut is None else answer.body[: answer.cut])
            if answer.cut is not None:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.url = f"http://127.0.0.1:{http.server_port}/dicom-web"
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def as_json(item: Dataset, *tags: str) -> dict[str, Any]:
    """Some attributes of an object in DICOM JSON (PS3.18 F.2)."""
    return {tag: {"vr": "UI", "Value": [item[TAGS[tag]].value]} for tag in tags if TAGS[tag] in item}
