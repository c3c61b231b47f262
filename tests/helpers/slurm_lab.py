"""A real Slurm on loopback, started by `tests/helpers/slurm/start-slurm`."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from waiting import alive, wait_for

SCRIPTS = Path(__file__).with_name("slurm")
NEEDED = ("slurmctld", "slurmd", "sbatch", "munged")
#: What accounting needs besides.
ACCOUNTING = ("slurmdbd", "mariadbd")


class Cluster:
    """A running Slurm.

    Parameters
    ----------
    state : pathlib.Path
        Its directory.
    settings : dict
        Of ``start-slurm``.
    """

    def __init__(self, state: Path, settings: dict[str, str]) -> None:
        self.state = state
        self.settings = settings

    def start(self, ended: str | None = None) -> None:
        """Start it, or whichever of its daemons died; end one first, so that it is looked at whole."""
        if ended is not None:
            self.kill(ended)
        environment = {**os.environ, "SLURM_LAB_INSTALL": "0", **self.settings}
        subprocess.run(
            [SCRIPTS / "start-slurm", self.state], env=environment, check=True, capture_output=True, timeout=400
        )

    def pid(self, daemon: str) -> int:
        return int((self.state / f"run/{daemon}.pid").read_text())

    @contextmanager
    def stopped(self, daemon: str) -> Iterator[None]:
        """Have a daemon hang for a while."""
        pid = self.pid(daemon)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def kill(self, daemon: str) -> None:
        """Kill a daemon, and wait until it is gone."""
        pid = self.pid(daemon)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not alive(pid))

    def save(self, place: Path) -> None:
        """Keep what the controller knows, all of which it writes at an orderly end; it goes on then."""
        pid = self.pid("slurmctld")
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not alive(pid))
        shutil.copytree(self.state / "ctld", place)
        self.start()

    def restore(self, place: Path) -> None:
        """Kill the controller; it begins with what it knew once, as one that crashed before it could write more."""
        self.kill("slurmctld")
        shutil.rmtree(self.state / "ctld")
        shutil.copytree(place, self.state / "ctld")
        self.start()

    def command(self, *words: str) -> str:
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout

    def jobs(self) -> list[tuple[str, str, str]]:
        """Return id, name and state of every job the queue knows."""
        lines = self.command("squeue", "-h", "-t", "all", "-o", "%A|%j|%T").splitlines()
        return [(number, name, state) for number, name, state in (line.split("|") for line in lines)]


class Counted:
    """Programs of Slurm that note each call."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self.place = place
        (place / "bin").mkdir(parents=True)
        for name in names:
            program = place / "bin" / name
            program.write_text(f'#!/bin/sh\necho "{name} $*" >>{place}/calls\nexec {shutil.which(name)} "$@"\n')
            program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{place}/bin:{os.environ['PATH']}")

    def take(self) -> list[str]:
        """Return the calls since the last time."""
        calls = (self.place / "calls").read_text().splitlines() if (self.place / "calls").exists() else []
        (self.place / "calls").unlink(missing_ok=True)
        return calls


@contextmanager
def _free_from(port: int) -> Iterator[int]:
    """Lend the first of four ports that nobody has; where to look first differs from process to process.

    They are kept by a name, since a port is free for others, too, until its daemon has begun.
    """
    first = port - port % 4
    for begin in range(first + 4 * (os.getpid() % 256), first + 4096, 4):
        with ExitStack() as stack:
            try:
                stack.enter_context(socket.socket(socket.AF_UNIX)).bind(f"\0matterstack-slurm-{begin}")
                with ExitStack() as looking:
                    for number in range(begin, begin + 4):
                        looking.enter_context(socket.socket()).bind(("127.0.0.1", number))
            except OSError:
                continue
            yield begin
            return
    raise AssertionError(f"no four ports in a row are free from {port} on")


@contextmanager
def cluster(port: int, besides: Sequence[str] = (), place: str = "/tmp", **settings: str) -> Iterator[Cluster]:
    """Start a cluster, and point this process at it; skip where Slurm, or what it needs `besides`, is not installed.

    Its ports are free ones from `port` on: other clusters of this machine go on.
    """
    path = os.environ["PATH"] + ":/usr/sbin"
    missing = [program for program in (*NEEDED, *besides) if shutil.which(program, path=path) is None]
    if missing:
        pytest.skip(f"there is no {', '.join(missing)}: see the packages in .ci/run")
    state = Path(tempfile.mkdtemp(prefix="ms-slurm-", dir=place))
    state.chmod(0o755)  # munge insists that others may enter
    before = os.environ.get("SLURM_CONF")
    with _free_from(port) as free:
        running = Cluster(state, {"SLURM_LAB_PORT": str(free), **settings})
        try:
            running.start()
            os.environ["SLURM_CONF"] = str(state / "slurm.conf")
            yield running
        finally:
            subprocess.run([SCRIPTS / "stop-slurm", "--purge", state], capture_output=True, timeout=400)
            shutil.rmtree(state, ignore_errors=True)
            if before is None:
                os.environ.pop("SLURM_CONF", None)
            else:
                os.environ["SLURM_CONF"] = before


@contextmanager
def mended(running: Cluster) -> Iterator[Cluster]:
    """Lend a cluster; afterwards start what died, and leave no job of whoever had it."""
    yield running
    running.start()
    subprocess.run(["scancel", "--me"], capture_output=True, timeout=60)
    wait_for(lambda: not running.command("squeue", "-h", "-o", "%A"))
