"""Files become display values: dense tissue bright, 0 to 1, whatever the encoding; broken ones become an ImageError."""

import io
import random
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    MPEG2MPML,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLSLossless,
    RLELossless,
)

from model.errors import ImageError
from model.image import ImageTransform, read_dicom, read_radiograph
from tests.conftest import chest_dataset

RAMP = np.linspace(0, 4095, 40 * 48).round().astype(np.uint16).reshape(40, 48)
UNIT = RAMP / 4095


def dicom_bytes(dataset: Dataset) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values that break their VR's rules are the point of some tests
        dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def dicom(pixels: np.ndarray = RAMP, **tags: object) -> bytes:
    """A file of ``pixels``, stored with as many bits as their type has unless ``tags`` say otherwise."""
    bits = pixels.dtype.itemsize * 8
    stored = {
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": pixels.astype(pixels.dtype.newbyteorder("<")).tobytes(),
    }
    return dicom_bytes(chest_dataset(**(stored | tags)))


def compressed(syntax: UID) -> bytes:
    dataset = chest_dataset(PixelData=RAMP.tobytes())
    dataset.compress(syntax, generate_instance_uid=False)
    return dicom_bytes(dataset)


def display(data: bytes) -> np.ndarray:
    radiograph = read_radiograph(data)
    assert radiograph.pixels.dtype == np.float32
    assert 0 <= radiograph.pixels.min() < radiograph.pixels.max() <= 1
    return radiograph.pixels


def slug(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        read_radiograph(data)
    return caught.value.slug


def lookup_table(table: list[int], first: int = 0, bits: int = 16, **tags: str) -> list[Dataset]:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(table), first, bits])
    item.add_new("LUTData", "US", table)
    for keyword, value in tags.items():
        setattr(item, keyword, value)
    return [item]


def picture_bytes(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


GREY8 = (UNIT * 255).round().astype(np.uint8)


# Stored values to display values


def test_without_a_window_the_central_values_fill_the_range() -> None:
    assert display(dicom()) == pytest.approx(UNIT, abs=0.003)


def test_a_few_hot_pixels_do_not_decide_the_contrast() -> None:
    hot = RAMP // 4
    hot[0, 0] = 4095
    assert display(dicom(hot))[1:] == pytest.approx(UNIT[1:], abs=0.003)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_bit_depth_and_sign_make_no_difference(bits: int, signed: bool) -> None:
    values = (UNIT * (2**bits - 1)).round().astype(np.int64) - signed * 2 ** (bits - 1)
    kind = f"{'i' if signed else 'u'}{1 if bits == 8 else 2}"
    data = dicom(values.astype(kind), BitsStored=bits, HighBit=bits - 1)
    assert display(data) == pytest.approx(UNIT, abs=0.005)


def test_monochrome1_is_inverted() -> None:
    assert display(dicom(PhotometricInterpretation="MONOCHROME1")) == pytest.approx(1 - display(dicom()), abs=1e-6)


def test_the_rescale_comes_before_the_window() -> None:
    plain = display(dicom(WindowCenter=2000, WindowWidth=1001))
    rescaled = display(dicom(RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=3000, WindowWidth=2001))
    assert rescaled == pytest.approx(plain, abs=1e-3)


def test_a_falling_modality_lut_inverts() -> None:
    data = dicom(ModalityLUTSequence=lookup_table(list(range(4095, -1, -1)), ModalityLUTType="US"))
    assert display(data) == pytest.approx(1 - UNIT, abs=0.003)


def test_a_window_clips_and_is_linear_inside() -> None:
    # PS3.3 C.11.2.1.2.1: from center - 0.5 - (width - 1) / 2 to center - 0.5 + (width - 1) / 2
    pixels = display(dicom(WindowCenter=1500.5, WindowWidth=1001))
    assert pixels == pytest.approx(np.clip((RAMP - 1000.0) / 1000, 0, 1), abs=1e-3)


def test_the_first_of_several_windows_counts() -> None:
    several = dicom(WindowCenter=[1500.5, 3000], WindowWidth=[1001, 100])
    assert np.array_equal(display(several), display(dicom(WindowCenter=1500.5, WindowWidth=1001)))


def test_a_voi_lut_shapes_the_contrast() -> None:
    table = [round((value / 4095) ** 2 * 65535) for value in range(4096)]
    data = dicom(RAMP, BitsStored=12, HighBit=11, VOILUTSequence=lookup_table(table))
    assert display(data) == pytest.approx(UNIT**2, abs=1e-3)


def test_a_table_longer_than_its_entries_are_deep_is_read_by_its_own_index() -> None:
    """4096 entries of 8 bits: an index kept in the entries' type would wrap."""
    table = [round(value / 4095 * 255) for value in range(4096)]
    data = dicom(RAMP, BitsStored=12, HighBit=11, VOILUTSequence=lookup_table(table, bits=8))
    assert display(data) == pytest.approx(UNIT, abs=0.003)


@pytest.mark.parametrize(
    "header",
    [
        {"WindowCenter": 100, "WindowWidth": 0},
        {"WindowCenter": 100, "WindowWidth": 1},
        {"WindowCenter": 100_000, "WindowWidth": 10},
        {"WindowCenter": None, "WindowWidth": None},
        {"PixelPaddingValue": None},
        {"RescaleSlope": None, "RescaleIntercept": None},
    ],
)
def test_a_careless_header_is_as_good_as_none(header: dict[str, int | None]) -> None:
    dataset = chest_dataset(PixelData=RAMP.tobytes())
    for keyword, value in header.items():
        setattr(dataset, keyword, value)
    assert np.array_equal(display(dicom_bytes(dataset)), display(dicom()))


def test_a_window_wider_than_the_values_is_not_undone() -> None:
    pixels = display(dicom(WindowCenter=5000, WindowWidth=10001))
    assert pixels == pytest.approx(RAMP / 10000, abs=1e-3)


@pytest.mark.parametrize(("function", "expected"), [("LINEAR_EXACT", 0.5), ("SIGMOID", 0.5)])
def test_other_voi_functions_centre_the_window(function: str, expected: float) -> None:
    pixels = display(dicom(WindowCenter=2000, WindowWidth=1000, VOILUTFunction=function))
    middle = np.abs(RAMP.astype(int) - 2000).argmin()
    assert pixels.flat[middle] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("orientation", "turned"), [("L\\F", (1, 1)), ("R\\F", (1, -1)), ("L\\H", (-1, 1)), ("A\\F", (1, 1))]
)
def test_a_mirrored_film_is_turned_back(orientation: str, turned: tuple[int, int]) -> None:
    pixels = display(dicom(PatientOrientation=orientation.split("\\")))
    assert np.array_equal(pixels, display(dicom())[:: turned[0], :: turned[1]])


