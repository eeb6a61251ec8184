"""Published weights become encoders that the product serves."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from model import alta
from model.alta_encoder import load_encoder
from model.published import published_names
from service.cli import app
from tests.tiny import TRANSFORM, VOCABULARY, tiny_config, tiny_model


def test_alta_pth_becomes_a_folder_that_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    names = published_names(model)
    weights = {names[name]: value for name, value in model.state_dict().items()}
    torch.save({"model": weights}, tmp_path / "ALTA.pth")
    (tmp_path / "cxr-bert").mkdir()
    (tmp_path / "cxr-bert" / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    monkeypatch.setattr(alta, "ALTAConfig", tiny_config)  # the published model has a gigabyte
    monkeypatch.setattr("model.image.ImageTransform", lambda: TRANSFORM)

    output = tmp_path / "encoders"
    command = ["import", str(tmp_path / "ALTA.pth"), "--cxr-bert", str(tmp_path / "cxr-bert"), "--output", str(output)]
    result = CliRunner().invoke(app, command)

    assert result.exit_code == 0, result.output
    encoder = load_encoder(output, dtype="float32")
    assert "Not for clinical use" in encoder.provenance.notice
    for name, value in encoder.model.named_parameters():
        torch.testing.assert_close(value, model.get_parameter(name))
    again = CliRunner().invoke(app, command)
    assert "holds the encoders of another run" in str(again.exception)
    assert CliRunner().invoke(app, [*command, "--overwrite"]).exit_code == 0
