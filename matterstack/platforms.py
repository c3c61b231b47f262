"""Operating systems: the table of what each can do, the sentence where one cannot, and what they call this machine."""

from __future__ import annotations

import functools
import os
import sys
from typing import NamedTuple

LOOK = "look at runs"
ANSWER = "take answers of people"
CHECK_COSTLY = "check answers whose check may take long, such as workbooks"
KITS = "carry kits"
BEGIN = "begin runs"
SLURM = "send commands to Slurm over ssh"
LOCAL = "run commands and functions itself"
DAEMON = "keep a daemon"
#: In the order of docs/platforms.md.
ABILITIES = (LOOK, ANSWER, KITS, BEGIN, SLURM, CHECK_COSTLY, LOCAL, DAEMON)


class Platform(NamedTuple):
    """An operating system, what it can do, and what to do about the rest."""

    name: str
    can: frozenset[str]
    way_out: str


_LINUX = Platform("Linux", frozenset(ABILITIES), "")
_MACOS = Platform(
    "macOS",
    frozenset({LOOK, ANSWER, KITS, BEGIN, SLURM}),
    "step the run on Linux, where all of it goes on as it stands",
)
_WINDOWS = Platform(
    "Windows",
    frozenset({LOOK, ANSWER, KITS}),
    "step the run on Linux, which WSL is, where all of it goes on as it stands",
)
_OTHER = Platform("this operating system", frozenset(), "use Linux")
#: By the beginning of `sys.platform`.
_PLATFORMS = {"linux": _LINUX, "darwin": _MACOS, "win32": _WINDOWS}


def platform() -> Platform:
    """Return the operating system that this process runs on."""
    return next((found for begin, found in _PLATFORMS.items() if sys.platform.startswith(begin)), _OTHER)


def host_name() -> str:
    """Return what this machine is called."""
    if sys.platform == "win32":
        return os.environ.get("COMPUTERNAME", "")
    return os.uname().nodename


def user_name(uid: int | None = None) -> str:
    """Return what an account is called; by default that of this process, in which its environment has no say."""
    if sys.platform == "win32":  # which does not say it of a file
        return "somebody" if uid is not None else os.environ.get("USERNAME", "somebody")
    return _account(os.getuid() if uid is None else uid)


@functools.cache
def _account(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # as in some containers
        return f"uid {uid}"


def why_not(ability: str) -> str | None:
    """Return the sentence that says that this operating system cannot do something; None where it can.

    Examples
    --------
    >>> why_not(LOOK) is None
    True
    """
    here = platform()
    if ability in here.can:
        return None
    rest = ", ".join(can for can in ABILITIES if can in here.can)
    but = f"; it can {rest}" if rest else ""
    return f"MatterStack on {here.name} cannot {ability}{but}: {here.way_out}. See docs/platforms.md"
