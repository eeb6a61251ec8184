"""The members of a zip file, read within limits: what a hostile one declares is not believed.

A file without its table of contents, such as one that was cut short, is read from its start, member by member.
"""

import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Final, cast

from model.errors import InputError

from ..dicom import Refusal
from ..intake.examine import MAX_FILE_BYTES

__all__ = ["Member", "members_of"]

CHUNK: Final = 2**20
IN_MEMORY: Final = 64 * 2**20  # a larger member waits in a temporary file
# Deflate packs zeros 1000-fold, a radiograph hardly ever 20-fold.
MAX_RATIO: Final = 200
ALWAYS_ALLOWED: Final = 32 * 2**20  # bytes: a black image packs well and is no attack
LOCAL_HEADER: Final = struct.Struct("<4s5H3I2H")  # .ZIP File Format Specification (APPNOTE) 4.3.7
DEFLATED, STORED = zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED
ENCRYPTED, SIZES_FOLLOW, UTF8 = 0x0001, 0x0008, 0x0800  # general purpose flags, APPNOTE 4.4.4


@dataclass(frozen=True)
class Member:
    """data: its bytes, open at the start, until the next member is asked for; None with a ``refusal``."""

    name: str
    data: BinaryIO | None = None
    refusal: Refusal | None = None


class _Ended(Exception):
    """The file ends within the member."""


class _Damaged(Exception):
    """The member's bytes cannot be unpacked, or are not those that were packed."""


class _TooMuch(Exception):
    """The member is larger than allowed; the message says how."""

    def __init__(self, why: Refusal) -> None:
        super().__init__(why.message)
        self.why = why


class _Budget:
    """How many bytes may still come out of one zip file."""

    def __init__(self, packed: int) -> None:
        self._total = max(packed * MAX_RATIO, ALWAYS_ALLOWED)

    def spool(self, chunks: Iterable[bytes], packed: int | None) -> BinaryIO:
        allowed = self._total if packed is None else max(packed * MAX_RATIO, ALWAYS_ALLOWED)
        allowed = min(allowed, self._total)
        spool = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - the caller's to close
        size = 0
        try:
            for chunk in chunks:
                size += len(chunk)
                if size > allowed:
                    raise _TooMuch(Refusal("zip-bomb", f"Unpacking gives more than {MAX_RATIO} times the packed size."))
                if size > MAX_FILE_BYTES:
                    raise _TooMuch(Refusal("too-large", f"The member is over the limit of {MAX_FILE_BYTES} bytes."))
                spool.write(chunk)
        except BaseException:
            spool.close()
            raise
        self._total -= size
        spool.seek(0)
        return cast(BinaryIO, spool)


