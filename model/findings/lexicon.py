"""The words by which English reports name the fourteen CheXpert observations.

Patterns are matched on lower-case text. They were written for this project from radiology's ordinary vocabulary (the
Fleischner Society's glossary, Hansell and others 2008) and the list of observations of CheXpert (Irvin and others
2019); no phrase list of another labeller was taken over.
"""

import re
from typing import Final

from ..prompts import PROMPT_SETS

__all__ = ["FINDINGS", "LUNG_FINDINGS", "NOT_MEANT", "NO_FINDING", "OTHER", "SIGNS", "TERMS"]

FINDINGS: Final = tuple(PROMPT_SETS)
NO_FINDING: Final = "No Finding"
OTHER: Final = "Other"  # no finding of ours, but no normal chest either

# What clear lungs deny: an opacity, and what CheXpert's hierarchy puts under it.
LUNG_FINDINGS: Final = ("Lung Opacity", "Consolidation", "Edema", "Pneumonia", "Atelectasis", "Lung Lesion")

_DENSE = r"(?:focal|dense|confluent|lobar|alveolar|fluffy|patchy focal)"
_AIRSPACE = r"air[- ]?space"
_OPACITY = r"(?:opacit(?:y|ies)|opacifications?|densit(?:y|ies))"
_LUNG_WORD = r"(?:lungs?|pulmonary|lobes?|lobar|basilar|bibasilar|segmental)"


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(patterns)})\b")


