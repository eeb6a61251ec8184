"""Encoders at work: unit length, one embedding a study whatever the batch, device and threads."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from model.alta_encoder import AltaEncoder, load_encoder
from model.encoder import StudyEncoder, StudyImages
from model.errors import CheckpointError
from tests.tiny import PROVENANCE, TRANSFORM, tiny_images, tiny_model, write_tiny_checkpoint

TEXTS = ["no effusion", "the heart is enlarged .", "a small left pneumothorax is seen", "", "clear " * 60]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint for each rule about absent slots."""
    place = tmp_path_factory.mktemp("encoders")
    return {rule: write_tiny_checkpoint(place / rule, rule) for rule in ("encoded", "ignored")}


@pytest.fixture(scope="module", params=["encoded", "ignored"])
def rule(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def encoder(folders: dict[str, Path], rule: str) -> AltaEncoder:
    return load_encoder(folders[rule], device="cpu", dtype="float32")


def studies() -> list[StudyImages]:
    """Lone frontals between studies with other slots, and one without a frontal."""
    a, b, c, d = tiny_images(4)
    return [
        StudyImages(a),
        StudyImages(a, b),
        StudyImages(c),
        StudyImages(a, b, c, d),
        StudyImages(b, None, d),
        StudyImages(current_lateral=c),
        StudyImages(d),
    ]


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_an_encoder_says_what_it_is(encoder: AltaEncoder) -> None:
    protocol: StudyEncoder = encoder
    assert (protocol.dimension, protocol.context_length, protocol.transform) == (8, 24, TRANSFORM)
    assert len(protocol.fingerprint) == 64 and encoder.provenance == PROVENANCE
    assert not encoder.model.training and not any(p.requires_grad for p in encoder.model.parameters())


def test_embeddings_have_length_one(encoder: AltaEncoder) -> None:
    for embeddings, count in ((encoder.encode_studies(studies()), 7), (encoder.encode_texts(TEXTS), 5)):
        assert embeddings.shape == (count, 8) and embeddings.dtype == np.float32
        assert np.linalg.norm(embeddings, axis=1) == pytest.approx(1, abs=1e-6)
    prompt = encoder.encode_prompts(TEXTS)
    assert prompt.shape == (8,) and prompt.dtype == np.float32
    assert np.linalg.norm(prompt) == pytest.approx(1, abs=1e-6)


def test_a_study_has_one_embedding_alone_or_in_any_batch(encoder: AltaEncoder) -> None:
    together = encoder.encode_studies(studies())
    assert together == pytest.approx(np.concatenate([encoder.encode_studies([s]) for s in studies()]), abs=1e-5)
    assert together[::-1] == pytest.approx(encoder.encode_studies(studies()[::-1]), abs=1e-5)
    assert not np.allclose(together[0], together[2], atol=1e-3)


def test_a_text_has_one_embedding_alone_or_in_any_batch(encoder: AltaEncoder) -> None:
    together = encoder.encode_texts(TEXTS)
    assert together == pytest.approx(np.concatenate([encoder.encode_texts([t]) for t in TEXTS]), abs=1e-5)
    assert together[::-1] == pytest.approx(encoder.encode_texts(TEXTS[::-1]), abs=1e-5)


def test_no_studies_have_no_embeddings(encoder: AltaEncoder) -> None:
    assert encoder.encode_studies([]).shape == (0, 8)


def test_a_lone_frontal_is_embedded_as_in_the_published_evaluation(encoder: AltaEncoder, rule: str) -> None:
    image = tiny_images(1)
    model = tiny_model(rule)
    with torch.no_grad():
        pixels = torch.from_numpy(image)[:, None, None].expand(-1, -1, 3, -1, -1)
        tokens = model.image_encoder(pixels, torch.ones(1, 1, dtype=torch.bool))
        head = model.image_encoder.projection_head(tokens.cls[:, 0])
        expected = torch.nn.functional.normalize(head, dim=-1).numpy()
    assert encoder.encode_studies([StudyImages(image[0])]) == pytest.approx(expected, abs=1e-5)


def test_several_images_are_the_mean_over_slots(encoder: AltaEncoder, rule: str) -> None:
    current, prior = tiny_images(2)
    model = tiny_model(rule)
    images = np.zeros((1, 4, 3, 32, 32), np.float32)
    images[0, 0], images[0, 2] = current, prior
    present = torch.tensor([[True, False, True, False]])
    with torch.no_grad():
        cls = model.image_encoder(torch.from_numpy(images), present).cls
        mean = cls.mean(1) if rule == "encoded" else cls[:, [0, 2]].mean(1)
        expected = torch.nn.functional.normalize(model.image_encoder.projection_head(mean), dim=-1).numpy()
    assert encoder.encode_studies([StudyImages(current, prior_frontal=prior)]) == pytest.approx(expected, abs=1e-5)


def test_every_slot_counts(encoder: AltaEncoder) -> None:
    a, b = tiny_images(2)
    embedded = encoder.encode_studies([StudyImages(a), StudyImages(a, b), StudyImages(a, None, b), StudyImages(b, a)])
    distances = np.linalg.norm(embedded[:, None] - embedded[None], axis=2)
    assert (distances + np.eye(4) > 1e-4).all()


def test_prompts_are_averaged_before_they_are_normalised(encoder: AltaEncoder, rule: str) -> None:
    model = tiny_model(rule)
    with torch.no_grad():
        projections = []
        for text in TEXTS:
            tokens = encoder.tokenizer([text])
            hidden = model.text_encoder(torch.from_numpy(tokens.input_ids), torch.from_numpy(tokens.attention_mask))
            projections.append(model.text_encoder.project(hidden)[0].numpy())
    mean = np.mean(projections, axis=0)
    assert encoder.encode_prompts(TEXTS) == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
    assert encoder.encode_prompts(TEXTS[:1]) == pytest.approx(encoder.encode_texts(TEXTS[:1])[0], abs=1e-5)


def test_what_is_over_the_context_length_is_counted_but_not_read(encoder: AltaEncoder) -> None:
    assert encoder.count_tokens(["clear " * 60, "no effusion"]) == [62, 4]
    embedded = encoder.encode_texts(["clear " * 60, "clear " * 60 + "no effusion", "clear " * 22])
    assert np.array_equal(embedded[0], embedded[1]) and embedded[0] == pytest.approx(embedded[2], abs=1e-5)


def test_bfloat16_is_close_to_float32(folders: dict[str, Path], encoder: AltaEncoder, rule: str) -> None:
    narrow = load_encoder(folders[rule], device="cpu", dtype="bfloat16")
    assert encoder.dtype == torch.float32 and narrow.dtype == torch.bfloat16
    assert (cosines(narrow.encode_studies(studies()), encoder.encode_studies(studies())) > 0.99).all()
    assert (cosines(narrow.encode_texts(TEXTS), encoder.encode_texts(TEXTS)) > 0.99).all()
    assert narrow.encode_texts(TEXTS).dtype == np.float32
    assert np.linalg.norm(narrow.encode_studies(studies()), axis=1) == pytest.approx(1, abs=0.01)


def test_threads_may_share_an_encoder(encoder: AltaEncoder) -> None:
    expected = encoder.encode_studies(studies()), encoder.encode_texts(TEXTS), encoder.encode_prompts(TEXTS)

    def work(number: int) -> bool:
        kind = number % 3
        if kind == 0:
            return bool(np.allclose(encoder.encode_studies(studies()), expected[0], atol=1e-6))
        if kind == 1:
            return bool(np.allclose(encoder.encode_texts(TEXTS), expected[1], atol=1e-6))
        return bool(np.allclose(encoder.encode_prompts(TEXTS), expected[2], atol=1e-6))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(24)))


def test_a_folder_without_encoders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        load_encoder(tmp_path)


def test_whoever_only_decodes_files_does_not_load_torch() -> None:
    code = "import sys, model.encoder, model.image, model.text, index; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
