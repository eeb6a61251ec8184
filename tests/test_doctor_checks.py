"""Each check of ``alta doctor`` against what it is there for: one failure a test, and what its remedy says."""

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import index.looking
from index import Catalog, build_generation, migrate, open_catalog
from index.access.keys import create_key
from index.looking import look_at, read_facts
from index.tables import Generation
from model.calibration import Calibration
from model.checkpoint import read_fingerprint
from model.errors import ArchiveError
from service.doctor import data_folder, database, decoders, encoders, time_zone
from service.doctor.data_folder import check_data_folder
from service.doctor.database import check_clock, check_database, file_system_of
from service.doctor.decoders import SYNTAXES, check_decoders, decoded_difference
from service.doctor.encoders import check_calibration, check_device, check_encoders
from service.doctor.exposure import check_access
from service.doctor.finding import Finding
from service.doctor.index_files import check_index
from service.doctor.installation import Check, Installation
from service.doctor.time_zone import check_time_zone
from service.doctor.versions import check_versions
from service.settings import DEMO_ENCODERS, Settings
from tests.test_generations import add_embeddings, unit
from tests.tiny import write_tiny_checkpoint

Install = Callable[..., Installation]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def install(folder: Path, tmp_path: Path) -> Install:
    """``install(port=1)``: an installation with these settings, whose database has the schema."""
    migrate(f"sqlite:///{folder / 'alta.db'}")

    def make(**settings: object) -> Installation:
        return Installation(Settings(**{"data_dir": folder, "model_path": tmp_path / "encoders", **settings}), {})

    return make


@pytest.fixture
def catalog(install: Install, folder: Path) -> Iterator[Catalog]:
    with closing(open_catalog(f"sqlite:///{folder / 'alta.db'}")) as opened:
        yield opened


def states(check: Check, installation: Installation) -> dict[str, Finding]:
    """What a check finds, the last of each name; every finding that is not ok says what to do."""
    findings = list(check(installation))
    assert findings
    assert all(bool(finding.remedy) == (finding.state != "ok") for finding in findings)
    return {finding.check: finding for finding in findings}


