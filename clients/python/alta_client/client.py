"""The two clients: they send and wait, one blocking, one with asyncio; everything else is the same for both."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

import httpx

from . import operations
from .calls import Call
from .exchange import Exchange, Outcome, Retries, exchange
from .messages import Hit, SearchReply

__all__ = ["AsyncClient", "Client"]

P = ParamSpec("P")
T = TypeVar("T")

TIMEOUT = httpx.Timeout(connect=5.0, read=120.0, write=120.0, pool=5.0)


class _Operation(Generic[P, T]):
    """A method of both clients: blocking in ``Client``, awaitable in ``AsyncClient``."""

    def __init__(self, begin: Callable[Concatenate[Retries, P], Exchange[T]], described: Callable[..., Any]) -> None:
        self._begin, self._described = begin, described
        self.__doc__ = described.__doc__

    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, T]: ...

    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Awaitable[T]]: ...

    @overload
    def __get__(self, client: None, owner: type) -> _Operation[P, T]: ...

    def __get__(self, client: Client | AsyncClient | None, owner: type) -> Any:
        if client is None:
            return self

        @functools.wraps(self._described)
        def operate(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client.carry_out(self._begin(client.retries, *args, **kwargs))

        return operate


def _sent(build: Callable[P, Call[T]]) -> _Operation[P, T]:
    def begin(retries: Retries, /, *args: P.args, **kwargs: P.kwargs) -> Exchange[T]:
        return exchange(build(*args, **kwargs), retries)

    return _Operation(begin, build)


class _Operations:
    search = _sent(operations.search)
    next_page = _sent(operations.next_page)
    similar = _sent(operations.similar)
    similar_by_accession = _sent(operations.similar_by_accession)
    zero_shot = _sent(operations.zero_shot)
    similarity_map = _sent(operations.similarity_map)
    similarity_overlay = _sent(operations.similarity_overlay)
    study = _sent(operations.study)
    study_by_accession = _sent(operations.study_by_accession)
    image = _sent(operations.image)
    rendering = _sent(operations.rendering)
    store_studies = _sent(operations.store_studies)
    delete_study = _sent(operations.delete_study)
    restore_study = _sent(operations.restore_study)
    send_report = _sent(operations.send_report)
    send_fhir = _sent(operations.send_fhir)
    model = _sent(operations.model)
    ready = _sent(operations.ready)
    overview = _sent(operations.overview)
    start_job = _sent(operations.start_job)
    jobs = _sent(operations.jobs)
    job = _sent(operations.job)
    cancel_job = _sent(operations.cancel_job)
    wait_for_job = _Operation(operations.wait_for_job, operations.wait_for_job)

    retries: Retries

    def _headers(self, api_key: str | None) -> dict[str, str]:
        return {"Accept": "application/json, */*", **({"Authorization": f"Bearer {api_key}"} if api_key else {})}


class Client(_Operations):
    """Blocking; thread-safe. ``with Client("https://alta.example") as alta: alta.search(text="effusion")``

    api_key: an API key or an OpenID Connect token. http: for certificates, proxies or tests; it is not closed here.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: httpx.Timeout | float = TIMEOUT,
        retries: Retries | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        self.retries = retries or Retries()
        self._base_url, self._sent_always = base_url.rstrip("/"), self._headers(api_key)
        self._own = http is None
        self._http = http or httpx.Client(timeout=timeout)

    def hits(self, first: SearchReply) -> Iterator[Hit]:
        """The hits of a reply and of all pages after it, each page asked for when it is needed."""
        reply = first
        while True:
            yield from reply["hits"]
            cursor = reply["next_cursor"]
            if cursor is None:
                return
            reply = self.next_page(cursor)

    def carry_out(self, steps: Exchange[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as ended:
                result: T = ended.value
                return result
            outcome = None
            if isinstance(step, Call):
                outcome = self._send(step)
            else:
                time.sleep(step.seconds)

    def close(self) -> None:
        if self._own:
            self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, call: Call[Any]) -> httpx.Response | httpx.TransportError:
        with ExitStack() as opened:
            arguments = _arguments(call, self._sent_always, opened)
            try:
                return self._http.request(call.method, self._base_url + call.path, **arguments)
            except httpx.TransportError as error:
                return error


class AsyncClient(_Operations):
    """With asyncio. ``async with AsyncClient("https://alta.example") as alta: await alta.search(text="effusion")``

    Everything else as in ``Client``.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: httpx.Timeout | float = TIMEOUT,
        retries: Retries | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self.retries = retries or Retries()
        self._base_url, self._sent_always = base_url.rstrip("/"), self._headers(api_key)
        self._own = http is None
        self._http = http or httpx.AsyncClient(timeout=timeout)

    async def hits(self, first: SearchReply) -> AsyncIterator[Hit]:
        """The hits of a reply and of all pages after it, each page asked for when it is needed."""
        reply = first
        while True:
            for hit in reply["hits"]:
                yield hit
            cursor = reply["next_cursor"]
            if cursor is None:
                return
            reply = await self.next_page(cursor)

    async def carry_out(self, steps: Exchange[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as ended:
                result: T = ended.value
                return result
            outcome = None
            if isinstance(step, Call):
                outcome = await self._send(step)
            else:
                await asyncio.sleep(step.seconds)

    async def close(self) -> None:
        if self._own:
            await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(self, call: Call[Any]) -> httpx.Response | httpx.TransportError:
        with ExitStack() as opened:
            arguments = _arguments(call, self._sent_always, opened)
            try:
                return await self._http.request(call.method, self._base_url + call.path, **arguments)
            except httpx.TransportError as error:
                return error


def _arguments(call: Call[Any], sent_always: dict[str, str], opened: ExitStack) -> dict[str, Any]:
    """For ``request`` of httpx. Files are opened anew each time."""
    arguments: dict[str, Any] = {"headers": {**sent_always, **call.headers}}
    for name, value in (
        ("params", call.query),
        ("json", call.json),
        ("data", call.form),
        ("files", call.form_files(opened)),
    ):
        if value:
            arguments[name] = value
    return arguments
