"""Answers that may take long to be read: read in processes of their own, and waited for no longer than is bearable.

A question is put once, and its reader goes on while nobody waits: a later look finds what it came to. A reader that
takes too much time or memory is ended by the system (see `check_server`), and the answer counts as one that cannot be
checked.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any, NamedTuple

from matterstack import platforms
from matterstack.core.schemas import is_costly
from matterstack.operators.requests.answers import Reading, Violation, read_answer
from matterstack.operators.requests.check_server import BEGUN, ONE_THREAD, PLAIN, WITH_IRIS, WITH_WORKBOOKS

log = logging.getLogger("matterstack.checks")

#: What a check may take, in whole seconds of computing.
_CHECK_S = 10
_AT_ONCE = 2
#: A reader that never begins is asked for anew: its server may just have been killed.
_TRIES = 3
_MOST_KEPT = 50
_MOST_REPLY = 50_000_000


class NotYet(Enum):
    """Why it is not known yet what an answer is worth."""

    QUEUED = "its check has not begun yet"
    AT_WORK = "it is being checked"
    NOT_STARTED = "its check cannot be started on this machine: the log says more"


class _Job(NamedTuple):
    """A question that was put, and where its answer comes in; one thread at a time listens."""

    replies: socket.socket
    came: bytearray
    turn: threading.Lock


class _Server:
    """The program that forks readers; started when it is first needed, and anew where it is gone."""

    def __init__(self) -> None:
        self.process = os.getpid()  # what a fork inherits is its parent's
        self.pid: int | None = None
        self.control: socket.socket | None = None
        self.lock = threading.RLock()
        self.jobs: dict[str, _Job] = {}
        self.done: OrderedDict[str, Reading] = OrderedDict()

    def start(self) -> None:
        """Start the program, unless it runs; its start is not waited for."""
        with self.lock:
            if self.control is not None:
                return
            mine, its = socket.socketpair()
            command = [sys.executable, "-P", "-m", "matterstack.operators.requests.check_server"]
            actions = [
                (os.POSIX_SPAWN_DUP2, its.fileno(), 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            ]
            with its:
                environment = {**os.environ, **ONE_THREAD}
                self.pid = os.posix_spawn(sys.executable, command, environment, file_actions=actions, setsid=True)
            self.control = mine

    def stop(self) -> None:
        """End the program and its readers."""
        with self.lock:
            if self.control is not None:
                self.control.close()
            for job in self.jobs.values():
                job.replies.close()
            self.jobs.clear()
            if self.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(self.pid, 0)
            self.control = self.pid = None

    def let_go(self) -> None:
        """Close, in a fork, what belongs to its parent."""
        for inherited in (self.control, *(job.replies for job in self.jobs.values())):
            if inherited is not None:
                inherited.close()

    def hear(self, key: str, until: float) -> Reading | None:
        """Listen to a reader; keep and return what it came to, or None where that is not known yet."""
        job = self.jobs.get(key)
        if job is None or not job.turn.acquire(timeout=max(0.0, until - time.monotonic())):
            return None
        try:
            found = _listen(job, until)
        except EOFError:
            log.warning("a check never began; it is tried again")
            self.jobs.pop(key, None)
            return None
        except OSError:
            return None  # another thread has heard it, or the server was stopped
        finally:
            job.turn.release()
        if found is not None:
            with self.lock:
                self.done[key] = found
                self.jobs.pop(key, None)
                while len(self.done) > _MOST_KEPT:
                    self.done.popitem(last=False)
        return found

    def ask(self, source: str, raw: bytes, schema: Mapping[str, Any]) -> _Job:
        """Put a question.

        Raises
        ------
        ConnectionError
            The program is gone; the next question starts it anew.
        """
        asked = {"source": source, "schema": schema, "most_s": _CHECK_S}
        with self.lock:
            self.start()
            assert self.control is not None
            mine, its = socket.socketpair()
            question = os.memfd_create("matterstack-question", os.MFD_CLOEXEC)
            try:
                with open(os.dup(question), "wb") as file:
                    file.write(json.dumps(asked).encode() + b"\n" + raw)
                os.lseek(question, 0, os.SEEK_SET)
                socket.send_fds(self.control, [_kind(source, schema)], [question, its.fileno()])
            except ConnectionError:
                mine.close()
                self.stop()
                raise
            finally:
                its.close()
                os.close(question)
            return _Job(mine, bytearray(), threading.Lock())


def _kind(source: str, schema: Mapping[str, Any]) -> bytes:
    """Return which library the check needs besides."""
    if PurePath(source).suffix == ".xlsx":
        return WITH_WORKBOOKS
    return WITH_IRIS if '"iri' in json.dumps(schema) else PLAIN


def _listen(job: _Job, until: float) -> Reading | None:
    """Return what a reader came to; None where it is at work still.

    Raises
    ------
    EOFError
        It never began.
    """
    while True:
        job.replies.settimeout(max(0.0, until - time.monotonic()))
        try:
            piece = job.replies.recv(1 << 20)
        except (BlockingIOError, TimeoutError):
            return None
        except ConnectionResetError:
            piece = b""
        job.came.extend(piece)
        if piece and len(job.came) <= _MOST_REPLY:
            continue
        job.replies.close()
        if not job.came.startswith(BEGUN):
            raise EOFError
        try:
            said = json.loads(bytes(job.came[len(BEGUN) :]))
        except ValueError:
            return too_long()  # the system ended it
        return Reading(said["value"], [Violation(*violation) for violation in said["violations"]])


def too_long() -> Reading:
    """Return what an answer is worth whose check was cut off."""
    return Reading(None, [Violation((), "", f"it cannot be checked against its schema within {_CHECK_S} s")])


_server = _Server()


def _current() -> _Server:
    global _server
    if _server.process != os.getpid():
        _server.let_go()
        _server = _Server()
    return _server


@atexit.register
def _stop() -> None:
    if _server.process == os.getpid():
        _server.stop()


def prepare_checks(schema: Mapping[str, Any]) -> None:
    """Start what a schema's checks need, where they may take long, so that the first one begins at once."""
    if is_costly(schema, 0) and platforms.why_not(platforms.CHECK_COSTLY) is None:
        _current().start()


