"""A map says where on the picture, as it was taken, the encoders see the words of a phrase."""

import numpy as np
import pytest
import torch

from model.alta_encoder import AltaEncoder, load_encoder
from model.dicom_display import mirrored, upright
from model.errors import TextError
from model.image import ImageTransform, read_dicom, read_radiograph
from model.pixels import Box
from model.similarity_map import PhraseWord, associate, spread
from tests.test_image import dicom
from tests.tiny import tiny_images, write_tiny_checkpoint


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> AltaEncoder:
    return load_encoder(write_tiny_checkpoint(tmp_path_factory.mktemp("encoders"), "ignored"), "cpu", "float32")


def test_a_map_is_what_the_local_heads_give_patch_by_patch_and_piece_by_piece(encoder: AltaEncoder) -> None:
    (image,) = tiny_images(1)
    phrase = "Large left-sided pneumothorax."
    found = encoder.similarity_map(image, phrase)

    model = encoder.model
    with torch.inference_mode():
        tokens = model.image_encoder(torch.tensor(image)[None, None, None], torch.ones(1, 1, dtype=torch.bool))
        patches = [model.image_encoder.local_projection_head(patch) for patch in tokens.patches[0, 0]]
        batch = encoder.tokenizer([phrase])
        read = model.text_encoder(torch.tensor(batch.input_ids), torch.tensor(batch.attention_mask)).hidden[0]
        pieces = [model.text_encoder.local_projection_head(token) for token in read]
    names = [encoder.tokenizer.vocabulary[number] for number in batch.input_ids[0]]
    mean = sum(patches) / len(patches)

    words = {"Large": ["large"], "left": ["left"], "sided": ["s", "##i", "##d", "##e", "##d"], "pneumothorax": []}
    words["pneumothorax"] = ["pneumothorax"]
    assert [each.word for each in found.words] == list(words)
    place, maps = 1, []  # after [CLS]
    for each in found.words:
        while names[place] != words[each.word][0]:  # past the hyphen
            place += 1
        assert names[place : place + len(words[each.word])] == words[each.word]
        own = pieces[place : place + len(words[each.word])]
        expected = [
            float(np.mean([torch.cosine_similarity(patch - mean, piece, 0).item() for piece in own]))
            for patch in patches
        ]
        assert each.values.dtype == np.float32
        assert each.values == pytest.approx(np.reshape(expected, (4, 4)), abs=1e-5)
        maps.append(each.values)
        place += len(own)
    assert found.values == pytest.approx(np.mean(maps, axis=0), abs=1e-6)


def test_patches_lie_in_reading_order(encoder: AltaEncoder) -> None:
    (image,) = tiny_images(1)
    changed = image.copy()
    changed[:8, 8:16] += 5  # the second patch of the first row
    change = np.abs(encoder.project_patches(changed) - encoder.project_patches(image)).sum(-1)
    assert np.unravel_index(change.argmax(), change.shape) == (0, 1)


@pytest.mark.parametrize("phrase", ["", "  ", "...!", "[SEP] [CLS]", "\u6c14\u80f8"])
def test_a_phrase_without_a_known_word_has_no_map(encoder: AltaEncoder, phrase: str) -> None:
    with pytest.raises(TextError) as raised:
        encoder.similarity_map(tiny_images(1)[0], phrase)
    assert raised.value.slug == "phrase-without-words"


def test_a_phrase_that_would_be_cut_has_no_map(encoder: AltaEncoder) -> None:
    assert len(encoder.similarity_map(tiny_images(1)[0], "effusion " * 22).words) == 22
    with pytest.raises(TextError, match="at most 24 tokens, found 25") as raised:
        encoder.similarity_map(tiny_images(1)[0], "effusion " * 23)
    assert raised.value.slug == "phrase-too-long"


def test_what_all_patches_share_is_no_place() -> None:
    patches = np.random.default_rng(0).standard_normal((3, 3, 8)).astype(np.float32)
    piece = np.ones((1, 8), np.float32)
    words = [PhraseWord("word", (0,))]
    assert associate(patches + 7, piece, words).values == pytest.approx(
        associate(patches, piece, words).values, abs=1e-4
    )
    even = associate(np.ones((3, 3, 8), np.float32), piece, words)
    assert even.values == pytest.approx(np.zeros((3, 3)))


@pytest.mark.parametrize(("height", "width"), [(640, 480), (480, 640), (301, 999), (64, 64)])
def test_a_bright_square_is_found_back_at_its_place(height: int, width: int) -> None:
    """Resize, crop and the patch grid are undone: the map of mean brightness peaks where the square was."""
    transform = ImageTransform(resize=72, crop=64, mean=0, std=1)
    side = min(height, width) // 6
    top, left = height // 2 - side, width // 2  # inside any crop, off its centre
    pixels = np.zeros((height, width), np.float32)
    pixels[top : top + side, left : left + side] = 1
    values = transform(pixels).reshape(16, 4, 16, 4).mean((1, 3))

    found = spread(values, transform.seen(height, width), height, width)

    assert found.shape == (height, width) and found.dtype == np.float32
    weight = np.nan_to_num(found)
    rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5
    centre = (weight.sum(1) @ rows / weight.sum(), weight.sum(0) @ columns / weight.sum())
    assert centre == pytest.approx((top + side / 2, left + side / 2), abs=min(height, width) / 64)  # a quarter patch


def test_outside_of_the_crop_there_is_no_value() -> None:
    transform = ImageTransform(resize=80, crop=64)
    found = spread(np.ones((4, 4), np.float32), transform.seen(160, 240), 160, 240)
    # The crop is 64 of 80 rows and 64 of 120 columns, at two pixels of the original each.
    inside = np.zeros((160, 240), bool)
    inside[16:144, 56:184] = True
    assert (np.isfinite(found) == inside).all() and (found[inside] == 1).all()


@pytest.mark.parametrize("orientation", [["L", "F"], ["R", "F"], ["L", "H"], ["R", "H"]])
def test_a_flipped_film_is_turned_back(orientation: list[str]) -> None:
    """The box in stored pixels holds what the box on the upright picture holds."""
    stored = np.zeros((60, 80), np.uint8)
    stored[10:20, 50:65] = 255
    data = dicom(stored, PatientOrientation=orientation, WindowCenter=None, WindowWidth=None)
    dataset = read_dicom(data)
    shown = read_radiograph(data).pixels
    rows, columns = np.nonzero(shown > 0.5)
    box = Box(rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
    assert box.mirrored(60, 80, *mirrored(dataset)) == Box(10, 50, 20, 65)
    assert (upright(dataset, upright(dataset, stored)) == stored).all()
