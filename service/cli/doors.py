"""``alta pull`` and ``alta receive``: the doors that are no file. Their commands are in the ``door_*`` files."""

from .commands import Commands

__all__ = ["pull", "receive"]

pull = Commands("Fetch studies from a PACS or a DICOMweb server.")
receive = Commands("Listen for studies or reports that others send.")
