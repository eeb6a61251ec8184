"""Writes the report of a simulated study: all it says follows from the findings, the prior and the views taken."""

from collections.abc import Sequence

import numpy as np

from .anatomy import enlarged_heart_ratio
from .findings import FINDINGS, Finding
from .indications import INDICATIONS
from .ordinary import (
    CLEAR_LUNGS,
    DENIALS,
    HEART_NORMAL,
    NEGATIVES,
    NO_ACUTE_DISEASE,
    NORMAL_CHEST,
    ORDINARY,
)
from .phrases import (
    ADVICE,
    DEVICE_PHRASES,
    FRAMES,
    LATERAL_ONLY,
    LOCATIONS,
    NOUN_PHRASES,
    POSTERIOR_EFFUSIONS,
    RESOLVED,
    SINCE,
    STABLE_CHEST,
    SYNONYMS,
    TECHNIQUES,
)
from .study import Report, SimulatedStudy

__all__ = ["write_report"]

_LUNG_CLASSES = ("consolidation", "edema", "atelectasis", "nodule")
_SYSTEMS = {
    "support devices": "devices",
    "cardiomegaly": "heart",
    "pleural effusion": "pleura",
    "pneumothorax": "pleura",
    "consolidation": "lungs",
    "edema": "lungs",
    "atelectasis": "lungs",
    "nodule": "lungs",
}
_HEADINGS = {
    "technique": ("Technique",),
    "devices": ("Lines and tubes", "Devices", "Support apparatus"),
    "lungs": ("Lungs", "Lungs and airways", "Parenchyma"),
    "pleura": ("Pleura", "Pleural spaces"),
    "heart": ("Heart", "Heart and mediastinum", "Cardiomediastinal silhouette"),
    "bones": ("Bones", "Bones and soft tissues", "Other"),
}


def write_report(rng: np.random.Generator, study: SimulatedStudy, prior: SimulatedStudy | None) -> Report:
    """The report of `study` (its own `report` is ignored), compared with `prior`; wording is drawn from `rng`."""
    return _Writer(rng, study, prior).report()


