"""The base of a run: where its weights lie, and whether they do."""

from dataclasses import dataclass
from pathlib import Path

from .problem import TrainingConfigError

__all__ = ["BaseConfig", "absent_files", "check_base_files"]

CHECKPOINT = ("config.json", "model.safetensors", "vocab.txt")


@dataclass(frozen=True)
class BaseConfig:
    """Where the weights start: a checkpoint of ours, or the published MRM.pth and CXR-BERT folder; at random if empty.

    Of a checkpoint the architecture, vocabulary and image constants are taken over too; [model] and [transform]
    name only what is to differ.
    """

    checkpoint: str | None = None
    mrm: str | None = None
    cxr_bert: str | None = None

    @property
    def given(self) -> bool:
        return self.checkpoint is not None or self.mrm is not None

    @property
    def folders(self) -> tuple[Path, ...]:
        return tuple(Path(name) for name in (self.checkpoint, self.cxr_bert) if name is not None)


def absent_files(base: BaseConfig) -> list[str]:
    """Files of the base that cannot be opened, each with the key that names it and with why."""
    wanted: list[tuple[str, Path]] = []
    if base.checkpoint is not None:
        wanted += [("checkpoint", Path(base.checkpoint) / name) for name in CHECKPOINT]
    if base.mrm is not None:
        wanted.append(("mrm", Path(base.mrm)))
    if base.cxr_bert is not None:
        folder = Path(base.cxr_bert)
        weights = "pytorch_model.bin" if (folder / "pytorch_model.bin").exists() else "model.safetensors"
        wanted += [("cxr_bert", folder / name) for name in ("config.json", weights, "vocab.txt")]
    return [f"base.{key}: {path}: {why}" for key, path in wanted if (why := _unreadable(path))]


def check_base_files(base: BaseConfig) -> None:
    """Raises TrainingConfigError that names all that are absent."""
    if absent := absent_files(base):
        raise TrainingConfigError(
            f"Files of the base cannot be read: {'; '.join(absent)}. Put them there or mend the paths, which are"
            " relative to where the command is run."
        )


def _unreadable(path: Path) -> str:
    """Empty where it can be read."""
    try:
        with path.open("rb") as stream:
            return "" if stream.read(1) else "the file is empty"
    except OSError as error:
        return (error.strerror or str(error)).lower()
