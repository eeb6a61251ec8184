"""What is written down of each request, before its answer leaves."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from index.access.audit import Event, study_key
from model.errors import ArchiveError

from ..errors import error_response
from .access import Access
from .principals import Principal, address_of

__all__ = ["NOT_AUDITED", "AuditTrail", "note_for_audit"]

# Names of routes that tell nothing about patients and are asked all the time.
NOT_AUDITED: Final = frozenset(("model", "metrics", "operations"))
INTERNAL: Final = 500


@dataclass
class _Note:
    """What only the work on a request finds out: the studies it is about, how many results it answers with."""

    studies: set[str] = field(default_factory=set)
    results: int | None = None


# Threads that work for a request inherit its context, so that no function has to hand the note on.
_note: ContextVar[_Note | None] = ContextVar("audit_note", default=None)


def note_for_audit(*studies: str | None, results: int | None = None) -> None:
    """Add to what is written of the request under way: StudyInstanceUIDs (pseudonyms of them are kept), results."""
    note = _note.get()
    if note is None:  # no request: a command, a test
        return
    note.studies.update(study for study in studies if study)
    if results is not None:
        note.results = results


class AuditTrail:
    """ASGI layer behind the gate: an answer's first byte waits for its entries. Without them, 503 and no answer.

    One entry a study; one where no study is named.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "principal" not in scope.get("state", {}):
            await self._app(scope, receive, send)
            return
        note = _Note()
        began = held_back = False

        async def send_audited(message: Message) -> None:
            nonlocal began, held_back
            if message["type"] == "http.response.start":
                began = True
                try:
                    await _write(scope, note, message["status"])
                except ArchiveError as error:
                    held_back = True
                    await (await error_response(Request(scope), error))(scope, receive, send)
            if not held_back:
                await send(message)

        token = _note.set(note)
        try:
            await self._app(scope, receive, send_audited)
        except Exception:
            if not began:  # ``RequestFrame`` answers it, without anything of the archive
                await _write(scope, note, INTERNAL)
            raise
        finally:
            _note.reset(token)


async def _write(scope: Scope, note: _Note, status: int) -> None:
    """Raises ArchiveError audit-unavailable."""
    route = scope.get("route")
    if route is None or route.name in NOT_AUDITED:
        return
    access: Access = scope["app"].state.access
    principal: Principal = scope["state"]["principal"]
    studies = {*note.studies, *filter(None, (scope["path_params"].get("study_instance_uid"),))}
    keys: list[str | None] = [*sorted(study_key(access.catalog, study) for study in studies)]
    await access.audit.write(
        [
            Event(
                caller=principal.name,
                action=route.name,
                study_key=key,
                address=address_of(scope),
                status=status,
                results=note.results,
                request_id=scope.get("request_id"),
            )
            for key in keys or [None]
        ]
    )
