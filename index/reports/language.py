"""The language of a report: as its source says, else as its words show.

Words are judged by py3langid (a naive Bayes model over byte n-grams, Lui and Baldwin 2012), which is offline and always
gives one text one answer. Where it is not sure nothing is said, unless a short text has words that only English
reports have.
"""

import re
from functools import cache
from typing import Final

from py3langid.langid import MODEL_FILE, LanguageIdentifier

__all__ = ["ENGLISH", "detect_language", "primary_language"]

ENGLISH: Final = "en"
SURE: Final = 0.7  # posterior; a wrong language is worse than none
ENOUGH: Final = 2_000  # characters that are looked at

# Those in which hospitals report, so that a sentence of Latin terms is not taken for Latin or Galician.
_LANGUAGES: Final = (
    "ar", "bg", "bs", "ca", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "he", "hi", "hr", "hu", "id",
    "it", "ja", "ko", "lt", "lv", "ms", "nl", "no", "pl", "pt", "ro", "ru", "sk", "sl", "sr",
    "sv", "th", "tr", "uk", "vi", "zh",
)  # fmt: skip
_ENGLISH_ONLY: Final = re.compile(
    r"\b(?:the|are|with|and|there|this|has|not|within|limits|since|both|heart|lungs?|clear|right|left|chest|size|seen"
    r"|acute|disease|enlarged|unremarkable|unchanged|stable|findings|effusions?|upper|lower|lobes?|small|mild|tube|line"
    r"|cardiomegaly|atelectasis|opacity|opacities|thickening|scarring|increased|decreased|evidence)\b"
)
_OTHER_ONLY: Final = re.compile(
    r"\b(?:kein\w*|sin|sem|sans|pas|senza|geen|ingen|brak|der|und|el|la|le|il|os|de|del|di)\b"
)
# ISO 639-2 and -3 codes, as HL7 and DICOM senders write them, to the shorter code that BCP 47 asks for.
_SHORTER: Final = {
    "eng": "en", "deu": "de", "ger": "de", "fra": "fr", "fre": "fr", "spa": "es", "ita": "it", "por": "pt", "nld": "nl",
    "dut": "nl", "dan": "da", "swe": "sv", "nor": "no", "nob": "nb", "fin": "fi", "pol": "pl", "ces": "cs", "cze": "cs",
    "rus": "ru", "tur": "tr", "jpn": "ja", "kor": "ko", "zho": "zh", "chi": "zh", "ara": "ar", "heb": "he",
}  # fmt: skip


def primary_language(tag: str | None) -> str | None:
    """The primary subtag of a BCP 47 tag (``en`` of ``en-US``); None for what is no tag."""
    found = re.fullmatch(r"([A-Za-z]{2,3})(?:[-_][A-Za-z0-9_-]*)?", (tag or "").strip())
    if found is None:
        return None
    code = found[1].lower()
    return _SHORTER.get(code, code)


def detect_language(text: str) -> str | None:
    """The primary tag of the language that a text is written in; None where its words do not tell. Thread-safe."""
    text = text[:ENOUGH]
    language, sure = _identifier().classify(text)
    if sure >= SURE:
        return str(language)
    words = text.lower()
    if text.isascii() and _ENGLISH_ONLY.search(words) and not _OTHER_ONLY.search(words):
        return ENGLISH
    return None


@cache
def _identifier() -> LanguageIdentifier:
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(_LANGUAGES)
    return identifier
