"""Questions to a person: a directory with the request, and a file with the answer."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from matterstack.core.attempt_files import NOT_SHOWN, SHOWN, Family, check_names
from matterstack.core.attempts import (
    Attempt,
    Observation,
    Rejected,
    Seen,
)
from matterstack.core.keywords import suggesting_class
from matterstack.core.schemas import check_schema, columns, first_rows, template
from matterstack.core.strict_json import parse_json
from matterstack.core.task import Task
from matterstack.errors import UnsafeFileError
from matterstack.files import read_inside, sync_tree
from matterstack.operators.base import Traits
from matterstack.operators.requests.base import RequestOperator, refuse_call
from matterstack.operators.requests.check_apart import prepare_checks
from matterstack.operators.requests.notices import Notify, check_notify, notify_once
from matterstack.operators.requests.rejection_policy import RejectionPolicy
from matterstack.operators.requests.request_directory import RequestDirectory, Verdict
from matterstack.operators.requests.tables import write_csv
from matterstack.operators.requests.workbooks import can_use_workbooks, template_workbook
from matterstack.platforms import user_name

#: The schema of a task that gives none.
ANYTHING: Mapping[str, Any] = {"type": "object"}

_INPUTS_BYTES = 100_000_000

_HOWTO = """\
How to answer this request: with any editor, no other software is needed.

1. Read instructions.md. The other files here are what you may want to look at;
   results.csv, if there is one, holds the results of the tasks before{shown}.
