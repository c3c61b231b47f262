"""Waiting: for the thing itself, with a bound; for a process to end; and commands that wait for a file."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from matterstack.operators.local.runner import processes

_T = TypeVar("_T")


def wait_for(what: Callable[[], _T], why: str = "waited in vain", *, most_s: float = 180.0) -> _T:
    """Return what is true at last, or fail and say why."""
    begun = time.monotonic()
    while not (found := what()):
        assert time.monotonic() < begun + most_s, why
        # Later less often: a Slurm that is asked all the time starts nothing.
        select.poll().poll(20 if time.monotonic() < begun + 1 else 100)
    return found


def alive(pid: int) -> bool:
    return processes.start_time(pid) >= 0


def gate(base: Path) -> str:
    """Return a shell command that waits until ``base / "go"`` is there."""
    return f"while ! [ -e {base}/go ]; do sleep 0.1; done"
