"""A call as a value: what to send and how to read the answer, whichever way it is sent."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Generic, TypeAlias, TypeVar

import httpx

__all__ = ["Call", "File", "bytes_of", "json_of", "nothing_of"]

T = TypeVar("T")

File: TypeAlias = "str | os.PathLike[str] | bytes | BinaryIO"
"""A path, which is opened and streamed; bytes; or a binary stream, which is read from where it stands."""


@dataclass(frozen=True)
class Call(Generic[T]):
    """parse: an answer to the result. repeatable: sent twice it does no more than sent once. also: statuses from 400 on
    that are results, not problems.

    files: form fields and their files. headers: of this call.
    """

    method: str
    path: str
    parse: Callable[[httpx.Response], T]
    repeatable: bool = True
    also: tuple[int, ...] = ()
    query: Mapping[str, str | list[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    form: Mapping[str, str | list[str]] = field(default_factory=dict)
    files: Sequence[tuple[str, File]] = ()

    def can_be_sent_again(self) -> bool:
        """Streams that cannot be rewound can be sent once."""
        return all(isinstance(file, (str, os.PathLike, bytes)) or file.seekable() for _, file in self.files)

    def form_files(self, opened: ExitStack) -> list[tuple[str, tuple[str, bytes | BinaryIO, str]]]:
        """For httpx. Files are sent under neutral names: their own may be about a patient."""
        return [
            (name, (f"file-{number}", _open(file, opened), "application/octet-stream"))
            for number, (name, file) in enumerate(self.files)
        ]


def json_of(response: httpx.Response) -> Any:
    return response.json()


def nothing_of(response: httpx.Response) -> None:
    return None


def bytes_of(response: httpx.Response) -> bytes:
    return response.content


def _open(file: File, opened: ExitStack) -> bytes | BinaryIO:
    if isinstance(file, bytes):
        return file
    if isinstance(file, (str, os.PathLike)):
        return opened.enter_context(open(file, "rb"))
    if file.seekable():
        file.seek(0)
    return file
