"""Requests that come together are encoded together, and whatever happens to one of them is its own affair."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from model.encoder import ProcessorSharing, StudyImages
from service.caller import Caller, wait_for
from service.errors import RequestError
from service.inference import Batching, Inference
from service.inference.batching import Batcher, Line
from tests.fakes import FakeEncoder
from tests.service_samples import form, png, serve, settings_for

pytest_plugins = ["tests.service_fixtures"]

TEXT_TO_IMAGE, IMAGE_TO_TEXT, ZERO_SHOT = "/v1/search/text-to-image", "/v1/search/image-to-text", "/v1/zero-shot"
BAD = "a text that the encoder breaks on"


class GatedEncoder(FakeEncoder):
    """Encodes when the gate is open; ``calls`` are the sizes of its batches since the gate was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.entered = threading.Event(), threading.Event()
        self.calls: list[int] = []
        self.gate.set()

    def close_gate(self) -> None:
        self.gate.clear()
        self.entered.clear()
        self.calls.clear()

    def encode_studies(self, studies: Sequence[StudyImages]) -> np.ndarray:
        self._pass(len(studies))
        return super().encode_studies(studies)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        self._pass(len(texts))
        if BAD in texts:
            raise ValueError("broken")
        return super().encode_texts(texts)

    def _pass(self, size: int) -> None:
        self.calls.append(size)
        self.entered.set()
        assert self.gate.wait(10)


class Waiting:
    """The service on the shared archive with an encoder that waits, and clients that do not."""

    def __init__(self, client: TestClient, encoder: GatedEncoder, callers: ThreadPoolExecutor) -> None:
        self.client, self.encoder, self._callers = client, encoder, callers
        self.inference: Inference = client.app.state.resources.encoders.configured

    def ask(self, text: str) -> "Future[tuple[int, dict[str, object]]]":
        return self._callers.submit(self._post, TEXT_TO_IMAGE, json={"text": text, "evidence": False})

    def show(self, cell: int) -> "Future[tuple[int, dict[str, object]]]":
        return self._callers.submit(self._post, IMAGE_TO_TEXT, files=form(png(cell)), data={"evidence": "false"})

    def occupy(self) -> "Future[tuple[int, dict[str, object]]]":
        """A request that the encoder works on until its gate opens."""
        self.encoder.close_gate()
        first = self.ask("the first")
        assert self.encoder.entered.wait(10)
        return first

    def until_waiting(self, **depths: int) -> None:
        until(lambda: {name: depth for name, depth in self.inference.depths.items() if depth} == depths)

    def _post(self, path: str, **arguments: object) -> tuple[int, dict[str, object]]:
        answer = self.client.post(path, **arguments)  # type: ignore[arg-type]
        return answer.status_code, answer.json()


