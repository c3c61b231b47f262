"""The connection to the runner of a run's local commands, which is started where there is none."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import stat
import struct
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matterstack import crash_points, interrupts
from matterstack.core.attempts import Attempt, Observation, Seen
from matterstack.core.states import AttemptStatus
from matterstack.errors import OperatorUnreachableError
from matterstack.operators.local.runner.messages import flaw
from matterstack.operators.local.runner.processes import boot_id
from matterstack.operators.results import last_words

_ANSWER_S = 5.0
_START_S = 20.0
_MOST_AHEAD = 64
#: As a module it is loaded from its bytecode; as a script it would be compiled at every start.
_START_RUNNER = "import sys; sys.path.append(sys.argv[1]); import runner.serve; runner.serve.start(*sys.argv[2:])"


class Link:
    """The connection to the runner of one directory, and what it has said."""

    def __init__(self, directory: Path, max_active: int) -> None:
        self.directory = directory
        self.known: dict[str, dict[str, Any]] = {}
        self.mine: set[str] = set()
        self.suspects: set[str] = set()
        self.answered = -1
        self.question = 0
        self.closed = False
        self._received = b""
        self._ends: deque[float] = deque(maxlen=_MOST_AHEAD)
        self.socket = _connect(directory)
        self._send({"request": "hello", "environment": _environment(), "max_active": max_active})

    def __del__(self) -> None:
        if hasattr(self, "socket"):
            self.socket.close()

    def ended_lately(self) -> int:
        """Return how many commands ended during the last second, `_MOST_AHEAD` at most."""
        since = time.monotonic() - 1.0
        while self._ends and self._ends[0] < since:
            self._ends.popleft()
        return len(self._ends)

    def start(self, jobs: Sequence[dict[str, Any]]) -> None:
        """Have commands started."""
        for job in jobs:
            self.known[job["token"]] = {"event": "queued"}
            self.mine.add(job["token"])
        self._send({"request": "start", "jobs": jobs})

    def refresh(self, attempts: Sequence[Attempt]) -> None:
        """Take in what was reported; ask about attempts that were submitted by somebody else."""
        self._receive()
        unknown_to_us = [attempt for attempt in attempts if attempt.token not in self.mine]
        if unknown_to_us:
            self.ask("ask", unknown_to_us)

    def forget_others(self, attempts: Sequence[Attempt]) -> None:
        """Forget what is no longer asked about: it is over and stored."""
        tokens = {attempt.token for attempt in attempts}
        for token in self.known.keys() - tokens:
            del self.known[token]
        self.mine &= tokens
        self.suspects &= tokens

    def ask(self, request: str, attempts: Sequence[Attempt]) -> None:
        """Send a question and wait for its answer.

        Raises
        ------
        OperatorUnreachableError
            No answer within seconds.
        """
        self.question += 1
        self._send(
            {
                "request": request,
                "number": self.question,
                "attempts": [(attempt.token, attempt.name) for attempt in attempts],
            }
        )
        deadline = time.monotonic() + _ANSWER_S
        while self.answered != self.question:
            with interrupts.heard():
                self._await(select.POLLIN, deadline)
            self._receive()
        for attempt in attempts:
            if self.known.get(attempt.token, {}).get("event") in ("queued", "started"):
                self.mine.add(attempt.token)  # the runner tells from now on

    def observe(self, attempt: Attempt) -> Observation | None:
        """Return what the last report of an attempt means."""
        said = self.known.get(attempt.token, {})
        match said:
            case {"event": "queued", "reason": reason}:
                return Observation(Seen.QUEUED, reason=reason)
            case {"event": "started"}:
                if "reason" in said:
                    self.mine.discard(attempt.token)  # an orphan ends without a report
                return Observation(
                    Seen.RUNNING,
                    reason=said.get("reason"),
                    external_id=said["external_id"],
                    started_at=said["started_at"],
                )
            case {"event": "ended"}:
                code = said["exit_code"]
                reason = said["reason"] or (f"exit code {code}" if code else None)
                if reason and code is not None:
                    reason += last_words(attempt.directory)
                return Observation(
                    Seen.ENDED,
                    ok=reason is None,
                    reason=reason or said["note"],
                    external_id=said["external_id"],
                    started_at=said["started_at"],
                    ended_at=said["ended_at"],
                    exit_code=code,
                )
            case {"event": "unclear", "flaw": wrong}:
                # Nothing is known, so it stays where it stands; to say why takes an observation that moves nothing.
                self.mine.discard(attempt.token)
                if attempt.status is AttemptStatus.RUNNING:
                    return Observation(Seen.RUNNING, reason=_unclear(wrong))
                return Observation(Seen.QUEUED, reason=_unclear(wrong))
            case {"event": "vanished"}:
                self.mine.discard(attempt.token)
                if attempt.token in self.suspects:
                    return Observation(
                        Seen.VANISHED,
                        reason="nothing of it is alive, and how it ended was not recorded: the process that watched "
                        "it was killed, or the machine restarted",
                    )
                self.suspects.add(attempt.token)  # judged at the second look
        return None

    # -- the socket ---------------------------------------------------------------------

    def _fail(self, error: object) -> OperatorUnreachableError:
        self.closed = True
        self.socket.close()
        return OperatorUnreachableError(f"the runner of {self.directory} does not answer: {error}")

    def _await(self, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(self.socket, event)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise self._fail(f"nothing heard for {_ANSWER_S:g} s")

    def _send(self, message: dict[str, Any]) -> None:
        data = memoryview(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        deadline = time.monotonic() + _ANSWER_S
        while data:
            try:
                data = data[self.socket.send(data, socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                self._receive()  # it may wait for us to read
                self._await(select.POLLOUT | select.POLLIN, deadline)
            except OSError as error:
                raise self._fail(error) from error

    def _receive(self) -> None:
        while True:
            try:
                chunk = self.socket.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError as error:
                raise self._fail(error) from error
            if not chunk:
                raise self._fail("it has gone")
            *lines, self._received = (self._received + chunk).split(b"\n")
            for line in lines:
                self._hear(line)

    def _hear(self, line: bytes) -> None:
        """Take one message in; what is wrong with one about an attempt is that attempt's trouble alone."""
        try:
            match json.loads(line):
                case {"event": "answered", "number": int(number)}:
                    self.answered = number
                case {"token": str(token)} as said:
                    wrong = flaw(said)
                    self.known[token] = {"event": "unclear", "flaw": wrong} if wrong else said
                    if self.known[token]["event"] == "ended":
                        self._ends.append(time.monotonic())
                case _:
                    raise ValueError("no message")
        except (ValueError, RecursionError):
            raise self._fail(f"it said {line!r:.100}, which no runner says; end that process") from None


