"""Which encoders are loaded. Queries are embedded with the model of the generation they search.

A generation of another model is switched to once its encoders are there; they are loaded beside, while the old ones
answer, and the old ones go when nothing is searched with them any more.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Final

from index import GenerationInfo
from model.encoder import StudyEncoder
from model.errors import AltaError, ArchiveError, ModelMismatch

from .batching import Observer
from .calibrations import load_calibration
from .inference import Batching, Inference

__all__ = ["Encoders"]

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 60  # encoders that could not be loaded may have been put where they belong


class Encoders:
    """Thread-safe. load: encoders from a folder. find: the fingerprint of a folder's encoders, without loading them.

    configured_path: tried for a generation whose own path does not lead to its encoders on this host.
    batching, observer: of the requests that are answered with any of them. Encoders are warm before they are used.
    """

    def __init__(
        self,
        configured: StudyEncoder,
        configured_path: Path,
        load: Callable[[Path], StudyEncoder],
        find: Callable[[Path], str],
        batching: Batching | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._batching, self._observer = batching, observer
        self.configured = self._start(configured, configured_path)  # for what needs no index, until there is one
        self._configured_path, self._load, self._find = configured_path, load, find
        self._loaded = {configured.fingerprint: self.configured}
        self._failed: dict[str, tuple[float, ArchiveError]] = {}  # until when, and why
        self._loading: str | None = None
        self._lock = threading.Lock()
        self._wanted: str | None = None

    @property
    def problem(self) -> ArchiveError | None:
        """Why the live generation is not searched with its encoders yet."""
        with self._lock:
            wanted = self._wanted
            if wanted is None or wanted in self._loaded:
                return None
            if wanted in self._failed:
                return self._failed[wanted][1]
        return ModelMismatch(f"The encoders of the live generation ({wanted[:12]}) are being loaded.", "model-loading")

    def of(self, fingerprint: str) -> Inference | None:
        with self._lock:
            return self._loaded.get(fingerprint)

    def usable(self, info: GenerationInfo) -> bool:
        """Whether queries for a generation can be made now. If not, its encoders begin to be loaded."""
        fingerprint = info.model_fingerprint
        with self._lock:
            self._wanted = fingerprint
            if fingerprint in self._loaded:
                return True
            failed = self._failed.get(fingerprint)
            if self._loading is not None or (failed is not None and monotonic() < failed[0]):
                return False
            self._loading = fingerprint
        threading.Thread(target=self._fetch, args=(info,), name="load encoders", daemon=True).start()
        return False

    def prepare(self, info: GenerationInfo) -> None:
        """Load the encoders of a generation, where they can be loaded, before the first request."""
        self._wanted = info.model_fingerprint
        if info.model_fingerprint not in self._loaded:
            self._fetch(info)

    def drop_unused(self, searched: Callable[[], GenerationInfo | None]) -> None:
        """Keep the encoders of what is searched and of what will be; requests under way hold what they began with."""
        if len(self._loaded) == 1:
            return
        with self._lock:
            wanted = self._wanted  # read first: what is opened later was wanted by then
            info = searched()
            fingerprint = info.model_fingerprint if info else None
            if fingerprint not in self._loaded:
                return
            kept = {fingerprint, wanted}
            dropped = [self._loaded.pop(name) for name in list(self._loaded) if name not in kept]
            if self.configured.encoder.fingerprint not in self._loaded:
                self.configured = self._loaded[fingerprint]
        for inference in dropped:
            inference.close()
            log.info("encoders %s are no longer needed", inference.encoder.fingerprint[:12])

    @property
    def depths(self) -> dict[str, int]:
        """Items that wait to be encoded, by line, for all encoders that are loaded."""
        with self._lock:
            loaded = list(self._loaded.values())
        waiting: Counter[str] = Counter()
        for inference in loaded:
            waiting.update(inference.depths)
        return dict(waiting)

    def close(self) -> None:
        """End the threads that encode, once what waits has been encoded."""
        with self._lock:
            loaded = list(self._loaded.values())
        for inference in loaded:
            inference.close()

    def _start(self, encoder: StudyEncoder, folder: Path) -> Inference:
        inference = Inference(encoder, self._batching, self._observer, load_calibration(folder, encoder.fingerprint))
        try:
            inference.warm_up()
        except BaseException:
            inference.close()  # its threads would hold these encoders, and more of them with every try
            raise
        return inference

    def _fetch(self, info: GenerationInfo) -> None:
        fingerprint = info.model_fingerprint
        try:
            folder = self._folder_of(info)
            inference = self._start(self._load(folder), folder)
        except Exception as error:  # whatever a damaged folder raises: the old encoders go on answering
            reason = error.message if isinstance(error, AltaError) else type(error).__name__
            problem = ModelMismatch(f"The encoders of generation {info.id} cannot be loaded: {reason}")
            log.error("the encoders of generation %d (%s) cannot be loaded: %s", info.id, fingerprint[:12], reason)
            with self._lock:
                self._failed[fingerprint] = (monotonic() + RETRY_SECONDS, problem)
                self._loading = None
            return
        with self._lock:
            self._loaded[inference.encoder.fingerprint] = inference
            self._failed.pop(fingerprint, None)
            self._loading = None
        log.info("encoders %s are loaded", fingerprint[:12])

    def _folder_of(self, info: GenerationInfo) -> Path:
        """Raises ModelMismatch, CheckpointError."""
        paths = [Path(info.model_path)] if info.model_path else []
        for path in (*paths, self._configured_path):
            try:
                if self._find(path) == info.model_fingerprint:
                    return path
            except (AltaError, OSError):
                continue
        where = " or ".join(str(path) for path in (*paths, self._configured_path))
        raise ModelMismatch(f"Expected encoders {info.model_fingerprint[:12]} in {where}, found others or none.")
