"""The listener for HL7 messages, spoken to over real sockets."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from index import Catalog, open_catalog
from index.listeners.hl7_answers import acknowledge, answer_message
from index.listeners.mllp import Frames, MllpListener, Overlong, Unframed
from index.reports.readers import parse_message
from index.tables import Report
from model.errors import InputError
from tests.report_samples import NAME, Sample, hl7

SAMPLE = Sample()


class Client:
    """A sender of messages."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.socket.sendall(piece)

    def receive(self) -> list[str] | None:
        """The next acknowledgement: MSA-1, MSA-2, MSA-3. None when the connection ends."""
        data = b""
        while not data.endswith(b"\x1c\r"):
            if not (byte := self.socket.recv(1)):
                return None
            data += byte
        message = parse_message(data.strip(b"\x0b\x1c\r").replace(b"ISO IR87", b""))  # repeated, whatever it is
        (result,) = [segment for segment in message.segments if segment.name == "MSA"]
        assert message.type == "ACK"
        return [result.text(1), result.text(2), result.text(3)]

    def tell(self, data: bytes) -> list[str] | None:
        self.send(b"\x0b" + data + b"\x1c\r")
        return self.receive()

    def close(self) -> None:
        self.socket.close()


@contextmanager
def listening(catalog: Catalog, **options: object) -> Iterator[tuple[int, MllpListener]]:
    listener = MllpListener(
        answer=lambda data: answer_message(catalog, data),
        reject=lambda data, reason: acknowledge(data, "AR", reason),
        **options,  # type: ignore[arg-type]
    )
    ready = threading.Event()
    found: list[int] = []
    loops: list[asyncio.AbstractEventLoop] = []

    def is_ready(port: int) -> None:
        found.append(port)
        loops.append(asyncio.get_running_loop())
        ready.set()

    thread = threading.Thread(target=lambda: asyncio.run(listener.run("127.0.0.1", 0, is_ready)))
    thread.start()
    assert ready.wait(20)
    try:
        yield found[0], listener
    finally:
        loops[0].call_soon_threadsafe(listener.stop)
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def client(catalog: Catalog) -> Iterator[Client]:
    with listening(catalog) as (port, _):
        made = Client(port)
        yield made
        made.close()


def rows(catalog: Catalog) -> list[tuple[str, str | None, str | None]]:
    with catalog.session() as session:
        found = session.scalars(sa.select(Report).order_by(Report.id))
        return [(row.status, row.reason, row.impression) for row in found]


def test_a_report_is_committed_when_its_sender_hears_so(client: Client, catalog: Catalog) -> None:
    assert client.tell(hl7(SAMPLE, control_id="M7")) == ["AA", "M7", ""]
    assert rows(catalog) == [("unmatched", None, "Pneumonia.")]
    assert client.tell(hl7(SAMPLE.but(status="corrected", impression="Normal."), control_id="M8")) == ["AA", "M8", ""]
    assert rows(catalog) == [("unmatched", None, "Normal.")]


def test_nothing_of_a_name_is_kept(client: Client, catalog: Catalog) -> None:
    client.tell(hl7(SAMPLE))
    with catalog.session() as session:
        (row,) = session.execute(sa.select(Report.__table__)).mappings()
    assert NAME not in str(row) and "JANE" not in str(row) and row["patient_key"] == catalog.patient_key("P1")


def test_what_is_understood_and_refused_is_an_error_with_its_reason(client: Client, catalog: Catalog) -> None:
    answer = client.tell(hl7(SAMPLE.but(findings="", impression="")))
    assert answer is not None and answer[:2] == ["AE", "M1"] and answer[2].startswith("empty-report: ")
    answer = client.tell(hl7(SAMPLE, SAMPLE.but(number="F2", findings="", impression="")))
    assert answer is not None and answer[0] == "AE" and "1 of 2 reports are refused" in answer[2]
    assert [row[:2] for row in rows(catalog)] == [
        ("refused", "empty-report"),
        ("unmatched", None),
        ("refused", "empty-report"),
    ]


