"""What is said of an image that does not look like a chest radiograph the right way round."""

from collections.abc import Mapping

from model.errors import ImageError
from model.unlike import Appearance

from ..schemas import Notice, QueryFile

__all__ = ["require_chest", "warning_of"]

_ANYWAY = "Send `check_image=false` to search with it all the same."

WARNINGS: Mapping[Appearance, tuple[str, str]] = {
    "doubtful": (
        "unlike-a-chest-radiograph",
        "may be no chest radiograph, or an unusual one: hits may mean little.",
    ),
    "inverted": (
        "looks-inverted",
        "looks inverted, air bright and bone dark: hits may mean little. Send it with dense tissue bright; in DICOM,"
        " with the right Photometric Interpretation.",
    ),
    "turned": (
        "looks-turned",
        "looks turned by a quarter or a half: hits may mean little. Send it upright; in DICOM, with its Patient"
        " Orientation.",
    ),
}


def require_chest(appearance: Appearance) -> None:
    """Raises ImageError: blank-image, unlike-a-chest-radiograph."""
    if appearance == "blank":
        raise ImageError(f"The image has hardly any contrast. {_ANYWAY}", "blank-image")
    if appearance == "unlike":
        raise ImageError(
            f"Expected a frontal or lateral chest radiograph; the picture shows something else. {_ANYWAY}",
            "unlike-a-chest-radiograph",
        )


def warning_of(appearance: Appearance, file: QueryFile) -> Notice | None:
    """What the reply says of a file that is searched with all the same."""
    if appearance not in WARNINGS:
        return None
    code, detail = WARNINGS[appearance]
    return Notice(code=code, detail=f"Image {file.position} of `{file.field}` {detail}")
