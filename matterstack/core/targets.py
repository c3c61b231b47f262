"""Targets: columns of results that shall be large or small."""

from __future__ import annotations

from collections.abc import Mapping

from matterstack.core.text import is_storable
from matterstack.errors import MatterstackError

DIRECTIONS = ("max", "min")


def targets_of(given: object, what: str, error: type[MatterstackError]) -> dict[str, str]:
    """Check and return which columns shall be large, and which small.

    Parameters
    ----------
    given : object
        As in ``{"strength": "max", "cost": "min"}``.
    what : str
        What it is called, for the message.
    error : type
        What is raised where it is none of these.

    Examples
    --------
    >>> from matterstack.errors import InvalidConfigError
    >>> targets_of({"strength": "max"}, "target", InvalidConfigError)
    {'strength': 'max'}
    >>> targets_of({"strength": "high"}, "target", InvalidConfigError)
    Traceback (most recent call last):
        ...
    matterstack.errors.InvalidConfigError: target: 'strength' must be 'max' or 'min', not 'high'
    See docs/troubleshooting.md#invalidconfigerror
    """
    if not isinstance(given, Mapping):
        raise error(f"{what} must say what shall be large or small, as in {{'strength': 'max'}}, not {given!r}")
    for name, direction in given.items():
        if not is_storable(name) or not name:
            raise error(f"{what} must name columns of the results, and {name!r} is no such name")
        if not isinstance(direction, str) or direction not in DIRECTIONS:
            raise error(f"{what}: {name!r} must be 'max' or 'min', not {direction!r}")
    return {str(name): str(direction) for name, direction in given.items()}
