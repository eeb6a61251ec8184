"""Bodies in parts: every way to cut them into chunks gives the same parts, and a broken one is an error."""

import random
from collections.abc import Iterable

import pytest

from index.multipart import Part, read_parts
from model.errors import InputError

TYPE = 'multipart/related; type="application/dicom"; boundary="b-1"'
DICOM = b"Content-Type: application/dicom\r\n\r\n"


def body(*parts: bytes, start: bytes = b"", end: bytes = b"\r\n--b-1--\r\n") -> bytes:
    return start + b"\r\n".join(b"--b-1\r\n" + DICOM + part for part in parts) + end


def read(data: Iterable[bytes], content_type: str = TYPE, most: int = 100) -> list[bytes]:
    return [part.read() for part in read_parts(content_type, data, most)]


def slug_of(data: bytes, content_type: str = TYPE, most: int = 100) -> str:
    with pytest.raises(InputError) as caught:
        read([data], content_type, most)
    return caught.value.slug


# What looks like a boundary and is none, and what a binary file may hold.
PARTS = (b"", b"one", b"\r\n--b-2\r\n", b"--b-1", b"\r\n--b-", b"\r\n", b"\r\n\r\n--b", bytes(range(256)) * 20)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 10**6])
def test_parts_do_not_depend_on_how_the_body_is_cut(size: int) -> None:
    whole = body(*PARTS)
    chunks = [whole[start : start + size] for start in range(0, len(whole), size)]
    assert read(chunks) == list(PARTS)


def test_random_parts_and_cuts() -> None:
    rng = random.Random(0)
    for _ in range(200):
        parts = [bytes(rng.choices(b"\r\n-b1x", k=rng.randrange(40))) for _ in range(rng.randrange(1, 5))]
        if any(b"\r\n--b-1" in b"\r\n" + part for part in parts):
            continue
        whole = body(*parts)
        cuts = sorted(rng.choices(range(len(whole)), k=rng.randrange(12)))
        chunks = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        assert read(chunks) == parts


def test_a_part_is_read_piece_by_piece() -> None:
    (part,) = _one(body(b"0123456789"))
    assert [part.read(4), part.read(4), part.read(4), part.read(4)] == [b"0123", b"4567", b"89", b""]


def _one(data: bytes) -> Iterable[Part]:
    parts = read_parts(TYPE, [data], 9)
    yield next(parts)


def test_what_is_not_read_is_skipped() -> None:
    parts = read_parts(TYPE, [body(b"a" * 100, b"b")], 9)
    first, second = next(parts), next(parts)
    assert first.media_type == "application/dicom" and second.read() == b"b"


@pytest.mark.parametrize("start", [b"", b"\r\n"])
def test_a_line_end_before_the_first_boundary_is_allowed(start: bytes) -> None:
    assert read([body(b"x", start=start)]) == [b"x"]


def test_headers_are_read_whatever_their_case() -> None:
    data = b"--b-1\r\nCONTENT-TYPE: Application/DICOM; transfer-syntax=*\r\nContent-ID: <1>\r\n\r\nx\r\n--b-1--"
    (part,) = read_parts(TYPE, [data], 9)
    assert part.media_type == "application/dicom" and part.headers["content-id"] == "<1>"


def test_a_body_without_parts_is_empty() -> None:
    assert read([b"--b-1--\r\n"]) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no boundary at all",
        b"--other\r\n" + DICOM,
        body(b"x", end=b""),
        body(b"x", end=b"\r\n--b-1"),
        body(b"x", end=b"\r\n--b-1\r\n"),
        b"--b-1\r\nno colon\r\n\r\nx\r\n--b-1--",
        b"--b-1\r\n" + b"A: 1\r\n" * 100 + b"\r\nx\r\n--b-1--",
        b"--b-1\r\nA: " + b"x" * 10**5 + b"\r\n\r\nx\r\n--b-1--",
    ],
)
def test_a_broken_body_is_an_error(data: bytes) -> None:
    assert slug_of(data) == "bad-multipart"


@pytest.mark.parametrize(
    "content_type",
    ["multipart/related", "multipart/related; boundary=" + "x" * 201, 'multipart/related; boundary="b-1\n"'],
)
def test_a_body_without_a_usable_boundary_is_an_error(content_type: str) -> None:
    assert slug_of(body(b"x"), content_type) == "bad-multipart"


@pytest.mark.parametrize("content_type", ["", "application/dicom", "multipart/form-data; boundary=b-1"])
def test_other_media_types_are_an_error(content_type: str) -> None:
    assert slug_of(body(b"x"), content_type) == "wrong-media-type"


def test_the_number_of_parts_is_limited() -> None:
    assert slug_of(body(*[b""] * 10_000), most=9_999) == "bad-multipart"
    assert len(read([body(*[b""] * 10_000)], most=10_000)) == 10_000
