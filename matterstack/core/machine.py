"""Counts of this machine: the cores, GPUs and memory that an operator may use of it, all runs together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor
from typing import NamedTuple

from matterstack.core.limits import Offer
from matterstack.core.resources import Resources

#: What is counted, as the ledger calls it. Memory is counted in whole MiB.
CPUS, GPUS, MEMORY = "cpus", "gpus", "memory_mib"
#: A GPU as the ledger calls it: which one is held counts.
_GPU = f"{GPUS}:"
#: What the JSON of a task says of it; of cores each task takes one at least, whatever it says.
FIELDS: Mapping[str, str] = {GPUS: "gpus", MEMORY: "memory_gib"}
_MIB = 1024


class Machine(NamedTuple):
    """What an operator may use of this machine; None is not counted.

    Attributes
    ----------
    cpus : int or None
    gpus : sequence of str or None
        As ``CUDA_VISIBLE_DEVICES`` names them.
    memory_gib : float or None
    """

    cpus: int | None = None
    gpus: Sequence[str] | None = None
    memory_gib: float | None = None

    def offer(self) -> Offer:
        """Return how much there is for attempts of the operator."""
        counted = {
            CPUS: self.cpus,
            GPUS: None if self.gpus is None else len(self.gpus),
            MEMORY: None if self.memory_gib is None else floor(self.memory_gib * _MIB),
        }
        parts = {} if self.gpus is None else {GPUS: [_GPU + one for one in self.gpus]}
        return Offer({name: amount for name, amount in counted.items() if amount is not None}, parts)

    def wants(self, resources: Resources, attempt: int) -> dict[str, int]:
        """Return what one attempt takes of what is counted.

        Memory that grows with each attempt grows up to all there is.
        """
        memory_gib = self.memory_of(resources, attempt)
        wanted = {
            CPUS: resources.cpus if self.cpus is not None else 0,
            GPUS: resources.gpus if self.gpus is not None else 0,
            MEMORY: 0 if memory_gib is None else ceil(memory_gib * _MIB),
        }
        return {name: amount for name, amount in wanted.items() if amount}

    def never(self, resources: Resources, operator: str) -> str | None:
        """Return why a task can never get what it wants, and what to do; None where it can."""
        there = self.offer().amounts
        for name, amount in self.wants(resources, 1).items():
            if amount > there[name]:
                least = f"{FIELDS.get(name, name)}={amount / _MIB:g}" if name == MEMORY else f"{name}={amount}"
                has = in_words(name, there[name])
                return (
                    f"wants {in_words(name, amount)} of this machine, of which {operator!r} may use {has}: let it want "
                    f"less, or give the operator {least}, as by run.configure({operator!r}, {least})"
                )
        return None

    def memory_of(self, resources: Resources, attempt: int) -> float | None:
        """Return the most memory one attempt may use, in GiB; None where it is not counted, or the task says none."""
        wanted = resources.memory_of(attempt)
        if self.memory_gib is None or wanted is None or resources.memory_gib is None:
            return None
        return max(resources.memory_gib, min(wanted, self.memory_gib))


def visible_gpus(named: str | None, most: int) -> tuple[str, ...]:
    """Return the GPUs that may be used: the first of those that the environment names, or by their numbers.

    Parameters
    ----------
    named : str or None
        What ``CUDA_VISIBLE_DEVICES`` says, which may name fewer; what follows on ``-1`` does not count.
    most : int

    Examples
    --------
    >>> visible_gpus(None, 2), visible_gpus("3,GPU-8932f937", 2), visible_gpus("", 2), visible_gpus("2,-1,3", 2)
    (('0', '1'), ('3', 'GPU-8932f937'), (), ('2',))
    """
    if named is None:
        return tuple(map(str, range(most)))
    found = [one.strip() for one in named.split(",")]
    end = next((n for n, one in enumerate(found) if one in ("", "-1")), len(found))
    return tuple(dict.fromkeys(found[:end]))[:most]


def gpu_of(name: str) -> str | None:
    """Return the GPU that a name in the ledger stands for; None where it stands for something else."""
    return name.removeprefix(_GPU) if name.startswith(_GPU) else None


def is_of(name: str, part: str) -> bool:
    """Return whether a name in the ledger is that of a count, or of a part of it."""
    return name == part.partition(":")[0]


def in_words(name: str, amount: int | None = None) -> str:
    """Return a count in words.

    Examples
    --------
    >>> in_words("cpus", 4), in_words("memory_mib", 2048), in_words("gpus:1", 1), in_words("cpus")
    ('4 cpus', '2 GiB of memory', 'GPU 1', 'cpus')
    """
    if (gpu := gpu_of(name)) is not None:
        return f"GPU {gpu}"
    if name == MEMORY:
        return "memory" if amount is None else f"{amount / _MIB:.3g} GiB of memory"
    return name if amount is None else f"{amount} {name if amount != 1 else name[:-1]}"
