"""How a patient's findings begin, change and resolve from one study to the next."""

from dataclasses import replace
from typing import Literal

import numpy as np

from .findings import DEVICES, FINDINGS, Finding
from .study import SimulatedStudy

__all__ = ["next_findings"]

Zone = Literal["upper", "mid", "lower"]

# How many classes a study shows: a fifth none, half one, the rest two or three.
_COUNT_ODDS = (0.20, 0.50, 0.22, 0.08)

# Evens out how often each class is met: devices and large hearts stay with a patient, a pneumothorax does not.
_ODDS = {
    "support devices": 0.7,
    "cardiomegaly": 0.8,
    "pneumothorax": 1.3,
    "nodule": 1.1,
}

# Classes that come together more often than chance.
_AFFINITY: dict[frozenset[str], float] = {
    frozenset(("cardiomegaly", "edema")): 2.5,
    frozenset(("cardiomegaly", "pleural effusion")): 1.6,
    frozenset(("edema", "pleural effusion")): 2.0,
    frozenset(("pleural effusion", "atelectasis")): 1.8,
    frozenset(("pneumothorax", "support devices")): 1.8,
    frozenset(("edema", "nodule")): 0.2,
    frozenset(("edema", "pneumothorax")): 0.4,
}

_PERMANENT = ("pacemaker", "sternal wires")


def next_findings(
    rng: np.random.Generator, prior: SimulatedStudy | None
) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """The findings of a patient's next study and those of the `prior` one that have resolved."""
    before = () if prior is None else prior.findings
    old = [name for name in FINDINGS if any(finding.name == name for finding in before)]
    target = int(rng.choice(4, p=_COUNT_ODDS))
    kept = [name for name in old if rng.random() < (0.85 if name in ("cardiomegaly", "nodule") else 0.62)]
    sticky = [name for name in old if any(f.name == name and f.device in _PERMANENT for f in before)]
    rng.shuffle(kept)
    kept = (sticky + [name for name in kept if name not in sticky])[: max(target, len(sticky))]

    findings: list[Finding] = []
    resolved: list[Finding] = []
    for finding in before:
        removed = finding.device is not None and finding.device not in _PERMANENT and rng.random() < 0.15
        if removed or finding.name not in kept:
            resolved.append(replace(finding, change=None))
        else:
            findings.append(_changed(rng, finding, crowded=len(kept) > 1))
    if "support devices" in kept and not any(finding.device for finding in findings):
        # The last device of a kept class stays: otherwise the class would be gone as well.
        last = next(finding for finding in reversed(resolved) if finding.device)
        resolved.remove(last)
        findings.append(replace(last, change="unchanged"))

    classes = list(kept)
    change: Literal["new"] | None = None if prior is None else "new"
    fresh = [name for name in FINDINGS if name not in old]
    while len(classes) < target and fresh:
        odds = np.array([_ODDS.get(name, 1.0) * _affinity(name, classes) for name in fresh])
        name = fresh.pop(int(rng.choice(len(fresh), p=odds / odds.sum())))
        classes.append(name)
        findings.extend(replace(finding, change=change) for finding in _begin(rng, name, findings))
    if "support devices" in kept and rng.random() < 0.15:
        used = [finding.device for finding in (*findings, *resolved)]
        findings.extend(_devices(rng, findings, [d for d in DEVICES if d not in used], 1, change))
    order = {name: index for index, name in enumerate(FINDINGS)}
    findings.sort(key=lambda finding: order[finding.name])
    return tuple(findings), tuple(resolved)


def _affinity(name: str, classes: list[str]) -> float:
    return float(np.prod([_AFFINITY.get(frozenset((name, other)), 1.0) for other in classes]))


def _changed(rng: np.random.Generator, finding: Finding, crowded: bool) -> Finding:
    """A finding that is still there: unchanged, or larger or smaller by enough to be seen."""
    if finding.device is not None:
        return replace(finding, change="unchanged")
    step, most = float(rng.uniform(0.22, 0.4)), 0.68 if crowded else 1.0
    grows, shrinks = (
        finding.severity + step <= most,
        finding.severity - step >= 0.12 and not finding.lateral_only,
    )
    if rng.random() < 0.25 or not (grows or shrinks):
        return replace(finding, change="unchanged")
    if shrinks and (not grows or rng.random() < 0.5):
        return replace(finding, severity=finding.severity - step, change="decreased")
    # A larger effusion no longer hides behind the dome of the diaphragm.
    hidden = finding.lateral_only and finding.name != "pleural effusion"
    return replace(
        finding,
        severity=finding.severity + step,
        change="increased",
        lateral_only=hidden,
    )


