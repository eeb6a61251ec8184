"""bfloat16 where the hardware multiplies it: as good as float32 to the third digit of a cosine, and stored once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from model import alta_encoder, processor
from model.alta import ALTA, ALTAConfig
from model.alta_encoder import AltaEncoder, load_encoder
from model.checkpoint import Checkpoint, load_checkpoint
from model.encoder import ProcessorSharing, StudyEncoder, StudyImages
from model.image import ImageTransform
from model.prompts import PROMPT_SETS
from model.simulation import render, simulate_studies
from model.text import report_body
from service.settings import DEMO_ENCODERS
from tests.tiny import tiny_images, write_tiny_checkpoint

CPU = torch.device("cpu")
BOTH = (torch.float32, torch.bfloat16)
LARGEST = 1e-3  # of 1 - cosine between the embeddings of the two

Pair = tuple[AltaEncoder, AltaEncoder]


@pytest.fixture(scope="module")
def demo() -> Pair:
    wide, narrow = (load_encoder(DEMO_ENCODERS, "cpu", dtype) for dtype in ("float32", "bfloat16"))
    return wide, narrow


def apart(pair: Pair, encode: Callable[[StudyEncoder], np.ndarray]) -> float:
    """The largest 1 - cosine, in double precision; both must be of length 1."""
    wide, narrow = (np.atleast_2d(encode(encoder)).astype(np.float64) for encoder in pair)
    for rows in (wide, narrow):
        assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-6)
    assert not np.array_equal(wide, narrow)
    return float((1 - (wide * narrow).sum(1)).max())


def simulated(count: int, transform: ImageTransform) -> tuple[list[StudyImages], list[str]]:
    """Studies of one to four slots and their reports."""
    films, reports = [], []
    for study, _ in simulate_studies(7, count + 3):
        films.append(transform(render(study, "frontal", 320)))
        reports.append(report_body(study.report.findings, study.report.impression))
    studies = []
    for number in range(count):
        a, b, c, d = films[number : number + 4]
        studies.append(
            (StudyImages(a), StudyImages(a, b), StudyImages(a, None, c), StudyImages(a, b, c, d))[number % 4]
        )
    return studies, reports[:count]


def test_studies_texts_and_prompts_of_the_demo_encoders_differ_by_less_than_a_thousandth(demo: Pair) -> None:
    studies, reports = simulated(16, demo[0].transform)
    assert apart(demo, lambda encoder: encoder.encode_studies(studies)) < LARGEST
    assert apart(demo, lambda encoder: encoder.encode_texts([*reports, "no effusion", ""])) < LARGEST
    for pair in PROMPT_SETS.values():
        for phrasings in (pair.positive, pair.negative):
            assert apart(demo, lambda encoder, p=phrasings: encoder.encode_prompts(p)) < LARGEST


@pytest.mark.slow
def test_encoders_of_the_published_size_differ_by_less_than_a_thousandth(demo: Pair) -> None:
    def made(dtype: torch.dtype) -> AltaEncoder:
        torch.manual_seed(0)
        model = ALTA(ALTAConfig())
        for name, weight in model.named_parameters():
            if "adapter" in name and "fc2.weight" in name:  # which start at zero, as if they were not there
                torch.nn.init.normal_(weight, std=0.02)
        checkpoint = Checkpoint(model, demo[0].tokenizer, ImageTransform(), demo[0].provenance, "b" * 64)
        return AltaEncoder(checkpoint, CPU, dtype)

    pair = made(torch.float32), made(torch.bfloat16)
    studies, reports = simulated(8, pair[0].transform)
    assert apart(pair, lambda encoder: encoder.encode_studies(studies)) < LARGEST
    assert apart(pair, lambda encoder: encoder.encode_texts(reports)) < LARGEST
    assert apart(pair, lambda encoder: encoder.encode_prompts(reports)) < LARGEST


def test_the_fingerprint_is_the_checkpoints_in_either(demo: Pair) -> None:
    assert demo[0].fingerprint == demo[1].fingerprint == load_checkpoint(DEMO_ENCODERS).fingerprint


def test_weights_of_products_are_stored_in_bfloat16_and_what_decides_in_float32(
    demo: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alta_encoder, "can_fuse", lambda: False)  # which would store products where none sees them
    narrow = load_encoder(DEMO_ENCODERS, "cpu", "bfloat16").model
    stored = {name: weight.dtype for name, weight in narrow.named_parameters() if "encoder" in name}
    products = [name for name in stored if any(part in name for part in (".mlp.", ".attn_adapter.", ".query."))]
    assert products and {stored[name] for name in products} == {torch.bfloat16}
    decisive = [name for name in stored if "norm" in name.lower() or "projection_head" in name]
    assert decisive and {stored[name] for name in decisive} == {torch.float32}
    assert {weight.dtype for weight in demo[0].model.parameters()} == {torch.float32}


@pytest.mark.parametrize("native", [True, False])
def test_auto_is_bfloat16_where_the_device_multiplies_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(alta_encoder, "has_native_bfloat16", lambda device: native)
    folder = write_tiny_checkpoint(tmp_path / "encoders")
    assert load_encoder(folder, "cpu").dtype == BOTH[native]
    assert load_encoder(folder, "cpu", "float32").dtype == torch.float32


@pytest.mark.parametrize(
    ("capabilities", "native"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_bf16": False}, False), ({}, False)],
)
def test_a_processor_is_asked_for_its_instructions(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], native: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert processor.has_native_bfloat16(CPU) is native
    assert not processor.has_native_bfloat16(torch.device("meta"))


def test_encoders_on_a_processor_share_its_cores_and_give_the_same(demo: Pair) -> None:
    encoder = demo[1]
    assert isinstance(encoder, ProcessorSharing) and 1 <= encoder.calls_at_once <= torch.get_num_threads()
    films = [StudyImages(film) for film in tiny_films(4, encoder.transform.crop)]
    alone = encoder.encode_studies(films)

    def part(number: int) -> np.ndarray:
        encoder.share_processor(2)
        assert torch.get_num_threads() == max(alta_encoder._threads() // 2, 1)
        return encoder.encode_studies(films[2 * number : 2 * number + 2])

    with ThreadPoolExecutor(2) as pool:
        assert np.concatenate(list(pool.map(part, range(2)))) == pytest.approx(alone, abs=2e-2)


def tiny_films(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, side, side)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_batch_larger_than_a_pass_gives_every_study_its_own_embedding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    encoder = load_encoder(write_tiny_checkpoint(tmp_path / "encoders"), "cpu", dtype)
    films = tiny_images(21)
    studies = [StudyImages(film, films[0] if number % 3 else None) for number, film in enumerate(films)]
    together = encoder.encode_studies(studies)
    assert together == pytest.approx(np.concatenate([encoder.encode_studies([s]) for s in studies]), abs=2e-2)
    monkeypatch.setattr(alta_encoder, "CPU_SLOTS", 1000)
    assert together == pytest.approx(encoder.encode_studies(studies), abs=2e-2)
