"""Parameters of a space: what values each may take, and how these lie in the unit cube."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matterstack.core.text import is_storable
from matterstack.errors import OptimizerError

#: Of the range: what rounding may do to a value on its way through a table.
_ROUNDING = 1e-9
#: Of the total: how far the parts of a simplex may be from it.
_TOTAL_ROUNDING = 1e-6


def plain(value: Any) -> Any:
    """Return a scalar of numpy as Python's own; anything else as it is."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def number(value: object) -> float | None:
    """Return a finite number as Python's own; None for anything else."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


class Parameter(ABC):
    """What all parameters can do. Their values are a tuple, since a simplex has several."""

    @abstractmethod
    def names(self, name: str) -> tuple[str, ...]:
        """Return the keys that it has in a point."""

    @property
    @abstractmethod
    def width(self) -> int:
        """How many coordinates of the unit cube it takes."""

    @property
    @abstractmethod
    def size(self) -> int | None:
        """How many values there are; None where they are not counted."""

    @abstractmethod
    def clean(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Return values as plain Python has them, or raise OptimizerError that says what they must be."""

    @abstractmethod
    def from_unit(self, units: Sequence[float]) -> tuple[Any, ...]:
        """Return the values at coordinates of the unit cube."""

    @abstractmethod
    def to_unit(self, values: Sequence[Any]) -> list[float]:
        """Return coordinates of the unit cube from which the values come again."""

    @abstractmethod
    def features(self, values: Sequence[Any]) -> list[float]:
        """Return the values as a model sees them: numbers from 0 to 1, as near as the values are alike."""

    @abstractmethod
    def levels(self, steps: int) -> Iterator[tuple[Any, ...]]:
        """Go through a grid of about so many steps."""

    @abstractmethod
    def schemas(self) -> list[dict[str, Any]]:
        """Return the JSON Schema of each of its values."""


class _Range(Parameter):
    """What ranges of numbers have in common."""

    low: float
    high: float
    log: bool

    def _check(self, low: float | None, high: float | None) -> None:
        said = f"{type(self).__name__}({self.low!r}, {self.high!r})"
        if low is None or high is None:
            raise OptimizerError(f"{said}: low and high must be finite numbers")
        if not low < high:
            raise OptimizerError(f"{said}: low must be less than high; what is fixed is no parameter")
        if not isinstance(self.log, bool):
            raise OptimizerError(f"{said}: log must be True or False, not {self.log!r}")
        if self.log and low <= 0:
            raise OptimizerError(f"{said}: a logarithmic range must begin above 0")

    def names(self, name: str) -> tuple[str, ...]:
        return (name,)

    @property
    def width(self) -> int:
        return 1

    def _inside(self, value: object) -> float:
        """Return a number of the range, where rounding had moved it out as well."""
        found = number(value)
        slack = _ROUNDING * (self.high - self.low)
        if found is None or not self.low - slack <= found <= self.high + slack:
            raise OptimizerError(f"must be a number from {self.low} to {self.high}, not {value!r}")
        return min(max(found, self.low), self.high)


def _scaled(value: float, low: float, high: float, log: bool) -> float:
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _unscaled(unit: float, low: float, high: float, log: bool) -> float:
    if log:
        return math.exp(math.log(low) * (1 - unit) + math.log(high) * unit)
    return low * (1 - unit) + high * unit


