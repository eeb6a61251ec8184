"""Zero-shot scores to probabilities and decisions, as fitted on a labelled sample of one site.

``calibration.json`` lies beside the weights and names them by fingerprint, but is no part of it: calibrating anew makes
no embedding stale. Without torch, for whoever only serves.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from .errors import CheckpointError
from .prompts import PromptPair

__all__ = ["Calibrated", "Calibration", "Decision", "FindingCalibration", "hash_prompts"]

FILE = "calibration.json"
FORMAT = 1

Decision = Literal["present", "absent", "uncertain"]


@dataclass(frozen=True)
class Calibrated:
    """probability: 0..1, of the finding, at the sample's prevalence."""

    probability: float
    decision: Decision


@dataclass(frozen=True)
class FindingCalibration:
    """probability = sigmoid(score / temperature + bias), where score is the cosine to the asserting prompts minus the
    one to the denying prompts, -2..2. threshold and band are probabilities, low <= threshold <= high: within the band
    another sample of the site's patients would have decided otherwise."""

    temperature: float
    bias: float
    threshold: float
    band: tuple[float, float]
    positives: int
    negatives: int
    prompts_sha256: str

    def apply(self, score: float) -> Calibrated:
        probability = self.probability(score)
        low, high = self.band
        if low <= probability <= high and low < high:
            return Calibrated(probability, "uncertain")
        return Calibrated(probability, "present" if probability >= self.threshold else "absent")

    def probability(self, score: float) -> float:
        logit = score / self.temperature + self.bias
        return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


@dataclass(frozen=True)
class Calibration:
    """findings by name; left_out: the others that the sample had, with the reason. date: ISO 8601, of the fit."""

    fingerprint: str
    date: str
    sample: str
    sample_sha256: str
    studies: int
    patients: int
    level: str
    findings: Mapping[str, FindingCalibration]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def apply(self, finding: str, score: float, prompts: PromptPair) -> Calibrated | None:
        """None where the finding is not calibrated, or was with other prompts: a raw score is then all there is."""
        fitted = self.findings.get(finding)
        if fitted is None or fitted.prompts_sha256 != hash_prompts(prompts):
            return None
        return fitted.apply(score)

    def save(self, folder: Path) -> Path:
        """Write ``calibration.json`` beside the weights; the file appears whole or not at all."""
        from .checkpoint import write_whole  # brings torch, which the service's decoders do without

        content = {"format": FORMAT, **asdict(self)}
        path = folder / FILE
        write_whole(path, (json.dumps(content, indent=2) + "\n").encode())
        return path

    @staticmethod
    def describe(folder: Path) -> str | None:
        """The calibration that a folder has, whosever encoders' it is, in words; None where there is none."""
        path = folder / FILE
        try:
            found = Calibration._parse(path, json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, CheckpointError):
            return "a file that was no calibration"
        named = ", ".join(found.findings)
        return f"that of {found.date} on {found.sample} ({found.studies} studies; calibrated: {named or 'nothing'})"

    @classmethod
    def load(cls, folder: Path, fingerprint: str) -> "Calibration | None":
        """The calibration of a checkpoint, None where there is none. Raises CheckpointError.

        fingerprint: of the weights in ``folder``; a calibration of others would be silently wrong.
        """
        path = folder / FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}.") from error
        calibration = cls._parse(path, content)
        if calibration.fingerprint != fingerprint:
            raise CheckpointError(
                f"{path} was fitted for encoders {calibration.fingerprint[:12]}, these are {fingerprint[:12]}."
                " Fit it anew with `alta evaluate calibrate`, or remove the file."
            )
        return calibration

    @classmethod
    def _parse(cls, path: Path, content: Any) -> "Calibration":
        try:
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']!r}, expected {FORMAT}")
            known = {name: value for name, value in content.items() if name != "format"}
            findings = {
                name: FindingCalibration(**{**given, "band": tuple(given["band"])})
                for name, given in known.pop("findings").items()
            }
            for name, given in findings.items():
                if not (given.temperature > 0 and given.band[0] <= given.threshold <= given.band[1]):
                    raise ValueError(f"{name}: expected a positive temperature and a threshold within its band")
            return cls(**known, findings=findings)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is no calibration: {error!r}.") from error


def hash_prompts(prompts: PromptPair) -> str:
    """SHA-256 over both sides, in order: other phrasings give other scores."""
    return hashlib.sha256(json.dumps([prompts.positive, prompts.negative]).encode()).hexdigest()
