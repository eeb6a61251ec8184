"""A process that embeds a catalog with the fake encoder, telling after every batch; made to be killed.

``python -m tests.embed_slowly URL``; ALTA_TEST_ENCODER_DELAY seconds are spent in every call of the encoder.
"""

import os
import sys
import time
from collections.abc import Sequence

import numpy as np

from index import embed_pending, open_catalog
from model.encoder import StudyImages

from .fakes import FakeEncoder


class SlowEncoder(FakeEncoder):
    def encode_studies(self, studies: Sequence[StudyImages]) -> np.ndarray:
        time.sleep(float(os.environ["ALTA_TEST_ENCODER_DELAY"]))
        return super().encode_studies(studies)


def tell(done: int, total: int) -> None:
    print(done, flush=True)


if __name__ == "__main__":
    print("started", flush=True)
    embed_pending(open_catalog(sys.argv[1]), SlowEncoder(), batch_size=3, workers=1, progress=tell)
