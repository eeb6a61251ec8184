"""The errors a user can meet, one small tree for the whole product.

    AltaError
      InputError              the caller's data cannot be used
        ImageError            a file is no usable radiograph
        TextError             a text cannot be encoded
      CheckpointError         encoders cannot be loaded
      ArchiveError            the archive cannot answer (raised by ``index``)
        UnknownStudy
        EmptyIndex
        ModelMismatch

Every error has a ``slug``: a stable, lower-case, hyphenated name of what went wrong. It is the reason
kept beside a refused file and the last part of the problem ``type`` over HTTP (RFC 9457). Messages say
what was expected, what was found and what to do.
"""

__all__ = [
    "AltaError",
    "ArchiveError",
    "CheckpointError",
    "EmptyIndex",
    "ImageError",
    "InputError",
    "ModelMismatch",
    "TextError",
    "UnknownStudy",
]


class AltaError(Exception):
    """Base of all errors of this product."""

    slug = "error"

    def __init__(self, message: str, slug: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if slug is not None:
            self.slug = slug


class InputError(AltaError):
    slug = "bad-input"


class ImageError(InputError):
    slug = "not-an-image"


class TextError(InputError):
    slug = "bad-text"


class CheckpointError(AltaError):
    slug = "bad-checkpoint"


class ArchiveError(AltaError):
    slug = "archive-error"


class UnknownStudy(ArchiveError):
    slug = "unknown-study"


class EmptyIndex(ArchiveError):
    slug = "empty-index"


class ModelMismatch(ArchiveError):
    slug = "model-mismatch"