class _Writer:
    """One report in the making: the study, its prior and the source of variety."""

    def __init__(
        self,
        rng: np.random.Generator,
        study: SimulatedStudy,
        prior: SimulatedStudy | None,
    ) -> None:
        self.rng, self.study, self.prior = rng, study, prior
        self.absent = [name for name in FINDINGS if name not in study.finding_classes]

    def pick(self, options: Sequence[str]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def report(self) -> Report:
        return Report(self.indication(), self.comparison(), self.findings(), self.impression())

    def indication(self) -> str:
        reason = self.pick(INDICATIONS)
        who = {"M": ("man", "male"), "F": ("woman", "female")}[self.study.sex]
        form = int(self.rng.integers(4))
        if form == 0:
            return _sentence(reason)
        if form == 1:
            return f"{self.study.age}-year-old {self.pick(who)} with {reason}."
        if form == 2:
            second = self.pick([other for other in INDICATIONS if other != reason])
            return _sentence(f"{reason}; {second}" if self.chance(0.4) else f"history: {reason}")
        return f"{self.study.age} year old {who[0]}. {_sentence(reason)}"

    def comparison(self) -> str:
        if self.prior is None:
            return "None."
        then, now = self.prior.study_date, self.study.study_date
        day = self.pick(
            (
                then.isoformat(),
                f"{then.strftime('%B')} {then.day}, {then.year}",
                then.strftime("%m/%d/%Y"),
            )
        )
        days = (now - then).days
        ago = f"{days} day{'s' * (days != 1)}" if days < 60 else f"{round(days / 30.4)} months"
        return self.pick(
            (
                f"Chest radiograph from {day}.",
                f"{day}.",
                f"Prior study dated {day}.",
                f"Comparison is made with {day}.",
                f"Radiograph obtained {ago} earlier.",
                f"Previous chest film of {day}.",
            )
        )

    def phrase(self, finding: Finding, brief: bool = False) -> tuple[str, bool]:
        """A noun phrase for `finding` without article, and whether it is plural; `brief` leaves measurements out."""
        side = finding.side or ""
        if finding.device is not None:
            text = self.pick(DEVICE_PHRASES[finding.device]).format(side=side)
            return text, finding.device == "sternal wires"
        grade = finding.grade or ""
        scale = "extent" if finding.name in ("cardiomegaly", "edema", "atelectasis") else "size"
        word = self.pick(SYNONYMS[scale][grade])
        if word == "extensive" and finding.name != "edema":
            word = grade
        if word in ("trace", "minimal", "massive", "tiny") and finding.name in (
            "consolidation",
            "nodule",
        ):
            word = grade
        templates = NOUN_PHRASES[finding.name]
        if brief:
            templates = tuple(t for t in templates if "{ctr}" not in t and "{mm}" not in t and "," not in t)
        where, plural = "", False
        if finding.zone is not None:
            where = self.pick(LOCATIONS[finding.zone, finding.lateral_only]).format(side=side)
        if finding.lateral_only and finding.name == "pleural effusion":
            templates = POSTERIOR_EFFUSIONS
        if finding.side == "bilateral":
            templates = tuple(
                t for t in templates if "-sided" not in t and "on the {side}" not in t and "{where} a" not in t
            )
            where = {
                "lower": self.pick(("both lung bases", "both lower lobes")),
                "mid": "both mid lungs",
            }.get(finding.zone or "", "")
            plural = finding.name == "pleural effusion"
        ratio = enlarged_heart_ratio(self.study.anatomy, finding.severity)
        text = self.pick(templates).format(
            e=word,
            side=side,
            where=where,
            mm=round(finding.diameter or 0.0),
            ctr=f"{ratio:.2f}",
        )
        text = text.replace("the both", "both")
        if plural:
            text = text.replace("collection", "collections").replace("effusion", "effusions")
        return text, plural

    def statement(self, finding: Finding, brief: bool = False) -> str:
        """A sentence, without capital and full stop, that asserts `finding` and its change."""
        text, plural = self.phrase(finding, brief)
        frames = FRAMES[finding.change]
        if brief:
            frames = tuple(frame for frame in frames if len(frame) < 22)
        sentence = _agree(self.pick(frames), text, plural, self.pick(SINCE))
        if finding.lateral_only:
            sentence += ", " + self.pick(LATERAL_ONLY)
        return sentence

    def gone(self, finding: Finding) -> str:
        """A sentence that says that `finding` of the prior is gone."""
        if finding.device is not None:
            text = self.pick(DEVICE_PHRASES[finding.device][:2]).format(side=finding.side or "").split(" with ")[0]
            be = "have" if finding.device == "sternal wires" else "has"
            return self.pick((f"the {text} {be} been removed", f"interval removal of the {text}"))
        side = f"{finding.side} " if finding.side else ""
        noun = {"edema": "pulmonary edema", "cardiomegaly": "cardiomegaly"}.get(finding.name, f"{side}{finding.name}")
        plural = finding.name == "pleural effusion" and finding.side == "bilateral"
        return _agree(self.pick(RESOLVED), noun + "s" * plural, plural, "")

    def negatives(self) -> list[tuple[str, str]]:
        """True negations as (system, sentence)."""
        said: list[tuple[str, str]] = []
        absent = set(self.absent)
        gone = {finding.name for finding in self.study.resolved}
        pleura: list[str] = [
            name for name in ("pleural effusion", "pneumothorax") if name in absent and self.chance(0.85)
        ]
        if self.chance(0.5):
            pleura.reverse()
        lungs = [name for name in _LUNG_CLASSES if name in absent - gone and self.chance(0.55)]
        if absent.issuperset((*_LUNG_CLASSES, "pneumothorax")) and self.chance(0.75):
            said.append(("lungs", self.pick(CLEAR_LUNGS)))
            lungs = lungs[: int(self.rng.integers(2))]
        if pleura and lungs and self.chance(0.35):
            pleura, lungs = lungs + pleura, []
        for system, names in (("lungs", lungs), ("pleura", pleura)):
            if names:
                said.append((system, self.negation(names)))
        if "cardiomegaly" in absent and self.chance(0.8):
            said.append(("heart", self.pick(HEART_NORMAL)))
        if "support devices" in absent and self.chance(0.08):
            said.append(("devices", self.negation(["support devices"])))
        return said

    def negation(self, names: Sequence[str]) -> str:
        words = [self.pick(NEGATIVES[name]) for name in names]
        joined = ", ".join(words[:-1]) + ", or " + words[-1] if len(words) > 2 else " or ".join(words)
        if "support devices" in names:  # plural
            return self.pick((f"no {joined}", f"there are no {joined}"))
        return self.pick(DENIALS).format(joined)

    def ordinary(self) -> list[tuple[str, str]]:
        """Statements about everything else, each true of the picture."""
        study, said = self.study, []
        shifting = any(
            f.severity > 0.4 and f.name in ("atelectasis", "pneumothorax", "pleural effusion") for f in study.findings
        )
        oblique = abs(study.frontal.obliquity) > 0.03
        large_knob, curved = (
            study.anatomy.aortic_knob > 0.112,
            abs(study.anatomy.spine_curve) > 0.03,
        )
        if large_knob and self.chance(0.5):
            said.append(("heart", self.pick(ORDINARY["aorta"])))
        elif not (shifting or oblique or large_knob) and "cardiomegaly" in self.absent and self.chance(0.5):
            said.append(("heart", self.pick(ORDINARY["mediastinum"])))
        if curved and self.chance(0.6):
            said.append(("bones", self.pick(ORDINARY["scoliosis"])))
        elif not curved and self.chance(0.5):
            said.append(("bones", self.pick(ORDINARY["bones"])))
        if self.chance(0.12):
            said.append(("bones", self.pick(ORDINARY["abdomen"])))
        if study.frontal.inspiration < 0.84 and self.chance(0.75):
            said.append(("lungs", self.pick(ORDINARY["volumes low"])))
        elif study.frontal.inspiration > 0.97 and "atelectasis" in self.absent and self.chance(0.3):
            said.append(("lungs", self.pick(ORDINARY["volumes full"])))
        if oblique and self.chance(0.5):
            said.append(("technique", self.pick(ORDINARY["rotated"])))
        return said

    def technique(self) -> str:
        view = "two views" if self.study.has_lateral else self.study.frontal_view
        return self.pick(TECHNIQUES[view]).format(self.study.frontal_view)

    def findings(self) -> str:
        study = self.study
        positive = [(_SYSTEMS[f.name], self.statement(f)) for f in study.findings]
        resolved = [(_SYSTEMS[f.name], self.gone(f)) for f in study.resolved if self.chance(0.85)]
        rest = self.negatives() + self.ordinary()
        lead = [("technique", self.technique())] if self.chance(0.35) else []
        layout = self.rng.random()
        if layout < 0.2:
            return self.by_heading(lead + positive + resolved + rest)
        self.rng.shuffle(rest)
        if layout < 0.5:
            items = lead + positive + resolved + rest
        elif layout < 0.65:
            middle = positive + resolved + rest
            self.rng.shuffle(middle)
            items = lead + middle
        else:
            order = [
                "technique",
                *self.pick(
                    (
                        "devices lungs pleura heart bones",
                        "heart lungs pleura bones devices",
                        "lungs pleura heart bones devices",
                    )
                ).split(),
            ]
            items = sorted(lead + positive + resolved + rest, key=lambda item: order.index(item[0]))
        return " ".join(_sentence(text) for _, text in items)

    def by_heading(self, items: list[tuple[str, str]]) -> str:
        parts = []
        for system, headings in _HEADINGS.items():
            texts = [text for where, text in items if where == system]
            if texts:
                parts.append(f"{self.pick(headings)}: " + " ".join(_sentence(text) for text in texts))
        return " ".join(parts)

    def impression(self) -> str:
        study = self.study
        lines = [
            self.statement(f, brief=True) for f in study.findings if f.name != "support devices" or self.chance(0.6)
        ]
        lines += [self.gone(f) for f in study.resolved if self.chance(0.6)]
        # Findings an acute process would be read from; a stable device alone leaves the chest clear.
        if not study.finding_classes - {"support devices"}:
            a = study.anatomy
            plain = a.aortic_knob <= 0.112 and abs(a.spine_curve) <= 0.03 and study.frontal.inspiration >= 0.84
            calm = not study.findings and plain and self.chance(0.4)
            lines.append(self.pick(NORMAL_CHEST if calm else NO_ACUTE_DISEASE))
        elif self.prior is not None and not study.resolved and all(f.change == "unchanged" for f in study.findings):
            lines.insert(0, self.pick(STABLE_CHEST))
        elif self.chance(0.25):
            names = [
                name
                for name in (
                    "pleural effusion",
                    "pneumothorax",
                    "edema",
                    "consolidation",
                )
                if name in self.absent
            ]
            if names:
                lines.append(self.negation(names[: 1 + int(self.rng.integers(2))]))
        advisable = [f.name for f in study.findings if f.name in ADVICE and f.change in (None, "new", "increased")]
        if advisable and self.chance(0.3):
            lines.append(self.pick(ADVICE[advisable[0]]))
        if len(lines) > 1 and self.chance(0.4):
            return " ".join(f"{number}. {_sentence(line)}" for number, line in enumerate(lines, 1))
        return " ".join(_sentence(line) for line in lines)


def _agree(frame: str, text: str, plural: bool, since: str) -> str:
    """Fills a frame of `phrases` so that article and verbs agree with the noun phrase `text`."""
    mass = plural or any(
        word in text
        for word in (
            "edema",
            "cardiomegaly",
            "atelectasis",
            "enlargement",
            "congestion",
        )
    )
    countable = not mass and not text.startswith("trace")
    article = "an " if text[0] in "aeiouE" or text.startswith(("NG", "11 ", "18 ")) else "a "
    return frame.format(
        a=(article if countable else "") + text,
        the=text if text.startswith("both") else f"the {text}",
        np=text,
        since=since,
        **{"is": "are" if plural else "is"},
        has="have" if plural else "has",
        was="were" if plural else "was",
    )


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
