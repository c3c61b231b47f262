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
import resource
import selectors
import signal
import socket
import struct
import time
from collections import deque

from .control_groups import ControlGroup, ControlGroups
from .journal import Journal, Records, sync_path
from .memory import MemoryWatch
from .orphans import Orphan, Orphans
from .points import reach
from .processes import (
    CLAIM_FD,
    FIRST_FD,
    FIRST_IS,
    MOST_FILES,
    Traces,
    adopt_orphans,
    boot_ticks,
    by_claim,
    children,
    file_mark,
    find_program,
    kill_group,
    machine,
    oom_kills,
    owner_of,
    prove_room,
    resolve,
    signal_name,
    start_time,
    stop_trees,
)
from .warm import Ask, Server, WarmServers, write_note

# It is started once a run and often for a moment only, so it imports little.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .messages import Message

_SYNC_AFTER_S = 0.02
_SYNC_AT_MOST_S = 1.0
_FLUSH_EVERY_S = 0.02
_FIRST_CLIENT_S = 30.0
_NO_ROOM = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
_RETRY_START_S = 1.0
_PROCESSES = 3  # of a shell and a pipe of two
_MOST_CLIENTS = max(1, MOST_FILES - 32)  # the rest is for commands that are being started, and for files
_MAX_CLIENT_BACKLOG = 8_000_000
_STRAYS_S = 5.0
_GIB = 1 << 30
#: Of an attempt that nobody waited for.
NOTHING_KNOWN: Mapping[str, float | None] = {"cpu_s": None, "peak_memory_gib": None}
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
        self.memory_gib: float | None = request.get("memory_gib")
        self.group: ControlGroup | None = None  # where its memory is enforced
        self.environment = environment
        self.call: Message | None = request.get("call")  # of a call of a function: what it imports
        self.cold: str | None = None  # why such a call begins cold
        self.server: Server | None = None  # where it begins warm
        self.pid = 0
        self.start = (0, 0)  # clock ticks since boot, between which it was started
        self.started_at = 0.0
        self.began = 0.0
        self.stopping: str | None = None  # why it is being stopped
        self.oom_kills = 0
        self.claim = ""  # device and inode of the file that its processes hold locked, or that was made to be
        self.status = 0  # its exit status, once it has ended
        self.usage: dict[str, float | None] = {}  # of it and of what it waited for, once it has ended
        self.strays: dict[int, int] = {}  # what it left, and is being stopped, with when each started
        self.strays_until = 0.0

    def whole_environment(self) -> dict[str, str]:
        """Return the environment that it begins with, but for what tells its claim.

        Raises
        ------
        LookupError
            It refers to a variable that is not there.
        """
        return self.environment | resolve(self.env, self.environment)

    @property
    def external_id(self) -> str | None:
        """What identifies the process on this machine: its id and when it started."""
        return f"{self.pid}:{self.start[0]}" if self.pid else None

    @property
    def traces(self) -> Traces:
        """What its processes are known by."""
        return Traces(self.token, (self.claim,), self.directory, self.pid, self.start)


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
        self.lock = os.fstat(lock)
        self.listener = listener
        self.root = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        self.max_active = 1
        self.queue: deque[Execution] = deque()
        self.queued: dict[str, Execution] = {}
        self.running: dict[int, Execution] = {}
        self.ending: list[Execution] = []  # over, but for what they left running
        self.by_token: dict[str, Execution] = {}
        self.unannounced: dict[str, Execution] = {}
        self.ended: dict[str, Message] = {}
        self.clients: dict[int, Client] = {}
        self.questions: list[tuple[Client, Message]] = []
        self.deadlines: list[tuple[float, int, Execution, str, int]] = []
        self.counter = itertools.count()
        self.blocked_until = 0.0
        self.crowded = False  # somebody found no room for another process
        self.flushed_at = 0.0
        self.oom_kills, self.oom_read_at = 0, float("-inf")
        self.children = -1
        with contextlib.suppress(OSError):  # a kernel may be built without it (proc_pid_task(5))
            self.children = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC)
        self.journal = Journal()
        self.groups = ControlGroups()
        self.orphans = Orphans(self.groups)
        self.memory = MemoryWatch()
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ, None)
        self.warm = WarmServers(self.selector)
        self.gates: list[Ask] = []  # of processes that are told, whose start is not written yet
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.child_pipe = reader
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self.selector.register(reader, selectors.EVENT_READ, None)

    # -- starting -----------------------------------------------------------------------

    def start_queued(self) -> None:
        """Start what the number of active commands allows, once all of the journal was read."""
        while self.queue and self.has_room() and time.monotonic() >= self.blocked_until and self.journal.read_on():
            job = self.queue.popleft()
            try:
                if not holds_lock(self.lock):
                    self.resign()
                    return
                if self.crowded:
                    prove_room(_PROCESSES)
                    self.crowded = False
                job.server = self.warm.choose(job)
                if job.server is not None and not job.server.ready:
                    job.server.waiting.append(job)
                    continue
                self.queued.pop(job.token, None)
                self.start(job)
            except OSError as error:
                self.put_back(job, error)

    def put_back(self, job: Execution, error: OSError) -> None:
        """Have a command started later: no space, memory, descriptors or processes are left, which is not its fault."""
        self.queue.appendleft(job)
        self.queued[job.token] = job
        self.blocked_until = time.monotonic() + _RETRY_START_S
        self.crowded = error.errno == errno.EAGAIN
        why = f"there is no room for another process ({error.strerror})" if self.crowded else error
        self.tell({"event": "queued", "token": job.token, "reason": f"it cannot be started yet: {why}"})

    def has_room(self) -> bool:
        """Return whether one more command may run."""
        claimed = len(self.by_token)  # also those that are on their way, and those that leave something behind
        return claimed + self.warm.importing < self.max_active

    def resign(self) -> None:
        """Start nothing more: whoever holds the lock that lies at the path now does.

        What was not claimed is handed to that runner; commands under way are watched to their ends.
        """
        os.write(2, b"runner.lock was removed or replaced: this runner starts nothing more, and leaves when it can\n")
        self.queue.clear()
        self.queued.clear()
        self.warm.close()
        self.warm.released.clear()
        self.selector.unregister(self.listener)
        self.listener.close()
        for client in list(self.clients.values()):
            self.drop(client)

    def start(self, job: Execution) -> None:
        """Claim the attempt and start its command.

        Raises
        ------
        OSError
            It could not be claimed for want of a resource; nothing was started.
        """
        if self.journal.has_claimed(job.token):  # whatever its command has done to the file that says so too
            self.tell_claimed(job)
            return
        try:
            unclaim(job)  # where an earlier try could not
            out = os.open(
                f"{job.directory}/stdout.txt",
                os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_APPEND | os.O_CLOEXEC,
                0o666,
            )
        except FileExistsError:
            self.tell_claimed(job)
            return
        except (FileNotFoundError, NotADirectoryError):
            self.finish(job, None, "its directory is not there")
            return
        error = -1
        try:
            job.claim = file_mark(os.fstat(out))
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
            error = os.open(
                f"{job.directory}/stderr.txt",
                os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_APPEND | os.O_CLOEXEC,
                0o666,
            )
            reach("runner.claiming")
            self.journal.claim(job.token, job.claim, job.limit_s, job.grace_s)
            reach("runner.claimed")
        except OSError:
            with contextlib.suppress(OSError):
                unclaim(job)
            os.close(out)
            if error >= 0:
                os.close(error)
            raise
        try:
            if job.server is not None and self.warm.ask(job.server, job, out, error):
                self.by_token[job.token] = job
            else:
                self.start_cold(job, out, error)
        finally:
            os.close(out)
            os.close(error)

    def start_cold(self, job: Execution, out: int, error: int) -> None:
        """Start the command of a claimed attempt as a process of its own.

        Raises
        ------
        OSError
            The machine has no room for it; nothing was started, and the attempt is not claimed any more.
        """
        try:
            self.spawn(job, out, error)
        except OSError:
            if job.group is not None:  # whoever starts it may be another runner
                job.group.remove()
                job.group = None
            self.journal.write_later("free", job.token, "")
            with contextlib.suppress(OSError):
                unclaim(job)
            raise

    def tell_claimed(self, job: Execution) -> None:
        """Tell where an attempt stands that was claimed before, and is never started again."""
        attempt = (job.token, job.directory)
        self.tell(self.look(*attempt, self.records_of([attempt])))

    def spawn(self, job: Execution, out: int, error: int) -> None:
        """Start the command of a claimed attempt.

        Raises
        ------
        OSError
            The machine has no room for another process; nothing was started.
        """
        try:
            environment = job.whole_environment() | {"MATTERSTACK_CLAIM": job.claim}
            program = find_program(job.argv[0], environment.get("PATH", os.defpath), job.directory)
        except LookupError as missing:
            self.finish(job, 127, str(missing.args[0]))
            return
        write_note(job)
        self.note_time(job)
        argv = job.argv
        if (group := self.group_of(job)) is not None:
            program, argv = group.entering(program, argv, environment)
        os.chdir(job.directory)
        before = boot_ticks()
        try:
            job.pid = os.posix_spawn(
                program,
                argv,
                environment,
                file_actions=(
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, out, 1),
                    (os.POSIX_SPAWN_DUP2, error, 2),
                    (os.POSIX_SPAWN_DUP2, out, CLAIM_FD),
                    (os.POSIX_SPAWN_OPEN, FIRST_FD, FIRST_IS, os.O_RDONLY, 0),
                ),
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD),
            )
        except (OSError, ValueError) as failure:
            if isinstance(failure, OSError) and failure.errno in _NO_ROOM:
                raise
            reason = failure.strerror if isinstance(failure, OSError) else str(failure)
            if job.group is not None:
                job.group.remove()
            self.finish(job, 126, f"{job.argv[0]} cannot be started: {reason}")
            return
        finally:
            os.fchdir(self.root)
        job.start = (before, boot_ticks())
        self.begin(job)

    def group_of(self, job: Execution) -> ControlGroup | None:
        """Return the control group that keeps an attempt to its memory, where it has one and there can be one."""
        if job.memory_gib is not None and job.group is None:
            job.group = self.groups.make(job.token, job.memory_gib)
        return job.group

    def note_time(self, job: Execution) -> None:
        """Note when an attempt begins, and what had ended for want of memory by then."""
        job.started_at = time.time()
        job.began = time.monotonic()
        if job.began - self.oom_read_at > 1.0:
            self.oom_kills, self.oom_read_at = oom_kills(), job.began
        job.oom_kills = self.oom_kills

    def begin(self, job: Execution) -> None:
        """Watch an attempt whose process is known."""
        self.running[job.pid] = job
        self.by_token[job.token] = job
        reach("runner.started")
        since, until = job.start
        self.journal.write_later("start", job.token, f"{job.pid},{since},{until},{job.started_at!r}")
        if job.limit_s is not None:
            reason = f"time limit: it was stopped after {job.limit_s:g} s"
            self.set_deadline(job.limit_s, job, reason, signal.SIGTERM)
        if job.memory_gib is not None:
            self.memory.begin(job.pid, job.memory_gib)
        self.unannounced[job.token] = job

    # -- starting warm ------------------------------------------------------------------

    def tend_warm(self) -> None:
        """Take what warm servers have told: processes at their gates, and attempts that begin cold after all."""
        for job in self.warm.tend():
            self.tell({"event": "queued", "token": job.token, "reason": "what it imports is still being imported"})
        self.queue.extendleft(reversed(self.warm.released))
        self.warm.released.clear()
        for ask in self.warm.answered:
            if ask.pid:
                ask.job.pid, ask.job.start = ask.pid, (ask.start, ask.start)
                self.gates.append(ask)
                if (group := self.group_of(ask.job)) is not None:
                    group.take(ask.pid)
                self.note_time(ask.job)
                self.begin(ask.job)
            else:
                self.begin_cold(ask)
        self.warm.answered.clear()

    def begin_cold(self, ask: Ask) -> None:
        """Start a claimed attempt cold for which a server was asked in vain."""
        job = ask.job
        del self.by_token[job.token]
        job.cold = ask.cold
        os.close(ask.gate)
        try:
            self.start_cold(job, ask.out, ask.error)
        except OSError as error:
            self.put_back(job, error)
        finally:
            os.close(ask.out)
            os.close(ask.error)

    def open_gates(self) -> None:
        """Let processes begin whose start the journal tells: whoever comes next knows them by it."""
        if self.gates and not self.journal.unwritten:
            for ask in self.gates:
                ask.open()
                reach("runner.opened")
            self.gates.clear()

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
        """Take the exits of commands that ended, and stop what they left running: it has no one to answer to."""
        over: list[Execution] = []
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                if over or self.ending:
                    self.stop_strays([*over, *self.ending], self.other_children())
                break
            if (job := self.running.pop(pid, None)) is None:
                self.warm.reaped(pid)
            else:
                self.memory.end(pid)
                job.status, job.usage = status, usage_of(used)
                job.strays_until = time.monotonic() + _STRAYS_S
                over.append(job)
        self.ending = [job for job in (*self.ending, *over) if not self.settle(job)]

    def settle(self, job: Execution) -> bool:
        """Tell how a command ended once nothing is left of it; return whether that is so."""
        lives = any(start_time(pid) == start for pid, start in job.strays.items())
        if lives and time.monotonic() < job.strays_until:
            return False
        self.by_token.pop(job.token, None)
        code = os.waitstatus_to_exitcode(job.status)
        if code > 0 and could_not_fork(job.directory):
            self.crowded = True  # the next one waits until there is room, and is not lost in the same way
        reason = job.stopping
        if job.group is not None:
            why_killed = job.group.end()
            reason = reason or why_killed
        if reason is None and code < 0:
            reason = f"killed by {signal_name(-code)}"
            if code == -signal.SIGKILL and (kills := oom_kills()) != job.oom_kills:
                self.oom_kills = kills
                reason += ", most likely because memory ran out (the kernel's out-of-memory killer was at work)"
        note = "processes it had left in the background were stopped" if job.strays else None
        if lives:
            note = f"processes it had left in the background do not end: {', '.join(map(str, job.strays))}"
        self.finish(job, code, reason, note if reason is None else None, job.usage)
        return True

    def stop_strays(self, over: Sequence[Execution], found: list[int]) -> None:
        """Kill what commands that are over have left running.

        It has become our child when its parent ended, or descends from one that has. Such a child shows whose it is, or
        it began before all commands that run now, so that it is of none of these.
        """
        seen: set[int] = set()
        while found:
            own = {job.token: job for job in over}
            claims = by_claim(job.traces for job in (*over, *self.by_token.values()))
            # A process that a warm server forks is our child before it is told, and shows no claim at once.
            asked = [ask.asked - 1 for ask in (*self.warm.asks, *self.warm.answered)]
            began = min((*(job.start[0] for job in self.running.values()), *asked), default=float("inf"))
            for pid in found:
                if (start := start_time(pid)) >= 0:
                    token = owner_of(pid, claims)
                    if token in own or (token is None and start < began):
                        own.get(token or "", over[0]).strays |= stop_trees([pid])
            seen.update(found)
            # One that had been a grandchild may have become a child meanwhile.
            found = [pid for pid in self.other_children() if pid not in seen]

    def other_children(self) -> list[int]:
        """Return our children that are neither commands nor warm servers."""
        known = self.running.keys() | self.warm.pids
        if self.children < 0:
            return [pid for pid in children(os.getpid()) if pid not in known]
        listed = b""
        while part := os.pread(self.children, 1 << 16, len(listed)):
            listed += part
        return [pid for pid in map(int, listed.split()) if pid not in known]

    def finish(
        self,
        job: Execution | Orphan,
        code: int | None,
        reason: str | None,
        note: str | None = None,
        usage: Mapping[str, float | None] = NOTHING_KNOWN,
    ) -> None:
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
            **usage,
        }
        self.unannounced.pop(job.token, None)
        if code == 0 and not self.clients:
            sync_result(job.directory)
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
        """Stop what has passed its deadline, or takes more memory than it may."""
        now = time.monotonic()
        while self.deadlines and self.deadlines[0][0] <= now:
            _, _, job, reason, number = heapq.heappop(self.deadlines)
            if self.running.get(job.pid) is job:
                self.stop(job, reason, number)
        for pid, why in self.memory.over().items():
            found = self.running.get(pid)
            # What the kernel keeps to its memory may well look at more: at files that others have read already.
            if found is not None and not (found.group is not None and found.group.is_entered()):
                self.stop(found, why, signal.SIGKILL)

    # -- answering ----------------------------------------------------------------------

    def records_of(self, attempts: Sequence[tuple[str, str]]) -> Mapping[str, Records]:
        """Return what the journal says of attempts this runner does not have in mind, and look for their processes."""
        unknown = {
            token: directory
            for token, directory in attempts
            if not (token in self.ended or token in self.queued or token in self.by_token)
        }
        if not unknown:
            return {}
        records = self.journal.recorded(unknown)
        claimed = [
            (token, directory, records[token])
            for token, directory in unknown.items()
            if records[token].end is None and is_claimed(records[token], directory)
        ]
        for orphan in self.orphans.find(claimed):
            self.finish(orphan, None, orphan.stopping)
        return records

    def look(self, token: str, directory: str, journal: Mapping[str, Records]) -> Message:
        """Return what is known of an attempt, also of one that an earlier runner started."""
        if token in self.ended:
            return self.ended[token]
        if token in self.queued:
            return {"event": "queued", "token": token}
        if (job := self.by_token.get(token)) is not None and not job.pid:
            return {"event": "queued", "token": token}
        if job is not None:
            return {
                "event": "started",
                "token": token,
                "external_id": job.external_id,
                "started_at": job.started_at,
            }
        records = journal[token]
        if records.end is not None:
            return records.end
        if (orphan := self.orphans.known.get(token)) is not None:
            return orphan.message()
        return {"event": "vanished" if is_claimed(records, directory) else "absent", "token": token}

    def cancel(self, token: str) -> None:
        """Stop an attempt of this runner's, wherever it is on its way."""
        if (job := self.queued.pop(token, None)) is not None:
            if job in self.queue:
                self.queue.remove(job)
            self.warm.forget(job)
            self.finish(job, None, "cancelled before it was started")
        elif (job := self.by_token.get(token)) is not None and not job.pid:
            if (ask := self.warm.forget(job)) is not None:
                ask.close()
            del self.by_token[token]
            self.finish(job, None, "cancelled before it was started")
        elif job is not None and job.pid in self.running and job.stopping is None:
            self.stop(job, "cancelled", signal.SIGTERM)

    def obey(self, client: Client, request: Message) -> None:
        """Carry out one request."""
        match request["request"]:
            case "hello":
                self.max_active = request["max_active"]
            case "start":
                client.environment = request.get("environment", client.environment)
                for item in request["jobs"]:
                    token = item["token"]
                    if token in self.queued or token in self.by_token or token in self.ended:
                        self.send(client, self.look(token, item["directory"], {}))
                        continue
                    job = Execution(item, client.environment)
                    self.queue.append(job)
                    self.queued[token] = job
            case "ask" | "cancel":
                self.questions.append((client, request))

    def answer(self) -> None:
        """Answer questions, after all that was sent before them: by a driver that was killed since, perhaps."""
        if not self.questions:
            return
        self.accept()
        for client in list(self.clients.values()):
            self.receive(client)
        for client, request in self.questions:
            attempts = request["attempts"]
            journal = self.records_of(attempts)
            if request["request"] == "cancel":
                for token, _ in attempts:
                    self.cancel(token)
                self.orphans.stop([token for token, _ in attempts], "cancelled")
            for token, directory in attempts:
                self.send(client, self.look(token, directory, journal))
            self.send(client, {"event": "answered", "number": request["number"]})
        self.questions.clear()

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
        """Let drivers of the same user in; return whether there was one."""
        entered = False
        while True:
            try:
                connection, _ = self.listener.accept()
            except BlockingIOError:
                return entered
            except OSError:  # no descriptor is left; whoever connects waits
                time.sleep(_FLUSH_EVERY_S)
                return entered
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            _, uid, _ = struct.unpack("3i", credentials)
            if uid != os.getuid():
                connection.close()
                continue
            client = Client(connection)
            self.clients[connection.fileno()] = client
            self.selector.register(connection, selectors.EVENT_READ, client)
            entered = True
            if len(self.clients) > _MOST_CLIENTS:
                self.drop(next(iter(self.clients.values())))  # connected longest; it comes back when it has a question

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
                elif isinstance(key.data, Server):
                    self.warm.hear(key.data)
                else:
                    self.receive(key.data)
            self.tend_warm()
            self.answer()
            self.reap()
            self.enforce()
            for orphan in self.orphans.tend():
                self.finish(orphan, None, orphan.stopping)
            self.start_queued()
            self.announce()
            self.journal.write_rest()
            self.open_gates()
            self.flush()
            # A driver that hears of an exit commits it, so the journal's own way to the disk
            # can wait until nothing else is to be done.
            if self.journal.dirty_since and (
                not events or time.monotonic() - self.journal.dirty_since > _SYNC_AT_MOST_S
            ):
                self.journal.sync()
            idle = not (self.by_token or self.queued or self.clients or self.journal.unwritten)
            if idle and self.orphans.due == float("inf") and time.monotonic() >= quiet_until:
                self.journal.sync()
                if self.leave():
                    return

    def leave(self) -> bool:
        """Listen no more, unless a driver has come meanwhile; return whether that is so.

        A process takes its time to end. Who connects while it does would be heard by nobody, and believe that what it
        hands over was taken.
        """
        if self.accept():
            return False
        self.listener.close()
        self.warm.close()
        return True

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
        if self.ending:
            limits.append(_FLUSH_EVERY_S)
        limits.append(self.orphans.due - now)
        limits.append(self.memory.due - now)
        limits.append(self.warm.due - now)
        if self.queue and self.has_room():
            limits.append(self.blocked_until - now)
        return max(0.0, min(limits))


