"""Reports as the text encoder reads them: which sections, which sentences, which tokens."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import BertWordPieceTokenizer

from .errors import CheckpointError
from .similarity_map import PhraseWord

__all__ = [
    "ReportTokenizer",
    "TokenBatch",
    "extend_vocabulary",
    "report_body",
    "sentence_spans",
    "sentences",
    "train_vocabulary",
]

_LIST_NUMBERS = r"(?<!^\d[.])(?<!^\d\d[.])(?<![.!?:]\s\d[.])(?<![.!?:]\s\d\d[.])"
_SENTENCE_ENDS = re.compile(rf"(?<=[a-z0-9)\]%][.!?]){_LIST_NUMBERS}\s+|\n\s*\n", re.IGNORECASE | re.MULTILINE)
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class TokenBatch:
    """input_ids and attention_mask int64 (B, T), padded to the longest text of the batch."""

    input_ids: np.ndarray
    attention_mask: np.ndarray


class ReportTokenizer:
    """BERT WordPiece, lower case, from a ``vocab.txt`` (one token a line; CXR-BERT's and ours alike)."""

    def __init__(self, vocabulary: Path, context_length: int) -> None:
        try:
            # Not splitlines: a token may be one of Unicode's other line separators.
            tokens = vocabulary.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{vocabulary}: the vocabulary cannot be read: {error}.") from error
        if missing := [token for token in SPECIAL_TOKENS if token not in tokens]:
            raise CheckpointError(f"{vocabulary}: expected a BERT vocabulary; {', '.join(missing)} missing.")
        self.vocabulary = tokens
        self.context_length = context_length
        ids = {token: number for number, token in enumerate(tokens)}
        self.special_ids = tuple(ids[token] for token in SPECIAL_TOKENS)
        self.mask_id = ids["[MASK]"]
        self._tokenizer = BertWordPieceTokenizer(vocab=ids, lowercase=True)

    def __call__(self, texts: Sequence[str]) -> TokenBatch:
        rows = [self._truncate(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts))]
        width = max(len(row) for row in rows)
        input_ids = np.full((len(rows), width), self.special_ids[0], dtype=np.int64)
        attention_mask = np.zeros((len(rows), width), dtype=np.int64)
        for number, row in enumerate(rows):
            input_ids[number, : len(row)] = row
            attention_mask[number, : len(row)] = 1
        return TokenBatch(input_ids, attention_mask)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before truncation, special tokens included."""
        return [len(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts))]

    def words(self, text: str) -> list[PhraseWord]:
        """Those of ``text`` that have a letter or a digit and are in the vocabulary, joined from their pieces."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        pieces: dict[int, list[int]] = {}
        for place, (number, token) in enumerate(zip(encoding.word_ids, encoding.ids, strict=True)):
            if token not in self.special_ids:
                pieces.setdefault(number, []).append(place)
        spans = [(encoding.offsets[of[0]][0], encoding.offsets[of[-1]][1]) for of in pieces.values()]
        words = [
            PhraseWord(text[start:end], tuple(of)) for (start, end), of in zip(spans, pieces.values(), strict=True)
        ]
        return [word for word in words if any(character.isalnum() for character in word.text)]

    def _truncate(self, ids: list[int]) -> list[int]:
        return ids if len(ids) <= self.context_length else [*ids[: self.context_length - 1], ids[-1]]


def report_body(findings: str | None, impression: str | None, text: str = "") -> str:
    """What of a report is encoded: findings and impression, as in the published training tables.

    Indication and comparison say why and against what, not what is seen. A report without recognised sections
    is encoded whole.
    """
    body = " ".join(part.strip() for part in (findings, impression) if part and part.strip())
    return body or text.strip()


def sentences(text: str) -> list[str]:
    """The sentences of ``sentence_spans``, with single blanks."""
    return [" ".join(text[start:end].split()) for start, end in sentence_spans(text)]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of each sentence: split at full stops, question and exclamation marks that end a word, and at line
    breaks between paragraphs.

    The number of a list item ("1.") stays with its item.
    """
    body = text.strip()
    offset = text.find(body)
    bounds = [0, *(place for found in _SENTENCE_ENDS.finditer(body) for place in found.span()), len(body)]
    spans = zip(bounds[::2], bounds[1::2], strict=True)
    return [(offset + start, offset + end) for start, end in spans if body[start:end].strip()]


def train_vocabulary(texts: Iterable[str], size: int, folder: Path) -> Path:
    """Learn a WordPiece vocabulary of at most ``size`` tokens and write ``vocab.txt``.

    Every printable ASCII character is in it alone and as a continuation, so no ordinary text gives [UNK].
    The same texts give the same file.
    """
    path = folder / "vocab.txt"
    path.write_text("\n".join(_learn_tokens(texts, size)) + "\n", encoding="utf-8")
    return path


def extend_vocabulary(tokens: Sequence[str], texts: Iterable[str], count: int) -> list[str]:
    """``tokens`` followed by at most ``count`` new ones, the words and parts that ``texts`` need most."""
    known = set(tokens)
    # Tokens are learned most frequent first, so the first new ones are those that are met most.
    learned = _learn_tokens(texts, len(tokens) + count)
    return [*tokens, *[token for token in learned if token not in known][:count]]


def _learn_tokens(texts: Iterable[str], size: int) -> list[str]:
    trainer = BertWordPieceTokenizer(lowercase=True)
    texts = list(texts)
    ascii_characters = {chr(code).lower() for code in range(33, 127)}
    characters = {c for text in texts for c in trainer.normalize(text) if not c.isspace()} | ascii_characters
    alphabet = [*sorted(characters), *(f"##{c}" for c in sorted(characters))]
    # Left to itself the trainer numbers continuations in the order of a hash table, another one every time, and then
    # breaks ties by those numbers; only special tokens are numbered as given.
    trainer.train_from_iterator(
        texts, vocab_size=size, special_tokens=[*SPECIAL_TOKENS, *alphabet], show_progress=False,
    )  # fmt: skip
    return [token for token, _ in sorted(trainer.get_vocab().items(), key=lambda item: item[1])]
