"""Simulated patients, radiographs and reports whose truth is known: for training, evaluation and demonstration."""

from .archive import MASK_SIZE, read_masks, write_cohort
from .cohort import simulate_patient, simulate_studies
from .dicom import dicom_paths, write_dicom
from .findings import DEVICES, FINDINGS, Finding
from .rendering import finding_masks, lung_mask, render
from .study import Report, SimulatedPatient, SimulatedStudy

__all__ = [
    "DEVICES",
    "FINDINGS",
    "MASK_SIZE",
    "Finding",
    "Report",
    "SimulatedPatient",
    "SimulatedStudy",
    "dicom_paths",
    "finding_masks",
    "lung_mask",
    "read_masks",
    "render",
    "simulate_patient",
    "simulate_studies",
    "write_cohort",
    "write_dicom",
]
