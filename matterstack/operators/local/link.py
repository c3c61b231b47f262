"""The connection to the runner of a run's local commands, which is started where there is none."""

from __future__ import annotations

import contextlib
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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matterstack import crash_points, interrupts, platforms
from matterstack.core.attempts import Attempt, Observation, Seen
from matterstack.core.states import AttemptStatus
from matterstack.errors import OperatorUnreachableError
from matterstack.operators.local.runner.messages import flaw
from matterstack.operators.results import exception_of, last_words

_ANSWER_S = 5.0
_START_S = 20.0
_MOST_AHEAD = 64
_LAST_WORDS = 2000  # bytes of runner.log
#: As a module it is loaded from its bytecode; as a script it would be compiled at every start.
_START_RUNNER = "import sys; sys.path.append(sys.argv[1]); import runner.serve; runner.serve.start(*sys.argv[2:])"
_ESCAPE = "surrogateescape"
#: What an interpreter may need to start at all: its programs, its shared libraries, its standard library.
_FOR_PYTHON = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME")

#: How the reason of an attempt begins that the runner stopped, and of which kind its failure is.
_STOPPED = {"time limit: ": "TIMEOUT", "memory limit: ": "OUT_OF_MEMORY"}


class Identity(NamedTuple):
    """What a directory is, whatever its path: another one may come to lie there."""

    device: int
    inode: int

    @classmethod
    def of(cls, path: str | Path) -> Identity | None:
        """Return the identity of what is at a path now; None where nothing is."""
        try:
            status = os.stat(path)
        except OSError:
            return None
        return cls(status.st_dev, status.st_ino)


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
        self._environment: dict[bytes, bytes] | None = None  # as it was when it was sent
        self.socket = _connect(directory)
        identity = Identity.of(directory)
        if identity is None:
            raise self._fail("the directory was taken away")
        self.identity = identity
        self._send({"request": "hello", "max_active": max_active})

    def __del__(self) -> None:
        if hasattr(self, "socket"):
            self.socket.close()

    def leads_there(self) -> bool:
        """Return whether it is open, and its directory is what lies at the path now."""
        # Its runner works in the directory, so nothing else gets this identity while both are connected.
        return not self.closed and Identity.of(self.directory) == self.identity

    def close(self) -> None:
        """End the connection; what the runner was asked for goes on."""
        self.closed = True
        self.socket.close()

    def ended_lately(self) -> int:
        """Return how many commands ended during the last second, `_MOST_AHEAD` at most."""
        since = time.monotonic() - 1.0
        while self._ends and self._ends[0] < since:
            self._ends.popleft()
        return len(self._ends)

    def start(self, jobs: Sequence[dict[str, Any]]) -> None:
        """Have commands started in the environment that this process has now; it is sent where it has changed."""
        for job in jobs:
            self.known[job["token"]] = {"event": "queued"}
            self.mine.add(job["token"])
        message: dict[str, Any] = {"request": "start", "jobs": jobs}
        environment = dict(os.environb)
        if environment != self._environment:
            message["environment"] = _for_commands(environment)
        self._send(message)
        self._environment = environment

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
        said = self.known.get(attempt.token)
        if said is None or (said["event"] == "queued" and "reason" not in said):
            return None  # that is most of them
        match said:
            case {"event": "absent"} if attempt.status is AttemptStatus.RUNNING:
                return Observation(
                    Seen.VANISHED,
                    reason="it had begun, and left no trace: the power went, or somebody removed its files",
                )
            case {"event": "absent"}:
                return Observation(Seen.ABSENT)
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
                    raised = exception_of(attempt.directory) if attempt.task.call and not said["reason"] else None
                    reason = raised or f"{reason}{last_words(attempt.directory)}"
                return Observation(
                    Seen.ENDED,
                    ok=reason is None,
                    reason=reason or said["note"],
                    external_id=said["external_id"],
                    started_at=said["started_at"],
                    ended_at=said["ended_at"],
                    exit_code=code,
                    kind=_kind_of(said["reason"] or ""),
                    cpu_s=said.get("cpu_s"),
                    peak_memory_gib=said.get("peak_memory_gib"),
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
        self.close()
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


def _kind_of(reason: str) -> str | None:
    return next((kind for begin, kind in _STOPPED.items() if reason.startswith(begin)), None)


def _unclear(wrong: str) -> str:
    return f"what the runner says of it makes no sense ({wrong}): it is asked again; cancel the task, or end the runner"


def _for_commands(environment: Mapping[bytes, bytes]) -> dict[str, str]:
    """Return an environment as the runner reads it, with the directory of this process's Python first in PATH."""
    own = os.path.dirname(os.fsencode(sys.executable))
    path = environment.get(b"PATH", os.fsencode(os.defpath))
    if own and path.split(b":")[0] != own:
        environment = {**environment, b"PATH": own + b":" + path}
    # The runner speaks UTF-8, whatever the locale here is; other bytes get through as lone surrogates.
    return {name.decode(errors=_ESCAPE): value.decode(errors=_ESCAPE) for name, value in environment.items()}


def path_for_commands() -> str:
    """Return the ``PATH`` of a command that is submitted now."""
    return _for_commands(os.environb)["PATH"]


def _crash_point() -> dict[str, str]:
    """Return what arms a crash point in the runner alone, where a test says so."""
    armed = os.environ.get("MATTERSTACK_CRASH_RUNNER")
    return {"MATTERSTACK_CRASH": armed, "MATTERSTACK_CRASH_POINTS": crash_points.__file__} if armed else {}


def _connect(directory: Path) -> socket.socket:
    """Return a connection to the runner of a directory, starting one where there is none."""
    if why := platforms.why_not(platforms.LOCAL):  # it relies on /proc and abstract sockets
        raise OperatorUnreachableError(why)
    from matterstack.operators.local.runner.processes import machine

    deadline = time.monotonic() + _START_S
    error: object = "it did not start"
    while time.monotonic() < deadline:
        holder = holder_of(directory)
        if holder is None:
            _start_runner(directory, deadline)
            continue
        if holder.get("machine") != machine():
            raise OperatorUnreachableError(
                f"the local commands of {directory.parent.parent} are looked after by pid {holder.get('pid')} on "
                f"{holder.get('host')}, or in a container there, and it still holds runner.lock: step the run there, "
                "or end that process"
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


def holder_of(directory: Path) -> dict[str, Any] | None:
    """Return what runner.lock says of the runner that holds it; None when nobody does."""
    import fcntl

    from matterstack.operators.local.runner.processes import machine

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
            return {"machine": machine(), "address": ""}
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
    """Start a runner and wait until it listens, or until it finds that another one does.

    Raises
    ------
    OperatorUnreachableError
        It cannot be started, or it ended at once; with its last words.
    """
    directory.mkdir(parents=True, exist_ok=True)
    log = _open_own(directory / "runner.log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    before = os.fstat(log).st_size
    ready, done = os.pipe2(os.O_CLOEXEC)
    place = os.path.dirname(os.path.abspath(__file__))
    needed = {name: os.environ[name] for name in _FOR_PYTHON if name in os.environ}
    try:
        # Neither the present directory nor what is installed is searched for modules; -I would ignore PYTHONHOME too.
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-s", "-S", "-c", _START_RUNNER, place, "3", str(directory)],
            {**needed, "LC_ALL": "C.UTF-8", **_crash_point()},
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
        poll = select.poll()
        poll.register(ready, select.POLLIN)
        heard: list[tuple[int, int]] = []
        try:
            with interrupts.heard():
                heard = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        finally:
            with contextlib.suppress(ChildProcessError):  # where SIGCHLD is ignored, nobody has to wait for it
                if not heard and os.waitpid(pid, os.WNOHANG) == (0, 0):
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)  # it detaches itself at once
        if heard and not os.read(ready, 1):
            raise OperatorUnreachableError(f"the runner of {directory} ended at once: {_said(log, before)}")
    except OSError as error:
        raise OperatorUnreachableError(f"the runner of {directory} cannot be started: {error}") from error
    finally:
        os.close(log)
        os.close(ready)
        if done >= 0:
            os.close(done)


def _said(log: int, since: int) -> str:
    """Return the last lines that a log got since it had a size."""
    begin = max(since, os.fstat(log).st_size - _LAST_WORDS)
    lines = os.pread(log, _LAST_WORDS, begin).decode(errors="replace").splitlines()
    return " | ".join([line.strip() for line in lines if line.strip()][-3:]) or "it left no word in runner.log"
