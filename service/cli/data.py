"""``alta data prepare``: raw data to the study table that training reads."""

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from model.errors import AltaError

from ..settings import Settings
from .commands import Commands
from .console import console, staged_progress

__all__ = ["data"]

data = Commands("Tables of studies to train on.")
prepare = Commands("Write a study table: a row a study, with its images, report, patient and split.")
data.add_typer(prepare, name="prepare")

CORES = len(os.sched_getaffinity(0))

Images = Annotated[Path | None, typer.Option(help="Folder of the pictures, where it is not the usual one.")]


class Check(StrEnum):
    exist = "exist"
    decode = "decode"


def _common(
    *,
    output: Annotated[Path, typer.Option(help="Folder that receives studies.csv, summary.json and skipped.jsonl.")],
    seed: Annotated[int, typer.Option(help="Of the patient-wise split and of folds.")] = 0,
    validate_share: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of patients that choose the checkpoint, without a given split.")
    ] = 0.05,
    test_share: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of patients held out for evaluation, without a given split.")
    ] = 0.1,
    folds: Annotated[
        int | None, typer.Option(help="Cross-validate over so many groups of patients, with --fold; not a given split.")
    ] = None,
    fold: Annotated[
        int | None, typer.Option(help="From 1: this fold tests, the next validates, the others train.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many patients alone, for a trial.")] = None,
    exclude_list: Annotated[
        Path | None, typer.Option(help="CSV with a patient_id column: an evaluation list whose patients are left out.")
    ] = None,
    keep_unreported: Annotated[
        bool,
        typer.Option(
            "--keep-unreported",
            help="Keep labelled studies without a report too: for zero-shot scores, not for training.",
        ),
    ] = False,
    check: Annotated[Check, typer.Option(help="Of every picture: that it is there, or that it decodes.")] = Check.exist,
    workers: Annotated[int, typer.Option(min=1, help="Processes that decode.")] = CORES,
    max_bad_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of pictures that may be missing or undecodable.")
    ] = 0.01,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the summary; write nothing.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a table that --output already has.")] = False,
) -> None:
    """The options of every kind."""


def _kind(name: str) -> Callable[[Callable[..., Iterable[Any]]], None]:
    """Register a function that gives studies: its own parameters, then those of ``_common``."""

    def register(read: Callable[..., Iterable[Any]]) -> None:
        own, common = inspect.signature(read).parameters, inspect.signature(_common).parameters

        def command(**given: Any) -> None:
            _prepare(read(**{name: given[name] for name in own}), **{name: given[name] for name in common})

        # Typer reads options off the signature.
        command.__signature__ = inspect.Signature([*own.values(), *common.values()])  # type: ignore[attr-defined]
        command.__annotations__ = {of.name: of.annotation for of in (*own.values(), *common.values())}
        prepare.command(name, help=read.__doc__)(command)

    return register


@_kind("mimic-cxr-jpg")
def _mimic_cxr_jpg(
    root: Annotated[Path, typer.Argument(help="Folder of mimic-cxr-2.0.0-metadata.csv[.gz] and files/.")],
    *,
    reports: Annotated[Path, typer.Option(help="Unpacked mimic-cxr-reports.zip: the folder that holds files/.")],
) -> Iterable[Any]:
    """MIMIC-CXR-JPG 2.0.0 with its own split."""
    from model.training.tables import read_mimic

    return read_mimic(root, reports)


@_kind("chexpert-plus")
def _chexpert_plus(
    root: Annotated[Path, typer.Argument(help="Folder of df_chexpert_plus_240401.csv and PNG/, or that table.")],
    *,
    images: Images = None,
    labels: Annotated[
        Path | None, typer.Option(help="JSON Lines of labels: impression_fixed.json, findings_fixed.json, ...")
    ] = None,
) -> Iterable[Any]:
    """CheXpert Plus: its split valid tests, its training patients are divided by --validate-share."""
    from model.training.tables import read_chexpert_plus

    return read_chexpert_plus(root, images, labels)


@_kind("open-i")
def _open_i(
    source: Annotated[
        Path,
        typer.Argument(help="Folder of ecgen-radiology/ or indiana_reports.csv, or a file of reports (text alone)."),
    ],
    *,
    images: Images = None,
    projections: Annotated[
        Path | None, typer.Option(help="Which picture is frontal and which lateral: indiana_projections.csv")
    ] = None,
) -> Iterable[Any]:
    """Open-i of Indiana University: XML, CSV or JSON Lines; reports without a frontal picture train alone."""
    from model.training.tables import read_open_i

    return read_open_i(source, images, projections)