def _unclear(wrong: str) -> str:
    return f"what the runner says of it makes no sense ({wrong}): it is asked again; cancel the task, or end the runner"


def _environment() -> dict[str, str]:
    """Return this process's environment, with its own Python's directory first in PATH."""
    environment = {name: value for name, value in os.environ.items() if not _has_surrogates(name + value)}
    own = os.path.dirname(sys.executable)
    path = environment.get("PATH", os.defpath)
    if own and path.split(os.pathsep)[0] != own:
        environment["PATH"] = own + os.pathsep + path
    return environment


def _crash_point() -> dict[str, str]:
    """Return what arms a crash point in the runner alone, where a test says so."""
    armed = os.environ.get("MATTERSTACK_CRASH_RUNNER")
    return {"MATTERSTACK_CRASH": armed, "MATTERSTACK_CRASH_POINTS": crash_points.__file__} if armed else {}


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _connect(directory: Path) -> socket.socket:
    """Return a connection to the runner of a directory, starting one where there is none."""
    if not sys.platform.startswith("linux"):
        raise OperatorUnreachableError("the local operator needs Linux: it relies on /proc and abstract sockets")
    deadline = time.monotonic() + _START_S
    error: object = "it did not start"
    while time.monotonic() < deadline:
        holder = _holder(directory)
        if holder is None:
            _start_runner(directory, deadline)
            continue
        if (holder.get("host"), holder.get("boot")) != (socket.gethostname(), boot_id()):
            raise OperatorUnreachableError(
                f"the local commands of {directory.parent.parent} are looked after by pid {holder.get('pid')} on "
                f"{holder.get('host')}, which still holds runner.lock: step the run there, or end that process"
            )
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(f"\0{holder['address']}")
        except OSError as refused:
            # It is on its way in or out: its lock tells when it has gone.
            connection.close()
            error = refused
            with interrupts.heard():
                select.poll().poll(5)
            continue
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != os.getuid():
            connection.close()
            raise OperatorUnreachableError(
                f"the runner of {directory} is a process of another user (uid {uid}): it is told nothing of your "
                "environment, and not believed. Wait until their commands are over, or have them step the run"
            )
        connection.setblocking(False)
        return connection
    raise OperatorUnreachableError(f"the runner of {directory} cannot be reached: {error}; see runner.log there")


def _holder(directory: Path) -> dict[str, Any] | None:
    """Return what runner.lock says of the runner that holds it; None when nobody does."""
    try:
        descriptor = _open_own(directory / "runner.lock", os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            with contextlib.suppress(ValueError):
                holder: dict[str, Any] = json.loads(os.pread(descriptor, 4096, 0))
                return holder
            return {"host": socket.gethostname(), "boot": boot_id(), "address": ""}
        return None
    finally:
        os.close(descriptor)


def _open_own(path: Path, flags: int) -> int:
    """Open a file of the runner's, never waiting for it; where something else stands in its place, say so."""
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise OperatorUnreachableError(
            f"{path} cannot be opened: {error.strerror}; remove it, if it is no file"
        ) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OperatorUnreachableError(f"{path} is no plain file, so no runner can use it: remove it")
    return descriptor


def _start_runner(directory: Path, deadline: float) -> None:
    """Start a runner and wait until it listens, or until it finds that another one does."""
    directory.mkdir(parents=True, exist_ok=True)
    log = _open_own(directory / "runner.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    ready, done = os.pipe2(os.O_CLOEXEC)
    place = os.path.dirname(os.path.abspath(__file__))
    try:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-c", _START_RUNNER, place, "3", str(directory)],
            {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", **_crash_point()},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
                (os.POSIX_SPAWN_DUP2, done, 3),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD),
        )
        os.close(done)
        done = -1
        os.waitpid(pid, 0)  # it detaches itself at once
        poll = select.poll()
        poll.register(ready, select.POLLIN)
        with interrupts.heard():
            poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
    except OSError as error:
        raise OperatorUnreachableError(f"the runner of {directory} cannot be started: {error}") from error
    finally:
        os.close(log)
        os.close(ready)
        if done >= 0:
            os.close(done)
