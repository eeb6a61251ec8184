"""Every operation of the service as the call that carries it out, for the blocking and the asyncio client alike.

Studies are named by their StudyInstanceUID. Files are DICOM, JPEG or PNG, recognised by content.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from time import monotonic
from typing import Any, Literal, TypedDict
from urllib.parse import quote

from .calls import Call, File, bytes_of, json_of, nothing_of
from .errors import ClientError, JobFailed
from .exchange import Exchange, Pause, Retries, exchange
from .messages import (
    DeletionReply,
    Health,
    JobReply,
    JobsReply,
    ModelCard,
    OperationsReply,
    PromptSet,
    ReportRequest,
    ReportsReply,
    SearchFilters,
    SearchReply,
    SimilarityMapReply,
    StudiesReply,
    StudyReply,
    ZeroShotReply,
)

__all__ = [
    "RankBy",
    "SearchOptions",
    "cancel_job",
    "delete_study",
    "image",
    "job",
    "jobs",
    "model",
    "next_page",
    "overview",
    "ready",
    "rendering",
    "restore_study",
    "search",
    "send_fhir",
    "send_report",
    "similar",
    "similar_by_accession",
    "similarity_map",
    "similarity_overlay",
    "start_job",
    "store_studies",
    "study",
    "study_by_accession",
    "wait_for_job",
    "zero_shot",
]

RankBy = Literal["report", "image", "fused"]
View = Literal["frontal", "lateral"]
ENDED = ("succeeded", "failed", "cancelled")


class SearchOptions(TypedDict, total=False):
    """How to search; what each means is in the service's API reference."""

    top_k: int
    rank_by: RankBy
    image_weight: float
    text_weight: float
    without: Sequence[str]
    group_reports: bool
    exclude_own_patient: bool
    evidence: bool
    zero_shot: bool


def search(
    files: Sequence[File] = (),
    *,
    study_instance_uid: str | None = None,
    text: str | None = None,
    views: Sequence[str] = (),
    prior_files: Sequence[File] = (),
    prior_views: Sequence[str] = (),
    find_prior: bool = True,
    check_image: bool = True,
    options: SearchOptions | None = None,
    filters: SearchFilters | None = None,
) -> Call[SearchReply]:
    """Studies that resemble a study, sent or archived, or show what a text says, or both."""
    form = _study_form(files, study_instance_uid, views, check_image)
    form |= {"prior_views": list(prior_views)} if prior_views else {}
    form |= {"find_prior": "false"} if not find_prior else {}
    form |= {"text": text} if text is not None else {}
    form |= _fields(options) | _fields(filters)
    sent = [*(("files", file) for file in files), *(("prior_files", file) for file in prior_files)]
    return Call("POST", "/v1/search", json_of, form=form, files=sent)


def next_page(cursor: str) -> Call[SearchReply]:
    """The hits after a page; ``cursor``: its ``next_cursor``."""
    return Call("POST", "/v1/search/page", json_of, json={"cursor": cursor})


def similar(
    study_instance_uid: str, *, options: SearchOptions | None = None, filters: SearchFilters | None = None
) -> Call[SearchReply]:
    """Studies that resemble one of the archive."""
    path = f"/v1/studies/{quote(study_instance_uid, safe='')}/similar"
    return Call("GET", path, json_of, query=_fields(options) | _fields(filters))


def similar_by_accession(
    accession_number: str,
    *,
    institution: str | None = None,
    date: str | None = None,
    options: SearchOptions | None = None,
    filters: SearchFilters | None = None,
) -> Call[SearchReply]:
    """The same for the study with an accession number; institution, date: of that study, where several have it."""
    of = _of_accession(accession_number, institution, date)
    return Call("GET", "/v1/similar", json_of, query=of | _fields(options) | _fields(filters))


def zero_shot(
    files: Sequence[File] = (),
    *,
    study_instance_uid: str | None = None,
    views: Sequence[str] = (),
    prior_files: Sequence[File] = (),
    labels: Sequence[str] = (),
    prompts: Sequence[PromptSet] = (),
    check_image: bool = True,
) -> Call[ZeroShotReply]:
    """How well labels, or findings given as prompts, fit a study; without either, the built-in findings."""
    asked = {name: list(values) for name, values in (("labels", labels), ("prompts", prompts)) if values}
    form = _study_form(files, study_instance_uid, views, check_image)
    form |= {"request": json.dumps(asked)} if asked else {}
    sent = [*(("files", file) for file in files), *(("prior_files", file) for file in prior_files)]
    return Call("POST", "/v1/zero-shot", json_of, form=form, files=sent)


def similarity_map(
    phrase: str,
    files: Sequence[File] = (),
    *,
    study_instance_uid: str | None = None,
    views: Sequence[str] = (),
    check_image: bool = True,
) -> Call[SimilarityMapReply]:
    """Where on the frontal image the encoders see the words of a phrase, as numbers."""
    form = _study_form(files, study_instance_uid, views, check_image) | {"phrase": phrase, "format": "json"}
    return Call("POST", "/v1/similarity-map", json_of, form=form, files=[("files", file) for file in files])


def similarity_overlay(
    phrase: str,
    files: Sequence[File] = (),
    *,
    study_instance_uid: str | None = None,
    views: Sequence[str] = (),
    size: int = 512,
    check_image: bool = True,
) -> Call[bytes]:
    """The same over the image, as a PNG."""
    form = _study_form(files, study_instance_uid, views, check_image)
    form |= {"phrase": phrase, "format": "png", "size": str(size)}
    return Call("POST", "/v1/similarity-map", bytes_of, form=form, files=[("files", file) for file in files])


