"""What a chunk job runs: the commands of its attempts, one after the other.

It is copied beside the chunk's list and started there as a program, so it needs nothing but the standard library
of Python 3.7. Each attempt is claimed before its command starts (``mkdir claim``), so a chunk that is started again
goes on where it stood; and each leaves how it ended in ``exit.json``, as the script of a single job does.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from typing import Any

_LOOK_S = 1.0
_GRACE_S = 5.0
_ENDED_BY_SIGTERM = (-signal.SIGTERM, 128 + signal.SIGTERM)  # also as a shell says it


class Chunk:
    """The attempts of one job."""

    def __init__(self) -> None:
        with open("chunk.json") as file:
            self.members = json.load(file)["members"]
        self.running: Any = None
        self.wakeup, writer = os.pipe()
        for descriptor in (self.wakeup, writer):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(writer)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self.note_end)
        self.over = False

    def note_end(self, *_: Any) -> None:
        """Note that the job is being ended: what runs leaves no exit code, and nothing else is begun."""
        self.over = True

    def run(self, member: dict[str, Any]) -> None:
        """Claim an attempt, and run its command."""
        place = "../../" + member["directory"]
        try:
            os.mkdir(place + "/claim")
        except (FileExistsError, FileNotFoundError):
            return  # it has been run, is being run, or is not wanted any more
        began = {"started_at": time.time(), "job": os.environ.get("SLURM_JOB_ID", ""), "host": socket.gethostname()}
        _write(place + "/claim/started.json", began)
        with open(place + "/stdout.txt", "wb") as out, open(place + "/stderr.txt", "wb") as error:
            try:
                self.running = subprocess.Popen(
                    member["argv"],
                    cwd=place,
                    env=_environment(member["env"]),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=error,
                    start_new_session=True,
                )
            except (OSError, LookupError, ValueError) as problem:
                error.write(f"it cannot be started: {problem}\n".encode())
                code, state = 126, None
            else:
                state = self.watch(place, member["limit_s"])
                code = self.running.wait()
                _kill(self.running.pid, signal.SIGKILL)  # what it left running has no one to answer to
                if code in _ENDED_BY_SIGTERM and state is None:
                    self.await_end()
                if self.over:
                    return
        ended = {"exit_code": code, "ended_at": time.time()}
        if state is not None:
            ended["state"] = state
        _write(place + "/exit.json", ended)

    def watch(self, place: str, limit_s: Any) -> Any:
        """Wait until the command ends; end it when its time or the job is over, or when that is asked for."""
        began = time.monotonic()
        state: Any = None
        asked = 0.0
        while self.running.poll() is None:
            now = time.monotonic()
            if state is None and limit_s is not None and now - began >= limit_s:
                state = "TIMEOUT"
            elif state is None and os.path.lexists(place + "/cancel"):
                state = "CANCELLED"
            unwanted = state is not None or self.over
            if unwanted and not asked:
                asked = now
                _kill(self.running.pid, signal.SIGTERM)
            elif unwanted and now - asked >= _GRACE_S:
                _kill(self.running.pid, signal.SIGKILL)
            left = _LOOK_S if limit_s is None or state else min(_LOOK_S, max(0.0, limit_s - (now - began)))
            if self.running.poll() is None and select.select([self.wakeup], [], [], left)[0]:
                os.read(self.wakeup, 4096)
        return state

    def await_end(self) -> None:
        """Wait a moment for a signal to end: of a job's processes, a scheduler may reach the command first."""
        until = time.monotonic() + _LOOK_S
        while not self.over and time.monotonic() < until:
            if select.select([self.wakeup], [], [], _LOOK_S)[0]:
                os.read(self.wakeup, 4096)


def _environment(wanted: dict[str, Any]) -> dict[str, Any]:
    values = dict(os.environ)
    for name, value in wanted.items():
        if value.startswith("env:"):
            if value[4:] not in os.environ:
                raise LookupError(f"{value[4:]} has to be set: the task needs it")
            value = os.environ[value[4:]]
        values[name] = value
    return values


def _kill(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _write(path: str, content: dict[str, Any]) -> None:
    with open(path + ".new", "w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(path + ".new", path)


if __name__ == "__main__":
    chunk = Chunk()
    for each in chunk.members:
        if chunk.over:
            sys.exit(143)
        chunk.run(each)
