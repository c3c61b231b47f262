"""Warm servers of a runner: started where a call can use one, asked for processes, and ended."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import struct
import time

from .points import reach
from .processes import CLAIM_FD, FIRST_FD, FIRST_IS, boot_ticks, find_program, kill_group, parent_and_start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .messages import Message
    from .serve import Execution

    Key = tuple[tuple[str, ...], str, frozenset[tuple[str, str]]]

_PROGRAM = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", "warm_script.py"))
#: Overwritten in each process by the variables that show whose it is.
_ROOM = {"MATTERSTACK_ROOM": "-" * 300}
_OURS = "MATTERSTACK_"
_MOST_SERVERS = 4
_MOST_SEEN = 1000
_IMPORT_S = 300.0
_ANSWER_S = 10.0
_IDLE_S = 60.0
_REFUSED_S = 600.0
_SLOW_S = 2.0
_PACKET = 1 << 16
_CREDENTIALS = socket.SCM_CREDENTIALS


class Ask:
    """A claimed attempt for whose process a server was asked; it holds the gate closed.

    Attributes
    ----------
    pid, start : int
        Of its process, once that was told: its id, and when it started in clock ticks since boot.
    asked : int
        When, in clock ticks since boot: no process that began before is the one.
    cold : str or None
        Why the attempt has to begin cold after all.
    """

    def __init__(self, job: Execution, gate: int, out: int, error: int) -> None:
        self.job = job
        self.out = os.dup(out)
        self.error = os.dup(error)
        self.gate = gate
        self.until = time.monotonic() + _ANSWER_S
        self.asked = boot_ticks()
        self.pid = 0
        self.start = 0
        self.cold: str | None = None

    def open(self) -> None:
        """Let the process begin."""
        with contextlib.suppress(BrokenPipeError):  # it was killed at its gate
            os.write(self.gate, b"1")
        self.close()

    def close(self) -> None:
        """Let go of what it holds; a process that still waits at the gate leaves."""
        for descriptor in (self.gate, self.out, self.error):
            os.close(descriptor)


class Server:
    """A warm server, as its runner sees it."""

    def __init__(self, key: Key, pid: int, link: socket.socket, said: int) -> None:
        self.key = key
        self.pid = pid  # 0 once it is over
        self.link = link
        self.said = said
        self.ready = False
        self.served = False
        self.waiting: list[Execution] = []
        self.asks: dict[int, Ask] = {}
        self.since = time.monotonic()  # it was started, or last used
        self.is_slow = False

    def last_words(self) -> str:
        """Return the last line that it has written."""
        size = os.fstat(self.said).st_size
        lines = os.pread(self.said, 2000, max(0, size - 2000)).decode(errors="replace").strip().splitlines()
        return f": {lines[-1]:.500}" if lines else ""


class WarmServers:
    """All servers of one runner.

    Attributes
    ----------
    answered : list of Ask
        To be taken by the runner: their process is told, or has to be started cold.
    released : list of Execution
        To be taken by the runner: not claimed yet, and no longer waiting for a server that imports.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.selector = selector
        self.servers: dict[Key, Server] = {}
        self.refused: dict[Key, tuple[str, float]] = {}
        self.ended: dict[int, Server] = {}  # killed, and not reaped yet
        self.answered: list[Ask] = []
        self.released: list[Execution] = []
        self.numbers = 0
        self.seen: set[Key] = set()  # for which a server was wanted

    # -- what the runner has to know ------------------------------------------------------

    @property
    def asks(self) -> Iterator[Ask]:
        """Those that are not answered."""
        return (ask for server in self.servers.values() for ask in server.asks.values())

    @property
    def importing(self) -> int:
        """How many servers import now: each takes the place of the command that would."""
        return sum(not server.ready for server in self.servers.values())

    @property
    def pids(self) -> set[int]:
        """Processes that are servers."""
        return {server.pid for server in self.servers.values()} | self.ended.keys()

    @property
    def due(self) -> float:
        """When something has to be done, as `time.monotonic` counts."""
        if self.answered or self.released:
            return 0.0
        times = [ask.until for ask in self.asks]
        for server in self.servers.values():
            if not server.ready:
                times.append(server.since + (_IMPORT_S if server.is_slow else _SLOW_S))
            elif not server.asks:
                times.append(server.since + _IDLE_S)
        return min(times, default=float("inf"))

    # -- attempts -----------------------------------------------------------------------

    def choose(self, job: Execution) -> Server | None:
        """Return the server for an attempt, which may still import; None where it has to begin cold, and why.

        Raises
        ------
        OSError
            The machine has no room for another process.
        """
        if job.call is None:
            return None
        job.cold = job.call.get("cold")
        if job.cold is not None:
            return None
        try:
            environment = {name: value for name, value in job.whole_environment().items() if not name.startswith(_OURS)}
        except LookupError:
            return None  # the start says what is missing
        key = (tuple(job.argv), json.dumps(job.call["imports"]), frozenset(environment.items()))
        server = self.servers.get(key)
        if server is None:
            why, until = self.refused.get(key, (None, 0.0))
            if time.monotonic() < until:
                job.cold = why
            else:
                server = self._start(key, job, environment)
        return server

    def _start(self, key: Key, job: Execution, environment: dict[str, str]) -> Server | None:
        paths = environment.get("PYTHONPATH", "")
        if paths and not all(map(os.path.isabs, paths.split(os.pathsep))):
            job.cold = "PYTHONPATH has a relative part, which depends on the directory of the attempt"
            return None
        try:
            program = find_program(job.argv[0], environment.get("PATH", os.defpath), job.directory)
        except LookupError:
            return None
        if not os.path.isabs(program):
            job.cold = f"its Python is named relative to its directory: {program}"
            return None
        if len(self.servers) >= _MOST_SERVERS:
            idle = [server for server in self.servers.values() if server.ready and not server.asks]
            if key not in self.seen:  # there may be a thousand of these, each with a variable of its own
                self._see(key)
                job.cold = "it is the first with these imports and this environment, and other servers are in use"
                return None
            if not idle:
                job.cold = f"{len(self.servers)} other warm servers are at work"
                return None
            self.drop(min(idle, key=lambda server: server.since), "it made room for another one")
        own, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        out, said = os.memfd_create("stdout"), os.memfd_create("stderr")
        try:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            own.setblocking(False)
            own.send(key[1].encode())
            pid = os.posix_spawn(
                program,
                [*job.argv[:-1], _PROGRAM],
                {**environment, **_ROOM},
                file_actions=(
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                    (os.POSIX_SPAWN_DUP2, out, 1),
                    (os.POSIX_SPAWN_DUP2, said, 2),
                ),
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD),
            )
        except (OSError, ValueError) as problem:
            own.close()
            os.close(said)
            job.cold = f"no warm server can be started: {problem}"
            return None  # where that is for want of room, the cold start waits for it
        finally:
            theirs.close()
            os.close(out)
        self._see(key)
        server = self.servers[key] = Server(key, pid, own, said)
        self.selector.register(own, selectors.EVENT_READ, server)
        reach("runner.warming")
        return server

    def _see(self, key: Key) -> None:
        if len(self.seen) >= _MOST_SEEN:
            self.seen.clear()
        self.seen.add(key)

    def ask(self, server: Server, job: Execution, out: int, error: int) -> bool:
        """Ask a server for the process of a claimed attempt; return whether it was: else it has to begin cold."""
        if self.servers.get(server.key) is not server:
            job.cold = "its warm server has gone"
            return False
        entrance, gate = os.pipe2(os.O_CLOEXEC)
        self.numbers += 1
        environment = {**job.whole_environment(), "MATTERSTACK_CLAIM": job.claim}
        request = {
            "number": self.numbers,
            "directory": job.directory,
            "variables": [item for item in environment.items() if item[0].startswith(_OURS)],
            "claim_fd": CLAIM_FD,
            "first_fd": FIRST_FD,
            "first_is": FIRST_IS,
        }
        try:
            socket.send_fds(server.link, [json.dumps(request).encode()], [out, error, entrance])
        except OSError as problem:
            os.close(gate)
            job.cold = f"its warm server does not listen: {problem.strerror}"
            return False
        finally:
            os.close(entrance)
        server.asks[self.numbers] = Ask(job, gate, out, error)
        reach("runner.asked")
        return True

    def forget(self, job: Execution) -> Ask | None:
        """Forget an attempt that is cancelled; return what was asked for it."""
        for server in self.servers.values():
            if job in server.waiting:
                server.waiting.remove(job)
            for number, ask in server.asks.items():
                if ask.job is job:
                    return server.asks.pop(number)
        return None

    # -- servers ------------------------------------------------------------------------

    def hear(self, server: Server) -> None:
        """Take in what a server, or a process that it has forked, says."""
        while self.servers.get(server.key) is server:
            try:
                packet, ancillary, _, _ = server.link.recvmsg(_PACKET, socket.CMSG_SPACE(struct.calcsize("3i")))
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._gone(server)
                return
            try:
                self._take(server, json.loads(packet), ancillary)
            except (ValueError, TypeError, KeyError, StopIteration) as flaw:
                self.drop(server, f"its warm server makes no sense: {flaw!r}", refuse=True)

    def _take(self, server: Server, said: Message, ancillary: Iterable[tuple[int, int, bytes]]) -> None:
        match said:
            case {"ready": True}:
                server.ready = True
                server.since = time.monotonic()
                self.released += server.waiting
                server.waiting = []
            case {"refuses": str(why)}:
                self.drop(server, why, refuse=True)
            case {"leaves": str(why)}:
                self.drop(server, why)
            case {"number": int(number)}:
                ask = server.asks.pop(number, None)
                server.since = time.monotonic()
                if ask is None:
                    return  # it was cancelled, and leaves when it finds its gate closed
                self.answered.append(ask)
                cold = said.get("cold")
                if cold is None:
                    # The kernel tells who has sent it, whatever the process believes its id to be.
                    pid = next(struct.unpack("3i", data)[0] for _, kind, data in ancillary if kind == _CREDENTIALS)
                    parent, ask.start = parent_and_start(pid)
                    if parent == os.getpid():
                        ask.pid = pid
                        server.served = True
                        reach("runner.told")
                        return
                    cold = "its process did not become ours"
                ask.cold = str(cold)
            case _:
                raise ValueError(said)

    def _gone(self, server: Server) -> None:
        words = server.last_words()
        if not server.ready:
            self.drop(server, f"its warm server ended while it imported{words}", refuse=True)
        else:
            self.drop(server, f"its warm server has gone{words}", refuse=not server.served)

    def drop(self, server: Server, why: str, *, refuse: bool = False) -> None:
        """End a server; attempts that wait for it begin cold, or with another one."""
        del self.servers[server.key]
        self.selector.unregister(server.link)
        server.link.close()
        os.close(server.said)
        if server.pid:
            self.ended[server.pid] = server
            kill_group(server.pid, signal.SIGKILL)
        if refuse:
            if len(self.refused) >= _MOST_SEEN:
                self.refused.clear()
            self.refused[server.key] = (why, time.monotonic() + _REFUSED_S)
        for ask in server.asks.values():
            ask.cold = why
            self.answered.append(ask)
        server.asks.clear()
        self.released += server.waiting
        server.waiting = []

    def reaped(self, pid: int) -> None:
        """Take note that a process is over: its id may be another one's from now on."""
        self.ended.pop(pid, None)
        for server in self.servers.values():
            if server.pid == pid:
                server.pid = 0

    def tend(self) -> Iterator[Execution]:
        """Do what is due; yield attempts that wait for a server which takes its time."""
        now = time.monotonic()
        if now < self.due:
            return
        for server in list(self.servers.values()):
            if not server.ready and now >= server.since + _IMPORT_S:
                self.drop(server, f"its warm server has imported for {_IMPORT_S:g} s", refuse=True)
            elif not server.ready and now >= server.since + _SLOW_S and not server.is_slow:
                server.is_slow = True
                yield from server.waiting
            elif any(now >= ask.until for ask in server.asks.values()):
                self.drop(server, f"its warm server did not answer within {_ANSWER_S:g} s", refuse=True)
            elif server.ready and not server.asks and now >= server.since + _IDLE_S:
                self.drop(server, "it was not used")

    def close(self) -> None:
        """End all servers."""
        for server in list(self.servers.values()):
            self.drop(server, "its runner leaves")


def write_note(job: Execution) -> None:
    """Write down in the attempt's directory that a call begins cold, and why."""
    if job.call is None:
        return
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileExistsError):
            os.mkdir(f"{job.directory}/.matterstack")
        note = os.open(
            f"{job.directory}/.matterstack/start",
            os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o666,
        )
        try:
            os.write(note, f"cold: {job.cold}\n".encode(errors="replace"))
        finally:
            os.close(note)
