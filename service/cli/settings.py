"""The settings of a command that works on the archive."""

from ..settings import Settings

__all__ = ["archive_settings", "shown_database"]


def archive_settings() -> Settings:
    """The settings, with their data folder made."""
    settings = Settings()
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return settings


def shown_database(settings: Settings) -> str:
    """The database as one may show it: without the password."""
    from sqlalchemy import make_url

    return make_url(settings.catalog_url).render_as_string(hide_password=True)
