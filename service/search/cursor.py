"""Where a page of hits ended, as a client carries it: opaque, self-contained, sealed with a secret of the catalog.

It holds the query's embedding, the pseudonym of its patient and the filters, so that the next page needs neither the
images again nor a memory here: any replica can answer. AES-GCM keeps it from being read and from being changed.
"""

import base64
import binascii
import secrets
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import TypeAdapter

from index import Catalog, Place

from ..errors import RequestError
from .question import Question

__all__ = ["CURSOR_SECRET", "LIFETIME", "Bookmark", "open_cursor", "seal_cursor"]

CURSOR_SECRET: Final = "search-cursor"
LIFETIME: Final = timedelta(hours=1)
NONCE: Final = 12  # bytes
FORMAT: Final = b"alta search cursor 1"  # authenticated with it: one of another format does not open


@dataclass(frozen=True)
class Bookmark:
    question: Question
    place: Place
    expires_at: datetime


_BOOKMARK: Final = TypeAdapter(Bookmark)


def seal_cursor(question: Question, place: Place, catalog: Catalog) -> str:
    bookmark = Bookmark(question, place, datetime.now(UTC) + LIFETIME)
    nonce = secrets.token_bytes(NONCE)
    content = zlib.compress(_BOOKMARK.dump_json(bookmark))
    sealed = AESGCM(catalog.secret(CURSOR_SECRET)).encrypt(nonce, content, FORMAT)
    return base64.urlsafe_b64encode(nonce + sealed).decode()


def open_cursor(cursor: str, catalog: Catalog) -> Bookmark:
    """Raises RequestError bad-cursor: not one of this archive, changed, or too old."""
    try:
        sealed = base64.b64decode(cursor, altchars=b"-_", validate=True)
        content = AESGCM(catalog.secret(CURSOR_SECRET)).decrypt(sealed[:NONCE], sealed[NONCE:], FORMAT)
    except (InvalidTag, binascii.Error, ValueError):
        message = "Expected `next_cursor` of a reply of this archive, as it was; found something else."
        raise RequestError(message, "bad-cursor") from None
    bookmark = _BOOKMARK.validate_json(zlib.decompress(content))
    if bookmark.expires_at < datetime.now(UTC):
        raise RequestError(f"The cursor is older than {LIFETIME}. Search again.", "bad-cursor")
    return bookmark
