"""Answers of a scheduler, which all runs of this user on this machine share: one question serves all of them.

A file an answer, in a folder of this user's own; what is in it is text, with the time by the clock that every process
here shares and nobody sets. Where there is no such folder, or it is anybody else's, each run asks for itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import filelock

from matterstack.crash_points import reach
from matterstack.errors import UnsafeFileError
from matterstack.files import read_inside, write_inside
from matterstack.operators.jobs.sites import Site
from matterstack.platforms import host_name

#: Whoever asks may be stopped, or may wait for a scheduler that does not answer.
_PATIENCE_S = 5.0
_MOST_BYTES = 256_000_000


class Answer(NamedTuple):
    """What was printed to a question, and whether this process has asked it now.

    Attributes
    ----------
    text : str
    is_own : bool
    """

    text: str
    is_own: bool


class Answers:
    """The answers of one scheduler.

    Parameters
    ----------
    site : Site
        Where its commands run.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    def known(self, question: Sequence[str], since: float) -> str | None:
        """Return what was answered to a question that was asked after a moment; None where nobody did.

        Parameters
        ----------
        question : sequence of str
            The command.
        since : float
            As `time.monotonic` counts, which all processes of this machine do alike until it is started again.
        """
        folder = _folder()
        return None if folder is None else self._read(folder, question, since)

    def ask(self, question: Sequence[str], ask: Callable[[], str]) -> Answer:
        """Return an answer to a question that is asked from now on: by this process, unless another one just does.

        Parameters
        ----------
        question : sequence of str
        ask : callable
            Returns what is printed; what it raises is raised.
        """
        since, folder = time.monotonic(), _folder()
        if folder is None:
            return Answer(ask(), is_own=True)
        lock = filelock.FileLock(folder / f"{self._name(question)}.lock", timeout=_PATIENCE_S)
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(filelock.Timeout, OSError, NotImplementedError):
                stack.enter_context(lock)
            if (known := self._read(folder, question, since)) is not None:
                return Answer(known, is_own=False)
            began_s = time.monotonic()
            text = ask()
            reach("answers.asked")
            said = json.dumps({"boot": _boot(), "began_s": began_s, "text": text})
            with contextlib.suppress(OSError, UnsafeFileError):
                write_inside(folder, f"{self._name(question)}.json", said.encode())
            reach("answers.written")
            return Answer(text, is_own=True)

    def _name(self, question: Sequence[str]) -> str:
        whole = json.dumps([self._site.identity, host_name(), *question])
        return f"answer-{hashlib.sha256(whole.encode()).hexdigest()[:32]}"

    def _read(self, folder: Path, question: Sequence[str], since: float) -> str | None:
        with contextlib.suppress(OSError, UnsafeFileError, ValueError, KeyError, TypeError, RecursionError):
            said = json.loads(read_inside(folder, f"{self._name(question)}.json", _MOST_BYTES))
            is_new = said["boot"] == _boot() and since <= said["began_s"] <= time.monotonic()
            if is_new and isinstance(said["text"], str):
                return said["text"]
        return None


def _folder() -> Path | None:
    """Return the folder of this user on this machine; None where there is none that is nobody else's."""
    if sys.platform == "win32":  # where nothing is asked
        return None
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    cache = os.environ.get("XDG_CACHE_HOME", "")
    with contextlib.suppress(OSError, RuntimeError):  # there may be no home
        base = next((Path(path) for path in (runtime, cache) if os.path.isabs(path)), None) or Path.home() / ".cache"
        folder = base / "matterstack"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077:
            return folder
    return None


def _boot() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""
