"""The runner at work: it starts commands, watches them, and tells who is connected."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import heapq
import itertools
import json
import os
import selectors
import signal
import socket
import struct
import time
from collections import deque

from .journal import Journal
from .points import reach
from .processes import (
    CLAIM_FD,
    adopt_orphans,
    boot_id,
    boot_ticks,
    find_program,
    kill_group,
    oom_kills,
    orphans,
    resolve,
    signal_name,
    start_time,
)

# It is started once a run and often for a moment only, so it imports little.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Message = dict[str, Any]

_SYNC_AFTER_S = 0.02
_SYNC_AT_MOST_S = 1.0
_FLUSH_EVERY_S = 0.02
_FIRST_CLIENT_S = 30.0
_NO_ROOM = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
_RETRY_START_S = 1.0
_MAX_CLIENT_BACKLOG = 8_000_000
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Execution:
    """One attempt the runner was asked to start."""

    def __init__(self, request: Message, environment: dict[str, str]) -> None:
        self.token: str = request["token"]
        self.directory: str = request["directory"]
        self.argv: list[str] = request["argv"]
        self.env: dict[str, str] = request["env"]
        self.limit_s: float | None = request["limit_s"]
        self.grace_s: float = request["grace_s"]
        self.environment = environment
        self.pid = 0
        self.start = (0, 0)  # clock ticks since boot, between which it was started
        self.started_at = 0.0
        self.began = 0.0
        self.stopping: str | None = None  # why it is being stopped
        self.oom_kills = 0

    @property
    def external_id(self) -> str | None:
        """What identifies the process on this machine: its id and when it started."""
        return f"{self.pid}:{self.start[0]}" if self.pid else None


class Client:
    """A connected driver."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.received = b""
        self.unsent = b""
        self.environment: dict[str, str] = {}


