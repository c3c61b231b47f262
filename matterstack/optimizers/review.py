"""Review of suggestions by a person: a request on a table, whose answer is what goes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matterstack.core.task import Task
from matterstack.optimizers.space import Space

_ASKS = "These points are suggested to be tried next. Remove, change or add rows: what you submit goes out."


def review(task_id: str, points: Sequence[Mapping[str, Any]], space: Space, **task_options: Any) -> Task:
    """Return a request to a person, who removes, changes and adds points before they go out.

    Parameters
    ----------
    task_id : str
        Of the request; what waits for the answer names it.
    points : sequence of dict
        What is suggested; the form, and the templates of the answer, begin with it.
    space : Space
        Its bounds and choices are those of the answer: one outside of them is refused. JSON Schema knows neither the
        total of a simplex nor a constraint, so `Space.check` each point before it is used.
    **task_options
        Of `Task`: instructions, assignee, timeout_s, ...

    Returns
    -------
    Task
        Its data is the list of points that go out, empty where none shall.

    Raises
    ------
    OptimizerError
        A point is not one of the space.

    Examples
    --------
    >>> from matterstack.optimizers import Real
    >>> task = review("approve", [{"T_K": 400}], Space({"T_K": Real(300, 900)}), assignee="Ada")
    >>> task.operator, task.schema["default"]
    ('human', [{'T_K': 400.0}])
    """
    suggested = [space.check(point) for point in points]
    schema = {"type": "array", "items": space.schema(), "default": suggested}
    return Task(task_id, **{"operator": "human", "instructions": _ASKS, "schema": schema} | task_options)
