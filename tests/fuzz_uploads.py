"""Uploads made of broken files and broken bodies, any number of them, each made again from a seed and its number."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx

from tests.fuzz_dicom import (
    duplicate_chunk,
    flip_anywhere,
    make_case,
    overwrite_run,
    remove_chunk,
    swap_chunks,
    truncate,
)

__all__ = ["UploadCase", "make_upload"]

BOUNDARY = "alta-fuzz"
FORMS: Mapping[str, Mapping[str, str]] = {
    "/v1/search": {"text": "effusion", "top_k": "3"},
    "/v1/search/image-to-text": {"top_k": "3"},
    "/v1/search/image-to-image": {"views": "PA"},
    "/v1/zero-shot": {"labels": "Pneumothorax"},
    "/v1/similarity-map": {"phrase": "effusion"},
}
STOW = "/dicomweb/studies"
OF_BODIES = (flip_anywhere, overwrite_run, truncate, remove_chunk, duplicate_chunk, swap_chunks)


@dataclass(frozen=True)
class UploadCase:
    path: str
    done: tuple[str, ...]  # what was done to it, for whoever reads of a failure
    content_type: str
    body: bytes

    def send(self, client: httpx.Client) -> httpx.Response:
        return client.post(self.path, content=self.body, headers={"Content-Type": self.content_type})


def make_upload(bases: Mapping[str, bytes], seed: int, number: int) -> UploadCase:
    """Case ``number`` of a seed. One in four has a whole file or two in a body that is broken itself."""
    chance = random.Random(f"upload:{seed}:{number}")
    path = chance.choice((*FORMS, STOW))
    whole = chance.random() < 0.25
    files, done = [], []
    for extra in range(chance.choice((1, 1, 1, 2))):
        if whole:
            files.append(bases[chance.choice(sorted(bases))])
        else:
            case = make_case(bases, seed, 1_000_000 * extra + number)
            files.append(case.data)
            done += [case.base, *case.mutations]
    form = dict(FORMS.get(path, {}))
    if path != STOW and chance.random() < 0.5:
        form["check_image"] = "false"  # or most would be refused for not looking like a chest
    body = bytearray(_related(files) if path == STOW else _form(form, files, chance.choice(("files", "prior_files"))))
    if whole:
        mutation: Callable[[bytearray, random.Random], None] = chance.choice(OF_BODIES)
        mutation(body, chance)
        done += ["body", mutation.__name__]
    kind = 'multipart/related; type="application/dicom"' if path == STOW else "multipart/form-data"
    return UploadCase(path, tuple(done), f"{kind}; boundary={BOUNDARY}", bytes(body))


def _form(fields: Mapping[str, str], files: list[bytes], second: str) -> bytes:
    """The first file is of the current study; ``second``: the field of those after it."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    for number, data in enumerate(files):
        name = second if number else "files"
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="f{number}"\r\n\r\n'
        parts += [head.encode(), data, b"\r\n"]
    return b"".join((*parts, f"--{BOUNDARY}--\r\n".encode()))


def _related(files: list[bytes]) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join((*(head + data + b"\r\n" for data in files), f"--{BOUNDARY}--\r\n".encode()))
