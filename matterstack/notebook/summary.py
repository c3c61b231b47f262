"""The summary of a run: HTML for a notebook, text for a terminal."""

from __future__ import annotations

from html import escape

from matterstack.core.snapshot import IterationCounts, RunRecord
from matterstack.core.states import RunStatus
from matterstack.core.text import neutral
from matterstack.notebook.palette import BLUE, GREEN, GREY, RED, ROSE, TAN, VIOLET
from matterstack.notebook.pictures import glyph
from matterstack.notebook.statuses import RUN_LOOKS
from matterstack.orchestration.overview import Overview, shown_path

#: Order, colour and name of what a bar shows.
BAR = (
    ("completed", GREEN),
    ("submitted", BLUE),
    ("ready", VIOLET),
    ("blocked", GREY),
    ("failed", RED),
    ("skipped", ROSE),
    ("cancelled", TAN),
)


def count_parts(counts: IterationCounts) -> dict[str, int]:
    """Return how many tasks are completed, submitted, ready, blocked, failed, skipped, cancelled."""
    return {
        "completed": counts.completed,
        "submitted": counts.submitted,
        "ready": counts.ready,
        "blocked": counts.pending - counts.ready,
        "failed": counts.failed,
        "skipped": counts.skipped,
        "cancelled": counts.cancelled,
    }


def summary_text(overview: Overview) -> str:
    """Return a few lines on where the run stands."""
    run, counts, path, would_run = overview
    lines = [
        f"Run {run.run_id} of {run.workspace}: {run.status}",
        f"iteration {run.iteration}: {describe_counts(counts)}",
        shown_path(path),
    ]
    if run.reason:
        lines.insert(1, _reason(run))
    if would_run is not None:
        lines.append(f"not trusted here: a step would run {would_run}")
    return neutral("\n".join(lines))


def describe_counts(counts: IterationCounts) -> str:
    """Return the counts in words, leaving out what is zero."""
    over = counts.total - counts.unfinished
    parts = ", ".join(f"{number} {name}" for name, number in count_parts(counts).items() if number)
    return f"{over} of {counts.total} tasks over ({parts})" if parts else "no tasks"


def summary_html(overview: Overview) -> str:
    """Return the same as a small table with a bar; everything is escaped."""
    run, counts, path, would_run = overview
    rows = []
    if run.reason:
        rows.append(("reason", _reason(run)))
    rows += [("iteration", f"{run.iteration}: {describe_counts(counts)}"), ("directory", shown_path(path))]
    if would_run is not None:
        rows.append(("not trusted here", f"a step would run {would_run}"))
    cells = [("status", status_html(run.status))]
    cells += [(name, escape(neutral(value))) for name, value in rows]
    body = "".join(
        f"<tr><th style='text-align:left;vertical-align:top'>{name}</th><td style='text-align:left'>{cell}</td></tr>"
        for name, cell in cells
    )
    title = f"Run <code>{escape(neutral(run.run_id))}</code> of <b>{escape(neutral(run.workspace))}</b>"
    return f"<div><p>{title}</p>{bar_html(counts)}<table>{body}</table></div>"


def status_html(status: RunStatus) -> str:
    """Return the status of a run with its colour and its glyph, which is a drawing and needs no font."""
    look = RUN_LOOKS[status]
    style = f"border-left:4px solid {look.colour};padding-left:5px;white-space:nowrap"
    return f"<span style='{style}'>{glyph(look)} <b>{look.name}</b></span>"


def bar_html(counts: IterationCounts) -> str:
    """Return a bar whose parts are as long as the counts."""
    total = max(1, counts.total)
    parts = count_parts(counts)
    segments = "".join(
        f"<div title='{parts[name]} {name}' style='width:{100 * parts[name] / total:.3f}%;background:{colour}'></div>"
        for name, colour in BAR
        if parts[name]
    )
    return (
        "<div role='img' aria-label='progress' "
        f"style='display:flex;height:10px;max-width:480px;border:1px solid #888'>{segments}</div>"
    )


def _reason(run: RunRecord) -> str:
    """Return why a run stands where it stands; and where more is to be said, who says it."""
    said = in_a_line(run.reason or "")
    more = run.status is RunStatus.FAILED or len((run.reason or "").strip().splitlines()) > 1
    return f"{said}; run.explain() says what to do" if more else said


def in_a_line(reason: str) -> str:
    """Return a reason without most of a traceback: of that the last line says most."""
    lines = reason.strip().splitlines() or [""]
    return lines[0] if len(lines) == 1 or lines[-1] in lines[0] else f"{lines[0]} ... {lines[-1]}"
