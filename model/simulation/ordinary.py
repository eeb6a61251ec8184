"""The words of simulated reports for what is absent or ordinary: negations, clear lungs, the normal chest."""

__all__ = [
    "CLEAR_LUNGS",
    "DENIALS",
    "HEART_NORMAL",
    "NEGATIVES",
    "NORMAL_CHEST",
    "NO_ACUTE_DISEASE",
    "ORDINARY",
]

NEGATIVES: dict[str, tuple[str, ...]] = {
    "pleural effusion": ("pleural effusion", "effusion", "pleural fluid"),
    "pneumothorax": ("pneumothorax",),
    "consolidation": (
        "focal consolidation",
        "consolidation",
        "airspace consolidation",
        "focal airspace opacity",
    ),
    "edema": (
        "pulmonary edema",
        "edema",
        "overt pulmonary edema",
        "vascular congestion",
    ),
    "atelectasis": ("atelectasis",),
    "nodule": ("nodule", "suspicious nodule", "pulmonary nodule"),
    "cardiomegaly": ("cardiomegaly", "cardiac enlargement"),
    "support devices": ("support devices", "lines or tubes", "indwelling devices"),
}

DENIALS: tuple[str, ...] = (
    "no {}",
    "no {}",
    "there is no {}",
    "no evidence of {}",
    "negative for {}",
    "there is no evidence of {}",
    "no {} is seen",
    "no {} is identified",
    "without {}",
)

CLEAR_LUNGS: tuple[str, ...] = (
    "the lungs are clear",
    "lungs are clear bilaterally",
    "both lungs are clear",
    "clear lungs",
    "the lung fields are clear",
    "the pulmonary parenchyma is clear",
    "the lungs are clear without focal abnormality",
    "lungs clear",
    "the lungs appear normal",
)

HEART_NORMAL: tuple[str, ...] = (
    "the heart is normal in size",
    "heart size is normal",
    "the cardiac silhouette is normal",
    "normal heart size",
    "the cardiac silhouette is not enlarged",
    "heart size is within normal limits",
    "the heart is not enlarged",
    "cardiac size is unremarkable",
    "the cardiothoracic ratio is within normal limits",
)

ORDINARY: dict[str, tuple[str, ...]] = {
    "mediastinum": (
        "the mediastinal contours are normal",
        "mediastinal and hilar contours are unremarkable",
        "the mediastinum is of normal width",
        "normal mediastinal contours",
        "the hila are unremarkable",
        "the aortic contour is well defined",
        "hilar structures are symmetric",
        "no mediastinal widening",
        "superior mediastinal borders are sharp",
        "the central airways are patent",
        "the trachea is midline",
    ),
    "bones": (
        "no aggressive osseous lesion",
        "the shoulders are aligned",
        "no vertebral compression deformity",
        "chest wall soft tissues are unremarkable",
        "no acute osseous abnormality",
        "the bones are intact",
        "osseous structures are unremarkable",
        "no displaced rib fracture",
        "visualized skeleton is unremarkable",
        "no acute bony findings",
        "the imaged bones and soft tissues are unremarkable",
        "the ribs and clavicles are intact",
    ),
    "abdomen": (
        "no free air beneath the diaphragm",
        "no subdiaphragmatic free gas",
        "the visualized upper abdomen is unremarkable",
        "the upper abdomen is unremarkable",
    ),
    "volumes low": (
        "lung volumes are low",
        "low lung volumes",
        "inspiratory effort is shallow",
        "the lungs are hypoinflated",
    ),
    "volumes full": (
        "the lungs are well expanded",
        "good inspiratory effort",
        "the lungs are well inflated",
        "lung volumes are normal",
    ),
    "aorta": (
        "the aortic knob is prominent",
        "the thoracic aorta is tortuous",
        "prominent aortic arch",
    ),
    "scoliosis": (
        "mild scoliosis of the thoracic spine",
        "mild curvature of the thoracic spine",
    ),
    "rotated": (
        "the patient is slightly rotated",
        "slight patient rotation",
        "positioning is mildly rotated",
    ),
}

NO_ACUTE_DISEASE: tuple[str, ...] = (
    "no acute cardiopulmonary process",
    "no acute cardiopulmonary abnormality",
    "no acute intrathoracic process",
    "no radiographic evidence of acute disease",
    "no acute findings in the chest",
    "no active disease in the chest",
    "no evidence of acute cardiopulmonary disease",
    "nothing acute in the chest",
    "no acute pulmonary disease",
    "no acute radiographic abnormality of the thorax",
    "no acute cardiothoracic abnormality detected",
)

NORMAL_CHEST: tuple[str, ...] = (
    "normal chest radiograph",
    "unremarkable chest radiograph",
    "clear chest",
    "normal examination of the chest",
    "normal study",
    "unremarkable exam",
    "chest within normal limits",
)
