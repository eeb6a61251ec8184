"""Instances that are sent to the service over HTTP."""

from .body import body_of
from .receiver import DICOM, Receiver, Stored

__all__ = ["DICOM", "Receiver", "Stored", "body_of"]
