"""Runs of older versions of the schema, as `storage/fixtures` keeps them."""

from __future__ import annotations

import tarfile
from pathlib import Path

FIXTURES = Path(__file__).parent.parent / "storage" / "fixtures"


def run_of_version_1(base: Path) -> Path:
    """Return the directory of a run of version 1 that waits for a person, in the workspace ``w``."""
    runs = base / "workspaces" / "w" / "runs"
    with tarfile.open(FIXTURES / "version_1.tar.gz") as archive:
        archive.extractall(runs, filter="data")
    return runs / "version-1"
