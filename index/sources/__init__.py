"""Where studies come from, behind one small protocol: folders, zip files, manifests; each in a file of its own.

``source_of`` chooses by what lies at a path. ``index.intake.ingest.ingest`` takes any of them in.
"""

from .choose import source_of
from .folder import FolderSource
from .manifest import ManifestSource
from .no_studies import NoStudies
from .protocol import StudySource
from .zip_file import ZipSource

__all__ = ["FolderSource", "ManifestSource", "NoStudies", "StudySource", "ZipSource", "source_of"]
