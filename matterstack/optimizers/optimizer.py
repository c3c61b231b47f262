"""An optimizer: a pure function from what is known and what is under way to what to try next."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

from matterstack.errors import OptimizerError
from matterstack.optimizers.observations import Rows, Seen, names_of, rows_of, seen_of
from matterstack.optimizers.space import Point, Space


@dataclass(frozen=True)
class Optimizer(ABC):
    """What suggests points of a space. Nothing is kept between two calls: the data is all there is.

    Parameters
    ----------
    space : Space
        The points there are to choose from.
    maximize, minimize : str or sequence of str
        The targets: columns of what is observed.
    seed : int
        Another one gives other points from the same data.

    Raises
    ------
    OptimizerError
        A target is a parameter of the space, or an argument cannot be used.
    """

    space: Space
    maximize: str | Sequence[str] = ()
    minimize: str | Sequence[str] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        kind = type(self).__name__
        if not isinstance(self.space, Space):
            raise OptimizerError(f"{kind}: space must be a Space, not {self.space!r}")
        for name in ("maximize", "minimize"):
            object.__setattr__(self, name, names_of(getattr(self, name), f"{kind}: {name}"))
        for target in self.targets:
            if target in self.space.names or self.targets.count(target) > 1:
                why = "a parameter of the space" if target in self.space.names else "given twice"
                raise OptimizerError(f"{kind}: the target {target!r} is {why}")
        object.__setattr__(self, "seed", _whole(self.seed, f"{kind}: seed"))

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the targets, those to be maximized first."""
        return (*self.maximize, *self.minimize)

    def suggest(self, n: int, observed: Rows = (), pending: Rows = ()) -> list[Point]:
        """Return what to try next.

        Parameters
        ----------
        n : int
            How many points.
        observed : pandas.DataFrame or list of dict
            What was tried: the parameters and the targets, and whatever else. A point that failed is a row whose
            target is None or NaN.
        pending : pandas.DataFrame or list of dict
            The points that are under way.

        Returns
        -------
        list of dict
            Points that are neither observed nor pending, of plain numbers and texts. The same data gives the same
            points. There are fewer than `n` where the grid or the space has no more.

        Raises
        ------
        OptimizerError
            A row is none of the space, and which; or no point is allowed.
        """
        n = _whole(n, "n")
        seen = seen_of(observed, self.space, self.targets)
        running = [
            self.space.pick(row, f"row {place} of pending") for place, row in enumerate(rows_of(pending, "pending"))
        ]
        return self.choose(n, seen, running, self._digest(n, seen, running)) if n else []

    @abstractmethod
    def choose(self, n: int, seen: Sequence[Seen], pending: Sequence[Point], seed: int) -> list[Point]:
        """Return n points; what it is given has been checked.

        Parameters
        ----------
        n : int
            At least 1.
        seen : sequence of Seen
            What was tried; its ``values`` are None where it failed.
        pending : sequence of dict
            The points that are under way.
        seed : int
            For whatever is random, below 2**32.
        """

    def _digest(self, *data: Any) -> int:
        text = json.dumps([repr(self), data], sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


@dataclass(frozen=True)
class Model(Optimizer):
    """An optimizer that learns: it needs a target, and begins with points that are spread evenly."""

    startup: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.targets:
            raise OptimizerError(f"{type(self).__name__}: name what shall be maximized or minimized")
        object.__setattr__(self, "startup", _whole(self.startup, f"{type(self).__name__}: startup"))

    def choose(self, n: int, seen: Sequence[Seen], pending: Sequence[Point], seed: int) -> list[Point]:
        """Return n points, of `Sobol` as long as too little is known."""
        known = sum(one.values is not None for one in seen)
        if known < 2 or known + len(pending) < self.startup:
            from matterstack.optimizers.sampling import Sobol

            return Sobol(self.space, seed=self.seed).choose(n, seen, pending, seed)
        return self.learn(n, seen, pending, seed)

    @abstractmethod
    def learn(self, n: int, seen: Sequence[Seen], pending: Sequence[Point], seed: int) -> list[Point]:
        """Return n points by a model of at least two points that did not fail."""


def suggest(optimizer: Optimizer, n: int, observed: Rows = (), pending: Rows = ()) -> list[Point]:
    """Return what an optimizer suggests: `Optimizer.suggest` as a function, so that it can be a task.

    Parameters
    ----------
    optimizer : Optimizer
        Of a space without a constraint: a function is no value that a task can be given. A task of one's own makes
        the space within itself.
    n : int
        How many points.
    observed, pending : pandas.DataFrame or list of dict
        As of `Optimizer.suggest`.
    """
    return optimizer.suggest(n, observed, pending)


def visited_of(seen: Sequence[Seen], pending: Sequence[Point]) -> list[Point]:
    """Return the points that are not to be tried again."""
    return [*(one.point for one in seen), *pending]


def uniform(space: Space, seed: int) -> Iterator[Point]:
    """Draw points at random, without end."""
    import numpy

    random = numpy.random.default_rng(seed)
    while True:
        yield space.from_unit(random.random(space.width).tolist())


def _whole(value: object, what: str) -> int:
    try:
        found = -1 if isinstance(value, bool) else index(value)  # type: ignore[arg-type]
    except TypeError:
        found = -1
    if found < 0:
        raise OptimizerError(f"{what} must be a whole number, 0 or more, not {value!r}")
    return found
