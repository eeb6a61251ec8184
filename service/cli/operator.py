"""Who types a command, for the audit."""

import getpass

__all__ = ["operator"]


def operator() -> str:
    """``cli:`` and the name of the operating system's user; without a name, as in a container, ``cli:unknown``."""
    try:
        return f"cli:{getpass.getuser()}"[:96]
    except (KeyError, OSError):
        return "cli:unknown"
