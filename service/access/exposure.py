"""Nobody's reports are served to a network where nobody has to say who they are."""

from index import Catalog
from index.access.keys import has_keys
from model.errors import InputError

from ..settings import Settings

__all__ = ["require_safe_exposure"]


def require_safe_exposure(settings: Settings, catalog: Catalog) -> None:
    """The command line calls it before serving. Raises InputError unsafe-exposure."""
    if settings.loopback_only:
        return
    where = f"on {settings.host}, which other machines may reach"
    if settings.authentication == "off":
        raise InputError(
            f"Refusing to serve {where} with ALTA_AUTHENTICATION=off: it is for loopback only.", "unsafe-exposure"
        )
    if not settings.oidc_issuer and not has_keys(catalog, usable=True):
        raise InputError(
            f"Refusing to serve {where}: nobody could authenticate. Make a key with `alta keys create NAME --scope"
            " search`, name an OpenID provider in ALTA_OIDC_ISSUER, or listen on 127.0.0.1.",
            "unsafe-exposure",
        )
