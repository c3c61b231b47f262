"""Answers: what waits for one, and giving it."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from matterstack.commands.command import DONE, Commands
from matterstack.commands.output import moment, show
from matterstack.commands.places import add_place, add_run, add_task, place_of, run_path
from matterstack.commands.runs import status_document
from matterstack.errors import AnswerRefusedError

if TYPE_CHECKING:
    from matterstack.notebook.inbox import Inbox
    from matterstack.orchestration.requests import Request


def add(commands: Commands) -> None:
    """Add what lists requests and answers them."""
    commands.heading("Answer")
    add_place(
        commands.add(
            "inbox",
            _inbox,
            "List what waits for an answer, in a run or in any run of a workspace.",
            "matterstack inbox oxides",
        )
    )
    respond = commands.add(
        "respond",
        _respond,
        "Answer a request; the next step takes the answer up.",
        """matterstack respond oxides/r1 check_spectrum '{"approved": true}'""",
        more="The answer is JSON, and validated against the schema of the task before anything is changed.",
        schema="status",
    )
    add_run(respond)
    add_task(respond)
    respond.add_argument("answer", metavar="ANSWER", nargs="?", help="JSON; - reads it from the standard input")
    respond.add_argument("--file", metavar="FILE", help="the file that holds the answer, instead")


def _inbox(given: argparse.Namespace) -> int:
    requests = _waiting(given)
    show(given, {"requests": [_document(request) for request in requests]}, repr(requests))
    return DONE


def _waiting(given: argparse.Namespace) -> Inbox:
    from matterstack.run_lifecycle import open_run
    from matterstack.workspace import inbox

    place = place_of(given)
    return inbox(place[1], place[0]) if isinstance(place, tuple) else open_run(place).inbox()


def _document(request: Request) -> dict[str, Any]:
    names = ("workspace", "run_id", "iteration", "task_id", "attempt", "operator", "assignee", "instructions", "reason")
    said = {name: getattr(request, name) for name in names}
    shown = [str(name) for name in request.show]
    return {
        **said,
        "since": moment(request.since),
        "directory": request.directory,
        "schema": request.schema,
        "show": shown,
    }


def _respond(given: argparse.Namespace) -> int:
    from matterstack.core.strict_json import parse_json
    from matterstack.run_lifecycle import open_run

    if (given.answer is None) == (given.file is None):
        given.parser.error("give the answer as ANSWER, or --file")
    answer = parse_json(_read(given))
    run = open_run(run_path(given))
    run.respond(given.task, answer, iteration=given.iteration, attempt=given.attempt)
    show(given, status_document(run.overview), "Answered: the next step takes it up.")
    return DONE


def _read(given: argparse.Namespace) -> bytes:
    from matterstack.core.strict_json import MAX_BYTES

    if given.file is not None:
        try:
            with open(given.file, "rb") as file:
                return file.read(MAX_BYTES + 1)
        except OSError as error:
            said = f"--file {given.file} cannot be read: {error.strerror}; nothing was answered"
            raise AnswerRefusedError(said) from None
    if given.answer == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    return bytes(given.answer.encode(errors="surrogateescape"))
