"""``alta archive without-frontal``: studies that have images, but none that the encoders could read them by."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from .archive import archive
from .console import console, plain
from .settings import archive_settings, shown_database

if TYPE_CHECKING:
    from index import Catalog  # not when the program starts: --help is instant

__all__ = ["tell_without_frontal", "without_frontal"]


@archive.command("without-frontal")
def without_frontal(limit: Annotated[int, typer.Option(min=1, help="Lines shown.")] = 50) -> None:
    """Studies whose images are all lateral or of unknown view: searches by image do not find them.

    A frontal image of the study that is taken in later changes that with the next `alta embed`.
    """
    from index import open_catalog
    from index.figures.without_frontal import count_without_frontal, studies_without_frontal

    settings = archive_settings()
    with closing(open_catalog(settings.catalog_url)) as catalog:
        records = studies_without_frontal(catalog, limit)
        count = count_without_frontal(catalog)
    for study in records:
        about = [f"accession_number={study.accession_number}"] if study.accession_number else []
        about += [f"study_date={study.study_date}"] if study.study_date else []
        typer.echo(plain(" ".join([study.study_instance_uid, *about, f"views={','.join(study.views)}"])))
    if len(records) < count:
        console.print(f"{len(records)} of {count} are shown; all of them: --limit {count}")
    else:
        console.print(f"In all: {count} in {shown_database(settings)}.", markup=False, soft_wrap=True)


def tell_without_frontal(catalog: "Catalog") -> None:
    """Say how many there are, where there are any."""
    from index.figures.without_frontal import count_without_frontal

    count = count_without_frontal(catalog)
    if count:
        studies = "1 study" if count == 1 else f"{count} studies"
        console.print(
            f"Without a frontal image, so not found by image: {studies}. Which: alta archive without-frontal",
            soft_wrap=True,
        )
