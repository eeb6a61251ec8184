"""The architecture and losses give the published model's numbers."""

import json
import shutil
from pathlib import Path

import pytest

from benchmarks import parity
from tests.naive_alta import write_vectors

VECTORS = Path(__file__).parent / "data" / "parity"


def _disagreements(prefix: Path) -> dict[str, float]:
    return {name: error for name, error in parity.compare(prefix).items() if not error <= parity.TOLERANCE[name]}


def test_published_small_vectors_agree() -> None:
    assert _disagreements(VECTORS / "small") == {}


def test_a_wrong_number_is_noticed(tmp_path: Path) -> None:
    for name in ("small.json", "small.npz", "inputs.py"):
        shutil.copy(VECTORS / name, tmp_path)
    expected = json.loads((tmp_path / "small.json").read_text())
    expected["losses"]["contrastive"] *= 1.001
    (tmp_path / "small.json").write_text(json.dumps(expected))
    assert set(_disagreements(tmp_path / "small")) == {"losses"}


@pytest.mark.parametrize(("seed", "size"), [(77, 3), (2024, 6)])
def test_another_seed_and_batch_agree_with_a_naive_reading(tmp_path: Path, seed: int, size: int) -> None:
    shutil.copy(VECTORS / "inputs.py", tmp_path)
    small = json.loads((VECTORS / "small.json").read_text())
    inputs = parity.import_inputs(tmp_path / "inputs.py")
    write_vectors(tmp_path / "naive", small["parameters"], small["trainable"], inputs, seed, size, 512, (4, 4, 4))
    assert _disagreements(tmp_path / "naive") == {}
