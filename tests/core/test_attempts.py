"""Attempts as operators get them: what is parsed for one of them is not changed by what is done to another."""

from __future__ import annotations

import json
from typing import Any

from matterstack.core.attempts import Attempt, LiveAttempt
from matterstack.core.states import AttemptStatus, TaskStatus


def attempt_at(**spec: Any) -> Attempt:
    """Return an attempt as a tick reads it from the store."""
    status, task_status = AttemptStatus.SUBMITTED, TaskStatus.SUBMITTED
    text = json.dumps(spec)
    live = LiveAttempt(1, 1, 0, "t", 1, status, "ms-1", "local", None, None, 0.0, None, task_status, 0, 0, text)
    return Attempt(live, "/operators/local")


def test_a_plain_task_is_parsed_once_for_all_ticks() -> None:
    first, later = attempt_at(command=["/bin/true", "once"]), attempt_at(command=["/bin/true", "once"])
    assert first.task is later.task
    assert first.task.command == ("/bin/true", "once")


def test_what_somebody_does_to_the_parameters_of_an_attempt_stays_there() -> None:
    first, later = attempt_at(parameters={"n": [1]}), attempt_at(parameters={"n": [1]})
    first.task.parameters["n"].append(2)  # type: ignore[index]
    assert later.task.parameters == {"n": [1]}
