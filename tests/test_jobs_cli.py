"""``alta worker``, ``alta jobs`` and ``alta archive delete | restore``, as one types them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from index import Catalog, open_catalog
from index.jobs.queue import enqueue, read_job
from index.tables import AuditEntry
from service.jobs.kinds import KINDS
from tests.conftest import WriteDicom
from tests.test_cli import Alta, alta
from tests.tiny import write_tiny_checkpoint

__all__ = ["alta"]


@pytest.fixture
def filled(alta: Alta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_dicom: WriteDicom) -> Alta:
    """An archive of one study in the folder ``data``."""
    write_tiny_checkpoint(tmp_path / "encoders")
    monkeypatch.setenv("ALTA_DATA_DIR", "data")
    write_dicom("a.dcm")
    assert alta("ingest", "archive")[0] == 0
    return alta


@pytest.fixture
def catalog(filled: Alta, tmp_path: Path) -> Iterator[Catalog]:
    opened = open_catalog(f"sqlite:///{tmp_path / 'data' / 'alta.db'}")
    yield opened
    opened.close()


def ask(catalog: Catalog, kind: str) -> str:
    return enqueue(catalog, kind, {}, exclusive=KINDS[kind].exclusive, requested_by="test").id


def test_a_worker_does_what_waits_and_ends(filled: Alta, catalog: Catalog) -> None:
    embed, build = ask(catalog, "embed"), ask(catalog, "index-build")
    code, _, err = filled("worker", "--once", "--workers", "0")
    assert code == 0, err
    assert read_job(catalog, embed).result == {"images": 1, "reports": 0, "failed": {}}
    assert read_job(catalog, build).state == "succeeded"
    assert "1 studies" in filled("index", "status")[1]


def test_a_worker_of_some_kinds_leaves_the_others(filled: Alta, catalog: Catalog) -> None:
    embed, verify = ask(catalog, "embed"), ask(catalog, "verify")
    assert filled("worker", "--once", "--kind", "verify", "--kind", "prune")[0] == 0
    assert (read_job(catalog, embed).state, read_job(catalog, verify).state) == ("queued", "succeeded")
    assert filled("worker", "--kind", "other")[0] != 0
    code, _, err = filled("worker", "--once", "--watch")
    assert code == 1 and "for ever" in err


def test_jobs_are_listed_shown_and_called_off(filled: Alta, catalog: Catalog) -> None:
    job_id = ask(catalog, "embed")
    _, out, _ = filled("jobs", "list")
    assert job_id in out and "queued" in out
    assert "cancelled" in filled("jobs", "cancel", job_id)[1]
    _, out, _ = filled("jobs", "show", job_id)
    assert "state: cancelled" in out and "requested_by: test" in out
    code, _, err = filled("jobs", "show", "none")
    assert code == 1 and err.startswith("alta: There is no job")


def test_a_study_that_was_taken_out_may_come_back(
    filled: Alta, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = filled("archive", "delete", "1.2.3.1", "--dry-run")
    assert code == 0 and out.startswith("To be deleted: images 1,")
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    assert filled("archive", "delete", "1.2.3.1")[0] == 1
    assert filled("archive", "delete", "1.2.3.1", "--yes")[0] == 0
    assert "deleted" in filled("ingest", "archive")[1]
    assert filled("archive", "restore", "1.2.3.1")[0] == 0
    assert "deleted" not in filled("ingest", "archive")[1]
    for command in ("delete", "restore"):
        code, _, err = filled("archive", command, "9.9", *(["--yes"] if command == "delete" else []))
        assert code == 1 and err.startswith("alta: ")
    with catalog.session() as session:
        written = [(entry.action, entry.study_key) for entry in session.query(AuditEntry).order_by(AuditEntry.id)]
    assert [action for action, _ in written] == ["study-deleted", "study-restored"]
    assert all(key and "1.2.3.1" not in key for _, key in written)
