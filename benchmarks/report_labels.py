"""How well the findings of a report are read from its words.

    python -m benchmarks.report_labels [--open-i indiana_reports.jsonl] [--half look|judge] [--studies 4000]

On simulated reports, whose truth is known; their words are this project's own, and so are the rules: that flatters. On
Open-i's reports against what its indexers marked by hand. Open-i has one study a patient; a hash of its number puts a
study into the half that the rules were written with (look) or into the half that judges. Index terms name what a
report shows, asserted or suspected, and not what it denies: so precision is asked of what is read as present, recall
of what is read as present or uncertain, and of denials how often the indexers contradict them. A study whose terms may
or may not mean a finding is left out for that finding. Prints precision and recall with Wilson's 95 % intervals, and
reports per second; the last line is JSON.
"""

import argparse
import hashlib
import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from model.findings import ABSENT, FINDINGS, NO_FINDING, PRESENT, UNCERTAIN, report_findings
from model.simulation import simulate_studies
from model.training.tables.open_i_labels import open_i_findings
from model.training.tables.open_i_reports import read_json_reports

console = Console(width=120)

SIMULATED = {
    "cardiomegaly": "Cardiomegaly",
    "pleural effusion": "Pleural Effusion",
    "pneumothorax": "Pneumothorax",
    "consolidation": "Consolidation",
    "edema": "Edema",
    "atelectasis": "Atelectasis",
    "nodule": "Lung Lesion",
    "support devices": "Support Devices",
}
SIDED = ("Pleural Effusion", "Pneumothorax")
Truth = Mapping[str, bool]  # findings that are judged


class Tally:
    """Counts of one finding."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, true: bool, said: str | None) -> None:
        self.counts["true"] += true
        self.counts["present"] += said == PRESENT
        self.counts["present and true"] += said == PRESENT and true
        self.counts["uncertain"] += said == UNCERTAIN
        self.counts["uncertain and true"] += said == UNCERTAIN and true
        self.counts["absent"] += said == ABSENT
        self.counts["absent but true"] += said == ABSENT and true

    @property
    def precision(self) -> tuple[int, int]:
        return self.counts["present and true"], self.counts["present"]

    @property
    def recall(self) -> tuple[int, int]:
        return self.counts["present and true"] + self.counts["uncertain and true"], self.counts["true"]

    @property
    def contradicted(self) -> tuple[int, int]:
        return self.counts["absent but true"], self.counts["absent"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--open-i", type=Path, help="JSON Lines with uid, MeSH, findings, impression.")
    parser.add_argument("--half", choices=("look", "judge"), default="judge")
    parser.add_argument("--studies", type=int, default=4000, help="Simulated studies.")
    parser.add_argument("--errors", help="Print the reports in which this finding is read wrongly (half look only).")
    options = parser.parse_args()
    result: dict[str, object] = {"simulated": simulated(options.studies)}
    if options.open_i:
        errors = options.errors if options.half == "look" else None
        result["open_i"] = open_i(options.open_i, options.half, errors)
    print(json.dumps(result))


def simulated(count: int) -> dict[str, object]:
    """Patients of a cohort of its own (seed 77) that trained nothing."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    sides, spent = Counter[bool](), 0.0
    for study, _ in simulate_studies(77, count):
        started = time.perf_counter()
        rows = report_findings((study.report.findings, study.report.impression))
        spent += time.perf_counter() - started
        said = {row.finding: row.assertion for row in reversed(rows)}  # the strongest, which comes first
        for name, finding in SIMULATED.items():
            tallies[finding].add(name in study.finding_classes, said.get(finding))
        tallies[NO_FINDING].add(not study.finding_classes - {"support devices"}, said.get(NO_FINDING))
        for row in rows:
            true = {
                side for f in study.findings if SIMULATED[f.name] == row.finding and row.finding in SIDED
                for side in f.sides
            }  # fmt: skip
            if row.assertion == PRESENT and true:
                sides[true == set(_sides(row.laterality))] += 1
    show(f"Simulated reports ({count})", tallies, count / spent)
    share = sides[True] / max(sides.total(), 1)
    console.print(f"Side of effusions and pneumothoraces right in {share:.3f} of {sides.total()}.")
    return {**summary(tallies), "side_right": round(share, 4), "reports_per_second": round(count / spent)}


