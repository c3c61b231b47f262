"""Runs at the Slurm of a test: tasks whose commands sign a ledger, and where their attempts stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ledger import starts, witnessed
from waiting import wait_for

import matterstack as ms


def task(base: Path, name: str = "a", command: str = "true", **settings: Any) -> ms.Task:
    return witnessed(name, command, base / "ledger", operator="slurm", **settings)


def status(run: ms.Run, name: str = "a", attempt: int = 1) -> str:
    return str(run.attempts.loc[f"0.{name}.{attempt}", "status"])


def until(run: ms.Run, wanted: str, name: str = "a", attempt: int = 1) -> None:
    """Step a run until an attempt has a status."""
    wait_for(lambda: (run.step(), status(run, name, attempt) == wanted)[1])


def until_begun(run: ms.Run, name: str = "a") -> None:
    """Wait until Slurm says that it runs, and until its command has begun, which is a moment later."""
    until(run, "RUNNING", name)
    token = run.attempts.loc[f"0.{name}.1", "token"]
    wait_for(lambda: starts(run.path.parents[3] / "ledger")[token])
