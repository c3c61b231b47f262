"""The space of what may be tried: named parameters, and a constraint on the points that go out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matterstack.core.text import did_you_mean, is_storable
from matterstack.errors import OptimizerError
from matterstack.optimizers.parameters import Parameter

#: One thing to try: a flat dict of plain values, in the order of the space.
Point = dict[str, Any]

#: How many draws are looked at for a point, before it is said that none was found.
_MOST_DRAWS = 20_000
#: A space of no more points than that is gone through when draws find no more.
_FEW_POINTS = 100_000
#: Points that agree to so many digits of each range are one.
_DIGITS = 9


@dataclass(frozen=True)
class Space:
    """What may be tried.

    Parameters
    ----------
    parameters : mapping of str to Real, Integer, Choice or Simplex
        By name. The parts of a simplex have names of their own, by which they stand in a point; that of the simplex
        itself only names it.
    constraint : callable, optional
        Is given a point, and returns whether it may be tried. What is known already need not fulfil it.

    Raises
    ------
    OptimizerError
        Naming the parameter.

    Examples
    --------
    >>> from matterstack.optimizers import Choice, Real, Simplex
    >>> space = Space({"blend": Simplex(["Cu", "Au"]), "T_K": Real(300, 900), "gas": Choice(["air", "N2"])})
    >>> space.names
    ('Cu', 'Au', 'T_K', 'gas')
    >>> space.check({"Cu": 0.25, "Au": 0.75, "T_K": 400, "gas": "air"})
    {'Cu': 0.25, 'Au': 0.75, 'T_K': 400.0, 'gas': 'air'}
    """

    parameters: Mapping[str, Parameter]
    constraint: Callable[[Point], bool] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.parameters, Mapping) or not self.parameters:
            raise OptimizerError(
                f"Space: parameters must be a mapping with a parameter or more, not {self.parameters!r}"
            )
        seen: set[str] = set()
        for name, parameter in self.parameters.items():
            if not isinstance(parameter, Parameter):
                raise OptimizerError(f"Space: {name!r} must be a Real, Integer, Choice or Simplex, not {parameter!r}")
            for key in dict.fromkeys((name, *parameter.names(name))):
                if not is_storable(key) or not key:
                    raise OptimizerError(f"Space: the name of a parameter must be a text, not {key!r}")
                if key in seen:
                    raise OptimizerError(f"Space: two parameters are called {key!r}")
                seen.add(key)
            if len(set(parameter.names(name))) < len(parameter.names(name)):
                raise OptimizerError(f"Space: {name!r} has two parts of the same name")
        if self.constraint is not None and not callable(self.constraint):
            raise OptimizerError(f"Space: constraint must be a function of a point, not {self.constraint!r}")
        object.__setattr__(self, "parameters", dict(self.parameters))

    @property
    def names(self) -> tuple[str, ...]:
        """The keys of a point, in their order."""
        return tuple(key for name, parameter in self.parameters.items() for key in parameter.names(name))

    @property
    def width(self) -> int:
        """How many coordinates a point has in the unit cube."""
        return sum(parameter.width for parameter in self.parameters.values())

    @property
    def size(self) -> int | None:
        """How many points there are, whatever the constraint says; None where they are not counted."""
        sizes = [parameter.size for parameter in self.parameters.values()]
        return None if None in sizes else math.prod(size or 0 for size in sizes)

    def check(self, point: Mapping[str, Any]) -> Point:
        """Return a point that may be tried, as plain Python has it.

        Raises
        ------
        OptimizerError
            It is outside, has other keys, or the constraint does not allow it.
        """
        extra = [key for key in point if key not in self.names]
        if extra:
            raise OptimizerError(f"the space has no parameter {extra[0]!r}{did_you_mean(str(extra[0]), self.names)}")
        found = self.pick(point, "the point")
        if not self.allows(found):
            raise OptimizerError(f"the constraint of the space does not allow the point {found}")
        return found

    def pick(self, row: Mapping[str, Any], what: str) -> Point:
        """Return the point of a row that may have more columns; the constraint is not asked.

        Parameters
        ----------
        row : mapping
            By the names of the parameters, of a simplex by those of its parts.
        what : str
            How an error names it.

        Raises
        ------
        OptimizerError
            A parameter has no column, or a value that is none of its own.
        """
        point: Point = {}
        for name, parameter in self.parameters.items():
            keys = parameter.names(name)
            missing = [key for key in keys if key not in row]
            if missing:
                raise OptimizerError(f"{what} has no {missing[0]!r}{did_you_mean(missing[0], map(str, row))}")
            try:
                values = parameter.clean([row[key] for key in keys])
            except OptimizerError as error:
                raise OptimizerError(f"{what}: {name!r}: {error}") from None
            point.update(zip(keys, values, strict=True))
        return point

    def allows(self, point: Point) -> bool:
        """Return whether the constraint allows a point."""
        return self.constraint is None or bool(self.constraint(dict(point)))

    def from_unit(self, units: Sequence[float]) -> Point:
        """Return the point at coordinates of the unit cube."""
        point: Point = {}
        at = 0
        for name, parameter in self.parameters.items():
            values = parameter.from_unit(units[at : at + parameter.width])
            point.update(zip(parameter.names(name), values, strict=True))
            at += parameter.width
        return point

    def to_unit(self, point: Point) -> list[float]:
        """Return coordinates of the unit cube from which the point comes again."""
        return [
            unit
            for name, parameter in self.parameters.items()
            for unit in parameter.to_unit([point[key] for key in parameter.names(name)])
        ]

    def features(self, point: Point) -> list[float]:
        """Return a point as a model sees it: a number from 0 to 1 for each range, part and choice."""
        return [
            feature
            for name, parameter in self.parameters.items()
            for feature in parameter.features([point[key] for key in parameter.names(name)])
        ]

    def key(self, point: Point) -> tuple[float, ...]:
        """Return what two points have in common that are the same but for rounding."""
        return tuple(round(feature, _DIGITS) for feature in self.features(point))

    def grid(self, steps: int | Mapping[str, int]) -> Iterator[Point]:
        """Go through a grid, the last parameter first; the constraint is not asked."""
        each = [
            parameter.levels(steps[name] if isinstance(steps, Mapping) else steps)
            for name, parameter in self.parameters.items()
        ]
        for levels in itertools.product(*each):
            yield dict(zip(self.names, itertools.chain.from_iterable(levels), strict=True))

    def new_points(self, draws: Iterable[Point], visited: Iterable[Point]) -> Iterator[Point]:
        """Go through the draws that the constraint allows, but for those visited and those that came before."""
        seen = {self.key(point) for point in visited}
        for point in draws:
            key = self.key(point)
            if key not in seen and self.allows(point):
                seen.add(key)
                yield point

    def find(self, n: int, draws: Iterable[Point], visited: Sequence[Point]) -> list[Point]:
        """Return up to n new points from endless draws, of which so many are looked at, and no more."""
        found = list(itertools.islice(self.new_points(itertools.islice(draws, _MOST_DRAWS + n), visited), n))
        if len(found) < n and self.size is not None and self.size <= _FEW_POINTS:
            rest = self.new_points(self.grid(self.size), [*visited, *found])
            found += itertools.islice(rest, n - len(found))
        return found

    def take(self, n: int, draws: Iterable[Point], visited: Sequence[Point]) -> list[Point]:
        """Return n new points from endless draws; fewer only where the space is known to have no more.

        Raises
        ------
        OptimizerError
            The constraint allows next to nothing.
        """
        found = self.find(n, draws, visited)
        if len(found) < n and (self.size is None or self.size > _FEW_POINTS):
            raise OptimizerError(
                f"of {_MOST_DRAWS} points of the space that were drawn, {len(found)} are new and allowed by the "
                f"constraint, and {n} are wanted: make the space smaller, so that more of it is allowed"
            )
        return found

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of a point; what it cannot say is the total of a simplex, and the constraint."""
        properties: dict[str, Any] = {}
        for name, parameter in self.parameters.items():
            properties.update(zip(parameter.names(name), parameter.schemas(), strict=True))
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
