"""A file system that nobody has used, for each measurement.

On ext4, making files is slow for some minutes after many were removed: what is measured later would pay for what was
removed before.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def fresh_disk() -> Iterator[Path]:
    """Return a directory on a file system that nobody has used, or any directory where that cannot be had."""
    with tempfile.TemporaryDirectory(prefix="ms", dir="/tmp") as place:
        image, mounted = Path(place, "image"), Path(place, "d")
        mounted.mkdir()
        Path(place).chmod(0o755)  # munge insists that others may enter
        with open(image, "wb") as file:
            file.truncate(4 << 30)
        try:
            subprocess.run(["mkfs.ext4", "-q", str(image)], check=True, capture_output=True)
            subprocess.run(["mount", "-o", "loop", str(image), str(mounted)], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"no file system of its own: {error}", file=sys.stderr)
            yield mounted
            return
        try:
            yield mounted
        finally:
            subprocess.run(["umount", "--lazy", str(mounted)], check=True)