def study(study_instance_uid: str) -> Call[StudyReply]:
    """A study of the archive and its report."""
    return Call("GET", f"/v1/studies/{quote(study_instance_uid, safe='')}", json_of)


def study_by_accession(
    accession_number: str, *, institution: str | None = None, date: str | None = None
) -> Call[StudyReply]:
    """The same for the study with an accession number; institution, date: of that study, where several have it."""
    return Call("GET", "/v1/studies", json_of, query=_of_accession(accession_number, institution, date))


def image(study_instance_uid: str, *, view: View = "frontal", size: int = 512) -> Call[bytes]:
    """An image of the archive as a PNG for the screen."""
    path = f"/v1/studies/{quote(study_instance_uid, safe='')}/image"
    return Call("GET", path, bytes_of, query={"view": view, "size": str(size)})


def rendering(file: File, *, size: int = 1024) -> Call[bytes]:
    """A DICOM, JPEG or PNG image that is sent, as a PNG for the screen."""
    return Call("POST", "/v1/rendering", bytes_of, form={"size": str(size)}, files=[("file", file)])


def store_studies(files: Sequence[File]) -> Call[StudiesReply]:
    """Send DICOM files to the archive, streamed one after the other; a file that is sent twice is stored once.

    ``files`` of the reply says of each whether it was accepted, also where none was.
    """
    sent = [("files", file) for file in files]
    return Call("POST", "/v1/studies", json_of, also=(409,), files=sent)


def delete_study(study_instance_uid: str, *, dry_run: bool = False) -> Call[DeletionReply]:
    """Delete a study from the archive; it does not come back until it is restored."""
    path = f"/v1/studies/{quote(study_instance_uid, safe='')}"
    return Call("DELETE", path, json_of, query={"dry_run": "true"} if dry_run else {})


def restore_study(study_instance_uid: str) -> Call[None]:
    """Let a deleted study in again, when it is sent or ingested the next time."""
    return Call("POST", f"/v1/studies/{quote(study_instance_uid, safe='')}/restore", nothing_of)


def send_report(report: ReportRequest) -> Call[ReportsReply]:
    """Send one report; a newer version replaces, one that is sent twice counts once."""
    return Call("POST", "/v1/reports", json_of, also=(409,), json=report)


def send_fhir(resource: Mapping[str, Any]) -> Call[ReportsReply]:
    """Send a FHIR R4 DiagnosticReport or a Bundle of them, likewise."""
    headers = {"Content-Type": "application/fhir+json"}
    return Call("POST", "/v1/reports/fhir", json_of, also=(409,), headers=headers, json=resource)


def model() -> Call[ModelCard]:
    """The encoders, and the limits of the installation."""
    return Call("GET", "/v1/model", json_of)


def ready() -> Call[Health]:
    """Whether searches can be answered now, and why not."""
    return Call("GET", "/readyz", json_of, also=(503,))


def overview() -> Call[OperationsReply]:
    """How the installation is: archive, index, jobs, disk; each part with the moment it is of."""
    return Call("GET", "/v1/operations", json_of)


def start_job(kind: str, *, webhook: str | None = None, **arguments: Any) -> Call[JobReply]:
    """Ask for long work: ``start_job("index-build", keep=3)``. Not sent again where it may have been accepted."""
    asked = {"kind": kind, **arguments, **({"webhook": webhook} if webhook else {})}
    return Call("POST", "/v1/jobs", json_of, repeatable=False, json=asked)


def jobs(*, state: str | None = None, kind: str | None = None, limit: int = 50) -> Call[JobsReply]:
    """Jobs, the newest first."""
    chosen = {name: value for name, value in (("state", state), ("kind", kind)) if value}
    return Call("GET", "/v1/jobs", json_of, query={"limit": str(limit), **chosen})


def job(job_id: str) -> Call[JobReply]:
    """How far a job is, and what came of it."""
    return Call("GET", f"/v1/jobs/{quote(job_id, safe='')}", json_of)


def cancel_job(job_id: str) -> Call[JobReply]:
    """Call a job off."""
    return Call("DELETE", f"/v1/jobs/{quote(job_id, safe='')}", json_of)


def wait_for_job(
    retries: Retries, job_id: str, *, poll_s: float = 1.0, timeout_s: float | None = None
) -> Exchange[JobReply]:
    """The job once it has succeeded. Raises JobFailed, ClientError when it has not ended within ``timeout_s``."""
    began = monotonic()
    while True:
        found = yield from exchange(job(job_id), retries)
        if found["state"] == "succeeded":
            return found
        if found["state"] in ENDED:
            raise JobFailed(found)
        if timeout_s is not None and monotonic() - began + poll_s > timeout_s:
            raise ClientError(f"job {job_id} has not ended within {timeout_s:g} s")
        yield Pause(poll_s)


def _study_form(
    files: Sequence[File], study_instance_uid: str | None, views: Sequence[str], check_image: bool
) -> dict[str, str | list[str]]:
    form: dict[str, str | list[str]] = {}
    if study_instance_uid is not None:
        form["study_instance_uid"] = study_instance_uid
    if views:
        form["views"] = list(views)
    if not check_image:
        form["check_image"] = "false"
    return form


def _of_accession(number: str, institution: str | None, day: str | None) -> dict[str, str | list[str]]:
    return _fields({"accession_number": number, "accession_institution": institution, "accession_date": day})


def _fields(values: Mapping[str, Any] | None) -> dict[str, str | list[str]]:
    """As fields of a form or an address."""
    fields: dict[str, str | list[str]] = {}
    for name, value in (values or {}).items():
        if isinstance(value, (list, tuple)):
            fields[name] = [_word(item) for item in value]
        elif value is not None:
            fields[name] = _word(value)
    return fields


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, date) else str(value)
