"""Settings of results that are sent back; ``service.settings`` has the others."""

import re
from dataclasses import dataclass
from typing import Final, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from .access_settings import AccessSettings
from .dicom_tls import DicomTls

__all__ = ["DicomNode", "ReturnRoute", "ReturnSettings"]

AE_TITLE: Final = re.compile(r"[ -\[\]-~]{1,16}")  # PS3.5 6.2
DOORS: Final = ("dicom", "stow", "form")
DICOM_PORT: Final = 104
DICOM_TLS_PORT: Final = 2762  # dicom-tls at IANA, which PS3.15 B recommends


@dataclass(frozen=True)
class DicomNode:
    """Where C-STORE goes: `dicom://AE_TITLE@HOST[:PORT]`."""

    host: str
    port: int
    ae_title: str
    tls: DicomTls | None = None


class ReturnRoute(BaseModel):
    """One way back: what came by which doors, as what document, to whom."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    arrivals: tuple[str, ...] = Field(min_length=1)  # dicom, dicom:AE_TITLE, stow, form
    kind: Literal["sr", "fhir", "webhook"]
    to: str
    aet: str = "ALTA"  # ours, where an SR goes by C-STORE
    tls: DicomTls | None = None  # of C-STORE; None: in plain text
    max_age_days: int | None = Field(default=7, ge=0)  # of a study when it arrives; None: of any age
    similar: int = Field(default=5, ge=0, le=20)  # past studies that are named; of other patients
    method: Literal["put", "conditional"] = "put"  # of a FHIR resource: under our id, or by its identifier
    patient_system: str = ""  # URI of the Patient IDs in FHIR; empty: as the images say
    accession_system: str = ""  # URI of the accession numbers in FHIR, likewise
    tells: tuple[Literal["study_instance_uid", "accession_number"], ...] = ()  # in a webhook
    link: str = ""  # in a webhook: a URL with {study_instance_uid}

    @field_validator("arrivals")
    @classmethod
    def _known_doors(cls, arrivals: tuple[str, ...]) -> tuple[str, ...]:
        for arrival in arrivals:
            door, named, title = arrival.partition(":")
            if door not in DOORS or (named and (door != "dicom" or not _is_ae_title(title))):
                raise ValueError("expected dicom, dicom:AE_TITLE, stow or form")
        return arrivals

    @field_validator("aet")
    @classmethod
    def _our_title(cls, title: str) -> str:
        if not _is_ae_title(title):
            raise ValueError("expected an AE title of 1 to 16 ASCII characters")
        return title.strip(" ")

    @field_validator("patient_system", "accession_system")
    @classmethod
    def _is_uri(cls, system: str) -> str:
        if system and not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s|]+", system):
            raise ValueError("expected a URI, such as urn:oid:2.16.840.1.113883.19.5 or https://hospital.example/mrn")
        return system

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        parts = urlsplit(self.to)
        if parts.scheme == "dicom":
            if self.kind != "sr":
                raise ValueError("only an sr goes to dicom://; a fhir or webhook route has an http(s) URL")
            self._node_of()
        elif parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.fragment:
            also = ", or dicom://AE_TITLE@HOST:PORT" if self.kind == "sr" else ""
            raise ValueError(f"to: expected http(s)://HOST[:PORT]/PATH, credentials apart{also}")
        elif parts.query and self.kind != "webhook":
            raise ValueError("to: expected a base URL without a query")
        if self.tls is not None and parts.scheme != "dicom":
            raise ValueError("tls is of dicom://; over HTTP an https URL says it")
        if self.kind == "webhook" and not (self.tells or self.link):
            raise ValueError(
                "a webhook says nothing of a study unless told to: tells (study_instance_uid, accession_number) or link"
            )
        if self.kind != "fhir" and (self.patient_system or self.accession_system):
            raise ValueError("patient_system and accession_system are of fhir routes")
        if self.kind != "webhook" and (self.tells or self.link):
            raise ValueError("tells and link are of webhooks; an sr and a fhir report name their study anyway")
        if self.link and (
            urlsplit(self.link).scheme not in ("http", "https") or "{study_instance_uid}" not in self.link
        ):
            raise ValueError("link: expected an http(s) URL with {study_instance_uid} in it")
        return self

    @property
    def doors(self) -> list[tuple[str, str | None]]:
        """Each with the sender it is of; None: anybody."""
        found = (arrival.partition(":") for arrival in self.arrivals)
        return [(door, title.strip(" ") if named else None) for door, named, title in found]

    @property
    def node(self) -> DicomNode | None:
        """Where it goes by C-STORE; None where it goes over HTTP."""
        return self._node_of() if self.to.startswith("dicom:") else None

    def _node_of(self) -> DicomNode:
        """Raises ValueError."""
        parts = urlsplit(self.to)
        title = unquote(parts.username or "")
        if not parts.hostname or not _is_ae_title(title) or parts.path not in ("", "/") or parts.password:
            raise ValueError("to: expected dicom://AE_TITLE@HOST:PORT and nothing behind it")
        port = parts.port or (DICOM_TLS_PORT if self.tls else DICOM_PORT)
        return DicomNode(host=parts.hostname, port=port, ae_title=title.strip(" "), tls=self.tls)


class ReturnSettings(AccessSettings):
    return_routes: tuple[ReturnRoute, ...] = Field(
        default=(),
        description="What goes back for studies that were sent here, and where to: a JSON list of routes"
        " ([integrations.md](integrations.md#results-back)). `alta worker --watch` sends. Empty: nothing.",
    )
    return_credentials: dict[str, SecretStr] = Field(
        default={},
        description="Credentials for these: a JSON object of names of routes and `user:password` or `Bearer TOKEN`.",
    )
    return_quiet_s: float = Field(
        default=30.0,
        ge=0,
        description="Seconds without a new image after which a study counts as whole, and its results go back.",
    )

    @model_validator(mode="after")
    def _routes_are_told_apart(self) -> Self:
        names = [route.name for route in self.return_routes]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"return_routes names {', '.join(repeated)} more than once")
        over_http = {route.name for route in self.return_routes if route.node is None and route.kind != "webhook"}
        if unknown := sorted(set(self.return_credentials) - over_http):
            raise ValueError(f"return_credentials names {unknown}, which are no routes to an http(s) server")
        return self


def _is_ae_title(title: str) -> bool:
    return bool(AE_TITLE.fullmatch(title.strip(" ")))
