"""The program of a chunk job: it runs the commands of its attempts, one after the other.

It is copied beside the chunk's list and started there as a program, so it needs nothing but the standard library
of Python 3.8, and what is copied there with it. Each attempt is claimed before its command starts (a directory is
made), so a chunk that is started again goes on where it stood; and each leaves how it ended in ``exit.json``, as the
script of a single job does.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .chunk_warm import WarmStarts

_LOOK_S = 1.0
_GRACE_S = 5.0
_TRIES = 60
_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)
_ENDED_BY_SIGTERM = (-signal.SIGTERM, 128 + signal.SIGTERM)  # also as a shell says it
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


class ChunkRunner:
    """The attempts of one job."""

    def __init__(self, warm_starts: type[WarmStarts]) -> None:
        with open("chunk.json") as file:
            self.members = json.load(file)["members"]
        self.root = os.open(".", os.O_RDONLY)
        self.environment = dict(os.environ)
        self.began = {"job": os.environ.get("SLURM_JOB_ID", ""), "host": os.uname().nodename}
        self.over = False
        self.warm = warm_starts(self.members, os.open("../..", os.O_RDONLY), lambda: self.over)
        self.wakeup, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self.note_end)

    def note_end(self, *_: Any) -> None:
        """Note that the job is being ended: what runs leaves no exit code, and nothing else is begun."""
        self.over = True

    def run(self, member: dict[str, Any]) -> None:
        """Claim an attempt, and run its command."""
        os.fchdir(self.root)
        try:
            os.chdir("../../" + member["directory"])
            os.mkdir(".matterstack/claim")
        except (FileExistsError, FileNotFoundError):
            return  # it has been run, is being run, or is not wanted any more
        _write(".matterstack/claim/started.json", {"started_at": time.time(), **self.began})
        state = None
        try:
            process = self.start(member)
        except (OSError, LookupError, ValueError) as problem:
            with open("stderr.txt", "w") as error:
                error.write(f"it cannot be started: {problem}\n")
            code = 126
        else:
            code, state = self.watch(process, member["limit_s"])
            if code in _ENDED_BY_SIGTERM and state is None:
                self.await_end()
            if self.over:
                return
        ended: dict[str, Any] = {"exit_code": code, "ended_at": time.time()}
        if state is not None:
            ended["state"] = state
        tries = _TRIES
        while not _wrote(".matterstack/exit.json", ended, last=tries == 1 or self.over):
            tries -= 1
            self.sleep(_LOOK_S)

    def start(self, member: dict[str, Any]) -> int:
        """Start a command in the present directory and in a session of its own; return its process id."""
        argv = member["argv"]
        environment = dict(self.environment)
        for name, value in member["env"].items():
            if value.startswith("env:"):
                if value[4:] not in self.environment:
                    raise LookupError(f"{value[4:]} has to be set: the task needs it")
                value = self.environment[value[4:]]
            environment[name] = value
        program = _find(argv[0], environment.get("PATH", os.defpath))
        if member.get("call") is not None:
            process, why = self.warm.start(member, program, environment)
            if process:
                return process
            with open(".matterstack/start", "w") as note:
                note.write(f"cold: {why}\n")
        return os.posix_spawn(
            program,
            argv,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, "stdout.txt", _NEW, 0o666),
                (os.POSIX_SPAWN_OPEN, 2, "stderr.txt", _NEW, 0o666),
            ],
            setsid=True,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )

    def watch(self, process: int, limit_s: float | None) -> tuple[int, str | None]:
        """Wait until the command ends; end it when its time or the job is over, or when that is asked for.

        Returns
        -------
        exit_code : int
            Minus the signal's number where one killed it.
        state : str or None
            Why it was ended by us.
        """
        began = time.monotonic()
        state = None
        asked = 0.0
        while True:
            pid, status = os.waitpid(process, os.WNOHANG)
            if pid:
                _kill(process, signal.SIGKILL)  # what it left running has no one to answer to
                return (-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)), state
            now = time.monotonic()
            if state is None and limit_s is not None and now - began >= limit_s:
                state = "TIMEOUT"
            elif state is None and os.path.lexists(".matterstack/cancel"):
                state = "CANCELLED"
            unwanted = state is not None or self.over
            if unwanted and not asked:
                asked = now
                _kill(process, signal.SIGTERM)
            elif unwanted and now - asked >= _GRACE_S:
                _kill(process, signal.SIGKILL)
            self.sleep(_LOOK_S if limit_s is None or state else min(_LOOK_S, max(0.0, limit_s - (now - began))))

    def sleep(self, seconds: float) -> None:
        """Wait until a signal comes, so many seconds at most."""
        if select.select([self.wakeup], [], [], seconds)[0]:
            os.read(self.wakeup, 4096)

    def await_end(self) -> None:
        """Wait a moment for a signal to end: of a job's processes, a scheduler may reach the command first."""
        until = time.monotonic() + _LOOK_S
        while not self.over and time.monotonic() < until:
            self.sleep(_LOOK_S)


def _find(name: str, path: str) -> str:
    """Return what a shell would start for `name`."""
    if "/" in name:
        return name
    for place in path.split(os.pathsep):
        candidate = os.path.join(place or ".", name)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    raise LookupError(f"{name}: command not found")


def _kill(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _write(path: str, content: dict[str, Any]) -> None:
    """Write a file whole."""
    with open(path + ".new", "w") as file:
        file.write(json.dumps(content))
    os.rename(path + ".new", path)


def _wrote(path: str, content: dict[str, Any], *, last: bool) -> bool:
    """Write a file whole; return False where the disk takes nothing now, which may not stay so."""
    try:
        _write(path, content)
    except OSError as problem:
        if last or problem.errno not in _PASSING:
            raise
        return False
    return True


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # Python is started without that
    chunk = ChunkRunner(__import__("chunk_warm").WarmStarts)
    for each in chunk.members:
        if chunk.over:
            chunk.warm.close()
            sys.exit(143)
        try:
            chunk.run(each)
        except OSError as problem:  # of its own directory: the others shall have their turn
            sys.stderr.write(f"{each['directory']}: {problem}\n")
    chunk.warm.close()