def test_padding_is_dark_and_does_not_count(subtests: pytest.Subtests) -> None:
    framed = RAMP.copy()
    framed[:, :8] = 60000
    inside = (RAMP[:, 8:] - RAMP[:, 8:].min()) / (4095 - RAMP[:, 8:].min())
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        for padding in ({"PixelPaddingValue": 60000}, {"PixelPaddingValue": 59000, "PixelPaddingRangeLimit": 61000}):
            with subtests.test(photometric, **padding):
                pixels = display(dicom(framed, PhotometricInterpretation=photometric, **padding))
                assert not pixels[:, :8].any()
                expected = 1 - inside if photometric == "MONOCHROME1" else inside
                assert pixels[:, 8:] == pytest.approx(expected, abs=0.003)


def test_a_padding_value_that_no_pixel_or_every_pixel_has_is_no_padding() -> None:
    assert np.array_equal(display(dicom(PixelPaddingValue=50000)), display(dicom()))
    everything = dicom(PixelPaddingValue=0, PixelPaddingRangeLimit=65535)
    assert np.array_equal(display(everything), display(dicom()))


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_lossless_compression_changes_no_pixel(syntax: UID) -> None:
    plain = dicom_bytes(chest_dataset(PixelData=RAMP.tobytes()))
    assert np.array_equal(display(compressed(syntax)), display(plain))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_the_encoding_of_the_data_set_changes_no_pixel(syntax: UID) -> None:
    dataset = chest_dataset(PixelData=RAMP.astype(">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes())
    dataset.file_meta.TransferSyntaxUID = syntax
    assert np.array_equal(display(dicom_bytes(dataset)), display(dicom_bytes(chest_dataset(PixelData=RAMP.tobytes()))))


def test_the_header_comes_along_without_pixel_data() -> None:
    radiograph = read_radiograph(dicom())
    assert radiograph.dataset is not None and radiograph.dataset.ViewPosition == "PA"
    assert "PixelData" not in radiograph.dataset
    assert read_radiograph(picture_bytes(Image.fromarray(GREY8), "PNG")).dataset is None


# Pictures


def test_an_8_bit_picture_keeps_its_values(tmp_path: Path) -> None:
    half = GREY8 // 2  # not stretched: whoever made the picture chose its contrast
    data = picture_bytes(Image.fromarray(half), "PNG")
    assert display(data) == pytest.approx(half / 255, abs=1e-6)
    (tmp_path / "named.dcm").write_bytes(data)
    assert np.array_equal(read_radiograph(tmp_path / "named.dcm").pixels, display(data))


def test_a_16_bit_picture_is_stretched_as_a_dicom_file() -> None:
    assert np.array_equal(display(picture_bytes(Image.fromarray(RAMP), "PNG")), display(dicom()))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_colour_alpha_and_palette_become_grey(mode: str) -> None:
    picture = Image.fromarray(GREY8).convert(mode)
    assert display(picture_bytes(picture, "PNG")) == pytest.approx(GREY8 / 255, abs=0.005)


def test_a_palette_with_transparency_becomes_grey() -> None:
    picture = Image.fromarray(GREY8).quantize(256)
    assert display(picture_bytes(picture, "PNG", transparency=bytes(range(256)))) == pytest.approx(UNIT, abs=0.02)


def test_a_jpeg_is_nearly_its_original() -> None:
    assert display(picture_bytes(Image.fromarray(GREY8), "JPEG", quality=95)) == pytest.approx(UNIT, abs=0.03)


@pytest.mark.parametrize(("orientation", "turned"), [(1, GREY8), (3, GREY8[::-1, ::-1]), (6, np.rot90(GREY8, -1))])
def test_exif_orientation_is_applied(orientation: int, turned: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = picture_bytes(Image.fromarray(GREY8), "JPEG", quality=95, exif=exif)
    assert display(data) == pytest.approx(turned / 255, abs=0.03)


def test_one_picture_gives_nearly_one_array_in_every_format() -> None:
    formats = {
        "DICOM": dicom(),
        "PNG 16": picture_bytes(Image.fromarray(RAMP), "PNG"),
        "PNG 8": picture_bytes(Image.fromarray(GREY8), "PNG"),
        "JPEG": picture_bytes(Image.fromarray(GREY8), "JPEG", quality=95),
    }
    inputs = {name: ImageTransform(32, 32)(display(data)) for name, data in formats.items()}
    for name, array in inputs.items():
        assert array == pytest.approx(inputs["DICOM"], abs=0.05), name


# What is refused, and by what name


def png(width: int, height: int, content: bytes = b"") -> bytes:
    """An 8-bit grey PNG whose header may lie."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def without_transfer_syntax() -> bytes:
    dataset = chest_dataset()
    stream = io.BytesIO()
    stream.write(bytes(128) + b"DICM")
    del dataset.file_meta.TransferSyntaxUID
    pydicom.filewriter.write_file_meta_info(stream, dataset.file_meta, enforce_standard=False)
    return stream.getvalue()


def as_video() -> bytes:
    dataset = chest_dataset(PixelData=encapsulate([bytes(8)]))
    dataset.file_meta.TransferSyntaxUID = MPEG2MPML
    return dicom_bytes(dataset)


def deflated_bomb() -> bytes:
    """The parser would inflate it without a limit before anything can be checked."""
    dataset = chest_dataset(PixelData=bytes(RAMP.nbytes))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return dicom_bytes(dataset)


REFUSED = {
    "empty-file": [b""],
    "not-an-image": [b"<html></html>", b"DICM", picture_bytes(Image.fromarray(GREY8), "GIF"), bytes(200)],
    "no-pixel-data": [dicom(PixelData=None)],
    "multi-frame": [dicom(NumberOfFrames=2)],
    "unsupported-photometric": [
        dicom(PhotometricInterpretation="RGB", SamplesPerPixel=3),
        dicom(PhotometricInterpretation="PALETTE COLOR"),
        dicom(PhotometricInterpretation=None),
        dicom(SamplesPerPixel=3),
    ],
    "too-many-pixels": [dicom(Rows=65535, Columns=65535), png(100_000, 100_000), png(10_000, 10_000)],
    "truncated": [dicom(PixelData=RAMP.tobytes()[:-2]), png(50, 50, b"\0" * 100)],
    "undecodable": [
        dicom(Rows=0),
        dicom(Rows=None),
        dicom(BitsAllocated=None),
    ],
    "blank-image": [
        dicom(np.full((20, 20), 7, np.uint16)),
        picture_bytes(Image.new("L", (9, 9), 40), "PNG"),
        picture_bytes(Image.fromarray(np.full((9, 9), 4000, np.uint16)), "PNG"),
    ],
    "no-transfer-syntax": [without_transfer_syntax()],
    "unsupported-transfer-syntax": [as_video(), deflated_bomb()],
}


@pytest.mark.parametrize(("name", "number"), [(name, n) for name, group in REFUSED.items() for n in range(len(group))])
def test_what_cannot_be_used_is_refused_by_name(name: str, number: int) -> None:
    assert slug(REFUSED[name][number]) == name


@pytest.mark.parametrize("claimed", [(20_000, 20_000), (41, 48)])
def test_a_compressed_frame_that_claims_more_than_the_header_is_not_decoded(claimed: tuple[int, int]) -> None:
    dataset = pydicom.dcmread(io.BytesIO(compressed(JPEG2000Lossless)))
    frame = bytearray(get_frame(dataset.PixelData, 0, number_of_frames=1))
    size = frame.index(b"\xff\x4f\xff\x51") + 8
    struct.pack_into(">II", frame, size, claimed[1], claimed[0])
    struct.pack_into(">II", frame, size + 16, claimed[1], claimed[0])
    dataset.PixelData = encapsulate([bytes(frame)])
    assert slug(dicom_bytes(dataset)) == "undecodable"


@pytest.mark.parametrize("shape", [(4000, 4800, 1), (40, 48, 3)])
def test_a_jpeg_frame_that_is_not_what_the_header_says_is_not_decoded(shape: tuple[int, int, int]) -> None:
    frame = b"\xff\xd8\xff\xff\xc1" + struct.pack(">HBHHB", 17, 12, *shape) + bytes(20)
    dataset = chest_dataset(PixelData=encapsulate([frame]))
    dataset.file_meta.TransferSyntaxUID = JPEGExtended12Bit
    with pytest.raises(ImageError, match=f"the compressed frame has {shape[0]}, {shape[1]} and {shape[2]}") as caught:
        read_radiograph(dicom_bytes(dataset))
    assert caught.value.slug == "undecodable"


def test_bytes_that_are_no_dicom_file_are_told_apart() -> None:
    with pytest.raises(ImageError) as caught:
        read_dicom(b"\0" * 300)
    assert caught.value.slug == "not-dicom"


def test_a_missing_file_is_not_an_image_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_dicom(tmp_path / "absent.dcm")
    with pytest.raises(FileNotFoundError):
        read_radiograph(tmp_path / "absent.png")


SMALL = {
    "DICOM": dicom(RAMP[:8, :8]),
    "RLE": compressed(RLELossless),
    "PNG": picture_bytes(Image.fromarray(GREY8[:20, :20]), "PNG"),
    "PNG 16": picture_bytes(Image.fromarray(RAMP[:8, :8]), "PNG"),
    "JPEG": picture_bytes(Image.fromarray(GREY8), "JPEG"),
}


@pytest.mark.parametrize("kind", SMALL)
def test_a_file_cut_anywhere_is_refused_or_whole(kind: str) -> None:
    data = SMALL[kind]
    whole, slugs, accepted = display(data), set(), []
    for length in range(1, len(data)):
        try:
            assert np.array_equal(read_radiograph(data[:length]).pixels, whole)
            accepted.append(length)
        except ImageError as error:
            slugs.add(error.slug)
    assert slugs <= {"not-an-image", "truncated", "no-transfer-syntax", "no-pixel-data", "undecodable"}
    assert all(length > len(data) - 24 for length in accepted)  # what follows the pixels


def test_a_dicom_file_cut_inside_its_pixels_is_truncated() -> None:
    data = SMALL["DICOM"]
    assert {slug(data[:length]) for length in range(len(data) - 128, len(data))} == {"truncated"}


@pytest.mark.parametrize("kind", SMALL)
def test_random_damage_gives_a_picture_or_an_image_error(kind: str) -> None:
    chance = random.Random(kind)
    for _ in range(150):
        data = bytearray(SMALL[kind])
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            pixels = read_radiograph(bytes(data)).pixels
        except ImageError:
            continue
        assert np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1


# Geometry


def test_the_defaults_are_the_published_constants() -> None:
    transform = ImageTransform()
    assert (transform.resize, transform.crop, transform.mean, transform.std) == (256, 224, 0.4785, 0.2834)


@pytest.mark.parametrize("shape", [(40, 48), (48, 40), (33, 33), (7, 5), (500, 301), (1, 3), (900, 2)])
def test_place_resizes_the_shorter_side_and_crops_the_centre(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).random(shape, dtype=np.float32)
    transform = ImageTransform(resize=36, crop=32)
    height, width, top, left = transform.geometry(*shape)
    assert min(height, width) == 36 and height / width == pytest.approx(shape[0] / shape[1], rel=0.02)
    whole = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
    placed = transform.place(pixels)
    assert placed.shape == (32, 32) and placed.dtype == np.float32
    assert placed == pytest.approx(np.clip(whole[top : top + 32, left : left + 32], 0, 1), abs=1e-4)


def test_the_crop_is_the_centre() -> None:
    row, column = np.mgrid[0:60, 0:100].astype(np.float32)
    placed = ImageTransform(resize=60, crop=40).place((row + 1000 * column) / 1e6)
    assert placed == pytest.approx(((row + 1000 * column) / 1e6)[10:50, 30:70])


def test_a_strip_of_one_row_is_placed_without_being_enlarged_whole() -> None:
    # Resized whole, it would be 256 x 2 560 000 000 pixels.
    placed = ImageTransform().place(np.linspace(0, 1, 10_000_000, dtype=np.float32)[None])
    assert placed == pytest.approx(0.5, abs=1e-3)


def test_encoder_input_is_the_placed_picture_less_mean_over_deviation() -> None:
    transform = ImageTransform(resize=36, crop=32, mean=0.4, std=0.2)
    pixels = UNIT.astype(np.float32)
    assert transform(pixels) == pytest.approx((transform.place(pixels) - 0.4) / 0.2)
    assert transform(pixels).dtype == np.float32


# Real files


def real(shared_data: Path, name: str) -> Path:
    return shared_data / "dicom" / name


@pytest.mark.parametrize("encoding", ["j2k_lossless", "jpeg_lossless_sv1", "rle"])
def test_real_lossless_encodings_equal_the_uncompressed_file(shared_data: Path, encoding: str) -> None:
    plain = read_radiograph(real(shared_data, "hip_CR_mono2_10bit_explicitLE.dcm")).pixels
    pixels = read_radiograph(real(shared_data, f"hip_CR_mono2_10bit_{encoding}.dcm")).pixels
    assert pixels.shape == (2140, 1760) and np.array_equal(pixels, plain)


def test_a_real_chest_in_monochrome1_has_dark_lungs_and_dark_air(shared_data: Path) -> None:
    whole = read_radiograph(real(shared_data, "chest_CR_mono1_15bit_j2k_lossy.dcm")).pixels
    pixels = ImageTransform().place(whole)
    parts = {"right lung": slice(45, 80), "mediastinum": slice(95, 125), "left lung": slice(150, 185)}
    means = {name: float(pixels[75:105, columns].mean()) for name, columns in parts.items()}
    abdomen, air = float(pixels[190:, 40:180].mean()), float(whole[:80, :80].mean())
    assert max(means["right lung"], means["left lung"]) < min(means["mediastinum"], abdomen) - 0.1
    assert air < means["mediastinum"] - 0.1


def test_real_lookup_tables_are_applied(shared_data: Path) -> None:
    for name, sequence in (
        ("OT_modality_lut_12bit_signed.dcm", "ModalityLUTSequence"),
        ("OT_voi_lut_8bit.dcm", "VOILUTSequence"),
    ):
        dataset = pydicom.dcmread(real(shared_data, name))
        item = dataset[sequence][0]
        table = np.frombuffer(item.LUTData, "<u2") if isinstance(item.LUTData, bytes) else np.array(item.LUTData)
        values = table[np.clip(dataset.pixel_array.astype(int) - item.LUTDescriptor[1], 0, len(table) - 1)].astype(
            float
        )
        pixels = display(real(shared_data, name).read_bytes())
        assert np.corrcoef(pixels.ravel(), values.ravel())[0, 1] > 0.99, name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hip_CR_mono2_10bit_jpeg_extended.dcm", "undecodable"),
        ("MR_truncated_pixels.dcm", "truncated"),
        ("SR_basic_text.dcm", "no-pixel-data"),
        ("html_named_dcm.dcm", "not-an-image"),
        ("no_file_meta_CT.dcm", "not-an-image"),
        ("meta_missing_transfersyntax.dcm", "no-transfer-syntax"),
    ],
)
def test_real_broken_files_are_refused_by_name(shared_data: Path, name: str, expected: str) -> None:
    assert slug(real(shared_data, name).read_bytes()) == expected
