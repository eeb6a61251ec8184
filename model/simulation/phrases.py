"""The words of simulated reports: noun phrases for each finding, sentence frames for each change.

A noun phrase is written without an article. Frames have {a} (the phrase with "a" or "an" where it takes one), {the}
(with "the"), {np} (bare), {is}, {has}, {was} (agreeing with it) and {since} ("since the prior study" and the like).
"""

__all__ = [
    "ADVICE",
    "DEVICE_PHRASES",
    "FRAMES",
    "LATERAL_ONLY",
    "LOCATIONS",
    "NOUN_PHRASES",
    "POSTERIOR_EFFUSIONS",
    "RESOLVED",
    "SINCE",
    "STABLE_CHEST",
    "SYNONYMS",
    "TECHNIQUES",
]

SYNONYMS: dict[str, dict[str, tuple[str, ...]]] = {
    "extent": {
        "mild": ("mild", "mild", "slight"),
        "moderate": ("moderate", "moderate", "moderate"),
        "severe": ("severe", "marked", "severe", "extensive"),
    },
    "size": {
        "small": ("small", "small", "tiny", "trace", "minimal"),
        "moderate": ("moderate", "moderate-sized", "moderate", "medium-sized"),
        "large": ("large", "large", "sizable", "massive"),
    },
}

# {e}: extent or size word, {side}, {where}: zone in words, {mm}: diameter, {ctr}: cardiothoracic ratio.
NOUN_PHRASES: dict[str, tuple[str, ...]] = {
    "cardiomegaly": (
        "{e} cardiomegaly",
        "{e} cardiomegaly",
        "{e} enlargement of the heart",
        "{e} enlargement of the cardiac silhouette",
        "{e} cardiac enlargement",
        "{e} enlargement of the heart with a cardiothoracic ratio of {ctr}",
    ),
    "pleural effusion": (
        "{e} {side} pleural effusion",
        "{e} {side} pleural effusion",
        "{e} {side}-sided pleural effusion",
        "{e} {side} effusion",
        "{e} pleural effusion on the {side}",
        "{e} {side} pleural fluid collection",
        "{e} {side} pleural effusion with a meniscus",
        "{e} free-flowing {side} pleural effusion",
    ),
    "pneumothorax": (
        "{e} {side} pneumothorax",
        "{e} {side} pneumothorax",
        "{e} {side}-sided pneumothorax",
        "{e} {side} apicolateral pneumothorax",
        "{e} pneumothorax on the {side}",
        "{e} {side} pneumothorax with partial lung collapse",
        "{e} {side} pneumothorax tracking along the lateral chest wall",
        "{e} {side} pneumothorax with a visible pleural line",
    ),
    "consolidation": (
        "{e} consolidation in the {where}",
        "{e} {where} consolidation",
        "{e} area of consolidation in the {where}",
        "{e} airspace opacity in the {where}",
        "{e} ill-defined airspace opacity projecting over the {where}",
        "{e} focal {where} airspace opacity",
        "{e} confluent opacity in the {where}, consistent with consolidation",
        "{e} patchy consolidation within the {where}",
        "{e} fluffy airspace opacity in the {where}",
        "{e} region of dense consolidation involving the {where}",
        "{e} alveolar consolidation of the {where}",
    ),
    "edema": (
        "{e} pulmonary edema",
        "{e} pulmonary edema",
        "{e} interstitial edema",
        "{e} bilateral pulmonary edema",
        "{e} pulmonary vascular congestion with interstitial edema",
        "{e} perihilar haze in keeping with pulmonary edema",
        "{e} cardiogenic-appearing pulmonary edema",
        "{e} edema with indistinct pulmonary vessels",
        "{e} edema with perihilar predominance",
        "{e} pulmonary edema with septal lines",
    ),
    "atelectasis": (
        "{e} atelectasis in the {where}",
        "{e} {where} atelectasis",
        "{e} linear atelectasis in the {where}",
        "{e} plate-like atelectasis in the {where}",
        "{e} subsegmental atelectasis of the {where}",
        "{e} band-like atelectasis with volume loss in the {where}",
        "{e} streaky atelectasis at the {where}",
        "{e} atelectatic band crossing the {where}",
        "{e} atelectasis with elevation of the hemidiaphragm in the {where}",
        "{e} discoid atelectasis in the {where}",
    ),
    "nodule": (
        "{mm} mm nodule in the {where}",
        "{mm} mm {where} nodule",
        "{e} pulmonary nodule in the {where}",
        "{e} round nodule in the {where} measuring {mm} mm",
        "{e} well-circumscribed {where} nodule",
        "{mm} mm spherical nodule with smooth margins in the {where}",
        "{e} coin-shaped nodule within the {where}",
        "{mm} mm rounded nodule projecting over the {where}",
        "{e} discrete nodule in the {where}",
        "{e} nodular opacity in the {where}, about {mm} mm across",
    ),
}

# For an effusion that the frontal view does not show.
POSTERIOR_EFFUSIONS: tuple[str, ...] = (
    "{e} {side} pleural effusion in the posterior costophrenic sulcus",
    "{e} posterior {side} pleural effusion",
    "{e} {side} pleural effusion blunting the posterior costophrenic angle",
    "{e} dependent {side} pleural effusion layering posteriorly",
)

