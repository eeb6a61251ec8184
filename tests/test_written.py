"""Answers that are written down by the thread that made them."""

import threading
from datetime import date

from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel, Field, field_serializer

from service.routes import accession, search, studies
from service.schemas import SearchReply
from service.written import written


class Answer(BaseModel):
    day: date = date(2026, 1, 31)
    score: float = float("nan")
    words: str | None = Field(default="Ergüß \u2028", serialization_alias="said")
    thread: int = 0

    @field_serializer("thread")
    def _writes(self, made: int) -> bool:
        return made == threading.get_ident()


def made() -> Answer:
    return Answer(thread=threading.get_ident())


def app_of(is_written: bool) -> FastAPI:
    app = FastAPI()

    def answer(number: int = 1) -> Answer:
        """What it is."""
        return made() if number else Answer(words=None)

    app.get("/")(written(answer) if is_written else answer)
    return app


def test_it_is_the_answer_that_the_framework_would_write() -> None:
    ours, theirs = (TestClient(app_of(is_written)) for is_written in (True, False))
    assert ours.get("/?number=0").content == theirs.get("/?number=0").content
    assert ours.get("/").headers == theirs.get("/").headers | {
        "content-length": ours.get("/").headers["content-length"]
    }
    assert ours.get("/?number=x").json() == theirs.get("/?number=x").json()  # is refused
    assert ours.get("/openapi.json").json() == theirs.get("/openapi.json").json()


def test_the_thread_that_made_it_writes_it() -> None:
    assert TestClient(app_of(True)).get("/").json()["thread"] is True
    assert TestClient(app_of(False)).get("/").json()["thread"] is False


def test_every_list_of_hits_is_written_so() -> None:
    routes = [route for module in (accession, search, studies) for route in module.router.routes]
    found = {route.path: route.endpoint for route in routes if getattr(route, "response_model", None) is SearchReply}
    assert len(found) >= 7
    assert [path for path, endpoint in found.items() if not hasattr(endpoint, "__wrapped__")] == []
