"""Open-i's index terms as findings.

The indexers' terms are MeSH and RadLex headings with qualifiers, as in "Opacity/lung/base/left"
(Demner-Fushman and others 2016). A study's labels name everything it shows, so a study is labelled only when every
term that may mean one of the fourteen findings says which.
"""

from collections.abc import Iterable

from .table import NO_FINDING

__all__ = ["open_i_findings", "open_i_labels"]

FINDING_OF = {
    "cardiomegaly": "Cardiomegaly",
    "pulmonary atelectasis": "Atelectasis",
    "pleural effusion": "Pleural Effusion",
    "pulmonary edema": "Edema",
    "pneumonia": "Pneumonia",
    "consolidation": "Consolidation",
    "pneumothorax": "Pneumothorax",
    "fractures, bone": "Fracture",
    "airspace disease": "Lung Opacity",
    "catheters, indwelling": "Support Devices",
    "tube, inserted": "Support Devices",
    "implanted medical device": "Support Devices",
    "medical device": "Support Devices",
}
QUALIFIED = {  # clear only with this qualifier
    "opacity": ("lung", "Lung Opacity"),
    "nodule": ("lung", "Lung Lesion"),
    "mass": ("lung", "Lung Lesion"),
    "thickening": ("pleura", "Pleural Other"),
}
MAY_MEAN = {
    "bone diseases, metabolic": "Fracture",
    "breast implants": "Support Devices",
    "calcified granuloma": "Lung Lesion",
    "cardiac shadow": "Cardiomegaly",
    "cavitation": "Lung Lesion",
    "cicatrix": "Lung Opacity",
    "costophrenic angle": "Pleural Effusion",
    "cysts": "Lung Lesion",
    "deformity": "Fracture",
    "density": "Lung Opacity",
    "foreign bodies": "Support Devices",
    "granuloma": "Lung Lesion",
    "granulomatous disease": "Lung Lesion",
    "heart": "Cardiomegaly",
    "heart atria": "Cardiomegaly",
    "heart failure": "Edema",
    "heart ventricles": "Cardiomegaly",
    "hemopneumothorax": "Pneumothorax",
    "hemothorax": "Pleural Effusion",
    "hydropneumothorax": "Pneumothorax",
    "infiltrate": "Lung Opacity",
    "lung": "Lung Opacity",
    "lung diseases, interstitial": "Lung Opacity",
    "markings": "Lung Opacity",
    "mass": "Lung Lesion",
    "mediastinum": "Enlarged Cardiomediastinum",
    "nodule": "Lung Lesion",
    "opacity": "Lung Opacity",
    "pericardial effusion": "Enlarged Cardiomediastinum",
    "pleura": "Pleural Other",
    "pulmonary congestion": "Edema",
    "pulmonary fibrosis": "Lung Opacity",
    "ribs": "Fracture",
    "spinal fusion": "Support Devices",
    "stents": "Support Devices",
    "sulcus": "Pleural Effusion",
    "surgical instruments": "Support Devices",
    "sutures": "Support Devices",
    "thickening": "Pleural Other",
    "tuberculosis": "Lung Opacity",
    "volume loss": "Atelectasis",
}
SAYS_NOTHING = ("no indexing", "technical quality of image unsatisfactory")


def open_i_labels(terms: Iterable[str]) -> str:
    """Findings joined by ``;``, ``No Finding`` for the single term "normal", empty where they are not sure."""
    terms = list(terms)
    named = open_i_findings(terms)
    if named is None:
        return ""
    findings, possible = named
    if [term.strip().lower() for term in terms if term.strip()] == ["normal"]:
        return NO_FINDING
    return ";".join(sorted(findings)) if possible <= findings else ""


def open_i_findings(terms: Iterable[str]) -> tuple[set[str], set[str]] | None:
    """The findings that the terms name, and those that they may mean; None where nobody indexed the study."""
    findings: set[str] = set()
    possible: set[str] = set()
    for heading, *qualifiers in ([part.strip().lower() for part in term.split("/")] for term in terms if term.strip()):
        qualifier, meaning = QUALIFIED.get(heading, ("", ""))
        if heading in SAYS_NOTHING:
            return None
        if heading in FINDING_OF:
            findings.add(FINDING_OF[heading])
        elif qualifier and qualifier in qualifiers:
            findings.add(meaning)
        elif heading in MAY_MEAN:
            possible.add(MAY_MEAN[heading])
    return findings, possible
