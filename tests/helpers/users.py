"""Do something as another user. Only root can, and in a fork: an interpreter may lie where only root can read it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import pytest

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")


def as_user(
    user: int, act: Callable[[], object], *, groups: Sequence[int] = (), ready: Callable[[], None] = lambda: None
) -> str:
    """Fork, become a user of these groups, and return what `act` says, or what it raised.

    Whatever it needs has to be imported before. `ready` is called in this process, once the other one has begun.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            os.setgroups(list(groups))
            os.setgid(user)
            os.setuid(user)
            try:
                said = str(act())
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
            os.write(writer, said.encode())
        finally:
            os._exit(0)
    os.close(writer)
    ready()
    with open(reader, encoding="utf-8") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said