@dataclass(frozen=True)
class Real(_Range):
    """A range of real numbers.

    Parameters
    ----------
    low, high : float
        Both belong to it.
    log : bool
        Whether it is the order of magnitude that counts.

    Raises
    ------
    OptimizerError
        ``low`` is not below ``high``, or, with ``log``, not above 0.

    Examples
    --------
    >>> [f"{value:.3g}" for value, in Real(1e-3, 10.0, log=True).levels(3)]
    ['0.001', '0.1', '10']
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        self._check(number(self.low), number(self.high))
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))

    @property
    def size(self) -> None:
        return None

    def clean(self, values: Sequence[Any]) -> tuple[float]:
        return (float(self._inside(values[0])),)

    def from_unit(self, units: Sequence[float]) -> tuple[float]:
        found = _unscaled(float(units[0]), self.low, self.high, self.log)
        return (min(max(found, self.low), self.high),)

    def to_unit(self, values: Sequence[Any]) -> list[float]:
        return [_scaled(values[0], self.low, self.high, self.log)]

    def features(self, values: Sequence[Any]) -> list[float]:
        return self.to_unit(values)

    def levels(self, steps: int) -> Iterator[tuple[float]]:
        for step in range(steps):
            yield self.from_unit([step / (steps - 1) if steps > 1 else 0.5])

    def schemas(self) -> list[dict[str, Any]]:
        return [{"type": "number", "minimum": self.low, "maximum": self.high}]


@dataclass(frozen=True)
class Integer(_Range):
    """A range of whole numbers.

    Parameters
    ----------
    low, high : int
        Both belong to it.
    log : bool
        Whether it is the order of magnitude that counts.

    Raises
    ------
    OptimizerError
        ``low`` is not below ``high``, or, with ``log``, not above 0.

    Examples
    --------
    >>> [value for value, in Integer(1, 100, log=True).levels(3)]
    [1, 10, 100]
    """

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        low, high = number(self.low), number(self.high)
        if low is None or high is None or low != int(low) or high != int(high):
            raise OptimizerError(f"Integer({self.low!r}, {self.high!r}): low and high must be whole numbers")
        self._check(low, high)
        object.__setattr__(self, "low", int(low))
        object.__setattr__(self, "high", int(high))

    @property
    def size(self) -> int:
        return self.high - self.low + 1

    def clean(self, values: Sequence[Any]) -> tuple[int]:
        found = self._inside(values[0])
        if found != round(found):
            raise OptimizerError(f"must be a whole number from {self.low} to {self.high}, not {values[0]!r}")
        return (round(found),)

    def from_unit(self, units: Sequence[float]) -> tuple[int]:
        # Each number has a piece of the range to itself, those at its ends as well.
        found = round(_unscaled(float(units[0]), self.low - 0.5, self.high + 0.5, self.log))
        return (min(max(found, self.low), self.high),)

    def to_unit(self, values: Sequence[Any]) -> list[float]:
        return [_scaled(values[0], self.low - 0.5, self.high + 0.5, self.log)]

    def features(self, values: Sequence[Any]) -> list[float]:
        return [_scaled(values[0], self.low, self.high, self.log)]

    def levels(self, steps: int) -> Iterator[tuple[int]]:
        whole = (round(value) for (value,) in Real(self.low, self.high, self.log).levels(steps))
        yield from ((value,) for value in dict.fromkeys(whole))

    def schemas(self) -> list[dict[str, Any]]:
        return [{"type": "integer", "minimum": self.low, "maximum": self.high}]


@dataclass(frozen=True)
class Choice(Parameter):
    """One of several values, without an order.

    Parameters
    ----------
    values : sequence of str, int, float or bool
        Two or more, no two of them equal.

    Raises
    ------
    OptimizerError
        There are fewer than two values, two are equal, or one is of another type.

    Examples
    --------
    >>> Choice(["air", "N2"]).values
    ('air', 'N2')
    """

    values: Sequence[Any]

    def __post_init__(self) -> None:
        if isinstance(self.values, str) or not isinstance(self.values, Sequence) or len(self.values) < 2:
            raise OptimizerError(f"Choice({self.values!r}): give two values or more, in a list")
        for value in self.values:
            if not (isinstance(value, bool) or is_storable(value) or type(value) in (int, float)):
                raise OptimizerError(f"Choice: a value must be a text, a number, True or False, not {value!r}")
        if len(set(self.values)) < len(self.values):
            raise OptimizerError(f"Choice({list(self.values)!r}): two of the values are equal")
        object.__setattr__(self, "values", tuple(self.values))

    def names(self, name: str) -> tuple[str, ...]:
        return (name,)

    @property
    def width(self) -> int:
        return 1

    @property
    def size(self) -> int:
        return len(self.values)

    def clean(self, values: Sequence[Any]) -> tuple[Any]:
        given = plain(values[0])
        for value in self.values:
            # True is no 1 here.
            if value == given and isinstance(value, bool) is isinstance(given, bool):
                return (value,)
        raise OptimizerError(f"must be {' or '.join(map(repr, self.values))}, not {values[0]!r}")

    def from_unit(self, units: Sequence[float]) -> tuple[Any]:
        return (self.values[min(int(units[0] * len(self.values)), len(self.values) - 1)],)

    def to_unit(self, values: Sequence[Any]) -> list[float]:
        return [(self.values.index(values[0]) + 0.5) / len(self.values)]

    def features(self, values: Sequence[Any]) -> list[float]:
        return [float(value == values[0]) for value in self.values]

    def levels(self, steps: int) -> Iterator[tuple[Any]]:
        yield from ((value,) for value in self.values)

    def schemas(self) -> list[dict[str, Any]]:
        return [{"enum": list(self.values)}]


@dataclass(frozen=True)
class Simplex(Parameter):
    """Parts of a whole, such as a composition: none below 0, and all together the total.

    Parameters
    ----------
    parts : sequence of str
        Their names, each a key of a point.
    total : float
        What the parts sum up to, above 0; 100 makes percentages of them.

    Raises
    ------
    OptimizerError
        There are fewer than two parts, or the total is not above 0.

    Examples
    --------
    >>> list(Simplex(["Cu", "Au"], total=100.0).levels(3))
    [(0.0, 100.0), (50.0, 50.0), (100.0, 0.0)]
    """

    parts: Sequence[str]
    total: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.parts, str) or not isinstance(self.parts, Sequence) or len(self.parts) < 2:
            raise OptimizerError(f"Simplex({self.parts!r}): give the names of two parts or more, in a list")
        total = number(self.total)
        if total is None or total <= 0:
            raise OptimizerError(f"Simplex({list(self.parts)!r}): total must be a number above 0, not {self.total!r}")
        object.__setattr__(self, "parts", tuple(self.parts))
        object.__setattr__(self, "total", float(total))

    def names(self, name: str) -> tuple[str, ...]:
        return tuple(self.parts)

    @property
    def width(self) -> int:
        return len(self.parts) - 1

    @property
    def size(self) -> None:
        return None

    def clean(self, values: Sequence[Any]) -> tuple[float, ...]:
        slack = _TOTAL_ROUNDING * self.total
        found = [number(value) for value in values]
        for part, value in zip(self.parts, found, strict=True):
            if value is None or not -slack <= value <= self.total + slack:
                given = values[self.parts.index(part)]
                raise OptimizerError(f"{part!r} must be a number from 0 to {self.total}, not {given!r}")
        inside = tuple(min(max(float(value or 0.0), 0.0), self.total) for value in found)
        if abs(math.fsum(inside) - self.total) > slack:
            parts = " + ".join(map(repr, self.parts))
            raise OptimizerError(f"{parts} must be {self.total}, not {math.fsum(inside):.9g}")
        return inside

    def from_unit(self, units: Sequence[float]) -> tuple[float, ...]:
        # A stick is broken so that all compositions are equally likely.
        left, values = 1.0, []
        for place, unit in enumerate(units):
            taken = left * (1.0 - (1.0 - float(unit)) ** (1.0 / (len(self.parts) - 1 - place)))
            values.append(taken)
            left = max(left - taken, 0.0)
        return tuple(value * self.total for value in (*values, left))

    def to_unit(self, values: Sequence[Any]) -> list[float]:
        left, units = 1.0, []
        for place, value in enumerate(values[:-1]):
            share = min(value / self.total / left, 1.0) if left > 0 else 0.0
            units.append(1.0 - (1.0 - share) ** (len(self.parts) - 1 - place))
            left = max(left - value / self.total, 0.0)
        return units

    def features(self, values: Sequence[Any]) -> list[float]:
        return [value / self.total for value in values]

    def levels(self, steps: int) -> Iterator[tuple[float, ...]]:
        whole = max(steps - 1, 1)
        # Bars between stars: where the bars stand says how many steps each part has.
        for bars in itertools.combinations(range(whole + self.width), self.width):
            edges = (-1, *bars, whole + self.width)
            counts = (after - before - 1 for before, after in itertools.pairwise(edges))
            yield tuple(self.total * count / whole for count in counts)

    def schemas(self) -> list[dict[str, Any]]:
        return [{"type": "number", "minimum": 0.0, "maximum": self.total} for _ in self.parts]
