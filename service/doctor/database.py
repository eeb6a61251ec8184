"""The database: whether it answers, has this release's schema, lies where it can, and its clock."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from index.looking import Facts, Looking, Revisions, read_facts, read_revisions, undamaged
from model.errors import ArchiveError

from .finding import Finding, fail, ok, warn
from .installation import Installation

__all__ = ["check_clock", "check_database"]

OLDEST_POSTGRES: Final = 14
# Hosts do not share memory through these, which a write-ahead log needs: sqlite.org/wal.html, "Disadvantages".
NETWORK: Final = re.compile(
    r"^(nfs4?|cifs|smb3?|smbfs|9p|afs|ceph|glusterfs|lustre|gpfs|beegfs|fuse\.(sshfs|glusterfs|ceph.*))$"
)
MOUNTS: Final = Path("/proc/self/mounts")
OTHERS: Final = 0o077
FIRST_YEAR: Final = 2026  # of the first release: no clock that is right says an earlier one
DRIFT: Final = timedelta(seconds=5)
FAR_OFF: Final = timedelta(seconds=30)  # what is allowed between clocks when a token is checked


def check_database(installation: Installation) -> Iterator[Finding]:
    try:
        with installation.catalog() as catalog:
            yield from _schema(read_revisions(catalog))
            if not installation.readable:
                return
            facts = read_facts(catalog)
            yield from _place(catalog, facts)
            if damage := undamaged(catalog):
                remedy = (
                    'Stop everything, keep a copy of the file, and restore a backup: docs/operations.md, "Restore".'
                )
                yield fail("database", f"SQLite finds the file damaged: {damage}", remedy)
    except ArchiveError as error:
        named = "ALTA_DATABASE_URL" if installation.settings.database_url else "ALTA_DATA_DIR"
        remedy = f"Is it the right one, and is it running? {named} names it; a new one is made by `alta db upgrade`."
        yield fail("database", f"It cannot be read: {error.message}", remedy)
        return
    yield ok("archive", f"{facts.studies:,} studies, {facts.accepted:,} images; {facts.refused:,} files refused")


def check_clock(installation: Installation) -> Iterator[Finding]:
    """Against the year, the database server, and what was written last."""
    here = datetime.now(UTC)
    sync = "Set the clock, by NTP for good: tokens, keys' expiry and the audit depend on it."
    if here.year < FIRST_YEAR:
        yield fail("clock", f"This machine says {here:%Y-%m-%d %H:%M} UTC", sync)
        return
    if not installation.readable:
        yield ok("clock", f"{here:%Y-%m-%d %H:%M} UTC; the database cannot be asked")
        return
    with installation.catalog() as catalog:
        facts = read_facts(catalog)
    apart = abs(facts.clock - facts.asked_at)
    seconds = f"{apart.total_seconds():.0f} s from the database server's"
    if apart > DRIFT:
        yield (fail if apart > FAR_OFF else warn)("clock", f"{here:%Y-%m-%d %H:%M:%S} UTC, {seconds}", sync)
    elif facts.newest is not None and facts.newest - here > FAR_OFF:
        saw = f"{here:%Y-%m-%d %H:%M} UTC, but something was written at {facts.newest:%Y-%m-%d %H:%M}"
        yield warn("clock", saw, f"It was ahead then, or is behind now. {sync}")
    else:
        yield ok("clock", f"{here:%Y-%m-%d %H:%M} UTC{', ' + seconds if facts.server else ''}")


def _schema(revisions: Revisions) -> Iterator[Finding]:
    newest = revisions.known[0]
    if revisions.found == newest:
        yield ok("schema", newest)
    elif revisions.found is None:
        yield fail("schema", f"none, expected {newest}", "Is it the right database? If so: alta db upgrade")
    elif revisions.found in revisions.known:
        remedy = 'Back up with the release that made it, then: alta db upgrade (docs/operations.md, "Upgrade").'
        yield fail("schema", f"{revisions.found} of an older release, expected {newest}", remedy)
    else:
        saw = f"{revisions.found}, which this release does not know; it has {newest}"
        yield fail("schema", saw, "A newer release made it. Install that one, or restore a backup of before.")


def _place(catalog: Looking, facts: Facts) -> Iterator[Finding]:
    shown = catalog.url
    if catalog.file is None:
        if int(facts.server.partition(".")[0] or 0) < OLDEST_POSTGRES:
            yield warn(
                "database", f"PostgreSQL {facts.server} at {shown}", f"Use PostgreSQL {OLDEST_POSTGRES} or newer."
            )
        elif facts.superuser:
            remedy = 'Give the service a user that owns this database and no other (docs/security.md, "Checklist").'
            yield warn("database", f"PostgreSQL {facts.server} at {shown}, as a superuser", remedy)
        else:
            yield ok("database", f"PostgreSQL {facts.server} at {shown}")
        return
    kind = file_system_of(catalog.file)
    if NETWORK.match(kind):
        remedy = "Put the data folder on a local disk, or use PostgreSQL: SQLite is damaged by writers over a network."
        yield fail("database", f"{catalog.file} is on a network file system ({kind})", remedy)
    elif not facts.wal:
        yield warn("database", f"{catalog.file} has no write-ahead log", "The next start of `alta serve` turns it on.")
    elif catalog.file.stat().st_mode & OTHERS:
        yield warn("database", f"{catalog.file} can be read by others", f"chmod 600 {catalog.file}*")
    else:
        yield ok("database", f"SQLite at {catalog.file}, with a write-ahead log, on {kind or 'a local disk'}")


def file_system_of(path: Path, mounts: Path = MOUNTS) -> str:
    """The type of the file system that a path is on, as Linux names it; empty where that cannot be told."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    found, longest = "", -1
    for line in lines:
        _, place, kind, *_ = line.split(" ")
        mounted = Path(place.encode().decode("unicode_escape"))  # blanks are \040
        if path.resolve().is_relative_to(mounted) and len(mounted.parts) >= longest:
            found, longest = kind, len(mounted.parts)
    return found
