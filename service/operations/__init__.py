"""How the installation is: figures of the archive, the jobs, the disk and the process, for its administrator."""

from .operations import Operations

__all__ = ["Operations"]
