"""The encoders: that they load, run on the device, may be used for what they are used for, and are calibrated."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from model.calibration import Calibration
from model.errors import AltaError, CheckpointError

from ..settings import DEMO_ENCODERS
from .finding import Finding, fail, ok, warn
from .installation import Installation

__all__ = ["check_device", "check_encoders"]

NVIDIA: Final = Path("/proc/driver/nvidia/version")  # the kernel's driver, whatever torch was built for
PUT_BACK: Final = "ALTA_MODEL_PATH names their folder; put whole files there: `alta import`, `alta train` or a copy."


def check_device(installation: Installation) -> Iterator[Finding]:
    import torch

    from model.processor import has_native_bfloat16

    asked = installation.settings.device
    usable = torch.cuda.is_available()
    built = f"torch {torch.__version__}"
    if asked.startswith("cuda") and not usable:
        remedy = (
            "Install CUDA's torch (requirements/cuda.lock) and the driver, give the container the GPU, or set"
            " ALTA_DEVICE=cpu."
        )
        yield fail("device", f"ALTA_DEVICE={asked}, but {built} finds no CUDA device", remedy)
        return
    device = torch.device(("cuda" if usable else "cpu") if asked == "auto" else asked)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        saw = f"ALTA_DEVICE={asked}, but there are {torch.cuda.device_count()} CUDA devices, counted from 0"
        yield fail("device", saw, "Name one that is there, or `cuda`.")
        return
    native = has_native_bfloat16(device)
    width = installation.settings.dtype
    width = ("bfloat16" if native else "float32") if width == "auto" else width
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    saw = f"{device}, {width}; {name}; {built}"
    if width == "bfloat16" and not native:
        yield warn("device", f"{saw}: bfloat16 is not in its hardware", "Set ALTA_DTYPE=auto: it will be faster.")
    elif device.type == "cpu" and asked == "auto" and NVIDIA.exists():
        remedy = "Install CUDA's torch (requirements/cuda.lock) to use it, or set ALTA_DEVICE=cpu to do without."
        yield warn("device", f"{saw}: this host has an NVIDIA driver, and torch finds no GPU", remedy)
    else:
        yield ok("device", saw)


def check_encoders(installation: Installation) -> Iterator[Finding]:
    from model.alta_encoder import load_encoder
    from model.checkpoint import read_provenance

    settings = installation.settings
    folder = settings.model_path
    try:
        origin = read_provenance(folder)
        fingerprint = installation.fingerprint
    except CheckpointError as error:
        yield fail("encoders", error.message, PUT_BACK)
        return
    about = f"{origin.name} ({fingerprint[:12]}), trained on {origin.trained_on}, licence {origin.license}; {folder}"
    if folder.resolve() == DEMO_ENCODERS.resolve():
        yield warn("encoders", about, f"{origin.notice} Name encoders of your own in ALTA_MODEL_PATH.")
    else:
        yield ok("encoders", about)
    try:
        encoder = load_encoder(folder, settings.device, settings.dtype)
    except AltaError as error:
        yield fail("encoding", error.message, PUT_BACK)
        return
    size = encoder.transform.crop
    from model.encoder import StudyImages

    image = np.linspace(-1, 1, size * size, dtype=np.float32).reshape(size, size)
    vectors = (*encoder.encode_studies([StudyImages(image)]), *encoder.encode_texts(["No pleural effusion."]))
    lengths = [float(np.linalg.norm(vector)) for vector in vectors]
    if np.allclose(lengths, 1.0, atol=1e-2):  # bfloat16 rounds; NaN is not close
        width = str(encoder.dtype).removeprefix("torch.")
        yield ok("encoding", f"an image and a text, {encoder.dimension} numbers each, on {encoder.device} in {width}")
    else:
        remedy = f"The weights or the device are damaged. {PUT_BACK} Try ALTA_DEVICE=cpu, ALTA_DTYPE=float32."
        yield fail("encoding", f"embeddings of length {lengths}, expected 1", remedy)


def check_calibration(installation: Installation) -> Iterator[Finding]:
    folder = installation.settings.model_path
    again = "alta evaluate calibrate, on a labelled sample of your own (docs/evaluation.md)"
    try:
        found = Calibration.load(folder, installation.fingerprint)
    except CheckpointError as error:
        yield warn("calibration", f"It is not used: {error.message}", again)
        return
    if found is None:
        yield warn(
            "calibration", "none: zero-shot findings have scores, but neither probabilities nor decisions", again
        )
    else:
        yield ok("calibration", f"of {found.date} on {found.sample}, {len(found.findings)} findings")
