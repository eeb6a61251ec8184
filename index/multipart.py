"""Multipart bodies part by part: multipart/related (RFC 2387), as DICOMweb sends them both ways (PS3.18 8.6.1.2.1), and
forms of files (RFC 7578).

Nothing is held but the chunk at hand, so a part can be as large as a file. ``python-multipart`` finds the boundaries.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from python_multipart.exceptions import ParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from model.errors import InputError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks  # exists for type checkers only

__all__ = ["Part", "media_type", "read_parts"]

# RFC 2046 5.1.1, which allows 70 characters; Orthanc sends 73.
BOUNDARY: Final = re.compile(r"[A-Za-z0-9'()+_,./:=? -]{0,199}[A-Za-z0-9'()+_,./:=?-]")
MAX_HEADERS: Final = 16
MAX_HEADER_BYTES: Final = 4096


class Part:
    """One part, to be read before the next one is asked for. ``headers``: names in lower case."""

    def __init__(self, body: "_Body", headers: dict[str, str]) -> None:
        self.headers = headers
        self._body = body
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most ``size``; none at the end. Raises InputError bad-multipart: the body ends early."""
        data = [self._rest]
        held = len(self._rest)
        while size < 0 or held < size:
            chunk = self._body.data()
            if chunk is None:
                break
            data.append(chunk)
            held += len(chunk)
        whole = b"".join(data)
        cut = held if size < 0 else size
        self._rest = whole[cut:]
        return whole[:cut]

    @property
    def media_type(self) -> str:
        """Its Content-Type without parameters, in lower case; empty where it names none."""
        return media_type(self.headers.get("content-type", ""))[0]


def media_type(header: str) -> tuple[str, dict[str, str]]:
    """A Content-Type header as type and parameters, the names in lower case."""
    kind, parameters = parse_options_header(header)
    return kind.decode("latin-1"), {key.decode("latin-1"): value.decode("latin-1") for key, value in parameters.items()}


def read_parts(
    content_type: str, chunks: Iterable[bytes], most: int, expected: str = "multipart/related"
) -> Iterator[Part]:
    """The parts of a body, which comes as ``chunks`` of any length.

    Raises InputError: wrong-media-type (not of the expected type), bad-multipart (no usable boundary, broken or without
    its end, more than ``most`` parts).
    """
    kind, parameters = media_type(content_type)
    if kind != expected:
        raise InputError(f"Expected {expected}, found {kind or 'no Content-Type'}.", "wrong-media-type")
    boundary = parameters.get("boundary", "")
    if not BOUNDARY.fullmatch(boundary):
        raise _broken("Expected a boundary of 1 to 200 characters (RFC 2046 5.1.1) in the Content-Type.")
    body = _Body(boundary, iter(chunks))
    count = 0
    while (headers := body.next_part()) is not None:
        count += 1
        if count > most:
            raise _broken(f"The body has more than {most} parts.")
        yield Part(body, headers)


class _Body:
    """What python-multipart calls back, in the order of the body: headers, pieces of data, the end of each part."""

    def __init__(self, boundary: str, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._met: deque[dict[str, str] | bytes | None] = deque()  # headers, data, None for the end of a part
        self._ended = False
        self._inside = False
        self._headers: dict[str, str] = {}
        self._name, self._value = b"", b""
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_part_data": self._add_data,
            "on_part_end": lambda: self._met.append(None),
            "on_header_field": self._add_name,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": lambda: self._met.append(self._headers),
            "on_end": self._end,
        }
        self._parser = MultipartParser(
            boundary, callbacks, max_header_count=MAX_HEADERS, max_header_size=MAX_HEADER_BYTES
        )

    def next_part(self) -> dict[str, str] | None:
        """Headers of the next part; None after the last one. What is left of the part before is skipped."""
        while self._inside:
            self.data()
        event = self._next()
        if event is None:
            return None
        assert isinstance(event, dict)
        self._inside = True
        return event

    def data(self) -> bytes | None:
        """The next piece of the part; None at its end."""
        if not self._inside:
            return None
        event = self._next()
        if event is None:
            self._inside = False
            return None
        assert isinstance(event, bytes)
        return event

    def _next(self) -> dict[str, str] | bytes | None:
        while not self._met:
            if self._ended:
                for _ in self._chunks:  # an epilogue is no content, and a connection has to be read to its end
                    pass
                return None
            chunk = next(self._chunks, None)
            if chunk is None:
                raise _broken("The body ends before its closing boundary.")
            try:
                self._parser.write(chunk)
            except ParseError:  # its message quotes the body
                raise _broken("Expected parts of headers and content between boundaries (RFC 2046 5.1).") from None
        return self._met.popleft()

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._met.append(data[start:end])

    def _begin(self) -> None:
        self._headers = {}

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value.decode("latin-1").strip()
        self._name, self._value = b"", b""

    def _end(self) -> None:
        self._ended = True


def _broken(message: str) -> InputError:
    return InputError(message, "bad-multipart")
