"""The threads that send results back: one a route, so that a destination which is away costs the others nothing.

    notice what is due -> take a row -> make its document -> ask once more whether it is wanted -> send -> say so

Killed anywhere, the row is taken again; the document is the same then, so it is no second one: what it says beside the
images is kept with the row before it is sent first.
"""

import logging
import time
import traceback
from collections.abc import Callable
from threading import Event, Thread
from typing import Final
from urllib.parse import urlsplit

from index import Catalog
from index.access.audit import Event as AuditEvent
from index.access.audit import study_key
from index.returns.audited import GIVEN_UP, SENT, return_event
from index.returns.queue import (
    SUPERSEDED,
    Taken,
    Wanted,
    begin_routes,
    give_up,
    keep_made,
    later,
    note_due,
    sent,
    still_wanted,
    take_due,
)
from index.returns.tidying import tidy_returns
from model.errors import AltaError, ArchiveError, UnknownStudy

from ..return_settings import ReturnRoute
from ..settings import Settings
from .diagnostic_report import SEVERAL_VALUES, diagnostic_report
from .material import Desk
from .message import webhook_message
from .sending import NotTaken, send_dicom, send_resource, send_webhook, store_over_http
from .structured_report import structured_report

__all__ = ["Sender", "wanted"]

logger = logging.getLogger(__name__)

POLL_S: Final = 2.0
PATIENCE: Final = 20  # looking takes at most a twentieth of the time, however much came within the week
TIDY_S: Final = 600.0
AWAY_S: Final = 10.0  # between two looks at a database that does not answer
LONGEST_PAUSE_S: Final = 60.0  # of a route whose destination is away
DATABASE: Final = "database-unavailable"


class Sender:
    """Sends by the routes of the settings. Several may run at once, in as many processes."""

    def __init__(self, settings: Settings, catalog: Catalog, desk: Desk) -> None:
        self._settings = settings
        self._catalog = catalog
        self._desk = desk

    def run(self, told: Event) -> None:
        """Until ``told`` is set. Without routes it ends what waits for those that were there once."""
        routes = self._settings.return_routes
        threads = [
            Thread(target=self._run, args=(route, told), name=f"return {route.name}", daemon=True) for route in routes
        ]
        for thread in threads:
            thread.start()
        while not told.is_set():
            self._tidy()
            told.wait(TIDY_S)
        for thread in threads:
            thread.join()
        self._desk.close()

    def send_due(self, route: ReturnRoute) -> bool | None:
        """Notice what is due by a route and try one of it. None where nothing is; False where the destination is away.

        Raises ArchiveError database-unavailable.
        """
        note_due(self._catalog, wanted(route), self._desk.fingerprint, self._settings.return_quiet_s)
        taken = take_due(self._catalog, route.name)
        if taken is None:
            return None
        return self._deliver(route, taken)

    def _tidy(self) -> None:
        try:
            tidy_returns(self._catalog, [route.name for route in self._settings.return_routes])
        except Exception as error:  # the database is away; there is time
            logger.warning("rows of results are not tidied (%s)", type(error).__name__)

    def _run(self, route: ReturnRoute, told: Event) -> None:
        failures, wait = 0, 0.0
        begun = False
        while not told.wait(wait):
            try:
                if not begun:
                    begin_routes(self._catalog, [route.name])
                    begun = True
                started = time.monotonic()
                there = self.send_due(route)
                looked = max(POLL_S, PATIENCE * (time.monotonic() - started))
                failures = failures + 1 if there is False else 0
                wait = looked if there is None else 0.0 if there else min(LONGEST_PAUSE_S, 2.0**failures)
            except AltaError as error:  # the database is away, or the encoders' folder
                logger.warning("results of route %s wait (%s)", route.name, error.slug)
                wait = AWAY_S
            except Exception as error:  # without its message, which may quote a header of a patient's file
                logger.error("results of route %s wait (%s)", route.name, type(error).__qualname__)
                wait = AWAY_S

    def _deliver(self, route: ReturnRoute, taken: Taken) -> bool:
        """Whether the destination is there."""
        away = False
        try:
            send, sop_instance_uid = self._prepared(route, taken)
            why = still_wanted(self._catalog, taken)  # the document took its time
            if why is not None:
                give_up(self._catalog, taken, why)
                return True
            send()
        except NotTaken as error:
            slug, away = error.slug, error.away
        except UnknownStudy:
            slug = "gone"
        except AltaError as error:
            if error.slug == DATABASE:
                raise
            slug = error.slug
            if slug == SUPERSEDED:
                give_up(self._catalog, taken, slug)
                return True
        except Exception as error:  # whatever one study's header makes of the libraries
            slug = f"not-made: {type(error).__name__}"
            # Without its message, which may quote that header.
            logger.error("%s\n%s", type(error).__qualname__, "".join(traceback.format_tb(error.__traceback__)))
        else:
            sent(self._catalog, taken, sop_instance_uid, entry=self._entry(SENT, route, taken))
            logger.info("results went back by route %s, attempt %d", route.name, taken.attempt)
            return True
        logger.warning("results did not go back by route %s, attempt %d: %s", route.name, taken.attempt, slug)
        # The files of a state of a study are the same at every attempt; mended ones are another state.
        end = give_up if slug == SEVERAL_VALUES else later
        end(self._catalog, taken, slug, entry=self._entry(GIVEN_UP, route, taken))
        return not away

    def _entry(self, action: str, route: ReturnRoute, taken: Taken) -> AuditEvent:
        """Of the audit. What was overtaken by another state of its study has none: nothing went, nothing failed."""
        key = study_key(self._catalog, taken.study_instance_uid)
        return return_event(action, key, route.name, route.kind, urlsplit(route.to).hostname)

    def _prepared(self, route: ReturnRoute, taken: Taken) -> tuple[Callable[[], None], str | None]:
        """The document, ready to be sent; of a structured report its UID. Raises what making it raises."""
        uid = taken.study_instance_uid
        secret = self._settings.return_credentials.get(route.name)
        credentials = secret.get_secret_value() if secret else None
        if route.kind == "webhook":
            message, message_id = webhook_message(self._catalog, route, uid, taken.source_hash, taken.created_at)
            return lambda: send_webhook(message, message_id, route.to, self._settings.webhook_key), None
        material = self._desk.material(
            uid,
            route.name,
            route.similar,
            taken.created_at,
            number=taken.number,
            predecessors=taken.predecessors,
            made=taken.made,
        )
        if material.source_hash != taken.source_hash:
            raise ArchiveError("The study has other images by now.", SUPERSEDED)
        if route.kind == "fhir":
            resource = diagnostic_report(
                material, patient_system=route.patient_system, accession_system=route.accession_system
            )
            return lambda: send_resource(resource, route, credentials), None
        document = structured_report(material)
        made = material.result.model_dump_json()
        if made != taken.made:
            named = {one.study_instance_uid for one in material.result.similar}
            if not keep_made(self._catalog, taken, made, named):
                raise ArchiveError(
                    "A study that it names is gone by now, or another sender has it.", "changed-meanwhile"
                )
        node = route.node
        identity = str(document.SOPInstanceUID)
        if node is not None:
            return lambda: send_dicom(document, node, route.aet), identity
        return lambda: store_over_http(document, route.to, credentials), identity


def wanted(route: ReturnRoute) -> Wanted:
    """A route as the archive sees it."""
    return Wanted(route.name, route.doors, route.max_age_days)
