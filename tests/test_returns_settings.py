"""Routes back: off unless set, refused at the start where they cannot be meant, and shown without sending."""

import json
import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydantic import ValidationError

from index import Catalog
from model.errors import InputError
from service.return_settings import ReturnRoute
from service.settings import Settings
from tests.conftest import chest_dataset
from tests.fakes import FakeEncoder
from tests.returning import FROM_ORTHANC, Returning, named, returning, sr_route

ROOT = Path(__file__).parents[1]
commands: Any = import_module("service.cli.returns")  # the package has the group of that name
SR = {"name": "pacs", "arrivals": ["dicom"], "kind": "sr", "to": "dicom://PACS@pacs.example"}
HOOK = {"name": "ris", "arrivals": ["stow"], "kind": "webhook", "to": "https://ris.example/alta", "tells": []}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def section(title: str) -> str:
    text = (ROOT / "docs/integrations.md").read_text()
    return text[text.index(f"## {title}") :]


def test_nothing_goes_back_unless_it_is_set() -> None:
    assert Settings().return_routes == ()


def test_a_route_names_doors_senders_and_a_destination() -> None:
    route = ReturnRoute.model_validate(SR | {"arrivals": ["dicom:CT 1", "stow", "form"]})
    assert route.doors == [("dicom", "CT 1"), ("stow", None), ("form", None)]
    assert route.node is not None and (route.node.host, route.node.port) == ("pacs.example", 104)
    titled = ReturnRoute.model_validate(SR | {"to": "dicom://MY%20PACS@pacs.example:11112"})
    assert titled.node is not None and (titled.node.ae_title, titled.node.port) == ("MY PACS", 11112)
    assert ReturnRoute.model_validate(SR | {"to": "https://pacs.example/dicom-web"}).node is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"arrivals": []}, "at least 1 item"),
        ({"arrivals": ["ftp"]}, "expected dicom, dicom:AE_TITLE, stow or form"),
        ({"arrivals": ["stow:PACS"]}, "expected dicom, dicom:AE_TITLE, stow or form"),
        ({"arrivals": ["dicom:MORE THAN SIXTEEN"]}, "expected dicom, dicom:AE_TITLE, stow or form"),
        ({"kind": "email"}, "'sr', 'fhir' or 'webhook'"),
        ({"name": "PACS 1"}, "match pattern"),
        ({"to": "dicom://pacs.example"}, "dicom://AE_TITLE@HOST:PORT"),
        ({"to": "dicom://PACS@pacs.example/path"}, "nothing behind it"),
        ({"to": "ftp://pacs.example"}, "http(s)://HOST[:PORT]/PATH"),
        ({"to": "https://user:hunter2@pacs.example"}, "credentials apart"),
        ({"to": "https://pacs.example/?a=b"}, "without a query"),
        ({"kind": "fhir"}, "only an sr goes to dicom://"),
        ({"similar": 21}, "less than or equal to 20"),
        ({"aet": ""}, "AE title of 1 to 16"),
        ({"tells": ["study_instance_uid"]}, "are of webhooks"),
        ({"max_age_days": -1}, "greater than or equal to 0"),
        ({"patient_system": "urn:oid:1.2"}, "are of fhir routes"),
        ({"kind": "fhir", "to": "https://a.example", "patient_system": "MRN"}, "expected a URI"),
        ({"nmae": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_a_route_that_cannot_be_meant_is_refused_with_what_was_expected(changed: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(return_routes=[SR | changed])  # type: ignore[arg-type]
    assert said in str(caught.value) and "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"return_routes": [SR, SR]}, "pacs more than once"),
        ({"return_routes": [SR], "return_credentials": {"pacs": "hunter2"}}, "no routes to an http(s) server"),
        ({"return_routes": [HOOK]}, "says nothing of a study unless told to"),
        ({"return_routes": [HOOK | {"link": "https://a.example/"}]}, "{study_instance_uid} in it"),
        ({"return_routes": [HOOK | {"tells": ["patient_name"]}]}, "'study_instance_uid' or 'accession_number'"),
        ({"return_routes": [HOOK | {"tells": ["accession_number"]}]}, "an origin that webhook_origins has not"),
        ({"return_quiet_s": -1}, "greater than or equal to 0"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(**settings)  # type: ignore[arg-type]
    assert said in str(caught.value) and "hunter2" not in str(caught.value)


def test_a_webhook_of_an_allowed_origin_is_taken() -> None:
    found = Settings(
        return_routes=[HOOK | {"tells": ["accession_number"]}],  # type: ignore[arg-type]
        webhook_origins=("https://ris.example:443",),
        webhook_secret=SECRET,  # type: ignore[arg-type]
    )
    assert found.return_routes[0].tells == ("accession_number",)


def test_the_documented_routes_are_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    exported = re.search(
        r"ALTA_RETURN_ROUTES='(.*?)'\n.*?ALTA_RETURN_CREDENTIALS='(.*?)'\n", section("Results back"), re.S
    )
    assert exported is not None
    monkeypatch.setenv("ALTA_RETURN_ROUTES", exported[1])
    monkeypatch.setenv("ALTA_RETURN_CREDENTIALS", exported[2])
    assert [route.name for route in Settings().return_routes] == ["pacs", "pacs-web", "emr"]


def test_every_member_of_a_route_is_documented() -> None:
    text = section("Results back")
    assert [name for name in ReturnRoute.model_fields if f"`{name}`" not in text] == []


@pytest.fixture
def world(sqlite_catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Returning:
    """An archive with a study that was sent, and the commands' own settings and encoders."""
    found = returning(sqlite_catalog, tmp_path)
    found.arrive(chest_dataset(study="1.2.3.1", **named()), by=FROM_ORTHANC)
    found.embed()
    routes = (sr_route(), sr_route("https://fhir.example/r4", name="emr", kind="fhir"))
    hook = sr_route("https://ris.example", name="ris", kind="webhook", tells=["accession_number"])
    settings = found.settings.model_copy(update={"return_routes": (*routes, hook)})
    monkeypatch.setattr(commands, "archive_settings", lambda: settings)
    monkeypatch.setattr("model.alta_encoder.load_encoder", lambda *_: FakeEncoder())
    monkeypatch.setattr("model.checkpoint.read_fingerprint", lambda _: FakeEncoder().fingerprint)
    return found


def test_a_document_is_shown_and_written_without_being_sent(
    world: Returning, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = next(line for line in section("What a document says").splitlines() if line.startswith("alta returns show"))
    study, _, route, *_ = shlex.split(line)[3:]
    file = tmp_path / "sr.dcm"
    commands.show(study, route=route, output=file)
    assert pydicom.dcmread(file).StudyInstanceUID == study
    assert "names the patient" in capsys.readouterr().out
    commands.show(study, route="emr", output=None)
    assert json.loads(capsys.readouterr().out)["resourceType"] == "DiagnosticReport"
    commands.show(study, route="ris", output=None)
    assert json.loads(capsys.readouterr().out)["data"] == {"route": "ris", "accession_number": "A1"}
    commands.show(study, route="pacs", output=None)
    assert "Imaging Measurement Report" in capsys.readouterr().out
    with pytest.raises(InputError, match="known: pacs, emr, ris"):
        commands.show(study, route="nobody", output=None)


def test_what_waits_is_listed_with_its_error_and_tried_again(
    world: Returning, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.returns.sender.send_dicom", lambda *_: 1 / 0)
    route = sr_route()
    sender = world.sender(route)
    lateral = chest_dataset(study="1.2.3.1", sop="1.2.3.1.9", seed=5, ViewPosition="LL", **named())
    world.arrive(lateral)
    world.embed()
    assert sender.send_due(route) is True
    commands.list_command(state=None, route=None, limit=20)
    shown = re.sub(r"\s+", "", capsys.readouterr().out)
    assert "waiting" in shown and "1waiting,0sent,0given-up,0supersededinall" in shown
    with pytest.raises(InputError, match="Say what to try again"):
        commands.retry(study=None, route=None, every=False)
    assert sender.send_due(route) is None
    commands.retry(study="1.2.3.1", route=None, every=False)
    assert "1 are due now" in capsys.readouterr().out
    assert sender.send_due(route) is True


def test_who_deletes_or_forgets_hears_what_receivers_have(
    world: Returning, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.returns.sender.send_dicom", lambda *_: None)
    sender = world.sender(sr_route())
    lateral = chest_dataset(study="1.2.3.1", sop="1.2.3.1.9", seed=5, ViewPosition="LL", **named())
    world.arrive(lateral)
    world.embed()
    assert sender.send_due(sr_route()) is True
    for name, call in (
        ("delete", lambda command: command("1.2.3.1", yes=False, dry_run=True)),
        ("forget", lambda command: command("P1", issuer=None, yes=False, dry_run=True)),
    ):
        module: Any = import_module(f"service.cli.{name}")
        monkeypatch.setattr(module, "archive_settings", lambda: world.settings)
        call(getattr(module, name))
        assert "the receivers' to remove: 1 by pacs" in " ".join(capsys.readouterr().out.split())
