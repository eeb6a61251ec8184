"""HTML and FHIR's narrative to plain text."""

import html
import re
from typing import Final

__all__ = ["without_tags"]

# No "<" inside, so that a text of nothing but "<" is split in one pass.
_TAG: Final = re.compile(r"(<[^<>]*>)")
_NAME: Final = re.compile(r"<(/?)\s*([A-Za-z0-9]+)")
_BLOCKS: Final = frozenset(
    ("br", "div", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "p", "table", "td", "th", "tr")
)
_SILENT: Final = frozenset(("script", "style", "head"))


def without_tags(text: str) -> str:
    """The words of a page, a line for every block; not what is in its head or scripts."""
    parts: list[str] = []
    silent = ""
    for piece in _TAG.split(text):
        tag = _NAME.match(piece) if piece.endswith(">") else None
        if tag is None:
            if not silent and not piece.startswith("<!"):
                parts.append(re.sub(r"\s+", " ", html.unescape(piece)))
            continue
        name = tag[2].lower()
        if name == silent and tag[1]:
            silent = ""
        elif name in _SILENT and not tag[1] and not silent:
            silent = name
        if name in _BLOCKS:
            parts.append("\n")
    lines = (" ".join(line.split()) for line in "".join(parts).split("\n"))
    return "\n".join(line for line in lines if line)
