"""What a worker keeps between jobs: the archive, and the encoders, which take seconds to load."""

from threading import Lock

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
        self._loaded: StudyEncoder | None = None
        self._loading = Lock()  # cached_property has none from Python 3.12 on: two threads would load it twice

    @property
    def encoder(self) -> StudyEncoder:
        """Loaded by the first thread that needs it; others wait for it. Raises CheckpointError."""
        if self._given is not None:
            return self._given
        with self._loading:
            if self._loaded is None:
                from model.alta_encoder import load_encoder  # torch, which other jobs do without

                self._loaded = load_encoder(self.settings.model_path, self.settings.device, self.settings.dtype)
            return self._loaded

    @property
    def fingerprint(self) -> str:
        """Of the encoders, without loading them."""
        return self._given.fingerprint if self._given is not None else read_fingerprint(self.settings.model_path)
