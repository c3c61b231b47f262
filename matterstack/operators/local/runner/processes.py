"""Processes of this machine: found, known again, and stopped."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

CLAIM_FD = 198  # high, so that it collides with no redirection of a shell
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


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
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS_PER_S)


def start_time(pid: int) -> int:
    """Return when a live process started, in clock ticks since boot (proc_pid_stat(5), field 22); else -1."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (OSError, IndexError):
        return -1
    return -1 if fields[0] in (b"Z", b"X") else int(fields[19])


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


def orphans(token: str, pid: int, start: list[int], claim: str) -> list[int]:
    """Return processes of an attempt whose runner is gone; [0] for one that only its lock shows."""
    found: list[int] = []
    # Looking into /proc at every start would wait for the program to be loaded, so only the
    # time around it is known; a process id does not come round within that time.
    if pid and start[0] - 1 <= start_time(pid) <= start[1] + 1:
        found.append(pid)
    needle = f"MATTERSTACK_TOKEN={token}".encode()
    for other in processes():
        if other != pid:
            try:
                with open(f"/proc/{other}/environ", "rb") as file:
                    if needle in file.read().split(b"\0") and start_time(other) >= 0:
                        found.append(other)
            except OSError:
                continue
    if not found:
        try:
            descriptor = os.open(claim, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return found
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found.append(0)
        finally:
            os.close(descriptor)
    return found


def processes() -> Iterator[int]:
    """Yield the ids of all processes but this one."""
    me = os.getpid()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != me:
            yield int(name)


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


def boot_id() -> str:
    """Return the kernel's id of this boot (random(4)); empty where there is none."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""