def open_i(path: Path, half: str, errors: str | None) -> dict[str, object]:
    tallies: dict[str, Tally] = defaultdict(Tally)
    count, spent = 0, 0.0
    for report in read_json_reports(path):
        if half_of(report.uid) != half or not (report.findings or report.impression):
            continue
        if (truth := indexed(report.terms)) is None:
            continue
        started = time.perf_counter()
        rows = report_findings((report.findings, report.impression))
        spent += time.perf_counter() - started
        count += 1
        said = {row.finding: row.assertion for row in reversed(rows)}
        for finding, true in truth.items():
            tallies[finding].add(true, said.get(finding))
            wrong = (said.get(finding) == PRESENT) != true if not true else said.get(finding) in (None, ABSENT)
            if finding == errors and wrong:
                text = f"{report.findings} ## {report.impression}"
                print(f"[{report.uid}] {true} {said.get(finding)} | {';'.join(report.terms)} | {text}")
    show(f"Open-i, half {half} ({count} reports)", tallies, count / spent)
    return summary(tallies)


def half_of(uid: str) -> str:
    return ("look", "judge")[int(hashlib.sha256(f"indiana {uid}".encode()).hexdigest(), 16) % 2]


def indexed(terms: Iterable[str]) -> Truth | None:
    """What the indexers' terms say of each finding that they decide; None for a study that nobody indexed."""
    terms = [term.strip() for term in terms if term.strip()]
    named = open_i_findings(terms)
    if named is None:
        return None
    sure, possible = named
    # Rounded opacities may be nodules, and scars of the pleura are thickened pleura: the terms leave it open.
    possible |= {"Lung Lesion"} if any("/round" in term.lower() for term in terms) else set()
    possible |= {"Pleural Other"} if any("/pleura" in term.lower() for term in terms) else set()
    truth = {finding: finding in sure for finding in FINDINGS if finding in sure or finding not in possible}
    if "Support Devices" not in sure | possible:  # a device alone is no finding here; the indexers call it not normal
        truth[NO_FINDING] = [term.lower() for term in terms] == ["normal"]
    return truth


def show(title: str, tallies: Mapping[str, Tally], speed: float) -> None:
    table = Table("finding", "true", "precision of present", "recall, present or uncertain", "denied", "of these true")
    table.title = f"{title}; {speed:,.0f} reports a second"
    for finding in FINDINGS:
        if finding in tallies:
            tally = tallies[finding]
            table.add_row(
                finding,
                str(tally.counts["true"]),
                interval(*tally.precision),
                interval(*tally.recall),
                str(tally.counts["absent"]),
                str(tally.counts["absent but true"]),
            )
    console.print(table)


def summary(tallies: Mapping[str, Tally]) -> dict[str, object]:
    def pooled(name: str) -> float:
        pairs = [getattr(tally, name) for finding, tally in tallies.items() if finding != NO_FINDING]
        return round(sum(good for good, _ in pairs) / max(sum(of for _, of in pairs), 1), 4)

    return {name: pooled(name) for name in ("precision", "recall", "contradicted")}


def interval(good: int, of: int) -> str:
    """A share with Wilson's 95 % interval."""
    if not of:
        return "none"
    z, share = 1.96, good / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return f"{share:.3f} [{middle - half:.3f}, {middle + half:.3f}] of {of}"


def _sides(laterality: str | None) -> tuple[str, ...]:
    return ("left", "right") if laterality == "bilateral" else (laterality,) if laterality else ()


if __name__ == "__main__":
    main()
