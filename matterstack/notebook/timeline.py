"""Timeline of the attempts, by operator: a Gantt chart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matterstack.core.text import neutral
from matterstack.errors import MissingLibraryError
from matterstack.notebook.statuses import COLOURS_OF_ATTEMPTS

if TYPE_CHECKING:
    from matterstack.run import Run

_MOST_BARS = 2000
_PALE = "#cccccc"


def plot_timeline(run: Run, axes: Any = None) -> Any:
    """Draw a bar per attempt, from its start (pale: from its submission) to its end.

    Parameters
    ----------
    run : Run
    axes : matplotlib.axes.Axes, optional
        Where to draw; by default new ones.

    Returns
    -------
    matplotlib.axes.Axes
        The time axis is in seconds since the first submission.

    Raises
    ------
    MissingLibraryError
        matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
        from matplotlib.patches import Rectangle
    except ImportError as error:
        raise MissingLibraryError("plot_timeline needs matplotlib: pip install 'matterstack[notebook]'") from error
    import pandas as pd

    frame = run.attempts
    if axes is None:
        operators = max(1, frame["operator"].nunique())
        height = 1.2 + min(10.0, 0.12 * min(len(frame), 60) + 0.4 * operators)
        _, axes = plt.subplots(figsize=(9, height), layout="constrained")
    axes.set_xlabel("time since the first submission / s")
    if frame.empty:
        axes.set_yticks([])
        return axes
    shown = frame.tail(_MOST_BARS).sort_values(["operator", "submitted_at"], kind="stable")
    origin = shown["submitted_at"].min()
    now = max(pd.Timestamp.now(tz="UTC"), shown["submitted_at"].max())

    def seconds(times: Any) -> Any:
        return (times - origin).dt.total_seconds()

    submitted, ended = seconds(shown["submitted_at"]), seconds(shown["ended_at"].fillna(now))
    started = seconds(shown["started_at"]).fillna(submitted).clip(lower=submitted)
    ended = ended.clip(lower=started)
    places = list(range(len(shown)))
    colours = [COLOURS_OF_ATTEMPTS.get(str(status), "#555555") for status in shown["status"]]
    axes.barh(places, started - submitted, left=submitted, height=0.8, color=_PALE)
    axes.barh(places, ended - started, left=started, height=0.8, color=colours)
    axes.invert_yaxis()
    if len(shown) <= 60:
        axes.set_yticks(places, [neutral(str(name)) for name in shown.index], fontsize=8)
    else:
        middles = pd.Series(places, index=shown["operator"].astype(str).to_numpy()).groupby(level=0, sort=False).mean()
        axes.set_yticks(list(middles), [neutral(str(name)) for name in middles.index])
    there = set(shown["status"].astype(str))
    used = {"not begun": _PALE} | {
        name.lower(): colour for name, colour in COLOURS_OF_ATTEMPTS.items() if name in there
    }
    handles = [Rectangle((0, 0), 1, 1, color=colour) for colour in used.values()]
    # Above: wherever it stood among the bars, it would stand over some.
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": len(used), "frameon": False, "borderaxespad": 0.2}
    axes.legend(handles, list(used), fontsize=8, **place)
    return axes
