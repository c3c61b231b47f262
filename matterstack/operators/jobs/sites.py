"""Sites of jobs: a file system that this machine shares, or a host that ssh reaches.

The directory of an attempt here and there have one content: what is needed goes out before the job is submitted, what
it leaves comes home before it is judged. So whoever looks at an attempt looks here.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from matterstack import platforms
from matterstack.core.attempt_files import MACHINERY
from matterstack.core.attempts import Attempt
from matterstack.core.calls import ERROR, VALUE_ARRAYS
from matterstack.core.made import MADE, SUMS, SURROUNDINGS
from matterstack.core.strict_json import MAX_BYTES
from matterstack.core.task import Task
from matterstack.errors import InvalidConfigError, OperatorUnreachableError, UnsafeFileError
from matterstack.files import is_machine_trouble, read_inside, write_inside
from matterstack.operators.jobs import site_agent
from matterstack.operators.jobs.faults import cannot_tell, spoilt

T = TypeVar("T")
log = logging.getLogger("matterstack.operators.jobs.sites")

_KEY = ".remote-key"
_RSYNC_PARTIAL = 23
#: What ssh itself ends with, be it that a command does so too (ssh(1)).
_NO_CONNECTION = 255
_CONNECT_S = 10
_LEAVE_S = 5.0
#: What comes home of every attempt, beside its outputs.
_LEFT = ("result.json", "stdout.txt", "stderr.txt", "slurm.out", SURROUNDINGS, SUMS)
_ROOT = re.compile(r"[A-Za-z0-9._/+-]+")


class Command(NamedTuple):
    """A command, and the directory it starts in."""

    words: Sequence[str]
    directory: str | None = None


class Done(NamedTuple):
    """How a command ended.

    Attributes
    ----------
    code : int or None
        None where nobody can tell; `error` then says why.
    output, error : str
    """

    code: int | None
    output: str
    error: str


class Site(Protocol):
    """Where jobs live.

    Attributes
    ----------
    identity : str
        What tells it, and the scheduler that its commands reach, from others.
    """

    @property
    def identity(self) -> str: ...  # noqa: D102 - it is in the docstring of the class

    def place(self, parent: str, name: str) -> str:
        """Return a directory there: that of an attempt or a chunk, below an operator's directory here."""

    def run(self, commands: Sequence[Command], timeout_s: float, stop: str = "") -> list[Done]:
        """Run commands there, one after the other.

        Parameters
        ----------
        commands : sequence of Command
        timeout_s : float
            How long each may take, and for how long others are started.
        stop : str
            Pattern of standard error after which no other is started.

        Raises
        ------
        OperatorUnreachableError
            Nobody can tell what happened.
        """

    def accompany(self, attempts: Sequence[Attempt]) -> None:
        """Have the next `run` tell what these attempts have left by now."""

    def push(self, parent: str, names: Sequence[str], timeout_s: float) -> Mapping[str, str]:
        """Bring files and directories below an operator's directory there, all of them at once.

        Returns
        -------
        mapping of str to str
            By name, why not all of it can be brought there: a file that cannot be read here, or not be written there.
        """

    def fetch(self, attempts: Sequence[Attempt], timeout_s: float) -> Mapping[str, str]:
        """Bring home what attempts have left, all at once; return by token why it is not here yet."""

    def claim(self, attempts: Sequence[Attempt], timeout_s: float) -> list[bool]:
        """Take the claims of attempts; return of each whether it was free."""


class Here:
    """A file system that this machine and the nodes share."""

    @property
    def identity(self) -> str:
        """See `Site`: the cluster of this machine is the one that its commands and settings say."""
        return f"here {shutil.which('squeue')} {os.environ.get('SLURM_CONF')}"

    def place(self, parent: str, name: str) -> str:
        """See `Site.place`."""
        return f"{parent}/{name}"

    def run(self, commands: Sequence[Command], timeout_s: float, stop: str = "") -> list[Done]:
        """See `Site.run`."""
        _check_platform()
        reply = site_agent.carry_out(_request(None, commands, timeout_s, stop))
        return [Done(*done) for done in reply["done"]]

    def accompany(self, attempts: Sequence[Attempt]) -> None:
        """See `Site.accompany`: files that are shared are seen at any time."""

    def push(self, parent: str, names: Sequence[str], timeout_s: float) -> Mapping[str, str]:
        """See `Site.push`: they are there."""
        return {}

    def fetch(self, attempts: Sequence[Attempt], timeout_s: float) -> Mapping[str, str]:
        """See `Site.fetch`: it is here."""
        return {}

    def claim(self, attempts: Sequence[Attempt], timeout_s: float) -> list[bool]:
        """See `Site.claim`."""
        _check_platform()
        request = _request(None, (), timeout_s, claim=[str(attempt.directory) for attempt in attempts])
        free: list[bool] = site_agent.carry_out(request)["claimed"]
        return free


