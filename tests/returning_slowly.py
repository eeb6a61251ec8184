"""A process that sends results back with the fake encoder, made to be killed: ``URL FOLDER``; routes by ALTA_*."""

import sys
from pathlib import Path
from threading import Event

from index import open_catalog
from service.returns import Sender
from service.returns.material import Desk
from service.settings import Settings

from .fakes import FakeEncoder

if __name__ == "__main__":
    url, folder = sys.argv[1:]
    settings = Settings(data_dir=Path(folder), return_quiet_s=0.0)
    catalog = open_catalog(url)
    desk = Desk(settings, catalog, FakeEncoder, lambda: FakeEncoder().fingerprint)
    Sender(settings, catalog, desk).run(Event())
