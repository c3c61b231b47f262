"""Starts of calls of functions: warm, or cold and why, as their directories tell."""

from __future__ import annotations

from pathlib import Path

from matterstack.core.attempt_files import MACHINERY
from matterstack.errors import UnsafeFileError
from matterstack.files import read_inside

_MOST_BYTES = 10_000


def how_it_began(home: Path) -> str | None:
    """Return how an attempt began: ``"warm"``, or ``"cold: "`` and why; None where nothing tells.

    Parameters
    ----------
    home : pathlib.Path
        Its directory.
    """
    try:
        said = read_inside(home, f"{MACHINERY}/start", _MOST_BYTES).decode(errors="replace").strip()
    except (OSError, UnsafeFileError):
        return None
    return said if said == "warm" or said.startswith("cold: ") else None
