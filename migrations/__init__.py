"""Schema revisions of the catalog, run by ``index.migrate``."""