class Ssh:
    """A host that the system's ssh reaches, with the user's own configuration, keys and agents.

    Parameters
    ----------
    host : str
        As ``ssh`` takes it: a name of the user's ssh_config, or ``user@name``.
    root : str
        Directory there, below the home directory unless it begins with a slash.
    python : str
        Name or path of a Python 3.8 or newer there.

    Notes
    -----
    All goes over one connection, which is kept (``ControlMaster``, ssh_config(5)); where the user's configuration sets
    ``ControlPath`` for the host, over that one, so that a login by hand, with a second factor, serves us too.
    """

    def __init__(self, host: str, root: str, python: str) -> None:
        for name, value in (("host", host), ("python", python)):
            odd = not isinstance(value, str) or not value.isprintable() or any(c.isspace() for c in value)
            if odd or not value or value.startswith("-"):
                raise InvalidConfigError(f"{name} must be a name without spaces, not {value!r}")
        if not isinstance(root, str) or not _ROOT.fullmatch(root) or root.startswith("-") or ".." in root.split("/"):
            raise InvalidConfigError(f"root must be a path of letters, digits and ._/+-, not {root!r}")
        self.host = host
        self.root = root.rstrip("/") or "/"
        self.python = python
        self._words: list[str] = []
        self._control: list[str] = []  # what makes the connection ours; empty where the user's configuration has one
        self._accompanied: dict[str, Attempt] = {}

    @property
    def identity(self) -> str:
        """See `Site`."""
        return f"ssh {self.host}"

    # -- the connection -----------------------------------------------------------------------

    def _ssh(self) -> list[str]:
        """Find out once with which options ssh is called, make the folder of its connection, and return both."""
        if not self._words:
            said = self._start(["ssh", "-G", "--", self.host], 30.0)
            if said.code != 0:
                raise OperatorUnreachableError(f"ssh cannot use the host {self.host!r}: {_last_line(said.error)}")
            settings = dict(line.split(" ", 1) for line in said.output.splitlines() if " " in line)
            options = ["BatchMode=yes", "StrictHostKeyChecking=yes", f"ConnectTimeout={_CONNECT_S}"]
            if settings.get("controlpath", "none") == "none":
                place = Path.home() / ".ssh"
                place.mkdir(mode=0o700, exist_ok=True)
                self._control = _options(["ControlMaster=auto", "ControlPersist=3600", f"ControlPath={place}/ms-%C"])
                options += ["ServerAliveInterval=15", "ServerAliveCountMax=2"]
            self._words = ["ssh", "-T", "-x", *_options(options), *self._control]
        return self._words

    def _start(self, command: Sequence[str], timeout_s: float, given: bytes = b"") -> Done:
        """Run a command on this machine, in a session of its own, and end all of it when its time is over.

        Its output goes to files: the connection that ssh leaves behind would keep a pipe open. The code is None where
        it did not end in time, or was killed.
        """
        _check_platform()
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
            source.write(given)
            source.seek(0)
            try:
                process = subprocess.Popen(
                    site_agent.proved(command), stdin=source, stdout=out, stderr=error, start_new_session=True
                )
            except OSError as problem:
                raise OperatorUnreachableError(f"{command[0]} cannot be started: {problem}") from problem
            in_time = False
            try:
                process.wait(timeout_s)
                in_time = True
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGTERM)  # rsync then keeps what has arrived
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LEAVE_S)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            out.seek(0)
            error.seek(0)
            code, text = site_agent.exit_of(out.read().decode(errors="replace"))
            return Done(code if in_time else None, text, error.read().decode(errors="replace"))

    def _trouble(self, what: str, done: Done, timeout_s: float) -> str:
        """Return what to tell of a command that failed, and let go of a connection that hangs."""
        if done.code is None:
            if self._control:
                self._start([*self._ssh(), "-O", "exit", "--", self.host], 5.0)
            return f"{what} {self.host} did not end within {timeout_s:g} s, or was killed"
        hint = ""
        if re.search("ermission denied|Host key verification failed|host key is known", done.error):
            hint = (
                f". Log in once by hand, and that connection is used: {shlex.join(['ssh', *self._control, self.host])}"
            )
        return f"{what} {self.host} failed ({done.code}): {_last_line(done.error)}{hint}"

    def _ask(self, request: dict[str, Any], bound_s: float) -> dict[str, Any]:
        """Send a request, and return the reply."""
        program = Path(site_agent.__file__).read_text(encoding="utf-8") + f"\nmain({json.dumps(request)!r})\n"
        done = self._start([*self._ssh(), "--", self.host, f"{shlex.quote(self.python)} -"], bound_s, program.encode())
        for line in done.output.splitlines():
            if line.startswith(site_agent.MARK):  # login scripts may print things of their own
                with contextlib.suppress(ValueError):  # half a line, of a connection that was cut
                    reply: dict[str, Any] = json.loads(line.removeprefix(site_agent.MARK))
                    return reply
        raise OperatorUnreachableError(self._trouble("ssh to", done, bound_s))

    def shell(self, line: str, timeout_s: float) -> Done:
        """Run a line of the login shell there, as it is.

        Raises
        ------
        OperatorUnreachableError
            The host was not reached in that time.
        """
        done = self._start([*self._ssh(), "--", self.host, line], timeout_s)
        if done.code in (None, _NO_CONNECTION):
            raise OperatorUnreachableError(self._trouble("ssh to", done, timeout_s))
        return done

    # -- what a site does ---------------------------------------------------------------------

    def _key(self, parent: str) -> str:
        """Draw the name of a run's directory there once, keep it with the run, and return it."""
        try:
            key = read_inside(parent, _KEY, 100).decode(errors="replace")
        except FileNotFoundError:
            key = os.urandom(8).hex()
            write_inside(parent, _KEY, key.encode())
        except UnsafeFileError as error:
            raise OperatorUnreachableError(f"{parent}/{_KEY} cannot be used: {error}") from error
        if not (key.isalnum() and key.isascii()):
            raise OperatorUnreachableError(f"{parent}/{_KEY} does not hold a name")
        return key

    def place(self, parent: str, name: str) -> str:
        """See `Site.place`; it is below the root."""
        return f"{self._key(parent)}/{name}"

    def run(self, commands: Sequence[Command], timeout_s: float, stop: str = "") -> list[Done]:
        """See `Site.run`."""
        look, self._accompanied = self._accompanied, {}
        if not commands and not look:
            return []
        reply = self._ask(_request(self.root, commands, timeout_s, stop, look=list(look)), self._bound_s(timeout_s))
        for place, attempt in look.items():
            with spoilt(attempt):
                _note(attempt, *reply["left"][place])
        return [Done(*done) for done in reply["done"]]

    def accompany(self, attempts: Sequence[Attempt]) -> None:
        """See `Site.accompany`."""
        self._accompanied = {self.place(attempt.parent, attempt.name): attempt for attempt in attempts}

    def push(self, parent: str, names: Sequence[str], timeout_s: float) -> Mapping[str, str]:
        """See `Site.push`."""
        there = f"{self.root}/{self._key(parent)}/"
        making = f"--rsync-path=mkdir -p {there} && rsync"
        until = time.monotonic() + timeout_s
        failed: dict[str, str] = {}
        groups = [list(names)] if names else []
        while groups:
            group = groups.pop(0)
            left_s = max(1.0, until - time.monotonic())
            try:
                self._sync(group, f"{parent}/", f"{self.host}:{there}", left_s, ["--recursive", making])
            except _NotAllCameError as error:
                if time.monotonic() >= until:
                    raise
                if len(group) > 1:
                    groups += _halves(group)
                else:
                    failed[group[0]] = str(error)
        return failed

    def fetch(self, attempts: Sequence[Attempt], timeout_s: float) -> Mapping[str, str]:
        """See `Site.fetch`."""
        until = time.monotonic() + timeout_s
        failed: dict[str, str] = {}
        groups = [list(attempts)] if attempts else []
        while groups:
            group = groups.pop(0)
            try:
                self._fetch(group, max(1.0, until - time.monotonic()))
            except _NotAllCameError as error:
                # A file that cannot be read holds up its own attempt only, and that not for ever.
                if len(group) > 1 and time.monotonic() < until:
                    groups += _halves(group)
                    continue
                if len(group) > 1:
                    failed |= {attempt.token: str(error) for attempt in group}
                    continue
                log.warning("not all of %s came home: %s", group[0].name, error)
            except OperatorUnreachableError as error:
                failed |= {attempt.token: str(error) for attempt in group}
                continue
            for attempt in group:
                try:
                    with spoilt(attempt), cannot_tell("how it ended"):
                        _complete(attempt)
                except OperatorUnreachableError as error:
                    failed[attempt.token] = str(error)
        return failed

    def _fetch(self, attempts: Sequence[Attempt], timeout_s: float) -> None:
        names = [f"{a.name}/{file}" for a in attempts for file in (*_LEFT, *a.task.outputs, *_more(a.task))]
        calls = any(attempt.task.call for attempt in attempts)
        parent = attempts[0].parent
        source = f"{self.host}:{self.root}/{self._key(parent)}/"
        self._sync(
            names, source, f"{parent}/", timeout_s, ["--ignore-missing-args", *(["--recursive"] if calls else [])]
        )

    def claim(self, attempts: Sequence[Attempt], timeout_s: float) -> list[bool]:
        """See `Site.claim`."""
        request = _request(
            self.root, (), timeout_s, claim=[self.place(attempt.parent, attempt.name) for attempt in attempts]
        )
        free: list[bool] = self._ask(request, self._bound_s(timeout_s))["claimed"]
        return free

    def _bound_s(self, timeout_s: float) -> float:
        """Return how long a request may take: its last command may be started late, and take its time."""
        return 2 * timeout_s + _CONNECT_S

    def _sync(self, names: Sequence[str], source: str, target: str, timeout_s: float, options: Sequence[str]) -> None:
        """Copy files with rsync; links are left out, and what was cut off goes on where it stood.

        Raises
        ------
        OperatorUnreachableError
            Not all of it surely arrived.
        """
        command = ["rsync", "--times", "--perms", "--protect-args", "--partial", "--from0", "--files-from=-",
                   f"--rsh={shlex.join(self._ssh())}", *options, "--", source, target]  # fmt: skip
        done = self._start(command, timeout_s, b"\0".join(os.fsencode(name) for name in names))
        numbers = re.findall(r"\((\d+)\)", done.error)  # of the system's errors, as rsync tells them
        if done.code == _RSYNC_PARTIAL and not any(is_machine_trouble(OSError(int(n), "")) for n in numbers):
            raise _NotAllCameError(_last_line(done.error))
        if done.code != 0:
            raise OperatorUnreachableError(self._trouble("rsync with", done, timeout_s))


