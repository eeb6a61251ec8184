"""What keeps a run from starting is said before its pictures are decoded, and leaves no folder behind."""

from dataclasses import replace
from pathlib import Path

import pytest

from model.checkpoint import Provenance, read_provenance
from model.errors import AltaError
from model.training import TrainConfig, TrainingConfigError, loop, train
from model.training.base import BaseConfig
from model.training.config import DataConfig
from model.training.start import inherit_terms, provenance_of
from model.training.tables import StudyRow, TableError, write_table
from tests.test_training_state import CONFIG
from tests.tiny import PROVENANCE, tiny_config, write_tiny_checkpoint


@pytest.fixture(autouse=True)
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object) -> None:
        raise AssertionError("pictures are decoded")

    monkeypatch.setattr(loop, "load_training", decode)


def refusal(config: TrainConfig, folder: Path) -> AltaError:
    with pytest.raises(AltaError) as caught:
        train(config, folder / "run", folder / "cache", workers=1)
    assert not (folder / "run").exists()
    return caught.value


def test_all_files_of_the_base_that_are_absent_are_named(tmp_path: Path) -> None:
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "pytorch_model.bin").touch()
    base = BaseConfig(mrm=str(tmp_path / "MRM.pth"), cxr_bert=str(tmp_path / "bert"))
    found = refusal(replace(CONFIG, base=base), tmp_path)
    assert isinstance(found, TrainingConfigError)
    for part in (
        f"base.mrm: {tmp_path}/MRM.pth: no such file or directory",
        f"base.cxr_bert: {tmp_path}/bert/config.json: no such file",
        f"{tmp_path}/bert/pytorch_model.bin: the file is empty",
        f"{tmp_path}/bert/vocab.txt: no such file",
    ):
        assert part in found.message


@pytest.mark.parametrize("damage", ["absent", "cut off", "another shape"])
def test_a_base_that_cannot_be_loaded_is_found_before_decoding(damage: str, tmp_path: Path) -> None:
    base = write_tiny_checkpoint(tmp_path / "base", "ignored")
    config = replace(CONFIG, base=BaseConfig(checkpoint=str(base)), model=tiny_config("ignored"))
    if damage == "absent":
        (base / "model.safetensors").unlink()
    elif damage == "cut off":
        (base / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:1000])
    else:
        config = replace(config, model=replace(config.model, embedding=4))
    message = {"absent": "no such file", "cut off": "cannot be read", "another shape": "changes the shape"}[damage]
    assert message in refusal(config, tmp_path).message


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    found = refusal(replace(CONFIG, data=DataConfig(table=str(tmp_path / "absent.csv"))), tmp_path)
    assert isinstance(found, TableError) and "absent.csv is not there; expected a studies.csv" in found.message


@pytest.mark.parametrize(
    ("splits", "message"),
    [("train " * 3 + "validate", "3 usable studies of split train"), ("train " * 4, "no usable study of split val")],
)
def test_a_table_with_too_few_studies_is_found_before_decoding(splits: str, message: str, tmp_path: Path) -> None:
    rows = [StudyRow(str(n), str(n), split, f"{n}.png", findings="Clear.") for n, split in enumerate(splits.split())]
    write_table(tmp_path / "studies.csv", rows)
    found = refusal(replace(CONFIG, data=DataConfig(table=str(tmp_path / "studies.csv"))), tmp_path)
    assert message in found.message


def test_numbers_that_make_no_network_are_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    odd = replace(CONFIG.model, image=replace(CONFIG.model.image, width=18))  # no sines and cosines of it
    assert "[model] describes no network" in refusal(replace(CONFIG, model=odd), tmp_path).message


def test_an_output_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingConfigError, match="file: expected a folder for the encoders, found a file"):
        train(CONFIG, tmp_path / "file", tmp_path / "cache", workers=1)


def test_a_run_that_fails_while_it_decodes_leaves_no_folder_and_takes_none_away(tmp_path: Path) -> None:
    for name, there in (("new", False), ("old", True)):
        if there:
            (tmp_path / name).mkdir()
        with pytest.raises(AssertionError, match="pictures are decoded"):
            train(CONFIG, tmp_path / name, tmp_path / "cache", workers=1)
        assert (tmp_path / name).exists() == there


# Terms


def test_the_terms_of_the_base_bind_what_is_made_of_it(tmp_path: Path) -> None:
    base = BaseConfig(checkpoint=str(write_tiny_checkpoint(tmp_path)))
    assert read_provenance(tmp_path) == PROVENANCE
    adapted = provenance_of(replace(CONFIG, base=base, provenance=None))
    assert (adapted.name, adapted.license, adapted.notice) == ("folder", PROVENANCE.license, PROVENANCE.notice)
    own = Provenance("mine", "ours", "CC0", "")
    assert inherit_terms(own, base) == replace(own, notice=PROVENANCE.notice)
    fresh = provenance_of(replace(CONFIG, provenance=None))
    assert (fresh.license, fresh.notice) == ("", "Not for clinical use.")
    published = inherit_terms(Provenance("", "", "", ""), BaseConfig(mrm="a/MRM.pth", cxr_bert="b/CXR-BERT"))
    assert published.license == "as the authors of its base state: MRM.pth, CXR-BERT"
    assert "Not for clinical use" in published.notice
