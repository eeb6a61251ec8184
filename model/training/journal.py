"""The figures of a run as it goes: ``log.jsonl`` always, TensorBoard and MLflow where asked."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..checkpoint import write_whole
from ..errors import AltaError
from .distributed import World

__all__ = ["Journal"]

log = logging.getLogger(__name__)

Tracker = Callable[[dict[str, float], int], None]  # figures by name, step


class Journal:
    """Lines of JSON, each on disk as soon as it is written, by the process that leads.

    ``first`` is the step an interrupted run goes on from: lines of later steps, which will be written again, are
    dropped, so that the log reads as that of an unbroken run. 0 begins anew.
    """

    def __init__(self, folder: Path, world: World, first: int, trackers: Sequence[str] = (), name: str = "run") -> None:
        self._stream = None
        self._trackers: list[Tracker] = []
        if not world.leads:
            return
        path = folder / "log.jsonl"
        lines = path.read_text().splitlines() if first and path.exists() else []
        kept = [line for line in lines if _step(line) <= first]
        write_whole(path, "".join(line + "\n" for line in kept).encode())
        self._stream = path.open("a")
        self._trackers = [TRACKERS[tracker](folder, name, first) for tracker in trackers]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._stream:
            self._stream.close()

    def write(self, entry: dict[str, Any]) -> None:
        if self._stream:
            print(json.dumps(entry), file=self._stream, flush=True)
            for track in self._trackers:
                try:
                    track(_figures(entry), entry["step"])
                except Exception as error:  # a server that is away must not end the training; the log has it all
                    log.warning("The figures of step %s did not reach a tracker: %s", entry["step"], error)


def _step(line: str) -> int:
    """Of a line; a torn one, cut by a power failure, belongs to no step that is kept."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 2**62


def _figures(entry: dict[str, Any]) -> dict[str, float]:
    """{"validation": {"loss": 1.0}} as {"validation/loss": 1.0}."""
    flat: dict[str, float] = {}
    for name, value in entry.items():
        if isinstance(value, dict):
            flat |= {f"{name}/{inner}": number for inner, number in value.items() if number is not None}
        elif name != "step" and isinstance(value, int | float):
            flat[name if name in ("seconds", "learning_rate", "studies_per_s") else f"training/{name}"] = value
    return flat


def _tensorboard(folder: Path, name: str, first: int) -> Tracker:
    """What an interrupted run had written of steps after ``first`` is no longer shown."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise AltaError("TensorBoard is not installed: pip install -c constraints.txt -e '.[train]'") from None
    writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first + 1)

    def track(figures: dict[str, float], step: int) -> None:
        for figure, value in figures.items():
            writer.add_scalar(figure, value, step)
        writer.flush()

    return track


def _mlflow(folder: Path, name: str, first: int) -> Tracker:
    """To MLFLOW_TRACKING_URI, as MLflow itself reads it."""
    try:
        import mlflow
    except ImportError:
        raise AltaError("MLflow is not installed: pip install -c constraints.txt -e '.[mlflow]'") from None
    mlflow.start_run(run_name=name, nested=True)

    def track(figures: dict[str, float], step: int) -> None:
        mlflow.log_metrics({figure.replace("/", "."): value for figure, value in figures.items()}, step=step)

    return track


TRACKERS: dict[str, Callable[[Path, str, int], Tracker]] = {"tensorboard": _tensorboard, "mlflow": _mlflow}
