"""``alta`` for tests that call it dozens of times: what it imports is imported once, and each call is a fork of that.

``python -m tests.warm_alta SOCKET`` waits to be called; the program that ``write_program`` writes calls it and behaves
as ``alta`` does: arguments, environment, folder, streams, exit code and SIGTERM are those of the caller.
"""

import gc
import importlib
import json
import os
import signal
import socket
import sys
from pathlib import Path

__all__ = ["write_program"]

PROGRAM = """#!{python} -IS
import json, os, signal, socket, sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    call = json.dumps({{"arguments": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}).encode()
    socket.send_fds(server, [len(call).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(call)
    answers = server.makefile()
    process = int(answers.readline())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda sent, _: os.kill(process, sent))
    sys.exit(int(answers.readline()))
"""


def write_program(path: Path, address: Path) -> None:
    """``address``: the socket of the process that is called."""
    path.write_text(PROGRAM.format(python=sys.executable, address=str(address)))
    path.chmod(0o755)


def _wait_to_be_called(address: str) -> None:
    """Returns in a fork, which then is that call."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks that wait for calls
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(64)
        print("ready", flush=True)
        while True:
            caller, _ = listening.accept()
            if os.fork() == 0:
                break
            caller.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    length, streams, _, _ = socket.recv_fds(caller, 4, 3)
    call = json.loads(caller.makefile("rb").read(int.from_bytes(length, "big")))
    process = os.fork()
    if process:
        caller.sendall(f"{process}\n".encode())
        _, status = os.waitpid(process, 0)
        caller.sendall(f"{abs(os.waitstatus_to_exitcode(status))}\n".encode())
        os._exit(0)
    caller.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(call["folder"])
    os.environ.clear()
    os.environ.update(call["environment"])
    sys.argv = ["alta", *call["arguments"]]


if __name__ == "__main__":
    for name in ("index", "model.alta_encoder", "service.app", "service.cli", "service.jobs", "service.serving"):
        importlib.import_module(name)
    gc.freeze()  # or every call ends with seconds of taking apart what it never used
    _wait_to_be_called(sys.argv[1])
    importlib.import_module("service.cli").main()