def until(condition: object, seconds: float = 10) -> None:
    """Look again until it is so; the suite has no other way to learn that other threads stand and wait."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.002)):
        if condition():  # type: ignore[operator]
            return
        pause.wait(0.002)
    raise AssertionError("it never came to be")


@pytest.fixture
def waiting(archive_folder: Path) -> Iterator[Waiting]:
    encoder = GatedEncoder()
    with serve(settings_for(archive_folder), encoder) as client, ThreadPoolExecutor(16) as callers:
        try:
            yield Waiting(client, encoder, callers)
        finally:
            encoder.gate.set()


def test_requests_that_come_while_the_encoder_works_are_encoded_together(waiting: Waiting) -> None:
    first = waiting.occupy()
    texts = [waiting.ask(f"opacity {number}") for number in range(5)]
    films = [waiting.show(number) for number in range(4)]
    waiting.until_waiting(texts=5, studies=4)
    waiting.encoder.gate.set()
    assert [answer.result()[0] for answer in (first, *texts, *films)] == [200] * 10
    assert sorted(waiting.encoder.calls[1:]) == [4, 5] and waiting.encoder.calls[0] == 1


def test_whoever_asks_with_others_gets_the_answer_of_asking_alone(waiting: Waiting) -> None:
    first = waiting.occupy()
    together = [waiting.show(number) for number in range(6)]
    waiting.until_waiting(studies=6)
    waiting.encoder.gate.set()
    first.result()
    for number, answer in enumerate(together):
        alone = waiting.show(number).result()
        assert answer.result()[0] == 200 and answer.result()[1]["hits"] == alone[1]["hits"]


def test_one_bad_item_fails_alone(waiting: Waiting) -> None:
    first = waiting.occupy()
    good = [waiting.ask(f"opacity {number}") for number in range(3)]
    bad = waiting.ask(BAD)
    waiting.until_waiting(texts=4)
    waiting.encoder.gate.set()
    assert [answer.result()[0] for answer in (first, *good)] == [200] * 4
    assert bad.result()[0] == 500 and bad.result()[1]["type"] == "/problems/internal-error"
    assert waiting.encoder.calls == [1, 4, 1, 1, 1, 1]
    assert waiting.ask("and the next").result()[0] == 200


def test_what_was_asked_lately_is_not_encoded_again(waiting: Waiting) -> None:
    once = waiting.ask("opacity").result()
    waiting.encoder.calls.clear()
    assert waiting.ask("opacity").result()[1]["hits"] == once[1]["hits"]
    prompts = '{"prompts": [{"name": "x", "positive": ["opacity", "shadow"], "negative": ["clear"]}]}'
    for data in ({}, {"labels": ["opacity"]}, {"request": prompts}, {"request": prompts}):
        assert waiting.client.post(ZERO_SHOT, files=form(png()), data=data).status_code == 200
    assert waiting.encoder.calls == [1, 1, 1, 1, 1]  # four films and "clear"; ensembles are not counted


def test_a_request_that_waits_too_long_leaves_the_queue(archive_folder: Path) -> None:
    encoder = GatedEncoder()
    with (
        serve(settings_for(archive_folder, request_timeout_s=0.3), encoder) as client,
        ThreadPoolExecutor(4) as callers,
    ):
        waiting = Waiting(client, encoder, callers)
        waiting.occupy()
        late = client.post(TEXT_TO_IMAGE, json={"text": "late", "evidence": False})
        assert (late.status_code, late.json()["type"]) == (503, "/problems/request-timed-out")
        assert late.headers["Retry-After"] == "5" and "0.3 s" in late.json()["detail"]
        assert waiting.inference.depths["texts"] == 0
        encoder.gate.set()
        assert client.post(TEXT_TO_IMAGE, json={"text": "next", "evidence": False}).status_code == 200
        assert encoder.calls == [1, 1]  # the first and the next


# Without the service around it


def batcher(line: Line, wait_s: float = 0.0, bound: int = 64) -> Batcher:
    return Batcher({"texts": line}, wait_s, bound)


def test_a_batch_is_cut_by_size_and_nothing_is_left_behind() -> None:
    sizes: list[int] = []
    gate = threading.Event()

    def encode(values: list[int]) -> list[np.ndarray]:
        assert gate.wait(10)
        sizes.append(len(values))
        return [np.array([value]) for value in values]

    several = batcher(Line(encode, 4))
    results = [several.submit("texts", number) for number in range(11)]
    gate.set()
    assert [result.result()[0] for result in results] == list(range(11))
    assert sum(sizes) == 11 and max(sizes) == 4
    large = several.submit("texts", 11, size=9)  # more than a batch: one of its own
    assert large.result()[0] == 11 and sizes[-1] == 1
    several.close()


def test_a_lone_caller_does_not_wait_for_company_and_companions_do() -> None:
    together: list[int] = []
    gate = threading.Event()

    def encode(values: list[int]) -> list[np.ndarray]:
        assert gate.wait(10)
        together.append(len(values))
        return [np.array([value]) for value in values]

    patient = batcher(Line(encode, 8), wait_s=3600)
    gate.set()
    for number in range(3):
        assert patient.submit("texts", number).result(10)[0] == number
    gate.clear()
    first = patient.submit("texts", 0)
    until(lambda: patient.depths == {"texts": 0})
    more = [patient.submit("texts", number) for number in range(3)]
    gate.set()
    assert [result.result(10)[0] for result in (first, *more)] == [0, 0, 1, 2]
    # Three came together: the next one is waited for until there are three again.
    again = [patient.submit("texts", number) for number in range(2)]
    assert not any(result.done() for result in again)
    third = patient.submit("texts", 2)
    assert [result.result(10)[0] for result in (*again, third)] == [0, 1, 2]
    assert together == [1, 1, 1, 1, 3, 3]
    patient.close()


class Cores:
    """Two, as ``ProcessorSharing`` of them."""

    calls_at_once = 2

    def __init__(self) -> None:
        self.shares: list[int] = []

    def share_processor(self, calls: int) -> None:
        self.shares.append(calls)


def test_a_batch_alone_has_the_processor_and_two_share_it() -> None:
    cores = Cores()
    both, gate = threading.Barrier(2), threading.Event()
    alone = True

    def encode(values: list[int]) -> list[np.ndarray]:
        if not alone:
            both.wait(10)  # each until the other has begun: they run at once
            assert gate.wait(10)
        return [np.array([len(values)]) for _ in values]

    assert isinstance(cores, ProcessorSharing)
    shared = Batcher({"texts": Line(encode, 8)}, 0.0, 64, sharing=cores)
    assert shared.submit("texts", 0).result(10)[0] == 1 and cores.shares == [1]
    until(lambda: not shared._working)
    alone = False
    with shared._changed:  # until all six are there
        results = [shared.submit("texts", number) for number in range(6)]
    until(lambda: len(cores.shares) == 3)
    gate.set()
    assert [result.result(10)[0] for result in results] == [3] * 6  # half of them each
    assert cores.shares[1:] == [2, 2]
    shared.close()


def test_a_queue_has_a_bound() -> None:
    gate = threading.Event()

    def encode(values: list[int]) -> list[np.ndarray]:
        assert gate.wait(10)
        return [np.array([value]) for value in values]

    small = batcher(Line(encode, 1), bound=2)
    results = [small.submit("texts", 0)]
    until(lambda: small.depths == {"texts": 0})
    results += [small.submit("texts", number) for number in (1, 2)]
    with pytest.raises(RequestError, match="2") as refused:
        small.submit("texts", 3)
    assert refused.value.slug == "overloaded"
    results[1].cancel()  # makes room
    results.append(small.submit("texts", 3))
    gate.set()
    assert [result.result(10)[0] for result in results if not result.cancelled()] == [0, 2, 3]
    small.close()


def test_work_of_a_caller_who_left_is_not_begun() -> None:
    seen: list[int] = []
    gate = threading.Event()

    def encode(values: list[int]) -> list[np.ndarray]:
        assert gate.wait(10)
        seen.extend(values)
        return [np.array([value]) for value in values]

    line = batcher(Line(encode, 1))
    first = line.submit("texts", 0)
    until(lambda: line.depths == {"texts": 0})
    caller = Caller(60)
    with ThreadPoolExecutor(1) as threads:
        waits = threads.submit(lambda: caller.wait_for(line.submit("texts", 1)))
        until(lambda: line.depths == {"texts": 1})
        caller.leave()
        assert line.depths == {"texts": 0}
        with pytest.raises(RequestError) as left:
            waits.result(10)
    assert left.value.slug == "client-left"
    with pytest.raises(RequestError, match="closed the connection"):
        caller.wait_for(line.submit("texts", 2))
    gate.set()
    first.result(10)
    line.close()
    until(lambda: seen == [0])


def test_a_timeout_of_the_work_itself_is_not_the_callers() -> None:
    failed: Future[int] = Future()
    failed.set_exception(TimeoutError("of the database"))
    with pytest.raises(TimeoutError, match="of the database"):
        Caller(60).wait_for(failed)
    with pytest.raises(TimeoutError, match="of the database"):
        wait_for(failed)


def test_work_that_ends_in_the_moment_its_time_is_up_is_answered_with() -> None:
    class EndsThen(Future[int]):
        def result(self, timeout: float | None = None) -> int:
            if self.done():
                return super().result(timeout)
            self.set_result(5)
            raise TimeoutError

    assert Caller(0).wait_for(EndsThen()) == 5


def test_whoever_fails_beside_the_encoder_costs_no_answer_and_no_thread() -> None:
    class Failing:
        calls_at_once = 1

        def encoded(self, *_: object) -> None:
            raise RuntimeError("metrics")

        def share_processor(self, calls: int) -> None:
            if not self.calls_at_once:
                raise RuntimeError("processor")

    failing = Failing()
    batcher = Batcher({"texts": Line(lambda texts: texts, 4)}, 0.0, 8, failing, failing)
    assert [batcher.submit("texts", "one").result(10) for _ in range(2)] == ["one"] * 2
    failing.calls_at_once = 0
    with pytest.raises(RuntimeError, match="processor"):
        batcher.submit("texts", "one").result(10)
    failing.calls_at_once = 1
    assert batcher.submit("texts", "one").result(10) == "one"
    batcher.close()


def test_whoever_observes_is_told_of_every_batch() -> None:
    told: list[tuple[str, int, int]] = []

    class Observer:
        def encoded(self, line: str, items: Sequence[tuple[object, float]], size: int, seconds: float) -> None:
            assert min(waited for _, waited in items) >= 0 and seconds >= 0
            told.append((line, len(items), size))

    film = np.zeros((32, 32), np.float32)
    inference = Inference(FakeEncoder(), Batching(), Observer())
    inference.study(StudyImages(film, film))
    inference.texts(["one", "two", "one"])
    inference.prompts(["one", "two"])
    inference.close()
    assert told == [("studies", 1, 2), ("texts", 1, 2), ("ensembles", 1, 2)]  # before who waits is


def test_texts_keep_their_order_however_many_and_known(encoder: FakeEncoder) -> None:
    inference = Inference(encoder, Batching(batch_size=2))
    texts = [f"opacity {number % 30}" for number in range(70)]
    inference.texts(texts[:5])
    assert np.array_equal(inference.texts(texts), encoder.encode_texts(texts))
    assert inference.texts([]).shape == (0, encoder.dimension)
    inference.close()


def test_directions_are_kept_up_to_a_bound_without_their_texts() -> None:
    encoder = GatedEncoder()
    inference = Inference(encoder, Batching(kept=2))
    for text in ("one", "two", "one", "three", "one", "two"):
        inference.text(text)
    assert encoder.calls == [1, 1, 1, 1]  # "two" was used least lately when "three" came
    assert "three" not in repr(vars(inference._kept))
    none = Inference(encoder, Batching(kept=0))
    assert np.array_equal(none.text("one"), none.text("one")) and len(encoder.calls) == 6
    for each in (inference, none):
        each.close()


def test_an_ensemble_is_not_taken_for_its_phrases_run_together(encoder: FakeEncoder) -> None:
    inference = Inference(encoder)
    assert not np.array_equal(inference.prompts(["ab", "c"]), inference.prompts(["a", "bc"]))
    assert np.array_equal(inference.prompts(["ab"]), inference.text("ab"))
    inference.close()


def test_encoders_are_warm_before_the_service_is_ready(waiting: Waiting) -> None:
    assert waiting.inference.warm
    assert not Inference(FakeEncoder()).warm
