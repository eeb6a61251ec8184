"""The text half of a base: what CXR-BERT learns before ALTA adapts it, at the size of `benchmarks.claims`.

Masked record modelling alone leaves [CLS] without meaning: nothing asks for it. CXR-BERT, the paper's text tower, was
also taught that the findings and the impression of one report belong together (radiology section matching, "Making the
Most of Text Semantics to Improve Biomedical Vision-Language Processing", ECCV 2022). This does the same to the text
tower of a base, beside masked words without an image; the image tower stays as it is.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from model.checkpoint import load_checkpoint, save_checkpoint
from model.losses import contrastive_loss, text_reconstruction_loss
from model.text import sentences
from model.training.batches import BatchMaker
from model.training.config import OptimConfig
from model.training.optimizer import make_optimizer, set_learning_rate
from model.training.studies import TrainingStudies

__all__ = ["match_sections"]


def match_sections(
    base: Path, output: Path, studies: TrainingStudies, seed: int, optim: OptimConfig
) -> dict[str, float]:
    """Write ``base`` with a text tower that knows which sections belong together. Reports with the same impression are
    no negatives of each other. Returns the last losses."""
    checkpoint = load_checkpoint(base)
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("text_encoder.") or name == "logit_scale")
    optimizer = make_optimizer(model, optim)
    whole = BatchMaker(studies, tokenizer, model.config, checkpoint.transform, one_section=0.0)
    both = np.array([row for row in range(len(studies)) if studies.findings[row] and studies.impression[row]])
    numbers: dict[str, int] = {}
    keys = torch.tensor([numbers.setdefault(text.lower(), len(numbers)) for text in studies.impression])
    draw = np.random.default_rng(seed)
    model.train()
    losses: dict[str, float] = {}
    for step in range(optim.steps):
        rows = draw.choice(both, optim.batch, replace=False)
        set_learning_rate(optimizer, step, optim)
        optimizer.zero_grad(set_to_none=True)
        torch.manual_seed(seed * optim.steps + step)
        with torch.autocast("cpu", torch.bfloat16):
            sides = []
            for section in (studies.findings, studies.impression):
                tokens = tokenizer([_shuffled(section[row], draw) for row in rows])
                ids, mask = torch.from_numpy(tokens.input_ids), torch.from_numpy(tokens.attention_mask)
                sides.append(model.text_encoder.embed_text(model.text_encoder(ids, mask)).float())
            batch = whole(rows, seed * optim.steps + step, None)
            masked = model.text_encoder(batch.masked_input_ids, batch.attention_mask)
            words = text_reconstruction_loss(model, masked, batch.labels)
        matched = contrastive_loss(*sides, model.logit_scale, keys[rows])
        (matched + words).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), optim.clip_norm)
        optimizer.step()
        losses = {"section_matching": float(matched.detach()), "text_reconstruction": float(words.detach())}
    model.eval()
    provenance = replace(checkpoint.provenance, name=f"{checkpoint.provenance.name}, sections matched")
    save_checkpoint(output, model, tokenizer.vocabulary, checkpoint.transform, provenance)
    return losses


def _shuffled(text: str, draw: np.random.Generator) -> str:
    return " ".join(draw.permutation(sentences(text)))