def _begin(rng: np.random.Generator, name: str, others: list[Finding]) -> list[Finding]:
    """New findings of one class (change still None), placed where the others leave room for them."""
    if name == "support devices":
        return _devices(
            rng,
            others,
            list(DEVICES),
            int(rng.choice((1, 2, 3), p=(0.5, 0.33, 0.17))),
            None,
        )
    severity = float(rng.uniform(0.12, 1.0))
    texture = int(rng.integers(2**31))
    crowded = [s for other in others if other.name in ("pneumothorax", "pleural effusion") for s in other.sides]
    lung = [s for other in others if other.name in ("consolidation", "nodule", "atelectasis") for s in other.sides]
    taken = crowded + (lung if name in ("pneumothorax", "pleural effusion") else [])
    free: list[Literal["left", "right"]] = [s for s in ("right", "left") if s not in taken] or ["right", "left"]
    side = free[int(rng.integers(len(free)))]
    if taken and name in ("pneumothorax", "pleural effusion"):
        severity = min(severity, 0.55)
    if name == "cardiomegaly":
        return [Finding(name, None, None, severity, None, texture=texture)]
    if name == "edema":
        return [Finding(name, "bilateral", None, severity, None, texture=texture)]
    if name == "pneumothorax":
        return [Finding(name, side, None, severity, None, texture=texture)]
    if name == "pleural effusion":
        both = not taken and rng.random() < 0.28
        return [
            Finding(
                name,
                "bilateral" if both else side,
                None,
                severity,
                None,
                texture=texture,
            )
        ]
    zone: Zone = "upper" if side in crowded else _zone(rng, name)
    if name == "atelectasis":
        both = not crowded and severity < 0.7 and rng.random() < 0.25
        place = (
            0.55,
            float(rng.uniform(0.74, 0.88)) if zone == "lower" else float(rng.uniform(0.45, 0.6)),
            0.2,
        )
        return [
            Finding(
                name,
                "bilateral" if both else side,
                zone,
                severity,
                None,
                place=place,
                texture=texture,
            )
        ]
    several = 2 if rng.random() < 0.18 and not crowded else 1
    first = Finding(
        name,
        side,
        zone,
        severity,
        None,
        place=_place(rng, side, zone, name),
        texture=texture,
    )
    if several == 1:
        return [first]
    other: Literal["left", "right"] = "left" if side == "right" else "right"
    second = _zone(rng, name)
    place = _place(rng, other, second, name)
    return [
        first,
        replace(first, side=other, zone=second, place=place, texture=texture // 2),
    ]


def _devices(
    rng: np.random.Generator,
    others: list[Finding],
    choice: list[str],
    count: int,
    change: Literal["new"] | None,
) -> list[Finding]:
    """`count` devices of `choice`; a chest tube goes to the side of a pneumothorax or effusion where there is one."""
    chosen = rng.permutation(len(choice))[:count]
    devices = []
    for index in sorted(chosen.tolist()):
        device = choice[index]
        side: Literal["left", "right"] | None = None
        if device == "chest tube":
            ill = [s for other in others if other.name in ("pneumothorax", "pleural effusion") for s in other.sides]
            side = ill[0] if ill else ("right" if rng.random() < 0.5 else "left")
        elif device == "central line":
            side = "right" if rng.random() < 0.75 else "left"
        elif device == "pacemaker":
            side = "left" if rng.random() < 0.8 else "right"
        texture = int(rng.integers(2**31))
        devices.append(
            Finding(
                "support devices",
                side,
                None,
                1.0,
                change,
                device=device,
                texture=texture,
            )
        )
    return devices


def _zone(rng: np.random.Generator, name: str) -> Zone:
    odds = {
        "consolidation": (0.25, 0.25, 0.5),
        "nodule": (0.42, 0.33, 0.25),
        "atelectasis": (0.0, 0.25, 0.75),
    }[name]
    zones: tuple[Zone, ...] = ("upper", "mid", "lower")
    return zones[int(rng.choice(3, p=odds))]


def _place(rng: np.random.Generator, side: str, zone: Zone, name: str) -> tuple[float, float, float]:
    """Where a focal finding lies, kept clear of the heart and the mediastinum; see `Finding.place`."""
    lateral = {"upper": (0.42, 0.62), "mid": (0.5, 0.76), "lower": (0.46, 0.74)}[zone]
    vertical = {"upper": (0.2, 0.36), "mid": (0.46, 0.6), "lower": (0.72, 0.86)}[zone]
    depth = {"upper": (-0.15, 0.4), "mid": (-0.3, 0.4), "lower": (0.15, 0.6)}[zone]
    u = rng.uniform(*lateral)
    if side == "left" and zone == "lower":
        u = rng.uniform(0.72, 0.82) if name == "nodule" else rng.uniform(0.62, 0.78)
    return float(u), float(rng.uniform(*vertical)), float(rng.uniform(*depth))
