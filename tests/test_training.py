"""Training: written-down runs, batches of a seed, and a loop that an interruption does not change."""

import json
import math
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmarks.parity import config_of
from model.alta import ALTA
from model.alta_encoder import load_encoder
from model.checkpoint import load_checkpoint
from model.encoder import StudyImages
from model.image import ImageTransform
from model.losses import LossWeights, TrainingBatch
from model.published import published_names
from model.simulation import render, simulate_studies
from model.text import ReportTokenizer, sentences, train_vocabulary
from model.training import TrainConfig, TrainingConfigError, loop, read_config, simulated, train
from model.training.augment import Augmentation, draw_augmentation
from model.training.batches import BatchMaker
from model.training.config import DataConfig, OptimConfig, ValidationConfig
from model.training.objectives import choose_trainable, trainable_names
from model.training.optimizer import make_optimizer, set_learning_rate
from model.training.simulated import render_cohort
from model.training.studies import ABSENT, TrainingStudies
from tests.tiny import PROVENANCE, tiny_config, tiny_images, tiny_model

ROOT = Path(__file__).parents[1]
TRANSFORM = ImageTransform(resize=32, crop=32, mean=0.5, std=0.25)
CONFIG = TrainConfig(
    name="tiny",
    data=DataConfig(seed=11, studies=10, validation_seed=12, validation_studies=6),
    optim=OptimConfig(batch=4, steps=7, warmup_steps=2, base_learning_rate=0.2, local_group=2, trainable="all"),
    losses=LossWeights(local_contrastive=0.1),
    validation=ValidationConfig(every=3),
    model=tiny_config("ignored", dropout=0.2, vocabulary=200),
    transform=TRANSFORM,
    provenance=PROVENANCE,
)


# The written configuration


def written(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text)
    return path


def test_the_demo_run_is_readable_and_small() -> None:
    config = read_config(ROOT / "configs" / "demo.toml")
    assert config.name == "demo" and config.model.absent_slots == "ignored"
    assert config.provenance is not None and "Not for clinical use" in config.provenance.notice
    with torch.device("meta"):
        parameters = sum(p.numel() for p in ALTA(config.model).parameters())
    assert config.stored_dtype == "float16" and 2 * parameters < 15e6  # bytes, to live in the repository


