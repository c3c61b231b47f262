"""The ledger of this machine: what attempts of all runs of one user hold of it, since it was booted."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path

from matterstack.core.limits import Holder
from matterstack.errors import UnsafeFileError
from matterstack.storage import database
from matterstack.storage.limits import Ledger

_BOOT = "/proc/sys/kernel/random/boot_id"  # random(4)


class MachineLedger(Ledger):
    """The ledger of this machine: one file a user and boot. It knows no amounts, since each operator says its own."""

    def __init__(self) -> None:
        self.path = _home() / f"machine-{_boot()}.sqlite"

    @property
    def exists(self) -> bool:
        """Whether anything was ever counted."""
        with database.errors(self.path):
            try:
                self._check_home()
            except FileNotFoundError:
                return False
        return super().exists

    def place_of(self, run: Path) -> str:
        """Return how a run's directory is called here."""
        return os.path.realpath(run)

    def path_of(self, holder: Holder) -> Path | None:
        """Return where the directory of a run should be; None for a place that no run of ours has."""
        path = Path(holder.place)
        return path if path.is_absolute() and ".." not in path.parts else None

    def make_home(self) -> None:
        """Make the directory of the file; nobody else may look into it."""
        try:
            self.path.parent.mkdir(mode=0o700)
        except FileExistsError:
            self._check_home()

    def _check_home(self) -> None:
        """Raise unless the directory is one that only this user may write into: who can might start what he likes."""
        home = self.path.parent
        status = os.lstat(home)
        if sys.platform == "win32":  # in the user's own profile
            return
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise UnsafeFileError(
                f"{home} is no directory of yours alone, so what stands in it of this machine is not believed: remove "
                "it, or set XDG_RUNTIME_DIR to a directory of your own"
            )


def _home() -> Path:
    """Return the directory of the file: where a login session has one, that is the same without its variables."""
    if sys.platform == "win32":
        return Path.home() / "AppData" / "Local" / "matterstack"
    user = os.geteuid()
    for place in (os.environ.get("XDG_RUNTIME_DIR"), f"/run/user/{user}"):
        with contextlib.suppress(OSError):
            if place and os.path.isabs(place) and os.stat(place).st_uid == user:  # after su it may be another one's
                return Path(place, "matterstack")
    return Path(f"/tmp/matterstack-{user}")


def _boot() -> str:
    with contextlib.suppress(OSError), open(_BOOT) as file:  # a sandbox may not show it
        return file.read().strip()
    return "unknown"
