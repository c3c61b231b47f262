"""A daemon in a process of its own, and the runs that it steps."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from waiting import wait_for

import matterstack as ms
from matterstack.operators.local.runner.processes import children, start_time


class Daemon:
    """A daemon process, and what it says."""

    def __init__(self, place: Path, *options: str, quick: str = "", **variables: str) -> None:
        self.said = place / f"daemon-{random.getrandbits(32)}.log"
        self.left: list[int] = []
        program = [sys.executable, "-m", "matterstack"]
        if quick:  # assignments to what it waits for, so that a test need not
            program = [sys.executable, "-c", f"from matterstack import cli\n{quick}\nraise SystemExit(cli.main())"]
        command = [*program, "daemon", *options, "w", "--base-path", str(place)]
        with open(self.said, "w") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **variables}, cwd="/"
            )

    @property
    def log(self) -> str:
        return self.said.read_text()

    def keepers(self) -> list[int]:
        return children(self.process.pid)

    def workers(self) -> list[int]:
        return [pid for keeper in self.keepers() for pid in children(keeper)]

    def end(self, number: int = signal.SIGTERM) -> int:
        if number == signal.SIGKILL:  # so that it starts no keeper between the look and the kill
            self.process.send_signal(signal.SIGSTOP)
        self.left += self.keepers()
        self.process.send_signal(number)
        return self.process.wait(timeout=120)


@contextmanager
def daemon(place: Path, *options: str, quick: str = "", **variables: str) -> Iterator[Daemon]:
    it = Daemon(place, *options, quick=quick, **variables)
    try:
        yield it
    finally:
        it.end(signal.SIGKILL)
        # Until its keepers are gone, whose workers are in a tick still, another daemon is refused.
        wait_for(lambda: not any(start_time(pid) >= 0 for pid in it.left))


def make(place: Path, run_id: str, plan: ms.Workflow | ms.Campaign, **named: object) -> ms.Run:
    return ms.initialize_run("w", plan, base_path=place, run_id=run_id, **named)  # type: ignore[arg-type]
