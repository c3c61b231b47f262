"""A small disk, to be filled."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of a few megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting a small file system needs root: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, leave: int) -> Path:
    """Fill a file system but for some bytes."""
    ballast = place / "ballast"
    space = os.statvfs(place)
    with contextlib.suppress(OSError), ballast.open("wb") as file:  # somebody else may write, too
        file.write(b"x" * max(0, space.f_bavail * space.f_frsize - leave))
    return ballast
