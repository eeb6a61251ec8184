"""One update: parts give the gradient of the whole, interruptions leave no trace, figures reach the trackers."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model.alta import ALTA, TextTokens
from model.losses import LossWeights, TrainingBatch
from model.training.config import OptimConfig, TrainConfig
from model.training.distributed import World
from model.training.journal import TRACKERS, Journal
from model.training.objectives import choose_trainable
from model.training.optimizer import make_optimizer, set_learning_rate
from model.training.step import TrainingDiverged, Update, split_batch
from tests.one_of_two import joined_batch
from tests.tiny import TRANSFORM, tiny_config, tiny_model

WEIGHTS = LossWeights(contrastive=0.7, local_contrastive=0.5)


def config(micro_batch: int, precision: str = "float32", local_group: int = 2) -> TrainConfig:
    return TrainConfig(
        "step",
        precision=precision,
        optim=OptimConfig(batch=8, micro_batch=micro_batch, local_group=local_group, trainable="all", clip_norm=1e9),
        losses=WEIGHTS,
        model=tiny_config(),
        transform=TRANSFORM,
    )


def batch(keys: bool = False) -> TrainingBatch:
    drawn = joined_batch(8)
    return replace(drawn, report_key=torch.tensor([0, 1, 0, 2, 3, 1, 4, 5])) if keys else drawn


def updated(settings: TrainConfig, data: TrainingBatch) -> tuple[ALTA, Update, dict[str, float]]:
    model = tiny_model()
    choose_trainable(model, "alta", everything=True)
    update = Update(model, make_optimizer(model, settings.optim), settings, World())
    set_learning_rate(update.optimizer, 0, settings.optim)
    return model, update, update(data, seed=5)


@pytest.mark.parametrize("micro_batch", [2, 4, 6])
@pytest.mark.parametrize("keys", [False, True])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(micro_batch: int, keys: bool) -> None:
    whole, _, expected = updated(config(0), batch(keys))
    parts, _, found = updated(config(micro_batch), batch(keys))
    gradients = {name: p.grad for name, p in parts.named_parameters() if p.grad is not None}
    for name, parameter in whole.named_parameters():
        if parameter.grad is not None:
            rounding = 1e-5 + 2e-5 * float(parameter.grad.abs().max())  # of float32, of its largest entry
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=rounding, msg=name)
    assert found == pytest.approx(expected, rel=1e-3)


def test_the_local_loss_of_a_group_that_is_not_full_weighs_what_it_does_in_the_whole() -> None:
    data = split_batch(joined_batch(9), 7)[0]
    for name, (whole, parts) in _gradients_of_both(data, local_group=4, micro_batch=4).items():
        torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-4, msg=name)


def _gradients_of_both(
    data: TrainingBatch, local_group: int, micro_batch: int
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Of the whole batch and of its parts, by parameter."""
    whole, _, _ = updated(config(0, local_group=local_group), data)
    parts, _, _ = updated(config(micro_batch, local_group=local_group), data)
    pairs = zip(whole.named_parameters(), parts.parameters(), strict=True)
    return {name: (p.grad, q.grad) for (name, p), q in pairs if p.grad is not None and q.grad is not None}


