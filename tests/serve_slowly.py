"""``alta serve`` with the fake encoder, which holds on to the text "slow" until the file ``gate`` is there."""

import sys
import time
from pathlib import Path

from service.app import create_app
from service.logs import configure_logging
from service.serving import Server
from service.settings import Settings
from tests.fakes import FakeEncoder


class Slow(FakeEncoder):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def encode_texts(self, texts):
        if "slow" in texts:
            (self._folder / "entered").touch()
            while not (self._folder / "gate").exists():
                time.sleep(0.01)
        return super().encode_texts(texts)


if __name__ == "__main__":
    settings = Settings()
    configure_logging(settings.log_level, settings.log_format)
    Server(create_app(settings, encoder=Slow(Path(sys.argv[1]))), settings).run_until_told()
