"""Processes of this machine: found, known again, and stopped."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

MOST_FILES = os.sysconf("SC_OPEN_MAX")
# High, so that it collides with no redirection of a shell; whoever looks for a claim finds it whatever its number.
CLAIM_FD = min(198, MOST_FILES - 1)
# Beside it: what it inherits of the first process tells whether that one is over, also where nobody has noted its id.
FIRST_FD = CLAIM_FD - 1
FIRST_IS = "/proc/self" if os.path.isdir("/proc/self") else os.devnull
_TOKEN_IS = b"MATTERSTACK_TOKEN="
_CLAIM_IS = b"MATTERSTACK_CLAIM="
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
#: From it all processes are seen; its number is fixed (PROC_PID_INIT_INO of the kernel's linux/proc_ns.h).
_FIRST_NAMESPACE = str(0xEFFFFFFC)


def resolve(env: dict[str, str], environment: dict[str, str]) -> dict[str, str]:
    """Replace each ``env:NAME`` by the value of NAME where the task is started."""
    values = dict(env)
    for name, value in env.items():
        if value.startswith("env:"):
            source = value[4:]
            if source not in environment:
                raise LookupError(f"env[{name!r}] refers to {value!r}, but {source} is not set where it was started")
            values[name] = environment[source]
    return values


def find_program(name: str, path: str, directory: str) -> str:
    """Return what a shell would start for `name` in `directory`."""
    if "/" in name:
        return name
    for place in path.split(os.pathsep):
        candidate = os.path.join(place or ".", name)
        seen_from_here = os.path.join(directory, candidate)
        if os.path.isfile(seen_from_here) and os.access(seen_from_here, os.X_OK):
            return candidate
    raise LookupError(f"{name}: command not found")


def boot_ticks() -> int:
    """Return the clock ticks since boot, as proc_pid_stat(5) counts the start of a process."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS_PER_S)


def start_time(pid: int) -> int:
    """Return when a live process started, in clock ticks since boot (proc_pid_stat(5), field 22); else -1."""
    return parent_and_start(pid)[1]


def parent_and_start(pid: int) -> tuple[int, int]:
    """Return the parent of a live process, and when it started, in clock ticks since boot; -1 for one that is over."""
    return _parent_and_start(f"/proc/{pid}/stat")


