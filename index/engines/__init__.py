"""Vector engines: a file of vectors by study row id, searched by inner product."""

from .flat import FlatIndex

__all__ = ["FlatIndex"]
