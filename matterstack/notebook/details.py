"""All there is to say of one task, or of a group of them: why it waits, what it did, what it left. All is escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matterstack.core.amended import in_words
from matterstack.core.calls import VALUE, VALUE_ARRAYS
from matterstack.core.text import neutral, storable
from matterstack.errors import UnsafeFileError
from matterstack.files import list_inside, read_inside, read_tail
from matterstack.notebook.board import Board, Card
from matterstack.notebook.file_keys import key_of
from matterstack.notebook.moments import memory, moment_html
from matterstack.notebook.statuses import BY_CODE, LOOKS
from matterstack.notebook.structure_picture import picture_html
from matterstack.notebook.structures import Frames, frames_of_value
from matterstack.orchestration.examination import waiting_at
from matterstack.orchestration.overview import shown_path
from matterstack.orchestration.starts import how_it_began
from matterstack.storage.rows import AttemptRow

if TYPE_CHECKING:
    from matterstack.run import Run

_TAIL_BYTES = 2000
_MOST_FILES = 40
_MOST_FACTS = 40
#: What a task says of itself, and what it is called in the panel.
_TOLD = {"command": "command", "instructions": "asks", "assignee": "for"}
_MOST_DATA = 4000
_MOST_VALUE_BYTES, _MOST_ARRAY_BYTES = 1_000_000, 10_000_000


def details_html(run: Run, board: Board, name: str) -> str:
    """Return the panel of a task as HTML.

    Parameters
    ----------
    run : Run
    board : Board
    name : str
        ``<iteration>.<task_id>``.
    """
    card = board.find(name)
    if card is None:
        return ""
    store = run.store
    spec = _specification(store.specification(card.id))
    attempts = store.attempts_of_task(card.id)
    look = BY_CODE[card.code]
    parts = [f"<h4 style='margin:4px 0'>{_text(name)} {_status(look.code)}</h4>"]
    # A limit is no part of the run, so that its table of tasks does not know who holds what of it.
    limit = waiting_at(run.path).get(card.id) if look.name == "READY" else None
    reasons = [reason for reason in (limit, card.reason) if reason]
    parts += [f"<p style='margin:4px 0;white-space:pre-wrap'>{_text(reason[-2000:])}</p>" for reason in reasons]
    facts = [("operator", card.operator), ("group", card.group or "")]
    facts += [(shown, _words(spec[name])) for name, shown in _TOLD.items() if spec.get(name) is not None]
    facts.append(("began", _began(run, card) if attempts else ""))
    up, down = (board.cards_of(rows) for rows in store.neighbours(card.id))
    told = [(what, _text(value)) for what, value in facts if value]
    told += [(what, _some(cards)) for what, cards in (("after", up), ("before", down)) if cards]
    parts.append(_table(told))
    if attempts:
        parts.append(f"<p style='margin:4px 0'>{_opens(card, None, 'open logs and files')}</p>")
        parts.append(_attempts(attempts, card.reason))
        parts.append(_made_from(run, card))
        try:
            parts += _of_attempt(run, card, attempts[-1])
        except (OSError, UnsafeFileError) as error:  # it was packed, and the archive is damaged
            parts.append(f"<p>its directory cannot be looked at: {_text(str(error))}</p>")
    return f"<div class='ms-details'>{''.join(parts)}</div>"


def _began(run: Run, card: Card) -> str:
    try:
        return how_it_began(_home(run, card)) or ""
    except (OSError, UnsafeFileError):  # it was packed, and the archive is damaged, which is told below
        return ""


def _made_from(run: Run, card: Card) -> str:
    """Return what the last attempt was made from, folded away."""
    facts = run.made_from(card.task_id, iteration=card.iteration, attempt=card.attempt).facts
    told = _table([(what, _text(said)) for what, said in facts[:_MOST_FACTS]])
    more = f"<p>and {len(facts) - _MOST_FACTS} more: run.made_from</p>" if len(facts) > _MOST_FACTS else ""
    return f"<details><summary>made from</summary>{told}{more}</details>" if facts else ""


def _specification(text: str) -> dict[str, Any]:
    """Return the task as the database has it, which may be anything: this run may be a stranger's."""
    try:
        spec = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return {"command": "it is no JSON that can be shown"}
    return spec if isinstance(spec, dict) else {}


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def group_html(label: str, counts: Mapping[str, int], listed: Sequence[Card]) -> str:
    """Return the panel of a group of tasks as HTML: how many stand how, and which, the troubled first.

    Parameters
    ----------
    label : str
        What the group is called.
    counts : mapping of str to int
        How many tasks in it look how.
    listed : sequence of Card
        Those of them that are shown.
    """
    total = sum(counts.values())
    some = [(counts[look.code], _status(look.code)) for look in LOOKS if counts.get(look.code)]
    stand = ", ".join(f"<span style='white-space:nowrap'>{number} {status}</span>" for number, status in some)
    parts = [f"<h4 style='margin:4px 0'>{_text(label)}: {total} tasks</h4><p style='margin:4px 0'>{stand}</p>"]
    rows = "".join(
        f"<tr><td style='white-space:nowrap'>{_link(card, card.name)}</td><td>{_status(card.code)}</td>"
        f"<td style='overflow-wrap:anywhere'>{_text((card.reason or '')[-200:])}</td></tr>"
        for card in listed
    )
    more = f"<p>and {total - len(listed)} more</p>" if total > len(listed) else ""
    return f"<div class='ms-details'>{''.join(parts)}<table>{rows}</table>{more}</div>"