@pytest.mark.parametrize(
    ("data", "control_id", "words"),
    [
        (rb"MSH|^~\&|A|B|C|D|2024||ADT^A01|M3|P|2.5.1", "M3", "type ORU"),
        (rb"MSH|^~\&|A|B|C|D|2024||ORU^R01|M4|P|2.5.1||||||ISO IR87", "M4", "character set"),
        (b"GET / HTTP/1.1", "", "MSH"),
        (b"", "", "found 0"),
        (hl7(SAMPLE, control_id="M5") * 2, "M5", "found 2"),
    ],
)
def test_what_cannot_be_read_is_rejected(
    client: Client, catalog: Catalog, data: bytes, control_id: str, words: str
) -> None:
    answer = client.tell(data)
    assert answer is not None and answer[:2] == ["AR", control_id] and words in answer[2]
    assert rows(catalog) == []
    assert client.tell(hl7(SAMPLE)) == ["AA", "M1", ""]


def test_a_frame_in_pieces_and_two_in_one_piece(client: Client, catalog: Catalog) -> None:
    first, second = (b"\x0b" + hl7(SAMPLE.but(number=n, accession=n), control_id=n) + b"\x1c\r" for n in ("F1", "F2"))
    client.send(*(first[place : place + 7] for place in range(0, len(first), 7)))
    assert client.receive() == ["AA", "F1", ""]
    client.send(second + first[:30])
    assert client.receive() == ["AA", "F2", ""]
    client.send(first[30:-1])  # without the carriage return at its end
    assert client.receive() == ["AA", "F1", ""]
    assert len(rows(catalog)) == 2


def test_bytes_outside_a_frame_end_the_connection_but_not_the_listener(catalog: Catalog) -> None:
    with listening(catalog) as (port, _):
        wrong, good = Client(port), Client(port)
        wrong.send(hl7(SAMPLE))
        answer = wrong.receive()
        assert answer is not None and answer[:2] == ["AR", "M1"] and "frame" in answer[2]
        assert wrong.receive() is None
        assert good.tell(hl7(SAMPLE)) == ["AA", "M1", ""]
        for client in (wrong, good):
            client.close()


def test_a_message_over_the_limit_is_rejected_before_its_end(catalog: Catalog) -> None:
    with listening(catalog, max_bytes=2000) as (port, _):
        client = Client(port)
        client.send(b"\x0b" + hl7(SAMPLE) + b"x" * 3000)
        answer = client.receive()
        assert answer is not None and answer[:2] == ["AR", "M1"] and "2000 bytes" in answer[2]
        client.close()
        second = Client(port)
        assert second.tell(hl7(SAMPLE)) == ["AA", "M1", ""]
        second.close()


