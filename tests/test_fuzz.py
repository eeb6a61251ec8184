"""No broken file ends the run, hangs it or fills the memory: each one is accepted or refused with a reason.

ALTA_TEST_SEED gives other files than the usual ones. Files that break the promise are kept in the folder that is named.
"""

import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from index import Catalog, DecoderPool, ingest_folder
from index.decoder_pool import LOST
from index.tables import Instance
from model.errors import ImageError
from model.image import ImageTransform, read_radiograph
from service.query.decoding import Upload, decode_upload
from tests.conftest import SHARED_DATA, chest_dataset
from tests.fuzz_bases import as_bytes, pictures, real_files, simulated_files
from tests.fuzz_dicom import Case, Outcome, examine_case, make_case

SEED = int(os.environ.get("ALTA_TEST_SEED", "0"))
SECONDS = 30.0  # a file, on a busy host
MEMORY = 2**30
PEAK = 600 * 2**20  # of a worker with all its libraries; the largest real image takes half of it
SMALL, ANY = 100_000, 10_000_000  # bytes of a real file
REASONS = {
    "bad-uid", "blank-image", "empty-file", "missing-identifier", "multi-frame", "no-identity", "no-pixel-data",
    "no-transfer-syntax", "not-a-chest-radiograph", "not-an-image", "not-dicom", "not-human", "for-processing",
    "too-many-pixels", "truncated", "undecodable", "unsupported-photometric", "unsupported-transfer-syntax",
    "wrong-modality", "bad-identifier",
}  # fmt: skip


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return simulated_files(tmp_path_factory.mktemp("simulated")) | pictures()


@pytest.fixture
def pool() -> Iterator[DecoderPool]:
    made = DecoderPool(2, SECONDS, MEMORY)
    yield made
    made.close()


def with_real(simulated: Mapping[str, bytes], largest: int) -> dict[str, bytes]:
    return {**simulated, **real_files(SHARED_DATA / "dicom", largest)}


def break_and_examine(
    bases: Mapping[str, bytes], cases: int, pool: DecoderPool, folder: Path
) -> tuple[Counter[str], int]:
    """(how many ended how, the most memory a worker had). Fails on the cases that break the promise."""
    outcomes: Counter[str] = Counter()
    broken: list[str] = []
    peak = 0
    for first in range(0, cases, 100):
        waiting = []
        for number in range(first, min(first + 100, cases)):
            case = make_case(bases, SEED, number)
            path = folder / f"{number}.dcm"
            path.write_bytes(case.data)
            waiting.append((number, case, path, pool.submit(examine_case, path)))
        for number, case, path, answer in waiting:
            try:
                outcome = answer.result()
                peak = max(peak, outcome.peak)
                wrong = _wrong(outcome, case)
                outcomes[_ending(outcome)] += 1
            except Exception as error:
                wrong = f"{type(error).__name__}: {error}"
            if wrong:
                broken.append(f"{_keep(path, number)}: {case.base}, {', '.join(case.mutations)}: {wrong}")
            path.unlink()
    assert broken == [], f"seed {SEED}"
    assert outcomes.total() == cases
    return outcomes, peak


def _ending(outcome: Outcome) -> str:
    found = outcome.examined
    return found.refusal.slug if found.refusal else "report" if found.report else "accepted"


def _wrong(outcome: Outcome, case: Case) -> str | None:
    found = outcome.examined
    if found.size != len(case.data) or not found.sha256:
        return "the row would not say which file this is"
    if outcome.peak > PEAK:
        return f"{outcome.peak // 2**20} MiB"
    if found.refusal is None:
        return None if found.facts or found.report else "accepted without facts"
    if found.refusal.slug not in REASONS or not found.refusal.message:
        return f"{found.refusal.slug}: {found.refusal.message}"
    return None


def _keep(path: Path, number: int) -> Path:
    kept = Path(tempfile.gettempdir()) / "alta-fuzz"
    kept.mkdir(exist_ok=True)
    copy = kept / f"{SEED}-{number}.dcm"
    copy.write_bytes(path.read_bytes())
    return copy


def test_broken_files_are_accepted_or_refused_with_a_reason(
    simulated: dict[str, bytes], pool: DecoderPool, tmp_path: Path
) -> None:
    outcomes, _ = break_and_examine(with_real(simulated, SMALL), 600, pool, tmp_path)
    assert len(outcomes) > 8  # the mutations reach many different checks
    assert outcomes["accepted"] > 60


