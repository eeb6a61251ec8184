"""What an installation can choose, read from ``ALTA_*`` environment variables."""

import base64
import re
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from .return_settings import ReturnSettings

__all__ = ["DEMO_ENCODERS", "Settings"]

DEMO_ENCODERS = Path(__file__).resolve().parent.parent / "model" / "demo"


class Settings(ReturnSettings):
    """Every field is an environment variable: ``max_top_k`` is ``ALTA_MAX_TOP_K``."""

    # An error must not repeat a value: it may be a secret.
    model_config = SettingsConfigDict(env_prefix="ALTA_", frozen=True, hide_input_in_errors=True)

    data_dir: Path = Field(
        default=Path("data"), description="Folder of the embedded database and the index generations."
    )
    database_url: str = Field(
        default="", description="SQLAlchemy URL of the catalog. Empty: the SQLite file `alta.db` in the data folder."
    )
    model_path: Path = Field(
        default=DEMO_ENCODERS, description="Folder of the encoders. Default: the shipped demo encoders."
    )
    device: str = Field(
        default="auto", pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$", description="`auto`, `cpu`, `cuda` or `cuda:N`."
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="`float32`, `bfloat16` or `auto`: bfloat16 where the device multiplies it in hardware"
        " (AVX-512-bf16, AMX, GPUs), else float32.",
    )

    min_free_mb: int = Field(
        default=2048, ge=0, description="Free disk space, in MiB, below which no sent or fetched object is stored."
    )

    milvus_uri: str = Field(
        default="",
        description="A Milvus server (`http://milvus:19530`): `alta index build` then keeps generations there unless"
        " `--engine` names another engine. Empty: files in the data folder.",
    )
    milvus_token: SecretStr = Field(default=SecretStr(""), description="`user:password` or API key for it.")
    milvus_prefix: str = Field(
        default="alta",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$",
        description="What its collections are named by; another one for every archive on one server.",
    )

    receive: bool = Field(
        default=False, description="Studies and reports may be sent to the service, with the scope `write`."
    )

    stow_max_mb: int = Field(
        default=2048,
        ge=1,
        description="Largest body that brings instances (STOW-RS, POST /v1/studies), all together, in MiB.",
    )

    ingest_roots: tuple[Path, ...] = Field(
        default=(),
        description="Folders of the worker's machine that jobs may take studies in from (JSON list of absolute paths)."
        " Empty: none; `alta ingest` takes in any.",
    )
    webhook_origins: tuple[str, ...] = Field(
        default=(),
        description="Origins that may be told of the end of a job (JSON list of `https://HOST[:PORT]`; `http` where the"
        " way there is trusted). Empty: none.",
    )
    webhook_secret: SecretStr = Field(
        default=SecretStr(""),
        description="What webhooks are signed with (Standard Webhooks): `whsec_` and the Base64 of 24 to 64 random"
        " bytes.",
    )

    dicomweb_origins: dict[str, str] = Field(
        default={},
        description="DICOMweb servers that studies may be fetched from: a JSON object of names and base URLs.",
    )
    dicomweb_credentials: dict[str, SecretStr] = Field(
        default={},
        description="Credentials for these: a JSON object of the same names and `user:password` or `Bearer TOKEN`.",
    )

    viewer_url: str = Field(
        default="",
        description="Where the hospital's viewer shows a study, as a link of the page: an http(s) URL with"
        " `{study_instance_uid}` or `{accession_number}` in it, such as"
        " `https://ohif.example/viewer?StudyInstanceUIDs={study_instance_uid}`. Empty: no link.",
    )

    max_upload_mb: int = Field(default=64, ge=1, description="Largest request body, all files together, in MiB.")
    max_files: int = Field(default=8, ge=1, description="Most files in one request, prior study included.")
    check_images: bool = Field(
        default=True,
        description="Whether images that are asked with are checked for being chest radiographs, upright and not"
        " inverted, unless a request says `check_image=false`.",
    )
    max_top_k: int = Field(default=100, ge=1, description="Most hits one request may ask for.")
    default_top_k: int = Field(default=10, ge=1, description="Hits returned when the request names no number.")
    max_requests: int = Field(
        default=64,
        ge=1,
        description="Requests worked on at once; the next one is answered 429 before its body is read. Health, metrics"
        " and documents do not count.",
    )
    request_timeout_s: float = Field(
        default=60.0, gt=0, description="Seconds from the end of a request's body within which it is answered."
    )
    batch_size: int = Field(
        default=8,
        ge=1,
        description="Images that are encoded together at most; of texts, four times as many. More than 8 are worth it"
        " on a GPU only.",
    )
    batch_wait_ms: float = Field(
        default=4.0,
        ge=0,
        description="Milliseconds that a query waits for others to be encoded with, where others came lately.",
    )
    text_cache: int = Field(
        default=4096,
        ge=0,
        description="Texts whose embeddings are kept in memory, under a keyed hash and without the text. 0: none.",
    )
    decode_workers: int = Field(
        default=2,
        ge=0,
        description="Processes that decode images, one each at once; a file that crashes one costs only that request."
        " 0: decode in the service process, for tests.",
    )
    drain_s: float = Field(
        default=0,
        ge=0,
        description="Seconds after SIGTERM in which requests are still accepted while `/readyz` says `stopping`, so"
        " that a load balancer turns elsewhere first.",
    )
    shutdown_timeout_s: int = Field(
        default=30, ge=1, description="Seconds that requests under way have to end after that, before they are cut off."
    )
    traces: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="OpenTelemetry traces (extra `traces`): `on`, `off`, or `auto`, where `OTEL_EXPORTER_OTLP_ENDPOINT`"
        " names a collector. All else is chosen by the standard's `OTEL_*` variables.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe message logged."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="How a line of the log is written: `text`, or `json`, one object a line."
    )

    @field_validator("model_path")
    @classmethod
    def _empty_path_is_the_default(cls, path: Path) -> Path:
        return DEMO_ENCODERS if path == Path() else path  # ALTA_MODEL_PATH= in an environment file

    @field_validator("ingest_roots")
    @classmethod
    def _absolute_paths(cls, roots: tuple[Path, ...]) -> tuple[Path, ...]:
        if relative := [str(root) for root in roots if not root.is_absolute()]:
            raise ValueError(f"{', '.join(relative)}: expected absolute paths")
        return roots

    @field_validator("webhook_origins")
    @classmethod
    def _bare_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            parts = urlsplit(origin)
            bare = parts.scheme in ("http", "https") and parts.hostname and origin == f"{parts.scheme}://{parts.netloc}"
            if not bare or "@" in parts.netloc:
                raise ValueError(f"{origin}: expected http(s)://HOST[:PORT] and nothing behind it")
        return origins

    @field_validator("viewer_url")
    @classmethod
    def _names_a_study(cls, template: str) -> str:
        named = set(re.findall(r"\{([^{}]*)\}", template))
        plain = re.sub(r"\{[^{}]*\}", "1", template)
        parts = urlsplit(plain)
        if template and (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or re.search(r"[{}\s]", plain)
            or re.search(r"[{@]", urlsplit(template).netloc)
            or not named
            or named - {"study_instance_uid", "accession_number"}
        ):
            raise ValueError("expected http(s)://HOST/... with {study_instance_uid} or {accession_number} in it")
        return template

    @field_validator("webhook_secret")
    @classmethod
    def _strong_secret(cls, secret: SecretStr) -> SecretStr:
        if secret.get_secret_value():
            _webhook_key(secret)
        return secret

    @model_validator(mode="after")
    def _webhooks_are_signed(self) -> "Settings":
        if self.webhook_origins and not self.webhook_secret.get_secret_value():
            raise ValueError("webhook_origins needs webhook_secret: what is not signed anybody could have sent")
        return self

    @model_validator(mode="after")
    def _returned_webhooks_have_an_origin(self) -> "Settings":
        allowed = {_place(origin) for origin in self.webhook_origins}
        for route in self.return_routes:
            if route.kind == "webhook" and _place(route.to) not in allowed:
                raise ValueError(f"return_routes: {route.name} goes to an origin that webhook_origins has not")
        return self

    @field_validator("dicomweb_origins")
    @classmethod
    def _http_urls(cls, origins: dict[str, str]) -> dict[str, str]:
        for name, url in origins.items():
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
                raise ValueError(f"{name}: expected http(s)://HOST[:PORT]/PATH, credentials apart")
        return origins

    @model_validator(mode="after")
    def _credentials_have_an_origin(self) -> "Settings":
        if unknown := set(self.dicomweb_credentials) - set(self.dicomweb_origins):
            raise ValueError(f"dicomweb_credentials names {sorted(unknown)}, which dicomweb_origins has not")
        return self

    @model_validator(mode="after")
    def _default_within_limit(self) -> "Settings":
        if self.default_top_k > self.max_top_k:
            raise ValueError(f"default_top_k ({self.default_top_k}) is over max_top_k ({self.max_top_k})")
        return self

    @property
    def catalog_url(self) -> str:
        return self.database_url or f"sqlite:///{(self.data_dir / 'alta.db').absolute()}"

    @property
    def webhook_key(self) -> bytes:
        """The bytes that webhooks are signed with; none where nobody is told."""
        return _webhook_key(self.webhook_secret) if self.webhook_secret.get_secret_value() else b""

    @property
    def generations_dir(self) -> Path:
        return self.data_dir / "generations"

    @property
    def engine(self) -> str | None:
        """The vector engine to build with where none is named; None: by size."""
        return "milvus" if self.milvus_uri else None

    @property
    def received_dir(self) -> Path:
        """The archive's own copies of what was sent to it or fetched (``index.intake.received``)."""
        return self.data_dir / "received"

    @property
    def min_free_bytes(self) -> int:
        return self.min_free_mb * 1024 * 1024

    @property
    def max_upload_bytes(self) -> int:
        return self.max_upload_mb * 1024 * 1024

    @property
    def stow_max_bytes(self) -> int:
        return self.stow_max_mb * 1024 * 1024


def _place(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _webhook_key(secret: SecretStr) -> bytes:
    """Raises ValueError, without the secret."""
    scheme, _, encoded = secret.get_secret_value().partition("_")
    try:
        key = base64.b64decode(encoded, validate=True)
    except ValueError:
        key = b""
    if scheme != "whsec" or not 24 <= len(key) <= 64:
        raise ValueError("expected whsec_ and the Base64 of 24 to 64 bytes")
    return key
