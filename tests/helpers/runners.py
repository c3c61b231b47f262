"""The runner of a run's local commands: what it says of itself, and its end by SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import matterstack as ms
from tests.helpers.waiting import alive, wait_for


def told_by_runner(run: ms.Run, operator: str = "local") -> dict[str, Any]:
    """Return what the runner of a run says of itself in its lock."""
    said: dict[str, Any] = json.loads((run.path / "operators" / operator / "runner.lock").read_text())
    return said


def runner_of(run: ms.Run, operator: str = "local") -> int:
    """Return the process id of the runner of a run."""
    return int(told_by_runner(run, operator)["pid"])


def kill_runner(run: ms.Run, operator: str = "local") -> None:
    """Kill the runner of a run, and wait until it is over: until then it may be connected to."""
    pid = runner_of(run, operator)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not alive(pid), "the runner does not die")


def kill_runner_once_told(run: ms.Run, told: Path, limit_s: float) -> int:
    """Kill the runner of a run once the only command has told its process id in a file, and return that.

    That is 0 where the time limit of the command was over before the runner was: then how it ended may not be known.
    """
    over = time.monotonic() + limit_s
    wait_for(lambda: told.exists() or (run.step(), run.status is ms.RunStatus.FAILED)[1], "it does not begin")
    kill_runner(run)
    if told.exists() and time.monotonic() < over:
        return int(told.read_text())
    run.wait(timeout_s=180)
    return 0