TERMS: Final[dict[str, re.Pattern[str]]] = {
    "Enlarged Cardiomediastinum": _any(
        r"mediastinal (?:widening|enlargement|prominence)",
        r"enlarged cardiomediastinum",
        r"(?:widened|enlarged|wide|prominent) (?:superior |upper |anterior )?mediastinum",
    ),
    "Cardiomegaly": _any(r"cardiomegaly", r"cardiac enlargement", r"enlarged heart", r"megalocardia"),
    "Lung Opacity": _any(
        r"opacit(?:y|ies)",
        r"opacifications?",
        r"opacified",
        r"infiltrat(?:es?|ions?|ive process(?:es)?)",
        rf"{_AIRSPACE} (?:disease|process(?:es)?|abnormalit(?:y|ies)|filling)",
        r"(?:perihilar |basilar |bibasilar )(?:haze|haziness)",
        r"reticul(?:ar|onodular)? ?(?:pattern|markings|changes)",
        r"reticulations?",
        r"(?:increased|prominent|coarse|coarsened|accentuated) (?:\w+ ){0,2}interstitial markings",
        r"interstitial (?:infiltrates?|opacit(?:y|ies)|pattern|disease|thickening|prominence)",
        rf"(?:increased|patchy|hazy|ill-defined|vague|streaky|{_LUNG_WORD}) (?:\w+ )?densit(?:y|ies)",
    ),
    "Lung Lesion": _any(
        r"nodules?",
        r"micronodules?",
        rf"nodular (?:{_OPACITY}|focus|foci|lesions?|shadows?)",
        r"mass(?:es)?(?! effect)(?!-)",
        r"mass-?like (?:opacity|opacification|consolidation|density|lesion)",
        r"granulomas?(?:ta)?",
        r"(?:lung|pulmonary|parenchymal|cavitary|cavitating|mass-?like) lesions?",
        r"(?:lung|bronchogenic|pulmonary) (?:cancer|carcinoma|neoplasms?|tumors?|malignancy)",
        r"metastas[ei]s",
        r"metastatic disease",
    ),
    "Edema": _any(
        r"o?edema",
        r"(?:vascular|venous|pulmonary|interstitial) congestion",
        r"congestive (?:heart )?failure",
        r"(?:heart|cardiac|left ventricular) failure",
        r"chf",
        r"(?:fluid|volume) overload",
        r"cephali[sz]ation",
        r"vascular (?:redistribution|engorgement)",
        r"kerley(?:[- ]?b)?(?:[- ]lines)?",
        r"congestive changes",
    ),
    "Consolidation": _any(
        r"consolidat(?:ions?|ive|ed)",
        rf"{_DENSE} {_AIRSPACE} {_OPACITY}",
    ),
    "Pneumonia": _any(
        r"(?:broncho)?pneumonias?",
        r"pneumonic",
        r"infect(?:ions?|ious process(?:es)?|ious etiolog(?:y|ies)|ious/inflammatory process)",
    ),
    "Atelectasis": _any(
        r"atelecta(?:sis|ses|tic)",
        r"(?:lobar|lobe|segmental) collapse",
        r"collapse of the (?:left|right) (?:upper |middle |lower )?(?:lobe|lung)",
    ),
    "Pneumothorax": _any(r"(?:hydro|hemo|haemo)?pneumothora(?:x|ces|xes)", r"ptx"),
    "Pleural Effusion": _any(
        r"effusions?",
        r"pleural (?:fluid|collections?)",
        r"(?:hydro|hemo|haemo)thora(?:x|ces)",
        r"(?:hydro|hemo|haemo)pneumothora(?:x|ces)",
        r"empyemas?",
    ),
    "Pleural Other": _any(
        r"pleural(?:[- ]parenchymal)? (?:thickening|plaques?|scar(?:ring)?|calcifications?|reaction|disease|nodules?)",
        r"pleuroparenchymal (?:thickening|scar(?:ring)?|changes)",
        r"thickening of the (?:\w+ )?pleura",
        r"fibrothorax",
        r"apical (?:pleural )?cap(?:ping)?",
    ),
    "Fracture": _any(
        r"fractures?", r"fractured",
        r"acute (?:osseous|bony|skeletal) (?:abnormalit(?:y|ies)|findings?|process(?:es)?|injur(?:y|ies)|lesions?)",
    ),
    "Support Devices": _any(
        r"catheters?",
        r"picc(?: lines?)?",
        r"(?:medi-?)?port(?:-?a-?cath)?s?",
        r"(?:central|picc|venous|arterial|support|indwelling|subclavian|jugular|ij) lines?",
        r"lines? (?:and|or) (?:\w+ )?tubes?",
        r"(?:chest|endotracheal|et|ng|og|nasogastric|orogastric|enteric|feeding|tracheostomy|thoracostomy|"
        r"gastrostomy|dobhoff|gastric) tubes?",
        r"tubes? (?:and|or) (?:\w+ )?lines?",
        r"ett", r"ngt",
        r"tracheostomy",
        r"(?:pleural|pigtail|thoracic|chest|surgical) drains?",
        r"pacemakers?", r"pacers?", r"pacing (?:wires?|leads?|device)", r"pacer leads?",
        r"aicd", r"icd", r"defibrillators?",
        r"(?:sternal|sternotomy|cerclage) (?:wires?|sutures?)",
        r"(?:\w+ )?devices?", r"(?:support|life support) apparatus", r"hardware", r"leads", r"generators?",
        r"prosthes[ei]s", r"prosthetic (?:\w+ )?(?:valves?|head|shoulder|joint)", r"(?:mechanical|replacement) valves?",
        r"valve replacement", r"arthroplasty", r"stents?", r"(?:neuro)?stimulators?", r"loop recorder",
        r"(?:internal|screw|plate|spinal) fixation", r"fixation (?:rods?|plates?|screws?)",
        r"balloon pump", r"swan[- ]ganz",
    ),
    OTHER: _any(
        r"emphysem\w*", r"copd", r"chronic obstructive", r"hyperinflat\w*", r"hyperexpan\w*", r"hyperlucen\w*",
        r"bronchiect\w*", r"fibrosis", r"fibrotic", r"scar(?:ring|s)?", r"hernia\w*", r"granulomatous", r"calcifi\w+",
        r"tortuous", r"tortuosity", r"ectasia", r"ectatic", r"aneurysm\w*", r"atherosclero\w*", r"\w*scolio\w*",
        r"kypho\w*", r"degenerat\w+", r"osteophyt\w*", r"spondylo\w*", r"arthritis", r"arthropathy", r"arthro\w*",
        r"osteopeni\w*", r"demineraliz\w*", r"deformit\w+", r"elevat(?:ed|ion)", r"eventration", r"low lung volumes",
        r"hypoinflat\w*", r"adenopathy", r"lymphadenopathy", r"pneumomediastinum", r"pneumoperitoneum",
        r"free (?:intraperitoneal )?air", r"clips?", r"sutures?", r"surg(?:ery|ical) changes",
        r"post(?:operative|surgical) changes", r"mastectomy", r"cysts?", r"bullae?", r"blebs?", r"bullous",
        r"sarcoid\w*", r"tuberculosis", r"pericardial effusion", r"mediastinal mass",
        r"hilar (?:mass|prominence|fullness)", r"flatten(?:ed|ing)", r"\w*curvature", r"syndesmophyt\w*", r"fusion",
        r"implants?", r"prosthe\w+", r"crowding", r"thickening", r"markings", r"lucenc\w+", r"foreign bod\w+",
        r"bronchitis", r"bronchial (?:cuffing|thickening)", r"cuffing",
    ),
}  # fmt: skip

# Words that hold a term and mean something else; blanked before terms are looked for.
NOT_MEANT: Final = _any(
    r"pericardial (?:or pleural )?effusions?(?! or pleural)", r"joint effusions?",
    r"(?:soft[- ]tissue|subcutaneous|chest wall|peripheral|ankle|leg) (?:o?edema|mass(?:es)?)",
    r"(?:mediastinal|hilar|thyroid|breast|abdominal|body) mass(?:es)?",
    r"(?:prior|previous|old|remote|healed|treated|granulomatous|tuberculous) (?:\w+ ){0,2}(?:infections?|pneumonias?)",
    r"(?:port|portable) (?:site|film|ap|view|technique|chest)",
)  # fmt: skip

# Signs that speak for a finding without naming it: uncertain until something names it.
SIGNS: Final[dict[str, re.Pattern[str]]] = {
    "Pleural Effusion": _any(
        r"blunt(?:ing|ed) (?:of )?(?:\w+ ){0,4}(?:costophrenic|cp) (?:angles?|sulc(?:us|i)|recess(?:es)?)",
        r"(?:costophrenic|cp) (?:angles?|sulc(?:us|i)) (?:\w+ ){0,2}blunt(?:ing|ed)",
        r"(?:posterior )?sulc(?:us|i)? blunting",
    ),
    "Fracture": _any(r"(?:compression|wedge) (?:\w+ )?deformit(?:y|ies)"),
}
