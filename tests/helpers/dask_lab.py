"""A real Dask cluster on loopback: a scheduler and workers, each a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from ports import free_port
from waiting import wait_for


class Farm:
    """A scheduler and workers, each a process of its own."""

    def __init__(self, directory: Path, workers: int = 2) -> None:
        self.directory = directory
        self.port = free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.scheduler = self.start_scheduler()
        self.workers = [self.start_worker() for _ in range(workers)]

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__GIL__ENABLED": "false"}
        with open(self.directory / "dask.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *words], stdout=log, stderr=log, cwd=self.directory, env=environment
            )
        self.processes.append(process)
        return process

    def start_scheduler(self) -> subprocess.Popen[bytes]:
        process = self._start(
            "distributed.cli.dask_scheduler", f"--port={self.port}", "--host=127.0.0.1", "--no-dashboard", "--no-show"
        )
        wait_for(self._listens)
        return process

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def worker(self, threads: int) -> list[str]:
        """Return what makes a worker, behind ``python -m``."""
        place = f"--local-directory={self.directory}/scratch"
        return [
            "distributed.cli.dask_worker",
            self.address,
            f"--nthreads={threads}",
            "--no-nanny",
            "--no-dashboard",
            place,
        ]

    def start_worker(self) -> subprocess.Popen[bytes]:
        return self._start(*self.worker(2))

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)

    def mend(self) -> None:
        """Start what has died."""
        if self.scheduler.poll() is not None:
            self.scheduler = self.start_scheduler()
        self.workers = [one if one.poll() is None else self.start_worker() for one in self.workers]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait(timeout=30)
