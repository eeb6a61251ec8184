"""A Milvus server or cluster as the engine of archives that one machine no longer holds.

A place is a collection of ids and vectors. Its settings are written to it last, so a collection without them is a
build that did not end. Axes: N rows, D width, K results.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from model.errors import ArchiveError

from .measure import RECALL_DEPTH, exact_floor, recall_of
from .protocol import Place, RecallTooLow, Sample
from .scoring import rank

__all__ = ["MilvusEngine", "MilvusIndex"]

SETTINGS: Final = "alta.settings"
FLAT_ROWS: Final = 20_000  # up to here the server reads every vector
RECALL: Final = 0.99
MARGIN: Final = 16  # rows fetched beyond K, to see whether a tie crosses the cut
SCORE_TOLERANCE: Final = 1e-5  # float32 rounding of a sum over D
MOST_RESULTS: Final = 16_384  # the server's own limit
FETCHED_AT_ONCE: Final = 1_000
INSERT_BYTES: Final = 8 * 2**20  # a message to the server may have 64 MiB
# Above this many ids their vectors are not fetched; the server chooses among them with its own index.
SCORED_HERE: Final = 5_000
# Tried in this order until one finds enough: what it is built with, what it is searched with.
INDEXES: Final[tuple[tuple[str, dict[str, int], str, tuple[int, ...]], ...]] = (
    ("IVF_FLAT", {"nlist": 1024}, "nprobe", (8, 16, 32, 64, 128, 256)),
    ("HNSW", {"M": 32, "efConstruction": 200}, "ef", (64, 128, 256, 512, 1024)),
    ("FLAT", {}, "", (0,)),
)


class MilvusIndex:
    """A loaded collection. Thread-safe."""

    def __init__(self, client: Any, name: str, rows: int, dimension: int, parameters: Mapping[str, int]) -> None:
        self.dimension = dimension
        self._client, self._name, self._rows, self._parameters = client, name, rows, dict(parameters)

    def __len__(self) -> int:
        return self._rows

    def search(self, query: np.ndarray, count: int, among: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As ``VectorIndex.search``; among more than ``SCORED_HERE`` ids as well as the server's index was set to."""
        if count < 1 or not self._rows:
            return np.empty(0, np.int64), np.empty(0)
        if among is not None and len(among) <= SCORED_HERE:
            ids, vectors = self._fetch(among)
            return rank(query, ids, vectors, count)
        most = min(self._rows if among is None else len(among), MOST_RESULTS)
        fetch = count + MARGIN
        while True:
            ids, vectors, scores = self._nearest(query, min(fetch, most), among)
            # A tie at the cut must not be decided by the order in which the server found its rows.
            tie_may_go_on = len(ids) > count and scores[-1] >= scores[count - 1] - SCORE_TOLERANCE
            if fetch >= most or not tie_may_go_on:
                return rank(query, ids, vectors, count)
            fetch *= 4

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """As ``VectorIndex.vectors``."""
        found, vectors = self._fetch(ids)
        places = {int(identity): row for row, identity in enumerate(found)}
        return vectors[[places[int(identity)] for identity in ids]]

    def _nearest(
        self, query: np.ndarray, count: int, among: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        parameters = dict(self._parameters)
        if "ef" in parameters:
            parameters["ef"] = max(parameters["ef"], count)  # the server refuses less
        (hits,) = self._client.search(
            self._name,
            [query],
            limit=count,
            filter="" if among is None else f"id in {among.tolist()}",
            output_fields=["vector"],
            search_params={"metric_type": "IP", "params": parameters},
            consistency_level="Strong",
        )
        scores = np.array([hit["distance"] for hit in hits])
        return *self._arrays((hit["id"], hit["entity"]["vector"]) for hit in hits), scores

    def _fetch(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ids and vectors of those that are there."""

        def rows() -> Iterator[tuple[int, Any]]:
            for start in range(0, len(ids), FETCHED_AT_ONCE):
                asked = ids[start : start + FETCHED_AT_ONCE].tolist()
                for row in self._client.get(self._name, ids=asked, output_fields=["vector"]):
                    yield row["id"], row["vector"]

        return self._arrays(rows())

    def _arrays(self, rows: Iterator[tuple[int, Any]]) -> tuple[np.ndarray, np.ndarray]:
        pairs = list(rows)
        ids = np.array([identity for identity, _ in pairs], np.int64)
        return ids, np.array([vector for _, vector in pairs], np.float32).reshape(-1, self.dimension)


class MilvusEngine:
    """uri: of a Milvus server (``http://milvus:19530``), or a local file, which milvus-lite serves to one process.

    prefix: of the collections' names; archives that share a server have one each.
    """

    name: Final = "milvus"
    local: Final = False

    def __init__(self, uri: str, token: str = "", prefix: str = "alta") -> None:
        self.uri, self._token, self._prefix = uri, token, prefix
        self._connected: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_connected": None}  # a connection does not travel to another process

    def build(self, place: Place, ids: np.ndarray, vectors: np.ndarray, sample: Sample) -> Mapping[str, Any]:
        client, name, dimension = self._client(), self._collection(place), int(vectors.shape[1])
        with _reported(self.uri):
            self.remove(place)
            self._create(client, name, dimension)
            step = max(1, INSERT_BYTES // (4 * dimension))
            for start in range(0, len(ids), step):
                part = slice(start, start + step)
                pairs = zip(ids[part].tolist(), np.asarray(vectors[part]), strict=True)
                client.insert(name, [{"id": identity, "vector": vector} for identity, vector in pairs])
            client.flush(name)
            settings = self._tuned(client, name, vectors, sample)
            kept = {"rows": len(ids), "dimension": dimension, **settings}
            client.alter_collection_properties(name, properties={SETTINGS: json.dumps(kept)})
        return settings

    def open(self, place: Place) -> MilvusIndex:
        client, name = self._client(), self._collection(place)
        with _reported(self.uri):
            found = client.describe_collection(name) if client.has_collection(name) else {}
            written = found.get("properties", {}).get(SETTINGS)
            if written is None:
                message = f"The collection {name} is not in {self.uri}, or was not finished. Build again."
                raise ArchiveError(message, "index-file-missing")
            settings = json.loads(written)
            client.load_collection(name)
            (counted,) = client.query(name, filter="", output_fields=["count(*)"])
            if counted["count(*)"] != settings["rows"]:
                message = f"The collection {name} has {counted['count(*)']} rows, expected {settings['rows']}."
                raise ArchiveError(f"{message} Build again.", "index-file-corrupt")
        return MilvusIndex(client, name, settings["rows"], settings["dimension"], settings["search"])

    def remove(self, place: Place) -> None:
        with _reported(self.uri):
            self._client().drop_collection(self._collection(place))

    def close(self) -> None:
        """Give the connection back. Indexes opened before are of no use then."""
        if self._connected is not None:
            self._connected.close()
            self._connected = None

    def _collection(self, place: Place) -> str:
        return f"{self._prefix}_{place.name}"

    def _client(self) -> Any:
        if self._connected is None:
            try:
                from pymilvus import MilvusClient
            except ModuleNotFoundError as error:
                message = f"{error}. Milvus needs the extra: pip install 'alta-retrieval[milvus]'."
                raise ArchiveError(message, "engine-unavailable") from error
            with _reported(self.uri):
                self._connected = MilvusClient(self.uri, token=self._token)
        return self._connected

    def _create(self, client: Any, name: str, dimension: int) -> None:
        from pymilvus import DataType

        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
        client.create_collection(name, schema=schema, consistency_level="Strong")

    def _tuned(self, client: Any, name: str, vectors: np.ndarray, sample: Sample) -> Mapping[str, Any]:
        floor = exact_floor(vectors, sample, RECALL_DEPTH)
        for kind, built_with, parameter, values in INDEXES if len(vectors) > FLAT_ROWS else INDEXES[-1:]:
            self._index(client, name, kind, built_with)
            for value in values:
                search = {parameter: value} if parameter else {}
                index = MilvusIndex(client, name, len(vectors), vectors.shape[1], search)
                if recall_of(index, sample, floor) >= RECALL:
                    return {"index": kind, "build": built_with, "search": search}
        raise RecallTooLow(f"No index of {self.uri} finds enough in collection {name}.")

    def _index(self, client: Any, name: str, kind: str, built_with: Mapping[str, int]) -> None:
        client.release_collection(name)
        for index in client.list_indexes(name):
            client.drop_index(name, index)
        parameters = client.prepare_index_params()
        parameters.add_index("vector", index_type=kind, metric_type="IP", params=dict(built_with))
        client.create_index(name, parameters)
        client.load_collection(name)


@contextmanager
def _reported(uri: str) -> Iterator[None]:
    """What the client raises becomes an error of ours."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("pymilvus"):
            raise
        raise ArchiveError(f"Milvus at {uri} answers: {error}", "engine-unavailable") from error