def test_a_connection_that_breaks_off_leaves_nothing(catalog: Catalog) -> None:
    message = b"\x0b" + hl7(SAMPLE.but(impression="Cut.")) + b"\x1c\r"
    with listening(catalog) as (port, _):
        for part in (1, len(message) // 2, len(message) - 2):
            client = Client(port)
            client.send(message[:part])
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, no farewell
            client.close()
        again = Client(port)
        again.send(message[:50])  # and begun anew in the same connection
        assert again.tell(hl7(SAMPLE)) == ["AA", "M1", ""]
        again.close()
    assert rows(catalog) == [("unmatched", None, "Pneumonia.")]


@pytest.mark.parametrize(("begun", "options"), [(b"", {"idle_s": 0.05}), (b"\x0bMSH", {"begun_s": 0.05})])
def test_a_connection_that_says_nothing_is_closed(
    sqlite_catalog: Catalog, begun: bytes, options: dict[str, float]
) -> None:
    with listening(sqlite_catalog, **options) as (port, _):
        client = Client(port)
        client.send(begun)
        assert client.receive() is None
        client.close()


def test_only_those_who_are_allowed_are_heard(sqlite_catalog: Catalog) -> None:
    for allow, heard in ((("10.0.0.0/8", "192.168.1.7"), False), (("127.0.0.0/8",), True)):
        with listening(sqlite_catalog, allow=allow) as (port, _):
            client = Client(port)
            try:
                assert (client.tell(hl7(SAMPLE)) is not None) == heard
            except ConnectionError:
                assert not heard
            client.close()
    with pytest.raises(InputError, match=r"10\.0\.0\.0/99"):
        MllpListener(answer=bytes, reject=lambda data, reason: data, allow=["10.0.0.0/99"])


def test_one_connection_too_many_is_closed(sqlite_catalog: Catalog) -> None:
    with listening(sqlite_catalog, max_connections=1) as (port, _):
        first = Client(port)
        assert first.tell(hl7(SAMPLE)) == ["AA", "M1", ""]
        second = Client(port)
        assert second.receive() is None
        assert first.tell(hl7(SAMPLE)) == ["AA", "M1", ""]
        for client in (first, second):
            client.close()


def test_a_database_that_does_not_answer_is_an_error_to_send_again(
    client: Client, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise sa.exc.OperationalError("INSERT", {}, OSError("disk full, patient P1"))

    with monkeypatch.context() as patched:
        patched.setattr("index.listeners.hl7_answers.take_reports", broken)
        answer = client.tell(hl7(SAMPLE))
    assert answer is not None and answer[0] == "AE" and "Send it again" in answer[2] and "P1" not in answer[2]
    assert rows(catalog) == []
    assert client.tell(hl7(SAMPLE)) == ["AA", "M1", ""]


def test_a_stopping_listener_answers_what_it_has_begun(sqlite_catalog: Catalog) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def slowly(data: bytes) -> bytes:
        entered.set()
        assert go_on.wait(20)
        return answer_message(sqlite_catalog, data)

    with listening(sqlite_catalog) as (port, listener):
        listener.answer = slowly
        client, idle = Client(port), Client(port)
        client.send(b"\x0b" + hl7(SAMPLE) + b"\x1c\r")
        assert entered.wait(20)
        threading.Thread(target=go_on.set).start()
    assert client.receive() == ["AA", "M1", ""]
    assert client.receive() is None and idle.receive() is None
    for each in (client, idle):
        each.close()
    assert len(rows(sqlite_catalog)) == 1


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=20).map(lambda data: data.replace(b"\x0b", b"").replace(b"\x1c", b""))), st.data())
def test_frames_are_found_however_they_are_cut(messages: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(b"\x0b" + message + b"\x1c\r" for message in messages)
    frames = Frames(100)
    found: list[bytes] = []
    while whole:
        size = data.draw(st.integers(1, len(whole)))
        found += frames.feed(whole[:size])
        whole = whole[size:]
    assert found == messages and not frames.inside


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b"\x0b", b"\x1c", b"\r", hl7(SAMPLE)]))))
def test_no_bytes_are_an_exception_of_another_kind(pieces: list[bytes]) -> None:
    frames = Frames(2000)
    read: list[bytes] = []
    try:
        for piece in pieces:
            read += frames.feed(piece)
    except (Unframed, Overlong) as error:
        read.append(error.begun)
    for message in read:
        assert acknowledge(message, "AR", "no | ^ \\ & ~ \r\n").startswith(b"MSH")


def test_an_acknowledgement_goes_back_to_its_sender_in_its_own_separators() -> None:
    data = "MSH#$*!%#RIS Ä#HOSPITAL#ALTA#ARCHIVE#2024##ORU$R01#M1#T#2.3######8859/1".encode("latin-1")
    answer = parse_message(acknowledge(data, "AE", "A # B $ C", "101$x"))
    header = answer.header
    assert [header.text(place) for place in (3, 4, 5, 6)] == ["ALTA", "ARCHIVE", "RIS Ä", "HOSPITAL"]
    assert (header.text(11), header.text(12), header.text(18)) == ("T", "2.3", "8859/1")
    assert [answer.segments[1].text(place) for place in (1, 2, 3)] == ["AE", "M1", "A # B $ C"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """``alta receive hl7`` as a process of its own."""
    running: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", "from service.cli import main; main()", "receive", "hl7", *arguments]
        environment = {**os.environ, "ALTA_DATA_DIR": str(tmp_path), "COLUMNS": "200"}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def test_the_command_listens_and_stops_cleanly(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    process = start("--port", "0")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "Listening on 127.0.0.1, port " in line
    client = Client(int(line.partition("port ")[2].partition(",")[0]))
    assert client.tell(hl7(SAMPLE)) == ["AA", "M1", ""]
    process.send_signal(signal.SIGTERM)
    assert client.receive() is None
    client.close()
    rest, _ = process.communicate(timeout=30)
    assert (process.returncode, rest.strip()) == (0, "Stopped.")
    catalog = open_catalog(f"sqlite:///{tmp_path / 'alta.db'}")
    assert rows(catalog) == [("unmatched", None, "Pneumonia.")]
    catalog.close()


def test_the_command_listens_to_others_only_when_told_to_whom(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start("--host", "0.0.0.0", "--port", "0")
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1 and "--allow ADDRESS" in said
