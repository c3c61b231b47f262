"""The runs of a workspace: a DataFrame that shows a progress bar a run in a notebook."""

from __future__ import annotations

from html import escape
from typing import Any

import pandas as pd

from matterstack.core.snapshot import IterationCounts
from matterstack.core.states import RunStatus
from matterstack.core.text import neutral
from matterstack.notebook.summary import bar_html, in_a_line, status_html


class RunsTable(pd.DataFrame):
    """A DataFrame of runs; what is computed from it is a plain DataFrame."""

    _metadata = ["counts"]  # noqa: RUF012 - pandas wants a list
    counts: dict[str, IterationCounts]

    def _repr_html_(self) -> Any:
        shown = ["run_id", "status", "iteration", "created_at", "reason"]
        if not set(shown) <= set(self.columns):
            return self.to_html(max_rows=60)
        head = "".join(f"<th style='text-align:left'>{name}</th>" for name in ("run", "progress", *shown[1:]))
        lines = []
        for _, row in self.iterrows():
            counts = self.counts.get(str(row["run_id"]))
            created = "" if pd.isna(row["created_at"]) else f"{row['created_at']:%Y-%m-%d %H:%M:%S UTC}"
            texts = [str(row["run_id"])]
            texts += ["" if pd.isna(row[name]) else str(row[name]) for name in ("status", "iteration")]
            texts += [created, "" if pd.isna(row["reason"]) else in_a_line(str(row["reason"]))[:200]]
            said = [escape(neutral(text)) for text in texts]
            if texts[1] in RunStatus.__members__:
                said[1] = status_html(RunStatus(texts[1]))
            cells = [f"<td style='text-align:left'>{html}</td>" for html in said]
            over = f"{counts.total - counts.unfinished} of {counts.total}" if counts else ""
            bar = f"<td style='min-width:160px'>{bar_html(counts) if counts else ''}{over}</td>"
            lines.append(f"<tr>{cells[0]}{bar}{''.join(cells[1:])}</tr>")
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
