"""A task that costs nothing."""

from __future__ import annotations

from memory import own_memory


def call(x):
    return 2.0 * x


def memory(x):
    call(x)
    return own_memory()
