"""Who asks, as far as the service knows."""

import ipaddress
from dataclasses import dataclass
from typing import Final

from starlette.types import Scope

from index.access.keys import SCOPES

__all__ = ["ANONYMOUS", "Principal", "address_of", "is_local"]


@dataclass(frozen=True)
class Principal:
    """``name`` is what the audit and the usage know the caller by. Limits: None for the settings'."""

    name: str
    scopes: frozenset[str]
    key: str | None = None  # id of the API key
    requests_per_minute: int | None = None
    requests_per_day: int | None = None


ANONYMOUS: Final = Principal("anonymous", frozenset(SCOPES))


def address_of(scope: Scope) -> str | None:
    """The address a request came from; what is no address (a socket file, a test) is None."""
    client = scope.get("client")
    try:
        return str(ipaddress.ip_address(client[0].partition("%")[0])) if client else None
    except ValueError:
        return None


def is_local(address: str | None) -> bool:
    """None counts as local: nothing that came over a network is without an address."""
    return address is None or ipaddress.ip_address(address).is_loopback