def members_of(path: Path, wanted: Callable[[str], bool], count: Callable[[int], None]) -> Iterator[Member]:
    """The ``wanted`` files of a zip, by name, in the order of its table of contents, folders apart.

    ``count`` is told how many there are. The last member of a file without a table of contents is the file itself,
    refused, its name empty. Raises InputError: no-such-file, not-a-zip.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error):
        # A table of contents that is broken, asks for a newer unzip (Python's NotImplementedError), or is not there.
        yield from _from_the_start(path, wanted, count)
        return
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", "no-such-file") from error
    with archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir() and wanted(entry.filename)]
        count(len(entries))
        budget = _Budget(path.stat().st_size)
        for entry in entries:
            member = _listed(archive, entry, budget)
            with member.data or nullcontext():
                yield member


def _listed(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, budget: _Budget) -> Member:
    if entry.flag_bits & ENCRYPTED:
        return Member(entry.filename, refusal=_encrypted())
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return Member(entry.filename, refusal=Refusal("not-a-file", "Expected a regular file, found a link or device."))
    try:
        with archive.open(entry) as packed:
            return Member(entry.filename, budget.spool(_chunks(packed), entry.compress_size))
    except _TooMuch as found:
        return Member(entry.filename, refusal=found.why)
    except Exception as error:  # zlib, bz2 and lzma raise each their own, zipfile several
        return Member(entry.filename, refusal=_damaged(error))


def _from_the_start(path: Path, wanted: Callable[[str], bool], count: Callable[[int], None]) -> Iterator[Member]:
    met, found = 0, 0
    budget = _Budget(path.stat().st_size)
    with path.open("rb") as file:
        while (header := file.read(LOCAL_HEADER.size))[:4] == b"PK\3\4" and len(header) == LOCAL_HEADER.size:
            member, more = _next(file, header, budget)
            met += 1
            with member.data or nullcontext():
                if not member.name.endswith("/") and wanted(member.name):
                    found += 1
                    count(found)
                    yield member
            if not more:
                break
    if not met:
        raise InputError(f"{path} is no zip file.", "not-a-zip")
    message = f"The zip file has no table of contents: it was cut short or is damaged. {found} files were met in it."
    yield Member("", refusal=Refusal("truncated", message))


def _next(file: BinaryIO, header: bytes, budget: _Budget) -> tuple[Member, bool]:
    """The member whose header was read, and whether the place of the next one is known."""
    _, _, flags, method, _, _, checksum, packed, size, name_length, extra_length = LOCAL_HEADER.unpack(header)
    name = file.read(name_length).decode("utf-8" if flags & UTF8 else "cp437", "replace")
    packed = _packed_size(file.read(extra_length), packed, size)
    start = file.tell()
    known = not flags & SIZES_FOLLOW
    chunks = _inflated(file) if method == DEFLATED else _stored(file, packed)
    try:
        if flags & ENCRYPTED:
            return Member(name, refusal=_encrypted()), known and _skip(file, start + packed)
        if method not in (DEFLATED, STORED) or (method == STORED and not known):
            why = Refusal(
                "corrupt-member", f"Expected a deflated or stored member of known size, found method {method}."
            )
            return Member(name, refusal=why), known and _skip(file, start + packed)
        data = budget.spool(_checked(chunks, checksum if known else None), packed if known else None)
        return Member(name, data), _skip(file, start + packed) if known else _after_sizes(file)
    except _TooMuch as found:
        return Member(name, refusal=found.why), known and _skip(file, start + packed)
    except _Ended:
        return Member(name, refusal=Refusal("truncated", "The zip file ends within this member.")), False
    except (zlib.error, _Damaged) as error:
        return Member(name, refusal=_damaged(error)), known and _skip(file, start + packed)


def _packed_size(extra: bytes, packed: int, size: int) -> int:
    """The packed size, where it does not fit 32 bits from the extra field (APPNOTE 4.5.3)."""
    while packed == 0xFFFFFFFF and len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        at = 4 + (8 if size == 0xFFFFFFFF else 0)
        if kind == 1 and length >= at + 4 and len(extra) >= at + 8:
            return int(struct.unpack_from("<Q", extra, at)[0])
        extra = extra[4 + length :]
    return packed


def _inflated(file: BinaryIO) -> Iterator[bytes]:
    """Up to the end that deflate itself marks, where the file then is."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while not inflater.eof:
        data = inflater.unconsumed_tail or file.read(CHUNK)
        if not data:
            raise _Ended
        yield inflater.decompress(data, CHUNK)
    file.seek(-len(inflater.unused_data), 1)


def _stored(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        data = file.read(min(CHUNK, size))
        if not data:
            raise _Ended
        size -= len(data)
        yield data


def _checked(chunks: Iterable[bytes], checksum: int | None) -> Iterator[bytes]:
    found = 0
    for chunk in chunks:
        found = zlib.crc32(chunk, found)
        yield chunk
    if checksum is not None and found != checksum:
        raise _Damaged(f"expected checksum {checksum:08x}, found {found:08x}")


def _skip(file: BinaryIO, place: int) -> bool:
    file.seek(place)
    return True


def _after_sizes(file: BinaryIO) -> bool:
    """Behind the checksum and sizes that follow a member: 12 to 24 bytes (APPNOTE 4.3.9)."""
    start = file.tell()
    ahead = file.read(24 + 4)
    found = ahead.find(b"PK\3\4", 12)
    return found >= 0 and _skip(file, start + found)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def _encrypted() -> Refusal:
    return Refusal("encrypted", "The member is encrypted. Unpack it with its password and ingest the folder.")


def _damaged(error: Exception) -> Refusal:
    return Refusal("corrupt-member", f"The member cannot be unpacked: {error or type(error).__name__}.")
