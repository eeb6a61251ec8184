"""A process of its own that builds one generation after another, to be killed at any moment: URL, folder, model."""

import sys
from pathlib import Path

from index import build_generation, open_catalog

if __name__ == "__main__":
    url, folder, model = sys.argv[1:]
    catalog = open_catalog(url)
    print("ready", flush=True)
    for number in range(100):
        build_generation(catalog, Path(folder), model, engine=("flat", "ivf")[number % 2])
