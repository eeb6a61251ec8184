"""Each objective learns what it should, leaves the rest as it was, and gives encoders that load."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from model.alta import ALTA
from model.alta_encoder import load_encoder
from model.checkpoint import load_checkpoint, read_provenance, save_checkpoint
from model.encoder import StudyImages
from model.errors import CheckpointError
from model.losses import LossWeights
from model.simulation import simulate_studies
from model.text import ReportTokenizer
from model.training import TrainConfig, TrainingConfigError, loop, read_config, train
from model.training.adapters import apply_adapters
from model.training.config import BaseConfig, DataConfig, OptimConfig, ValidationConfig
from model.training.load import load_training
from model.training.objectives import OBJECTIVES, ObjectiveName, trainable_names
from model.training.start import load_base
from model.training.step import TrainingDiverged, Update
from model.training.tables import StudyRow, write_table
from tests.test_published import mrm_parameters, write_bert
from tests.tiny import PROVENANCE, TRANSFORM, VOCABULARY, tiny_config, tiny_images, tiny_model


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without adapters, as masked record modelling leaves one."""
    folder = tmp_path_factory.mktemp("base")
    whole = dict(tiny_model("ignored").named_parameters())
    plain = ALTA(replace(tiny_config("ignored"), adapters="none"))
    plain.load_state_dict({name: whole[name].detach() for name, _ in plain.named_parameters()}, strict=False)
    save_checkpoint(folder, plain, list(VOCABULARY), TRANSFORM, PROVENANCE)
    return folder


Configure = Callable[..., TrainConfig]


@pytest.fixture
def configure(base: Path) -> Configure:
    def make(objective: ObjectiveName, steps: int = 3, start: Path | None = base, **optim: object) -> TrainConfig:
        rule = OBJECTIVES[objective]
        small = tiny_config("ignored")
        frontal = rule.frontal_only
        return TrainConfig(
            name=objective,
            objective=objective,
            base=BaseConfig(checkpoint=None if start is None else str(start)),
            data=DataConfig(
                seed=11, studies=4, validation_seed=12, validation_studies=4, one_section=0, augmentation=0
            ),
            optim=OptimConfig(
                **{"batch": 4, "steps": steps, "warmup_steps": 2, "base_learning_rate": 0.3, "local_group": 2, **optim}
            ),
            losses=replace(rule.losses, local_contrastive=0.001 * rule.losses.local_contrastive),
            validation=ValidationConfig(every=1000),
            model=replace(
                small,
                adapters=rule.adapters,
                temporal=not frontal,
                multiview=not frontal,
                image=replace(small.image, mask_ratio=0.25),
            ),
            transform=TRANSFORM,
        )

    return make


def losses_of(output: Path) -> list[dict[str, float]]:
    entries = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [entry for entry in entries if "total" in entry]


NAMES: tuple[ObjectiveName, ...] = ("mrm", "alta", "lora", "clip", "frozen")


