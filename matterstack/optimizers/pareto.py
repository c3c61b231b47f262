"""The Pareto table: what no other is better than."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matterstack.errors import OptimizerError
from matterstack.optimizers.observations import Rows, names_of, rows_of, values_of

if TYPE_CHECKING:
    import pandas


def pareto(rows: Rows, *, maximize: str | Sequence[str] = (), minimize: str | Sequence[str] = ()) -> pandas.DataFrame:
    """Return the rows that are not dominated: no other is at least as good in all targets and better in one.

    Parameters
    ----------
    rows : pandas.DataFrame or list of dict
        Those that failed, whose target is None or NaN, are left out.
    maximize, minimize : str or sequence of str
        The targets.

    Returns
    -------
    pandas.DataFrame
        Whole rows, in the order and with the index that they had.

    Raises
    ------
    OptimizerError
        No target is named, a row has no such column, or ``rows`` is no table.

    Examples
    --------
    >>> found = [{"id": "a", "gap_eV": 1.1, "cost": 5}, {"id": "b", "gap_eV": 2.0, "cost": 9}]
    >>> found += [{"id": "c", "gap_eV": 1.0, "cost": 6}, {"id": "d", "gap_eV": None, "cost": None}]
    >>> list(pareto(found, maximize="gap_eV", minimize="cost")["id"])
    ['a', 'b']
    """
    import numpy
    import pandas

    up, down = names_of(maximize, "maximize"), names_of(minimize, "minimize")
    if not up and not down:
        raise OptimizerError("pareto: name what shall be maximized or minimized")
    plain = rows_of(rows, "rows")
    values = [values_of(row, (*up, *down), f"row {place}") for place, row in enumerate(plain)]
    good = [place for place, found in enumerate(values) if found is not None]
    signs = [1.0] * len(up) + [-1.0] * len(down)
    gains = numpy.array([values[place] for place in good], float).reshape(len(good), len(signs)) * signs
    best = [good[place] for place in undominated(gains)]
    table = rows if isinstance(rows, pandas.DataFrame) else pandas.DataFrame(plain)
    return table.iloc[best]


def undominated(gains: Any) -> list[int]:
    """Return which rows no other one beats, in their order.

    Parameters
    ----------
    gains : numpy.ndarray
        A row per result, a column per target; more is better.
    """
    import numpy

    if gains.shape[1] == 2:
        return _undominated_of_two(gains)
    left = numpy.lexsort(-gains.T[::-1])  # the largest first: it beats many
    columns = numpy.ascontiguousarray(gains[left].T)
    place = 0
    while place < len(left):
        stay = numpy.ones(len(left), bool)
        for column in columns:
            stay &= column == column[place]
        for column in columns:
            stay |= column > column[place]
        place = int(numpy.count_nonzero(stay[: place + 1]))
        left, columns = left[stay], columns[:, stay]
    return sorted(left.tolist())


def _undominated_of_two(gains: Any) -> list[int]:
    """Return the same of two targets, where all may be among the best: what is best so far is that over time."""
    import numpy

    best, found = float("-inf"), []
    first = second = float("nan")
    for place in numpy.lexsort((-gains[:, 1], -gains[:, 0])).tolist():
        own = gains[place].tolist()
        if own[1] > best:
            best, (first, second) = own[1], own
        if own == [first, second]:
            found.append(place)
    return sorted(found)
