"""The vector engines of an installation."""

from collections.abc import Mapping

from index.engines import LOCAL_ENGINES, Engine
from index.engines.milvus import MilvusEngine

from .settings import Settings

__all__ = ["engines_of"]


def engines_of(settings: Settings) -> Mapping[str, Engine]:
    """By name: those of this machine, and Milvus where it is configured."""
    if not settings.milvus_uri:
        return LOCAL_ENGINES
    token = settings.milvus_token.get_secret_value()
    return {**LOCAL_ENGINES, MilvusEngine.name: MilvusEngine(settings.milvus_uri, token, settings.milvus_prefix)}
