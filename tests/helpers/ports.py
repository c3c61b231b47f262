"""Ports on loopback for the servers of tests."""

from __future__ import annotations

import random
import socket

#: Below those that the kernel gives to whoever connects: one of these may be taken before a server has begun.
_FIRST, _LAST = 12_000, 26_000


def free_port() -> int:
    """Return a port that nobody has."""
    chance = random.SystemRandom()
    for _ in range(1000):
        port = chance.randrange(_FIRST, _LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no port from {_FIRST} to {_LAST} is free")