def _status(code: str) -> str:
    look = BY_CODE[code]
    return f"<small class='ms-status' style='border-color:{look.colour}'>{look.name}</small>"


def outputs(run: Run, card: Card) -> list[tuple[str, str]]:
    """Return what the last attempt at a task wrote last: ends of stdout and stderr, each with its name; none if empty.

    Parameters
    ----------
    run : Run
    card : Card
        Of a task that has an attempt.
    """
    root, place = _place(run, card)
    tails = ((name, read_tail(root, f"{place}/{name}", _TAIL_BYTES)) for name in ("stdout.txt", "stderr.txt"))
    return [(name, "\n".join(tail.strip().splitlines()[-12:])) for name, tail in tails if tail.strip()]


def _home(run: Run, card: Card) -> Path:
    return run.task_directory(card.task_id, iteration=card.iteration, attempt=card.attempt)


def rooted(run: Run, home: Path) -> tuple[Path, str]:
    """Return a directory that is trusted, and that of an attempt below it: of one that was packed, a copy."""
    root = run.path if home.is_relative_to(run.path) else home.parents[2]
    return root, home.relative_to(root).as_posix()


def _place(run: Run, card: Card) -> tuple[Path, str]:
    """Return where the results of the last attempt are."""
    operator = run.operators.get(card.operator)
    folder = operator.traits.results_folder if operator is not None else ""
    return rooted(run, _home(run, card) / folder)


def structure_of(run: Run, card: Card) -> Frames | None:
    """Return the first structure in what the last attempt at a task gave: its data, or else the value of a call.

    Parameters
    ----------
    run : Run
    card : Card
    """
    attempts = run.store.attempts_of_task(card.id)
    try:
        found = frames_of_value(json.loads((attempts[-1].data if attempts else None) or "null"))
        if found is None and attempts:
            root, place = _place(run, card)
            value = json.loads(read_inside(root, f"{place}/{VALUE}", _MOST_VALUE_BYTES))
            arrays = f"{place}/{VALUE_ARRAYS}"
            found = frames_of_value(value, lambda name: read_inside(root, f"{arrays}/{name}", _MOST_ARRAY_BYTES))
    except (OSError, UnsafeFileError, ValueError, RecursionError):
        return None
    return found


def _of_attempt(run: Run, card: Card, last: AttemptRow) -> list[str]:
    style = "margin:2px 0;max-height:12em;overflow:auto"
    parts = []
    for name, lines in outputs(run, card):
        opens = _opens(card, _from_home(run, card, name), name)
        parts.append(f"<div><small>{opens}</small><pre class='ms-output' style='{style}'>{_text(lines)}</pre></div>")
    try:
        data = json.loads(last.data) if last.data else {}
    except (ValueError, RecursionError):
        return [*parts, "<p>its data is no JSON that can be shown</p>"]
    if (found := structure_of(run, card)) is not None:
        parts.append(_structure(found))
    if data not in ({}, None):
        text = json.dumps(data, indent=1, ensure_ascii=False)
        more = " ..." if len(text) > _MOST_DATA else ""
        parts.append(
            "<details open><summary>data</summary>"
            f"<pre style='margin:2px 0;max-height:16em;overflow:auto'>{_text(text[:_MOST_DATA])}{more}</pre></details>"
        )
    home = _home(run, card)
    if listed := _files(card, *rooted(run, home)):
        parts.append(f"<details><summary>files in {_text(shown_path(home))}</summary>{'<br>'.join(listed)}</details>")
    return parts


