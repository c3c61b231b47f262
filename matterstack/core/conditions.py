"""Conditions on what tasks gave, or were done with: data, of a path, an operator and a value."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matterstack.core.numbers import is_number
from matterstack.core.strict_json import parse_json
from matterstack.core.text import did_you_mean, is_storable
from matterstack.errors import FindError, InvalidJsonError

#: Keys, one in the other.
Path = tuple[str, ...]

_ORDERED = ("<", "<=", ">", ">=")
OPERATORS = ("==", "!=", *_ORDERED, "in", "between", "contains", "exists")
_MOST_CONDITIONS = 100
_MOST_VALUES = 10_000
_MOST_KEYS = 50

_KEY = r'"(?:[^"\\]|\\.)*"|[^\s"=!<>.]+'
_PLAIN = re.compile(r'[^\s"=!<>.]+')
_PATH = re.compile(rf"(?:{_KEY})(?:\.(?:{_KEY}))*")
_KEYS = re.compile(rf"({_KEY})(?:\.|\Z)")
_SAID = re.compile(rf"\s*(?P<path>{_PATH.pattern})\s*(?P<operator>[=!<>]+|\b[a-z]+\b)\s*(?P<value>.*?)\s*\Z", re.DOTALL)
#: What is written for a value in Python, and in JSON otherwise or not at all.
_SLIPS = {"True": "true", "False": "false", "None": "null, or exists false", "NaN": None, "nan": None, "inf": None}


@dataclass(frozen=True)
class Condition:
    """What a value has to be.

    Attributes
    ----------
    path : tuple of str
        Where it is.
    operator : str
        One of `OPERATORS`.
    value : Any
        What it is compared with: a number, a text, True or False; of ``in`` and ``between`` a tuple of such; of
        ``exists`` True or False. There is no value where there is none, and where it is null.
    """

    path: Path
    operator: str
    value: Any

    @property
    def said(self) -> tuple[Any, ...]:
        """The operator and what it takes, as `conditions_of` is given them."""
        return (self.operator, *self.value) if self.operator == "between" else (self.operator, self.value)


def path_of(given: str | Sequence[str]) -> Path:
    r"""Return the keys of a path.

    Parameters
    ----------
    given : str or sequence of str
        Keys separated by points, ``cell.a``; one that has a point or a blank in it is in straight double quotes, as in
        JSON. Or the keys, each as it is.

    Raises
    ------
    FindError
        It is none.

    Examples
    --------
    >>> path_of("cell.a"), path_of('"a.b".c'), path_of(("a.b", "c"))
    (('cell', 'a'), ('a.b', 'c'), ('a.b', 'c'))
    """
    keys: Sequence[Any] = ()
    if isinstance(given, str):
        if _PATH.fullmatch(given):
            keys = [_key(found) for found in _KEYS.findall(given)]
    elif isinstance(given, list | tuple):
        keys = given
    if not 0 < len(keys) <= _MOST_KEYS or not all(map(is_storable, keys)):
        raise FindError(
            f"{given!r:.100} is not a path: keys are separated by points, as in cell.a, and one that has a point or a "
            'blank in it is in double quotes, as in "a.b".c; or they are given one by one, as in ("a.b", "c")'
        )
    return tuple(keys)


def written(path: Path) -> str:
    """Return a path as one writes it, which `path_of` reads.

    Examples
    --------
    >>> written(("a.b", "c"))
    '"a.b".c'
    """
    return ".".join(key if _PLAIN.fullmatch(key) else json.dumps(key, ensure_ascii=False) for key in path)


def _key(text: str) -> str | None:
    if not text.startswith('"'):
        return text
    try:
        key: str = json.loads(text)
    except ValueError:
        return None
    return key


def conditions_of(where: Mapping[str | tuple[str, ...], Any] | None) -> tuple[Condition, ...]:
    """Return the conditions of a mapping: by path a value, or a tuple of an operator and what it takes.

    Raises
    ------
    FindError
        One makes no sense; naming it.

    Examples
    --------
    >>> [condition.operator for condition in conditions_of({"formula": "LiCoO2", "energy_eV": ("between", -4, -3)})]
    ['==', 'between']
    """
    if where is None:
        return ()
    if not isinstance(where, Mapping):
        raise FindError(f'where must be a mapping, as in where={{"energy_eV": ("<", -3)}}, and not {where!r:.100}')
    found = []
    for path, said in where.items():
        several = isinstance(said, list) and bool(said) and all(isinstance(one, tuple) for one in said)
        each = said if several else [said]
        found += [_condition(path_of(path), one if isinstance(one, tuple) else ("==", one)) for one in each]
    if len(found) > _MOST_CONDITIONS:
        raise FindError(f"{len(found)} conditions are too many: {_MOST_CONDITIONS} at most")
    return tuple(found)


def parse_condition(text: str) -> Condition:
    """Return the condition that a person wrote in a shell.

    Parameters
    ----------
    text : str
        As ``energy_eV<-3``, ``formula==LiCoO2``, ``cell.a between [3.9, 4.1]``, ``formula in ["LiCoO2", "NaCoO2"]``,
        ``formula contains Li``, ``energy_eV exists``. Values are JSON; a word stands for itself.

    Raises
    ------
    FindError
        It is none; saying why.

    Examples
    --------
    >>> parse_condition("energy_eV <= -3")
    Condition(path=('energy_eV',), operator='<=', value=-3)
    """
    match = _SAID.match(text)
    operator = {"=": "=="}.get(match["operator"], match["operator"]) if match else None
    if match is None or operator not in OPERATORS:
        raise FindError(
            f"{text!r:.100} is no condition{did_you_mean(operator, OPERATORS)}: write a path, one of "
            f"{', '.join(OPERATORS)}, and a value, as in 'energy_eV < -3'"
        )
    if operator == "exists" and not match["value"]:
        return Condition(path_of(match["path"]), operator, True)
    value = _value(match["value"], operator, text)
    several = value if operator == "between" and isinstance(value, list) else [value]
    return _condition(path_of(match["path"]), (operator, *several))


def _value(text: str, operator: str, whole: str) -> Any:
    """Return a value as a person writes it: JSON, or a word."""
    if text in _SLIPS:
        instead = _SLIPS[text]
        cure = f"write {instead}" if instead else "nothing is compared with that; exists tells whether there is a value"
        raise FindError(f"{whole!r:.100}: {text} is not JSON: {cure}")
    try:
        return parse_json(text.encode("utf-8", "surrogatepass"))
    except InvalidJsonError as error:
        if not text or text[0] in '"[{=<>!' or operator not in ("==", "!=", "contains"):
            raise FindError(f"{whole!r:.100}: the value is not JSON: {error}") from None
    return text


def _condition(path: Path, said: tuple[Any, ...]) -> Condition:
    operator, *given = said or (None,)
    name = ".".join(path)
    if operator not in OPERATORS:
        raise FindError(
            f"{name}: {operator!r:.100} is no operator{did_you_mean(operator, OPERATORS)}; there are "
            f"{', '.join(OPERATORS)}, as in ('<', -3)"
        )
    if len(given) != (2 if operator == "between" else 1):
        raise FindError(f"{name}: that is no condition: say {_EXAMPLES.get(operator, f'({operator!r}, -3)')}")
    values = [_plain(value, name) for value in (_listed(given[0], name) if operator == "in" else given)]
    if operator == "exists" and not isinstance(values[0], bool):
        raise FindError(f"{name}: exists takes True or False, and not {values[0]!r:.100}")
    if values == [None] and operator in ("==", "!="):
        return Condition(path, "exists", operator == "!=")
    if None in values:
        raise FindError(f"{name}: nothing is compared with None; ('exists', False) tells where there is no value")
    if operator in (*_ORDERED, "between"):
        _check_ordered(name, values)
    return Condition(path, operator, tuple(values) if operator in ("in", "between") else values[0])


_EXAMPLES = {
    "in": "('in', ['LiCoO2', 'NaCoO2'])",
    "between": "('between', -4, -3)",
    "contains": "('contains', 'Li')",
    "exists": "('exists', True)",
}


def _listed(given: Any, name: str) -> Sequence[Any]:
    values = sorted(given, key=repr) if isinstance(given, set | frozenset) else given
    if not isinstance(values, list | tuple) or not 0 < len(values) <= _MOST_VALUES:
        raise FindError(f"{name}: in takes a list of 1 to {_MOST_VALUES} values, and not {given!r:.100}")
    return values


def _check_ordered(name: str, values: Sequence[Any]) -> None:
    if any(isinstance(value, bool) for value in values):
        raise FindError(f"{name}: True and False have no order; they are compared by == and !=")
    if len({isinstance(value, str) for value in values}) > 1:
        raise FindError(f"{name}: between takes two numbers, or two texts, and not {tuple(values)!r:.100}")


def _plain(value: Any, name: str) -> Any:
    """Return a value that something can be compared with; a number of NumPy as one of Python."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if value is None or isinstance(value, bool) or is_storable(value):
        return value
    if not is_number(value):
        raise FindError(f"{name} is compared with a number, a text, True or False, and not with {value!r:.100}")
    if value != value:
        raise FindError(f"{name}: nothing is compared with NaN; ('exists', False) tells where there is no value")
    return value
