"""Results back to where studies came from: as a DICOM structured report, a FHIR report, or a webhook.

material (what is said of a study) -> a document of the route's kind -> sending; ``sender`` does it as rows come due
"""

from .sender import Sender

__all__ = ["Sender"]
