"""The data folder: whose it is, who can read it, whether there is room."""

import os
import shutil
import stat
from collections.abc import Iterator

from .finding import Finding, fail, ok, warn
from .installation import Installation

__all__ = ["check_data_folder"]

MIB = 2**20
OTHERS = 0o077  # the bits of group and others
EVERYBODY = 0o007


def check_data_folder(installation: Installation) -> Iterator[Finding]:
    settings = installation.settings
    folder = settings.data_dir.absolute()
    if not folder.is_dir():
        found = "is no folder" if folder.exists() else "is not there"
        remedy = "Is ALTA_DATA_DIR the right one? `alta ingest`, `alta serve` and `alta db upgrade` make a new one."
        yield fail("data folder", f"{folder} {found}", remedy)
        return
    about = folder.stat()
    mode = f"{folder}, mode {about.st_mode & 0o777:03o}"
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        remedy = f"Give it to the user who runs the service: chown -R {os.geteuid()} {folder}; look at the mount, too."
        yield fail(
            "data folder", f"{mode}: user {os.geteuid()} cannot write to it (its owner is {about.st_uid})", remedy
        )
    elif about.st_uid != os.geteuid() and _is_our_groups(about) and not about.st_mode & EVERYBODY:
        # As Kubernetes makes a volume over to a pod: root's, of the group fsGroup, which may write.
        yield ok("data folder", f"{mode}, of group {about.st_gid}, which is this user's too")
    elif about.st_uid != os.geteuid():
        saw = f"{mode}, of user {about.st_uid}; this is user {os.geteuid()}"
        remedy = (
            "Run alta as the user who owns the folder, or give it to a group of this user alone"
            f" (chgrp {os.getegid()}, chmod 2770): files of another one cannot be replaced."
        )
        yield warn("data folder", saw, remedy)
    elif about.st_mode & OTHERS:
        yield warn("data folder", f"{mode}: others can look into it, and reports are in it", f"chmod 700 {folder}")
    else:
        yield ok("data folder", mode)
    free, least = shutil.disk_usage(folder).free // MIB, settings.min_free_mb
    saw = f"{free:,} MiB free, ALTA_MIN_FREE_MB is {least:,}"
    if free < least:
        yield fail("disk", saw, "Free some: nothing sent or fetched is stored now.")
    elif free < 2 * least:
        yield warn("disk", saw, "Free some soon: below that nothing sent or fetched is stored.")
    else:
        yield ok("disk", saw)


def _is_our_groups(about: os.stat_result) -> bool:
    """Whether this user may do in the folder what its owner may, by a group."""
    return about.st_mode & stat.S_IRWXG == stat.S_IRWXG and about.st_gid in {os.getegid(), *os.getgroups()}
