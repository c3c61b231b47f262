"""Resources that one attempt of a task may use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Any

from matterstack.core.keywords import suggesting_class
from matterstack.core.numbers import is_number
from matterstack.errors import InvalidTaskError

_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,&|*()\[\]:@+-]*\Z")
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_LONGEST_NAME = 64


@suggesting_class
@dataclass(frozen=True, slots=True)
class Resources:
    """Resources that one attempt of a task may use.

    Parameters
    ----------
    nodes, tasks, cpus_per_task : int
        Nodes, MPI ranks, and cores a rank.
    memory_gib : float, optional
        Memory of the whole job, in GiB.
    gpus : int
        Graphics processors of the whole job.
    walltime_s : float, optional
        Longest time the attempt may run, in seconds. The local operator stops it then.
    partition, account, qos, constraint : str, optional
        Of a batch scheduler.
    extra : sequence of str
        More options of a batch scheduler, as in ``"--exclusive"``.
    memory_factor, walltime_factor : float
        How much more each further attempt gets: its number minus one is the exponent.
    named : mapping of str to int, optional
        How much each attempt takes of what a workspace has little of, as in ``{"vasp_license": 1}``; how much there is
        says `set_limits`.

    Raises
    ------
    InvalidTaskError
        A number that is not finite, or not positive (``gpus`` may be 0), or a name that is none.

    Examples
    --------
    >>> Resources(walltime_s=60).walltime_s
    60
    """

    nodes: int = 1
    tasks: int = 1
    cpus_per_task: int = 1
    memory_gib: float | None = None
    gpus: int = 0
    walltime_s: float | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    extra: Sequence[str] = ()
    memory_factor: float = 1.0
    walltime_factor: float = 1.0
    named: Mapping[str, int] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        for name in ("partition", "account", "qos", "constraint"):
            word = getattr(self, name)
            if word is not None and not (isinstance(word, str) and _WORD.match(word)):
                raise InvalidTaskError(f"resources: {name} must be a word without spaces, not {word!r}")
        if isinstance(self.extra, str) or not all(isinstance(option, str) for option in self.extra):
            raise InvalidTaskError(f"resources: extra must be a list of options, not {self.extra!r}")
        object.__setattr__(self, "extra", tuple(self.extra))
        for name in ("memory_factor", "walltime_factor"):
            factor = getattr(self, name)
            if not (is_number(factor) and isfinite(factor) and factor >= 1):
                raise InvalidTaskError(f"resources: {name} must be a number of at least 1, not {factor!r}")
        for name in ("nodes", "tasks", "cpus_per_task", "gpus"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < (0 if name == "gpus" else 1):
                raise InvalidTaskError(f"resources: {name} must be a positive whole number, not {value!r}")
        for name in ("memory_gib", "walltime_s"):
            value = getattr(self, name)
            if value is not None and not (is_number(value) and isfinite(value) and value > 0):
                raise InvalidTaskError(f"resources: {name} must be a positive number, not {value!r}")
        if self.named is not None:
            object.__setattr__(self, "named", check_named(self.named))

    @property
    def cpus(self) -> int:
        """Cores of the whole job."""
        return self.nodes * self.tasks * self.cpus_per_task

    def memory_of(self, attempt: int) -> float | None:
        """Return the memory, in GiB, that one attempt may use; None where none is named."""
        if self.memory_gib is None or self.memory_factor == 1:
            return self.memory_gib
        return self.memory_gib * self.memory_factor ** (attempt - 1)

    def walltime_of(self, attempt: int) -> float | None:
        """Return the longest time, in seconds, that one attempt may run; None for no limit."""
        if self.walltime_s is None or self.walltime_factor == 1:
            return self.walltime_s
        return self.walltime_s * self.walltime_factor ** (attempt - 1)

    def scaled(self, attempt: int) -> dict[str, Any]:
        """Return what one attempt may use, leaving out what is not set.

        Examples
        --------
        >>> Resources(walltime_s=60, walltime_factor=2).scaled(3)
        {'nodes': 1, 'tasks': 1, 'cpus_per_task': 1, 'walltime_s': 240}
        """
        values = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name != "named" and not f.name.endswith("_factor")  # those are of the workspace, not of a machine
        }
        values["walltime_s"] = self.walltime_of(attempt)
        values["memory_gib"] = self.memory_of(attempt)
        return {name: value for name, value in values.items() if value}


def check_name(name: object) -> str:
    """Return the name of a named resource if it is one, else raise.

    Raises
    ------
    InvalidTaskError
        It is something else than small letters, digits and underscores.
    """
    if isinstance(name, str) and _NAME.match(name) and len(name) <= _LONGEST_NAME:
        return name
    raise InvalidTaskError(
        f"{name!r:.80} is no name of a resource: use small letters, digits and '_', beginning with a letter, at most "
        f"{_LONGEST_NAME} characters, as in 'vasp_license'"
    )


def check_named(named: object) -> dict[str, int] | None:
    """Return named resources in the order of their names; None where there are none.

    Raises
    ------
    InvalidTaskError
        A name that is none, or an amount that is not positive and whole.
    """
    if not isinstance(named, Mapping):
        raise InvalidTaskError(f"resources: named must say how much of what, as in {{'furnace': 1}}, not {named!r}")
    for name, amount in named.items():
        check_name(name)
        if not isinstance(amount, int) or isinstance(amount, bool) or amount < 1 or amount >= 2**53:
            raise InvalidTaskError(f"resources: {name} must be a positive whole number, not {amount!r}")
    return {name: named[name] for name in sorted(named)} or None
