"""Two processes train as one does on the joined batch, and stop as one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from model.checkpoint import load_checkpoint
from model.training import distributed, train
from model.training.distributed import World
from tests.one_of_two import gradients, joined_batch, losses, rows_of
from tests.test_training_state import CONFIG


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two gloo processes has."""
    folder = tmp_path_factory.mktemp("two")
    run_two("-m", "tests.one_of_two", str(folder))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def run_two(*arguments: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen([sys.executable, *arguments], env=environment | {"RANK": rank}) for rank in ("0", "1")
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]


# Local groups are those of the two processes, rows 0, 2, 4 and 1, 3, 5.
JOINED = rows_of(joined_batch(), torch.tensor([0, 2, 4, 1, 3, 5]))


def test_two_processes_have_the_gradients_of_one_with_the_joined_batch(found: list[dict[str, Any]]) -> None:
    expected = gradients(JOINED, World(), local_group=3)
    for own in found:
        assert own["gradients"].keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(own["gradients"][name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_two_processes_report_the_losses_of_one_with_the_joined_batch(found: list[dict[str, Any]]) -> None:
    expected = losses(JOINED, World())
    assert found[0]["losses"] == found[1]["losses"] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_what_a_process_has_no_gradient_for_counts_as_zero_there(found: list[dict[str, Any]]) -> None:
    for own in found:
        both, one, none = own["partly reached"]
        assert both.tolist() == [1.5, 1.5] and one.tolist() == [2.0, 2.0] and none is None


def test_a_loss_that_is_no_number_in_one_process_stops_both(found: list[dict[str, Any]]) -> None:
    assert found[0]["stopped by"] == found[1]["stopped by"]
    assert "'image_reconstruction': nan" in found[0]["stopped by"]


RUN = """
import sys
from pathlib import Path
from model.training import train
from tests.test_training_state import CONFIG
train(CONFIG, Path(sys.argv[1]), Path(sys.argv[2]), workers=1)
"""


def test_two_processes_leave_one_run_that_a_single_one_may_go_on_with(tmp_path: Path) -> None:
    output, cache = tmp_path / "run", tmp_path / "cache"
    run_two("-c", RUN, str(output), str(cache))
    load_checkpoint(output)
    entries = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries if "validation" in entry] == [1, 2]
    assert train(CONFIG, output, cache, workers=1, resume=True).done == 2


def test_gathering_leaves_the_gradient_it_is_given_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed.dist, "all_reduce", lambda tensor: tensor.mul_(2))
    given = torch.ones(4, 3)
    found, *_ = distributed._Gather.backward(SimpleNamespace(rank=1, rows=2), given)
    assert found.tolist() == [[2.0] * 3] * 2 and given.tolist() == [[1.0] * 3] * 4


def test_processes_wait_for_the_first_as_long_as_decoding_a_large_table_takes(found: list[dict[str, Any]]) -> None:
    assert all(own["patience"] >= 24 * 3600 for own in found)
