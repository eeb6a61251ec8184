"""Whose an image is: the pseudonyms under which its patient may be known."""

from ..catalog import Catalog
from ..dicom import InstanceFacts
from ..tables import Study

__all__ = ["common_key", "id_key_of", "nobody_key", "patient_key_of"]


def nobody_key(catalog: Catalog, study_instance_uid: str) -> str:
    """Images without a Patient ID: a patient of their own for every study."""
    return catalog.patient_key(study_instance_uid, "\x1fstudy")


def patient_key_of(catalog: Catalog, facts: InstanceFacts) -> str:
    """The key of the patient whom an image names."""
    if not facts.patient_id:
        return nobody_key(catalog, facts.study_instance_uid or "")
    return catalog.patient_key(facts.patient_id, facts.issuer or "")


def id_key_of(catalog: Catalog, facts: InstanceFacts) -> str | None:
    """The key of the Patient ID alone, None where the image names no issuer."""
    if not facts.patient_id or not (facts.issuer or "").strip():
        return None
    return catalog.patient_key(facts.patient_id)


def common_key(catalog: Catalog, facts: InstanceFacts, study: Study) -> str | None:
    """The key of the one patient that image and study both can be, of the two the one that says more; else None."""
    key, held = patient_key_of(catalog, facts), study.patient
    nobody = nobody_key(catalog, study.study_instance_uid)
    if key in (held.key, nobody):
        return held.key
    if held.key == nobody:
        return key
    # One Patient ID of which only one side names the issuer (PS3.3 C.7.1.1: optional) is one patient in one study.
    id_key = id_key_of(catalog, facts)
    if id_key is None and held.id_key == key:
        return held.key
    return key if held.id_key is None and held.key == id_key else None
