"""Client of an ALTA retrieval service.

    from alta_client import Client

    with Client("http://localhost:8000", api_key="...") as alta:
        found = alta.search(["pa.dcm", "lateral.dcm"], options={"top_k": 5})
        for hit in alta.hits(found):
            print(hit["rank"], hit["score"], hit["study"]["study_instance_uid"])

``AsyncClient`` has the same methods to be awaited. Replies are typed dictionaries (``alta_client.messages``); whatever
else a call can end in is in ``alta_client.errors``.
"""

from .calls import File
from .client import AsyncClient, Client
from .errors import ClientError, JobFailed, Problem, Unreachable
from .exchange import Retries
from .operations import RankBy, SearchOptions

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "File",
    "JobFailed",
    "Problem",
    "RankBy",
    "Retries",
    "SearchOptions",
    "Unreachable",
]
