"""Around every request: its identifier, a limit on its size, one log line, headers that keep browsers strict."""

import logging
import re
import time
import uuid

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .body_limits import body_limit, is_utf8_form
from .errors import internal_problem, problem_response
from .observing import UNMATCHED, Observer, Work, record_stage, working_on
from .settings import Settings

__all__ = ["CONTENT_SECURITY_POLICY", "RequestFrame"]

log = logging.getLogger(__name__)

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestFrame:
    """Outermost ASGI layer of ours, so that refused and failed requests are framed as well."""

    def __init__(self, app: ASGIApp, settings: Settings, observer: Observer) -> None:
        self._app = app
        self._observer = observer
        self._settings = settings
        self._hosts = {name.lower() for name in settings.host_names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        scope["request_id"] = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        with working_on(self._observer.begin(scope["request_id"], headers)) as work:
            await self._frame(scope, headers, receive, send, work)

    async def _frame(self, scope: Scope, headers: Headers, receive: Receive, send: Send, work: Work) -> None:
        started = time.perf_counter()
        status = 0

        async def send_framed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(MutableHeaders(scope=message), scope["request_id"])
            await send(message)

        try:
            await self._answer(scope, headers, receive, send_framed)
        except Exception as error:
            if status:
                raise  # too late for a problem document; the server closes the connection
            await internal_problem(Request(scope), error)(scope, receive, send_framed)
        finally:
            # The route's template, not the path: a path can hold a StudyInstanceUID.
            route = getattr(scope.get("route"), "path", UNMATCHED)
            seconds = time.perf_counter() - started
            self._observer.end(work, scope["method"], route, status, seconds, scope.get("problem"))
            milliseconds = round(1000 * seconds)
            fields = {"method": scope["method"], "route": route, "status": status, "milliseconds": milliseconds}
            log.info("%(method)s %(route)s %(status)d %(milliseconds)d ms", fields)

    async def _answer(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        host = re.sub(r":\d+$", "", headers.get("host", "")).lower()
        # /livez says nothing to protect, and a container's health check asks by whatever name it has.
        if scope["path"] != "/livez" and "*" not in self._hosts and host not in self._hosts:
            response = problem_response(Request(scope), "unknown-host", "The Host header names another machine.")
            await response(scope, receive, send)
            return
        if headers.get("content-encoding", "identity").lower() != "identity":
            detail = "The body is compressed; send it as it is."
            answer = problem_response(
                Request(scope), "compressed-body", detail, headers={"Accept-Encoding": "identity"}
            )
            await answer(scope, receive, send)
            return
        content_type = headers.get("content-type", "")
        if not is_utf8_form(content_type):
            answer = problem_response(Request(scope), "wrong-media-type", "Expected a form in UTF-8.")
            await answer(scope, receive, send)
            return
        limit = body_limit(self._settings, scope["method"], scope["path"], content_type)
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit.bytes:
            await problem_response(Request(scope), "file-too-large", limit.exceeded)(scope, receive, send)
            return
        received, waited = 0, 0.0

        async def receive_counted() -> Message:
            nonlocal received, waited
            began = time.perf_counter()
            message = await receive()
            waited += time.perf_counter() - began
            received += len(message.get("body", b""))
            if received > limit.bytes:  # a body without a length, or longer than it said
                raise HTTPException(413, limit.exceeded)
            if received and message["type"] == "http.request" and not message.get("more_body", False):
                record_stage("receive", waited)
            return message

        await self._app(scope, receive_counted, send)


def _add_headers(headers: MutableHeaders, request_id: str) -> None:
    headers["X-Request-ID"] = request_id
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=()"
    headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    headers.setdefault("Cache-Control", "no-store")  # answers are about patients
