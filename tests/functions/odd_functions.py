"""Functions as users write them, to be run as tasks: each is called here and there, and gives the same."""

from __future__ import annotations

import abc
import collections
import contextlib
import enum
import functools
import logging
import math
import os.path
import re
import typing
from dataclasses import dataclass, field
from numbers import Number
from pathlib import Path
from random import Random, uniform
from typing import ClassVar

import numpy as np
import odd_helpers
import odd_package.inner
from ase.build import bulk
from ase.collections import dcdft
from ase.units import kB as kelvin
from odd_helpers import norm as length
from odd_package import scaled
from scipy.special import erf
from scipy.stats import norm as normal

from matterstack.functions.function import task

log = logging.getLogger(__name__)
DIGITS = re.compile(r"\d+", re.IGNORECASE | re.ASCII)
TABLE = {"Al": [4.05, (1, None)], ("Cu", 1): {"a", "b"}, 3: b"\x00'\n"}
LINES = "ENCUT = 520\n\"quoted\" \\ and 'both'\n"
FAR = math.inf
WAVE = 1 + 2j
GRID = np.arange(6, dtype="<i2").reshape(2, 3)
LARGE = np.linspace(0.0, 1.0, 20_000)
HOME = Path("/scratch/data")
EMPTY: set[int] = set()
counter = 0
T = typing.TypeVar("T")
Point = collections.namedtuple("Point", "x y")


class Phase(enum.Enum):
    LIQUID = "liquid"
    SOLID = 2

    def colder(self) -> Phase:
        return Phase.SOLID


@dataclass(frozen=True, slots=True)
class Base:
    name: str = "base"


@dataclass(frozen=True)
class Cell(Base):
    """A cell, with a nested class."""

    unit: ClassVar[str] = "eV"
    phase: Phase = Phase.LIQUID
    voltages: list[float] = field(default_factory=lambda: [FAR])

    class Limits:
        low = -1

    @property
    def low(self) -> int:
        return self.Limits.low

    @staticmethod
    def halved(x: float) -> float:
        return x / 2

    @classmethod
    def made(cls, x: float) -> Cell:
        return cls(voltages=[cls.halved(x), erf(0.0)])

    def __len__(self) -> int:
        return super().__sizeof__() and len(self.voltages)


class Stack(typing.Generic[T]):
    size = len(LINES)

    def __init__(self) -> None:
        self.__items: list[T] = []

    def push(self, item: T) -> int:
        self.__items.append(item)
        return len(self.__items)


REFERENCE = Cell("reference", Phase.SOLID, [1.5])


def timed(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return ("timed", function(*args, **kwargs))

    return wrapper


def bare(function):
    def inner(*args):
        return ["bare", function(*args)]

    return inner


@timed
def wrapped(x):
    return x + 1


@bare
def hidden(x):
    return x + 2


@functools.cache
def fibonacci(n: int) -> int:
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def is_even(n: int) -> bool:
    return n == 0 or is_odd(n - 1)


def is_odd(n: int) -> bool:
    return n != 0 and is_even(n - 1)


def power(n: int):
    """Return a closure."""

    def raised(x, shift=n + 1):
        text = f"""
    {n}
  {x}"""
        return x**n + shift, text

    return raised


def pairs(n: int):
    yield from zip(range(n), range(n), strict=True)


class Named(typing.NamedTuple):
    x: int
    y: float = 2.5


class Meta(type):
    def __call__(cls, *args):
        return super().__call__(*args, fibonacci(3))


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...


class Square(Shape):
    sides = is_even.__name__

    def area(self):
        return 4


class Made(metaclass=Meta):
    def __init__(self, given):
        self.given = given


class OwnError(ValueError):
    """An error of the user's."""


class Memo:
    def __init__(self, function):
        functools.update_wrapper(self, function)
        self.function, self.known = function, {}

    def __call__(self, x):
        return self.known.setdefault(x, self.function(x))


@Memo
def memoised(x):
    return x, x


@contextlib.contextmanager
def within(x):
    yield x


@np.vectorize
def stepped(x):
    return x + 1


# -- each of these becomes a task ---------------------------------------------------------------


def plain(a, /, b=2, *rest, c=TABLE["Al"][0], **more):
    """Say what it was given."""
    return [a, b, list(rest), c, more]


# The comment above stays.
@task(retries=1)
def decorated(x):
    # and so does this one
    return x * 2  # and this


@task(
    retries=2,
)
@timed
def twice_decorated(x):
    return decorated(x), wrapped(x), hidden(x)


def constants():
    return [
        TABLE,
        LINES,
        FAR,
        WAVE,
        GRID,
        float(LARGE.sum()),
        HOME,
        EMPTY,
        DIGITS.findall("a1b22"),
        DIGITS.flags,
        log.name,
    ]


def imports():
    import json
    from base64 import b64encode as encoded

    from odd_package.other import OTHER

    return [json.dumps([1]), encoded(b"x"), erf(0.5), np.linalg.norm([3, 4]), os.path.join("a", "b"), OTHER]


def structures(metal="Al"):
    atoms = bulk(metal)
    return len(atoms), float(np.exp(1.0)), uniform(0, 0), Random(1).random()


def helpers():
    return [length([3.0, 4.0]), odd_helpers.norm([1.0]), odd_helpers.SCALE, scaled(2), odd_package.inner.deep()]


def recursive(n: int = 5):
    return [fibonacci(n), is_even(n), recursive(n - 1)] if n else []


def classes():
    cell = Cell.made(3.0)
    stack: Stack[int] = Stack()
    return [cell, cell.low, cell.unit, cell.phase.colder(), REFERENCE, stack.push(1), Stack.size, len(cell), Base()]


def odd_syntax(value=("point", 1)):
    match value:
        case (str() as kind, int(number)) if (double := number * 2) > 1:
            found = f"{kind!r:>10} {double:{number}d} {LINES[:5]}"
        case _:
            found = "nothing"

    class Inside:
        unit = length([9.0])
        many = [SIZE for _ in range(2)]

    inner = [[x * y for x in range(2)] for y in range(2) if y]
    return found, inner, Inside.unit, len(Inside.many), list(pairs(2)), (lambda z: z + math.pi)(0)


def Größe(ångström=1.0, *, π=math.pi):
    return ångström * π


def counts():
    global counter, fresh
    counter += 1
    fresh = counter
    return fresh


def asserts(x=3):
    assert x == 3, f"not {x}"
    return x


def points():
    return [Point(1, 2).x, Point(1, 2)]


def more_classes():
    try:
        raise OwnError("x")
    except OwnError as error:
        said = str(error)
    with within(3) as inside:
        pass
    return [
        Named(1).y,
        Square().area(),
        Square.sides,
        Made().given,
        said,
        memoised(2),
        inside,
        stepped([1, 2]).tolist(),
    ]


def statistics():
    return float(normal.pdf(0.0)), list(map(int, [1.0])), isinstance(1, Number), [kelvin, dcdft.names[0]]


SIZE = 3
squared = power(2)