2. Copy response.template.json to response.json, and replace its values.
   {table}schema.json says exactly what is expected (https://json-schema.org).
3. Save it in this directory, or have it copied here under that name.

The answer is looked at at the next step of the run. If something is wrong with
it, response.errors.md appears here and says what; mend response.json and save
it again: so often as it says there. An answer that was accepted is kept; what
you change afterwards has no effect. When nothing is waited for here any more,
response.errors.md says so.

A decimal point is a point (1.5, not 1,5), but for tables whose columns are
separated by semicolons: there it may be a comma.
"""

_WORKBOOK_NOTE = (
    "Fill in one row per item, save it as response.xlsx in the same folder, and leave the first line as it is."
)


@suggesting_class
class HumanOperator(RequestOperator):
    """Ask a person.

    Parameters
    ----------
    max_rejections : int
        So many different bad answers fail the attempt.
    rejection_timeout_s : float, optional
        So long after the first bad answer, without a good one, the attempt fails.
    on_invalid : {'wait', 'fail'}
        ``fail``: the first bad answer fails the attempt.
    notify : callable or sequence of str, optional
        Called with a `matterstack.operators.requests.notices.Notice`, or a command that gets it as
        JSON on its standard input: once a request, and once a refused answer. A run whose
        operator has a function here is opened with that operator passed again.

    Raises
    ------
    InvalidConfigError
        An argument cannot be used; the message names it.

    Notes
    -----
    A task says what is asked with ``instructions`` and ``schema``, of whom with
    ``assignee``, and how long that may take with ``timeout_s``.
    """

    traits = Traits(by_people=True)
    wants = "response.json"

    def __init__(
        self,
        *,
        max_rejections: int = 3,
        rejection_timeout_s: float | None = None,
        on_invalid: str = "wait",
        notify: Notify | None = None,
    ) -> None:
        check_notify(notify)
        self.policy = RejectionPolicy(max_rejections, rejection_timeout_s, on_invalid)
        self.notify = notify

    def __repr__(self) -> str:
        return f"HumanOperator({', '.join(f'{name}={value!r}' for name, value in asdict(self.policy).items())})"

    def settings(self) -> Mapping[str, Any] | None:
        """Return the constructor's arguments; None where ``notify`` is a function."""
        if callable(self.notify):
            return None
        return {**asdict(self.policy), "notify": None if self.notify is None else list(self.notify)}

    def check_task(self, task: Task) -> None:
        """Refuse a schema that cannot be obeyed, files that would hide those of the request, and calls."""
        refuse_call(task)
        if task.schema is not None:
            check_schema(task.schema, f"task {task.task_id!r}: schema")
        check_names(task.task_id, task.files, Family.REQUEST)

    def prepare(self, attempt: Attempt) -> None:
        """Write what the person reads."""
        task = attempt.task
        schema = task.schema or ANYTHING
        text = task.instructions or f"Please answer the request `{attempt.task_id}`."
        if task.command is not None:
            shown = task.command if isinstance(task.command, str) else json.dumps(task.command)
            text += "\n\nThe command of this task:\n\n" + "".join(f"    {line}\n" for line in shown.splitlines())
        if task.assignee:
            text = f"For: {task.assignee}\n\n{text}"
        if task.show:
            text = f"{text.rstrip()}\n\n{_to_look_at(attempt)}"
        tabular = columns(schema)
        files = {
            "instructions.md": text.rstrip() + "\n",
            "schema.json": _pretty(schema),
            "response.template.json": _pretty(template(schema)),
            "HOWTO.txt": _HOWTO.format(
                table=_how_to_fill_tables() if tabular else "",
                shown=f",\n   and {SHOWN}/ what they left" if task.show else "",
            ),
        }
        if tabular:
            files["response.template.csv"] = write_csv([list(tabular), *first_rows(schema)])
        try:
            raw = read_inside(attempt.directory, "inputs.json", _INPUTS_BYTES)
            inputs = parse_json(raw, max_bytes=_INPUTS_BYTES)
        except FileNotFoundError:
            inputs = {}
        if results := _results(inputs):
            files["results.csv"] = results
        contents = {name: content.encode() for name, content in files.items()}
        # Made before anything is written, which may take seconds: a template that is younger was changed by somebody.
        if (workbook := template_workbook(schema, _WORKBOOK_NOTE)) is not None:
            contents["response.template.xlsx"] = workbook
        for name, content in contents.items():
            (attempt.directory / name).write_bytes(content)
        sync_tree(attempt.directory)
        prepare_checks(schema)

    def _request_directory(self, attempt: Attempt) -> RequestDirectory:
        return RequestDirectory(
            attempt.directory, attempt.task.schema or ANYTHING, attempt.token, patience=self.patience
        )

    def announcement(self, attempt: Attempt) -> str:
        """Return what is asked."""
        return attempt.task.instructions or "an answer is wanted"

    def judge(self, attempt: Attempt, at: float) -> Observation:
        """Look for an answer, judge it, and tell of one that was refused."""
        request = self._request_directory(attempt)
        observation = request.judge(attempt, self.policy, attempt.task.timeout_s, at)
        if self.notify is not None and observation.seen in (Seen.REJECTED, Seen.EXPIRED):
            for refusal in request.refusals():
                notify_once(self.notify, attempt, f"refusal-{refusal.number}", "\n".join(refusal.reasons))
        return observation

    def cancel(self, attempts: Sequence[Attempt]) -> Collection[str]:
        """Withdraw the requests: a later answer is told so."""
        over = []
        for attempt in attempts:
            # Whatever lies there: nobody waits for this one any more, and it must not hold the others up.
            with contextlib.suppress(OSError, UnsafeFileError):
                self._request_directory(attempt).decide(
                    Verdict("cancelled", time.time(), reason="it is no longer wanted")
                )
            over.append(attempt.token)
        return over

    def collect_results(self, attempt: Attempt) -> Any:
        """Return the answer that was accepted; `Rejected` where it rejects what a gate asks about."""
        request = self._request_directory(attempt)
        answer = request.accepted(attempt)
        then = attempt.task.on_reject
        if then is not None and isinstance(answer, dict) and answer.get("decision") == "reject":
            verdict = request.verdict()
            who = verdict.who if verdict else ""
            return Rejected(f"rejected by {who}: {answer.get('comment', 'without a comment')}", answer, then)
        return answer

    def answer(self, attempt: Attempt, answer: Any) -> None:
        """Answer from a cell, through the same checks.

        Raises
        ------
        AnswerRefusedError, AnswerConflictError
            It violates the schema, or came too late; nothing was changed.
        """
        schema = attempt.task.schema or ANYTHING
        RequestDirectory(attempt.directory, schema, attempt.token).answer(answer, user_name())


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _to_look_at(attempt: Attempt) -> str:
    """Return a list of what lies in the folder of what is shown, and of what does not."""
    try:
        missing = read_inside(attempt.directory, f"{SHOWN}/{NOT_SHOWN}", _INPUTS_BYTES).decode().splitlines()
    except FileNotFoundError:
        missing = []
    names = [f"{task_id}/{path}" for task_id, path in attempt.task.shown]
    there = [name for name in names if not any(line.startswith(f"{name}: ") for line in missing)]
    lines = [f"- `{SHOWN}/{name}`" for name in there] + [f"- not there: {line}" for line in missing]
    return "To look at:\n\n" + "\n".join(lines) + "\n"


def _how_to_fill_tables() -> str:
    workbook = "Or fill in response.template.xlsx, and save it as response.xlsx.\n   " if can_use_workbooks() else ""
    return (
        f"{workbook}Or fill in response.template.csv, and save it as response.csv; in Excel\n   choose 'Save As', "
        "'CSV UTF-8 (comma delimited)'. Keep the first line as it is.\n   "
    )


def _results(inputs: Mapping[str, Any]) -> str:
    """Return the results of the tasks before as a table: a row per task, a column per number or text."""
    rows: list[dict[str, Any]] = []
    for task_id, said in inputs.items():
        data = said["data"] if isinstance(said["data"], dict) else {"data": said["data"]}
        flat = {name: value for name, value in data.items() if not isinstance(value, dict | list)}
        rows.append({"task_id": task_id, "status": said["status"]} | flat)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return write_csv([names, *([row.get(name, "") for name in names] for row in rows)]) if rows else ""
