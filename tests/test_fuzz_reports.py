"""No broken report ends a run: each one is a report, or refused with a reason, and holds nothing a database would not.

ALTA_TEST_SEED gives other files than the usual ones.
"""

import os
import random
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from index.reports.readers import read_reports
from model.errors import InputError
from tests.fuzz_dicom import (
    Mutation,
    duplicate_chunk,
    extreme_length,
    flip_anywhere,
    nested_sequences,
    other_syntax,
    overwrite_run,
    remove_chunk,
    swap_chunks,
    truncate,
)
from tests.report_samples import FORMATS, Sample

SEED = int(os.environ.get("ALTA_TEST_SEED", "0"))
PIECES = (
    b'"', b"{", b"}", b"[", b"]", b"null", b"true", b"1e999", b"NaN", b"\\u0000", b"\\ud800", b"|", b"^", b"~", b"&",
    b"\\", b"\r", b"\n", b"\0", b"\xff\xfe", b"MSH|", b"OBR|", b"OBX|", b"FHS|", b"[]", b"{}", b'""', b",", b"9" * 400,
    b"\\X", b"\\.br\\", b"<div>", b"</", b"\x0b", b"\x1c\r", b"20240230", b"ISO_IR 99", b"UNICODE UTF-16",
)  # fmt: skip
VALUE = re.compile(rb'"[^"]*"|\d+|[|^,]')


def put_piece(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data))
    data[place : place + chance.choice((0, 0, 1, 5, 20))] = chance.choice(PIECES) * chance.choice((1, 1, 1, 3, 2000))


def replace_value(data: bytearray, chance: random.Random) -> None:
    found = [match.span() for match in VALUE.finditer(bytes(data))]
    if found:
        start, end = chance.choice(found)
        data[start:end] = chance.choice(PIECES)


ANY: tuple[Mutation, ...] = (
    flip_anywhere, overwrite_run, truncate, remove_chunk, duplicate_chunk, swap_chunks, put_piece, replace_value,
)  # fmt: skip
OF_DICOM: tuple[Mutation, ...] = (nested_sequences, extreme_length, other_syntax)


def break_and_read(cases: int, folder: Path) -> Counter[str]:
    """How many reports ended how. Fails on those that break the promise."""
    outcomes: Counter[str] = Counter()
    for number in range(cases):
        chance = random.Random(f"{SEED}:{number}")
        kind = chance.choice(sorted(FORMATS))
        name, make = FORMATS[kind]
        data = bytearray(make(Sample()))
        for mutation in chance.choices(ANY + OF_DICOM if kind == "sr" else ANY, k=chance.choice((1, 1, 2, 3))):
            if data:
                mutation(data, chance)
        path = folder / f"{number}-{name}"
        path.write_bytes(data)
        started = time.process_time()
        try:
            for report in read_reports(path):
                outcomes[f"{kind} {report.refusal.slug if report.refusal else 'read'}"] += 1
                assert report.refusal is None or report.refusal.message
                for text in (report.text, report.accession_number, report.study_instance_uid, report.number):
                    assert "\0" not in (text or "").encode().decode(), f"{path}, seed {SEED}"
        except InputError as error:
            outcomes[f"{kind} {error.slug}"] += 1
        assert time.process_time() - started < 20, f"{path}, seed {SEED}"
        path.unlink()  # of a failure it stays
    return outcomes


def test_broken_reports_are_read_or_refused(tmp_path: Path) -> None:
    outcomes = break_and_read(500, tmp_path)
    assert all(outcomes[f"{kind} read"] > 5 for kind in FORMATS)
    assert len(outcomes) > 15


@pytest.mark.slow
def test_ten_thousand_broken_reports_are_read_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = break_and_read(10_000, tmp_path)
    with capsys.disabled():
        print(f"\n10000 broken reports of seed {SEED}:")
        print(", ".join(f"{outcome} {count}" for outcome, count in outcomes.most_common()))