class Patience:
    """How long checks are waited for, in all: by one tick, or by somebody who answers.

    Parameters
    ----------
    left_s : float
        Seconds.
    """

    def __init__(self, left_s: float) -> None:
        self.left_s = left_s

    def read(self, source: str, raw: bytes, schema: Mapping[str, Any]) -> Reading | NotYet:
        """Read and check an answer: at once where that is surely quick, or else in a process of its own.

        Parameters
        ----------
        source : str
            The name of its file.
        raw : bytes
            The whole file.
        schema : mapping
            JSON Schema of the answer.

        Returns
        -------
        Reading or NotYet
            Where it is not known yet, ask again.
        """
        began = time.monotonic()
        try:
            if PurePath(source).suffix != ".xlsx" and not is_costly(schema, len(raw)):
                return read_answer(source, raw, schema)
            return _read_apart(source, raw, schema, began + self.left_s)
        finally:
            self.left_s = max(0.0, self.left_s - (time.monotonic() - began))


def _read_apart(source: str, raw: bytes, schema: Mapping[str, Any], until: float) -> Reading | NotYet:
    if why := platforms.why_not(platforms.CHECK_COSTLY):
        log.warning("%s", why)
        return NotYet.NOT_STARTED
    server = _current()
    key = hashlib.sha256(json.dumps([source, schema]).encode() + b"\0" + raw).hexdigest()
    for _ in range(_TRIES):
        with server.lock:
            if key in server.done:
                server.done.move_to_end(key)
                return server.done[key]
            if len(server.jobs) >= _AT_ONCE:
                for other in [one for one in server.jobs if one != key]:
                    server.hear(other, 0.0)  # asked for by somebody who did not wait
            if key not in server.jobs:
                if until <= time.monotonic() and len(server.jobs) >= _AT_ONCE:
                    return NotYet.QUEUED
                try:
                    server.jobs[key] = server.ask(source, raw, schema)
                except ConnectionError:
                    continue
        found = server.hear(key, until)
        if found is not None:
            return found
        if (job := server.jobs.get(key)) is not None:
            return NotYet.AT_WORK if job.came else NotYet.QUEUED
    return server.done.get(key) or NotYet.NOT_STARTED
