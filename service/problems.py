"""Every problem the service answers with: its slug, status, title and the text that ``GET /problems/{slug}`` gives."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["PROBLEMS", "ProblemType"]


@dataclass(frozen=True)
class ProblemType:
    status: int
    title: str
    text: str


PROBLEMS: Mapping[str, ProblemType] = {
    # Files that are no usable radiograph
    "empty-file": ProblemType(422, "The file is empty", "A file of no bytes was sent."),
    "not-an-image": ProblemType(
        415,
        "Not a DICOM, JPEG or PNG file",
        "Files are recognised by their content, never by their name. Send DICOM (PS3.10), JPEG or PNG.",
    ),
    "not-dicom": ProblemType(415, "Not a DICOM file", "DICOM files need the preamble and DICM prefix of PS3.10."),
    "truncated": ProblemType(
        422, "The file is incomplete or broken", "The file ends early or cannot be parsed. Send it again."
    ),
    "no-transfer-syntax": ProblemType(
        422, "No transfer syntax", "The DICOM file meta information must name the transfer syntax."
    ),
    "no-pixel-data": ProblemType(
        422, "No pixel data", "The DICOM object has no image: a report, a key object or a header only."
    ),
    "multi-frame": ProblemType(422, "More than one frame", "Only single-frame images are read."),
    "unsupported-photometric": ProblemType(
        422, "Not a greyscale image", "DICOM images must be MONOCHROME1 or MONOCHROME2."
    ),
    "unsupported-transfer-syntax": ProblemType(
        422,
        "Unsupported compression",
        "No decoder for the transfer syntax, or it is Deflated. Send it uncompressed or as JPEG 2000.",
    ),
    "undecodable": ProblemType(422, "The image cannot be decoded", "The pixel data contradict the header or broke."),
    "too-many-pixels": ProblemType(422, "Too many pixels", "The image is far larger than any detector's."),
    "decoder-crashed": ProblemType(
        422, "The image ended its decoder", "The process that decoded the file broke down; the service did not."
    ),
    "decoder-timeout": ProblemType(
        422, "The image kept its decoder busy", "The file was not decoded within the time that a usable one needs."
    ),
    "too-much-memory": ProblemType(
        422, "The image needs too much memory", "Decoding the file would take more memory than a usable one needs."
    ),
    "blank-image": ProblemType(
        422, "The image is blank", "Every pixel has nearly the same value: nothing to search with."
    ),
    "wrong-modality": ProblemType(
        422, "Not a radiograph", "Only projection radiographs (CR, DX and their kin) can be searched with."
    ),
    "not-a-chest-radiograph": ProblemType(
        422, "Not a chest radiograph", "The DICOM header says that another body part was examined."
    ),
    "unlike-a-chest-radiograph": ProblemType(
        422,
        "Not like a chest radiograph",
        "The picture itself shows something else, whatever its header says. `check_image=false` searches all the same.",
    ),
    "not-human": ProblemType(422, "Not a human patient", "The DICOM header names another species."),
    "for-processing": ProblemType(
        422,
        "A raw detector image",
        "The DICOM header says FOR PROCESSING. Send the image FOR PRESENTATION, which is the one that is read.",
    ),
    "bad-uid": ProblemType(422, "Not a DICOM UID", "UIDs are at most 64 digits and dots (PS3.5 9.1)."),
    "own-result": ProblemType(
        422,
        "A result of this product",
        "What this product made and sent comes back: it is no report of a study, and was not taken in.",
    ),
    # Requests
    "several-studies": ProblemType(
        422,
        "Files of more than one study",
        "`files` takes the images of one study; an earlier study of the patient goes into `prior_files`.",
    ),
    "no-frontal-image": ProblemType(
        422,
        "No frontal image",
        "The encoders read a study through its frontal image; a lateral one only adds to it. Send a frontal (PA or"
        " AP) image as well, or name the view in `views` where the header is wrong or a frontal picture was taken for a"
        " lateral one.",
    ),
    "bad-view": ProblemType(
        422,
        "Views do not fit the files",
        "`views` holds one word for each file, in the same order: frontal, lateral, PA, AP, LL, RL or auto.",
    ),
    "bad-prior": ProblemType(
        422, "Not a prior study", "`prior_files` takes an earlier study of the same patient as `files`."
    ),
    "no-file": ProblemType(
        422,
        "No study",
        "Send at least one file in the form field `files`, or the `study_instance_uid` of an archived study.",
    ),
    "phrase-without-words": ProblemType(
        422, "No word to look for", "A similarity map needs a phrase with at least one word that the encoders know."
    ),
    "phrase-too-long": ProblemType(
        422, "The phrase is too long", "A similarity map is made of a phrase that is read whole. Ask for a part of it."
    ),
    "bad-query": ProblemType(
        422,
        "Not clear what to search with",
        "Send the files of one study, or `study_instance_uid`, or `text`, or `text` with one of the others.",
    ),
    "bad-cursor": ProblemType(
        422, "Not a cursor of this archive", "A cursor is used as it was given, within an hour. Search again."
    ),
    "cursor-outdated": ProblemType(
        410, "The hits cannot be gone on with", "The index was built with other encoders meanwhile. Search again."
    ),
    "too-many-files": ProblemType(413, "Too many files", "A study query has a handful of images. See GET /v1/model."),
    "file-too-large": ProblemType(
        413,
        "The upload is too large",
        "The request body, all files together, is over ALTA_MAX_UPLOAD_MB (STOW-RS: ALTA_STOW_MAX_MB; reports:"
        " 16 MiB; other JSON: 1 MiB).",
    ),
    "text-empty": ProblemType(422, "The text is empty", "Send at least one word."),
    "top-k-out-of-range": ProblemType(
        422, "top_k is out of range", "`top_k` is a whole number from 1 to ALTA_MAX_TOP_K."
    ),
    "bad-filter": ProblemType(
        422, "A filter cannot be used", "The problem's `detail` or `errors` name the filter and the values expected."
    ),
    "bad-prompts": ProblemType(
        422, "Labels or prompts cannot be used", "Send either distinct labels or prompts with phrasings on both sides."
    ),
    "invalid-request": ProblemType(
        422, "The request is not understood", "A field is missing or malformed; `errors` names each one."
    ),
    "bad-request": ProblemType(400, "The request cannot be read", "The body is no well-formed JSON or form."),
    "bad-input": ProblemType(422, "The input cannot be used", "`detail` says what was expected and found."),
    # The archive
    "unknown-study": ProblemType(
        404, "Unknown study", "The archive has no study with that StudyInstanceUID, or accession number."
    ),
    "ambiguous-accession": ProblemType(
        409,
        "Several studies have the accession number",
        "Accession numbers are unique within one site at best. Narrow it with `accession_institution` or"
        " `accession_date`, or ask by StudyInstanceUID.",
    ),
    "no-such-image": ProblemType(404, "The study has no such image", "No readable image of that view in the archive."),
    "empty-index": ProblemType(
        503,
        "Nothing to search in yet",
        "No generation of the index is live. Run `alta ingest`, `alta embed` and `alta index build`; the service picks"
        " the generation up without a restart. 503 because the same request succeeds afterwards.",
    ),
    "model-mismatch": ProblemType(
        503,
        "The index was built with other encoders",
        "Embeddings of different encoders cannot be compared, and those of the index are not where it was built with"
        " them, nor at ALTA_MODEL_PATH. Put them there, or run `alta embed` and `alta index build` with those the"
        " service has.",
    ),
    "model-loading": ProblemType(
        503,
        "The encoders are being loaded",
        "The index that went live was built with other encoders than those loaded; the service loads them now.",
    ),
    "archive-error": ProblemType(503, "The archive cannot answer", "The operator finds the reason in the log."),
    "receiving-disabled": ProblemType(
        403,
        "The service takes nothing in",
        "Studies and reports can be sent and deleted, and jobs be asked for, only where ALTA_RECEIVE is 1.",
    ),
    "unknown-job": ProblemType(404, "Unknown job", "No job has that id. GET /v1/jobs lists them."),
    "too-many-jobs": ProblemType(
        429, "Too many jobs wait", "A thousand jobs wait to be done. Is `alta worker` running? Ask again later."
    ),
    "path-not-allowed": ProblemType(
        403,
        "Nothing is taken in from that path",
        "A job takes in what lies under one of ALTA_INGEST_ROOTS, links followed; without any, nothing. As the `error`"
        " of a job it may also mean that nothing is there.",
    ),
    "webhook-not-allowed": ProblemType(
        422,
        "Nobody is told at that address",
        "Jobs tell their end to URLs whose scheme, host and port are one of ALTA_WEBHOOK_ORIGINS.",
    ),
    "worker-lost": ProblemType(
        503,
        "The job lost its worker",
        "Its worker died or fell silent five times. Look why (memory, disk, a broken file), then ask for the job"
        " again: it goes on where it was. The `error` of a job; no request is answered with it.",
    ),
    "too-busy": ProblemType(
        503,
        "Too many senders at once",
        "An eighth of ALTA_MAX_REQUESTS can store instances. Send it again a little later.",
    ),
    "overloaded": ProblemType(
        429,
        "Too many requests at once",
        "ALTA_MAX_REQUESTS are being worked on. Nothing was read; send it again after Retry-After.",
    ),
    "request-timed-out": ProblemType(
        503,
        "The answer took too long",
        "The service had too much to do to answer within ALTA_REQUEST_TIMEOUT_S. Send it again after Retry-After.",
    ),
    "client-left": ProblemType(
        499, "The client has gone", "The connection was closed before the answer; only the log and metrics see this."
    ),
    "storage-full": ProblemType(
        503,
        "The disk is nearly full",
        "Less than ALTA_MIN_FREE_MB would be free. Nothing was stored; send it again when the operator has made room.",
    ),
    "wrong-media-type": ProblemType(
        415,
        "Not the media type expected",
        'STOW-RS takes `multipart/related; type="application/dicom"` (PS3.18 10.5), one DICOM file a part; reports are'
        " `application/fhir+json`; forms are in UTF-8.",
    ),
    "bad-fhir": ProblemType(
        422,
        "No FHIR reports",
        "The body is a DiagnosticReport of FHIR R4, or a Bundle with at least one and at most 1000 of them.",
    ),
    "bad-multipart": ProblemType(
        400,
        "The multipart body cannot be read",
        "It has no boundary, no part or too many, or ends before its closing boundary (RFC 2046 5.1). Instances before"
        " that point may have been taken in; sending them again does no harm.",
    ),
    "not-acceptable": ProblemType(406, "No acceptable media type", "The answer is application/dicom+json."),
    "request-timeout": ProblemType(
        408, "The body did not come", "Nothing for a minute, or all too slowly. Send it again."
    ),
    # Who may ask
    "authentication-required": ProblemType(
        401, "Nobody is named", "Send `Authorization: Bearer` and an API key (`alta keys create`) or a token."
    ),
    "bad-credentials": ProblemType(
        401, "The credentials are not valid", "They are unknown, expired, revoked or not for this service."
    ),
    "missing-scope": ProblemType(
        403, "The credentials do not allow this", "`scope` names what is missing: search, write, admin or metrics."
    ),
    "too-many-failures": ProblemType(
        429, "Too many failed attempts", "This address sent wrong credentials too often. Wait for Retry-After."
    ),
    "rate-limited": ProblemType(
        429,
        "Too many requests a minute",
        "`RateLimit-Policy` says how many the caller may send, `Retry-After` when the next one.",
    ),
    "quota-used-up": ProblemType(
        429, "No more requests today", "The caller's requests of this day (UTC) are used up. See `Retry-After`."
    ),
    "identity-provider-unavailable": ProblemType(
        503, "The token cannot be checked", "ALTA_OIDC_ISSUER does not give its keys. Send it again after Retry-After."
    ),
    "audit-unavailable": ProblemType(
        503,
        "The audit cannot be written",
        "Nothing is answered that could not be written down. What was sent or deleted may have been taken in"
        " nevertheless; sending it again does no harm.",
    ),
    # HTTP itself
    "compressed-body": ProblemType(
        415, "The body is compressed", "Bodies are taken as they are, without a Content-Encoding."
    ),
    "not-found": ProblemType(404, "Not found", "There is nothing at this address. GET /openapi.json lists the calls."),
    "method-not-allowed": ProblemType(405, "Method not allowed", "The `Allow` header names the methods."),
    "unknown-host": ProblemType(
        421, "Unknown host name", "The request names a host that is not in ALTA_ALLOWED_HOSTS."
    ),
    "internal-error": ProblemType(
        500, "Something went wrong here", "A defect of the service. Give the operator the `request_id`."
    ),
}
