"""A file that crashes, hangs or bloats its decoder costs only itself, and never a neighbour."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from index import DecoderPool
from index.decoder_pool import THREADS
from index.intake.examine import Source, examiner
from model.errors import ImageError
from tests.broken_decoders import (
    allocate,
    crash,
    crash_unless_first,
    hang,
    leak,
    overwrite_heap,
    panic,
    raise_what_comes_apart,
)
from tests.conftest import WriteDicom
from tests.crashing import examine_broken

ROOT = Path(__file__).parents[1]
MIB = 2**20


@pytest.fixture
def pool() -> Iterator[DecoderPool]:
    made = DecoderPool(1, seconds=60, memory=256 * MIB)
    yield made
    made.close()


def slug(future: "Future[object]") -> str:
    with pytest.raises(ImageError) as caught:
        future.result()
    return caught.value.slug


def test_results_and_errors_come_back(pool: DecoderPool) -> None:
    assert pool.start()
    assert pool(len, b"ab") == 2
    with pytest.raises(FileNotFoundError):
        pool(os.stat, "/no/such/file")
    with pytest.raises(RuntimeError, match="ComesApart: a message"):
        pool(raise_what_comes_apart)
    with pytest.raises(RuntimeError, match="Panic"):
        pool(panic)
    assert pool(os.getpid) == pool(os.getpid)


def test_decoders_have_one_thread_each_and_leave_the_parents_number_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    pool = DecoderPool(1)
    try:
        assert [pool(os.getenv, name) for name in THREADS] == ["1"] * len(THREADS)
    finally:
        pool.close()
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ


def test_only_the_call_that_crashes_is_lost() -> None:
    pool = DecoderPool(2)
    calls = [pool.submit(crash) if number == 3 else pool.submit(allocate, number) for number in range(8)]
    assert slug(calls.pop(3)) == "decoder-crashed"
    assert [call.result() for call in calls] == [0, 1, 2, 4, 5, 6, 7]
    pool.close()


def test_a_hanging_decoder_is_ended_and_the_next_file_is_decoded() -> None:
    pool = DecoderPool(1, seconds=0.5)
    calls = [pool.submit(hang), pool.submit(allocate, 5)]  # type: ignore[arg-type]
    assert slug(calls[0]) == "decoder-timeout"
    assert calls[1].result() == 5
    pool.close()


def test_a_decoder_gets_no_more_memory_than_its_limit(pool: DecoderPool) -> None:
    assert pool(allocate, 64 * MIB) == 64 * MIB
    assert slug(pool.submit(allocate, 300 * MIB)) == "too-much-memory"
    assert pool(allocate, 64 * MIB) == 64 * MIB


def test_what_others_leaked_costs_no_file(pool: DecoderPool) -> None:
    processes = {pool(leak, 40 * MIB) for _ in range(10)}
    assert 2 < len(processes) < 10
    assert pool(allocate, 180 * MIB) == 180 * MIB


def test_an_innocent_file_is_not_blamed_for_a_process_that_another_one_broke(pool: DecoderPool, tmp_path: Path) -> None:
    marker = tmp_path / "broken"
    marker.touch()
    pool(overwrite_heap, marker)
    assert pool(crash_unless_first, marker) == "decoded"


def test_closing_does_not_wait_for_a_decoder() -> None:
    pool = DecoderPool(1)
    assert pool.start()
    call = pool.submit(hang)
    while not call.running():
        pass
    pool.close()
    assert slug(call) == "decoder-crashed"


def test_files_that_crash_or_hang_are_refusals(write_dicom: WriteDicom, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("a.dcm", "killer.dcm", "hanger.dcm", "glutton.dcm", "b.dcm")
    sources = [Source(write_dicom(name, study=f"1.2.{number}")) for number, name in enumerate(names)]
    monkeypatch.setattr("index.intake.examine.examine", examine_broken)
    monkeypatch.setattr("index.intake.examine.DecoderPool", lambda workers: DecoderPool(workers, 1.0, 512 * MIB))
    with examiner(workers=2) as examined:
        results = examined(sources)
    reasons = [result.refusal and result.refusal.slug for result in results]
    assert reasons == [None, "decoder-crashed", "decoder-timeout", "too-much-memory", None]
    assert all(result.size and result.modified_ns for result in results)


def test_no_process_outlives_a_killed_parent_though_its_decoder_hangs() -> None:
    script = (
        "from index import DecoderPool; from tests.broken_decoders import hang; import os; "
        "pool = DecoderPool(1, seconds=1); print(pool(os.getpid), flush=True); "
        "pool.submit(hang); os.kill(os.getpid(), 9)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.wait()
    # The pipe ends when the last process that holds it has ended: the worker inherited it.
    assert parent.stdout.read() == ""
    parent.stdout.close()
    state = Path(f"/proc/{worker}/stat")
    assert not state.exists() or " Z " in state.read_text()  # nobody but init is left to fetch it
