"""A JPEG 2000 film is read at a fraction of its resolution where that shows an encoder the same, and only there."""

import copy
import io
import struct
import time
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000, JPEG2000Lossless, RLELossless

from model.dicom_reduced import decode_reduced
from model.errors import ImageError
from model.image import ImageTransform, decode_dicom, picture_for, prepare_radiograph, read_dicom, read_radiograph
from model.pixels import Extent, stretch
from tests.conftest import chest_dataset

TRANSFORM = ImageTransform(resize=32, crop=28)
ROWS, COLUMNS = 331, 269  # neither is a multiple of anything: sizes are rounded up


def film(**tags: object) -> Dataset:
    """Smooth shapes with a corner of their own each, and noise; windowed, lossless JPEG 2000."""
    y, x = np.mgrid[0:ROWS, 0:COLUMNS] / (ROWS, COLUMNS)[0]
    noise = np.random.default_rng(4).standard_normal((ROWS, COLUMNS))
    values = 600 + 2400 * np.exp(-((x - 0.2) ** 2 + (y - 0.3) ** 2) * 30) + 900 * (x + y > 1.1) + 30 * noise
    given = {
        "Rows": ROWS,
        "Columns": COLUMNS,
        "WindowCenter": 2000,
        "WindowWidth": 3600,
        "PixelData": np.clip(values, 0, 4095).astype("<u2").tobytes(),
    }
    return chest_dataset(**(given | tags))


def compressed(dataset: Dataset, syntax: pydicom.uid.UID = JPEG2000Lossless, **options: object) -> Dataset:
    made = copy.deepcopy(dataset)
    made.compress(syntax, generate_instance_uid=False, **options)
    return made


def data_of(dataset: Dataset) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def difference(dataset: Dataset, transform: ImageTransform = TRANSFORM) -> float:
    """The largest difference for an encoder, in display values, between the reduced and the whole decoding."""
    picture = picture_for(dataset, transform)
    assert picture.extent is not None
    assert picture.pixels.shape[0] < ROWS / 2
    return float(np.abs(transform.place(picture.pixels, picture.extent) - transform.place(decode_dicom(dataset))).max())


@pytest.mark.parametrize("orientation", [["L", "F"], ["R", "F"], ["L", "H"], ["R", "H"]])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_the_encoder_sees_the_same_whichever_way_the_film_lies(orientation: list[str], photometric: str) -> None:
    tags = {"PatientOrientation": orientation, "PhotometricInterpretation": photometric}
    assert difference(compressed(film(**tags))) < 0.02  # put half a sample beside its place: over 0.1


def test_a_crop_that_reaches_the_border_is_the_same_too() -> None:
    assert difference(compressed(film()), ImageTransform(resize=32, crop=32)) < 0.05


def test_a_lossy_film_is_the_same_within_its_loss() -> None:
    assert difference(compressed(film(), JPEG2000, j2k_cr=[8])) < 0.05


def test_the_smaller_picture_is_larger_than_what_is_made_of_it() -> None:
    picture = picture_for(compressed(film()), TRANSFORM)
    assert min(picture.pixels.shape) >= 1.5 * TRANSFORM.resize
    assert picture_for(compressed(film()), ImageTransform(resize=200, crop=200)).extent is None


def test_a_voi_lut_decides_by_itself_as_a_window_does() -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, 16])
    item.add_new("LUTData", "US", [number**2 // 256 for number in range(4096)])
    assert difference(compressed(film(VOILUTSequence=[item], WindowCenter=None, WindowWidth=None))) < 0.03


@pytest.mark.parametrize(
    "tags",
    [
        {"WindowCenter": None, "WindowWidth": None},  # the central values are those of every pixel
        {"WindowCenter": 60000, "WindowWidth": 2},  # shows nothing, so the central values do
        {"PixelPaddingValue": 0},  # its border would be blurred
        {"BitsStored": 11, "HighBit": 10},  # the codestream says otherwise
    ],
)
def test_what_needs_every_pixel_is_decoded_whole(tags: dict[str, int | None]) -> None:
    dataset = compressed(film())
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
        if value is None:
            delattr(dataset, keyword)
    assert decode_reduced(dataset, 48) is None
    assert np.array_equal(picture_for(dataset, TRANSFORM).pixels, decode_dicom(dataset))


def test_other_encodings_are_decoded_whole() -> None:
    assert decode_reduced(film(), 48) is None
    assert decode_reduced(compressed(film(), RLELossless), 48) is None


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_codestream_that_is_cut_is_left_to_the_whole_decoding(share: float) -> None:
    dataset = compressed(film())
    frame = pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)
    dataset.PixelData = pydicom.encaps.encapsulate([frame[: int(len(frame) * share)]])
    assert decode_reduced(dataset, 48) is None
    with pytest.raises(ImageError):
        picture_for(dataset, TRANSFORM)


@pytest.mark.parametrize("place", [8, 18, 26, 40, 42])  # ISO/IEC 15444-1 A.5.1: size, offset, tile, components, depth
def test_a_codestream_that_is_another_than_its_header_says_is_not_read(place: int) -> None:
    dataset = compressed(film())
    frame = bytearray(pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1))
    struct.pack_into(">H", frame, place, 2)
    dataset.PixelData = pydicom.encaps.encapsulate([bytes(frame)])
    assert decode_reduced(dataset, 48) is None


def test_a_file_is_prepared_as_it_is_read_and_transformed(tmp_path: Path) -> None:
    plain = tmp_path / "film"
    plain.write_bytes(data_of(film()))
    prepared = prepare_radiograph(plain, TRANSFORM)
    assert np.array_equal(prepared.pixels, TRANSFORM(read_radiograph(plain).pixels))
    assert prepared.dataset is not None and "PixelData" not in prepared.dataset
    reduced = prepare_radiograph(data_of(compressed(film())), TRANSFORM)
    assert reduced.dataset is not None and reduced.dataset.Rows == ROWS
    assert np.abs(reduced.pixels - prepared.pixels).max() < 0.1
    with pytest.raises(ImageError) as caught:
        prepare_radiograph(b"nothing", TRANSFORM)
    assert caught.value.slug == "not-an-image"


def test_turning_twice_is_not_turning() -> None:
    extent = Extent(331, 269, -1.5, -1.5, 330.5, 270.5)
    assert extent.mirrored(True, True).mirrored(True, True) == extent
    assert extent.mirrored(True, False).left == -1.5
    assert extent.mirrored(False, True).top == 0.5


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("count", [2, 7, 999, 1001, 40_000])
def test_counted_percentiles_are_those_of_numpy(kind: type, count: int) -> None:
    values = np.random.default_rng(count).integers(3, 250, count).astype(kind)
    assert stretch(values) == pytest.approx(stretch(values.astype(np.float64)), abs=1e-6)


def test_a_real_film_is_the_same_and_costs_a_fraction(shared_data: Path) -> None:
    dataset = read_dicom((shared_data / "dicom" / "hip_CR_mono2_10bit_j2k_lossless.dcm").read_bytes())
    transform = ImageTransform()
    seconds = []
    for decode in (lambda: picture_for(dataset, transform), lambda: decode_dicom(dataset)):
        start = time.thread_time()
        decode()
        seconds.append(time.thread_time() - start)
    picture = picture_for(dataset, transform)
    whole = transform.place(decode_dicom(dataset))
    assert np.sqrt(np.square(transform.place(picture.pixels, picture.extent) - whole).mean()) < 0.004
    assert seconds[0] < seconds[1] / 2
