"""Instances that are sent to the service over HTTP."""

from .receiver import DICOM, Receiver, Stored

__all__ = ["DICOM", "Receiver", "Stored"]