def usage_of(used: resource.struct_rusage) -> dict[str, float | None]:
    """Return the CPU time and the peak of the memory of a process, and of all below it that was waited for.

    Linux charges a process with the memory of who started it, since it has that until it becomes another program: a
    peak that is no higher than ours tells nothing (getrusage(2), fs/exec.c).
    """
    own_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_gib = round(used.ru_maxrss * 1024 / _GIB, 6) if used.ru_maxrss > own_kib else None
    return {"cpu_s": round(used.ru_utime + used.ru_stime, 6), "peak_memory_gib": peak_gib}


def unclaim(job: Execution) -> None:
    """Remove the file that claims an attempt of which nothing was started.

    Raises
    ------
    OSError
        The disk does not let us. It is known to be ours when the attempt's turn comes again.
    """
    path = f"{job.directory}/stdout.txt"
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if job.claim and file_mark(os.lstat(path)) == job.claim:
            os.unlink(path)
    job.claim = ""


def is_claimed(records: Records, directory: str) -> bool:
    """Return whether an attempt may have been started, as its journal or its directory shows."""
    return records.claimed or os.path.lexists(f"{directory}/stdout.txt")


def holds_lock(lock: os.stat_result) -> bool:
    """Return whether ``runner.lock``, as it lies in the present directory now, is the file that is held."""
    try:
        return os.path.samestat(os.stat("runner.lock", follow_symlinks=False), lock)
    except FileNotFoundError:
        return False


