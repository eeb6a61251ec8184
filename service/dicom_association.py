"""An association with a DICOM peer that neither hangs nor stays open."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.association import Association

from .dicom_tls import PeerContext
from .return_settings import DicomNode

__all__ = ["associated"]


@contextmanager
def associated(entity: AE, node: DicomNode, context: PeerContext | None, silence_s: float) -> Iterator[Association]:
    """What the peer made of it: established, rejected, or neither; at the end it is released and its socket closed.

    context: of ``DicomTls.context``, for TLS. silence_s: after which a peer that says nothing is given up.
    """
    opened: list[Any] = []  # pynetdicom leaves a connection open whose peer went first

    def limit(event: Any) -> None:
        opened.append(event.assoc.dul.socket.socket)
        opened[-1].settimeout(silence_s)  # it waits in recv for ever where a TLS 1.3 ticket came and then nothing

    association = entity.associate(
        node.host,
        node.port,
        ae_title=node.ae_title,
        tls_args=(context, node.host) if context else None,
        evt_handlers=[(evt.EVT_CONN_OPEN, limit)],
    )
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
        for connection in opened:
            connection.close()
