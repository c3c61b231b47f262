"""Warm starts in a chunk: calls that need the same imports are forked by one server, one at a time.

It is copied beside the chunk's program, with that of the server, and needs nothing but the standard library of
Python 3.8.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Key = tuple[tuple[str, ...], str, tuple[tuple[str, str], ...]]

_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "warm_script.py")
_ROOM = {"MATTERSTACK_ROOM": "-" * 300}
_OURS = "MATTERSTACK_"
_IMPORT_S = 300.0
_ANSWER_S = 10.0
_LOOK_S = 1.0
_PACKET = 1 << 16
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER, prctl(2)


class ColdStart(Exception):  # noqa: N818 - it is no error: the same command is started by itself
    """Why an attempt begins cold."""


class WarmStarts:
    """The server of a chunk: one at a time, for calls that follow each other.

    Parameters
    ----------
    members : list of dict
        Of the chunk.
    root : int
        Descriptor of the directory that holds those of the attempts.
    is_over : callable
        Whether the job is being ended, so that nothing is worth waiting for.
    """

    def __init__(self, members: list[dict[str, Any]], root: int, is_over: Callable[[], bool]) -> None:
        self.root = root
        self.is_over = is_over
        self.key: Key | None = None
        self.refused: dict[Key, str] = {}
        self.link: socket.socket | None = None
        self.pid = 0
        self.numbers = 0
        calls = [_call(member) for member in members]
        self.alike = {call for call in calls if call is not None and calls.count(call) > 1}

    def start(self, member: dict[str, Any], program: str, environment: dict[str, str]) -> tuple[int, str]:
        """Start a call in the present directory, which is its own, warm.

        Returns
        -------
        process : int
            Its id; 0 where it has to begin cold.
        why : str
            In that case.
        """
        call = _call(member)
        if call is None:
            return 0, member["call"]["cold"]
        if call not in self.alike:
            return 0, "no other attempt of its job needs the same imports"
        plain = {name: value for name, value in environment.items() if not name.startswith(_OURS)}
        key: Key = (tuple(member["argv"]), call, tuple(sorted(plain.items())))
        if key in self.refused:
            return 0, self.refused[key]
        try:
            if key != self.key:
                self.close()
                self._begin(key, program, plain)
            return self._ask(member["directory"], environment), ""
        except ColdStart as cold:
            return 0, str(cold)
        except (OSError, ValueError) as problem:
            self._refuse(key, f"its warm server cannot be used: {problem}")
            return 0, self.refused[key]

    def _refuse(self, key: Key, why: str) -> None:
        self.close()
        self.refused[key] = why

    def _begin(self, key: Key, program: str, environment: dict[str, str]) -> None:
        paths = environment.get("PYTHONPATH", "")
        if not os.path.isabs(program) or (paths and not all(map(os.path.isabs, paths.split(os.pathsep)))):
            raise OSError("its Python, or PYTHONPATH, depends on the directory of the attempt")
        if ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0):
            raise OSError("this system has no subreapers")
        own, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        out, said = os.memfd_create("stdout"), os.memfd_create("stderr")
        here = os.open(".", os.O_RDONLY)
        try:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            own.send(key[1].encode())
            os.fchdir(self.root)
            self.pid = os.posix_spawn(
                program,
                [*key[0][:-1], _PROGRAM],
                {**environment, **_ROOM},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                    (os.POSIX_SPAWN_DUP2, out, 1),
                    (os.POSIX_SPAWN_DUP2, said, 2),
                ],
                setsid=True,
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
        except BaseException:
            own.close()
            raise
        finally:
            os.fchdir(here)
            theirs.close()
            for descriptor in (here, out, said):
                os.close(descriptor)
        self.key, self.link = key, own
        if self._hear(_IMPORT_S)[0] != {"ready": True}:
            raise OSError("it makes no sense")

    def _hear(self, seconds: float) -> tuple[dict[str, Any], int]:
        """Return what is said next, and by which process."""
        assert self.link is not None
        until = time.monotonic() + seconds
        while not select.select([self.link], [], [], min(_LOOK_S, seconds))[0]:
            if time.monotonic() >= until or self.is_over():
                raise OSError(f"it did not answer within {seconds:g} s")
        packet, ancillary, _, _ = self.link.recvmsg(_PACKET, socket.CMSG_SPACE(struct.calcsize("3i")))
        if not packet:
            raise OSError("it has gone")
        said: dict[str, Any] = json.loads(packet)
        if "refuses" in said and self.key is not None:
            self._refuse(self.key, said["refuses"])
        if "leaves" in said:
            self.close()
        for kind in ("refuses", "leaves", "cold"):
            if kind in said:
                raise ColdStart(said[kind])
        pids = [struct.unpack("3i", data)[0] for _, kind, data in ancillary if kind == socket.SCM_CREDENTIALS]
        return said, pids[0] if pids else 0

    def _ask(self, directory: str, environment: dict[str, str]) -> int:
        assert self.link is not None
        self.numbers += 1
        request = {
            "number": self.numbers,
            "directory": directory,
            "variables": [item for item in environment.items() if item[0].startswith(_OURS)],
        }
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        entrance, gate = os.pipe()
        out, error = os.open("stdout.txt", flags, 0o666), os.open("stderr.txt", flags, 0o666)
        try:
            rights = array.array("i", [out, error, entrance])
            self.link.sendmsg([json.dumps(request).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            said, pid = self._hear(_ANSWER_S)
            if said.get("number") != self.numbers or not _is_ours(pid):
                raise OSError("it makes no sense")
            os.write(gate, b"1")
            return pid
        finally:
            for descriptor in (entrance, gate, out, error):
                os.close(descriptor)

    def close(self) -> None:
        """End the server; a process that waits at its gate leaves."""
        if self.link is not None:
            self.link.close()
            self.link = self.key = None
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.waitpid(self.pid, 0)


def _call(member: dict[str, Any]) -> str | None:
    """Return what a call imports, as text; None for what begins cold."""
    imports = (member.get("call") or {}).get("imports")
    return None if imports is None else json.dumps(imports)


def _is_ours(pid: int) -> bool:
    """Return whether a process is our child."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1]) == os.getpid()
    except OSError:
        return False