@_kind("manifest")
def _manifest(
    table: Annotated[
        Path, typer.Argument(help="CSV, a picture a row: patient_id, image_path, view, study_id, text ...")
    ],
    *,
    images: Images = None,
    column: Annotated[
        list[str] | None, typer.Option(help="FIELD=COLUMN, repeated: read a field from another column; empty: not.")
    ] = None,
) -> Iterable[Any]:
    """A table of pictures of your own: studies, follow-ups and views are put together. Columns: docs/training.md."""
    from model.training.tables import read_manifest

    columns = {}
    for given in column or ():
        name, sign, value = given.partition("=")
        if not sign:
            raise AltaError(f"--column {given}: expected FIELD=COLUMN, as in --column text=report_text.")
        columns[name] = value
    return read_manifest(table, images, columns, _tell_columns)


def _tell_columns(names: Mapping[str, str]) -> None:
    taken = ", ".join(name if name == column else f"{name} from {column}" for name, column in names.items())
    console.print(f"Columns: {taken}. Others are not read; --column FIELD=COLUMN names another.", markup=False)


@_kind("csv")
def _csv(
    tables: Annotated[
        list[Path], typer.Argument(help="patient_id, image_path or current_frontal, other slots, report; several join.")
    ],
    *,
    images: Images = None,
) -> Iterable[Any]:
    """Tables of studies of your own, with the published training columns, or prepared before."""
    from model.training.tables import read_csv_studies

    return chain.from_iterable(read_csv_studies(table, images) for table in tables)


@_kind("archive")
def _archive() -> Iterator[Any]:
    """This installation's own archive: every study with a report, patients under their pseudonyms."""
    from index import open_catalog
    from index.training_table import archive_studies

    catalog = open_catalog(Settings().catalog_url)
    try:
        yield from archive_studies(catalog)
    finally:
        catalog.close()


def _prepare(
    studies: Iterable[Any],
    output: Path,
    check: Check,
    workers: int,
    folds: int | None,
    fold: int | None,
    exclude_list: Path | None,
    overwrite: bool,
    **options: Any,
) -> None:
    from model.training.tables import EXCLUDED, Folds, undecodable
    from model.training.tables import prepare as write

    if (folds is None) != (fold is None):
        raise AltaError("--folds and --fold go together: --folds 5 --fold 1 tests on the first of five.")
    table = output / "studies.csv"
    if table.exists() and not (overwrite or options["dry_run"]):
        raise AltaError(
            f"{table} is there already: expected a folder without a table, for runs that were trained on it could then"
            " neither go on nor be checked for leaks. Name another --output, or replace it with --overwrite."
        )
    exclude = _patients(exclude_list) if exclude_list else frozenset()
    with staged_progress() as progress:
        decode = partial(undecodable, workers=workers, progress=lambda *n: progress("decoding", *n))
        prepared = write(
            studies,
            output,
            exclude=exclude,
            # How many there are is known only at the end.
            progress=lambda done: progress("reading", done, done),
            folds=Folds(folds, fold) if folds is not None and fold is not None else None,
            decode=decode if check is Check.decode else None,
            **options,
        )
    if exclude and EXCLUDED not in prepared.skipped:
        console.print(f"Mind: no patient of {exclude_list} is in the data; are they named as there?", markup=False)
    _show(prepared, f"{table}{', not written' if options['dry_run'] else ''}")
    if options["dry_run"]:
        console.print("Dry run: nothing was written.")
    else:
        console.print(f'Next: name it in a configuration, [data] table = "{table}", and alta train', markup=False)


def _show(prepared: Any, title: str) -> None:
    table = Table("", "studies", "patients", title=title)
    for split, count in prepared.studies.items():
        table.add_row(split, str(count), str(prepared.patients_of[split]))
    table.add_row("all", str(sum(prepared.studies.values())), str(prepared.patients))
    table.add_section()
    for slot, count in prepared.slots.items():
        table.add_row(f"with {slot.replace('_', ' ')}", str(count))
    table.add_row("with a report alone", str(prepared.text_only))
    table.add_row("distinct reports", str(prepared.distinct_reports))
    table.add_row("words of a report: " + ", ".join(f"{name} {count}" for name, count in prepared.words.items()))
    table.add_section()
    for label, count in prepared.labels.items():
        table.add_row(f"label: {label}", str(count))
    table.add_section()
    for reason, count in sorted(prepared.skipped.items()):
        table.add_row(f"left out: {reason}", str(count))
    console.print(table)


def _patients(path: Path) -> frozenset[str]:
    from model.csv_file import read_csv

    return frozenset(row["patient_id"] for _, row in read_csv(path, ("patient_id",))) - {""}
