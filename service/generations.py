"""Building generations as this installation is configured, for the command line and for jobs."""

from index import Catalog, GenerationInfo, Progress, build_generation, live_generation
from model.errors import ArchiveError

from .engines import engines_of
from .settings import Settings

__all__ = ["build_configured"]


def build_configured(
    settings: Settings,
    catalog: Catalog,
    fingerprint: str,
    *,
    engine: str | None = None,
    keep: int = 2,
    progress: Progress | None = None,
    moving: bool = False,
) -> GenerationInfo:
    """``build_generation`` of what the configured encoders made. fingerprint: theirs. moving: away from others.

    Raises ArchiveError model-mismatch where building would move the archive to other encoders unasked, and what
    ``build_generation`` raises.
    """
    live = live_generation(catalog)
    if not moving and live is not None and live.model_fingerprint != fingerprint:
        where = live.model_path or "an unknown place"
        raise ArchiveError(
            f"The live generation is of encoders in {where}, the configured ones are {settings.model_path}: building"
            f" now would switch to them. To stay: ALTA_MODEL_PATH={where}. To switch: alta index reindex --model"
            f" {settings.model_path}",
            "model-mismatch",
        )
    return build_generation(
        catalog,
        settings.generations_dir,
        fingerprint,
        engine=engine or settings.engine,
        engines=engines_of(settings),
        model_path=str(settings.model_path.absolute()),
        keep=keep,
        progress=progress,
    )
