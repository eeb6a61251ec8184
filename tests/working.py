"""A worker process with a slow fake encoder, telling of every batch; made to be killed.

``python -m tests.working URL FOLDER``; ALTA_TEST_ENCODER_DELAY seconds are spent in every call of the encoder.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from index import open_catalog
from model.encoder import StudyImages
from service.cli.embed import until_told
from service.jobs.workbench import Workbench
from service.jobs.worker import Worker
from service.settings import Settings

from .embed_slowly import SlowEncoder


class TellingEncoder(SlowEncoder):
    def encode_studies(self, studies: Sequence[StudyImages]) -> np.ndarray:
        print("batch", flush=True)
        return super().encode_studies(studies)


if __name__ == "__main__":
    url, folder = sys.argv[1:]
    bench = Workbench(Settings(data_dir=Path(folder)), open_catalog(url), encoder=TellingEncoder(), decoders=0)
    with until_told() as told:
        Worker(bench).run(told)
