"""Two processes train as one does on the joined batch."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch

from model.training.distributed import World
from tests.one_of_two import gradients, joined_batch, rows_of


def test_two_gloo_processes_have_the_gradients_of_one_with_the_joined_batch(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen([sys.executable, "-m", "tests.one_of_two", str(tmp_path)], env=environment | {"RANK": rank})
        for rank in ("0", "1")
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    # Local groups are those of the two processes, rows 0, 2, 4 and 1, 3, 5.
    joined = rows_of(joined_batch(), torch.tensor([0, 2, 4, 1, 3, 5]))
    expected = gradients(joined, World(), local_group=3)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5, msg=name)