def test_dropout_draws_the_same_in_both_passes_over_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the gradient that the first pass finds belongs to other embeddings than those it is carried back from."""
    settings = config(4)
    model = ALTA(replace(tiny_config(dropout=0.3), absent_slots="ignored"))
    update = Update(model, make_optimizer(model, settings.optim), settings, World())
    seen: list[torch.Tensor] = []
    embed = model.text_encoder.embed_text

    def watched(tokens: TextTokens) -> torch.Tensor:
        seen.append(embed(tokens))
        return seen[-1]

    monkeypatch.setattr(model.text_encoder, "embed_text", watched)
    model.train()
    update.backward(batch(), seed=5)
    first, second = seen[:2], seen[2:]
    assert len(second) == 2
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=0, atol=0)


def poisoned(model: ALTA, update: Update, times: int) -> None:
    """Let the next gradients hold an infinity, though the losses are numbers."""
    backward = update.backward

    def with_infinity(data: TrainingBatch, seed: int) -> dict[str, float]:
        nonlocal times
        values = backward(data, seed)
        if times:
            times -= 1
            assert model.logit_scale.grad is not None
            model.logit_scale.grad += torch.inf
        return values

    update.backward = with_infinity  # type: ignore[method-assign]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gradient_that_is_no_number_stops_the_run_before_a_weight_changes(precision: str) -> None:
    model, update, _ = updated(config(0, precision), batch())
    before = [parameter.detach().clone() for parameter in model.parameters()]
    poisoned(model, update, 1)
    with pytest.raises(TrainingDiverged, match=r"norm of their gradient is (inf|nan)"):
        update(batch(), seed=6)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_float16_passes_over_a_gradient_that_overflows_and_stops_when_all_do() -> None:
    model, update, _ = updated(config(0, "float16"), batch())
    before, scale = model.logit_scale.detach().clone(), update.scaler.get_scale()
    poisoned(model, update, 1)
    update(batch(), seed=6)
    assert torch.equal(model.logit_scale, before) and update.scaler.get_scale() == scale / 2
    poisoned(model, update, 1000)
    while update.scaler.get_scale() > 1:
        update(batch(), seed=6)
    with pytest.raises(TrainingDiverged, match="norm of their gradient is"):
        update(batch(), seed=6)


def test_the_contrastive_loss_of_parts_is_not_the_mean_of_theirs() -> None:
    """Else the test above could not fail."""
    settings = config(0)
    _, _, whole = updated(settings, batch())
    each = [updated(settings, part)[2]["contrastive"] for part in split_batch(batch(), 4)]
    assert whole["contrastive"] > 1.05 * sum(each) / 2


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("micro_batch", [0, 4])
def test_half_precision_moves_the_weights_the_same_way(precision: str, micro_batch: int) -> None:
    exact, _, _ = updated(config(0), batch())
    model, update, _ = updated(config(micro_batch, precision), batch())
    for _ in range(20):  # a float16 step that overflows is passed over and halves the scale
        if all(bool(p.grad.isfinite().all()) for p in update.learned if p.grad is not None):
            break
        update(batch(), seed=5)
    pairs = zip(exact.parameters(), model.parameters(), strict=True)
    found = [(a.grad.flatten(), b.grad.flatten()) for a, b in pairs if a.grad is not None and b.grad is not None]
    flat = [torch.cat(side) for side in zip(*found, strict=True)]
    assert torch.nn.functional.cosine_similarity(flat[0], flat[1], dim=0) > 0.95


RUN = """
import sys
from pathlib import Path
from tests.test_training import CONFIG
from dataclasses import replace
from model.training import train
from model.training.config import ValidationConfig
config = replace(CONFIG, optim=replace(CONFIG.optim, steps=24), validation=ValidationConfig(every=4))
train(config, Path(sys.argv[1]), Path(sys.argv[2]), workers=1, resume=True)
"""


def test_a_run_that_is_killed_again_and_again_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    def start(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", RUN, str(tmp_path / name), str(tmp_path / "cache")],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    assert start("unbroken").wait(120) == 0
    killed = 0
    for lines in (1, 3, 5):  # validations until the kill, at whatever instant that is
        process = start("broken")
        log = tmp_path / "broken" / "log.jsonl"
        while process.poll() is None and (not log.exists() or log.read_text().count("validation") < lines):
            time.sleep(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait(120)
    assert start("broken").wait(120) == 0
    assert killed
    curves = []
    for name in ("unbroken", "broken"):
        entries = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        curves.append([{key: value for key, value in entry.items() if key != "seconds"} for entry in entries])
    assert curves[0] == curves[1]
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("unbroken", "broken")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_figures_reach_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Journal(tmp_path, World(), 0, ["tensorboard"]) as journal:
        journal.write({"step": 50, "seconds": 1.5, "total": 3.25, "learning_rate": 0.1})
        journal.write({"step": 50, "validation": {"recall_at_10": 0.5}})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {"seconds", "training/total", "learning_rate", "validation/recall_at_10"}
    [loss] = events.Scalars("training/total")
    assert (loss.step, loss.value) == (50, 3.25)


def test_a_tracker_that_fails_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(figures: dict[str, float], step: int) -> None:
        raise ConnectionError("the server is away")

    monkeypatch.setitem(TRACKERS, "mlflow", lambda *_: fail)
    with Journal(tmp_path, World(), 0, ["mlflow"]) as journal:
        journal.write({"step": 50, "total": 1.0})
    assert "step 50 did not reach a tracker: the server is away" in caplog.text
    assert json.loads((tmp_path / "log.jsonl").read_text()) == {"step": 50, "total": 1.0}


def test_a_resumed_run_does_not_show_its_steps_twice(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first, steps in ((0, (50, 100, 150)), (50, (100, 150))):
        with Journal(tmp_path, World(), first, ["tensorboard"]) as journal:
            for step in steps:
                journal.write({"step": step, "total": float(first + step)})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("training/total")] == [(50, 50.0), (100, 150.0), (150, 200.0)]
    kept = [json.loads(line)["total"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert kept == [50.0, 150.0, 200.0]