def could_not_fork(directory: str) -> bool:
    """Return whether the last words of a command may be those of a shell that had no room for another process."""
    with contextlib.suppress(OSError):
        file = os.open(f"{directory}/stderr.txt", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            # Shells say it in many ways, and languages; to look for room in vain costs a millisecond.
            return b"fork" in os.pread(file, 500, max(0, os.fstat(file).st_size - 500)).lower()
        finally:
            os.close(file)
    return False


def sync_result(directory: str) -> None:
    """Bring result.json and the names beside it to disk: nobody reads them now, and the journal will vouch for them."""
    for path in (f"{directory}/result.json", directory):
        with contextlib.suppress(OSError):
            sync_path(path)


def start(ready: str, directory: str) -> None:
    """Be the runner of a directory; say on a descriptor that it listens (1), or that another one does (0)."""
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
        os.write(ready, b"0")
        return  # another runner serves
    if not holds_lock(os.fstat(lock)):
        os.write(ready, b"0")
        return  # it was replaced before it was locked
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    address = f"matterstack-{os.urandom(16).hex()}"
    listener.bind(f"\0{address}")
    listener.listen()
    listener.setblocking(False)
    holder = {
        "pid": os.getpid(),
        "start": start_time(os.getpid()),
        "host": socket.gethostname(),
        "machine": machine(),
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