@pytest.mark.slow
def test_ten_thousand_broken_files_are_accepted_or_refused_with_a_reason(
    simulated: dict[str, bytes], pool: DecoderPool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.perf_counter()
    outcomes, peak = break_and_examine(with_real(simulated, ANY), 10_000, pool, tmp_path)
    with capsys.disabled():
        print(
            f"\n10000 broken files of seed {SEED}, {time.perf_counter() - started:.0f} s, {peak // 2**20} MiB at most"
        )
        print(", ".join(f"{slug} {count}" for slug, count in outcomes.most_common()))


def test_the_summary_of_an_ingest_counts_every_broken_file(
    simulated: dict[str, bytes], sqlite_catalog: Catalog, archive: Path
) -> None:
    cases = 150
    for number in range(cases):
        (archive / f"{number}.dcm").write_bytes(make_case(simulated, SEED + 1, number).data)
    summary = ingest_folder(sqlite_catalog, archive, workers=2)
    with sqlite_catalog.session() as session:
        rows = session.execute(sa.select(Instance.status, Instance.reason, Instance.detail)).all()
    assert summary.accepted + summary.refused.total() == cases == len(rows)
    assert Counter(reason for status, reason, _ in rows if status == "refused") == summary.refused
    assert all(detail for status, _, detail in rows if status == "refused")
    assert not set(LOST) & set(summary.refused)
    again = ingest_folder(sqlite_catalog, archive, workers=2)
    assert again.unchanged == summary.accepted
    assert again.refused == summary.refused


def test_broken_uploads_are_pixels_or_a_refusal(simulated: dict[str, bytes], pool: DecoderPool) -> None:
    transform = ImageTransform(resize=36, crop=32)
    # The second seed's pictures are whole archives of chunks and segments: half of the cases are theirs.
    answers = []
    for bases in (simulated, pictures()):
        answers += [
            pool.submit(decode_upload, make_case(bases, SEED + 2, number).data, transform) for number in range(200)
        ]
    for answer in answers:
        upload = answer.result()
        assert isinstance(upload, Upload)
        assert (upload.pixels is None) != (upload.refusal is None)
        if upload.pixels is not None:
            assert upload.pixels.shape == (32, 32)
            assert np.isfinite(upload.pixels).all()
        else:
            assert upload.refusal is not None
            assert upload.refusal.slug in REASONS


# What it found


@pytest.mark.parametrize(
    "header",
    [
        {"RescaleSlope": "-1e308"},
        {"RescaleIntercept": "1e308"},
        {"WindowCenter": "1e308", "WindowWidth": "1e308"},
        {"WindowCenter": "2000", "WindowWidth": "1e308"},
    ],
)
def test_numbers_beyond_the_range_are_as_good_as_none(header: dict[str, str]) -> None:
    pixels = read_radiograph(as_bytes(chest_dataset(**header))).pixels
    assert np.array_equal(pixels, read_radiograph(as_bytes(chest_dataset())).pixels)


def test_more_pixels_than_the_header_says_are_no_image() -> None:
    # Twenty rows of forty: taken for two frames, it would be accepted and then break the encoder.
    with pytest.raises(ImageError, match=r"20 x 48.*\(2, 20, 48\)") as caught:
        read_radiograph(as_bytes(chest_dataset(Rows=20)))
    assert caught.value.slug == "undecodable"


def test_bytes_of_an_rle_frame_that_look_like_jpeg_2000_are_none() -> None:
    # Run lengths are any bytes: among forty million of them, one file in a hundred holds these four.
    dataset = chest_dataset(BitsAllocated=8, BitsStored=8, HighBit=7)
    pixels = np.resize(np.frombuffer(b"\xff\x4f\xff\x51", np.uint8), 40 * 48)
    literal = b"".join(b"\x7f" + pixels[start : start + 128].tobytes() for start in range(0, pixels.size, 128))
    frame = b"\x01\0\0\0\x40\0\0\0".ljust(64, b"\0") + literal
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = RLELossless
    assert read_radiograph(as_bytes(dataset)).pixels.shape == (40, 48)


@pytest.mark.parametrize(
    ("syntax", "marker", "at", "value"),
    [
        ("JPEG 2000 Image Compression (Lossless Only)", b"\xff\x4f\xff\x51", 8, b"\0\0\xff\xff\0\0\xff\xff"),
        ("High-Throughput JPEG 2000 Image Compression (Lossless Only)", b"\xff\x4f\xff\x51", 8, b"\0\0\xff\xff" * 2),
        ("JPEG-LS Lossless Image Compression", b"\xff\xf7", 5, b"\xff\xff\xff\xff"),
        ("JPEG Baseline (Process 1)", b"\xff\xc0", 5, b"\xff\xff\xff\xff"),
        ("JPEG Extended (Process 2 and 4)", b"\xff\xc1", 5, b"\xff\xff\xff\xff"),
        (
            "JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])",
            b"\xff\xc3",
            5,
            b"\xff\xff\xff\xff",
        ),
        ("JPEG", b"\xff\xc0", 5, b"\xff\xff\xff\xff"),
    ],
)
def test_a_claim_of_65535_rows_and_columns_is_refused_before_memory_is_taken(
    simulated: dict[str, bytes], tmp_path: Path, syntax: str, marker: bytes, at: int, value: bytes
) -> None:
    data = bytearray(simulated[syntax])
    place = data.index(marker) + at
    data[place : place + len(value)] = value
    path = tmp_path / "bomb"
    path.write_bytes(data)
    pool = DecoderPool(1, SECONDS, 2**28)
    before, outcome = pool(examine_case, Path(__file__)), pool(examine_case, path)
    pool.close()
    assert _ending(outcome) in ("undecodable", "too-many-pixels")
    assert outcome.peak - before.peak < 2**25
