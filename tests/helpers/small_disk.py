"""A small disk, to be filled."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@contextlib.contextmanager
def mounted(place: Path, size: str) -> Iterator[str]:
    """Mount a file system of some size; give why it cannot be, or nothing."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        yield done.stderr.strip()
    finally:
        if not done.returncode:
            subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of a few megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    with mounted(place, "3m") as why_not:
        if why_not:
            pytest.skip(f"mounting a small file system needs root: {why_not}")
        yield place


def fill(place: Path, leave: int) -> Path:
    """Fill a file system but for some bytes."""
    ballast = place / "ballast"
    space = os.statvfs(place)
    with contextlib.suppress(OSError), ballast.open("wb") as file:  # somebody else may write, too
        file.write(b"x" * max(0, space.f_bavail * space.f_frsize - leave))
    return ballast
