"""Stand-ins for a decoder that a file takes down with its process; worker processes import them by name."""

import os
import signal
from pathlib import Path

import numpy as np

from index.embedding.prepared import prepare_file
from index.intake.examine import Examined, Source, examine
from model.image import ImageTransform

from .broken_decoders import hang

_examine = examine  # the real one: the tests put these in its place


def examine_or_die(source: Source) -> Examined:
    if source.path.name == "killer.dcm":
        os.kill(os.getpid(), signal.SIGKILL)
    return _examine(source)


def examine_broken(source: Source) -> Examined:
    if source.path.name == "hanger.dcm":
        hang()
    if source.path.name == "glutton.dcm":
        bytearray(2**40)
    return examine_or_die(source)


def prepare_broken(path: Path, sha256: str, transform: ImageTransform) -> np.ndarray:
    if path.name == "killer.dcm":
        os.kill(os.getpid(), signal.SIGKILL)
    if path.name == "hanger.dcm":
        hang()
    return prepare_file(path, sha256, transform)
