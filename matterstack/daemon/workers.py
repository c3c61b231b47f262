"""Workers as their daemon sees them: started in the environment of their run, heard, and told to stop."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from matterstack.core.text import neutral
from matterstack.daemon.watched_run import WatchedRun
from matterstack.errors import OperatorUnreachableError
from matterstack.orchestration.environment import recorded, variables_for, variables_of_addresses
from matterstack.storage.run_directory import RunDirectory

_MOST_SAID = 10_000_000
_LAST_WORDS = 2000


class Worker:
    """A process that steps a run.

    Parameters
    ----------
    run : WatchedRun

    Attributes
    ----------
    pidfd : int
        Turns readable when it has ended.
    words : int
        What it and the code of the campaign print comes here.

    Raises
    ------
    OperatorUnreachableError
        It cannot be started.
    """

    def __init__(self, run: WatchedRun) -> None:
        self.run = run
        self.since = time.monotonic()
        self.told_at: float | None = None
        self.counts = True
        self.is_silent = False
        self._killed = False
        self._said, self._words = b"", b""
        directory = RunDirectory(run.path)
        made_in = recorded(directory)
        python = sys.executable if made_in is None else made_in.python
        folder = "/" if made_in is None or not Path(made_in.folder).is_dir() else made_in.folder
        environment = dict(os.environ)
        if made_in is not None:
            environment = variables_for(made_in, os.environ, variables_of_addresses(directory))
        self._report, said = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        fcntl.fcntl(said, fcntl.F_SETFL, 0)
        try:
            self._process = subprocess.Popen(
                [python, "-m", "matterstack.daemon.worker", str(run.path), str(said)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                cwd=folder, env=environment, pass_fds=(said,), start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            os.close(self._report)
            raise OperatorUnreachableError(
                f"the Python that the run was made with, {python}, cannot be started: {error.strerror}. Make it anew, "
                "or say that another is right: run.take_environment() there"
            ) from error
        finally:
            os.close(said)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.words = self._process.stdout.fileno()
        os.set_blocking(self.words, False)
        self.pidfd = os.pidfd_open(self._process.pid)

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def stop(self) -> None:
        """Tell it to stop after its tick."""
        if self.told_at is None:
            self.told_at = time.monotonic()
            assert self._process.stdin is not None
            self._process.stdin.close()

    def kill(self) -> bool:
        """Kill it, once; return whether that was done now."""
        if self._killed:
            return False
        self._process.kill()
        self._killed = True
        return True

    def hear(self) -> None:
        """Take in what it has said and printed."""
        self._said = (self._said + _read(self._report))[:_MOST_SAID]
        self._words = (self._words + _read(self.words))[-_LAST_WORDS:]

    def end(self) -> tuple[dict[str, Any] | None, str]:
        """Return, once its process has ended, what it said of the run, and how it ended."""
        code = self._process.wait()
        self.hear()
        self.stop()
        os.close(self._report)
        os.close(self.pidfd)
        assert self._process.stdout is not None
        self._process.stdout.close()
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        words = neutral(self._words.decode(errors="replace")).strip().splitlines()
        said = None
        with contextlib.suppress(ValueError):
            said = json.loads(self._said)
        return (said if isinstance(said, dict) else None), f"{how}{': ' + words[-1] if words else ''}"


def _read(descriptor: int) -> bytes:
    parts = []
    with contextlib.suppress(BlockingIOError):
        while chunk := os.read(descriptor, 1 << 16):
            parts.append(chunk)
    return b"".join(parts)