def test_what_is_not_written_has_its_default(tmp_path: Path) -> None:
    text = 'name = "mine"\n[optim]\nbatch = 32\nbetas = [0.8, 0.9]\ntrainable = "all"\n'
    config = read_config(written(tmp_path, text))
    assert config == TrainConfig("mine", optim=OptimConfig(batch=32, betas=(0.8, 0.9), trainable="all"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = 1", "top level: .*'name'"),
        ('name = "x"\nspeed = 3', "top level: unknown speed; known are .*seed"),
        ('name = "x"\n[optim]\nlearning_rate = 1.0\nstep = 3', r"optim: unknown learning_rate, step; known are base_l"),
        ('name = "x"\n[model.image]\nsize = 32\nfoo = 1', r"model\.image: unknown foo"),
        ('name = "x"\n[model]\nabsent_slots = "skipped"', r"model: absent_slots is 'skipped'"),
        ('name = "x"\n[optim]\nbatch = "many"', "optim: batch is 'many'.*integer"),
        ('name = "x"\n[optim]\ntrainable = "heads"', "optim: trainable is 'heads'"),
        ('name = "x"\n[optim]\nbetas = [0.9]', "optim: betas is"),
        ('name = "x"\noptim = 3', "optim: expected a table, found 3"),
        ('name = "x"\nmodel = "big"', "model: expected a table"),
        ('name = "x"\n[model]\ntext = 1', r"model\.text: expected a table"),
        ('name = "x"\n[data]\nstudies = 8', r"optim\.batch is 96, data\.studies 8"),
        ('name = "x"\nobjective = "clip"\n[optim]\nsteps = 0', r"optim\.steps is 0; expected at least 1"),
        ('name = "x"\nobjective = "clip"\n[validation]\nevery = 0', r"validation\.every is 0; expected at least 1"),
        ('name = "x"\nobjective = "clip"\n[optim]\nmicro_batch = -24', r"optim\.micro_batch is -24"),
        ('name = "x"\nobjective = "clip"\n[optim]\nlocal_group = 0\nmicro_batch = 2', r"optim\.local_group is 0"),
        ('name = "x"\n[model.image]\npatch = 15', r"size is 224, which is no multiple of model\.image\.patch, 15"),
        ('name = "x"\nobjective = "mrm"\n[model.image]\nmask_ratio = 1.0', r"model\.image\.mask_ratio is 1\.0"),
        (
            'name = "x"\nobjective = "clip"\n[optim]\nhorizon = 100',
            r"horizon is 100, .* rise again",
        ),
        ('name = "x"\nobjective = "clip"\n[model.text]\npositions = 100', r"context_length is 128, .*positions 100"),
        (
            'name = "x"\nobjective = "clip"\n[data]\nnew_tokens = 9',
            r"new_tokens extends the vocabulary of a check",
        ),
        (
            'name = "x"\nobjective = "mrm"\n[validation]\nselect = "recall_at_10"',
            r"select is recall_at_10, which",
        ),
        ('name = "x"\n[transform]\ncrop = 160', r"transform\.crop is 160 px, model\.image\.size 224"),
        ('name = "x"\n[model.image]\nheads = 5', r"model\.image\.width is 768, model\.image\.heads 5; expected a wid"),
        ('name = "x"\n[model.image]\ndecoder_heads = 5', r"decoder_width is 768, model\.image\.decoder_heads 5"),
        ('name = "x"\n[model.text]\nheads = 0', r"model\.text\.width is 768, model\.text\.heads 0"),
        ('name = "x"\nname = "y"', "not TOML"),
    ],
)
def test_a_mistake_in_a_configuration_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TrainingConfigError, match=message) as caught:
        read_config(written(tmp_path, text))
    assert "run.toml" in caught.value.message


def test_an_unreadable_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingConfigError, match=r"absent\.toml: cannot be read"):
        read_config(tmp_path / "absent.toml")
    (tmp_path / "latin1.toml").write_bytes('name = "é"'.encode("latin-1"))
    with pytest.raises(TrainingConfigError, match="not TOML"):
        read_config(tmp_path / "latin1.toml")


# What learns, and how fast


def test_the_paper_trains_what_is_listed_in_the_published_vectors() -> None:
    expected = json.loads((Path(__file__).parent / "data" / "parity" / "small.json").read_text())
    with torch.device("meta"):
        model = ALTA(config_of(expected["parameters"]))
    names = published_names(model)
    assert {names[name] for name in trainable_names(model)} == set(expected["trainable"])


@pytest.mark.parametrize("trainable", ["adapters", "all"])
def test_only_what_is_trainable_learns_and_the_missing_token_never_does(trainable: str) -> None:
    model = tiny_model()
    choose_trainable(model, "alta", everything=trainable == "all")
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    everything = {name for name, _ in model.named_parameters()} - {"image_encoder.missing_token"}
    assert learning == (trainable_names(model) if trainable == "adapters" else everything)


