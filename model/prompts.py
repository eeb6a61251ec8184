"""Built-in prompt ensembles for zero-shot scoring: the fourteen CheXpert observations.

Each finding has phrasings that assert it and phrasings that deny it, as a report would. The set's direction is the
mean of the un-normalised text projections, normalised once (GLoRIA's and ALTA's evaluation).
"""

from dataclasses import dataclass

__all__ = ["PROMPT_SETS", "PromptPair"]


@dataclass(frozen=True)
class PromptPair:
    positive: tuple[str, ...]
    negative: tuple[str, ...]


def _pair(names: tuple[str, ...], *more_positive: str, more_negative: tuple[str, ...] = ()) -> PromptPair:
    """Phrasings around synonyms of one finding, and some that fit it alone."""
    positive = tuple(phrase.format(name) for name in names for phrase in ("There is {}.", "{} is seen."))
    negative = tuple(phrase.format(name) for name in names for phrase in ("There is no {}.", "No evidence of {}."))
    return PromptPair(tuple(map(_capitalised, positive + more_positive)), negative + more_negative)


def _capitalised(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


PROMPT_SETS: dict[str, PromptPair] = {
    "No Finding": PromptPair(
        (
            "No acute cardiopulmonary abnormality.",
            "No acute cardiopulmonary process.",
            "Normal chest radiograph.",
            "The lungs are clear. The heart is normal in size.",
        ),
        (
            "Abnormal chest radiograph.",
            "There is an abnormality of the lungs, heart or pleura.",
        ),
    ),
    "Enlarged Cardiomediastinum": _pair(
        ("enlarged cardiomediastinum", "widening of the mediastinum"),
        "The mediastinum is widened.",
        "The cardiomediastinal silhouette is enlarged.",
        more_negative=(
            "The cardiomediastinal silhouette is normal.",
            "The mediastinal contours are normal.",
        ),
    ),
    "Cardiomegaly": _pair(
        ("cardiomegaly", "cardiac enlargement"),
        "The heart is enlarged.",
        "The cardiac silhouette is enlarged.",
        more_negative=(
            "The heart is normal in size.",
            "The cardiac silhouette is normal in size.",
        ),
    ),
    "Lung Opacity": _pair(
        ("pulmonary opacity", "airspace opacity"),
        "There is a hazy opacity in the lung.",
        more_negative=("The lungs are clear.",),
    ),
    "Lung Lesion": _pair(
        ("a pulmonary nodule", "a lung mass"),
        "A nodular opacity projects over the lung.",
        "There is a rounded opacity in the lung.",
        more_negative=("No pulmonary nodule or mass.", "No suspicious nodule."),
    ),
    "Edema": _pair(
        ("pulmonary edema", "interstitial edema"),
        "Pulmonary vascular congestion with interstitial edema.",
        "Bilateral perihilar opacities consistent with pulmonary edema.",
        more_negative=("The pulmonary vasculature is normal.",),
    ),
    "Consolidation": _pair(
        ("consolidation", "airspace consolidation"),
        "Focal consolidation in the lung.",
        "There is a focal airspace opacity.",
        more_negative=(
            "No focal consolidation.",
            "The lungs are clear of focal airspace disease.",
        ),
    ),
    "Pneumonia": _pair(
        ("pneumonia",),
        "Findings are consistent with pneumonia.",
        "Airspace opacity concerning for pneumonia.",
        more_negative=("No radiographic evidence of pneumonia.",),
    ),
    "Atelectasis": _pair(
        ("atelectasis", "linear atelectasis"),
        "Linear opacity at the lung base consistent with atelectasis.",
        "There is volume loss with atelectasis.",
        more_negative=("No atelectasis or volume loss.",),
    ),
    "Pneumothorax": _pair(
        ("a pneumothorax", "pneumothorax"),
        "A pleural line is visible, consistent with pneumothorax.",
        "There is an apical pneumothorax.",
        more_negative=("No pneumothorax is identified.",),
    ),
    "Pleural Effusion": _pair(
        ("a pleural effusion", "pleural fluid"),
        "There is blunting of the costophrenic angle by a pleural effusion.",
        "There is a layering effusion.",
        more_negative=("No pleural effusion.", "The costophrenic angles are sharp."),
    ),
    "Pleural Other": _pair(
        ("pleural thickening", "pleural scarring"),
        "There are pleural plaques.",
    ),
    "Fracture": _pair(
        ("a rib fracture", "a fracture"),
        "There is a displaced fracture.",
        more_negative=(
            "The osseous structures are intact.",
            "No acute osseous abnormality.",
        ),
    ),
    "Support Devices": _pair(
        (
            "a support device",
            "a central venous catheter",
            "an endotracheal tube",
            "a pacemaker",
            "a nasogastric tube",
        ),
        "Support devices are in place.",
        "Lines and tubes are in place.",
        more_negative=("No lines or tubes.", "No support devices."),
    ),
}
