"""What a route asks of its caller: ``APIRouter(dependencies=[requires(SEARCH)])``."""

from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer, SecurityScopes

from ..errors import RequestError
from .principals import Principal

__all__ = ["requires"]

# For the reference and its "Authorize" button; credentials were checked before the body was read (``gate``).
_bearer = HTTPBearer(
    auto_error=False, scheme_name="bearer", description="An API key (`alta keys create`) or an OpenID Connect token."
)


async def _permitted(request: Request, needed: SecurityScopes, _credentials: Annotated[Any, Depends(_bearer)]) -> None:
    caller: Principal = request.state.principal
    if caller.scopes.isdisjoint(needed.scopes):
        scope = needed.scopes[0]
        raise RequestError(
            f"Expected credentials with the scope {' or '.join(needed.scopes)},"
            f" found {' '.join(sorted(caller.scopes)) or 'none'}.",
            "missing-scope",
            headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
            scope=scope,
        )


def requires(*scopes: str) -> Any:
    """A dependency of a route or router: the caller has one of these scopes (``index.access.keys.SCOPES``). The first
    is the least that will do."""
    return Security(_permitted, scopes=scopes)
