"""The best so far: what each task gave of one quantity, and a line along the best of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matterstack.core.text import did_you_mean, neutral
from matterstack.errors import MissingLibraryError, PlotError
from matterstack.notebook.palette import BLUE

if TYPE_CHECKING:
    import pandas as pd

    from matterstack.run import Run

_X_LABELS = {
    "time": "time since the first submission / s",
    "result": "results, in the order in which they came",
    "iteration": "iteration",
}


def plot_best_so_far(run: Run, name: str, best: str = "max", by: str = "time", axes: Any = None) -> Any:
    """Draw a dot per completed task, and a line along the best so far.

    Parameters
    ----------
    run : Run
    name : str
        A column of `Run.results`.
    best : {'max', 'min'}
        Whether the largest is the best, or the smallest.
    by : {'time', 'result', 'iteration'}
        What is drawn to the right. A campaign that streams may have a single iteration.
    axes : matplotlib.axes.Axes, optional
        Where to draw; by default new ones.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    PlotError
        No result has such a column, it holds no numbers, or an argument is none of these.
    MissingLibraryError
        matplotlib is not installed.
    """
    for what, given, known in (("best", best, ("max", "min")), ("by", by, tuple(_X_LABELS))):
        if given not in known:
            raise PlotError(f"{what} must be one of {', '.join(map(repr, known))}, not {given!r}")
    try:
        import matplotlib.pyplot as plt
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise MissingLibraryError("plot needs matplotlib: pip install 'matterstack[notebook]'") from error

    found = _found(run, name)
    if axes is None:
        _, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    line = (found["y"].cummax() if best == "max" else found["y"].cummin()).groupby(found[by]).last()
    axes.plot(found[by], found["y"], "o", markersize=4, color="0.6", label="each")
    axes.plot(line.index, line, drawstyle="steps-post", color=BLUE, label=f"best so far ({best})")
    axes.set_xlabel(_X_LABELS[by])
    axes.set_ylabel(neutral(name), parse_math=False)
    if by != "time":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return axes


def _found(run: Run, name: str) -> pd.DataFrame:
    """Return the values in the order in which they came, each with all that it may be drawn over."""
    import pandas as pd

    results, attempts = run.results, run.attempts
    if name not in results:
        raise PlotError(f"no result has a column {name!r}{did_you_mean(name, map(str, results.columns))}")
    values = results[name]
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        raise PlotError(f"the column {name!r} of the results holds no numbers, but {values.dtype}")
    keys = [results[key].astype(str) for key in ("iteration", "task_id", "attempt")]
    ended = attempts["ended_at"].reindex([".".join(parts) for parts in zip(*keys, strict=True)]).set_axis(results.index)
    found = pd.DataFrame({"y": values.astype("float64"), "iteration": results["iteration"]})
    found["time"] = (ended - attempts["submitted_at"].min()).dt.total_seconds()
    found = found.dropna().sort_values("time", kind="stable")
    found["result"] = range(1, len(found) + 1)
    return found
