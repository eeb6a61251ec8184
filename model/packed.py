"""Texts of unequal length laid end to end, so that no padding is computed.

All that is done to tokens one by one runs on the texts laid end to end. Attention runs on groups of texts of about one
length, padded to the longest of the group.

Axes: B texts, T tokens of the longest, P tokens of all texts, D width, H heads; within a group n texts, L tokens.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .dropout import dropout
from .processor import has_fused_attention

__all__ = ["PackedTexts"]

STRETCH = 1.2  # the longest text of a group over its shortest
GROUP = 64  # texts of a group at most


@dataclass(frozen=True)
class _Group:
    """Texts start .. stop - 1 of the order. ``index`` (tokens,) says where in n x L each token stands and ``readable``
    (n, 1, 1, L) is False for padding; both None where all texts are equally long."""

    start: int  # token
    stop: int
    texts: int
    longest: int
    index: Tensor | None
    readable: Tensor | None


class PackedTexts:
    """The texts of ``attention_mask`` (B, T), padding on the right, in order of their length. A text may be empty.

    ``rows`` and ``places`` (P,) name the text and the place in it of every packed token.
    """

    def __init__(self, attention_mask: Tensor) -> None:
        count, width = attention_mask.shape
        given = attention_mask.bool()
        lengths = given.sum(1)  # (B,)
        order = lengths.argsort(stable=True)
        columns = torch.arange(width, device=attention_mask.device)
        filled = columns < lengths[order][:, None]  # (B, T)
        self.rows = order[:, None].expand(-1, width)[filled]
        self.places = columns.expand(count, -1)[filled]
        self._shape = count, width
        self._where = self.rows * width + self.places  # (P,) in B x T
        *ascending, fits = torch.cat([lengths[order], (given[order] == filled).all()[None]]).tolist()
        assert fits, "padding stands on the right of a text alone"
        self._groups = _groups(ascending, attention_mask.device)

    def pack(self, padded: Tensor) -> Tensor:
        """(B, T, ...) to (P, ...)."""
        return padded.flatten(0, 1).index_select(0, self._where)

    def unpack(self, packed: Tensor) -> Tensor:
        """(P, D) to (B, T, D), zero where there is padding."""
        return _spread(packed, self._where, *self._shape)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int, drop: float) -> Tensor:
        """Every token to those of its own text: (P, D) each, to (P, D). ``drop``: share of attention dropped."""
        attended = []
        for group in self._groups:
            q, k, v = (self._take(x, group).unflatten(2, (heads, -1)).transpose(1, 2) for x in (query, key, value))
            mixed = _attention(q, k, v, group.readable, drop).transpose(1, 2).flatten(2).flatten(0, 1)  # (n * L, D)
            attended.append(mixed if group.index is None else mixed.index_select(0, group.index))
        return torch.cat(attended)

    def _take(self, packed: Tensor, group: _Group) -> Tensor:
        """(n, L, D)."""
        tokens = packed[group.start : group.stop]
        if group.index is None:
            return tokens.unflatten(0, (group.texts, group.longest))
        return _spread(tokens, group.index, group.texts, group.longest)


def _groups(lengths: list[int], device: torch.device) -> list[_Group]:
    """Of ``lengths`` in ascending order."""
    groups, first, start = [], 0, 0
    for last, length in enumerate(lengths):
        following = lengths[last + 1] if last + 1 < len(lengths) else None
        if following is not None and following <= STRETCH * lengths[first] and last + 1 - first < GROUP:
            continue
        own = lengths[first : last + 1]
        stop = start + sum(own)
        index = readable = None
        if own[0] != length:
            inside = torch.arange(length) < torch.tensor(own)[:, None]  # (n, L)
            index = inside.flatten().nonzero()[:, 0].to(device)
            readable = inside[:, None, None, :].to(device)
        groups.append(_Group(start, stop, len(own), length, index, readable))
        first, start = last + 1, stop
    return groups


def _spread(packed: Tensor, index: Tensor, count: int, width: int) -> Tensor:
    """(tokens, D) to (count, width, D), zero where no token stands."""
    return packed.new_zeros(count * width, packed.shape[1]).index_copy(0, index, packed).unflatten(0, (count, width))


def _attention(query: Tensor, key: Tensor, value: Tensor, readable: Tensor | None, drop: float) -> Tensor:
    """(n, H, L, D / H) each, to the same."""
    slow = query.device.type == "cpu" and (drop or (query.dtype == torch.bfloat16 and not has_fused_attention()))
    if not slow:
        return F.scaled_dot_product_attention(query, key, value, readable, drop)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)  # (n, H, L, L)
    if readable is not None:
        scores = scores.masked_fill(~readable, -torch.inf)
    weights = scores.softmax(-1)
    return (dropout(weights, drop) if drop else weights) @ value