def _parent_and_start(path: str) -> tuple[int, int]:
    try:
        with open(path, "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return (-1, -1) if fields[0] in (b"Z", b"X") else (int(fields[1]), int(fields[19]))
    except (OSError, IndexError, ValueError):
        return -1, -1


def first_process(pid: int) -> tuple[int, int] | None:
    """Return the first process of the attempt that a process is of, as a descriptor that it inherited shows.

    Returns
    -------
    tuple of int, optional
        Its id, and when it started, in clock ticks since boot, or -1 where it is over; None where that is not shown.
    """
    place = f"/proc/{pid}/fd/{FIRST_FD}"
    try:
        shown = re.fullmatch(r"/proc/(\d+)(?: \(deleted\))?", os.readlink(place))
    except OSError:
        return None
    # Through the descriptor: another process that got the same id is not seen in it.
    return (int(shown[1]), _parent_and_start(f"{place}/stat")[1]) if shown else None


def oom_kills() -> int:
    """Return how many processes the kernel's out-of-memory killer has ended (proc_vmstat(5))."""
    try:
        with open("/proc/vmstat", "rb") as file:
            for line in file:
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0


class Traces:
    """Signs by which the processes of one attempt are known.

    Parameters
    ----------
    token : str
        Of the attempt: its processes have it in their environment, beside one of the claims.
    claims : collection of str
        Files that its processes hold locked, each the device and the inode. A copy of the attempt has another.
    directory : str
        Name of its directory. Where a command has removed its file, the inode may be that of another attempt by now.
    pid : int
        Of its first process; 0 where that is not known.
    start : tuple of int
        Clock ticks since boot, between which that process was started.
    """

    __slots__ = ("claims", "directory", "pid", "start", "token")

    def __init__(
        self, token: str, claims: Collection[str], directory: str, pid: int = 0, start: tuple[int, int] = (0, 0)
    ) -> None:
        self.token = token
        self.directory = directory
        self.claims = claims
        self.pid = pid
        self.start = start


def file_mark(status: os.stat_result) -> str:
    """Return what identifies a file on this machine: its device and its inode."""
    return f"{status.st_dev}:{status.st_ino}"


def search(wanted: Sequence[Traces]) -> dict[str, dict[int, int]]:
    """Return the processes of attempts, by token: their ids, with when each started. One pass over all processes.

    What descends from a process of an attempt is of the attempt as well, whatever it has cleared or closed.
    """
    # Looking into /proc at every start would wait for the program to be loaded, so only the
    # time around it is known; a process id does not come round within that time.
    firsts = {one.pid: one for one in wanted if one.pid}
    claims = by_claim(wanted)
    found: dict[str, dict[int, int]] = {one.token: {} for one in wanted}
    owner: dict[int, str] = {}
    starts: dict[int, int] = {}
    below: dict[int, list[int]] = {}
    for pid in processes():
        parent, starts[pid] = parent_and_start(pid)
        below.setdefault(parent, []).append(pid)
        first = firsts.get(pid)
        if first is not None and first.start[0] - 1 <= starts[pid] <= first.start[1] + 1:
            owner[pid] = first.token
        elif starts[pid] >= 0 and (token := owner_of(pid, claims)) is not None:
            owner[pid] = token
    waiting = list(owner)
    while waiting:
        pid = waiting.pop()
        found[owner[pid]][pid] = starts[pid]
        for child in below.pop(pid, ()):
            if child not in owner:
                owner[child] = owner[pid]
                waiting.append(child)
    return found


def by_claim(wanted: Iterable[Traces]) -> dict[str, dict[str, str]]:
    """Return, by the file that was claimed, whose it may be: a token, and the name of its directory."""
    claims: dict[str, dict[str, str]] = {}
    for one in wanted:
        for claim in one.claims:
            claims.setdefault(claim, {})[one.token] = one.directory
    return claims


def owner_of(pid: int, claims: Mapping[str, Mapping[str, str]]) -> str | None:
    """Return the token of the attempt that a process shows to belong to, by its environment or a lock it inherited.

    Parameters
    ----------
    pid : int
    claims : mapping
        Of the attempts in question; see `by_claim`.
    """
    token = claim = b""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        for variable in file.read().split(b"\0"):
            if variable.startswith(_TOKEN_IS):
                token = variable[len(_TOKEN_IS) :]
            elif variable.startswith(_CLAIM_IS):
                claim = variable[len(_CLAIM_IS) :]
    shown = token.decode(errors="replace")
    if shown in claims.get(claim.decode(errors="replace"), ()):
        return shown
    for held, path in locked_by(pid):
        for owner, directory in claims.get(held, {}).items():
            if f"/{directory}/" in path:
                return owner
    return None


def locked_by(pid: int) -> Iterator[tuple[str, str]]:
    """Yield the files whose flock a process has inherited (proc_pid_fdinfo(5)); who only reads them has none.

    Each is a device and an inode, and the path: where it lies, or lay before it was removed.
    """
    try:
        descriptors = os.listdir(f"/proc/{pid}/fdinfo")
    except OSError:
        return
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/fdinfo/{descriptor}", "rb") as file:
                is_locked = b"FLOCK" in file.read()
            if is_locked:
                place = f"/proc/{pid}/fd/{descriptor}"
                yield file_mark(os.stat(place)), os.readlink(place)


def is_locked(path: str) -> bool:
    """Return whether somebody holds the flock of a file, also one whose processes cannot be seen from here."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def processes() -> Iterator[int]:
    """Yield the ids of all processes but this one."""
    me = os.getpid()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != me:
            yield int(name)


def children(pid: int) -> list[int]:
    """Return the children of a process, zombies among them (proc_pid_task_children(5))."""
    try:
        found: list[int] = []
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:  # it is gone; or the kernel was built without them
        return [other for other in processes() if parent_and_start(other)[0] == pid]
    return found


def stop_trees(roots: Iterable[int]) -> dict[int, int]:
    """Kill processes with all that descends from them; return them, with when each started.

    Each is stopped before its children are looked for, so none can be missed: a process that has a signal
    to take cannot fork.
    """
    stopped: dict[int, int] = {}
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        start = start_time(pid)
        if start >= 0 and pid != os.getpid() and pid not in stopped and send(pid, signal.SIGSTOP):
            stopped[pid] = start
            waiting += children(pid)
    for pid in stopped:
        send(pid, signal.SIGKILL)
    return stopped


def send(pid: int, number: int) -> bool:
    """Send a signal to a process; return whether it could take it."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def prove_room(number: int) -> None:
    """Start so many processes at once, and end them.

    Raises
    ------
    OSError
        There is no room for them: of the machine, of a control group, or of the user (fork(2)).
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    started: list[int] = []
    try:
        for _ in range(number):
            pid = os.fork()
            if pid == 0:
                try:
                    os.close(writer)
                    os.read(reader, 1)  # until nobody has the writer open, however that comes
                finally:
                    os._exit(0)
            started.append(pid)
    finally:
        os.close(writer)
        os.close(reader)
        for pid in started:
            os.waitpid(pid, 0)


def adopt_orphans() -> None:
    """Become the parent of processes whose own parent ends (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def kill_group(pid: int, number: int) -> bool:
    """Send a signal to a process group; return whether anybody was there."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def signal_name(number: int) -> str:
    """Return ``SIGKILL`` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def machine() -> str:
    """Return what tells where a runner can be reached: the boot, and in it the network namespace.

    The host's name does not count: it may change. Containers of one host share the boot, but a socket in the abstract
    namespace is reached only from its own network namespace (network_namespaces(7)).
    """
    try:
        return f"{_boot()} {os.stat('/proc/self/ns/net').st_ino}"
    except OSError:  # a kernel may be built without namespaces, and a sandbox may show neither
        return os.uname().nodename


def namespace() -> str:
    """Return the boot, and in it whose processes have their ids here (pid_namespaces(7)); empty where neither shows."""
    try:
        return f"{_boot()[:8]} {os.stat('/proc/self/ns/pid').st_ino}"  # a claim is written for each task
    except OSError:
        return ""


def may_hide(other: str) -> bool:
    """Return whether processes of a namespace may be alive and are not seen from here."""
    boot, _, inode = other.partition(" ")
    here, _, own = namespace().partition(" ")
    return bool(inode) and boot == here and own not in (inode, _FIRST_NAMESPACE)


def _boot() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:  # random(4)
        return file.read().strip()
