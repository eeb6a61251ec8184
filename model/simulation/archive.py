"""A simulated archive on disk: the DICOM tree, the reports, the truth and the masks. Restartable at any moment."""

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .cohort import simulate_studies
from .dicom import dicom_paths, write_dicom
from .findings import Finding
from .rendering import finding_masks
from .study import SimulatedStudy

__all__ = ["MASK_SIZE", "read_masks", "write_cohort"]

MASK_SIZE = 256
"""Rows and columns of stored masks, whatever the size of the images."""

_COLUMNS = (
    "study_instance_uid", "accession_number", "patient_id", "study_date",
    "indication", "comparison", "findings", "impression",
)  # fmt: skip


def write_cohort(
    seed: int,
    studies: int,
    folder: Path,
    size: int = 512,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Writes the first `studies` studies of the cohort `seed` below `folder`; `progress` hears how many are done.

    Writes dicom/ (see `write_dicom`), reports.csv, truth.jsonl (a line a study) and masks/<study_instance_uid>.npz (see
    `read_masks`). Studies already complete are skipped, so that a run killed at any moment is finished by the next one.
    Raises ValueError if `studies` is negative.
    """
    if studies < 0:
        raise ValueError(f"expected a number of studies of 0 or more, found {studies}")
    cohort = [study for study, _ in simulate_studies(seed, studies)]
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    _replace(folder / "reports.csv", _reports(cohort).encode())
    _replace(
        folder / "truth.jsonl",
        "".join(json.dumps(_truth(study)) + "\n" for study in cohort).encode(),
    )
    for done, study in enumerate(cohort, 1):
        masks = folder / "masks" / f"{study.study_instance_uid}.npz"
        # The masks are written last: where they are, the study is complete.
        if not (masks.exists() and all(path.exists() for path in dicom_paths(study, folder / "dicom"))):
            write_dicom(study, folder / "dicom", size)
            _replace(masks, _packed_masks(study))
        if progress is not None:
            progress(done)


def read_masks(path: Path) -> dict[str, dict[str, NDArray[np.bool_]]]:
    """The masks of one study as written by `write_cohort`: view to finding name to bool (256, 256)."""
    masks: dict[str, dict[str, NDArray[np.bool_]]] = {}
    with np.load(path) as packed:
        for key in packed.files:
            view, name = key.split(":")
            masks.setdefault(view, {})[name] = np.unpackbits(packed[key], axis=-1).astype(bool)
    return masks


def _packed_masks(study: SimulatedStudy) -> bytes:
    packed = {
        f"{view}:{name}": np.packbits(mask, axis=-1)
        for view in study.views
        for name, mask in finding_masks(study, view, MASK_SIZE).items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **packed)  # type: ignore[arg-type]
    return buffer.getvalue()


def _reports(cohort: list[SimulatedStudy]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for study in cohort:
        r = study.report
        identity = (
            study.study_instance_uid,
            study.accession_number,
            study.patient_id,
            study.study_date.isoformat(),
        )
        writer.writerow((*identity, r.indication, r.comparison, r.findings, r.impression))
    return text.getvalue()


def _truth(study: SimulatedStudy) -> dict[str, object]:
    return {
        "study_instance_uid": study.study_instance_uid,
        "findings": [_entry(finding) for finding in study.findings],
        "resolved": [_entry(finding) for finding in study.resolved],
    }


def _entry(finding: Finding) -> dict[str, object]:
    return {
        "name": finding.name,
        "side": finding.side,
        "zone": finding.zone,
        "severity": round(finding.severity, 4),
        "grade": finding.grade,
        "change": finding.change,
        "lateral_only": finding.lateral_only,
        "device": finding.device,
    }


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)
