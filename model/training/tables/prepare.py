"""From studies as a data set names them to a table: pictures that are there, whole patients in one split."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from ...alta import SLOTS
from ...checkpoint import write_whole
from .split import Folds, split_patients
from .summary import Prepared, summarise
from .table import EXCLUDED, REPORT_MISSING, REPORT_UNREADABLE, SHARED, Skipped, StudyRow, TableError, table_bytes

__all__ = ["prepare"]

EXAMPLES = 3  # of bad files in an error
BAD_REPORTS = (REPORT_MISSING, REPORT_UNREADABLE)

Undecodable = Callable[[Sequence[str]], dict[str, str]]  # of paths: why, by path


def prepare(
    studies: Iterable[StudyRow | Skipped],
    output: Path,
    seed: int = 0,
    validate_share: float = 0.05,
    test_share: float = 0.1,
    max_bad_share: float = 0.01,
    exclude: Collection[str] = (),
    progress: Callable[[int], None] = lambda done: None,
    *,
    limit: int | None = None,
    folds: Folds | None = None,
    decode: Undecodable | None = None,
    keep_unreported: bool = False,
    dry_run: bool = False,
) -> Prepared:
    """Write ``skipped.jsonl``, ``summary.json`` and, when these are there, ``studies.csv`` into ``output``.

    A study whose frontal picture is missing, or refused by ``decode``, is skipped; another such picture empties its
    slot. Patients in ``exclude``, those of an evaluation list, are left out, repeated rows, and studies with a picture
    that another patient has, who may be in another split. The split is that of ``split_patients``; a report without a
    frontal picture only ever trains.

    limit: only the first patients, of readers that give a patient's studies together. keep_unreported: also studies
    without a report, if they have labels. dry_run: nothing is written.
    Raises TableError when more than ``max_bad_share`` of the pictures are bad, or of the reports cannot be read, or
    when nothing is left.
    """
    rows, skipped = _accepted(_first_patients(studies, limit), set(exclude), keep_unreported, progress)
    if not rows and not skipped:
        raise TableError("The source has no study: nothing was read, and nothing is written. Is it the right one?")
    read = len(rows) + sum(entry.reason in BAD_REPORTS for entry in skipped)
    bad = _bad_pictures(rows, decode)
    named = [(row, slot) for row in rows for slot in SLOTS if getattr(row, slot)]
    faults = [(row, slot) for row, slot in named if getattr(row, slot) in bad]
    for row, slot in faults:
        reason, detail = bad[getattr(row, slot)]
        skipped.append(Skipped(row.study_id, f"{slot} {reason}", getattr(row, slot), detail))
    rows = [_without(row, bad) for row in rows if row.current_frontal not in bad]
    rows, held_out = _testable(split_patients(rows, seed, validate_share, test_share, folds))
    skipped += held_out
    where = output / "skipped.jsonl"
    if not dry_run:
        _write(where, "".join(_line(entry) for entry in skipped).encode())
    listed = f"run without --dry-run and {where} lists them" if dry_run else f"{where} lists them"
    unread = [entry for entry in skipped if entry.reason in BAD_REPORTS]
    kind = "pictures are missing" + (" or undecodable" if decode else "")
    pictures = [f"{path} {' '.join(why).strip()}" for path, why in bad.items()]
    reports = [f"{entry.path} {entry.detail}".strip() for entry in unread]
    _require_few(kind, len(faults), len(named), pictures, max_bad_share, listed)
    _require_few("reports are missing or unreadable", len(unread), read, reports, max_bad_share, listed)
    if not rows:
        reasons = ", ".join(sorted({entry.reason for entry in skipped}))
        raise TableError(f"No study is left ({reasons}); {listed}.")
    prepared = summarise(rows, skipped)
    if not dry_run:
        table = table_bytes(rows)
        record = {
            **asdict(prepared),
            "seed": seed,
            "folds": asdict(folds) if folds else None,
            "limit": limit,
            "studies_sha256": hashlib.sha256(table).hexdigest(),
        }
        _write(output / "summary.json", (json.dumps(record, indent=2) + "\n").encode())
        _write(output / "studies.csv", table)  # last: where it is new, the others are
    return prepared


def _first_patients(studies: Iterable[StudyRow | Skipped], limit: int | None) -> Iterator[StudyRow | Skipped]:
    if limit is None:
        yield from studies
        return
    patients: set[str] = set()
    skipped = []
    for entry in studies:
        if isinstance(entry, Skipped):
            skipped.append(entry)
            continue
        if entry.patient_id not in patients and len(patients) == limit:
            break
        patients.add(entry.patient_id)
        yield entry
    # A reader may have skipped pictures of everybody before it gave the first study.
    yield from (entry for entry in skipped if entry.patient_id in patients)


def _accepted(
    studies: Iterable[StudyRow | Skipped], exclude: set[str], keep_unreported: bool, progress: Callable[[int], None]
) -> tuple[list[StudyRow], list[Skipped]]:
    rows: dict[StudyRow, None] = {}
    owner: dict[str, str] = {}  # patient, by picture
    skipped: list[Skipped] = []
    unread: set[str] = set()
    for done, entry in enumerate(studies, start=1):
        progress(done)
        if isinstance(entry, Skipped):
            skipped.append(entry)
            if entry.reason in BAD_REPORTS:
                unread.add(entry.study_id)
        elif entry.patient_id in exclude:
            skipped.append(Skipped(entry.study_id, EXCLUDED))
        elif not (entry.findings or entry.impression or entry.text or (keep_unreported and entry.labels)):
            if entry.study_id not in unread:
                skipped.append(Skipped(entry.study_id, "no report"))
        elif entry in rows:
            skipped.append(Skipped(entry.study_id, "repeated row"))
        elif shared := [
            path for path in entry.slots() if path and owner.get(path, entry.patient_id) != entry.patient_id
        ]:
            detail = f"patient {owner[shared[0]]}"
            skipped.append(Skipped(entry.study_id, SHARED, shared[0], detail, entry.patient_id))
        else:
            owner |= {path: entry.patient_id for path in entry.slots() if path}
            rows[entry] = None
    return list(rows), skipped


def _require_few(what: str, bad: int, total: int, examples: Sequence[str], share: float, listed: str) -> None:
    if bad > share * total:
        raise TableError(
            f"{bad} of {total} {what}, more than the allowed share of {share:g}; {listed}. The first:"
            f" {'; '.join(examples[:EXAMPLES])}. Mend the paths, or allow more with --max-bad-share."
        )


def _bad_pictures(rows: Iterable[StudyRow], decode: Undecodable | None) -> dict[str, tuple[str, str]]:
    """(reason, detail) by path."""
    paths = list(dict.fromkeys(path for row in rows for path in row.slots() if path))
    bad = {path: ("missing", "") for path in paths if not Path(path).is_file()}
    if decode:
        found = decode([path for path in paths if path not in bad])
        bad |= {path: ("undecodable", why) for path, why in found.items()}
    return bad


def _without(row: StudyRow, bad: Collection[str]) -> StudyRow:
    return replace(row, **{slot: "" for slot in SLOTS if getattr(row, slot) in bad})


def _testable(rows: Iterable[StudyRow]) -> tuple[list[StudyRow], list[Skipped]]:
    """Rows that their split can use: without a frontal picture a study cannot be evaluated."""
    kept, skipped = [], []
    for row in rows:
        if row.current_frontal or row.split == "train":
            kept.append(row)
        else:
            skipped.append(Skipped(row.study_id, "no frontal picture, and the patient is held out"))
    return kept, skipped


def _line(entry: Skipped) -> str:
    return json.dumps({name: value for name, value in asdict(entry).items() if value}) + "\n"


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise TableError(
            f"{path} cannot be written: {error.strerror}. Free space, or name another --output."
        ) from error
