"""Observations: rows with the parameters of a point and what was found there, as optimizers take them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from matterstack.core.text import did_you_mean
from matterstack.errors import OptimizerError
from matterstack.optimizers.parameters import plain
from matterstack.optimizers.space import Point, Space

#: A DataFrame, or rows.
Rows = Any


class Seen(NamedTuple):
    """A point that was tried.

    Attributes
    ----------
    point : dict
    values : tuple of float, or None
        Of the targets; None where it failed.
    """

    point: Point
    values: tuple[float, ...] | None


def rows_of(table: Rows, what: str) -> list[Mapping[str, Any]]:
    """Return the rows of a DataFrame, or of a list of dicts."""
    if hasattr(table, "to_dict") and hasattr(table, "columns"):
        table = table.to_dict("records")
    if isinstance(table, str | bytes | Mapping) or not isinstance(table, Iterable):
        raise OptimizerError(f"{what} must be a DataFrame or a list of dicts, not {type(table).__name__}")
    rows = list(table)
    for place, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise OptimizerError(f"{what}: row {place} must be a dict, not {row!r}")
    return rows


def names_of(given: object, what: str) -> tuple[str, ...]:
    """Return the names of targets, of which one may be given as it is."""
    if isinstance(given, str):
        return (given,)
    if isinstance(given, Iterable) and not isinstance(given, Mapping | bytes):
        names = tuple(given)
        if all(isinstance(name, str) for name in names):
            return names
    raise OptimizerError(f"{what} must be the name of a column, or a list of names, not {given!r}")


def values_of(row: Mapping[str, Any], targets: Iterable[str], what: str) -> tuple[float, ...] | None:
    """Return the values of the targets, or None where one of them is missing: None, NaN or infinite."""
    found: list[float | None] = []
    for target in targets:
        if target not in row:
            guess = did_you_mean(target, map(str, row))
            raise OptimizerError(f"{what} has no {target!r}{guess}: one that failed has None there")
        found.append(_value(row[target], f"{what}: {target!r}"))
    known = [value for value in found if value is not None]
    return tuple(known) if len(known) == len(found) else None


def _value(value: object, what: str) -> float | None:
    value = plain(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if isfinite(value) else None
    if value is None or type(value).__name__ == "NAType":  # of pandas
        return None
    raise OptimizerError(f"{what} must be a number, or None where it failed, not {value!r}")


def seen_of(table: Rows, space: Space, targets: Iterable[str]) -> list[Seen]:
    """Return what was tried, from a table that may have more columns."""
    targets = tuple(targets)
    return [
        Seen(space.pick(row, f"row {place} of observed"), values_of(row, targets, f"row {place} of observed"))
        for place, row in enumerate(rows_of(table, "observed"))
    ]


def attach(table: Rows, space: Space, *, maximize: Any = (), minimize: Any = ()) -> list[dict[str, Any]]:
    """Return what is known already as observations, to begin a campaign with.

    Parameters
    ----------
    table : pandas.DataFrame, list of dict, or path
        Rows with the parameters of the space, and the targets; a path is that of a CSV file. Other columns are left
        out. A row whose target is missing is one that failed.
    space : Space
        The constraint is not asked: what was measured is known, whatever may be tried next.
    maximize, minimize : str or sequence of str
        The targets.

    Returns
    -------
    list of dict
        Plain numbers and texts, for the state of a campaign.

    Raises
    ------
    OptimizerError
        Naming the row that is outside of the space, or lacks something. A model would take it for a point of the
        space; make that larger, or leave the row out.

    Examples
    --------
    >>> from matterstack.optimizers import Real
    >>> space = Space({"T_K": Real(300, 900)})
    >>> attach([{"T_K": 400, "gap_eV": 1.1, "who": "Ada"}, {"T_K": 500, "gap_eV": None}], space, maximize="gap_eV")
    [{'T_K': 400.0, 'gap_eV': 1.1}, {'T_K': 500.0, 'gap_eV': None}]
    """
    if isinstance(table, str | Path):
        import pandas

        table = pandas.read_csv(table)
    targets = names_of(maximize, "maximize") + names_of(minimize, "minimize")
    attached = []
    for place, row in enumerate(rows_of(table, "the table")):
        what = f"row {place} of the table"
        values = {target: values_of(row, [target], what) for target in targets}
        attached.append(space.pick(row, what) | {name: value[0] if value else None for name, value in values.items()})
    return attached
