"""Sampling: points that are spread over the space, whatever was found there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matterstack.core.text import did_you_mean
from matterstack.errors import MissingLibraryError, OptimizerError
from matterstack.optimizers.observations import Seen
from matterstack.optimizers.optimizer import Optimizer, uniform, visited_of
from matterstack.optimizers.space import Point, Space

#: Coordinates that scipy's Sobol sequence has; and how many points of it are drawn at once, a power of 2.
_MOST_COORDINATES, _AT_ONCE = 21_201, 64


@dataclass(frozen=True)
class Random(Optimizer):
    """Points at random, each as likely as any other.

    Parameters
    ----------
    space : Space
        The points there are to choose from.
    maximize, minimize : str or sequence of str
        As other optimizers have them; of no effect.
    seed : int
        Another one gives other points from the same data.

    Examples
    --------
    >>> from matterstack.optimizers import Integer, Space
    >>> Random(Space({"x": Integer(1, 3)})).suggest(9, observed=[{"x": 1}], pending=[{"x": 3}])
    [{'x': 2}]
    """

    def choose(self, n: int, seen: Sequence[Seen], pending: Sequence[Point], seed: int) -> list[Point]:
        """Return n points."""
        return self.space.take(n, uniform(self.space, seed), visited_of(seen, pending))


@dataclass(frozen=True)
class Sobol(Optimizer):
    """Points of a scrambled Sobol sequence, which cover the space evenly: those that were not tried yet.

    Parameters
    ----------
    space : Space
        The points there are to choose from.
    maximize, minimize : str or sequence of str
        As other optimizers have them; of no effect.
    seed : int
        Of the scrambling.

    Raises
    ------
    MissingLibraryError
        When it suggests, without scipy.
    """

    def choose(self, n: int, seen: Sequence[Seen], pending: Sequence[Point], seed: int) -> list[Point]:
        """Return n points, in the order of the sequence."""
        return self.space.take(n, sobol(self.space, self.seed), visited_of(seen, pending))


def sobol(space: Space, seed: int) -> Iterator[Point]:
    """Go through the points of a scrambled Sobol sequence; a million of them, and no more."""
    try:
        from scipy.stats.qmc import Sobol as Sequence_
    except ImportError as error:
        raise MissingLibraryError("Sobol needs scipy: pip install scipy") from error
    if space.width > _MOST_COORDINATES:
        raise OptimizerError(f"Sobol: the space has {space.width} coordinates, and {_MOST_COORDINATES} is the most")
    sequence = Sequence_(space.width, scramble=True, rng=seed)
    for _ in range(2**20 // _AT_ONCE):
        for units in sequence.random(_AT_ONCE).tolist():
            yield space.from_unit(units)


@dataclass(frozen=True)
class Grid(Optimizer):
    """The points of a grid, one after the other; there are fewer than asked for, and none at last, at its end.

    Parameters
    ----------
    space : Space
        What the grid is laid over; points that its constraint forbids are left out.
    maximize, minimize : str or sequence of str
        As other optimizers have them; of no effect.
    seed : int
        Of no effect.
    steps : int or mapping of str to int
        How many values of a range; of a simplex, how many values of each part. By the name of the parameter, or one
        for all. A choice has all of its values.

    Raises
    ------
    OptimizerError
        ``steps`` names no parameter of the space, or is below 1.

    Examples
    --------
    >>> from matterstack.optimizers import Choice, Real, Space
    >>> grid = Grid(Space({"x": Real(0, 1), "gas": Choice(["air", "N2"])}), steps=2)
    >>> grid.suggest(2, observed=[{"x": 0.0, "gas": "air"}])
    [{'x': 0.0, 'gas': 'N2'}, {'x': 1.0, 'gas': 'air'}]
    """

    steps: int | Mapping[str, int] = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        given: Any = self.steps if isinstance(self.steps, Mapping) else dict.fromkeys(self.space.parameters, self.steps)
        for name in given:
            if name not in self.space.parameters:
                guess = did_you_mean(str(name), self.space.parameters)
                raise OptimizerError(f"Grid: steps: the space has no parameter {name!r}{guess}")
        each = {}
        for name, parameter in self.space.parameters.items():
            steps = given.get(name, parameter.size)
            if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
                raise OptimizerError(f"Grid: the steps of {name!r} must be a whole number, 1 or more, not {steps!r}")
            each[name] = steps
        object.__setattr__(self, "steps", each)

    def choose(self, n: int, seen: Sequence[Seen], pending: Sequence[Point], seed: int) -> list[Point]:
        """Return the next n points, or what is left."""
        points = self.space.new_points(self.space.grid(self.steps), visited_of(seen, pending))
        return list(itertools.islice(points, n))
