"""What a run costs is what the real step does, counted beforehand, and the published figures come out."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model.alta import ALTA, SLOTS
from model.losses import LossWeights, TrainingBatch, alta_losses
from model.training import TrainConfig, TrainingConfigError
from model.training.config import BaseConfig, DataConfig, OptimConfig
from model.training.distributed import World
from model.training.estimate import compare_as_published, count_parameters, estimate_run
from model.training.flops import Spent, build_on_meta, training_flops
from model.training.lora import add_lora
from model.training.objectives import OBJECTIVES, ObjectiveName, choose_trainable
from model.training.optimizer import make_optimizer
from model.training.step import Update
from model.training.tables import StudyRow, TableError, write_table
from model.training.workload import expected_workload, workload_of
from tests.one_of_two import joined_batch
from tests.test_cli import Alta, alta, one_line_of_error
from tests.tiny import TRANSFORM, tiny_config, write_tiny_checkpoint

__all__ = ["alta"]  # a fixture

STUDIES, LOCAL_GROUP = 8, 4
TOLERANCE = 0.002
NAMES: tuple[ObjectiveName, ...] = ("mrm", "alta", "lora", "clip", "frozen")


def configure(objective: ObjectiveName, losses: LossWeights | None = None, **optim: object) -> TrainConfig:
    rule = OBJECTIVES[objective]
    model = replace(tiny_config(), adapters=rule.adapters)
    if rule.frontal_only:
        model = replace(model, temporal=False, multiview=False)
    if rule.mask_ratio is not None:
        model = replace(model, image=replace(model.image, mask_ratio=rule.mask_ratio))
    return TrainConfig(
        objective,
        objective,
        base=BaseConfig(checkpoint="-"),
        optim=OptimConfig(**{"batch": STUDIES, "local_group": LOCAL_GROUP, "lora_rank": 4, **optim}),
        losses=losses or rule.losses,
        model=model,
        transform=TRANSFORM,
    )


def batch(ragged: bool = False) -> TrainingBatch:
    """Texts of one length unless ``ragged``, so that there is no padding to run."""
    drawn = joined_batch(STUDIES)
    whole = torch.ones_like(drawn.attention_mask)
    return drawn if ragged else replace(drawn, attention_mask=whole)


def built(config: TrainConfig) -> ALTA:
    model = ALTA(config.model)
    if OBJECTIVES[config.objective].lora:
        add_lora(model, config.optim.lora_rank)
    choose_trainable(model, config.objective, config.optim.trainable == "all")
    return model


def measured_losses(config: TrainConfig, data: TrainingBatch) -> int:
    """Operations of the forward pass, as torch counts them while it runs."""
    context = OBJECTIVES[config.objective].context
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel([SDPBackend.MATH]):
        alta_losses(built(config), data, config.losses, config.optim.local_group, context=context)
    return counter.get_total_flops()


def measured_step(config: TrainConfig, data: TrainingBatch) -> int:
    model = built(config)
    update = Update(model, make_optimizer(model, config.optim), config, World())
    with FlopCounterMode(display=False) as counter:
        update.backward(data, seed=1)
    return counter.get_total_flops()


def counted(config: TrainConfig, data: TrainingBatch) -> Spent:
    """Of all studies."""
    study = training_flops(config, workload_of(data, config.model)).whole
    return Spent(study.forward * STUDIES, study.backward * STUDIES)


@pytest.mark.parametrize(
    ("objective", "trainable"), [*((name, "objective") for name in NAMES), ("alta", "all"), ("frozen", "all")]
)
def test_the_count_is_that_of_the_real_step(objective: ObjectiveName, trainable: str) -> None:
    config, data = configure(objective, trainable=trainable), batch()
    assert counted(config, data).forward == pytest.approx(measured_losses(config, data), rel=TOLERANCE)
    assert counted(config, data).total == pytest.approx(measured_step(config, data), rel=TOLERANCE)


@pytest.mark.parametrize(
    "left_out", ["contrastive", "local_contrastive", "image_reconstruction", "text_reconstruction"]
)
def test_a_loss_that_is_left_out_is_not_counted(left_out: str) -> None:
    config, data = configure("alta", LossWeights(**{left_out: 0.0})), batch()
    assert counted(config, data).total == pytest.approx(measured_step(config, data), rel=TOLERANCE)


def test_a_batch_in_parts_pays_for_its_first_pass() -> None:
    config, data = configure("alta", micro_batch=4), batch()
    assert counted(config, data).total == pytest.approx(measured_step(config, data), rel=TOLERANCE)
    parts = (training_flops(config, workload_of(data, config.model), processes=n).parts for n in (1, 2))
    assert ["first pass, in parts" in names for names in parts] == [True, False]


def test_slots_that_are_ignored_cost_nothing_when_absent() -> None:
    config = configure("alta")
    config = replace(config, model=replace(config.model, absent_slots="ignored"))
    filled = torch.arange(STUDIES) % len(SLOTS) + 1  # one image, two, three, four, one, ...
    data = replace(batch(), present=torch.arange(len(SLOTS)) < filled[:, None])
    assert workload_of(data, config.model).images == 2.5
    assert counted(config, data).total == pytest.approx(measured_step(config, data), rel=TOLERANCE)


def test_padding_is_not_counted() -> None:
    config, data = configure("alta"), batch(ragged=True)
    step = measured_step(config, data)
    assert 0.7 * step < counted(config, data).total <= step * (1 + TOLERANCE)


def test_below_what_learns_nothing_is_propagated() -> None:
    config = configure("frozen")
    parts = training_flops(config, workload_of(batch(), config.model)).parts
    assert parts["image encoder"].backward == 0 and parts["text, contrastive pass"].backward == 0
    assert parts["local loss"].backward > 0


def test_a_frozen_weight_has_no_gradient_of_its_own_and_a_learned_one_has() -> None:
    adapted, fine_tuned = (configure("alta", trainable=which) for which in ("objective", "all"))
    work = workload_of(batch(), adapted.model)
    few, all_of_them = (training_flops(config, work).parts["image encoder"] for config in (adapted, fine_tuned))
    assert few.forward == all_of_them.forward
    assert few.forward < few.backward < 1.5 * few.forward
    assert 1.8 * few.forward < all_of_them.backward < 2 * few.forward  # the pixels need no gradient


# The published model


def test_the_published_model_learns_the_published_share() -> None:
    found = estimate_run(TrainConfig("published", base=BaseConfig(checkpoint="-"))).all_parameters
    assert round(found.total / 1e6, 2) == 242.18
    assert round(found.trainable / 1e6, 2) == 18.33
    assert round(100 * found.share, 2) == 7.57


def test_parameters_are_in_one_part_each() -> None:
    model = build_on_meta(configure("lora"))
    parts = count_parameters(model)
    fixed = sum(buffer.numel() for name, buffer in model.named_buffers() if name.endswith("pos_embed"))
    assert sum(part.total for part in parts.values()) == sum(p.numel() for p in model.parameters()) + fixed
    assert parts["adapters"].share == 1


def test_the_comparison_of_the_paper_says_what_the_count_says() -> None:
    whole, frontal, published, here, clip = compare_as_published(tokens=60)
    for row in (whole, frontal):
        assert round(100 * row.parameters.share, 2) == 7.57 and row.epochs == 30
    assert published.epochs == here.epochs == 200
    assert frontal.total < whole.total < clip.total
    # Less than a fifth, as the abstract has it, holds for a frontal alone beside this product's own MRM.
    assert [whole.total / base.total < 0.2 for base in (published, here)] == [False, False]
    assert [frontal.total / base.total < 0.2 for base in (published, here)] == [False, True]


def test_a_quarter_of_the_patches_makes_an_image_a_quarter_of_its_cost() -> None:
    whole, *_, clip = compare_as_published(tokens=60)
    quarter, full = (row.flops.parts["image encoder"].forward for row in (whole, clip))
    assert quarter / full == pytest.approx(50 / 197, rel=0.1)


# The workload of a run


def test_a_table_gives_its_images_and_its_tokens(tmp_path: Path) -> None:
    base = write_tiny_checkpoint(tmp_path / "base", "ignored")
    reports = ["no effusion", "the heart is enlarged", "the heart is enlarged", "", "no effusion"]
    rows = [
        StudyRow(str(n), str(n), "train", f"{n}.png", f"{n}-lateral.png" if n else "", findings=report)
        for n, report in enumerate(reports[:4])
    ]
    rows.append(StudyRow("v", "v", "validate", "v.png", findings=reports[4]))
    write_table(tmp_path / "studies.csv", rows)
    config = replace(
        configure("alta", batch=2, steps=3),
        base=BaseConfig(checkpoint=str(base)),
        data=DataConfig(table=str(tmp_path / "studies.csv"), one_section=0.0),
        model=tiny_config("ignored"),
    )
    _, work, studies, notes = expected_workload(config)
    assert studies == 3  # one has no report, one is not of split train
    assert work.images == pytest.approx(5 / 3)
    assert work.tokens == pytest.approx((4 + 6 + 6) / 3) and work.tokens_squared == pytest.approx((16 + 36 + 36) / 3)
    assert work.masked == pytest.approx((work.tokens - 2) / 2)
    assert any("3 studies" in note for note in notes) and any("mean of 3" in note for note in notes)
    assert expected_workload(config, tokens=10)[1].tokens == 10
    bare = replace(config, base=BaseConfig(mrm="MRM.pth", cxr_bert=str(tmp_path)))
    _, work, _, notes = expected_workload(bare)
    assert work.images == pytest.approx(5 / 3) and work.tokens == 24
    assert any("assumed" in note and "vocab.txt" in note for note in notes)
    assert estimate_run(config).epochs == 3  # one batch of two in each


def test_what_is_assumed_is_said() -> None:
    config = configure("alta")
    _, work, _, notes = expected_workload(config)
    assert work.images == 4 and work.tokens == config.model.text.context_length  # 60 do not fit
    assert sum("assumed" in note for note in notes) == 2


def test_a_table_that_is_named_and_not_there_is_a_mistake(tmp_path: Path) -> None:
    missing = replace(configure("alta"), data=DataConfig(table=str(tmp_path / "absent.csv")))
    with pytest.raises(TableError, match=r"absent\.csv is not there; .*or leave data\.table out"):
        estimate_run(missing)


def test_numbers_that_make_no_network_are_a_mistake() -> None:
    config = configure("alta")
    odd = replace(config.model, image=replace(config.model.image, width=18, heads=2))  # no sines and cosines of it
    with pytest.raises(TrainingConfigError, match=r"\[model\] describes no network"):
        estimate_run(replace(config, model=odd))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(TrainingConfigError, match=r"900 tokens a report; expected 3 to 24"):
        estimate_run(configure("alta"), tokens=900)
    with pytest.raises(TrainingConfigError, match="multiple of their number"):
        estimate_run(configure("alta"), processes=3)


def test_a_run_costs_its_studies() -> None:
    found = estimate_run(configure("alta", steps=10))
    assert found.studies_seen == 10 * STUDIES
    assert found.total == pytest.approx(found.flops.whole.total * 10 * STUDIES)


# The command


PUBLISHED = """
name = "adapted"
[base]
mrm = "MRM.pth"
cxr_bert = "CXR-BERT"
[optim]
steps = 62500
"""


def test_the_command_prints_what_a_run_costs_and_runs_nothing(alta: Alta, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(PUBLISHED)
    code, out, _ = alta("train", tmp_path / "run.toml", "--estimate", "--studies-per-second", 100)
    assert code == 0
    for name in ("mrm: MRM.pth", "cxr_bert: CXR-BERT/config.json", "cxr_bert: CXR-BERT/vocab.txt"):
        assert f"\nWarning: base.{name}: no such file or directory; the run will not start without it.\n" in out
    assert "242.18" in out and "18.33" in out and "7.57%" in out
    assert "a multiply-add as 2 operations" in out and "not under a fifth" in out and "assumed" in out
    found = json.loads(out.splitlines()[-1])
    assert found["run"]["studies"] == 6_000_000 and round(found["trainable_share"], 4) == 0.0757
    assert found["measured_hours"] == pytest.approx(6_000_000 / 100 / 3600)
    at_peak = found["run"]["flops"] / 989e12 / 3600
    assert found["device_hours"] == pytest.approx(at_peak / 0.4)
    assert [path.name for path in tmp_path.iterdir()] == ["run.toml"]


def test_training_without_an_output_is_one_line(alta: Alta, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(PUBLISHED)
    line = one_line_of_error(alta("train", tmp_path / "run.toml"))
    assert "--output DIR" in line and "--estimate" in line
