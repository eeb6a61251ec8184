"""TLS towards a DICOM peer, after BCP 195 (PS3.15 B.9, in newer editions B.12): 1.2 or later, forward secrecy,
authenticated encryption, the peer's certificate and host name verified; revocation is not checked."""

import ssl
from pathlib import Path
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, model_validator

__all__ = ["DicomTls", "PeerContext"]

CIPHERS: Final = "ECDHE+AESGCM"  # of TLS 1.2: those that RFC 9325 4.2 recommends; 1.3 has none that are weaker


class DicomTls(BaseModel):
    """Files in PEM. They are read once at the start, so that a wrong one is told then, and again for every connection:
    a certificate that was renewed needs no restart."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca: Path | None = None  # of those who sign the peer's certificate; None: the system's
    certificate: Path | None = None  # ours with those that lead to its root, for peers that ask for one
    key: Path | None = None  # of our certificate, without a password

    @model_validator(mode="after")
    def _can_be_used(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("tls: certificate and key go together")
        self.context()
        return self

    def context(self) -> "PeerContext":
        """Raises ValueError where a file cannot be read, or is not what it should be."""
        context = PeerContext(ssl.PROTOCOL_TLS_CLIENT)  # which verifies certificate and host name
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # `ca` may be an issuing one, whose root is not there
        if self.ca is None:
            context.load_default_certs()
        else:
            try:
                context.load_verify_locations(self.ca)
            except OSError as error:
                raise ValueError(f"tls: expected certificates in PEM in ca {self.ca}: {_cause(error)}") from None
        if self.certificate is not None and self.key is not None:
            try:
                # A password would be asked for at the terminal.
                context.load_cert_chain(self.certificate, self.key, password="")
            except OSError as error:
                raise ValueError(
                    f"tls: expected a certificate in PEM in {self.certificate} and its key, without a password,"
                    f" in {self.key}: {_cause(error)}"
                ) from None
        return context


class PeerContext(ssl.SSLContext):
    """A client's. unverified: why the peer was not believed, which pynetdicom would only log."""

    unverified: str | None = None


class _Socket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except ssl.SSLCertVerificationError as error:
            if isinstance(self.context, PeerContext):
                self.context.unverified = error.verify_message
            raise


PeerContext.sslsocket_class = _Socket


def _cause(error: OSError) -> Any:
    return getattr(error, "reason", None) or error.strerror or error
