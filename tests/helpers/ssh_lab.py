"""A real sshd on loopback, and an ssh configuration that reaches it as ``cluster``."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ports import free_port
from waiting import wait_for


class Server:
    """A running sshd, and the client's side of it."""

    def __init__(self, state: Path, process: subprocess.Popen[bytes], port: int) -> None:
        self.state, self.process, self.port = state, process, port

    def sessions(self) -> list[int]:
        """Return the ids of sshd's processes, that of the listener first."""
        out = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
        family = [self.process.pid]
        for _ in range(4):
            for line in out.splitlines()[1:]:
                pid, parent, words = line.split(None, 2)
                if int(parent) in family and int(pid) not in family and words.startswith("sshd"):
                    family.append(int(pid))
        return family

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Stop every process of sshd for a while."""
        pids = self.sessions()
        _signal(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(pids, signal.SIGCONT)

    def kill(self) -> None:
        """Kill every process of sshd."""
        _signal(reversed(self.sessions()), signal.SIGKILL)
        self.process.wait(30)

    def start(self) -> None:
        """Start it again, at the same port."""
        command = list(self.process.args)  # type: ignore[arg-type]
        with open(self.state / "sshd.log", "ab") as log:
            self.process = subprocess.Popen(command, stderr=log)

    def masters(self) -> list[int]:
        """Return the ids of the connections that the client keeps."""
        found = subprocess.run(["pgrep", "-f", f"{self.state}/.ssh/ms-.*mux"], capture_output=True, text=True)
        return [int(pid) for pid in found.stdout.split()]

    def cut(self) -> None:
        """Kill the connection that the client keeps."""
        _signal(self.masters(), signal.SIGKILL)
        wait_for(lambda: not self.masters())


def _signal(pids: Iterable[int], number: int) -> None:
    """Send a signal to processes; one may have left meanwhile, as a session does whose link was cut."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _answers() -> bool:
    return subprocess.run(["ssh", "cluster", "true"], capture_output=True).returncode == 0


@contextmanager
def server() -> Iterator[Server]:
    """Start sshd; make ``ssh cluster`` lead to it for this process; skip where there is none."""
    path = os.environ["PATH"] + ":/usr/sbin"
    programs = {name: shutil.which(name, path=path) for name in ("sshd", "ssh", "rsync", "ssh-keygen")}
    if missing := [name for name, place in programs.items() if place is None]:
        pytest.skip(f"there is no {', '.join(missing)}: install Debian's openssh-server and rsync")
    state = Path(tempfile.mkdtemp(prefix="ms-ssh-", dir="/tmp"))
    client = state / ".ssh"
    client.mkdir(mode=0o700)
    for name in (state / "host_key", client / "id"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", name], check=True)
    (state / "authorized").write_bytes((client / "id.pub").read_bytes())
    port = free_port()
    conf = os.environ.get("SLURM_CONF", "")
    (state / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {state}/host_key\nAuthorizedKeysFile {state}/authorized\n"
        f"PidFile {state}/pid\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n"
        f"PermitRootLogin prohibit-password\nSetEnv SLURM_CONF={conf}\nSubsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    key = " ".join((state / "host_key.pub").read_text().split()[:2])
    (client / "known_hosts").write_text(f"[127.0.0.1]:{port} {key}\n")
    (client / "config").write_text(
        f"Host cluster\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n  IdentityFile {client}/id\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {client}/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
    )
    # ssh looks for its configuration in the account's home, whatever HOME says: so it is named.
    programs_here = state / "bin"
    programs_here.mkdir()
    (programs_here / "ssh").write_text(f'#!/bin/sh\nexec {programs["ssh"]} -F {client}/config "$@"\n')
    (programs_here / "ssh").chmod(0o755)
    with open(state / "sshd.log", "wb") as log:
        process = subprocess.Popen([str(programs["sshd"]), "-D", "-e", "-f", state / "sshd_config"], stderr=log)
    before = {name: os.environ.get(name) for name in ("PATH", "HOME")}
    os.environ["PATH"] = f"{programs_here}:{os.environ['PATH']}"
    os.environ["HOME"] = str(state)
    running = Server(state, process, port)
    try:
        wait_for(lambda: process.poll() is not None or _answers())
        assert process.poll() is None, (state / "sshd.log").read_text()
        yield running
    finally:
        running.cut()
        running.kill()
        for name, value in before.items():
            if value is not None:
                os.environ[name] = value
        shutil.rmtree(state, ignore_errors=True)
