"""Control groups of commands: where this user may make them, the kernel itself keeps a command to its memory."""

from __future__ import annotations

import contextlib
import os
import re

from .memory import RAISE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ROOT = "/sys/fs/cgroup"
_OWN = "/proc/self/cgroup"
_PREFIX = "matterstack-"
_GIB = 1 << 30
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*").fullmatch
#: Enters the group of the first argument, and becomes the command that the others are: not a moment of it is outside.
_ENTER = '{ echo 0 > "$0"; } 2>/dev/null; exec "$@"'


class ControlGroups:
    """The control groups of one runner's commands, beside its own (https://docs.kernel.org/admin-guide/cgroup-v2.html).

    A group whose processes have memory may have no other processes beside groups below it, so commands get groups
    beside that of the runner, in one that was delegated to this user. Their names are those of attempts: whatever other
    runners make there is left alone.

    Parameters
    ----------
    root, own : str
        Where control groups are mounted, and what tells in which one this process is.
    """

    def __init__(self, root: str = _ROOT, own: str = _OWN) -> None:
        self._home = _delegated(root, own)

    def make(self, name: str, most_gib: float) -> ControlGroup | None:
        """Return a group whose processes may use so much memory together; None where there can be none."""
        if self._home is None:
            return None
        group = ControlGroup(f"{self._home}/{_PREFIX}{name}")
        try:
            with contextlib.suppress(FileExistsError):  # its runner was killed before anything began in it
                os.mkdir(group.path)
            _write(f"{group.path}/memory.max", str(int(most_gib * _GIB)))
            _write(f"{group.path}/memory.oom.group", "1")  # all of it ends, or none
        except OSError:
            group.remove()
            return None
        with contextlib.suppress(OSError):  # a kernel may be built without
            _write(f"{group.path}/memory.swap.max", "0")
        return group

    def end(self, name: str) -> str | None:
        """Remove the group of a command that an earlier runner began; return why the kernel killed it, if it did."""
        return None if self._home is None else ControlGroup(f"{self._home}/{_PREFIX}{name}").end()


class ControlGroup:
    """The control group of one command."""

    def __init__(self, path: str) -> None:
        self.path = path

    def entering(self, program: str, argv: Sequence[str], environment: Mapping[str, str]) -> tuple[str, list[str]]:
        """Return the program and arguments that enter the group and become a command."""
        command = [program, *argv[1:]]
        # A shell may drop what it could not have as a variable, such as the functions that bash exports.
        strange = [f"{name}={value}" for name, value in environment.items() if not _VARIABLE(name)]
        if strange and "=" not in program:
            command = ["/usr/bin/env", *strange, *command]
        return "/bin/sh", ["/bin/sh", "-c", _ENTER, f"{self.path}/cgroup.procs", *command]

    def take(self, pid: int) -> None:
        """Have a process in the group that has not begun yet."""
        with contextlib.suppress(OSError):
            _write(f"{self.path}/cgroup.procs", str(pid))

    def is_entered(self) -> bool:
        """Return whether a process is in it, so that the kernel keeps it to its memory."""
        return self._counts("cgroup.events").get("populated") == "1"

    def end(self) -> str | None:
        """Remove the group, unless something lives in it; return why the kernel killed its processes, if it did."""
        why = None
        events = self._counts("memory.events")
        # Where all of the machine, or of a group above, has no memory left, only the second of these counts.
        if events.get("oom", "0") != "0" != events.get("oom_kill", "0"):
            why = f"memory limit: used all of its memory_gib{self._most()}; the kernel enforced it: {RAISE}"
        self.remove()
        return why

    def remove(self) -> None:
        """Remove the group, unless something lives in it."""
        with contextlib.suppress(OSError):
            os.rmdir(self.path)

    def _most(self) -> str:
        with contextlib.suppress(OSError, ValueError), open(f"{self.path}/memory.max") as file:
            return f", which is {int(file.read()) / _GIB:.3g}"
        return ""

    def _counts(self, name: str) -> dict[str, str]:
        with contextlib.suppress(OSError, ValueError), open(f"{self.path}/{name}") as file:
            return dict(line.split() for line in file)
        return {}


def _delegated(root: str, own: str) -> str | None:
    """Return the group in which groups for commands may be made; None where this user has none."""
    try:
        with open(own) as file:
            path = next(line[3:].strip() for line in file if line.startswith("0::"))
        home = os.path.dirname(root + path)
        with open(f"{home}/cgroup.subtree_control") as file:
            has_memory = "memory" in file.read().split()
        # What belongs to root is the system's, also where root may write to it.
        is_ours = os.stat(home).st_uid == os.geteuid() != 0 and os.access(f"{home}/cgroup.procs", os.W_OK)
    except (OSError, StopIteration):
        return None
    return home if path != "/" and has_memory and is_ours else None


def _write(path: str, text: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)