def test_a_report_without_a_picture_teaches_where_nothing_is_contrasted(
    configure: Configure, cache: Path, tmp_path: Path
) -> None:
    picture = str(tmp_path / "chest.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)).save(picture)
    write_table(
        tmp_path / "studies.csv",
        [
            StudyRow("pictured", "a", "train", current_frontal=picture, findings="Clear."),
            StudyRow("too", "a", "train", current_frontal=picture, findings="Clear."),
            StudyRow("told", "b", "train", findings="Clear."),
            StudyRow("held out", "c", "validate", current_frontal=picture, findings="Clear."),
        ],
    )
    config = configure("alta", batch=2)
    config = replace(config, data=replace(config.data, table=str(tmp_path / "studies.csv")))
    masked = replace(config, losses=LossWeights(contrastive=0, local_contrastive=0))
    found = [load_training(c, cache, 1, lambda *_: None)[0].ids for c in (config, masked)]
    assert found == [["pictured", "too"], ["pictured", "too", "told"]]


@pytest.mark.parametrize("objective", NAMES)
def test_an_objective_changes_what_it_names_and_nothing_else(
    objective: ObjectiveName, configure: Configure, base: Path, cache: Path, tmp_path: Path
) -> None:
    train(configure(objective), tmp_path, cache, workers=1)
    before, after = load_file(base / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    model = load_checkpoint(tmp_path).model
    expected = trainable_names(model, objective)
    if objective == "lora":  # merged into the weights of the blocks
        blocks = {n for n in before if n.endswith("weight") and (".blocks." in n or ".layers." in n)}
        expected |= blocks - {n for n in blocks if n.startswith("image_decoder")}
    assert changed <= expected and len(changed) > 0.5 * len(expected & before.keys())
    new = after.keys() - before.keys()
    assert all("adapter." in name for name in new) and bool(new) == (objective == "alta")


@pytest.mark.parametrize("objective", NAMES)
def test_an_objective_learns_a_few_studies_by_heart(
    objective: ObjectiveName, configure: Configure, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    steps = 60 if objective == "frozen" else 200
    train(configure(objective, steps, base_learning_rate=0.2), tmp_path, cache, workers=1)
    losses = losses_of(tmp_path)
    assert set(losses[0]) - {"step", "seconds", "learning_rate", "total", "grad_norm"} == {
        name for name, weight in vars(OBJECTIVES[objective].losses).items() if weight
    }
    first, last = (np.mean([entry["total"] for entry in part]) for part in (losses[:5], losses[-5:]))
    assert last < 0.9 * first
    if objective in ("alta", "clip", "lora"):
        assert np.mean([entry["contrastive"] for entry in losses[-20:]]) < 0.93 * math.log(4)  # guessing among four


def test_an_adapting_objective_without_a_base_is_refused(configure: Configure) -> None:
    for objective in ("alta", "lora", "frozen"):
        with pytest.raises(TrainingConfigError, match=r"adapts a base.*\[base\].*trainable"):
            configure(objective, start=None)
    configure("clip", start=None)  # fine-tuning may start at random


def test_an_adapted_checkpoint_is_no_base_for_another_objective(
    configure: Configure, cache: Path, tmp_path: Path
) -> None:
    train(configure("alta"), tmp_path / "alta", cache, workers=1)
    with pytest.raises(TrainingConfigError, match="the one it was adapted from"):
        train(configure("clip", start=tmp_path / "alta"), tmp_path / "clip", cache, workers=1)
    train(configure("alta", start=tmp_path / "alta"), tmp_path / "further", cache, workers=1)


# Adapters alone


@pytest.mark.parametrize("objective", ["alta", "lora", "frozen"])
def test_adapters_over_their_base_are_the_trained_encoders(
    objective: ObjectiveName, configure: Configure, base: Path, cache: Path, tmp_path: Path
) -> None:
    train(configure(objective), tmp_path / "run", cache, workers=1)
    apply_adapters(tmp_path / "run" / "adapters", BaseConfig(checkpoint=str(base)), tmp_path / "applied")
    trained, applied = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "applied"))
    assert trained.keys() == applied.keys()
    assert all(torch.allclose(trained[name], applied[name], atol=1e-6) for name in trained)
    records = [json.loads((tmp_path / name / "training.json").read_text()) for name in ("run", "applied")]
    assert records[1] == records[0]  # so that an evaluation knows whose patients were trained on
    study = [StudyImages(tiny_images(1)[0])]
    embedded = [load_encoder(tmp_path / name, "cpu", "float32").encode_studies(study) for name in ("run", "applied")]
    assert embedded[0] == pytest.approx(embedded[1], abs=1e-5)
    alone = (tmp_path / "run" / "adapters" / "adapters.safetensors").stat().st_size
    assert alone < (tmp_path / "run" / "model.safetensors").stat().st_size


def test_adapters_are_refused_over_another_base(configure: Configure, cache: Path, tmp_path: Path) -> None:
    train(configure("alta"), tmp_path / "run", cache, workers=1)
    other = ALTA(replace(tiny_config("ignored"), adapters="none"))
    save_checkpoint(tmp_path / "other", other, list(VOCABULARY), TRANSFORM, PROVENANCE)
    with pytest.raises(CheckpointError, match="another base"):
        apply_adapters(tmp_path / "run" / "adapters", BaseConfig(checkpoint=str(tmp_path / "other")), tmp_path / "x")
    assert not (tmp_path / "x").exists()
    with pytest.raises(CheckpointError, match=r"no adapters\.json"):
        apply_adapters(tmp_path / "other", BaseConfig(checkpoint=str(tmp_path / "other")), tmp_path / "x")


def test_adapters_are_laid_over_no_encoders_unasked(
    configure: Configure, base: Path, cache: Path, tmp_path: Path
) -> None:
    train(configure("alta"), tmp_path / "run", cache, workers=1)
    train(configure("alta"), tmp_path / "other", cache, workers=1)
    adapters, start = tmp_path / "run" / "adapters", BaseConfig(checkpoint=str(base))
    for output, overwrite, message in (
        (base, True, "is the base itself"),
        (tmp_path / "other", False, "holds the encoders of another run.*--overwrite"),
        (tmp_path / "run", True, "holds the adapters themselves"),
        (adapters, True, "holds the adapters themselves"),
        (base / "vocab.txt", True, "expected a folder for the encoders, found a file"),
    ):
        with pytest.raises(TrainingConfigError, match=message):
            apply_adapters(adapters, start, output, overwrite)
    apply_adapters(adapters, start, tmp_path / "other", overwrite=True)
    left = {path.name for path in (tmp_path / "other").iterdir() if path.is_file()}
    assert left == {"config.json", "model.safetensors", "vocab.txt", "training.json"}
    load_checkpoint(base)


# From the published files

PUBLISHED_RUN = """
name = "published"
objective = "{objective}"
[base]
mrm = "MRM.pth"
cxr_bert = "cxr_bert"
[data]
studies = 4
validation_studies = 4
[optim]
batch = 4
micro_batch = 2
local_group = 2
steps = 2
warmup_steps = 1
base_learning_rate = 0.3
lora_rank = 2
[model]
embedding = 8
[model.image]
size = 32
patch = 8
width = 16
depth = 2
heads = 2
decoder_width = 8
decoder_depth = 1
decoder_heads = 2
[model.text]
vocabulary = {vocabulary}
width = 24
depth = 2
heads = 2
intermediate = 32
positions = 40
context_length = 24
[transform]
resize = 36
crop = 32
"""


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MRM.pth and a CXR-BERT folder in the working directory, laid out as published, of a tiny size."""
    monkeypatch.chdir(tmp_path)
    torch.save({"model": mrm_parameters(tiny_model(seed=1))}, "MRM.pth")
    Path("cxr_bert").mkdir()
    write_bert(Path("cxr_bert"), "bin")
    Path("cxr_bert", "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")


@pytest.mark.parametrize("objective", NAMES)
def test_a_run_from_the_published_files_starts_with_their_weights(
    objective: ObjectiveName, published: None, cache: Path
) -> None:
    Path("run.toml").write_text(PUBLISHED_RUN.format(objective=objective, vocabulary=len(VOCABULARY)))
    config = read_config(Path("run.toml"))
    train(config, Path("run"), cache, workers=1)
    torch.manual_seed(config.seed)
    start, files = ALTA(config.model), tiny_model(seed=1)
    load_base(start, ReportTokenizer(Path("cxr_bert/vocab.txt"), 24), config.base)
    for part in ("image_encoder.blocks.1.attn.qkv", "image_decoder.pred", "text_encoder.layers.1.output.dense"):
        assert torch.equal(start.get_submodule(part).weight, files.get_submodule(part).weight)
    before, after = dict(start.named_parameters()), load_file("run/model.safetensors")
    changed = {name for name in before if not torch.equal(before[name].detach(), after[name])}
    learned = trainable_names(start, objective)
    if objective == "lora":  # merged into the weights of the blocks
        learned |= {name for name in before if ".blocks." in name or ".layers." in name}
    assert changed <= learned and len(changed) > 0.5 * len(trainable_names(start, objective))
    embedding = load_encoder(Path("run"), "cpu").encode_studies([StudyImages(tiny_images(1)[0])])
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("objective", ["alta", "lora", "frozen"])
def test_adapters_go_over_the_published_files(objective: ObjectiveName, published: None, cache: Path) -> None:
    Path("run.toml").write_text(PUBLISHED_RUN.format(objective=objective, vocabulary=len(VOCABULARY)))
    train(read_config(Path("run.toml")), Path("run"), cache, workers=1)
    files = BaseConfig(mrm="MRM.pth", cxr_bert="cxr_bert")
    apply_adapters(Path("run/adapters"), files, Path("applied"))
    for folder in ("run", "applied"):
        assert read_provenance(Path(folder)).license == "as the authors of its base state: MRM.pth, cxr_bert"
    trained, applied = (load_file(f"{name}/model.safetensors") for name in ("run", "applied"))
    assert trained.keys() == applied.keys()
    assert all(torch.allclose(trained[name], applied[name], atol=1e-6) for name in trained)
    torch.save({"model": mrm_parameters(tiny_model(seed=2))}, "MRM.pth")
    with pytest.raises(CheckpointError, match="another base"):
        apply_adapters(Path("run/adapters"), files, Path("refused"))


# A loss that is no number


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_studies(
    configure: Configure, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Update, "backward", lambda *_: {"contrastive": float("nan"), "total": float("nan")})
    with pytest.raises(TrainingDiverged, match=r"step 1;.*look at the studies of this batch: ") as caught:
        train(configure("alta"), tmp_path, cache, workers=1)
    listed = caught.value.message.rpartition(": ")[2].split(", ")
    assert set(listed) == {study.study_instance_uid for study, _ in simulate_studies(11, 4)}


def test_new_words_of_the_reports_extend_the_bases_vocabulary(
    configure: Configure, base: Path, cache: Path, tmp_path: Path
) -> None:
    config = configure("mrm")
    config = replace(config, data=replace(config.data, new_tokens=20), losses=LossWeights(0, 0, 1, 1))
    train(config, tmp_path, cache, workers=1)
    checkpoint = load_checkpoint(tmp_path)
    added = checkpoint.tokenizer.vocabulary[len(VOCABULARY) :]
    assert checkpoint.tokenizer.vocabulary[: len(VOCABULARY)] == list(VOCABULARY)
    assert 0 < len(added) <= 20 and checkpoint.model.config.text.vocabulary == len(VOCABULARY) + len(added)


# What the base gave


def test_the_base_is_judged_before_the_first_step(
    configure: Configure, base: Path, cache: Path, tmp_path: Path
) -> None:
    state = train(configure("alta"), tmp_path, cache, workers=1)
    first = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    assert first == {"step": 0, "validation": state.base}
    untouched = train(configure("alta", steps=1, base_learning_rate=1e-9), tmp_path / "still", cache, workers=1)
    assert untouched.best == pytest.approx(state.base, abs=1e-4)
    assert state.best is not None and state.base is not None and state.best["loss"] != state.base["loss"]


def test_a_run_from_nothing_has_no_base_to_judge(configure: Configure, cache: Path, tmp_path: Path) -> None:
    assert train(configure("mrm", start=None), tmp_path, cache, workers=1).base is None