LOCATIONS: dict[tuple[str, bool], tuple[str, ...]] = {
    ("upper", False): (
        "{side} upper lobe",
        "{side} upper lung",
        "{side} upper zone",
        "{side} upper lung zone",
    ),
    ("mid", False): (
        "{side} mid lung",
        "{side} mid zone",
        "{side} midlung",
        "{side} middle lung zone",
    ),
    ("lower", False): (
        "{side} lower lobe",
        "{side} lung base",
        "{side} lower zone",
        "{side} base",
        "{side} lower lung",
    ),
    ("lower", True): (
        "posterior {side} lower lobe",
        "{side} retrocardiac region",
        "posterior basal {side} lower lobe",
    ),
}

LATERAL_ONLY: tuple[str, ...] = (
    "seen only on the lateral view",
    "visible on the lateral view only",
    "appreciated only on the lateral projection",
    "not visible on the frontal view but apparent on the lateral",
    "best and only seen on the lateral radiograph",
)

DEVICE_PHRASES: dict[str, tuple[str, ...]] = {
    "endotracheal tube": (
        "endotracheal tube",
        "endotracheal tube with its tip above the carina",
        "ET tube",
    ),
    "central line": (
        "{side} central venous catheter",
        "{side} central line",
        "{side} central venous line ending in the superior vena cava",
    ),
    "pacemaker": (
        "{side} chest wall pacemaker",
        "{side}-sided pacemaker with intact leads",
        "{side} pectoral pacemaker",
    ),
    "nasogastric tube": (
        "nasogastric tube",
        "enteric tube",
        "nasogastric tube extending below the diaphragm",
        "NG tube",
    ),
    "sternal wires": (
        "median sternotomy wires",
        "sternal wires",
        "midline sternotomy wires",
        "intact sternal wires",
    ),
    "chest tube": (
        "{side} chest tube",
        "{side}-sided chest tube",
        "{side} pleural drain",
        "{side} thoracostomy tube",
    ),
}

FRAMES: dict[str | None, tuple[str, ...]] = {
    None: (
        "there {is} {a}",
        "{a} {is} present",
        "{a} {is} seen",
        "{a} {is} noted",
        "{np}",
        "{a} {is} identified",
        "the study shows {a}",
        "{a} {is} demonstrated",
        "{a} can be seen",
        "images demonstrate {a}",
    ),
    "new": (
        "there {is} now {a}, new {since}",
        "{a} {has} developed {since}",
        "interval development of {a}",
        "{a} {is} new {since}",
        "new {np}",
        "interval appearance of {a}",
        "{a} {was} not present previously",
    ),
    "increased": (
        "{the} {has} increased {since}",
        "interval increase in {the}",
        "{a} {is} seen, increased {since}",
        "{the} {is} larger than before",
        "{the} {has} progressed {since}",
        "worsening {np}",
        "increasing {np}",
        "{a} {has} worsened {since}",
    ),
    "decreased": (
        "{the} {has} decreased {since}",
        "interval decrease in {the}",
        "{a} {is} seen, decreased {since}",
        "{the} {is} smaller than before",
        "{the} {has} improved {since}",
        "improving {np}",
        "decreasing {np}",
        "{a} {is} less pronounced than before",
    ),
    "unchanged": (
        "{the} {is} unchanged {since}",
        "stable {np}",
        "{a} {is} again seen, unchanged",
        "unchanged {np}",
        "persistent {np}, similar to before",
        "{the} {is} stable {since}",
        "{a} {is} redemonstrated without change",
    ),
}

RESOLVED: tuple[str, ...] = (
    "the previously seen {np} {has} resolved",
    "interval resolution of the {np}",
    "the {np} {is} no longer seen",
    "the {np} on the prior study {has} cleared",
    "the earlier {np} {is} no longer present",
)

SINCE: tuple[str, ...] = (
    "since the prior study",
    "since the previous examination",
    "compared with the prior",
    "from the prior radiograph",
    "in the interval",
    "since the last study",
    "compared to the previous radiograph",
)

STABLE_CHEST: tuple[str, ...] = (
    "no significant interval change",
    "stable examination",
    "no change from the prior study",
    "unchanged appearance of the chest",
)

ADVICE: dict[str, tuple[str, ...]] = {
    "nodule": (
        "chest CT is recommended for further characterization",
        "recommend CT of the chest",
        "follow-up imaging is advised",
    ),
    "consolidation": (
        "follow-up to document clearing is recommended",
        "correlate clinically for infection",
        "radiographic follow-up after treatment is suggested",
    ),
    "pneumothorax": (
        "short-interval follow-up is recommended",
        "findings discussed with the referring team",
    ),
    "edema": ("correlate with volume status",),
    "pleural effusion": ("ultrasound may help if drainage is considered",),
}

# {} is PA or AP.
TECHNIQUES: dict[str, tuple[str, ...]] = {
    "two views": (
        "{} and lateral views of the chest were obtained",
        "frontal and lateral views",
        "two views of the chest, {} and lateral",
    ),
    "PA": (
        "single PA view of the chest",
        "frontal view of the chest",
        "PA radiograph of the chest",
    ),
    "AP": (
        "portable AP view of the chest",
        "single AP portable radiograph",
        "AP chest radiograph",
        "single portable view of the chest",
    ),
}
