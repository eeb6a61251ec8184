"""Vector engines behind one small protocol (``protocol.py``): flat searches exactly, ivf is for large archives."""

from collections.abc import Mapping
from typing import Final

from .arrays import write_array
from .flat import FlatEngine, FlatIndex
from .ivf import IvfEngine, IvfIndex
from .measure import RECALL_DEPTH, exact_floor, recall_of, sample_queries
from .protocol import Engine, Place, RecallTooLow, Sample, VectorIndex
from .scoring import rank

LOCAL_ENGINES: Final[Mapping[str, Engine]] = {engine.name: engine for engine in (FlatEngine(), IvfEngine())}

__all__ = [
    "LOCAL_ENGINES",
    "RECALL_DEPTH",
    "Engine",
    "FlatEngine",
    "FlatIndex",
    "IvfEngine",
    "IvfIndex",
    "Place",
    "RecallTooLow",
    "Sample",
    "VectorIndex",
    "exact_floor",
    "rank",
    "recall_of",
    "sample_queries",
    "write_array",
]
