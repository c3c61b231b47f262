"""Run a program in a process that lacks what macOS lacks: ``python as_macos.py PROGRAM ARGUMENT...``.

It is Linux still: what macOS has and Linux has not, or does otherwise, is not seen. Libraries are imported before,
since they may ask for more than MatterStack does.
"""

from __future__ import annotations

import errno
import fcntl
import os
import runpy
import select
import signal
import socket
import sys
import time
from typing import Any

import anywidget  # noqa: F401
import IPython  # noqa: F401
import ipywidgets  # noqa: F401
import jsonschema  # noqa: F401
import networkx  # noqa: F401
import pandas  # noqa: F401

LACKS = {
    os: "memfd_create MFD_CLOEXEC pipe2 pidfd_open sched_getaffinity posix_fadvise eventfd getrandom O_PATH",
    errno: "EREMOTEIO EBADFD ENOMEDIUM EUCLEAN ENONET",
    fcntl: "F_OFD_SETLK F_OFD_GETLK F_OFD_SETLKW F_SETPIPE_SZ F_SETLEASE F_NOTIFY",
    select: "epoll EPOLLIN",
    signal: "pidfd_send_signal sigwaitinfo sigtimedwait SIGPWR SIGSTKFLT",
    socket: "SO_PEERCRED SOCK_CLOEXEC SOCK_NONBLOCK",
    time: "CLOCK_BOOTTIME",
}
ELSEWHERE = ("/proc", "/sys/")


def refuse(path: Any) -> None:
    if isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith(ELSEWHERE):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def refusing(real: Any) -> Any:
    def asked(path: Any, *given: Any, **named: Any) -> Any:
        refuse(path)
        return real(path, *given, **named)

    return asked


def hook(event: str, given: tuple[Any, ...]) -> None:
    if event in ("open", "os.listdir", "os.scandir"):
        refuse(given[0])


if __name__ == "__main__":
    sys.platform = "darwin"
    for module, names in LACKS.items():
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)
    for name in ("stat", "lstat", "readlink"):
        setattr(os, name, refusing(getattr(os, name)))
    sys.addaudithook(hook)
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
