"""The one place where requests meet the encoders.

Axes: N texts, D embedding width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np

from model.encoder import ProcessorSharing, StudyEncoder, StudyImages
from model.prompts import PROMPT_SETS
from model.similarity_map import SimilarityMap

from ..caller import wait_for
from ..schemas import Notice
from ..settings import Settings
from .batching import Batcher, Line, Observer
from .calibrations import FoundCalibration
from .kept import KeptDirections

__all__ = ["Batching", "Inference", "batching_of"]

STUDIES, TEXTS, ENSEMBLES, MAPS = "studies", "texts", "ensembles", "maps"
TEXTS_PER_IMAGE: Final = 4  # a text of some length costs the published encoders a quarter of an image


@dataclass(frozen=True)
class Batching:
    """batch_size: images in a batch; of texts, four times as many. wait_s: for company. bound: items in a line.

    kept: directions of texts that are kept; 0 keeps none but those of the built-in findings.
    """

    batch_size: int = 8
    wait_s: float = 0.004
    bound: int = 64
    kept: int = 4096


def batching_of(settings: Settings) -> Batching:
    return Batching(settings.batch_size, settings.batch_wait_ms / 1000, settings.max_requests, settings.text_cache)


class Inference:
    """A pair of encoders as requests use it. Thread-safe.

    What is asked at the same time is encoded together. Every call may raise RequestError: overloaded, and those of
    ``caller``. Rows are float32 of length 1 and must not be written to.
    """

    def __init__(
        self,
        encoder: StudyEncoder,
        batching: Batching | None = None,
        observer: Observer | None = None,
        found: FoundCalibration | None = None,
    ) -> None:
        self.encoder = encoder
        self.found = found or FoundCalibration()  # what calibration lies beside the encoders
        self.warm = False  # whether ``warm_up`` has been
        chosen = batching or Batching()
        self._images_at_once = min(chosen.batch_size, chosen.bound)
        self._texts_at_once = TEXTS_PER_IMAGE * chosen.batch_size
        self._kept = KeptDirections(chosen.kept)
        self._findings: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        lines = {
            STUDIES: Line(encoder.encode_studies, self._images_at_once),
            TEXTS: Line(self._encode_texts, self._texts_at_once),
            # An ensemble is averaged before it is normalised: each is a call of its own.
            ENSEMBLES: Line(lambda sets: [encoder.encode_prompts(prompts) for prompts in sets], 1),
            MAPS: Line(lambda asked: [encoder.similarity_map(*each) for each in asked], 1),
        }
        sharing = encoder if isinstance(encoder, ProcessorSharing) else None
        self._batcher = Batcher(lines, chosen.wait_s, chosen.bound, observer, sharing)

    @property
    def depths(self) -> dict[str, int]:
        """Items that wait to be encoded, by line: studies, texts, ensembles, maps."""
        return self._batcher.depths

    def study(self, images: StudyImages) -> np.ndarray:
        """(D,)."""
        size = sum(slot is not None for slot in images.slots())
        return wait_for(self._batcher.submit(STUDIES, images, size))

    def text(self, text: str) -> np.ndarray:
        """(D,)."""
        return self.texts([text])[0]

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """(N, D)."""
        rows = np.empty((len(texts), self.encoder.dimension), np.float32)
        places: dict[str, list[int]] = {}
        for place, text in enumerate(texts):
            places.setdefault(text, []).append(place)
        new = []
        for text, where in places.items():
            row = self._kept.find((text,))
            if row is None:
                new.append(text)
            else:
                rows[where] = row
        # One part after the other, so that a request with many texts does not keep others waiting for all of them.
        for start in range(0, len(new), self._texts_at_once):
            part = new[start : start + self._texts_at_once]
            encoded = wait_for(self._batcher.submit(TEXTS, part, len(part)))
            for text, row in zip(part, encoded, strict=True):
                self._kept.keep((text,), row)
                rows[places[text]] = row
        return rows

    def spare_texts(self, texts: Sequence[str]) -> np.ndarray | None:
        """(N, D), or None where some of them are not kept and the encoders have other things to do."""
        if any(self.depths.values()) and any(self._kept.find((text,)) is None for text in texts):
            return None
        return self.texts(texts)

    def prompts(self, prompts: Sequence[str]) -> np.ndarray:
        """(D,) for a set of phrasings."""
        if len(prompts) == 1:
            return self.text(prompts[0])
        row = self._kept.find(prompts)
        if row is None:
            row = wait_for(self._batcher.submit(ENSEMBLES, tuple(prompts), len(prompts)))
            self._kept.keep(prompts, row)
        return row

    def finding(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The positive and the negative direction, each (D,), of a built-in finding."""
        if name not in self._findings:
            pair = PROMPT_SETS[name]
            self._findings[name] = self.prompts(pair.positive), self.prompts(pair.negative)
        return self._findings[name]

    def similarity_map(self, image: np.ndarray, phrase: str) -> SimilarityMap:
        """See ``StudyEncoder``. Raises TextError as well."""
        return wait_for(self._batcher.submit(MAPS, (image, phrase)))

    def length_warnings(self, texts: Sequence[str]) -> list[Notice]:
        """One warning for each text that is longer than the encoder reads."""
        limit = self.encoder.context_length
        counts = self.encoder.count_tokens(texts) if texts else []
        return [
            Notice(code="text-truncated", detail=f"Text {n} of {len(counts)} has {count} tokens; {limit} were read.")
            for n, count in enumerate(counts, 1)
            if count > limit
        ]

    def probe(self) -> tuple[np.ndarray, np.ndarray]:
        """A synthetic image and a text, each (D,), encoded anew whatever is kept: whether the encoders work."""
        crop = self.encoder.transform.crop
        film = np.add.outer(np.linspace(-1, 1, crop), np.linspace(-1, 1, crop)).astype(np.float32)
        image = self._batcher.submit(STUDIES, StudyImages(film))
        text = self._batcher.submit(TEXTS, ["No acute cardiopulmonary disease."])
        return wait_for(image), wait_for(text)[0]

    def warm_up(self) -> None:
        """Encode one study of each shape, a full batch, short and long texts, and the built-in findings.

        The first call of a shape costs more than others: kernels are chosen, buffers made. Raises what encoding raises.
        """
        film = np.zeros((self.encoder.transform.crop,) * 2, np.float32)
        for images in (StudyImages(film, film), StudyImages(film, None, film), StudyImages(film, film, film, film)):
            self.study(images)
        for together in (1, self._images_at_once):
            for future in [self._batcher.submit(STUDIES, StudyImages(film)) for _ in range(together)]:
                future.result()
        longest = "effusion " * self.encoder.context_length
        for together in (1, self._texts_at_once):
            self._batcher.submit(TEXTS, [longest] * together, together).result()
        for name in PROMPT_SETS:
            self.finding(name)
        self.warm = True

    def close(self) -> None:
        """End the threads once what waits has been encoded."""
        self._batcher.close()

    def _encode_texts(self, parts: list[list[str]]) -> list[np.ndarray]:
        """A part is the texts of one request."""
        rows = iter(self.encoder.encode_texts([text for part in parts for text in part]))
        return [np.stack(list(islice(rows, len(part)))) for part in parts]