def test_biases_norms_and_scales_do_not_decay() -> None:
    model = tiny_model()
    choose_trainable(model, "alta", everything=True)
    decaying, steady = make_optimizer(model, CONFIG.optim).param_groups
    assert (decaying["weight_decay"], steady["weight_decay"]) == (0.05, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    kept = {names[id(parameter)] for parameter in steady["params"]}
    assert all(name.endswith("bias") or "norm" in name.lower() or "logit_scale" in name for name in kept)
    assert len(kept) + len(decaying["params"]) == len(names) - 1


def test_the_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    optim = OptimConfig(batch=128, steps=100, warmup_steps=10, base_learning_rate=1e-3)
    optimizer = torch.optim.SGD([torch.zeros(1)])
    rates = []
    for step in range(101):
        set_learning_rate(optimizer, step, optim)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[:10] == pytest.approx([0.5e-3 * (step + 1) / 10 for step in range(10)])
    assert rates[10] == max(rates) == pytest.approx(0.5e-3)
    assert rates[55] == pytest.approx(0.25e-3) and rates[100] == pytest.approx(0, abs=1e-9)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_a_restart_begins_a_second_fall_at_half_the_peak() -> None:
    optim = OptimConfig(batch=256, steps=100, warmup_steps=10, restart_at=60, base_learning_rate=1e-3)
    optimizer = torch.optim.SGD([torch.zeros(1)])
    rates = []
    for step in range(101):
        set_learning_rate(optimizer, step, optim)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[59] < 1e-5
    assert rates[60] == pytest.approx(0.5e-3)
    assert rates[60:] == sorted(rates[60:], reverse=True)
    assert rates[100] == pytest.approx(0, abs=1e-9)


# Augmentation


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_strength_zero_keeps_the_geometry() -> None:
    pictures = torch.rand(5, 1, 32, 32, generator=generator())
    drawn = draw_augmentation(5, generator(), strength=0)
    still = replace(drawn, brightness=torch.ones(5, 1, 1, 1), contrast=torch.ones(5, 1, 1, 1))
    assert torch.allclose(still(pictures), pictures, atol=1e-5)
    assert drawn.brightness.unique().numel() == 5  # the exposure still varies


def test_draws_stay_within_the_papers_ranges() -> None:
    drawn = draw_augmentation(500, generator())
    scale = drawn.affine[:, :, :2].det() ** -0.5
    assert 0.95 <= scale.min() < 0.96 and 1.04 < scale.max() <= 1.05
    assert 0.19 < drawn.affine[:, :, 2].abs().max() <= 0.2  # a tenth of a side that is 2 long
    angle = torch.atan2(drawn.affine[:, 1, 0], drawn.affine[:, 0, 0]) * 180 / math.pi
    assert 19 < angle.abs().max() <= 20
    for factor in (drawn.brightness, drawn.contrast):
        assert 0.8 <= factor.min() < 0.81 and 1.19 < factor.max() <= 1.2


def test_augmented_pictures_stay_in_range_and_differ() -> None:
    pictures = torch.rand(1, 1, 32, 32, generator=generator()).expand(4, -1, -1, -1)
    augmented = draw_augmentation(4, generator())(pictures)
    assert augmented.shape == pictures.shape and augmented.min() >= 0 and augmented.max() <= 1
    assert len({float(picture.sum()) for picture in augmented}) == 4


def test_a_shift_moves_the_picture_and_leaves_black() -> None:
    affine = torch.tensor([[[1.0, 0, 0.5], [0, 1, 0]]])
    one = torch.ones(1, 1, 1, 1)
    moved = Augmentation(affine, one, one)(torch.ones(1, 1, 8, 8))
    assert torch.equal(moved[0, 0, 0], torch.tensor([1.0] * 6 + [0.0] * 2))


# Batches


def rendered(priors: list[int]) -> TrainingStudies:
    """Studies of one picture a patient: each looks as its prior does."""
    count, draw = len(priors), np.random.default_rng(0)
    patient = [number if prior < 0 else prior for number, prior in enumerate(priors)]

    def lateral(number: int) -> int:
        return number if number >= 0 and number % 3 != 2 else ABSENT

    return TrainingStudies(
        ids=[f"study {number}" for number in range(count)],
        patients=[f"patient {number}" for number in patient],
        frontal=draw.integers(0, 256, (count, 64, 64), np.uint8)[patient],
        lateral=draw.integers(0, 256, (count, 32, 32), np.uint8)[patient],
        slots=np.array([[n, lateral(n), prior, lateral(prior)] for n, prior in enumerate(priors)]),
        findings=[f"The heart is normal. Line {number} is seen. No effusion." for number in range(count)],
        impression=[f"Conclusion {number}." for number in range(count)],
        text=[""] * count,
        labels=[frozenset()] * count,
    )


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ReportTokenizer:
    texts = [*rendered([-1] * 9).findings, *rendered([-1] * 9).impression]
    return ReportTokenizer(train_vocabulary(texts, 250, tmp_path_factory.mktemp("vocabulary")), 24)


PRIORS = [-1, 0, -1, 2, -1]


@pytest.fixture
def maker(tokenizer: ReportTokenizer) -> Callable[..., TrainingBatch]:
    def make(
        rows: list[int], seed: int = 3, augmentation: float | None = 1.0, one_section: float = 0.0
    ) -> TrainingBatch:
        batches = BatchMaker(rendered(PRIORS), tokenizer, tiny_config(), TRANSFORM, one_section)
        return batches(np.array(rows), seed, augmentation)

    return make


Maker = Callable[..., TrainingBatch]


def same(a: TrainingBatch, b: TrainingBatch) -> bool:
    names = [field.name for field in fields(TrainingBatch) if getattr(a, field.name) is not None]
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


def words(tokenizer: ReportTokenizer, ids: torch.Tensor) -> str:
    kept = [tokenizer.vocabulary[i] for i in ids.tolist() if i not in tokenizer.special_ids]
    return " ".join(kept).replace(" ##", "")


def test_a_batch_is_made_from_its_rows_and_seed_alone(maker: Maker) -> None:
    assert same(maker([0, 3, 1]), maker([0, 3, 1]))
    assert not same(maker([0, 3, 1]), maker([0, 3, 1], seed=4))


def test_slots_are_present_as_the_studies_say(maker: Maker) -> None:
    batch = maker([0, 1, 2, 3, 4])
    assert batch.present.tolist() == [
        [True, True, False, False],
        [True, True, True, True],
        [True, False, False, False],
        [True, True, True, False],  # its prior has no lateral
        [True, True, False, False],
    ]
    assert batch.target.shape == (5, 1, 64, 64) and batch.others.shape == (5, 3, 1, 32, 32)
    assert batch.noise.shape == (5, 4, 16)


def test_current_and_prior_of_a_view_share_the_augmentation(maker: Maker) -> None:
    batch = maker([1, 3, 1])
    assert torch.allclose(tiny_model().halve(batch.target), batch.others[:, 1], atol=1e-5)
    assert torch.allclose(batch.others[[0, 2], 0], batch.others[[0, 2], 2])  # study 3's prior has no lateral
    assert not torch.allclose(batch.target[0], batch.target[2], atol=0.1)  # the next study has another


def test_unaugmented_pictures_are_the_normalised_pixels(maker: Maker) -> None:
    batch, studies_ = maker([4, 1], augmentation=None), rendered(PRIORS)
    expected = (studies_.frontal[[4, 1]] / 255 - 0.5) / 0.25
    assert batch.target[:, 0].numpy() == pytest.approx(expected, abs=1e-5)
    assert batch.others[1, 0, 0].numpy() == pytest.approx((studies_.lateral[1] / 255 - 0.5) / 0.25, abs=1e-5)


def test_reports_are_read_whole_with_their_sentences_shuffled(maker: Maker, tokenizer: ReportTokenizer) -> None:
    orders = set()
    for seed in range(12):
        text = words(tokenizer, maker([4], seed).input_ids[0])
        assert sorted(sentences(text.replace(" .", "."))) == sorted(
            ["the heart is normal.", "line 4 is seen.", "no effusion.", "conclusion 4."]
        )
        orders.add(text)
    assert len(orders) > 6


def test_texts_may_be_cut_to_one_section(maker: Maker, tokenizer: ReportTokenizer) -> None:
    texts = {words(tokenizer, maker([4], seed, one_section=1.0).input_ids[0]) for seed in range(12)}
    assert "conclusion 4 ." in texts and len(texts) > 2
    assert not any("conclusion" in text and "heart" in text for text in texts)


def test_about_half_of_the_words_are_masked_and_no_special_token(maker: Maker, tokenizer: ReportTokenizer) -> None:
    batch = maker([0, 1, 2, 3, 4] * 20)
    special = torch.isin(batch.input_ids, torch.tensor(tokenizer.special_ids))
    masked = batch.labels != -100
    assert not (masked & special).any()
    assert float(masked.sum() / (~special).sum()) == pytest.approx(0.5, abs=0.05)
    assert torch.equal(batch.labels[masked], batch.input_ids[masked])
    assert (batch.masked_input_ids[masked] == tokenizer.mask_id).all()
    assert torch.equal(batch.masked_input_ids[~masked], batch.input_ids[~masked])
    assert torch.equal(batch.attention_mask == 0, batch.input_ids == tokenizer.special_ids[0])


# Rendered cohorts


def test_a_cohort_is_rendered_as_the_product_places_files(tmp_path: Path) -> None:
    cohort = list(simulate_studies(21, 5))
    found = render_cohort(tmp_path, 21, 5, TRANSFORM, target_scale=2, workers=1)
    assert len(found) == 5 and found.frontal.shape == (5, 64, 64) and found.lateral.shape == (5, 32, 32)
    number = {study.study_instance_uid: row for row, (study, _) in enumerate(cohort)}
    for row, (study, prior) in enumerate(cohort):
        picture = ImageTransform(64, 64).place(render(study, "frontal", simulated.RENDERED_SIZE))
        assert np.array_equal(found.frontal[row], np.round(picture * 255).astype(np.uint8))
        before = number[prior.study_instance_uid] if prior else ABSENT
        assert found.slots[row].tolist() == [
            row,
            row if study.has_lateral else ABSENT,
            before,
            before if prior and prior.has_lateral else ABSENT,
        ]
        assert found.lateral[row].any() == study.has_lateral
        assert (found.findings[row], found.impression[row]) == (study.report.findings, study.report.impression)
        assert (found.ids[row], found.patients[row]) == (study.study_instance_uid, study.patient_id)


def test_rendering_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated, "CHUNK", 2)
    monkeypatch.setattr(simulated, "RENDERED_SIZE", 64)
    rendered_chunks, render_chunk = [], simulated._render_chunk

    def counted(start: int, **arguments: object) -> object:
        rendered_chunks.append(start)
        return render_chunk(start, **arguments)  # type: ignore[arg-type]

    def stop(done: int, total: int) -> None:
        if done >= 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(simulated, "_render_chunk", counted)
    whole = render_cohort(tmp_path / "whole", 22, 7, TRANSFORM, 2, 1)
    rendered_chunks.clear()
    with pytest.raises(KeyboardInterrupt):
        render_cohort(tmp_path / "broken", 22, 7, TRANSFORM, 2, 1, stop)
    assert rendered_chunks == [0, 2]
    resumed = render_cohort(tmp_path / "broken", 22, 7, TRANSFORM, 2, 1)
    assert rendered_chunks == [0, 2, 4, 6]
    assert np.array_equal(resumed.frontal, whole.frontal) and np.array_equal(resumed.lateral, whole.lateral)
    render_cohort(tmp_path / "broken", 22, 7, TRANSFORM, 2, 1)
    assert rendered_chunks == [0, 2, 4, 6]


