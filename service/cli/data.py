"""``alta data prepare``: raw data to the study table that training reads."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from model.errors import AltaError

from ..settings import Settings
from .console import console, progress_bar

__all__ = ["data"]

data = typer.Typer(no_args_is_help=True, help="Data to train on.")
prepare = typer.Typer(no_args_is_help=True, help="Write a study table: four slots, report, patient and split a row.")
data.add_typer(prepare, name="prepare")

Output = Annotated[Path, typer.Option(help="Folder that receives studies.csv, summary.json and skipped.jsonl.")]
Seed = Annotated[int, typer.Option(help="Of the patient-wise split, where the data have none of their own.")]
Validate = Annotated[float, typer.Option(min=0, max=0.5, help="Share of patients that choose the checkpoint.")]
Test = Annotated[float, typer.Option(min=0, max=0.5, help="Share of patients held out for evaluation.")]
Bad = Annotated[float, typer.Option(min=0, max=1, help="Share of pictures that may be missing.")]
Exclude = Annotated[
    Path | None, typer.Option(help="CSV with a patient_id column: an evaluation list whose patients are left out.")
]


@prepare.command("mimic-cxr-jpg")
def mimic_cxr_jpg(
    root: Annotated[Path, typer.Argument(help="Folder of mimic-cxr-2.0.0-metadata.csv[.gz] and files/.")],
    reports: Annotated[Path, typer.Option(help="Unpacked mimic-cxr-reports.zip: the folder that holds files/.")],
    output: Output,
    max_bad_share: Bad = 0.01,
    exclude_list: Exclude = None,
) -> None:
    """MIMIC-CXR-JPG 2.0.0 with its own split."""
    from model.training.tables import read_mimic

    _prepare(read_mimic(root, reports), output, exclude_list, max_bad_share=max_bad_share)


@prepare.command("csv")
def generic(
    table: Annotated[Path, typer.Argument(help="patient_id, image_path or current_frontal, other slots, report.")],
    output: Output,
    images: Annotated[
        Path | None, typer.Option(help="Folder that paths are relative to; default: the table's.")
    ] = None,
    seed: Seed = 0,
    validate_share: Validate = 0.05,
    test_share: Test = 0.1,
    max_bad_share: Bad = 0.01,
    exclude_list: Exclude = None,
) -> None:
    """A table of your own, or one with the published training columns."""
    from model.training.tables import read_csv_studies

    shares = {"seed": seed, "validate_share": validate_share, "test_share": test_share, "max_bad_share": max_bad_share}
    _prepare(read_csv_studies(table, images), output, exclude_list, **shares)


@prepare.command("archive")
def archive(
    output: Output,
    seed: Seed = 0,
    validate_share: Validate = 0.05,
    test_share: Test = 0.1,
    max_bad_share: Bad = 0.01,
    exclude_list: Exclude = None,
) -> None:
    """This installation's own archive: every study with a report, patients under their pseudonyms."""
    from index import open_catalog
    from index.training_table import archive_studies

    catalog = open_catalog(Settings().catalog_url)
    shares = {"seed": seed, "validate_share": validate_share, "test_share": test_share, "max_bad_share": max_bad_share}
    _prepare(archive_studies(catalog), output, exclude_list, **shares)
    catalog.close()


def _prepare(studies: Iterable[Any], output: Path, exclude_list: Path | None, **options: Any) -> None:
    from model.training.tables import prepare as write

    exclude = _patients(exclude_list) if exclude_list else ()
    with progress_bar("reading") as progress:
        # How many there are is known only at the end.
        prepared = write(studies, output, exclude=exclude, progress=lambda done: progress(done, done), **options)
    table = Table("studies", "count", title=str(output / "studies.csv"))
    for split, count in prepared.studies.items():
        table.add_row(split, str(count))
    table.add_row("patients", str(prepared.patients))
    table.add_section()
    for slot, count in prepared.slots.items():
        table.add_row(f"with {slot.replace('_', ' ')}", str(count))
    table.add_section()
    for reason, count in sorted(prepared.skipped.items()):
        table.add_row(f"left out: {reason}", str(count))
    console.print(table)
    console.print(
        f'Next: name it in a configuration, [data] table = "{output / "studies.csv"}", and alta train', markup=False
    )


def _patients(path: Path) -> set[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            if "patient_id" not in (reader.fieldnames or ()):
                raise AltaError(f"{path}: expected a column patient_id.")
            return {row["patient_id"] for row in reader}
    except OSError as error:
        raise AltaError(f"{path} cannot be read: {error.strerror}.") from error