def _structure(found: Frames) -> str:
    """Return a picture of a structure, and what turns it."""
    try:
        picture = picture_html(found)
    except ImportError:
        return ""
    return f"{picture}<div><button type='button' class='ms-button' data-structure=''>turn in 3D</button></div>"


def _files(card: Card, root: Path, relative: str) -> list[str]:
    """Return the names of what is in a directory, as HTML; that of a file opens it."""
    try:
        entries = [entry for entry in list_inside(root, relative) if not entry[0].startswith(".")]
    except (OSError, UnsafeFileError):
        return []
    names = [
        _text(f"{name}/") if size is None else f"{_opens(card, key_of(name), name)} ({size} bytes)"
        for name, size in entries[:_MOST_FILES]
    ]
    return names if len(entries) <= _MOST_FILES else [*names, f"and {len(entries) - _MOST_FILES} more"]


def _from_home(run: Run, card: Card, name: str) -> str:
    """Return where a file of its results is, from the directory of the attempt on."""
    operator = run.operators.get(card.operator)
    folder = operator.traits.results_folder if operator is not None else ""
    return key_of(f"{folder}/{name}" if folder else name)


def _opens(card: Card, key: str | None, text: str) -> str:
    """Return a text that opens the browser of the last attempt, at one of its files."""
    which = {"task": card.task_id, "iteration": card.iteration, "attempt": card.attempt}
    said = json.dumps(which if key is None else {**which, "path": key})
    return f"<button type='button' class='ms-link' data-open='{escape(said)}'>{_text(storable(text))}</button>"


def _some(cards: Sequence[Card]) -> str:
    more = f" and {len(cards) - 10} more" if len(cards) > 10 else ""
    return ", ".join(_link(card, card.task_id) for card in cards[:10]) + more


def _link(card: Card, text: str) -> str:
    """Return a name that shows its task when it is clicked."""
    return f"<button type='button' class='ms-link' data-task='{_text(card.name)}'>{_text(text)}</button>"


def _text(text: str) -> str:
    return escape(neutral(text))


def _table(rows: list[tuple[str, str]]) -> str:
    """Return a table of texts and their HTML."""
    cells = "".join(
        f"<tr><th style='text-align:left;vertical-align:top'>{_text(what)}</th>"
        f"<td style='text-align:left'><div class='ms-value'>{value}</div></td></tr>"
        for what, value in rows
    )
    return f"<table>{cells}</table>"


def _attempts(attempts: Sequence[AttemptRow], known: str | None) -> str:
    """Return the attempts as a table; why one ended as it did stands below it, but for what is known."""
    head = "".join(
        f"<th style='text-align:left'>{name}</th>"
        for name in ("attempt", "status", "since", "took", "exit code", "CPU", "memory")
    )
    rows = [f"<tr>{head}</tr>"]
    for row in attempts:
        took = f"{row.ended_at - row.started_at:.1f} s" if row.started_at and row.ended_at else ""
        code = "" if row.exit_code is None else str(row.exit_code)
        since = moment_html(row.started_at or row.submitted_at)
        used = ("" if row.cpu_s is None else f"{row.cpu_s:.1f} s", memory(row.peak_memory_gib))
        cells = (str(row.attempt), _text(row.status), since, took, code, *used)
        line = "".join(f"<td style='text-align:left;white-space:nowrap'>{cell}</td>" for cell in cells)
        rows.append(f"<tr>{line}</tr>")
        if changed := in_words(row.changes):
            rows.append(f"<tr><td></td><td colspan='6' style='text-align:left'>made with {_text(changed)}</td></tr>")
        if row.reason and row.reason != known:
            rows.append(f"<tr><td></td><td colspan='6' style='text-align:left'>{_text(row.reason[-300:])}</td></tr>")
    return f"<div class='ms-attempts'><table>{''.join(rows)}</table></div>"
