"""A fake encoder: no network weights, deterministic, similar inputs give similar embeddings."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from model.encoder import StudyImages
from model.errors import TextError
from model.image import ImageTransform
from model.similarity_map import SimilarityMap, WordMap


class FakeEncoder:
    """Texts are bags of hashed words; images are their 4 x 4 mean brightness, one block of D a slot."""

    def __init__(self, fingerprint: str = "f" * 64, dimension: int = 64) -> None:
        self.fingerprint = fingerprint
        self.dimension = dimension
        self.context_length = 32
        self.positions = 512
        self.transform = ImageTransform(resize=32, crop=32, mean=0.5, std=0.25)

    def encode_studies(self, studies: Sequence[StudyImages]) -> np.ndarray:
        return np.stack([_unit(self._picture(study)) for study in studies])

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([_unit(self._words(text)) for text in texts])

    def encode_prompts(self, prompts: Sequence[str]) -> np.ndarray:
        return _unit(np.mean([self._words(prompt) for prompt in prompts], axis=0))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(re.findall(r"\w+", text)) + 2 for text in texts]

    def similarity_map(self, image: np.ndarray, phrase: str) -> SimilarityMap:
        """4 x 4 mean brightness for every word."""
        words = re.findall(r"\w+", phrase)
        if not words:
            raise TextError("Expected a word.", "phrase-without-words")
        if len(words) + 2 > self.context_length:
            raise TextError("Too long.", "phrase-too-long")
        values = image.reshape(4, 8, 4, 8).mean((1, 3))
        return SimilarityMap(values, tuple(WordMap(word, values) for word in words))

    def _picture(self, study: StudyImages) -> np.ndarray:
        blocks = [np.zeros(16) if s is None else s.reshape(4, 8, 4, 8).mean((1, 3)).ravel() for s in study.slots()]
        vector = np.concatenate(blocks)
        vector[0] += 0.01
        return np.resize(vector, self.dimension)

    def _words(self, text: str) -> np.ndarray:
        total = np.full(self.dimension, 0.01)
        for word in re.findall(r"\w+", text.lower())[: self.context_length - 2]:
            digest = hashlib.sha256(word.encode()).digest()
            total += np.random.default_rng(int.from_bytes(digest[:8], "big")).standard_normal(self.dimension)
        return total


def _unit(vector: np.ndarray) -> np.ndarray:
    return (vector / np.linalg.norm(vector)).astype(np.float32)
