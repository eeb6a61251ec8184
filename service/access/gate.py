"""Before a request's body is read: who sends it, and whether they may send another one."""

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model.errors import AltaError

from ..errors import error_response
from .access import Access

__all__ = ["PUBLIC", "PUBLIC_FOLDERS", "Gate", "is_public"]

# What anybody may read who reaches the service: pages and explanations, and whether it is well.
PUBLIC: Final = frozenset(("/", "/operations", "/docs", "/openapi.json", "/livez", "/readyz"))
PUBLIC_FOLDERS: Final = ("/assets/", "/problems/")


def is_public(path: str) -> bool:
    return path in PUBLIC or path.startswith(PUBLIC_FOLDERS)


class Gate:
    """ASGI layer. Behind it ``request.state.principal`` is set for every path that is not public."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_public(scope["path"]):
            await self._app(scope, receive, send)
            return
        access: Access = scope["app"].state.access
        try:
            caller, headers = await access.admit(scope)
        except AltaError as error:
            await (await error_response(Request(scope), error))(scope, receive, send)
            return
        scope.setdefault("state", {})["principal"] = caller

        async def send_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        await self._app(scope, receive, send_limits if headers else send)
