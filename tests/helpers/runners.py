"""The runner of a run's local commands: what it says of itself, and its end by SIGKILL."""

from __future__ import annotations

import json
import os
import signal
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
