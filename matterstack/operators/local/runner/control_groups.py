"""Control groups of commands: where this user may make them, the kernel itself keeps a command to its memory."""

from __future__ import annotations

import contextlib
import os

from .memory import RAISE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_ROOT = "/sys/fs/cgroup"
_OWN = "/proc/self/cgroup"
_PREFIX = "matterstack-"
_GIB = 1 << 30
#: Enters the group of the first argument, and becomes the command that the others are: not a moment of it is outside.
_ENTER = '{ echo 0 > "$0"; } 2>/dev/null; exec "$@"'


class ControlGroups:
    """The control groups of one runner's commands, beside its own (https://docs.kernel.org/admin-guide/cgroup-v2.html).

    A group whose processes have memory may have no other processes beside groups below it, so commands get groups
    beside that of the runner, in one that was delegated to this user.

    Parameters
    ----------
    root, own : str
        Where control groups are mounted, and what tells in which one this process is.
    """

    def __init__(self, root: str = _ROOT, own: str = _OWN) -> None:
        self._home = _delegated(root, own)
        with contextlib.suppress(OSError):
            for name in os.listdir(self._home) if self._home else ():
                if name.startswith(_PREFIX):  # a runner that was killed left it; one that is in use stays
                    with contextlib.suppress(OSError):
                        os.rmdir(f"{self._home}/{name}")

    def make(self, name: str, most_gib: float) -> ControlGroup | None:
        """Return a new group whose processes may use so much memory together; None where there can be none."""
        if self._home is None:
            return None
        path = f"{self._home}/{_PREFIX}{name}"
        try:
            os.mkdir(path)
        except OSError:
            return None
        group = ControlGroup(path, most_gib)
        try:
            _write(f"{path}/memory.max", str(int(most_gib * _GIB)))
            _write(f"{path}/memory.oom.group", "1")  # all of it ends, or none
        except OSError:
            group.remove()
            return None
        with contextlib.suppress(OSError):  # a kernel may be built without
            _write(f"{path}/memory.swap.max", "0")
        return group


class ControlGroup:
    """The control group of one command."""

    def __init__(self, path: str, most_gib: float) -> None:
        self.path = path
        self.most_gib = most_gib

    def entering(self, program: str, argv: Sequence[str]) -> tuple[str, list[str]]:
        """Return the program and arguments that enter the group and become a command."""
        return "/bin/sh", ["/bin/sh", "-c", _ENTER, f"{self.path}/cgroup.procs", program, *argv[1:]]

    def take(self, pid: int) -> None:
        """Have a process in the group that has not begun yet."""
        with contextlib.suppress(OSError):
            _write(f"{self.path}/cgroup.procs", str(pid))

    def why_killed(self) -> str | None:
        """Return why the kernel killed its processes, if it did for want of memory."""
        try:
            with open(f"{self.path}/memory.events") as file:
                kills = dict(line.split() for line in file).get("oom_kill", "0")
        except (OSError, ValueError):
            return None
        if kills == "0":
            return None
        return (
            f"memory limit: used all of its memory_gib, which is {self.most_gib:.3g}; the kernel enforced it: {RAISE}"
        )

    def remove(self) -> None:
        """Remove the group, unless something lives in it."""
        with contextlib.suppress(OSError):
            os.rmdir(self.path)


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
