"""What a worker keeps between jobs: the archive, and the encoders, which take seconds to load."""

from functools import cached_property

from index import Catalog
from model.checkpoint import read_fingerprint
from model.encoder import StudyEncoder

from ..settings import Settings

__all__ = ["Workbench"]


class Workbench:
    """encoder: instead of loading ``settings.model_path``. decoders: processes that read images; None: by cores."""

    def __init__(
        self, settings: Settings, catalog: Catalog, *, encoder: StudyEncoder | None = None, decoders: int | None = None
    ) -> None:
        self.settings = settings
        self.catalog = catalog
        self.decoders = decoders
        self._given = encoder

    @cached_property
    def encoder(self) -> StudyEncoder:
        """Loaded by the first job that needs it. Raises CheckpointError."""
        if self._given is not None:
            return self._given
        from model.alta_encoder import load_encoder  # torch, which other jobs do without

        return load_encoder(self.settings.model_path, self.settings.device, self.settings.dtype)

    @property
    def fingerprint(self) -> str:
        """Of the encoders, without loading them."""
        return self._given.fingerprint if self._given is not None else read_fingerprint(self.settings.model_path)
