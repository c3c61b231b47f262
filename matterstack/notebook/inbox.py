"""The inbox: requests that wait for an answer, shown as forms, as a table, or as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, overload

from matterstack.core.attempt_files import SHOWN
from matterstack.core.text import format_time, neutral
from matterstack.orchestration.overview import shown_path
from matterstack.orchestration.requests import Request

if TYPE_CHECKING:
    import pandas as pd

    from matterstack.run import Run

_COLUMNS = (
    "workspace",
    "run_id",
    "iteration",
    "task_id",
    "attempt",
    "operator",
    "assignee",
    "since",
    "instructions",
    "reason",
    "directory",
)


class Inbox(Sequence[Request]):
    """A sequence of `Request`, shown as forms in a notebook, and as a table or text elsewhere.

    Parameters
    ----------
    requests : sequence of Request
    run_of : callable
        Returns the run of a request: a form answers it.
    """

    def __init__(self, requests: Sequence[Request], run_of: Callable[[Request], Run]) -> None:
        self._requests = tuple(requests)
        self.run_of = run_of

    def __len__(self) -> int:
        return len(self._requests)

    @overload
    def __getitem__(self, index: int) -> Request: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Request]: ...
    def __getitem__(self, index: int | slice) -> Request | Sequence[Request]:
        return self._requests[index]

    @property
    def frame(self) -> pd.DataFrame:
        """The requests as a DataFrame, a row each; ``directory`` is a text, ``since`` a UTC timestamp."""
        import pandas as pd

        from matterstack.orchestration.tables import column_of

        rows = [[getattr(request, name) for name in _COLUMNS] for request in self]
        frame = pd.DataFrame(rows, columns=list(_COLUMNS))
        frame["directory"] = column_of([str(request.directory) for request in self])
        microseconds = (frame["since"].astype("float64") * 1e6).round().astype("int64")
        frame["since"] = pd.to_datetime(microseconds, unit="us", utc=True)
        return frame

    def __repr__(self) -> str:
        if not self:
            return "Nothing waits for an answer."
        lines = [f"{len(self)} waiting:"]
        for request in self:
            who = f" for {request.assignee}" if request.assignee else ""
            lines.append(
                f"- {request.task_id} of {request.run_id}{who}, since {format_time(request.since)}: {request.reason}"
            )
            lines += [f"    {line}" for line in request.instructions.splitlines()]
            lines += [f"    look at {SHOWN}/{name}" for name in request.show]
            lines.append(f"    in {shown_path(request.directory)}")
        return neutral("\n".join(lines))

    def _repr_mimebundle_(self, **options: Any) -> Any:
        from matterstack.notebook.progress import in_notebook

        if not in_notebook():
            return {"text/plain": repr(self), "text/html": self._repr_html_()}
        from matterstack.notebook.forms import InboxView

        self.view = InboxView(self)
        return self.view._repr_mimebundle_(**options)

    def _repr_html_(self) -> str:
        if not self:
            return "<p>Nothing waits for an answer.</p>"
        names = ("task", "run", "for", "since", "what to do", "waits for", "where")
        head = "".join(f"<th style='text-align:left'>{name}</th>" for name in names)
        rows = []
        for request in self:
            cells = (
                request.task_id,
                request.run_id,
                request.assignee or "",
                format_time(request.since),
                "\n".join([request.instructions, *(f"look at {SHOWN}/{name}" for name in request.show)]),
                request.reason,
                shown_path(request.directory),
            )
            style = "text-align:left;vertical-align:top;white-space:pre-wrap"
            rows.append("".join(f"<td style='{style}'>{escape(neutral(cell))}</td>" for cell in cells))
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
