"""HTTP: search, zero-shot classification and the archive's studies."""

from .app import create_app
from .settings import Settings, require_safe_exposure

__all__ = ["Settings", "create_app", "require_safe_exposure"]
