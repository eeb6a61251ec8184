"""Where a run starts: vocabulary, architecture, weights and terms, from nothing, a checkpoint or the published base."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..alta import ALTA, ALTAConfig
from ..checkpoint import Provenance, load_checkpoint, read_provenance
from ..published import load_cxr_bert, load_mrm
from ..text import ReportTokenizer, extend_vocabulary, train_vocabulary
from .base import BaseConfig, check_base_files
from .config import TrainConfig, TrainingConfigError
from .lora import add_lora
from .objectives import OBJECTIVES, choose_trainable

__all__ = [
    "build_model",
    "check_start",
    "inherit_terms",
    "load_base",
    "make_network",
    "provenance_of",
    "write_vocabulary",
]


def check_start(config: TrainConfig) -> None:
    """Before pictures are decoded, which takes hours: that there is a network, and that the base is there and fits it.
    Raises TrainingConfigError, CheckpointError."""
    check_base_files(config.base)
    folder = config.base.checkpoint or config.base.cxr_bert
    if folder is None:
        with torch.device("meta"):
            make_network(config.model)
        return
    build_model(config, ReportTokenizer(Path(folder) / "vocab.txt", config.model.text.context_length))


def provenance_of(config: TrainConfig) -> Provenance:
    """As configured; what is not said there comes from the base, whose terms bind what is adapted from it."""
    trained_on = config.data.table or f"simulated cohort {config.data.seed}"
    given = inherit_terms(config.provenance or Provenance(config.name, trained_on, "", ""), config.base)
    return replace(given, notice=given.notice or "Not for clinical use.")


def inherit_terms(given: Provenance, base: BaseConfig) -> Provenance:
    """With the base's license and notice where it has none."""
    if base.checkpoint:
        terms = read_provenance(Path(base.checkpoint))
        license, notice = terms.license, terms.notice
    elif base.mrm and base.cxr_bert:
        license = f"as the authors of its base state: {Path(base.mrm).name}, {Path(base.cxr_bert).name}"
        notice = "For research. Not for clinical use."
    else:
        return given
    return replace(given, license=given.license or license, notice=given.notice or notice)


def make_network(config: ALTAConfig) -> ALTA:
    try:
        return ALTA(config)
    except Exception as error:  # numbers that make no network break it in many ways
        raise TrainingConfigError(f"[model] describes no network: {error}") from error


def write_vocabulary(config: TrainConfig, bodies: Sequence[str], folder: Path) -> None:
    """Write the run's ``vocab.txt``: the base's, with ``new_tokens`` of these reports, or one learned from them."""
    base = config.base.checkpoint or config.base.cxr_bert
    if base is None:
        train_vocabulary(bodies, config.model.text.vocabulary, folder)
        return
    tokens = ReportTokenizer(Path(base) / "vocab.txt", config.model.text.context_length).vocabulary
    if config.data.new_tokens:
        tokens = extend_vocabulary(tokens, bodies, config.data.new_tokens)
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")


def build_model(config: TrainConfig, tokenizer: ReportTokenizer) -> tuple[TrainConfig, ALTA]:
    """The model before its first step, what learns chosen; the configuration with the vocabulary's true size."""
    size = len(tokenizer.vocabulary)
    config = replace(config, model=replace(config.model, text=replace(config.model.text, vocabulary=size)))
    torch.manual_seed(config.seed)
    model = make_network(config.model)
    load_base(model, tokenizer, config.base)
    if OBJECTIVES[config.objective].lora:
        add_lora(model, config.optim.lora_rank)
    choose_trainable(model, config.objective, config.optim.trainable == "all")
    return config, model


def load_base(model: ALTA, tokenizer: ReportTokenizer, base: BaseConfig) -> None:
    """Put the base's weights in place. Raises TrainingConfigError or CheckpointError where they do not fit."""
    if base.checkpoint:
        _load_checkpoint(model, tokenizer, Path(base.checkpoint))
    elif base.mrm and base.cxr_bert:
        load_mrm(model, Path(base.mrm))
        load_cxr_bert(model, Path(base.cxr_bert))
        _draw_unpublished(model)


def _draw_unpublished(model: ALTA) -> None:
    """What neither file has and an objective may leave as it is: alike in every run, whatever its seed, or adapters
    would not find their base again."""
    draw = torch.Generator().manual_seed(0)
    slots = model.image_encoder.temporal_embedding, model.image_encoder.view_embedding
    with torch.no_grad():
        for parameter in (*slots, model.image_to_text.weight):
            parameter.normal_(std=0.02, generator=draw)


def _load_checkpoint(model: ALTA, tokenizer: ReportTokenizer, folder: Path) -> None:
    """All parameters that the base has; adapters that it has not keep their start, which changes nothing."""
    base = load_checkpoint(folder)
    given = dict(base.model.named_parameters())
    own = dict(model.named_parameters())
    if lost := sorted(given.keys() - own.keys()):
        raise TrainingConfigError(
            f"{folder}: the base has parts that this objective leaves out ({', '.join(lost[:3])}, ...): an adapted"
            " checkpoint is a base for the objective alta only; name the one it was adapted from."
        )
    if missing := sorted(name for name in own.keys() - given.keys() if "adapter." not in name):
        raise TrainingConfigError(f"{folder}: the base has no {', '.join(missing[:3])}.")
    words = "text_encoder.embeddings.word_embeddings.weight", "text_encoder.mlm_head.bias"
    for name in words:
        given[name].data = _for_new_tokens(given[name].data, base.tokenizer, tokenizer)
    if wrong := [name for name in given if given[name].shape != own[name].shape]:
        raise TrainingConfigError(f"{folder}: [model] changes the shape of {', '.join(wrong[:3])}; a base fixes it.")
    model.load_state_dict({name: value.detach() for name, value in given.items()}, strict=False)


def _for_new_tokens(rows: torch.Tensor, old: ReportTokenizer, new: ReportTokenizer) -> torch.Tensor:
    """Rows (V, ...) of the base, and for each new token the mean of the pieces it was cut into before."""
    added = new.vocabulary[len(old.vocabulary) :]
    pieces = [[i for i in old([token]).input_ids[0] if i not in old.special_ids] for token in added]
    means = [rows[ids].mean(0) if ids else rows.mean(0) for ids in pieces]
    return torch.cat([rows, torch.stack(means)]) if means else rows
