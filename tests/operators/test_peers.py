"""A runner and a driver talk only within one user, whoever may open the files between them; needs root to be two."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from pathlib import Path

import pytest
from users import as_user, root

import matterstack as ms
from matterstack.operators.local.runner.processes import machine

STRANGER = 41009

pytestmark = root


def test_a_stranger_who_connects_is_let_out_and_the_runner_stays(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", f"cat {gate}")]), base_path=tmp_path, run_id="r")
    run.step()
    holder = json.loads((run.path / "operators/local/runner.lock").read_text())

    def connect() -> str:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(30)
            connection.connect(f"\0{holder['address']}")
            try:
                connection.sendall(b'["hello"]\n')
                return repr(connection.recv(1000))
            except (ConnectionResetError, BrokenPipeError):  # it may be let out before it has said a word
                return "b''"

    assert as_user(STRANGER, connect) == "b''"
    with open(gate, "w", encoding="utf-8") as pipe:
        pipe.write("done\n")
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert (run.task_directory("a") / "stdout.txt").read_text() == "done\n"
    assert len(run.attempts) == 1


def test_a_runner_of_a_stranger_is_told_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "the secret")
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path, run_id="r")
    lock = run.path / "operators/local/runner.lock"
    lock.parent.mkdir(exist_ok=True)
    address = f"matterstack-test-{os.getpid()}"
    lock.write_text(json.dumps({"machine": machine(), "host": socket.gethostname(), "address": address, "pid": 1}))
    # Opened before: whoever may read a file may lock it, also below a folder that is closed to them.
    descriptor = os.open(lock, os.O_RDWR)
    holds, told = os.pipe()
    stop, stopped = os.pipe()

    def serve() -> str:
        os.close(stopped)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(f"\0{address}")
        listener.listen()
        os.write(told, b"1")
        connection, _ = listener.accept()
        connection.settimeout(30)
        heard = b""
        while chunk := connection.recv(1000):
            heard += chunk
        os.read(stop, 1)
        return repr(heard)

    def step() -> None:
        os.read(holds, 1)
        run.step()
        trouble = run.store.troubles()["local"]
        assert "another user" in trouble.reason
        assert str(STRANGER) in trouble.reason
        assert run.tasks.loc["0.a", "status"] != "COMPLETED"
        os.close(stopped)

    assert as_user(STRANGER, serve, ready=step) == "b''"
    os.close(descriptor)
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
