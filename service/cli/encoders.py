"""``alta import`` and ``alta adapters``: weights from elsewhere into a folder that the product serves."""

from pathlib import Path
from typing import Annotated

import typer

from .commands import Commands
from .console import console

__all__ = ["adapters", "import_published"]

OVERWRITE = "Replace the encoders of a run in the output folder."

adapters = Commands("What an adapting run learned, kept without the base that it was learned over.")


@adapters.command("apply")
def apply(
    folder: Annotated[Path, typer.Argument(help="Folder `adapters` of a training run.")],
    output: Annotated[Path, typer.Option(help="Folder that ALTA_MODEL_PATH will name.")],
    base: Annotated[Path | None, typer.Option(help="The base as a checkpoint folder.")] = None,
    mrm: Annotated[Path | None, typer.Option(help="The base as published: MRM.pth.")] = None,
    cxr_bert: Annotated[Path | None, typer.Option(help="The base as published: the CXR-BERT folder.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help=OVERWRITE)] = False,
) -> None:
    """Lay adapters over the base they were learned over. Another base is refused."""
    from model.errors import AltaError
    from model.training.adapters import apply_adapters
    from model.training.config import BaseConfig

    if (base is None) == (mrm is None or cxr_bert is None):
        raise AltaError("Name the base: either --base, or both --mrm and --cxr-bert.")
    names = {"checkpoint": base, "mrm": mrm, "cxr_bert": cxr_bert}
    apply_adapters(folder, BaseConfig(**{name: str(path) for name, path in names.items() if path}), output, overwrite)
    console.print(f"Encoders written to {output}. Next: ALTA_MODEL_PATH={output} alta embed", markup=False)


def import_published(
    weights: Annotated[Path, typer.Argument(help="ALTA.pth as its authors published it.")],
    cxr_bert: Annotated[Path, typer.Option(help="The CXR-BERT folder, for its vocab.txt.")],
    output: Annotated[Path, typer.Option(help="Folder that ALTA_MODEL_PATH will name.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help=OVERWRITE)] = False,
) -> None:
    """Turn the published ALTA.pth into encoders that this product serves. Mind its licence: non-commercial."""
    from model.alta import ALTA, ALTAConfig
    from model.checkpoint import Provenance, save_checkpoint
    from model.image import ImageTransform
    from model.published import load_alta
    from model.text import ReportTokenizer
    from model.training.config import BaseConfig
    from model.training.output import check_folder, clear_output

    check_folder(output, BaseConfig(cxr_bert=str(cxr_bert)), overwrite)
    config = ALTAConfig()
    vocabulary = ReportTokenizer(cxr_bert / "vocab.txt", config.text.context_length).vocabulary
    model = ALTA(config)
    load_alta(model, weights)
    provenance = Provenance(
        name=f"ALTA, published weights ({weights.name})",
        trained_on="MIMIC-CXR, by the authors of arXiv 2506.08990",
        license="as its authors state; their code is CC-BY-NC",
        notice="For research. Not for clinical use.",
    )
    clear_output(output)
    save_checkpoint(output, model, vocabulary, ImageTransform(), provenance)
    console.print(f"Encoders written to {output}. Next: ALTA_MODEL_PATH={output} alta embed", markup=False)