def test_a_package_that_is_missing_or_another_one_is_named(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def other(name: str) -> str:
        if name == "hl7":
            raise metadata.PackageNotFoundError(name)
        return "0.1" if name == "pillow" else version(name)

    monkeypatch.setattr(metadata, "version", other)
    found = {finding.saw: finding.state for finding in check_versions(install()) if finding.check == "packages"}
    assert found["hl7: expected <0.5,>=0.4.5, missing"] == "fail"
    assert found["pillow: expected <13,>=12, found 0.1"] == "warn"


def test_the_driver_of_postgresql_is_needed_where_it_is_configured(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = metadata.version

    def without(name: str) -> str:
        if name == "psycopg":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without)
    assert states(check_versions, install())["packages"].state == "ok"
    missing = states(check_versions, install(database_url="postgresql://alta@127.0.0.1:1/alta"))["packages"]
    assert missing.state == "fail" and "psycopg" in missing.saw


def test_another_python_is_said(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.python_version", lambda: "3.10.1")
    assert states(check_versions, install())["python"].state == "fail"


def test_the_data_folder_is_its_owners_and_theirs_alone(
    install: Install, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert states(check_data_folder, install())["data folder"].state == "ok"
    folder.chmod(0o755)
    readable = states(check_data_folder, install())["data folder"]
    assert (readable.state, readable.remedy) == ("warn", f"chmod 700 {folder}")
    folder.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert "this is user 12345" in states(check_data_folder, install())["data folder"].saw
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert states(check_data_folder, install())["data folder"].state == "fail"
    assert states(check_data_folder, install(data_dir=folder / "alta.db"))["data folder"].saw.endswith("is no folder")


@pytest.mark.parametrize(("mode", "state"), [(0o2770, "ok"), (0o770, "ok"), (0o777, "warn"), (0o750, "warn")])
def test_a_data_folder_of_a_group_that_may_write_is_fine(
    install: Install, folder: Path, monkeypatch: pytest.MonkeyPatch, mode: int, state: str
) -> None:
    folder.chmod(mode)
    monkeypatch.setattr(os, "access", lambda *_: True)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    monkeypatch.setattr(os, "getegid", lambda: folder.stat().st_gid)
    assert states(check_data_folder, install())["data folder"].state == state


@pytest.mark.parametrize(("free", "state"), [(5000, "ok"), (3000, "warn"), (1000, "fail")])
def test_room_is_measured_against_the_setting(
    install: Install, monkeypatch: pytest.MonkeyPatch, free: int, state: str
) -> None:
    monkeypatch.setattr(data_folder.shutil, "disk_usage", lambda _: SimpleNamespace(free=free * 2**20))
    found = states(check_data_folder, install(min_free_mb=2048))["disk"]
    assert found.state == state and f"{free:,} MiB free" in found.saw


def test_a_database_that_is_none_or_is_damaged_fails_without_an_exception(install: Install, folder: Path) -> None:
    file = folder / "alta.db"
    whole = file.read_bytes()
    file.write_bytes(b"no database at all" * 1000)
    assert "file is not a database" in states(check_database, install())["database"].saw
    file.write_bytes(whole[: len(whole) // 2])
    cut = states(check_database, install())
    assert any(finding.state == "fail" for finding in cut.values())
    file.write_bytes(whole[:8192] + bytes(8192) + whole[16384:])
    assert any(finding.state == "fail" for finding in states(check_database, install()).values())


def test_a_database_that_somebody_keeps_locked_is_said_soon(
    install: Install, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index.looking, "PATIENCE_SECONDS", 0)
    with closing(sqlite3.connect(folder / "alta.db", isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("UPDATE alembic_version SET version_num = version_num")
        (folder / "alta.db-wal").touch()  # so that it is no file that nobody has open
        assert "locked" in states(check_database, install())["database"].saw


def test_the_schema_of_another_release_is_said_with_the_way_on(install: Install, folder: Path) -> None:
    url = f"sqlite:///{folder / 'alta.db'}"
    migrate(url, "0002")
    older = states(check_database, install())["schema"]
    assert (older.state, older.saw[:27]) == (
        "fail",
        "0002 of an older release, e",
    ) and "alta db upgrade" in older.remedy
    with closing(sqlite3.connect(folder / "alta.db")) as other:
        other.execute("UPDATE alembic_version SET version_num = '9999'")
        other.commit()
    newer = states(check_database, install())["schema"]
    assert newer.state == "fail" and "newer release" in newer.remedy
    (folder / "alta.db").unlink()
    sqlite3.connect(folder / "alta.db").execute("CREATE TABLE other (a)").connection.close()
    assert states(check_database, install())["schema"].saw.startswith("none, expected")


def test_a_database_on_a_network_file_system_fails(
    install: Install, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nnas:/x {folder} nfs4 rw 0 0\n/dev/b /a\\040b xfs rw 0 0\n")
    assert [file_system_of(Path(path), mounts) for path in ("/a b/c", "/etc")] == ["xfs", "ext4"]
    assert file_system_of(Path("/etc"), tmp_path / "none") == ""
    monkeypatch.setattr(database, "file_system_of", lambda path: file_system_of(path, mounts))
    found = states(check_database, install())["database"]
    assert found.state == "fail" and "nfs4" in found.saw and "PostgreSQL" in found.remedy


def test_a_database_that_others_can_read_or_without_its_log_is_warned_of(install: Install, folder: Path) -> None:
    file = folder / "alta.db"
    file.chmod(0o644)
    assert "chmod 600" in states(check_database, install())["database"].remedy
    with closing(sqlite3.connect(file)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
    assert "no write-ahead log" in states(check_database, install())["database"].saw


def test_postgresql_is_looked_at_and_cannot_be_written_to(install: Install, postgres_url: str) -> None:
    unmade = states(check_database, install(database_url=postgres_url))
    assert unmade["schema"].saw.startswith("none")
    migrate(postgres_url)
    found = states(check_database, install(database_url=postgres_url))
    assert found["schema"].state == "ok"
    assert found["database"].state == "warn" and "as a superuser" in found["database"].saw
    assert "s from the database server's" in states(check_clock, install(database_url=postgres_url))["clock"].saw
    with (
        look_at(postgres_url) as catalog,
        pytest.raises(ArchiveError, match="read-only transaction"),
        catalog.session() as session,
    ):
        session.connection().exec_driver_sql("CREATE TABLE forbidden (a int)")


def test_a_server_that_does_not_answer_is_said_without_the_password(install: Install) -> None:
    url = "postgresql://alta:sesame99@127.0.0.1:1/alta"
    found = states(check_database, install(database_url=url))["database"]
    assert found.state == "fail" and "ALTA_DATABASE_URL" in found.remedy and "sesame99" not in found.saw
    with pytest.raises(ArchiveError), look_at("no url"):
        pass
    assert states(check_clock, install(database_url=url))["clock"].state == "ok"
    assert states(check_index, install(database_url=url))["index"].state == "fail"


@pytest.mark.parametrize(("seconds", "state"), [(1, "ok"), (-10, "warn"), (40, "fail")])
def test_the_clock_is_compared_with_the_database_servers(
    install: Install, monkeypatch: pytest.MonkeyPatch, seconds: int, state: str
) -> None:
    def drifting(catalog: object) -> object:
        facts = read_facts(catalog)  # type: ignore[arg-type]
        return SimpleNamespace(
            clock=facts.asked_at + timedelta(seconds=seconds), asked_at=facts.asked_at, newest=None, server="17.2"
        )

    monkeypatch.setattr(database, "read_facts", drifting)
    assert states(check_clock, install())["clock"].state == state


def test_a_clock_that_is_behind_what_was_written_or_in_another_year_is_said(
    install: Install, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_embeddings(catalog, unit(1, 1))

    class Earlier(datetime):
        behind = timedelta(hours=1)

        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) - cls.behind

    monkeypatch.setattr(database, "datetime", Earlier)
    assert "something was written at" in states(check_clock, install())["clock"].saw
    Earlier.behind = timedelta(days=20 * 365)
    assert states(check_clock, install())["clock"].state == "fail"


def test_a_time_zone_that_nobody_named_or_that_is_none_is_said(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = {"name": "b", "arrivals": ("stow",), "kind": "sr", "to": "https://pacs.example/dicom"}
    back = install(return_routes=(route,))
    monkeypatch.setattr(time_zone.time, "localtime", lambda: time.gmtime(0))
    assert states(check_time_zone, back)["time zone"].state == "warn"
    assert states(check_time_zone, install())["time zone"].state == "ok"
    (tmp_path / "Etc").mkdir()
    (tmp_path / "Etc" / "UTC").touch()
    monkeypatch.setattr(time_zone.zoneinfo, "TZPATH", (str(tmp_path),))
    for named, state in (("CHANGE-ME", "fail"), ("Etc/UCT", "fail"), ("CET-1CEST", "ok"), ("Etc/UTC", "ok")):
        found = states(check_time_zone, Installation(back.settings, {"TZ": named}))["time zone"]
        assert found.state == state, named


def test_cuda_that_is_asked_for_and_absent_fails(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = states(check_device, install(device="cuda"))["device"]
    assert found.state == "fail" and "requirements/cuda.lock" in found.remedy and "ALTA_DEVICE=cpu" in found.remedy
    assert states(check_device, install(device="cpu"))["device"].state == "ok"
    monkeypatch.setattr(encoders, "NVIDIA", Path(__file__))
    assert "torch finds no GPU" in states(check_device, install())["device"].saw
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert "counted from 0" in states(check_device, install(device="cuda:1"))["device"].saw


def test_bfloat16_without_hardware_is_warned_of(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.processor.has_native_bfloat16", lambda device: False)
    assert states(check_device, install(device="cpu", dtype="bfloat16"))["device"].state == "warn"
    assert "cpu, float32" in states(check_device, install(device="cpu"))["device"].saw


def test_the_demo_encoders_are_a_warning(install: Install) -> None:
    found = states(check_encoders, install(model_path=DEMO_ENCODERS))
    assert found["encoders"].state == "warn" and "Not for clinical use" in found["encoders"].remedy
    assert found["encoding"].state == "ok"


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "vocab.txt"])
def test_encoders_that_are_cut_short_fail_and_say_which_file(install: Install, tmp_path: Path, file: str) -> None:
    path = write_tiny_checkpoint(tmp_path / "encoders") / file
    path.write_bytes(path.read_bytes()[:200])
    found = list(states(check_encoders, install()).values())[-1]
    assert found.state == "fail" and file in found.saw and "ALTA_MODEL_PATH" in found.remedy


def test_weights_that_are_no_numbers_are_noticed(install: Install, tmp_path: Path) -> None:
    path = write_tiny_checkpoint(tmp_path / "encoders") / "model.safetensors"
    save_file({name: value * np.nan for name, value in load_file(path).items()}, path)
    assert states(check_encoders, install())["encoding"].state == "fail"


def test_a_calibration_of_other_encoders_is_not_used(install: Install, tmp_path: Path) -> None:
    encoders = write_tiny_checkpoint(tmp_path / "encoders")
    assert states(check_calibration, install())["calibration"].saw.startswith("none")
    about = {"date": "2026-11-30", "sample": "a sample", "sample_sha256": "0", "studies": 9, "patients": 9}
    Calibration(fingerprint="0" * 64, level="0.95", findings={}, **about).save(encoders)  # type: ignore[arg-type]
    assert "It is not used" in states(check_calibration, install())["calibration"].saw
    own = read_fingerprint(encoders)
    Calibration(fingerprint=own, level="0.95", findings={}, **about).save(encoders)  # type: ignore[arg-type]
    assert states(check_calibration, install())["calibration"].state == "ok"
    (encoders / "calibration.json").write_text("{")
    assert states(check_calibration, install())["calibration"].state == "warn"


@pytest.fixture
def indexed(install: Install, catalog: Catalog, folder: Path, tmp_path: Path) -> Path:
    """A generation of the configured encoders; the folder of its images."""
    model = read_fingerprint(write_tiny_checkpoint(tmp_path / "encoders"))
    add_embeddings(catalog, unit(1, 5), model=model)
    build_generation(catalog, folder / "generations", model, model_path=str(tmp_path / "encoders"))
    return folder / "generations" / "1" / "image"


def test_an_index_file_that_was_changed_fails_and_a_missing_one_is_made_again(install: Install, indexed: Path) -> None:
    assert states(check_index, install())["index files"].state == "ok"
    vectors = indexed / "vectors.npy"
    content = vectors.read_bytes()
    vectors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    found = states(check_index, install())["index files"]
    assert found.state == "fail" and "vectors.npy" in found.saw and "alta index build" in found.remedy
    vectors.unlink()
    found = states(check_index, install())["index files"]
    assert found.state == "warn" and "makes them again" in found.remedy


def test_an_index_of_other_encoders_fails_unless_they_are_still_there(
    install: Install, indexed: Path, tmp_path: Path
) -> None:
    other = write_tiny_checkpoint(tmp_path / "other", seed=1)
    found = states(check_index, install(model_path=other))["index encoders"]
    assert found.state == "warn" and f"ALTA_MODEL_PATH={tmp_path / 'encoders'}" in found.remedy
    (tmp_path / "encoders" / "vocab.txt").unlink()
    found = states(check_index, install(model_path=other))["index encoders"]
    assert found.state == "fail" and "alta index reindex --model" in found.remedy
    assert states(check_index, install())["embedding"].state == "warn"  # configured ones without a vocabulary


def test_an_engine_that_is_not_configured_fails(install: Install, catalog: Catalog, indexed: Path) -> None:
    with catalog.write() as session:
        session.get_one(Generation, 1).settings = '{"image": {"engine": "milvus"}}'
    found = states(check_index, install())["index files"]
    assert found.state == "fail" and "ALTA_MILVUS_URI" in found.remedy


def test_an_archive_without_an_index_says_how_to_make_one(
    install: Install, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_checkpoint(tmp_path / "encoders")
    assert "alta ingest FOLDER" in states(check_index, install())["index"].remedy
    add_embeddings(catalog, unit(1, 2), model="e" * 64)
    assert states(check_index, install())["index"].remedy == "alta embed, alta index build"


def test_much_beside_the_index_is_a_warning(
    install: Install, catalog: Catalog, indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_embeddings(catalog, unit(2, 3), first=50, model=read_fingerprint(tmp_path / "encoders"))
    assert "3 embeddings came since" in states(check_index, install())["index age"].saw
    monkeypatch.setattr(sys.modules["service.doctor.index_files"], "MUCH", 2)
    assert states(check_index, install())["index age"].remedy == "alta index build"


@pytest.mark.parametrize(
    ("settings", "state", "said"),
    [
        ({}, "ok", "this machine only"),
        ({"host": "0.0.0.0"}, "fail", "nobody could authenticate"),
        ({"host": "0.0.0.0", "authentication": "off"}, "fail", "will not start"),
        ({"authentication": "off"}, "warn", "reads every report"),
        ({"receive": True}, "warn", "can send and delete"),
        ({"authentication": "required", "trusted_proxies": ("0.0.0.0/0",)}, "warn", "any address in the audit"),
        ({"database_url": "postgresql://alta@db.example/alta"}, "warn", "may be in plain text"),
        (
            {"return_routes": ({"name": "b", "arrivals": ("stow",), "kind": "sr", "to": "http://pacs.example/dicom"},)},
            "warn",
            "results of the route b travel in plain text",
        ),
        (
            {"return_routes": ({"name": "b", "arrivals": ("stow",), "kind": "sr", "to": "dicom://P@pacs.example"},)},
            "warn",
            "results of the route b travel in plain text",
        ),
        (
            {
                "return_routes": (
                    {"name": "b", "arrivals": ("stow",), "kind": "sr", "to": "dicom://P@pacs.example", "tls": {}},
                )
            },
            "ok",
            "this machine only",
        ),
        ({"database_url": "postgresql://alta@db.example/alta?sslmode=verify-full"}, "ok", "this machine only"),
    ],
)
def test_choices_that_let_somebody_in_are_said(
    install: Install, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], state: str, said: str
) -> None:
    installation = install(**settings)
    if "database_url" in settings:
        monkeypatch.setattr(Installation, "readable", False)
    found = list(check_access(installation))
    assert any((finding.state, said in finding.saw) == (state, True) for finding in found), found


def test_with_a_key_and_named_hosts_another_address_is_fine(install: Install, catalog: Catalog) -> None:
    create_key(catalog, "viewer", ["search"], "cli:test")
    found = states(check_access, install(host="0.0.0.0", allowed_hosts=("alta.example",), receive=True))
    assert found["access"].state == "ok" and "every request needs a key" in found["access"].saw
    assert "any host name" in states(check_access, install(host="0.0.0.0"))["access"].saw


def test_every_transfer_syntax_is_decoded_to_what_was_encoded() -> None:
    assert {
        str(syntax): decoded_difference(str(syntax)) for syntax in SYNTAXES if decoded_difference(str(syntax)) > 1
    } == {}


def test_a_decoder_that_fails_or_gives_other_pixels_is_named(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pool:
        def __init__(self, *_: object, **__: object) -> None: ...

        def __call__(self, function: object, syntax: str) -> int:
            if syntax.endswith(".4.90"):
                raise RuntimeError("no decoder")
            return 77 if syntax.endswith(".4.70") else 0

        def close(self) -> None: ...

    monkeypatch.setattr(decoders, "DecoderPool", Pool)
    found = list(check_decoders(install()))
    assert [finding.state for finding in found] == ["fail", "fail"]
    assert "by 77" in found[0].saw and "First-Order" in found[0].saw and "no decoder" in found[1].saw