def _check_platform() -> None:
    if why := platforms.why_not(platforms.SLURM):
        raise OperatorUnreachableError(why)


def _more(task: Task) -> Sequence[str]:
    """Return what comes home besides outputs: of a call, and for the next attempt."""
    return (*((ERROR, f"{VALUE_ARRAYS}/", MADE) if task.call else ()), *(task.restart or {}).values())


class _NotAllCameError(OperatorUnreachableError):
    """Some of the files could not be read or written."""


def _halves(group: list[T]) -> list[list[T]]:
    """Return the halves of a group, in one of which is what could not be copied."""
    return [group[: len(group) // 2], group[len(group) // 2 :]]


def _complete(attempt: Attempt) -> None:
    """Write how an attempt ended, now that what it left is here."""
    with contextlib.suppress(FileNotFoundError):
        left = read_inside(attempt.directory, f"{MACHINERY}/left.json", MAX_BYTES)
        write_inside(attempt.directory, f"{MACHINERY}/exit.json", left)


def _note(attempt: Attempt, began: str | None, ended: str | None) -> None:
    """Write here what an attempt has left there: that it began, and aside, for `_complete`, how it ended."""
    ours = attempt.directory / MACHINERY
    if began:
        if not (ours / "claim/started.json").exists():
            write_inside(ours, "claim/started.json", began.encode())
    elif began is not None:
        (ours / "claim").mkdir(exist_ok=True)
    if ended and not (ours / "left.json").exists():
        write_inside(ours, "left.json", ended.encode())


def has_left(attempt: Attempt) -> bool:
    """Return whether an attempt is known to have ended there, be what it left here or not."""
    return os.path.lexists(f"{attempt.parent}/{attempt.name}/{MACHINERY}/left.json")


def _request(
    root: str | None,
    commands: Sequence[Command],
    timeout_s: float,
    stop: str = "",
    *,
    look: Sequence[str] = (),
    claim: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what `site_agent.carry_out` takes."""
    pairs = [[list(words), directory] for words, directory in commands]
    request: Mapping[str, Any] = {"root": root, "commands": pairs, "timeout_s": timeout_s, "stop": stop}
    return {**request, "look": list(look), "claim": list(claim)}


def _options(settings: Sequence[str]) -> list[str]:
    return [word for setting in settings for word in ("-o", setting)]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # What rsync says at last of a connection that ended, or of a file, has been said better before.
    hollow = ("rsync error: ", "rsync: connection unexpectedly closed")
    lines = [line for line in lines if not line.startswith(hollow)] or lines
    return lines[-1][:500] if lines else "it said nothing"
