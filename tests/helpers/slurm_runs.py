"""Runs at the Slurm of a test: tasks whose commands sign a ledger, and where their attempts stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ledger import witnessed
from waiting import wait_for

import matterstack as ms


def task(base: Path, name: str = "a", command: str = "true", **settings: Any) -> ms.Task:
    return witnessed(name, command, base / "ledger", operator="slurm", **settings)


def status(run: ms.Run, name: str = "a", attempt: int = 1) -> str:
    return str(run.attempts.loc[f"0.{name}.{attempt}", "status"])


def until(run: ms.Run, wanted: str, name: str = "a", attempt: int = 1) -> None:
    """Step a run until an attempt has a status."""
    wait_for(lambda: (run.step(), status(run, name, attempt) == wanted)[1])