class Runner:
    """Start commands, watch them, journal how they end, and tell who is connected."""

    def __init__(self, lock: int, listener: socket.socket) -> None:
        self.lock = lock
        self.listener = listener
        self.root = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        self.max_active = 1
        self.queue: deque[Execution] = deque()
        self.queued: dict[str, Execution] = {}
        self.running: dict[int, Execution] = {}
        self.by_token: dict[str, Execution] = {}
        self.unannounced: dict[str, Execution] = {}
        self.ended: dict[str, Message] = {}
        self.clients: dict[int, Client] = {}
        self.deadlines: list[tuple[float, int, Execution, str, int]] = []
        self.counter = itertools.count()
        self.blocked_until = 0.0
        self.flushed_at = 0.0
        self.oom_kills, self.oom_read_at = 0, float("-inf")
        self.children = -1
        with contextlib.suppress(OSError):  # a kernel may be built without it (proc_pid_task(5))
            self.children = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC)
        self.journal = Journal()
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ, None)
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.child_pipe = reader
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self.selector.register(reader, selectors.EVENT_READ, None)

    # -- starting -----------------------------------------------------------------------

    def start_queued(self) -> None:
        """Start what the number of active commands allows."""
        while self.queue and len(self.running) < self.max_active and time.monotonic() >= self.blocked_until:
            job = self.queue.popleft()
            self.queued.pop(job.token, None)
            try:
                self.start(job)
            except OSError as error:
                # No space, no memory, no descriptors, no more processes: not the job's fault.
                self.queue.appendleft(job)
                self.queued[job.token] = job
                self.blocked_until = time.monotonic() + _RETRY_START_S
                self.tell({"event": "queued", "token": job.token, "reason": f"it cannot be started yet: {error}"})

    def start(self, job: Execution) -> None:
        """Claim the attempt and start its command.

        Raises
        ------
        OSError
            It could not be claimed for want of a resource; nothing was started.
        """
        try:
            out = os.open(
                f"{job.directory}/stdout.txt",
                os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_APPEND | os.O_CLOEXEC,
                0o666,
            )
        except FileExistsError:
            # Claimed before: never again.
            self.tell(self.look(job.token, job.directory, self.records_of([job.token])))
            return
        except (FileNotFoundError, NotADirectoryError):
            self.finish(job, None, "its directory is not there")
            return
        error = -1
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
            error = os.open(
                f"{job.directory}/stderr.txt",
                os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_APPEND | os.O_CLOEXEC,
                0o666,
            )
            reach("runner.claiming")
            self.journal.write("claim", job.token)
            reach("runner.claimed")
        except OSError:
            os.unlink(f"{job.directory}/stdout.txt")
            os.close(out)
            if error >= 0:
                os.close(error)
            raise
        try:
            self.spawn(job, out, error)
        except OSError:
            self.journal.write_later("free", job.token, "")
            os.unlink(f"{job.directory}/stdout.txt")
            raise
        finally:
            os.close(out)
            os.close(error)

    def spawn(self, job: Execution, out: int, error: int) -> None:
        """Start the command of a claimed attempt.

        Raises
        ------
        OSError
            The machine has no room for another process; nothing was started.
        """
        try:
            environment = job.environment | resolve(job.env, job.environment)
            program = find_program(job.argv[0], environment.get("PATH", os.defpath), job.directory)
        except LookupError as missing:
            self.finish(job, 127, str(missing.args[0]))
            return
        job.started_at = time.time()
        job.began = time.monotonic()
        if job.began - self.oom_read_at > 1.0:
            self.oom_kills, self.oom_read_at = oom_kills(), job.began
        job.oom_kills = self.oom_kills
        os.chdir(job.directory)
        before = boot_ticks()
        try:
            job.pid = os.posix_spawn(
                program,
                job.argv,
                environment,
                file_actions=(
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, out, 1),
                    (os.POSIX_SPAWN_DUP2, error, 2),
                    (os.POSIX_SPAWN_DUP2, out, CLAIM_FD),
                ),
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD),
            )
        except (OSError, ValueError) as failure:
            if isinstance(failure, OSError) and failure.errno in _NO_ROOM:
                raise
            reason = failure.strerror if isinstance(failure, OSError) else str(failure)
            self.finish(job, 126, f"{job.argv[0]} cannot be started: {reason}")
            return
        finally:
            os.fchdir(self.root)
        job.start = (before, boot_ticks())
        self.running[job.pid] = job
        self.by_token[job.token] = job
        reach("runner.started")
        self.journal.write_later("start", job.token, f"{job.pid},{before},{job.start[1]},{job.started_at!r}")
        if job.limit_s is not None:
            reason = f"time limit: it was stopped after {job.limit_s:g} s"
            self.set_deadline(job.limit_s, job, reason, signal.SIGTERM)
        self.unannounced[job.token] = job

    def announce(self) -> None:
        """Tell that commands have started, unless they end within a moment: then their end says it all."""
        now = time.monotonic()
        while self.unannounced:
            job = next(iter(self.unannounced.values()))
            if now - job.began < _FLUSH_EVERY_S:
                return
            self.tell(self.look(job.token, job.directory, {}))
            del self.unannounced[job.token]

    # -- ending -------------------------------------------------------------------------

    def reap(self) -> None:
        """Take the exits of commands that ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            job = self.running.pop(pid, None)
            if job is None:
                continue
            self.by_token.pop(job.token, None)
            code = os.waitstatus_to_exitcode(status)
            reason = job.stopping
            if reason is None and code < 0:
                reason = f"killed by {signal_name(-code)}"
                if code == -signal.SIGKILL and (kills := oom_kills()) != job.oom_kills:
                    self.oom_kills = kills
                    reason += ", most likely because memory ran out (the kernel's out-of-memory killer was at work)"
            # What it left running has no one to answer to: stop it too.
            left = kill_group(pid, signal.SIGKILL) | self.kill_strays(job.token)
            note = "processes it had left in the background were stopped" if left else None
            self.finish(job, code, reason, note if reason is None else None)

    def kill_strays(self, token: str) -> bool:
        """Stop processes of an attempt that left its group; they became our children when their parent ended."""
        if self.children < 0:
            return False
        listed = b""
        while part := os.pread(self.children, 1 << 16, len(listed)):
            listed += part
        needle = f"MATTERSTACK_TOKEN={token}".encode()
        found = False
        for pid in map(int, listed.split()):
            if pid not in self.running:
                with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
                    if needle in file.read().split(b"\0"):
                        os.kill(pid, signal.SIGKILL)
                        found = True
        return found

    def finish(self, job: Execution, code: int | None, reason: str | None, note: str | None = None) -> None:
        """Journal how an attempt ended, and tell."""
        ended_at = job.started_at + time.monotonic() - job.began if job.began else time.time()
        message = {
            "event": "ended",
            "token": job.token,
            "exit_code": code,
            "reason": reason,
            "note": note,
            "external_id": job.external_id,
            "started_at": job.started_at or None,
            "ended_at": ended_at,
        }
        self.unannounced.pop(job.token, None)
        text = _encode(message)
        reach("runner.ended")
        self.journal.write_later("end", job.token, text)
        self.tell_text(text)
        self.ended[job.token] = message
        if len(self.ended) > 1000:  # older ones are in the journal
            del self.ended[next(iter(self.ended))]

    def stop(self, job: Execution, reason: str, number: int) -> None:
        """Send a signal to an attempt's whole process group; harder when that is not obeyed."""
        job.stopping = job.stopping or reason
        kill_group(job.pid, number)
        if number != signal.SIGKILL:
            self.set_deadline(job.grace_s, job, job.stopping, signal.SIGKILL)

    def set_deadline(self, delay_s: float, job: Execution, reason: str, number: int) -> None:
        """Send a signal to the job when a time has passed, unless it ends before."""
        heapq.heappush(self.deadlines, (time.monotonic() + delay_s, next(self.counter), job, reason, number))

    def enforce(self) -> None:
        """Stop what has passed its deadline."""
        now = time.monotonic()
        while self.deadlines and self.deadlines[0][0] <= now:
            _, _, job, reason, number = heapq.heappop(self.deadlines)
            if self.running.get(job.pid) is job:
                self.stop(job, reason, number)

    # -- answering ----------------------------------------------------------------------

    def records_of(self, tokens: list[str]) -> dict[str, dict[str, list[Any]]]:
        """Return what the journal says of attempts this runner does not have in mind."""
        unknown = [t for t in tokens if not (t in self.ended or t in self.queued or t in self.by_token)]
        return self.journal.recorded(unknown) if unknown else {}

    def look(self, token: str, directory: str, journal: dict[str, dict[str, list[Any]]]) -> Message:
        """Return what is known of an attempt, also of one that an earlier runner started."""
        if token in self.ended:
            return self.ended[token]
        if token in self.queued:
            return {"event": "queued", "token": token}
        if (job := self.by_token.get(token)) is not None:
            return {
                "event": "started",
                "token": token,
                "external_id": job.external_id,
                "started_at": job.started_at,
            }
        records = journal[token]
        if "end" in records:
            message: Message = records["end"][0]
            return message
        if "claim" not in records and not os.path.lexists(f"{directory}/stdout.txt"):
            return {"event": "absent", "token": token}
        pid, *start, started_at = records.get("start", (0, 0, 0, None))
        if orphans(token, pid, start, f"{directory}/stdout.txt"):
            return {
                "event": "started",
                "token": token,
                "external_id": f"{pid}:{start[0]}" if pid else None,
                "started_at": started_at,
                "reason": "it goes on although the process that started it was killed; its exit code will be unknown",
            }
        return {"event": "vanished", "token": token}

    def cancel(self, token: str, directory: str, journal: dict[str, dict[str, list[Any]]]) -> Message:
        """Stop an attempt, wherever it is on its way."""
        job = self.queued.pop(token, None)
        if job is not None:
            self.queue.remove(job)
            self.finish(job, None, "cancelled before it was started")
        elif (job := self.by_token.get(token)) is not None:
            if job.stopping is None:
                self.stop(job, "cancelled", signal.SIGTERM)
        else:
            records = journal.get(token, {})
            pid, *start, _ = records.get("start", (0, 0, 0, None))
            if "end" not in records:
                for orphan in orphans(token, pid, start, f"{directory}/stdout.txt"):
                    if orphan:
                        with contextlib.suppress(ProcessLookupError, PermissionError):
                            os.kill(orphan, signal.SIGKILL)
        return self.look(token, directory, journal)

    def obey(self, client: Client, request: Message) -> None:
        """Carry out one request."""
        match request["request"]:
            case "hello":
                client.environment = request["environment"]
                self.max_active = request["max_active"]
            case "start":
                for item in request["jobs"]:
                    token = item["token"]
                    if token in self.queued or token in self.by_token or token in self.ended:
                        self.send(client, self.look(token, item["directory"], {}))
                        continue
                    job = Execution(item, client.environment)
                    self.queue.append(job)
                    self.queued[token] = job
            case "ask" | "cancel" as what:
                journal = self.records_of([token for token, _ in request["attempts"]])
                for token, directory in request["attempts"]:
                    reply = self.look if what == "ask" else self.cancel
                    self.send(client, reply(token, directory, journal))
                self.send(client, {"event": "answered", "number": request["number"]})

    def tell(self, message: Message) -> None:
        """Send a message to everybody who is connected."""
        self.tell_text(_encode(message))

    def tell_text(self, text: str) -> None:
        """Send JSON text to everybody who is connected, without ever waiting for them."""
        for client in self.clients.values():
            client.unsent += text.encode() + b"\n"

    def send(self, client: Client, message: Message) -> None:
        """Send a message to one driver."""
        client.unsent += _encode(message).encode() + b"\n"

    def flush(self) -> None:
        """Hand the sockets what they take.

        While enough is queued to keep every place busy, reports are held back for a
        moment: a driver that hears of many ends at once makes fewer ticks.
        """
        now = time.monotonic()
        if len(self.queue) > 2 * self.max_active and now - self.flushed_at < _FLUSH_EVERY_S:
            return
        self.flushed_at = now
        for client in list(self.clients.values()):
            if client.unsent:
                try:
                    sent = client.socket.send(client.unsent, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                    client.unsent = client.unsent[sent:]
                except BlockingIOError:
                    pass
                except OSError:
                    self.drop(client)
                    continue
                if len(client.unsent) > _MAX_CLIENT_BACKLOG:
                    self.drop(client)  # it does not listen; it will ask when it comes back

    def accept(self) -> bool:
        """Let a driver of the same user in; return whether it was one."""
        connection, _ = self.listener.accept()
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, uid, _ = struct.unpack("3i", credentials)
        if uid != os.getuid():
            connection.close()
            return False
        client = Client(connection)
        self.clients[connection.fileno()] = client
        self.selector.register(connection, selectors.EVENT_READ, client)
        return True

    def drop(self, client: Client) -> None:
        """Forget a driver; its jobs go on."""
        if self.clients.pop(client.socket.fileno(), None) is not None:
            self.selector.unregister(client.socket)
            client.socket.close()

    def receive(self, client: Client) -> None:
        """Read requests."""
        try:
            chunk = client.socket.recv(1 << 18, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self.drop(client)
            return
        *lines, client.received = (client.received + chunk).split(b"\n")
        for line in lines:
            self.obey(client, json.loads(line))

    # -- the loop -----------------------------------------------------------------------

    def serve(self) -> None:
        """Work until nothing is left to do and nobody is connected."""
        quiet_until = time.monotonic() + _FIRST_CLIENT_S
        while True:
            events = self.selector.select(self.patience())
            for key, _ in events:
                if key.fileobj is self.listener:
                    if self.accept():
                        quiet_until = 0.0
                elif key.fileobj == self.child_pipe:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self.child_pipe, 4096)
                else:
                    self.receive(key.data)
            self.reap()
            self.enforce()
            self.start_queued()
            self.announce()
            self.journal.write_rest()
            self.flush()
            # A driver that hears of an exit commits it, so the journal's own way to the disk
            # can wait until nothing else is to be done.
            if self.journal.dirty_since and (
                not events or time.monotonic() - self.journal.dirty_since > _SYNC_AT_MOST_S
            ):
                self.journal.sync()
            idle = not (self.running or self.queue or self.clients or self.journal.unwritten)
            if idle and time.monotonic() >= quiet_until:
                self.journal.sync()
                return

    def patience(self) -> float:
        """Return how long the loop may sleep."""
        now = time.monotonic()
        limits = [_FIRST_CLIENT_S]
        if self.journal.dirty_since:
            limits.append(_SYNC_AFTER_S)
        if self.journal.unwritten:
            limits.append(_RETRY_START_S)
        if self.unannounced or any(client.unsent for client in self.clients.values()):
            limits.append(_FLUSH_EVERY_S)
        if self.deadlines:
            limits.append(self.deadlines[0][0] - now)
        if self.queue and len(self.running) < self.max_active:
            limits.append(self.blocked_until - now)
        return max(0.0, min(limits))


def start(ready: str, directory: str) -> None:
    """Be the runner of a directory; say on a descriptor when it listens."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    try:
        serve_directory(int(ready), directory)
    except BaseException:
        import traceback

        traceback.print_exc()
        raise


def serve_directory(ready: int, directory: str) -> None:
    """Detach, take ``runner.lock``, and serve the directory."""
    if os.fork():
        os._exit(0)
    os.chdir(directory)
    lock = os.open("runner.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # another runner serves; closing `ready` tells
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    address = f"matterstack-{os.urandom(16).hex()}"
    listener.bind(f"\0{address}")
    listener.listen()
    holder = {
        "pid": os.getpid(),
        "start": start_time(os.getpid()),
        "host": socket.gethostname(),
        "boot": boot_id(),
        "address": address,
    }
    content = json.dumps(holder).encode() + b"\n"
    os.pwrite(lock, content, 0)
    os.ftruncate(lock, len(content))
    gc.set_threshold(100_000)  # it makes next to no cycles
    runner = Runner(lock, listener)
    os.write(ready, b"1")
    os.close(ready)
    adopt_orphans()
    runner.serve()
