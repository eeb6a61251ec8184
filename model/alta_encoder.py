"""ALTA encoders at work: from prepared images and texts to embeddings.

Axes: B studies or texts, S slots, D embedding width.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F

from .alta import SLOTS, TextTokens
from .checkpoint import Checkpoint, load_checkpoint
from .encoder import StudyImages
from .errors import CheckpointError, TextError
from .fused import can_fuse, fuse
from .precision import narrow
from .processor import has_native_bfloat16
from .similarity_map import SimilarityMap, associate
from .text import ReportTokenizer

__all__ = ["AltaEncoder", "load_encoder"]


MOST_CALLS: Final = 4  # at once; on many cores a call on several of them keeps its answer's time short
CPU_SLOTS: Final = 8  # images of a pass on a CPU: more do not fit its caches and are up to a fifth slower each


class AltaEncoder:
    """ALTA encoders from a checkpoint, ready for inference; see ``StudyEncoder``.

    dtype: float32 or bfloat16, in which ``checkpoint.model`` is then stored (see ``precision``) and may be run under
    autocast only.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
        self.model = checkpoint.model.to(device).eval().requires_grad_(False)
        self.tokenizer = checkpoint.tokenizer
        self.transform = checkpoint.transform
        self.provenance = checkpoint.provenance
        self.fingerprint = checkpoint.fingerprint
        self.dimension = checkpoint.model.config.embedding
        self.context_length = checkpoint.tokenizer.context_length
        self.positions = checkpoint.model.config.text.positions
        self.device = device
        self.dtype = dtype
        self.calls_at_once = min(_threads(), MOST_CALLS) if device.type == "cpu" else 1
        if dtype != torch.float32:
            narrow(self.model)
            if device.type == "cpu" and can_fuse():
                fuse(self.model)

    def encode_studies(self, studies: Sequence[StudyImages]) -> np.ndarray:
        """(B, D). A lone current frontal is embedded as in the paper's evaluation: its own cls token; with more
        images it is the mean over slots, as in training (see ``ALTAConfig.absent_slots``)."""
        embeddings = np.empty((len(studies), self.dimension), np.float32)
        alone = [number for number, study in enumerate(studies) if _is_lone_frontal(study)]
        for rows, slots in (
            (alone, 1),
            (sorted(set(range(len(studies))) - set(alone)), len(SLOTS)),
        ):
            for chunk in self._passes(rows, slots):
                images, present = _stack([studies[number].slots()[:slots] for number in chunk])
                embeddings[chunk] = self._embed_images(images, present)
        return embeddings

    def encode_texts(self, texts: Sequence[str], limit: int | None = None) -> np.ndarray:
        return _numpy(F.normalize(self._project_texts(texts, limit), dim=-1))

    def encode_prompts(self, prompts: Sequence[str]) -> np.ndarray:
        return _numpy(F.normalize(self._project_texts(prompts).mean(0), dim=-1))

    def share_processor(self, calls: int) -> None:
        if self.device.type == "cpu":
            torch.set_num_threads(max(_threads() // calls, 1))  # OpenMP counts by thread: others keep what they have

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self.tokenizer.count(texts)

    def similarity_map(self, image: np.ndarray, phrase: str) -> SimilarityMap:
        words = self.tokenizer.words(phrase)
        if not words:
            raise TextError("Expected a phrase with a word that the encoders know, found none.", "phrase-without-words")
        (count,) = self.count_tokens([phrase])
        if count > self.context_length:
            message = f"Expected a phrase of at most {self.context_length} tokens, found {count}. Ask for a part of it."
            raise TextError(message, "phrase-too-long")
        return associate(self.project_patches(image), self.project_pieces(phrase), words)

    @torch.inference_mode()
    def project_patches(self, image: np.ndarray) -> np.ndarray:
        """(rows, columns, D) of a current frontal through the local head, not normalised. image: (crop, crop)."""
        images, present = _stack([(image,)])
        with self._autocast():
            encoder = self.model.image_encoder
            tokens = encoder(
                torch.from_numpy(images).to(self.device)[:, :, None], torch.from_numpy(present).to(self.device)
            )
            patches = encoder.local_projection_head(tokens.patches[0, 0])  # (N, D)
        side = encoder.config.size // encoder.config.patch
        return _numpy(patches).reshape(side, side, -1)

    @torch.inference_mode()
    def project_pieces(self, text: str) -> np.ndarray:
        """(T, D) of the tokens of a text through the local head, special ones left out, not normalised."""
        tokens = self.tokenizer([text])
        with self._autocast():
            encoder = self.model.text_encoder
            ids, mask = (torch.from_numpy(each).to(self.device) for each in (tokens.input_ids, tokens.attention_mask))
            return _numpy(encoder.local_projection_head(encoder(ids, mask).hidden[0, 1:-1]))

    @torch.inference_mode()
    def _embed_images(self, images: np.ndarray, present: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(images).to(self.device)[:, :, None]  # grey: one channel
        with self._autocast():
            tokens = self.model.image_encoder(pixels, torch.from_numpy(present).to(self.device))
        return _numpy(self.model.image_encoder.embed_study(replace(tokens, cls=tokens.cls.float())))

    @torch.inference_mode()
    def _project_texts(self, texts: Sequence[str], limit: int | None = None) -> torch.Tensor:
        if not texts:
            return torch.empty(0, self.dimension)
        tokens = self._tokenizer_of(limit)(texts)
        with self._autocast():
            input_ids = torch.from_numpy(tokens.input_ids).to(self.device)
            attention_mask = torch.from_numpy(tokens.attention_mask).to(self.device)
            hidden = self.model.text_encoder(input_ids, attention_mask).hidden
        return self.model.text_encoder.project(TextTokens(hidden[:, :1].float(), attention_mask))

    def _passes(self, rows: list[int], slots: int) -> Iterator[list[int]]:
        size = max(CPU_SLOTS // slots, 1) if self.device.type == "cpu" else max(len(rows), 1)
        return (rows[start : start + size] for start in range(0, len(rows), size))

    def _tokenizer_of(self, limit: int | None) -> ReportTokenizer:
        if limit is None:
            return self.tokenizer
        tokenizer = copy.copy(self.tokenizer)  # shares the vocabulary; others may be encoding meanwhile
        tokenizer.context_length = min(limit, self.positions)
        return tokenizer

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def load_encoder(path: Path, device: str = "auto", dtype: str = "auto") -> AltaEncoder:
    """Encoders from a checkpoint folder.

    device: "auto" (a GPU when there is one), "cpu", "cuda", "cuda:1". dtype: "float32", "bfloat16" or "auto" (bfloat16
    where the device multiplies it in hardware, else float32). Raises CheckpointError.
    """
    widths = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype not in widths:
        raise CheckpointError(f"Expected a dtype of {', '.join(widths)}; found {dtype!r}.")
    try:
        chosen = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        width = widths[dtype] or (torch.bfloat16 if has_native_bfloat16(chosen) else torch.float32)
        return AltaEncoder(load_checkpoint(path), chosen, width)
    except RuntimeError as error:
        raise CheckpointError(f"The encoders cannot run on device {device!r}: {error}") from error


@cache
def _threads() -> int:
    """What torch found or was told when it started; ``share_processor`` changes what it says later."""
    return torch.get_num_threads()


def _is_lone_frontal(study: StudyImages) -> bool:
    return [slot is not None for slot in study.slots()] == [True, False, False, False]


def _stack(
    studies: list[tuple[np.ndarray | None, ...]],
) -> tuple[np.ndarray, np.ndarray]:
    """Images (B, S, H, W), zeros where absent, and present (B, S) bool."""
    side = next(slot.shape[0] for slot in studies[0] if slot is not None)
    images = np.zeros((len(studies), len(studies[0]), side, side), np.float32)
    present = np.zeros(images.shape[:2], bool)
    for row, slots in enumerate(studies):
        for column, slot in enumerate(slots):
            if slot is not None:
                images[row, column], present[row, column] = slot, True
    return images, present


def _numpy(values: torch.Tensor) -> np.ndarray:
    return values.float().cpu().numpy()