# Runs


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def unbroken(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of a whole run."""
    output = tmp_path_factory.mktemp("runs") / "unbroken"
    train(CONFIG, output, cache, workers=1)
    return output


def weights(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "model.safetensors")


def alike(a: Path, b: Path) -> bool:
    other = weights(b)
    return all(torch.equal(value, other[name]) for name, value in weights(a).items())


def journal(output: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def without_times(entries: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in entries]


def test_a_run_writes_a_checkpoint_that_encodes(unbroken: Path) -> None:
    checkpoint = load_checkpoint(unbroken)
    assert (checkpoint.provenance, checkpoint.transform) == (PROVENANCE, TRANSFORM)
    assert checkpoint.model.config.text.vocabulary == len(checkpoint.tokenizer.vocabulary) <= 200
    files = ("config.json", "model.safetensors", "vocab.txt")
    assert sum((unbroken / name).stat().st_size for name in files) <= 15e6
    encoder = load_encoder(unbroken, device="cpu")
    embedding = encoder.encode_studies([StudyImages(tiny_images(1)[0])])
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)


def test_a_run_logs_losses_and_validation(unbroken: Path) -> None:
    *_, losses, validation = journal(unbroken)
    assert losses["step"] == validation["step"] == 7
    names = {"contrastive", "local_contrastive", "image_reconstruction", "text_reconstruction", "total", "grad_norm"}
    assert names <= losses.keys()
    names = {"loss", "recall_at_1", "recall_at_5", "recall_at_10"}
    assert set(validation["validation"]) == names  # type: ignore[call-overload]
    assert validation["validation"]["recall_at_10"] == 1.0  # type: ignore[index]  # of six studies


def test_a_seed_gives_a_run(unbroken: Path, cache: Path, tmp_path: Path) -> None:
    train(CONFIG, tmp_path / "again", cache, workers=1)
    assert alike(tmp_path / "again", unbroken)
    train(replace(CONFIG, seed=1), tmp_path / "other", cache, workers=1)
    assert not alike(tmp_path / "other", unbroken)


@pytest.mark.parametrize("last_step", [1, 5])
def test_an_interrupted_run_ends_as_an_unbroken_one(
    unbroken: Path, cache: Path, tmp_path: Path, last_step: int
) -> None:
    seen: list[int] = []

    def until(step: int) -> loop.Progress:
        def report(stage: str, done: int, total: int) -> None:
            if stage == "training":
                seen.append(done)
                if done == step:
                    raise KeyboardInterrupt

        return report

    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, tmp_path, cache, workers=1, progress=until(last_step))
    train(CONFIG, tmp_path, cache, workers=1, progress=until(0), resume=True)
    from_save = [4, 5, 6, 7] if last_step == 5 else [1, 2, 3, 4, 5, 6, 7]
    assert seen == [*range(1, last_step + 1), *from_save]
    assert alike(tmp_path, unbroken)
    assert (tmp_path / "vocab.txt").read_bytes() == (unbroken / "vocab.txt").read_bytes()
    assert without_times(journal(tmp_path)) == without_times(journal(unbroken))


def test_resuming_a_finished_run_changes_nothing(unbroken: Path, cache: Path, tmp_path: Path) -> None:
    train(CONFIG, tmp_path, cache, workers=1)
    before = (tmp_path / "model.safetensors").read_bytes()
    train(CONFIG, tmp_path, cache, workers=1, resume=True)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_an_overwriting_run_starts_anew(unbroken: Path, cache: Path, tmp_path: Path) -> None:
    train(replace(CONFIG, seed=5), tmp_path, cache, workers=1)
    train(CONFIG, tmp_path, cache, workers=1, overwrite=True)
    assert alike(tmp_path, unbroken)
    assert without_times(journal(tmp_path)) == without_times(journal(unbroken))


def test_adapters_alone_learn_when_that_is_asked(cache: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, optim=replace(CONFIG.optim, trainable="adapters"), stored_dtype="float16")
    train(config, tmp_path, cache, workers=1)
    trained = weights(tmp_path)
    torch.manual_seed(config.seed)
    size = trained["text_encoder.mlm_head.bias"].numel()
    start = ALTA(replace(config.model, text=replace(config.model.text, vocabulary=size)))
    changed = {name for name, p in start.named_parameters() if not torch.equal(p.detach().half(), trained[name])}
    assert {value.dtype for value in trained.values()} == {torch.float16}
    assert changed <= trainable_names(start) and len(changed) > 0.8 * len(trainable_names(start))


def test_bfloat16_trains_too(cache: Path, tmp_path: Path) -> None:
    train(replace(CONFIG, precision="bfloat16"), tmp_path, cache, workers=1)
    assert all(torch.isfinite(value).all() for value in weights(tmp_path).values())


def test_an_error_while_a_batch_is_made_ends_the_run(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(BatchMaker, "__call__", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        train(CONFIG, tmp_path, cache, workers=1)
